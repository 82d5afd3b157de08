//! A block of conditions, judged in three values.
//!
//! ```yaml
//! during:  seoul.night                       # a window is open
//! outside: [seoul.trading, seoul.upkeep]     # none of the windows is open
//! roles:   [treasury, ops]                   # the caller holds one of them
//! scopes:  transfer:write
//! claims:                                    # by path, each:
//!   tier: [gold, platinum]                   #   equals one of them, or is a list that contains one of them
//!   amr: { any_of: [otp, hwk], none_of: pwd }
//!   account.age: { at_least: 18, under: 100 }  # over, at_least, under, at_most
//!   guardian: { absent: true }
//! ip:      [10.0.0.0/8, '2001:db8::/32']
//! clients: [ios, android]
//! methods: POST                              # GET stands for HEAD, too
//! headers: { x-beta: [on, yes] }
//! query:   { dry_run: true }
//! if:      'claims.sub == path.customer'     # CEL; see `expression/mod.rs`
//! ```
//!
//! Keys are AND, listed values OR, and `outside` is the negation of `during`. False wins over unknown in AND, true in OR.
//! Unknown is: a window whose holidays are not known; the value of a claim that is absent or of a type that cannot be
//! compared; a header that is repeated or not visible ASCII; a query parameter that is sent with several values of which
//! only some match, or with one that is not UTF-8. An absent header or parameter has none of the values. A caller who is not known holds no role, no scope
//! and no claim.

use std::net::IpAddr;

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::calendar::{Calendars, Clock};
use super::claim::ClaimTest;
use super::expression::Expression;
use super::scopes::Scope;
use super::window::WindowRef;
use crate::conf::{Describe, Entry, Fields, Key, Load, Node, Read, Schema, Schemas, Spanned};
use crate::engine::{Facts, Granted, Mentions, Truth};
use crate::policies::clients::{Clients, HeaderValues, Listed};

/// What names in conditions may refer to.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    /// Where findings go.
    pub load: &'a Load,
    /// The calendars.
    pub calendars: &'a Calendars,
    /// The clients.
    pub clients: &'a Clients,
    /// On whose clocks `now` stands.
    pub clock: Clock<'a>,
}

/// The keys of a block.
pub(super) const KEYS: [&str; 11] = [
    "during", "outside", "roles", "scopes", "claims", "ip", "clients", "methods", "headers", "query", "if",
];

/// Conditions that must all hold; at least one.
#[derive(Debug)]
pub(super) struct Condition(Vec<Clause>);

/// One condition.
#[derive(Debug)]
pub(super) enum Clause {
    During(Vec<WindowRef>),
    Outside(Vec<WindowRef>),
    Roles(Vec<String>),
    Scopes(Vec<Scope>),
    Claim(String, ClaimTest),
    Address(Vec<Network>),
    Clients(Vec<(String, u16)>),
    Methods(Vec<Method>),
    Header(HeaderName, Vec<Box<str>>),
    Query(String, Vec<String>),
    If(Box<Expression>),
}

/// The least and the greatest truth that can come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The least.
    pub least: Truth,
    /// The greatest.
    pub most: Truth,
}

impl Bounds {
    /// Nothing is known.
    pub const ANY: Self = Self {
        least: Truth::False,
        most: Truth::True,
    };

    /// It is known.
    pub fn exactly(truth: Truth) -> Self {
        Self {
            least: truth,
            most: truth,
        }
    }
}

impl std::ops::Not for Bounds {
    type Output = Self;

    fn not(self) -> Self {
        Self {
            least: !self.most,
            most: !self.least,
        }
    }
}

impl Describe for Condition {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Condition", |schemas| {
            let keys = [
                Key::new::<Listed<String>>(schemas, "during", "One of these windows is open: `calendar.window`."),
                Key::new::<Listed<String>>(schemas, "outside", "None of these windows is open: `calendar.window`."),
                Key::new::<Listed<String>>(schemas, "roles", "The caller holds one of these roles."),
                Key::new::<Listed<Scope>>(schemas, "scopes", "The caller holds one of these scopes."),
                Key::new::<Named<ClaimTest>>(schemas, "claims", "What claims of the caller must be, by their paths."),
                Key::new::<Listed<Network>>(schemas, "ip", "The caller's address lies in one of these networks."),
                Key::new::<Listed<String>>(schemas, "clients", "One of these kinds of application calls."),
                Key::new::<Listed<Method>>(
                    schemas,
                    "methods",
                    "The request has one of these methods; GET stands for HEAD, too.",
                ),
                Key::new::<HeaderValues>(
                    schemas,
                    "headers",
                    "The request has these headers, each with one of these values.",
                ),
                Key::new::<Named<Listed<String>>>(
                    schemas,
                    "query",
                    "The request has these query parameters, each with one of these values.",
                ),
                Key::new::<Expression>(schemas, "if", "This expression in CEL is true."),
            ];
            Schema::map(keys)
                .with("minProperties", 1)
                .about("Conditions, all of which must hold; of listed values one is enough.")
        })
    }
}

