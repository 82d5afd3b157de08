//! One reading of a path and of a host: what is matched is what is judged, cached, recorded and sent on.
//!
//! Proxies and the applications behind them disagree about `/a/%2e%2e/b`, `/a//b`, `/a\b` or `..;x`, and every such
//! disagreement is a way around a rule. So a path is brought to one spelling (RFC 3986 §6.2.2) or refused.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Why a path has no single reading; the request is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a broken percent escape")]
    BrokenEscape,
    /// An encoded `/`.
    #[error("the path has an encoded slash")]
    EncodedSlash,
    /// A `\`, raw or encoded.
    #[error("the path has a backslash")]
    Backslash,
    /// A control character, raw or encoded, NUL among them.
    #[error("the path has a control character")]
    Control,
    /// A raw space.
    #[error("the path has a space")]
    Space,
    /// A raw byte outside ASCII, or a raw `?` or `#`, which end a path.
    #[error("the path has a character that must be encoded")]
    Unencoded,
    /// `.`, `/`, `\` or NUL in more bytes than UTF-8 has for it (RFC 3629 §3), which broken decoders take for these.
    #[error("the path has an overlong encoding")]
    Overlong,
    /// A segment `.` or `..`, raw or encoded, with or without `;parameters`.
    #[error("the path has a dot segment")]
    DotSegment,
}

/// Why an authority names no host; the request is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    /// There is none.
    #[error("the host is empty")]
    Empty,
    /// `user@host`.
    #[error("the host carries a user name")]
    UserInfo,
    /// Not a port number.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// Not a name or address: an empty or overlong label, or a character no host name has.
    #[error("the host is not a name or an address")]
    Malformed,
}

/// The one reading of a raw path (without the query). Borrows where nothing changes; idempotent.
///
/// Escapes of unreserved characters are decoded, all others kept with upper-case digits; the few visible characters that
/// RFC 3986 allows nowhere (`{`, `|`, `^`, …) become escapes; runs of `/` merge.
pub fn normalise_path(raw: &[u8]) -> Result<Cow<'_, str>, PathFault> {
    if raw.first() != Some(&b'/') {
        return Err(PathFault::NotAbsolute);
    }
    if is_plain(raw) {
        return Written { raw, changed: None }.finish();
    }
    let mut written = Written { raw, changed: None };
    let mut at = 0;
    let mut after_slash = false;
    while let Some(&byte) = raw.get(at) {
        let mut length = 1;
        match byte {
            b'/' if after_slash => written.replace(at, ""),
            b'%' => {
                let escape = raw.get(at..at + 3).ok_or(PathFault::BrokenEscape)?;
                let value = escaped(escape).ok_or(PathFault::BrokenEscape)?;
                length = 3;
                match value {
                    b'/' => return Err(PathFault::EncodedSlash),
                    b'\\' => return Err(PathFault::Backslash),
                    0..=0x1f | 0x7f => return Err(PathFault::Control),
                    _ if is_unreserved(value) => written.replace(at, char::from(value).encode_utf8(&mut [0; 4])),
                    _ if escape.iter().any(u8::is_ascii_lowercase) => written.escape(at, value),
                    _ => written.keep(escape),
                }
            }
            b'\\' => return Err(PathFault::Backslash),
            b' ' => return Err(PathFault::Space),
            0..=0x1f | 0x7f => return Err(PathFault::Control),
            0x80.. | b'?' | b'#' => return Err(PathFault::Unencoded),
            _ if is_path_character(byte) => written.keep(&[byte]),
            _ => written.escape(at, byte),
        }
        after_slash = byte == b'/';
        at += length;
    }
    let path = written.finish()?;
    if path.split('/').any(is_dot_segment) {
        return Err(PathFault::DotSegment);
    }
    if OVERLONG.iter().any(|form| path.contains(form)) {
        return Err(PathFault::Overlong);
    }
    Ok(path)
}

/// `.`, `/`, `\` and NUL in two, three and four bytes.
const OVERLONG: [&str; 12] = [
    "%C0%AE",
    "%C0%AF",
    "%C1%9C",
    "%C0%80",
    "%E0%80%AE",
    "%E0%80%AF",
    "%E0%81%9C",
    "%E0%80%80",
    "%F0%80%80%AE",
    "%F0%80%80%AF",
    "%F0%80%81%9C",
    "%F0%80%80%80",
];

/// Whether there is nothing to look at closely: most paths, at a quarter of the cost.
fn is_plain(raw: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
            {
                plain[byte] = is_path_character(byte as u8);
            }
            byte += 1;
        }
        plain
    };
    let mut before = 0;
    raw.iter().all(|&byte| {
        let plain = PLAIN.get(usize::from(byte)) == Some(&true);
        let follows_slash = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        plain && !follows_slash
    })
}

/// The output, which stays the input for as long as nothing differs.
struct Written<'a> {
    raw: &'a [u8],
    changed: Option<String>,
}

