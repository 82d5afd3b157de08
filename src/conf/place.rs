//! Where in which file something stands.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file of the configuration, as it was read.
#[derive(Debug)]
pub struct Source {
    /// The path as the user wrote it, or joined to the directory of the file that names it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
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
