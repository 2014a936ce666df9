//! Training steps, a layer with its gradients, and a generator, by the families themselves.

use std::error::Error;

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer::data::HostBatch;
use vermeer::models::dcgan::DcganConfig;
use vermeer::nn::{Init, Mode};
use vermeer::optim::AdamConfig;
use vermeer::random::{Purpose, stream};
use vermeer::registry::{DataSpec, Step, Trainer, TrainerContext, family};
use vermeer_kernels::{ConvOptions, conv2d};

use crate::Workload;

/// The workload of that name.
pub(crate) fn workload(name: &str) -> Result<Workload, Box<dyn Error>> {
    Ok(match name {
        "conv3" => {
            let device = Device::flex().autodiff();
            let x = uniform([32, 64, 32, 32], 0, &device);
            let w = uniform([64, 64, 3, 3], 1, &device).mul_scalar(0.05);
            let options = ConvOptions {
                padding: [1; 2],
                ..ConvOptions::default()
            };
            Box::new(move || {
                let x = x.clone().detach().require_grad();
                let w = w.clone().detach().require_grad();
                let gradients = conv2d(x.clone(), w.clone(), None, options).sum().backward();
                drop((x.grad(&gradients), w.grad(&gradients)));
                None
            })
        }
        "dcgan_g32" => generator(32),
        "dcgan_g1" => generator(1),
        "dcgan_step" => step("dcgan", "latent = 100\nwidth = 64", [3, 64, 64], 32)?,
        "unet_step" => step(
            "diffusion",
            "width = 64\nmultipliers = [1, 2, 2]\nblocks = 2\nattention = [1]\ngroups = 8",
            [3, 32, 32],
            32,
        )?,
        "mlp_step" => step(
            "vae",
            "network = \"mlp\"\nlatent = 20\nhidden = [400]",
            [1, 28, 28],
            128,
        )?,
        other => return Err(format!("no workload {other}").into()),
    })
}

fn uniform(shape: [usize; 4], index: u64, device: &Device) -> Tensor<4> {
    let mut numbers = vec![0.0; shape.iter().product()];
    stream(0, Purpose::World, 0, index).fill_uniform(&mut numbers);
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn spec([channels, height, width]: [usize; 3]) -> DataSpec {
    DataSpec {
        channels,
        height,
        width,
        classes: vec![],
        attributes: vec![],
    }
}

/// DCGAN's generator of 64×64 pixels, in use.
fn generator(batch: usize) -> Workload {
    let config = DcganConfig {
        latent: 100,
        width: 64,
        ..DcganConfig::default()
    };
    let device = Device::flex();
    let net = config
        .generator(&spec([3, 64, 64]), &Init::new(0, &device))
        .valid();
    let z = uniform([batch, 100, 1, 1], 2, &device).reshape([batch, 100]);
    Box::new(move || {
        drop(net.forward(z.clone(), Mode::Use));
        None
    })
}

/// A training step of a family.
fn step(
    id: &str,
    settings: &str,
    shape: [usize; 3],
    batch: usize,
) -> Result<Workload, Box<dyn Error>> {
    let settings: toml::Table = toml::from_str(settings)?;
    let context = TrainerContext {
        spec: spec(shape),
        seed: 0,
        device: Device::flex().autodiff(),
        adam: AdamConfig::default(),
        average_half_life_images: 0.0,
    };
    let mut trainer: Box<dyn Trainer> = family(id)?.trainer(&settings, &context)?;
    let mut images = vec![0.0; batch * shape.iter().product::<usize>()];
    stream(0, Purpose::World, 0, 3).fill_uniform(&mut images);
    let mut step = 0;
    Ok(Box::new(move || {
        let batch = HostBatch {
            step,
            images: images.clone(),
            labels: None,
            attributes: None,
            batch,
            shape,
        };
        let scalars = trainer.step(&Step {
            micro: &[batch],
            learning_rate: 1e-4,
            clip_norm: None,
        });
        scalars.expect("a step of numbers that are finite");
        step += 1;
        None
    }))
}
