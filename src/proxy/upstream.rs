//! Tries at an upstream: whose turn it is, what it is sent, and whether its answer is tried again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, Error, ErrorType, OrErr, Result};
use pingora_proxy::Session;
use smallvec::SmallVec;

use super::exchange::{Attempt, Awaited};
use super::request::edit;
use super::{Exchange, failure, rewrite, trace};
use crate::engine::{Forwarded, Share, grpc_timeout, is_grpc, is_hearsay};
use crate::live::{Deadline, begin_call, is_stream, owe_answer, settle_answer};
use crate::policies::cache::storable::varies_on;
use crate::upstreams::{Endpoint, NoEndpoint, Pool, Protocol, RetryAfter, Whom, wellformed};

/// What waits to be sent when the last of a body has been read may take so long.
const SENDING: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a request for an answer that everybody shares may carry.
const KEYED: [&str; 15] = [
    "host",
    "connection",
    "user-agent",
    "accept",
    "accept-language",
    "origin",
    "if-none-match",
    "if-modified-since",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    "tracestate",
    "via",
];

/// The endpoint whose turn it is.
pub(super) fn peer(session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
    let is_sent = session.as_mut().is_body_empty() || session.as_mut().is_body_done();
    // Else it may be that nobody is owed anything, or that nobody reads: an upload that the endpoint takes no more of, an
    // answer that goes to the cache alone.
    let is_watched = is_sent && !session.cache.enabled();
    let upload = exchange.generation.snapshot.bounds.body.within.0;
    let headers = &session.req_header().headers;
    let decision = exchange.decision.as_ref();
    let whom = Whom {
        principal: decision.and_then(|decision| decision.principal.as_deref()),
        address: exchange
            .recorded
            .as_ref()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |recorded| recorded.address),
        header: &|name| headers.get(name).map(HeaderValue::as_bytes),
    };
    let attempt = &mut exchange.attempt;
    attempt.began.get_or_insert_with(Instant::now);
    // The try before, if there was one, is over.
    attempt.lease = None;
    let picked = match &attempt.pool {
        Some(pool) => pool.pick(&attempt.tried, &whom),
        None => Err(NoEndpoint::Unhealthy),
    };
    let lease = match picked {
        Ok(lease) => lease,
        Err(none) => {
            exchange.failure = Some(failure::nobody(none));
            return Error::e_explain(ErrorType::HTTPStatus(503), "nobody to ask");
        }
    };
    let mut peer = lease.endpoint().map(Endpoint::peer);
    settle_answer();
    attempt.awaited = Awaited::Nothing;
    attempt.is_sent = false;
    if let (Some(peer), Some(pool)) = (&mut peer, &attempt.pool) {
        let (awaited, silence) = patience(headers, pool);
        attempt.awaited = awaited;
        if awaited != Awaited::Header {
            begin_call();
        }
        let (response, idle) = (pool.settings.timeout.response.0, pool.settings.timeout.idle.0);
        let longest = (!is_watched).then(|| upload + SENDING + response.max(idle));
        peer.options.read_timeout = silence.or(longest);
    }
    attempt.tried.push(lease.at());
    attempt.lease = Some(lease);
    // The body counts anew on every try.
    exchange.body.received = 0;
    peer.ok_or_else(|| Error::new(ErrorType::InternalError))
}

/// What the endpoint is waited for, and how long nothing may come of it; `None` where that is watched elsewhere.
fn patience(headers: &HeaderMap, pool: &Pool) -> (Awaited, Option<Duration>) {
    let timeout = &pool.settings.timeout;
    let (response, idle) = (timeout.response.0, timeout.idle.0);
    let content_type = headers.get(header::CONTENT_TYPE);
    let says_grpc = content_type.is_some_and(|content_type| is_grpc(content_type.as_bytes()));
    // It is spoken over HTTP/2 alone: elsewhere these are headers like any. Its servers send the header with the first message.
    if says_grpc && pool.settings.protocol == Protocol::Http2 {
        let until = headers.get("grpc-timeout");
        let until = until.and_then(|until| grpc_timeout(until.as_bytes()));
        return match until.filter(|until| *until < idle) {
            Some(until) if until < response => (Awaited::HurriedCall, Some(until)),
            until => (Awaited::Call, until.or(Some(idle))),
        };
    }
    (Awaited::Header, None)
}

/// Notes that all of the request is on its way: now the endpoint owes its answer.
pub(super) fn await_answer(had_body: bool, exchange: &mut Exchange) {
    let attempt = &mut exchange.attempt;
    attempt.is_sent = true;
    let Some(pool) = &attempt.pool else { return };
    let silence = pool.settings.timeout.response.0;
    let at = match attempt.awaited {
        Awaited::Header => {
            let sending = if had_body { SENDING } else { Duration::ZERO };
            tokio::time::Instant::now().checked_add(silence.saturating_add(sending))
        }
        Awaited::Rest => None,
        Awaited::Nothing | Awaited::Call | Awaited::HurriedCall => return,
    };
    owe_answer(Deadline { at, silence });
}

