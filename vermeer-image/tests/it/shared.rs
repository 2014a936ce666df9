//! Published fixtures, where they are at hand.

use std::path::PathBuf;

/// A file of the shelf that `VERMEER_SHARED` points at; without it the test says why it is skipped.
pub(crate) fn file(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("VERMEER_SHARED") else {
        eprintln!("skipped: VERMEER_SHARED is not set, so {name} is not at hand");
        return None;
    };
    Some(PathBuf::from(root).join(name))
}

/// The bytes of such a file.
pub(crate) fn bytes(name: &str) -> Option<Vec<u8>> {
    file(name).map(|path| {
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

/// The values of the published metrics.
pub(crate) fn metrics() -> Option<serde_json::Value> {
    let text = bytes("reference/metric-fixtures/metrics.json")?;
    Some(serde_json::from_slice(&text).unwrap())
}
