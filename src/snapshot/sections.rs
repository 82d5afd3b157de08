//! The sections of a configuration: what they name, and which of the names nothing refers to.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::conf::{Load, Node, Place, Sections, Value, merge, nearest};
use crate::policies::passport;

/// What may stand at the top of a configuration, and what happens where several files have it.
pub(super) const SECTIONS: Sections<'static> = Sections {
    known: &[
        "listen",
        "admin",
        "threads",
        "bounds",
        "state",
        "trusted_proxies",
        "upstreams",
        "authenticators",
        "passport",
        "clients",
        "calendars",
        "policies",
        "limits",
        "shapes",
        "defaults",
        "routes",
        "audit",
        "anomalies",
        "tests",
    ],
    named: &[
        "upstreams",
        "authenticators",
        "clients",
        "calendars",
        "policies",
        "limits",
        "shapes",
        "routes",
        "anomalies",
    ],
    lists: &["listen", "tests"],
};

/// The sections whose names others refer to, each with the kind of its names.
const REFERRED: [(&str, &str); 7] = [
    ("upstreams", "upstream"),
    ("authenticators", "authenticator"),
    ("clients", "client"),
    ("calendars", "calendar"),
    ("policies", "policy"),
    ("limits", "limit"),
    ("shapes", "shape"),
];

/// Among more words, misspelt names are not looked for.
const MAX_WORDS: usize = 10_000;

/// Reads the file at `path`, or what the files of a directory come to: its `*.yaml` and `*.yml` in the order of their names,
/// but for hidden ones and those that a calendar of another names as its holidays. The second part is each file as it is.
pub(super) fn read(path: &Path, load: &Load) -> (Option<Node>, Vec<Node>) {
    if !path.is_dir() {
        let document = load.document(path).filter(|document| {
            let is_empty = document.place.end == 0;
            if is_empty {
                load.error(&document.place, "there is nothing in this file");
            }
            !is_empty
        });
        return (document.clone(), document.into_iter().collect());
    }
    let files = match files_of(path) {
        Ok(files) => files,
        Err(error) => {
            load.unreadable(format!("cannot read `{}`: {error}", path.display()));
            return (None, Vec::new());
        }
    };
    if files.is_empty() {
        load.unreadable(format!("no `*.yaml` and no `*.yml` in `{}`", path.display()));
        return (None, Vec::new());
    }
    let mut documents = Vec::new();
    let mut is_whole = true;
    for file in &files {
        match load.document(file) {
            Some(document) => documents.push(document),
            None => is_whole = false,
        }
    }
    let named: Vec<PathBuf> = documents.iter().flat_map(beside).collect();
    documents.retain(|document| {
        let is_named = named.contains(&document.place.source.path);
        let is_of_holidays = document.get("through").is_some() && document.get("dates").is_some();
        if is_of_holidays && !is_named {
            load.error(&document.place, "holidays that no calendar names");
        }
        !is_named && !is_of_holidays
    });
    // What a broken file defines is not known: whatever was found in the others might be its fault.
    let whole = merge(&documents, &SECTIONS, load).filter(|_| is_whole);
    (whole, documents)
}

