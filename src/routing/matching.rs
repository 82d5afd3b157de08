//! What a route matches, as written.
//!
//! ```yaml
//! match: GET,POST /carts/{cart}
//! match: { host: '*.shop.example', path: '/{rest...}', methods: [GET], headers: { x-channel: [app, kiosk] } }
//! ```
//!
//! Without `host`, `methods` or `headers` any will do. `*.` stands for one or more labels. A header condition holds when
//! the header is there once and is, byte for byte, one of the listed values.

use std::str::FromStr;

use http::{HeaderName, Method};
use smallvec::SmallVec;

use super::{Template, normalise_host};
use crate::conf::{
    Describe, Fields, Key, Load, Node, OneOrMany, Place, Read, Schema, Schemas, TOKEN, Value, mend, parse_method,
};
use crate::engine::{Headers, never_read};

/// The match of one route.
#[derive(Debug, Clone)]
pub struct Match {
    /// Where it stands.
    pub place: Place,
    /// The host.
    pub host: HostPattern,
    /// The path.
    pub path: Template,
    /// The methods.
    pub methods: Methods,
    /// The header conditions, all of which must hold; no name stands twice.
    pub headers: Vec<HeaderCondition>,
}

/// Which hosts match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Any host.
    Any,
    /// This host, normalised.
    Exact(Box<str>),
    /// Every host with one or more labels before this suffix: `*.` is cut off.
    Under(Box<str>),
}

/// Which methods match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// Any method.
    Any,
    /// These; HEAD follows GET.
    Listed(SmallVec<[Method; 2]>),
}

/// A header that must have one of some values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderCondition {
    /// The header.
    pub name: HeaderName,
    /// The values, any of which will do.
    pub values: Vec<Box<str>>,
}

impl Methods {
    /// How well the method fits: named (2) before HEAD that follows GET (1) before any (0); `None` where it does not.
    pub fn fit(&self, method: &Method) -> Option<u8> {
        match self {
            Self::Any => Some(0),
            Self::Listed(listed) if listed.contains(method) => Some(2),
            Self::Listed(listed) if method == Method::HEAD && listed.contains(&Method::GET) => Some(1),
            Self::Listed(_) => None,
        }
    }

    /// Whether some method fits both equally well.
    pub(super) fn tie(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) => true,
            (Self::Listed(one), Self::Listed(two)) => one.iter().any(|method| two.contains(method)),
            _ => false,
        }
    }

    /// Whether every method of `other` fits.
    pub(super) fn include(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Listed(listed)) => listed.iter().all(|method| self.fit(method).is_some()),
        }
    }
}

impl HostPattern {
    /// Whether every host of `other` matches.
    pub fn include(&self, other: &Self) -> bool {
        let is_under = |host: &str, suffix: &str| {
            let before = host.strip_suffix(suffix);
            before.is_some_and(|before| before.ends_with('.') && before.len() > 1)
        };
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Exact(one), Self::Exact(two)) => one == two,
            (Self::Under(suffix), Self::Exact(host)) => is_under(host, suffix),
            (Self::Under(suffix), Self::Under(other)) => suffix == other || is_under(other, suffix),
            (Self::Exact(_), _) | (Self::Under(_), Self::Any) => false,
        }
    }
}

impl HeaderCondition {
    /// Whether the request meets the condition.
    pub fn holds(&self, headers: &dyn Headers) -> bool {
        headers
            .first(&self.name)
            .is_some_and(|value| self.values.iter().any(|listed| listed.as_bytes() == value))
            && !headers.is_repeated(&self.name)
    }

    /// Whether some request meets both.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.name != other.name || self.values.iter().any(|value| other.values.contains(value))
    }

    /// Whether every request that meets `other` meets this.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.name == other.name && other.values.iter().all(|value| self.values.contains(value))
    }
}

impl Describe for Match {
    fn schema(schemas: &mut Schemas) -> Schema {
        let map = schemas.named::<Self>("Match", |schemas| {
            let keys = [
                Key::new::<HostPattern>(
                    schemas,
                    "host",
                    "The host, or `*.` and a host for all under it; any where it is left out.",
                ),
                Key::new::<Template>(
                    schemas,
                    "path",
                    "The path: `{name}` stands for one segment, `{rest...}` for the last ones.",
                )
                .required(true),
                Key::new::<Methods>(
                    schemas,
                    "methods",
                    "The methods, HEAD following GET; any where they are left out.",
                ),
                Key::new::<Conditions>(
                    schemas,
                    "headers",
                    "Headers that must be there once, each with one of these values.",
                ),
            ];
            Schema::map(keys).about("A match in the long form.")
        });
        let line = Schema::text("^[A-Z]+(,[A-Z]+)* /.*$").examples(["GET /orders/{order}", "POST /orders"]);
        Schema::any_of([line, map])
    }
}

