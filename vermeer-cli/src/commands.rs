//! The commands, one file each: what was typed, then what is done.

pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod denoise;
pub(crate) mod directions;
pub(crate) mod doctor;
pub(crate) mod edit;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod inpaint;
pub(crate) mod interpolate;
pub(crate) mod map;
pub(crate) mod models;
pub(crate) mod reconstruct;
pub(crate) mod runs;
pub(crate) mod sample;
pub(crate) mod train;
pub(crate) mod traverse;

/// The command that was typed, word by word, for the record of a run.
pub(crate) fn typed() -> Vec<String> {
    std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
