//! The classes and functions a checkpoint may name.
//!
//! Everything listed builds data and nothing else: tensors from storages, dictionaries,
//! numbers, sizes. A name that is not listed is refused, however harmless it may be, because
//! the list of what can run code in Python has no end.

use std::path::Path;

use super::pickle::{Global, Scan};
use crate::{Error, Result};

/// What may be done with a named class or function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It builds a tensor or a plain value.
    Data,
    /// It is a dictionary under another name.
    Mapping,
    /// It is a plain data class of a known program, whose fields are not needed.
    Ignored,
    /// Nothing is known about it.
    Refused,
}

/// Storage classes of `torch`, `torch.storage` and `torch.cuda`.
const STORAGES: &[&str] = &[
    "BFloat16Storage",
    "BoolStorage",
    "ByteStorage",
    "CharStorage",
    "ComplexDoubleStorage",
    "ComplexFloatStorage",
    "DoubleStorage",
    "FloatStorage",
    "HalfStorage",
    "IntStorage",
    "LongStorage",
    "ShortStorage",
    "TypedStorage",
    "UntypedStorage",
];

/// Element types, attributes of `torch`.
const DTYPES: &[&str] = &[
    "bfloat16", "bool", "double", "float", "float16", "float32", "float64", "half", "int", "int16",
    "int32", "int64", "int8", "long", "short", "uint16", "uint32", "uint64", "uint8",
];

/// Types of `builtins` that hold values.
const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "set",
    "str",
    "tuple",
];

/// Dictionaries of settings that training programs store beside the weights.
const DATA_CLASSES: &[(&str, &str)] = &[
    ("argparse", "Namespace"),
    ("lightning.fabric.utilities.data", "AttributeDict"),
    ("lightning.pytorch.utilities.parsing", "AttributeDict"),
    ("lightning_fabric.utilities.data", "AttributeDict"),
    ("pytorch_lightning.utilities.parsing", "AttributeDict"),
];

/// Most names shown in a refusal.
const MAX_SHOWN: usize = 5;

/// What may be done with `global`.
pub(super) fn judge(global: &Global) -> Verdict {
    let (module, name) = (global.module.as_str(), global.name.as_str());
    match (module, name) {
        (
            "torch._utils",
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" | "_rebuild_parameter",
        )
        | ("torch", "Size" | "device")
        | ("collections", "OrderedDict")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct" | "scalar")
        | ("numpy", "dtype" | "ndarray")
        | ("_codecs", "encode") => Verdict::Data,
        ("torch", _) if DTYPES.contains(&name) => Verdict::Data,
        ("torch" | "torch.storage" | "torch.cuda", _) if STORAGES.contains(&name) => Verdict::Data,
        ("builtins" | "__builtin__", _) if BUILTINS.contains(&name) => Verdict::Data,
        ("collections", "Counter" | "defaultdict") => Verdict::Mapping,
        _ if DATA_CLASSES.contains(&(module, name)) => Verdict::Ignored,
        _ => Verdict::Refused,
    }
}

/// Refuses the file at `path` when a pickle in it names something unknown; otherwise tells
/// which data classes are ignored, one note each.
///
/// # Errors
/// [`Error::Checkpoint`] with the modules and names, or with a kind of persistent object that
/// is not a storage.
pub(super) fn check<'a>(
    path: &Path,
    scans: impl IntoIterator<Item = &'a Scan>,
) -> Result<Vec<String>> {
    let mut refused: Vec<String> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    for scan in scans {
        for global in &scan.globals {
            match judge(global) {
                Verdict::Data | Verdict::Mapping => {}
                Verdict::Ignored => notes.push(format!(
                    "ignored the fields of {}.{}",
                    global.module, global.name
                )),
                // Names come from the file: control characters must not reach a terminal.
                Verdict::Refused => refused.push(format!(
                    "{}.{}",
                    global.module.escape_debug(),
                    global.name.escape_debug()
                )),
            }
        }
        if let Some(kind) = scan.persistent.iter().find(|kind| *kind != "storage") {
            return Err(Error::checkpoint(
                path,
                format!("refers to an object of kind {kind:?} that only PyTorch can find"),
                "load it in PyTorch where you trust it and save model.state_dict() alone",
            ));
        }
    }
    if refused.is_empty() {
        notes.dedup();
        return Ok(notes);
    }
    let mut shown = refused[..refused.len().min(MAX_SHOWN)].join(", ");
    if refused.len() > MAX_SHOWN {
        shown.push_str(&format!(" and {} more", refused.len() - MAX_SHOWN));
    }
    Err(Error::checkpoint(
        path,
        format!("would call {shown}; it was not opened"),
        "import weights alone: a .safetensors file, or torch.save(model.state_dict(), ...) \
         written where you trust the file",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::pickle::scan;
    use super::*;

    fn global(module: &str, name: &str) -> Global {
        Global {
            module: module.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn only_builders_of_data_pass() {
        let cases = [
            ("torch._utils", "_rebuild_tensor_v2", Verdict::Data),
            ("torch", "FloatStorage", Verdict::Data),
            ("torch.cuda", "HalfStorage", Verdict::Data),
            ("torch", "float32", Verdict::Data),
            ("collections", "OrderedDict", Verdict::Data),
            ("collections", "defaultdict", Verdict::Mapping),
            ("__builtin__", "set", Verdict::Data),
            (
                "pytorch_lightning.utilities.parsing",
                "AttributeDict",
                Verdict::Ignored,
            ),
            ("builtins", "eval", Verdict::Refused),
            ("builtins", "getattr", Verdict::Refused),
            ("torch.storage", "_load_from_bytes", Verdict::Refused),
            ("torch", "load", Verdict::Refused),
            ("torch.nn.modules.conv", "Conv2d", Verdict::Refused),
            ("collections", "OrderedDict.fromkeys", Verdict::Refused),
            ("collections ", "OrderedDict", Verdict::Refused),
            ("evil", "FloatStorage", Verdict::Refused),
        ];
        for (module, name, verdict) in cases {
            assert_eq!(judge(&global(module, name)), verdict, "{module}.{name}");
        }
    }

    #[test]
    fn a_refusal_names_module_and_name_and_exits_with_4() {
        let pickles: [&[u8]; 2] = [
            b"cposix\nsystem\np0\n(Vecho hi\np1\ntp2\nRp3\n.",
            b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x07echo hi\x94\x85\x94R\x94.",
        ];
        for bytes in pickles {
            let scan = scan(bytes, 1 << 20).unwrap();
            let error = check(Path::new("evil.pth"), [&scan]).unwrap_err();
            assert!(
                error.to_string().contains("would call posix.system"),
                "{error}"
            );
            assert_eq!(error.exit_code(), 4);
        }
    }

    #[test]
    fn names_with_control_characters_are_escaped() {
        let scan = scan(&b"cevil\x1b[2J\nrun\n."[..], 1 << 20).unwrap();
        let error = check(Path::new("evil.pth"), [&scan]).unwrap_err();
        assert!(error.to_string().contains("evil\\u{1b}[2J.run"), "{error}");
    }
}
