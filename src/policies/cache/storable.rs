//! What a shared cache may keep and serve (RFC 9111): pure decisions on headers.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use crate::engine::{CacheRule, Share};

/// Lifetimes beyond a year say nothing more, and keep arithmetic in range.
const MAX_SECONDS: u64 = 366 * 86_400;
/// An answer that varies on more headers is not kept.
const MAX_VARY: usize = 16;

/// Why the cache is not asked, or an answer not kept. The word stands in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not GET or HEAD.
    Method,
    /// The request has a body or asks for another protocol.
    Body,
    /// The request has conditions that a cache cannot judge (`If-Match`, `If-Unmodified-Since`).
    Condition,
    /// `no-store` in the request.
    RequestNoStore,
    /// A status that is not kept, 206 above all.
    Status,
    /// `no-store` in the answer.
    NoStore,
    /// `no-cache` in the answer: it would have to be asked about each time.
    NoCache,
    /// `private`, and entries are shared by everybody.
    Private,
    /// The request carried `Authorization`, and the answer does not say that it may be shared (RFC 9111 §3.5).
    Authorization,
    /// `Set-Cookie`.
    SetCookie,
    /// `Vary: *`, or too many headers.
    Vary,
    /// Neither the origin nor the route says how long it stays fresh.
    NoLifetime,
    /// Stale already.
    Stale,
}

impl Reason {
    /// Kebab-case.
    pub fn word(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Body => "body",
            Self::Condition => "condition",
            Self::RequestNoStore => "request-no-store",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::NoCache => "no-cache",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::NoLifetime => "no-lifetime",
            Self::Stale => "stale",
        }
    }
}

/// What a request lets the cache do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lookup {
    /// A stored answer may only be served after the origin has confirmed it.
    pub no_cache: bool,
    /// 504 rather than a request to the origin.
    pub only_if_cached: bool,
    /// Answers older than this are not wanted.
    pub max_age: Option<Duration>,
    /// Answers must stay fresh for so long.
    pub min_fresh: Option<Duration>,
}

impl Lookup {
    /// What the request lets the cache do, or why it is left out altogether.
    pub fn of(method: &Method, headers: &HeaderMap) -> Result<Self, Reason> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Reason::Method);
        }
        let empty = |name| headers.get(name).is_none_or(|value: &http::HeaderValue| value == "0");
        if !empty(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING)
            || headers.contains_key(header::UPGRADE)
        {
            return Err(Reason::Body);
        }
        if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_UNMODIFIED_SINCE) {
            return Err(Reason::Condition);
        }
        let control = Directives::of(headers);
        if control.has("no-store") {
            return Err(Reason::RequestNoStore);
        }
        let pragma = || {
            headers
                .get(header::PRAGMA)
                .is_some_and(|value| mentions(value, "no-cache"))
        };
        Ok(Self {
            no_cache: control.has("no-cache") || control.is_empty() && pragma(),
            only_if_cached: control.has("only-if-cached"),
            max_age: control.seconds("max-age"),
            min_fresh: control.seconds("min-fresh"),
        })
    }

    /// Whether a stored answer of this `age`, fresh for `left` more, may be served without asking the origin.
    pub fn is_served_by(&self, age: Duration, left: Duration) -> bool {
        !self.no_cache
            && !left.is_zero()
            && self.max_age.is_none_or(|max_age| age <= max_age)
            && self.min_fresh.is_none_or(|min_fresh| left >= min_fresh)
    }
}

/// How long an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How long it stays fresh from now on; its age is subtracted.
    pub left: Duration,
    /// How old it is already.
    pub age: Duration,
    /// How long after that it may be served while a new one is fetched (RFC 5861 §3).
    pub stale_while_revalidate: Duration,
    /// How long after that it may be served while the origin fails (RFC 5861 §4).
    pub stale_if_error: Duration,
}

