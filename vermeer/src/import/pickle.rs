//! The names in a pickle, found by following its stack without building anything.
//!
//! A pickle reaches code only through the classes and functions it names: `GLOBAL` and
//! `INST` carry the two names in the stream, `STACK_GLOBAL` (protocol 4) takes them from the
//! stack, where they may have come from the memo. [`scan`] therefore keeps a stack and a memo
//! of short strings and class names and forgets every other value. Protocols 0 to 5 are read;
//! the opcodes are those of Python's `pickletools`.

use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;
use std::rc::Rc;

use super::input::{Input, MAX_TEXT};

/// Most values on the stack or in the memo, so that a short file cannot fill the memory.
const MAX_VALUES: usize = 1 << 22;

/// A class or function a pickle looks up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Global {
    /// Python module, as written in the stream.
    pub module: String,
    /// Name inside the module.
    pub name: String,
}

/// A place where a pickle calls a class or function it named (`REDUCE`, `NEWOBJ`, `NEWOBJ_EX`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Offset of the opcode from the start of the pickle, in bytes.
    pub position: u64,
    /// The opcode.
    pub opcode: u8,
    /// What is called: an index into [`Scan::globals`].
    pub global: usize,
}

/// What one pickle names.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every class and function named, each once, in order of appearance.
    pub globals: Vec<Global>,
    /// The kinds of persistent ids: the first string of each id (`storage` in PyTorch files).
    pub persistent: BTreeSet<String>,
    /// Every call, in order of appearance.
    pub calls: Vec<Call>,
    /// Length of the pickle in bytes, `STOP` included.
    pub length: u64,
}

/// Reads one pickle from `reader`, to just after its `STOP`, and lists what it names.
///
/// Fails with the reason when the bytes are no pickle, end early, exceed `limit` bytes, use
/// the extension registry or out-of-band buffers, or name a class by anything but two strings.
pub(super) fn scan<R: BufRead>(reader: R, limit: u64) -> Result<Scan, String> {
    let mut walker = Walker {
        input: Input::new(reader, limit),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        index: HashMap::new(),
        scan: Scan::default(),
    };
    walker.walk()?;
    walker.scan.length = walker.input.position();
    Ok(walker.scan)
}

/// A value of the symbolic stack.
#[derive(Clone)]
enum Value {
    Text(Rc<str>),
    /// A class or function, by its index in [`Scan::globals`].
    Global(usize),
    /// A tuple, of which only a string in first place is kept.
    Tuple(Option<Rc<str>>),
    Other,
}

struct Walker<R> {
    input: Input<R>,
    stack: Vec<Value>,
    /// Stack heights at the open marks, innermost last.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    index: HashMap<Global, usize>,
    scan: Scan,
}

