//! The target of a request and its `Host` (RFC 9112 §3.2): one host, and a path that nobody reads in another way.

use std::borrow::Cow;
use std::ops::Range;

use super::head::HeadFault;
use crate::routing::normalise_host;

/// What has to be written anew so that a target in absolute-form (RFC 9112 §3.2.2) becomes one in origin-form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortening {
    /// Scheme and authority, counted from the beginning of the target.
    pub cut: Range<usize>,
    /// What stands for them: `/` where the path is empty.
    pub slash: bool,
    /// The authority, where there is no `Host`.
    pub host: Option<String>,
}

/// Checks the target of a request with that method against its `Host`; `None` where it can stay as it is.
pub(super) fn check(method: &str, target: &str, host: Option<&[u8]>) -> Result<Option<Shortening>, HeadFault> {
    const BAD: HeadFault = HeadFault::Invalid("the request target cannot be read unambiguously");
    // A fragment is never sent (RFC 9110 §7.1), and what is beyond ASCII must be encoded (RFC 3986 §2.1). Of a request in HTTP/2
    // a fragment is gone by now.
    let (before, query) = target.split_once('?').unwrap_or((target, ""));
    let is_strange = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'#' | b'<' | b'>' | b'"');
    if target.bytes().any(is_strange) || before.contains('\\') || query.contains('\\') {
        return Err(BAD);
    }
    let host = host.map(Authority::read).transpose()?;
    if target.starts_with('/') {
        return Ok(None);
    }
    if target == "*" {
        return match method {
            "OPTIONS" => Ok(None),
            _ => Err(HeadFault::Invalid("the target `*` is for OPTIONS alone")),
        };
    }
    let scheme = |name: &str| {
        target
            .get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let start = match () {
        () if scheme("http://") => "http://".len(),
        () if scheme("https://") => "https://".len(),
        () => return Err(BAD),
    };
    let rest = target.get(start..).ok_or(BAD)?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let named = Authority::read(authority.as_bytes())?;
    // RFC 9112 §3.2.2 lets the target win. A cache or a firewall on the way may have believed the other one.
    if host.as_ref().is_some_and(|host| *host != named) {
        return Err(HeadFault::Invalid("`Host` and the request target name different hosts"));
    }
    Ok(Some(Shortening {
        cut: 0..start + authority.len(),
        slash: !rest.get(authority.len()..).is_some_and(|path| path.starts_with('/')),
        host: host.is_none().then(|| authority.to_owned()),
    }))
}

/// Whether these two, each a host with or without a port, mean the same.
pub(super) fn are_one(one: &[u8], other: &[u8]) -> Result<bool, HeadFault> {
    Ok(Authority::read(one)? == Authority::read(other)?)
}

/// A host and a port, as they are meant.
#[derive(Debug, PartialEq, Eq)]
struct Authority<'t> {
    host: Cow<'t, str>,
    port: Option<u16>,
}

impl<'t> Authority<'t> {
    fn read(text: &'t [u8]) -> Result<Self, HeadFault> {
        const BAD: HeadFault = HeadFault::Invalid("`Host` does not name a host");
        let text = std::str::from_utf8(text).map_err(|_| BAD)?;
        let host = normalise_host(text).map_err(|_| BAD)?;
        // A colon within brackets is the address's.
        let port = text.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        Ok(Self {
            host,
            port: port.and_then(|(_, port)| port.parse().ok()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn origin_form(target: &str, host: Option<&str>) -> Result<String, HeadFault> {
        let found = check("GET", target, host.map(str::as_bytes))?;
        Ok(match found {
            None => target.to_owned(),
            Some(Shortening { cut, slash, host }) => {
                let slash = if slash { "/" } else { "" };
                let host = host.map_or(String::new(), |host| format!(" for {host}"));
                format!("{slash}{}{host}", target.get(cut.end..).unwrap())
            }
        })
    }

    #[test]
    fn makes_absolute_targets_origin_targets() {
        for (target, form) in [
            ("/a?b=c\u{7c}", "/a?b=c|"),
            ("http://a/b?c", "/b?c"),
            ("HTTP://A./b", "/b"),
            ("https://a", "/"),
            ("http://a?b", "/?b"),
        ] {
            assert_eq!(origin_form(target, Some("a")).as_deref(), Ok(form), "{target}");
        }
        assert_eq!(origin_form("http://a:8/b", None).as_deref(), Ok("/b for a:8"));
        assert_eq!(origin_form("http://[::1]:8/", Some("[0::1]:8")).as_deref(), Ok("/"));
    }

    #[test]
    fn refuses_targets_that_are_none_or_disagree() {
        for (target, host) in [
            ("http://b/", "a"),
            ("http://a:81/", "a:80"),
            ("http://a:81/", "a"),
            ("http://u@a/", "a"),
            ("http:///x", "a"),
            ("ftp://a/", "a"),
            ("a:80", "a:80"),
            ("x", "a"),
            ("*", "a"),
            ("*x", "a"),
            ("/a#b", "a"),
            ("/a\\b", "a"),
            ("/\u{e9}", "a"),
            ("/?\u{e9}", "a"),
            ("/a\u{7f}", "a"),
            ("/", "u@a"),
            ("/", "a b"),
            ("/", ""),
            ("/", "[::1"),
            ("/", "a:x"),
        ] {
            assert!(origin_form(target, Some(host)).is_err(), "{target} {host}");
        }
        assert_eq!(check("OPTIONS", "*", Some(b"a")), Ok(None));
    }
}
