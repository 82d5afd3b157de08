//! The context of one reading of a configuration: findings, and the files that were read.

use std::cell::RefCell;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Node, Place, Source, Value, yaml};

/// Larger files are refused before they are parsed.
const MAX_FILE: u64 = 16 << 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration can be used; somebody should look.
    Warning,
    /// The configuration cannot be used.
    Error,
}

/// One thing found wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Error or warning.
    pub severity: Severity,
    /// Where; nothing where no file could be read.
    pub place: Option<Place>,
    /// What is wrong, in lower case, the user's words in backticks.
    pub message: String,
    /// Further places that matter, each with a word on why.
    pub notes: Vec<(Place, String)>,
    /// The path inside the document (`routes.transfer.limits[0]`), empty at the top.
    pub path: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if !self.path.is_empty() {
            write!(f, " (at `{}`)", self.path)?;
        }
        for (place, note) in &self.notes {
            write!(f, "\n  {place}: {note}")?;
        }
        Ok(())
    }
}

/// Collects findings and files while a configuration is read and compiled.
#[derive(Debug, Default)]
pub struct Load {
    findings: RefCell<Vec<Finding>>,
    files: RefCell<Vec<Arc<Source>>>,
}

impl Load {
    /// A fresh context.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes an error at `place`.
    pub fn error(&self, place: &Place, message: impl Into<String>) {
        self.add(Severity::Error, place, message.into(), Vec::new());
    }

    /// Notes an error that has two ends, such as two names that clash.
    pub fn error_with(&self, place: &Place, message: impl Into<String>, other: &Place, note: impl Into<String>) {
        self.add(
            Severity::Error,
            place,
            message.into(),
            vec![(other.clone(), note.into())],
        );
    }

    /// Notes a warning at `place`.
    pub fn warn(&self, place: &Place, message: impl Into<String>) {
        self.add(Severity::Warning, place, message.into(), Vec::new());
    }

    fn add(&self, severity: Severity, place: &Place, message: String, notes: Vec<(Place, String)>) {
        let finding = Finding {
            severity,
            place: Some(place.clone()),
            message,
            notes,
            path: String::new(),
        };
        self.findings.borrow_mut().push(finding);
    }

    /// Whether anything found so far makes the configuration unusable.
    pub fn has_errors(&self) -> bool {
        self.findings
            .borrow()
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    /// Reads the main file of a configuration. Unreadable files and YAML errors become findings.
    pub fn document(&self, path: &Path) -> Option<Node> {
        match self.open(path) {
            Ok(source) => yaml::parse(&source, self),
            Err(message) => {
                self.findings.borrow_mut().push(Finding {
                    severity: Severity::Error,
                    place: None,
                    message,
                    notes: Vec::new(),
                    path: String::new(),
                });
                None
            }
        }
    }

    /// Reads a YAML file named at `place`, relative to the file that names it.
    pub fn named_document(&self, name: &str, place: &Place) -> Option<Node> {
        let source = self.named_file(name, place)?;
        yaml::parse(&source, self)
    }

    /// Reads a text file named at `place`, relative to the file that names it; it becomes part of the configuration's hash.
    pub fn named_file(&self, name: &str, place: &Place) -> Option<Arc<Source>> {
        match self.open(&place.directory().join(name)) {
            Ok(source) => Some(source),
            Err(message) => {
                self.error(place, message);
                None
            }
        }
    }

    /// Parses a text that is in no file; `name` stands in for its path.
    pub fn text(&self, name: &str, text: &str) -> Option<Node> {
        let source = Arc::new(Source {
            path: PathBuf::from(name),
            text: text.to_owned(),
        });
        self.files.borrow_mut().push(source.clone());
        yaml::parse(&source, self)
    }

    fn open(&self, path: &Path) -> Result<Arc<Source>, String> {
        let shown = path.display();
        if let Some(source) = self.files.borrow().iter().find(|source| source.path == path) {
            return Ok(source.clone());
        }
        let failed = |error: std::io::Error| format!("cannot read `{shown}`: {error}");
        // A device or a pipe would be read without end.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(format!("cannot read `{shown}`: it is not a file"));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("`{shown}` is larger than 16 MiB"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            format!(
                "`{shown}` is not UTF-8: the first bad byte is at offset {}",
                error.utf8_error().valid_up_to()
            )
        })?;
        let source = Arc::new(Source {
            path: path.to_owned(),
            text,
        });
        self.files.borrow_mut().push(source.clone());
        Ok(source)
    }

    /// Every file read so far, in the order of reading.
    pub fn files(&self) -> Vec<Arc<Source>> {
        self.files.borrow().clone()
    }

    /// The findings, in the order of the files, each with its path inside `document`.
    pub fn into_findings(self, document: Option<&Node>) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        for finding in &mut findings {
            if let (Some(place), Some(document)) = (&finding.place, document) {
                finding.path = path_to(document, place);
            }
        }
        findings.sort_by(|a, b| {
            let key = |finding: &Finding| {
                finding
                    .place
                    .as_ref()
                    .map(|place| (place.source.path.clone(), place.line, place.column))
            };
            key(a).cmp(&key(b))
        });
        // What `defaults` gets wrong is found again by every route that inherits it.
        findings.dedup_by(|a, b| a.message == b.message && a.path == b.path && a.to_string() == b.to_string());
        findings
    }
}

/// The path of the innermost node of `document` that contains `place`.
fn path_to(document: &Node, place: &Place) -> String {
    let mut path = String::new();
    let mut node = document;
    if !Arc::ptr_eq(&node.place.source, &place.source) {
        return path;
    }
    let within = |node: &Node| node.place.start <= place.start && place.end <= node.place.end.max(node.place.start);
    loop {
        let next = match &node.value {
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let on_key = entry.key_place.start <= place.start && place.end <= entry.key_place.end;
                (on_key || within(&entry.value)).then(|| {
                    let dot = if path.is_empty() { "" } else { "." };
                    (format!("{dot}{}", entry.key), (!on_key).then_some(&entry.value))
                })
            }),
            Value::List(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| within(item).then(|| (format!("[{index}]"), Some(item)))),
            Value::Null | Value::Scalar { .. } => None,
        };
        match next {
            None => return path,
            Some((step, inner)) => {
                path.push_str(&step);
                match inner {
                    None => return path,
                    Some(inner) => node = inner,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_files_alone() {
        for name in ["/dev/zero", "/", "/no such file"] {
            let load = Load::new();
            assert!(load.document(Path::new(name)).is_none(), "{name}");
            assert!(load.has_errors(), "{name}");
        }
    }
}
