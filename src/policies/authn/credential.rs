//! Where a caller's token or API key stands, and how it is found and taken away there.
//!
//! A request brings one token. A header or a query parameter was put there on purpose, a cookie comes along by itself: so
//! a header beats a cookie, and anything else of which there are two is refused (RFC 6750 §2).
//!
//! Where a route takes tokens and keys, the order of its places says which of them counts where a request brings both; the
//! other is not looked at. Each header for keys is a kind of its own; a key in the query stands beside no other. A certificate
//! stands in no place at all: it counts where nothing stands in a place that the route names before it.

use std::borrow::Cow;

use http::{HeaderName, header};
use percent_encoding::percent_decode_str;

use crate::engine::RequestView;

/// A place that a token may stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
    Authorization,
    /// Another header, whose whole value is the token.
    Header(HeaderName),
    /// The cookie of that name.
    Cookie(Box<str>),
    /// The query parameter of that name (RFC 6750 §2.3).
    Query(Box<str>),
    /// A header whose whole value is an API key.
    KeyHeader(HeaderName),
    /// The query parameter of that name, whose value is an API key.
    KeyQuery(Box<str>),
    /// The handshake of the connection.
    Certificate,
}

/// What a request brings to prove who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing.
    Absent,
    /// What may be a token.
    Token {
        /// As sent.
        token: &'a str,
        /// The index of the source it stood in.
        source: usize,
    },
    /// The certificate of the connection.
    Certificate {
        /// The index of its source.
        source: usize,
    },
    /// More than one.
    Repeated,
    /// An `Authorization` of another scheme, or one that nothing here asks for, or what cannot be a token.
    Unreadable,
}

/// What stands at one source.
enum Found<'a> {
    Nothing,
    One(&'a [u8]),
    Many,
}

impl<'a> Credential<'a> {
    /// Looks for a token at the `sources` of a route.
    pub fn of(request: &RequestView<'a>, sources: &[Source]) -> Self {
        if let Some(word) = request.headers.credential() {
            return Self::told(word, sources);
        }
        // Somebody means to be known by it, and nobody here can tell.
        if !sources.contains(&Source::Authorization) && request.headers.first(&header::AUTHORIZATION).is_some() {
            return Self::Unreadable;
        }
        if let Some(source) = Self::certificate(request, sources) {
            return Self::Certificate { source };
        }
        let on_purpose = |source: &&Source| {
            let is_put = !matches!(source, Source::Cookie(_));
            is_put && !matches!(source.find(request), Found::Nothing)
        };
        let has_keys = sources.iter().any(Source::is_of_keys);
        match has_keys && sources.iter().find(on_purpose).is_some_and(Source::is_of_keys) {
            true => Self::key(request, sources),
            false => Self::token(request, sources),
        }
    }

    /// The place of the certificate among the `sources`, where one was shown and nothing stands before it.
    fn certificate(request: &RequestView<'a>, sources: &[Source]) -> Option<usize> {
        request.headers.certificate()?;
        let at = sources.iter().position(|source| *source == Source::Certificate)?;
        let mut before = sources.iter().take(at);
        before
            .all(|source| matches!(source.find(request), Found::Nothing))
            .then_some(at)
    }

    /// The first key.
    fn key(request: &RequestView<'a>, sources: &[Source]) -> Self {
        let keys = sources.iter().enumerate().filter(|(_, source)| source.is_of_keys());
        let mut found = keys.filter_map(|(at, source)| match source.find(request) {
            Found::Nothing => None,
            Found::Many => Some((source, Self::Repeated)),
            Found::One(value) => {
                let key = source.read(value);
                Some((
                    source,
                    key.map_or(Self::Unreadable, |token| Self::Token { token, source: at }),
                ))
            }
        });
        let Some((first, key)) = found.next() else {
            return Self::Absent;
        };
        let is_query = |source: &Source| matches!(source, Source::KeyQuery(_));
        match found.any(|(other, _)| is_query(first) || is_query(other)) {
            true => Self::Repeated,
            false => key,
        }
    }

    /// The one token.
    fn token(request: &RequestView<'a>, sources: &[Source]) -> Self {
        let (mut put, mut carried) = (Self::Absent, Self::Absent);
        let mut is_header = false;
        for (at, source) in sources.iter().enumerate().filter(|(_, source)| source.is_of_tokens()) {
            let found = match source.find(request) {
                Found::Nothing => continue,
                Found::Many => Self::Repeated,
                Found::One(value) => source
                    .read(value)
                    .map_or(Self::Unreadable, |token| Self::Token { token, source: at }),
            };
            let place = match source {
                Source::Cookie(_) => &mut carried,
                Source::Authorization | Source::Header(_) => {
                    is_header = true;
                    &mut put
                }
                _ => &mut put,
            };
            *place = match place {
                Self::Absent => found,
                _ => Self::Repeated,
            };
        }
        match (put, carried) {
            (Self::Absent, carried) => carried,
            (put, Self::Absent) => put,
            (put, _) if is_header => put,
            _ => Self::Repeated,
        }
    }

