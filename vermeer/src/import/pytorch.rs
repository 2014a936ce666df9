//! Tensors by name, from `.pth`, `.pt`, `.ckpt` and `.safetensors` files.
//!
//! | step | what may be refused |
//! |---|---|
//! | list what the pickles name | a class or function that is not a builder of data |
//! | find the state dict | none, or more than one |
//! | read the tensors as f32 | more bytes than the file can honestly hold, NaN, infinity |
//! | strip a prefix that every key carries | – |

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use pytorch_reader::{PickleValue, PytorchReader};

use super::allow;
use super::container::{Pickles, most_bytes};
use super::elements;
use crate::run::{NamedTensor, TensorMap, read_safetensors};
use crate::{Error, Result};

/// Keys under which training programs put the state dict.
const STATE_DICT_KEYS: &[&str] = &["state_dict", "params", "model"];

/// Prefixes that wrappers (data parallelism, Lightning, a module in a module) put before
/// every key.
const PREFIXES: &[&str] = &["module.", "network.", "model."];

const SAVE_AGAIN: &str = "check the file's sum, or save the state dict again with \
                          torch.save(model.state_dict(), ...) or as .safetensors";

/// The tensors of a foreign file.
#[derive(Debug)]
pub struct Imported {
    /// Every tensor by its key, as f32.
    pub tensors: TensorMap,
    /// What was chosen, left out, stripped or converted on the way, one sentence each.
    pub notes: Vec<String>,
}

/// Reads the tensors of the file at `path`: `.safetensors` by its ending, anything else as a
/// PyTorch checkpoint (zip archive, the stream of PyTorch before 1.6, bare pickle).
///
/// Nothing in the file is executed. The state dict is taken from the top level or from one of
/// the keys `state_dict`, `params`, `model`; element types other than f32 are converted.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read. [`Error::Checkpoint`] when it is damaged, when
/// it would call anything but builders of data (the module and name are told), when it holds
/// no state dict or more than one, or when a value is NaN or infinite.
pub fn read(path: &Path) -> Result<Imported> {
    let is_safetensors = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
    let (tensors, mut notes) = if is_safetensors {
        (read_safetensors(path)?.0, Vec::new())
    } else {
        read_pickled(path)?
    };
    for (key, tensor) in &tensors {
        if let Some(index) = tensor.data.iter().position(|value| !value.is_finite()) {
            return Err(Error::checkpoint(
                path,
                format!(
                    "value {index} of the tensor {key:?} is {}",
                    tensor.data[index]
                ),
                "use a checkpoint from before the training went wrong",
            ));
        }
    }
    let tensors = without_prefixes(tensors, &mut notes);
    Ok(Imported { tensors, notes })
}

fn read_pickled(path: &Path) -> Result<(TensorMap, Vec<String>)> {
    let length = path
        .metadata()
        .map_err(|error| Error::io(path, error))?
        .len();
    let pickles = Pickles::find(path)?;
    let mut notes = allow::check(path, pickles.scans())?;
    let copy = pickles.with_plain_dictionaries(path)?;
    let source = copy.as_ref().map_or(path, |copy| copy.path());
    let attempt = || load(source, most_bytes(length), &mut notes);
    // The reader checks what it is given, but a file made to break it must not end a server.
    let tensors = panic::catch_unwind(AssertUnwindSafe(attempt))
        .unwrap_or_else(|payload| Err(format!("the reader gave up: {}", message(&*payload))))
        .map_err(|reason| Error::checkpoint(path, reason, SAVE_AGAIN))?;
    Ok((tensors, notes))
}

/// The text of a panic.
fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no reason was given")
}

