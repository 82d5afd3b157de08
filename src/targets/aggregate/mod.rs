//! `aggregate`: one JSON answer made from several calls, its parts.
//!
//! ```yaml
//! aggregate:
//!   balance: { get: 'accounts:/customers/{principal.sub}/balance', required: true, timeout: 600ms }
//!   recent:  { get: 'transfers:/transfers?account={balance.account_id}&limit=5', default: [] }
//! ```
//!
//! ```yaml
//! aggregate:
//!   orders:   { get: 'accounts:/orders?of={principal.sub}', pick: data, pass_status: [404], default: { items: [] } }
//!   products: { get: 'transfers:/products?ids={orders.items[*].product_id}', cache: { ttl: 10s, share: public } }
//!   stock:    { get: 'transfers:/stock/{each.product_id}', each: orders.items, group: warehouse, retry: { attempts: 0 } }
//!   prices:   { post: 'transfers:/prices', body: { ids: '{orders.items[*].product_id}', for: '{principal.sub}' } }
//!   profile:  { get: 'accounts:/me', spread: [name, since], headers: [x-tier], when: { clients: [web] } }
//! ```
//!
//! The answer's members are the parts, in the order of the file, each as its upstream wrote it: `pick` takes a member of it,
//! `group` puts it into an object of that name, `spread` puts its members in its place, and fails where one of their names is
//! another's, by the file or by a part before it. `headers` of its answer go with the whole. A `get` names an upstream and a path
//! with references, `{principal.sub}`, `{path.x}`, `{query.x}`, `{header.x}`, or a value of another part. Values are
//! percent-encoded, those of an array joined by commas; one that is absent, `null`, an object or an array skips the part, and so
//! does an empty, `.` or `..` one in the path. With `each` one call is made for every item of an array, and the answers are an
//! array in the same order. Parts run as parallel as their references allow, 16 calls at once. A path without an upstream goes
//! through the route of this gateway that it leads to, with that route's auth, policies, limits, `request`, shape and cache. What
//! is kept for the caller is kept with everything that the upstream is told of it: another token of the same subject, where it is
//! passed on, finds nothing. One request makes at most 512 calls, over all aggregates within aggregates.
//!
//! A part fails without a whole answer in its time (504), or with a status neither 2xx nor in `pass_status`, with 206, or without
//! a JSON body within the bounds (502), in a coding that is known or in none; 204 and 205 are `null`. A `required` part that
//! fails fails the whole (`part-failed`); the others give their `default`, or `null`, and are named in `Gwanmun-Partial`, as are
//! those that are aggregates which lack a part themselves; of an `each`, items that fail are `null`. A part that is refused, by
//! its route or because its upstream is frozen, is `denied`. A part whose `when` does not hold is its `default` and has not
//! failed. Partial answers are not for caches.

mod cycle;
mod outcome;
mod references;
mod run;
mod settings;
mod state;
mod template;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::UpstreamIndex;
use crate::conf::{Describe, Load, Named, Node, Place, Read, Schema, Schemas};
use crate::engine::Holds;
use crate::engine::select::Step;
use crate::upstreams::RetrySettings;
use references::Source;
use settings::{PartSettings, compile_part};
use template::{Body, Template};

pub(crate) use outcome::json_text;
pub use outcome::{Aggregated, Failure, Fresh, PARTIAL, Reason};
pub use run::Inputs;
pub use settings::When;

/// A part's body may have so many bytes.
pub const MAX_PART: usize = 1 << 20;
/// All bodies together may have so many.
pub const MAX_TOTAL: usize = 8 << 20;
/// More parts are refused: each is a call per request.
const MAX_PARTS: usize = 32;

/// The parts of one route.
#[derive(Debug)]
pub struct Aggregate {
    /// In the order of the file.
    parts: Box<[Part]>,
    /// The values from outside that parts refer to, each once.
    inputs: Box<[Source]>,
}

