//! The pictures of a page: grids of images, nearest neighbours, and maps.

use vermeer_image::{Filter, Image, encode_png, resize};

use super::axis::number;
use crate::error::Result;
use crate::report::{escape, image, push};

/// Images of a grid that are shown.
const MOST: usize = 64;

/// The longer side of an image in a grid, at most.
const TILE: usize = 256;

/// The longer side of a map, at most.
const MAP: usize = 1024;

/// Below this side single pixels are shown with sharp edges.
const FEW_PIXELS: usize = 96;

/// A generated image beside the real one nearest to it.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighbourPair {
    /// The generated image.
    pub sample: Image,
    /// What it is called, such as its number or file.
    pub sample_name: String,
    /// The real image.
    pub neighbour: Image,
    /// What it is called.
    pub neighbour_name: String,
    /// How far they are apart.
    pub distance: f64,
}

/// Some images of a set; `what` says which, such as `generated`.
pub(super) fn grid(page: &mut String, what: &str, images: &[Image]) -> Result<()> {
    let shown = &images[..images.len().min(MOST)];
    if shown.is_empty() {
        return Ok(());
    }
    let count = shown.len();
    push(
        page,
        format_args!(
            "<h3>{count} {what} {}</h3>\n<ul class=\"tiles{}\">\n",
            if count == 1 { "image" } else { "images" },
            sharpness(shown.iter())
        ),
    );
    for (at, one) in shown.iter().enumerate() {
        page.push_str("<li>");
        tile(page, &format!("{what} image {}", at + 1), one)?;
        page.push_str("</li>\n");
    }
    page.push_str("</ul>\n");
    Ok(())
}

/// Pairs of a generated image and its nearest real one.
pub(super) fn neighbours(page: &mut String, pairs: &[NeighbourPair]) -> Result<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    let images = pairs
        .iter()
        .flat_map(|pair| [&pair.sample, &pair.neighbour]);
    push(
        page,
        format_args!(
            "<h2>Nearest neighbours</h2>\n<p>Left a generated image, right the real image nearest \
             to it. A small distance alone is no proof of a copy: simple images are near each \
             other. <code>vermeer eval memorization</code> compares with images held out.</p>\n\
             <ul class=\"tiles pairs{}\">\n",
            sharpness(images)
        ),
    );
    for pair in pairs {
        page.push_str("<li>");
        tile(page, &pair.sample_name, &pair.sample)?;
        tile(page, &pair.neighbour_name, &pair.neighbour)?;
        push(
            page,
            format_args!(
                "<p>{} and {}<br>distance {}</p></li>\n",
                escape(&pair.sample_name),
                escape(&pair.neighbour_name),
                number(pair.distance)
            ),
        );
    }
    page.push_str("</ul>\n");
    Ok(())
}

/// Named pictures.
pub(super) fn maps(page: &mut String, maps: &[(String, Image)]) -> Result<()> {
    if maps.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>Maps</h2>\n");
    for (name, map) in maps {
        page.push_str("<figure>\n");
        image(page, name, "image/png", &png(map, MAP)?);
        push(
            page,
            format_args!("\n<figcaption>{}</figcaption>\n</figure>\n", escape(name)),
        );
    }
    Ok(())
}

fn tile(page: &mut String, name: &str, one: &Image) -> Result<()> {
    image(page, name, "image/png", &png(one, TILE)?);
    Ok(())
}

/// A class for images of few pixels, when all are.
fn sharpness<'a>(mut images: impl Iterator<Item = &'a Image>) -> &'static str {
    match images.all(|image| image.width().max(image.height()) < FEW_PIXELS) {
        true => " pixels",
        false => "",
    }
}

/// An 8-bit PNG whose longer side is at most `most`.
fn png(image: &Image, most: usize) -> Result<Vec<u8>> {
    let image = image.to_8_bit();
    let (width, height) = (image.width(), image.height());
    let longer = width.max(height);
    if longer <= most {
        return Ok(encode_png(&image)?);
    }
    let shrunk = |side: usize| (side * most / longer).max(1);
    let small = resize(&image, shrunk(width), shrunk(height), Filter::Bilinear)?;
    Ok(encode_png(&small)?)
}

#[cfg(test)]
mod tests {
    use vermeer_image::{Limits, Pixels, safe_decode};

    use super::*;

    fn flat(width: usize, height: usize, level: f32) -> Image {
        let samples = vec![level; width * height];
        Image::new(width, height, 1, Pixels::F32(samples)).unwrap()
    }

    #[test]
    fn large_images_are_shrunk_and_small_ones_kept() {
        for ((width, height), expected) in [
            ((28, 28), (28, 28)),
            ((512, 256), (256, 128)),
            ((3, 1000), (1, 256)),
        ] {
            let bytes = png(&flat(width, height, 0.5), TILE).unwrap();
            let image = safe_decode(&bytes, "x", &Limits::cli()).unwrap().image;
            assert_eq!((image.width(), image.height()), expected);
            assert_eq!(image, image.to_8_bit());
        }
    }

    #[test]
    fn a_grid_shows_images_of_any_size_up_to_its_limit() {
        let mut page = String::new();
        let many: Vec<Image> = std::iter::repeat_n(flat(4, 4, 0.0), 70).collect();
        grid(&mut page, "real", &many).unwrap();
        assert_eq!(page.matches("<img ").count(), 64);
        assert!(page.contains("<h3>64 real images</h3>") && page.contains("tiles pixels"));
        assert!(page.contains("alt=\"real image 64\""));
        let mut page = String::new();
        grid(&mut page, "real", &[flat(4, 4, 0.0), flat(300, 5, 1.0)]).unwrap();
        assert_eq!(page.matches("<img ").count(), 2);
        assert!(!page.contains("pixels"));
    }
}
