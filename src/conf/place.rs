//! Where in which file something stands.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// One file of the configuration, as it was read.
#[derive(Debug)]
pub struct Source {
    /// The path as the user wrote it, or joined to the directory of the file that names it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
    /// Bytes that no excerpt may show.
    concealed: Mutex<Vec<Range<usize>>>,
}

impl Source {
    /// A file with its text.
    pub fn new(path: PathBuf, text: String) -> Self {
        Self {
            path,
            text,
            concealed: Mutex::default(),
        }
    }

    /// Whether the byte must not be shown.
    pub(super) fn conceals(&self, byte: usize) -> bool {
        self.concealed.lock().iter().any(|range| range.contains(&byte))
    }
}

/// A range of a [`Source`]; shown as `file:line:column`.
#[derive(Clone)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Byte range of the text meant.
    pub start: usize,
    /// End of the byte range, excluded.
    pub end: usize,
}

impl Place {
    /// The directory that relative paths written at this place start from.
    pub fn directory(&self) -> &Path {
        self.source.path.parent().unwrap_or(Path::new(""))
    }

    /// The first place of a file; used where the whole file is meant.
    pub fn start_of(source: &Arc<Source>) -> Self {
        Self {
            source: source.clone(),
            line: 1,
            column: 1,
            start: 0,
            end: 0,
        }
    }

    /// The place of a byte of `source`.
    pub(super) fn at(source: &Arc<Source>, byte: usize) -> Self {
        let before = source.text.get(..byte).unwrap_or(&source.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self {
            source: source.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            start: byte,
            end: byte,
        }
    }

    /// No excerpt shows what stands here: it may be a secret.
    pub fn conceal(&self) {
        self.source.concealed.lock().push(self.start..self.end);
    }

    /// Whether this is a part of `outer`.
    pub(super) fn is_within(&self, outer: &Self) -> bool {
        Arc::ptr_eq(&self.source, &outer.source) && outer.start <= self.start && self.end <= outer.end.max(outer.start)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.path.display(), self.line, self.column)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
