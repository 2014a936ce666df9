//! Images of one size, whatever size a run works at.

use std::sync::Arc;

use vermeer_image::{Image, crop};

use crate::Result;
use crate::data::{Description, Fit, Preprocess, Sample, Source};

/// Images brought to the size of a comparison.
struct OneSize {
    source: Arc<dyn Source>,
    /// Height and width of what is not padding, in the middle of each image.
    content: Option<[usize; 2]>,
    rule: Preprocess,
    description: Description,
}

/// The images of `source` as `rule` prepares them. Where `content` is said, only that many rows and
/// columns in the middle of each image are taken first ([`unpadded`]). They are told to lie at
/// `location`, or where they do if that is not said.
pub fn at_one_size(
    source: Arc<dyn Source>,
    location: Option<&str>,
    content: Option<[usize; 2]>,
    rule: &Preprocess,
) -> Arc<dyn Source> {
    let mut description = source.describe().clone();
    if let Some(location) = location {
        description.location = location.to_owned();
    }
    Arc::new(OneSize {
        source,
        content,
        rule: rule.clone(),
        description,
    })
}

/// Height and width of what is not padding in the samples of a run that prepares images by `own`,
/// for real images of the height and width `stored`. `None` where nothing was padded, and where
/// `rule` pads as the run does, so that the margins are compared too.
pub fn unpadded(own: &Preprocess, rule: &Preprocess, stored: [usize; 2]) -> Option<[usize; 2]> {
    let whole = [own.height, own.width];
    let alike = whole == [rule.height, rule.width]
        && own.fit == rule.fit
        && own.background == rule.background;
    if own.fit != Fit::Pad || alike || stored.contains(&0) {
        return None;
    }
    // Larger images are scaled down until they fit; smaller ones keep their size.
    let [down, across] = [0, 1].map(|side| whole[side] as f64 / stored[side] as f64);
    let ratio = down.min(across).min(1.0);
    let inside = [0, 1].map(|side| {
        let scaled = (stored[side] as f64 * ratio).round() as usize;
        scaled.clamp(1, whole[side])
    });
    (inside != whole).then_some(inside)
}

impl Source for OneSize {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn len(&self) -> usize {
        self.source.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let mut sample = self.source.get(index)?;
        if let Some([height, width]) = self.content {
            let image = &sample.image;
            let left = image.width().saturating_sub(width) / 2;
            let top = image.height().saturating_sub(height) / 2;
            sample.image = crop(image, left, top, width, height)?;
        }
        let rule = &self.rule;
        let unit = rule.apply(&sample.image)?;
        sample.image = Image::from_unit_chw(&unit, rule.channels, rule.height, rule.width)?;
        Ok(sample)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    /// Covers the digest of the images and the preparation.
    fn digest(&self) -> Result<String> {
        let text = format!(
            "{} {:?} {:?}",
            self.source.digest()?,
            self.content,
            self.rule
        );
        Ok(crate::sha256_hex(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use vermeer_image::{Filter, Pixels};

    use super::*;
    use crate::data::MemorySource;

    fn rule(side: usize, fit: Fit) -> Preprocess {
        Preprocess {
            height: side,
            width: side,
            channels: 1,
            fit,
            filter: Filter::Bicubic,
            background: [0; 3],
            flip: false,
        }
    }

    #[test]
    fn padding_is_taken_off_where_the_comparison_has_none() {
        for (own, compared, stored, expected) in [
            // A run at 32 that padded images of 28, compared at 28.
            ((32, Fit::Pad), (28, Fit::Pad), [28, 28], Some([28, 28])),
            // The same compared as it is.
            ((32, Fit::Pad), (32, Fit::Pad), [28, 28], None),
            // Scaled images have no padding.
            ((32, Fit::Crop), (28, Fit::Pad), [28, 28], None),
            ((32, Fit::Stretch), (28, Fit::Pad), [20, 28], None),
            // Larger images were scaled down: 64x32 becomes 32x16.
            ((32, Fit::Pad), (16, Fit::Pad), [64, 32], Some([32, 16])),
            ((32, Fit::Pad), (16, Fit::Pad), [64, 64], None),
        ] {
            let found = unpadded(&rule(own.0, own.1), &rule(compared.0, compared.1), stored);
            assert_eq!(found, expected, "{own:?} {compared:?} {stored:?}");
        }
    }

    #[test]
    fn images_come_at_one_size_with_their_labels() {
        let mut pixels = vec![0; 16];
        for place in [5, 6, 9, 10] {
            pixels[place] = 200;
        }
        let about = Description {
            location: "x.npz".to_owned(),
            classes: vec!["a".to_owned()],
            ..Description::default()
        };
        let source =
            MemorySource::new(about, [4, 4, 1], Pixels::U8(pixels), Some(vec![0]), vec![]).unwrap();
        let source: Arc<dyn Source> = Arc::new(source);
        let inside = at_one_size(
            Arc::clone(&source),
            Some("runs/x"),
            Some([2, 2]),
            &rule(2, Fit::Pad),
        );
        let sample = inside.get(0).unwrap();
        assert_eq!(sample.label, Some(0));
        assert!(matches!(sample.image.to_8_bit().pixels(), Pixels::U8(p) if *p == [200; 4]));
        assert_eq!(inside.describe().location, "runs/x");
        let whole = at_one_size(source, None, None, &rule(4, Fit::Pad));
        assert_eq!(whole.describe().location, "x.npz");
        assert_ne!(whole.digest().unwrap(), inside.digest().unwrap());
    }
}