/// One part.
#[derive(Debug)]
struct Part {
    name: Arc<str>,
    /// Where its call stands.
    place: Place,
    /// The method and the call as written.
    written: Box<str>,
    to: Destination,
    template: Template,
    body: Option<Body>,
    is_post: bool,
    /// The array that it goes through.
    each: Option<(usize, Box<[Step]>)>,
    when: Option<Arc<dyn Holds>>,
    required: bool,
    /// JSON as written.
    default: Option<Box<str>>,
    timeout: Option<Duration>,
    pass_status: Box<[StatusCode]>,
    retry: Option<Arc<RetrySettings>>,
    keep: Option<KeepRule>,
    pick: Box<[Step]>,
    spread: Spread,
    group: Option<Arc<str>>,
    headers: Box<[HeaderName]>,
    /// The parts that it refers to, by index.
    needs: Box<[usize]>,
    /// How long it took last time, in microseconds, whoever asked: of those that can begin, the slowest begins first.
    took: AtomicU32,
}

/// Who is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An upstream, under the aggregate's own route alone.
    Upstream(UpstreamIndex),
    /// The route of this gateway that the path leads to; here one such path, for finding out at load which route that is.
    Route(Box<str>),
}

/// How long an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepRule {
    /// So long.
    pub ttl: Duration,
    /// Whether everybody is given it; the call then carries nothing of the caller.
    pub public: bool,
}

/// Which members of a part's answer stand in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spread {
    /// It is a member itself.
    No,
    /// All.
    All,
    /// These.
    Some(Box<[Box<str>]>),
}

/// What an aggregate may refer to.
pub struct AggregateScope<'a> {
    /// Where findings go.
    pub load: &'a Load,
    /// The names of the upstreams, in the order of their indices.
    pub upstreams: &'a [Arc<str>],
    /// The names of the parameters of the route's path; `None` where it could not be read, and any may be meant.
    pub params: Option<&'a [Arc<str>]>,
    /// Whether the route asks who calls.
    pub has_auth: bool,
    /// Reads the conditions of a `when`; reports what is wrong with them.
    pub condition: &'a dyn Fn(&Node) -> Option<Arc<dyn Holds>>,
}

/// A part that goes through a route.
#[derive(Debug)]
pub struct Inner<'a> {
    /// The method it is asked by.
    pub is_post: bool,
    /// One path that it may ask for.
    pub sample: &'a str,
    /// Where it stands.
    pub place: &'a Place,
}

impl Describe for Aggregate {
    fn schema(schemas: &mut Schemas) -> Schema {
        Named::<PartSettings>::schema(schemas)
            .with("minProperties", 1)
            .with("maxProperties", MAX_PARTS)
    }
}

impl Aggregate {
    /// Reads and checks what stands under a route's `aggregate:`.
    pub fn compile(node: &Node, scope: &AggregateScope<'_>) -> Option<Self> {
        let load = scope.load;
        // Of the file, not of what could be read: a part with a mistake in it is there all the same.
        let names: Vec<&str> = node.entries(load)?.iter().map(|entry| entry.key.as_str()).collect();
        if names.is_empty() || names.len() > MAX_PARTS {
            load.error(&node.place, format!("an aggregate has from 1 to {MAX_PARTS} parts"));
            return None;
        }
        let settings = Named::<PartSettings>::read(node, load)?.0;
        let mut inputs = Vec::new();
        let mut parts = Vec::with_capacity(settings.len());
        let mut is_sound = settings.len() == names.len();
        for (name, part) in &settings {
            let (part, has_mistakes) = compile_part(name, part, &names, scope, &mut inputs);
            is_sound &= !has_mistakes;
            parts.extend(part);
        }
        // Also among parts with other mistakes: each stands where the file has it.
        let goes_round = cycle::has_cycle(&parts, &names, load);
        let collides = write::has_collision(&settings, load);
        if !is_sound || goes_round || collides || parts.len() != names.len() {
            return None;
        }
        Some(Self {
            parts: parts.into(),
            inputs: inputs.into(),
        })
    }

    /// The upstreams that may be called, each once; those of inner routes left out.
    pub fn upstreams(&self) -> Vec<UpstreamIndex> {
        each_once(self.parts.iter())
    }

