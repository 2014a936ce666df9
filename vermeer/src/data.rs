//! Data sets: where images, labels and attributes come from, and how they become batches.
//!
//! [`open`] turns a path or the name of a [`world`] into a [`Source`]; a [`Loader`] makes its
//! images equal in size ([`Preprocess`]) and delivers them in an order that only the seed decides.

pub mod amat;
mod archive;
pub mod cifar;
pub mod corruption;
mod drawing;
pub mod folder;
pub mod glyphs;
pub mod idx;
pub mod inspect;
mod labels;
pub mod loader;
pub mod make;
pub mod memory;
mod natural;
mod new_folder;
mod npy;
pub mod npz;
mod npz_writer;
mod prepared;
pub mod preprocess;
pub mod shapes;
pub mod source;
pub mod stylegan;
pub mod subset;
pub mod world;
mod zip_writer;

pub(crate) use new_folder::NewFolder;
use npy::write as npy_bytes;
pub(crate) use npz::{doubles as npz_doubles, names as npz_names, texts as npz_texts};

pub use loader::{Epoch, HostBatch, Loader, epoch};
pub use memory::MemorySource;
pub use npz_writer::NpzWriter;
pub use preprocess::{Fit, Preprocess};
pub use source::{Description, OpenOptions, Sample, Source, Split, open};
pub use subset::{Subset, split};
pub use zip_writer::ZipFile;
