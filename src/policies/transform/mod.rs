//! `request`: changes what is forwarded: headers, query and JSON body.
//!
//! ```yaml
//! routes:
//!   order:
//!     match: POST /{tenant}/orders
//!     auth: customer
//!     upstream: accounts
//!     request:
//!       headers: { drop: [x-debug], rename: { x-lang: x-locale }, set: { x-tenant: '{path.tenant}' } }
//!       query:   { drop: [trace], rename: { q: search }, set: { user: '{principal.sub}' } }
//!       body:    { drop: [internal], rename: { qty: quantity }, set: { channel: '{client}', source: { app: 1 } } }
//! ```
//!
//! `drop` comes first, then `rename`, then `set`, which takes the place of whatever the caller sent under that name, as a new
//! name does. A text may refer to `{principal.sub}`, `.issuer`, `.scopes`, `.roles`, `.acr`, `{claims.NAME}`, `{client}`,
//! `{path.NAME}`, `{query.NAME}` and `{header.NAME}`; `{{` is a brace. Where a value that is referred to is absent, repeated or
//! cannot stand there as it is, such as one with a space around it in a header, nothing is set, and the caller's own goes all the
//! same. Values are percent-encoded in a query.
//!
//! What routes, rules, limits, cache and records see is the request as it came; a route with `cache` gives no header another
//! name, and reads none. Parts of aggregates that go through the route are changed as well. Not to be touched: headers that frame the
//! message or belong to one connection, say where it comes from, carry credentials, or are written by the gateway itself.
//!
//! A body that is to be changed is read whole: `415 body-not-json` where it does not say that it is JSON, or is coded;
//! `400 body-unreadable` where it is not unambiguous JSON or a new name is taken; `413 body-too-large` beyond `body.max` or
//! 8 MiB; `411 length-required` beyond 64 KiB without a `Content-Length`. A request without a body stays one.

pub mod query;
mod settings;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderName;

use super::forward::header_value;
use super::shape::{BodyPlan, ByPath, Path};
use super::{Draft, Inherit, Kind, Scope};
use crate::conf::{Describe, Node, Place, Read, Value};
use crate::engine::{Act, Answer, Edits, Facts, Policy, RequestEdits, Stage, Verdict};
use settings::{Pairs, RequestChanges};
use template::Template;

/// `request` on a route.
pub const KIND: Kind = Kind {
    name: "request",
    inherit: Inherit::Never,
    compile,
    schema: RequestChanges::schema,
};

