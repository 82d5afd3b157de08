//! Which routes stand beside the one that a request takes, and what decided between them: a linear scan, for people.

use std::cmp::Ordering;

use http::Method;

use super::{HostPattern, Match, Methods, Router, Segment, Template};
use crate::engine::Headers;

/// A route whose path a request matches, and that it does not take.
#[derive(Debug)]
pub struct Rival<'a, T> {
    /// What it matches.
    pub matched: &'a Match,
    /// The route.
    pub value: &'a T,
    /// Whether the request would take it if the one it takes were not there.
    pub fits: bool,
    /// What decided, in words: ``segment 2: `new` comes before `{id}` ``.
    pub because: String,
}

impl<T> Router<T> {
    /// The routes whose path the request matches but for the one it takes, the most specific first. Those that do not match in
    /// all are among them only where they would have come before the one that is `taken`. Arguments as of
    /// [`find`](Self::find).
    pub fn rivals<'a>(
        &'a self,
        taken: Option<&'a T>,
        method: &Method,
        host: &str,
        path: &str,
        headers: &dyn Headers,
    ) -> Vec<Rival<'a, T>> {
        let on_path = self.iter().filter(|(matched, _)| is_on(&matched.path, path));
        let on_path: Vec<_> = on_path.collect();
        let is_taken = |value: &T| taken.is_some_and(|taken| std::ptr::eq(taken, value));
        let winner = on_path
            .iter()
            .find(|(_, value)| is_taken(value))
            .map(|(match_, _)| *match_);
        let mut rivals: Vec<Rival<'a, T>> = Vec::new();
        for (matched, value) in on_path.into_iter().filter(|(_, value)| !is_taken(value)) {
            let failing = failing(matched, method, host, headers);
            let standing = winner.map(|winner| compare(winner, matched, method));
            let (fits, because) = match (failing, standing) {
                // What would have come behind anyway need not be told why else it was not taken.
                (Some(_), Some((Ordering::Less, _))) => continue,
                (Some(failing), _) => (false, failing),
                (None, Some((_, decided))) => (true, decided),
                (None, None) => continue,
            };
            rivals.push(Rival {
                matched,
                value,
                fits,
                because,
            });
        }
        rivals.sort_by(|one, other| compare(one.matched, other.matched, method).0);
        rivals
    }
}

/// Whether the path is one of the template's.
fn is_on(template: &Template, path: &str) -> bool {
    let mut rest = path.strip_prefix('/');
    for segment in template.segments() {
        let Some(remaining) = rest else {
            return false;
        };
        let (part, next) = match remaining.split_once('/') {
            Some((part, next)) => (part, Some(next)),
            None => (remaining, None),
        };
        match segment {
            Segment::Literal(text) if **text != *part => return false,
            Segment::Parameter if part.is_empty() => return false,
            Segment::Rest => return true,
            Segment::Literal(_) | Segment::Parameter => rest = next,
        }
    }
    rest.is_none()
}

/// On what, the path aside, the route does not match the request.
fn failing(matched: &Match, method: &Method, host: &str, headers: &dyn Headers) -> Option<String> {
    let is_host = match &matched.host {
        HostPattern::Any => true,
        HostPattern::Exact(exact) => **exact == *host,
        HostPattern::Under(suffix) => host.strip_suffix(&**suffix).is_some_and(|before| before.ends_with('.')),
    };
    if !is_host {
        return Some(format!("it is for {}", host_words(&matched.host)));
    }
    if let Some(condition) = matched.headers.iter().find(|condition| !condition.holds(headers)) {
        let values: Vec<String> = condition.values.iter().map(|value| format!("`{value}`")).collect();
        return Some(format!("it wants `{}` to be {}", condition.name, values.join(" or ")));
    }
    match (&matched.methods, matched.methods.fit(method)) {
        (Methods::Listed(listed), None) => {
            let listed: Vec<&str> = listed.iter().map(Method::as_str).collect();
            Some(format!("it takes {}", listed.join(", ")))
        }
        _ => None,
    }
}

/// Which of two routes on one path comes first, and what decides that.
fn compare(one: &Match, other: &Match, method: &Method) -> (Ordering, String) {
    let segments = one.path.segments().iter().zip(other.path.segments());
    let kind = |segment: &Segment| match segment {
        Segment::Literal(_) => 0,
        Segment::Parameter => 1,
        Segment::Rest => 2,
    };
    for (at, (this, that)) in segments.enumerate() {
        let order = kind(this).cmp(&kind(that));
        if order.is_ne() {
            let part = |template: &Template| template.text().split('/').nth(at + 1).unwrap_or_default().to_owned();
            let words = between(order, &part(&one.path), &part(&other.path));
            return (order, format!("segment {}: {words}", at + 1));
        }
    }
    // An exact host before the longer of two endings before any.
    let host = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(_) => 0,
        HostPattern::Under(suffix) => usize::MAX - 1 - suffix.split('.').count(),
        HostPattern::Any => usize::MAX,
    };
    let order = host(&one.host).cmp(&host(&other.host));
    if order.is_ne() {
        let words = [&one.host, &other.host].map(host_words);
        let [first, second] = sorted(order, words);
        return (order, format!("host: {first} comes before {second}"));
    }
    let order = other.headers.len().cmp(&one.headers.len());
    if order.is_ne() {
        let counts = [one, other].map(|matched| matched.headers.len().to_string());
        let [first, second] = sorted(order, counts);
        return (order, format!("headers: {first} conditions come before {second}"));
    }
    let order = other.methods.fit(method).cmp(&one.methods.fit(method));
    let words = [one, other].map(|matched| match matched.methods.fit(method) {
        Some(2) => format!("`{method}` by its name"),
        Some(1) => format!("`{method}` after `GET`"),
        _ => "any method".to_owned(),
    });
    let [first, second] = sorted(order, words);
    (order, format!("method: {first} comes before {second}"))
}

fn between(order: Ordering, one: &str, other: &str) -> String {
    let [first, second] = sorted(order, [one, other]);
    format!("`{first}` comes before `{second}`")
}

fn sorted<T>(order: Ordering, [one, other]: [T; 2]) -> [T; 2] {
    match order {
        Ordering::Greater => [other, one],
        Ordering::Less | Ordering::Equal => [one, other],
    }
}

fn host_words(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "any host".to_owned(),
        HostPattern::Exact(host) => format!("host `{host}`"),
        HostPattern::Under(suffix) => format!("hosts `*.{suffix}`"),
    }
}