impl Condition {
    /// Reads a block. A block without conditions is an error: it would hold always, which nobody writes on purpose.
    pub fn compile(node: &Node, names: Names<'_>) -> Option<Self> {
        let load = names.load;
        if node.entries(load)?.is_empty() {
            load.error(&node.place, "a block without conditions: name at least one");
            return None;
        }
        let mut block = Block {
            fields: Fields::of(node, load)?,
            names,
            clauses: Vec::new(),
            good: true,
        };
        block.windows("during", Clause::During);
        block.windows("outside", Clause::Outside);
        block.listed("roles", Clause::Roles);
        block.listed("scopes", Clause::Scopes);
        block.each("claims", Clause::Claim);
        block.listed("ip", Clause::Address);
        block.clients("clients");
        block.listed("methods", Clause::Methods);
        block.headers("headers");
        block.each("query", |name, values: Listed<String>| Clause::Query(name, values.0));
        // Last, so that it is not judged where something simpler is false.
        block.expression("if");
        block.fields.finish();
        // Without clauses all keys were unknown, which is reported.
        (block.good && !block.clauses.is_empty()).then_some(Self(block.clauses))
    }

    /// Whether all conditions hold.
    pub fn judge(&self, facts: &Facts<'_>) -> Truth {
        let mut all = Truth::True;
        for clause in &self.0 {
            all = all.and(clause.judge(facts));
            if all == Truth::False {
                break;
            }
        }
        all
    }

    /// What can come out where each clause comes out within `each`.
    pub fn bounds(&self, each: impl Fn(&Clause) -> Bounds) -> Bounds {
        self.0
            .iter()
            .map(each)
            .fold(Bounds::exactly(Truth::True), |all, one| Bounds {
                least: all.least.and(one.least),
                most: all.most.and(one.most),
            })
    }

    /// What in it speaks against itself, so that it can never hold, in words.
    pub fn contradiction(&self) -> Option<String> {
        let named = |windows: &[WindowRef], name: &str| windows.iter().any(|window| **window.name() == *name);
        let against = |clause: &Clause| match clause {
            Clause::Claim(_, test) if test.never_holds() => Some(format!("`{}` is never true", clause.words())),
            Clause::During(open) => self.0.iter().find_map(|other| match other {
                Clause::Outside(closed) if open.iter().all(|window| named(closed, window.name())) => Some(format!(
                    "`{}` and `{}` are never true together",
                    clause.words(),
                    other.words()
                )),
                _ => None,
            }),
            _ => None,
        };
        self.0.iter().find_map(against)
    }

    /// The conditions.
    pub fn clauses(&self) -> &[Clause] {
        &self.0
    }
}

impl Clause {
    /// Whether the condition holds.
    pub fn judge(&self, facts: &Facts<'_>) -> Truth {
        let principal = facts.principal.as_deref();
        match self {
            Self::During(windows) => any_open(windows, facts),
            Self::Outside(windows) => !any_open(windows, facts),
            Self::Roles(roles) => {
                let held = |role: &String| principal.is_some_and(|principal| principal.has_role(role));
                roles.iter().any(held).into()
            }
            Self::Scopes(scopes) => {
                let held = |scope: &Scope| principal.is_some_and(|principal| principal.has_scope(&scope.0));
                scopes.iter().any(held).into()
            }
            Self::Claim(path, test) => test.judge(principal.and_then(|principal| principal.claim(path))),
            Self::Address(networks) => {
                let address = facts.address.to_canonical();
                networks.iter().any(|network| network.0.contains(&address)).into()
            }
            Self::Clients(clients) => clients.iter().any(|(_, index)| *index == facts.client.index).into(),
            Self::Methods(methods) => methods.iter().any(|method| covers(method, facts.request.method)).into(),
            Self::Header(name, values) => header(facts, name, values),
            Self::Query(name, values) => query(facts, name, values),
            Self::If(expression) => expression.judge(facts),
        }
    }

