//! One request from inside: health checks, the parts of aggregates.
//!
//! Over the pools' endpoints and their one state: balance, breaker, retries and load are those of proxied requests. Redirects
//! are not followed.
//!
//! Runs on Pingora's connectors and not on its subrequests: for three parts and nothing else done with them these cost twice the
//! CPU (`aggregate` in `bench/README.md`), as each goes through every phase of a proxied request. What they would bring besides,
//! policies and stored answers, is asked of the engine and of [`Kept`](super::Kept) directly. Connections of HTTP/1.1 wait in
//! [`Idle`](super::idle::Idle), those of HTTP/2 with Pingora.
//!
//! What is rarely done is boxed: a future is as large as the largest that it may wait for, and is copied with every call.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::prelude::fast_timeout::fast_timeout;
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::HttpSession as Http1;
use pingora::upstreams::peer::HttpPeer;

use super::{Endpoint, NoEndpoint, Pool, RetryAfter, RetrySettings, Whom, distrust, fault, wellformed};
use crate::engine::UpstreamSummary;

/// More requests from inside are not made at once; others wait for one to end.
const AT_ONCE: usize = 4_096;
/// What a header line takes besides its letters.
const LINE: usize = 64;

/// Makes requests from inside. One per process: it holds the connections.
pub struct Caller {
    /// For HTTP/2.
    connector: Arc<Connector>,
    sockets: TransportConnector,
    room: tokio::sync::Semaphore,
}

/// A request to be made.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    /// Path and query: origin form, percent-encoded.
    pub target: &'a str,
    /// What goes along.
    pub headers: &'a HeaderMap,
    /// `Authorization` in place of any among the headers.
    pub authorization: Option<HeaderValue>,
    /// JSON to be posted; without it, a GET.
    pub post: Option<Bytes>,
    /// A body of more bytes is [`CallError::TooLarge`].
    pub max_body: usize,
    /// Set by whoever gives the call up because it took too long: that counts against the endpoint.
    pub overdue: Option<Arc<AtomicBool>>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Called {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Arc<HeaderMap>,
    /// The body.
    pub body: Bytes,
    /// Where it was kept: how long it still is.
    pub kept: Option<Duration>,
    /// Why something is missing in it, in the word of records: an answer made from several may be whole without all of them.
    pub lacks: Option<&'static str>,
    /// Who gave it; `None` where nobody was asked for it.
    pub upstream: Option<UpstreamSummary>,
}

impl Called {
    /// The bytes that its headers and its body take.
    pub fn size(&self) -> usize {
        let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + LINE;
        self.headers.iter().map(line).sum::<usize>() + self.body.len()
    }

    /// `Content-Type`, where there is one and it is text.
    pub fn content_type(&self) -> Option<&str> {
        self.headers.get(header::CONTENT_TYPE)?.to_str().ok()
    }
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
    /// Endpoint and gate do not trust each other; the word says why.
    #[error("the endpoint cannot be trusted: {0}")]
    Untrusted(&'static str),
    /// No connection could be made in time.
    #[error("the endpoint is too slow to connect")]
    ConnectTimeout,
    /// The connection broke, or what came is no HTTP.
    #[error("the endpoint broke off")]
    Broken,
    /// More bytes than allowed.
    #[error("the answer is too large")]
    TooLarge,
    /// An operator has closed the upstream, or the route that was asked refuses the caller.
    #[error("the call is not allowed")]
    Denied,
    /// What it has to be shown could not be signed.
    #[error("no passport can be signed")]
    Unsigned,
    /// Not within its time.
    #[error("the endpoint is too slow")]
    Timeout,
}

/// A call that brought no answer.
#[derive(Debug, Clone)]
pub struct CallFailure {
    /// Why.
    pub error: CallError,
    /// The endpoint that was asked last; `None` where none was.
    pub upstream: Option<UpstreamSummary>,
}

impl From<CallError> for CallFailure {
    fn from(error: CallError) -> Self {
        Self { error, upstream: None }
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            connector: Arc::new(Connector::new(None)),
            sockets: TransportConnector::new(None),
            room: tokio::sync::Semaphore::new(AT_ONCE),
        }
    }
}

