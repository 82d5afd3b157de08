//! Answers of upstreams and of the cache on their way to the client.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_proxy::Session;

use super::{Exchange, reply};
use crate::engine::json::is_json;
use crate::policies::compress::accept::{Coding, choose_coding};
use crate::policies::compress::encode::Encoder;
use crate::policies::compress::is_worthwhile;
use crate::policies::rate_limit::limit_fields;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REHEARSAL: HeaderName = HeaderName::from_static("gwanmun-rehearsal");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

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

/// What every answer carries: CORS and other edits, limits' fields, the request id.
pub(super) fn decorate(head: &mut ResponseHeader, exchange: &Exchange) -> Result<()> {
    if let Some(decision) = &exchange.decision {
        for edits in decision.response_edits() {
            for name in &edits.remove {
                head.remove_header(name);
            }
            for (name, value) in &edits.set {
                head.insert_header(name.clone(), value.clone())?;
            }
            for (name, value) in &edits.append {
                head.append_header(name.clone(), value.clone())?;
            }
        }
        if !decision.limits.is_empty() {
            limits(head, exchange)?;
        }
    }
    head.insert_header(REQUEST_ID, &*exchange.id)?;
    if exchange.rehearsal {
        head.insert_header(REHEARSAL, exchange.at.to_string())?;
    }
    Ok(())
}

fn limits(head: &mut ResponseHeader, exchange: &Exchange) -> Result<()> {
    let Some(decision) = &exchange.decision else {
        return Ok(());
    };
    let snapshot = &exchange.generation.snapshot;
    let rules = exchange.route.as_ref().map_or(&snapshot.unrouted, |route| &route.rules);
    let fields: Vec<_> = decision
        .answers
        .iter()
        .filter_map(|(rule, answer)| {
            let crate::engine::Answer::Limit(answer) = answer else {
                return None;
            };
            let name = &rules.get(usize::from(*rule))?.name;
            let (_, limit) = snapshot.defined.limits.get(name)?;
            Some((&limit.fields, answer))
        })
        .collect();
    if let Some((policy, state)) = limit_fields(fields.iter().copied()) {
        head.insert_header(RATE_LIMIT_POLICY, policy)?;
        head.insert_header(RATE_LIMIT, state)?;
    }
    Ok(())
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
    weaken(response)?;
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

/// A cut body is no longer byte for byte what a strong validator promises.
fn weaken(response: &mut ResponseHeader) -> Result<()> {
    let Some(tag) = response.headers.get(header::ETAG) else {
        return Ok(());
    };
    match tag.to_str() {
        Ok(tag) if tag.starts_with("W/") => Ok(()),
        Ok(tag) => {
            let weak = format!("W/{tag}");
            response.insert_header(header::ETAG, weak)
        }
        Err(_) => {
            response.remove_header(&header::ETAG);
            Ok(())
        }
    }
}

fn unreadable() -> crate::engine::Denial {
    let detail = "a service behind the gate answered what cannot be read";
    let kind = crate::engine::DenialKind::Refuse;
    crate::engine::Denial::new(kind, StatusCode::BAD_GATEWAY, "upstream-unreadable", detail)
}

/// Chooses a coding; the body is encoded on its way.
pub(super) fn compress(session: &Session, head: &mut ResponseHeader, exchange: &mut Exchange) -> Result<()> {
    let Some(rule) = exchange.compress_rule() else {
        return Ok(());
    };
    if !is_worthwhile(&rule, head.status, &head.headers) {
        return Ok(());
    }
    let varies = head
        .headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let named = varies
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("accept-encoding"));
    if !named {
        head.append_header(header::VARY, "Accept-Encoding")?;
    }
    let accepted = reply::joined(session, &header::ACCEPT_ENCODING);
    let Some(coding) = choose_coding(accepted.as_deref(), &Coding::ALL) else {
        return Ok(());
    };
    if session.req_header().method == Method::HEAD {
        head.remove_header(&header::CONTENT_LENGTH);
        return weaken(head);
    }
    let encoder = Encoder::new(coding).or_err(ErrorType::InternalError, "cannot encode")?;
    exchange.body.encoder = Some(encoder);
    head.insert_header(header::CONTENT_ENCODING, coding.token())?;
    head.remove_header(&header::CONTENT_LENGTH);
    head.remove_header(&header::ACCEPT_RANGES);
    weaken(head)?;
    head.insert_header(header::TRANSFER_ENCODING, "chunked")
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