    /// What can come out from the calendars' own instant on, whatever the request; `anonymous` where callers are never known.
    pub fn possible(&self, calendars: &Calendars, anonymous: bool) -> Bounds {
        match self {
            Self::During(windows) => windows_to_come(windows, calendars),
            Self::Outside(windows) => !windows_to_come(windows, calendars),
            Self::Roles(_) | Self::Scopes(_) if anonymous => Bounds::exactly(Truth::False),
            Self::Claim(_, test) if anonymous => Bounds::exactly(test.judge(None)),
            Self::If(expression) => expression.constant().map_or(Bounds::ANY, Bounds::exactly),
            _ => Bounds::ANY,
        }
    }

    /// What can come out for callers who are not known, whatever they ask for and when.
    pub fn for_strangers(&self) -> Bounds {
        match self {
            Self::Roles(_) | Self::Scopes(_) => Bounds::exactly(Truth::False),
            Self::Claim(_, test) => Bounds::exactly(test.judge(None)),
            Self::If(expression) => expression.for_strangers(),
            _ => Bounds::ANY,
        }
    }

    /// The windows it looks at.
    pub fn windows(&self) -> &[WindowRef] {
        match self {
            Self::During(windows) | Self::Outside(windows) => windows,
            _ => &[],
        }
    }

    /// What can come out for this request, whoever sends it.
    pub fn for_anyone(&self, facts: &Facts<'_>) -> Bounds {
        match self {
            Self::Roles(_) | Self::Scopes(_) | Self::Claim(..) => Bounds::ANY,
            Self::If(expression) => expression.for_anyone(facts),
            _ => Bounds::exactly(self.judge(facts)),
        }
    }

    /// Its expression.
    pub fn expression(&self) -> Option<&Expression> {
        match self {
            Self::If(expression) => Some(expression),
            _ => None,
        }
    }

    /// Adds what it looks at.
    pub fn mention(&self, mentions: &mut Mentions) {
        let texts = |texts: &[Box<str>]| texts.iter().map(|text| text.to_string()).collect();
        match self {
            Self::During(windows) | Self::Outside(windows) => {
                mentions
                    .windows
                    .extend(windows.iter().map(|window| window.name().clone()));
            }
            Self::Roles(roles) => mentions.roles.extend_from_slice(roles),
            Self::Scopes(scopes) => mentions.scopes.extend(scopes.iter().map(|scope| scope.0.to_string())),
            Self::Claim(path, test) => mentions.claims.push((path.clone(), test.values())),
            Self::Address(networks) => mentions
                .networks
                .push(networks.iter().map(|network| network.0).collect()),
            Self::Clients(clients) => mentions.clients.extend(clients.iter().map(|(name, _)| name.clone())),
            Self::Methods(methods) => mentions.methods.extend_from_slice(methods),
            Self::Header(name, values) => mentions.headers.push((name.clone(), texts(values))),
            Self::Query(name, values) => mentions.query.push((name.clone(), values.clone())),
            // What an expression can tell apart cannot be listed.
            Self::If(expression) => {
                mentions.opaque.push(self.words());
                mentions.clients.extend_from_slice(expression.clients());
                mentions.clocks.extend(expression.clocks().cloned());
            }
        }
    }

    /// What it says, what came out, and why: `during seoul.night: true (23:30–05:00, until 2026-11-25T05:00+09:00)`.
    pub fn describe(&self, facts: &Facts<'_>) -> String {
        let truth = self.judge(facts).word();
        match self.why(facts) {
            Some(why) => format!("{}: {truth} ({why})", self.words()),
            None => format!("{}: {truth}", self.words()),
        }
    }

    /// What it says: `during seoul.night`.
    pub fn words(&self) -> String {
        let windows = |windows: &[WindowRef]| join(windows.iter().map(|window| &**window.name()));
        match self {
            Self::During(named) => format!("during {}", windows(named)),
            Self::Outside(named) => format!("outside {}", windows(named)),
            Self::Roles(roles) => format!("roles {}", join(roles.iter().map(String::as_str))),
            Self::Scopes(scopes) => format!("scopes {}", join(scopes.iter().map(|scope| &*scope.0))),
            Self::Claim(path, test) => format!("claims.{path} {test}"),
            Self::Address(networks) => {
                let networks: Vec<String> = networks.iter().map(|network| network.0.to_string()).collect();
                format!("ip {}", join(networks.iter().map(String::as_str)))
            }
            Self::Clients(clients) => format!("clients {}", join(clients.iter().map(|(name, _)| name.as_str()))),
            Self::Methods(methods) => format!("methods {}", join(methods.iter().map(Method::as_str))),
            Self::Header(name, values) => format!("headers.{name} {}", join(values.iter().map(|value| &**value))),
            Self::Query(name, values) => format!("query.{name} {}", join(values.iter().map(String::as_str))),
            Self::If(expression) => format!("if {}", expression.words()),
        }
    }

