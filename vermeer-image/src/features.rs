//! Frozen networks that look at images: for distances between sets, for judging, for LPIPS.

mod alexnet;
mod extractor;
pub(crate) mod frozen;
mod googlenet;
mod inception;
mod judge;
mod lenet;
mod squeezenet;
mod vgg16;
mod weights;
mod world_net;

pub use alexnet::AlexNet;
pub use extractor::{Extracted, Extractor, Prepared, Protocol};
pub use googlenet::{GoogleNet, GoogleNetOutput};
pub use inception::{Inception, Tap};
pub use judge::{JUDGE_SHA256, Judge};
pub use lenet::{LeNet, LeNetOutput};
pub use squeezenet::SqueezeNet;
pub use vgg16::{Vgg16, Vgg16Fc2};
pub use weights::Weights;
pub use world_net::{WORLD_NET_SHA256, WorldNet};
