//! The tree of segments behind the router: one level for each segment, the routes of one template in a leaf, by host.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use http::{HeaderName, Method};
use smallvec::SmallVec;

use super::{HeaderCondition, HostPattern, Methods, Segment};
use crate::engine::Headers;

/// What may follow at one depth of the path.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) literals: Literals,
    pub(super) parameter: Option<Box<Node>>,
    /// Routes whose template ends here.
    pub(super) here: Option<Box<Leaf>>,
    /// Routes whose template goes on with `{rest...}`.
    pub(super) rest: Option<Box<Leaf>>,
}

/// Short literals stand beside their node: with thousands of routes a look-up costs what its cache misses cost.
type Text = SmallVec<[u8; 16]>;

/// The literals that may follow: a list while they are few.
#[derive(Debug)]
pub(super) enum Literals {
    Few(Vec<(Text, Node)>),
    Many(HashMap<Text, Node, RandomState>),
}

impl Default for Literals {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Literals {
    const FEW: usize = 8;

    pub(super) fn get(&self, text: &str) -> Option<&Node> {
        match self {
            Self::Few(few) => few
                .iter()
                .find(|(known, _)| **known == *text.as_bytes())
                .map(|(_, node)| node),
            Self::Many(many) => many.get(text.as_bytes()),
        }
    }

    fn entry(&mut self, text: &str) -> &mut Node {
        if let Self::Few(few) = self
            && few.len() >= Self::FEW
        {
            *self = Self::Many(few.drain(..).collect());
        }
        match self {
            Self::Many(many) => many.entry(Text::from_slice(text.as_bytes())).or_default(),
            Self::Few(few) => {
                let at = few.iter().position(|(known, _)| **known == *text.as_bytes());
                let at = at.unwrap_or_else(|| {
                    few.reserve_exact(1);
                    few.push((Text::from_slice(text.as_bytes()), Node::default()));
                    few.len() - 1
                });
                #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
                &mut few[at].1
            }
        }
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(_, node)| node);
        few.chain(many.into_iter().flat_map(HashMap::values))
    }
}

impl Node {
    /// The leaf of a template, made where it is missing.
    pub(super) fn leaf(&mut self, segments: &[Segment]) -> &mut Leaf {
        let mut node = self;
        for segment in segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text),
                Segment::Parameter => node.parameter.get_or_insert_default(),
                Segment::Rest => return node.rest.get_or_insert_default(),
            };
        }
        node.here.get_or_insert_default()
    }

    /// Visits the leaves that match, most specific first, until `visit` says true; `values` are then the parameters.
    /// `remaining` is what follows the last slash read, `None` at the path's end. Every node is visited at most once.
    pub(super) fn walk<'p>(
        &self,
        remaining: Option<&'p str>,
        values: &mut SmallVec<[&'p str; 4]>,
        visit: &mut impl FnMut(&Leaf) -> bool,
    ) -> bool {
        let Some(remaining) = remaining else {
            return self.here.as_deref().is_some_and(visit);
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
pub(super) struct Leaf {
    exact: HashMap<Box<str>, Group, RandomState>,
    under: HashMap<Box<str>, Group, RandomState>,
    any: Group,
}

/// Those with more header conditions first.
type Group = SmallVec<[Entry; 1]>;

#[derive(Debug)]
pub(super) struct Entry {
    /// The route's index.
    pub(super) route: usize,
    pub(super) methods: Methods,
    pub(super) headers: Vec<HeaderCondition>,
}

impl Leaf {
    /// Adds a route; the index of one that it ties with, if there is one.
    pub(super) fn insert(&mut self, host: &HostPattern, entry: Entry) -> Option<usize> {
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
    fn groups<'s>(&'s self, host: &'s str) -> impl Iterator<Item = &'s Group> {
        let parents = std::iter::successors(Some(host), |host| host.split_once('.').map(|(_, parent)| parent)).skip(1);
        let under = parents.filter_map(|parent| self.under.get(parent));
        let under = (!self.under.is_empty()).then_some(under).into_iter().flatten();
        self.exact.get(host).into_iter().chain(under).chain([&self.any])
    }

    /// The route that matches best.
    pub(super) fn best(&self, method: &Method, host: &str, headers: &dyn Headers) -> Option<usize> {
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

    /// The headers that [`best`](Self::best) looks at where it comes to `best`: with others in them it might find another route.
    pub(super) fn asks(&self, method: &Method, host: &str, best: Option<usize>, names: &mut Vec<HeaderName>) {
        for group in self.groups(host) {
            let best = group.iter().find(|entry| best == Some(entry.route));
            let least = best.map_or(0, |best| best.headers.len());
            let asked = group
                .iter()
                .filter(|entry| entry.headers.len() >= least && entry.methods.fit(method).is_some());
            names.extend(
                asked
                    .flat_map(|entry| &entry.headers)
                    .map(|condition| condition.name.clone()),
            );
            if best.is_some() {
                return;
            }
        }
    }

    /// The methods of the routes that match but for their method.
    pub(super) fn allowed(&self, host: &str, headers: &dyn Headers, allow: &mut Vec<Method>) {
        for entry in self.groups(host).flatten().filter(|entry| entry.holds(headers)) {
            if let Methods::Listed(listed) = &entry.methods {
                allow.extend(listed.iter().cloned());
            }
        }
    }

    /// The indices of its routes.
    pub(super) fn entries(&self) -> impl Iterator<Item = usize> {
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
