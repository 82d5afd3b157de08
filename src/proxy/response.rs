//! Answers of upstreams and of the cache on their way to the client.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{BError, Error, ErrorType, OrErr, Result};
use pingora_proxy::Session;

use super::{Exchange, reply, request};
use crate::engine::Head;
use crate::engine::json::is_json;
use crate::policies::compress::accept::Coding;
use crate::policies::compress::encode::Encoder;
use crate::policies::compress::{negotiate, weaken};
use crate::snapshot;

/// The header that was sent, if it was the last one: an interim 1xx is not.
pub(super) fn written(session: &Session) -> Option<&ResponseHeader> {
    let last =
        |head: &&ResponseHeader| !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS;
    session.response_written().filter(last)
}

/// Prepares the header of an upstream's or stored answer.
pub(super) fn filter(session: &mut Session, response: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    strip(response);
    connection_ends_here(response);
    decorate(response, exchange)?;
    reshape(session, response, exchange)?;
    compress(session, response, exchange)
}

/// What only the gate may say.
fn strip(response: &mut ResponseHeader) {
    let ours: Vec<HeaderName> = response
        .headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with("gwanmun-") || name.starts_with("access-control-") || name.starts_with("ratelimit")
        })
        .cloned()
        .collect();
    for name in ours {
        response.remove_header(&name);
    }
}

/// What the upstream says of its own connection concerns no client's (RFC 9110 §7.6.1).
fn connection_ends_here(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    for name in request::nominated(&response.headers) {
        response.remove_header(&name);
    }
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::PROXY_AUTHENTICATE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        response.remove_header(&name);
    }
}

/// What every answer carries: CORS and other edits, limits' fields, the request id.
fn decorate(head: &mut ResponseHeader, exchange: &Exchange) -> Result<()> {
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

/// Holds a JSON body back to be cut for the client.
fn reshape(session: &Session, response: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    let Some(reshape) = exchange.reshape().cloned() else {
        return Ok(());
    };
    for name in reshape.varies_on() {
        response.append_header(header::VARY, HeaderValue::from_name(name.clone()))?;
    }
    let content_type = response
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let bodyless = session.req_header().method == Method::HEAD || matches!(response.status.as_u16(), 204 | 304);
    if response.status == StatusCode::PARTIAL_CONTENT && !bodyless {
        return unshaped(exchange);
    }
    if !response.status.is_success() || !content_type.is_some_and(is_json) {
        return Ok(());
    }
    // Length, validators and ranges are those of the whole body.
    for name in [
        header::CONTENT_LENGTH,
        header::ACCEPT_RANGES,
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-md5"),
    ] {
        response.remove_header(&name);
    }
    weaken(&mut Kept(response))?;
    if bodyless {
        return Ok(());
    }
    if response.headers.contains_key(header::CONTENT_ENCODING) {
        return unshaped(exchange);
    }
    response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    exchange.body.reshape = Some(reshape);
    Ok(())
}

/// A part, or a coded body, cannot be cut; sending it as it is would show what the shape takes away.
fn unshaped(exchange: &mut Exchange) -> Result<()> {
    exchange.failure = Some(unreadable());
    Error::e_explain(ErrorType::HTTPStatus(502), "an answer that cannot be reshaped")
}

fn unreadable() -> crate::engine::Denial {
    let detail = "a service behind the gate answered what cannot be read";
    let kind = crate::engine::DenialKind::Refuse;
    crate::engine::Denial::new(kind, StatusCode::BAD_GATEWAY, "upstream-unreadable", detail)
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

/// Passes a body on: held back until it can be cut, then encoded.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    cut(body, end, exchange)?;
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

fn cut(body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    let Some(reshape) = &exchange.body.reshape else {
        return Ok(());
    };
    if let Some(piece) = body.take() {
        if exchange.body.held.len() + piece.len() > reshape.max_body() {
            exchange.failure = Some(unreadable());
            return Error::e_explain(ErrorType::InternalError, "an answer too large to be reshaped");
        }
        exchange.body.held.extend_from_slice(&piece);
    }
    if end {
        match reshape.reshape(&exchange.body.held) {
            Ok(cut) => *body = Some(cut),
            Err(failure) => {
                exchange.failure = Some(unreadable());
                return Error::e_explain(
                    ErrorType::InternalError,
                    format!("an answer cannot be reshaped: {failure}"),
                );
            }
        }
        exchange.body.reshape = None;
    }
    Ok(())
}
