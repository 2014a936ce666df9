//! What the page of an evaluation shows, from what was measured.

use vermeer::Result;
use vermeer::evaluate::{
    self, Difference, Measured, NeighbourPair, Page, PairedImages, Set, Subject, nearness,
    size_curve,
};
use vermeer_image::Image;
use vermeer_image::metrics::{Progress, difference};

/// Images in a grid, at most.
const GRID: usize = 64;
/// Samples that are shown beside their nearest real image, at most.
const NEIGHBOURS: usize = 24;
/// Images that a curve over their number takes.
const CURVE: u64 = 8;
/// Pairs whose maps are shown, at most.
const MAPS: usize = 16;

/// Sets that were measured, with what was read of them.
pub(super) struct Sets {
    /// The network that looked at them.
    pub network: String,
    /// What is judged.
    pub generated: (Subject, Set),
    /// What it should be like.
    pub real: Option<(Subject, Set)>,
}

/// What there is to show.
pub(super) struct Contents<'a> {
    pub title: String,
    pub command: &'a str,
    pub values: &'a [Measured],
    pub differences: &'a [Difference],
    pub sets: Option<&'a Sets>,
    pub maps: Vec<(String, Image)>,
    pub seed: u32,
}

/// The page as HTML.
///
/// # Errors
/// Those of reading images and features again.
pub(super) fn page(contents: &Contents, progress: Progress) -> Result<String> {
    let (mut generated, mut real) = (Vec::new(), Vec::new());
    let (mut neighbours, mut histograms, mut curves) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(sets) = contents.sets {
        let (subject, set) = &sets.generated;
        generated = some(subject)?;
        if let Some((real_subject, real_set)) = &sets.real {
            real = some(real_subject)?;
            let features = set.extraction.as_ref().zip(real_set.extraction.as_ref());
            if let Some((ours, theirs)) = features {
                let found = nearness(&ours.features, &theirs.features, None)?;
                neighbours = nearest_images(&found.pairs(NEIGHBOURS), subject, real_subject)?;
                histograms.push(found.histogram(&sets.network));
            }
            let distance = contents.values.iter().find(|value| value.metric == "fid");
            let enough = set.side.images >= CURVE;
            if let (Some(value), Some(ours), true) = (distance, &set.extraction, enough) {
                let infinite = format!("{}_infinity", value.name);
                let infinite = contents.values.iter().find(|value| value.name == infinite);
                curves.push(size_curve(
                    value.name.clone(),
                    &ours.features,
                    &real_set.moments()?,
                    infinite.map(|value| value.value),
                    contents.seed,
                    progress,
                )?);
            }
        }
    }
    evaluate::page(&Page {
        title: contents.title.clone(),
        command: contents.command,
        measured: contents.values,
        differences: contents.differences,
        generated: &generated,
        real: (!real.is_empty()).then_some(real.as_slice()),
        neighbours: &neighbours,
        histograms: &histograms,
        curves: &curves,
        maps: &contents.maps,
        ..Page::default()
    })
}

/// Images evenly spread over a set; none of statistics.
fn some(subject: &Subject) -> Result<Vec<Image>> {
    if matches!(subject, Subject::Statistics(_)) {
        return Ok(Vec::new());
    }
    let all = subject.len() as usize;
    let count = all.min(GRID);
    let places: Vec<usize> = match subject {
        // Samples are made in blocks, and any are as good as others.
        Subject::Run(_) => (0..count).collect(),
        _ => (0..count).map(|i| i * all / count).collect(),
    };
    Ok(subject
        .get(&places)?
        .into_iter()
        .map(|(image, _)| image)
        .collect())
}

fn nearest_images(
    pairs: &[evaluate::NearPair],
    generated: &Subject,
    real: &Subject,
) -> Result<Vec<NeighbourPair>> {
    let ours: Vec<usize> = pairs.iter().map(|pair| pair.generated).collect();
    let theirs: Vec<usize> = pairs.iter().map(|pair| pair.real).collect();
    let images = generated.get(&ours)?.into_iter().zip(real.get(&theirs)?);
    let pairs = images
        .zip(pairs)
        .map(|((sample, neighbour), pair)| NeighbourPair {
            sample: sample.0,
            sample_name: sample.1,
            neighbour: neighbour.0,
            neighbour_name: neighbour.1,
            distance: pair.distance,
        });
    Ok(pairs.collect())
}

/// Where the first pairs differ.
///
/// # Errors
/// Those of reading the pairs.
pub(super) fn maps(images: &PairedImages) -> Result<Vec<(String, Image)>> {
    let shown: Result<Vec<[(String, Image); 3]>> = (0..images.len().min(MAPS))
        .map(|index| {
            let pair = images.read(index)?;
            let [ours, original] = &pair.images;
            let map = difference(ours, original)?;
            let name = images.name(index);
            Ok([
                (format!("{name}: judged"), ours.clone()),
                (format!("{name}: original"), original.clone()),
                (
                    format!(
                        "{name}: levels apart, from black for 0 to yellow for {:.0} and more",
                        map.full_scale
                    ),
                    map.picture,
                ),
            ])
        })
        .collect();
    Ok(shown?.into_iter().flatten().collect())
}
