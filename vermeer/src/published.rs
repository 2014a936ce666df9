//! Weights that others published and metrics are defined by, each pinned by its SHA-256.
//!
//! Nothing is downloaded unless it is asked for: [`fetch`] takes one of [`PUBLISHED`] to a folder.

mod download;

use serde::Serialize;

use crate::{Error, Result};

pub use download::fetch;

/// One published file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The name it is asked for by.
    pub id: &'static str,
    /// The metrics that need it.
    pub purpose: &'static str,
    /// Where it is published.
    pub url: &'static str,
    /// The name of the file in a folder.
    pub file: &'static str,
    /// The SHA-256 of its bytes, in lowercase hexadecimal.
    pub sha256: &'static str,
    /// Its length, where that is known.
    pub bytes: Option<u64>,
    /// Whose it is, and under which licence.
    pub licence: &'static str,
    /// A command that takes it; `{id}` stands for the path of the file with that id.
    pub usage: &'static str,
}

/// Who publishes the backbones.
const TORCHVISION: &str = "torchvision, BSD-3-Clause; trained on ImageNet";
/// Who publishes the linear heads of LPIPS.
const RICHZHANG: &str = "richzhang/PerceptualSimilarity, version 0.1, BSD-2-Clause";

/// Everything that can be fetched.
pub const PUBLISHED: &[Published] = &[
    Published {
        id: "inception",
        purpose: "fid, kid, is",
        url: "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        file: "pt_inception-2015-12-05-6726825d.pth",
        sha256: "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        bytes: Some(95_628_359),
        licence: "TensorFlow's graph of 2015, ported by mseitzer/pytorch-fid, Apache-2.0",
        usage: "vermeer eval fid samples/ photos/ --weights {inception}",
    },
    Published {
        id: "vgg16",
        purpose: "pr as published; lpips and ppl, backbone vgg",
        url: "https://download.pytorch.org/models/vgg16-397923af.pth",
        file: "vgg16-397923af.pth",
        sha256: "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        bytes: Some(553_433_881),
        licence: TORCHVISION,
        usage: "vermeer eval pr samples/ photos/ --network vgg16 --weights {vgg16}",
    },
    Published {
        id: "alexnet",
        purpose: "lpips, backbone alex",
        url: "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        file: "alexnet-owt-7be5be79.pth",
        sha256: "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        bytes: Some(244_408_911),
        licence: TORCHVISION,
        usage: "vermeer eval lpips restored/ originals/ --lpips-net alex --lpips-weights {alexnet} --lpips-heads {lpips-alex}",
    },
    Published {
        id: "squeezenet",
        purpose: "lpips, backbone squeeze",
        url: "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        file: "squeezenet1_1-b8a52dc0.pth",
        sha256: "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        bytes: None,
        licence: TORCHVISION,
        usage: "vermeer eval lpips restored/ originals/ --lpips-net squeeze --lpips-weights {squeezenet} --lpips-heads {lpips-squeeze}",
    },
    Published {
        id: "lpips-alex",
        purpose: "lpips, heads of alex",
        url: "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/alex.pth",
        file: "lpips_alex.pth",
        sha256: "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        bytes: Some(6009),
        licence: RICHZHANG,
        usage: "vermeer eval lpips restored/ originals/ --lpips-net alex --lpips-weights {alexnet} --lpips-heads {lpips-alex}",
    },
    Published {
        id: "lpips-vgg",
        purpose: "lpips and ppl, heads of vgg",
        url: "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/vgg.pth",
        file: "lpips_vgg.pth",
        sha256: "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        bytes: Some(7289),
        licence: RICHZHANG,
        usage: "vermeer eval lpips restored/ originals/ --lpips-net vgg --lpips-weights {vgg16} --lpips-heads {lpips-vgg}",
    },
    Published {
        id: "lpips-squeeze",
        purpose: "lpips, heads of squeeze",
        url: "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/squeeze.pth",
        file: "lpips_squeeze.pth",
        sha256: "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
        bytes: Some(10_811),
        licence: RICHZHANG,
        usage: "vermeer eval lpips restored/ originals/ --lpips-net squeeze --lpips-weights {squeezenet} --lpips-heads {lpips-squeeze}",
    },
];

/// The published file with an id.
///
/// # Errors
/// [`Error::Settings`] naming all ids when there is none.
pub fn find(id: &str) -> Result<&'static Published> {
    PUBLISHED
        .iter()
        .find(|published| published.id == id)
        .ok_or_else(|| {
            let ids: Vec<&str> = PUBLISHED.iter().map(|published| published.id).collect();
            Error::settings(
                format!("nothing published is called {id}"),
                format!("choose one of {}", ids.join(", ")),
            )
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_and_files_are_single() {
        let ids: BTreeSet<&str> = PUBLISHED.iter().map(|published| published.id).collect();
        let files: BTreeSet<&str> = PUBLISHED.iter().map(|published| published.file).collect();
        assert_eq!([ids.len(), files.len()], [PUBLISHED.len(); 2]);
        for id in ids {
            assert_eq!(find(id).unwrap().id, id);
        }
        let error = find("inceptoin").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.remedy().unwrap().contains("inception"));
    }

    #[test]
    fn sums_are_sums_and_addresses_are_safe() {
        for published in PUBLISHED {
            let sum = published.sha256;
            assert_eq!(sum.len(), 64, "{}", published.id);
            assert!(
                sum.chars()
                    .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)),
                "{}",
                published.id
            );
            assert!(published.url.starts_with("https://"), "{}", published.id);
            // PyTorch ends the names of its weights with the first eight digits of their sum.
            if !published.id.starts_with("lpips-") {
                let end = format!("-{}.pth", &sum[..8]);
                assert!(published.file.ends_with(&end), "{}", published.id);
                assert!(published.url.ends_with(published.file), "{}", published.id);
            }
        }
    }

    #[test]
    fn commands_name_files_that_can_be_fetched() {
        for published in PUBLISHED {
            let own = format!("{{{}}}", published.id);
            assert!(published.usage.contains(&own), "{}", published.id);
            for rest in published.usage.split('{').skip(1) {
                let (id, _) = rest.split_once('}').unwrap();
                find(id).unwrap();
            }
        }
    }
}
