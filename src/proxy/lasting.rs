//! Exchanges that are open as long as they like: from when on they are watched over.
//!
//! A socket is from the start, a stream of events and a gRPC call from the header of the answer, all else that still runs after
//! ten seconds from the next piece of a body on. Where too many are open already, of all or from one address, it is refused:
//! `503 too-many-open`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::{Exchange, failure, request};
use crate::live::{Cut, Lasts, Standing};

pub(super) use crate::live::is_stream;

/// What still runs then is open as long as it likes.
const LONG: Duration = Duration::from_secs(10);

/// Watches over a stream from its header on.
pub(super) fn notice_stream(session: &Session, exchange: &mut Exchange, answer: &HeaderMap) -> Result<()> {
    match exchange.lasts.is_none() && is_stream(answer) {
        true => let_last(session, exchange),
        false => Ok(()),
    }
}

/// Watches over what takes long; asked whenever a piece of a body passes, and costs nothing where it is the last.
pub(super) fn notice_length(session: &Session, exchange: &mut Exchange, end: bool) -> Result<()> {
    match !end && exchange.lasts.is_none() && exchange.began.elapsed() > LONG {
        true => let_last(session, exchange),
        false => Ok(()),
    }
}

fn let_last(session: &Session, exchange: &mut Exchange) -> Result<()> {
    if exchange.route.is_none() || exchange.recorded.is_none() {
        return Ok(());
    }
    let lasts = watch(session, exchange, false)?;
    lasts.drop_when_told();
    exchange.lasts = Some(lasts);
    Ok(())
}

/// Watches over an exchange from now on.
pub(super) fn watch(session: &Session, exchange: &mut Exchange, is_socket: bool) -> Result<Lasts> {
    let request = session.req_header();
    let live = exchange.live().clone();
    let path = match &exchange.target {
        Some(target) => target.split('?').next().unwrap_or_default(),
        None => request.uri.path(),
    };
    let ahead = match exchange.rehearsal {
        true => {
            let began = SignedDuration::try_from(exchange.began.elapsed()).unwrap_or_default();
            exchange.at.duration_since(live.clock.now()).saturating_add(began)
        }
        false => SignedDuration::ZERO,
    };
    let recorded = exchange.recorded.as_ref();
    let standing = recorded.map(|recorded| Standing {
        at: exchange.at,
        ahead,
        method: request.method.clone(),
        host: recorded.host.clone(),
        path: path.to_owned(),
        query: request.uri.query().unwrap_or_default().to_owned(),
        headers: request.headers.clone(),
        credential: recorded.credential,
        address: recorded.address,
        certificate: request::certificate(session).cloned(),
        principal: exchange
            .decision
            .as_ref()
            .and_then(|decision| decision.principal.clone()),
        upstream: exchange.attempt.pool.as_ref().map(|pool| pool.name.clone()),
        is_socket,
        cut: Arc::<Cut>::default(),
    });
    let lasts = standing.and_then(|standing| live.watch(standing));
    lasts.ok_or_else(|| {
        let detail = "too many sockets and streams are open";
        exchange.failure = Some(failure::refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-open",
            detail,
        ));
        Error::explain(ErrorType::HTTPStatus(503), "too many sockets and streams")
    })
}
