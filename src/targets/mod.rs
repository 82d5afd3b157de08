//! Who answers a route: an upstream, an aggregate of several, or the configuration itself.

pub mod aggregate;
pub mod fixed;

use std::future::Future;

use crate::engine::Reply;
use crate::upstreams::{CallError, Called};

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

/// One GET from inside. Whoever implements it brings the headers that go along and the upstreams' own timeouts; the caller
/// bounds the whole by dropping the future, which ends the request.
pub trait Call: Sync {
    /// GETs `path_and_query` (origin form, percent-encoded). Redirects are not followed; a body of more than `max_body`
    /// bytes is [`CallError::TooLarge`].
    fn get(
        &self,
        upstream: UpstreamIndex,
        path_and_query: String,
        max_body: usize,
    ) -> impl Future<Output = Result<Called, CallError>> + Send;
}
