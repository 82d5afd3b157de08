//! The record of a finished request. Exactly one for every request that was read.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use pingora::Error;
use pingora_proxy::Session;

use super::{Exchange, cache, failure, reply, response};
use crate::engine::{
    Answer, Decision, Denial, DenialKind, Effected, Ended, EndedBy, Record, RecordedRequest, UpstreamSummary,
};
use crate::live::{Lasts, settle_answer};

/// What the connection says of an exchange.
struct Seen {
    status: u16,
    received: u64,
    sent: u64,
    cache: Option<&'static str>,
    ended: Option<Ended>,
}

/// Hands the record to the observers.
pub(super) fn record(session: &Session, error: Option<&Error>, exchange: &mut Exchange) {
    // An answer without a body ends without a piece of one.
    settle_answer();
    let written = response::written(session).map(|head| head.status.as_u16());
    // The client was gone before it was answered, or left in the middle: nginx's 499.
    let left = error.is_some_and(|error| matches!(error.esource(), pingora::ErrorSource::Downstream));
    // In trailers, a refusal is told under another status.
    let told = match &exchange.failure {
        Some(denial) if reply::asker(session).speaks_grpc() && exchange.attempt.status != written => {
            written.map(|_| denial.status.as_u16())
        }
        _ => written,
    };
    let status = match told {
        Some(status) if !(left && exchange.failure.is_none()) => status,
        _ => 499,
    };
    if exchange.recorded.is_none() {
        exchange.recorded = Some(unread(session, exchange));
    }
    let seen = match (exchange.tunnel.take(), exchange.lasts.take()) {
        (Some(tunnel), _) => Seen {
            status,
            received: tunnel.received,
            sent: tunnel.sent,
            cache: None,
            ended: Some(tunnel.ended),
        },
        (None, lasts) => Seen {
            status,
            received: session.body_bytes_read() as u64,
            sent: session.body_bytes_sent() as u64,
            cache: cache::result(session, exchange),
            ended: lasts.map(|lasts| ended(&lasts, left)),
        },
    };
    hand_over(exchange, seen);
}

/// The same of an exchange that was dropped because it had to end: it was watched over, or its endpoint was too slow. Of others
/// this is no news.
pub(super) fn record_cut(exchange: &mut Exchange) {
    let lasts = exchange.lasts.take();
    let is_overdue = settle_answer();
    if is_overdue {
        failure::give_up(exchange);
    } else if lasts.is_none() {
        return;
    }
    let untold = if is_overdue { 504 } else { 499 };
    let seen = Seen {
        status: exchange.attempt.status.unwrap_or(untold),
        received: exchange.body.received,
        sent: exchange.body.sent,
        cache: None,
        ended: lasts.map(|lasts| ended(&lasts, false)),
    };
    hand_over(exchange, seen);
}

fn ended(lasts: &Lasts, client_left: bool) -> Ended {
    let by = if client_left {
        EndedBy::Client
    } else {
        EndedBy::Upstream
    };
    lasts.cut().ended().cloned().unwrap_or_else(|| by.into())
}

fn hand_over(exchange: &mut Exchange, seen: Seen) {
    let Some(request) = exchange.recorded.take() else {
        return;
    };
    let mut decision = exchange.decision.take();
    let trail = decision.as_mut().map(|decision| std::mem::take(&mut decision.trail));
    let answers = decision
        .as_ref()
        .map_or_else(Vec::new, |decision| named(&decision.answers, &exchange.rules));
    let claimed_sub = answers.iter().find_map(|(_, answer)| match answer {
        Answer::Refused(refusal) => refusal.claimed_sub.clone(),
        _ => None,
    });
    let forwarded = decision.as_deref().is_some_and(Decision::is_forwarded);
    let record = Record {
        id: exchange.id.clone(),
        at: exchange.at,
        config: exchange.generation.snapshot.id.clone(),
        route: exchange.route.as_ref().map(|route| route.name.clone()),
        rules: exchange.rules.clone(),
        principal: decision.as_ref().and_then(|decision| decision.principal.clone()),
        claimed_sub,
        decision: effected(decision.as_deref(), exchange.failure.as_ref(), &exchange.rules),
        answers,
        trail: trail.unwrap_or_default(),
        status: seen.status,
        duration: exchange.began.elapsed(),
        request_bytes: seen.received,
        response_bytes: seen.sent,
        upstream: upstream(exchange),
        parts: std::mem::take(&mut exchange.parts),
        cache: seen.cache,
        failure: exchange
            .failure
            .as_ref()
            .filter(|_| forwarded)
            .map(|denial| known(&denial.code)),
        ended: seen.ended,
        rehearsal: exchange.rehearsal,
        request,
    };
    exchange.generation.observer.record(&Arc::new(record));
}

/// What can be told of a request that panicked on the way to its decision.
fn unread(session: &Session, exchange: &Exchange) -> RecordedRequest {
    let address = session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map(|address| address.ip());
    RecordedRequest {
        method: session.req_header().method.clone(),
        host: String::new(),
        template: None,
        params: Vec::new(),
        path: None,
        headers: Vec::new(),
        query: Vec::new(),
        credential: "absent",
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        client: Arc::from(""),
        claims: exchange.generation.snapshot.kept.claims.clone(),
    }
}

fn named(answers: &[(u16, Answer)], rules: &[Arc<str>]) -> Vec<(Arc<str>, Answer)> {
    let name = |(rule, answer): &(u16, Answer)| Some((rules.get(usize::from(*rule))?.clone(), answer.clone()));
    answers.iter().filter_map(name).collect()
}

/// The decision in short. A request that could not even be read was refused without a rule.
fn effected(decision: Option<&Decision>, failure: Option<&Denial>, rules: &[Arc<str>]) -> Effected {
    match (decision, failure) {
        (Some(decision), _) => decision.effected(rules),
        (None, Some(failure)) => failure.effected(rules),
        (None, None) => Effected {
            effect: DenialKind::Refuse.word(),
            ..Effected::ALLOW
        },
    }
}

fn upstream(exchange: &Exchange) -> Option<UpstreamSummary> {
    let attempt = &exchange.attempt;
    let (pool, last) = (attempt.pool.as_ref()?, attempt.tried.last()?);
    let began = attempt.began?;
    Some(UpstreamSummary {
        name: pool.name.clone(),
        endpoint: pool.endpoints.get(usize::from(*last))?.label.clone(),
        tries: u32::try_from(attempt.tried.len()).unwrap_or(u32::MAX),
        duration: attempt.header_after.unwrap_or_else(|| began.elapsed()),
        status: attempt.status,
        fault: attempt.fault,
    })
}

/// Failures after the decision have codes of the gate's own.
fn known(code: &str) -> &'static str {
    const CODES: [&str; 17] = [
        "breaker-open",
        "upstream-unreachable",
        "upstream-timeout",
        "upstream-broken",
        "upstream-unreadable",
        "upstream-refused",
        "upstream-failed",
        "no-healthy-endpoint",
        "part-failed",
        "body-too-large",
        "not-cached",
        "request-timeout",
        "request-invalid",
        "too-many-open",
        "websocket-invalid",
        "websocket-version",
        "internal",
    ];
    CODES.into_iter().find(|known| *known == code).unwrap_or("other")
}