/// What follows the header of an answer. Before all of the request is on its way, the client is waited for as well, unless it is
/// a stream that both are waiting for.
fn await_rest(response: &ResponseHeader, attempt: &mut Attempt) {
    let Some(pool) = &attempt.pool else { return };
    let timeout = &pool.settings.timeout;
    let is_stream = is_stream(&response.headers);
    attempt.awaited = if is_stream { Awaited::Nothing } else { Awaited::Rest };
    let silence = if is_stream { timeout.idle.0 } else { timeout.response.0 };
    // The client has all of such an answer with its header, and reads no more.
    let is_told = response.status == StatusCode::RESET_CONTENT;
    if is_stream || is_told || attempt.is_sent {
        let at = tokio::time::Instant::now().checked_add(silence).filter(|_| is_told);
        owe_answer(Deadline { at, silence });
    }
}

/// Nothing was sent: another endpoint may be tried, whatever the method.
pub(super) fn failed_to_connect(exchange: &mut Exchange, mut error: BError) -> BError {
    let attempt = &mut exchange.attempt;
    if let Some(lease) = &mut attempt.lease {
        lease.failed();
    }
    let again = attempt
        .pool
        .as_ref()
        .is_some_and(|pool| pool.retries(&pool.settings.retry, RetryAfter::Connect, attempt.tried.len()));
    error.set_retry(again);
    error
}

/// How the client reached the gate.
pub(super) fn scheme(session: &Session) -> &'static str {
    let is_encrypted = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    if is_encrypted { "https" } else { "http" }
}

/// Writes what the endpoint gets: one normalised target, the gate's own word on who calls and from where.
pub(super) fn write_request(session: &Session, request: &mut RequestHeader, exchange: &Exchange) -> Result<()> {
    if let Some(target) = &exchange.target {
        let target = target
            .parse()
            .map_err(|_| Error::explain(ErrorType::InternalError, "a target that is no URI"))?;
        request.set_uri(target);
    }
    // Of a caller in HTTP/2 the host stood in the target alone.
    if let (false, Some(host)) = (
        request.headers.contains_key(header::HOST),
        session.req_header().uri.authority(),
    ) {
        request.insert_header(header::HOST, host.as_str())?;
    }
    // Trailers are passed on, so a client that understands them may be told of (RFC 9113 §8.2.2); gRPC servers ask for it.
    let understands = session.req_header().headers.get(header::TE);
    if request.version == Version::HTTP_2 && understands.is_some_and(|te| te == "trailers") {
        request.insert_header(header::TE, "trailers")?;
    }
    rewrite::before(request, exchange);
    let host = exchange
        .recorded
        .as_ref()
        .map(|recorded| HeaderValue::from_str(&recorded.host));
    let host = host
        .transpose()
        .or_err(ErrorType::InternalError, "a host that is no header")?;
    let spelling = exchange
        .recorded
        .as_ref()
        .and_then(|recorded| spelling(request, &recorded.host));
    let traced = trace::told(&request.headers, &exchange.id);
    let id = HeaderValue::from_str(&exchange.id).or_err(ErrorType::InternalError, "an id that is no header")?;
    let scheme = HeaderValue::from_static(scheme(session));
    let passport = passport(exchange)?;
    let received_by = received_by(session);
    edit(request, |headers| {
        let keeps_credential = exchange.authorization() == Forwarded::Credential;
        // All other hearsay went before the request was judged; this was left for the gate to read.
        let read = exchange.generation.snapshot.trusted_header();
        let is_replaced = |name: &&HeaderName| match name.as_str() {
            "authorization" => !keeps_credential,
            "traceparent" | "tracestate" => true,
            text => text.starts_with("gwanmun-") || Some(*name) == read,
        };
        let replaced: SmallVec<[HeaderName; 4]> = headers.keys().filter(is_replaced).cloned().collect();
        for name in replaced {
            headers.remove(name);
        }
        if let Some(passport) = passport {
            headers.insert(header::AUTHORIZATION, passport);
        }
        // Room for all at once.
        headers.reserve(12);
        for (name, value) in traced {
            headers.insert(name, value);
        }
        if let Some(spelling) = spelling {
            headers.insert(header::HOST, spelling);
        }
        headers.append(header::VIA, HeaderValue::from_static(received_by));
        if let Some(value) = &exchange.forwarded_for {
            headers.insert(FORWARDED_FOR, value.clone());
        }
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        headers.insert(FORWARDED_PROTO, scheme);
        headers.insert(REQUEST_ID, id);
        for (name, value) in exchange.told() {
            headers.insert(name.clone(), value.clone());
        }
    });
    if exchange.reshape().is_some() || exchange.cache_rule().is_some() {
        // What is cut or stored is stored and cut uncoded.
        request.remove_header(&header::ACCEPT_ENCODING);
    }
    if session.cache.enabled() && exchange.cache_rule().is_some_and(|rule| rule.share == Share::Public) {
        keep_keyed(request, &exchange.attempt.keyed);
    }
    rewrite::after(request, exchange)
}