impl Read for Match {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        match &node.value {
            Value::Map(_) => read_map(node, load),
            _ => read_line(node, load),
        }
    }
}

/// `METHOD[,METHOD] /path`.
fn read_line(node: &Node, load: &Load) -> Option<Match> {
    let (methods, path) = node.parse("a match such as `GET /path`", load, |text| {
        let (methods, path) = text
            .split_once(' ')
            .ok_or_else(|| "is not a match: write `GET /path` or `GET,POST /path`".to_owned())?;
        let mut listed = SmallVec::new();
        for word in methods.split(',') {
            let method = parse_method(word).map_err(|error| format!("has a method `{word}`, which {error}"))?;
            if listed.contains(&method) {
                return Err(format!("lists `{method}` twice"));
            }
            listed.push(method);
        }
        let path = Template::parse(path).map_err(|error| format!("has a path that {error}"))?;
        Ok((listed, path))
    })?;
    Some(Match {
        place: node.place.clone(),
        host: HostPattern::Any,
        path,
        methods: Methods::Listed(methods),
        headers: Vec::new(),
    })
}

fn read_map(node: &Node, load: &Load) -> Option<Match> {
    // A condition that is misspelt is one all the same: without it the route would match more than was meant.
    let node = &*mend(node, &["host", "path", "methods", "headers"], load);
    let mut fields = Fields::of(node, load)?;
    let host = fields.take("host", Some(|| HostPattern::Any));
    let path = fields.take("path", None);
    let methods = fields.take("methods", Some(|| Methods::Any));
    let headers = fields.take("headers", Some(Conditions::default));
    fields.finish();
    Some(Match {
        place: node.place.clone(),
        host: host?,
        path: path?,
        methods: methods?,
        headers: headers?.0,
    })
}

impl Describe for Template {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text("^/").examples(["/orders/{order}"])
    }
}

impl Read for Template {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a path such as `/orders/{order}`", load, Self::parse)
    }
}

impl Describe for HostPattern {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^(\*\.)?([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])$")
            .examples(["shop.example", "*.shop.example"])
    }
}

impl Read for HostPattern {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a host such as `shop.example`", load, |text| {
            let (bare, wildcard) = match text.strip_prefix("*.") {
                Some(suffix) => (suffix, true),
                None => (text, false),
            };
            if bare.contains('*') {
                return Err("is not a host: `*.` may only stand at its beginning, for one or more labels".into());
            }
            let normal = normalise_host(bare).map_err(|fault| format!("can match nothing: {fault}"))?;
            if *normal != *bare {
                let star = if wildcard { "*." } else { "" };
                return Err(format!(
                    "is compared in lower case and without port or trailing dot; write `{star}{normal}`"
                ));
            }
            let host = Box::from(bare);
            Ok(if wildcard { Self::Under(host) } else { Self::Exact(host) })
        })
    }
}

impl Describe for Methods {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::one_or_many(Method::schema(schemas), 1)
    }
}

impl Read for Methods {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let OneOrMany(methods) = OneOrMany::<Method>::read(node, load)?;
        if methods.is_empty() {
            load.error(
                &node.place,
                "an empty list of methods matches nothing; leave `methods` out for any",
            );
            return None;
        }
        let mut listed: SmallVec<[Method; 2]> = SmallVec::new();
        for method in methods {
            if listed.contains(&method) {
                load.error(&node.place, format!("lists `{method}` twice"));
                return None;
            }
            listed.push(method);
        }
        Some(Self::Listed(listed))
    }
}

#[derive(Default)]
struct Conditions(Vec<HeaderCondition>);

impl Describe for Conditions {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::map_of(
            &format!("^{TOKEN}$"),
            Schema::one_or_many(HeaderText::schema(schemas), 1),
            0,
        )
    }
}

