//! The context of one reading of a configuration: findings, and the files that were read.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::excerpt::is_unprintable;
use super::names::Names;
use super::read::unknown;
use super::secret::SecretsMark;
use super::{Entry, Node, Place, Source, Value, nearest, yaml};

/// Larger files are refused before they are parsed.
const MAX_FILE: u64 = 32 << 20;
/// More findings are counted, not told; errors come before warnings.
const MAX_FINDINGS: usize = 1000;
/// Of a finding that stands at more places, these are named.
const MAX_NOTES: usize = 16;
/// So many keys are seen at a glance.
const SHORT: usize = 3;
/// Longer messages are cut in the middle, where they repeat what the file says.
const MAX_MESSAGE: usize = 600;

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
    /// The key that it is about, where that is not known there and none that is was meant.
    pub stray: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        for (place, note) in &self.notes {
            write!(f, "\n  {}", one_line(&format!("{place}: {note}")))?;
        }
        Ok(())
    }
}

impl Finding {
    /// `file:line:column: message (at `path`)`, on one line, whatever the file says.
    pub fn headline(&self) -> String {
        let place = self
            .place
            .as_ref()
            .map_or_else(String::new, |place| format!("{place}: "));
        let warning = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        let path = match self.path.as_str() {
            "" => String::new(),
            path => format!(" (at `{path}`)"),
        };
        one_line(&format!("{place}{warning}{}{path}", self.message))
    }
}

