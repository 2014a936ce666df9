//! Images: pictures on the host, safe decoding and encoding, resizing, grids, animations, and
//! batches of images as tensors whose value range is checked.
//!
//! A picture on the host is an [`Image`]: interleaved samples of 8 bits, 16 bits or 32-bit float.
//! [`decode_file`] and [`safe_decode`] make one from untrusted bytes under [`Limits`] and say in
//! [`Facts`] what they met; [`write()`] and [`encode()`] store one. An [`ImageBatch`] is
//! the same as a `[batch, channels, height, width]` tensor, tagged with its [`Range`]: bytes
//! 0..=255, unit \[0, 1\] or signed \[-1, 1\].
//!
//! Errors are [`ImageError`]: bytes that are refused, files that cannot be read or written, and
//! sizes that do not fit. Nothing here prints.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod animation;
mod atomic;
mod batch;
mod decode;
mod encode;
mod error;
pub mod features;
mod font;
mod format;
mod grid;
mod image;
pub mod metrics;
mod resize;

pub use crate::animation::{encode_apng, encode_gif};
pub use crate::atomic::write_atomic;
pub use crate::batch::{ImageBatch, Range};
pub use crate::decode::{Decoded, Facts, Limits, decode_file, safe_decode};
pub use crate::encode::{encode, encode_png, write};
pub use crate::error::{ImageError, Result};
pub use crate::format::Format;
pub use crate::grid::{Grid, grid};
pub use crate::image::{Depth, Image, Pixels};
pub use crate::resize::{
    Filter, ResizeRule, crop, pil_bicubic, resize, tf1_bilinear, torch_bilinear,
    torch_bilinear_antialias,
};