/// How long an answer may be kept, or why not at all. `authorized`: the request to the origin carried `Authorization`.
pub fn freshness(
    rule: &CacheRule,
    authorized: bool,
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<Freshness, Reason> {
    // The statuses that are final and whole; 206 would be replayed as the whole answer.
    if !matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    ) {
        return Err(Reason::Status);
    }
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Reason::Status);
    }
    if headers.contains_key(header::SET_COOKIE) {
        return Err(Reason::SetCookie);
    }
    varies_on(headers)?;
    let control = Directives::of(headers);
    if control.has("no-store") {
        return Err(Reason::NoStore);
    }
    if control.has("private") && rule.share == Share::Public {
        return Err(Reason::Private);
    }
    let pragma = || {
        headers
            .get(header::PRAGMA)
            .is_some_and(|value| mentions(value, "no-cache"))
    };
    if control.has("no-cache") || control.is_empty() && pragma() {
        return Err(Reason::NoCache);
    }
    let may_share = || {
        ["public", "s-maxage", "must-revalidate"]
            .into_iter()
            .any(|word| control.has(word))
    };
    if authorized && rule.share == Share::Public && !may_share() {
        return Err(Reason::Authorization);
    }
    let (lifetime, age) = lifetime(rule, status, headers, &control, now)?;
    let left = lifetime.saturating_sub(age);
    if left.is_zero() {
        return Err(Reason::Stale);
    }
    // RFC 9111 §4.2.4, §5.2.2.10: these forbid every stale answer, whatever RFC 5861 allows.
    let never_stale = ["must-revalidate", "proxy-revalidate", "s-maxage"]
        .into_iter()
        .any(|word| control.has(word));
    let stale = |word| match never_stale {
        true => Duration::ZERO,
        false => control.seconds(word).unwrap_or_default(),
    };
    Ok(Freshness {
        left,
        age,
        stale_while_revalidate: stale("stale-while-revalidate"),
        stale_if_error: stale("stale-if-error"),
    })
}

/// RFC 9111 §4.2.1 and §4.2.3: how long the answer is fresh in all, and how old it is.
fn lifetime(
    rule: &CacheRule,
    status: StatusCode,
    headers: &HeaderMap,
    control: &Directives<'_>,
    now: SystemTime,
) -> Result<(Duration, Duration), Reason> {
    let date = single(headers, &header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let age_value = single(headers, &header::AGE).and_then(seconds).unwrap_or_default();
    let apparent = date.and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    let age = apparent.max(age_value);
    if let Some(said) = control.seconds("s-maxage").or_else(|| control.seconds("max-age")) {
        return Ok((said, age));
    }
    if headers.contains_key(header::EXPIRES) {
        // What is no date, or stands there twice, is in the past (RFC 9111 §5.3).
        let expires = single(headers, &header::EXPIRES).and_then(|date| httpdate::parse_http_date(date).ok());
        let lifetime = expires.and_then(|expires| expires.duration_since(date.unwrap_or(now)).ok());
        return Ok((lifetime.unwrap_or_default().min(Duration::from_secs(MAX_SECONDS)), age));
    }
    // A route's `ttl` is meant for its answers, not for its failures.
    match rule.ttl {
        Some(ttl) if matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308) => Ok((ttl, age_value)),
        _ => Err(Reason::NoLifetime),
    }
}

/// The headers that the answer depends on, in lower case, sorted, each once. [`Reason::Vary`] for `*`.
pub fn varies_on(headers: &HeaderMap) -> Result<Vec<HeaderName>, Reason> {
    let mut names = Vec::new();
    for value in headers.get_all(header::VARY) {
        let value = value.to_str().map_err(|_| Reason::Vary)?;
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            // `*` reads as a header name, being a token.
            if name == "*" || names.len() > MAX_VARY {
                return Err(Reason::Vary);
            }
            names.push(name.parse::<HeaderName>().map_err(|_| Reason::Vary)?);
        }
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Ok(names)
}

