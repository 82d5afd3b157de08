//! `tests:` — requests of which the configuration itself says what becomes of them.
//!
//! ```yaml
//! tests:
//!   - name: no transfers late on Chuseok            # for people; may be left out
//!     at: 2026-09-25T23:45+09:00                    # RFC 3339 with its offset
//!     as: { sub: u1, scope: transfer:write, auth_age: 1m }    # claims, mapped by the route's first authenticator
//!     via: customer                                 # … or by this one; without `as` nobody is known
//!     request: POST /transfers?dry_run=true         # or `POST https://bank.example/transfers`
//!     client: ios                                   # by the headers that tell it
//!     ip: 192.0.2.7                                 # 127.0.0.1 unless said
//!     headers: { x-beta: on, x-tag: [a, b] }        # a list is sent as several lines
//!     frozen: [accounts]                            # routes and upstreams; `{ accounts: 06:00 }` says until when
//!     revoked: true                                 # the caller, with all its tokens
//!     exhausted: [per-customer]                     # limits without room; the others were never used before
//!     expect: { status: 403, policy: no-night-transfer, code: TRANSFER_CLOSED, reopens: 2026-09-26T05:00+09:00 }
//!   - at: 2026-09-25T12:00+09:00
//!     request: GET /status
//!     expect: allow
//! ```
//!
//! `expect` is `allow`, or what is told: `status` (also one that the route's own `reply` or `redirect` gives), the refusing
//! `policy` (any rule: a limit, `auth`, `scopes`, `freeze`), `code`, and `reopens`, an instant or `never`; what is left out may
//! be anything. Nothing is asked outside: tokens are taken to be good, and what is frozen on a running gateway does not count.
//!
//! `check` runs them, and so does every reload before it is taken; at a start a failing one is logged and counted.

mod expect;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::Asked;
use crate::conf::{
    Describe, Instant, Load, Named, Node, OneOrMany, Place, Read, Schema, Schemas, Spanned, TOKEN, Value,
};
use crate::engine::{AuthenticatorId, Freezable, Freeze, LimitId};
use crate::policies::Defined;
use crate::policies::access::Calendars;
use crate::policies::clients::{Clients, Listed};
use crate::policies::freeze::HeldFreeze;
use crate::policies::revocation;

pub use expect::{Expect, Reopens};

/// More are refused: all of them run before a reload is taken.
const MAX_TESTS: usize = 10_000;
/// Far from everything that is dated, looking for the next change of a window takes long.
const YEARS: RangeInclusive<i16> = 1970..=2199;

crate::settings! {
    /// A request, and what is to become of it.
    struct OwnTestSettings {
        /// What it shows, for people.
        name: Option<String>,
        /// When the request comes.
        at: Node as Instant,
        /// The claims that the caller proves; left out, nobody is known.
        r#as: Option<Node> as Claims,
        /// The authenticator that maps the claims, by name; left out, the route's first.
        via: Option<Spanned<String>>,
        /// The request: `METHOD /path?query`, or `METHOD https://host/path?query`.
        request: Spanned<String> as RequestText,
        /// The kind of application that calls, told by its headers.
        client: Option<Spanned<String>>,
        /// The address it calls from; 127.0.0.1 where it is left out.
        ip: Option<Node> as IpAddr,
        /// Headers of the request, each with its value, or with a list of the values of several lines.
        headers: Option<Node> as Headers,
        /// The routes and upstreams that are frozen, by name: a list, or a map with the instants at which the freezes end.
        frozen: Option<Node> as Frozen,
        /// Whether the caller is revoked.
        revoked: bool = false,
        /// The limits without room, by name.
        exhausted: Option<Node> as Listed<String>,
        /// `allow`, or what is told.
        expect: Node as Expect,
    }
}

/// A test that was read.
#[derive(Debug, Clone)]
pub struct Test {
    /// Where it stands.
    pub place: Place,
    /// Where it stands in its file: `tests[3]`.
    pub path: String,
    /// What it shows.
    pub name: Option<String>,
    /// The instant, as written.
    pub at: Instant,
    /// The request with what is assumed of it.
    pub asked: Asked,
    /// What is to become of it.
    pub expect: Expect,
}

/// What the names in tests refer to.
pub(super) struct Names<'a> {
    /// Where findings go.
    pub load: &'a Load,
    /// Authenticators and limits.
    pub defined: &'a Defined,
    /// The clients.
    pub clients: &'a Clients,
    /// The calendars.
    pub calendars: &'a Calendars,
    /// The routes.
    pub routes: &'a [&'a str],
    /// The upstreams.
    pub upstreams: &'a [Arc<str>],
    /// Every rule of every route; nothing where some are not known for mistakes.
    pub rules: Option<&'a [&'a str]>,
}

/// The tests of a configuration, as a list of them.
pub(super) enum Tests {}

