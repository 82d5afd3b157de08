//! Requests that are changed before they are forwarded. What is matched, judged and cached is the request as it came.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::exchange::edits;
use super::request::edit;
use super::{Exchange, request, response};
use crate::engine::json::is_json;
use crate::engine::{Denial, DenialKind, RequestEdits, ReshapeFailure};
use crate::policies::compress::decode::codings;
use crate::policies::shape::MAX_BODY;
use crate::policies::transform::query;

/// As much of a body as Pingora keeps for another try. It sends no body on that was read before but this.
const KEPT: u64 = 64 << 10;

/// Reads and changes the body, where it is to be changed; what is returned is why it cannot be.
pub(super) async fn take_body(session: &mut Session, exchange: &mut Exchange) -> Result<Option<Denial>> {
    let Some(body) = edits(exchange.acts()).and_then(|edits| edits.body.clone()) else {
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
        response::spare_interim(session);
        session.as_downstream_mut().write_continue_response().await?;
        response::end_with_answer(session, exchange);
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
pub(super) fn before(request: &mut RequestHeader, exchange: &Exchange) {
    if let Some(edits) = edits(exchange.acts()) {
        edit(request, |headers| {
            let renamed = renamed(headers, edits);
            take_away(headers, edits, renamed);
        });
    }
}

/// What a route gives another name, of the headers that the caller sent. All at once, so that two names may be exchanged.
pub(super) fn renamed(sent: &HeaderMap, edits: &RequestEdits) -> Vec<(HeaderName, Vec<HeaderValue>)> {
    let edits = &edits.headers;
    let stay = edits.rename.iter().filter(|(from, _)| !edits.drop.contains(from));
    stay.map(|(from, to)| (to.clone(), sent.get_all(from).iter().cloned().collect()))
        .filter(|(_, lines): &(_, Vec<_>)| !lines.is_empty())
        .collect()
}

/// Takes away what goes, and what is [`renamed`], which stands under its new name then.
pub(super) fn take_away(headers: &mut HeaderMap, edits: &RequestEdits, renamed: Vec<(HeaderName, Vec<HeaderValue>)>) {
    let from = edits.headers.rename.iter().map(|(from, _)| from);
    let to = renamed.iter().map(|(to, _)| to);
    for name in edits.headers.drop.iter().chain(from).chain(to) {
        headers.remove(name);
    }
    for (to, lines) in renamed {
        for line in lines {
            headers.append(to.clone(), line);
        }
    }
}

/// Sets the headers that the route says.
pub(super) fn set(headers: &mut HeaderMap, edits: &RequestEdits) {
    for (name, value) in &edits.headers.set {
        headers.remove(name);
        if let Some(value) = value {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Path and query as the route changes them.
pub(super) fn target(path: &str, query: &str, edits: Option<&RequestEdits>) -> String {
    let query = match edits.filter(|edits| !edits.query.is_empty()) {
        Some(edits) => Cow::Owned(query::changed(query, &edits.query)),
        None => Cow::Borrowed(query),
    };
    match &*query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// Sets what the route says, and describes the changed body.
pub(super) fn after(request: &mut RequestHeader, exchange: &Exchange) -> Result<()> {
    let Some(edits) = edits(exchange.acts()) else {
        return Ok(());
    };
    edit(request, |headers| set(headers, edits));
    if !edits.query.is_empty() {
        let target = target(request.uri.path(), request.uri.query().unwrap_or(""), Some(edits));
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

#[cold]
fn refuse(status: StatusCode, code: &str, detail: &str) -> Denial {
    Denial::new(DenialKind::Refuse, status, code, detail)
}
