//! What is changed of a request, as it is written.

use http::HeaderName;

use super::super::forward::RESERVED;
use super::super::shape::{ByPath, Literal, Path, Renames};
use crate::conf::{Describe, Entry, Load, Node, Read, Schema, Schemas, Spanned, TOKEN, Value};
use crate::engine::is_hearsay;

crate::settings! {
    /// What is changed of a request before it is forwarded.
    pub(super) struct RequestChanges {
        /// Its headers.
        pub headers: Option<HeaderChanges>,
        /// Its query parameters.
        pub query: Option<QueryChanges>,
        /// The members of its JSON body.
        pub body: Option<BodyChanges>,
    }
}

crate::settings! {
    /// Changes of headers: `drop` first, then `rename`, then `set`.
    pub(super) struct HeaderChanges {
        /// The names of headers that go.
        pub drop: Vec<Spanned<Field>> = Vec::new(),
        /// New names of headers.
        pub rename: Pairs<Field, Field> = Pairs(Vec::new()),
        /// Headers with their values, which may refer to the request and its caller: `{principal.sub}`.
        pub set: Pairs<Field, Text> = Pairs(Vec::new()),
    }
}

crate::settings! {
    /// Changes of query parameters: `drop` first, then `rename`, then `set`.
    pub(super) struct QueryChanges {
        /// The names of parameters that go.
        pub drop: Vec<Spanned<Parameter>> = Vec::new(),
        /// New names of parameters.
        pub rename: Pairs<Parameter, Parameter> = Pairs(Vec::new()),
        /// Parameters with their values, which may refer to the request and its caller: `{principal.sub}`.
        pub set: Pairs<Parameter, Text> = Pairs(Vec::new()),
    }
}

crate::settings! {
    /// Changes of a JSON body: `drop` first, then `rename`, then `set`. Paths name members; arrays are walked.
    pub(super) struct BodyChanges {
        /// The paths of members that go.
        pub drop: Vec<Spanned<Path>> = Vec::new(),
        /// New names of members, by the path they come with.
        pub rename: Option<Renames>,
        /// Members with their values; a text may refer to the request and its caller: `{client}`.
        pub set: Option<ByPath<Spanned<Given>>>,
    }
}

impl RequestChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        let headers = self
            .headers
            .iter()
            .map(|of| of.drop.len() + of.rename.0.len() + of.set.0.len());
        let query = self
            .query
            .iter()
            .map(|of| of.drop.len() + of.rename.0.len() + of.set.0.len());
        let body = self.body.iter().map(|of| {
            let renames = of.rename.iter().flat_map(|pairs| pairs.iter()).count();
            of.drop.len() + renames + of.set.iter().flat_map(ByPath::iter).count()
        });
        headers.chain(query).chain(body).sum::<usize>() == 0
    }
}

/// A header that may be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field(pub HeaderName);

impl Describe for Field {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(&format!("^{TOKEN}$"))
    }
}

impl Read for Field {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("the name of a header", load, |text| {
            let name = text.parse::<HeaderName>().map_err(|_| "is not a header name")?;
            match untouchable(&name) {
                Some(why) => Err(format!("cannot be changed: {why}")),
                None => Ok(Self(name)),
            }
        })
    }
}

/// Why a header is not for a route to change.
fn untouchable(name: &HeaderName) -> Option<&'static str> {
    const OF_THE_CONNECTION: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];
    const OF_THE_BODY: [&str; 2] = ["content-encoding", "content-range"];
    const CONDITIONS: [&str; 7] = [
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "accept-encoding",
    ];
    let name = name.as_str();
    if is_credential(name) {
        Some("it carries credentials; `forward.authorization` says whether they go on")
    } else if RESERVED.contains(&name) || name.starts_with("gwanmun-") || name == "via" {
        Some("it is written by the gateway itself")
    } else if OF_THE_CONNECTION.contains(&name) {
        Some("it belongs to one connection")
    } else if OF_THE_BODY.contains(&name) {
        Some("it says how the body is to be read")
    } else if CONDITIONS.contains(&name) {
        Some("what is asked for would not be what is cached and cut")
    } else if is_hearsay(name) {
        Some("it says who calls or from where, which a `forward:` may")
    } else {
        None
    }
}

/// Whether a header carries what proves who calls.
pub(super) fn is_credential(name: &str) -> bool {
    matches!(
        name,
        "authorization" | "cookie" | "proxy-authorization" | "proxy-authenticate" | "x-api-key"
    )
}

/// The name of a query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter(pub Box<str>);

impl Describe for Parameter {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[\s\S]+$")
    }
}

impl Read for Parameter {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("the name of a parameter", load, |text| match text {
            "" => Err("is no name".into()),
            _ => Ok(Self(text.into())),
        })
    }
}

/// A text that may refer to the request; read where it is known what it may refer to.
#[derive(Debug, Clone)]
pub(super) struct Text(pub Node);

impl Describe for Text {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar()
    }
}

impl Read for Text {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.text("a value", load)?;
        Some(Self(node.clone()))
    }
}

/// Any value for a body; a text may refer to the request.
#[derive(Debug, Clone)]
pub(super) struct Given(pub Node);

impl Describe for Given {
    fn schema(schemas: &mut Schemas) -> Schema {
        Literal::schema(schemas)
    }
}

impl Read for Given {
    fn read(node: &Node, _: &Load) -> Option<Self> {
        Some(Self(node.clone()))
    }
}

/// `{ name: … }`, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Pairs<N, V>(pub Vec<(Spanned<N>, Spanned<V>)>);

impl<N: Describe, V: Describe> Describe for Pairs<N, V> {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::map_of(r"^[\s\S]+$", V::schema(schemas), 0)
    }
}

impl<N: Read, V: Read> Read for Pairs<N, V> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let read = |entry: &Entry| {
            let key = Node {
                place: entry.key_place.clone(),
                value: Value::Scalar {
                    text: entry.key.clone(),
                    plain: true,
                },
            };
            let (name, of) = (Spanned::<N>::read(&key, load), Spanned::<V>::read(&entry.value, load));
            name.zip(of)
        };
        let pairs: Vec<_> = node.entries(load)?.iter().map(read).collect();
        pairs.into_iter().collect::<Option<_>>().map(Self)
    }
}
