//! The audit log: one JSON line per finished request, each carrying the hash of the line before.
//!
//! ```yaml
//! audit:
//!   file: ../var/audit.jsonl        # relative to the configuration file; made with mode 0600, its folders with 0700
//!   rotate: { size: 256MiB }        # then renamed to audit.jsonl.<time>-<n>; without it, SIGUSR1 after logrotate's rename
//! ```
//!
//! - [`format`](mod@format) writes a line, [`reader`] reads one back into what is needed to decide again.
//! - [`chain`] numbers and hashes the lines.
//! - `writer` is the thread with its bounded queue; `file` the file it writes: torn ends, rotation, reopening.
//!
//! What is kept of a request: the method, the path template with its parameters, and only those headers, query values and
//! claims that some rule reads. Never a token, never a raw query.

pub mod chain;
mod file;
pub mod format;
pub mod reader;
mod writer;

use std::path::PathBuf;

pub use chain::{Broken, Chain, LineHash, verify_chain};
pub use file::OpenFailure;
pub use reader::{Line, ReadFailure, Recorded, RecordedDecision, read_line};
pub use writer::{Audit, Counts};

use crate::conf::{ByteSize, Describe, Load, Node, Read, Schema, Schemas};

crate::settings! {
    /// The audit log: one JSON line per finished request.
    #[derive(PartialEq, Eq)]
    pub struct AuditSettings {
        /// The file of the log, relative to this one; made with mode 0600.
        pub file: LogPath,
        /// When a new file is begun; absent, never.
        pub rotate: Option<Rotation>,
    }
}

crate::settings! {
    /// When a new file is begun.
    #[derive(PartialEq, Eq)]
    pub struct Rotation {
        /// The size from which on the next line goes to a new file, at least `4KiB`.
        pub size: RotationSize,
    }
}

/// The path of a log, joined to the directory of the configuration file that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPath(pub PathBuf);

impl Describe for LogPath {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[\s\S]*[^/]$")
    }
}

impl Read for LogPath {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("the path of a file", load, |text| {
            if text.is_empty() || text.ends_with('/') {
                return Err("is not the path of a file".into());
            }
            Ok(Self(node.place.directory().join(text)))
        })
    }
}

/// A size in bytes that holds some records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationSize(pub u64);

impl Describe for RotationSize {
    fn schema(schemas: &mut Schemas) -> Schema {
        ByteSize::schema(schemas)
    }
}

impl Read for RotationSize {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        const LEAST: u64 = 4096;
        let ByteSize(size) = ByteSize::read(node, load)?;
        if size < LEAST {
            load.error(
                &node.place,
                "a file this small holds a few records only; the least is `4KiB`",
            );
            return None;
        }
        Some(Self(size))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(yaml: &str) -> Result<AuditSettings, Vec<String>> {
        let load = Load::new();
        let node = load.text("conf/t.yaml", yaml).unwrap();
        let settings = AuditSettings::read(&node, &load);
        let found = load.into_findings(Some(&node));
        settings.ok_or_else(|| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn finds_the_file_beside_the_configuration() {
        let settings = read("file: ../var/a.jsonl\nrotate: { size: 4KiB }\n").unwrap();
        assert_eq!(settings.file.0, Path::new("conf/../var/a.jsonl"));
        assert_eq!(settings.rotate.unwrap().size, RotationSize(4096));
        assert_eq!(read("file: /a.jsonl").unwrap().file.0, Path::new("/a.jsonl"));
    }

    #[test]
    fn points_at_bad_settings() {
        let found = read("file: ''\nkey: a.key\nrotate: { size: 1KiB }\n").unwrap_err();
        assert_eq!(
            found,
            [
                "conf/t.yaml:1:7: `` is not the path of a file (at `file`)",
                "conf/t.yaml:2:1: unknown key `key`, expected one of `file`, `rotate` (at `key`)",
                "conf/t.yaml:3:17: a file this small holds a few records only; the least is `4KiB` (at `rotate.size`)",
            ]
        );
    }
}
