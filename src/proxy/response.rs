//! Answers of upstreams and of the cache on their way to the client.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::{BError, ErrorType, OrErr, Result};
use pingora_proxy::Session;
use smallvec::SmallVec;

use super::exchange::Awaited;
use super::shape::Change;
use super::{Exchange, lasting, reply, request, shape};
use crate::engine::{Head, may_trail_answer};
use crate::live::{note_piece, settle_answer};
use crate::policies::compress::accept::Coding;
use crate::policies::compress::encode::Encoder;
use crate::policies::compress::negotiate;
use crate::snapshot;

/// The header that was sent, if it was the last one: an interim 1xx is not.
pub(super) fn written(session: &Session) -> Option<&ResponseHeader> {
    let last =
        |head: &&ResponseHeader| !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS;
    session.response_written().filter(last)
}

/// Prepares the header of an upstream's or stored answer.
pub(super) async fn filter(
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> Result<()> {
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        spare_interim(session);
        strip(response);
        return Ok(());
    }
    end_with_answer(session, exchange);
    if exchange.attempt.awaited == Awaited::Header {
        // The cache answers for the endpoint: that one is waited for no more.
        settle_answer();
    }
    lasting::notice_stream(session, exchange, &response.headers)?;
    strip(response);
    if response.status == StatusCode::RESET_CONTENT {
        response.insert_header(header::CONTENT_LENGTH, 0)?;
    }
    exchange.body.encoder = None;
    if shape::take_over(session, response, exchange).await? {
        return Ok(());
    }
    match shape::has_no_end(session) {
        // An encoder would not finish.
        true => decorate(response, exchange),
        false => finish_head(session, response, exchange),
    }?;
    spare_old_client(session, response);
    Ok(())
}

/// Has the connection go on where an interim header goes out before the request is whole: it answers nothing (RFC 9110 §15.2),
/// and Pingora makes no difference.
pub(super) fn spare_interim(session: &mut Session) {
    session
        .as_downstream_mut()
        .set_close_on_response_before_downstream_finish(false);
}

/// Has the connection end with the answer whose header is next where the request is not whole by then, or the gateway leaves.
pub(super) fn end_with_answer(session: &mut Session, exchange: &Exchange) {
    let downstream = session.as_downstream_mut();
    downstream.set_close_on_response_before_downstream_finish(true);
    if exchange.live().is_leaving() {
        downstream.set_keepalive(None);
    }
}

/// A client of HTTP/1.0 knows no chunks: the end of the connection is that of the body (RFC 9112 §6.1).
fn spare_old_client(session: &mut Session, response: &mut ResponseHeader) {
    if session.req_header().version == Version::HTTP_10 && response.remove_header(&header::TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
}

/// Adds what every answer carries, and chooses the coding of the body.
pub(super) fn finish_head(session: &Session, head: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    decorate(head, exchange)?;
    compress(session, head, exchange)
}

/// Takes away what the upstream says of its own connection, which concerns no client's (RFC 9110 §7.6.1), and what only the
/// gate may say.
pub(super) fn strip(response: &mut ResponseHeader) {
    let keeps_connection = response.status == StatusCode::SWITCHING_PROTOCOLS;
    let mut foreign = match keeps_connection {
        true => SmallVec::new(),
        false => request::nominated(&response.headers),
    };
    let is_foreign = |name: &&HeaderName| is_ours(name) || !keeps_connection && is_of_connection(name);
    foreign.extend(response.headers.keys().filter(is_foreign).cloned());
    if is_unframed(response.status) {
        foreign.extend([header::CONTENT_LENGTH, header::TRANSFER_ENCODING]);
    }
    for name in foreign {
        response.remove_header(&name);
    }
}

/// Whether an answer of that status has no body, and must not speak of one (RFC 9110 §8.6, RFC 9112 §6.1); of 205 the length
/// is told (RFC 9110 §15.3.6).
fn is_unframed(status: StatusCode) -> bool {
    let without = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    without || status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("gwanmun-") || name.starts_with("access-control-") || name.starts_with("ratelimit")
}

fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-authenticate" | "proxy-connection" | "te" | "trailer" | "upgrade"
    )
}

/// What every answer carries: CORS and other edits, limits' fields, the request id.
pub(super) fn decorate(head: &mut ResponseHeader, exchange: &Exchange) -> Result<()> {
    snapshot::decorate(&mut Kept(head), &exchange.carried())
}

/// Pingora's header of an answer as the engine sees it.
pub(super) struct Kept<'a>(pub &'a mut ResponseHeader);

impl Head for Kept<'_> {
    type Fault = BError;

    fn status(&self) -> StatusCode {
        self.0.status
    }

    fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<()> {
        self.0.insert_header(name, value)
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<()> {
        self.0.append_header(name, value).map(drop)
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

/// Chooses a coding; the body is encoded on its way.
fn compress(session: &Session, head: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    let Some(rule) = exchange.compress_rule() else {
        return Ok(());
    };
    let asker = reply::asker(session);
    let accepted = || asker.joined(&header::ACCEPT_ENCODING);
    let Some(coding) = negotiate(&rule, asker.method, accepted, &mut Kept(head))? else {
        return Ok(());
    };
    exchange.body.encoder = Some(encoder(coding)?);
    head.insert_header(header::TRANSFER_ENCODING, "chunked")
}

pub(super) fn encoder(coding: Coding) -> Result<Encoder> {
    Encoder::new(coding).or_err(ErrorType::InternalError, "cannot encode")
}

/// Passes a body on: held back where it changes as a whole, then encoded.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    note_piece();
    if end {
        finish(exchange);
    }
    if exchange.attempt.status == Some(StatusCode::RESET_CONTENT.as_u16()) && exchange.failure.is_none() {
        // It has none (RFC 9110 §15.3.6), whatever the endpoint sends.
        *body = None;
    }
    shape::body(body, end, exchange)?;
    let Some(encoder) = &mut exchange.body.encoder else {
        return Ok(());
    };
    let mut ready = match body.take() {
        Some(piece) => encoder.push(&piece).or_err(ErrorType::InternalError, "cannot encode")?,
        None => Bytes::new(),
    };
    if end && let Some(encoder) = exchange.body.encoder.take() {
        let rest = encoder.finish().or_err(ErrorType::InternalError, "cannot encode")?;
        ready = [ready, rest].concat().into();
    }
    *body = (!ready.is_empty()).then_some(ready);
    Ok(())
}

/// All of the answer is there.
fn finish(exchange: &mut Exchange) {
    settle_answer();
    if exchange.attempt.awaited == Awaited::Rest {
        exchange.attempt.awaited = Awaited::Nothing;
    }
}

/// Takes away what no trailer of an upstream may be. Ends a body that they follow, where what was held of it would be lost: they
/// go instead.
pub(super) fn trailers(trailers: &mut HeaderMap, exchange: &mut Exchange) -> Result<Option<Bytes>> {
    finish(exchange);
    let is_foreign = |name: &&HeaderName| is_ours(name) || !may_trail_answer(name.as_str());
    let foreign: SmallVec<[HeaderName; 2]> = trailers.keys().filter(is_foreign).cloned().collect();
    for name in foreign {
        trailers.remove(name);
    }
    if matches!(exchange.body.change, Change::Nothing) && exchange.body.encoder.is_none() {
        return Ok(None);
    }
    let mut rest = None;
    body(&mut rest, true, exchange)?;
    Ok(Some(rest.unwrap_or_default()))
}
