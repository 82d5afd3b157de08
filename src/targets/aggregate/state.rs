//! How far the parts of one aggregate are, and what came of their calls.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{AbortHandle, AbortRegistration};
use http::StatusCode;
use tokio::time::Instant;

use super::outcome::{Fresh, Reason};
use crate::engine::UpstreamSummary;
use crate::targets::Wanted;
use crate::upstreams::Called;

/// How far a part is.
pub(super) enum State {
    /// For the parts it refers to.
    Waiting,
    Calling {
        /// One, or those of all items.
        asked: Vec<Asked>,
        since: Instant,
        has_timer: bool,
    },
    Done(Done),
}

/// What is asked for a part.
pub(super) enum Asked {
    /// By this call.
    Fetch(usize),
    Got(Got),
}

/// What came of a call, as one part sees it.
#[derive(Clone)]
pub(super) struct Got {
    /// The checked JSON text; nothing where a status says that there is none.
    pub text: Result<Option<Bytes>, Reason>,
    /// Why something is missing in it.
    pub lacks: Option<Reason>,
    pub status: Option<StatusCode>,
    pub upstream: Option<UpstreamSummary>,
    pub fresh: Option<Fresh>,
}

/// What came of a part.
pub(super) struct Done {
    /// The text, `None` for the default of a part that has not failed; or why there is none.
    pub text: Result<Option<Bytes>, Reason>,
    /// Why some of its items, or something in it, are missing.
    pub lacks: Option<Reason>,
    pub status: Option<StatusCode>,
    pub calls: Vec<UpstreamSummary>,
    pub fresh: Vec<Fresh>,
    /// `None` where no call was made.
    pub took: Option<Duration>,
}

/// A call, shared by all parts that ask the same.
pub(super) struct Fetch {
    /// The part that asked first.
    pub part: usize,
    pub wanted: Wanted,
    pub abort: AbortHandle,
    /// Set before it is ended because it took too long.
    pub overdue: Arc<AtomicBool>,
    pub is_under_way: bool,
    /// What came of it, for parts that ask the same later.
    pub answer: Option<Called>,
}

/// A call to make.
pub(super) struct Begun {
    pub fetch: usize,
    pub wanted: Wanted,
    pub registration: AbortRegistration,
    pub overdue: Arc<AtomicBool>,
}

impl Got {
    pub fn failed(reason: Reason) -> Self {
        Self {
            text: Err(reason),
            lacks: None,
            status: None,
            upstream: None,
            fresh: None,
        }
    }
}

impl Done {
    pub fn without_call(text: Result<Option<Bytes>, Reason>) -> Self {
        Self {
            text,
            lacks: None,
            status: None,
            calls: Vec::new(),
            fresh: Vec::new(),
            took: None,
        }
    }
}

/// The answers of all items as one array, `null` for those that are missing; and why the first of these is, or something in one.
pub(super) fn joined(got: &[&Got], required: bool) -> (Result<Option<Bytes>, Reason>, Option<Reason>) {
    let failed = got.iter().find_map(|got| got.text.as_ref().err().copied());
    if let Some(reason) = failed.filter(|_| required) {
        return (Err(reason), None);
    }
    let lacks = failed.or_else(|| got.iter().find_map(|got| got.lacks));
    let mut text = Vec::from(b"[");
    for (at, got) in got.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        match &got.text {
            Ok(Some(body)) => text.extend_from_slice(body),
            Ok(None) | Err(_) => text.extend_from_slice(b"null"),
        }
    }
    text.push(b']');
    (Ok(Some(text.into())), lacks)
}
