//! What the honesty checks share: real images as a run saw them, and the passport of a finding.

use std::sync::Arc;

use vermeer_image::Image;
use vermeer_image::features::Extractor;

use super::passport::{Passport, Side};
use super::subject::Subject;
use crate::Result;
use crate::data::{Description, Preprocess, Sample, Source};

/// Images of a data set, prepared as those were that a run learnt from.
struct Seen {
    source: Arc<dyn Source>,
    preprocess: Preprocess,
}

impl Source for Seen {
    fn describe(&self) -> &Description {
        self.source.describe()
    }

    fn len(&self) -> usize {
        self.source.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let sample = self.source.get(index)?;
        let rule = &self.preprocess;
        let unit = rule.apply(&sample.image)?;
        Ok(Sample {
            image: Image::from_unit_chw(&unit, rule.channels, rule.height, rule.width)?,
            ..sample
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    /// Covers the digest of the data set and the preparation.
    fn digest(&self) -> Result<String> {
        let text = format!("{} {:?}", self.source.digest()?, self.preprocess);
        Ok(crate::sha256_hex(text.as_bytes()))
    }
}

/// The images of a data set as the run saw them whose samples are judged: at its size, cut or
/// padded in its way, so that pixels and spectra can be compared. `None` where there is no run, or
/// no data set; then images are taken as they are.
pub fn as_seen_by(samples: &Subject, images: &Subject) -> Option<Subject> {
    let (
        Subject::Run(run),
        Subject::Source {
            source,
            images,
            drawn,
        },
    ) = (samples, images)
    else {
        return None;
    };
    Some(Subject::Source {
        source: Arc::new(Seen {
            source: Arc::clone(source),
            preprocess: run.model.usage.preprocess.clone(),
        }),
        images: images.clone(),
        drawn: *drawn,
    })
}

/// How images were stored before they were looked at.
pub(super) fn storage(prepared: bool) -> &'static str {
    match prepared {
        true => "8-bit, alpha dropped, real images prepared as the run's own",
        false => "8-bit, alpha dropped",
    }
}

/// The passport of a finding about samples of one side against real images of another; without a
/// network the pixels themselves were looked at. `prepared` says that the real images were made
/// what a run saw ([`as_seen_by`]).
pub(super) fn passport(
    protocol: String,
    [samples, real]: [&Side; 2],
    extractor: Option<&Extractor>,
    prepared: bool,
    seed: u32,
) -> Passport {
    let text = |of: fn(&Extractor) -> String, absent: &str| -> String {
        extractor.map_or_else(|| absent.to_owned(), of)
    };
    Passport {
        protocol,
        generated: samples.clone(),
        real: Some(real.clone()),
        network: text(|extractor| extractor.name().to_owned(), ""),
        network_sha256: text(|extractor| extractor.sha256().to_owned(), ""),
        resize: text(|extractor| extractor.resize(), "none"),
        input: text(|extractor| extractor.input().to_owned(), "grey levels"),
        storage: storage(prepared).to_owned(),
        seed: u64::from(seed),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use vermeer_image::{Filter, Pixels};

    use super::*;
    use crate::data::{Fit, MemorySource};

    /// Two images of two pixels.
    fn source() -> MemorySource {
        let description = Description {
            classes: vec!["one".to_owned()],
            ..Description::default()
        };
        let pixels = Pixels::U8(vec![10, 20, 30, 40]);
        MemorySource::new(description, [1, 2, 1], pixels, Some(vec![0, 0]), vec![]).unwrap()
    }

    #[test]
    fn images_are_prepared_as_the_run_did() {
        let seen = |width: usize| Seen {
            source: Arc::new(source()),
            preprocess: Preprocess {
                height: 1,
                width,
                channels: 1,
                fit: Fit::Pad,
                filter: Filter::Bilinear,
                background: [0; 3],
                flip: true,
            },
        };
        let padded = seen(4);
        let sample = padded.get(1).unwrap();
        assert_eq!(sample.image.pixels(), &Pixels::U8(vec![0, 30, 40, 0]));
        assert_eq!((padded.len(), padded.label(1)), (2, Some(0)));
        assert_ne!(padded.digest().unwrap(), seen(5).digest().unwrap());
        assert_eq!(padded.digest().unwrap(), seen(4).digest().unwrap());
    }

    #[test]
    fn a_finding_without_a_network_says_so() {
        let side = |location: &str| Side {
            location: location.to_owned(),
            ..Side::default()
        };
        let found = passport(
            "spectrum".to_owned(),
            [&side("a"), &side("b")],
            None,
            true,
            7,
        );
        assert_eq!(
            (found.network.as_str(), found.resize.as_str()),
            ("", "none")
        );
        assert_eq!((found.generated.location.as_str(), found.seed), ("a", 7));
        assert!(found.storage.contains("as the run's own"));
    }
}
