//! A published conditional VAE against what the reference code computes with it; see `imports`.

use std::path::Path;

use burn::prelude::*;
use vermeer::import;
use vermeer::models::CvaeConfig;
use vermeer::nn::{Init, load};
use vermeer::registry::family;
use vermeer::task::{Conditions, SampleOptions};

use crate::imports::{Reference, folder};
use crate::twin::values;

#[test]
fn cvae_mnist() {
    let Some(folder) = folder("cvae_mnist") else {
        return;
    };
    let published = import::read(&folder.join("vae.pth")).unwrap().tensors;
    let family = family("cvae").unwrap();
    let (table, spec, weights) = family.import(&[published], &toml::Table::new()).unwrap();
    family.check(&table, &spec).unwrap();
    assert_eq!((spec.shape(), spec.classes.len()), ([1, 28, 28], 10));
    let config: CvaeConfig = table.clone().try_into().unwrap();
    assert_eq!((config.latent, &config.hidden[..]), (2, &[256][..]));
    let device = Device::flex();
    let net = config.init(&spec, &Init::blank(&device));
    let net = load(net, &weights, Path::new("imported")).unwrap().valid();
    let reference = Reference::open(&folder.join("reference.safetensors"));
    let labels = |name: &str| -> Vec<u32> {
        let labels = values(reference.tensor::<1>(name));
        labels.iter().map(|label| *label as u32).collect()
    };

    let x = reference.tensor::<2>("input"); // [n, 784]
    let n = x.dims()[0];
    let x = x.reshape([n, 1, 28, 28]);
    let conditions = Conditions {
        labels: Some(labels("input_label")),
        attributes: None,
    };
    let given = net.given(&x, &conditions).unwrap();
    let (mu, log_var) = net.encode(x.clone(), &given);
    reference.assert_close("output_mu", mu.clone());
    reference.assert_close("output_log_var", log_var);
    let again = net.expected(mu.clone(), &given);
    reference.assert_close("output_reconstruction_mu", again);
    let z = reference.tensor::<2>("output_z");
    reference.assert_close("output_reconstruction_z", net.expected(z, &given));
    let asked = net.given_classes(&labels("input_z_label"), &device);
    let made = net.expected(reference.tensor("input_z"), &asked);
    reference.assert_close("output_decoded", made);
    // With eps = 0 the code is mu.
    let elbo = net.elbo(x, mu.zeros_like(), &given);
    let kl = elbo.kl.sum_dim(1).squeeze_dim::<1>(1);
    reference.assert_close("output_bce_mu", elbo.reconstruction.clone());
    reference.assert_close("output_kld", kl.clone());
    reference.assert_close("output_elbo_mu", elbo.reconstruction.add(kl).neg());

    // The same by the pipeline: the codes of one class, decoded under another one.
    let pipeline = family.pipeline(&table, &spec, &weights, &device).unwrap();
    let codes = values(reference.tensor::<2>("input_z"));
    for class in labels("input_z_label").into_iter().take(3) {
        let options = SampleOptions {
            class: Some(class),
            ..SampleOptions::default()
        };
        let numbers: Vec<u64> = (0..10).collect();
        let swapped = pipeline.decode(&codes, &numbers, &options).unwrap();
        let own = net.expected(
            reference.tensor("input_z"),
            &net.given_classes(&[class; 10], &device),
        );
        let (swapped, own) = (values(swapped.into_tensor()), values(own));
        let apart = swapped.iter().zip(&own).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0f32, f32::max) < 1e-5, "class {class}");
    }
}