impl Caller {
    /// Asks a pool: another endpoint is tried as `retry`, or else the pool's own, says. What was posted is tried again only where
    /// no connection was made. The pool's response timeout holds for each try; the caller bounds the whole.
    pub async fn send(
        &self,
        pool: &Arc<Pool>,
        whom: &Whom<'_>,
        outgoing: &Outgoing<'_>,
        retry: Option<&RetrySettings>,
    ) -> Result<Called, CallFailure> {
        // Never closed.
        let _room = self.room.acquire().await.map_err(|_| CallError::NoEndpoint)?;
        let retry = retry.unwrap_or(&pool.settings.retry);
        let began = Instant::now();
        let mut tried = smallvec::SmallVec::<[u16; 4]>::new();
        loop {
            let mut lease = pool.pick(&tried, whom).map_err(|none| match none {
                NoEndpoint::Unhealthy => CallError::NoEndpoint,
                NoEndpoint::BreakerOpen(_) => CallError::BreakerOpen,
            })?;
            tried.push(lease.at());
            if let Some(overdue) = &outgoing.overdue {
                lease.watch(overdue.clone());
            }
            let answer = match lease.endpoint() {
                Some(endpoint) => self.ask(endpoint, outgoing).await,
                None => Err(CallError::NoEndpoint.into()),
            };
            match &answer {
                Ok(called) => lease.answered(called.status),
                // That it is larger than somebody wants is no fault of its endpoint.
                Err(failed) if failed.error == CallError::TooLarge => {}
                Err(_) => lease.failed(),
            }
            let tries = tried.len();
            let again = match &answer {
                Ok(called) => outgoing.post.is_none() && pool.retries(retry, RetryAfter::Status(called.status), tries),
                Err(failed) => {
                    let is_unsent = matches!(
                        failed.error,
                        CallError::Connect | CallError::ConnectTimeout | CallError::Untrusted(_)
                    );
                    is_unsent && pool.retries(retry, RetryAfter::Connect, tries)
                }
            };
            if again {
                continue;
            }
            let asked = |status: Option<StatusCode>, fault| {
                lease.endpoint().map(|endpoint| UpstreamSummary {
                    name: pool.name.clone(),
                    endpoint: endpoint.label.clone(),
                    tries: u32::try_from(tries).unwrap_or(u32::MAX),
                    duration: began.elapsed(),
                    status: status.map(|status| status.as_u16()),
                    fault,
                })
            };
            return match answer {
                Ok(called) => Ok(Called {
                    upstream: asked(Some(called.status), None),
                    ..called
                }),
                Err(Unanswered { error, fault }) => Err(CallFailure {
                    error,
                    upstream: asked(None, fault),
                }),
            };
        }
    }

    /// A connection of its own to an endpoint, in HTTP/1.1; it is nobody else's before or after.
    pub async fn dial(&self, peer: &HttpPeer) -> pingora::Result<Http1> {
        let mut peer = peer.clone();
        peer.options.set_http_version(1, 1);
        let stream = self.sockets.new_stream(&peer).await?;
        let mut session = Http1::new_with_options(stream, &peer);
        session.read_timeout = peer.options.read_timeout;
        session.write_timeout = peer.options.write_timeout;
        Ok(session)
    }

    /// Asks one endpoint.
    pub(super) async fn ask(&self, endpoint: &Endpoint, outgoing: &Outgoing<'_>) -> Result<Called, Unanswered> {
        if !speaks_http1(&endpoint.peer) {
            return Box::pin(self.ask_by_http2(endpoint, outgoing)).await;
        }
        if let Some(stream) = endpoint.idle.take() {
            match over(stream, endpoint, outgoing).await {
                // It may have been closed by the endpoint a moment ago: nothing was answered, GET is safe.
                Err(failed) if failed.error == CallError::Broken && outgoing.post.is_none() => {}
                done => return done,
            }
        }
        let connecting = Box::pin(self.sockets.new_stream(&endpoint.peer));
        let stream = connecting.await.map_err(unreached)?;
        over(stream, endpoint, outgoing).await
    }

    /// Over a connection that others may use at the same time. Asked once more where a used one turns out to be closed.
    async fn ask_by_http2(&self, endpoint: &Endpoint, outgoing: &Outgoing<'_>) -> Result<Called, Unanswered> {
        let mut may_repeat = outgoing.post.is_none();
        loop {
            let connecting = self.connector.get_http_session(&endpoint.peer);
            let (session, reused) = connecting.await.map_err(unreached)?;
            let mut taken = Taken {
                session: Some(session),
                peer: &endpoint.peer,
                connector: &self.connector,
                is_done: false,
            };
            let done = match &mut taken.session {
                Some(session) => exchange(session, endpoint, outgoing).await,
                None => Err(CallError::Broken.into()),
            };
            taken.is_done = done.is_ok();
            match done {
                Err(failed) if failed.error == CallError::Broken && reused && may_repeat => may_repeat = false,
                done => return done,
            }
        }
    }
}

/// A connection in HTTP/2 that is given back however its exchange ends: Pingora lets go of none that was not.
struct Taken<'p> {
    session: Option<HttpSession>,
    peer: &'p HttpPeer,
    connector: &'p Arc<Connector>,
    is_done: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        let (peer, connector, is_done) = (self.peer.clone(), self.connector.clone(), self.is_done);
        tokio::spawn(async move {
            if !is_done {
                session.shutdown().await;
            }
            let idle = peer.options.idle_timeout;
            connector.release_http_session(session, &peer, idle).await;
        });
    }
}