fn load(source: &Path, limit: u64, notes: &mut Vec<String>) -> Result<TensorMap, String> {
    let root = PytorchReader::read_pickle_data(source, None).map_err(|error| error.to_string())?;
    let PickleValue::Dict(entries) = root else {
        return Err("it holds no dictionary of tensors".to_owned());
    };
    let found: Vec<&str> = STATE_DICT_KEYS
        .iter()
        .copied()
        .filter(|key| {
            entries
                .get(*key)
                .is_some_and(|value| matches!(value, PickleValue::Dict(_)) && holds_tensor(value))
        })
        .collect();
    let reader = match found[..] {
        [] => PytorchReader::new(source),
        [key] => {
            let mut others: Vec<&str> = entries.keys().map(String::as_str).collect();
            others.retain(|other| *other != key);
            others.sort_unstable();
            notes.push(format!("took the tensors under the top-level key {key:?}"));
            if !others.is_empty() {
                // Keys come from the file: control characters must not reach a terminal.
                let others = others.join(", ");
                notes.push(format!(
                    "left out the top-level keys {}",
                    others.escape_debug()
                ));
            }
            PytorchReader::with_top_level_key(source, key)
        }
        _ => {
            return Err(format!(
                "it holds several state dicts, under {}",
                found.join(" and ")
            ));
        }
    };
    let tensors: BTreeMap<_, _> = reader
        .map_err(|error| error.to_string())?
        .into_tensors()
        .into_iter()
        .collect();
    if tensors.is_empty() {
        return Err("it holds no tensors".to_owned());
    }
    let total = tensors.values().fold(0u64, |total, tensor| {
        total.saturating_add(tensor.byte_len() as u64)
    });
    if total > limit {
        return Err(format!(
            "its tensors would unpack to {total} bytes, more than sixteen times the file"
        ));
    }
    let mut converted: BTreeMap<&str, usize> = BTreeMap::new();
    let mut map = TensorMap::new();
    for (key, tensor) in tensors {
        let bytes = tensor.read().map_err(|error| error.to_string())?;
        if let Some(name) = elements::other_than_f32(tensor.dtype()) {
            *converted.entry(name).or_default() += 1;
        }
        let shape = tensor.shape().to_vec();
        let data = elements::to_f32(tensor.dtype(), &bytes);
        map.insert(key, NamedTensor { shape, data });
    }
    for (name, count) in converted {
        notes.push(format!("converted to f32: {count} of {name}"));
    }
    Ok(map)
}

fn holds_tensor(value: &PickleValue) -> bool {
    match value {
        PickleValue::Unsupported(kind) => kind == "torch.Tensor",
        PickleValue::List(items) => items.iter().any(holds_tensor),
        PickleValue::Dict(entries) => entries.values().any(holds_tensor),
        _ => false,
    }
}

