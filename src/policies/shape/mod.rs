//! `shape`: cuts JSON answers, for every client or by the kind of client.
//!
//! ```yaml
//! shapes:
//!   compact: { keep: [id, name, price.amount, thumbnail], rename: { thumbnail: image } }
//!   public:  { drop: [internal, lines.cost] }
//! routes:
//!   product: { shape: { ios: compact, android: compact } }     # others get the answer as it is
//!   price:   { shape: public }
//! ```
//!
//! Paths name members of the source, `a.b` the member `b` of `a`; arrays are walked at any depth without being named.
//! `drop` comes first, then `keep`, then `rename`. Under `keep` a scalar where a path goes deeper is left out, and an
//! object of which nothing stays is `{}`. The order of members and every digit of a number are kept. Duplicate members and
//! lone surrogates make a body unreadable; a member renamed onto one that is there is refused.

mod cut;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::conf::{Describe, Load, Named, Node, OneOrMany, Place, Read, Schema, Schemas, Spanned, Value};
use crate::engine::{Act, Answer, Facts, HeaderEdits, Policy, Reshape, Stage, Verdict, Why};
use crate::policies::{Draft, Inherit, Kind, Scope};
use cut::{Cut, Keep, NewName, Step};
use http::{HeaderName, HeaderValue, header};

pub use cut::MAX_BODY;

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

const MAX_STEPS: usize = 32;
const MAX_NAME: usize = 128;

/// Every shape of the configuration, by name.
#[derive(Debug, Default)]
pub struct Shapes(Vec<(Arc<str>, Arc<Step>)>);

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
                .map(|(name, shape)| (Arc::from(name.value.as_str()), Arc::new(shape.compile(name, load))))
                .collect(),
        )
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    fn find(&self, name: &Node, load: &Load) -> Option<Arc<Step>> {
        let text = name.text("the name of a shape", load)?;
        load.names.refer("shape", text);
        let found = self.0.iter().find(|(known, _)| **known == *text);
        if found.is_none() {
            load.unknown_name("shape", text, &name.place, self.names());
        }
        found.map(|(_, step)| step.clone())
    }
}

crate::settings! {
    /// How a JSON answer is cut: `drop` first, then `keep`, then `rename`. Paths such as `price.amount` name members of the
    /// source; arrays are walked without being named.
    pub struct ShapeSettings {
        /// The paths of what alone stays.
        pub keep: Option<OneOrMany<Spanned<Path>>>,
        /// The paths of what goes.
        pub drop: Option<OneOrMany<Spanned<Path>>>,
        /// New names of members, by the path they have in the source.
        pub rename: Option<Renames>,
    }
}

/// A path of member names: `price.amount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Box<str>>);

/// What a path looks like.
const PATH: &str = r"^[^.\[\]*]+(\.[^.\[\]*]+)*$";

impl Describe for Path {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(PATH)
    }
}

impl Read for Path {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a path such as `price.amount`", load, parse_path)
    }
}

/// `{ path: name }`, in the order of the file.
#[derive(Debug, Clone)]
pub struct Renames(Vec<(Spanned<Path>, Box<str>)>);

impl Describe for Renames {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::map_of(PATH, Schema::scalar_like("^[^.]+$"), 0)
    }
}

impl Read for Renames {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let mut renames = Vec::new();
        for entry in node.entries(load)? {
            let path = parse_path(&entry.key)
                .map_err(|error| load.error(&entry.key_place, format!("`{}` {error}", entry.key)))
                .ok();
            let name = entry.value.parse("a name", load, |text| match text {
                "" => Err("is no name".into()),
                _ if text.contains('.') => Err("moves the member; a new name stays where the old one was".into()),
                _ if text.len() > MAX_NAME => Err(format!("is longer than {MAX_NAME} bytes")),
                _ => Ok(Box::from(text)),
            });
            if let (Some(value), Some(name)) = (path, name) {
                let place = entry.key_place.clone();
                renames.push((Spanned { value, place }, name));
            }
        }
        Some(Self(renames))
    }
}

