//! Running an aggregate: calls, waiting, and the answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::{AbortHandle, Abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use http::{HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::template::Source;
use super::{Aggregate, MAX_PART, MAX_TOTAL, Part, UpstreamIndex};
use crate::engine::json;
use crate::engine::{Params, PartSummary, Principal, RequestView};
use crate::targets::Call;
use crate::upstreams::{CallError, Called};

/// The header that names the parts that are missing: a List of RFC 9651, each member with its `reason`.
pub const PARTIAL: HeaderName = HeaderName::from_static("gwanmun-partial");

/// The values from outside that parts refer to, taken from a request.
#[derive(Debug)]
pub struct Inputs(Vec<Option<Box<[u8]>>>);

/// The outcome of an aggregate.
#[derive(Debug)]
pub struct Aggregated {
    /// The answer, or which part made it fail.
    pub body: Result<Bytes, Failure>,
    /// The parts that failed and were not required, in the order of the file. An answer with any is `no-store`.
    pub partial: Vec<(Arc<str>, Reason)>,
    /// What happened to each part, in the order of the file; a part that was not begun is left out.
    pub parts: Vec<PartSummary>,
}

/// A required part failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 504 for a part that was too slow, else 502.
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
    /// Its upstream is frozen.
    Denied,
}

impl Reason {
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

impl Aggregate {
    /// Takes from a request what the parts refer to; nothing of it is needed any more afterwards.
    pub fn inputs(&self, principal: Option<&Principal>, request: &RequestView<'_>, params: &Params<'_>) -> Inputs {
        let read = |source: &Source| -> Option<Box<[u8]>> {
            match source {
                Source::Principal => principal.map(|principal| principal.subject.as_bytes().into()),
                Source::Path(name) => {
                    let (_, value) = params.iter().find(|(known, _)| *known == name)?;
                    Some(percent_decode_str(value).collect())
                }
                Source::Query(name) => {
                    let mut values = request.query_values(name);
                    let value = values.next()?;
                    values.next().is_none().then(|| value.as_bytes().into())
                }
                Source::Header(name) => request.header(name).map(|value| value.as_bytes().into()),
                Source::Part { .. } => None,
            }
        };
        Inputs(self.inputs.iter().map(read).collect())
    }

    /// Runs all parts; those not done at `deadline` are too slow. Dropping the future ends every call under way.
    pub async fn run<C: Call>(&self, inputs: Inputs, call: &C, deadline: Instant) -> Aggregated {
        let mut run = Run {
            aggregate: self,
            inputs,
            states: self.parts.iter().map(|_| State::Waiting).collect(),
            fetches: Vec::new(),
            bytes: 0,
        };
        let mut calls = FuturesUnordered::new();
        let mut timers = FuturesUnordered::new();
        loop {
            for fetch in run.begin_what_can_begin() {
                let get = call.get(fetch.upstream, fetch.target, MAX_PART);
                let get = Abortable::new(get, fetch.registration);
                calls.push(async move { (fetch.index, get.await) });
            }
            for (part, timeout) in run.new_timers() {
                timers.push(async move {
                    tokio::time::sleep(timeout).await;
                    part
                });
            }
            if let Some(failure) = run.failure() {
                return run.finish(Err(failure));
            }
            if run.is_done() {
                break;
            }
            tokio::select! {
                // In this order an answer that is there counts, even if its time ends at the same moment.
                biased;
                Some((fetch, answer)) = calls.next() => {
                    if let Ok(answer) = answer {
                        run.answered(fetch, answer);
                    }
                }
                Some(part) = timers.next() => run.timed_out(part),
                () = tokio::time::sleep_until(deadline) => run.end(),
            }
        }
        let body = run.write();
        run.finish(Ok(body))
    }
}

/// One aggregate under way.
struct Run<'a> {
    aggregate: &'a Aggregate,
    inputs: Inputs,
    /// In the order of the parts.
    states: Vec<State>,
    fetches: Vec<Fetch>,
    /// Of the answer so far.
    bytes: usize,
}

enum State {
    /// For the parts it refers to.
    Waiting,
    Calling {
        fetch: usize,
        since: Instant,
        has_timer: bool,
    },
    Done(Done),
}

struct Done {
    /// The checked JSON text, or why there is none.
    text: Result<Bytes, Reason>,
    status: Option<u16>,
    /// `None` where no call was made.
    took: Option<Duration>,
}