    /// What it rests on. No value of a claim, header or parameter: those may be private.
    fn why(&self, facts: &Facts<'_>) -> Option<String> {
        let held = |held: &Granted, what: &str| match held.is_empty() {
            true => format!("the caller holds no {what}"),
            false => format!("the caller holds {}", join(held.iter().map(|held| &**held))),
        };
        let principal = facts.principal.as_deref();
        match (self, principal) {
            (Self::During(windows) | Self::Outside(windows), _) => {
                let one = |window: &WindowRef| window.describe(facts.window_at);
                let named = |window: &WindowRef| format!("{}: {}", window.name(), one(window));
                Some(match windows.as_slice() {
                    [window] => one(window),
                    windows => windows.iter().map(named).collect::<Vec<_>>().join("; "),
                })
            }
            (Self::Roles(_) | Self::Scopes(_) | Self::Claim(..), None) => Some("the caller is not known".into()),
            (Self::Roles(_), Some(principal)) => Some(held(&principal.roles, "role")),
            (Self::Scopes(_), Some(principal)) => Some(held(&principal.scopes, "scope")),
            (Self::Claim(path, _), Some(principal)) => {
                let there = principal.claim(path).is_some_and(|claim| !claim.is_null());
                (!there).then(|| "the claim is absent".into())
            }
            (Self::Address(_), _) => Some(facts.address.to_string()),
            (Self::Clients(_), _) if !facts.client.name.is_empty() => Some(facts.client.name.to_string()),
            (Self::Methods(_), _) => Some(facts.request.method.to_string()),
            (Self::Header(name, _), _) => match facts.request.headers.first(name) {
                None => Some("the header is absent".into()),
                Some(_) if facts.request.header(name).is_none() => Some("the header is repeated or unreadable".into()),
                Some(_) => None,
            },
            (Self::Query(name, _), _) => {
                let (mut count, mut is_readable) = (0, true);
                for sent in facts.request.query_sent(name) {
                    count += 1;
                    is_readable &= sent.is_some();
                }
                match (count, is_readable) {
                    (0, _) => Some("the parameter is absent".into()),
                    (_, false) => Some("the parameter is unreadable".into()),
                    (1, true) => None,
                    (count, true) => Some(format!("the parameter is sent {count} times")),
                }
            }
            (Self::Clients(_), _) => None,
            (Self::If(expression), _) => expression.why(facts),
        }
    }
}

fn any_open(windows: &[WindowRef], facts: &Facts<'_>) -> Truth {
    let states = windows.iter().map(|window| window.state(facts.window_at));
    states.fold(Truth::False, Truth::or)
}

/// GET stands for HEAD, too, as it does in routes: a rule on GET must not be passed by asking with HEAD.
fn covers(listed: &Method, method: &Method) -> bool {
    listed == method || *listed == Method::GET && *method == Method::HEAD
}

fn header(facts: &Facts<'_>, name: &HeaderName, values: &[Box<str>]) -> Truth {
    if facts.request.headers.first(name).is_none() {
        return Truth::False;
    }
    match facts.request.header(name) {
        Some(sent) => values.iter().any(|value| **value == *sent).into(),
        None => Truth::Unknown,
    }
}

fn query(facts: &Facts<'_>, name: &str, values: &[String]) -> Truth {
    let (mut some, mut all) = (false, true);
    for sent in facts.request.query_sent(name) {
        // What the upstream makes of it is anyone's guess.
        let Some(sent) = sent else { return Truth::Unknown };
        let matches = values.iter().any(|value| *value == *sent);
        some |= matches;
        all &= matches;
    }
    match (some, all) {
        (false, _) => Truth::False,
        (true, true) => Truth::True,
        // Which of them the upstream takes is anyone's guess.
        (true, false) => Truth::Unknown,
    }
}

fn windows_to_come(windows: &[WindowRef], calendars: &Calendars) -> Bounds {
    let mut any = Bounds::exactly(Truth::False);
    for window in windows {
        let (now, change) = (window.state(calendars.now()), window.next_change(calendars.now()));
        let one = change.map_or(Bounds::exactly(now), |_| Bounds::ANY);
        any = Bounds {
            least: any.least.or(one.least),
            most: any.most.or(one.most),
        };
    }
    any
}

