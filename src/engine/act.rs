//! What a decision adds to forwarding. Later phases carry acts out; they decide nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

/// The acts of one decision, in the order of the rules that added them.
pub type Acts = SmallVec<[Act; 6]>;

/// One thing to do. Payloads are prepared when the snapshot is compiled and shared.
#[derive(Debug, Clone)]
pub enum Act {
    /// Change the headers of whatever answer the client gets, refusals included. Never stored in the cache.
    ResponseHeaders(Arc<HeaderEdits>),
    /// Change the headers that the upstream gets, after all client copies were stripped.
    RequestHeaders(Arc<HeaderEdits>),
    /// What the upstream gets as `Authorization`.
    Authorization(Forwarded),
    /// Look in the cache, and store.
    Cache(Arc<CacheRule>),
    /// Compress the body for clients that accept it.
    Compress(Arc<CompressRule>),
    /// Cut the body for the client.
    Reshape(Arc<dyn Reshape>),
    /// Refuse bodies with more bytes (413).
    BodyLimit(u64),
    /// Call none of these upstreams, by name: parts that would are denied.
    Without(Arc<[Arc<str>]>),
}

/// What an upstream gets as `Authorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// The caller's credential.
    Credential,
    /// Nothing.
    Nothing,
    /// A token of the gateway's own that says who calls; nothing where nobody is known.
    Passport,
}

/// Header changes, carried out in order: removals, then replacements, then additions.
#[derive(Debug, Clone, Default)]
pub struct HeaderEdits {
    /// Headers to remove.
    pub remove: Vec<HeaderName>,
    /// Headers to set, replacing what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers to add to what is there, such as a `Vary` member.
    pub append: Vec<(HeaderName, HeaderValue)>,
}

/// Who may be served a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Everybody: the fill request carries no credential.
    Public,
    /// The same identity only.
    Principal,
}

/// How a route uses the cache (RFC 9111, as a shared cache).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRule {
    /// The route's name: routes never share entries.
    pub route: Arc<str>,
    /// Freshness where the origin is silent.
    pub ttl: Option<Duration>,
    /// Who may be served a stored answer.
    pub share: Share,
}

/// When answers are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressRule {
    /// Smaller bodies are left alone, in bytes.
    pub min_size: u64,
}

/// Cuts a JSON body. Pure: bytes in, bytes out.
pub trait Reshape: fmt::Debug + Send + Sync {
    /// The new body.
    fn reshape(&self, body: &[u8]) -> Result<Bytes, ReshapeFailure>;
    /// The header that tells clients apart, which the answer varies on; `None` where nothing but the default applies.
    fn varies_on(&self) -> &[HeaderName];
    /// Bodies with more bytes are not read.
    fn max_body(&self) -> usize;
}

/// Why a body cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReshapeFailure {
    /// Not JSON, or JSON with duplicate members or lone surrogates.
    #[error("the body is not unambiguous JSON")]
    Unreadable,
    /// Beyond a bound on size or depth.
    #[error("the body is too large")]
    TooLarge,
    /// A renamed member would stand on one that is there.
    #[error("two members would have one name")]
    Collision,
}
