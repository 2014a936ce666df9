//! Trains the embedded feature network on Vermeer's own worlds and writes its weights.
//!
//! ```text
//! cargo run --release --example train_features -- OUT.safetensors [--steps 8000] [--minutes 40] [--seed 0]
//! ```
//!
//! Every step draws 64 new pictures, spoils most of them in a known way, and asks one linear layer
//! over the network's 128 features for what is known: the class of the figure, the kind of ground
//! behind it, the kind and the level of the damage, where the figure lies, and colours and
//! sharpness. AdamW with a cosine schedule; where `--minutes` is too short for the steps, the
//! schedule runs by the clock and ends in time. The header of the file says what was done and
//! what the network reaches on pictures of the worlds' test splits.
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

mod damage;
mod pictures;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use rayon::prelude::*;
use vermeer::data::Split;
use vermeer::image::features::{Weights, WorldNet};
use vermeer::nn::{BatchNorm, Gradients, Init, Law, Mode, pytorch_names, state};
use vermeer::optim::{AdamConfig, Learner, LearningRate, Shape};
use vermeer::random::{Purpose, stream};
use vermeer::run::{NamedTensor, TensorMap, write_safetensors};
use vermeer_kernels::nn::{Conv2d, Linear};
use vermeer_kernels::{add, leaky_relu};

use damage::KINDS;
use pictures::{Example, GROUNDS, VALUES, Worlds};

const BATCH: usize = 64;
/// Pictures that accuracies are measured on while it trains, and at the end.
const CHECKED: usize = 512;
const HELD_OUT: usize = 4096;
const SIDE: usize = WorldNet::SIDE;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let settings = Settings::parse(std::env::args().skip(1))?;
    let seed = settings.seed;
    let train = Worlds::open(Split::Train, seed)?;
    let test = Worlds::open(Split::Test, seed)?;
    let held_out = draw(&test, seed, Purpose::Validate, 0, HELD_OUT)?;
    // Values are compared on the scale of these pictures, which are not trained on.
    let scale = Scale::of(&draw(&train, seed, Purpose::Noise, u64::MAX, CHECKED)?);
    let parts = Parts::new(train.classes());

    let device = Device::flex().autodiff();
    let network = Network::new(&Init::new(seed, &device), parts.width());
    let adam = AdamConfig {
        weight_decay: 1e-3,
        ..AdamConfig::default()
    };
    let mut learner = Learner::new(network, adam, 0.0, "");
    println!("{} trained parameters", learner.parameters());
    let rate = LearningRate {
        peak: 3e-3,
        warmup_steps: 100,
        total_steps: settings.steps,
        shape: Shape::Cosine,
    };
    let start = Instant::now();
    let mut step = 0;
    loop {
        // Where the clock is ahead of the steps, the schedule follows the clock.
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let by_clock = (minutes / settings.minutes * settings.steps as f64) as u64;
        let place = step.max(by_clock);
        if place >= settings.steps {
            break;
        }
        let batch = draw(&train, seed, Purpose::Noise, step, BATCH)?;
        let x = tensor(&batch, &device);
        let outputs = learner.module().forward(x, Mode::Train);
        let loss = parts.loss(outputs, &batch, &scale);
        let gradients = Gradients::take(&mut loss.backward(), learner.module());
        learner.update(gradients, rate.at(place), Some(5.0), BATCH);
        if step.is_multiple_of(200) {
            let scores = parts.scores(&learner.for_use(), &held_out[..CHECKED], &scale)?;
            println!(
                "step {step}, {minutes:.1} min: loss {:.4}; held out: {scores}",
                loss.into_scalar::<f32>()
            );
        }
        step += 1;
    }

    let network = learner.for_use();
    let scores = parts.scores(&network, &held_out, &scale)?;
    println!("{step} steps; held out: {scores}");
    let tensors = trunk(&network);
    check(&network, &tensors, &held_out[..BATCH])?;
    let about: BTreeMap<String, String> = [
        ("format", "pt".to_string()),
        (
            "data",
            "Vermeer's worlds glyphs and shapes, recomposed and spoilt, drawn anew for every step"
                .to_string(),
        ),
        (
            "recipe",
            format!("AdamW, cosine schedule, peak 3e-3, weight decay 1e-3, batches of {BATCH}"),
        ),
        ("seed", seed.to_string()),
        ("steps", step.to_string()),
        ("held_out_images", HELD_OUT.to_string()),
    ]
    .into_iter()
    .chain(scores.texts())
    .map(|(key, text)| (key.to_string(), text))
    .collect();
    write_safetensors(settings.out.as_ref(), &tensors, &about)?;
    println!(
        "sha256 {}",
        vermeer::sha256_hex(&std::fs::read(&settings.out)?)
    );
    Ok(())
}

struct Settings {
    out: String,
    steps: u64,
    minutes: f64,
    seed: u64,
}

