//! One strict look at a request header before Pingora's own.

use http::{Method, StatusCode};

use super::Bounds;
use crate::routing::normalise_host;

/// More headers than this are too many.
const MAX_HEADERS: usize = 128;

/// A whole header in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// How many bytes of the buffer belong to this request: the header, and of the body what may be there. All of a body
    /// whose length the header does not tell.
    pub buffered: usize,
    /// How many bytes of the body are still to come; `None` where the header does not tell.
    pub awaited: Option<usize>,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadFault {
    /// Not whole within its deadline.
    Slow,
    /// Too many bytes or lines.
    TooLarge,
    /// Too long a target.
    TargetTooLong,
    /// Not HTTP/1.x, or ambiguous.
    Invalid,
    /// CONNECT.
    Connect,
}

impl HeadFault {
    pub fn told(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "header-timeout",
                "the request header took too long",
            ),
            Self::TooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "header-too-large",
                "the request header is too large",
            ),
            Self::TargetTooLong => (
                StatusCode::URI_TOO_LONG,
                "uri-too-long",
                "the request target is too long",
            ),
            Self::Invalid => (
                StatusCode::BAD_REQUEST,
                "request-invalid",
                "the request cannot be read unambiguously",
            ),
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, "connect-not-allowed", "no tunnels here"),
        }
    }
}

/// Looks for a whole header; `None` where more must be read.
pub(super) fn parse(buffer: &[u8], bounds: &Bounds) -> Result<Option<Head>, HeadFault> {
    // The target is judged before the rest is there: nobody needs to wait for a megabyte of it.
    let line = buffer.iter().position(|byte| *byte == b'\n').unwrap_or(buffer.len());
    if line > bounds.max_target + 32 {
        return Err(HeadFault::TargetTooLong);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() > bounds.max_header => return Err(HeadFault::TooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooLarge),
        Err(_) => return Err(HeadFault::Invalid),
    };
    if length > bounds.max_header {
        return Err(HeadFault::TooLarge);
    }
    let head = buffer.get(..length).unwrap_or_default();
    // RFC 9112 §2.2 lets a bare LF end a line; two readers that differ on it are a smuggler's joy.
    let bare = |pair: &[u8]| matches!(pair, [before, b'\n'] if *before != b'\r');
    if head.windows(2).any(bare) || head.first() == Some(&b'\n') {
        return Err(HeadFault::Invalid);
    }
    if request.method == Some("CONNECT") {
        return Err(HeadFault::Connect);
    }
    if request.path.is_some_and(|path| path.len() > bounds.max_target) {
        return Err(HeadFault::TargetTooLong);
    }
    let named = |name: &'static str| {
        request
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    if named("host").count() > 1 || request.version == Some(1) && named("host").next().is_none() {
        return Err(HeadFault::Invalid);
    }
    check_host(&request, named("host").next().map(|header| header.value))?;
    let lengths: Vec<&[u8]> = named("content-length").map(|header| header.value).collect();
    let codings: Vec<&[u8]> = named("transfer-encoding").map(|header| header.value).collect();
    let is_coded = match *codings {
        [] => false,
        // RFC 9112 §6.1: other codings are not understood here, and HTTP/1.0 knows none.
        [coding] if coding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1) => true,
        _ => return Err(HeadFault::Invalid),
    };
    let body = match (&*lengths, is_coded) {
        ([], false) => Some(0),
        ([length], false) => Some(content_length(length).ok_or(HeadFault::Invalid)?),
        ([], true) => None,
        // RFC 9112 §6.3: both, or several, is what request smuggling is made of.
        _ => return Err(HeadFault::Invalid),
    };
    let buffered = body.map_or(buffer.len(), |body| length.saturating_add(body).min(buffer.len()));
    let awaited = body.map(|body| body.saturating_sub(buffered.saturating_sub(length)));
    Ok(Some(Head { buffered, awaited }))
}

/// RFC 9112 §3.2: a host that is one, and the same in the target where that names one too.
fn check_host(request: &httparse::Request<'_, '_>, host: Option<&[u8]>) -> Result<(), HeadFault> {
    let host = match host {
        Some(host) => std::str::from_utf8(host).map_err(|_| HeadFault::Invalid)?,
        None => return Ok(()),
    };
    let host = normalise_host(host).map_err(|_| HeadFault::Invalid)?;
    let target = request.path.unwrap_or_default();
    if target.starts_with(['/', '*']) {
        return Ok(());
    }
    let (_, rest) = target.split_once("://").ok_or(HeadFault::Invalid)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match normalise_host(authority) {
        Ok(named) if named == host => Ok(()),
        _ => Err(HeadFault::Invalid),
    }
}

/// RFC 9112 §6.2: digits alone.
fn content_length(value: &[u8]) -> Option<usize> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

/// What can be told of the request line of a header that was refused.
pub(super) fn request_line(buffer: &[u8]) -> (Method, String) {
    let line = buffer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let method = words
        .next()
        .and_then(|word| Method::from_bytes(word).ok())
        .unwrap_or_default();
    let target = words.next().unwrap_or_default();
    (
        method,
        String::from_utf8_lossy(target.get(..target.len().min(256)).unwrap_or_default()).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, HeadFault> {
        parse(text.as_bytes(), &Bounds::default())
    }

    #[test]
    fn tells_one_request_from_the_next() {
        let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let head = |buffered, awaited| Ok(Some(Head { buffered, awaited }));
        assert_eq!(read(&format!("{one}GET /2")), head(one.len(), Some(0)));
        let two = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(read(&format!("{two}abcGET")), head(two.len() + 3, Some(0)));
        assert_eq!(read(&format!("{two}a")), head(two.len() + 1, Some(2)));
        let three = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(&format!("{three}1\r\n")), head(three.len() + 3, None));
        assert_eq!(read("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for bad in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "\u{1}\u{2}\r\n\r\n",
        ] {
            assert_eq!(read(bad), Err(HeadFault::Invalid), "{bad:?}");
        }
        assert_eq!(
            read("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            Err(HeadFault::Connect)
        );
    }

    #[test]
    fn bounds_the_target_the_lines_and_the_whole() {
        assert_eq!(
            read(&format!("GET /{}", "a".repeat(10_000))),
            Err(HeadFault::TargetTooLong)
        );
        let many = "x: y\r\n".repeat(200);
        assert_eq!(
            read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
            Err(HeadFault::TooLarge)
        );
        assert_eq!(
            read(&format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(70_000))),
            Err(HeadFault::TooLarge)
        );
    }
}
