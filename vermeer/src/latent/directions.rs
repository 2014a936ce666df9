//! Named directions in the space of latents: how they are found from labels and attributes, and
//! the file that keeps them.
//!
//! Of latents z and a target t, which is 1 for the images of a class and 0 for the others, or the
//! value of an attribute, either
//!
//! ```text
//! means        w = cov(z, t) / var(t)             for a class the difference of the means
//! classifier   w = (Σ + ridge · tr Σ / d)⁻¹ cov(z, t)      the normal of a linear classifier
//! ```
//!
//! Both are the least-squares regression between z and t, one in each direction. `means` says how
//! latents of the class differ from the others; `classifier` goes where a linear classifier changes
//! its mind soonest, which leaves out what the class has in common with other things. Every fifth
//! image is held out, and tells how well a threshold on w · z names the class (the mean of the
//! shares right within and outside it, ½ by guessing), or how much of the attribute's variance it
//! explains.
//!
//! A direction is stored with the length of one standard deviation of the latents along it, so that
//! a strength of 3 means the same of all of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::principal::{Principal, mean, unit};
use crate::run::{NamedTensor, TensorMap, read_safetensors, write_safetensors};
use crate::{Error, Result};

/// The file of a run's directions, in its folder.
pub const FILE: &str = "directions.safetensors";

/// The share of the mean variance that is added to the covariance.
const RIDGE: f64 = 0.1;
/// One image of so many is held out.
const HELD_OUT: usize = 5;
/// The fewest images of a class, and of all others.
const LEAST: usize = 2;

/// How a direction was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The difference of means, or the regression of latents on an attribute.
    Means,
    /// The normal of a linear classifier, or of the regression of an attribute on latents.
    Classifier,
    /// A principal component of encoded images.
    Principal,
    /// Where the generator changes its images most.
    Sensitivity,
}

impl Method {
    /// The name, as in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Means => "means",
            Self::Classifier => "classifier",
            Self::Principal => "principal",
            Self::Sensitivity => "sensitivity",
        }
    }
}

/// What is known of a direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The space it lies in.
    pub space: String,
    /// How it was found.
    pub method: Method,
    /// What it was found in: the location of the data, or the samples.
    pub data: String,
    /// The number of images or samples it was found with.
    pub images: usize,
    /// The standard deviation of the latents along it, which is its length.
    pub spread: f64,
    /// The share of the variance, or of the change of images, that lies along it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained: Option<f64>,
    /// Balanced accuracy of its threshold on images held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Squared correlation with the attribute on images held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r_squared: Option<f64>,
    /// Step of the checkpoint.
    pub step: u64,
    /// Digest of the checkpoint.
    pub checkpoint: String,
}

/// A direction, as long as one standard deviation of the latents along it.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// Its numbers.
    pub vector: Vec<f32>,
    /// What is known of it.
    pub about: About,
}

/// Directions by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directions(pub BTreeMap<String, Direction>);

impl Directions {
    /// Reads a file that [`Directions::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Data`] when it is damaged or holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: String| {
            Error::data(
                path,
                reason,
                "find the directions again with `vermeer directions`",
            )
        };
        if !path.is_file() {
            return Err(Error::settings(
                format!("{}: there are no directions yet", path.display()),
                "find some with `vermeer directions RUN --data LOCATION` or --principal K",
            ));
        }
        let (tensors, texts) = read_safetensors(path)?;
        let mut found = BTreeMap::new();
        for (name, tensor) in tensors {
            let text = texts
                .get(&name)
                .ok_or_else(|| wrong(format!("nothing is said of {name}")))?;
            let about = serde_json::from_str(text)
                .map_err(|error| wrong(format!("what is said of {name}: {error}")))?;
            if tensor.shape.len() != 1 || tensor.data.iter().any(|value| !value.is_finite()) {
                return Err(wrong(format!("{name} is no vector of finite numbers")));
            }
            let vector = tensor.data;
            found.insert(name, Direction { vector, about });
        }
        Ok(Self(found))
    }

    /// Writes the file in one step: a tensor for each name, and in the free texts what is known of
    /// it as JSON.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors = TensorMap::new();
        let mut texts = BTreeMap::new();
        for (name, direction) in &self.0 {
            let about = serde_json::to_string(&direction.about)
                .map_err(|error| Error::Failed(format!("{name} cannot be described: {error}")))?;
            texts.insert(name.clone(), about);
            tensors.insert(
                name.clone(),
                NamedTensor {
                    shape: vec![direction.vector.len()],
                    data: direction.vector.clone(),
                },
            );
        }
        write_safetensors(path, &tensors, &texts)
    }

    /// The direction of this name, if it belongs to a space of `size` numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] with the nearest names when there is none.
    pub fn get(&self, name: &str, space: &str, size: usize) -> Result<&Direction> {
        let Some(direction) = self.0.get(name) else {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            return Err(Error::settings(
                format!("there is no direction {name:?}"),
                crate::registry::suggest(name, &names),
            ));
        };
        match direction.vector.len() == size && direction.about.space == space {
            true => Ok(direction),
            false => Err(Error::settings(
                format!(
                    "{name} has {} numbers in {}, the model's latents have {size} in {space}",
                    direction.vector.len(),
                    direction.about.space
                ),
                "find directions of this run with `vermeer directions`",
            )),
        }
    }
}

