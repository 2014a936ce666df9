//! Tests of the kernels as a whole.

mod autoregressive;
mod conv;
mod gradients;
mod naive;
mod norm;
mod numbers;
mod update;
