//! Checks of an autoregressive network: that its probabilities sum to one, and what its stepper
//! computes.

use burn::prelude::*;

use super::{Autoregressive, outputs_of, positions};
use crate::nn::host;
use crate::{Error, Result};

/// Images of a batch of the sum.
const BATCH: usize = 1024;

/// The largest number of images a sum goes over.
const MOST_IMAGES: usize = 1 << 20;

/// The sum of the probabilities of all images, of one class where the network is told classes: 1
/// for a network that is normalised.
///
/// # Errors
/// [`Error::Settings`] where there are more than 2²⁰ images, and for a class without the network
/// being told one, or the other way round.
pub fn total_probability<N: Autoregressive>(
    net: &N,
    label: Option<u32>,
    device: &Device,
) -> Result<f64> {
    let [channels, height, width] = net.spec().shape();
    let (size, levels) = (channels * height * width, net.levels());
    let images = u32::try_from(size)
        .ok()
        .and_then(|size| levels.checked_pow(size))
        .filter(|images| *images <= MOST_IMAGES)
        .ok_or_else(|| {
            Error::settings(
                format!("there are {levels}^{size} images, too many to sum over"),
                "take a model of at most 2^20 images, such as 4×4 pixels of 2 levels",
            )
        })?;
    if label.is_some() != net.conditional() {
        return Err(Error::settings(
            "a conditional model needs a class to sum over, another one has none",
            "name a class for a conditional model only",
        ));
    }
    let mut total = 0.0;
    for start in (0..images).step_by(BATCH) {
        let count = BATCH.min(images - start);
        let mut values = Vec::with_capacity(count * size);
        for image in start..start + count {
            let mut digits = image;
            for _ in 0..size {
                values.push((digits % levels) as f32);
                digits /= levels;
            }
        }
        let x =
            Tensor::<1>::from_floats(&values[..], device).reshape([count, channels, height, width]);
        let labels = label.map(|label| vec![label; count]);
        let nats = host(net.negative_log_likelihood(x, labels.as_deref()));
        total += nats
            .iter()
            .map(|nats| (-f64::from(*nats)).exp())
            .sum::<f64>();
    }
    Ok(total)
}

/// The outputs of the stepper at every position of images with the values `x` `[n, c, h, w]`, laid
/// out as [`Autoregressive::outputs`], `[n, k, c, h, w]`.
pub fn stepwise_outputs<N: Autoregressive>(net: &N, x: &[u16], labels: Option<&[u32]>) -> Vec<f32> {
    let [channels, height, width] = net.spec().shape();
    let size = channels * height * width;
    let (n, k) = (x.len() / size, outputs_of(net.levels()));
    let mut stepper = net.stepper(n, labels);
    let mut all = vec![0.0; n * k * size];
    let mut out = vec![0.0; n * k];
    for at in positions([channels, height, width]) {
        stepper.outputs(at, &mut out);
        let place = (at.channel * height + at.y) * width + at.x;
        for (index, value) in out.iter().enumerate() {
            all[index * size + place] = *value;
        }
        let values: Vec<u16> = (0..n).map(|row| x[row * size + place]).collect();
        stepper.put(at, &values);
    }
    all
}
