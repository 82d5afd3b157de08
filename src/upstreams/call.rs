//! One request from inside: health checks, the parts of aggregates.
//!
//! Runs on a connector of its own over the pools' endpoints; redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;

use super::{Endpoint, NoEndpoint, Pool, Whom};

/// Makes requests from inside. One per process: it holds the connections.
pub struct Caller {
    connector: Connector,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Called {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`, where there is one and it is text.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No endpoint is well.
    #[error("no healthy endpoint")]
    NoEndpoint,
    /// Every endpoint that is well has failed too often lately.
    #[error("the breaker is open")]
    BreakerOpen,
    /// No connection could be made.
    #[error("the endpoint cannot be reached")]
    Connect,
    /// The connection broke, or what came is no HTTP.
    #[error("the endpoint broke off")]
    Broken,
    /// More bytes than allowed.
    #[error("the answer is too large")]
    TooLarge,
    /// An operator has closed the upstream.
    #[error("the upstream is frozen")]
    Frozen,
    /// What it has to be shown could not be signed.
    #[error("no passport can be signed")]
    Unsigned,
    /// Not within its time.
    #[error("the endpoint is too slow")]
    Timeout,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            connector: Connector::new(None),
        }
    }
}

impl Caller {
    /// GETs `target` from a pool: another endpoint is tried as the pool's `retry` says. The pool's response timeout holds
    /// for each try; the caller bounds the whole.
    pub async fn get(
        &self,
        pool: &Arc<Pool>,
        whom: &Whom<'_>,
        target: &str,
        headers: &[(HeaderName, HeaderValue)],
        max_body: usize,
    ) -> Result<Called, CallError> {
        let mut tried = smallvec::SmallVec::<[u16; 4]>::new();
        loop {
            let mut lease = pool.pick(&tried, whom).map_err(|none| match none {
                NoEndpoint::Unhealthy => CallError::NoEndpoint,
                NoEndpoint::BreakerOpen(_) => CallError::BreakerOpen,
            })?;
            tried.push(lease.at());
            let answer = match lease.endpoint() {
                Some(endpoint) => self.ask(endpoint, target, headers, max_body).await,
                None => Err(CallError::NoEndpoint),
            };
            match &answer {
                Ok(called) => lease.answered(called.status),
                // That it is larger than somebody wants is no fault of its endpoint.
                Err(CallError::TooLarge) => {}
                Err(_) => lease.failed(),
            }
            match answer {
                Err(CallError::Connect) if pool.retries_connect(tried.len()) => {}
                Ok(called) if pool.retries_status(called.status, tried.len()) => {}
                done => return done,
            }
        }
    }

    /// GETs `target` from one endpoint.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        target: &str,
        headers: &[(HeaderName, HeaderValue)],
        max_body: usize,
    ) -> Result<Called, CallError> {
        let peer = endpoint.peer();
        let (mut session, reused) =
            self.connector
                .get_http_session(&peer)
                .await
                .map_err(|error| match error.etype() {
                    pingora::ErrorType::ConnectTimedout => CallError::Timeout,
                    _ => CallError::Connect,
                })?;
        let wait = peer.options.read_timeout;
        match exchange(&mut session, endpoint, target, headers, max_body, wait).await {
            Ok(called) => {
                self.connector
                    .release_http_session(session, &peer, peer.options.idle_timeout)
                    .await;
                Ok(called)
            }
            // A pooled connection may have been closed by the endpoint a moment ago: nothing was answered, GET is safe.
            Err(CallError::Broken) if reused => {
                session.shutdown().await;
                let fresh = self.connector.get_http_session(&peer).await;
                let (mut session, _) = fresh.map_err(|_| CallError::Connect)?;
                let called = exchange(&mut session, endpoint, target, headers, max_body, wait).await?;
                self.connector
                    .release_http_session(session, &peer, peer.options.idle_timeout)
                    .await;
                Ok(called)
            }
            Err(error) => {
                session.shutdown().await;
                Err(error)
            }
        }
    }
}

async fn exchange(
    session: &mut HttpSession,
    endpoint: &Endpoint,
    target: &str,
    headers: &[(HeaderName, HeaderValue)],
    max_body: usize,
    wait: Option<Duration>,
) -> Result<Called, CallError> {
    let request = request(endpoint, target, headers).map_err(|_| CallError::Broken)?;
    session.set_read_timeout(wait);
    session.set_write_timeout(wait);
    session.write_request_header(Box::new(request)).await.map_err(failed)?;
    session.finish_request_body().await.map_err(failed)?;
    session.read_response_header().await.map_err(failed)?;
    let response = session.response_header().ok_or(CallError::Broken)?;
    let status = response.status;
    let content_type = response
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await.map_err(failed)? {
        if body.len() + chunk.len() > max_body {
            return Err(CallError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Called {
        status,
        content_type,
        body: body.freeze(),
    })
}

fn request(endpoint: &Endpoint, target: &str, headers: &[(HeaderName, HeaderValue)]) -> pingora::Result<RequestHeader> {
    let mut request = RequestHeader::build_no_case("GET", target.as_bytes(), Some(headers.len() + 2))?;
    request.insert_header(header::HOST, &*endpoint.label)?;
    request.insert_header(header::ACCEPT_ENCODING, "identity")?;
    for (name, value) in headers {
        request.insert_header(name.clone(), value.clone())?;
    }
    Ok(request)
}

#[expect(clippy::boxed_local, reason = "the shape `map_err` hands over")]
fn failed(error: pingora::BError) -> CallError {
    match error.etype() {
        pingora::ErrorType::ReadTimedout | pingora::ErrorType::WriteTimedout => CallError::Timeout,
        _ => CallError::Broken,
    }
}
