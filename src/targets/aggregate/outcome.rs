//! What comes of an aggregate and of its parts, and how an answer is judged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{MAX_PART, Part};
use crate::engine::select::value_at;
use crate::engine::{PartSummary, json};
use crate::upstreams::{CallError, Called};

/// The header that names the parts that are missing: a List of RFC 9651, each member with its `reason`.
pub const PARTIAL: HeaderName = HeaderName::from_static("gwanmun-partial");

/// The outcome of an aggregate.
#[derive(Debug)]
pub struct Aggregated {
    /// The answer, or which part made it fail.
    pub body: Result<Bytes, Failure>,
    /// The parts that failed and were not required, and those that lack something themselves, in the order of the file. An
    /// answer with any is `no-store`.
    pub partial: Vec<(Arc<str>, Reason)>,
    /// What happened to each part, in the order of the file; a part that was not begun is left out.
    pub parts: Vec<PartSummary>,
    /// The headers that parts give the whole.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What each answer that is in the whole says of how long it is good.
    pub freshness: Vec<Fresh>,
}

/// What one answer says of how long it is good.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// Its headers.
    pub headers: Arc<HeaderMap>,
    /// Where the gate keeps it: how long it will still be given.
    pub kept: Option<Duration>,
}

/// A required part failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 504 for a part that was too slow, its own where `pass_status` lists it, else 502.
    pub status: StatusCode,
    /// `part-failed`.
    pub code: &'static str,
    /// The part's name; for logs, not for clients.
    pub part: Arc<str>,
    /// Why it failed.
    pub reason: Reason,
}

/// Why a part is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No whole answer in its time.
    Timeout,
    /// A status other than 2xx, or 206.
    Status,
    /// No JSON, not of a JSON media type, ambiguous, broken off or too large.
    Unreadable,
    /// No endpoint could be reached.
    Unreachable,
    /// Something it refers to is not there.
    Skipped,
    /// Its upstream is frozen, or its route refuses it.
    Denied,
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::Timeout,
        Self::Status,
        Self::Unreadable,
        Self::Unreachable,
        Self::Skipped,
        Self::Denied,
    ];

    /// The reason of that word.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// The word in `Gwanmun-Partial` and in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Unreadable => "unreadable",
            Self::Unreachable => "unreachable",
            Self::Skipped => "skipped",
            Self::Denied => "denied",
        }
    }
}

impl Aggregated {
    /// The value of [`PARTIAL`]; `None` where nothing is missing.
    pub fn partial_header(&self) -> Option<HeaderValue> {
        if self.partial.is_empty() {
            return None;
        }
        let members = self.partial.iter().map(|(name, reason)| {
            // A Token begins with a letter (RFC 9651 §3.3.4); other names go as Strings, in which they need no escapes.
            let quote = if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                ""
            } else {
                "\""
            };
            format!("{quote}{name}{quote};reason={}", reason.word())
        });
        HeaderValue::try_from(members.collect::<Vec<_>>().join(", ")).ok()
    }
}

pub(super) fn reason(error: CallError) -> Reason {
    match error {
        CallError::Timeout | CallError::ConnectTimeout => Reason::Timeout,
        CallError::NoEndpoint
        | CallError::BreakerOpen
        | CallError::Connect
        | CallError::Untrusted(_)
        | CallError::Unsigned => Reason::Unreachable,
        CallError::Broken | CallError::TooLarge => Reason::Unreadable,
        CallError::Denied => Reason::Denied,
    }
}

/// The JSON text of a good answer; `None` where its status says that there is nothing.
pub(super) fn judge(called: &Called, part: &Part) -> Result<Option<Bytes>, Reason> {
    const NULL: Bytes = Bytes::from_static(b"null");
    // Neither has a body (RFC 9110 §15.3.5, §15.3.6), whatever is sent as one.
    if matches!(called.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
        return Ok(Some(NULL));
    }
    if part.pass_status.contains(&called.status) && !part.required {
        return Ok(None);
    }
    if !called.status.is_success() || called.status == StatusCode::PARTIAL_CONTENT {
        return Err(Reason::Status);
    }
    let text = json_text(called).ok_or(Reason::Unreadable)?;
    if part.pick.is_empty() {
        return Ok(Some(called.body.slice_ref(text.as_bytes())));
    }
    // What is not there is null, as what is there may be.
    Ok(Some(
        value_at(text, &part.pick).map_or(NULL, |picked| called.body.slice_ref(picked.as_bytes())),
    ))
}

/// The body of an answer, where it is JSON that everybody reads alike, says so, and is in no coding.
pub(crate) fn json_text(called: &Called) -> Option<&str> {
    let is_coded = called
        .headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let is_readable = !is_coded && called.body.len() <= MAX_PART && called.content_type().is_some_and(json::is_json);
    json::check(&called.body).ok().filter(|_| is_readable)
}