impl<R: BufRead> Walker<R> {
    fn walk(&mut self) -> Result<(), String> {
        loop {
            let at = self.input.position();
            let opcode = self.input.byte()?;
            match opcode {
                b'.' => return Ok(()),
                0x80 => match self.input.byte()? {
                    0..=5 => {}
                    version => return Err(format!("pickle protocol {version} is not known")),
                },
                0x95 => self.input.skip(8)?, // FRAME: lengths matter to streaming readers only

                // Numbers and constants.
                b'N' | 0x88 | 0x89 | b']' | b'}' | 0x8f => self.push(Value::Other)?,
                b'I' | b'L' | b'F' => {
                    self.input.line()?;
                    self.push(Value::Other)?;
                }
                b'K' => self.constant(1)?,
                b'M' => self.constant(2)?,
                b'J' => self.constant(4)?,
                b'G' => self.constant(8)?,
                0x8a | b'C' => {
                    let length = self.input.number(1)?;
                    self.constant(length)?;
                }
                0x8b | b'B' => {
                    let length = self.input.number(4)?;
                    self.constant(length)?;
                }
                0x8e | 0x96 => {
                    let length = self.input.number(8)?;
                    self.constant(length)?;
                }

                // Strings. Escapes stay as written: no allowed name contains a backslash.
                b'V' => {
                    let line = self.input.line()?;
                    self.push(text(&line))?;
                }
                b'S' => {
                    let line = self.input.line()?;
                    let inner = line.get(1..line.len().saturating_sub(1));
                    self.push(text(inner.unwrap_or_default()))?;
                }
                b'U' | 0x8c => self.string(1)?,
                b'T' | b'X' => self.string(4)?,
                0x8d => self.string(8)?,

                // Containers.
                b'(' => {
                    if self.marks.len() >= MAX_VALUES {
                        return Err("it nests too many marks".to_owned());
                    }
                    self.marks.push(self.stack.len());
                }
                b')' => self.push(Value::Tuple(None))?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(tuple(&items))?;
                }
                0x85..=0x87 => {
                    let mut items = Vec::with_capacity(3);
                    for _ in 0x85..=opcode {
                        items.push(self.pop()?);
                    }
                    items.reverse();
                    self.push(tuple(&items))?;
                }
                b'l' | b'd' | 0x91 => {
                    self.pop_to_mark()?;
                    self.push(Value::Other)?;
                }
                b'a' => self.drop_values(1)?,
                b's' => self.drop_values(2)?,
                b'e' | b'u' | 0x90 => {
                    self.pop_to_mark()?;
                }

                // Stack and memo.
                b'0' if self.marks.last() == Some(&self.stack.len()) => {
                    self.marks.pop();
                }
                b'0' => self.drop_values(1)?,
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.push(top)?;
                }
                b'g' => {
                    let key = self.input.decimal()?;
                    self.recall(key)?;
                }
                b'h' => {
                    let key = self.input.number(1)?;
                    self.recall(key)?;
                }
                b'j' => {
                    let key = self.input.number(4)?;
                    self.recall(key)?;
                }
                b'p' => {
                    let key = self.input.decimal()?;
                    self.memorise(key)?;
                }
                b'q' => {
                    let key = self.input.number(1)?;
                    self.memorise(key)?;
                }
                b'r' => {
                    let key = self.input.number(4)?;
                    self.memorise(key)?;
                }
                0x94 => self.memorise(self.memo.len() as u64)?,

                // Names and calls.
                b'c' => {
                    let global = self.named_in_stream()?;
                    self.push(Value::Global(global))?;
                }
                0x93 => {
                    let name = self.pop()?;
                    let module = self.pop()?;
                    let (Value::Text(module), Value::Text(name)) = (module, name) else {
                        return Err(format!(
                            "byte {at} names a class by something other than two strings"
                        ));
                    };
                    let global = self.global(module.to_string(), name.to_string());
                    self.push(Value::Global(global))?;
                }
                b'i' => {
                    self.named_in_stream()?;
                    self.pop_to_mark()?;
                    self.push(Value::Other)?;
                }
                b'o' => {
                    let items = self.pop_to_mark()?;
                    if !matches!(items.first(), Some(Value::Global(_))) {
                        return Err(unnamed(at));
                    }
                    self.push(Value::Other)?;
                }
                b'R' | 0x81 | 0x92 => {
                    self.drop_values(if opcode == 0x92 { 2 } else { 1 })?;
                    let Value::Global(global) = self.pop()? else {
                        return Err(unnamed(at));
                    };
                    self.scan.calls.push(Call {
                        position: at,
                        opcode,
                        global,
                    });
                    self.push(Value::Other)?;
                }
                b'b' => self.drop_values(1)?,
                b'P' => {
                    let line = self.input.line()?;
                    self.persistent(&text(&line));
                    self.push(Value::Other)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.persistent(&id);
                    self.push(Value::Other)?;
                }

                0x82..=0x84 => {
                    return Err(format!(
                        "byte {at} names a class by a number of the extension registry"
                    ));
                }
                0x97 | 0x98 => return Err(format!("byte {at} asks for an out-of-band buffer")),
                other => return Err(format!("byte {at} ({other:#04x}) is no pickle opcode")),
            }
        }
    }

    fn global(&mut self, module: String, name: String) -> usize {
        let global = Global { module, name };
        if let Some(&index) = self.index.get(&global) {
            return index;
        }
        let index = self.scan.globals.len();
        self.index.insert(global.clone(), index);
        self.scan.globals.push(global);
        index
    }

    fn named_in_stream(&mut self) -> Result<usize, String> {
        let at = self.input.position();
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            *line = String::from_utf8(self.input.line()?)
                .map_err(|_| format!("byte {at} names a class that is not UTF-8 text"))?;
        }
        let [module, name] = lines;
        Ok(self.global(module, name))
    }

    fn persistent(&mut self, id: &Value) {
        let kind = match id {
            Value::Text(kind) | Value::Tuple(Some(kind)) => kind.as_ref(),
            _ => "",
        };
        if !self.scan.persistent.contains(kind) {
            self.scan.persistent.insert(kind.to_owned());
        }
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.stack.len() >= MAX_VALUES {
            return Err(format!("it stacks more than {MAX_VALUES} values"));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The value on top, unless the innermost mark lies on it.
    fn top(&self) -> Result<Value, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(value) if self.stack.len() > floor => Ok(value.clone()),
            _ => Err(format!(
                "byte {} takes a value from an empty stack",
                self.input.position().saturating_sub(1)
            )),
        }
    }

    fn pop(&mut self) -> Result<Value, String> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn drop_values(&mut self, count: usize) -> Result<(), String> {
        for _ in 0..count {
            self.pop()?;
        }
        Ok(())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or_else(|| {
            format!(
                "byte {} misses its mark",
                self.input.position().saturating_sub(1)
            )
        })?;
        Ok(self.stack.split_off(mark))
    }

    fn recall(&mut self, key: u64) -> Result<(), String> {
        let value = self.memo.get(&key).cloned();
        self.push(value.ok_or_else(|| format!("memo entry {key} does not exist"))?)
    }

    fn memorise(&mut self, key: u64) -> Result<(), String> {
        if self.memo.len() >= MAX_VALUES {
            return Err(format!("it memorises more than {MAX_VALUES} values"));
        }
        let value = self.top()?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn constant(&mut self, length: u64) -> Result<(), String> {
        self.input.skip(length)?;
        self.push(Value::Other)
    }

    /// A string whose length is a number of `width` bytes.
    fn string(&mut self, width: usize) -> Result<(), String> {
        let length = self.input.number(width)?;
        if length > MAX_TEXT {
            return self.constant(length);
        }
        let bytes = self.input.bytes(length)?;
        self.push(text(&bytes))
    }
}

