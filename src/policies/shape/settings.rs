//! Shapes as they are written.

use std::time::Duration;

use super::jq::Program;
use crate::conf::{Describe, Load, Node, OneOrMany, Read, Schema, Schemas, Spanned};

/// The most names in a path.
pub(super) const MAX_STEPS: usize = 32;
const MAX_NAME: usize = 128;

crate::settings! {
    /// How a JSON answer is cut: `drop` first, then `keep`, `rename`, `move`, `defaults`, `jq` and `wrap`. Paths such as
    /// `price.amount` name members; arrays are walked without being named.
    pub struct ShapeSettings {
        /// The paths of what alone stays.
        pub keep: Option<OneOrMany<Spanned<Path>>>,
        /// The paths of what goes.
        pub drop: Option<OneOrMany<Spanned<Path>>>,
        /// New names of members, by the path they have in the source.
        pub rename: Option<Renames>,
        /// New places of members: from the path in the source to the path in the answer.
        pub r#move: Option<Moves>,
        /// Members that are added where they are missing: from the path in the answer to the value.
        pub defaults: Option<Defaults>,
        /// A jq program that makes one value of what came of the above.
        pub jq: Option<Spanned<Program>>,
        /// The member, or path of members, that the whole is put into.
        pub wrap: Option<Spanned<Path>>,
        /// Whether the answer is put into `{ data, meta: { request_id, partial } }`.
        pub envelope: bool = false,
        /// What happens to a body that cannot be cut: one that is too large, or not unambiguous JSON.
        pub uncut: Uncut = Uncut::Refuse,
    }
}

crate::words! {
    /// What happens to a body that cannot be cut.
    pub enum Uncut {
        /// The answer is 502, so that nothing is shown that the shape takes away.
        Refuse = "refuse",
        /// It goes out as it is.
        Pass = "pass",
    }
}

impl ShapeSettings {
    /// A shape that drops and renames.
    pub(super) fn of(drop: &[Spanned<Path>], rename: Option<&Renames>) -> Self {
        Self {
            keep: None,
            drop: Some(OneOrMany(drop.to_vec())),
            rename: rename.cloned(),
            r#move: None,
            defaults: None,
            jq: None,
            wrap: None,
            envelope: false,
            uncut: Uncut::Refuse,
        }
    }
}

/// How long the body of an answer may take to arrive before it is one that cannot be cut.
pub const HOLD: Duration = Duration::from_secs(60);

/// A path of member names: `price.amount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(pub(super) Vec<Box<str>>);

/// What a path looks like.
const PATH: &str = r"^[^.\[\]*]+(\.[^.\[\]*]+)*$";

impl Describe for Path {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(PATH)
    }
}

impl Read for Path {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a path such as `price.amount`", load, Self::parse)
    }
}

impl Path {
    /// Reads a path; the error is the rest of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
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
        Ok(Self(names))
    }

    /// The names, from the top.
    pub fn names(&self) -> &[Box<str>] {
        &self.0
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A new name of a member, which is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub(super) Box<str>);

impl Describe for Name {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like("^[^.]+$")
    }
}

impl Read for Name {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a name", load, |text| match text {
            "" => Err("is no name".into()),
            _ if text.contains('.') => Err("is a path: `rename` leaves a member where it is, `move` does not".into()),
            _ if text.len() > MAX_NAME => Err(format!("is longer than {MAX_NAME} bytes")),
            _ => Ok(Self(Box::from(text))),
        })
    }
}

/// `{ path: … }`, in the order of the file.
#[derive(Debug, Clone)]
pub struct ByPath<T>(pub(super) Vec<(Spanned<Path>, T)>);

/// `{ path: name }`
pub type Renames = ByPath<Name>;
/// `{ path: path }`
pub type Moves = ByPath<Spanned<Path>>;
/// `{ path: value }`
pub type Defaults = ByPath<Literal>;

impl<T> ByPath<T> {
    /// Each path with what stands for it.
    pub fn iter(&self) -> impl Iterator<Item = &(Spanned<Path>, T)> {
        self.0.iter()
    }
}

impl<T: Describe> Describe for ByPath<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::map_of(PATH, T::schema(schemas), 0)
    }
}

impl<T: Read> Read for ByPath<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let mut found = Vec::new();
        for entry in node.entries(load)? {
            let path = Path::parse(&entry.key)
                .map_err(|error| load.error(&entry.key_place, format!("`{}` {error}", entry.key)))
                .ok();
            if let (Some(value), Some(of)) = (path, T::read(&entry.value, load)) {
                let place = entry.key_place.clone();
                found.push((Spanned { value, place }, of));
            }
        }
        Some(Self(found))
    }
}

/// Any value, as JSON. Digits are kept as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal(pub(super) Box<str>);

impl Describe for Literal {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::anything()
    }
}

impl Read for Literal {
    fn read(node: &Node, _: &Load) -> Option<Self> {
        Some(Self(node.to_json().into()))
    }
}
