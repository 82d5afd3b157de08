//! Answers of our own: refusals, replies, aggregates.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use super::response::Kept;
use super::{Exchange, request, response};
use crate::engine::{Denial, Reply, is_trailers_only};
use crate::snapshot::{Asker, is_bodyless, refusal, write_own};

/// A body the client is still sending is read to its end if it is this small; else the connection is closed.
const DRAIN: u64 = 64 << 10;

/// Tells the client that it was refused.
pub(super) async fn refuse(session: &mut Session, exchange: &mut Exchange, denial: Denial) -> Result<()> {
    let answer = refusal(&denial, &asker(session), &exchange.id, exchange.at);
    exchange.failure = Some(denial);
    write(session, exchange, answer).await
}

/// What the client says of the answers it can take.
pub(super) fn asker(session: &Session) -> Asker<'_> {
    let request = session.req_header();
    Asker {
        method: &request.method,
        headers: &request.headers,
        takes_trailers: request.version == Version::HTTP_2,
    }
}

/// Writes a whole answer, with what every answer carries.
pub(super) async fn write(session: &mut Session, exchange: &mut Exchange, answer: Reply) -> Result<()> {
    drain(session).await;
    response::end_with_answer(session, exchange);
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 8))?;
    let compress = exchange.compress_rule();
    let compress = compress.filter(|_| exchange.is_forwarded() && exchange.failure.is_none());
    let coding = write_own(
        &mut Kept(&mut head),
        &answer,
        &exchange.carried(),
        compress.as_deref(),
        &asker(session),
    )?;
    let ends = is_bodyless(&answer) || session.req_header().method == Method::HEAD;
    if is_trailers_only(&answer) {
        return write_trailers(session, head).await;
    }
    let mut body = Some(answer.body);
    if let Some(coding) = coding {
        exchange.body.encoder = Some(response::encoder(coding)?);
        response::body(&mut body, true, exchange)?;
        head.insert_header(
            header::CONTENT_LENGTH,
            HeaderValue::from(body.as_ref().map_or(0, Bytes::len)),
        )?;
    }
    session.write_response_header(Box::new(head), ends).await?;
    let body = if ends { Bytes::new() } else { body.unwrap_or_default() };
    session.write_response_body(Some(body), true).await
}

/// Writes a header that is the end of the answer: Pingora's own way would end it with an empty body, after which trailers are
/// looked for.
async fn write_trailers(session: &mut Session, head: ResponseHeader) -> Result<()> {
    match session.as_downstream_mut() {
        ServerSession::H2(stream) => stream.write_response_header(Box::new(head), true),
        ServerSession::Custom(stream) => stream.write_response_header(Box::new(head), true).await,
        ServerSession::H1(_) | ServerSession::Subrequest(_) => {
            session.write_response_header(Box::new(head), true).await
        }
    }
}

/// Pingora closes the connection of a client that still sends; a small body is read first, so that it can go on.
pub(super) async fn drain(session: &mut Session) {
    // A client that waits for 100 (Continue) sends nothing until it is told to.
    let waits = session.req_header().headers.contains_key(header::EXPECT);
    let small = !waits && request::content_length(session).is_some_and(|length| length <= DRAIN);
    let downstream = session.as_downstream_mut();
    if downstream.is_body_done() {
        return;
    }
    if !small {
        downstream.set_keepalive(None);
        return;
    }
    downstream.set_total_drain_timeout(Some(Duration::from_secs(2)));
    if downstream.drain_request_body().await.is_err() {
        downstream.set_keepalive(None);
    }
}
