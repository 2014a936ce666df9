use burn::prelude::*;
use burn::tensor::TensorData;
use vermeer_image::Range;

use super::*;
use crate::optim::AdamConfig;
use crate::registry::{FAMILIES, TrainerContext};
use crate::task::{Progress, unsupported};

/// Images of 1 × `pixels`: pixel i is ½ + (row i of the matrix) · z. It tells classes where
/// `classes` says so: class k makes the images k tenths brighter.
pub(crate) struct Linear {
    pub(crate) matrix: Vec<f32>,
    pub(crate) size: usize,
    pub(crate) classes: bool,
}

impl Linear {
    fn shift(&self, options: &SampleOptions) -> Result<f32> {
        let known: &[&str] = match self.classes {
            true => &["class"],
            false => &[],
        };
        options.only("linear", known)?;
        Ok(0.1 * options.class.unwrap_or(0) as f32)
    }
}

impl Pipeline for Linear {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Encode]
    }

    fn shape(&self) -> [usize; 3] {
        [1, 1, self.matrix.len() / self.size]
    }

    fn answer(&self, request: &Request, _: Progress) -> Result<Answer> {
        Err(unsupported("linear", request.task(), self.tasks()))
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.size)
    }

    fn decode(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<ImageBatch> {
        let shape = [latents.len() / self.size, self.size];
        let data = TensorData::new(latents.to_vec(), shape);
        let z = Tensor::<2>::from_data(data, &Device::flex());
        let x = self.image_of(z, numbers, options)?;
        Ok(ImageBatch::new(x.clamp(0.0, 1.0), Range::Unit)?)
    }

    fn image_of(
        &self,
        latents: Tensor<2>,
        _: &[u64],
        options: &SampleOptions,
    ) -> Result<Tensor<4>> {
        let shift = 0.5 + self.shift(options)?;
        let [n, size] = latents.dims();
        let pixels = self.matrix.len() / size;
        let data = TensorData::new(self.matrix.clone(), [pixels, size]);
        let matrix = Tensor::<2>::from_data(data, &Device::flex());
        let x = latents.matmul(matrix.transpose()).add_scalar(shift);
        Ok(x.reshape([n, 1, 1, pixels]))
    }
}

/// The same model behind styles: w = (1, 2, …) + (number of the class) + 2z, and its images are
/// brighter by a hundredth of the noise's number.
pub(crate) struct Styled(pub(crate) Linear);

impl Pipeline for Styled {
    fn tasks(&self) -> &'static [Task] {
        self.0.tasks()
    }

    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }

    fn answer(&self, request: &Request, progress: Progress) -> Result<Answer> {
        self.0.answer(request, progress)
    }

    fn latent_dims(&self) -> Option<usize> {
        Some(self.0.size)
    }

    fn style_dims(&self) -> Option<usize> {
        Some(self.0.size)
    }

    fn styles(
        &self,
        latents: &[f32],
        numbers: &[u64],
        options: &SampleOptions,
    ) -> Result<Vec<f32>> {
        let shift = 10.0 * self.0.shift(options)?;
        assert_eq!(latents.len(), numbers.len() * self.0.size);
        let place = |i: usize| (i % self.0.size + 1) as f32;
        let style = |(i, z): (usize, &f32)| place(i) + shift + 2.0 * z;
        Ok(latents.iter().enumerate().map(style).collect())
    }

    fn synthesise(&self, styles: &[f32], numbers: &[u64], seed: u64) -> Result<ImageBatch> {
        let shape = [styles.len() / self.0.size, self.0.size];
        let data = TensorData::new(styles.to_vec(), shape);
        let w = Tensor::<2>::from_data(data, &Device::flex());
        let x = self.styled_image_of(w, numbers, seed)?;
        Ok(ImageBatch::new(x.clamp(0.0, 1.0), Range::Unit)?)
    }

    fn styled_image_of(&self, styles: Tensor<2>, numbers: &[u64], _: u64) -> Result<Tensor<4>> {
        let options = SampleOptions::default();
        let x = self.0.image_of(styles, numbers, &options)?;
        Ok(x.add_scalar(0.01 * numbers[0] as f32))
    }
}

fn spec(attributes: &[&str]) -> DataSpec {
    DataSpec {
        channels: 1,
        height: 1,
        width: 2,
        classes: ["a", "b"].map(str::to_owned).to_vec(),
        attributes: attributes.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn moves_are_straight() {
    let moved = moved(&[1.0, 2.0], &[0.5, -1.0], &[-2.0, 0.0, 3.0]);
    assert_eq!(moved, [0.0, 4.0, 1.0, 2.0, 2.5, -1.0]);
}

#[test]
fn what_is_known_of_an_image_is_tried_before_what_is_not() {
    let conditions = Conditions {
        labels: Some(vec![1, 0]),
        attributes: Some(vec![0.5, 0.25]),
    };
    let options = SampleOptions::default();
    let found = choices(&options, &conditions, 1, &spec(&["size"]));
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].class, Some(0));
    assert_eq!(found[1].attributes, [("size".to_owned(), 0.25)]);
    assert_eq!(found[2], options);
    let asked = SampleOptions {
        class: Some(1),
        ..SampleOptions::default()
    };
    let none = Conditions::default();
    assert_eq!(choices(&asked, &none, 0, &spec(&[])), [asked]);
}

