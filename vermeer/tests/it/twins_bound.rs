//! The variational bound of the `diffusion` family against `tools/reference/twin_bound.py`.

use burn::prelude::*;
use vermeer::diffusion::{Bound, Variance};

use crate::twin::{CLOSE, Twin, values, whole};
use crate::twins_diffusion;

#[test]
fn the_terms_of_the_bound() {
    let device = Device::flex().autodiff();
    let twin = Twin::open("diffusion-bound");
    let weights = twin.settings["weights"].as_str().unwrap();
    let (_, config, net) = twins_diffusion::open(weights, &device);
    let (process, net, plain) = (config.process(), net.valid(), Device::flex());

    let shape: [usize; 4] = twin.named("input/x").shape[..].try_into().unwrap();
    let pixels = twin.named("input/x").data.iter();
    let x_0: Vec<f64> = pixels
        .map(|p| (f64::from(*p) * 255.0).round() / 127.5 - 1.0)
        .collect();
    let network = |inputs: Vec<f32>, times: &[f64]| {
        let x = Tensor::<1>::from_floats(&inputs[..], &plain).reshape(shape);
        Ok(values(net.forward(x, times, None)))
    };
    for (name, variance, clip) in [
        ("small-clip", Variance::Small, true),
        ("small", Variance::Small, false),
        ("large-clip", Variance::Large, true),
        ("large", Variance::Large, false),
    ] {
        let bound = Bound::new(&process, variance, clip).unwrap();
        for step in twin.settings["steps"].as_array().unwrap() {
            let step = whole(step);
            let eps = &twin.named(&format!("input/noise.{step}")).data;
            let ours = bound.terms(&x_0, eps, &vec![step; shape[0]], network);
            let ours: Vec<f32> = ours.unwrap().iter().map(|term| *term as f32).collect();
            twin.assert_close(&format!("output/{name}.{step}"), &ours, CLOSE);
        }
        let size = shape[1] * shape[2] * shape[3];
        let prior: Vec<f32> = x_0
            .chunks_exact(size)
            .map(|x| bound.prior(x) as f32)
            .collect();
        twin.assert_close("output/prior", &prior, CLOSE);
    }
}
