//! The first frame of GIF.

use std::io::Cursor;

use ::gif::{ColorOutput, DecodeOptions, DecodingError};

use crate::decode::guard::{Guard, Raw};
use crate::error::{ImageError, Result};
use crate::image::{Image, Pixels};

/// Decodes the first frame on its canvas: RGB when it covers the canvas and nothing is
/// transparent, RGBA otherwise.
pub(super) fn decode(bytes: &[u8], guard: &Guard<'_>) -> Result<Raw> {
    let failed = |error| failed(guard, error);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = (decoder.width(), decoder.height());
    guard.size(width.into(), height.into())?;
    let frames = count(bytes, guard)?;

    let Some(frame) = decoder.next_frame_info().map_err(failed)? else {
        return Err(guard.corrupt("it holds no frame"));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (frame.width, frame.height);
    let transparent = frame.transparent;
    guard.size(frame_width.into(), frame_height.into())?;
    let palette = decoder.palette().map_err(failed)?.to_vec();
    let mut indices = guard.buffer(u64::from(frame_width) * u64::from(frame_height))?;
    decoder.read_into_buffer(&mut indices).map_err(failed)?;

    let (width, height) = (usize::from(width), usize::from(height));
    let frame_width = usize::from(frame_width);
    let covered =
        left == 0 && top == 0 && frame_width >= width && usize::from(frame_height) >= height;
    let channels = if covered && transparent.is_none() {
        3
    } else {
        4
    };
    let mut samples = guard.buffer((width * height * channels) as u64)?;
    for (row, indices) in indices.chunks_exact(frame_width).enumerate() {
        for (column, &index) in indices.iter().enumerate() {
            let (x, y) = (left + column, top + row);
            if x >= width || y >= height || transparent == Some(index) {
                continue;
            }
            let colour = palette
                .get(usize::from(index) * 3..usize::from(index) * 3 + 3)
                .unwrap_or(&[0, 0, 0]);
            let pixel = &mut samples[(y * width + x) * channels..][..channels];
            pixel[..3].copy_from_slice(colour);
            if let Some(alpha) = pixel.get_mut(3) {
                *alpha = 255;
            }
        }
    }
    Ok(Raw {
        image: Image::new(width, height, channels, Pixels::U8(samples))?,
        palette: true,
        cmyk: false,
        orientation: 1,
        frames,
    })
}

/// The number of frames up to the trailer, without decoding their pixels.
fn count(bytes: &[u8], guard: &Guard<'_>) -> Result<u32> {
    let failed = |error| failed(guard, error);
    let mut options = DecodeOptions::new();
    options.skip_frame_decoding(true);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(failed)?;
    let mut frames = 0;
    while decoder.next_frame_info().map_err(failed)?.is_some() {
        frames += 1;
        guard.frames(frames)?;
    }
    Ok(frames)
}

/// The refusal that a decoding error amounts to.
fn failed(guard: &Guard<'_>, error: DecodingError) -> ImageError {
    match error {
        DecodingError::UnexpectedEof => guard.truncated(),
        other => guard.failed(&other),
    }
}

#[cfg(test)]
mod tests {
    use ::gif::{Encoder, Frame};

    use super::*;
    use crate::decode::{Decoded, Limits, safe_decode};

    fn decode(bytes: &[u8]) -> Decoded {
        safe_decode(bytes, "a.gif", &Limits::cli()).unwrap()
    }

    fn encode(width: u16, height: u16, frames: &[Frame<'_>]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::<u8>::new(), width, height, &[]).unwrap();
        for frame in frames {
            encoder.write_frame(frame).unwrap();
        }
        encoder.into_inner().unwrap()
    }

    #[test]
    fn an_opaque_frame_is_rgb_and_frames_are_counted() {
        let frame = Frame::from_palette_pixels(2, 1, [1u8, 0], [1u8, 2, 3, 4, 5, 6], None);
        let decoded = decode(&encode(2, 1, &[frame.clone(), frame]));
        assert!(decoded.facts.palette && !decoded.facts.alpha);
        assert_eq!(decoded.facts.frames, 2);
        assert_eq!(decoded.image.pixels(), &Pixels::U8(vec![4, 5, 6, 1, 2, 3]));
    }

    #[test]
    fn transparency_and_uncovered_canvas_have_no_alpha() {
        let mut frame = Frame::from_palette_pixels(2, 1, [1u8, 0], [1u8, 2, 3, 4, 5, 6], Some(1));
        frame.left = 1;
        let decoded = decode(&encode(3, 1, &[frame]));
        assert!(decoded.facts.alpha);
        let expected = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 255];
        assert_eq!(decoded.image.pixels(), &Pixels::U8(expected.to_vec()));
    }

    #[test]
    fn cuts_and_too_many_frames_are_refused() {
        let frame = Frame::from_palette_pixels(2, 1, [1u8, 0], [1u8, 2, 3, 4, 5, 6], None);
        let whole = encode(2, 1, &[frame.clone(), frame]);
        for kept in 6..whole.len() {
            let cut = safe_decode(&whole[..kept], "cut.gif", &Limits::cli());
            assert!(matches!(cut, Err(ImageError::Refused { .. })), "{kept}");
        }
        let one = Limits {
            max_frames: 1,
            ..Limits::cli()
        };
        let error = safe_decode(&whole, "two.gif", &one)
            .unwrap_err()
            .to_string();
        assert!(error.contains("max_frames = 1"), "{error}");
    }
}
