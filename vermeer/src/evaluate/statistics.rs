//! Files of statistics: mean and covariance of features instead of the images.
//!
//! | file | holds | who else reads it |
//! |---|---|---|
//! | `.npz` | `mu` \[d\], `sigma` \[d, d\] in double precision; Vermeer adds `n` and `network` | pytorch-fid, TTUR, EDM |
//! | `.stats` | count, mean and squared deviations (safetensors), so that shards add up exactly, and the passport of what was read | Vermeer |

use std::io::Cursor;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use vermeer_image::metrics::Moments;
use vermeer_image::write_atomic;

use super::passport::Side;
use crate::data::{NpzWriter, npz_doubles};
use crate::{Error, Result};

/// Statistics from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Count, mean, squared deviations.
    pub moments: Moments,
    /// The file.
    pub location: String,
    /// The SHA-256 of the file.
    pub digest: String,
    /// The images they are of, where the file says so.
    pub side: Option<Side>,
    /// [`identity`](vermeer_image::features::Extractor::identity) of the network, where the file says so.
    pub network: Option<String>,
    /// Whether the number of images is known; without it the covariance is taken to be of full
    /// rank.
    pub counted: bool,
}

/// An image count that stands for "not known" and leaves the covariance its full rank.
const UNKNOWN: u64 = 1 << 40;

const REMEDY: &str = "make the statistics again with `vermeer eval stats IMAGES --out FILE`";

/// Whether a file holds statistics rather than images: by its ending, or for `.npz` by its arrays.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub(super) fn is_statistics(path: &Path) -> Result<bool> {
    match ending(path).as_str() {
        "stats" => Ok(true),
        "npz" => Ok(npz_doubles(path, &["mu", "sigma"]).is_ok()),
        _ => Ok(false),
    }
}

/// Reads statistics.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Data`] when it holds no statistics.
pub fn read_statistics(path: &Path) -> Result<Statistics> {
    let location = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let digest = crate::sha256_hex(&bytes);
    let wrong = |reason: String| Error::data(path, reason, REMEDY);
    if ending(path) == "npz" {
        let mut arrays = npz_doubles(path, &["mu", "sigma"])?.into_iter();
        let (Some((_, mean)), Some((shape, sigma))) = (arrays.next(), arrays.next()) else {
            return Err(wrong("it lacks mu or sigma".to_owned()));
        };
        let d = mean.len();
        if shape != [d, d] {
            return Err(wrong(format!(
                "mu has {d} values and sigma the shape {shape:?}"
            )));
        }
        let count = npz_doubles(path, &["n"])
            .ok()
            .and_then(|arrays| arrays.first().and_then(|(_, n)| n.first().copied()))
            .filter(|n| *n >= 2.0)
            .map(|n| n as u64);
        let n = count.unwrap_or(UNKNOWN);
        let m2 = sigma.iter().map(|value| value * (n - 1) as f64).collect();
        let moments = Moments::from_parts(n, mean, m2).map_err(|error| wrong(error.to_string()))?;
        return Ok(Statistics {
            moments,
            location,
            digest,
            side: None,
            network: npz_doubles(path, &["network"]).ok().and_then(|arrays| {
                let (_, bytes) = arrays.into_iter().next()?;
                String::from_utf8(bytes.into_iter().map(|byte| byte as u8).collect()).ok()
            }),
            counted: count.is_some(),
        });
    }
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
    let about = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let doubles = |name: &str| -> Result<Vec<f64>> {
        let view = file
            .tensor(name)
            .map_err(|error| wrong(error.to_string()))?;
        if view.dtype() != Dtype::F64 {
            return Err(wrong(format!("{name} is not of 64-bit floats")));
        }
        Ok(view
            .data()
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect())
    };
    let n = about
        .get("n")
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| wrong("it does not say of how many images it is".to_owned()))?;
    let moments = Moments::from_parts(n, doubles("mean")?, doubles("m2")?)
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Statistics {
        moments,
        location,
        digest,
        side: about
            .get("images")
            .and_then(|text| serde_json::from_str(text).ok()),
        network: about.get("network").cloned(),
        counted: true,
    })
}

