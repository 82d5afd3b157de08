//! The same strict look at a request in HTTP/2 as `front/head.rs` takes in HTTP/1 (RFC 9113 §8.3, §8.2).
//!
//! The `h2` crate has refused what is malformed in itself: fields of the connection, names in capitals, pseudo-fields that are
//! missing, unknown, repeated or out of order, targets that are no URI. A fragment in `:path`, which HTTP/1 refuses, it has
//! dropped: it is neither looked at nor sent on.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use super::super::framing;
use super::super::head::{HeadFault, MAX_METHOD};
use super::super::target;
use super::Bounds;

/// Checks a request, and leaves it in its one form: one `Cookie`, and no `Host` beside an authority.
pub(super) fn check(request: &mut Parts, bounds: &Bounds) -> Result<(), HeadFault> {
    let method = request.method.as_str();
    if method == "CONNECT" {
        return Err(HeadFault::Connect);
    }
    if method.len() > MAX_METHOD {
        return Err(HeadFault::Method);
    }
    let target = request.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > bounds.max_target {
        return Err(HeadFault::TargetTooLong);
    }
    join_cookies(&mut request.headers)?;
    let line = method.len() + target.len() + " HTTP/2\r\n".len();
    if size(&request.headers, &request.uri) + line > bounds.max_header || request.headers.len() > bounds.max_lines {
        return Err(HeadFault::TooLarge);
    }
    if request.headers.values().any(is_padded) {
        return Err(HeadFault::Invalid("a field begins or ends with a space"));
    }
    if let Some(scheme) = request.uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(HeadFault::Invalid("`:scheme` is neither `http` nor `https`"));
    }
    if !target.starts_with('/') && target != "*" {
        return Err(HeadFault::Invalid("`:path` does not begin with `/`"));
    }
    let mut hosts = request.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = match (authority, hosts.next(), hosts.next()) {
        (Some(authority), None, _) => authority,
        (None, Some(host), None) => host,
        // What is in front may have believed either.
        (Some(authority), Some(host), None) if target::are_one(authority, host)? => authority,
        (Some(_), Some(_), None) => {
            return Err(HeadFault::Invalid("`:authority` and `Host` name different hosts"));
        }
        _ => return Err(HeadFault::Invalid("a request names its host exactly once")),
    };
    target::check(method, target, Some(host))?;
    check_length(&request.headers)?;
    if request.uri.authority().is_some() {
        request.headers.remove(header::HOST);
    }
    Ok(())
}

fn check_length(headers: &HeaderMap) -> Result<(), HeadFault> {
    let lengths = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .map(HeaderValue::as_bytes);
    let lengths: smallvec::SmallVec<[&[u8]; 1]> = lengths.collect();
    framing::read(false, &lengths, &[]).map(drop)
}

/// As many bytes as it would have in HTTP/1.
fn size(headers: &HeaderMap, uri: &Uri) -> usize {
    let fields = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    fields.sum::<usize>()
        + uri
            .authority()
            .map_or(0, |host| host.as_str().len() + "host: \r\n".len())
}

/// RFC 9113 §8.2.1.
fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
}

/// RFC 9113 §8.2.3: a client may send each pair by itself, and nobody behind the gateway knows of that.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), HeadFault> {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else {
        return Ok(());
    };
    let pieces = [first, second].into_iter().chain(pieces).map(HeaderValue::as_bytes);
    let joined = pieces.collect::<Vec<_>>().join(&b"; "[..]);
    let joined = HeaderValue::from_bytes(&joined).map_err(|_| HeadFault::Invalid("`Cookie` cannot be read"))?;
    headers.insert(header::COOKIE, joined);
    Ok(())
}
