//! Requests that are changed before they are forwarded. What is matched, judged and cached is the request as it came.

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::{Exchange, request};
use crate::engine::json::is_json;
use crate::engine::{Act, Denial, DenialKind, RequestEdits, ReshapeFailure};
use crate::policies::compress::decode::codings;
use crate::policies::shape::MAX_BODY;
use crate::policies::transform::query;

/// As much of a body as Pingora keeps for another try. It sends no body on that was read before but this.
const KEPT: u64 = 64 << 10;

/// Reads and changes the body, where it is to be changed; what is returned is why it cannot be.
pub(super) async fn take_body(session: &mut Session, exchange: &mut Exchange) -> Result<Option<Denial>> {
    let Some(body) = edits(exchange).and_then(|edits| edits.body.clone()) else {
        return Ok(None);
    };
    if session.as_downstream_mut().is_body_empty() {
        return Ok(None);
    }
    let headers = &session.req_header().headers;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_plain = codings(headers).is_some_and(|codings| codings.is_empty());
    if !content_type.is_some_and(is_json) || !is_plain {
        return Ok(Some(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "body-not-json",
            "the body is to be JSON in no coding",
        )));
    }
    let most = exchange.body_limit().min(MAX_BODY as u64);
    let length = request::content_length(session);
    if length.is_some_and(|length| length > most) {
        return Ok(Some(request::too_large()));
    }
    if session.req_header().headers.contains_key(header::EXPECT) {
        session.as_downstream_mut().write_continue_response().await?;
    }
    let read = match read(session, length, most).await? {
        Ok(read) => read,
        Err(denial) => return Ok(Some(denial)),
    };
    if read.is_empty() {
        return Ok(None);
    }
    match body.rewrite(&read) {
        Ok(changed) => exchange.body.outgoing = Some(changed),
        Err(ReshapeFailure::TooLarge) => return Ok(Some(request::too_large())),
        Err(_) => {
            let detail = "the body is not the JSON that is expected here";
            return Ok(Some(refuse(StatusCode::BAD_REQUEST, "body-unreadable", detail)));
        }
    }
    Ok(None)
}

/// The whole body. Its last bytes are left where Pingora looks for them: it goes on to send only if something is there.
async fn read(session: &mut Session, length: Option<u64>, most: u64) -> Result<std::result::Result<BytesMut, Denial>> {
    let mut whole = BytesMut::new();
    loop {
        let left = length.map(|length| length.saturating_sub(whole.len() as u64));
        if left.is_none_or(|left| left <= KEPT) {
            session.as_downstream_mut().enable_retry_buffering();
        }
        match session
            .as_downstream_mut()
            .read_request_body()
            .await
            .map_err(|error| error.into_down())?
        {
            Some(piece) => whole.extend_from_slice(&piece),
            None => break,
        }
        if whole.len() as u64 > most {
            return Ok(Err(request::too_large()));
        }
    }
    if session.as_ref().retry_buffer_truncated() {
        let detail = "a body of this size has to say its length";
        return Ok(Err(refuse(StatusCode::LENGTH_REQUIRED, "length-required", detail)));
    }
    Ok(Ok(whole))
}

/// Puts the changed body in the place of the one that was read.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, exchange: &Exchange) -> bool {
    let Some(outgoing) = &exchange.body.outgoing else {
        return false;
    };
    *body = end.then(|| outgoing.clone());
    true
}

/// Takes away and renames what the caller sent.
pub(super) fn before(request: &mut RequestHeader, exchange: &Exchange) -> Result<()> {
    let Some(edits) = edits(exchange) else {
        return Ok(());
    };
    for name in &edits.headers.drop {
        request.remove_header(name);
    }
    // All at once, so that two names may be exchanged.
    let mut renamed: Vec<(HeaderName, Vec<HeaderValue>)> = Vec::new();
    for (from, to) in &edits.headers.rename {
        let lines: Vec<HeaderValue> = request.headers.get_all(from).iter().cloned().collect();
        if !lines.is_empty() {
            renamed.push((to.clone(), lines));
        }
    }
    for (from, _) in &edits.headers.rename {
        request.remove_header(from);
    }
    for (to, _) in &renamed {
        request.remove_header(to);
    }
    for (to, lines) in renamed {
        for line in lines {
            request.append_header(to.clone(), line)?;
        }
    }
    Ok(())
}

/// Sets what the route says, and describes the changed body.
pub(super) fn after(request: &mut RequestHeader, exchange: &Exchange) -> Result<()> {
    let Some(edits) = edits(exchange) else {
        return Ok(());
    };
    for (name, value) in &edits.headers.set {
        request.remove_header(name);
        if let Some(value) = value {
            request.insert_header(name.clone(), value.clone())?;
        }
    }
    if !edits.query.is_empty() {
        let changed = query::changed(request.uri.query().unwrap_or(""), &edits.query);
        let path = request.uri.path();
        let target = if changed.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{changed}")
        };
        let target = target
            .parse()
            .map_err(|_| pingora::Error::explain(pingora::ErrorType::InternalError, "a changed query that is none"))?;
        request.set_uri(target);
    }
    if let Some(outgoing) = &exchange.body.outgoing {
        request.remove_header(&header::TRANSFER_ENCODING);
        request.remove_header(&header::EXPECT);
        for name in ["content-digest", "repr-digest", "digest", "content-md5"] {
            request.remove_header(name);
        }
        request.insert_header(header::CONTENT_LENGTH, HeaderValue::from(outgoing.len()))?;
    }
    Ok(())
}

fn edits(exchange: &Exchange) -> Option<&RequestEdits> {
    exchange.acts().iter().find_map(|act| match act {
        Act::Request(edits) => Some(&**edits),
        _ => None,
    })
}

fn refuse(status: StatusCode, code: &str, detail: &str) -> Denial {
    Denial::new(DenialKind::Refuse, status, code, detail)
}
