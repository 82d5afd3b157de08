//! The revocations of a running gateway, kept in its state folder.
//!
//! Every change is a line that is on disk before it is in force. What hits nothing any more is forgotten now and then, and
//! the file is written anew where most of its lines say nothing any more.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::held::{Figures, Fullness, Held, Item};
use super::line;
use super::marks::{EVER, Lifetimes, Marks, NEVER, SKEW, end, instant, seconds};
use crate::engine::{Extent, Principal, Revocation, Revoked, Whom};
use crate::io::{StateFailure, StateFolder, StateLog, read_state_log};

/// The file in the state folder.
const FILE: &str = "revocations.jsonl";
/// A file with fewer lines that say nothing any more is left as it is.
const MIN_STALE: usize = 4096;
/// And one with fewer bytes.
const MIN_BYTES: usize = 64 << 20;
/// A line has hardly more than that besides the name.
const LINE: usize = 256;

/// Why revocations cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RevocationFailure {
    /// There is no folder to keep them in.
    #[error("there is no folder to keep a revocation in: name one under `state:`, or set STATE_DIRECTORY, and restart")]
    NoState,
    /// Nothing more can be taken in; nothing was forgotten for it.
    #[error("no room for another revocation: {0}")]
    Full(Fullness),
    /// The folder cannot be read or written.
    #[error(transparent)]
    State(#[from] StateFailure),
    /// The file is not one that a gateway wrote.
    #[error("`{path}` does not hold revocations: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

/// The revocations of a running gateway.
#[derive(Debug, Default)]
pub struct Revocations {
    held: Held,
    folder: Option<Arc<StateFolder>>,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Writer {
    /// Where further lines go; `None` where the file has to be written anew first.
    log: Option<StateLog>,
    lines: usize,
}

impl Revocations {
    /// Reads those that an earlier gateway kept; without a folder there are none, and none can be made. What cannot be read
    /// is an error: a revoked token must not be good because a file is broken.
    pub fn open(folder: Option<Arc<StateFolder>>) -> Result<Self, RevocationFailure> {
        let (held, mut writer) = (Held::default(), Writer::default());
        if let Some(folder) = &folder
            && let Some(read) = read_into(&held, folder.path())?
        {
            writer.lines = read.lines;
            if read.is_torn {
                log::warn!("`{FILE}` ends in half a line, of a revocation that was never said to be made");
            } else {
                writer.log = Some(folder.append_to(FILE)?);
            }
        }
        Ok(Self {
            held,
            folder,
            writer: Mutex::new(writer),
        })
    }

    /// What hits the caller at `now`.
    pub fn hit(&self, who: &Principal, now: Timestamp) -> Option<Revoked> {
        self.held.hit(who, now)
    }

    /// How much is held.
    pub fn figures(&self) -> Figures {
        self.held.figures()
    }

    /// Keeps everybody else from changing revocations. Blocks.
    pub fn turn(&self) -> RevocationTurn<'_> {
        RevocationTurn {
            revocations: self,
            writer: self.writer.lock(),
        }
    }
}

#[cfg(test)]
impl Revocations {
    pub(super) fn held(&self) -> &Held {
        &self.held
    }
}

#[cfg(test)]
impl RevocationTurn<'_> {
    pub(super) fn break_log(&mut self) {
        self.writer.log = None;
    }

    pub(super) fn pretend_lines(&mut self, lines: usize) {
        self.writer.lines = lines;
    }
}

/// The right to change revocations.
pub struct RevocationTurn<'a> {
    revocations: &'a Revocations,
    writer: MutexGuard<'a, Writer>,
}

