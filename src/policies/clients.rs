//! `clients:` — which kind of application calls. The first match wins; a client is told by headers alone, so it is a word on
//! what the caller wants to be taken for, never a proof.
//!
//! ```yaml
//! clients:
//!   android: { header: { x-client: android } }
//!   ios:     { header: { x-client: [ios, ipados] } }      # one of these; several headers: all of them
//!   web:     { default: true }                            # last
//! ```
//!
//! Without `clients:`, and where nothing matches, the caller is the one client without a name. A header that is absent,
//! repeated or not visible ASCII matches nothing.

use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};

use crate::conf::{Describe, Load, Named, Node, OneOrMany, Read, Schema, Schemas, TOKEN};
use crate::engine::{Client, RequestView, never_read};

crate::settings! {
    /// A kind of application, told by its headers; the first that matches is taken.
    struct ClientSettings {
        /// The headers that tell it, all of them, each with one of these values.
        header: Option<HeaderValues>,
        /// Whether it is who calls where nothing else matches; the last alone may be.
        default: Option<bool>,
    }
}

/// The clients of a configuration.
#[derive(Debug)]
pub struct Clients {
    matched: Vec<Matched>,
    /// Who calls where nothing matches.
    otherwise: Client,
    headers: Vec<HeaderName>,
    /// Clients with a mistake in them; a reference to one is no second mistake.
    broken: Vec<String>,
}

impl Describe for Clients {
    fn schema(schemas: &mut Schemas) -> Schema {
        let named = Named::<ClientSettings>::schema(schemas);
        schemas.refine::<ClientSettings>(|client| client.with_one_of(&["header", "default"]));
        named
    }
}

#[derive(Debug)]
struct Matched {
    client: Client,
    headers: HeaderValues,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            matched: Vec::new(),
            otherwise: Client::unnamed(),
            headers: Vec::new(),
            broken: Vec::new(),
        }
    }
}

impl Clients {
    /// Compiles `clients:`.
    pub fn compile(named: &Named<Node>, load: &Load) -> Self {
        let mut clients = Self::default();
        let count = named.0.len();
        for (index, (name, node)) in named.0.iter().enumerate() {
            let Some(settings) = ClientSettings::read(node, load) else {
                clients.broken.push(name.value.clone());
                continue;
            };
            let Some(index) = u16::try_from(index).ok().filter(|index| *index != u16::MAX) else {
                load.error(&name.place, "more than 65535 clients");
                break;
            };
            let client = Client {
                name: name.value.as_str().into(),
                index,
            };
            match (settings.header, settings.default) {
                (Some(headers), None) => clients.matched.push(Matched { client, headers }),
                (None, Some(true)) if usize::from(index) + 1 == count => clients.otherwise = client,
                (None, Some(true)) => {
                    let message = format!(
                        "`{}` is the default and must be last: nothing after it can match",
                        name.value
                    );
                    load.error(&name.place, message);
                    clients.broken.push(name.value.clone());
                }
                _ => {
                    clients.broken.push(name.value.clone());
                    let known = ["header", "default"];
                    let misspelt = node
                        .entries(load)
                        .is_some_and(|entries| entries.iter().any(|entry| !known.contains(&entry.key.as_str())));
                    if !misspelt {
                        load.error(&node.place, "say either `header: { name: value }` or `default: true`");
                    }
                }
            }
        }
        for (name, _) in clients.matched.iter().flat_map(|matched| &matched.headers.0) {
            if !clients.headers.contains(name) {
                clients.headers.push(name.clone());
            }
        }
        clients
    }

    /// Which client sends `request`.
    pub fn of(&self, request: &RequestView<'_>) -> &Client {
        let is_from = |matched: &&Matched| {
            let mut headers = matched.headers.0.iter();
            headers.all(|(name, values)| {
                let sent = request.header(name);
                sent.is_some_and(|sent| values.iter().any(|value| **value == *sent))
            })
        };
        let found = self.matched.iter().find(is_from);
        found.map_or(&self.otherwise, |matched| &matched.client)
    }

    /// The client of that name.
    pub fn get(&self, name: &str) -> Option<&Client> {
        self.iter().find(|client| *client.name == *name)
    }

