//! Published weights against what the reference code computes with them.
//!
//! Weights and references lie outside the repository: `VERMEER_SHARED` names a folder that holds
//! `checkpoints/<name>/`. Without it the tests say that they are skipped.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use burn::prelude::*;
use vermeer::diffusion::{Grid, Node, Sampler, Variance, sample};
use vermeer::import;
use vermeer::models::{DcganConfig, Denoiser, DiffusionConfig, VaeConfig};
use vermeer::nn::{Init, Mode, load};
use vermeer::optim::part;
use vermeer::registry::{DataSpec, family};
use vermeer::run::{TensorMap, read_safetensors};
use vermeer::task::{Request, SampleOptions};

use crate::twin::{on_device, values};

/// Allowed distance over the largest value of an output.
const CLOSE: f64 = 1e-4;

/// The folder of a published checkpoint.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    match env::var_os("VERMEER_SHARED") {
        Some(shared) => Some(Path::new(&shared).join("checkpoints").join(name)),
        None => {
            eprintln!("skipped {name}: VERMEER_SHARED names no folder with checkpoints");
            None
        }
    }
}

/// What the reference code computes (PyTorch 2.11 on the processor; the file's header names
/// repository and commit).
pub(crate) struct Reference {
    tensors: TensorMap,
    /// By output, how far the reference in float32 is from itself in float64, at most.
    noise: BTreeMap<String, f64>,
}

impl Reference {
    pub(crate) fn open(path: &Path) -> Self {
        let (tensors, texts) = read_safetensors(path).unwrap();
        let noise = serde_json::from_str(&texts["float32_vs_float64_max_abs"]).unwrap();
        Self { tensors, noise }
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        on_device(&self.tensors[name], &Device::flex())
    }

    /// Fails unless no value is further away than 1e-4 of the largest, or than three times the
    /// noise of the reference where that is more.
    pub(crate) fn assert_close<const D: usize>(&self, name: &str, ours: Tensor<D>) {
        let (ours, reference) = (values(ours), &self.tensors[name].data);
        assert_eq!(ours.len(), reference.len(), "{name}");
        let largest = reference
            .iter()
            .fold(0.0f64, |most, r| most.max(f64::from(r.abs())));
        let allowed = (CLOSE * largest).max(3.0 * self.noise[name]);
        for (at, (a, r)) in ours.iter().zip(reference).enumerate() {
            let apart = (f64::from(*a) - f64::from(*r)).abs();
            assert!(
                apart <= allowed,
                "{name}: {a}, not {r}, at {at}; {allowed:e} are allowed"
            );
        }
    }
}

/// Settings, images and weights as a family takes them from published files.
struct Import<C> {
    config: C,
    spec: DataSpec,
    weights: TensorMap,
}

impl<C: serde::de::DeserializeOwned> Import<C> {
    /// Also asks the imported model for a sample, in two steps where it takes steps.
    fn new(id: &str, files: &[TensorMap]) -> Self {
        let family = family(id).unwrap();
        let (table, spec, weights) = family.import(files, &toml::Table::new()).unwrap();
        family.check(&table, &spec).unwrap();
        let pipeline = family
            .pipeline(&table, &spec, &weights, &Device::flex())
            .unwrap();
        let options = SampleOptions {
            steps: (id == "diffusion").then_some(2),
            ..SampleOptions::default()
        };
        let request = Request::Generate {
            numbers: &[5],
            options: &options,
        };
        let images = pipeline
            .answer(&request, &mut |_, _| ())
            .unwrap()
            .into_images()
            .unwrap();
        assert_eq!(images.dims(), [1, 1, 28, 28], "{id}");
        Self {
            config: table.try_into().unwrap(),
            spec,
            weights,
        }
    }

    fn load<M: Module>(&self, blank: M, prefix: &str) -> M {
        load(blank, &part(&self.weights, prefix), Path::new("imported"))
            .unwrap()
            .valid()
    }
}

#[test]
fn vae_mnist() {
    let Some(folder) = folder("vae_mnist") else {
        return;
    };
    let published = import::read(&folder.join("vae_epoch_25.pth"))
        .unwrap()
        .tensors;
    let imported = Import::<VaeConfig>::new("vae", &[published]);
    let net = imported.load(
        imported
            .config
            .init(&imported.spec, &Init::blank(&Device::flex())),
        "",
    );
    let reference = Reference::open(&folder.join("reference.safetensors"));

    let x = reference.tensor::<2>("input"); // [n, 784]
    let n = x.dims()[0];
    let x = x.reshape([n, 1, 28, 28]);
    let (mu, log_var) = net.encode(x.clone());
    reference.assert_close("output_mu", mu.clone());
    reference.assert_close("output_log_var", log_var);
    reference.assert_close("output_reconstruction_mu", net.expected(mu.clone()));
    let z = reference.tensor::<2>("output_z");
    reference.assert_close("output_reconstruction_z", net.expected(z));
    reference.assert_close("output_decoded", net.expected(reference.tensor("input_z")));
    // With eps = 0 the code is mu.
    let elbo = net.elbo(x, mu.zeros_like());
    let kl = elbo.kl.sum_dim(1).squeeze_dim::<1>(1);
    reference.assert_close("output_bce_mu", elbo.reconstruction.clone());
    reference.assert_close("output_kld", kl.clone());
    reference.assert_close("output_elbo_mu", elbo.reconstruction.add(kl).neg());
}

