//! Answers that change as a whole: cut for the client, or told as the gate tells its own errors.
//!
//! Nothing of such an answer is sent before the change is done. Of what comes from an upstream, Pingora is given an interim
//! status in place of the header, which it drops; the answer itself is written when the exchange ends. What comes from the
//! cache is read and changed before its header is sent. Only where a body may go uncut (`uncut: pass`), comes without a coding
//! and no program is run is the header sent at once: then nothing can fail any more.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_cache::CachePhase;
use pingora_proxy::Session;

use super::response::{self, Kept};
use super::{Exchange, reply};
use crate::engine::json::is_json;
use crate::engine::{About, Act, Denial, DenialKind, Reply, Reshape, ReshapeFailure};
use crate::policies::compress::decode::{Coded, DecodeFailure, codings, decode};
use crate::policies::shape::{HOLD, tags};
use crate::snapshot::{refusal, write_own};

/// Pingora sends no interim answers of this status where it is told to ignore them.
const INTERIM: StatusCode = StatusCode::EARLY_HINTS;
/// Larger bodies are changed where no other request waits for it.
const AT_ONCE: usize = 64 << 10;
/// More of an error's body than this is not waited for.
const ERROR_BODY: usize = 64 << 10;
/// What describes the bytes of a body.
const OF_THE_BODY: [HeaderName; 9] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_ENCODING,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("x-content-digest"),
];

/// What becomes of a body on its way.
#[derive(Default)]
pub(super) enum Change {
    /// Nothing.
    #[default]
    Nothing,
    /// It is held back together with its header.
    Held(Box<Held>),
    /// It is held back, and goes on as it is where it cannot be cut.
    Passing(Passing),
    /// It is this one instead.
    Ready(Bytes),
}

/// An answer that is held back.
pub(super) struct Held {
    head: ResponseHeader,
    purpose: Purpose,
    body: BytesMut,
    since: Instant,
}

enum Purpose {
    /// To be cut, once the codings are undone.
    Cut(Arc<dyn Reshape>, Vec<Coded>),
    /// Not to be shown at all: this is told instead.
    Refuse(Denial, Vec<(HeaderName, HeaderValue)>),
}

/// A body that goes on, cut or not.
pub(super) struct Passing {
    shape: Arc<dyn Reshape>,
    body: BytesMut,
    since: Instant,
}

/// Asks for the whole body, and says of the client's tags those that are the origin's.
pub(super) fn ask_whole(session: &mut Session, exchange: &Exchange) -> Result<()> {
    let Some(shape) = exchange.reshape() else {
        return Ok(());
    };
    let request = session.req_header_mut();
    for name in [header::RANGE, header::IF_RANGE, header::IF_MODIFIED_SINCE] {
        request.remove_header(&name);
    }
    match tags::ask_origin(&request.headers, shape.mark()) {
        Some(tags) => request.insert_header(header::IF_NONE_MATCH, tags),
        None => {
            request.remove_header(&header::IF_NONE_MATCH);
            Ok(())
        }
    }
}

/// Judges whether the answer changes, and takes over what changes. True where nothing more is to be done about its header.
pub(super) async fn take_over(
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> Result<bool> {
    exchange.body.change = Change::Nothing;
    if let Some((denial, headers)) = own_error(response, exchange) {
        return refuse(session, response, exchange, denial, headers);
    }
    let Some(shape) = exchange.reshape().cloned() else {
        return Ok(false);
    };
    for name in shape.varies_on() {
        response.append_header(header::VARY, HeaderValue::from_name(name.clone()))?;
    }
    if response.status == StatusCode::NOT_MODIFIED {
        mark(response, &*shape)?;
        return Ok(false);
    }
    let content_type = response.headers.get(header::CONTENT_TYPE);
    let says_json = content_type.and_then(|value| value.to_str().ok()).is_some_and(is_json);
    let is_bodyless = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    if !response.status.is_success() || !says_json || is_bodyless {
        return Ok(false);
    }
    let codings = codings(&response.headers);
    if session.req_header().method == Method::HEAD {
        if codings.is_some() && response.status != StatusCode::PARTIAL_CONTENT {
            describe(response, &*shape)?;
        }
        return Ok(false);
    }
    let length = response.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let is_whole = response.status != StatusCode::PARTIAL_CONTENT;
    let may_fit = length.is_none_or(|length| length <= shape.max_body());
    match codings.filter(|_| is_whole && may_fit) {
        None if shape.passes_uncut() => Ok(false),
        None if is_stored(session) => refuse(session, response, exchange, unreadable(), Vec::new()),
        None => Err(fail(exchange, "an answer that cannot be cut")),
        Some(codings) if is_stored(session) => change_stored(session, response, exchange, shape, codings).await,
        Some(codings) if shape.passes_uncut() && codings.is_empty() && !shape.may_take_long() => {
            describe(response, &*shape)?;
            response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
            exchange.body.change = Change::Passing(Passing {
                shape,
                body: BytesMut::new(),
                since: Instant::now(),
            });
            Ok(false)
        }
        Some(codings) => hold(session, response, exchange, Purpose::Cut(shape, codings)),
    }
}

/// Whether the answer comes from the cache, so that the whole of it is at hand.
fn is_stored(session: &Session) -> bool {
    has_no_end(session) || matches!(session.cache.phase(), CachePhase::Hit | CachePhase::StaleUpdating)
}

/// Of what the origin has confirmed, or failed to give anew, Pingora does not say where it ends.
pub(super) fn has_no_end(session: &Session) -> bool {
    matches!(
        session.cache.phase(),
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) | CachePhase::Stale
    )
}

