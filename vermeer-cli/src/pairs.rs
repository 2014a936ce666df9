//! Images before and after, side by side, and the files of what came after.

use vermeer::Result;
use vermeer_image::{Image, encode_png, grid};

use crate::outputs::Outputs;

/// Pairs on the sheet.
const SHOWN: usize = 64;

/// The file of the sheet.
pub(crate) const SHEET: &str = "pairs.png";

/// The file of the image of this place.
pub(crate) fn file(place: usize) -> String {
    format!("{place:06}.png")
}

/// The names of the sheet and of `count` images.
pub(crate) fn files(count: usize) -> Vec<String> {
    let mut names = vec![SHEET.to_owned()];
    names.extend((0..count).map(file));
    names
}

/// Pairs in the making.
pub(crate) struct Pairs<'a> {
    outputs: &'a Outputs,
    sheet: Vec<Image>,
    names: Vec<String>,
}

impl<'a> Pairs<'a> {
    /// None yet, to be written into `outputs`, where [`files`] were announced.
    pub(crate) fn new(outputs: &'a Outputs) -> Self {
        Self {
            outputs,
            sheet: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Writes what came after the image of this name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn add(&mut self, name: String, before: Image, after: Image) -> Result<()> {
        let png = encode_png(&after)?;
        self.outputs.write(&file(self.names.len()), &png)?;
        self.names.push(name);
        if self.sheet.len() < 2 * SHOWN {
            self.sheet.extend([before, after]);
        }
        Ok(())
    }

    /// Writes the sheet; returns it with the names of all images, in their order.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn finish(self) -> Result<(Image, Vec<String>)> {
        let sheet = grid(&self.sheet, Some(8), 2, None)?;
        self.outputs.write(SHEET, &encode_png(&sheet)?)?;
        Ok((sheet, self.names))
    }
}
