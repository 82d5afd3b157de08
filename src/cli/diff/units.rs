//! The requests that stand for what the routes of two configurations match.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::{HeaderName, Method};

use super::axes::{self, About, Choice};
use super::meets::meets;
use super::sides::Side;
use crate::routing::{HostPattern, Match, Methods, Segment, Template};
use crate::snapshot::Asked;

/// What is tried where a match names no method.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// A request that a match takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub method: Method,
    pub host: String,
    pub path: String,
    /// What the match demands.
    pub headers: Vec<(HeaderName, String)>,
    /// The rest of the request line as the match writes it.
    pub shown: String,
}

/// The requests of one route, in both configurations where both have one of that name.
#[derive(Debug)]
pub(super) struct Unit {
    pub name: Arc<str>,
    pub variants: Vec<Variant>,
}

impl Variant {
    /// The request, with nothing to it but what the match demands.
    pub fn asked(&self) -> anyhow::Result<Asked> {
        let choice = Choice::Request(self.clone());
        axes::asked([(&About::Request, &choice)].into_iter())
    }

    /// As one would write it.
    pub fn words(&self) -> String {
        format!("{} {}", self.method, self.shown)
    }
}

/// The requests of all routes, and whether there are more. None stands in two units, which a new route that takes another's
/// requests would make of it.
pub(super) fn units(sides: &[Side<'_>; 2]) -> (Vec<Unit>, bool) {
    let matches = || sides.iter().flat_map(|side| side.snapshot.router.iter());
    let word = free_word(matches().map(|(matched, _)| &matched.path));
    let mut methods = METHODS.to_vec();
    let rules = matches().flat_map(|(_, route)| &route.rules);
    let named = rules.flat_map(|rule| super::sides::mentions_of(rule).methods);
    let listed = matches().flat_map(|(matched, _)| match &matched.methods {
        Methods::Listed(listed) => listed.to_vec(),
        Methods::Any => Vec::new(),
    });
    for method in named.chain(listed) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    let mut units: Vec<Unit> = Vec::new();
    let mut places = HashMap::new();
    let mut seen = HashSet::new();
    for (matched, route) in matches() {
        let variants = variants(matched, &methods, &word);
        let fresh: Vec<Variant> = variants
            .into_iter()
            .filter(|one| {
                seen.insert((
                    one.method.clone(),
                    one.host.clone(),
                    one.path.clone(),
                    one.headers.clone(),
                ))
            })
            .collect();
        let at = *places.entry(route.name.clone()).or_insert(units.len());
        match units.get_mut(at) {
            Some(unit) => unit.variants.extend(fresh),
            None => units.push(Unit {
                name: route.name.clone(),
                variants: fresh,
            }),
        }
    }
    let is_cut = add_meets(&mut units, sides, &methods, &word);
    (units, is_cut)
}

/// Adds requests that two matches take where they go otherwise than all others do; whether there may be more.
fn add_meets(units: &mut Vec<Unit>, sides: &[Side<'_>; 2], methods: &[Method], word: &str) -> bool {
    let [now, next] = sides;
    if is_routed_alike(now, next) {
        return false;
    }
    let ways = |variant: &Variant| {
        let asked = variant.asked().ok()?;
        let name = |side: &Side<'_>| side.taken(&asked).map(|(name, _)| name.clone());
        Some((variant.method.clone(), name(now), name(next)))
    };
    let base = units.iter().flat_map(|unit| &unit.variants);
    let mut known: HashSet<_> = base.filter_map(ways).collect();
    let (met, is_cut) = meets(
        sides
            .iter()
            .flat_map(|side| side.snapshot.router.iter())
            .map(|(matched, _)| matched),
    );
    let mut more: Vec<([Option<Arc<str>>; 2], Unit)> = Vec::new();
    for variant in met.iter().flat_map(|matched| variants(matched, methods, word)) {
        let Some((method, from, to)) = ways(&variant) else {
            continue;
        };
        let Some(name) = to.clone().or(from.clone()) else {
            continue;
        };
        if !known.insert((method, from.clone(), to.clone())) {
            continue;
        }
        let pair = [from, to];
        match more.iter_mut().find(|(known, _)| *known == pair) {
            Some((_, unit)) => unit.variants.push(variant),
            None => more.push((
                pair,
                Unit {
                    name,
                    variants: vec![variant],
                },
            )),
        }
    }
    units.extend(more.into_iter().map(|(_, unit)| unit));
    is_cut
}

/// Whether every request takes routes of the same name and the same rules, so that where it goes makes no difference.
fn is_routed_alike(now: &Side<'_>, next: &Side<'_>) -> bool {
    let routes = |side: &Side<'_>| -> HashMap<Arc<str>, String> {
        let routes = side.snapshot.router.iter();
        let written = |matched: &Match| {
            let Match {
                host,
                path,
                methods,
                headers,
                ..
            } = matched;
            format!("{host:?} {:?} {methods:?} {headers:?}", path.segments())
        };
        routes
            .map(|(matched, route)| (route.name.clone(), written(matched)))
            .collect()
    };
    let (before, after) = (routes(now), routes(next));
    before == after
}

/// A segment that no template spells out, so that it is a parameter's value everywhere.
fn free_word<'t>(templates: impl Iterator<Item = &'t Template>) -> String {
    let literals: HashSet<&str> = templates
        .flat_map(|template| template.segments())
        .filter_map(|segment| match segment {
            Segment::Literal(text) => Some(&**text),
            Segment::Parameter | Segment::Rest => None,
        })
        .collect();
    let mut word = "any".to_owned();
    while literals.contains(word.as_str()) {
        word.push('y');
    }
    word
}

