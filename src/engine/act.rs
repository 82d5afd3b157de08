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
    /// Tell errors of the upstream as the gate tells its own.
    OwnErrors,
    /// Change the request before it is forwarded.
    Request(Arc<RequestEdits>),
    /// Refuse bodies with more bytes (413).
    BodyLimit(u64),
    /// Call none of these upstreams, by name: parts that would are denied.
    Without(Arc<[Arc<str>]>),
    /// Open a socket, where the request is a handshake.
    WebSocket,
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

/// Changes of what has a name, carried out in order: removals, then new names, then values.
#[derive(Debug, Clone)]
pub struct Edits<N, V> {
    /// What is removed.
    pub drop: Vec<N>,
    /// New names. What is there under a new name is replaced.
    pub rename: Vec<(N, N)>,
    /// Values, which replace what is there.
    pub set: Vec<(N, V)>,
}

impl<N, V> Default for Edits<N, V> {
    fn default() -> Self {
        Self {
            drop: Vec::new(),
            rename: Vec::new(),
            set: Vec::new(),
        }
    }
}

impl<N: Clone, V> Edits<N, V> {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.rename.is_empty() && self.set.is_empty()
    }

    /// The same changes with other values.
    pub fn with<U>(&self, value: impl Fn(&V) -> U) -> Edits<N, U> {
        Edits {
            drop: self.drop.clone(),
            rename: self.rename.clone(),
            set: self.set.iter().map(|(name, of)| (name.clone(), value(of))).collect(),
        }
    }
}

/// What changes of a request, with the values of this one. Where there is no value for a name, nothing goes under it.
#[derive(Debug, Clone, Default)]
pub struct RequestEdits {
    /// Its headers.
    pub headers: Edits<HeaderName, Option<HeaderValue>>,
    /// Its query parameters, decoded.
    pub query: Edits<Box<str>, Option<String>>,
    /// Its JSON body.
    pub body: Option<Arc<dyn Rewrite>>,
}

/// Changes the JSON body of a request. Pure: bytes in, bytes out.
pub trait Rewrite: fmt::Debug + Send + Sync {
    /// The new body.
    fn rewrite(&self, body: &[u8]) -> Result<Bytes, ReshapeFailure>;
    /// What changes, in words.
    fn describe(&self) -> Vec<String>;
}

/// Who may be served a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Everybody: the fill request carries no credential.
    Public,
    /// The same caller only, as the upstream is told of it.
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

/// Changes a JSON body as a whole. Pure: bytes in, bytes out.
pub trait Reshape: fmt::Debug + Send + Sync {
    /// What the configuration calls it.
    fn name(&self) -> &str;
    /// The new body.
    fn reshape(&self, body: &[u8], about: &About<'_>) -> Result<Bytes, ReshapeFailure>;
    /// The headers that tell clients apart, where it depends on the client whether and how an answer is changed.
    fn varies_on(&self) -> &[HeaderName];
    /// Bodies with more bytes are not read.
    fn max_body(&self) -> usize;
    /// What tells the entity tags of what it makes from those of its sources: eight hexadecimal digits.
    fn mark(&self) -> &str;
    /// Whether a body that cannot be changed goes out as it is. Else it is refused.
    fn passes_uncut(&self) -> bool;
    /// Whether even a small body may keep a thread busy.
    fn may_take_long(&self) -> bool;
    /// Whether what it makes is another for each request, as it tells the request's id.
    fn tells_request(&self) -> bool;
}

/// What is known of an answer besides its body.
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    /// The id of the request.
    pub request_id: &'a str,
    /// The parts that an aggregate goes without, each with why.
    pub partial: &'a [(Arc<str>, &'static str)],
}

/// Why a body cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReshapeFailure {
    /// Not JSON, or JSON with duplicate members or lone surrogates; also what cannot be decoded.
    #[error("the body is not unambiguous JSON")]
    Unreadable,
    /// Beyond a bound on size or depth.
    #[error("the body is too large")]
    TooLarge,
    /// A renamed or moved member would stand on one that is there.
    #[error("two members would have one name")]
    Collision,
    /// The program failed, or gave anything but one value.
    #[error("the program gives no value, or more than one")]
    Program,
}
