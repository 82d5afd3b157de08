//! The audit writer: a bounded queue and the one thread that formats, hashes and writes.
//!
//! Whoever records never waits: where the queue is full, the entry is counted as dropped, and a `dropped` line stands for all
//! that were lost once the queue moves again. While the disk refuses, the writer keeps what it has and tries again.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::AuditSettings;
use super::file::{LogFile, OpenFailure};
use super::format::Entry;
use crate::engine::{FreezeChange, Observer, Record, RevocationChange};
use crate::observe::anomaly::Alert;

/// Entries that may wait. At a kilobyte each that is 8 MiB, and at 100 000 requests a second it bridges 80 ms.
const QUEUE: usize = 8192;
/// How long entries gather before they are written together. A sleeping writer must be woken by a system call in the request's
/// own thread, which costs more than all the rest of recording: so it is woken once per batch, not once per record.
const GATHER: Duration = Duration::from_millis(5);
/// Lines are handed to the system at the latest when so many bytes wait.
const MAX_BATCH: usize = 1 << 20;
/// How long the writer waits before it tries again what the disk refused.
const RETRY: Duration = Duration::from_millis(200);

/// What happened to entries since the start, for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lines written.
    pub records: AtomicU64,
    /// Entries lost.
    pub dropped: AtomicU64,
    /// Times the disk refused something.
    pub write_failures: AtomicU64,
}

/// The handle to a log being written. Dropping it ends the writer after what is queued.
#[derive(Debug)]
pub struct Audit {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Audit {
    /// Opens the log and starts its writer. `now` dates the record that stands for a torn end.
    pub fn open(settings: &AuditSettings, now: Timestamp, counts: Arc<Counts>) -> Result<Self, OpenFailure> {
        let (audit, writer) = Self::prepare(settings, now, counts, QUEUE)?;
        let path = audit.path.clone();
        let thread = thread::Builder::new().name("audit".into());
        let started = thread.spawn(move || writer.run());
        started.map_err(|source| OpenFailure::Io { path, source })?;
        Ok(audit)
    }

    fn prepare(
        settings: &AuditSettings,
        now: Timestamp,
        counts: Arc<Counts>,
        capacity: usize,
    ) -> Result<(Self, Writer), OpenFailure> {
        let path = settings.file.0.clone();
        let file = LogFile::open(&path, now)?;
        let (queue, received) = sync_channel(capacity);
        let shared = Arc::new(Shared {
            counts,
            lost: Mutex::new(None),
            reopen: AtomicBool::new(false),
            give_up: AtomicBool::new(false),
            rotate: AtomicU64::new(limit(settings)),
        });
        let writer = Writer {
            file,
            received,
            shared: shared.clone(),
            capacity,
            last_at: now,
            appended: 0,
            open_after: None,
            is_failing: false,
        };
        Ok((Self { queue, shared, path }, writer))
    }

    /// Whether this log can go on under changed settings: the file is the same, and the rotation is taken over.
    /// Otherwise another log has to be opened.
    pub fn adopts(&self, settings: &AuditSettings) -> bool {
        if self.path != settings.file.0 {
            return false;
        }
        self.shared.rotate.store(limit(settings), Ordering::Relaxed);
        true
    }

    /// Queues an alert; like a record it is dropped where the queue is full.
    pub fn alert(&self, alert: Arc<Alert>) {
        let at = alert.at;
        self.queue(Message::Alert(alert), at);
    }

    /// Has the writer open the file that now stands under the path, as after logrotate renamed the old one. Returns at once.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // A full queue means that the writer is awake and will see the flag.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Waits until everything queued so far is on disk, or `patience` is over; says which. Blocks: not for a worker thread.
    /// Entries queued afterwards are dropped.
    pub fn close(&self, patience: Duration) -> bool {
        let (done, ended) = sync_channel(1);
        let deadline = Instant::now() + patience;
        let mut message = Message::Close(done);
        let closed = loop {
            match self.queue.try_send(message) {
                Ok(()) => break ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) == Ok(true),
                Err(TrySendError::Disconnected(_)) => break false,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    message = back;
                    thread::sleep(GATHER);
                }
                Err(TrySendError::Full(_)) => break false,
            }
        };
        self.shared.give_up.store(true, Ordering::Release);
        closed
    }

    fn queue(&self, message: Message, at: Timestamp) {
        if self.queue.try_send(message).is_err() {
            self.shared.lose(1, at, at);
        }
    }
}

impl Observer for Audit {
    fn record(&self, record: &Arc<Record>) {
        self.queue(Message::Record(record.clone()), record.at);
    }

    fn froze(&self, change: &Arc<FreezeChange>) {
        self.queue(Message::Freeze(change.clone()), change.at);
    }

    fn revoked(&self, change: &Arc<RevocationChange>) {
        self.queue(Message::Revocation(change.clone()), change.at);
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.shared.give_up.store(true, Ordering::Release);
    }
}

fn limit(settings: &AuditSettings) -> u64 {
    settings.rotate.as_ref().map_or(u64::MAX, |rotation| rotation.size.0)
}

#[derive(Debug)]
enum Message {
    Record(Arc<Record>),
    Alert(Arc<Alert>),
    Freeze(Arc<FreezeChange>),
    Revocation(Arc<RevocationChange>),
    /// Something changed in [`Shared`].
    Wake,
    /// Write everything, wait for the disk, say whether that went well, end.
    Close(SyncSender<bool>),
}

