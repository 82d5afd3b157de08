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

/// Whether a request of this method, answered like this, makes what is stored for its URL useless (RFC 9111 §4.4).
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    !safe && (status.is_success() || status.is_redirection())
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
