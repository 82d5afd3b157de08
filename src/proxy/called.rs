//! What becomes of the answers to requests from inside before they are parts.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::engine::{About, Act, Reply, ReshapeFailure, json};
use crate::policies::compress::decode::{DecodeFailure, codings, decode};
use crate::targets::aggregate::MAX_PART;
use crate::upstreams::{CallError, CallFailure, Called, Outcome};

/// Parts that an answer goes without, each with why.
pub(super) type Lacks = Vec<(Arc<str>, &'static str)>;

/// Undoes the codings of a good answer. One that is not known stays, and makes it unreadable.
pub(super) fn decoded(called: Called) -> Outcome {
    let is_coded = called.headers.contains_key(header::CONTENT_ENCODING);
    if !is_coded || !called.status.is_success() || called.body.is_empty() {
        return Ok(called);
    }
    let Some(codings) = codings(&called.headers) else {
        return Ok(called);
    };
    let body = match decode(&codings, &called.body, MAX_PART) {
        Ok(body) => body,
        Err(failure) => {
            return Err(CallFailure {
                error: match failure {
                    DecodeFailure::TooLarge => CallError::TooLarge,
                    DecodeFailure::Damaged => CallError::Broken,
                },
                upstream: called.upstream,
            });
        }
    };
    let mut headers = HeaderMap::clone(&called.headers);
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    Ok(Called {
        headers: Arc::new(headers),
        body: body.into(),
        ..called
    })
}

/// Says of an answer that no shared cache may keep what is made of it.
pub(super) fn personal(called: Called) -> Called {
    let mut headers = HeaderMap::clone(&called.headers);
    headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    Called {
        headers: Arc::new(headers),
        ..called
    }
}

/// An answer that stands in the configuration.
pub(super) fn of_reply(reply: &Reply) -> Called {
    Called {
        status: reply.status,
        headers: Arc::new(reply.headers.iter().cloned().collect()),
        body: reply.body.clone(),
        kept: None,
        lacks: None,
        upstream: None,
    }
}

/// Cuts an answer as its route says.
pub(super) fn reshaped(called: Called, acts: &[Act], id: &str, lacks: &Lacks) -> Outcome {
    let reshape = acts.iter().find_map(|act| match act {
        Act::Reshape(reshape) => Some(reshape),
        _ => None,
    });
    let Some(reshape) = reshape else { return Ok(called) };
    let is_cut = called.status.is_success() && called.content_type().is_some_and(json::is_json);
    if !is_cut {
        return Ok(called);
    }
    let about = About {
        request_id: id,
        partial: lacks,
    };
    let is_coded = called.headers.contains_key(header::CONTENT_ENCODING);
    let body = match called.body.len() <= MAX_PART && !is_coded {
        true => reshape.reshape(&called.body, &about),
        false => Err(ReshapeFailure::TooLarge),
    };
    let body = match body {
        Ok(body) => body,
        Err(_) if reshape.passes_uncut() => return Ok(called),
        Err(_) => return Err(CallError::Broken.into()),
    };
    Ok(Called { body, ..called })
}