impl Describe for Tests {
    fn schema(schemas: &mut Schemas) -> Schema {
        Vec::<OwnTestSettings>::schema(schemas)
    }
}

/// Reads `tests:`.
pub(super) fn read(node: &Node, names: &Names<'_>) -> Box<[Test]> {
    let load = names.load;
    let items = node.items(load).unwrap_or_default();
    if let Some(first) = items.get(MAX_TESTS) {
        load.error(&first.place, format!("more than {MAX_TESTS} tests"));
    }
    let mut tests: Vec<Test> = Vec::with_capacity(items.len().min(MAX_TESTS));
    // Lists of several files come together; a path is one inside its file.
    let mut first_of_file = 0;
    for (at, item) in items.iter().take(MAX_TESTS).enumerate() {
        let before = at.checked_sub(1).and_then(|before| items.get(before));
        if before.is_some_and(|before| !Arc::ptr_eq(&before.place.source, &item.place.source)) {
            first_of_file = at;
        }
        let path = format!("tests[{}]", at - first_of_file);
        if let Some(settings) = OwnTestSettings::read(item, load) {
            tests.extend(compile(settings, item.place.clone(), path, names));
        }
    }
    tests.into()
}

/// Every part is read before the test is given up, so that every mistake is reported.
fn compile(settings: OwnTestSettings, place: Place, path: String, names: &Names<'_>) -> Option<Test> {
    let load = names.load;
    let at = Instant::read(&settings.at, load).filter(|at| {
        let is_near = YEARS.contains(&at.offset.to_datetime(at.at).year());
        if !is_near {
            let (first, last) = YEARS.into_inner();
            load.error(
                &settings.at.place,
                format!("`{at}` is not of a year from {first} to {last}"),
            );
        }
        is_near
    });
    let instant = at.map_or(Timestamp::UNIX_EPOCH, |at| at.at);
    let ip = read_if_there::<IpAddr>(settings.ip.as_ref(), load).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let asked = Asked::new(&settings.request.value, ip, instant);
    if let Err(fault) = &asked {
        load.error(&settings.request.place, fault.to_string());
    }
    let is_read = asked.is_ok();
    // Something has to be asked about, for the mistakes in the rest.
    let mut asked = asked.or_else(|_| Asked::new("GET /", ip, instant)).ok()?;
    for line in read_if_there::<Headers>(settings.headers.as_ref(), load)
        .unwrap_or_default()
        .0
    {
        if let Err(fault) = asked.add_header(&line.value) {
            load.error(&line.place, fault.to_string());
        }
    }
    if let Some(client) = &settings.client {
        names.client(client, &mut asked);
    }
    match (&settings.r#as, &settings.via) {
        (Some(node), via) => {
            if let Some(Err(fault)) = Claims::of(node, load).map(|claims| asked.hold(claims)) {
                load.error(&node.place, fault.to_string());
            }
            asked.via = via.as_ref().and_then(|via| names.authenticator(via));
        }
        (None, Some(via)) => load.error(&via.place, "`via` says who maps the claims of `as`, and there are none"),
        (None, None) => {}
    }
    for (name, until) in read_if_there::<Frozen>(settings.frozen.as_ref(), load)
        .unwrap_or_default()
        .0
    {
        names.freeze(&name, until.as_ref(), &mut asked);
    }
    if settings.revoked {
        asked.revoked = Arc::new(revocation::Held::of_everybody());
    }
    let exhausted = read_if_there::<Listed<Spanned<String>>>(settings.exhausted.as_ref(), load);
    for name in exhausted.map_or_else(Vec::new, |names| names.0) {
        asked.exhausted.extend(names.limit(&name));
    }
    let expect = Expect::read(&settings.expect, load);
    if let (Some(policy), Some(rules)) = (expect.as_ref().and_then(Expect::policy), names.rules)
        && !rules.contains(&policy.value.as_str())
    {
        load.unknown_name("policy", &policy.value, &policy.place, rules.iter().copied());
    }
    let test = Test {
        place,
        path,
        name: settings.name,
        at: at?,
        asked,
        expect: expect?,
    };
    is_read.then_some(test)
}

fn read_if_there<T: Read>(node: Option<&Node>, load: &Load) -> Option<T> {
    T::read(node?, load)
}

