//! The mathematics of diffusion: noise schedules, what a network is asked to predict, the samplers
//! that walk noise back to images, the walk from images to noise, and the bound of the likelihood.
//! Networks and training live in `models/diffusion`.

mod bound;
mod inversion;
mod process;
mod sampler;
mod schedule;

pub use bound::Bound;
pub use inversion::{TRIES, invert};
pub use process::{Framework, Mix, Prediction, Process};
pub use sampler::{Grid, Node, Sampler, Variance, grid, sample};
pub use schedule::{NoiseSchedule, alpha_bar};
