//! Copies of issuers' keys in the state folder, so that a gateway that starts while an issuer is away can still judge its
//! tokens. Public keys only, as they were published; they are read again with the eyes of the version that runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::keys::KeySet;
use crate::io::{StateFailure, StateFolder, read_state};

/// The file in the state folder.
const FILE: &str = "keys.json";
/// So many issuers' keys are kept; those fetched longest ago go first.
const MAX_COPIES: usize = 64;

/// Why copies cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CopyFailure {
    /// The file cannot be read.
    #[error(transparent)]
    State(#[from] StateFailure),
    /// The file is not one that a gateway wrote.
    #[error("`{path}` does not hold copies of keys: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

/// The copies of one gateway; none without a state folder.
#[derive(Debug, Default)]
pub struct KeyCopies {
    folder: Option<Arc<StateFolder>>,
    kept: Mutex<Kept>,
}

/// A copy that can be used.
#[derive(Debug)]
pub(super) struct KeyCopy {
    pub keys: KeySet,
    /// How long ago they were fetched.
    pub age: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    v: u32,
    copies: Vec<Copied>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copied {
    issuer: String,
    /// `discover`, or the URL.
    from: String,
    fetched: Timestamp,
    /// The set as it was published.
    set: Box<RawValue>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            v: 1,
            copies: Vec::new(),
        }
    }
}

impl KeyCopies {
    /// Reads those that an earlier gateway left in the folder; what cannot be read is an error.
    pub fn open(folder: Option<Arc<StateFolder>>) -> Result<Self, CopyFailure> {
        let mut kept = Kept::default();
        if let Some(folder) = &folder
            && let Some(text) = read_state(folder.path(), FILE)?
        {
            let unreadable = |cause: String| CopyFailure::Unreadable {
                path: folder.path().join(FILE).display().to_string(),
                cause,
            };
            kept = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
            if kept.v != 1 {
                let cause = format!("it is of version {}, and this gateway knows 1", kept.v);
                return Err(unreadable(cause));
            }
            for copied in &kept.copies {
                let read = KeySet::parse(copied.set.get().as_bytes());
                read.map_err(|error| unreadable(format!("`{}`: {error}", copied.issuer)))?;
            }
        }
        Ok(Self {
            folder,
            kept: Mutex::new(kept),
        })
    }

    /// The keys that were fetched `from` there for the issuer.
    pub(super) fn find(&self, issuer: &str, from: &str) -> Option<KeyCopy> {
        let kept = self.kept.lock();
        let copied = kept.copies.iter().find(|copied| copied.is(issuer, from))?;
        let age = Timestamp::now().duration_since(copied.fetched);
        Some(KeyCopy {
            keys: KeySet::parse(copied.set.get().as_bytes()).ok()?,
            age: Duration::try_from(age).unwrap_or_default(),
        })
    }

    /// Whether anything is kept at all.
    pub(super) fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// Keeps a set that was fetched just now, in place of the one before. Blocks until it is on disk.
    pub(super) fn keep(&self, issuer: &str, from: &str, set: &[u8]) -> Result<(), StateFailure> {
        let Some(folder) = &self.folder else { return Ok(()) };
        // One writer at a time: the file holds the keys of all.
        let mut kept = self.kept.lock();
        // It was read as a set, so it is JSON.
        let Ok(set) = serde_json::from_slice::<Box<RawValue>>(set) else {
            return Ok(());
        };
        kept.copies.retain(|copied| !copied.is(issuer, from));
        kept.copies.insert(
            0,
            Copied {
                issuer: issuer.to_owned(),
                from: from.to_owned(),
                fetched: Timestamp::now(),
                set,
            },
        );
        kept.copies.truncate(MAX_COPIES);
        let text = serde_json::to_vec(&*kept).unwrap_or_default();
        folder.write(FILE, &text)
    }
}

impl Copied {
    fn is(&self, issuer: &str, from: &str) -> bool {
        self.issuer == issuer && self.from == from
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    const BROKEN: &str =
        r#"{"v":1,"copies":[{"issuer":"a","from":"discover","fetched":"2026-11-24T12:00:00Z","set":{}}]}"#;

    fn open(path: &std::path::Path) -> Result<KeyCopies, CopyFailure> {
        KeyCopies::open(Some(Arc::new(StateFolder::open(path).unwrap())))
    }

    #[test]
    fn keeps_each_issuers_last_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let copies = open(&path).unwrap();
        assert!(copies.find("a", "discover").is_none());
        copies.keep("a", "discover", SET.as_bytes()).unwrap();
        copies.keep("b", "https://b/keys", br#"{"keys":[]}"#).unwrap();
        copies.keep("b", "https://b/keys", SET.as_bytes()).unwrap();
        drop(copies);
        let copies = open(&path).unwrap();
        for (issuer, from) in [("a", "discover"), ("b", "https://b/keys")] {
            let copy = copies.find(issuer, from).unwrap();
            assert_eq!((copy.keys.keys.len(), copy.age.as_secs() < 600), (1, true));
        }
        // Keys from elsewhere are other keys.
        assert!(copies.find("a", "https://b/keys").is_none() && copies.find("c", "discover").is_none());
    }

    #[test]
    fn is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let copies = open(&folder.path().join("state")).unwrap();
        for number in 0..=MAX_COPIES {
            copies.keep(&number.to_string(), "discover", SET.as_bytes()).unwrap();
        }
        assert!(copies.find("0", "discover").is_none() && copies.find("1", "discover").is_some());
    }

    #[test]
    fn does_not_start_on_what_no_gateway_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        drop(open(&path).unwrap());
        for text in [
            "",
            "{}",
            "[]",
            r#"{"v":2,"copies":[]}"#,
            r#"{"v":1,"copies":[{}]}"#,
            BROKEN,
        ] {
            std::fs::write(path.join(FILE), text).unwrap();
            assert!(matches!(open(&path), Err(CopyFailure::Unreadable { .. })), "{text}");
        }
    }

    #[test]
    fn keeps_nothing_without_a_folder() {
        let copies = KeyCopies::default();
        copies.keep("a", "discover", SET.as_bytes()).unwrap();
        assert!(copies.find("a", "discover").is_none() && !copies.has_folder());
    }
}
