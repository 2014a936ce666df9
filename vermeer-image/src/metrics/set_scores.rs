//! Metrics of sets under the names of their protocols, with their intervals.

use crate::error::{ImageError, Result};
use crate::metrics::feature_set::{Features, parts};
use crate::metrics::frechet::BLOCKS;
use crate::metrics::interval::{Interval, jackknife};
use crate::metrics::list::{OF_REAL, Progress, Score};
use crate::metrics::{
    ClassifierOptions, FrechetReference, Moments, NumpyRandom, PROJECTIONS, Splits, Subsets,
    authpct_dgm, classifier_test, density_coverage, frechet_distance,
    frechet_distance_all_eigenvalues, frechet_spread, inception_score, kernel_distance,
    kernel_distance_of_subsets, nearest_neighbour_test, precision_recall, sliced_wasserstein,
    vendi,
};

const OF_GENERATED: &str = "draws of the generated images, the real ones fixed";
const OF_BOTH: &str = "draws of both sides";
/// Images per feature that the extrapolation of a Fréchet distance takes. In simulations with
/// covariances that fall as 1/i its interval covered the limit in 279 of 300 draws of 2,048 images
/// with 128 features and in none with 2,048 features, where the value was below zero.
const PER_FEATURE: usize = 4;

/// What a metric of sets is computed from.
#[derive(Clone, Copy, Debug)]
pub struct SetInput<'a> {
    /// Features of the generated images; `None` where only moments are known.
    pub generated: Option<&'a Features>,
    /// Their moments, where no features are known.
    pub generated_moments: Option<&'a Moments>,
    /// Features of the real images; `None` where only moments are known, or nothing.
    pub real: Option<&'a Features>,
    /// Their moments, where no features are known.
    pub real_moments: Option<&'a Moments>,
    /// A classifier's logits of the generated images.
    pub logits: Option<&'a Features>,
    /// What the network is called in the names of values.
    pub network: &'a str,
    /// Whether the network is the published Inception, so that the published names are right.
    pub published: bool,
    /// What the way of looking adds to the published name.
    pub suffix: &'a str,
    /// How it is computed.
    pub options: &'a SetOptions,
}

/// How metrics of sets are computed.
#[derive(Clone, Debug, PartialEq)]
pub struct SetOptions {
    /// Seed of orders, subsets and directions.
    pub seed: u32,
    /// Splits of the Inception Score.
    pub splits: usize,
    /// Subsets of the kernel distance: how many, and their size.
    pub subsets: [usize; 2],
    /// Neighbours of precision and recall.
    pub neighbours: usize,
    /// Neighbours of density and coverage.
    pub density_neighbours: usize,
    /// Directions of the sliced Wasserstein distance.
    pub projections: usize,
}

impl Default for SetOptions {
    /// The settings of torch-fidelity 0.4.0 and prdc.
    fn default() -> Self {
        Self {
            seed: 2020,
            splits: 10,
            subsets: [100, 1000],
            neighbours: 3,
            density_neighbours: 5,
            projections: PROJECTIONS,
        }
    }
}

impl<'a> SetInput<'a> {
    fn generated(&self) -> Result<&'a Features> {
        self.generated.ok_or_else(|| needs_images("the first set"))
    }

    fn real(&self) -> Result<&'a Features> {
        self.real.ok_or_else(|| needs_images("the second set"))
    }

    /// `fid` for the published network, else `fd_` and the network.
    fn named(&self, published: &str, other: &str) -> String {
        match self.published {
            true => format!("{published}{}", self.suffix),
            false => format!("{other}_{}", self.network),
        }
    }
}

fn needs_images(which: &str) -> ImageError {
    ImageError::Shape(format!(
        "{which} is given by its statistics, which hold a mean and a covariance only; give its \
         images, or ask for fid alone"
    ))
}

pub(super) fn frechet(input: &SetInput, progress: Progress) -> Result<Vec<Score>> {
    let mut scores = exact_frechet(input, progress)?;
    let rank = |known: Option<&Moments>, features: Option<&Features>| {
        let of_features = features.map(|set| set.len().saturating_sub(1).min(set.dims()));
        known.map(Moments::rank).or(of_features)
    };
    let dims = |known: Option<&Moments>, features: Option<&Features>| {
        known.map(Moments::dims).or(features.map(Features::dims))
    };
    let ranks = [
        rank(input.generated_moments, input.generated),
        rank(input.real_moments, input.real),
    ];
    let full = dims(input.generated_moments, input.generated);
    if ranks.into_iter().flatten().min() >= full {
        return Ok(scores);
    }
    let moments = |known: Option<&Moments>, features: Option<&Features>, which| match known {
        Some(moments) => Ok(moments.clone()),
        None => Moments::of(features.ok_or_else(|| needs_images(which))?),
    };
    let generated = moments(input.generated_moments, input.generated, "the first set")?;
    let real = moments(input.real_moments, input.real, "the second set")?;
    let value = frechet_distance_all_eigenvalues(&generated, &real)?;
    let name = format!("{}_all_eigenvalues", scores[0].name);
    scores.push(Score::plain(name, value).note(
        "the covariance is singular, there being fewer images than features: this is what \
         torch-fidelity 0.4.0 computes, with the roots of rounding errors in it; the value \
         without them is exact",
    ));
    Ok(scores)
}

