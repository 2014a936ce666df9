//! Tests of the crate against values of the reference implementations.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod fixtures;
mod formula;
mod networks;
mod pairs;
mod resizes;
mod sets;
mod shared;