/// Asks over a connection in HTTP/1.1 of nobody else's, which waits for the next one afterwards.
async fn over(stream: Stream, endpoint: &Endpoint, outgoing: &Outgoing<'_>) -> Result<Called, Unanswered> {
    let peer = &endpoint.peer;
    let mut session = HttpSession::H1(Http1::new_with_options(stream, peer));
    let done = exchange(&mut session, endpoint, outgoing).await;
    match (session, &done) {
        (HttpSession::H1(mut session), Ok(_)) => {
            session.respect_keepalive();
            if let (Some(stream), Some(patience)) = (session.reuse().await, peer.options.idle_timeout) {
                endpoint.idle.keep(stream, patience);
            }
        }
        (mut session, _) => session.shutdown().await,
    }
    done
}

/// Whether nothing else is spoken with it.
fn speaks_http1(peer: &HttpPeer) -> bool {
    peer.options.alpn.get_max_http_version() == 1
}

/// What one endpoint did instead of answering.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) error: CallError,
    fault: Option<&'static str>,
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        Self { error, fault: None }
    }
}

/// One request and its answer: the header within the response timeout, the body with no longer pauses than that.
async fn exchange(
    session: &mut HttpSession,
    endpoint: &Endpoint,
    outgoing: &Outgoing<'_>,
) -> Result<Called, Unanswered> {
    let request = request(endpoint, outgoing).map_err(|_| CallError::Broken)?;
    let wait = endpoint.peer.options.read_timeout;
    session.set_write_timeout(wait);
    session.write_request_header(Box::new(request)).await.map_err(failed)?;
    if let Some(body) = outgoing.post.clone().filter(|body| !body.is_empty()) {
        session.write_request_body(body, true).await.map_err(failed)?;
    }
    session.finish_request_body().await.map_err(failed)?;
    session.set_read_timeout(None);
    let (status, headers) = match wait {
        Some(wait) => fast_timeout(wait, answer(session))
            .await
            .map_err(|_| CallError::Timeout)??,
        None => answer(session).await?,
    };
    session.set_read_timeout(wait);
    let mut body = BytesMut::new();
    let mut whole = None;
    while let Some(chunk) = session.read_response_body().await.map_err(failed)? {
        if body.len() + whole.as_ref().map_or(0, Bytes::len) + chunk.len() > outgoing.max_body {
            return Err(CallError::TooLarge.into());
        }
        // Most come in one piece, which need not be copied.
        if body.is_empty() && whole.is_none() {
            whole = Some(chunk);
            continue;
        }
        body.extend_from_slice(&whole.take().unwrap_or_default());
        body.extend_from_slice(&chunk);
    }
    Ok(Called {
        status,
        headers: Arc::new(headers),
        body: whole.unwrap_or_else(|| body.freeze()),
        kept: None,
        lacks: None,
        upstream: None,
    })
}

/// The header of the answer, after interim ones.
async fn answer(session: &mut HttpSession) -> Result<(StatusCode, HeaderMap), Unanswered> {
    for interim in 0.. {
        session.read_response_header().await.map_err(failed)?;
        let response = session.response_header().ok_or(CallError::Broken)?;
        if wellformed::check(response, interim).is_err() {
            return Err(Unanswered {
                error: CallError::Broken,
                fault: Some("malformed"),
            });
        }
        if !response.status.is_informational() {
            return Ok((response.status, response.headers.clone()));
        }
    }
    Err(CallError::Broken.into())
}

fn request(endpoint: &Endpoint, outgoing: &Outgoing<'_>) -> pingora::Result<RequestHeader> {
    let method = if outgoing.post.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let sent = outgoing.headers;
    let mut request = RequestHeader::build_no_case(method, outgoing.target.as_bytes(), Some(sent.len() + 5))?;
    // What the caller says stands in place of these.
    let mut unless_sent = |name, value| match sent.contains_key(&name) {
        true => Ok(()),
        false => request.insert_header(name, value),
    };
    unless_sent(header::HOST, endpoint.host.clone())?;
    unless_sent(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    if let Some(body) = &outgoing.post {
        unless_sent(header::CONTENT_LENGTH, HeaderValue::from(body.len()))?;
        unless_sent(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    }
    for (name, value) in sent {
        if *name != header::AUTHORIZATION || outgoing.authorization.is_none() {
            request.append_header(name, value)?;
        }
    }
    if let Some(credential) = &outgoing.authorization {
        request.insert_header(header::AUTHORIZATION, credential)?;
    }
    Ok(request)
}

fn unreached(error: pingora::BError) -> Unanswered {
    Unanswered {
        error: match error.etype() {
            pingora::ErrorType::ConnectTimedout => CallError::ConnectTimeout,
            _ => distrust(&error).map_or(CallError::Connect, CallError::Untrusted),
        },
        fault: fault(&error.into_up(), false),
    }
}

fn failed(error: pingora::BError) -> Unanswered {
    Unanswered {
        error: match error.etype() {
            pingora::ErrorType::ReadTimedout | pingora::ErrorType::WriteTimedout => CallError::Timeout,
            _ => distrust(&error).map_or(CallError::Broken, CallError::Untrusted),
        },
        fault: fault(&error.into_up(), false),
    }
}