/// What directions are looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target<'a> {
    /// Which of the images belong to the class.
    Class(&'a [bool]),
    /// The value of an attribute of every image.
    Attribute(&'a [f32]),
}

impl Target<'_> {
    fn value(&self, row: usize) -> f64 {
        match self {
            Self::Class(members) => f64::from(u8::from(members[row])),
            Self::Attribute(values) => f64::from(values[row]),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Class(members) => members.len(),
            Self::Attribute(values) => values.len(),
        }
    }

    /// The rows to learn from and those that are held out: of each kind every fifth.
    fn split(&self) -> [Vec<usize>; 2] {
        let mut parts = [Vec::new(), Vec::new()];
        let mut seen = [0usize; 2];
        for row in 0..self.len() {
            let kind = match self {
                Self::Class(members) => usize::from(members[row]),
                Self::Attribute(_) => 0,
            };
            seen[kind] += 1;
            parts[usize::from(seen[kind].is_multiple_of(HELD_OUT))].push(row);
        }
        parts
    }
}

/// A direction that was found, and how well it does on images held out.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// As long as one standard deviation of the latents along it.
    pub vector: Vec<f32>,
    /// That deviation.
    pub spread: f64,
    /// For a class the balanced accuracy; `None` when nothing was held out.
    pub accuracy: Option<f64>,
    /// For an attribute the squared correlation; `None` when nothing was held out.
    pub r_squared: Option<f64>,
}

/// The direction of a target among latents `[n, size]`; see the module.
///
/// # Errors
/// [`Error::Settings`] for a method that needs no target, when there is not one target for each
/// latent, for a class of fewer than two images or all of them, an attribute that never changes,
/// and latents that do not change with the target.
pub fn toward(rows: &[f32], size: usize, target: Target, method: Method) -> Result<Found> {
    let n = rows.len().checked_div(size).unwrap_or_default();
    if target.len() != n {
        return Err(Error::settings(
            format!("{n} latents have {} targets", target.len()),
            "give one for each",
        ));
    }
    let [learn, held_out] = target.split();
    let few = || {
        Error::settings(
            "there are too few images of one kind to find a direction",
            format!("give at least {LEAST} images of the class and {LEAST} others"),
        )
    };
    if let Target::Class(members) = target {
        let inside = learn.iter().filter(|row| members[**row]).count();
        if inside < LEAST || learn.len() - inside < LEAST {
            return Err(few());
        }
    }
    if learn.len() < 2 * LEAST {
        return Err(few());
    }
    let part: Vec<f32> = learn
        .iter()
        .flat_map(|row| rows[row * size..(row + 1) * size].iter().copied())
        .collect();
    let values: Vec<f64> = learn.iter().map(|row| target.value(*row)).collect();
    let (covariance, variance) = covariance(&part, size, &values);
    if variance <= 0.0 {
        return Err(Error::settings(
            "the attribute has one value for all images",
            "give images that differ in it",
        ));
    }
    let w = match method {
        Method::Means => covariance.iter().map(|c| c / variance).collect(),
        Method::Classifier => normal(&part, size, &covariance)?,
        Method::Principal | Method::Sensitivity => {
            return Err(Error::settings(
                format!("the method {} looks for no class", method.name()),
                "use means or classifier",
            ));
        }
    };
    let u = unit(&w);
    if u.iter().all(|x| *x == 0.0) {
        return Err(Error::settings(
            "the latents do not change with the target at all",
            "give other images",
        ));
    }
    let along = |row: usize| -> f64 {
        let row = &rows[row * size..(row + 1) * size];
        row.iter().zip(&u).map(|(x, u)| f64::from(*x) * u).sum()
    };
    let learnt: Vec<f64> = learn.iter().map(|row| along(*row)).collect();
    let tried: Vec<f64> = held_out.iter().map(|row| along(*row)).collect();
    let truth: Vec<f64> = held_out.iter().map(|row| target.value(*row)).collect();
    let spread = deviation(&learnt);
    let class = matches!(target, Target::Class(_));
    Ok(Found {
        vector: u.iter().map(|x| (x * spread) as f32).collect(),
        spread,
        accuracy: match class {
            true => balanced(&tried, &truth, threshold(&learnt, &values)),
            false => None,
        },
        r_squared: match class {
            true => None,
            false => squared_correlation(&tried, &truth),
        },
    })
}

