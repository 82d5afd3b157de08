//! Pingora's cache phases, by the rules of RFC 9111.

use std::time::SystemTime;

use http::StatusCode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, CachePhase, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora_proxy::Session;

use super::{Exchange, reply, told, upstream};
use crate::engine::{Denial, DenialKind, Forwarded, Share};
use crate::live::Live;
use crate::policies::cache::storable::{Lookup, freshness, varies_on};
use crate::policies::cache::store;

/// Turns the cache on where the route has one and the request may use it.
pub(super) fn look_up(live: &Live, session: &mut Session, exchange: &mut Exchange) {
    if exchange.cache_rule().is_none() || exchange.attempt.pool.is_none() {
        return;
    }
    let request = session.req_header();
    if let Ok(lookup) = Lookup::of(&request.method, &request.headers) {
        exchange.cache_lookup = Some(lookup);
        session
            .cache
            .enable(live.cache, None, None, Some(live.cache_lock), None);
        session.cache.set_max_file_size_bytes(store::MAX_ENTRY);
    }
}

/// The key: route, sharing, host, path and query, and where answers are one caller's, who that is and all that the upstream is
/// told of it; each framed.
pub(super) fn key(session: &Session, exchange: &Exchange) -> Result<CacheKey> {
    let missing = || Error::explain(ErrorType::InternalError, "no cache rule");
    let rule = exchange.cache_rule().ok_or_else(missing)?;
    let principal = exchange
        .decision
        .as_ref()
        .and_then(|decision| decision.principal.as_ref());
    let whose: Box<[u8]> = match (rule.share, principal) {
        (Share::Public, _) => Box::default(),
        (Share::Principal, Some(principal)) => told::of(exchange, principal, &session.req_header().headers),
        // Nobody in particular: there is nobody to keep it for.
        (Share::Principal, None) => return Err(missing()),
    };
    let (host, path, query) = address(session, exchange);
    Ok(store::key(rule, upstream::scheme(session), host, path, query, &whose))
}

/// Host, path and query, normalised.
fn address<'a>(session: &'a Session, exchange: &'a Exchange) -> (&'a str, &'a str, &'a str) {
    let host = exchange.recorded.as_ref().map_or("", |recorded| recorded.host.as_str());
    let uri = &session.req_header().uri;
    let path = match &exchange.target {
        Some(target) => target.split('?').next().unwrap_or_default(),
        None => uri.path(),
    };
    (host, path, uri.query().unwrap_or(""))
}

/// What is stored of an address ends with a write there that succeeded (RFC 9111 §4.4): for every route, caller and variant.
pub(super) fn note_change(live: &Live, session: &Session, response: &ResponseHeader, exchange: &Exchange) {
    let succeeded = response.status.is_success() || response.status.is_redirection();
    if succeeded && !session.req_header().method.is_safe() {
        let (host, path, query) = address(session, exchange);
        live.cache.changes.note(host, path, query, SystemTime::now());
    }
}

/// Whether what is stored will do for this request.
pub(super) fn judge_hit(
    live: &Live,
    session: &Session,
    meta: &CacheMeta,
    is_fresh: bool,
    exchange: &Exchange,
) -> Option<ForcedFreshness> {
    let lookup = exchange.cache_lookup.as_ref()?;
    let (host, path, query) = address(session, exchange);
    if live.cache.changes.any_since(host, path, query, meta.created()) {
        // Not merely expired: it must not be served where the origin fails, either.
        return Some(ForcedFreshness::ForceMiss);
    }
    let left = meta.fresh_until().duration_since(SystemTime::now()).unwrap_or_default();
    (is_fresh && !lookup.is_served_by(meta.age(), left)).then_some(ForcedFreshness::ForceExpired)
}

/// Which variant of the stored answer this request asks for.
pub(super) fn variance(meta: &CacheMeta, request: &RequestHeader, exchange: &Exchange) -> Option<HashBinary> {
    let rule = exchange.cache_rule()?;
    let names = varies_on(meta.headers()).ok()?;
    store::variance(rule, &names, &request.headers)
}

/// Whether an answer may be kept, and for how long.
pub(super) fn judge_answer(
    live: &Live,
    session: &Session,
    response: &ResponseHeader,
    exchange: &Exchange,
) -> RespCacheable {
    let Some(rule) = exchange.cache_rule() else {
        return RespCacheable::Uncacheable(NoCacheReason::NeverEnabled);
    };
    let now = SystemTime::now();
    let asked = exchange
        .attempt
        .began
        .and_then(|began| now.checked_sub(began.elapsed()));
    let (host, path, query) = address(session, exchange);
    if asked.is_none_or(|asked| live.cache.changes.any_since(host, path, query, asked)) {
        return RespCacheable::Uncacheable(NoCacheReason::Custom("changed-meanwhile"));
    }
    // The variant is told by the client's headers; of these the origin saw the gate's.
    let stripped = &exchange.generation.snapshot.stripped;
    let own = |name: &http::HeaderName| upstream::is_written_here(name) || stripped.contains(name);
    if varies_on(&response.headers).is_ok_and(|names| names.iter().any(own)) {
        return RespCacheable::Uncacheable(NoCacheReason::Custom("varies-on-the-gate"));
    }
    let authorized = rule.share != Share::Public && exchange.authorization() != Forwarded::Nothing;
    match freshness(rule, authorized, response.status, &response.headers, now) {
        Ok(fresh) => {
            let whole = |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
            let (revalidate, error) = (whole(fresh.stale_while_revalidate), whole(fresh.stale_if_error));
            let mut meta = CacheMeta::new(now + fresh.left, now, revalidate, error, response.clone());
            if let Some(born) = now.checked_sub(fresh.age) {
                meta.set_epoch_override(born);
            }
            RespCacheable::Cacheable(meta)
        }
        Err(reason) => RespCacheable::Uncacheable(NoCacheReason::Custom(reason.word())),
    }
}

/// False where the client wants a stored answer or none, and there is none (RFC 9111 §5.2.1.7).
pub(super) async fn may_ask_origin(session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
    let lookup = exchange.cache_lookup.as_ref();
    if !lookup.is_some_and(|lookup| lookup.only_if_cached) {
        return Ok(true);
    }
    let detail = "there is no stored answer";
    let denial = Denial::new(DenialKind::Refuse, StatusCode::GATEWAY_TIMEOUT, "not-cached", detail);
    // Rarely needed, and large.
    Box::pin(reply::refuse(session, exchange, denial)).await?;
    Ok(false)
}

/// What the cache had to say, in a word; `None` where it was not asked.
pub(super) fn result(session: &Session, exchange: &Exchange) -> Option<&'static str> {
    exchange.cache_lookup.as_ref()?;
    Some(match session.cache.phase() {
        CachePhase::Hit => "hit",
        CachePhase::Miss => "miss",
        CachePhase::Stale | CachePhase::StaleUpdating => "stale",
        CachePhase::Expired => "expired",
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => "revalidated",
        CachePhase::Bypass | CachePhase::Disabled(_) | CachePhase::Uninit | CachePhase::CacheKey => "bypass",
    })
}
