//! What has no weights: schedules, step grids, likelihoods and samplers, against
//! `tools/reference/twin_diffusion.py`, `twin_samplers.py` and `twin_vae.py`.

use std::collections::BTreeMap;
use std::fs;

use burn::prelude::*;
use safetensors::{Dtype, SafeTensors};
use vermeer::diffusion::{
    Framework, Grid, Node, NoiseSchedule, Prediction, Process, Sampler, Variance, alpha_bar, grid,
    sample,
};
use vermeer::loss::likelihood::{bernoulli, discretised_logistic, gaussian, kl_standard_normal};

use crate::twin::{CLOSE, Twin, assert_close, file, values};
use crate::twins_diffusion;

/// Relative tolerance of numbers that both sides compute in float64. The largest loss is that of
/// 1 − ratio, 1e-11 where a β is 4e-5.
const DOUBLE: f64 = 1e-10;

/// The tensors of a file that holds float64.
fn doubles(case: &str) -> BTreeMap<String, Vec<f64>> {
    let bytes = fs::read(file(case)).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let read = |data: &[u8]| -> Vec<f64> {
        data.as_chunks::<8>()
            .0
            .iter()
            .map(|word| f64::from_le_bytes(*word))
            .collect()
    };
    stored
        .iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F64, "{name}");
            (name.to_owned(), read(view.data()))
        })
        .collect()
}

/// Fails unless each |a − r| ≤ tolerance · |r|.
fn assert_each(what: &str, ours: &[f64], reference: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    for (at, (a, r)) in ours.iter().zip(reference).enumerate() {
        assert!(
            (a - r).abs() <= tolerance * r.abs(),
            "{what}: {a}, not {r}, at {at}"
        );
    }
}

fn ddpm(schedule: NoiseSchedule) -> Process {
    Process::new(Framework::Ddpm, schedule, 1000, Prediction::Eps)
}

fn nodes(process: &Process, steps: usize) -> Vec<Node> {
    grid(process, Sampler::Auto, steps).unwrap().nodes
}

#[test]
fn noise_schedules() {
    let table = doubles("schedules");
    for (name, schedule) in [
        ("linear", NoiseSchedule::Linear),
        ("cosine", NoiseSchedule::Cosine),
    ] {
        let left = alpha_bar(schedule, 1000);
        assert_each(
            name,
            &left,
            &table[&format!("output/{name}.alpha_bar")],
            DOUBLE,
        );
        let previous = [1.0].iter().chain(&left);
        let beta: Vec<f64> = left
            .iter()
            .zip(previous)
            .map(|(now, before)| 1.0 - now / before)
            .collect();
        assert_each(name, &beta, &table[&format!("output/{name}.beta")], DOUBLE);

        let nodes = nodes(&ddpm(schedule), 8);
        let (last, kept) = nodes.split_last().unwrap();
        let left: Vec<f64> = kept.iter().map(|node| node.a * node.a).collect();
        assert_each(
            name,
            &left,
            &table[&format!("output/{name}.respaced8.alpha_bar")],
            DOUBLE,
        );
        let sigma: Vec<f64> = nodes.iter().map(|node| node.b / node.a).collect();
        assert_each(
            name,
            &sigma,
            &table[&format!("output/{name}.respaced8.sigma")],
            DOUBLE,
        );
        assert_eq!((last.a, last.b), (1.0, 0.0));
    }
}

#[test]
fn step_grids() {
    let table = doubles("schedules");
    let process = ddpm(NoiseSchedule::Linear);
    for steps in [1, 2, 3, 8, 20, 50, 250, 1000] {
        let times: Vec<f64> = nodes(&process, steps)
            .iter()
            .filter_map(|n| n.mix)
            .map(|m| m.time)
            .collect();
        assert_eq!(
            times,
            table[&format!("output/steps.{steps}")],
            "{steps} steps"
        );
    }
    for steps in [8, 18] {
        let sigma: Vec<f64> = nodes(&Process::Edm, steps)
            .iter()
            .map(|node| node.b)
            .collect();
        let name = format!("output/karras.{steps}");
        assert_each(&name, &sigma, &table[&name], DOUBLE);
    }
}

