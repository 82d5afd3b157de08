//! Which route a request takes: path × host × headers × method → `&T`. Pure, knows no policy.
//!
//! Among the routes that a request matches, these decide, in this order:
//!
//! 1. the path: segments compare left to right, literal before parameter before `{rest...}`;
//! 2. the host: exact before `*.` with more labels before `*.` with fewer before any;
//! 3. more header conditions before fewer;
//! 4. the method: named before HEAD that follows GET before any.
//!
//! Only routes that match in all four compete, so a less specific path is found where the more specific one fails on its
//! host, method or headers. Two routes tie, which is an error, only where one request can match both equally. A request
//! that fails on nothing but its method is told the methods that would do (405, RFC 9110 §15.5.6).
//!
//! The tree has one level for each segment, so that a look-up costs what the path's depth costs, not the number of routes.

mod matching;
mod normalise;
mod template;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use foldhash::fast::RandomState;
use http::{HeaderName, Method};
use smallvec::SmallVec;

use crate::conf::Load;
use crate::engine::{Headers, Params};

pub use matching::{HeaderCondition, HostPattern, Match, Methods};
pub use normalise::{HostFault, PathFault, normalise_host, normalise_path};
pub use template::{Segment, Template};

/// Finds the route of a request.
#[derive(Debug)]
pub struct Router<T> {
    root: Node,
    routes: Vec<Routed<T>>,
}

#[derive(Debug)]
struct Routed<T> {
    matched: Match,
    value: T,
}

/// What a request meets.
#[derive(Debug)]
pub enum Found<'a, T> {
    /// A route, with the parameters of its path.
    Route(&'a T, Params<'a>),
    /// Routes that would match another method.
    MethodNotAllowed(Allow),
    /// No route.
    NotFound,
}

/// The methods of a 405's `Allow`, sorted, HEAD with GET; displays as the header's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow(pub Vec<Method>);

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{method}")?;
        }
        Ok(())
    }
}

impl<T> Router<T> {
    /// Builds the router. Ties and routes that no request can reach go to `load` as errors with both places.
    pub fn new(routes: Vec<(Match, T)>, load: &Load) -> Self {
        let mut router = Self {
            root: Node::default(),
            routes: Vec::with_capacity(routes.len()),
        };
        for (matched, value) in routes {
            let place = &matched.place;
            let entry = Entry {
                route: router.routes.len(),
                methods: matched.methods.clone(),
                headers: matched.headers.clone(),
            };
            let leaf = router.root.leaf(matched.path.segments());
            if let Some(other) = leaf.insert(&matched.host, entry).and_then(|at| router.routes.get(at)) {
                load.error_with(
                    place,
                    format!(
                        "`{}` ties with another route: one request can match both equally",
                        matched.path
                    ),
                    &other.matched.place,
                    "the other route",
                );
            }
            router.routes.push(Routed { matched, value });
        }
        router.report_unreachable(&router.root, load);
        router
    }

    /// The route for a request: `host` and `path` normalised, the path without its query. For a CORS preflight, `method`
    /// is the one it asks about.
    pub fn find<'a>(&'a self, method: &Method, host: &str, path: &'a str, headers: &dyn Headers) -> Found<'a, T> {
        let Some(segments) = path.strip_prefix('/') else {
            return Found::NotFound;
        };
        let mut values = SmallVec::new();
        let mut found = None;
        self.root.walk(Some(segments), &mut values, &mut |leaf| {
            found = leaf.best(method, host, headers);
            found.is_some()
        });
        if let Some(route) = found.and_then(|at| self.routes.get(at)) {
            let names = route.matched.path.names();
            return Found::Route(&route.value, Params { names, values });
        }
        let mut allow: Vec<Method> = Vec::new();
        self.root.walk(Some(segments), &mut SmallVec::new(), &mut |leaf| {
            leaf.allowed(host, headers, &mut allow);
            false
        });
        if allow.is_empty() {
            return Found::NotFound;
        }
        if allow.contains(&Method::GET) {
            allow.push(Method::HEAD);
        }
        allow.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        allow.dedup();
        Found::MethodNotAllowed(Allow(allow))
    }

    /// The routes, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Match, &T)> {
        self.routes.iter().map(|route| (&route.matched, &route.value))
    }

    /// The headers that some route's match reads, sorted; the audit record keeps them.
    pub fn headers_read(&self) -> Vec<HeaderName> {
        let conditions = self.routes.iter().flat_map(|route| &route.matched.headers);
        let mut names: Vec<HeaderName> = conditions.map(|condition| condition.name.clone()).collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }

    /// A single route never hides another without tying with it, but what a `{rest...}` would match may be taken
    /// altogether by the routes for nothing, for one segment, and for more.
    fn report_unreachable(&self, node: &Node, load: &Load) {
        for at in node.rest.iter().flat_map(Leaf::entries) {
            let slash = node.literals.get("").and_then(|child| child.here.as_ref());
            let one = node.parameter.as_ref().and_then(|child| child.here.as_ref());
            let more = node.parameter.as_ref().and_then(|child| child.rest.as_ref());
            let Some(route) = self.routes.get(at).map(|route| &route.matched) else {
                continue;
            };
            let takes = |leaf: Option<&Leaf>| leaf.and_then(|leaf| leaf.entries().find(|at| self.includes(*at, route)));
            let taken = (takes(slash), takes(one), takes(more));
            if let (Some(_), Some(_), Some(more)) = taken
                && let Some(other) = self.routes.get(more)
            {
                load.error_with(
                    &route.place,
                    format!(
                        "no request can reach `{}`: more specific routes take all it matches",
                        route.path
                    ),
                    &other.matched.place,
                    "one of them",
                );
            }
        }
        for child in node.literals.values().chain(node.parameter.as_deref()) {
            self.report_unreachable(child, load);
        }
    }

    /// Whether, the path aside, the route at `at` matches whatever `other` matches.
    fn includes(&self, at: usize, other: &Match) -> bool {
        self.routes.get(at).map(|route| &route.matched).is_some_and(|route| {
            let held = |condition: &HeaderCondition| other.headers.iter().any(|known| condition.includes(known));
            route.host.include(&other.host) && route.methods.include(&other.methods) && route.headers.iter().all(held)
        })
    }
}

