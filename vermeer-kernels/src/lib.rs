//! Fast arithmetic on processors that Burn lacks, reached through Burn's extension door.
//!
//! Convolutions and normalisation of `f32` images on the `flex` backend are computed here,
//! channels last, with the widest vectors the processor has, convolutions of half numbers too;
//! everything else goes to Burn's own
//! operations, and so does everything with `VERMEER_KERNELS=burn`. The functions take and give
//! Burn's tensors `[n, c, h, w]`, whose strides say how they lie in memory: a result of these
//! kernels lies channels last, and stays so from layer to layer.
//!
//! [`conv`], [`norm`], [`group_norm`](mod@group_norm), [`join`](mod@join),
//! [`bilinear`](mod@bilinear), [`gate`](mod@gate), [`pool`], [`likelihood`] and [`update`] are the
//! arithmetic on slices; [`dense`] serves networks that are computed one position at a time.

mod activation;
pub mod bilinear;
mod cache;
pub mod conv;
pub mod dense;
mod door;
pub mod elu;
mod flex;
pub mod gate;
pub mod group_norm;
mod isa;
pub mod join;
pub mod likelihood;
mod memory;
pub mod nn;
pub mod norm;
pub mod operations;
mod pixelwise;
pub mod pool;
pub mod recurrent;
mod simd;
mod stack;
mod tensor;
pub mod update;

pub use activation::Activation;
pub use conv::{Algorithm, Edge};
pub use isa::{ISA_VARIABLE, Isa};
pub use stack::Stack;
pub use tensor::{
    BatchNormResult, ConvOptions, KERNELS_VARIABLE, Then, adam, add, add_scaled, add_to_pixels,
    batch_norm, batch_norm_train, bernoulli, bilinear, both_elu, concat, conv_transpose2d,
    conv_transpose2d_then, conv2d, conv2d_then, cross_entropy, elu, enlarge, gate, group_norm,
    leaky_relu, linear_gate, mix, pixel_shuffle, pixel_unshuffle, pool2d, sum_of_squares,
};
