//! The order in which people count: `s2` before `s10`, folder by folder.

/// A part of a name. Numbers stand before letters and are ordered by value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chunk {
    /// Digits without leading zeros, after their count, so that longer means larger.
    Number(usize, String),
    /// Everything up to the next digit.
    Text(String),
}

/// What to sort a path by, its folders separated by `/`. Names that differ only in leading zeros
/// are told apart by the name itself, which is the last part of the key.
pub(super) fn key(path: &str) -> (Vec<Vec<Chunk>>, String) {
    (path.split('/').map(chunks).collect(), path.to_string())
}

fn chunks(name: &str) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest
            .find(|c: char| c.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (chunk, tail) = rest.split_at(end);
        chunks.push(if digits {
            let value = chunk.trim_start_matches('0');
            Chunk::Number(value.len(), value.to_string())
        } else {
            Chunk::Text(chunk.to_string())
        });
        rest = tail;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_and_folders_stay_together() {
        let ordered = [
            "1.png",
            "2.png",
            "10.png",
            "a01.png",
            "a1.png",
            "a9/2.png",
            "a9/11.png",
            "a10/1.png",
            "a.png",
            "b/c/1.png",
        ];
        let mut sorted = ordered;
        sorted.reverse();
        sorted.sort_by_cached_key(|name| key(name));
        assert_eq!(sorted, ordered);
    }

    #[test]
    fn numbers_longer_than_any_integer_are_ordered() {
        assert!(key("99999999999999999999999999") < key("100000000000000000000000000"));
    }
}
