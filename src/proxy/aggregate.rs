//! Carrying out an aggregate: its parts are called, the merged answer is cut and written.
//!
//! How long the whole is good is what the part says that is good for least, and `private` where any is, where the request carried
//! a credential, or where it matters from where it was sent. Where the time matters, it is not good for long: `no-cache`. Its
//! `ETag` is a hash of the body, so that an unchanged answer is a 304 (RFC 9110 §13.1.2).

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::time::Instant;

use super::inside::Inside;
use super::sparing::limits;
use super::{Exchange, reply, request, tokens};
use crate::engine::{About, CacheRule, Denial, DenialKind, Facts, Params, Reply, RequestView, ReshapeFailure, Share};
use crate::live::Live;
use crate::policies::cache::storable::{Reason, freshness};
use crate::snapshot::Route;
use crate::targets::Aggregate;
use crate::targets::aggregate::{Aggregated, Fresh, Inputs, PARTIAL};

/// What rules read of a request.
#[derive(Default)]
pub(super) struct Sent {
    headers: HeaderMap,
    /// The parameters of its query by which the caller proved who it is.
    credential: String,
}

impl Sent {
    pub fn by(request: &RequestHeader, route: &Route) -> Self {
        Self {
            headers: request.headers.clone(),
            credential: tokens::parameters(request.uri.query().unwrap_or(""), route),
        }
    }
}

/// Answers with the aggregate of `route`. `sent` is what rules read before credentials were taken away.
pub(super) async fn answer(
    live: &Arc<Live>,
    session: &mut Session,
    exchange: &mut Exchange,
    route: &Route,
    aggregate: &Aggregate,
    sent: Sent,
) -> Result<()> {
    reply::drain(session).await;
    let Some((inputs, inside)) = prepared(live, session, exchange, route, aggregate, sent) else {
        return Error::e_explain(ErrorType::InternalError, "an aggregate without a request");
    };
    let mut done = run(session, aggregate, inputs, &inside).await?;
    exchange.parts = std::mem::take(&mut done.parts);
    let partial = done.partial_header();
    let body = match done.body {
        Ok(body) => body,
        Err(failure) => {
            log::info!(
                "{}: part `{}` failed: {}",
                exchange.summary(),
                failure.part,
                failure.reason.word()
            );
            let detail = "a service behind the gate did not answer as needed";
            let denial = Denial::new(DenialKind::Refuse, failure.status, failure.code, detail);
            return reply::refuse(session, exchange, denial).await;
        }
    };
    // RFC 9111 §3.5: nothing that was asked for with a credential is for everybody.
    let has_credential = inside.sent.contains_key(header::AUTHORIZATION) || !inside.credential.is_empty();
    let is_personal = inside.principal.is_some() || has_credential || aggregate.reads_address();
    let good = match partial {
        Some(_) => HeaderValue::from_static("no-store"),
        None => cache_control(&done.freshness, is_personal, aggregate.reads_time(), SystemTime::now()),
    };
    let mut headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, good),
        (header::VARY, HeaderValue::from_static("accept-language")),
    ];
    let varies = aggregate.reads_headers().into_iter();
    headers.extend(varies.map(|name| (header::VARY, HeaderValue::from_name(name))));
    headers.append(&mut done.headers);
    let is_whole = partial.is_none();
    headers.extend(partial.map(|value| (PARTIAL, value)));
    let lacks: Vec<(Arc<str>, &str)> = done
        .partial
        .iter()
        .map(|(name, reason)| (name.clone(), reason.word()))
        .collect();
    let tag = tag(&body, exchange);
    let body = match cut(exchange, body, &mut headers, &lacks) {
        Ok(body) => body,
        Err(_) => {
            let detail = "a service behind the gate answered what cannot be read";
            let denial = Denial::new(
                DenialKind::Refuse,
                StatusCode::BAD_GATEWAY,
                "upstream-unreadable",
                detail,
            );
            return reply::refuse(session, exchange, denial).await;
        }
    };
    let mut answer = Reply {
        status: StatusCode::OK,
        headers,
        body,
    };
    if is_whole {
        let is_weak = exchange.reshape().is_some_and(|reshape| reshape.tells_request());
        validate(session, &mut answer, &tag, is_weak);
    }
    reply::write(session, exchange, answer).await
}