/// cov(z, t) and var(t), with the divisor n.
fn covariance(rows: &[f32], size: usize, values: &[f64]) -> (Vec<f64>, f64) {
    let share = 1.0 / values.len() as f64;
    let centre: f64 = values.iter().sum::<f64>() * share;
    let middle = mean(rows, size);
    let mut covariance = vec![0.0; size];
    for (row, value) in rows.chunks_exact(size).zip(values) {
        for ((sum, x), mean) in covariance.iter_mut().zip(row).zip(&middle) {
            *sum += share * (value - centre) * (f64::from(*x) - mean);
        }
    }
    let variance = values.iter().map(|v| share * (v - centre).powi(2)).sum();
    (covariance, variance)
}

/// (Σ + ridge)⁻¹ c through the eigenvectors of Σ; c lies in their span.
fn normal(rows: &[f32], size: usize, covariance: &[f64]) -> Result<Vec<f64>> {
    let principal = Principal::of(rows, size, size)?;
    let ridge = RIDGE * principal.total / size as f64;
    let mut w = vec![0.0; size];
    for (direction, variance) in principal.directions.iter().zip(&principal.variances) {
        let share: f64 = direction.iter().zip(covariance).map(|(d, c)| d * c).sum();
        for (w, d) in w.iter_mut().zip(direction) {
            *w += share / (variance + ridge) * d;
        }
    }
    Ok(w)
}

fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Half way between the means of both kinds.
fn threshold(along: &[f64], kinds: &[f64]) -> f64 {
    let mean = |kind: f64| {
        let own = along.iter().zip(kinds).filter(|(_, k)| **k == kind);
        let (sum, count) = own.fold((0.0f64, 0.0f64), |(sum, count), (x, _)| {
            (sum + x, count + 1.0)
        });
        sum / count.max(1.0)
    };
    0.5 * (mean(0.0) + mean(1.0))
}

/// The mean of the shares of both kinds that lie on their side of the threshold.
fn balanced(along: &[f64], kinds: &[f64], threshold: f64) -> Option<f64> {
    let share = |kind: f64| {
        let own: Vec<bool> = along
            .iter()
            .zip(kinds)
            .filter(|(_, k)| **k == kind)
            .map(|(x, _)| (*x > threshold) == (kind == 1.0))
            .collect();
        let right = own.iter().filter(|right| **right).count();
        (!own.is_empty()).then(|| right as f64 / own.len() as f64)
    };
    Some(0.5 * (share(0.0)? + share(1.0)?))
}

fn squared_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
    };
    let both = product(a, ma, a, ma) * product(b, mb, b, mb);
    (a.len() > 1 && both > 0.0).then(|| product(a, ma, b, mb).powi(2) / both)
}

#[cfg(test)]
mod tests;