impl Read for Conditions {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let entries = node.entries(load)?;
        let mut conditions: Vec<HeaderCondition> = Vec::new();
        for entry in entries {
            let Ok(name) = HeaderName::from_str(&entry.key) else {
                load.error(&entry.key_place, format!("`{}` is not a header name", entry.key));
                continue;
            };
            if let Some(fault) = never_read(&name) {
                load.error(&entry.key_place, format!("`{name}` {fault}"));
                continue;
            }
            if conditions.iter().any(|known| known.name == name) {
                load.error(&entry.key_place, format!("`{name}` stands here a second time"));
                continue;
            }
            let values = OneOrMany::<HeaderText>::read(&entry.value, load);
            let Some(OneOrMany(values)) = values else { continue };
            if values.is_empty() {
                load.error(&entry.value.place, "an empty list of values matches nothing");
                continue;
            }
            let values = values.into_iter().map(|HeaderText(text)| text).collect();
            conditions.push(HeaderCondition { name, values });
        }
        (conditions.len() == entries.len()).then_some(Self(conditions))
    }
}

/// A value that a header can have: visible ASCII and inner spaces.
struct HeaderText(Box<str>);

impl Describe for HeaderText {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like("^([!-~]([ -~]*[!-~])?)?$")
    }
}

impl Read for HeaderText {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a header's value", load, |text| {
            let visible = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
            if !visible || text.trim() != text {
                return Err("can match nothing: a header's value is visible ASCII without spaces around it".into());
            }
            Ok(Self(Box::from(text)))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Match, Vec<String>> {
        let load = Load::new();
        let node = load.text("t.yaml", yaml).unwrap();
        let found = node.get("match").and_then(|node| Match::read(node, &load));
        let found = found.filter(|_| !load.has_errors());
        found.ok_or_else(|| load.into_findings(None).iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_the_short_and_the_long_form() {
        let short = read("match: GET,POST /graphql").unwrap();
        assert_eq!(
            short.methods,
            Methods::Listed(SmallVec::from_vec(vec![Method::GET, Method::POST]))
        );
        assert_eq!((&**short.path.text(), &short.host), ("/graphql", &HostPattern::Any));

        let long = read(
            "match: { host: '*.shop.example', path: '/{rest...}', methods: GET, headers: { X-Channel: [app, kiosk] } }",
        )
        .unwrap();
        assert_eq!(long.host, HostPattern::Under("shop.example".into()));
        assert_eq!(long.headers[0].name.as_str(), "x-channel");
        assert_eq!(long.headers[0].values.len(), 2);
        assert_eq!(read("match: { path: / }").unwrap().methods, Methods::Any);
    }

    #[test]
    fn reads_the_example_of_the_module() {
        let example = include_str!("matching.rs")
            .lines()
            .skip_while(|line| *line != "//! ```yaml")
            .skip(1);
        let example: Vec<&str> = example.map_while(|line| line.strip_prefix("//! match")).collect();
        assert_eq!(example.len(), 2);
        for line in example {
            read(&format!("match{line}")).unwrap();
        }
    }

    #[test]
    fn points_at_what_can_match_nothing() {
        for (yaml, part) in [
            ("match: /x", "t.yaml:1:8: `/x` is not a match: write `GET /path`"),
            ("match: get /x", "`get`, which is not a method: capital letters"),
            ("match: GET, POST /x", "has a method ``"),
            ("match: GET,GET /x", "lists `GET` twice"),
            ("match: GET x", "must begin with `/`"),
            ("match: GET /x y", "the path has a space"),
            ("match: [GET]", "expected a match such as `GET /path`, found a list"),
            ("match: { pth: /x }", "unknown key `pth`, did you mean `path`?"),
            ("match: { methods: [GET] }", "missing `path`"),
            ("match: { path: /x, methods: [] }", "matches nothing"),
            ("match: { path: /x, host: Shop.Example }", "write `shop.example`"),
            ("match: { path: /x, host: 'shop.example:80' }", "write `shop.example`"),
            ("match: { path: /x, host: 'a.*.b' }", "at its beginning"),
            ("match: { path: /x, host: '*' }", "at its beginning"),
            ("match: { path: /x, host: 'a b' }", "can match nothing"),
            ("match: { path: /x, headers: { 'a b': c } }", "not a header name"),
            ("match: { path: /x, headers: { a: [] } }", "matches nothing"),
            ("match: { path: /x, headers: { a: ' c' } }", "can match nothing"),
            ("match: { path: /x, headers: { a: b, A: c } }", "a second time"),
            (
                "match: { path: /x, headers: { x-forwarded-proto: http } }",
                "t.yaml:1:31: `x-forwarded-proto` is taken from every request",
            ),
        ] {
            let found = read(yaml).unwrap_err();
            assert!(found.len() == 1 && found[0].contains(part), "{yaml}: {found:?}");
        }
    }
}