    /// The credential that a record or an assumption tells of by its word.
    fn told(word: &str, sources: &[Source]) -> Self {
        match word {
            "absent" => Self::Absent,
            "repeated" => Self::Repeated,
            "unreadable" => Self::Unreadable,
            // Seen on no route that does not ask for it.
            "certificate" if !sources.contains(&Source::Certificate) => Self::Absent,
            word => Self::Token {
                token: "told",
                source: sources.iter().position(|source| source.word() == word).unwrap_or(0),
            },
        }
    }

    /// The word in records; `sources` are those it was found with.
    pub fn word(self, sources: &[Source]) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Token { source, .. } => sources.get(source).map_or("bearer", Source::word),
            Self::Certificate { .. } => "certificate",
            Self::Repeated => "repeated",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Source {
    /// The word in records for a token that stood here.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Authorization => "bearer",
            Self::Header(_) => "header",
            Self::Cookie(_) => "cookie",
            Self::Query(_) => "query",
            Self::KeyHeader(_) | Self::KeyQuery(_) => "key",
            Self::Certificate => "certificate",
        }
    }

    /// Whether API keys stand here, and not tokens.
    pub fn is_of_keys(&self) -> bool {
        matches!(self, Self::KeyHeader(_) | Self::KeyQuery(_))
    }

    /// Whether tokens stand here, and neither keys nor certificates.
    pub fn is_of_tokens(&self) -> bool {
        !self.is_of_keys() && *self != Self::Certificate
    }

    /// Whether the same place is one for keys here and one for tokens there.
    pub(super) fn clashes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(token), Self::KeyHeader(key)) | (Self::KeyHeader(key), Self::Header(token)) => token == key,
            (Self::Query(token), Self::KeyQuery(key)) | (Self::KeyQuery(key), Self::Query(token)) => token == key,
            _ => false,
        }
    }

    fn find<'a>(&self, request: &RequestView<'a>) -> Found<'a> {
        let header = |name: &HeaderName| match request.headers.first(name) {
            None => Found::Nothing,
            Some(_) if request.headers.is_repeated(name) => Found::Many,
            Some(value) => Found::One(value),
        };
        match self {
            Self::Authorization => header(&header::AUTHORIZATION),
            Self::Header(name) | Self::KeyHeader(name) => header(name),
            Self::Cookie(name) => {
                let lines = request.headers.all(&header::COOKIE);
                one(lines
                    .into_iter()
                    .flat_map(|line| line.split(|byte| *byte == b';'))
                    .filter_map(|pair| cookie_value(pair, name)))
            }
            Self::Query(name) | Self::KeyQuery(name) => one(request
                .query
                .split('&')
                .filter_map(|pair| query_value(pair, name))
                .map(str::as_bytes)),
            Self::Certificate => Found::Nothing,
        }
    }

    fn read<'a>(&self, value: &'a [u8]) -> Option<&'a str> {
        match self {
            Self::Authorization => bearer(value),
            Self::Header(_) | Self::Cookie(_) | Self::Query(_) | Self::KeyQuery(_) => {
                token(std::str::from_utf8(value).ok()?)
            }
            Self::KeyHeader(_) => std::str::from_utf8(value).ok().filter(|key| can_be_sent(key)),
            Self::Certificate => None,
        }
    }
}

fn one<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Found<'a> {
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some(value), None) => Found::One(value),
        (Some(_), Some(_)) => Found::Many,
    }
}

/// The token of `Bearer b64token` (RFC 6750 §2.1).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, rest) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token(rest.trim_matches(' ')))?
}

/// Whether the caller sent an `Authorization` that is none of a token, `Basic` for instance: it does not know yet what is
/// asked for, and is not told of an error (RFC 6750 §3.1).
pub fn is_of_another_scheme(request: &RequestView<'_>) -> bool {
    let of_tokens = |value: &[u8]| {
        let scheme = value.split(|byte| !byte.is_ascii_alphanumeric()).next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
    };
    let sent = request.headers.first(&header::AUTHORIZATION);
    sent.is_some_and(|value| !of_tokens(value))
}