fn without_prefixes(mut tensors: TensorMap, notes: &mut Vec<String>) -> TensorMap {
    while let Some(prefix) = PREFIXES.iter().find(|prefix| {
        let carries = |key: &String| key.len() > prefix.len() && key.starts_with(**prefix);
        !tensors.is_empty() && tensors.keys().all(carries)
    }) {
        notes.push(format!("stripped the prefix {prefix:?} from every key"));
        tensors = tensors
            .into_iter()
            .map(|(key, tensor)| (key[prefix.len()..].to_owned(), tensor))
            .collect();
    }
    tensors
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    use tempfile::TempDir;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    // The pickles are those of Python 3.11's pickle module for what the comments say, with
    // tensors reduced as torch.save reduces them.

    /// OrderedDict: module.w FloatStorage 0 [2, 2], module.n LongStorage 1 []; protocol 2.
    const STATE_DICT: &[u8] = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x08\x00\x00\x00\
        module.wq\x02ctorch._utils\n_rebuild_tensor_v2\nq\x03((X\x07\x00\x00\x00storageq\x04ctorch\n\
        FloatStorage\nq\x05X\x01\x00\x00\x000q\x06X\x06\x00\x00\x00cuda:0q\x07K\x04tq\x08QK\x00K\x02\
        K\x02\x86q\tK\x02K\x01\x86q\n\x89h\x00)Rq\x0btq\x0cRq\rX\x08\x00\x00\x00module.nq\x0eh\x03((\
        h\x04ctorch\nLongStorage\nq\x0fX\x01\x00\x00\x001q\x10h\x07K\x01tq\x11QK\x00))\x89h\x00)Rq\
        \x12tq\x13Rq\x14u.";

    /// {epoch: 3, state_dict: {w}, hyper_parameters: AttributeDict(width=32)}; protocol 2.
    const LIGHTNING: &[u8] = b"\x80\x02}q\x00(X\x05\x00\x00\x00epochq\x01K\x03X\n\x00\x00\x00\
        state_dictq\x02ccollections\nOrderedDict\nq\x03)Rq\x04X\x01\x00\x00\x00wq\x05ctorch._utils\n\
        _rebuild_tensor_v2\nq\x06((X\x07\x00\x00\x00storageq\x07ctorch\nFloatStorage\nq\x08X\x01\x00\
        \x00\x000q\tX\x06\x00\x00\x00cuda:0q\nK\x04tq\x0bQK\x00K\x02K\x02\x86q\x0cK\x02K\x01\x86q\r\
        \x89h\x03)Rq\x0etq\x0fRq\x10sX\x10\x00\x00\x00hyper_parametersq\x11cpytorch_lightning.\
        utilities.parsing\nAttributeDict\nq\x12)\x81q\x13X\x05\x00\x00\x00widthq\x14K su.";

    /// {params: {w}}; protocol 4.
    const PARAMS: &[u8] = b"\x80\x04\x95\xa8\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x06params\x94\x8c\
        \x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94\x8c\x01w\x94\x8c\x0ctorch._utils\x94\
        \x8c\x12_rebuild_tensor_v2\x94\x93\x94((\x8c\x07storage\x94\x8c\x05torch\x94\x8c\x0c\
        FloatStorage\x94\x93\x94\x8c\x010\x94\x8c\x06cuda:0\x94K\x04t\x94QK\x00K\x02K\x02\x86\x94K\
        \x02K\x01\x86\x94\x89h\x04)R\x94t\x94R\x94ss.";

    /// Magic number, protocol number and facts about the machine.
    const STREAM_HEAD: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}\
        q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03X\r\x00\x00\x00little_endianq\x02\x88X\n\
        \x00\x00\x00type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\
        \x04X\x04\x00\x00\x00longq\x07K\x04uu.";

    /// ["0", "1"].
    const STREAM_KEYS: &[u8] = b"\x80\x02]q\x00(X\x01\x00\x00\x000q\x01X\x01\x00\x00\x001q\x02e.";

    /// `os.system("echo hi")`; protocol 4.
    const HOSTILE: &[u8] = b"\x80\x04\x95\"\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06\
        system\x94\x93\x94\x8c\x07echo hi\x94\x85\x94R\x94.";

    const WEIGHTS: [f32; 4] = [1.0, -2.0, 0.5, 4.0];

    fn floats(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    fn archive(folder: &TempDir, pickle: &[u8], weights: &[f32], deflate: bool) -> PathBuf {
        let path = folder.path().join(format!("deflate-{deflate}.pth"));
        let mut writer = ZipWriter::new(fs::File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(if deflate {
            CompressionMethod::Deflated
        } else {
            CompressionMethod::Stored
        });
        writer.add_directory("weights/", options).unwrap();
        let members = [
            ("data.pkl", pickle.to_vec()),
            ("data/0", floats(weights)),
            ("data/1", 117_i64.to_le_bytes().to_vec()),
            ("version", b"3\n".to_vec()),
        ];
        for (name, bytes) in members {
            writer
                .start_file(format!("weights/{name}"), options)
                .unwrap();
            writer.write_all(&bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    fn stream(folder: &TempDir, pickle: &[u8]) -> PathBuf {
        let path = folder.path().join("stream.pth");
        let mut bytes = [STREAM_HEAD, pickle, STREAM_KEYS].concat();
        bytes.extend(4_i64.to_le_bytes());
        bytes.extend(floats(&WEIGHTS));
        bytes.extend(1_i64.to_le_bytes());
        bytes.extend(117_i64.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_state_dict_is_read_from_both_containers() {
        let folder = TempDir::new().unwrap();
        for path in [
            archive(&folder, STATE_DICT, &WEIGHTS, false),
            archive(&folder, STATE_DICT, &WEIGHTS, true),
            stream(&folder, STATE_DICT),
        ] {
            let imported = read(&path).unwrap();
            let keys: Vec<&str> = imported.tensors.keys().map(String::as_str).collect();
            assert_eq!(keys, ["n", "w"]);
            assert_eq!(imported.tensors["w"].shape, [2, 2]);
            assert_eq!(imported.tensors["w"].data, WEIGHTS);
            assert!(imported.tensors["n"].shape.is_empty());
            assert_eq!(imported.tensors["n"].data, [117.0_f32]);
            assert_eq!(
                imported.notes,
                [
                    "converted to f32: 1 of i64",
                    "stripped the prefix \"module.\" from every key"
                ]
            );
        }
    }

    #[test]
    fn the_state_dict_is_found_under_its_key() {
        let folder = TempDir::new().unwrap();
        let imported = read(&archive(&folder, PARAMS, &WEIGHTS, false)).unwrap();
        assert_eq!(imported.tensors["w"].data, WEIGHTS);
        assert_eq!(
            imported.notes,
            ["took the tensors under the top-level key \"params\""]
        );
    }

    #[test]
    fn data_classes_beside_the_weights_are_ignored_and_named() {
        let folder = TempDir::new().unwrap();
        let imported = read(&archive(&folder, LIGHTNING, &WEIGHTS, true)).unwrap();
        assert_eq!(imported.tensors.len(), 1);
        assert_eq!(imported.tensors["w"].data, WEIGHTS);
        assert_eq!(
            imported.notes,
            [
                "ignored the fields of pytorch_lightning.utilities.parsing.AttributeDict",
                "took the tensors under the top-level key \"state_dict\"",
                "left out the top-level keys epoch, hyper_parameters"
            ]
        );
    }

    #[test]
    fn a_file_that_would_run_code_is_refused_by_name() {
        let folder = TempDir::new().unwrap();
        let bare = folder.path().join("bare.pth");
        fs::write(&bare, HOSTILE).unwrap();
        for path in [
            archive(&folder, HOSTILE, &WEIGHTS, true),
            stream(&folder, HOSTILE),
            bare,
        ] {
            let error = read(&path).unwrap_err();
            assert!(
                error.to_string().contains("would call posix.system"),
                "{error}"
            );
            assert_eq!(error.exit_code(), 4);
        }
    }

    #[test]
    fn values_that_are_not_finite_are_refused_with_their_tensor() {
        let folder = TempDir::new().unwrap();
        let path = archive(&folder, PARAMS, &[1.0, f32::NAN, 0.0, 0.0], false);
        let error = read(&path).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("value 1 of the tensor \"w\" is NaN"),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_storage_is_an_error() {
        let folder = TempDir::new().unwrap();
        let path = stream(&folder, STATE_DICT);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        assert_eq!(read(&path).unwrap_err().exit_code(), 4);
    }

    /// Counts and shapes of `checkpoints/KEYS.txt`; the second row of the time table is the
    /// cosine of the first, which is zero.
    #[test]
    #[allow(clippy::print_stderr)]
    fn published_checkpoints_are_read() {
        let Some(shared) = env::var_os("VERMEER_SHARED") else {
            eprintln!("skipped: VERMEER_SHARED names no folder with checkpoints/");
            return;
        };
        let folder = Path::new(&shared).join("checkpoints");
        let cases: [(&str, usize, usize, &str, &[usize]); 12] = [
            (
                "dcgan_mnist/generator.pth",
                19,
                312_707,
                "layer_stack.1.weight",
                &[100, 128, 4, 4],
            ),
            (
                "dcgan_mnist/discriminator.pth",
                14,
                109_826,
                "layer_stack.3.num_batches_tracked",
                &[],
            ),
            (
                "ddpm_mnist/ddpm_mnist.pt",
                173,
                606_852,
                "time_embed.weight",
                &[1000, 100],
            ),
            (
                "vae_mnist/vae_epoch_25.pth",
                10,
                652_824,
                "fc21.weight",
                &[20, 400],
            ),
            (
                "cvae_mnist/vae.pth",
                10,
                409_364,
                "encoder.MLP.L0.weight",
                &[256, 794],
            ),
            (
                "autoencoder_cifar10/cifar10_64.ckpt",
                24,
                337_091,
                "encoder.net.11.weight",
                &[64, 1024],
            ),
            (
                "gan_mlp_mnist/G--300.ckpt",
                6,
                283_920,
                "0.weight",
                &[256, 64],
            ),
            (
                "dncnn/DnCNN-S-25_net.pth",
                77,
                557_952,
                "dncnn.0.weight",
                &[64, 1, 3, 3],
            ),
            (
                "imdn/IMDN_x4.pth",
                92,
                715_176,
                "fea_conv.weight",
                &[64, 3, 3, 3],
            ),
            (
                "real_esrgan/realesr-animevideov3.pth",
                53,
                621_424,
                "body.34.weight",
                &[48, 64, 3, 3],
            ),
            (
                "srgan/netG_epoch_4_100.pth",
                79,
                735_372,
                "block1.0.weight",
                &[64, 3, 9, 9],
            ),
            (
                "cyclegan_horse2zebra_compressed/latest_net_G.pth",
                84,
                356_867,
                "1.weight",
                &[16, 3, 7, 7],
            ),
        ];
        for (name, tensors, numbers, key, shape) in cases {
            let imported = read(&folder.join(name)).unwrap();
            assert_eq!(imported.tensors.len(), tensors, "{name}");
            let total: usize = imported
                .tensors
                .values()
                .map(|tensor| tensor.data.len())
                .sum();
            assert_eq!(total, numbers, "{name}");
            assert_eq!(imported.tensors[key].shape, shape, "{name} {key}");
            if name.starts_with("ddpm") {
                let table = &imported.tensors["time_embed.weight"].data;
                assert!(table[..100].iter().all(|value| *value == 0.0));
                assert!(table[100..200].iter().all(|value| *value == 1.0));
                assert!((table[200] - 2_f32.sin()).abs() < 1e-6);
            }
        }
    }
}