    /// The named clients, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        let named = Some(&self.otherwise).filter(|client| !client.name.is_empty());
        self.matched.iter().map(|matched| &matched.client).chain(named)
    }

    /// Their names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.iter().map(|client| &client.name)
    }

    /// Headers by which a request is taken for the client of that name, unless an earlier client matches too.
    pub fn headers_of(&self, name: &str) -> impl Iterator<Item = (&HeaderName, &str)> {
        let found = self.matched.iter().find(|matched| *matched.client.name == *name);
        let headers = found.into_iter().flat_map(|matched| &matched.headers.0);
        headers.filter_map(|(name, values)| Some((name, &**values.first()?)))
    }

    /// For each client in the order of the file, headers by which a request is taken for it: each listed value comes up.
    pub fn samples(&self) -> impl Iterator<Item = (&Arc<str>, Vec<(&HeaderName, &str)>)> {
        self.matched.iter().flat_map(|matched| {
            let headers = &matched.headers.0;
            let most = headers.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
            (0..most).map(move |at| {
                let one = headers.iter().filter_map(move |(name, values)| {
                    let value = values.get(at).or(values.first())?;
                    Some((name, &**value))
                });
                (&matched.client.name, one.collect())
            })
        })
    }

    /// The clients for whom not the same requests are taken in `other`: they are told by other headers there, stand there before
    /// another that matches too and here behind it, or are not there.
    pub fn told_otherwise(&self, other: &Self) -> Vec<&Arc<str>> {
        let find = |clients: &'_ Self, name: &str| clients.matched.iter().position(|one| *one.client.name == *name);
        let mut told: Vec<&Arc<str>> = Vec::new();
        for (at, own) in self.matched.iter().enumerate() {
            let name = &own.client.name;
            let there = find(other, name).and_then(|at| Some((at, other.matched.get(at)?)));
            let moved = |there: usize| {
                let before = self
                    .matched
                    .iter()
                    .take(at)
                    .filter(|before| before.headers.may_come_with(&own.headers));
                before
                    .into_iter()
                    .any(|before| find(other, &before.client.name).is_some_and(|at| at > there))
            };
            if !there.is_some_and(|(at, there)| there.headers.is_like(&own.headers) && !moved(at)) {
                told.push(name);
            }
        }
        if self.otherwise.name != other.otherwise.name {
            told.push(&self.otherwise.name);
        }
        told.retain(|name| !name.is_empty());
        told
    }

    /// The headers that tell clients apart.
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Whether a client of that name was written, but with a mistake that is reported already.
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.iter().any(|broken| broken == name)
    }
}

/// One value or a list, never an empty one.
#[derive(Debug, Clone)]
pub struct Listed<T>(pub Vec<T>);

impl<T: Describe> Describe for Listed<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::one_or_many(T::schema(schemas), 1)
    }
}

impl<T: Read> Read for Listed<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let OneOrMany(listed) = OneOrMany::read(node, load)?;
        if listed.is_empty() {
            load.error(&node.place, "an empty list matches nothing");
            return None;
        }
        Some(Self(listed))
    }
}

/// Headers, each with the values that match: `{ x-client: [ios, ipados] }`.
#[derive(Debug, Clone)]
pub struct HeaderValues(pub Vec<(HeaderName, Vec<Box<str>>)>);

impl HeaderValues {
    /// Whether the same requests have them.
    fn is_like(&self, other: &Self) -> bool {
        let within = |one: &Self, other: &Self| {
            let mut values = one
                .0
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
            values.all(|(name, value)| {
                other
                    .0
                    .iter()
                    .any(|(known, values)| known == name && values.contains(value))
            })
        };
        within(self, other) && within(other, self)
    }

    /// Whether a request may have these and the others.
    fn may_come_with(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, values)| {
            let mut others = other.0.iter().filter(|(known, _)| known == name);
            others.all(|(_, others)| values.iter().any(|value| others.contains(value)))
        })
    }
}

impl Describe for HeaderValues {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::map_of(&format!("^{TOKEN}$"), Listed::<Visible>::schema(schemas), 1)
    }
}

impl Read for HeaderValues {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let mut headers: Vec<(HeaderName, Vec<Box<str>>)> = Vec::new();
        let entries = node.entries(load)?;
        if entries.is_empty() {
            load.error(&node.place, "an empty map: name at least one header");
        }
        for entry in entries {
            let Ok(name) = entry.key.parse::<HeaderName>() else {
                load.error(&entry.key_place, format!("`{}` is not a header name", entry.key));
                continue;
            };
            // What conditions read is kept in records, and a record keeps no credential.
            if [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(&name) {
                load.error(
                    &entry.key_place,
                    format!("`{name}` carries credentials and cannot be matched"),
                );
                continue;
            }
            if let Some(fault) = never_read(&name) {
                load.error(&entry.key_place, format!("`{name}` {fault}"));
                continue;
            }
            if headers.iter().any(|(known, _)| *known == name) {
                load.error(&entry.key_place, format!("`{name}` stands here a second time"));
                continue;
            }
            if let Some(values) = Listed::<Visible>::read(&entry.value, load) {
                headers.push((name, values.0.into_iter().map(|value| value.0).collect()));
            }
        }
        (headers.len() == entries.len() && !headers.is_empty()).then_some(Self(headers))
    }
}

