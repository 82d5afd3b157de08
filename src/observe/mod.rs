//! Those who are told about finished requests. Nothing here takes part in a request: what is slow goes on a queue.
//!
//! - [`audit`]: one JSON line per request, chained by hashes; its writer and its reader.
//! - [`metrics`]: counters and histograms for Prometheus.
//! - [`anomaly`]: detectors that watch an address or a caller over a while, and raise an alert.
//! - [`Reloads`]: how changes of the configuration went.

pub mod anomaly;
pub mod audit;
pub mod metrics;
mod reloads;

use std::fmt;
use std::sync::Arc;

pub use reloads::{Reloaded, Reloads};

use crate::engine::{FreezeChange, Observer, Record, RevocationChange};

/// The connections of clients.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// Closed before a byte of HTTP was read, since the start, by reason.
    pub refused: [(&'static str, u64); 3],
    /// In HTTP/2 ended for what came on them, since the start, by reason.
    pub cut: [(&'static str, u64); 4],
}

/// All observers of one gateway, in the order they are told.
#[derive(Clone, Default)]
pub struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// No observers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn with(mut self, observer: Arc<dyn Observer>) -> Self {
        self.0.push(observer);
        self
    }
}

impl Observer for Observers {
    fn record(&self, record: &Arc<Record>) {
        for observer in &self.0 {
            observer.record(record);
        }
    }

    fn froze(&self, change: &Arc<FreezeChange>) {
        for observer in &self.0 {
            observer.froze(change);
        }
    }

    fn revoked(&self, change: &Arc<RevocationChange>) {
        for observer in &self.0 {
            observer.revoked(change);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.0.len())
    }
}

#[cfg(test)]
pub(crate) mod samples;