fn text(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.into()),
        Err(_) => Value::Other,
    }
}

fn tuple(items: &[Value]) -> Value {
    Value::Tuple(match items.first() {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    })
}

fn unnamed(at: u64) -> String {
    format!("byte {at} calls a value that is no named class or function")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        scan(bytes, 1 << 20)
            .unwrap()
            .globals
            .iter()
            .map(|global| format!("{}.{}", global.module, global.name))
            .collect()
    }

    /// `os.system("echo hi")` as Python 3.11 pickles it in the protocols 0, 2 and 4.
    #[test]
    fn every_way_of_naming_a_class_is_seen() {
        let cases: [&[u8]; 5] = [
            b"cposix\nsystem\np0\n(Vecho hi\np1\ntp2\nRp3\n.",
            b"\x80\x02cposix\nsystem\nq\x00X\x07\x00\x00\x00echo hiq\x01\x85q\x02Rq\x03.",
            b"\x80\x04\x95\"\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\
              \x8c\x07echo hi\x94\x85\x94R\x94.",
            b"(S'echo hi'\niposix\nsystem\n.",
            b"(cposix\nsystem\nS'echo hi'\no.",
        ];
        for case in cases {
            assert_eq!(names(case), ["posix.system"], "{case:?}");
        }
    }

    /// `pickle.dumps((OrderedDict, defaultdict), 4)`: the second class takes its module from
    /// the memo.
    #[test]
    fn names_are_followed_through_the_memo() {
        let bytes = b"\x80\x04\x953\x00\x00\x00\x00\x00\x00\x00\x8c\x0bcollections\x94\
            \x8c\x0bOrderedDict\x94\x93\x94h\x00\x8c\x0bdefaultdict\x94\x93\x94\x86\x94.";
        assert_eq!(
            names(bytes),
            ["collections.OrderedDict", "collections.defaultdict"]
        );
    }

    /// Names hidden behind `DUP`, `POP` and a memo slot written twice.
    #[test]
    fn names_are_followed_through_the_stack() {
        let bytes = b"\x8c\x05posixq\x00\x8c\x04safeq\x0120\x8c\x06systemq\x010h\x00h\x01\x93.";
        assert_eq!(names(bytes), ["posix.system"]);
    }

    #[test]
    fn calls_and_persistent_ids_are_listed() {
        let bytes =
            b"\x80\x02ccollections\nOrderedDict\n)R((U\x07storagectorch\nFloatStorage\ntQtb.";
        let scan = scan(&bytes[..], 1 << 20).unwrap();
        assert_eq!(
            scan.calls,
            [Call {
                position: 28,
                opcode: b'R',
                global: 0
            }]
        );
        assert_eq!(scan.persistent, BTreeSet::from(["storage".to_owned()]));
        assert_eq!(scan.length, bytes.len() as u64);
    }

    #[test]
    fn bytes_that_are_no_pickle_are_refused_with_the_reason() {
        let cases: [(&[u8], &str); 8] = [
            (b"Hello", "byte 0 (0x48) is no pickle opcode"),
            (b"\x80\x09.", "pickle protocol 9 is not known"),
            (b"\x80\x02\x82\x01.", "extension registry"),
            (b"\x80\x05\x97.", "out-of-band buffer"),
            (b"K\x01K\x02\x93.", "something other than two strings"),
            (b"K\x01)R.", "calls a value that is no named class"),
            (b"X\x10\x00\x00\x00abc", "ends in the middle"),
            (b"(0t.", "misses its mark"),
        ];
        for (bytes, reason) in cases {
            let error = scan(bytes, 1 << 20).unwrap_err();
            assert!(error.contains(reason), "{bytes:?}: {error}");
        }
        let long = scan(&b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff"[..], 1 << 20).unwrap_err();
        assert!(long.contains("longer than"), "{long}");
    }
}
