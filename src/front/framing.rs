//! How long the body of a request is (RFC 9112 §6): told in one way, or the request is refused. Which answers have none.

use http::{Method, StatusCode};

use super::head::HeadFault;

/// What comes behind the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes, often none.
    Length(usize),
    /// Chunks.
    Chunked,
}

/// The framing by the values of `Content-Length` and `Transfer-Encoding`.
pub(super) fn read(is_http10: bool, lengths: &[&[u8]], codings: &[&[u8]]) -> Result<Framing, HeadFault> {
    const LENGTH: HeadFault = HeadFault::Invalid("`Content-Length` cannot be read unambiguously");
    const CODING: HeadFault = HeadFault::Invalid("`Transfer-Encoding` cannot be read unambiguously");
    match (lengths, codings) {
        ([], []) => Ok(Framing::Length(0)),
        // §6.3: several, also of the same value, may be taken for one; what is in front may have taken another.
        ([length], []) => content_length(length).map(Framing::Length).ok_or(LENGTH),
        ([_, ..], []) => Err(LENGTH),
        // §6.1: HTTP/1.0 knows no codings.
        ([], [coding]) if !is_http10 => match coding {
            coding if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            coding if is_list_before_chunked(coding) => Err(HeadFault::Coding),
            _ => Err(CODING),
        },
        ([], [..]) => Err(CODING),
        // §6.1: both are what request smuggling is made of.
        ([..], [..]) => Err(HeadFault::Invalid(
            "`Content-Length` and `Transfer-Encoding` exclude one another",
        )),
    }
}

/// Whether an answer to that method has no body, whatever its header says (RFC 9110 §6.4.1).
pub(super) fn is_bodyless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether these are codings that exist, and `chunked` at last (RFC 9112 §7): well said, and not understood here.
fn is_list_before_chunked(value: &[u8]) -> bool {
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_last = codings
        .next_back()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let known = ["gzip", "x-gzip", "deflate", "compress", "x-compress"];
    is_last && codings.all(|coding| known.iter().any(|name| coding.eq_ignore_ascii_case(name.as_bytes())))
}

/// RFC 9112 §6.2: digits alone.
fn content_length(value: &[u8]) -> Option<usize> {
    let is_number = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_framing_in_one_way_or_not_at_all() {
        let of = |lengths: &[&str], codings: &[&str]| {
            let lengths: Vec<_> = lengths.iter().map(|text| text.as_bytes()).collect();
            let codings: Vec<_> = codings.iter().map(|text| text.as_bytes()).collect();
            read(false, &lengths, &codings)
        };
        assert_eq!(of(&[], &[]), Ok(Framing::Length(0)));
        assert_eq!(of(&["007"], &[]), Ok(Framing::Length(7)));
        assert_eq!(of(&[], &["Chunked"]), Ok(Framing::Chunked));
        assert_eq!(of(&[], &["gzip, chunked"]), Err(HeadFault::Coding));
        for coding in [
            "identity",
            "xchunked",
            "chunked, chunked",
            "chunked, gzip",
            ", chunked",
            "chunked;q=1",
            "",
        ] {
            assert!(matches!(of(&[], &[coding]), Err(HeadFault::Invalid(_))), "{coding:?}");
        }
        for length in [
            "",
            "+1",
            "-1",
            "1,1",
            "1 1",
            "0x1",
            "1.0",
            "9999999999999999999",
            "\u{661}",
        ] {
            assert!(matches!(of(&[length], &[]), Err(HeadFault::Invalid(_))), "{length:?}");
        }
        assert!(of(&["1", "1"], &[]).is_err());
        assert!(of(&["1"], &["chunked"]).is_err());
        assert!(of(&[], &["chunked", "chunked"]).is_err());
        assert!(read(true, &[], &[b"chunked"]).is_err());
    }
}