/// What the parts refer to, and who calls on whose behalf.
fn prepared(
    live: &Arc<Live>,
    session: &Session,
    exchange: &Exchange,
    route: &Route,
    aggregate: &Aggregate,
    sent: Sent,
) -> Option<(Inputs, Arc<Inside>)> {
    let recorded = exchange.recorded.as_ref()?;
    let decision = exchange.decision.as_ref()?;
    let generation = exchange.generation.clone();
    let headers = Arc::new(sent.headers);
    let request = session.req_header();
    let names: Vec<_> = recorded.params.iter().map(|(name, _)| name.clone()).collect();
    let path = exchange.target.as_deref().map_or(request.uri.path(), |target| {
        target.split('?').next().unwrap_or_default()
    });
    let certificate = request::certificate(session);
    let view = RequestView {
        method: &request.method,
        host: &recorded.host,
        path,
        query: request.uri.query().unwrap_or(""),
        headers: &request::View(&headers, certificate),
    };
    let facts = Facts {
        now: exchange.at,
        window_at: exchange.at,
        address: recorded.address,
        client: generation.snapshot.clients.of(&view),
        request: view,
        params: Params {
            names: &names,
            values: recorded.params.iter().map(|(_, value)| value.as_str()).collect(),
        },
        principal: decision.principal.clone(),
    };
    let inputs = aggregate.inputs(&facts);
    let mut told: Vec<(HeaderName, HeaderValue)> = exchange.told().cloned().collect();
    let proved = RequestView {
        query: &sent.credential,
        ..view
    };
    told.extend(tokens::shown(&proved, route, &decision.acts));
    let inside = Arc::new(Inside {
        live: live.clone(),
        at: exchange.at,
        id: exchange.id.clone(),
        host: recorded.host.clone(),
        address: recorded.address,
        principal: decision.principal.clone(),
        told,
        passport: exchange.passport_holder().cloned(),
        edits: None,
        without: exchange.without(),
        asked: limits(decision, &exchange.rules).collect(),
        deadline: Instant::from_std(exchange.began + route.deadline),
        depth: 0,
        certificate: certificate.cloned(),
        held: Arc::default(),
        credential: Arc::from(sent.credential.as_str()),
        sent: headers.clone(),
        generation: generation.clone(),
        lines: Default::default(),
    });
    Some((inputs, inside))
}

/// Runs the parts for as long as the client is there: they end when it leaves.
async fn run(session: &mut Session, aggregate: &Aggregate, inputs: Inputs, inside: &Arc<Inside>) -> Result<Aggregated> {
    let mut run = pin!(aggregate.run(inputs, inside, inside.deadline));
    let downstream = session.as_downstream_mut();
    if !downstream.is_body_done() {
        // It is still sending what nobody will read: that it leaves shows when it is answered.
        return Ok(run.await);
    }
    tokio::select! {
        biased;
        done = &mut run => Ok(done),
        _ = downstream.read_body_or_idle(true) => {
            Err(Error::explain(ErrorType::ConnectionClosed, "the client left").into_down())
        }
    }
}

/// As long as the part that is good for least, and for nobody else where any part is. What depends on the moment is asked for
/// again each time.
fn cache_control(all: &[Fresh], is_personal: bool, is_of_the_moment: bool, now: SystemTime) -> HeaderValue {
    let mut is_private = is_personal;
    let mut least: Option<Duration> = None;
    for fresh in all {
        let left = |share| {
            let rule = CacheRule {
                route: Arc::from(""),
                ttl: None,
                share,
            };
            freshness(&rule, false, StatusCode::OK, &fresh.headers, now).map(|fresh| fresh.left)
        };
        let mut good = left(Share::Public);
        if good == Err(Reason::Private) {
            is_private = true;
            good = left(Share::Principal);
        }
        let left = match (good, fresh.kept) {
            (Err(Reason::NoStore | Reason::SetCookie), _) => return HeaderValue::from_static("no-store"),
            (_, Some(kept)) => kept,
            (Ok(left), None) => left,
            (Err(_), None) => Duration::ZERO,
        };
        least = Some(least.map_or(left, |least| least.min(left)));
    }
    let whose = if is_private { "private" } else { "public" };
    let least = least.filter(|_| !is_of_the_moment);
    let text = match least.unwrap_or_default().as_secs() {
        0 => format!("{whose}, no-cache"),
        seconds => format!("{whose}, max-age={seconds}"),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("no-store"))
}