/// The headers that a `request:` changes, with their places; what is wrong with it is reported elsewhere.
pub fn changed_headers(node: &Node) -> Vec<(HeaderName, Place)> {
    let Some(headers) = node.get("headers") else {
        return Vec::new();
    };
    let named = |text: &str, place: &Place| Some((text.parse().ok()?, place.clone()));
    let mut found = Vec::new();
    for key in ["drop", "rename", "set"] {
        match headers.get(key).map(|node| &node.value) {
            Some(Value::List(items)) => found.extend(items.iter().filter_map(|item| match &item.value {
                Value::Scalar { text, .. } => named(text, &item.place),
                _ => None,
            })),
            Some(Value::Map(entries)) => {
                for entry in entries {
                    found.extend(named(&entry.key, &entry.key_place));
                    if let ("rename", Value::Scalar { text, .. }) = (key, &entry.value.value) {
                        found.extend(named(text, &entry.value.place));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let Some(request) = RequestChanges::read(node, scope.load) else {
        return Vec::new();
    };
    if request.is_empty() {
        let message = "`request` changes nothing: it needs `headers`, `query` or `body` with something in it";
        scope.load.error(&node.place, message);
    }
    let template = |node: &Node| Template::compile(node, scope);
    let mut transform = Transform::default();
    if let Some(headers) = request.headers {
        twice(
            headers.set.0.iter().map(|(name, _)| (&name.value.0, &name.place)),
            scope,
        );
        let set = headers.set.0.iter();
        transform.headers = Edits {
            drop: headers.drop.into_iter().map(|name| name.value.0).collect(),
            rename: renames(headers.rename, scope, |field| field.0),
            set: set
                .filter_map(|(name, text)| Some((name.value.0.clone(), template(&text.value.0)?)))
                .collect(),
        };
    }
    if let Some(query) = request.query {
        let set = query.set.0.iter();
        transform.query = Edits {
            drop: query.drop.into_iter().map(|name| name.value.0).collect(),
            rename: renames(query.rename, scope, |name| name.0),
            set: set
                .filter_map(|(name, text)| Some((name.value.0.clone(), template(&text.value.0)?)))
                .collect(),
        };
    }
    if let Some(body) = request.body {
        let plan = BodyPlan::compile(&body.drop, body.rename.as_ref(), scope.load);
        let mut set = Vec::new();
        for (path, given) in body.set.iter().flat_map(ByPath::iter) {
            let node = &given.value.0;
            let value = match &node.value {
                Value::Scalar { text, .. } if node.to_json().starts_with('"') => {
                    Template::compile(node, scope).map(|template| match text.contains(['{', '}']) {
                        true => Set::Text(template),
                        false => Set::Json(node.to_json().into()),
                    })
                }
                _ => Some(Set::Json(node.to_json().into())),
            };
            set.extend(value.map(|value| (path.value.clone(), value)));
        }
        if !(set.is_empty() && plan.is_empty()) {
            transform.body = Some((Arc::new(plan), set));
        }
    }
    vec![Draft {
        name: Arc::from(KIND.name),
        stage: Stage::Shape,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(transform),
    }]
}

fn twice<'n, N: PartialEq + std::fmt::Display + 'n>(
    names: impl Iterator<Item = (&'n N, &'n Place)>,
    scope: &Scope<'_>,
) {
    let mut seen: Vec<&N> = Vec::new();
    for (name, place) in names {
        if seen.contains(&name) {
            scope.load.error(place, format!("`{name}` is set twice"));
        }
        seen.push(name);
    }
}

/// Two with one new name would be two values where one is expected.
fn renames<N: Read, O: PartialEq + std::fmt::Display>(
    pairs: Pairs<N, N>,
    scope: &Scope<'_>,
    plain: impl Fn(N) -> O,
) -> Vec<(O, O)> {
    let mut renames: Vec<(O, O)> = Vec::new();
    for (from, to) in pairs.0 {
        let (from, place, to) = (plain(from.value), to.place, plain(to.value));
        if from == to || renames.iter().any(|(_, known)| *known == to) {
            scope.load.error(&place, format!("`{to}` would be there twice"));
        } else {
            renames.push((from, to));
        }
    }
    renames
}

/// A value for a body.
#[derive(Debug)]
enum Set {
    Json(Box<str>),
    Text(Template),
}

/// What is changed of a body: what goes or gets a new name, and the values that are set.
type Body = (Arc<BodyPlan>, Vec<(Path, Set)>);

/// The rule of one route.
#[derive(Debug, Default)]
struct Transform {
    headers: Edits<HeaderName, Template>,
    query: Edits<Box<str>, Template>,
    body: Option<Body>,
}

impl Transform {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let of_body = self.body.iter().flat_map(|(_, set)| set);
        let of_body = of_body.filter_map(|(_, set)| match set {
            Set::Text(template) => Some(template),
            Set::Json(_) => None,
        });
        let headers = self.headers.set.iter().map(|(_, template)| template);
        let query = self.query.set.iter().map(|(_, template)| template);
        headers.chain(query).chain(of_body)
    }

    fn edits(&self, facts: &Facts<'_>) -> RequestEdits {
        let header = |text: String| header_value(&text).ok();
        let body = self.body.as_ref().map(|(plan, set)| {
            let values = set.iter().map(|(path, set)| {
                let value = match set {
                    Set::Json(json) => Some(json.to_string()),
                    Set::Text(template) => template
                        .fill(facts)
                        .map(|text| serde_json::Value::from(text).to_string()),
                };
                (path.clone(), value)
            });
            plan.with(values.collect())
        });
        RequestEdits {
            headers: self.headers.with(|template| template.fill(facts).and_then(header)),
            query: self.query.with(|template| template.fill(facts)),
            body,
        }
    }
}

impl Policy for Transform {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        Verdict::add(Act::Request(Arc::new(self.edits(facts))))
    }

    fn describe(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Vec<String> {
        let mut lines = Vec::new();
        let edits = self.edits(facts);
        tell(&mut lines, "header", &edits.headers, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        });
        tell(&mut lines, "parameter", &edits.query, String::clone);
        if let Some(body) = &edits.body {
            lines.extend(body.describe());
        }
        lines
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        self.templates().flat_map(Template::headers).cloned().collect()
    }

    fn reads_query(&self) -> Vec<String> {
        self.templates().flat_map(Template::query).map(str::to_owned).collect()
    }

    fn reads_claims(&self) -> Vec<String> {
        self.templates().flat_map(Template::claims).map(str::to_owned).collect()
    }
}

fn tell<N: std::fmt::Display, V>(
    lines: &mut Vec<String>,
    what: &str,
    edits: &Edits<N, Option<V>>,
    shown: impl Fn(&V) -> String,
) {
    lines.extend(edits.drop.iter().map(|name| format!("{what} `{name}` goes")));
    let renames = edits.rename.iter();
    lines.extend(renames.map(|(from, to)| format!("{what} `{from}` becomes `{to}`")));
    lines.extend(edits.set.iter().map(|(name, value)| match value {
        Some(value) => format!("{what} `{name}` is set to `{}`", shown(value)),
        None => format!("{what} `{name}` goes, as there is no value for it"),
    }));
}

/// Whom the values of a `request:` depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depends {
    /// On who calls.
    pub caller: bool,
    /// On a header or the kind of client, which no cache key holds.
    pub headers: bool,
}

/// What the changes of a `request:` depend on, without reporting what is wrong with them. A header that gets another name is the
/// caller's own under a name that the caller's request, by which variants are told apart, does not have.
pub fn depends(node: &Node) -> Depends {
    let renames = node.get("headers").and_then(|headers| headers.get("rename"));
    let renames = renames.map(|renames| &renames.value);
    let mut depends = Depends {
        caller: false,
        headers: matches!(renames, Some(Value::Map(entries)) if !entries.is_empty()),
    };
    let mut nodes = vec![node];
    while let Some(node) = nodes.pop() {
        match &node.value {
            Value::Scalar { text, .. } => {
                depends.caller |= text.contains("{principal.") || text.contains("{claims.");
                depends.headers |= text.contains("{header.") || text.contains("{client}");
            }
            Value::List(items) => nodes.extend(items),
            Value::Map(entries) => nodes.extend(entries.iter().map(|entry| &entry.value)),
            Value::Null => {}
        }
    }
    depends
}
