//! `aggregate`: one JSON answer made from several upstream calls, its parts.
//!
//! ```yaml
//! aggregate:
//!   balance: { get: 'accounts:/customers/{principal.sub}/balance', required: true, timeout: 600ms }
//!   recent:  { get: 'transfers:/transfers?account={balance.account_id}&limit=5', default: [] }
//! ```
//!
//! The answer's members are the parts, in the order of the file, each as its upstream wrote it. A `get` names an upstream
//! and a path with references: `{principal.sub}`, `{path.x}`, `{query.x}`, `{header.x}`, or a member of another part,
//! `{balance.account_id}`. Values are percent-encoded; one that is absent, `null`, an object or an array skips the part, and
//! so does an empty, `.` or `..` one in the path. Parts run as parallel as their references allow.
//!
//! A part fails without a whole answer in its time (504), or with a status other than 2xx, with 206, or without a JSON body
//! within the bounds (502); 204 is `null`. A `required` part that fails fails the whole (`part-failed`); the others give
//! their `default`, or `null`, and are named in `Gwanmun-Partial`. A part whose upstream is frozen is `denied`. Partial
//! answers are not for caches.

mod run;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::UpstreamIndex;
use crate::conf::{Describe, Load, Named, Node, Read, Schema, Schemas, Spanned, nearest};
use template::{Piece, Source, Template};

pub use run::{Aggregated, Failure, Inputs, PARTIAL, Reason};

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
    upstream: UpstreamIndex,
    template: Template,
    required: bool,
    /// JSON as written.
    default: Box<str>,
    timeout: Option<Duration>,
    /// The parts that its template refers to, by index.
    needs: Box<[usize]>,
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
}

crate::settings! {
    /// One upstream call, whose answer becomes a member of the whole.
    struct PartSettings {
        /// `upstream:/path?query` with references: `{principal.sub}`, `{path.x}`, `{query.x}`, `{header.x}`, or a member of
        /// another part such as `{balance.account_id}`.
        get: Spanned<String> as Get,
        /// Whether the whole fails with it.
        required: bool = false,
        /// What stands in its place where it fails: any JSON; `null` where nothing is said.
        default: Option<Node>,
        /// For its whole answer.
        timeout: Option<Spanned<Duration>>,
    }
}

/// Names that stand for something else in references.
const RESERVED: [&str; 4] = ["principal", "path", "query", "header"];

/// What a `get` looks like.
enum Get {}

impl Describe for Get {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text(r"^[^:]+:/[\s\S]*$").examples(["accounts:/customers/{principal.sub}/balance"])
    }
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
            if RESERVED.contains(&name.value.as_str()) {
                load.error(
                    &name.place,
                    format!("`{}` stands for something else in references", name.value),
                );
            }
            if let Some(timeout) = part.timeout.as_ref().filter(|timeout| timeout.value.is_zero()) {
                load.error(&timeout.place, "a timeout above 0 is needed");
            }
            if let (true, Some(default)) = (part.required, &part.default) {
                load.error(&default.place, "a required part has no use for a `default`");
            }
            let (part, has_mistakes) = compile_part(name, part, &names, scope, &mut inputs);
            is_sound &= !has_mistakes;
            parts.extend(part);
        }
        // Also among parts with other mistakes: each stands where the file has it.
        let goes_round = has_cycle(&parts, &names, &settings, load);
        if !is_sound || goes_round || parts.len() != names.len() {
            return None;
        }
        Some(Self {
            parts: parts.into(),
            inputs: inputs.into(),
        })
    }

    /// The upstreams that may be called, each once.
    pub fn upstreams(&self) -> Vec<UpstreamIndex> {
        let mut upstreams: Vec<UpstreamIndex> = self.parts.iter().map(|part| part.upstream).collect();
        upstreams.sort();
        upstreams.dedup();
        upstreams
    }

    /// A text that is the same for aggregates that answer alike.
    pub fn fingerprint<'n>(&self, upstream: impl Fn(UpstreamIndex) -> &'n str) -> String {
        let one = |part: &Part| {
            let called = (&part.name, upstream(part.upstream), &part.template);
            format!("{called:?}{:?}", (part.required, &part.default, part.timeout))
        };
        let parts: String = self.parts.iter().map(one).collect();
        format!("{parts}{:?}", self.inputs)
    }

    /// Of [`upstreams`](Self::upstreams), those that the answer cannot do without: of required parts, and of what these refer
    /// to.
    pub fn needed_upstreams(&self) -> Vec<UpstreamIndex> {
        let mut needed: Vec<bool> = self.parts.iter().map(|part| part.required).collect();
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
        let mut upstreams: Vec<UpstreamIndex> = parts.map(|(part, _)| part.upstream).collect();
        upstreams.sort();
        upstreams.dedup();
        upstreams
    }

    /// The request headers that parts refer to; the answer depends on them.
    pub fn reads_headers(&self) -> Vec<HeaderName> {
        let headers = self.inputs.iter().filter_map(|input| match input {
            Source::Header(name) => Some(name.clone()),
            _ => None,
        });
        headers.collect()
    }
}