/// The opaque part of the validator: of what the answer is made from, and of how it is changed.
fn tag(body: &[u8], exchange: &Exchange) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    let first = digest
        .as_ref()
        .first_chunk()
        .map_or(0, |first| u128::from_be_bytes(*first));
    let mark = exchange.reshape().map_or("", |reshape| reshape.mark());
    format!("\"{first:032x}{mark}\"")
}

/// Gives the answer its validator, and takes its body away where the client has the same already.
fn validate(session: &Session, answer: &mut Reply, tag: &str, is_weak: bool) {
    let request = session.req_header();
    let may_have = matches!(request.method, Method::GET | Method::HEAD);
    if may_have && has_tag(&request.headers, tag) {
        answer.status = StatusCode::NOT_MODIFIED;
        answer.body = Bytes::new();
        // RFC 9110 §15.4.5: what describes the body does not go with it.
        answer.headers.retain(|(name, _)| *name != header::CONTENT_TYPE);
    }
    // RFC 9110 §8.8.1: what tells the request's id is the same for those who read it, but not byte by byte.
    let tag = match is_weak {
        true => HeaderValue::try_from(format!("W/{tag}")),
        false => HeaderValue::try_from(tag),
    };
    answer.headers.extend(tag.ok().map(|tag| (header::ETAG, tag)));
}

/// Whether `If-None-Match` names the tag, compared weakly: a coding on the way makes it weak.
fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut named = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    named.any(|named| {
        let named = named.trim();
        named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag
    })
}

fn cut(
    exchange: &Exchange,
    body: Bytes,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
    partial: &[(Arc<str>, &'static str)],
) -> std::result::Result<Bytes, ReshapeFailure> {
    let Some(reshape) = exchange.reshape() else {
        return Ok(body);
    };
    headers.extend(
        reshape
            .varies_on()
            .iter()
            .map(|name| (header::VARY, HeaderValue::from_name(name.clone()))),
    );
    let about = About {
        request_id: &exchange.id,
        partial,
    };
    match reshape.reshape(&body, &about) {
        Err(_) if reshape.passes_uncut() => Ok(body),
        cut => cut,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fresh(control: &'static str, kept: Option<u64>) -> Fresh {
        let mut headers = HeaderMap::new();
        if !control.is_empty() {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
        }
        Fresh {
            headers: Arc::new(headers),
            kept: kept.map(Duration::from_secs),
        }
    }

    #[test]
    fn is_good_as_long_as_what_is_good_for_least() {
        let of = |all: &[Fresh], is_personal| {
            let value = cache_control(all, is_personal, false, SystemTime::now());
            value.to_str().unwrap().to_owned()
        };
        let minute = fresh("max-age=60", None);
        assert_eq!(
            of(&[minute.clone(), fresh("public, max-age=5", None)], false),
            "public, max-age=5"
        );
        assert_eq!(
            of(&[minute.clone(), fresh("private, max-age=90", None)], false),
            "private, max-age=60"
        );
        assert_eq!(of(&[minute.clone(), fresh("", None)], false), "public, no-cache");
        assert_eq!(of(&[minute.clone(), fresh("", Some(9))], false), "public, max-age=9");
        assert_eq!(
            of(&[minute.clone(), fresh("no-cache", None)], true),
            "private, no-cache"
        );
        assert_eq!(of(&[minute, fresh("no-store", None)], false), "no-store");
        assert_eq!(of(&[], true), "private, no-cache");
        let minute = fresh("max-age=60", None);
        assert_eq!(
            cache_control(&[minute], false, true, SystemTime::now()),
            "public, no-cache"
        );
    }

    #[test]
    fn compares_tags_weakly() {
        let has = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]);
            has_tag(&headers, "\"a1\"")
        };
        for same in ["\"a1\"", "W/\"a1\"", "\"x\", W/\"a1\"", "*"] {
            assert!(has(same), "{same}");
        }
        for other in ["\"a2\"", "a1", "", "w/\"a1\""] {
            assert!(!has(other), "{other}");
        }
    }
}