/// The text, if it could be a token (`b64token`).
fn token(text: &str) -> Option<&str> {
    // Without a branch for each letter, which the compiler turns into 0.1 ns a letter instead of 1.6: every request pays it.
    let odd = text.bytes().fold(0, |odd, byte| odd | u8::from(!is_letter(byte)));
    (!text.is_empty() && odd == 0).then_some(text)
}

fn is_letter(byte: u8) -> bool {
    let is_alphabetic = (byte | 0x20).wrapping_sub(b'a') < 26;
    // `-`, `.`, `/` and the digits.
    let is_between = byte.wrapping_sub(b'-') <= b'9' - b'-';
    is_alphabetic | is_between | (byte == b'_') | (byte == b'~') | (byte == b'+') | (byte == b'=')
}

/// Whether an API key could be so written: visible ASCII, not endless.
pub(super) fn can_be_sent(key: &str) -> bool {
    const MAX_KEY: usize = 512;
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The value of the pair (RFC 6265 §4.2.1) if it is the cookie of that name.
fn cookie_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pair = pair.trim_ascii();
    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let (key, value) = pair.split_at_checked(at)?;
    (key.trim_ascii() == name.as_bytes()).then(|| value.strip_prefix(b"=").unwrap_or_default().trim_ascii())
}

/// The value, as it is written, of the pair if it is the parameter of that name, however that is written.
fn query_value<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let is_named = key == name || (key.contains('%') && percent_decode_str(key).eq(name.bytes()));
    is_named.then_some(value)
}

/// A `Cookie` line without the cookies of these names; `None` where none is left.
pub fn without_cookies<'a>(line: &'a [u8], names: &[&str]) -> Option<Cow<'a, [u8]>> {
    let is_kept = |pair: &&[u8]| !names.iter().any(|name| cookie_value(pair, name).is_some());
    let pairs = || line.split(|byte| *byte == b';');
    if pairs().all(|pair| is_kept(&pair)) {
        return Some(Cow::Borrowed(line));
    }
    let kept: Vec<&[u8]> = pairs()
        .filter(is_kept)
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
        .collect();
    (!kept.is_empty()).then(|| Cow::Owned(kept.join(&b"; "[..])))
}

/// A query without the parameters of these names; `None` where there is none of them in it.
pub fn without_parameters(query: &str, names: &[&str]) -> Option<String> {
    let is_kept = |pair: &&str| !names.iter().any(|name| query_value(pair, name).is_some());
    if query.split('&').all(|pair| is_kept(&pair)) {
        return None;
    }
    Some(query.split('&').filter(is_kept).collect::<Vec<_>>().join("&"))
}

/// The parameters of these names alone.
pub fn only_parameters(query: &str, names: &[&str]) -> String {
    let is_named = |pair: &&str| names.iter().any(|name| query_value(pair, name).is_some());
    query.split('&').filter(is_named).collect::<Vec<_>>().join("&")
}

/// Whether a browser says, or may be taken to say, that another site made it send this: a cookie then proves nothing. The
/// methods that change nothing are not asked about, and what is no browser says nothing.
pub fn is_from_another_site(request: &RequestView<'_>) -> bool {
    if request.method.is_safe() {
        return false;
    }
    if request.headers.first(&SEC_FETCH_SITE).is_some() {
        let said = request.header(&SEC_FETCH_SITE);
        return !matches!(said, Some("same-origin" | "same-site" | "none"));
    }
    // Browsers from before 2023.
    let host = |origin: &str| Some(origin.parse::<http::Uri>().ok()?.host()?.to_ascii_lowercase());
    request.headers.first(&header::ORIGIN).is_some()
        && request.header(&header::ORIGIN).and_then(host).as_deref() != Some(request.host)
}

