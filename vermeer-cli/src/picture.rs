//! Pictures in a terminal: by its graphics protocol where it has one, by half blocks elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::OnceLock;

use image::{DynamicImage, RgbImage};
use ratatui::buffer::{Buffer, CellDiffOption};
use ratatui::layout::{Rect, Size};
use ratatui::style::Color;
use ratatui::widgets::Widget;
use ratatui_image::picker::{Picker, ProtocolType};
use ratatui_image::protocol::Protocol;
use ratatui_image::protocol::halfblocks::Halfblocks;
use ratatui_image::{FilterType, Resize};
use vermeer_image::{Image, Pixels};

/// Small pictures are enlarged by a whole factor up to about this width, in pixels.
const COMFORTABLE: u32 = 512;

/// Writes a picture to standard error, which must be a terminal.
pub(crate) fn show(picture: &Image) {
    let Ok((columns, rows)) = ratatui::crossterm::terminal::size() else {
        return;
    };
    if let Some(text) = drawn(picture, picker(), columns, rows) {
        // A picture that cannot be shown is in its file all the same.
        let mut stream = io::stderr().lock();
        let _ = stream
            .write_all(text.as_bytes())
            .and_then(|()| stream.flush());
    }
}

/// What the terminal can do. It is asked once, and only where it can answer.
fn picker() -> &'static Picker {
    static PICKER: OnceLock<Picker> = OnceLock::new();
    PICKER.get_or_init(|| match can_be_asked() {
        true => Picker::from_query_stdio().unwrap_or_else(|_| Picker::halfblocks()),
        false => Picker::halfblocks(),
    })
}

/// A question goes through standard output and its answer comes through standard input.
fn can_be_asked() -> bool {
    let answers = std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
    answers && io::stdout().is_terminal() && io::stdin().is_terminal() && is_in_front()
}

/// Whether this process may read from its terminal; one in the background would be halted.
#[cfg(unix)]
fn is_in_front() -> bool {
    let front = rustix::termios::tcgetpgrp(io::stdin());
    front.is_ok_and(|group| group == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn is_in_front() -> bool {
    true
}

/// The picture as a text for a terminal of this size, ending at the start of a line.
fn drawn(picture: &Image, picker: &Picker, columns: u16, rows: u16) -> Option<String> {
    let rgb = picture.to_8_bit().with_channels(3, [0; 3]).ok()?;
    let (width, height) = (
        u32::try_from(rgb.width()).ok()?,
        u32::try_from(rgb.height()).ok()?,
    );
    let Pixels::U8(bytes) = rgb.into_pixels() else {
        return None;
    };
    let image = DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, bytes)?);
    let room = Size::new(columns.saturating_sub(1), rows.saturating_sub(2));
    let protocol = match picker.protocol_type() {
        // A half block shows two pixels, one above the other.
        ProtocolType::Halfblocks => {
            let size = extent((width, height), (1, 2), 1, room);
            Protocol::Halfblocks(Halfblocks::new(image, size).ok()?)
        }
        _ => {
            let cell = (
                u32::from(picker.font_size().width).max(1),
                u32::from(picker.font_size().height).max(1),
            );
            let size = extent((width, height), cell, (COMFORTABLE / width).max(1), room);
            picker
                .new_protocol(image, size, Resize::Scale(Some(FilterType::Triangle)))
                .ok()?
        }
    };
    let area = Rect::new(0, 0, protocol.size().width, protocol.size().height);
    let mut buffer = Buffer::empty(area);
    ratatui_image::Image::new(&protocol).render(area, &mut buffer);
    Some(text(&buffer, area))
}

/// Columns and rows for a picture of so many pixels, enlarged by `factor`, where a cell has so
/// many pixels. Sides are at least 1.
fn extent((width, height): (u32, u32), cell: (u32, u32), factor: u32, room: Size) -> Size {
    let [width, height, factor] = [width, height, factor].map(u64::from);
    let cell = (u64::from(cell.0), u64::from(cell.1));
    let (most_columns, most_rows) = (u64::from(room.width).max(1), u64::from(room.height).max(1));
    let mut columns = (width * factor).div_ceil(cell.0).clamp(1, most_columns);
    let mut rows = (columns * cell.0 * height / width).div_ceil(cell.1).max(1);
    if rows > most_rows {
        rows = most_rows;
        columns = (rows * cell.1 * width / height / cell.0).clamp(1, columns);
    }
    Size::new(columns as u16, rows as u16)
}

/// The cells as escape sequences that work wherever the cursor is.
fn text(buffer: &Buffer, area: Rect) -> String {
    // Room is made first, so that nothing scrolls while the picture is drawn.
    let mut text = "\n".repeat(usize::from(area.height));
    let _ = write!(text, "\x1b[{}A\r", area.height);
    for y in 0..area.height {
        for x in 0..area.width {
            let cell = &buffer[(x, y)];
            if cell.diff_option == CellDiffOption::Skip {
                text.push_str("\x1b[C");
                continue;
            }
            colour(&mut text, 38, cell.fg);
            colour(&mut text, 48, cell.bg);
            match cell.symbol().starts_with('\x1b') {
                // Where a protocol leaves the cursor differs from terminal to terminal.
                true => {
                    let _ = write!(text, "\x1b7{}\x1b8\x1b[C", cell.symbol());
                }
                false => text.push_str(cell.symbol()),
            }
        }
        text.push_str("\x1b[0m\r\n");
    }
    text
}

/// Sets the colour of the letters (38) or behind them (48).
fn colour(text: &mut String, what: u8, colour: Color) {
    let _ = match colour {
        Color::Rgb(r, g, b) => write!(text, "\x1b[{what};2;{r};{g};{b}m"),
        Color::Indexed(index) => write!(text, "\x1b[{what};5;{index}m"),
        // The picture protocols use no other colour than the terminal's own.
        _ => write!(text, "\x1b[{}m", what + 1),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves() -> Image {
        let samples = [[255, 0, 0], [0, 0, 255]].map(|rgb| rgb.repeat(2)).concat();
        Image::new(2, 2, 3, Pixels::U8(samples)).unwrap()
    }

    #[test]
    fn half_blocks_hold_two_pixels_each() {
        let text = drawn(&halves(), &Picker::halfblocks(), 80, 24).unwrap();
        // Red above blue: one row of two cells, the upper half in the colour of the letters.
        let cell = "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀";
        assert_eq!(text, format!("\n\x1b[1A\r{cell}{cell}\x1b[0m\r\n"));
    }

    #[test]
    fn pictures_stay_inside_the_terminal() {
        let room = Size::new(79, 22);
        for (pixels, cell, factor, expected) in [
            ((2, 2), (1, 2), 1, (2, 1)),
            ((40, 20), (1, 2), 1, (40, 10)),
            ((300, 300), (1, 2), 1, (44, 22)),
            ((28, 28), (10, 20), 10, (28, 14)),
            ((28, 28), (10, 20), 18, (44, 22)),
            ((1, 4000), (10, 20), 512, (1, 22)),
            ((4000, 1), (10, 20), 1, (79, 1)),
        ] {
            let size = extent(pixels, cell, factor, room);
            assert_eq!((size.width, size.height), expected, "{pixels:?}");
        }
        assert_eq!(extent((5, 5), (1, 2), 1, Size::new(0, 0)), Size::new(1, 1));
    }
}
