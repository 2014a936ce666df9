//! A run on disk: its folder, its lock, its record, its checkpoints and what it measured.
//!
//! ```text
//! runs/<name>/
//!   run.json                  who made it, from what, how far it came
//!   config.toml               every setting, resolved
//!   metrics.jsonl             one measured value or verdict per line
//!   events.out.tfevents.*     the same values and pictures for TensorBoard
//!   checkpoints/step-000012000/{model,ema,optimizer}.safetensors, state.json, SHA256SUMS
//!   checkpoints/LATEST, checkpoints/BEST
//!   samples/step-000012000.png
//!   README.md, report.html
//!   .lock                     held by the process that trains
//! ```
//!
//! Every file is written beside its place, synced and renamed, so a reader sees the old one or
//! the new one. The two append-only files may end in a torn line or record, which is ignored.

mod checkpoint;
mod checkpoints;
mod commit;
mod dir;
mod lock;
mod metrics;
mod record;
mod tensorboard;
mod tensors;

pub use checkpoint::Checkpoint;
pub use checkpoints::Checkpoints;
pub(crate) use commit::replace_file;
pub(crate) use dir::step_name;
pub use dir::{RunDir, shell_word};
pub use lock::RunLock;
pub use metrics::{MetricLine, MetricsWriter, ValueLine, Verdict, VerdictLine, read_metrics};
pub use record::{RunRecord, RunStatus};
pub use tensorboard::EventWriter;
pub use tensors::{NamedTensor, TensorMap, read_safetensors, write_safetensors};
