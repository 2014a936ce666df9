//! Pictures of a space of latents in two dimensions.
//!
//! [`scatter`] shows where images lie: a dot for each, coloured by its class, and small pictures of
//! some of them. [`manifold`] decodes a grid of latents of two numbers, whose places are the
//! quantiles of the prior, so that the picture shows equally likely latents (Kingma and Welling,
//! 2014, figure 4).

use vermeer_image::metrics::interval::normal_quantile;
use vermeer_image::{Grid, Image, Pixels};

use super::{Kind, Space};
use crate::task::SampleOptions;
use crate::{Error, Result};

/// Colours of classes, as far apart as ten colours on white can be.
const COLOURS: [[u8; 3]; 10] = [
    [31, 119, 180],
    [255, 127, 14],
    [44, 160, 44],
    [214, 39, 40],
    [148, 103, 189],
    [140, 86, 75],
    [227, 119, 194],
    [90, 90, 90],
    [188, 189, 34],
    [23, 190, 207],
];
/// Half the side of a dot, in pixels.
const DOT: usize = 2;
/// Pixels around the plot.
const MARGIN: usize = 16;
/// Images decoded at a time.
const BATCH: usize = 64;

/// The colour of a class; from the eleventh on colours come again.
pub fn colour(class: u32) -> [u8; 3] {
    COLOURS[class as usize % COLOURS.len()]
}

/// Points of a plane with what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Points<'a> {
    /// Right and up.
    pub places: &'a [[f64; 2]],
    /// The class of each, where all have one.
    pub labels: Option<&'a [u32]>,
    /// Small pictures of the first points, of one size; there may be none.
    pub pictures: &'a [Image],
}

/// An RGB picture of points, `side` × `side`: pictures first, where there is room for them, in
/// frames of their class's colour, and all points as dots.
///
/// # Errors
/// [`Error::Settings`] without points, for fewer labels than points, points that are not finite, a
/// side of less than 64 pixels or pictures larger than a quarter of it.
pub fn scatter(points: &Points, side: usize) -> Result<Image> {
    let wrong = |message: String| Error::settings(message, "give other images or another size");
    let Points {
        places,
        labels,
        pictures,
    } = points;
    if places.is_empty() || places.iter().flatten().any(|x| !x.is_finite()) {
        return Err(wrong("a map needs points with finite places".into()));
    }
    if labels.is_some_and(|labels| labels.len() != places.len()) || pictures.len() > places.len() {
        return Err(wrong(format!(
            "{} points do not have a label and a picture each",
            places.len()
        )));
    }
    let frame = pictures
        .iter()
        .map(|picture| picture.width().max(picture.height()) + 2)
        .max()
        .unwrap_or(0);
    if side < 64 || 4 * frame > side {
        return Err(wrong(format!(
            "a map of {side} pixels with pictures of {frame}"
        )));
    }
    let mut canvas = Canvas::new(side, side);
    let scale = Scale::of(places, side);
    let ink = |point: usize| labels.map_or(COLOURS[0], |labels| colour(labels[point]));
    // Where the centres of the pictures are, one in each cell that would cover it.
    let mut taken: Vec<[usize; 2]> = Vec::new();
    for (point, picture) in pictures.iter().enumerate() {
        let [x, y] = scale.pixel(places[point]);
        let near =
            |other: &[usize; 2]| other[0].abs_diff(x) < frame && other[1].abs_diff(y) < frame;
        if taken.iter().any(near) {
            continue;
        }
        taken.push([x, y]);
        let (width, height) = (picture.width() + 2, picture.height() + 2);
        let left = x.saturating_sub(width / 2).min(side - width);
        let top = y.saturating_sub(height / 2).min(side - height);
        canvas.fill([left, top], [width, height], ink(point));
        canvas.paste([left + 1, top + 1], picture)?;
    }
    for (point, place) in places.iter().enumerate() {
        let [x, y] = scale.pixel(*place);
        let size = [2 * DOT + 1; 2];
        canvas.fill([x - DOT, y - DOT], size, ink(point));
    }
    canvas.image()
}