impl<'a> Written<'a> {
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(out) = &mut self.changed {
            out.extend(bytes.iter().copied().map(char::from));
        }
    }

    /// Writes `text` for what stands in the input at `at`.
    fn replace(&mut self, at: usize, text: &str) {
        let raw = self.raw;
        self.changed
            .get_or_insert_with(|| {
                // Everything before `at` was found to be ASCII.
                let mut out = String::with_capacity(raw.len() + 16);
                out.extend(raw.iter().take(at).copied().map(char::from));
                out
            })
            .push_str(text);
    }

    fn escape(&mut self, at: usize, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let digit = |value: u8| DIGITS.get(usize::from(value)).copied().map_or('0', char::from);
        self.replace(at, "%");
        self.replace(at, digit(byte >> 4).encode_utf8(&mut [0; 4]));
        self.replace(at, digit(byte & 15).encode_utf8(&mut [0; 4]));
    }

    fn finish(self) -> Result<Cow<'a, str>, PathFault> {
        match self.changed {
            Some(changed) => Ok(Cow::Owned(changed)),
            None => std::str::from_utf8(self.raw)
                .map(Cow::Borrowed)
                .map_err(|_| PathFault::Unencoded),
        }
    }
}

fn escaped(escape: &[u8]) -> Option<u8> {
    let &[_, high, low] = escape else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 §3.3 without escapes, and `/`.
const fn is_path_character(byte: u8) -> bool {
    let is_sub_delimiter = matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    );
    is_unreserved(byte) || is_sub_delimiter || matches!(byte, b':' | b'@' | b'/')
}

/// `.` and `..`: also as servlet containers read them, which cut `;parameters` off before they resolve dots, and as those
/// read them who decode more than once, to whom `%252e` is a dot and `%252f` a slash.
fn is_dot_segment(segment: &str) -> bool {
    if !segment.starts_with(['.', '%']) {
        return false;
    }
    let mut decoded = Cow::Borrowed(segment);
    while decoded.contains("%25") {
        decoded = Cow::Owned(decoded.replace("%25", "%"));
    }
    let dot = |text: &str| -> Option<usize> {
        if text.starts_with('.') {
            return Some(1);
        }
        text.get(..3)
            .filter(|escape| escape.eq_ignore_ascii_case("%2e"))
            .map(str::len)
    };
    let Some(rest) = dot(&decoded).and_then(|length| decoded.get(length..)) else {
        return false;
    };
    let rest = dot(rest).and_then(|length| rest.get(length..)).unwrap_or(rest);
    let ends = |text: &str| {
        rest.get(..text.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(text))
    };
    rest.is_empty() || [";", "%3B", "%2F", "%5C"].into_iter().any(ends)
}

/// The host of an authority (`Host`, `:authority`): lower case, without port and one trailing dot; IPv6 literals in their
/// shortest form, in brackets. Borrows where nothing changes but what is cut off.
pub fn normalise_host(authority: &str) -> Result<Cow<'_, str>, HostFault> {
    if let Some(host) = plain_host(authority) {
        return Ok(Cow::Borrowed(host));
    }
    if authority.contains('@') {
        return Err(HostFault::UserInfo);
    }
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (literal, port) = bracketed.split_once(']').ok_or(HostFault::Malformed)?;
        match port.strip_prefix(':') {
            Some(port) => check_port(port)?,
            None if port.is_empty() => {}
            None => return Err(HostFault::Malformed),
        }
        let address: Ipv6Addr = literal.parse().map_err(|_| HostFault::Malformed)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    let host = match authority.split_once(':') {
        Some((host, port)) => {
            check_port(port)?;
            host
        }
        None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(HostFault::Empty);
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err(HostFault::Malformed);
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Owned(host.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(host))
}

/// The host, where it is short, lower-case labels and dots with or without a port: what most requests say, known after one look
/// at each byte.
fn plain_host(authority: &str) -> Option<&str> {
    let mut before = b'.';
    let mut end = authority.len();
    for (at, byte) in authority.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => {}
            b'.' if before != b'.' => {}
            b':' => {
                end = at;
                break;
            }
            _ => return None,
        }
        before = byte;
    }
    if before == b'.' || end > 63 {
        return None;
    }
    let port = authority.get(end..)?;
    let port = port.strip_prefix(':').unwrap_or(port);
    check_port(port).ok()?;
    authority.get(..end)
}