/// The caller's passport for the upstream, where it gets one. Without one nothing is sent: an upstream that is used to be
/// told who calls must not take a caller for nobody.
fn passport(exchange: &Exchange) -> Result<Option<HeaderValue>> {
    let Some(holder) = exchange.passport_holder() else {
        return Ok(None);
    };
    let passports = exchange.generation.passports.as_ref();
    let signed = passports.zip(exchange.attempt.pool.as_ref());
    let signed = signed.and_then(|(passports, pool)| passports.bearer(holder, &pool.name, exchange.at).ok());
    let signed = signed.ok_or_else(|| Error::explain(ErrorType::InternalError, "no passport can be signed"))?;
    Ok(Some(signed))
}

/// The `Host` that was matched and judged, with the port it came with; `None` where it came like that.
fn spelling(request: &RequestHeader, host: &str) -> Option<HeaderValue> {
    let sent = request.headers.get(header::HOST)?.to_str().ok()?;
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    // Most came like that.
    let rest = sent.strip_prefix(host);
    if rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_number)) {
        return None;
    }
    // A colon within brackets is the address's.
    let port = sent.rsplit_once(':').map_or("", |(_, port)| port);
    let spelt = match is_number(port) && !sent.ends_with(']') {
        true => format!("{host}:{port}"),
        false => host.to_owned(),
    };
    (spelt != sent).then(|| HeaderValue::try_from(spelt).ok())?
}

/// RFC 9110 §7.6.3: by which protocol the request came, and to whom.
fn received_by(session: &Session) -> &'static str {
    match session.req_header().version {
        Version::HTTP_10 => "1.0 gwanmun",
        Version::HTTP_2 => "2 gwanmun",
        _ => "1.1 gwanmun",
    }
}

/// Leaves of a request whose answer is for everybody what cannot make it an answer for somebody: what describes the
/// connection, what answers usually vary on and say so, what this origin said it varies on, and what the gate wrote.
fn keep_keyed(request: &mut RequestHeader, named: &[HeaderName]) {
    let unkeyed: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| !KEYED.contains(&name.as_str()) && !named.contains(name))
        .cloned()
        .collect();
    for name in unkeyed {
        request.remove_header(&name);
    }
}

/// Whether a header is the gate's own, so that the client's spelling of it says nothing about an answer.
pub(super) fn is_written_here(name: &HeaderName) -> bool {
    let name = name.as_str();
    is_hearsay(name) || name.starts_with("gwanmun-") || name == REQUEST_ID.as_str()
}

/// Notes what the endpoint answered; an answer the upstream lists is tried again while tries are left.
pub(super) fn read_response(session: &Session, response: &ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    if let Err(fault) = wellformed::check(response, exchange.attempt.interim) {
        exchange.failure = Some(failure::broken());
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, fault).into_up());
    }
    if response.status.is_informational() {
        exchange.attempt.interim += 1;
        return Ok(());
    }
    settle_answer();
    if varies_on_more(session, response, exchange) {
        return Err(try_again("an answer that varies on a header it was not shown"));
    }
    note_status(response.status, exchange);
    let attempt = &mut exchange.attempt;
    let repeatable = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    let tries = attempt.tried.len();
    let what = RetryAfter::Status(response.status);
    let again = |pool: &Arc<Pool>| repeatable && pool.retries(&pool.settings.retry, what, tries);
    if attempt.pool.as_ref().is_some_and(again) {
        return Err(try_again("an answer that is tried again"));
    }
    if attempt.awaited == Awaited::Header {
        await_rest(response, attempt);
    }
    Ok(())
}

/// Notes that the endpoint answered, and when.
pub(super) fn note_status(status: StatusCode, exchange: &mut Exchange) {
    let attempt = &mut exchange.attempt;
    attempt.status = Some(status.as_u16());
    attempt.header_after = attempt.began.map(|began| began.elapsed());
    if let Some(lease) = &mut attempt.lease {
        lease.answered(status);
    }
}

/// Whether the answer varies on a header that the client sent and [`keep_keyed`] took away: it is asked for once more, with
/// that header, and stored under it.
fn varies_on_more(session: &Session, response: &ResponseHeader, exchange: &mut Exchange) -> bool {
    let is_public = exchange.cache_rule().is_some_and(|rule| rule.share == Share::Public);
    if !session.cache.enabled() || !is_public || !exchange.attempt.keyed.is_empty() {
        return false;
    }
    let sent = &session.req_header().headers;
    let kept_back = |name: &HeaderName| {
        let known = KEYED.contains(&name.as_str()) || is_written_here(name);
        let credential = *name == header::AUTHORIZATION || *name == header::COOKIE;
        sent.contains_key(name) && !known && !credential && *name != header::ACCEPT_ENCODING
    };
    let mut names = varies_on(&response.headers).unwrap_or_default();
    names.retain(kept_back);
    exchange.attempt.keyed = names;
    !exchange.attempt.keyed.is_empty()
}

fn try_again(why: &'static str) -> BError {
    let mut error = Error::explain(ErrorType::HTTPStatus(502), why).into_up();
    error.set_retry(true);
    error
}