/// Writes statistics: `.npz` for exchange, `.stats` to add up later.
///
/// # Errors
/// [`Error::Settings`] for another ending, [`Error::Io`] when the file cannot be written.
pub fn write_statistics(path: &Path, moments: &Moments, side: &Side, network: &str) -> Result<()> {
    if moments.len() >= UNKNOWN {
        return Err(Error::settings(
            format!("{} would not say of how many images it is", path.display()),
            "make statistics of the images themselves",
        ));
    }
    let bytes = match ending(path).as_str() {
        "npz" => npz(moments, network)?,
        "stats" => stats(moments, side, network)?,
        _ => {
            return Err(Error::settings(
                format!("{}: statistics are .npz or .stats files", path.display()),
                "end the name with .npz (for other tools) or .stats (adds up exactly)",
            ));
        }
    };
    Ok(write_atomic(path, &bytes)?)
}

fn stats(moments: &Moments, side: &Side, network: &str) -> Result<Vec<u8>> {
    let failed = |error: String| Error::Failed(format!("statistics cannot be written: {error}"));
    let d = moments.dims();
    let bytes =
        |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let (mean, m2) = (bytes(moments.mean()), bytes(moments.m2()));
    let view = |shape: Vec<usize>, data| {
        TensorView::new(Dtype::F64, shape, data).map_err(|error| failed(error.to_string()))
    };
    let tensors = [
        ("m2", view(vec![d, d], &m2)?),
        ("mean", view(vec![d], &mean)?),
    ];
    let about = [
        ("n", moments.len().to_string()),
        (
            "images",
            serde_json::to_string(side).map_err(|error| failed(error.to_string()))?,
        ),
        ("network", network.to_owned()),
        ("format", "vermeer statistics 1".to_owned()),
    ];
    let about = about.map(|(key, value)| (key.to_owned(), value)).into();
    safetensors::serialize(tensors, Some(about)).map_err(|error| failed(error.to_string()))
}

fn npz(moments: &Moments, network: &str) -> Result<Vec<u8>> {
    let d = moments.dims();
    let mut file = NpzWriter::new(Cursor::new(Vec::new()));
    file.doubles("mu", &[d], moments.mean())?;
    file.doubles("n", &[], &[moments.len() as f64])?;
    file.doubles("sigma", &[d, d], &moments.covariance()?)?;
    // The network's identity as UTF-8 bytes, which other tools do not look at.
    file.start("network", "|u1", &[network.len()])?;
    file.append(network.as_bytes())?;
    Ok(file.finish()?.into_inner())
}

fn ending(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_come_back_from_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut moments = Moments::new(2);
        moments.add(&[0.0, 1.0, 2.0, 4.5, 4.0, 2.0, 1.0, 1.0]);
        let side = Side {
            location: "photos".to_owned(),
            images: 4,
            ..Side::default()
        };
        for name in ["a.npz", "a.stats"] {
            let path = folder.path().join(name);
            assert!(write_statistics(&path, &moments, &side, "ab").is_ok());
            assert!(is_statistics(&path).unwrap());
            let read = read_statistics(&path).unwrap();
            assert_eq!(read.moments.len(), 4);
            assert_eq!(read.moments.mean(), moments.mean());
            for (a, b) in read.moments.m2().iter().zip(moments.m2()) {
                assert!((a - b).abs() < 1e-12);
            }
            assert_eq!(read.side.is_some(), name == "a.stats");
            assert_eq!(read.network.as_deref(), Some("ab"));
        }
        let other = folder.path().join("a.txt");
        assert_eq!(
            write_statistics(&other, &moments, &side, "")
                .unwrap_err()
                .exit_code(),
            2
        );
        std::fs::write(folder.path().join("bad.stats"), b"nothing").unwrap();
        let error = read_statistics(&folder.path().join("bad.stats")).unwrap_err();
        assert_eq!(error.exit_code(), 4);
    }
}