fn files_of(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        // A link that leads nowhere is a part too, and cannot be read.
        if is_part(&path) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file of that name in a directory is part of the configuration.
pub fn is_part(path: &Path) -> bool {
    let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let name = path.file_name().unwrap_or_default();
    is_yaml && !name.as_encoded_bytes().starts_with(b".")
}

/// The files of holidays and of API keys that a document names.
fn beside(document: &Node) -> Vec<PathBuf> {
    let entries = |section: &str| match document.get(section).map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let calendars = entries("calendars").iter();
    let authenticators = entries("authenticators").iter();
    let holidays = calendars.filter_map(|calendar| calendar.value.get("holidays"));
    let keys = authenticators.filter_map(|authenticator| authenticator.value.get("api_key")?.get("keys"));
    let named = holidays.chain(keys);
    let path = |node: &Node| match &node.value {
        Value::Scalar { text, .. } => Some(node.place.directory().join(text)),
        _ => None,
    };
    named.filter_map(path).collect()
}

/// Makes known every name that the document defines, whatever is wrong with what it stands for.
pub(super) fn declare(document: &Node, load: &Load) {
    if document.get("passport").is_some() {
        passport::declare(load);
    }
    for (section, kind) in REFERRED {
        match document.get(section).map(|node| &node.value) {
            None | Some(Value::Null) => {}
            Some(Value::Map(entries)) => {
                for entry in entries {
                    load.names.declare(kind, &entry.key);
                    if kind == "calendar" {
                        declare_windows(&entry.key, &entry.value, load);
                    }
                }
            }
            Some(_) => {
                load.names.declare_any(kind);
                if kind == "calendar" {
                    load.names.declare_any("window");
                }
            }
        }
    }
}

fn declare_windows(calendar: &str, node: &Node, load: &Load) {
    if let Some(Value::Map(windows)) = node.get("windows").map(|node| &node.value) {
        for window in windows {
            load.names.declare("window", &format!("{calendar}.{}", window.key));
        }
    }
}

/// Warns of names that nothing refers to.
pub(super) fn check_unused(document: &Node, load: &Load) {
    if let (Some(section), false) = (
        document.get("passport"),
        load.has_errors() || passport::is_referred(load),
    ) {
        let message = "no route has `forward: { authorization: passport }`, so nobody gets a passport";
        load.warn(&section.place, message);
    }
    // Where there are errors something may not have been read: then a name also counts that merely stands somewhere.
    let mentioned = match load.has_errors() {
        true => mentions(document),
        false => HashSet::new(),
    };
    let is_mentioned = |name: &str| {
        let is_meant = |word: &String| nearest(word, [name].into_iter()).is_some();
        mentioned.contains(name) || mentioned.len() <= MAX_WORDS && mentioned.iter().any(is_meant)
    };
    let is_unused = |kind: &'static str, name: &str| !load.names.is_referred(kind, name) && !is_mentioned(name);
    for (section, kind) in REFERRED {
        let Some(Value::Map(entries)) = document.get(section).map(|node| &node.value) else {
            continue;
        };
        for entry in entries {
            let warn = |place: &Place, name: &str, kind: &str| {
                // A name that is none cannot be referred to.
                if load.has_found_at(place) {
                    return;
                }
                load.warn(place, format!("nothing refers to the {kind} `{name}`"));
            };
            match kind {
                // Who is left over when no other matches is somebody all the same.
                "client" if entry.value.get("default").is_some() => {}
                "calendar" => {
                    let windows = match entry.value.get("windows").map(|node| &node.value) {
                        Some(Value::Map(windows)) => windows.as_slice(),
                        _ => &[],
                    };
                    let full = |window: &str| format!("{}.{window}", entry.key);
                    let unused: Vec<_> = windows
                        .iter()
                        .filter(|window| is_unused("window", &full(&window.key)))
                        .collect();
                    if unused.len() == windows.len() && is_unused(kind, &entry.key) {
                        warn(&entry.key_place, &entry.key, kind);
                        continue;
                    }
                    for window in unused {
                        warn(&window.key_place, &full(&window.key), "window");
                    }
                }
                _ if is_unused(kind, &entry.key) => warn(&entry.key_place, &entry.key, kind),
                _ => {}
            }
        }
    }
}

/// Every word of the document that could refer to something: of values, and of keys below the names.
fn mentions(document: &Node) -> HashSet<String> {
    fn add(text: &str, words: &mut HashSet<String>) {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        for word in text.split(|c: char| !is_letter(c)).filter(|word| !word.is_empty()) {
            words.insert(word.to_owned());
            words.extend(word.split('.').map(str::to_owned));
        }
    }
    fn collect(node: &Node, is_section: bool, words: &mut HashSet<String>) {
        match &node.value {
            Value::Null => {}
            Value::Scalar { text, .. } => add(text, words),
            Value::List(items) => items.iter().for_each(|item| collect(item, false, words)),
            Value::Map(entries) => {
                for entry in entries {
                    // Right below a section stand the names themselves.
                    if !is_section {
                        add(&entry.key, words);
                    }
                    // Paths are full of words.
                    if entry.key != "match" {
                        collect(&entry.value, false, words);
                    }
                }
            }
        }
    }
    let mut words = HashSet::new();
    if let Value::Map(sections) = &document.value {
        // Calendars refer to nothing.
        for section in sections.iter().filter(|section| section.key != "calendars") {
            collect(&section.value, true, &mut words);
        }
    }
    words
}