/// A row of colours with the names of their classes under them, to lie under a map of that width.
///
/// # Errors
/// [`Error::Image`] without classes.
pub fn legend(classes: &[String], width: usize) -> Result<Image> {
    let swatch = |class: usize| {
        let samples = colour(class as u32).repeat(SWATCH[0] * SWATCH[1]);
        Image::new(SWATCH[0], SWATCH[1], 3, Pixels::U8(samples))
    };
    let swatches: Vec<Image> = (0..classes.len())
        .map(swatch)
        .collect::<vermeer_image::Result<_>>()?;
    let columns = (width.saturating_sub(2) / (SWATCH[0] + 2)).max(1);
    let sheet = Grid::default()
        .with_columns(columns)
        .with_background(255)
        .draw(&swatches, Some(classes))?;
    Ok(sheet)
}

/// Width and height of a colour in the legend: room for ten letters.
const SWATCH: [usize; 2] = [64, 10];

/// RGB pictures below each other on white, as wide as the widest.
///
/// # Errors
/// [`Error::Image`] for pictures that are not 8-bit RGB.
pub fn stacked(pictures: &[Image]) -> Result<Image> {
    let width = pictures.iter().map(Image::width).max().unwrap_or(0);
    let height = pictures.iter().map(Image::height).sum();
    let mut canvas = Canvas::new(width, height);
    let mut top = 0;
    for picture in pictures {
        canvas.paste([0, top], picture)?;
        top += picture.height();
    }
    canvas.image()
}

/// The images of `side` × `side` latents of two numbers, from the top left: the first number grows
/// to the right and the second upwards, both through the quantiles (i + ½) / side of the standard
/// normal.
///
/// # Errors
/// [`Error::Settings`] for latents of another size and for other spaces; those of the model.
pub fn manifold(space: &Space, side: usize, options: &SampleOptions) -> Result<Vec<Image>> {
    if space.kind() != Kind::Latents || space.size() != 2 || side == 0 {
        return Err(Error::settings(
            format!(
                "a grid shows latents z of 2 numbers, these are {} of {}",
                space.name(),
                space.size()
            ),
            "train a model with model.latent = 2",
        ));
    }
    let at = |i: usize| normal_quantile((i as f64 + 0.5) / side as f64) as f32;
    let latents: Vec<f32> = (0..side * side)
        .flat_map(|i| [at(i % side), at(side - 1 - i / side)])
        .collect();
    let mut images = Vec::with_capacity(side * side);
    for part in latents.chunks(2 * BATCH) {
        let made = space.images(part, 0, std::slice::from_ref(options))?;
        images.extend(made.to_images()?);
    }
    Ok(images)
}

/// From places to pixels: both axes fill the plot, and up is up.
struct Scale {
    low: [f64; 2],
    factor: [f64; 2],
    side: usize,
}

impl Scale {
    fn of(places: &[[f64; 2]], side: usize) -> Self {
        let room = (side - 1 - 2 * MARGIN) as f64;
        let axis = |i: usize| {
            let values = places.iter().map(|place| place[i]);
            let low = values.clone().fold(f64::INFINITY, f64::min);
            let high = values.fold(f64::NEG_INFINITY, f64::max);
            (low, room / (high - low).max(f64::MIN_POSITIVE))
        };
        let ((x, across), (y, up)) = (axis(0), axis(1));
        Self {
            low: [x, y],
            // All points on a line stay on its start.
            factor: [across, up].map(|f| if f.is_finite() { f } else { 0.0 }),
            side,
        }
    }

    fn pixel(&self, place: [f64; 2]) -> [usize; 2] {
        let along =
            |i: usize| MARGIN + ((place[i] - self.low[i]) * self.factor[i]).round() as usize;
        [along(0), self.side - 1 - along(1)]
    }
}

