//! W3C Trace Context, continued: a `traceparent` that is one goes on as it came, another is replaced by one that names this
//! request, and `tracestate` is bounded. Where a client sends none, the services behind begin the trace.
//!
//! The gate exports no span, so it must not put itself between its client's span and the service's (Trace Context §2.3:
//! forwarding unmodified).

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

pub(super) const PARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const STATE: HeaderName = HeaderName::from_static("tracestate");

/// List members of a `tracestate`, and its bytes (§3.3.1).
const MAX_MEMBERS: usize = 32;
const MAX_STATE: usize = 512;

/// What the upstream is told of the trace that a request with these headers belongs to; `id` is the request's own.
pub(super) fn told(headers: &HeaderMap, id: &str) -> SmallVec<[(HeaderName, HeaderValue); 2]> {
    let mut told = SmallVec::new();
    let mut sent = headers.get_all(PARENT).iter();
    let Some(first) = sent.next() else {
        return told;
    };
    let only = sent.next().is_none();
    let parent = first.to_str().ok().filter(|_| only).and_then(parent);
    let continued = parent.is_some();
    // The request's id are 32 hexadecimal digits, the last 16 of which differ from request to request.
    let parent = parent.or_else(|| Some(format!("00-{id}-{}-00", id.get(16..)?)));
    if let Some(parent) = parent.and_then(|parent| HeaderValue::try_from(parent).ok()) {
        told.push((PARENT, parent));
    }
    if continued && let Some(state) = state(headers) {
        told.push((STATE, state));
    }
    told
}

/// The parent in the form of version 00 (§3.2), where it is one of that or of a later version (§4).
fn parent(text: &str) -> Option<String> {
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let mut parts = text.splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_sound = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(span, 16)
        && !is_zero(span)
        && is_hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    is_sound.then(|| format!("00-{trace}-{span}-{flags}"))
}

/// The members of all `tracestate` lines, as many as fit; none where one of them is no member (§3.3).
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut kept = String::new();
    let mut members = 0;
    for line in headers.get_all(STATE) {
        for member in line.to_str().ok()?.split(',').map(str::trim) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
            let is_value = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
            if key.is_empty() || value.is_empty() || !key.bytes().all(is_key) || !value.bytes().all(is_value) {
                return None;
            }
            members += 1;
            // The left-most are the most recent.
            if members <= MAX_MEMBERS && kept.len() + member.len() < MAX_STATE {
                if !kept.is_empty() {
                    kept.push(',');
                }
                kept.push_str(member);
            }
        }
    }
    HeaderValue::try_from(kept).ok().filter(|state| !state.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0011223344556677";
    const PARENT_OF_ALL: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(parents: &[&str], states: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(PARENT, parent.parse().unwrap());
        }
        for state in states {
            headers.append(STATE, state.parse().unwrap());
        }
        let told = told(&headers, ID);
        told.iter()
            .map(|(_, value)| value.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn continues_a_trace_as_it_came() {
        assert_eq!(of(&[], &["a=b"]), [""; 0]);
        assert_eq!(of(&[PARENT_OF_ALL], &[]), [PARENT_OF_ALL]);
        assert_eq!(
            of(&[PARENT_OF_ALL], &["a=1, b=2", "c=3"]),
            [PARENT_OF_ALL, "a=1,b=2,c=3"]
        );
        let later = PARENT_OF_ALL.replacen("00", "cc", 1) + "-more";
        assert_eq!(of(&[&later], &[]), [PARENT_OF_ALL]);
    }

    #[test]
    fn replaces_a_parent_that_is_none() {
        let own = format!("00-{ID}-0011223344556677-00");
        for bad in [
            "",
            "00",
            "x",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(&[bad], &["a=b"]), [own.as_str()], "{bad}");
        }
        assert_eq!(of(&[PARENT_OF_ALL, PARENT_OF_ALL], &[]), [own]);
    }

    #[test]
    fn bounds_the_state() {
        let many: Vec<String> = (0..40).map(|n| format!("k{n}=v")).collect();
        let [_, state] = of(&[PARENT_OF_ALL], &[&many.join(",")]).try_into().unwrap();
        assert_eq!(state.split(',').count(), MAX_MEMBERS);
        let long = format!("a={},b=2", "x".repeat(600));
        assert_eq!(of(&[PARENT_OF_ALL], &[&long]), [PARENT_OF_ALL, "b=2"]);
        for bad in ["a", "A=b", "a=", "=b", "a=b=c", "a=\u{e9}"] {
            let mut headers = HeaderMap::new();
            headers.append(STATE, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(super::state(&headers), None, "{bad}");
        }
    }
}