fn exact_frechet(input: &SetInput, progress: Progress) -> Result<Vec<Score>> {
    let known;
    let real = match (input.real, input.real_moments) {
        (_, Some(moments)) => moments,
        (Some(features), None) => {
            known = Moments::of(features)?;
            &known
        }
        (None, None) => return Err(needs_images("the second set")),
    };
    let name = input.named("fid", "fd");
    let (Some(generated), true) = (
        input.generated,
        input.generated.is_some_and(|set| set.len() >= 3 * BLOCKS),
    ) else {
        let known;
        let generated = match (input.generated_moments, input.generated) {
            (Some(moments), _) => moments,
            (None, Some(features)) => {
                known = Moments::of(features)?;
                &known
            }
            (None, None) => return Err(needs_images("the first set")),
        };
        let distance = frechet_distance(generated, real)?;
        return Ok(vec![Score::plain(name, distance).note(
            "without an interval: that takes the images, and at least 60 of them",
        )]);
    };
    let order = NumpyRandom::new(input.options.seed).permutation(generated.len());
    let reference = FrechetReference::new(real)?;
    let spread = frechet_spread(&reference, generated, &order, progress)?;
    let (n, enough) = (generated.len(), PER_FEATURE * generated.dims());
    let published = Score::plain(name.clone(), spread.distance).with(spread.interval, OF_GENERATED);
    if n < enough {
        return Ok(vec![published.note(format!(
            "as published: biased, too large with these {n} images; the interval is a block \
             jackknife's of {BLOCKS} blocks. It is not extrapolated: with fewer than {PER_FEATURE} \
             images per feature the bias is not c / n, so that takes {enough} images. The kernel \
             distance has no bias"
        ))]);
    }
    let bias = spread.distance - spread.extrapolated;
    Ok(vec![
        published.note(format!(
            "as published: biased by about {bias:+.4} with these {n} images; the interval is a \
             block jackknife's of {BLOCKS} blocks"
        )),
        Score::plain(format!("{name}_infinity"), spread.extrapolated)
            .with(spread.extrapolated_interval, OF_GENERATED)
            .note("extrapolated to ever more generated images; the real ones are taken as given"),
    ])
}

pub(super) fn kernel(input: &SetInput, progress: Progress) -> Result<Vec<Score>> {
    let (generated, real) = (input.generated()?, input.real()?);
    let name = input.named("kid", "kd");
    let all = kernel_distance(generated, real, input.options.seed, progress)?;
    let mut scores = vec![
        Score::plain(format!("{name}_all_pairs"), all.unbiased)
            .with(all.interval, OF_BOTH)
            .note("the unbiased estimate over all pairs"),
    ];
    let [count, size] = input.options.subsets;
    let least = generated.len().min(real.len());
    if least < size {
        scores[0].notes.push(format!(
            "the published form takes subsets of {size} images and was left out: the smaller side \
             has {least}; --kid-subset-size {} computes it with fewer",
            least / 2
        ));
        return Ok(scores);
    }
    let subsets = Subsets {
        count,
        size,
        seed: input.options.seed,
    };
    let published = kernel_distance_of_subsets(generated, real, subsets, progress)?;
    let text = format!(
        "the mean over {count} subsets of {size}, whose deviation is {:.6}: no error, for they \
         overlap",
        published.deviation
    );
    let name = match [count, size] {
        [100, 1000] => name,
        _ => format!("{name}_{count}x{size}"),
    };
    scores.insert(0, Score::plain(name, published.mean).note(text));
    Ok(scores)
}

pub(super) fn inception(input: &SetInput, _: Progress) -> Result<Vec<Score>> {
    let logits = input.logits.ok_or_else(|| {
        ImageError::Shape(format!(
            "the network {} classifies nothing, so there is no Inception Score; choose --network \
             inception or judge",
            input.network
        ))
    })?;
    let splits = Splits {
        count: input.options.splits,
        shuffle: Some(input.options.seed),
    };
    let score = inception_score(logits, splits)?;
    let name = input.named("is", "is");
    let name = match splits.count {
        10 => name,
        count => format!("{name}_splits{count}"),
    };
    let text = format!(
        "the mean over {} splits, whose deviation is {:.6}",
        splits.count, score.deviation
    );
    Ok(vec![
        Score::plain(name, score.mean)
            .with(score.interval, "draws of the generated images")
            .note(text),
    ])
}

pub(super) fn precision_and_recall(input: &SetInput, _: Progress) -> Result<Vec<Score>> {
    let k = input.options.neighbours;
    let found = precision_recall(input.generated()?, input.real()?, k)?;
    let name = |what: &str| format!("{what}_k{k}_{}", input.network);
    let note = match input.network {
        "vgg16" => None,
        _ => Some("published values are of VGG16: --network vgg16 --weights FILE"),
    };
    let precision = Score::plain(name("precision"), found.precision());
    let recall = Score::plain(name("recall"), found.recall());
    let mut scores = vec![
        precision.with(found.precision_interval(), OF_GENERATED),
        recall.with(found.recall_interval(), OF_REAL),
    ];
    for score in &mut scores {
        score.notes.extend(note.map(str::to_owned));
    }
    Ok(scores)
}