impl Names<'_> {
    fn client(&self, name: &Spanned<String>, asked: &mut Asked) {
        if self.clients.get(&name.value).is_none() {
            let known = self.clients.names().map(|known| &**known);
            self.load.unknown_name("client", &name.value, &name.place, known);
        } else if let Err(fault) = asked.come_from(&name.value, self.clients) {
            self.load.error(&name.place, fault.to_string());
        }
    }

    fn authenticator(&self, name: &Spanned<String>) -> Option<AuthenticatorId> {
        let authenticators = &self.defined.authenticators;
        let found = authenticators.get(&name.value).map(|(id, _)| id);
        if found.is_none() {
            let known = authenticators.iter().map(|(_, known)| &**known.name());
            self.load.unknown_name("authenticator", &name.value, &name.place, known);
        }
        found
    }

    fn limit(&self, name: &Spanned<String>) -> Option<LimitId> {
        let limits = &self.defined.limits;
        let found = limits.get(&name.value).map(|(id, _)| id);
        if found.is_none() {
            let known = limits.iter().map(|(_, limit)| &*limit.name);
            self.load.unknown_name("limit", &name.value, &name.place, known);
        }
        found
    }

    fn freeze(&self, name: &Spanned<String>, until: Option<&Spanned<String>>, asked: &mut Asked) {
        let at = asked.at;
        let until = until.map(|until| {
            let instant = self.calendars.instant_after(&until.value, at);
            instant.map_err(|error| self.load.error(&until.place, format!("`{}` {error}", until.value)))
        });
        let Ok(until) = until.transpose() else { return };
        let is_there = |kind: &Freezable| match kind {
            Freezable::Route => self.routes.contains(&name.value.as_str()),
            Freezable::Upstream => self.upstreams.iter().any(|known| **known == *name.value),
        };
        let mut found = false;
        for kind in Freezable::ALL.into_iter().filter(is_there) {
            found = true;
            asked.frozen.insert(HeldFreeze {
                freeze: Arc::new(Freeze {
                    kind,
                    name: name.value.as_str().into(),
                    until,
                    reason: Arc::from(""),
                }),
                since: at,
                by: asked.address,
            });
        }
        if !found {
            let known = self.routes.iter().copied();
            let known = known.chain(self.upstreams.iter().map(|known| &**known));
            self.load
                .unknown_name("route or upstream", &name.value, &name.place, known);
        }
    }
}

/// Claims as one would find them in a token.
enum Claims {}

impl Describe for Claims {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::anything()
            .with("type", "object")
            .with("required", vec![Json::from("sub")])
            .with(
                "properties",
                serde_json::json!({
                    "auth_age": { "description": "How long ago the caller last proved itself, such as `1m`; in place of `auth_time`." }
                }),
            )
    }
}

impl Claims {
    fn of(node: &Node, load: &Load) -> Option<Map<String, Json>> {
        node.entries(load)?;
        match serde_json::from_str(&node.to_json()) {
            Ok(Json::Object(claims)) => Some(claims),
            _ => {
                load.error(&node.place, "these are no claims that a token could carry");
                None
            }
        }
    }
}

/// A request line as people write one.
enum RequestText {}

impl Describe for RequestText {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text(r"^\s*\S+ ").examples(["POST /transfers", "GET https://bank.example/cards?page=2"])
    }
}

/// Header lines, `name: value`.
#[derive(Debug, Clone, Default)]
struct Headers(Vec<Spanned<String>>);

impl Describe for Headers {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::map_of(&format!("^{TOKEN}$"), OneOrMany::<String>::schema(schemas), 0)
    }
}

impl Read for Headers {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let mut lines = Vec::new();
        for entry in node.entries(load)? {
            let Ok(name) = entry.key.parse::<HeaderName>() else {
                load.error(&entry.key_place, format!("`{}` is not a header name", entry.key));
                continue;
            };
            let sent = OneOrMany::<Spanned<String>>::read(&entry.value, load);
            for Spanned { value, place } in sent.map_or_else(Vec::new, |sent| sent.0) {
                let is_plain = value.trim() == value && HeaderValue::from_str(&value).is_ok();
                if !is_plain {
                    load.error(&place, format!("`{value}` is not a header value"));
                    continue;
                }
                lines.push(Spanned {
                    value: format!("{name}: {value}"),
                    place,
                });
            }
        }
        Some(Self(lines))
    }
}

/// Names of what is frozen, some with the instant at which that ends.
#[derive(Debug, Clone, Default)]
struct Frozen(Vec<(Spanned<String>, Option<Spanned<String>>)>);

impl Describe for Frozen {
    fn schema(schemas: &mut Schemas) -> Schema {
        let names = Listed::<String>::schema(schemas);
        let until = Schema::text(r"^(\d{2}:\d{2}|\d{4}-.+)$").examples(["06:00", "2026-09-26T06:00+09:00"]);
        Schema::any_of([names, Schema::map_of("^[A-Za-z0-9_-]{1,64}$", until, 0)])
    }
}

impl Read for Frozen {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let Value::Map(_) = &node.value else {
            let Listed(names) = Listed::<Spanned<String>>::read(node, load)?;
            return Some(Self(names.into_iter().map(|name| (name, None)).collect()));
        };
        let named = Named::<Spanned<String>>::read(node, load)?;
        Some(Self(
            named.0.into_iter().map(|(name, until)| (name, Some(until))).collect(),
        ))
    }
}

#[cfg(test)]
mod tests;