/// An error of the upstream's that is told as the gate's own, with what of its header a client needs to go on.
fn own_error(response: &ResponseHeader, exchange: &Exchange) -> Option<(Denial, Vec<(HeaderName, HeaderValue)>)> {
    let status = response.status;
    let told = exchange.acts().iter().any(|act| matches!(act, Act::OwnErrors));
    if !told || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let (code, detail) = if status.is_client_error() {
        ("upstream-refused", "the service behind the gate refuses the request")
    } else {
        ("upstream-failed", "the service behind the gate failed")
    };
    let kept = [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE];
    let headers = kept.iter().flat_map(|name| {
        let lines = response.headers.get_all(name).iter();
        lines.map(|value| (name.clone(), value.clone()))
    });
    Some((Denial::new(DenialKind::Refuse, status, code, detail), headers.collect()))
}

/// Gives Pingora an interim header in place of the answer's.
fn hold(
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
    purpose: Purpose,
) -> Result<bool> {
    session.as_downstream_mut().set_ignore_info_resp(true);
    exchange.body.change = Change::Held(Box::new(Held {
        head: std::mem::replace(response, ResponseHeader::build(INTERIM, Some(0))?),
        purpose,
        body: BytesMut::new(),
        since: Instant::now(),
    }));
    Ok(true)
}

/// Reads what is stored, and changes it.
async fn change_stored(
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
    shape: Arc<dyn Reshape>,
    codings: Vec<Coded>,
) -> Result<bool> {
    let mut stored = BytesMut::new();
    while let Some(piece) = session.cache.hit_handler().read_body().await? {
        stored.extend_from_slice(&piece);
    }
    let stored = stored.freeze();
    match stored.len().checked_sub(1) {
        // Something has to be left to be read: its place is where the new body goes out.
        Some(last) => session.cache.hit_handler().seek(last, None)?,
        None if has_no_end(session) => return Ok(false),
        None => {}
    }
    match changed(&shape, codings, stored.clone(), &exchange.id).await {
        Ok(cut) => {
            describe(response, &*shape)?;
            response.insert_header(header::CONTENT_LENGTH, HeaderValue::from(cut.len()))?;
            exchange.body.change = Change::Ready(cut);
            Ok(false)
        }
        Err(_) if shape.passes_uncut() => {
            exchange.body.change = Change::Ready(stored);
            Ok(false)
        }
        Err(failure) => {
            log::info!("{}: a stored answer cannot be cut: {failure}", exchange.summary());
            refuse(session, response, exchange, unreadable(), Vec::new())
        }
    }
}

/// Makes a refusal of the answer. A stored one is taken from a place where nothing may be sent later.
fn refuse(
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
    denial: Denial,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<bool> {
    match session.cache.phase() {
        CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating => {}
        _ => return hold(session, response, exchange, Purpose::Refuse(denial, headers)),
    }
    let asker = reply::asker(session);
    let answer = told(&denial, headers, session, exchange);
    exchange.failure = Some(denial);
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 8))?;
    write_own(&mut Kept(&mut head), &answer, &exchange.carried(), None, &asker)?;
    *response = head;
    exchange.body.change = Change::Ready(answer.body);
    Ok(true)
}

fn told(denial: &Denial, headers: Vec<(HeaderName, HeaderValue)>, session: &Session, exchange: &Exchange) -> Reply {
    let mut answer = refusal(denial, &reply::asker(session), &exchange.id, exchange.at);
    answer.headers.extend(headers);
    answer
}

/// Makes the header one of the changed body, whose length is still to be said.
fn describe(response: &mut ResponseHeader, shape: &dyn Reshape) -> Result<()> {
    for name in OF_THE_BODY {
        response.remove_header(&name);
    }
    mark(response, shape)
}

fn mark(response: &mut ResponseHeader, shape: &dyn Reshape) -> Result<()> {
    let Some(tag) = response.headers.get(header::ETAG) else {
        return Ok(());
    };
    match tags::marked(tag, shape.mark()) {
        Some(marked) => response.insert_header(header::ETAG, marked),
        None => {
            response.remove_header(&header::ETAG);
            Ok(())
        }
    }
}