/// A block being read. Every key is read whatever is wrong with the others, so that every mistake is reported.
struct Block<'a> {
    fields: Fields<'a>,
    names: Names<'a>,
    clauses: Vec<Clause>,
    good: bool,
}

impl Block<'_> {
    fn take<T: Read>(&mut self, key: &'static str) -> Option<T> {
        let node = self.fields.node(key)?;
        let read = T::read(node, self.names.load);
        self.good &= read.is_some();
        read
    }

    fn listed<T: Read>(&mut self, key: &'static str, clause: fn(Vec<T>) -> Clause) {
        let listed = self.take::<Listed<T>>(key);
        self.clauses.extend(listed.map(|listed| clause(listed.0)));
    }

    fn each<T: Read>(&mut self, key: &'static str, clause: fn(String, T) -> Clause) {
        let named = self.take::<Named<T>>(key).into_iter().flat_map(|named| named.0);
        self.clauses.extend(named.map(|(name, value)| clause(name, value)));
    }

    fn windows(&mut self, key: &'static str, clause: fn(Vec<WindowRef>) -> Clause) {
        let Some(Listed(named)) = self.take::<Listed<Spanned<String>>>(key) else {
            return;
        };
        let Names { calendars, load, .. } = self.names;
        let window = |name: &Spanned<String>| calendars.window(&name.value, &name.place, load);
        let found: Vec<WindowRef> = named.iter().filter_map(window).collect();
        self.good &= found.len() == named.len();
        self.clauses.push(clause(found));
    }

    fn clients(&mut self, key: &'static str) {
        let Some(Listed(named)) = self.take::<Listed<Spanned<String>>>(key) else {
            return;
        };
        let names = self.names;
        let found: Vec<(String, u16)> = named.iter().filter_map(|name| client(name, names)).collect();
        self.good &= found.len() == named.len();
        self.clauses.push(Clause::Clients(found));
    }

    fn expression(&mut self, key: &'static str) {
        let Some(node) = self.fields.node(key) else {
            return;
        };
        let compiled = Expression::compile(node, self.names);
        self.good &= compiled.is_some();
        self.clauses
            .extend(compiled.map(|expression| Clause::If(Box::new(expression))));
    }

    fn headers(&mut self, key: &'static str) {
        let headers = self.take::<HeaderValues>(key).into_iter().flat_map(|headers| headers.0);
        self.clauses
            .extend(headers.map(|(name, values)| Clause::Header(name, values)));
    }
}

fn client(name: &Spanned<String>, names: Names<'_>) -> Option<(String, u16)> {
    names.load.names.refer("client", &name.value);
    let found = names.clients.get(&name.value);
    if found.is_none() && !names.clients.is_broken(&name.value) {
        let known = names.clients.names().map(|known| &**known);
        names.load.unknown_name("client", &name.value, &name.place, known);
    }
    found.map(|client| (name.value.clone(), client.index))
}

fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// A map whose keys are names that others chose, such as claims: not empty, at most 256 bytes.
#[derive(Debug, Clone)]
struct Named<T>(Vec<(String, T)>);

impl<T: Describe> Describe for Named<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::map_of(r"^[\s\S]{1,256}$", T::schema(schemas), 1)
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let entries = node.entries(load)?;
        if entries.is_empty() {
            load.error(&node.place, "an empty map: name at least one");
            return None;
        }
        let one = |entry: &Entry| {
            if entry.key.is_empty() || entry.key.len() > 256 {
                load.error(&entry.key_place, "a name must have 1 to 256 bytes");
            }
            Some((entry.key.clone(), T::read(&entry.value, load)?))
        };
        let read: Vec<(String, T)> = entries.iter().filter_map(one).collect();
        (read.len() == entries.len()).then_some(Self(read))
    }
}

/// A network in the spelling that addresses are compared in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network(IpNet);

impl Describe for Network {
    fn schema(schemas: &mut Schemas) -> Schema {
        IpNet::schema(schemas)
    }
}

impl Read for Network {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let network = IpNet::read(node, load)?;
        if let Some(message) = wrapped(&network) {
            load.error(&node.place, message);
            return None;
        }
        Some(Self(network))
    }
}

/// What is wrong with a network that no caller's address is in: they are taken out of their IPv6 wrapping before they are
/// compared.
pub(super) fn wrapped(network: &IpNet) -> Option<String> {
    let IpAddr::V6(address) = network.addr() else {
        return None;
    };
    let wrapped = address.to_ipv4_mapped().filter(|_| network.prefix_len() >= 96)?;
    let length = network.prefix_len() - 96;
    Some(format!("`{network}` is an IPv4 network; write `{wrapped}/{length}`"))
}