pub(super) fn density_and_coverage(input: &SetInput, _: Progress) -> Result<Vec<Score>> {
    let k = input.options.density_neighbours;
    let found = density_coverage(input.generated()?, input.real()?, k)?;
    let name = |what: &str| format!("{what}_prdc{k}_{}", input.network);
    let pr = found.precision_recall;
    let mut density = Score::plain(name("density"), found.density);
    if let Some(interval) = found.density_interval {
        density = density.with(interval, OF_GENERATED);
    }
    Ok(vec![
        Score::plain(name("precision"), pr.precision()).with(pr.precision_interval(), OF_GENERATED),
        Score::plain(name("recall"), pr.recall()).with(pr.recall_interval(), OF_REAL),
        density,
        Score::plain(name("coverage"), found.coverage()).with(found.coverage_interval(), OF_REAL),
    ])
}

pub(super) fn vendi_score(input: &SetInput, progress: Progress) -> Result<Vec<Score>> {
    let generated = input.generated()?;
    let name = format!("vendi_{}", input.network);
    let (value, interval) = by_blocks(generated, input.options.seed, progress, vendi)?;
    let mut score = Score::plain(name, value).with(interval, "draws of the generated images");
    if let Some(real) = input.real {
        score = score.note(format!("the real images have {:.4}", vendi(real)?));
    }
    Ok(vec![score])
}

pub(super) fn two_sample(input: &SetInput, _: Progress) -> Result<Vec<Score>> {
    let (generated, real) = (input.generated()?, input.real()?);
    let options = ClassifierOptions {
        seed: input.options.seed,
        ..ClassifierOptions::default()
    };
    // The 1-NN test needs sides of one size; both tests see the same images.
    let n = generated.len().min(real.len());
    let first = |set: &Features, salt: u32| {
        let order = NumpyRandom::new(input.options.seed.wrapping_add(salt)).permutation(set.len());
        set.select(&order[..n])
    };
    let (generated, real) = (first(generated, 1)?, first(real, 2)?);
    let linear = classifier_test(&generated, &real, options)?;
    let nearest = nearest_neighbour_test(&generated, &real)?;
    Ok(vec![
        Score::plain(format!("c2st_logistic_{}", input.network), linear.accuracy)
            .with(linear.interval, "draws of the judged images")
            .note(format!(
                "{} of {} judged rightly; p = {:.3e} if both sides were one",
                linear.right, linear.judged, linear.p_value
            )),
        Score::plain(format!("c2st_1nn_{}", input.network), nearest.accuracy)
            .with(nearest.interval, OF_BOTH)
            .note(format!(
                "leave-one-out; real {:.4}, generated {:.4} (below 0.5: copies or missing modes); \
                 p = {:.3e}",
                nearest.real_accuracy, nearest.generated_accuracy, nearest.p_value
            )),
    ])
}

pub(super) fn wasserstein(input: &SetInput, progress: Progress) -> Result<Vec<Score>> {
    let real = input.real()?;
    let SetOptions {
        projections, seed, ..
    } = *input.options;
    let mut error = 0.0;
    let (value, interval) = by_blocks(input.generated()?, seed, progress, |generated| {
        let found = sliced_wasserstein(generated, real, projections, seed)?;
        error = found.standard_error;
        Ok(found.distance)
    })?;
    Ok(vec![
        Score::plain(format!("swd{projections}_{}", input.network), value)
            .with(interval, OF_GENERATED)
            .note(format!(
                "over {projections} directions, which leave a standard error of {error:.2e}"
            )),
    ])
}

pub(super) fn authenticity(input: &SetInput, _: Progress) -> Result<Vec<Score>> {
    let found = authpct_dgm(input.generated()?, input.real()?)?;
    Ok(vec![
        Score::plain(format!("authpct_dgm_{}", input.network), found.value)
            .with(found.interval, OF_GENERATED)
            .note("the second set has to be what the model was trained on"),
    ])
}

/// A value of a set and its interval by leaving out one of twenty blocks at a time, in a random
/// order of the images.
fn by_blocks(
    features: &Features,
    seed: u32,
    progress: Progress,
    mut value: impl FnMut(&Features) -> Result<f64>,
) -> Result<(f64, Interval)> {
    features.at_least(2 * BLOCKS, "an interval")?;
    let order = NumpyRandom::new(seed).permutation(features.len());
    let mut without = Vec::with_capacity(BLOCKS);
    for (done, block) in parts(order.len(), BLOCKS).into_iter().enumerate() {
        let rest = [&order[..block.start], &order[block.end..]].concat();
        without.push(value(&features.select(&rest)?)?);
        progress(done + 1, BLOCKS + 1);
    }
    let all = value(features)?;
    progress(BLOCKS + 1, BLOCKS + 1);
    Ok((all, jackknife(all, &without)))
}