/// What may follow at one depth of the path.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node, RandomState>,
    parameter: Option<Box<Node>>,
    /// Routes whose template ends here.
    here: Option<Leaf>,
    /// Routes whose template goes on with `{rest...}`.
    rest: Option<Leaf>,
}

impl Node {
    /// The leaf of a template, made where it is missing.
    fn leaf(&mut self, segments: &[Segment]) -> &mut Leaf {
        let mut node = self;
        for segment in segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Parameter => node.parameter.get_or_insert_default(),
                Segment::Rest => return node.rest.get_or_insert_default(),
            };
        }
        node.here.get_or_insert_default()
    }

    /// Visits the leaves that match, most specific first, until `visit` says true; `values` are then the parameters.
    /// `remaining` is what follows the last slash read, `None` at the path's end. Every node is visited at most once.
    fn walk<'p>(
        &self,
        remaining: Option<&'p str>,
        values: &mut SmallVec<[&'p str; 4]>,
        visit: &mut impl FnMut(&Leaf) -> bool,
    ) -> bool {
        let Some(remaining) = remaining else {
            return self.here.as_ref().is_some_and(visit);
        };
        let (segment, next) = match remaining.split_once('/') {
            Some((segment, next)) => (segment, Some(next)),
            None => (remaining, None),
        };
        if self
            .literals
            .get(segment)
            .is_some_and(|child| child.walk(next, values, visit))
        {
            return true;
        }
        if let Some(child) = self.parameter.as_ref().filter(|_| !segment.is_empty()) {
            values.push(segment);
            if child.walk(next, values, visit) {
                return true;
            }
            values.pop();
        }
        if let Some(leaf) = &self.rest {
            values.push(remaining);
            if visit(leaf) {
                return true;
            }
            values.pop();
        }
        false
    }
}

/// The routes of one template, by host.
#[derive(Debug, Default)]
struct Leaf {
    exact: HashMap<Box<str>, Vec<Entry>, RandomState>,
    under: HashMap<Box<str>, Vec<Entry>, RandomState>,
    any: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    route: usize,
    methods: Methods,
    headers: Vec<HeaderCondition>,
}

impl Leaf {
    /// Adds a route; the index of one that it ties with, if there is one.
    fn insert(&mut self, host: &HostPattern, entry: Entry) -> Option<usize> {
        let group = match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostPattern::Under(suffix) => self.under.entry(suffix.clone()).or_default(),
        };
        let tied = group.iter().find(|other| other.ties(&entry)).map(|other| other.route);
        let at = group.partition_point(|other| other.headers.len() >= entry.headers.len());
        group.insert(at, entry);
        tied
    }

    /// The groups that match the host, most specific first.
    fn groups<'s>(&'s self, host: &'s str) -> impl Iterator<Item = &'s Vec<Entry>> {
        let parents = std::iter::successors(Some(host), |host| host.split_once('.').map(|(_, parent)| parent)).skip(1);
        let under = parents.filter_map(|parent| self.under.get(parent));
        let under = (!self.under.is_empty()).then_some(under).into_iter().flatten();
        self.exact.get(host).into_iter().chain(under).chain([&self.any])
    }

    fn best(&self, method: &Method, host: &str, headers: &dyn Headers) -> Option<usize> {
        self.groups(host).find_map(|group| {
            let mut best: Option<(usize, u8, usize)> = None;
            for entry in group {
                let conditions = entry.headers.len();
                if best.is_some_and(|(most, ..)| conditions < most) {
                    break;
                }
                let Some(fit) = entry.methods.fit(method) else { continue };
                if best.is_none_or(|(_, best_fit, _)| fit > best_fit) && entry.holds(headers) {
                    best = Some((conditions, fit, entry.route));
                }
            }
            best.map(|(.., route)| route)
        })
    }

    fn allowed(&self, host: &str, headers: &dyn Headers, allow: &mut Vec<Method>) {
        for entry in self.groups(host).flatten().filter(|entry| entry.holds(headers)) {
            if let Methods::Listed(listed) = &entry.methods {
                allow.extend(listed.iter().cloned());
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = usize> {
        let groups = self.exact.values().chain(self.under.values()).chain([&self.any]);
        groups.flatten().map(|entry| entry.route)
    }
}

impl Entry {
    fn holds(&self, headers: &dyn Headers) -> bool {
        self.headers.iter().all(|condition| condition.holds(headers))
    }

    /// Whether one request can match both equally, path and host being the same.
    fn ties(&self, other: &Self) -> bool {
        self.headers.len() == other.headers.len()
            && self.methods.tie(&other.methods)
            && self
                .headers
                .iter()
                .all(|one| other.headers.iter().all(|two| one.agrees(two)))
    }
}

impl<T> Found<'_, T> {
    /// The route, where there is one.
    pub fn route(&self) -> Option<&T> {
        match self {
            Self::Route(route, _) => Some(route),
            Self::MethodNotAllowed(_) | Self::NotFound => None,
        }
    }
}
