//! Answers of our own: refusals, replies, aggregates.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::{Exchange, request, response};
use crate::engine::{Denial, Reply, problem};
use crate::policies::compress::accept::choose_language;

/// A body the client is still sending is read to its end if it is this small; else the connection is closed.
const DRAIN: u64 = 64 << 10;

/// Tells the client that it was refused.
pub(super) async fn refuse(session: &mut Session, exchange: &mut Exchange, denial: Denial) -> Result<()> {
    let language = denial.messages.as_ref().map_or(0, |messages| {
        let languages: Vec<&str> = messages.0.iter().map(|(language, _)| language.as_str()).collect();
        choose_language(joined(session, &header::ACCEPT_LANGUAGE).as_deref(), &languages)
    });
    let answer = problem(&denial, &exchange.id, exchange.at, language);
    exchange.failure = Some(denial);
    write(session, exchange, answer).await
}

/// All lines of a request header, as one list.
pub(super) fn joined(session: &Session, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> = session
        .req_header()
        .headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Writes a whole answer, with what every answer carries.
pub(super) async fn write(session: &mut Session, exchange: &mut Exchange, answer: Reply) -> Result<()> {
    drain(session).await;
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 8))?;
    for (name, value) in answer.headers {
        head.append_header(name, value)?;
    }
    let bodyless = answer.status.is_informational() || matches!(answer.status.as_u16(), 204 | 304);
    if !bodyless {
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(answer.body.len()))?;
    }
    response::decorate(&mut head, exchange)?;
    let is_head = session.req_header().method == Method::HEAD;
    if exchange.is_forwarded() && exchange.failure.is_none() && !bodyless {
        response::compress(session, &mut head, exchange)?;
    }
    let mut body = Some(answer.body);
    if exchange.body.encoder.is_some() {
        response::body(&mut body, true, exchange)?;
        head.remove_header(&header::TRANSFER_ENCODING);
        head.insert_header(
            header::CONTENT_LENGTH,
            HeaderValue::from(body.as_ref().map_or(0, Bytes::len)),
        )?;
    }
    let ends = bodyless || is_head;
    session.write_response_header(Box::new(head), ends).await?;
    let body = if ends { Bytes::new() } else { body.unwrap_or_default() };
    session.write_response_body(Some(body), true).await
}

/// Pingora closes the connection of a client that still sends; a small body is read first, so that it can go on.
async fn drain(session: &mut Session) {
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