#[test]
fn dcgan_mnist() {
    let Some(folder) = folder("dcgan_mnist") else {
        return;
    };
    let published = ["discriminator.pth", "generator.pth"]
        .map(|file| import::read(&folder.join(file)).unwrap().tensors);
    let imported = Import::<DcganConfig>::new("dcgan", &published);
    let blank = Init::blank(&Device::flex());
    let generator = imported.load(
        imported.config.generator(&imported.spec, &blank),
        "generator.",
    );
    let judge = imported.load(
        imported.config.discriminator(&imported.spec, &blank),
        "discriminator.",
    );

    let reference = Reference::open(&folder.join("generator.reference.safetensors"));
    reference.assert_close(
        "output",
        generator.forward(reference.tensor("input"), Mode::Use),
    );
    let reference = Reference::open(&folder.join("discriminator.reference.safetensors"));
    let logits = judge.forward(reference.tensor("input"), Mode::Use, &[]);
    reference.assert_close("output_logit", logits.clone());
    reference.assert_close("output", burn::tensor::activation::sigmoid(logits));
}

#[test]
fn ddpm_mnist() {
    let Some(folder) = folder("ddpm_mnist") else {
        return;
    };
    let published = import::read(&folder.join("ddpm_mnist.pt")).unwrap().tensors;
    let imported = Import::<DiffusionConfig>::new("diffusion", &[published]);
    let net: Denoiser = imported.load(
        imported
            .config
            .init(&imported.spec, &Init::blank(&Device::flex())),
        "",
    );
    let reference = Reference::open(&folder.join("reference.safetensors"));

    for t in ["0", "1", "100", "500", "900", "999", "mixed"] {
        let x = reference.tensor::<4>(&format!("output_x_t_{t}"));
        let times = match t.parse::<f64>() {
            Ok(t) => vec![t; x.dims()[0]],
            Err(_) => reference.tensors["input_t_mixed"]
                .data
                .iter()
                .map(|t| f64::from(*t))
                .collect(),
        };
        reference.assert_close(&format!("output_eps_{t}"), net.forward(x, &times, None));
    }

    // The reference's chain from t = 19 to the image, with its own noise: z[t] after the step of t.
    let process = imported.config.process();
    let mut nodes: Vec<Node> = (0..20)
        .rev()
        .map(|t| {
            let mix = process.mix(f64::from(t));
            Node {
                a: mix.a,
                b: mix.b,
                mix: Some(mix),
            }
        })
        .collect();
    nodes.push(Node {
        a: 1.0,
        b: 0.0,
        mix: None,
    });
    let (sampler, variance) = (Sampler::Ddpm, Variance::Large);
    assert_eq!(
        (imported.config.sampler, imported.config.variance),
        (sampler, variance)
    );
    assert!(!imported.config.clip);
    let grid = Grid {
        nodes,
        sampler,
        eta: 0.0,
        variance,
        clip: false,
        straight: false,
    };
    let z = reference.tensor::<5>("input_chain_z"); // [20, n, 1, 28, 28]
    let mut after = BTreeMap::new();
    let network = |x: Tensor<4>, time: f64| {
        // The input of step t is what the step of t + 1 left.
        after.insert(time as usize + 1, x.clone());
        let rows = x.dims()[0];
        net.forward(x, &vec![time; rows], None)
    };
    let fresh = |step: usize| z.clone().narrow(0, 19 - step, 1).squeeze_dim::<4>(0);
    let end = sample(
        &grid,
        reference.tensor("input_chain_x"),
        network,
        fresh,
        |_, _| (),
    );
    after.insert(0, end);
    for t in [19, 15, 10, 5, 0] {
        reference.assert_close(&format!("output_chain_after_{t}"), after[&t].clone());
    }
}

#[test]
fn schedule_of_ddpm_mnist() {
    let Some(folder) = folder("ddpm_mnist") else {
        return;
    };
    let reference = Reference::open(&folder.join("reference.safetensors"));
    let process = DiffusionConfig::default().process();
    let left: Vec<f32> = (0..1000)
        .map(|t| process.mix(f64::from(t)).a.powi(2) as f32)
        .collect();
    // The reference multiplies 1000 factors in float32.
    for (t, (a, r)) in left
        .iter()
        .zip(&reference.tensors["output_alpha_bars"].data)
        .enumerate()
    {
        assert!((a / r - 1.0).abs() < 1e-4, "alpha_bar of {t}: {a}, not {r}");
    }
}
