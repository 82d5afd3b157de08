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
            parts.extend(compile_part(name, part, &names, scope, &mut inputs));
        }
        if parts.len() != names.len() || has_cycle(&parts, &settings, load) {
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

fn compile_part(
    name: &Spanned<String>,
    settings: &PartSettings,
    names: &[&str],
    scope: &AggregateScope<'_>,
    inputs: &mut Vec<Source>,
) -> Option<Part> {
    let load = scope.load;
    let place = &settings.get.place;
    let parsed = template::parse(&settings.get.value, names)
        .map_err(|error| load.error(place, error))
        .ok()?;
    let upstream = scope.upstreams.iter().position(|known| **known == *parsed.upstream);
    if upstream.is_none() {
        let known = scope.upstreams.iter().map(|known| &**known);
        load.error(place, unknown("upstream", parsed.upstream, known));
    }
    let mut needs = Vec::new();
    let mut pieces = Vec::new();
    let mut sound = true;
    for piece in parsed.pieces {
        let refused = match &piece {
            Piece::Reference(Source::Principal) if !scope.has_auth => {
                Some("`{principal.sub}` needs `auth`: nobody is known here".to_owned())
            }
            Piece::Reference(Source::Path(param)) => {
                let unknown_to = scope.params.filter(|params| !params.contains(param));
                unknown_to.map(|params| unknown("path parameter", param, params.iter().map(|known| &**known)))
            }
            _ => None,
        };
        if let Some(message) = refused {
            load.error(place, message);
            sound = false;
        }
        if let Piece::Reference(Source::Part { part, .. }) = &piece
            && !needs.contains(part)
        {
            needs.push(*part);
        }
        pieces.push(template::resolve(piece, inputs));
    }
    Some(Part {
        name: Arc::from(name.value.as_str()),
        upstream: UpstreamIndex(u16::try_from(upstream?).ok()?),
        template: Template::new(pieces),
        required: settings.required,
        default: settings
            .default
            .as_ref()
            .map_or_else(|| "null".into(), |node| node.to_json().into()),
        timeout: settings.timeout.as_ref().map(|timeout| timeout.value),
        needs: needs.into(),
    })
    .filter(|_| sound)
}

/// Takes away parts that need nothing that is left; what stays goes round in a circle.
fn has_cycle(parts: &[Part], settings: &[(Spanned<String>, PartSettings)], load: &Load) -> bool {
    let mut left: Vec<usize> = (0..parts.len()).collect();
    loop {
        let before = left.len();
        let standing = left.clone();
        let needs = |at: usize| parts.get(at).map_or(&[][..], |part| &part.needs);
        left.retain(|at| needs(*at).iter().any(|need| standing.contains(need)));
        if left.len() == before {
            break;
        }
    }
    let in_circle = |at: &usize| -> Option<(&Spanned<String>, &PartSettings)> {
        settings.get(*at).map(|(name, settings)| (name, settings))
    };
    let mut circle = left.iter().filter_map(in_circle);
    let Some((first, of_first)) = circle.next() else {
        return false;
    };
    match circle.next() {
        Some((second, of_second)) => load.error_with(
            &of_first.get.place,
            format!(
                "`{}` waits for itself: its references go round in a circle",
                first.value
            ),
            &of_second.get.place,
            format!("by way of `{}`", second.value),
        ),
        None => load.error(&of_first.get.place, format!("`{}` refers to itself", first.value)),
    }
    true
}

fn unknown<'k>(what: &str, word: &str, known: impl Iterator<Item = &'k str>) -> String {
    match nearest(word, known) {
        Some(near) => format!("unknown {what} `{word}`, did you mean `{near}`?"),
        None => format!("unknown {what} `{word}`"),
    }
}
