//! Running an aggregate: calls, waiting, and the answer.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use http::StatusCode;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::outcome::{Aggregated, Failure, Fresh, Reason, judge, reason};
use super::references::{Source, Values};
use super::state::{Asked, Begun, Done, Fetch, Got, State, joined};
use super::{Aggregate, MAX_PART, MAX_TOTAL, Part};
use crate::engine::select::{Step, items, value_at, values_at};
use crate::engine::{Facts, PartSummary};
use crate::targets::{Call, Wanted};
use crate::upstreams::{CallFailure, Called};

/// So many calls of one aggregate are under way at once.
const AT_ONCE: usize = 16;
/// So many of one part that makes several.
const AT_ONCE_EACH: usize = 8;
/// A part that would make more calls fails.
const MAX_EACH: usize = 100;

/// The values from outside that parts refer to, and the parts that are not asked for, taken from a request.
#[derive(Debug)]
pub struct Inputs {
    values: Vec<Option<Box<[u8]>>>,
    /// In the order of the parts.
    left_out: Vec<bool>,
}

impl Aggregate {
    /// Takes from a request what the parts refer to; nothing of it is needed any more afterwards.
    pub fn inputs(&self, facts: &Facts<'_>) -> Inputs {
        let read = |source: &Source| -> Option<Box<[u8]>> {
            match source {
                Source::Principal => facts
                    .principal
                    .as_ref()
                    .map(|principal| principal.subject.as_bytes().into()),
                Source::Path(name) => {
                    let (_, value) = facts.params.iter().find(|(known, _)| *known == name)?;
                    Some(percent_decode_str(value).collect())
                }
                Source::Query(name) => {
                    let mut sent = facts.request.query_sent(name);
                    match (sent.next(), sent.next()) {
                        (Some(Some(value)), None) => Some(value.as_bytes().into()),
                        _ => None,
                    }
                }
                Source::Header(name) => facts.request.header(name).map(|value| value.as_bytes().into()),
                Source::Part { .. } | Source::Each(_) => None,
            }
        };
        let is_left_out = |part: &Part| part.when.as_ref().is_some_and(|when| !when.holds(facts));
        Inputs {
            values: self.inputs.iter().map(read).collect(),
            left_out: self.parts.iter().map(is_left_out).collect(),
        }
    }

