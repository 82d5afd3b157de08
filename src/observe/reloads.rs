//! How the reloads of the configuration went, for the admin API.

use jiff::Timestamp;
use parking_lot::Mutex;

/// More errors than these are in the log alone.
const MAX_ERRORS: usize = 50;

/// The reloads since the start.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<Reloaded>);

/// How they went.
#[derive(Debug, Clone, Default)]
pub struct Reloaded {
    /// How many were taken.
    pub taken: u64,
    /// How many were refused.
    pub refused: u64,
    /// When the last one was.
    pub last: Option<Timestamp>,
    /// Why the last one was refused, the first fifty reasons; empty where it was taken.
    pub errors: Vec<String>,
}

impl Reloads {
    /// Takes note of one; it was taken if there are no errors.
    pub fn note(&self, at: Timestamp, errors: &[String]) {
        let mut reloaded = self.0.lock();
        match errors.is_empty() {
            true => reloaded.taken += 1,
            false => reloaded.refused += 1,
        }
        reloaded.last = Some(at);
        reloaded.errors = errors.iter().take(MAX_ERRORS).cloned().collect();
    }

    /// How they went.
    pub fn so_far(&self) -> Reloaded {
        self.0.lock().clone()
    }
}