/// Holds a body back, or puts another in its place.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    match &mut exchange.body.change {
        Change::Nothing => Ok(()),
        Change::Ready(whole) => {
            // Once, with the first piece of the other.
            *body = Some(std::mem::take(whole)).filter(|whole| !whole.is_empty());
            Ok(())
        }
        Change::Held(held) => {
            let Some(piece) = body.take() else {
                return Ok(());
            };
            let (most, failure) = match &held.purpose {
                Purpose::Cut(shape, _) => (shape.max_body(), None),
                Purpose::Refuse(denial, _) => (ERROR_BODY, Some(denial.clone())),
            };
            held.body.extend_from_slice(&piece);
            if held.body.len() > most || held.since.elapsed() > HOLD {
                let error = fail(exchange, "an answer too large or too slow to be held back");
                exchange.failure = failure.or(exchange.failure.take());
                return Err(error);
            }
            Ok(())
        }
        Change::Passing(passing) => {
            if let Some(piece) = body.take() {
                passing.body.extend_from_slice(&piece);
            }
            let is_over = passing.body.len() > passing.shape.max_body() || passing.since.elapsed() > HOLD;
            if end || is_over {
                let whole = std::mem::take(&mut passing.body).freeze();
                let shape = Some(passing.shape.clone()).filter(|_| !is_over);
                let about = About {
                    request_id: &exchange.id,
                    partial: &[],
                };
                let cut = shape.and_then(|shape| shape.reshape(&whole, &about).ok());
                *body = Some(cut.unwrap_or(whole));
                exchange.body.change = Change::Nothing;
            }
            Ok(())
        }
    }
}

/// Writes an answer that was held back, once the exchange with the upstream has ended well.
pub(super) async fn release(session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    let Change::Held(held) = std::mem::take(&mut exchange.body.change) else {
        return Ok(());
    };
    let Held {
        mut head,
        purpose,
        body,
        ..
    } = *held;
    match purpose {
        Purpose::Refuse(denial, headers) => {
            let answer = told(&denial, headers, session, exchange);
            exchange.failure = Some(denial);
            reply::write(session, exchange, answer).await
        }
        Purpose::Cut(shape, codings) => {
            let body = body.freeze();
            match changed(&shape, codings, body.clone(), &exchange.id).await {
                Ok(cut) => {
                    describe(&mut head, &*shape)?;
                    write(session, exchange, head, cut).await
                }
                Err(_) if shape.passes_uncut() => {
                    head.remove_header(&header::TRANSFER_ENCODING);
                    write(session, exchange, head, body).await
                }
                Err(failure) => {
                    log::info!("{}: an answer cannot be cut: {failure}", exchange.summary());
                    reply::refuse(session, exchange, unreadable()).await
                }
            }
        }
    }
}

async fn write(session: &mut Session, exchange: &mut Exchange, mut head: ResponseHeader, body: Bytes) -> Result<()> {
    head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(body.len()))?;
    response::finish_head(session, &mut head, exchange)?;
    let mut body = Some(body);
    if exchange.body.encoder.is_some() {
        response::body(&mut body, true, exchange)?;
        head.remove_header(&header::TRANSFER_ENCODING);
        let length = body.as_ref().map_or(0, Bytes::len);
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(length))?;
    }
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(body, true).await
}

/// The body without its codings, changed.
async fn changed(
    shape: &Arc<dyn Reshape>,
    codings: Vec<Coded>,
    body: Bytes,
    id: &Arc<str>,
) -> Result<Bytes, ReshapeFailure> {
    let is_small = body.len() <= AT_ONCE && codings.is_empty() && !shape.may_take_long();
    let (shape, id) = (shape.clone(), id.clone());
    let change = move || {
        let about = About {
            request_id: &id,
            partial: &[],
        };
        if codings.is_empty() {
            return shape.reshape(&body, &about);
        }
        let plain = decode(&codings, &body, shape.max_body()).map_err(|failure| match failure {
            DecodeFailure::Damaged => ReshapeFailure::Unreadable,
            DecodeFailure::TooLarge => ReshapeFailure::TooLarge,
        })?;
        shape.reshape(&plain, &about)
    };
    if is_small {
        return change();
    }
    let done = tokio::task::spawn_blocking(change).await;
    done.unwrap_or(Err(ReshapeFailure::Unreadable))
}

/// Ends the exchange with the upstream; the client is told that its answer cannot be read.
fn fail(exchange: &mut Exchange, why: &'static str) -> pingora::BError {
    exchange.failure = Some(unreadable());
    let mut error = Error::explain(ErrorType::HTTPStatus(502), why);
    error.set_retry(false);
    error
}

fn unreadable() -> Denial {
    let detail = "a service behind the gate answered what cannot be read";
    Denial::new(
        DenialKind::Refuse,
        StatusCode::BAD_GATEWAY,
        "upstream-unreadable",
        detail,
    )
}