/// The part, as far as it can be read, and whether it has mistakes.
fn compile_part(
    name: &Spanned<String>,
    settings: &PartSettings,
    names: &[&str],
    scope: &AggregateScope<'_>,
    inputs: &mut Vec<Source>,
) -> (Option<Part>, bool) {
    let load = scope.load;
    let place = &settings.get.place;
    let (parsed, mut mistakes) = template::parse(&settings.get.value, names);
    let Some(parsed) = parsed else {
        mistakes.into_iter().for_each(|mistake| load.error(place, mistake));
        return (None, true);
    };
    load.names.refer("upstream", parsed.upstream);
    let upstream = scope.upstreams.iter().position(|known| **known == *parsed.upstream);
    if upstream.is_none() {
        let known = scope.upstreams.iter().map(|known| &**known);
        load.unknown_name("upstream", parsed.upstream, place, known);
    }
    let mut needs = Vec::new();
    let mut pieces = Vec::new();
    for piece in parsed.pieces {
        match &piece {
            Piece::Reference(Source::Principal) if !scope.has_auth => {
                mistakes.push("`{principal.sub}` needs `auth`: nobody is known here".to_owned());
            }
            Piece::Reference(Source::Path(param)) => {
                let unknown_to = scope.params.filter(|params| !params.contains(param));
                let known = |params: &[Arc<str>]| unknown("path parameter", param, params.iter().map(|known| &**known));
                mistakes.extend(unknown_to.map(known));
            }
            Piece::Reference(Source::Part { part, .. }) if !needs.contains(part) => needs.push(*part),
            _ => {}
        }
        pieces.push(template::resolve(piece, inputs));
    }
    let has_mistakes = !mistakes.is_empty() || upstream.is_none();
    mistakes.into_iter().for_each(|mistake| load.error(place, mistake));
    let part = Part {
        name: Arc::from(name.value.as_str()),
        upstream: UpstreamIndex(upstream.and_then(|at| u16::try_from(at).ok()).unwrap_or_default()),
        template: Template::new(pieces),
        required: settings.required,
        default: settings
            .default
            .as_ref()
            .map_or_else(|| "null".into(), |node| node.to_json().into()),
        timeout: settings.timeout.as_ref().map(|timeout| timeout.value),
        needs: needs.into(),
    };
    (Some(part), has_mistakes)
}

/// Reports every circle of parts that wait for each other. What parts need is said by their place among `names`, where some
/// may be missing in `parts`.
fn has_cycle(parts: &[Part], names: &[&str], settings: &[(Spanned<String>, PartSettings)], load: &Load) -> bool {
    let needs_of = |at: usize| -> &[usize] {
        let name = names.get(at).copied().unwrap_or_default();
        parts
            .iter()
            .find(|part| *part.name == *name)
            .map_or(&[], |part| &part.needs)
    };
    // Takes away parts that need nothing that is left; what stays is in a circle or waits for one.
    let mut left: Vec<usize> = (0..names.len()).collect();
    loop {
        let standing = left.clone();
        left.retain(|at| needs_of(*at).iter().any(|need| standing.contains(need)));
        if left.len() == standing.len() {
            break;
        }
    }
    let mut known: Vec<usize> = Vec::new();
    for start in &left {
        let mut way = vec![*start];
        while let Some(next) = way
            .last()
            .and_then(|at| needs_of(*at).iter().find(|need| left.contains(need)))
        {
            if let Some(begin) = way.iter().position(|at| at == next) {
                way.drain(..begin);
                break;
            }
            way.push(*next);
        }
        let Some(first) = way.iter().position(|at| way.iter().all(|other| at <= other)) else {
            continue;
        };
        way.rotate_left(first);
        if way.iter().all(|at| !known.contains(at)) {
            report_cycle(&way, names, settings, load);
        }
        known.extend(way);
    }
    !left.is_empty()
}

fn report_cycle(way: &[usize], names: &[&str], settings: &[(Spanned<String>, PartSettings)], load: &Load) {
    let part = |at: &usize| {
        let name = names.get(*at)?;
        settings.iter().find(|(known, _)| known.value == **name)
    };
    let mut way = way.iter().filter_map(part);
    match (way.next(), way.next()) {
        (Some((first, of_first)), Some((second, of_second))) => load.error_with(
            &of_first.get.place,
            format!(
                "`{}` waits for itself: its references go round in a circle",
                first.value
            ),
            &of_second.get.place,
            format!("by way of `{}`", second.value),
        ),
        (Some((only, of_only)), None) => {
            load.error(&of_only.get.place, format!("`{}` refers to itself", only.value));
        }
        (None, _) => {}
    }
}

fn unknown<'k>(what: &str, word: &str, known: impl Iterator<Item = &'k str>) -> String {
    match nearest(word, known) {
        Some(near) => format!("unknown {what} `{word}`, did you mean `{near}`?"),
        None => format!("unknown {what} `{word}`"),
    }
}
