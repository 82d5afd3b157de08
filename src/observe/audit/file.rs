//! The file behind the writer: where the chain goes on after a restart, torn ends, rotation, reopening.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::chain::{Head, LineHash};
use super::format::{Entry, write_line};

/// How much of the end is read to find the last whole line. No line is as long: heads of requests are bounded.
const TAIL: u64 = 4 << 20;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// The system says no.
    #[error("cannot open the audit log `{}`: {source}", path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("the audit log `{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Two writers would break the chain.
    #[error("the audit log `{}` is being written by another gateway", .0.display())]
    InUse(PathBuf),
    /// Appending records to somebody else's file would spoil both.
    #[error("`{}` is not empty and does not end like an audit log; move it away", .0.display())]
    NotALog(PathBuf),
}

/// A log open for appending. Lines wait in memory until [`flush`](Self::flush).
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    size: u64,
    /// The number of the last line, waiting ones counted.
    n: u64,
    /// The hash of the last line, waiting ones counted; in a new file that of the file before.
    last: Option<LineHash>,
    /// Waiting lines, each with its line feed.
    waiting: Vec<u8>,
    /// How many bytes of them are in the file.
    written: usize,
    /// The hash of the line before the waiting ones.
    before: Option<LineHash>,
}

impl LogFile {
    /// Opens or makes the log; `now` dates the record that stands for a torn end. Waits for nothing but the disk.
    pub(super) fn open(path: &Path, now: Timestamp) -> Result<Self, OpenFailure> {
        let io = |source| OpenFailure::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(io)?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        // A pipe without a reader must not hold up the start.
        let mut file = options.custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
        let about = file.metadata().map_err(io)?;
        if !about.is_file() {
            return Err(OpenFailure::NotAFile(path.to_owned()));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenFailure::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => log::warn!("the audit log cannot be locked: {error}"),
        }
        if about.mode() & 0o777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600)).map_err(io)?;
        }
        let end = End::of(&mut file).map_err(io)?;
        let end = end.ok_or_else(|| OpenFailure::NotALog(path.to_owned()))?;
        let mut log = Self {
            path: path.to_owned(),
            file,
            size: about.len(),
            n: end.n,
            last: end.last,
            waiting: Vec::new(),
            written: 0,
            before: end.last,
        };
        if end.unfinished {
            log.waiting.push(b'\n');
        }
        if end.torn > 0 {
            log.append(&Entry::Torn {
                at: now,
                lines: end.torn,
                after: end.after,
            });
        }
        log.flush().map_err(io)?;
        Ok(log)
    }

    /// Adds a line to those waiting.
    pub(super) fn append(&mut self, entry: &Entry<'_>) {
        let start = self.waiting.len();
        self.n = self.n.saturating_add(1);
        write_line(&mut self.waiting, self.n, self.last.as_ref(), entry);
        self.last = self.waiting.get(start..).map(LineHash::of);
        self.waiting.push(b'\n');
    }

    /// Bytes waiting.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len().saturating_sub(self.written)
    }

    /// Whether the file, waiting lines counted, is at least so large.
    pub(super) fn reaches(&self, limit: u64) -> bool {
        self.size.saturating_add(self.waiting() as u64) >= limit
    }

    /// Hands the waiting lines to the system. After an error what is left waits for the next time, to the byte.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.size = self.size.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.waiting.clear();
        // A burst must not hold its memory for ever.
        self.waiting.shrink_to(1 << 20);
        self.written = 0;
        self.before = self.last;
        Ok(())
    }

    /// Waits until the disk has all that was flushed.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the file another name and begins a new one. Nothing is overwritten, and on failure the log goes on where it is.
    pub(super) fn rotate(&mut self, at: Timestamp) -> Result<(), OpenFailure> {
        let failed = |path: &Path, source| OpenFailure::Io {
            path: path.to_owned(),
            source,
        };
        if self.is_in_place() {
            let aside = self.reserve(at).map_err(|error| failed(&self.path, error))?;
            if let Err(error) = fs::rename(&self.path, &aside) {
                let _ = fs::remove_file(&aside);
                return Err(failed(&aside, error));
            }
            if let Err(error) = self.reopen(at) {
                let _ = fs::rename(&aside, &self.path);
                return Err(error);
            }
            return Ok(());
        }
        self.reopen(at).map(|_| ())
    }

    /// Opens the file that now stands under the path, if it is another one, as after logrotate. Lines that could not be
    /// written to the old one are lost; says how many.
    pub(super) fn reopen(&mut self, at: Timestamp) -> Result<u64, OpenFailure> {
        if self.is_in_place() {
            return Ok(0);
        }
        let mut new = Self::open(&self.path, at)?;
        let lost = self.abandon();
        if new.n == 0 {
            new.last = self.last;
            new.before = self.last;
        }
        *self = new;
        Ok(lost)
    }

    /// Whether the path still leads to the open file.
    fn is_in_place(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
            _ => false,
        }
    }

    /// Takes an unused name beside the log by making an empty file, which the rename then replaces.
    fn reserve(&self, at: Timestamp) -> io::Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default();
        for count in 0..10_000 {
            let mut aside = name.to_owned();
            aside.push(format!(".{}-{count}", at.strftime("%Y%m%dT%H%M%SZ")));
            let aside = self.path.with_file_name(aside);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside) {
                Ok(_) => return Ok(aside),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Forgets the waiting lines that are not whole in the file, and says how many.
    fn abandon(&mut self) -> u64 {
        let (done, left) = self.waiting.split_at_checked(self.written).unwrap_or_default();
        let lost = left.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut lines = done.split_inclusive(|byte| *byte == b'\n').rev();
        let whole = lines.find_map(|line| line.strip_suffix(b"\n").filter(|line| !line.is_empty()));
        let last = whole.map(LineHash::of).or(self.before);
        self.last = last;
        self.n = self.n.saturating_sub(lost);
        self.waiting.clear();
        self.written = 0;
        lost
    }
}