/// The members of all `Cache-Control` lines.
struct Directives<'h>(Vec<(&'h str, Option<&'h str>)>);

impl<'h> Directives<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        let mut directives = Vec::new();
        for value in headers.get_all(header::CACHE_CONTROL) {
            match value.to_str() {
                Ok(text) => directives.extend(members(text)),
                // What cannot be read may be a prohibition.
                Err(_) => directives.push(("no-store", None)),
            }
        }
        Self(directives)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|(name, _)| name.eq_ignore_ascii_case(word))
    }

    /// The seconds of a directive; zero where they cannot be read, the least where it is repeated.
    fn seconds(&self, word: &str) -> Option<Duration> {
        let named = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(word));
        named
            .map(|(_, value)| value.and_then(seconds).unwrap_or_default())
            .min()
    }
}

/// The directives of one line with their values, unquoted. A comma within quotes ends nothing.
fn members(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut members = Vec::new();
    let mut quoted = false;
    let pieces = text.split(|c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    for piece in pieces {
        let (name, value) = match piece.split_once('=') {
            Some((name, value)) => (name, Some(value.trim().trim_matches('"'))),
            None => (piece, None),
        };
        if !name.trim().is_empty() {
            members.push((name.trim(), value));
        }
    }
    members
}

/// Delta seconds (RFC 9111 §1.2.2), cut to a year.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(
        text.parse().unwrap_or(MAX_SECONDS).min(MAX_SECONDS),
    ))
}

/// A header's text where it stands there once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

