//! `shape`: changes JSON answers, for every client or by the kind of client.
//!
//! ```yaml
//! shapes:
//!   compact: { keep: [id, name, price.amount, thumbnail], rename: { thumbnail: image } }
//!   public:  { drop: [internal, lines.cost], uncut: pass }
//!   app:
//!     move:     { price.amount: amount }       # from where it is in the source to where it is in the answer
//!     defaults: { stock: 0 }                   # where the answer has none
//!     wrap:     product                        # { "product": … }
//!     envelope: true                           # { "data": …, "meta": { "request_id": …, "partial": [] } }
//!   partner: { jq: '{items: [.products[] | {id, name}]}' }
//! routes:
//!   product: { shape: { ios: compact, android: app } }         # others get the answer as it is
//!   price:   { shape: public }
//! ```
//!
//! Paths name members of the source, `a.b` the member `b` of `a`; arrays are walked at any depth without being named. What
//! `move` leads to and `defaults` names are places in the answer. `drop` comes first, then `keep`, `rename`, `move`,
//! `defaults`, `jq`, `wrap`, `envelope`. Under `keep` a scalar where a path goes deeper is left out, and an object of which nothing
//! stays is `{}`. A moved member goes to the end of the object it comes to, which is made where it is missing; it may move
//! within the items of an array, never out of one. A default is added to the objects that are there. The order of members and
//! every digit of a number are kept; a program (`jq`) keeps the digits of what it does not compute with, and makes one value.
//!
//! Answers of 2xx with a JSON media type are held back until they are whole and cut; all others, and streams, go on as they
//! are. Codings of the upstream's are undone first. What cannot be cut is answered `502 upstream-unreadable`, or with
//! `uncut: pass` as the upstream sent it: what is not JSON, has duplicate members or lone surrogates, a member that would come
//! to stand on another, a part of a body (206), more than 8 MiB, deeper than 64 levels, or what takes a minute to arrive.
//! Entity tags become weak and are told apart by shape ([`tags`]); lengths and digests are those of the new body.

mod body;
mod cut;
mod jq;
mod moved;
mod plan;
mod settings;
pub mod tags;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::conf::{Describe, Load, Named, Node, Place, Schema, Schemas, Value};
use crate::engine::{Act, Answer, Facts, HeaderEdits, Policy, Reshape, Stage, Verdict, Why};
use crate::policies::{Draft, Inherit, Kind, Scope};
use http::{HeaderName, HeaderValue, header};
use plan::{Plan, Shaped};

pub use body::BodyPlan;
pub use plan::MAX_BODY;
pub use settings::{ByPath, HOLD, Literal, Path, Renames, ShapeSettings};

/// The kind.
pub const KIND: Kind = Kind {
    name: "shape",
    inherit: Inherit::Never,
    compile,
    schema: |_| {
        let by_client = Schema::anything()
            .with("type", "object")
            .with("additionalProperties", Schema::scalar());
        Schema::any_of([Schema::scalar(), by_client])
            .about("How JSON answers are cut: the name of a shape for all clients, or for each client the name of one.")
    },
};

/// Every shape of the configuration, by name.
#[derive(Debug, Default)]
pub struct Shapes(Vec<(Arc<str>, Arc<Plan>)>);

impl Describe for Shapes {
    fn schema(schemas: &mut Schemas) -> Schema {
        Named::<ShapeSettings>::schema(schemas)
    }
}

impl Shapes {
    /// Reads and compiles what stands under `shapes:`.
    pub fn compile(settings: &Named<ShapeSettings>, load: &Load) -> Self {
        let shapes = settings.0.iter();
        Self(
            shapes
                .map(|(name, shape)| {
                    (
                        Arc::from(name.value.as_str()),
                        Arc::new(Plan::compile(shape, name, load)),
                    )
                })
                .collect(),
        )
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The shape of that name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Reshape>> {
        let (_, plan) = self.0.iter().find(|(known, _)| **known == *name)?;
        Some(shaped(plan.clone(), &[]))
    }

    fn find(&self, name: &Node, load: &Load) -> Option<Arc<Plan>> {
        let text = name.text("the name of a shape", load)?;
        load.names.refer("shape", text);
        let found = self.0.iter().find(|(known, _)| **known == *text);
        if found.is_none() {
            load.unknown_name("shape", text, &name.place, self.names());
        }
        found.map(|(_, plan)| plan.clone())
    }
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let policy = match &node.value {
        Value::Map(entries) => {
            let mut by_client = vec![None; scope.defined.client_names.len()];
            for entry in entries {
                let plan = scope.defined.shapes.find(&entry.value, scope.load);
                scope.load.names.refer("client", &entry.key);
                let client = scope.defined.client_names.iter().position(|name| **name == *entry.key);
                match client.and_then(|client| by_client.get_mut(client)) {
                    Some(of_client) => *of_client = plan.map(|plan| shaped(plan, &scope.defined.client_headers)),
                    None => {
                        let known = scope.defined.client_names.iter().map(|name| &**name);
                        scope.load.unknown_name("client", &entry.key, &entry.key_place, known);
                    }
                }
            }
            Shape {
                by_client: by_client.into(),
                for_all: None,
                vary: Arc::new(HeaderEdits {
                    append: scope.defined.client_headers.iter().map(vary_member).collect(),
                    ..HeaderEdits::default()
                }),
            }
        }
        _ => match scope.defined.shapes.find(node, scope.load) {
            Some(plan) => Shape {
                by_client: Box::default(),
                for_all: Some(shaped(plan, &[])),
                vary: Arc::default(),
            },
            None => return Vec::new(),
        },
    };
    vec![draft(policy, &node.place)]
}

fn vary_member(name: &HeaderName) -> (HeaderName, HeaderValue) {
    (header::VARY, HeaderValue::from(name.clone()))
}

fn shaped(plan: Arc<Plan>, varies_on: &[HeaderName]) -> Arc<dyn Reshape> {
    Arc::new(Shaped {
        plan,
        varies_on: Arc::from(varies_on),
    })
}

fn draft(policy: Shape, place: &Place) -> Draft {
    Draft {
        name: Arc::from(KIND.name),
        stage: Stage::Shape,
        shadow: false,
        place: place.clone(),
        policy: Arc::new(policy),
    }
}

/// The shape of a route.
#[derive(Debug)]
struct Shape {
    /// By the client's index.
    by_client: Box<[Option<Arc<dyn Reshape>>]>,
    for_all: Option<Arc<dyn Reshape>>,
    /// What an answer says that is not cut for this client, but would be for another.
    vary: Arc<HeaderEdits>,
}

impl Shape {
    fn of(&self, facts: &Facts<'_>) -> Option<&Arc<dyn Reshape>> {
        let of_client = self.by_client.get(usize::from(facts.client.index));
        self.for_all.as_ref().or(of_client.and_then(Option::as_ref))
    }
}

impl Policy for Shape {
    fn describe(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Vec<String> {
        let line = match (self.of(facts), &*facts.client.name) {
            (Some(shape), _) if self.for_all.is_some() => format!("JSON answers are cut by `{}`", shape.name()),
            (Some(shape), client) => format!("JSON answers are cut by `{}` for client `{client}`", shape.name()),
            (None, client) => format!("answers go to client `{client}` as they are"),
        };
        vec![line]
    }

    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        match self.of(facts) {
            Some(shape) => Verdict::add(Act::Reshape(shape.clone())),
            _ if self.vary.append.is_empty() => Verdict::pass(Why::NotConcerned),
            _ => Verdict::add(Act::ResponseHeaders(self.vary.clone())),
        }
    }
}