/// How a file ends.
struct End {
    /// The number of its last line.
    n: u64,
    /// The hash of its last line; of several torn ones joined.
    last: Option<LineHash>,
    /// How many lines after the last whole one are no records.
    torn: u64,
    /// The hash of the last whole line, where torn ones follow.
    after: Option<LineHash>,
    /// Whether the last line lacks its line feed.
    unfinished: bool,
}

impl End {
    /// `None` where the file does not end like a log.
    fn of(file: &mut File) -> io::Result<Option<Self>> {
        let size = file.metadata()?.len();
        let start = size.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        Ok(Self::read(&tail, start == 0))
    }

    fn read(tail: &[u8], is_whole_file: bool) -> Option<Self> {
        let unfinished = tail.last().is_some_and(|byte| *byte != b'\n');
        let text = tail.strip_suffix(b"\n").unwrap_or(tail);
        if tail.is_empty() {
            return Some(Self {
                n: 0,
                last: None,
                torn: 0,
                after: None,
                unfinished: false,
            });
        }
        let mut torn = 0;
        let mut rest = text;
        loop {
            let (before, line) = match rest.iter().rposition(|byte| *byte == b'\n') {
                Some(at) => (rest.get(..at), rest.get(at + 1..).unwrap_or_default()),
                None => (None, rest),
            };
            if let Some(head) = Head::read(line) {
                let hash = LineHash::of(line);
                // What follows this line, without the line feed between.
                let broken = text.get(before.map_or(0, |before| before.len() + 1) + line.len() + 1..);
                return Some(Self {
                    n: head.n.saturating_add(torn),
                    last: Some(broken.filter(|_| torn > 0).map_or(hash, LineHash::of)),
                    torn,
                    after: (torn > 0).then_some(hash),
                    unfinished,
                });
            }
            torn += 1;
            match before {
                Some(before) => rest = before,
                None => break,
            }
        }
        // The very first line may be torn; it then looks like the beginning of one.
        let beginning = b"{\"v\":1,\"n\":1";
        let alike = text.iter().zip(beginning).all(|(found, wanted)| found == wanted);
        (is_whole_file && torn == 1 && unfinished && alike).then(|| Self {
            n: 1,
            last: Some(LineHash::of(text)),
            torn: 1,
            after: None,
            unfinished,
        })
    }
}

#[cfg(test)]
mod tests;