/// What [`is_from_another_site`] reads.
pub const SITE_HEADERS: [HeaderName; 2] = [SEC_FETCH_SITE, header::ORIGIN];
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::{HeaderMap, Method};
    use smallvec::SmallVec;

    use super::*;
    use crate::engine::Headers;

    struct Lines(HeaderMap);

    impl Headers for Lines {
        fn first(&self, name: &HeaderName) -> Option<&[u8]> {
            self.0.get(name).map(http::HeaderValue::as_bytes)
        }

        fn is_repeated(&self, name: &HeaderName) -> bool {
            self.0.get_all(name).iter().count() > 1
        }

        fn all(&self, name: &HeaderName) -> SmallVec<[&[u8]; 2]> {
            self.0.get_all(name).iter().map(http::HeaderValue::as_bytes).collect()
        }
    }

    fn lines(lines: &[&str]) -> Lines {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Lines(headers)
    }

    fn view<'a>(method: &'a Method, query: &'a str, headers: &'a Lines) -> RequestView<'a> {
        RequestView {
            method,
            host: "shop.example",
            path: "/",
            query,
            headers,
        }
    }

    fn found(sources: &[Source], query: &str, sent: &[&str]) -> String {
        let headers = lines(sent);
        match Credential::of(&view(&Method::GET, query, &headers), sources) {
            Credential::Token { token, source } => format!("{token} at {source}"),
            other => other.word(sources).to_owned(),
        }
    }

    #[test]
    fn finds_one_token_wherever_it_may_stand() {
        let all = [
            Source::Authorization,
            Source::Header("x-token".parse().unwrap()),
            Source::Cookie("t".into()),
            Source::Query("token".into()),
        ];
        let cases: &[(&str, &[&str], &str)] = &[
            ("", &[], "absent"),
            ("", &["authorization: Bearer a.b"], "a.b at 0"),
            ("", &["x-token: a.b"], "a.b at 1"),
            ("", &["x-token: Bearer a.b"], "unreadable"),
            ("", &["x-token: a", "x-token: a"], "repeated"),
            ("", &["cookie: u=1; t=a.b; v=2"], "a.b at 2"),
            ("", &["cookie: u=1;t=a.b"], "a.b at 2"),
            ("", &["cookie: u=1", "cookie: t=a.b"], "a.b at 2"),
            ("", &["cookie: u=1", "cookie: T=a.b; tt=1; xt=2"], "absent"),
            ("", &["cookie: t=a; t=a"], "repeated"),
            ("", &["cookie: t=a", "cookie: t=b"], "repeated"),
            ("", &["cookie: t="], "unreadable"),
            ("", &["cookie: t"], "unreadable"),
            ("", &["cookie: t=\"a.b\""], "unreadable"),
            ("token=a.b", &[], "a.b at 3"),
            ("x=1&token=a.b&y=2", &[], "a.b at 3"),
            ("%74oken=a.b", &[], "a.b at 3"),
            ("token=a&%74oken=b", &[], "repeated"),
            ("token=a&token=a", &[], "repeated"),
            ("token=a%2Eb", &[], "unreadable"),
            ("token=%ff", &[], "unreadable"),
            ("token", &[], "unreadable"),
            ("token=", &[], "unreadable"),
            ("Token=a&token%00=b&xtoken=c", &[], "absent"),
            // A browser sends its cookies whatever else is there.
            ("", &["authorization: Bearer a", "cookie: t=b"], "a at 0"),
            ("", &["x-token: a", "cookie: t=b; t=c"], "a at 1"),
            ("", &["authorization: Basic a", "cookie: t=b"], "unreadable"),
            ("token=a", &["authorization: Bearer a"], "repeated"),
            ("token=a", &["x-token: a"], "repeated"),
            ("token=a", &["cookie: t=a"], "repeated"),
            ("", &["authorization: Bearer a", "x-token: a"], "repeated"),
            ("", &["authorization: Basic a", "x-token: a"], "repeated"),
            ("token=a", &["authorization: Bearer a", "cookie: t=a"], "repeated"),
        ];
        for (query, sent, expected) in cases {
            assert_eq!(found(&all, query, sent), *expected, "{query} {sent:?}");
        }
        // What nobody asks for is not looked at, but for an Authorization.
        let cookie = &all[2..3];
        assert_eq!(found(cookie, "token=a", &["x-token: a", "cookie: t=b"]), "b at 0");
        assert_eq!(
            found(cookie, "", &["authorization: Bearer a", "cookie: t=b"]),
            "unreadable"
        );
        assert_eq!(found(&all[..1], "token=a", &["x-token: a", "cookie: t=b"]), "absent");
    }

    #[test]
    fn the_order_of_the_route_says_whether_a_key_or_a_token_counts() {
        let (bearer, cookie) = (Source::Authorization, Source::Cookie("t".into()));
        let key = Source::KeyHeader("x-api-key".parse().unwrap());
        let (other, query) = (
            Source::KeyHeader("x-other".parse().unwrap()),
            Source::KeyQuery("key".into()),
        );
        let both: &[&str] = &["authorization: Bearer a", "x-api-key: k"];
        let cases: &[(&[&Source], &str, &[&str], &str)] = &[
            (&[&key, &bearer], "", both, "k at 0"),
            (&[&bearer, &key], "", both, "a at 0"),
            (&[&key], "", both, "unreadable"),
            (
                &[&key, &bearer],
                "",
                &["authorization: Basic a", "x-api-key: k"],
                "k at 0",
            ),
            (
                &[&bearer, &key],
                "",
                &["authorization: Basic a", "x-api-key: k"],
                "unreadable",
            ),
            (
                &[&key, &bearer],
                "",
                &["authorization: Bearer a", "x-api-key: k", "x-api-key: k"],
                "repeated",
            ),
            (
                &[&key, &bearer],
                "",
                &["authorization: Bearer a", "x-api-key:  "],
                "unreadable",
            ),
            (
                &[&bearer, &key],
                "",
                &["authorization: Bearer a", "x-api-key: k", "x-api-key: k"],
                "a at 0",
            ),
            // A cookie comes along by itself.
            (&[&cookie, &key], "", &["cookie: t=a", "x-api-key: k"], "k at 1"),
            (&[&key, &cookie], "", &["cookie: t=a"], "a at 1"),
            (&[&cookie, &query], "key=k", &["cookie: t=a"], "k at 1"),
            // Each header is a kind of its own, and a parameter stands alone.
            (&[&key, &other], "", &["x-api-key: k", "x-other: o"], "k at 0"),
            (&[&other, &key], "", &["x-api-key: k", "x-other: o"], "o at 0"),
            (&[&key, &query], "key=k", &["x-api-key: k"], "repeated"),
            (&[&query, &key], "key=k", &["x-api-key: k"], "repeated"),
            (&[&query], "key=k&key=k", &[], "repeated"),
            (&[&query], "key=k%21", &[], "unreadable"),
            (&[&query], "key=", &[], "unreadable"),
            (&[&query], "Key=k", &[], "absent"),
            (
                &[&key],
                "",
                &["x-api-key: !\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\"],
                "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\ at 0",
            ),
            (&[&key], "", &["x-api-key: a b"], "unreadable"),
            (&[&key], "", &["x-api-key: a\tb"], "unreadable"),
            (&[&key], "", &["x-api-key: é"], "unreadable"),
            (&[&key], "", &["x-api-key2: k"], "absent"),
        ];
        for (sources, query, sent, expected) in cases {
            let sources: Vec<Source> = sources.iter().copied().cloned().collect();
            assert_eq!(found(&sources, query, sent), *expected, "{sources:?} {query} {sent:?}");
        }
        let long = |letters: usize| {
            let line = format!("x-api-key: {}", "k".repeat(letters));
            found(std::slice::from_ref(&key), "", &[line.as_str()])
        };
        assert_eq!((long(512).len(), &*long(513)), (517, "unreadable"));
    }

    #[test]
    fn knows_the_letters_of_a_token() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        assert!((0..=255).all(|byte| is_letter(byte) == plain(byte)));
    }

    #[test]
    fn takes_tokens_away() {
        let cookies = |line: &str| {
            let left = without_cookies(line.as_bytes(), &["t", "u"]);
            left.map(|line| String::from_utf8(line.into_owned()).unwrap())
        };
        assert_eq!(cookies("a=1; t=x; b=2;u=y ;c"), Some("a=1; b=2; c".into()));
        assert_eq!(cookies("a=1 ;b=\"t=x\";"), Some("a=1 ;b=\"t=x\";".into()));
        assert_eq!(cookies(" t=x;; u"), None);
        let query = |query: &str| without_parameters(query, &["t"]);
        assert_eq!(query("a=1&t=x&b=%20&%74=y&t"), Some("a=1&b=%20".into()));
        assert_eq!(query("t=x"), Some(String::new()));
        assert_eq!(query("a=1&tt=x"), None);
    }

    #[test]
    fn a_cookie_is_not_believed_for_what_another_site_sends() {
        let cross = |method: Method, sent: &[&str]| is_from_another_site(&view(&method, "", &lines(sent)));
        assert!(!cross(Method::GET, &["sec-fetch-site: cross-site"]));
        assert!(!cross(Method::POST, &[]));
        for (sent, expected) in [
            ("sec-fetch-site: same-origin", false),
            ("sec-fetch-site: same-site", false),
            ("sec-fetch-site: none", false),
            ("sec-fetch-site: cross-site", true),
            ("sec-fetch-site: CROSS", true),
            ("origin: https://shop.example", false),
            ("origin: https://SHOP.example:8443", false),
            ("origin: https://shop.example.evil", true),
            ("origin: https://evil.example", true),
            ("origin: null", true),
        ] {
            assert_eq!(cross(Method::POST, &[sent]), expected, "{sent}");
        }
        let both = ["sec-fetch-site: same-origin", "sec-fetch-site: same-origin"];
        assert!(cross(Method::DELETE, &both));
    }
}