    /// A text that is the same for aggregates that answer alike.
    pub fn fingerprint<'n>(&self, upstream: impl Fn(UpstreamIndex) -> &'n str) -> String {
        let one = |part: &Part| {
            let to = match &part.to {
                Destination::Upstream(index) => upstream(*index),
                Destination::Route(_) => "",
            };
            let called = (&part.name, to, part.is_post, &part.template, &part.body, &part.each);
            let judged = (
                part.required,
                &part.default,
                part.timeout,
                &part.pass_status,
                &part.when,
            );
            let kept = (&part.retry, part.keep);
            let written = (&part.pick, &part.spread, &part.group, &part.headers);
            format!("{called:?}{judged:?}{kept:?}{written:?}")
        };
        let parts: String = self.parts.iter().map(one).collect();
        format!("{parts}{:?}", self.inputs)
    }

    /// Of [`upstreams`](Self::upstreams), those that the answer cannot do without: of required parts that are always asked for,
    /// and of what these refer to.
    pub fn needed_upstreams(&self) -> Vec<UpstreamIndex> {
        let is_needed = |part: &Part| part.required && part.when.is_none();
        let mut needed: Vec<bool> = self.parts.iter().map(is_needed).collect();
        // Each pass goes at least one reference further, and there is no circle.
        for _ in 0..self.parts.len() {
            for (at, part) in self.parts.iter().enumerate() {
                if needed.get(at).copied().unwrap_or_default() {
                    for need in &part.needs {
                        needed.iter_mut().skip(*need).take(1).for_each(|needed| *needed = true);
                    }
                }
            }
        }
        let parts = self.parts.iter().zip(needed).filter(|(_, needed)| *needed);
        each_once(parts.map(|(part, _)| part))
    }

    /// The parts that go through routes.
    pub fn inner(&self) -> impl Iterator<Item = Inner<'_>> {
        self.parts.iter().filter_map(|part| match &part.to {
            Destination::Route(sample) => Some(Inner {
                is_post: part.is_post,
                sample,
                place: &part.place,
            }),
            Destination::Upstream(_) => None,
        })
    }

    /// The request headers that the answer depends on.
    pub fn reads_headers(&self) -> Vec<HeaderName> {
        let headers = self.inputs.iter().filter_map(|input| match input {
            Source::Header(name) => Some(name.clone()),
            _ => None,
        });
        let mut headers: Vec<HeaderName> = headers
            .chain(self.conditions().flat_map(|when| when.reads_headers().iter().cloned()))
            .collect();
        headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        headers.dedup();
        headers
    }

    /// Whether the answer depends on where the caller calls from.
    pub fn reads_address(&self) -> bool {
        self.conditions().any(Holds::reads_address)
    }

    /// Whether the answer depends on the time.
    pub fn reads_time(&self) -> bool {
        self.conditions().any(Holds::reads_time)
    }

    fn conditions(&self) -> impl Iterator<Item = &dyn Holds> {
        self.parts.iter().filter_map(|part| part.when.as_deref())
    }

    /// Each part in words, in the order of the file: its name, and what is done for it.
    pub fn describe(&self) -> impl Iterator<Item = (&str, String)> {
        self.parts.iter().map(|part| (&*part.name, part.describe()))
    }
}

impl Part {
    fn note(&self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.took.store(micros, Ordering::Relaxed);
    }

    fn describe(&self) -> String {
        let shown = |time: Duration| format!("{time:?}");
        let mut words = vec![self.written.to_string()];
        words.extend(self.each.is_some().then(|| "for each item".to_owned()));
        words.extend(self.when.is_some().then(|| "on a condition".to_owned()));
        words.extend(self.required.then(|| "required".to_owned()));
        words.extend(self.timeout.map(|timeout| format!("within {}", shown(timeout))));
        words.extend(self.keep.map(|keep| {
            let whose = if keep.public { "everybody" } else { "the caller" };
            format!("kept {} for {whose}", shown(keep.ttl))
        }));
        words.extend(self.default.as_ref().map(|default| format!("else {default}")));
        words.join(", ")
    }
}

fn each_once<'p>(parts: impl Iterator<Item = &'p Part>) -> Vec<UpstreamIndex> {
    let called = |part: &Part| match part.to {
        Destination::Upstream(index) => Some(index),
        Destination::Route(_) => None,
    };
    let mut upstreams: Vec<UpstreamIndex> = parts.filter_map(called).collect();
    upstreams.sort();
    upstreams.dedup();
    upstreams
}
