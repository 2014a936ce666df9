//! How near generated images are to real ones, in features: pairs to look at, and distances to
//! compare.

use vermeer_image::metrics::Features;
use vermeer_image::metrics::neighbours::{Neighbour, nearest};

use super::Histogram;
use crate::error::Result;

/// A generated image and the real one nearest to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearPair {
    /// The number of the generated image.
    pub generated: usize,
    /// The number of the real image.
    pub real: usize,
    /// The Euclidean distance of their features.
    pub distance: f64,
}

/// Distances of images to their nearest real image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nearness {
    /// The nearest real image of each generated image.
    pub generated: Vec<Neighbour>,
    /// Distances of held-out images to their nearest real image; empty without such images.
    pub heldout: Vec<f64>,
    /// Distances of real images to their nearest other real image.
    pub real: Vec<f64>,
}

/// The nearest real image of every generated and every held-out image, and of as many real images
/// as there are generated ones, evenly spread over the set, the nearest other real image. The real
/// images are those the model was trained on, if copies are looked for.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) for fewer than two real images, features of different
/// lengths, and features that cannot be read.
pub fn nearness(
    generated: &Features,
    real: &Features,
    heldout: Option<&Features>,
) -> Result<Nearness> {
    let to_real = |queries: &Features| -> Result<Vec<Neighbour>> {
        Ok(nearest(queries, real, 1, false)?.concat())
    };
    let heldout = match heldout {
        Some(heldout) => to_real(heldout)?,
        None => Vec::new(),
    };
    let count = real.len().min(generated.len());
    let rows: Vec<usize> = (0..count).map(|i| i * real.len() / count).collect();
    let found = nearest(&real.select(&rows)?, real, 2, false)?;
    // A row finds itself unless two others equal it; then the first of them is as near.
    let others = rows.iter().zip(&found).filter_map(|(row, found)| {
        let other = found.iter().find(|neighbour| neighbour.index != *row);
        other.map(|neighbour| neighbour.distance)
    });
    Ok(Nearness {
        generated: to_real(generated)?,
        heldout: heldout.iter().map(|neighbour| neighbour.distance).collect(),
        real: others.collect(),
    })
}

impl Nearness {
    /// The `how_many` generated images that are nearest to a real one, nearest first; of equally
    /// near ones the first comes first.
    pub fn pairs(&self, how_many: usize) -> Vec<NearPair> {
        let mut pairs: Vec<NearPair> = self
            .generated
            .iter()
            .enumerate()
            .map(|(generated, neighbour)| NearPair {
                generated,
                real: neighbour.index,
                distance: neighbour.distance,
            })
            .collect();
        pairs.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        pairs.truncate(how_many);
        pairs
    }

    /// The distances of generated, held-out and real images, side by side; `network` is what the
    /// features come from.
    pub fn histogram(&self, network: &str) -> Histogram {
        let generated: Vec<f64> = self
            .generated
            .iter()
            .map(|neighbour| neighbour.distance)
            .collect();
        let series = [
            ("generated images", generated),
            ("held-out real images", self.heldout.clone()),
            ("real images, to another", self.real.clone()),
        ];
        Histogram {
            title: "Distance to the nearest real image".to_owned(),
            unit: format!("distance of {network} features"),
            series: series
                .into_iter()
                .filter(|(_, values): &(&str, Vec<f64>)| !values.is_empty())
                .map(|(name, values)| (name.to_owned(), values))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    #[test]
    fn distances_on_a_line() {
        // By hand.
        let real = line(&[0.0, 10.0, 4.0, 4.0, 5.0]);
        let found = nearness(&line(&[4.5, 100.0, 9.0]), &real, Some(&line(&[3.0]))).unwrap();
        let pair = |generated, real, distance| NearPair {
            generated,
            real,
            distance,
        };
        assert_eq!(found.pairs(2), [pair(0, 2, 0.5), pair(2, 1, 1.0)]);
        assert_eq!(found.pairs(9).len(), 3);
        assert_eq!(found.heldout, [1.0]);
        // Of five real images the rows 0, 1 and 3.
        assert_eq!(found.real, [4.0, 5.0, 0.0]);
        let histogram = found.histogram("pixels");
        let names: Vec<&str> = histogram
            .series
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "generated images",
                "held-out real images",
                "real images, to another"
            ]
        );
        assert_eq!(histogram.series[0].1, [0.5, 90.0, 1.0]);
        assert!(histogram.unit.contains("pixels"));
    }

    #[test]
    fn without_images_to_compare_there_is_an_error() {
        let set = line(&[1.0]);
        assert!(nearness(&set, &set, None).is_err());
        let found = nearness(&set, &line(&[1.0, 1.0, 1.0]), None).unwrap();
        assert_eq!((found.generated[0].distance, found.real[0]), (0.0, 0.0));
        assert_eq!(found.histogram("x").series.len(), 2);
    }
}
