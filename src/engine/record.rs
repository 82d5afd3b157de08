//! One finished request, as observers get it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use jiff::Timestamp;

use super::{Answer, FreezeChange, Principal, RevocationChange, Trail};

/// One finished request. Suffices, with the configuration of its hash, to decide again.
#[derive(Debug, Clone)]
pub struct Record {
    /// The request id, as the client and the upstream saw it.
    pub id: Arc<str>,
    /// When the request came.
    pub at: Timestamp,
    /// The hash of the configuration it was decided under, in hexadecimal.
    pub config: Arc<str>,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The names of the rules that stood on the way, in order.
    pub rules: Arc<[Arc<str>]>,
    /// What the decision saw of the request.
    pub request: RecordedRequest,
    /// Who called.
    pub principal: Option<Arc<Principal>>,
    /// The subject a refused token claimed, unverified.
    pub claimed_sub: Option<Box<str>>,
    /// The decision in short.
    pub decision: Effected,
    /// The answers used, by the name of the rule that asked.
    pub answers: Vec<(Arc<str>, Answer)>,
    /// The verdicts.
    pub trail: Trail,
    /// The status sent; 0 where the client was gone, 499 in the log.
    pub status: u16,
    /// From the request line to the last byte.
    pub duration: Duration,
    /// Bytes of the body received.
    pub request_bytes: u64,
    /// Bytes of the body sent.
    pub response_bytes: u64,
    /// The upstream that answered or failed.
    pub upstream: Option<UpstreamSummary>,
    /// The parts of an aggregate.
    pub parts: Vec<PartSummary>,
    /// `hit`, `miss`, `stale`, … where the cache was asked.
    pub cache: Option<&'static str>,
    /// The code of the failure after the decision, such as `upstream-timeout`.
    pub failure: Option<&'static str>,
    /// How an exchange ended that was open as long as it liked.
    pub ended: Option<Ended>,
    /// Whether the gateway ran on a rehearsal clock.
    pub rehearsal: bool,
}

/// How a socket or a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Who or what ended it.
    pub by: EndedBy,
    /// The code of the refusal, where the gate did because of one.
    pub code: Option<Arc<str>>,
    /// The refusing rule.
    pub rule: Option<Arc<str>>,
}

/// Who or what ended a socket or a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The client closed the connection.
    Client,
    /// The upstream did.
    Upstream,
    /// Nothing moved for too long.
    Idle,
    /// The caller's credential ended.
    Expiry,
    /// A rule, a freeze or a revocation would refuse it now.
    Refusal,
    /// The gateway stopped.
    Shutdown,
}

impl EndedBy {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Idle => "idle",
            Self::Expiry => "expiry",
            Self::Refusal => "refusal",
            Self::Shutdown => "shutdown",
        }
    }
}

impl From<EndedBy> for Ended {
    fn from(by: EndedBy) -> Self {
        Self {
            by,
            code: None,
            rule: None,
        }
    }
}

impl Record {
    /// The names of the shadow rules that would have refused what was allowed, in order.
    pub fn would_deny(&self) -> impl Iterator<Item = &str> {
        let allowed = self.decision.effect == "allow";
        let marks = self
            .trail
            .iter()
            .filter(move |mark| allowed && mark.shadow && mark.refused);
        marks.filter_map(|mark| self.rules.get(usize::from(mark.rule)).map(|name| &**name))
    }
}

/// What a decision saw of the request: no raw query, no token, only the headers, query values and claims that some rule of
/// the configuration reads.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// The method.
    pub method: Method,
    /// The host, normalised.
    pub host: String,
    /// The route's path template.
    pub template: Option<Arc<str>>,
    /// Its parameters, percent-encoded as in the normalised path.
    pub params: Vec<(Arc<str>, String)>,
    /// The normalised path, where no route matched.
    pub path: Option<String>,
    /// Headers that rules, routes or clients read, every value; a value that is not visible ASCII is kept as `None`.
    pub headers: Vec<(HeaderName, Vec<Option<String>>)>,
    /// Query parameters that rules read, every value; a value that is not UTF-8 is kept as `None`.
    pub query: Vec<(String, Vec<Option<String>>)>,
    /// What came to prove who calls: `absent`, `bearer`, a token in a `header` of its own, a `cookie` or the `query`, an API
    /// `key`, `certificate`, `repeated` or `unreadable`.
    pub credential: &'static str,
    /// The caller's address.
    pub address: IpAddr,
    /// The client.
    pub client: Arc<str>,
    /// The claims to keep, by path.
    pub claims: Arc<[String]>,
}

/// A decision in short.
#[derive(Debug, Clone)]
pub struct Effected {
    /// `allow`, `deny`, `challenge` or `throttle`; `reply` where a rule answered.
    pub effect: &'static str,
    /// The status of a refusal or reply.
    pub status: Option<u16>,
    /// The code of a refusal.
    pub code: Option<Arc<str>>,
    /// The refusing rule.
    pub rule: Option<Arc<str>>,
    /// When it reopens.
    pub reopens_at: Option<Timestamp>,
}

impl Effected {
    /// Forwarded.
    pub const ALLOW: Self = Self {
        effect: "allow",
        status: None,
        code: None,
        rule: None,
        reopens_at: None,
    };
}

/// What happened at an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamSummary {
    /// Its name.
    pub name: Arc<str>,
    /// The endpoint tried last.
    pub endpoint: Arc<str>,
    /// Tries, the first one counted.
    pub tries: u32,
    /// From the first try to the response header.
    pub duration: Duration,
    /// The status it answered.
    pub status: Option<u16>,
    /// What went wrong with it, in a word; `None` where nothing did.
    pub fault: Option<&'static str>,
}

/// What happened to one part of an aggregate.
#[derive(Debug, Clone)]
pub struct PartSummary {
    /// Its name.
    pub name: Arc<str>,
    /// The upstream's status, where there was one.
    pub status: Option<u16>,
    /// Why it failed; `None` where it did not.
    pub reason: Option<&'static str>,
    /// How long it took.
    pub duration: Duration,
    /// Who was asked for it and answered; not where that was done for another, or the answer was kept.
    pub calls: Vec<UpstreamSummary>,
}

/// Told about finished requests, and about what operators freeze and revoke. Returns at once; slow work goes on a queue.
pub trait Observer: Send + Sync {
    /// Takes note.
    fn record(&self, record: &Arc<Record>);

    /// Takes note that something was frozen or thawed.
    fn froze(&self, _: &Arc<FreezeChange>) {}

    /// Takes note that something was revoked, or a revocation lifted.
    fn revoked(&self, _: &Arc<RevocationChange>) {}
}
