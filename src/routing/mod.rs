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
//! that fails on nothing but its method is told the methods that would do (405, RFC 9110 §15.5.6). Where headers decide,
//! answers say so in `Vary`.
//!
//! The tree has one level for each segment, so that a look-up costs what the path's depth costs, not the number of routes.

mod matching;
mod normalise;
mod rivals;
mod template;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;

use http::{HeaderName, Method};
use smallvec::SmallVec;

use crate::conf::Load;
use crate::engine::{Headers, Params};
use tree::{Entry, Leaf, Node};

pub use matching::{HeaderCondition, HostPattern, Match, Methods};
pub use normalise::{HostFault, PathFault, normalise_host, normalise_path};
pub use rivals::Rival;
pub use template::{Segment, Template};

/// Finds the route of a request.
#[derive(Debug)]
pub struct Router<T> {
    root: Node,
    routes: Vec<Routed<T>>,
    has_conditions: bool,
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
            has_conditions: routes.iter().any(|(matched, _)| !matched.headers.is_empty()),
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

    /// The headers that decide, the host, path and method being what they are, which route [`find`](Self::find) comes to; sorted.
    pub fn decided_by(&self, method: &Method, host: &str, path: &str, headers: &dyn Headers) -> Vec<HeaderName> {
        let mut names = Vec::new();
        if let Some(segments) = path.strip_prefix('/').filter(|_| self.has_conditions) {
            self.root.walk(Some(segments), &mut SmallVec::new(), &mut |leaf| {
                let best = leaf.best(method, host, headers);
                leaf.asks(method, host, best, &mut names);
                best.is_some()
            });
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
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
        for at in node.rest.iter().flat_map(|leaf| leaf.entries()) {
            let slash = node.literals.get("").and_then(|child| child.here.as_deref());
            let one = node.parameter.as_ref().and_then(|child| child.here.as_deref());
            let more = node.parameter.as_ref().and_then(|child| child.rest.as_deref());
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
        for child in node.literals.nodes().chain(node.parameter.as_deref()) {
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