fn variants(matched: &Match, any: &[Method], word: &str) -> Vec<Variant> {
    let methods: Vec<Method> = match &matched.methods {
        Methods::Any => any.to_vec(),
        Methods::Listed(listed) if listed.contains(&Method::GET) && !listed.contains(&Method::HEAD) => {
            listed.iter().cloned().chain([Method::HEAD]).collect()
        }
        Methods::Listed(listed) => listed.to_vec(),
    };
    let (host, shown_host) = match &matched.host {
        HostPattern::Any => (format!("{word}.invalid"), String::new()),
        HostPattern::Exact(host) => (host.to_string(), host.to_string()),
        HostPattern::Under(suffix) => (format!("{word}.{suffix}"), format!("*.{suffix}")),
    };
    let deep = format!("{word}/{word}");
    let rest: &[&str] = match matched.path.segments().last() {
        Some(Segment::Rest) => &[word, &deep, ""],
        _ => &[word],
    };
    let last = matched.path.names().last().cloned();
    let paths = rest.iter().filter_map(|rest| {
        let is_last = |name: &str| last.as_deref() == Some(name);
        matched
            .path
            .expand(|name| Some(if is_last(name) { *rest } else { word }))
    });
    let paths: Vec<String> = paths.collect();
    let mut variants = Vec::new();
    for (headers, with) in headers(matched) {
        for path in &paths {
            variants.extend(methods.iter().map(|method| Variant {
                method: method.clone(),
                host: host.clone(),
                path: path.clone(),
                headers: headers.clone(),
                shown: format!("{shown_host}{}{with}", matched.path),
            }));
        }
    }
    variants
}

/// Headers that meet the conditions, each value of each condition once, with words where there is a choice.
fn headers(matched: &Match) -> Vec<(Vec<(HeaderName, String)>, String)> {
    let conditions = &matched.headers;
    let most = conditions
        .iter()
        .map(|condition| condition.values.len())
        .max()
        .unwrap_or(1);
    let one = |at: usize| {
        let mut with = String::new();
        let mut headers = Vec::new();
        for condition in conditions {
            let value = condition.values.get(at).or(condition.values.first());
            let value = value.map(ToString::to_string).unwrap_or_default();
            with.push_str(&format!(" with {}: {value}", condition.name));
            headers.push((condition.name.clone(), value));
        }
        (headers, with)
    };
    (0..most).map(one).collect()
}