fn mentions(value: &http::HeaderValue, word: &str) -> bool {
    let text = value.to_str().unwrap_or("");
    text.split(',').any(|member| member.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: u64 = 1_900_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn date(offset: i64) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.checked_add_signed(offset).unwrap()))
    }

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn rule(share: Share, ttl: Option<u64>) -> CacheRule {
        CacheRule {
            route: "r".into(),
            ttl: ttl.map(Duration::from_secs),
            share,
        }
    }

    fn left(headers: &[(&str, &str)]) -> Result<u64, Reason> {
        let freshness = freshness(&rule(Share::Public, None), false, StatusCode::OK, &map(headers), now());
        freshness.map(|freshness| freshness.left.as_secs())
    }

    fn control(value: &str) -> Result<u64, Reason> {
        left(&[("cache-control", value)])
    }

    #[test]
    fn takes_the_lifetime_from_the_strongest_word() {
        assert_eq!(control("max-age=60"), Ok(60));
        assert_eq!(control("max-age=60, s-maxage=10"), Ok(10));
        assert_eq!(control("public, Max-Age=\"60\""), Ok(60));
        assert_eq!(control("max-age=60, max-age=5"), Ok(5));
        assert_eq!(control("max-age=99999999999999999999999"), Ok(MAX_SECONDS));
        assert_eq!(control("s-maxage=0, max-age=60"), Err(Reason::Stale));
        for unreadable in ["max-age=x", "max-age", "max-age=-1", "max-age=1.5", "max-age="] {
            assert_eq!(control(unreadable), Err(Reason::Stale), "{unreadable}");
        }
        assert_eq!(left(&[("expires", &date(30)), ("date", &date(0))]), Ok(30));
        assert_eq!(left(&[("expires", &date(30)), ("date", &date(-10))]), Ok(30));
        assert_eq!(left(&[("expires", &date(30))]), Ok(30));
        assert_eq!(left(&[("expires", &date(30)), ("cache-control", "max-age=5")]), Ok(5));
        assert_eq!(left(&[("expires", "0")]), Err(Reason::Stale));
        assert_eq!(
            left(&[("expires", &date(30)), ("expires", &date(40))]),
            Err(Reason::Stale)
        );
        assert_eq!(left(&[]), Err(Reason::NoLifetime));
    }

    #[test]
    fn subtracts_the_age() {
        assert_eq!(left(&[("cache-control", "max-age=60"), ("age", "50")]), Ok(10));
        assert_eq!(
            left(&[("cache-control", "max-age=60"), ("age", "120")]),
            Err(Reason::Stale)
        );
        assert_eq!(left(&[("cache-control", "max-age=60"), ("date", &date(-20))]), Ok(40));
        assert_eq!(
            left(&[("cache-control", "max-age=60"), ("date", &date(-20)), ("age", "30")]),
            Ok(30)
        );
        assert_eq!(left(&[("cache-control", "max-age=60"), ("date", &date(500))]), Ok(60));
        assert_eq!(
            left(&[("cache-control", "max-age=60"), ("age", "x"), ("date", "y")]),
            Ok(60)
        );
    }

    #[test]
    fn never_keeps_what_is_meant_for_one() {
        for value in [
            "no-store",
            "max-age=60, NO-STORE",
            "max-age=60,private",
            "private=\"x, y\", max-age=60",
        ] {
            assert!(control(value).is_err(), "{value}");
        }
        assert_eq!(control("no-cache, max-age=60"), Err(Reason::NoCache));
        assert_eq!(control("no-cache=\"set-cookie\", max-age=60"), Err(Reason::NoCache));
        // Within quotes it is a value, not a word.
        assert_eq!(control("ext=\"a, no-store\", max-age=60"), Ok(60));
        let fresh = ("cache-control", "public, max-age=60");
        assert_eq!(left(&[fresh, ("set-cookie", "a=b")]), Err(Reason::SetCookie));
        assert_eq!(left(&[fresh, ("vary", "accept, *")]), Err(Reason::Vary));
        assert_eq!(left(&[fresh, ("content-range", "bytes 0-1/2")]), Err(Reason::Status));
        assert_eq!(
            left(&[("pragma", "no-cache"), ("expires", &date(60))]),
            Err(Reason::NoCache)
        );
        let mut unreadable = map(&[fresh]);
        unreadable.append(header::CACHE_CONTROL, http::HeaderValue::from_bytes(b"\xff").unwrap());
        let kept = freshness(&rule(Share::Public, None), false, StatusCode::OK, &unreadable, now());
        assert_eq!(kept, Err(Reason::NoStore));
    }

    #[test]
    fn keeps_private_answers_only_apart_by_identity() {
        let headers = map(&[("cache-control", "private, max-age=60")]);
        let kept = |share| {
            freshness(&rule(share, None), true, StatusCode::OK, &headers, now()).map(|kept| kept.left.as_secs())
        };
        assert_eq!(kept(Share::Principal), Ok(60));
        assert_eq!(kept(Share::Public), Err(Reason::Private));
        for never in [("cache-control", "no-store"), ("set-cookie", "a=b")] {
            let headers = map(&[never]);
            assert!(freshness(&rule(Share::Principal, Some(9)), true, StatusCode::OK, &headers, now()).is_err());
        }
    }

    #[test]
    fn shares_authorized_answers_only_where_the_origin_says_so() {
        let kept = |value: &str| {
            let headers = map(&[("cache-control", value)]);
            freshness(&rule(Share::Public, None), true, StatusCode::OK, &headers, now()).map(|kept| kept.left.as_secs())
        };
        assert_eq!(kept("max-age=60"), Err(Reason::Authorization));
        assert_eq!(kept("max-age=60, public"), Ok(60));
        assert_eq!(kept("s-maxage=60"), Ok(60));
        assert_eq!(kept("max-age=60, must-revalidate"), Ok(60));
    }

    #[test]
    fn fills_in_the_routes_ttl_only_where_the_origin_is_silent() {
        let kept = |status: u16, headers: &[(&str, &str)]| {
            let status = StatusCode::from_u16(status).unwrap();
            freshness(&rule(Share::Public, Some(30)), false, status, &map(headers), now())
                .map(|kept| kept.left.as_secs())
        };
        assert_eq!(kept(200, &[]), Ok(30));
        assert_eq!(kept(200, &[("age", "10"), ("date", &date(-25))]), Ok(20));
        assert_eq!(kept(200, &[("cache-control", "max-age=5")]), Ok(5));
        assert_eq!(kept(200, &[("cache-control", "max-age=0")]), Err(Reason::Stale));
        assert_eq!(kept(404, &[]), Err(Reason::NoLifetime));
        assert_eq!(kept(404, &[("cache-control", "max-age=5")]), Ok(5));
        for never in [206, 302, 304, 307, 401, 403, 500, 502, 503] {
            assert_eq!(
                kept(never, &[("cache-control", "public, max-age=60")]),
                Err(Reason::Status),
                "{never}"
            );
        }
    }

    #[test]
    fn serves_stale_only_where_nothing_forbids_it() {
        let kept = |value: &str| {
            let headers = map(&[("cache-control", value)]);
            let kept = freshness(&rule(Share::Public, None), false, StatusCode::OK, &headers, now()).unwrap();
            (kept.stale_while_revalidate.as_secs(), kept.stale_if_error.as_secs())
        };
        assert_eq!(kept("max-age=1, stale-while-revalidate=5, stale-if-error=9"), (5, 9));
        assert_eq!(kept("max-age=1, stale-while-revalidate=5, must-revalidate"), (0, 0));
        assert_eq!(kept("s-maxage=1, stale-if-error=9"), (0, 0));
        assert_eq!(kept("max-age=1"), (0, 0));
    }

    #[test]
    fn leaves_requests_alone_that_a_cache_cannot_answer() {
        let of = |method: Method, headers: &[(&str, &str)]| Lookup::of(&method, &map(headers));
        assert_eq!(of(Method::GET, &[("content-length", "0")]), Ok(Lookup::default()));
        assert_eq!(of(Method::POST, &[]), Err(Reason::Method));
        assert_eq!(of(Method::GET, &[("content-length", "1")]), Err(Reason::Body));
        assert_eq!(of(Method::GET, &[("transfer-encoding", "chunked")]), Err(Reason::Body));
        assert_eq!(of(Method::GET, &[("upgrade", "websocket")]), Err(Reason::Body));
        assert_eq!(of(Method::GET, &[("if-match", "\"a\"")]), Err(Reason::Condition));
        assert_eq!(
            of(Method::HEAD, &[("cache-control", "no-store")]),
            Err(Reason::RequestNoStore)
        );
    }

    #[test]
    fn honours_what_the_request_asks_of_the_cache() {
        let of = |headers: &[(&str, &str)]| Lookup::of(&Method::GET, &map(headers)).unwrap();
        let second = Duration::from_secs;
        assert!(of(&[]).is_served_by(second(5), second(1)));
        assert!(!of(&[]).is_served_by(second(5), second(0)));
        assert!(!of(&[("cache-control", "no-cache")]).is_served_by(second(0), second(60)));
        assert!(!of(&[("pragma", "no-cache")]).is_served_by(second(0), second(60)));
        assert!(of(&[("pragma", "no-cache"), ("cache-control", "max-age=9")]).is_served_by(second(0), second(60)));
        assert!(of(&[("cache-control", "max-age=5")]).is_served_by(second(5), second(60)));
        assert!(!of(&[("cache-control", "max-age=5")]).is_served_by(second(6), second(60)));
        assert!(!of(&[("cache-control", "min-fresh=61")]).is_served_by(second(0), second(60)));
        assert!(of(&[("cache-control", "only-if-cached")]).only_if_cached);
    }

    #[test]
    fn lists_what_an_answer_varies_on() {
        let varies = |value: &str| {
            let names = varies_on(&map(&[("vary", value), ("vary", "Origin")]));
            names.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            varies("Accept-Language, ORIGIN,, Accept").unwrap(),
            "accept accept-language origin"
        );
        assert_eq!(varies("a b"), Err(Reason::Vary));
        let many = (0..40).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(",");
        assert_eq!(varies(&many), Err(Reason::Vary));
    }
}