/// RFC 3986 §3.2.3 lets a port be empty.
fn check_port(port: &str) -> Result<(), HostFault> {
    let digits = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (port.is_empty() || port.parse::<u16>().is_ok()) {
        return Ok(());
    }
    Err(HostFault::Port)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(raw: &str) -> Result<String, PathFault> {
        normalise_path(raw.as_bytes()).map(Cow::into_owned)
    }

    #[test]
    fn brings_a_path_to_one_spelling() {
        for (raw, one) in [
            ("/", "/"),
            ("//", "/"),
            ("/a//b///", "/a/b/"),
            ("/%7euser/%41", "/~user/A"),
            ("/a%2d%2E%5f", "/a-._"),
            ("/%ed%95%9c", "/%ED%95%9C"),
            ("/100%25", "/100%25"),
            ("/%252ex/%2525/%252e%252e%252ex", "/%252ex/%2525/%252e%252e%252ex"),
            ("/a%3Ab:c", "/a%3Ab:c"),
            ("/{x}|^", "/%7Bx%7D%7C%5E"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a..b/.c", "/a..b/.c"),
        ] {
            assert_eq!(path(raw).as_deref(), Ok(one), "{raw}");
        }
    }

    #[test]
    fn refuses_paths_that_two_readers_read_differently() {
        for (raw, fault) in [
            ("", PathFault::NotAbsolute),
            ("a", PathFault::NotAbsolute),
            ("*", PathFault::NotAbsolute),
            ("http://h/", PathFault::NotAbsolute),
            ("/%", PathFault::BrokenEscape),
            ("/%4", PathFault::BrokenEscape),
            ("/%4g", PathFault::BrokenEscape),
            ("/%+1", PathFault::BrokenEscape),
            ("/a%2fb", PathFault::EncodedSlash),
            ("/a%2Fb", PathFault::EncodedSlash),
            ("/a\\b", PathFault::Backslash),
            ("/a%5cb", PathFault::Backslash),
            ("/%00", PathFault::Control),
            ("/%0d%0aX", PathFault::Control),
            ("/a b", PathFault::Space),
            ("/a\tb", PathFault::Control),
            ("/\u{7f}", PathFault::Control),
            ("/한", PathFault::Unencoded),
            ("/a?b", PathFault::Unencoded),
            ("/a#b", PathFault::Unencoded),
            ("/.", PathFault::DotSegment),
            ("/a/../b", PathFault::DotSegment),
            ("/a/%2e%2E/b", PathFault::DotSegment),
            ("/a/.%2e", PathFault::DotSegment),
            ("/a/./b", PathFault::DotSegment),
            ("/a/..;x/b", PathFault::DotSegment),
            ("/a/..%3bx/b", PathFault::DotSegment),
            ("/a/%252e%252e/b", PathFault::DotSegment),
            ("/a/%25252E./b", PathFault::DotSegment),
            ("/a/..%252fb", PathFault::DotSegment),
            ("/a/%c0%ae%c0%ae/b", PathFault::Overlong),
            ("/a/%C0%AFb", PathFault::Overlong),
            ("/a/%e0%80%ae/b", PathFault::Overlong),
            ("/a/%252e%255cb", PathFault::DotSegment),
        ] {
            assert_eq!(path(raw), Err(fault), "{raw}");
        }
    }

    #[test]
    fn borrows_what_is_normal_already() {
        for raw in ["/", "/customers/42/balance", "/%ED%95%9C/a%20b", "/.well-known/x;y=1"] {
            assert!(matches!(normalise_path(raw.as_bytes()), Ok(Cow::Borrowed(_))), "{raw}");
        }
        assert!(matches!(
            normalise_host("shop.example:8080"),
            Ok(Cow::Borrowed("shop.example"))
        ));
    }

    #[test]
    fn brings_a_host_to_one_spelling() {
        for (raw, one) in [
            ("Shop.Example", "shop.example"),
            ("shop.example.:443", "shop.example"),
            ("shop.example:", "shop.example"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[2001:DB8:0:0::1]:80", "[2001:db8::1]"),
            ("a_b.x", "a_b.x"),
        ] {
            assert_eq!(normalise_host(raw).as_deref(), Ok(one), "{raw}");
        }
    }

    #[test]
    fn refuses_hosts_that_name_none() {
        for (raw, fault) in [
            ("", HostFault::Empty),
            (".", HostFault::Empty),
            (":80", HostFault::Empty),
            ("a@b", HostFault::UserInfo),
            ("a:b", HostFault::Port),
            ("a:99999", HostFault::Port),
            ("a:+1", HostFault::Port),
            ("a:1:2", HostFault::Port),
            ("::1", HostFault::Port),
            ("[::1", HostFault::Malformed),
            ("[::1]x", HostFault::Malformed),
            ("[fe80::1%eth0]", HostFault::Malformed),
            ("a..b", HostFault::Malformed),
            ("a..", HostFault::Malformed),
            ("a/b", HostFault::Malformed),
            ("a b", HostFault::Malformed),
            ("a%41", HostFault::Malformed),
            ("한.kr", HostFault::Malformed),
        ] {
            assert_eq!(normalise_host(raw), Err(fault), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn a_second_reading_changes_nothing(raw in "/(%[0-9a-fA-F]{2}|[ -~]|/|\\.){0,24}") {
            if let Ok(once) = path(&raw) {
                let twice = normalise_path(once.as_bytes()).unwrap();
                prop_assert!(matches!(twice, Cow::Borrowed(_)), "{once}");
                prop_assert_eq!(&*twice, &*once);
                prop_assert!(!once.contains("//") && !once.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..40), host in "\\PC{0,40}") {
            let _ = normalise_path(&raw);
            if let Ok(once) = normalise_host(&host) {
                prop_assert_eq!(normalise_host(&once).unwrap(), once.clone());
            }
        }
    }
}