/// A white RGB picture in the making.
struct Canvas {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            samples: vec![255; 3 * width * height],
        }
    }

    /// Fills a rectangle, as far as it lies inside.
    fn fill(&mut self, [left, top]: [usize; 2], [width, height]: [usize; 2], ink: [u8; 3]) {
        for y in top..(top + height).min(self.height) {
            for x in left..(left + width).min(self.width) {
                let at = 3 * (y * self.width + x);
                self.samples[at..at + 3].copy_from_slice(&ink);
            }
        }
    }

    /// Copies a picture that lies inside.
    fn paste(&mut self, [left, top]: [usize; 2], picture: &Image) -> Result<()> {
        let colour = picture.to_8_bit().with_channels(3, [255; 3])?;
        let (width, height) = (colour.width(), colour.height());
        let Pixels::U8(samples) = colour.into_pixels() else {
            return Err(Error::Failed("a picture of bytes is not one".into()));
        };
        for y in 0..height.min(self.height.saturating_sub(top)) {
            let length = 3 * width.min(self.width.saturating_sub(left));
            let to = 3 * ((top + y) * self.width + left);
            let from = 3 * y * width;
            self.samples[to..to + length].copy_from_slice(&samples[from..from + length]);
        }
        Ok(())
    }

    fn image(self) -> Result<Image> {
        let samples = Pixels::U8(self.samples);
        Ok(Image::new(self.width, self.height, 3, samples)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Linear;
    use super::*;

    fn pixel(image: &Image, x: usize, y: usize) -> [u8; 3] {
        let Pixels::U8(samples) = image.pixels() else {
            panic!("not bytes");
        };
        let at = 3 * (y * image.width() + x);
        [samples[at], samples[at + 1], samples[at + 2]]
    }

    #[test]
    fn points_lie_where_they_belong() {
        // Low left, high right, and a picture on the first.
        let grey = Image::new(8, 6, 1, Pixels::U8(vec![100; 48])).unwrap();
        let points = Points {
            places: &[[-1.0, 0.0], [1.0, 10.0], [0.0, 5.0]],
            labels: Some(&[0, 11, 2]),
            pictures: std::slice::from_ref(&grey),
        };
        let map = scatter(&points, 101).unwrap();
        assert_eq!((map.width(), map.height(), map.channels()), (101, 101, 3));
        assert_eq!(pixel(&map, MARGIN, 100 - MARGIN), COLOURS[0]);
        assert_eq!(pixel(&map, 100 - MARGIN, MARGIN), COLOURS[1]);
        assert_eq!(pixel(&map, 50, 50), COLOURS[2]);
        assert_eq!(pixel(&map, 50, 80), [255; 3]);
        // The picture begins 4 pixels to the left of its point, in a frame.
        assert_eq!(pixel(&map, MARGIN - 4, 100 - MARGIN), [100; 3]);
        assert_eq!(pixel(&map, MARGIN - 5, 100 - MARGIN), COLOURS[0]);

        let one = Points {
            places: &[[2.0, 2.0]],
            ..Points::default()
        };
        assert!(scatter(&one, 64).is_ok());
        let wrong = [
            (Points::default(), 100),
            (one.clone(), 63),
            (
                Points {
                    labels: Some(&[0, 1]),
                    ..one.clone()
                },
                100,
            ),
            (
                Points {
                    pictures: &[grey],
                    ..one
                },
                38,
            ),
        ];
        for (points, side) in wrong {
            assert!(scatter(&points, side).is_err());
        }
    }

    #[test]
    fn a_legend_lies_under_a_map() {
        let classes = ["a", "b", "c"].map(str::to_owned);
        let legend = legend(&classes, 140).unwrap();
        // Two in a row of 2 + 66 · 2 pixels.
        assert_eq!(legend.width(), 134);
        assert_eq!(pixel(&legend, 3, 3), COLOURS[0]);
        let both = stacked(&[legend.clone(), legend.clone()]).unwrap();
        assert_eq!(both.height(), 2 * legend.height());
        assert_eq!(pixel(&both, 70, legend.height() + 3), COLOURS[1]);
    }

    #[test]
    fn a_grid_is_even_in_the_prior() {
        // Both pixels are ½ + z/10; Φ⁻¹(1/4) = −0.674490.
        let model = Linear {
            matrix: vec![0.1, 0.0, 0.0, 0.1],
            size: 2,
            classes: false,
        };
        let space = Space::of(&model).unwrap();
        let images = manifold(&space, 2, &SampleOptions::default()).unwrap();
        let low = ((0.5 - 0.067_449) * 255.0f64).round() as u8;
        let high = ((0.5 + 0.067_449) * 255.0f64).round() as u8;
        let found: Vec<Pixels> = images.into_iter().map(Image::into_pixels).collect();
        let expected = [[low, high], [high, high], [low, low], [high, low]];
        assert_eq!(found, expected.map(|pixels| Pixels::U8(pixels.to_vec())));
        let line = Linear {
            matrix: vec![0.1],
            size: 1,
            classes: false,
        };
        let line = Space::of(&line).unwrap();
        assert!(manifold(&line, 2, &SampleOptions::default()).is_err());
    }
}
