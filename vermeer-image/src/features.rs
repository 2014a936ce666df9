//! Frozen networks that look at images for a metric.

mod judge;

pub use judge::{JUDGE_SHA256, Judge};
