//! The hash chain: every line carries its number and the hash of the line before.
//!
//! A chain alone shows that lines were changed, dropped or reordered between two lines that are trusted; whoever can write
//! the whole file can write a new chain. The hash of the last line therefore has to be kept elsewhere.

use serde::Deserialize;

/// SHA-256 of a line without its line feed, in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LineHash([u8; 64]);

impl LineHash {
    /// The hash of `line`.
    pub fn of(line: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digest = ring::digest::digest(&ring::digest::SHA256, line);
        let mut hex = [b'0'; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(digest.as_ref()) {
            if let [high, low] = pair {
                *high = DIGITS.get(usize::from(byte >> 4)).copied().unwrap_or(b'0');
                *low = DIGITS.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
            }
        }
        Self(hex)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for LineHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every line says of its place; the rest of the line is not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub v: u32,
    /// The number of the line in its file, from 1.
    pub n: u64,
    /// The hash of the line before; absent on the first line ever.
    pub prev: Option<String>,
    /// Absent on the record of a request.
    pub kind: Option<String>,
}

impl Head {
    /// The head of `line`; `None` where it is no record of schema 1, such as a line torn by a crash.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let head: Self = serde_json::from_slice(line).ok()?;
        (head.v == 1).then_some(head)
    }
}

/// What a whole chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// How many lines.
    pub lines: u64,
    /// What the first line says of the line before it, the last one of an older file.
    pub before: Option<String>,
    /// The hash of the last line, to be compared with one kept elsewhere.
    pub last: Option<LineHash>,
}

/// The first line at which a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// Counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Follows the chain through the lines of one file, each without its line feed.
///
/// Lines torn by a crash are accepted where a `torn` record stands for them.
pub fn verify_chain<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Chain, Broken> {
    let mut chain = Chain {
        lines: 0,
        before: None,
        last: None,
    };
    let mut torn: Vec<&[u8]> = Vec::new();
    for line in lines {
        chain.lines += 1;
        let broken = |why| Broken { line: chain.lines, why };
        let Some(head) = Head::read(line) else {
            torn.push(line);
            continue;
        };
        if head.n != chain.lines {
            return Err(broken("its number is not the number of the line"));
        }
        if torn.is_empty() {
            match chain.last {
                Some(last) if head.prev.as_deref() != Some(last.as_str()) => {
                    return Err(broken("it does not follow the line before"));
                }
                Some(_) => {}
                None => chain.before = head.prev,
            }
        } else {
            let stands_for = serde_json::from_slice::<TornLine>(line).map_err(|_| broken("it follows a torn line"))?;
            let text = torn.join(&b'\n');
            let lines = torn.len() as u64;
            let follows = stands_for.kind == "torn"
                && stands_for.lines == lines
                && stands_for.prev == LineHash::of(&text).as_str()
                && stands_for.after.as_deref() == chain.last.as_ref().map(LineHash::as_str);
            if !follows {
                return Err(broken("it does not follow the torn line before"));
            }
            torn.clear();
        }
        chain.last = Some(LineHash::of(line));
    }
    match torn.len() as u64 {
        0 => Ok(chain),
        torn => Err(Broken {
            line: chain.lines.saturating_sub(torn) + 1,
            why: "it is no record, and no record stands for it",
        }),
    }
}

/// A `torn` record: stands for lines that a crash left unfinished.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TornLine {
    #[serde(rename = "v")]
    _v: u32,
    #[serde(rename = "n")]
    _n: u64,
    /// The hash of all torn lines, joined by line feeds.
    prev: String,
    kind: String,
    /// When it was seen.
    pub at: jiff::Timestamp,
    /// How many torn lines.
    pub lines: u64,
    /// The hash of the last whole line before.
    pub after: Option<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::format::{Entry, write_line};
    use super::*;

    fn file(lines: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut prev: Option<LineHash> = None;
        for n in 1..=lines {
            let from = jiff::Timestamp::from_second(1_790_000_000 + n as i64).unwrap();
            let start = out.len();
            let entry = Entry::Dropped {
                count: n,
                from,
                to: from,
            };
            write_line(&mut out, n, prev.as_ref(), &entry);
            prev = Some(LineHash::of(&out[start..]));
            out.push(b'\n');
        }
        out
    }

    fn verify(file: &[u8]) -> Result<Chain, Broken> {
        let whole = file.strip_suffix(b"\n").unwrap_or(file);
        verify_chain(whole.split(|byte| *byte == b'\n'))
    }

    #[test]
    fn breaks_on_any_changed_byte() {
        let good = file(5);
        let chain = verify(&good).unwrap();
        assert_eq!((chain.lines, chain.before.as_deref()), (5, None));
        for at in 0..good.len() - 1 {
            for flip in [1, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                // The last line is vouched for by whoever kept its hash.
                let holds = verify(&bad).is_ok_and(|bad| bad.last == chain.last);
                assert!(!holds, "byte {at} ^ {flip}");
            }
        }
    }

    #[test]
    fn breaks_on_a_dropped_or_moved_line() {
        let good = file(5);
        let lines: Vec<&[u8]> = good.split(|byte| *byte == b'\n').take(5).collect();
        let without = |drop: usize| {
            let kept = lines.iter().enumerate().filter(|(at, _)| *at != drop);
            verify_chain(kept.map(|(_, line)| *line))
        };
        assert_eq!(without(1).unwrap_err().line, 2);
        assert_eq!(without(0).unwrap_err().line, 1);
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        assert_eq!(verify_chain(swapped).unwrap_err().line, 3);
        assert_eq!(verify_chain(std::iter::empty()).unwrap().last, None);
    }
}
