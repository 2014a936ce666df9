//! Training: settings, the loop every family shares, health, and what is told while it runs.

pub mod events;
pub mod game;
pub mod health;
mod plan;
mod run;
mod settings;
mod solo;

use burn::prelude::*;
use vermeer_image::Range;

use crate::data::HostBatch;

pub use plan::{Estimate, Plan};
pub use run::{Outcome, Training};
pub use settings::{DataSettings, Settings, Size, TrainSettings};
pub use solo::{Draw, Objective, Solo};

/// Named values of a step or a batch, the most important first.
pub type Scalars = Vec<(&'static str, f64)>;

/// Adds a micro-batch's values to the mean over `parts` micro-batches.
pub fn accumulate(total: &mut Scalars, part: &[(&'static str, f64)], parts: usize) {
    for (name, value) in part {
        let share = value / parts as f64;
        match total.iter_mut().find(|(own, _)| own == name) {
            Some((_, sum)) => *sum += share,
            None => total.push((name, share)),
        }
    }
}

/// The images of a host batch on a device, `[n, channels, height, width]`, in `range`.
pub fn images_to_device(batch: &HostBatch, range: Range, device: &Device) -> Tensor<4> {
    let [channels, height, width] = batch.shape;
    let unit = Tensor::<1>::from_floats(&batch.images[..], device).reshape([
        batch.batch,
        channels,
        height,
        width,
    ]);
    match range {
        Range::Unit => unit,
        Range::Signed => unit.mul_scalar(2.0).sub_scalar(1.0),
        Range::Bytes => unit.mul_scalar(255.0),
    }
}