#[derive(Debug)]
struct Shared {
    counts: Arc<Counts>,
    /// Entries lost and not yet written down.
    lost: Mutex<Option<Lost>>,
    reopen: AtomicBool,
    /// Nobody waits for the disk any more.
    give_up: AtomicBool,
    /// The size from which on a new file is begun; `u64::MAX` for never.
    rotate: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Lost {
    count: u64,
    from: Timestamp,
    to: Timestamp,
}

impl Shared {
    fn lose(&self, count: u64, from: Timestamp, to: Timestamp) {
        self.counts.dropped.fetch_add(count, Ordering::Relaxed);
        let mut lost = self.lost.lock();
        let so_far = lost.unwrap_or(Lost { count: 0, from, to });
        *lost = Some(Lost {
            count: so_far.count.saturating_add(count),
            from: so_far.from.min(from),
            to: so_far.to.max(to),
        });
    }
}

struct Writer {
    file: LogFile,
    received: Receiver<Message>,
    shared: Arc<Shared>,
    capacity: usize,
    /// The instant of the latest entry: names rotated files, so that they follow the clock of the records.
    last_at: Timestamp,
    /// Lines appended and not yet counted as written.
    appended: u64,
    /// After a new file could not be opened: not before this.
    open_after: Option<Instant>,
    /// The disk refused the last attempt; said once in the log, not once per attempt.
    is_failing: bool,
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.received.recv() {
            let mut next = Some(first);
            loop {
                thread::sleep(GATHER);
                match self.batch(next.take()) {
                    Batch::Closed(done) => {
                        let _ = done.send(self.finish());
                        return;
                    }
                    Batch::Ended => {
                        self.finish();
                        return;
                    }
                    Batch::Empty => break,
                    Batch::Written => {}
                }
            }
        }
        self.finish();
    }

    /// Takes what is queued now, and `first` before it, and writes it together.
    fn batch(&mut self, first: Option<Message>) -> Batch {
        let mut outcome = match first {
            None => Batch::Empty,
            Some(_) => Batch::Written,
        };
        let mut next = first;
        for _ in 0..=self.capacity {
            let message = match next.take() {
                Some(message) => message,
                None => match self.received.try_recv() {
                    Ok(message) => message,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        outcome = Batch::Ended;
                        break;
                    }
                },
            };
            outcome = Batch::Written;
            match message {
                Message::Record(record) => self.append(record.at, &Entry::Request(&record)),
                Message::Alert(alert) => self.append(alert.at, &Entry::Alert(&alert)),
                Message::Freeze(change) => self.append(change.at, &Entry::Freeze(&change)),
                Message::Revocation(change) => self.append(change.at, &Entry::Revocation(&change)),
                Message::Wake => {}
                Message::Close(done) => {
                    outcome = Batch::Closed(done);
                    break;
                }
            }
        }
        self.account_for_lost();
        self.write_out();
        self.reopen_if_asked();
        outcome
    }

    fn append(&mut self, at: Timestamp, entry: &Entry<'_>) {
        self.file.append(entry);
        self.appended += 1;
        self.last_at = at;
        if self.file.waiting() >= MAX_BATCH || self.must_rotate() {
            self.write_out();
        }
    }

    /// Writes a line for what was lost since the last one.
    fn account_for_lost(&mut self) {
        let lost = self.shared.lost.lock().take();
        if let Some(Lost { count, from, to }) = lost {
            self.append(to, &Entry::Dropped { count, from, to });
        }
    }

    /// Hands the waiting lines to the system, however often that takes, and begins a new file if this one is full.
    fn write_out(&mut self) {
        while let Err(error) = self.file.flush() {
            self.refused(&error.to_string());
            if self.shared.give_up.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(RETRY);
            // A file moved elsewhere, to another disk perhaps, is the way out of a full one.
            self.reopen_if_asked();
        }
        self.shared
            .counts
            .records
            .fetch_add(std::mem::take(&mut self.appended), Ordering::Relaxed);
        if self.must_rotate() {
            if let Err(error) = self.file.rotate(self.last_at) {
                self.open_after = Some(Instant::now() + RETRY);
                self.refused(&error.to_string());
                return;
            }
            self.open_after = None;
        }
        if std::mem::take(&mut self.is_failing) {
            log::info!("the audit log is being written again");
        }
    }

    fn must_rotate(&self) -> bool {
        self.file.reaches(self.shared.rotate.load(Ordering::Relaxed)) && self.may_open()
    }

    fn may_open(&self) -> bool {
        self.open_after.is_none_or(|at| Instant::now() >= at)
    }

    /// Opens the file under the path, where that was asked for; asked for once, it is tried until it works.
    fn reopen_if_asked(&mut self) {
        if !self.shared.reopen.load(Ordering::Acquire) || !self.may_open() {
            return;
        }
        // Before the attempt: what is asked for while it lasts asks for another.
        self.shared.reopen.store(false, Ordering::Release);
        match self.file.reopen(self.last_at) {
            Ok(lost) => {
                self.open_after = None;
                self.appended = self.appended.saturating_sub(lost);
                if lost > 0 {
                    self.shared.lose(lost, self.last_at, self.last_at);
                }
            }
            Err(error) => {
                self.open_after = Some(Instant::now() + RETRY);
                self.shared.reopen.store(true, Ordering::Release);
                self.refused(&error.to_string());
            }
        }
    }

    /// The last words: everything in the file, and the file on disk.
    fn finish(&mut self) -> bool {
        self.account_for_lost();
        self.write_out();
        let synced: io::Result<()> = self.file.sync();
        if let Err(error) = &synced {
            self.refused(&error.to_string());
        }
        synced.is_ok() && self.file.waiting() == 0
    }

    fn refused(&mut self, why: &str) {
        self.shared.counts.write_failures.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            log::error!("the audit log cannot be written, trying again: {why}");
        }
    }
}

enum Batch {
    /// Nothing was queued.
    Empty,
    Written,
    /// The handle is gone.
    Ended,
    /// Asked to close.
    Closed(SyncSender<bool>),
}

#[cfg(test)]
mod tests;