impl Settings {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Fallible<Self> {
        let usage = "usage: train_features OUT [--steps N] [--minutes M] [--seed S]";
        let mut settings = Self {
            out: arguments.next().ok_or(usage)?,
            steps: 8000,
            minutes: 40.0,
            seed: 0,
        };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or(usage)?;
            match flag.as_str() {
                "--steps" => settings.steps = value.parse()?,
                "--minutes" => settings.minutes = value.parse()?,
                "--seed" => settings.seed = value.parse()?,
                _ => return Err(usage.into()),
            }
        }
        match settings.minutes > 0.0 && settings.out.ends_with(".safetensors") {
            true => Ok(settings),
            false => Err(usage.into()),
        }
    }
}

/// `count` pictures, each from its own stream.
fn draw(
    worlds: &Worlds,
    seed: u64,
    purpose: Purpose,
    step: u64,
    count: usize,
) -> Fallible<Vec<Example>> {
    let examples: Vec<vermeer::Result<Example>> = (0..count as u64)
        .into_par_iter()
        .map(|row| worlds.example(&mut stream(seed, purpose, step, row)))
        .collect();
    let examples = examples
        .into_iter()
        .collect::<vermeer::Result<Vec<Example>>>()?;
    Ok(examples)
}

fn tensor(examples: &[Example], device: &Device) -> Tensor<4> {
    let pixels: Vec<f32> = examples
        .iter()
        .flat_map(|example| example.pixels.iter().copied())
        .collect();
    let data = TensorData::new(pixels, [examples.len(), 3, SIDE, SIDE]);
    Tensor::from_data(data, device)
}

/// A layer of [`WorldNet`] as it is trained.
#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: BatchNorm,
    #[module(skip)]
    residual: bool,
}

/// [`WorldNet`] as it is trained, and the layer that reads its features.
#[derive(Module, Debug)]
struct Network {
    layers: Vec<Block>,
    heads: Linear,
}

impl Network {
    fn new(init: &Init, outputs: usize) -> Self {
        let blocks = WorldNet::LAYERS.into_iter().enumerate();
        let layers = blocks.map(|(i, [from, to, step])| {
            let at = init.at(format!("layers.{i}"));
            // He et al., 2015: N(0, 2 / fan-in).
            let law = Law::Normal((2.0 / (9.0 * from as f32)).sqrt());
            Block {
                conv: at.at("conv").conv2d([from, to], 3, step, 1, false, law),
                norm: BatchNorm::new(&at.at("norm"), to, 0.0),
                residual: WorldNet::is_residual([from, to, step]),
            }
        });
        Self {
            layers: layers.collect(),
            heads: init.at("heads").linear(WorldNet::DIMS, outputs, Law::FanIn),
        }
    }

    /// The features `[n, 128]` of unit images.
    fn features(&self, x: Tensor<4>, mode: Mode) -> Tensor<2> {
        let slope = f64::from(WorldNet::SLOPE);
        let mut x = x.mul_scalar(4.0).sub_scalar(2.0);
        for block in &self.layers {
            let y = block.conv.forward(x.clone());
            x = match block.residual {
                true => leaky_relu(add(block.norm.forward(y, mode), x), slope),
                false => block.norm.forward_leaky(y, mode, slope),
            };
        }
        let [n, c, h, w] = x.dims();
        x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c])
    }

    fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.heads.forward(self.features(x, mode))
    }
}

/// The tensors of the embedded network, under the names that [`WorldNet::load`] wants.
fn trunk(network: &Network) -> TensorMap {
    let mut tensors = state(network);
    pytorch_names(network)
        .into_iter()
        .filter(|(path, _, _)| path.starts_with("layers."))
        .filter_map(|(path, name, _)| Some((name, tensors.remove(&path)?)))
        .collect()
}

/// Makes sure that the network for use gives the features that were trained.
fn check(network: &Network, tensors: &TensorMap, examples: &[Example]) -> Fallible<()> {
    let device = Device::flex();
    let named = tensors
        .iter()
        .map(|(name, NamedTensor { shape, data })| (name.clone(), (shape.clone(), data.clone())))
        .collect();
    let world_net = WorldNet::load(Weights::new("the trained weights", named), &device)?;
    let x = tensor(examples, &device);
    let ours = world_net.features(x.clone()).try_to_vec_as::<f32>()?;
    let trained = network.features(x, Mode::Use).try_to_vec_as::<f32>()?;
    let gaps = ours.iter().zip(&trained).map(|(a, b)| (a - b).abs());
    let largest = gaps.fold(0.0, f32::max);
    let scale = trained.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    println!("largest difference after folding {largest:.2e}, largest feature {scale:.3}");
    match largest <= 1e-3 * scale {
        true => Ok(()),
        false => Err("the folded network gives other features".into()),
    }
}

/// Mean and deviation of each of [`Example::values`].
struct Scale(Vec<(f32, f32)>);

