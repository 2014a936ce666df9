//! Which network looks at images, as the command line says it.

use std::path::PathBuf;

use burn::prelude::Device;
use vermeer::evaluate::{NetworkChoice, extractor};
use vermeer::{Error, Result};
use vermeer_image::features::{Extractor, Protocol, Tap};

/// The heading of these arguments.
const NETWORK: &str = "Network";

/// Height and width of images that are compared as pixels.
const PIXELS: usize = 32;

// The network whose features are compared.
#[derive(clap::Args)]
pub(super) struct NetworkArgs {
    /// The network whose features are compared; without it, inception where --weights are given
    /// and else vermeer.
    #[arg(long, help_heading = NETWORK, value_enum, alias = "feature-extractor")]
    network: Option<Network>,
    /// Weights of the network: .pth or .safetensors. FID and KID need the file
    /// `pt_inception-2015-12-05-6726825d.pth`; other weights give values under other names.
    #[arg(long, help_heading = NETWORK, value_name = "FILE", alias = "feature-extractor-weights-path")]
    weights: Option<PathBuf>,
    /// Number of Inception features: of the first, second or third pooling, or of the last.
    #[arg(long, help_heading = NETWORK, value_name = "64|192|768|2048", value_parser = tap)]
    dims: Option<Tap>,
    /// Whose way of resizing and scaling images for the Inception is followed.
    #[arg(long, help_heading = NETWORK, value_enum)]
    protocol: Option<Whose>,
    /// Compute with every protocol, from one pass over the images, and print them side by side.
    #[arg(long, help_heading = NETWORK, conflicts_with = "protocol")]
    all_protocols: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    /// The embedded network of Vermeer, 128 features of any image.
    Vermeer,
    /// The embedded judge of garments: grey, 28x28, with ten classes.
    Judge,
    /// The Inception of 2015, which FID is defined by; its weights are a file.
    #[value(aliases = ["inception-v3-compat", "inception-v3"])]
    Inception,
    /// VGG16, which precision and recall were published with; its weights are a file.
    Vgg16,
    /// The pixels themselves, at 32x32.
    Pixels,
}

/// Whose way of bringing images to the network is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Whose {
    /// TensorFlow and torch-fidelity: bilinear without antialiasing, from the corner.
    TorchFidelity,
    /// pytorch-fid: bilinear without antialiasing, from the pixels' centres.
    PytorchFid,
    /// clean-fid: antialiased bicubic in floats.
    CleanFid,
}

impl Whose {
    fn protocol(self) -> Protocol {
        match self {
            Self::TorchFidelity => Protocol::TorchFidelity,
            Self::PytorchFid => Protocol::PytorchFid,
            Self::CleanFid => Protocol::CleanFid,
        }
    }
}

impl NetworkArgs {
    /// Whether anything was said of the network.
    pub(super) fn is_said(&self) -> bool {
        self.network.is_some()
            || self.weights.is_some()
            || self.dims.is_some()
            || self.protocol.is_some()
            || self.all_protocols
    }

    /// The networks that are asked for: one, or one for each protocol. Logits are computed where
    /// `logits` says so.
    ///
    /// # Errors
    /// [`Error::Settings`] for options that belong to another network, and where weights lack;
    /// those of reading them.
    pub(super) fn extractors(&self, logits: bool, device: &Device) -> Result<Vec<Extractor>> {
        let protocols = match (self.all_protocols, self.protocol) {
            (true, _) => Protocol::ALL.to_vec(),
            (false, Some(whose)) => vec![whose.protocol()],
            (false, None) => vec![Protocol::default()],
        };
        protocols
            .into_iter()
            .map(|protocol| extractor(&self.choice(logits, protocol)?, device))
            .collect()
    }

    fn choice(&self, logits: bool, protocol: Protocol) -> Result<NetworkChoice> {
        let network = self.network.unwrap_or(match self.weights {
            Some(_) => Network::Inception,
            None => Network::Vermeer,
        });
        if network != Network::Inception {
            for (given, option) in [
                (self.dims.is_some(), "--dims"),
                (self.protocol.is_some(), "--protocol"),
                (self.all_protocols, "--all-protocols"),
            ] {
                if given {
                    return Err(Error::settings(
                        format!("{option} is of the Inception, and another network was chosen"),
                        "say --network inception --weights FILE, or leave it out",
                    ));
                }
            }
        }
        let weights = |name: &str| {
            self.weights.clone().ok_or_else(|| {
                Error::settings(
                    "this network has no weights in the program",
                    format!(
                        "`vermeer models fetch {name}` downloads them; then say --weights FILE"
                    ),
                )
            })
        };
        let without = |choice| match self.weights {
            Some(_) => Err(Error::settings(
                "the embedded networks bring their own weights",
                "leave out --weights, or choose --network inception or vgg16",
            )),
            None => Ok(choice),
        };
        match network {
            Network::Vermeer => without(NetworkChoice::Vermeer),
            Network::Judge => without(NetworkChoice::Judge),
            Network::Pixels => without(NetworkChoice::Pixels {
                side: PIXELS,
                channels: 3,
            }),
            Network::Vgg16 => Ok(NetworkChoice::Vgg16 {
                weights: weights("vgg16")?,
            }),
            Network::Inception => Ok(NetworkChoice::Inception {
                weights: weights("inception")?,
                tap: self.dims.unwrap_or(Tap::Pool2048),
                protocol,
                logits,
            }),
        }
    }
}

fn tap(text: &str) -> Result<Tap, String> {
    match text {
        "64" => Ok(Tap::Pool64),
        "192" => Ok(Tap::Pool192),
        "768" => Ok(Tap::Pool768),
        "2048" => Ok(Tap::Pool2048),
        _ => Err("the Inception has 64, 192, 768 or 2048 features".to_owned()),
    }
}
