//! Who answers a route: an upstream, an aggregate of several, or the configuration itself.

pub mod aggregate;
pub mod fixed;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::Reply;
use crate::upstreams::{CallFailure, Called, RetrySettings};
use aggregate::{Destination, KeepRule};

pub use aggregate::Aggregate;

/// An upstream of the snapshot, by its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamIndex(pub u16);

/// Who answers a route.
#[derive(Debug)]
pub enum Target {
    /// An upstream.
    Upstream(UpstreamIndex),
    /// One answer made from several.
    Aggregate(Aggregate),
    /// An answer that stands in the configuration.
    Fixed(Reply),
}

/// One request from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who is asked.
    pub to: Destination,
    /// Path and query: origin form, percent-encoded.
    pub target: String,
    /// JSON to be posted; without it, a GET.
    pub post: Option<Bytes>,
    /// A body of more bytes is [`TooLarge`](crate::upstreams::CallError::TooLarge).
    pub max_body: usize,
    /// When to try again, in place of what the upstream says.
    pub retry: Option<Arc<RetrySettings>>,
    /// How long a good answer is kept.
    pub keep: Option<KeepRule>,
}

/// One request from inside. Whoever implements it brings the headers that go along and the upstreams' own timeouts; the caller
/// bounds the whole by dropping the future, which ends the request unless others wait for the same. Redirects are not followed.
pub trait Call: Sync {
    /// Makes the request. Who drops the future because it takes too long sets `overdue` first.
    fn call(
        &self,
        wanted: Wanted,
        overdue: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<Called, CallFailure>> + Send;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}
