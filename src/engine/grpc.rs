//! A refusal as gRPC tells it: an answer of trailers alone (*gRPC over HTTP/2*, Responses), whose HTTP status is 200.
//!
//! | refusal | gRPC status |
//! |---|---|
//! | 400, 411, 415 | 3 `INVALID_ARGUMENT`: the call will not do as it is |
//! | 401 | 16 `UNAUTHENTICATED` |
//! | 403 | 7 `PERMISSION_DENIED` |
//! | 404, 405, 426, 501 | 12 `UNIMPLEMENTED`: a path is a method, and there is none of that name |
//! | 408, 504 | 4 `DEADLINE_EXCEEDED` |
//! | 413, 414, 429, 431 | 8 `RESOURCE_EXHAUSTED` |
//! | 500 | 13 `INTERNAL` |
//! | 502, 503 | 14 `UNAVAILABLE` |
//! | others | 2 `UNKNOWN` |
//!
//! The code stands in `Gwanmun-Code`; when it is worth trying again, in `Retry-After` and, for clients that try by
//! themselves, in `grpc-retry-pushback-ms` (gRFC A6).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Denial, Reply, problem, retry_after};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const CODE: HeaderName = HeaderName::from_static("gwanmun-code");
/// What has to be encoded in a message: all but visible ASCII and spaces, and the sign of encoding itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Whether a `Content-Type` is that of gRPC. That of gRPC-Web is not: it has trailers of its own.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let (name, rest) = content_type.split_at_checked(NAME.len()).unwrap_or_default();
    name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// How long a `grpc-timeout` gives the call; `None` where it is none.
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The refusal as an answer; what [`problem`](super::problem()) says in headers is there, too.
pub fn trailers_only(denial: &Denial, request_id: &str, now: Timestamp, language: usize) -> Reply {
    let mut reply = problem(denial, request_id, now, language);
    let messages = denial.messages.as_ref();
    let message = messages.and_then(|messages| messages.0.get(language).or(messages.0.first()));
    let detail = message.map_or(&*denial.detail, |(_, text)| text.as_str());
    let encoded = utf8_percent_encode(detail, ENCODED).to_string();
    let pushback = retry_after(denial, now).map(|seconds| seconds.saturating_mul(1000));
    let said = [
        (STATUS, Some(HeaderValue::from(status(denial.status)))),
        (MESSAGE, HeaderValue::try_from(encoded).ok()),
        (CODE, HeaderValue::from_str(&denial.code).ok()),
        (PUSHBACK, pushback.map(HeaderValue::from)),
    ];
    for (name, value) in &mut reply.headers {
        if *name == header::CONTENT_TYPE {
            *value = HeaderValue::from_static("application/grpc");
        }
    }
    reply
        .headers
        .extend(said.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Reply {
        status: StatusCode::OK,
        body: Bytes::new(),
        ..reply
    }
}

/// Whether an answer is one of [`trailers_only`].
pub fn is_trailers_only(reply: &Reply) -> bool {
    reply.body.is_empty() && reply.headers.iter().any(|(name, _)| *name == STATUS)
}

/// The status that gRPC has for one of HTTP.
fn status(http: StatusCode) -> u16 {
    match http.as_u16() {
        400 | 411 | 415 => 3,
        401 => 16,
        403 => 7,
        404 | 405 | 426 | 501 => 12,
        408 | 504 => 4,
        413 | 414 | 429 | 431 => 8,
        500 => 13,
        502 | 503 => 14,
        _ => 2,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{DenialKind, Messages};

    #[test]
    fn knows_grpc_from_what_is_like_it() {
        for (content_type, is) in [
            ("application/grpc", true),
            ("Application/gRPC", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(content_type.as_bytes()), is, "{content_type}");
        }
    }

    #[test]
    fn reads_how_long_a_call_may_take() {
        for (text, time) in [
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("5S", Some(Duration::from_secs(5))),
            ("1M", Some(Duration::from_secs(60))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("123456789S", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("", None),
        ] {
            assert_eq!(grpc_timeout(text.as_bytes()), time, "{text}");
        }
    }

    #[test]
    fn tells_a_refusal_in_trailers() {
        let mut denial = Denial::new(DenialKind::Throttle, StatusCode::TOO_MANY_REQUESTS, "LIMIT", "x");
        denial.messages = Some(Arc::new(Messages(vec![("ko".into(), "100% 초과\n".into())])));
        denial.retry_after = Some(Duration::from_millis(1500));
        let reply = trailers_only(&denial, "id", Timestamp::UNIX_EPOCH, 0);
        let header = |name: &str| {
            let found = reply.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!((reply.status, &*reply.body), (StatusCode::OK, &b""[..]));
        assert_eq!(header("content-type"), Some("application/grpc"));
        assert_eq!(header("grpc-status"), Some("8"));
        assert_eq!(header("grpc-message"), Some("100%25 %EC%B4%88%EA%B3%BC%0A"));
        assert_eq!(header("gwanmun-code"), Some("LIMIT"));
        assert_eq!(
            (header("retry-after"), header("grpc-retry-pushback-ms")),
            (Some("2"), Some("2000"))
        );
        assert!(is_trailers_only(&reply));
    }
}
