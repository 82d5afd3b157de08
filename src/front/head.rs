//! One strict look at a request header before Pingora's own (RFC 9112 §2–§6). Whatever two readers could read differently is
//! refused; what is accepted is handed on in one form.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, BufMut, BytesMut};
use http::{Method, StatusCode};

use super::Bounds;
use super::chunks::is_token;
use super::framing::{self, Framing};
use super::target::{self, Shortening};

/// Pingora reads no more lines than this.
pub(super) const MAX_LINES: usize = 256;
/// A method longer than any that exists (RFC 9112 §3).
pub(super) const MAX_METHOD: usize = 32;

/// A whole header in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// How many bytes it has.
    pub length: usize,
    /// What follows.
    pub body: Framing,
    /// Whether the client may ask to go on in another protocol than HTTP.
    pub upgrade: bool,
    rewrite: Option<Rewrite>,
}

/// Where the target stands in the buffer, and what is to become of it.
#[derive(Debug, PartialEq, Eq)]
struct Rewrite {
    target: Range<usize>,
    shortening: Shortening,
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
    /// Not a request, or one of two meanings.
    Invalid(&'static str),
    /// Not a version spoken here.
    Version,
    /// A transfer coding besides `chunked`.
    Coding,
    /// A method nobody knows.
    Method,
    /// CONNECT.
    Connect,
    /// Broken off by the client.
    Broken,
}

impl HeadFault {
    #[cold]
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
            Self::Invalid(detail) => (StatusCode::BAD_REQUEST, "request-invalid", detail),
            Self::Version => (
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "version-not-supported",
                "this address speaks HTTP/1.1 and HTTP/1.0",
            ),
            Self::Coding => (
                StatusCode::NOT_IMPLEMENTED,
                "coding-not-supported",
                "`chunked` is the only transfer coding known here",
            ),
            Self::Method => (
                StatusCode::NOT_IMPLEMENTED,
                "method-not-supported",
                "no method has such a name",
            ),
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, "connect-not-allowed", "no tunnels here"),
            Self::Broken => (
                StatusCode::BAD_REQUEST,
                "request-invalid",
                "the request header broke off",
            ),
        }
    }
}

const LINES: HeadFault = HeadFault::Invalid("a line of the header does not end in CR LF");
const UNREADABLE: HeadFault = HeadFault::Invalid("the request cannot be read unambiguously");

/// Looks for a whole header; `None` where more must be read. The buffer must not be empty.
pub(super) fn parse(buffer: &[u8], bounds: &Bounds) -> Result<Option<Head>, HeadFault> {
    // The request line is judged before the rest is there: nobody needs to wait for a megabyte of it.
    let line = buffer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    if method.len() > MAX_METHOD && method.iter().all(|byte| is_token(*byte)) {
        return Err(HeadFault::Method);
    }
    if line.len() > longest_line(bounds) {
        return Err(HeadFault::TargetTooLong);
    }
    if line.first().is_none_or(|byte| byte.is_ascii_whitespace()) {
        return Err(UNREADABLE);
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(buffer, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            // Nothing of a body can be among it.
            check_lines(buffer)?;
            return match buffer.len() > bounds.max_header || lines(buffer) > bounds.max_lines + 1 {
                true => Err(HeadFault::TooLarge),
                false => Ok(None),
            };
        }
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooLarge),
        Err(httparse::Error::Version) if names_another_version(line) => return Err(HeadFault::Version),
        Err(httparse::Error::NewLine) => return Err(LINES),
        Err(_) => return Err(UNREADABLE),
    };
    if length > bounds.max_header || request.headers.len() > bounds.max_lines {
        return Err(HeadFault::TooLarge);
    }
    check_lines(buffer.get(..length).unwrap_or_default())?;
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
        return Err(UNREADABLE);
    };
    if method == "CONNECT" {
        return Err(HeadFault::Connect);
    }
    if path.len() > bounds.max_target {
        return Err(HeadFault::TargetTooLong);
    }
    let fields = Fields::of(request.headers)?;
    let is_http10 = version == 0;
    if fields.hosts.len() > 1 || !is_http10 && fields.hosts.is_empty() {
        return Err(HeadFault::Invalid("a request names its host exactly once"));
    }
    let shortening = target::check(method, path, fields.hosts.first().copied())?;
    let body = framing::read(is_http10, &fields.lengths, &fields.codings)?;
    // Between the method and the target stands one space, which httparse makes sure of.
    let start = method.len() + 1;
    Ok(Some(Head {
        length,
        body,
        upgrade: fields.upgrade,
        rewrite: shortening.map(|shortening| Rewrite {
            target: start..start + path.len(),
            shortening,
        }),
    }))
}

