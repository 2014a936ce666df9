//! A generator of the DCGAN's layout that is told the class.

use burn::module::Module;
use burn::nn::Embedding;
use burn::prelude::*;

use super::networks::{Generator, Layout};
use crate::nn::{Init, Mode};
use crate::registry::DataSpec;
use crate::train::game::Generates;
use crate::{Error, Result};

/// Latents and classes to images: a learned vector for each class is joined to the latent.
#[derive(Module, Debug)]
pub struct ClassGenerator {
    embedding: Embedding,
    body: Generator,
}

impl ClassGenerator {
    /// For latents of `latent` numbers, joined by `class_latent` numbers for the class.
    pub fn new(
        layout: &Layout,
        [latent, class_latent]: [usize; 2],
        spec: &DataSpec,
        init: &Init,
    ) -> Self {
        let inputs = latent + class_latent;
        Self {
            embedding: init
                .at("embedding")
                .embedding(spec.classes.len(), class_latent),
            body: layout.generator([inputs, spec.channels], &init.at("body")),
        }
    }

    /// Signed images of latents `[n, latent]` and one-hot rows `[n, classes]`.
    pub fn forward(&self, z: Tensor<2>, classes: Tensor<2>, mode: Mode) -> Tensor<4> {
        let own = classes.matmul(self.embedding.weight.val()); // [n, class_latent]
        self.body.forward(Tensor::cat(vec![z, own], 1), mode)
    }
}

impl Generates for ClassGenerator {
    fn latent(&self) -> usize {
        self.body.inputs() - self.embedding.weight.dims()[1]
    }

    fn classes(&self) -> usize {
        self.embedding.weight.dims()[0]
    }

    fn images(&self, z: Tensor<2>, classes: Option<Tensor<2>>, mode: Mode) -> Tensor<4> {
        let classes = classes.expect("a conditional generator is told the classes");
        self.forward(z, classes, mode)
    }
}

/// Refuses images without classes.
///
/// # Errors
/// [`Error::Settings`] naming the remedy.
pub(crate) fn check_classes(family: &str, spec: &DataSpec) -> Result<()> {
    match spec.classes.len() {
        0 | 1 => Err(Error::settings(
            format!("family {family} needs labelled images of two classes or more"),
            "use a folder per class, --set data.labels=FILE.csv, or family dcgan",
        )),
        _ => Ok(()),
    }
}
