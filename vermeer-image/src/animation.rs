//! Animations: how the samples of a run developed.

use ::gif::{Encoder as GifEncoder, Frame, Repeat};
use ::png::{BitDepth, Compression, Encoder as PngEncoder};

use crate::encode::png_color;
use crate::error::{ImageError, Result};
use crate::image::{Image, Pixels};

/// How carefully GIF colours are chosen, from 1 (best) to 30 (fastest).
const PALETTE_SPEED: i32 = 10;

/// The longest time a frame may stand, in milliseconds; both formats store it in 16 bits.
const LONGEST_MS: u32 = 60_000;

/// An endless GIF whose frames stand `frame_ms` milliseconds each, rounded to hundredths of a
/// second. Every frame has a palette of its own: exact up to 256 colours, by NeuQuant beyond.
/// Alpha is composited over white.
///
/// # Errors
/// [`ImageError::Shape`] without frames, with frames of different sizes or channels, with sides
/// over 65,535 or a time that is 0 or over a minute.
pub fn encode_gif(frames: &[Image], frame_ms: u32) -> Result<Vec<u8>> {
    let first = check(frames, frame_ms)?;
    let (Ok(width), Ok(height)) = (u16::try_from(first.width()), u16::try_from(first.height()))
    else {
        return Err(ImageError::Shape(format!(
            "a GIF has sides up to 65535, not {}x{}",
            first.width(),
            first.height()
        )));
    };
    let failed = |error| ImageError::Shape(format!("cannot store these frames as GIF: {error}"));
    let hundredths = ((frame_ms + 5) / 10).max(1) as u16;
    let mut encoder = GifEncoder::new(Vec::<u8>::new(), width, height, &[]).map_err(failed)?;
    encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
    for image in frames {
        let rgb = bytes(&image.with_channels(3, [255; 3])?);
        let mut frame = Frame::from_rgb_speed(width, height, &rgb, PALETTE_SPEED);
        frame.delay = hundredths;
        encoder.write_frame(&frame).map_err(failed)?;
    }
    encoder.into_inner().map_err(failed)
}

/// An endless 8-bit animated PNG whose frames stand `frame_ms` milliseconds each. Viewers that
/// know no animation show the first frame.
///
/// # Errors
/// [`ImageError::Shape`] without frames, with frames of different sizes or channels, or with a
/// time that is 0 or over a minute.
pub fn encode_apng(frames: &[Image], frame_ms: u32) -> Result<Vec<u8>> {
    let first = check(frames, frame_ms)?;
    let (width, height) = first.sides()?;
    let failed = |error| ImageError::Shape(format!("cannot store these frames as PNG: {error}"));
    let count = u32::try_from(frames.len())
        .map_err(|_| ImageError::Shape("an animated PNG has fewer frames".to_owned()))?;
    let mut out: Vec<u8> = Vec::new();
    let mut encoder = PngEncoder::new(&mut out, width, height);
    encoder.set_color(png_color(first.channels()));
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_animated(count, 0).map_err(failed)?;
    encoder
        .set_frame_delay(frame_ms as u16, 1000)
        .map_err(failed)?;
    let mut writer = encoder.write_header().map_err(failed)?;
    for image in frames {
        writer.write_image_data(&bytes(image)).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    Ok(out)
}

/// The first of frames that fit together.
fn check(frames: &[Image], frame_ms: u32) -> Result<&Image> {
    let Some(first) = frames.first() else {
        return Err(ImageError::Shape(
            "an animation needs at least one frame".to_owned(),
        ));
    };
    let size = |image: &Image| (image.width(), image.height(), image.channels());
    if let Some(at) = frames.iter().position(|frame| size(frame) != size(first)) {
        return Err(ImageError::Shape(format!(
            "frame {at} of the animation has another size or number of channels than frame 0"
        )));
    }
    if !(1..=LONGEST_MS).contains(&frame_ms) {
        return Err(ImageError::Shape(format!(
            "a frame stands 1 to {LONGEST_MS} ms, not {frame_ms}"
        )));
    }
    Ok(first)
}

/// The samples of a picture as bytes.
fn bytes(image: &Image) -> Vec<u8> {
    match image.to_8_bit().into_pixels() {
        Pixels::U8(samples) => samples,
        _ => unreachable!("the picture was made 8-bit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Limits, safe_decode};
    use crate::format::Format;

    fn frames(channels: usize) -> Vec<Image> {
        (0..3u8)
            .map(|n| {
                let samples = (0..4 * 3 * channels as u8)
                    .map(|i| i * 4 + n * 20)
                    .collect();
                Image::new(4, 3, channels, Pixels::U8(samples)).unwrap()
            })
            .collect()
    }

    #[test]
    fn gif_frames_with_few_colours_are_exact() {
        let frames = frames(3);
        let bytes = encode_gif(&frames, 84).unwrap();
        assert_eq!(bytes, encode_gif(&frames, 84).unwrap());
        let decoded = safe_decode(&bytes, "a.gif", &Limits::cli()).unwrap();
        assert_eq!(decoded.facts.frames, 3);
        assert_eq!(decoded.image, frames[0]);

        let mut options = ::gif::DecodeOptions::new();
        options.set_color_output(::gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes.as_slice()).unwrap();
        for frame in &frames {
            let read = decoder.read_next_frame().unwrap().unwrap();
            // 84 ms are 8 hundredths of a second.
            assert_eq!(read.delay, 8);
            let rgb: Vec<u8> = read
                .buffer
                .chunks(4)
                .flat_map(|pixel| pixel[..3].to_vec())
                .collect();
            assert_eq!(&Pixels::U8(rgb), frame.pixels());
        }
        assert_eq!(decoder.repeat(), Repeat::Infinite);
    }

    #[test]
    fn png_frames_come_back_exactly() {
        for channels in 1..=4 {
            let frames = frames(channels);
            let bytes = encode_apng(&frames, 120).unwrap();
            let decoded = safe_decode(&bytes, "a.png", &Limits::cli()).unwrap();
            assert_eq!(decoded.facts.format, Format::Png);
            assert_eq!(decoded.facts.frames, 3);

            let decoder = ::png::Decoder::new(std::io::Cursor::new(&bytes));
            let mut reader = decoder.read_info().unwrap();
            for frame in &frames {
                let mut buffer = vec![0; reader.output_buffer_size().unwrap()];
                reader.next_frame(&mut buffer).unwrap();
                assert_eq!(&Pixels::U8(buffer), frame.pixels());
                let control = reader.info().frame_control.unwrap();
                assert_eq!((control.delay_num, control.delay_den), (120, 1000));
            }
        }
    }

    #[test]
    fn frames_that_do_not_fit_are_refused() {
        let mut mixed = frames(1);
        mixed.extend(frames(3));
        for (frames, time) in [
            (vec![], 100),
            (mixed, 100),
            (frames(1), 0),
            (frames(1), 70_000),
        ] {
            assert!(encode_gif(&frames, time).is_err());
            assert!(encode_apng(&frames, time).is_err());
        }
    }
}
