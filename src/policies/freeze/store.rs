//! The freezes of a running gateway, kept in its state folder.
//!
//! Requests read a pointer; changes are written to disk first, one after the other, and then swapped in.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::held::{Held, HeldFreeze};
use crate::engine::{Freezable, Freeze};
use crate::io::{StateFailure, StateFolder, read_state};

/// The file in the state folder.
const FILE: &str = "freezes.json";

/// Why freezes cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FreezeFailure {
    /// There is no folder to keep them in.
    #[error("there is no folder to keep a freeze in: name one under `state:`, or set STATE_DIRECTORY, and restart")]
    NoState,
    /// The folder cannot be read or written.
    #[error(transparent)]
    State(#[from] StateFailure),
    /// The file is not one that a gateway wrote.
    #[error("`{path}` does not hold freezes: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

impl FreezeFailure {
    /// Whether the configuration is to blame, and not the disk.
    pub fn is_for_want_of_a_folder(&self) -> bool {
        matches!(self, Self::NoState)
    }
}

/// The freezes of a running gateway.
#[derive(Debug, Default)]
pub struct Freezes {
    held: ArcSwap<Held>,
    folder: Option<Arc<StateFolder>>,
    turn: Mutex<()>,
}

impl Freezes {
    /// Reads those that an earlier gateway kept; without a folder there are none, and none can be set. What cannot be read
    /// is an error: a frozen route must not open because a file is broken.
    pub fn open(folder: Option<Arc<StateFolder>>) -> Result<Self, FreezeFailure> {
        let held = match &folder {
            Some(folder) => read_held(folder.path())?,
            None => Held::default(),
        };
        Ok(Self {
            held: ArcSwap::from_pointee(held),
            folder,
            turn: Mutex::default(),
        })
    }

    /// What is frozen now.
    pub fn held(&self) -> Guard<Arc<Held>> {
        self.held.load()
    }

    /// Keeps everybody else from changing freezes. Blocks.
    pub fn turn(&self) -> Turn<'_> {
        Turn {
            freezes: self,
            _guard: self.turn.lock(),
        }
    }
}

/// The right to change freezes.
pub struct Turn<'a> {
    freezes: &'a Freezes,
    _guard: MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Freezes, in place of what is frozen already. On disk and in force when this returns; after an error nothing changed.
    pub fn freeze(&self, freezes: Vec<Freeze>, now: Timestamp, by: IpAddr) -> Result<Vec<HeldFreeze>, FreezeFailure> {
        let freezes = freezes.into_iter().map(|freeze| HeldFreeze {
            freeze: Arc::new(freeze),
            since: now,
            by,
        });
        let freezes: Vec<HeldFreeze> = freezes.collect();
        self.change(now, |held| {
            freezes.iter().cloned().for_each(|freeze| held.insert(freeze));
        })?;
        Ok(freezes)
    }

    /// Thaws what of a name is frozen, and says what that was. After an error nothing changed.
    pub fn thaw(&self, kinds: &[Freezable], name: &str, now: Timestamp) -> Result<Vec<HeldFreeze>, FreezeFailure> {
        self.change(now, |held| {
            kinds.iter().filter_map(|kind| held.remove(*kind, name)).collect()
        })
    }

    fn change<T>(&self, now: Timestamp, change: impl FnOnce(&mut Held) -> T) -> Result<T, FreezeFailure> {
        let folder = self.freezes.folder.as_ref().ok_or(FreezeFailure::NoState)?;
        let mut held = Held::clone(&self.freezes.held.load());
        held.forget_ended(now);
        let done = change(&mut held);
        let text = write(&held, now).map_err(|error| FreezeFailure::Unreadable {
            path: folder.path().join(FILE).display().to_string(),
            cause: error.to_string(),
        })?;
        folder.write(FILE, &text)?;
        self.freezes.held.store(Arc::new(held));
        Ok(done)
    }
}

/// The freezes kept in `folder`; none where nothing is there. Takes no lock: a gateway may be running on it.
pub fn read_held(folder: &Path) -> Result<Held, FreezeFailure> {
    let unreadable = |cause: String| FreezeFailure::Unreadable {
        path: folder.join(FILE).display().to_string(),
        cause,
    };
    let Some(text) = read_state(folder, FILE)? else {
        return Ok(Held::default());
    };
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    if kept.v != 1 {
        return Err(unreadable(format!(
            "it is of version {}, and this gateway knows 1",
            kept.v
        )));
    }
    let mut held = Held::default();
    for KeptFreeze {
        kind,
        name,
        until,
        since,
        by,
        reason,
    } in kept.freezes
    {
        held.insert(HeldFreeze {
            freeze: Arc::new(Freeze {
                kind,
                name: name.into(),
                until,
                reason: reason.into(),
            }),
            since,
            by,
        });
    }
    Ok(held)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    v: u32,
    freezes: Vec<KeptFreeze>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptFreeze {
    kind: Freezable,
    name: String,
    until: Option<Timestamp>,
    since: Timestamp,
    by: IpAddr,
    reason: String,
}

fn write(held: &Held, now: Timestamp) -> serde_json::Result<Vec<u8>> {
    let freezes = held.in_force(now).into_iter().map(|held| KeptFreeze {
        kind: held.freeze.kind,
        name: held.freeze.name.to_string(),
        until: held.freeze.until,
        since: held.since,
        by: held.by,
        reason: held.freeze.reason.to_string(),
    });
    let kept = Kept {
        v: 1,
        freezes: freezes.collect(),
    };
    let mut text = serde_json::to_vec_pretty(&kept)?;
    text.push(b'\n');
    Ok(text)
}