#[test]
fn a_model_without_classes_leaves_them_out() {
    let first = |classes: bool| -> f32 {
        let model = Linear {
            matrix: vec![0.1, 0.0],
            size: 1,
            classes,
        };
        let space = Space::of(&model).unwrap();
        assert_eq!((space.size(), space.shape()), (1, [1, 1, 2]));
        assert!(!space.has_codes());
        let conditions = Conditions {
            labels: Some(vec![1]),
            attributes: None,
        };
        let choices = choices(&SampleOptions::default(), &conditions, 0, &spec(&[]));
        let images = space.images(&[1.0], 0, &choices).unwrap();
        crate::nn::host(images.into_tensor())[0]
    };
    assert!((first(false) - 0.6).abs() < 1e-6);
    assert!((first(true) - 0.7).abs() < 1e-6);
}

#[test]
fn styles_come_before_latents() {
    let model = Styled(Linear {
        matrix: vec![0.1, 0.0, 0.0, 0.1],
        size: 2,
        classes: true,
    });
    let space = Space::of(&model).unwrap();
    assert_eq!((space.name(), space.kind()), ("w", Kind::Styles));
    assert!(!space.has_codes());
    let options = SampleOptions {
        seed: 3,
        class: Some(1),
        ..SampleOptions::default()
    };
    let drawn = space.draw(&[4, 9], std::slice::from_ref(&options)).unwrap();
    let z = random::latents(3, &[4, 9], 2);
    for (place, (w, z)) in drawn.iter().zip(&z).enumerate() {
        assert!((w - ((place % 2) as f32 + 2.0 + 2.0 * z)).abs() < 1e-5);
    }
    // Noise of sample 7; classes are in the styles.
    let images = space
        .images(&[1.0, -1.0], 7, std::slice::from_ref(&options))
        .unwrap();
    let found = crate::nn::host(images.into_tensor());
    assert!((found[0] - 0.67).abs() < 1e-6 && (found[1] - 0.47).abs() < 1e-6);
    // Means 1 and 2, deviations 2, of a thousand.
    let usual = space.usual(&[SampleOptions::default()]).unwrap();
    for place in 0..2 {
        let mean = place as f32 + 1.0;
        assert!((usual.mean[place] - mean).abs() < 0.3, "{usual:?}");
        assert!((usual.deviation[place] - 2.0).abs() < 0.2, "{usual:?}");
        let values = usual.values(place, &[0.0, 1.0]);
        assert!((values[1] - values[0] - usual.deviation[place]).abs() < 1e-6);
    }
}

#[test]
fn codes_make_reconstructions() {
    let mut tried = Vec::new();
    for family in FAMILIES {
        let (table, spec) = family.tiny().unwrap();
        let context = TrainerContext {
            spec,
            seed: 1,
            device: Device::flex().autodiff(),
            adam: AdamConfig::default(),
            average_half_life_images: 0.0,
        };
        let trainer = family.trainer(&table, &context).unwrap();
        let pipeline = trainer.pipeline().unwrap();
        let Ok(space) = Space::of(&*pipeline) else {
            continue;
        };
        if space.kind() != Kind::Codes {
            continue;
        }
        let id = family.info().id;
        tried.push(id);
        let [c, h, w] = space.shape();
        let pixels = 3 * c * h * w;
        let values: Vec<f32> = (0..pixels).map(|i| i as f32 / pixels as f32).collect();
        let data = TensorData::new(values, [3, c, h, w]);
        let x = Tensor::<4>::from_data(data, &Device::flex());
        let images = ImageBatch::new(x, Range::Unit).unwrap();
        let conditions = Conditions::default();
        let codes = space.codes(&images, &conditions).unwrap();
        assert_eq!(codes.len(), 3 * space.size(), "{id}");
        let options = [SampleOptions::default()];
        let made = space.images(&codes, 0, &options).unwrap();
        let request = Request::Reconstruct {
            images: &images,
            conditions: &conditions,
        };
        let again = pipeline.answer(&request, &mut |_, _| ()).unwrap();
        let again = crate::nn::host(again.into_images().unwrap().into_tensor());
        assert_eq!(crate::nn::host(made.into_tensor()), again, "{id}");
        assert!(space.draw(&[0], &options).is_err(), "{id}");
    }
    assert_eq!(tried, ["autoencoder", "dae"]);
}
