//! What went wrong after the decision, told as problem+json without a word of the upstream's.

use http::StatusCode;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::exchange::Awaited;
use super::{Exchange, reply, request, response};
use crate::engine::{Denial, DenialKind};
use crate::live::settle_answer;
use crate::upstreams::{NoEndpoint, fault};

/// Answers a request that failed, if the client is still there and nothing was sent yet.
pub(super) async fn answer(session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
    let is_overdue = settle_answer();
    if is_overdue {
        give_up(exchange);
    }
    if is_gone(error) && exchange.failure.is_none() {
        return FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
    }
    let attempt = &mut exchange.attempt;
    if !is_overdue {
        attempt.fault = fault(error, attempt.status.is_some());
    }
    // Before the client knows: its next request finds the breaker open.
    // Not where it was the caller who was hurried, or slow: while the request is under way, the endpoint waits as well.
    let is_callers = is_timeout(error)
        && (attempt.awaited == Awaited::HurriedCall || error.etype() == &ErrorType::ReadTimedout && !attempt.is_sent);
    if let (ErrorSource::Upstream, Some(lease)) = (error.esource(), &mut attempt.lease)
        && !is_callers
    {
        lease.failed();
    }
    let denial = exchange.failure.clone().unwrap_or_else(|| told(error));
    let error_code = denial.status.as_u16();
    if response::written(session).is_none() {
        // What was prepared for the upstream's body does not concern this one.
        exchange.body = super::exchange::Body::default();
        session.set_keepalive(None);
        // The decision's acts for a forwarded answer do not concern this one.
        match reply::refuse(session, exchange, denial).await {
            Ok(()) => end_well(session).await,
            Err(error) => log::debug!("cannot tell a failure to the client: {error}"),
        }
    } else {
        exchange.failure = Some(denial);
    }
    FailToProxy {
        error_code,
        can_reuse_downstream: false,
    }
}

/// Pingora drops the connection; a client that is still sending would be reset before it has read the answer.
async fn end_well(session: &mut Session) {
    if let ServerSession::H1(downstream) = session.as_downstream_mut() {
        downstream.shutdown().await;
    }
}

/// Notes that the endpoint owes the header of its answer for too long.
pub(super) fn give_up(exchange: &mut Exchange) {
    exchange.failure.get_or_insert_with(too_slow);
    blame(exchange);
}

fn blame(exchange: &mut Exchange) {
    exchange.attempt.fault = Some("response-timeout");
    if let Some(lease) = &mut exchange.attempt.lease {
        lease.failed();
        lease.leave_connections();
    }
}

/// Whether an answer that was kept may take the place of one that an endpoint could not give.
pub(super) fn may_serve_stale(error: Option<&Error>, exchange: &mut Exchange) -> bool {
    let Some(error) = error else { return false };
    if settle_answer() {
        blame(exchange);
        return true;
    }
    matches!(error.esource(), ErrorSource::Upstream)
}

/// Whether the error is worth no line in the log: the client went away, or the request was refused.
pub(super) fn is_quiet(exchange: &Exchange, error: &Error) -> bool {
    is_gone(error)
        || exchange
            .failure
            .as_ref()
            .is_some_and(|denial| denial.status.is_client_error())
}

/// Nobody to ask.
pub(super) fn nobody(none: NoEndpoint) -> Denial {
    let (code, retry_after) = match none {
        NoEndpoint::Unhealthy => ("no-healthy-endpoint", None),
        NoEndpoint::BreakerOpen(wait) => ("breaker-open", Some(wait)),
    };
    let detail = "the service behind the gate is not available";
    Denial {
        retry_after,
        ..refuse(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }
}

/// Whoever was asked did not answer in HTTP.
pub(super) fn broken() -> Denial {
    refuse(
        StatusCode::BAD_GATEWAY,
        "upstream-broken",
        "the service behind the gate broke off",
    )
}

fn too_slow() -> Denial {
    refuse(
        StatusCode::GATEWAY_TIMEOUT,
        "upstream-timeout",
        "the service behind the gate is too slow",
    )
}

/// Whether whoever was asked, or is asked, took too long.
fn is_timeout(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout
    )
}

/// What the front says of a client's body: that it is none, or too slow.
fn said_by_front(error: &Error) -> Option<std::io::ErrorKind> {
    let kind = error.root_cause().downcast_ref::<std::io::Error>()?.kind();
    matches!(kind, std::io::ErrorKind::InvalidData | std::io::ErrorKind::TimedOut).then_some(kind)
}

fn is_gone(error: &Error) -> bool {
    // Pingora's ConnectError of a client is one that sent its next request before the answer to this one.
    let broken = matches!(
        error.etype(),
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed | ErrorType::ConnectError
    );
    matches!(error.esource(), ErrorSource::Downstream)
        && broken
        && (said_by_front(error).is_none() || matches!(error.etype(), ErrorType::WriteError))
}

fn told(error: &Error) -> Denial {
    let slow = || {
        refuse(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "the request took too long to arrive",
        )
    };
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => slow(),
        (ErrorSource::Downstream, _) if said_by_front(error) == Some(std::io::ErrorKind::TimedOut) => slow(),
        (ErrorSource::Downstream, _) => refuse(
            StatusCode::BAD_REQUEST,
            "request-invalid",
            "the request cannot be read unambiguously",
        ),
        _ if is_timeout(error) => too_slow(),
        (
            _,
            ErrorType::ConnectRefused
            | ErrorType::ConnectError
            | ErrorType::ConnectNoRoute
            | ErrorType::SocketError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert,
        ) => refuse(
            StatusCode::BAD_GATEWAY,
            "upstream-unreachable",
            "the service behind the gate cannot be reached",
        ),
        (ErrorSource::Upstream, _) => broken(),
        _ => request::internal(),
    }
}

#[cold]
pub(super) fn refuse(status: StatusCode, code: &str, detail: &str) -> Denial {
    Denial::new(DenialKind::Refuse, status, code, detail)
}