/// A call, shared by all parts that ask the same.
struct Fetch {
    upstream: UpstreamIndex,
    target: String,
    abort: AbortHandle,
    /// What came of it, for parts that ask the same later.
    answer: Option<(Bytes, u16)>,
}

/// A call to make.
struct Begun {
    index: usize,
    upstream: UpstreamIndex,
    target: String,
    registration: futures::future::AbortRegistration,
}

impl Run<'_> {
    /// Moves on every part whose references are known; gives the calls to make.
    fn begin_what_can_begin(&mut self) -> Vec<Begun> {
        let mut begun = Vec::new();
        // A part that ends here may let others begin, or end: as often as there are parts suffices.
        let mut moved = true;
        while moved {
            moved = false;
            for (at, part) in self.aggregate.parts.iter().enumerate() {
                if !matches!(self.states.get(at), Some(State::Waiting)) || !self.is_ready(part) {
                    continue;
                }
                moved = true;
                let state = match self.target(part) {
                    Some(target) => self.begin(part.upstream, target, &mut begun),
                    None => State::Done(Done {
                        text: Err(Reason::Skipped),
                        status: None,
                        took: None,
                    }),
                };
                self.set(at, state);
            }
        }
        begun
    }

    fn is_ready(&self, part: &Part) -> bool {
        let done = |at: &usize| matches!(self.states.get(*at), Some(State::Done(_)));
        part.needs.iter().all(done)
    }

    /// The target of a part whose references are known; `None` skips it.
    fn target(&self, part: &Part) -> Option<String> {
        let input = |at: usize| self.inputs.0.get(at).and_then(Option::as_deref);
        let of_part = |at: usize, path: &[Box<str>]| -> Option<Cow<'_, str>> {
            match self.states.get(at) {
                Some(State::Done(Done { text: Ok(text), .. })) => {
                    json::scalar_at(std::str::from_utf8(text).ok()?, path)
                }
                _ => None,
            }
        };
        part.template.fill(input, of_part)
    }

    /// Joins a call that is the same, or begins one.
    fn begin(&mut self, upstream: UpstreamIndex, target: String, begun: &mut Vec<Begun>) -> State {
        let same = |fetch: &Fetch| fetch.upstream == upstream && fetch.target == target && !fetch.abort.is_aborted();
        if let Some(index) = self.fetches.iter().position(same) {
            return match self.fetches.get(index).and_then(|fetch| fetch.answer.clone()) {
                Some((text, status)) => self.done(Ok(text), Some(status), Duration::ZERO),
                None => State::calling(index),
            };
        }
        let (abort, registration) = AbortHandle::new_pair();
        let index = self.fetches.len();
        begun.push(Begun {
            index,
            upstream,
            target: target.clone(),
            registration,
        });
        self.fetches.push(Fetch {
            upstream,
            target,
            abort,
            answer: None,
        });
        State::calling(index)
    }

    /// The parts that have begun to wait for an answer, with the time they have.
    fn new_timers(&mut self) -> Vec<(usize, Duration)> {
        let parts = self.aggregate.parts.iter().enumerate();
        parts
            .zip(&mut self.states)
            .filter_map(|((at, part), state)| match state {
                State::Calling { has_timer, .. } if !*has_timer => {
                    *has_timer = true;
                    part.timeout.map(|timeout| (at, timeout))
                }
                _ => None,
            })
            .collect()
    }

    fn answered(&mut self, index: usize, answer: Result<Called, CallError>) {
        let status = answer.as_ref().ok().map(|called| called.status.as_u16());
        let text = judge(answer);
        for at in 0..self.states.len() {
            if let Some(State::Calling { fetch, since, .. }) = self.states.get(at)
                && *fetch == index
            {
                let state = self.done(text.clone(), status, since.elapsed());
                self.set(at, state);
            }
        }
        if let Some(fetch) = self.fetches.get_mut(index) {
            match (text, status) {
                (Ok(text), Some(status)) => fetch.answer = Some((text, status)),
                // Failures are not remembered: who asks the same later asks anew.
                _ => fetch.abort.abort(),
            }
        }
    }

    /// A part whose call is over. What several parts share counts for each: so often it will be written.
    fn done(&mut self, mut text: Result<Bytes, Reason>, status: Option<u16>, took: Duration) -> State {
        if let Ok(body) = &text {
            if self.bytes + body.len() > MAX_TOTAL {
                text = Err(Reason::Unreadable);
            } else {
                self.bytes += body.len();
            }
        }
        let took = Some(took);
        State::Done(Done { text, status, took })
    }

    /// The time of a part is over; a call that nobody waits for any more is ended.
    fn timed_out(&mut self, at: usize) {
        let Some(State::Calling { fetch, since, .. }) = self.states.get(at) else {
            return;
        };
        let fetch = *fetch;
        let took = Some(since.elapsed());
        self.set(
            at,
            State::Done(Done {
                text: Err(Reason::Timeout),
                status: None,
                took,
            }),
        );
        let waits = |state: &State| matches!(state, State::Calling { fetch: other, .. } if *other == fetch);
        if !self.states.iter().any(waits)
            && let Some(fetch) = self.fetches.get(fetch)
        {
            fetch.abort.abort();
        }
    }

    /// The deadline: whoever still waits for an answer was too slow.
    fn end(&mut self) {
        for at in 0..self.states.len() {
            self.timed_out(at);
        }
        // What waits for those is skipped when it is looked at next.
    }

    fn is_done(&self) -> bool {
        self.states.iter().all(|state| matches!(state, State::Done(_)))
    }

    /// The first required part that failed.
    fn failure(&self) -> Option<Failure> {
        let parts = self.aggregate.parts.iter().zip(&self.states);
        parts
            .filter(|(part, _)| part.required)
            .find_map(|(part, state)| match state {
                State::Done(Done { text: Err(reason), .. }) => Some(Failure {
                    status: match reason {
                        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
                        _ => StatusCode::BAD_GATEWAY,
                    },
                    code: "part-failed",
                    part: part.name.clone(),
                    reason: *reason,
                }),
                _ => None,
            })
    }

    fn write(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(self.bytes + 64 * self.states.len());
        let mut separator: &[u8] = b"{";
        for (part, state) in self.aggregate.parts.iter().zip(&self.states) {
            body.put_slice(separator);
            separator = b",";
            // Names are letters, digits, `-` and `_`: nothing to escape.
            body.put_slice(b"\"");
            body.put_slice(part.name.as_bytes());
            body.put_slice(b"\":");
            match state {
                State::Done(Done { text: Ok(text), .. }) => body.put_slice(text),
                _ => body.put_slice(part.default.as_bytes()),
            }
        }
        body.put_slice(b"}");
        body.freeze()
    }

    fn finish(self, body: Result<Bytes, Failure>) -> Aggregated {
        let mut partial = Vec::new();
        let mut parts = Vec::new();
        for (part, state) in self.aggregate.parts.iter().zip(self.states) {
            let (reason, status, took) = match state {
                State::Done(Done { text, status, took }) => (text.err(), status, took),
                // Ended with the whole, which another part made fail.
                State::Calling { since, .. } => (None, None, Some(since.elapsed())),
                State::Waiting => continue,
            };
            if let Some(reason) = reason.filter(|_| !part.required) {
                partial.push((part.name.clone(), reason));
            }
            parts.push(PartSummary {
                name: part.name.clone(),
                status,
                reason: reason.map(Reason::word),
                duration: took.unwrap_or_default(),
            });
        }
        Aggregated { body, partial, parts }
    }

    fn set(&mut self, at: usize, state: State) {
        if let Some(standing) = self.states.get_mut(at) {
            *standing = state;
        }
    }
}

impl State {
    fn calling(fetch: usize) -> Self {
        Self::Calling {
            fetch,
            since: Instant::now(),
            has_timer: false,
        }
    }
}

/// The JSON text of a good answer.
fn judge(answer: Result<Called, CallError>) -> Result<Bytes, Reason> {
    let called = answer.map_err(|error| match error {
        CallError::Timeout => Reason::Timeout,
        CallError::NoEndpoint | CallError::BreakerOpen | CallError::Connect | CallError::Unsigned => {
            Reason::Unreachable
        }
        CallError::Broken | CallError::TooLarge => Reason::Unreadable,
        CallError::Frozen => Reason::Denied,
    })?;
    if called.status == StatusCode::NO_CONTENT {
        return Ok(Bytes::from_static(b"null"));
    }
    if !called.status.is_success() || called.status == StatusCode::PARTIAL_CONTENT {
        return Err(Reason::Status);
    }
    if called.body.len() > MAX_PART || !called.content_type.as_deref().is_some_and(json::is_json) {
        return Err(Reason::Unreadable);
    }
    let text = json::check(&called.body).map_err(|_| Reason::Unreadable)?;
    Ok(called.body.slice_ref(text.as_bytes()))
}