/// Bytes of a request line with the longest method and target there may be.
pub(super) fn longest_line(bounds: &Bounds) -> usize {
    bounds.max_target + MAX_METHOD + "  HTTP/1.1\r".len()
}

impl Head {
    /// Writes the header that stands alone in `buffer` in its one form: with a target in origin-form and a `Host`.
    pub fn rewrite(&self, buffer: BytesMut) -> BytesMut {
        let Some(Rewrite { target, shortening }) = &self.rewrite else {
            return buffer;
        };
        let mut whole = buffer;
        let mut written = BytesMut::with_capacity(whole.len() + 256);
        written.put(whole.split_to(target.start));
        whole.advance(shortening.cut.len());
        if shortening.slash {
            written.put_u8(b'/');
        }
        if let Some(host) = &shortening.host {
            let end = whole.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            written.put(whole.split_to(end));
            written.put_slice(format!("Host: {host}\r\n").as_bytes());
        }
        written.put(whole);
        written
    }
}

/// The fields that decide what a request is.
#[derive(Default)]
struct Fields<'a> {
    hosts: smallvec::SmallVec<[&'a [u8]; 1]>,
    lengths: smallvec::SmallVec<[&'a [u8]; 1]>,
    codings: smallvec::SmallVec<[&'a [u8]; 1]>,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    fn of(headers: &[httparse::Header<'a>]) -> Result<Self, HeadFault> {
        let mut fields = Self::default();
        for header in headers {
            let name = header.name;
            // Most names are told apart by their length.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => fields.hosts.push(header.value),
                7 if name.eq_ignore_ascii_case("upgrade") => fields.upgrade = true,
                10 if name.eq_ignore_ascii_case("connection") => check_connection(header.value)?,
                14 if name.eq_ignore_ascii_case("content-length") => fields.lengths.push(header.value),
                17 if name.eq_ignore_ascii_case("transfer-encoding") => fields.codings.push(header.value),
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// What `Connection` must not name: that would take from the upstream what the request was judged by (RFC 9110 §7.6.1).
const END_TO_END: [&str; 22] = [
    "accept",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-none-match",
    "origin",
    "range",
    "traceparent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

fn check_connection(value: &[u8]) -> Result<(), HeadFault> {
    if value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close") {
        return Ok(());
    }
    let options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    for option in options.filter(|option| !option.is_empty()) {
        let is_named = |name: &&str| option.eq_ignore_ascii_case(name.as_bytes());
        if !option.iter().all(|byte| is_token(*byte)) || END_TO_END.iter().any(is_named) {
            return Err(HeadFault::Invalid(
                "`Connection` names what concerns more than the connection",
            ));
        }
    }
    Ok(())
}

/// RFC 9112 §2.2 lets a bare LF end a line; two readers that differ on it are a smuggler's joy.
fn check_lines(head: &[u8]) -> Result<(), HeadFault> {
    // Where the header ends, more may follow.
    let is_wrong = |at: usize| match head.get(at) {
        Some(b'\r') => head.get(at + 1).is_some_and(|next| *next != b'\n'),
        Some(b'\n') => at.checked_sub(1).and_then(|before| head.get(before)) != Some(&b'\r'),
        _ => true,
    };
    match memchr::memchr3_iter(b'\r', b'\n', 0, head).any(is_wrong) {
        true => Err(LINES),
        false => Ok(()),
    }
}

fn lines(head: &[u8]) -> usize {
    head.iter().filter(|byte| **byte == b'\n').count()
}

/// `HTTP/2.0` and its like, well written (RFC 9112 §2.3).
fn names_another_version(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let version = words.nth(2).unwrap_or_default();
    let version = version.strip_suffix(b"\r").unwrap_or(version);
    words.next().is_none()
        && matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// What can be told of the request line of a header that was refused.
pub(super) fn request_line(buffer: &[u8]) -> (Method, String) {
    let line = buffer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let method = words
        .next()
        .and_then(|word| Method::from_bytes(word.get(..MAX_METHOD).unwrap_or(word)).ok())
        .unwrap_or_default();
    let target = words.next().unwrap_or_default();
    (
        method,
        String::from_utf8_lossy(target.get(..target.len().min(256)).unwrap_or_default()).into_owned(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_ends_of_lines_as_a_slow_reader_does() {
        let slow = |head: &[u8]| {
            let is_bare = |pair: &[u8]| {
                matches!(pair, [b'\r', after] if *after != b'\n') || matches!(pair, [before, b'\n'] if *before != b'\r')
            };
            !head.contains(&0) && head.first() != Some(&b'\n') && !head.windows(2).any(is_bare)
        };
        let letters = b"a\r\n\0";
        for length in 0..=6 {
            for number in 0..4_usize.pow(length) {
                let head: Vec<u8> = (0..length).map(|at| letters[number / 4_usize.pow(at) % 4]).collect();
                assert_eq!(check_lines(&head).is_ok(), slow(&head), "{head:?}");
            }
        }
    }

    fn read(text: &str) -> Result<Option<Head>, HeadFault> {
        parse(text.as_bytes(), &Bounds::default())
    }

    #[test]
    fn tells_where_a_request_ends() {
        let framed = |text: &str| read(text).map(|head| head.map(|head| (head.length, head.body)));
        let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(
            framed(&format!("{one}GET /2")),
            Ok(Some((one.len(), Framing::Length(0))))
        );
        let two = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            framed(&format!("{two}abc\nGET")),
            Ok(Some((two.len(), Framing::Length(3))))
        );
        let three = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            framed(&format!("{three}1\r\n")),
            Ok(Some((three.len(), Framing::Chunked)))
        );
        assert_eq!(framed("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for bad in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\nHost: a\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nx: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Authorization\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: \"x\"\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\u{1}\u{2}\r\n\r\n",
            "GET /\r\n",
        ] {
            assert!(matches!(read(bad), Err(HeadFault::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn says_what_is_not_done_here() {
        let of = |line: &str| read(&format!("{line}\r\nHost: a:1\r\n\r\n"));
        assert_eq!(of("CONNECT a:1 HTTP/1.1"), Err(HeadFault::Connect));
        assert_eq!(of("GET / HTTP/2.0"), Err(HeadFault::Version));
        assert_eq!(of("GET / HTTP/1.2"), Err(HeadFault::Version));
        assert_eq!(of(&format!("{} / HTTP/1.1", "A".repeat(33))), Err(HeadFault::Method));
        let coded = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(read(coded), Err(HeadFault::Coding));
    }

    #[test]
    fn writes_a_target_in_one_form() {
        for (request, form) in [
            (
                "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            (
                "GET https://a:1/b?c HTTP/1.0\r\nx: y\r\n\r\n",
                "GET /b?c HTTP/1.0\r\nHost: a:1\r\nx: y\r\n\r\n",
            ),
            (
                "GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
        ] {
            let head = read(request).unwrap().unwrap();
            assert_eq!(head.rewrite(request.as_bytes().into()), form.as_bytes(), "{request:?}");
        }
    }

    #[test]
    fn bounds_the_target_the_lines_and_the_whole() {
        assert_eq!(
            read(&format!("GET /{}", "a".repeat(10_000))),
            Err(HeadFault::TargetTooLong)
        );
        for end in ["", "\r\n"] {
            let many = "x: y\r\n".repeat(200);
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}{end}");
            assert_eq!(read(&request), Err(HeadFault::TooLarge));
        }
        assert_eq!(
            read(&format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(70_000))),
            Err(HeadFault::TooLarge)
        );
    }
}