impl Scale {
    fn of(examples: &[Example]) -> Self {
        let n = examples.len() as f32;
        let statistics = |i: usize| {
            let mean = examples.iter().map(|e| e.values[i]).sum::<f32>() / n;
            let squares = examples.iter().map(|e| (e.values[i] - mean).powi(2));
            (mean, (squares.sum::<f32>() / n).sqrt().max(1e-3))
        };
        Self((0..VALUES).map(statistics).collect())
    }

    fn standardised(&self, example: &Example) -> Vec<f32> {
        let values = example.values.iter().zip(&self.0);
        values
            .map(|(x, (mean, deviation))| (x - mean) / deviation)
            .collect()
    }
}

/// Which outputs of the linear layer say what: classes, grounds, kinds of damage, the level of
/// each kind, values.
struct Parts {
    sizes: [usize; 5],
}

impl Parts {
    fn new(classes: usize) -> Self {
        Self {
            sizes: [classes, GROUNDS, KINDS, KINDS, VALUES],
        }
    }

    fn width(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Where part `i` begins.
    fn start(&self, i: usize) -> usize {
        self.sizes[..i].iter().sum()
    }

    fn of(&self, outputs: &Tensor<2>, i: usize) -> Tensor<2> {
        outputs.clone().narrow(1, self.start(i), self.sizes[i])
    }

    /// Cross entropies of the three choices, squared errors of level and values.
    fn loss(&self, outputs: Tensor<2>, examples: &[Example], scale: &Scale) -> Tensor<1> {
        let (n, device) = (examples.len(), outputs.device());
        let numbers = |of: fn(&Example) -> usize| -> Tensor<2, Int> {
            let numbers: Vec<i32> = examples.iter().map(|e| of(e) as i32).collect();
            Tensor::<1, Int>::from_data(&numbers[..], &device).unsqueeze_dim::<2>(1)
        };
        let choice = |i: usize, numbers: Tensor<2, Int>| -> Tensor<1> {
            let logs = log_softmax(self.of(&outputs, i), 1);
            logs.gather(1, numbers).mean().neg()
        };
        let levels: Vec<f32> = examples.iter().map(|e| e.level).collect();
        let levels: Tensor<2> = Tensor::from_data(TensorData::new(levels, [n, 1]), &device);
        let values: Vec<f32> = examples
            .iter()
            .flat_map(|e| scale.standardised(e))
            .collect();
        let values: Tensor<2> = Tensor::from_data(TensorData::new(values, [n, VALUES]), &device);

        let class = choice(0, numbers(|e| e.class));
        let ground = choice(1, numbers(|e| e.ground));
        let kind = choice(2, numbers(|e| e.kind));
        let level = self.of(&outputs, 3).gather(1, numbers(|e| e.kind));
        let level = level.sub(levels).square().mean();
        let values = self.of(&outputs, 4).sub(values).square().mean();
        class
            .add(ground.mul_scalar(0.5))
            .add(kind)
            .add(level.mul_scalar(4.0))
            .add(values)
    }

    /// What the network gets right.
    fn scores(&self, network: &Network, examples: &[Example], scale: &Scale) -> Fallible<Scores> {
        let mut scores = Scores::default();
        let n = examples.len() as f64;
        for part in examples.chunks(BATCH) {
            let x = tensor(part, &Device::flex());
            let outputs = network.forward(x, Mode::Use).try_to_vec_as::<f32>()?;
            for (row, example) in outputs.chunks_exact(self.width()).zip(part) {
                let slice = |i: usize| &row[self.start(i)..self.start(i) + self.sizes[i]];
                let hit =
                    |i: usize, expected: usize| f64::from(u8::from(largest(slice(i)) == expected));
                scores.class += hit(0, example.class) / n;
                scores.ground += hit(1, example.ground) / n;
                scores.damage += hit(2, example.kind) / n;
                let gap = (slice(3)[example.kind] - example.level).abs();
                scores.level += f64::from(gap) / n;
                let values = scale.standardised(example);
                let gaps = slice(4).iter().zip(&values).map(|(a, b)| (a - b).powi(2));
                scores.unexplained += f64::from(gaps.sum::<f32>()) / (n * VALUES as f64);
            }
        }
        Ok(scores)
    }
}

fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

/// Shares of right answers, the mean error of the level, and the share of the variance of the
/// values that is left.
#[derive(Default)]
struct Scores {
    class: f64,
    ground: f64,
    damage: f64,
    level: f64,
    unexplained: f64,
}

impl Scores {
    fn texts(&self) -> [(&'static str, String); 5] {
        [
            ("held_out_class_accuracy", self.class),
            ("held_out_ground_accuracy", self.ground),
            ("held_out_degradation_accuracy", self.damage),
            ("held_out_level_mean_error", self.level),
            ("held_out_values_unexplained_variance", self.unexplained),
        ]
        .map(|(key, value)| (key, format!("{value:.4}")))
    }
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "class {:.3}, ground {:.3}, damage {:.3}, level off by {:.3}, values unexplained {:.3}",
            self.class, self.ground, self.damage, self.level, self.unexplained
        )
    }
}
