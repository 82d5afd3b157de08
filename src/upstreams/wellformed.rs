//! Whether an upstream's answer is one: what could be read in two ways is a 502, and its connection is given up, so that
//! nothing of it is taken for the answer to another request (RFC 9112 §6.3, RFC 9110 §15).
//!
//! Pingora forgives folded lines (§5.2), codings besides `chunked` and lengths given twice.

use http::{HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;

/// Interim answers to one request.
const MAX_INTERIM: u32 = 16;
/// Bytes of names and values together.
const MAX_HEADER: usize = 128 << 10;

/// What is wrong with the header of an answer, after so many interim ones.
pub fn check(response: &ResponseHeader, interim: u32) -> Result<(), &'static str> {
    match response.status == StatusCode::SWITCHING_PROTOCOLS {
        true => Err("another protocol that nobody asked for"),
        false => check_fields(response, interim),
    }
}

/// The same of one that may switch protocols.
pub fn check_fields(response: &ResponseHeader, interim: u32) -> Result<(), &'static str> {
    let status = response.status;
    if status.is_informational() && interim >= MAX_INTERIM {
        return Err("interim answers without end");
    }
    if status.as_u16() > 599 {
        return Err("a status that is none");
    }
    let (mut size, mut codings, mut lengths) = (0, 0, 0);
    for (name, value) in &response.headers {
        size += name.as_str().len() + value.len() + 4;
        if has_control(value) {
            return Err("a control character or a folded line in the header");
        }
        if name == header::TRANSFER_ENCODING {
            codings += 1;
            let is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            if codings > 1 || !is_chunked || response.version == Version::HTTP_10 || status.is_informational() {
                return Err("a transfer coding that cannot be read");
            }
        }
        if name == header::CONTENT_LENGTH {
            lengths += 1;
            let digits = value.as_bytes();
            let is_length = !digits.is_empty() && digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit);
            if lengths > 1 || !is_length {
                return Err("a length that cannot be read");
            }
        }
    }
    match size > MAX_HEADER {
        true => Err("a header that is too large"),
        false => Ok(()),
    }
}

/// Any but a tab. Without a branch: every value of every answer is looked through.
fn has_control(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    bytes.iter().fold(false, |found, &byte| {
        found | (byte < b' ' && byte != b'\t') | (byte == 0x7f)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&'static str, &str)]) -> Result<(), &'static str> {
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in headers {
            response.append_header(*name, *value).unwrap();
        }
        check(&response, 0)
    }

    #[test]
    fn takes_answers_and_nothing_else() {
        let long = "x".repeat(MAX_HEADER);
        assert_eq!(of(200, &[("content-length", "5"), ("x", "\u{e9}\t")]), Ok(()));
        assert_eq!(of(200, &[("transfer-encoding", "Chunked")]), Ok(()));
        assert_eq!(of(103, &[("link", "</a>")]), Ok(()));
        for (status, headers) in [
            (101, &[][..]),
            (600, &[]),
            (999, &[]),
            (103, &[("transfer-encoding", "chunked")]),
            (200, &[("transfer-encoding", "gzip, chunked")]),
            (200, &[("transfer-encoding", "identity")]),
            (
                200,
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            ),
            (200, &[("content-length", "5"), ("content-length", "5")]),
            (200, &[("content-length", "5, 5")]),
            (200, &[("content-length", "+5")]),
            (200, &[("content-length", "")]),
            (200, &[("x", &*long)]),
        ] {
            assert!(of(status, headers).is_err(), "{status} {headers:?}");
        }
        let interim = ResponseHeader::build(100, None).unwrap();
        assert!(check(&interim, MAX_INTERIM).is_err());
    }
}
