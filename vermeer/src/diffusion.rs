//! The mathematics of diffusion: noise schedules, what a network is asked to predict, and the
//! samplers that walk noise back to images. Networks and training live in `models/diffusion`.

mod process;
mod sampler;
mod schedule;

pub use process::{Framework, Mix, Prediction, Process};
pub use sampler::{Grid, Node, Sampler, Variance, grid, sample};
pub use schedule::{NoiseSchedule, alpha_bar};