impl RevocationTurn<'_> {
    /// Revokes, besides what is revoked already: of two ends the later stands. On disk and in force when this returns; after
    /// an error nothing changed. Says what stands now. Where nothing more can be taken in, what hits nothing any more is
    /// forgotten first, as [`forget`](Self::forget) does; never anything else.
    pub fn revoke(
        &mut self,
        revocation: &Revocation,
        now: Timestamp,
        lifetimes: Option<&Lifetimes>,
    ) -> Result<Vec<Revocation>, RevocationFailure> {
        let Revocation { whom, extent } = revocation;
        let held = &self.revocations.held;
        if held.room_for(whom).is_err() {
            self.forget(now, lifetimes)?;
        }
        held.room_for(whom).map_err(RevocationFailure::Full)?;
        let marks = held.get(whom).and(marks(whom, *extent, now));
        self.keep(&[Item::Marked(whom.clone(), marks)])?;
        held.set(whom, marks);
        self.tidy();
        Ok(told(whom, marks, NEVER))
    }

    /// Lifts what of somebody is revoked, and says what that was: of all of an authenticator, or of all, what stays out
    /// because of what was forgotten too. After an error nothing changed.
    pub fn lift(&mut self, whom: &Whom) -> Result<Vec<Revocation>, RevocationFailure> {
        let held = &self.revocations.held;
        let lifted = told(whom, held.get(whom), held.floor(whom));
        if !lifted.is_empty() {
            self.keep(&[Item::Marked(whom.clone(), Marks::NONE)])?;
            held.lift(whom);
            self.tidy();
        }
        Ok(lifted)
    }

    /// Forgets what hits nothing any more, and says how much that was: what has ended, and what was about tokens that have
    /// ended since. Nothing where `lifetimes` are not told. After an error nothing changed.
    pub fn forget(&mut self, now: Timestamp, lifetimes: Option<&Lifetimes>) -> Result<usize, RevocationFailure> {
        let held = &self.revocations.held;
        let Some(lifetimes) = lifetimes.filter(|_| held.len() > 0) else {
            return Ok(0);
        };
        let now = now.as_second();
        let floors = held.floors(now, lifetimes);
        if !floors.is_empty() {
            let items = floors.iter().map(|(name, floor)| Item::Floor(name.clone(), *floor));
            self.keep(&items.collect::<Vec<_>>())?;
        }
        for (authenticator, floor) in &floors {
            held.set_floor(authenticator.as_ref(), *floor);
        }
        let forgotten = held.forget(now, lifetimes);
        self.tidy();
        Ok(forgotten)
    }

    /// Writes the file anew where most of it says nothing any more. That does no harm there, so nobody is told of a failure
    /// but the log.
    fn tidy(&mut self) {
        let size = self.revocations.held.size();
        let has_lines = self.writer.lines > 2 * self.revocations.held.len() + MIN_STALE;
        let length = self.writer.log.as_ref().map_or(0, StateLog::length);
        let has_bytes = length > (4 * (size.text + LINE * size.names) + MIN_BYTES) as u64;
        if (has_lines || has_bytes)
            && let Err(error) = self.write_anew()
        {
            log::warn!("{error}");
        }
    }

    /// Puts lines on disk.
    fn keep(&mut self, items: &[Item]) -> Result<(), RevocationFailure> {
        if self.writer.log.is_none() {
            self.write_anew()?;
        }
        let mut lines = Vec::new();
        for item in items {
            line::write(&mut lines, item).map_err(|error| unreadable(self.folder(), error.to_string()))?;
        }
        let writer = &mut *self.writer;
        let log = writer.log.as_mut().ok_or(RevocationFailure::NoState)?;
        let kept = log.append(&lines);
        if log.is_broken() {
            writer.log = None;
        }
        kept?;
        writer.lines += items.len();
        Ok(())
    }

    /// Puts a file with nothing but what is held in place of the one there is.
    pub(super) fn write_anew(&mut self) -> Result<(), RevocationFailure> {
        use std::io::Write;
        let held = &self.revocations.held;
        let folder = self.revocations.folder.as_ref().ok_or(RevocationFailure::NoState)?;
        let mut lines = 1;
        folder.write_with(FILE, |out| {
            out.write_all(line::HEAD)?;
            let mut text = Vec::new();
            held.each(|item| {
                lines += 1;
                text.clear();
                line::write(&mut text, &item)?;
                out.write_all(&text)
            })
        })?;
        // The old one is gone: no further line must go there.
        self.writer.log = None;
        self.writer.log = Some(folder.append_to(FILE)?);
        self.writer.lines = lines;
        Ok(())
    }

    fn folder(&self) -> &Path {
        let folder = self.revocations.folder.as_deref();
        folder.map_or(Path::new(""), StateFolder::path)
    }
}

/// What is revoked in `folder`; nothing where nothing is there. Takes no lock: a gateway may be running on it.
pub fn read_revoked(folder: &Path) -> Result<Held, RevocationFailure> {
    let held = Held::default();
    read_into(&held, folder)?;
    Ok(held)
}

fn read_into(held: &Held, folder: &Path) -> Result<Option<crate::io::LogRead>, RevocationFailure> {
    let read = read_state_log(folder, FILE, |number, text| {
        line::read(held, number, text).map_err(|cause| unreadable(folder, cause))
    })?;
    match read {
        // It is put in place with its first line.
        Some(read) if read.lines == 0 => Err(unreadable(folder, "it is empty".to_owned())),
        read => Ok(read),
    }
}

fn unreadable(folder: &Path, cause: String) -> RevocationFailure {
    RevocationFailure::Unreadable {
        path: folder.join(FILE).display().to_string(),
        cause,
    }
}

fn marks(whom: &Whom, extent: Extent, now: Timestamp) -> Marks {
    match extent {
        Extent::Every { until } => Marks {
            until: until.map_or(EVER, seconds),
            before: match whom {
                // A token that is known was issued by now, on whatever clock.
                Whom::Token { .. } => seconds(now).saturating_add(SKEW.as_secs().cast_signed()),
                _ => NEVER,
            },
        },
        Extent::IssuedBefore(instant) => Marks {
            until: NEVER,
            before: seconds(instant),
        },
    }
}

/// The revocations that marks and a floor are.
fn told(whom: &Whom, marks: Marks, floor: i64) -> Vec<Revocation> {
    let every = (marks.until != NEVER).then(|| Extent::Every {
        until: end(marks.until),
    });
    let is_token = matches!(whom, Whom::Token { .. });
    let before = marks.before.max(floor);
    let issued = (before != NEVER && !is_token).then(|| Extent::IssuedBefore(instant(before)));
    let extents = every.into_iter().chain(issued);
    extents
        .map(|extent| Revocation {
            whom: whom.clone(),
            extent,
        })
        .collect()
}