/// Replaces what would end the line or do something to a terminal.
pub fn one_line(text: &str) -> String {
    let character = |c: char| {
        if is_unprintable(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(character).collect()
}

/// Collects findings and files while a configuration is read and compiled.
#[derive(Debug, Default)]
pub struct Load {
    findings: RefCell<Vec<Finding>>,
    /// What was found where: a mistake that is met on several ways is one.
    seen: RefCell<HashSet<(PathBuf, usize, String)>>,
    unkept: Cell<usize>,
    files: RefCell<Vec<Arc<Source>>>,
    wanted: RefCell<Vec<PathBuf>>,
    /// What the secrets are.
    pub(super) secrets: Cell<SecretsMark>,
    /// Findings that stand at several places at once, by what they are about.
    shared: RefCell<HashMap<(&'static str, String), usize>>,
    /// The names that the configuration defines and refers to.
    pub names: Names,
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

    /// Notes a warning that has two ends.
    pub fn warn_with(&self, place: &Place, message: impl Into<String>, other: &Place, note: impl Into<String>) {
        let notes = vec![(other.clone(), note.into())];
        self.add(Severity::Warning, place, message.into(), notes);
    }

    /// Notes at `place` that no `kind` of that name is known, with the nearest of the names that are. Nothing is noted where
    /// the name is defined, though wrongly: that is found there.
    pub fn unknown_name<'k>(
        &self,
        kind: &'static str,
        name: &str,
        place: &Place,
        known: impl Iterator<Item = &'k str>,
    ) {
        if self.names.is_declared(kind, name) {
            return;
        }
        let declared = self.names.declared(kind);
        let mut all: Vec<&str> = known.collect();
        all.extend(declared.iter().map(String::as_str));
        // Nobody reads the hint of a finding that is only counted.
        let is_kept = has_room(&self.findings.borrow(), Severity::Error);
        let message = match nearest(name, all.into_iter().filter(|_| is_kept)) {
            Some(near) => {
                self.names.refer(kind, near);
                format!("unknown {kind} `{name}`, did you mean `{near}`?")
            }
            None => format!("unknown {kind} `{name}`"),
        };
        self.error_about(kind, name, place, message);
    }

    /// Notes that the key of `entry` is none of `known`, with the nearest of them, or all of them.
    pub fn unknown_key(&self, entry: &Entry, known: &[&str]) {
        let kept = self.findings.borrow().len();
        self.error(&entry.key_place, unknown("key", &entry.key, known));
        // A short list says more than where else the key is known.
        let is_stray = known.len() > SHORT && nearest(&entry.key, known.iter().copied()).is_none();
        if let Some(finding) = self.findings.borrow_mut().get_mut(kept).filter(|_| is_stray) {
            finding.stray = Some(entry.key.clone());
        }
    }

    /// Notes that the key of `entry` belongs below one of `holders`, which stand beside it.
    pub fn misplaced_key(&self, entry: &Entry, holders: &[String]) {
        let kept = self.findings.borrow().len();
        let holders: Vec<String> = holders.iter().map(|holder| format!("in `{holder}`")).collect();
        let message = format!("unknown key `{}`, which belongs {}", entry.key, holders.join(" or "));
        self.error(&entry.key_place, message);
        if let Some(finding) = self.findings.borrow_mut().get_mut(kept) {
            finding.stray = Some(entry.key.clone());
        }
    }

    /// Notes an error about the `kind` of that name once: the places after the first are noted with it, so that what is wrong
    /// in one place is not found in all that refer to it.
    pub fn error_about(&self, kind: &'static str, name: &str, place: &Place, message: String) {
        let key = (kind, name.to_owned());
        let known = self.shared.borrow().get(&key).copied();
        let Some(known) = known else {
            let next = self.findings.borrow().len();
            self.error(place, message);
            if self.findings.borrow().len() > next {
                self.shared.borrow_mut().insert(key, next);
            }
            return;
        };
        if let Some(finding) = self.findings.borrow_mut().get_mut(known) {
            let is_known = |at: &Place| at.start == place.start && at.source.path == place.source.path;
            let mut places = finding.place.iter().chain(finding.notes.iter().map(|(place, _)| place));
            if finding.notes.len() < MAX_NOTES && !places.any(is_known) {
                finding.notes.push((place.clone(), "and here".to_owned()));
            }
        }
    }

    fn add(&self, severity: Severity, place: &Place, mut message: String, notes: Vec<(Place, String)>) {
        if message.len() > MAX_MESSAGE {
            let head = message
                .get(..message.floor_char_boundary(MAX_MESSAGE / 2))
                .unwrap_or_default();
            let tail = message.get(message.ceil_char_boundary(message.len() - MAX_MESSAGE / 4)..);
            message = format!("{head} … {}", tail.unwrap_or_default());
        }
        let key = (place.source.path.clone(), place.start, message.clone());
        if !self.seen.borrow_mut().insert(key) {
            return;
        }
        let mut findings = self.findings.borrow_mut();
        if !has_room(&findings, severity) {
            self.unkept.set(self.unkept.get() + 1);
            return;
        }
        findings.push(Finding {
            severity,
            place: Some(place.clone()),
            message,
            notes,
            path: String::new(),
            stray: None,
        });
    }

    /// Whether anything found so far makes the configuration unusable.
    pub fn has_errors(&self) -> bool {
        self.findings
            .borrow()
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    /// Whether something was found at `place`, which need not be an error.
    pub fn has_found_at(&self, place: &Place) -> bool {
        let findings = self.findings.borrow();
        let at = |found: &Place| found.is_within(place);
        findings.iter().any(|finding| finding.place.as_ref().is_some_and(at))
    }

    /// Reads the main file of a configuration. Unreadable files and YAML errors become findings.
    pub fn document(&self, path: &Path) -> Option<Node> {
        match self.open(path) {
            Ok(source) => yaml::parse(&source, self),
            Err(Unreadable::At(place, message)) => {
                self.error(&place, message);
                None
            }
            Err(Unreadable::Whole(message)) => {
                self.unreadable(message);
                None
            }
        }
    }

    /// Notes that there is nothing to find anything in.
    pub fn unreadable(&self, message: String) {
        self.findings.borrow_mut().push(Finding {
            severity: Severity::Error,
            place: None,
            message,
            notes: Vec::new(),
            path: String::new(),
            stray: None,
        });
    }

    /// Reads a YAML file named at `place`, relative to the file that names it.
    pub fn named_document(&self, name: &str, place: &Place) -> Option<Node> {
        let source = self.named_file(name, place)?;
        yaml::parse(&source, self)
    }

    /// Reads a YAML file that is one list, named at `place`, relative to the file that names it, item by item.
    pub fn named_list(&self, name: &str, place: &Place, each: impl FnMut(&Node)) -> Option<()> {
        let source = self.named_file(name, place)?;
        yaml::items(&source, self, each)
    }

    /// Reads a text file named at `place`, relative to the file that names it; it becomes part of the configuration's hash.
    pub fn named_file(&self, name: &str, place: &Place) -> Option<Arc<Source>> {
        match self.open(&place.directory().join(name)) {
            Ok(source) => Some(source),
            Err(Unreadable::At(other, message)) => {
                self.error_with(place, format!("`{name}` cannot be read"), &other, message);
                None
            }
            Err(Unreadable::Whole(message)) => {
                self.error(place, message);
                None
            }
        }
    }

    /// Parses a text that is in no file; `name` stands in for its path.
    pub fn text(&self, name: &str, text: &str) -> Option<Node> {
        let source = Arc::new(Source::new(PathBuf::from(name), text.to_owned()));
        self.files.borrow_mut().push(source.clone());
        yaml::parse(&source, self)
    }

    fn open(&self, path: &Path) -> Result<Arc<Source>, Unreadable> {
        let shown = path.display();
        if let Some(source) = self.files.borrow().iter().find(|source| source.path == path) {
            return Ok(source.clone());
        }
        self.wanted.borrow_mut().push(path.to_owned());
        let failed = |error: std::io::Error| Unreadable::Whole(format!("cannot read `{shown}`: {error}"));
        let too_large = || Unreadable::Whole(format!("`{shown}` is larger than 32 MiB"));
        // A device or a pipe would be read without end.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(Unreadable::Whole(format!("cannot read `{shown}`: it is not a file")));
        }
        if metadata.len() > MAX_FILE {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(too_large());
        }
        let (text, fault) = decode(bytes);
        let source = Arc::new(Source::new(path.to_owned(), text));
        if let Some((at, message)) = fault {
            return Err(Unreadable::At(Place::at(&source, at), message));
        }
        self.files.borrow_mut().push(source.clone());
        Ok(source)
    }

    /// Every file read so far, in the order of reading.
    pub fn files(&self) -> Vec<Arc<Source>> {
        self.files.borrow().clone()
    }

    /// Has a file watched that is no part of the configuration's hash.
    pub fn watch(&self, path: &Path) {
        self.wanted.borrow_mut().push(path.to_owned());
    }

    /// Every path that was asked for, also of those that could not be read.
    pub fn wanted(&self) -> Vec<PathBuf> {
        self.wanted.borrow().clone()
    }

    /// The findings, in the order of the files, each with its path inside the one of `documents` it stands in.
    pub fn into_findings<'d>(self, documents: impl IntoIterator<Item = &'d Node>) -> Vec<Finding> {
        let documents: Vec<&Node> = documents.into_iter().collect();
        let mut findings = self.findings.into_inner();
        for finding in &mut findings {
            // Where a whole file is meant, nothing in it is.
            let Some(place) = finding.place.as_ref().filter(|place| place.end > 0) else {
                continue;
            };
            let of_file = documents
                .iter()
                .find(|node| Arc::ptr_eq(&node.place.source, &place.source));
            finding.path = of_file.map_or_else(String::new, |document| path_to(document, place));
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
        let found = findings.len();
        let is_error = |finding: &Finding| finding.severity == Severity::Error;
        let mut room = MAX_FINDINGS.saturating_sub(findings.iter().filter(|finding| is_error(finding)).count());
        findings.retain(|finding| {
            let is_told = is_error(finding) || room > 0;
            room -= usize::from(is_told && !is_error(finding));
            is_told
        });
        let more = self.unkept.get() + found - findings.len();
        if more > 0 {
            // About no line of the file, and no error on anybody's.
            let last = findings.last().and_then(|last| last.place.as_ref());
            findings.push(Finding {
                severity: Severity::Warning,
                place: last.map(|place| Place::start_of(&place.source)),
                message: format!("{more} more findings are not shown"),
                notes: Vec::new(),
                path: String::new(),
                stray: None,
            });
        }
        findings
    }
}

/// Whether one more of that kind is kept: an error is never crowded out by warnings.
fn has_room(findings: &[Finding], severity: Severity) -> bool {
    let same = || findings.iter().filter(|known| known.severity == severity);
    findings.len() < MAX_FINDINGS || same().count() < MAX_FINDINGS
}

/// Why a file could not be read.
enum Unreadable {
    /// All of it.
    Whole(String),
    /// It cannot be text, for what stands there.
    At(Place, String),
}

/// The text of a file without its byte order mark, and where it is none.
fn decode(bytes: Vec<u8>) -> (String, Option<(usize, String)>) {
    const MARK: char = '\u{feff}';
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "this is UTF-16; save it as UTF-8".to_owned();
        return (String::new(), Some((0, message)));
    }
    match String::from_utf8(bytes) {
        Ok(text) => match text.strip_prefix(MARK) {
            Some(rest) => (rest.to_owned(), None),
            None => (text, None),
        },
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let bad = bytes.get(at).copied().unwrap_or_default();
            let message = format!("the byte 0x{bad:02x} is not UTF-8; save the file as UTF-8");
            (String::from_utf8_lossy(&bytes).into_owned(), Some((at, message)))
        }
    }
}

/// The path of the innermost node of `document` that contains `place`.
fn path_to(document: &Node, place: &Place) -> String {
    let mut path = String::new();
    let mut node = document;
    loop {
        let next = match &node.value {
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let on_key = place.is_within(&entry.key_place);
                (on_key || place.is_within(&entry.value.place)).then(|| {
                    let dot = if path.is_empty() { "" } else { "." };
                    (format!("{dot}{}", entry.key), (!on_key).then_some(&entry.value))
                })
            }),
            Value::List(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| place.is_within(&item.place).then(|| (format!("[{index}]"), Some(item)))),
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
