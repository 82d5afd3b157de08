//! The handshake that opens a socket (RFC 6455 §4), read strictly on both sides: a switch that one side has seen and the other
//! has not would let the bytes behind it be taken for requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method, header};

/// The one version there is.
pub const VERSION: &str = "13";
/// What the key is hashed with (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request opens no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It speaks another version.
    Version,
    /// It is no handshake.
    Request(&'static str),
}

/// Whether a request asks for a socket, and for nothing besides.
pub fn is_asked(headers: &HeaderMap) -> bool {
    only(headers, &header::UPGRADE).is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// What an upstream has to answer the request with, as `Sec-WebSocket-Accept`.
pub fn check(method: &Method, headers: &HeaderMap) -> Result<String, Fault> {
    if *method != Method::GET {
        return Err(Fault::Request("a socket is opened by GET"));
    }
    if !says_upgrade(headers) {
        return Err(Fault::Request("`Connection` does not say `upgrade`"));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0") {
        return Err(Fault::Request("a request for a socket has no body"));
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(VERSION.as_bytes()) {
        return Err(Fault::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY);
    let is_key = |key: &&[u8]| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16);
    let wrong = Fault::Request("`Sec-WebSocket-Key` is not 16 bytes in base64");
    key.filter(is_key).map(accept).ok_or(wrong)
}

/// Whether an answer of status 101 opens the socket that was asked for.
pub fn is_opened(headers: &HeaderMap, accept: &str) -> bool {
    is_asked(headers)
        && says_upgrade(headers)
        && only(headers, &header::SEC_WEBSOCKET_ACCEPT) == Some(accept.as_bytes())
        && !headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn accept(key: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    STANDARD.encode(hash)
}

fn says_upgrade(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    let mut options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// The value of a header that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        lines.iter().map(pair).fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    fn asked(changed: &[(&str, &str)]) -> Result<String, Fault> {
        let mut lines = vec![
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        lines.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
        lines.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
        check(&Method::GET, &headers(&lines))
    }

    #[test]
    fn knows_the_answer_to_a_key() {
        assert_eq!(asked(&[]), Ok(ACCEPT.to_owned()));
        assert_eq!(asked(&[("content-length", "0")]), Ok(ACCEPT.to_owned()));
    }

    #[test]
    fn takes_nothing_else_for_a_handshake() {
        let invalid = |changed: &[(&str, &str)]| matches!(asked(changed), Err(Fault::Request(_)));
        for changed in [
            &[("connection", "")][..],
            &[("connection", "keep-alive")],
            &[("connection", "upgraded")],
            &[("sec-websocket-key", "")],
            &[("sec-websocket-key", "c2hvcnQ=")],
            &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")],
            &[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)],
            &[("content-length", "5")],
            &[("transfer-encoding", "chunked")],
        ] {
            assert!(invalid(changed), "{changed:?}");
        }
        for version in ["", "8", "13, 8", "1 3"] {
            assert_eq!(asked(&[("sec-websocket-version", version)]), Err(Fault::Version));
        }
        let twice = [("sec-websocket-version", "13"), ("sec-websocket-version", "13")];
        assert_eq!(asked(&twice), Err(Fault::Version));
        let of = |value: &str| is_asked(&headers(&[("upgrade", value)]));
        assert!(of("WebSocket") && !of("h2c") && !of("websocket, h2c"));
        assert!(!is_asked(&headers(&[
            ("upgrade", "websocket"),
            ("upgrade", "websocket")
        ])));
    }

    #[test]
    fn opens_only_what_the_key_opens() {
        let opened = |changed: &[(&str, &str)]| {
            let mut lines = vec![
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-accept", ACCEPT),
            ];
            lines.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
            lines.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
            is_opened(&headers(&lines), ACCEPT)
        };
        assert!(opened(&[]));
        for changed in [
            ("upgrade", ""),
            ("upgrade", "h2c"),
            ("connection", ""),
            ("sec-websocket-accept", ""),
            ("sec-websocket-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
        ] {
            assert!(!opened(&[changed]), "{changed:?}");
        }
    }
}