    /// Runs all parts; those not done at `deadline` are too slow. Dropping the future ends every call under way.
    pub async fn run<C: Call>(&self, inputs: Inputs, call: &C, deadline: Instant) -> Aggregated {
        let mut run = Run {
            aggregate: self,
            inputs,
            states: self.parts.iter().map(|_| State::Waiting).collect(),
            fetches: Vec::new(),
            queue: VecDeque::new(),
            bytes: 0,
        };
        let mut calls = FuturesUnordered::new();
        let mut timers = FuturesUnordered::new();
        let mut end = pin!(call.sleep(deadline.saturating_duration_since(Instant::now())).fuse());
        loop {
            run.begin_what_can_begin();
            while let Some(begun) = run.next_call(calls.len()) {
                let called = Abortable::new(call.call(begun.wanted, begun.overdue), begun.registration);
                calls.push(called.map(move |answer| (begun.fetch, answer)));
            }
            for (part, timeout) in run.new_timers() {
                timers.push(call.sleep(timeout).map(move |()| part));
            }
            if run.is_done() {
                run.spread();
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
                Some(part) = timers.next() => run.timed_out(part, true),
                () = &mut end => run.end(),
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
    /// Calls to be made, in order.
    queue: VecDeque<Begun>,
    /// Of the answer so far.
    bytes: usize,
}

impl Run<'_> {
    /// Moves on every part whose references are known.
    fn begin_what_can_begin(&mut self) {
        let aggregate = self.aggregate;
        // A part that ends here may let others begin, or end: as often as there are parts suffices.
        let mut moved = true;
        while moved {
            moved = false;
            for (at, part) in aggregate.parts.iter().enumerate() {
                if !matches!(self.states.get(at), Some(State::Waiting)) || !self.is_ready(part) {
                    continue;
                }
                moved = true;
                let state = if self.inputs.left_out.get(at).copied().unwrap_or_default() {
                    State::Done(Done::without_call(Ok(None)))
                } else {
                    match self.wanted(part) {
                        Ok(wanted) => self.begin(at, wanted),
                        Err(reason) => State::Done(Done::without_call(Err(reason))),
                    }
                };
                self.set(at, state);
            }
        }
    }

    fn is_ready(&self, part: &Part) -> bool {
        let done = |at: &usize| matches!(self.states.get(*at), Some(State::Done(_)));
        part.needs.iter().all(done)
    }

    /// The calls of a part whose references are known, `None` for an item that is skipped; or why the whole part is.
    fn wanted(&self, part: &Part) -> Result<Vec<Option<Wanted>>, Reason> {
        let text_of = |at: usize| self.text_of(at);
        let values = |item| Values {
            inputs: &self.inputs.values,
            part: &text_of,
            item,
        };
        let one = |item| {
            let values = values(item);
            let post = match (&part.body, part.is_post) {
                (Some(body), _) => Some(body.fill(&values)?),
                (None, true) => Some(Bytes::new()),
                (None, false) => None,
            };
            Some(Wanted {
                to: part.to.clone(),
                target: part.template.fill(&values)?,
                post,
                max_body: MAX_PART,
                retry: part.retry.clone(),
                keep: part.keep,
            })
        };
        let Some((from, path)) = &part.each else {
            return one(None).map(|wanted| vec![Some(wanted)]).ok_or(Reason::Skipped);
        };
        let array = text_of(*from).ok_or(Reason::Skipped)?;
        let all: Vec<&str> = if path.contains(&Step::Each) {
            values_at(array, path, MAX_EACH).ok_or(Reason::Unreadable)?
        } else {
            let array = value_at(array, path).and_then(items).ok_or(Reason::Skipped)?;
            array.take(MAX_EACH + 1).collect()
        };
        if all.len() > MAX_EACH {
            return Err(Reason::Unreadable);
        }
        Ok(all.into_iter().map(|item| one(Some(item))).collect())
    }

    /// What references to a part find: its answer, and nothing where it failed.
    fn text_of(&self, at: usize) -> Option<&str> {
        match self.states.get(at) {
            Some(State::Done(Done { text: Ok(text), .. })) => match text {
                Some(text) => std::str::from_utf8(text).ok(),
                None => self.aggregate.parts.get(at)?.default.as_deref(),
            },
            _ => None,
        }
    }

    /// Joins calls that are the same, or lines them up.
    fn begin(&mut self, at: usize, wanted: Vec<Option<Wanted>>) -> State {
        let asked: Vec<Asked> = wanted
            .into_iter()
            .map(|wanted| match wanted {
                Some(wanted) => self.ask(at, wanted),
                None => Asked::Got(Got::failed(Reason::Skipped)),
            })
            .collect();
        let calling = State::Calling {
            asked,
            since: Instant::now(),
            has_timer: false,
        };
        self.settled(at, calling)
    }

    fn ask(&mut self, at: usize, wanted: Wanted) -> Asked {
        let same = |fetch: &Fetch| fetch.wanted == wanted && wanted.post.is_none() && !fetch.abort.is_aborted();
        if let Some(index) = self.fetches.iter().position(same) {
            return match self.fetches.get(index).and_then(|fetch| fetch.answer.clone()) {
                Some(called) => Asked::Got(self.judged(
                    at,
                    Ok(Called {
                        upstream: None,
                        ..called
                    }),
                )),
                None => Asked::Fetch(index),
            };
        }
        let (abort, registration) = AbortHandle::new_pair();
        let fetch = self.fetches.len();
        let overdue = Arc::<AtomicBool>::default();
        self.queue.push_back(Begun {
            fetch,
            wanted: wanted.clone(),
            registration,
            overdue: overdue.clone(),
        });
        self.fetches.push(Fetch {
            part: at,
            wanted,
            abort,
            overdue,
            is_under_way: false,
            answer: None,
        });
        Asked::Fetch(fetch)
    }

    /// The next call to make, where there is room for one: of the part that took longest last time.
    fn next_call(&mut self, under_way: usize) -> Option<Begun> {
        if under_way >= AT_ONCE {
            return None;
        }
        let busy = |fetch: usize| {
            let Some(asks) = self.fetches.get(fetch) else {
                return false;
            };
            let of_part = |other: &&Fetch| other.is_under_way && other.part == asks.part;
            self.fetches.iter().filter(of_part).count() >= AT_ONCE_EACH
        };
        let took = |fetch: usize| {
            let part = self
                .fetches
                .get(fetch)
                .and_then(|asks| self.aggregate.parts.get(asks.part));
            part.map_or(0, |part| part.took.load(Ordering::Relaxed))
        };
        let waiting = self.queue.iter().enumerate().rev();
        let free = waiting.filter(|(_, begun)| !busy(begun.fetch));
        // Of equals the last is taken, which is the one that waits longest.
        let (next, _) = free.max_by_key(|(_, begun)| took(begun.fetch))?;
        let begun = self.queue.remove(next)?;
        if let Some(fetch) = self.fetches.get_mut(begun.fetch) {
            fetch.is_under_way = true;
        }
        Some(begun)
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

    fn answered(&mut self, index: usize, answer: Result<Called, CallFailure>) {
        let is_answer_to = |asked: &Asked| matches!(asked, Asked::Fetch(fetch) if *fetch == index);
        let mut is_good = true;
        for at in 0..self.states.len() {
            let Some(State::Calling { asked, .. }) = self.states.get(at) else {
                continue;
            };
            if !asked.iter().any(is_answer_to) {
                continue;
            }
            let mut got = self.judged(at, answer.clone());
            is_good &= got.text.is_ok();
            // Told of once, by the part that asked first.
            got.upstream
                .take_if(|_| self.fetches.get(index).is_none_or(|fetch| fetch.part != at));
            let Some(state) = self.states.get_mut(at) else { continue };
            let mut state = std::mem::replace(state, State::Waiting);
            if let State::Calling { asked, .. } = &mut state {
                for asked in asked.iter_mut().filter(|asked| is_answer_to(asked)) {
                    *asked = Asked::Got(got.clone());
                    got.upstream = None;
                }
            }
            let state = self.settled(at, state);
            self.set(at, state);
        }
        if let Some(fetch) = self.fetches.get_mut(index) {
            fetch.is_under_way = false;
            match answer {
                Ok(called) if is_good => fetch.answer = Some(called),
                // Failures are not remembered: who asks the same later asks anew.
                _ => fetch.abort.abort(),
            }
        }
    }

    /// An answer as a part takes it.
    fn judged(&self, at: usize, answer: Result<Called, CallFailure>) -> Got {
        let Some(part) = self.aggregate.parts.get(at) else {
            return Got::failed(Reason::Unreadable);
        };
        let called = match answer {
            Ok(called) => called,
            Err(failure) => {
                return Got {
                    upstream: failure.upstream,
                    ..Got::failed(reason(failure.error))
                };
            }
        };
        Got {
            text: judge(&called, part),
            lacks: called.lacks.and_then(Reason::of),
            status: Some(called.status),
            fresh: Some(Fresh {
                headers: called.headers.clone(),
                kept: called.kept,
            }),
            upstream: called.upstream,
        }
    }

    /// A part that waits for nothing any more is done. What several parts share counts for each: so often it will be written.
    fn settled(&mut self, at: usize, state: State) -> State {
        let State::Calling { asked, since, .. } = &state else {
            return state;
        };
        let got: Option<Vec<&Got>> = asked
            .iter()
            .map(|asked| match asked {
                Asked::Got(got) => Some(got),
                Asked::Fetch(_) => None,
            })
            .collect();
        let (Some(got), Some(part)) = (got, self.aggregate.parts.get(at)) else {
            return state;
        };
        let took = since.elapsed();
        part.note(took);
        let last = got.last();
        let (mut text, lacks) = match part.each {
            None => got
                .first()
                .map_or((Err(Reason::Skipped), None), |got| (got.text.clone(), got.lacks)),
            Some(_) => joined(&got, part.required),
        };
        if let Ok(Some(body)) = &text {
            if self.bytes + body.len() > MAX_TOTAL {
                text = Err(Reason::Unreadable);
            } else {
                self.bytes += body.len();
            }
        }
        State::Done(Done {
            text,
            lacks,
            status: last.and_then(|got| got.status),
            calls: got.iter().filter_map(|got| got.upstream.clone()).collect(),
            fresh: got.iter().filter_map(|got| got.fresh.clone()).collect(),
            took: Some(took),
        })
    }

    /// The time of a part is over; calls that nobody waits for any more are ended. How long they had says something of who was
    /// called only where it was the part's `own`.
    fn timed_out(&mut self, at: usize, own: bool) {
        let Some(State::Calling { asked, since, .. }) = self.states.get(at) else {
            return;
        };
        let fetches: Vec<usize> = asked
            .iter()
            .filter_map(|asked| match asked {
                Asked::Fetch(fetch) => Some(*fetch),
                Asked::Got(_) => None,
            })
            .collect();
        let took = since.elapsed();
        if let Some(part) = self.aggregate.parts.get(at) {
            part.note(took);
        }
        let done = Done {
            took: Some(took),
            ..Done::without_call(Err(Reason::Timeout))
        };
        self.set(at, State::Done(done));
        for fetch in fetches {
            let waits = |asked: &Asked| matches!(asked, Asked::Fetch(other) if *other == fetch);
            let is_awaited = |state: &State| matches!(state, State::Calling { asked, .. } if asked.iter().any(waits));
            if !self.states.iter().any(is_awaited)
                && let Some(fetch) = self.fetches.get_mut(fetch)
            {
                fetch.overdue.store(own, Ordering::Relaxed);
                fetch.abort.abort();
                fetch.is_under_way = false;
            }
        }
        self.queue.retain(|begun| !begun.registration.handle().is_aborted());
    }

    /// The deadline: whoever still waits for an answer was too slow.
    fn end(&mut self) {
        for at in 0..self.states.len() {
            self.timed_out(at, false);
        }
        // What waits for those is skipped when it is looked at next.
    }

    fn is_done(&self) -> bool {
        self.states.iter().all(|state| matches!(state, State::Done(_)))
    }

    /// Parts whose members cannot stand where they should have failed after all.
    fn spread(&mut self) {
        let aggregate = self.aggregate;
        for at in aggregate.unspreadable(|at| self.text_of(at)) {
            if let Some(State::Done(done)) = self.states.get_mut(at) {
                done.text = Err(Reason::Unreadable);
            }
        }
    }

    /// The first required part that failed.
    fn failure(&self) -> Option<Failure> {
        let parts = self.aggregate.parts.iter().zip(&self.states);
        parts
            .filter(|(part, _)| part.required)
            .find_map(|(part, state)| match state {
                State::Done(Done {
                    text: Err(reason),
                    status,
                    ..
                }) => Some(Failure {
                    status: match (reason, status) {
                        (Reason::Status, Some(status)) if part.pass_status.contains(status) => *status,
                        (Reason::Timeout, _) => StatusCode::GATEWAY_TIMEOUT,
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
        self.aggregate.write(self.bytes, |at| {
            let default = || self.aggregate.parts.get(at).and_then(|part| part.default.as_deref());
            self.text_of(at).or_else(default).unwrap_or("null")
        })
    }

    fn finish(self, body: Result<Bytes, Failure>) -> Aggregated {
        let mut done = Aggregated {
            body,
            partial: Vec::new(),
            parts: Vec::new(),
            headers: Vec::new(),
            freshness: Vec::new(),
        };
        for (part, state) in self.aggregate.parts.iter().zip(self.states) {
            let (failed, lacks, status, took, calls) = match state {
                State::Done(of) => {
                    // What stands in for a part that is missing comes without them.
                    let carried = part.headers.iter().filter(|_| matches!(of.text, Ok(Some(_))));
                    for name in carried {
                        let values = of.fresh.iter().flat_map(|fresh| fresh.headers.get_all(name));
                        done.headers.extend(values.map(|value| (name.clone(), value.clone())));
                    }
                    done.freshness.extend(of.fresh);
                    (of.text.err(), of.lacks, of.status, of.took, of.calls)
                }
                // Ended with the whole, which another part made fail.
                State::Calling { since, .. } => (None, None, None, Some(since.elapsed()), Vec::new()),
                State::Waiting => continue,
            };
            let reason = failed.or(lacks);
            // Of a required part that failed, the whole speaks.
            if let Some(reason) = reason.filter(|_| failed.is_none() || !part.required) {
                done.partial.push((part.name.clone(), reason));
            }
            done.parts.push(PartSummary {
                name: part.name.clone(),
                status: status.map(|status| status.as_u16()),
                reason: reason.map(Reason::word),
                duration: took.unwrap_or_default(),
                calls,
            });
        }
        done
    }

    fn set(&mut self, at: usize, state: State) {
        if let Some(standing) = self.states.get_mut(at) {
            *standing = state;
        }
    }
}