/// A text that a header can carry.
struct Visible(Box<str>);

impl Describe for Visible {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like("^([!-~]([ -~]*[!-~])?)?$")
    }
}

impl Read for Visible {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a header value", load, |text| {
            let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            match visible && text.trim() == text {
                true => Ok(Self(text.into())),
                false => Err("is not a header value: visible ASCII, no space at the ends".into()),
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::Headers;
    use http::Method;

    struct Lines(&'static [(&'static str, &'static str)]);

    impl Headers for Lines {
        fn first(&self, name: &HeaderName) -> Option<&[u8]> {
            let found = self.0.iter().find(|(known, _)| *known == name.as_str());
            found.map(|(_, value)| value.as_bytes())
        }

        fn is_repeated(&self, name: &HeaderName) -> bool {
            self.0.iter().filter(|(known, _)| *known == name.as_str()).count() > 1
        }
    }

    fn compile(yaml: &str) -> (Clients, Vec<String>) {
        let load = Load::new();
        let node = load.text("t.yaml", yaml).unwrap();
        let clients = Clients::compile(&Named::read(&node, &load).unwrap(), &load);
        (
            clients,
            load.into_findings(None).iter().map(ToString::to_string).collect(),
        )
    }

    fn name(clients: &Clients, lines: &'static [(&'static str, &'static str)]) -> String {
        let request = RequestView {
            method: &Method::GET,
            host: "h",
            path: "/",
            query: "",
            headers: &Lines(lines),
        };
        clients.of(&request).name.to_string()
    }

    #[test]
    fn the_first_match_wins() {
        let (clients, findings) = compile(
            "beta: { header: { x-client: ios, x-beta: [on, yes] } }\nios: { header: { x-client: ios } }\nweb: { default: true }\n",
        );
        assert_eq!(findings, [""; 0]);
        assert_eq!(name(&clients, &[("x-client", "ios"), ("x-beta", "yes")]), "beta");
        assert_eq!(name(&clients, &[("x-client", "ios"), ("x-beta", "off")]), "ios");
        assert_eq!(name(&clients, &[("x-client", "ios"), ("x-client", "ios")]), "web");
        assert_eq!(name(&clients, &[("x-client", "iös")]), "web");
        assert_eq!(name(&clients, &[]), "web");
        let names: Vec<&str> = clients.names().map(|name| &**name).collect();
        assert_eq!(
            (names.as_slice(), clients.headers().len()),
            (["beta", "ios", "web"].as_slice(), 2)
        );
        assert_eq!(clients.get("web").unwrap().index, 2);
    }

    #[test]
    fn knows_one_client_without_a_name_where_none_matches() {
        assert_eq!(name(&Clients::default(), &[("x-client", "ios")]), "");
        let (clients, _) = compile("ios: { header: { x-client: ios } }\n");
        assert_eq!(name(&clients, &[]), "");
        assert_eq!(clients.names().count(), 1);
    }

    #[test]
    fn points_at_every_mistake() {
        let yaml = "a: { default: true }\nb: { header: {} }\nc: { header: { cookie: x } }\nd: { hedaer: { x: y } }\n\
                    e: { header: { x y: z, ok: [] } }\nf: {}\ng: { default: false }\nh: { header: { x: 'ö' } }\n\
                    i: { header: { remote-user: x } }\n";
        assert_eq!(
            compile(yaml).1,
            [
                "t.yaml:1:1: `a` is the default and must be last: nothing after it can match",
                "t.yaml:2:14: an empty map: name at least one header",
                "t.yaml:3:16: `cookie` carries credentials and cannot be matched",
                "t.yaml:4:6: unknown key `hedaer`, did you mean `header`?",
                "t.yaml:5:16: `x y` is not a header name",
                "t.yaml:5:28: an empty list matches nothing",
                "t.yaml:6:4: say either `header: { name: value }` or `default: true`",
                "t.yaml:7:4: say either `header: { name: value }` or `default: true`",
                "t.yaml:8:19: `ö` is not a header value: visible ASCII, no space at the ends",
                "t.yaml:9:16: `remote-user` is taken from every request, as any caller could have written it",
            ]
        );
    }
}
