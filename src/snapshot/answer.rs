//! The answers of the gateway's own, and what it adds to those of others. What `explain` shows is written by the same lines as
//! what clients get.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;

use super::Snapshot;
use crate::engine::{
    Act, Answer, CompressRule, Decision, Denial, Head, HeaderEdits, Reply, Rule, is_grpc, is_trailers_only, page,
    problem, trailers_only, wants_page,
};
use crate::policies::compress::accept::{Coding, choose_language};
use crate::policies::compress::negotiate;
use crate::policies::rate_limit::limit_fields;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REHEARSAL: HeaderName = HeaderName::from_static("gwanmun-rehearsal");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What every answer to one request carries.
#[derive(Clone, Copy)]
pub struct Carried<'a> {
    /// The configuration it was decided under.
    pub snapshot: &'a Snapshot,
    /// The rules that stood on its way.
    pub rules: &'a [Rule],
    /// What was decided; nothing where it could not be read.
    pub decision: Option<&'a Decision>,
    /// Its id.
    pub id: &'a str,
    /// Its instant, where the clock is a rehearsal's.
    pub rehearsed: Option<Timestamp>,
}

/// What a request says of the answers it can take.
pub struct Asker<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether an answer may end in trailers, as it may over HTTP/2.
    pub takes_trailers: bool,
}

impl Asker<'_> {
    /// Whether it is a call of gRPC.
    pub fn speaks_grpc(&self) -> bool {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        self.takes_trailers && content_type.is_some_and(|content_type| is_grpc(content_type.as_bytes()))
    }

    /// All lines of a header, as one list.
    pub fn joined(&self, name: &HeaderName) -> Option<String> {
        let lines = self.headers.get_all(name).iter();
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        (!lines.is_empty()).then(|| lines.join(","))
    }
}

/// A refusal as an answer, in the language that is asked for: trailers for calls of gRPC, a page for browsers, problem+json for
/// everybody else.
pub fn refusal(denial: &Denial, asker: &Asker<'_>, id: &str, at: Timestamp) -> Reply {
    let language = denial.messages.as_ref().map_or(0, |messages| {
        let languages: Vec<&str> = messages.0.iter().map(|(language, _)| language.as_str()).collect();
        choose_language(asker.joined(&header::ACCEPT_LANGUAGE).as_deref(), &languages)
    });
    match () {
        () if asker.speaks_grpc() => trailers_only(denial, id, at, language),
        () if wants_page(asker.joined(&header::ACCEPT).as_deref()) => page(denial, id, at, language),
        () => problem(denial, id, at, language),
    }
}

/// Writes the head of `reply` but for its status, which `head` has. `compress` says whether its body may be sent in a coding:
/// the one chosen is returned, and the length is then still to be written.
pub fn write_own<H: Head>(
    head: &mut H,
    reply: &Reply,
    carried: &Carried<'_>,
    compress: Option<&CompressRule>,
    asker: &Asker<'_>,
) -> Result<Option<Coding>, H::Fault> {
    for (name, value) in &reply.headers {
        head.append(name.clone(), value.clone())?;
    }
    let is_bodyless = is_bodyless(reply);
    if !is_bodyless {
        head.set(header::CONTENT_LENGTH, HeaderValue::from(reply.body.len()))?;
    }
    decorate(head, carried)?;
    match compress.filter(|_| !is_bodyless) {
        None => Ok(None),
        Some(rule) => {
            let accepted = || asker.joined(&header::ACCEPT_ENCODING);
            negotiate(rule, asker.method, accepted, head)
        }
    }
}

/// Whether an answer has no body: by its status (RFC 9110 §6.4.1), or being trailers alone.
pub fn is_bodyless(reply: &Reply) -> bool {
    reply.status.is_informational() || matches!(reply.status.as_u16(), 204 | 304) || is_trailers_only(reply)
}

/// Adds what every answer carries: CORS and other edits, limits' fields, the request id.
pub fn decorate<H: Head>(head: &mut H, carried: &Carried<'_>) -> Result<(), H::Fault> {
    if let Some(decision) = carried.decision {
        for edits in decision.response_edits() {
            for name in &edits.remove {
                head.remove(name);
            }
            for (name, value) in &edits.set {
                head.set(name.clone(), value.clone())?;
            }
            for (name, value) in &edits.append {
                head.append(name.clone(), value.clone())?;
            }
        }
        if !decision.limits.is_empty() {
            limits(head, decision, carried)?;
        }
    }
    if let Ok(id) = HeaderValue::from_str(carried.id) {
        head.set(REQUEST_ID, id)?;
    }
    if let Some(at) = carried
        .rehearsed
        .and_then(|at| HeaderValue::try_from(at.to_string()).ok())
    {
        head.set(REHEARSAL, at)?;
    }
    Ok(())
}

/// What the answer says besides to a caller whose token stood anywhere but in `Authorization`: caches on the way know no other
/// credential (RFC 9111 §3.5, RFC 6750 §2.3).
pub fn private() -> Act {
    Act::ResponseHeaders(Arc::new(HeaderEdits {
        append: vec![(header::CACHE_CONTROL, HeaderValue::from_static("private"))],
        ..HeaderEdits::default()
    }))
}

fn limits<H: Head>(head: &mut H, decision: &Decision, carried: &Carried<'_>) -> Result<(), H::Fault> {
    let fields: Vec<_> = decision
        .answers
        .iter()
        .filter_map(|(rule, answer)| {
            let Answer::Limit(answer) = answer else {
                return None;
            };
            let name = &carried.rules.get(usize::from(*rule))?.name;
            let (_, limit) = carried.snapshot.defined.limits.get(name)?;
            Some((&limit.fields, answer))
        })
        .collect();
    if let Some((policy, state)) = limit_fields(fields.iter().copied()) {
        head.set(RATE_LIMIT_POLICY, policy)?;
        head.set(RATE_LIMIT, state)?;
    }
    Ok(())
}