/// −log p per pixel and the KL divergence; the tables hold log p.
#[test]
fn likelihoods() {
    let device = Device::flex();
    let table = doubles("likelihoods");
    let column = |name: &str| -> Tensor<1> {
        let values: Vec<f32> = table[&format!("input/{name}")]
            .iter()
            .map(|v| *v as f32)
            .collect();
        Tensor::from_floats(&values[..], &device)
    };
    // Tolerances over max(1, |r|). PyTorch in float32 is 2e-7 away, and 1.2e-4 for logistics
    // whose scale is e⁻⁹: there a difference of two sigmoids has lost its digits.
    for (name, sign, ours, tolerance) in [
        (
            "bernoulli",
            -1.0,
            bernoulli(column("bernoulli.logits"), column("bernoulli.x")),
            1e-5,
        ),
        (
            "gaussian",
            -1.0,
            gaussian(
                column("gaussian.mean"),
                column("gaussian.log_sigma"),
                column("gaussian.x"),
            ),
            1e-5,
        ),
        (
            "logistic",
            -1.0,
            discretised_logistic(
                column("logistic.mean"),
                column("logistic.log_scale"),
                column("logistic.x"),
            ),
            1e-3,
        ),
        (
            "kl",
            1.0,
            kl_standard_normal(column("kl.mu"), column("kl.log_var")),
            1e-5,
        ),
    ] {
        let reference = &table[&format!("output/{name}")];
        let ours = values(ours);
        assert_eq!(ours.len(), reference.len(), "{name}");
        for (row, (ours, r)) in ours.iter().zip(reference).enumerate() {
            let a = sign * f64::from(*ours);
            assert!(
                (a - r).abs() <= tolerance * r.abs().max(1.0),
                "{name}: {a}, not {r}, in row {row}"
            );
        }
    }
}

/// Every state of every trajectory, from weights, start and noise of the files.
///
/// One state is compared with another number: the twin's flow Heun takes a slope at t = 0 in
/// its last step, ours ends with Euler's step as EDM does (`grid` says why). Euler's step from
/// the twin's last but one state is the reference there.
#[test]
fn sampler_trajectories() {
    let device = Device::flex().autodiff();
    let twin = Twin::open("samplers");
    let plain = Device::flex();
    let start = twin.tensor::<4>("input/start", &plain);
    let step_noise = twin.tensor::<5>("input/step_noise", &plain);
    let classes: Vec<i32> = twin
        .named("input/labels")
        .data
        .iter()
        .map(|l| *l as i32)
        .collect();
    let steps = twin.size("/steps");
    let trajectories = twin.settings["trajectories"].as_object().unwrap();
    assert_eq!(trajectories.len(), 16);
    for (name, how) in trajectories {
        let (model, config, net) = twins_diffusion::open(how["weights"].as_str().unwrap(), &device);
        let (process, net) = (config.process(), net.valid());
        let sampler: Sampler = how["sampler"].as_str().unwrap().parse().unwrap();
        let variance = match how["variance"].as_str() {
            Some("large") => Variance::Large,
            _ => Variance::Small,
        };
        let whole = Grid {
            eta: how["eta"].as_f64().unwrap_or(0.0),
            clip: how["clip"].as_bool().unwrap_or(false),
            variance,
            ..grid(&process, sampler, steps).unwrap()
        };
        let network = |x: Tensor<4>, time: f64| match how["guidance"].as_f64() {
            Some(guidance) => net.guided(
                x,
                time,
                &classes,
                model.size("/model/classes") as i32,
                guidance,
            ),
            None => {
                let rows = x.dims()[0];
                net.forward(x, &vec![time; rows], None)
            }
        };
        let fresh = |step: usize| step_noise.clone().narrow(0, step, 1).squeeze_dim::<4>(0);
        let states = twin.tensor::<5>(&format!("output/{name}"), &plain);
        let state = |k: usize| states.clone().narrow(0, k, 1).squeeze_dim::<4>(0);
        for k in 0..=steps {
            let walked = Grid {
                nodes: whole.nodes[..=k].to_vec(),
                ..whole.clone()
            };
            let ours = sample(&walked, start.clone(), network, fresh, |_, _| ());
            let reference = match (name.as_str(), k) {
                ("flow-heun", last) if last == steps => {
                    let t = 1.0 / steps as f64;
                    state(k - 1).sub(network(state(k - 1), 1000.0 * t).mul_scalar(t))
                }
                _ => state(k),
            };
            assert_close(
                &format!("{name}, state {k}"),
                &values(ours),
                &values(reference),
                CLOSE,
            );
        }
    }
}