fn parse_path(text: &str) -> Result<Path, String> {
    if text.contains(['[', ']', '*']) {
        return Err("is not a path: arrays are walked without being named".into());
    }
    let names: Vec<Box<str>> = text.split('.').map(Box::from).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err("is not a path such as `price.amount`".into());
    }
    if names.len() > MAX_STEPS {
        return Err(format!("is deeper than {MAX_STEPS} steps"));
    }
    Ok(Path(names))
}

impl ShapeSettings {
    fn compile(&self, name: &Spanned<String>, load: &Load) -> Step {
        let mut root = Step {
            keep: Keep::Whole,
            ..Step::default()
        };
        for path in self.drop.iter().flat_map(|paths| &paths.0) {
            if let Some((_, last)) = walk(&mut root, &path.value, |_| {}) {
                last.dropped = true;
            }
        }
        for path in self.keep.iter().flat_map(|paths| &paths.0) {
            root.keep = Keep::Below;
            let walked = walk(&mut root, &path.value, |step| {
                if step.keep == Keep::No {
                    step.keep = Keep::Below;
                }
            });
            if let Some((dropped, last)) = walked {
                if dropped || last.dropped {
                    let message = format!("shape `{}` keeps what it drops: `drop` comes first", name.value);
                    load.error(&path.place, message);
                }
                last.keep = Keep::Whole;
            }
        }
        for (path, new) in self.rename.iter().flat_map(|renames| &renames.0) {
            if let Some((dropped, last)) = walk(&mut root, &path.value, |_| {}) {
                if dropped || last.dropped {
                    load.error(&path.place, format!("shape `{}` renames what it drops", name.value));
                }
                last.rename = Some(NewName {
                    plain: new.clone(),
                    quoted: serde_json::Value::from(&**new).to_string().into(),
                });
            }
        }
        if self.is_empty() {
            let message = format!(
                "shape `{}` changes nothing: it needs `keep`, `drop` or `rename`",
                name.value
            );
            load.error(&name.place, message);
        }
        root
    }

    fn is_empty(&self) -> bool {
        let none = |paths: &Option<OneOrMany<Spanned<Path>>>| paths.as_ref().is_none_or(|paths| paths.0.is_empty());
        none(&self.keep) && none(&self.drop) && self.rename.as_ref().is_none_or(|renames| renames.0.is_empty())
    }
}

/// Goes down `path`, making steps; `on_the_way` sees every step but the last. Also says whether one of them is dropped.
fn walk<'s>(root: &'s mut Step, path: &Path, on_the_way: impl Fn(&mut Step)) -> Option<(bool, &'s mut Step)> {
    let (last, above) = path.0.split_last()?;
    let mut step = root;
    let mut dropped = false;
    for name in above {
        step = step.member_mut(name)?;
        on_the_way(step);
        dropped |= step.dropped;
    }
    step.member_mut(last).map(|last| (dropped, last))
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let policy = match &node.value {
        Value::Map(entries) => {
            let mut by_client = vec![None; scope.defined.client_names.len()];
            for entry in entries {
                let step = scope.defined.shapes.find(&entry.value, scope.load);
                scope.load.names.refer("client", &entry.key);
                let client = scope.defined.client_names.iter().position(|name| **name == *entry.key);
                match client.and_then(|client| by_client.get_mut(client)) {
                    Some(of_client) => *of_client = step.map(|step| cut(step, &scope.defined.client_headers)),
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
            Some(step) => Shape {
                by_client: Box::default(),
                for_all: Some(cut(step, &[])),
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

fn cut(root: Arc<Step>, varies_on: &[HeaderName]) -> Arc<dyn Reshape> {
    Arc::new(Cut {
        root,
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

impl Policy for Shape {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let of_client = self.by_client.get(usize::from(facts.client.index));
        match (&self.for_all, of_client) {
            (Some(shape), _) | (None, Some(Some(shape))) => Verdict::add(Act::Reshape(shape.clone())),
            _ if self.vary.append.is_empty() => Verdict::pass(Why::NotConcerned),
            _ => Verdict::add(Act::ResponseHeaders(self.vary.clone())),
        }
    }
}
