//! A whole configuration, validated and compiled: immutable, and without a live handle.
//!
//! [`compile`] reports every finding, not the first; a snapshot exists only where there is no error.

mod answer;
mod asked;
mod bounds;
mod inner;
mod judge;
mod listen;
mod own_tests;
mod routes;
mod schema;
mod sections;
mod settings;
mod sockets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;

use crate::conf::{Fields, Finding, Load, Named, Node, Place, SecretsMark, Value, mend};
use crate::engine::{Freezable, Rule, is_hearsay};
use crate::observe::anomaly::Anomalies;
use crate::observe::audit::AuditSettings;
use crate::policies::Defined;
use crate::policies::access::{Calendars, Policies};
use crate::policies::authn::{AuthenticatorSettings, Authenticators, Source};
use crate::policies::clients::Clients;
use crate::policies::passport::{Passport, PassportSettings};
use crate::policies::rate_limit::Limits;
use crate::policies::shape::{ShapeSettings, Shapes};
use crate::policies::websocket::handshake;
use crate::routing::{Match, Router};
use crate::targets::Target;
use crate::upstreams::{self, Upstream, UpstreamSettings};
use listen::ListenSettings;
use settings::StatePath;

pub use answer::{Asker, Carried, decorate, is_bodyless, private, refusal, write_own};
pub use asked::{Asked, AskedFault, Sent};
pub use bounds::{AnswerBounds, BodyBounds, BoundsSettings, ConnectionBounds, HeaderBounds};
pub use judge::{Judged, judge, judge_later, judge_later_alone};
pub use listen::{ClientCertificates, Listen, ListenTls, NamedCertificate};
pub use own_tests::{Expect, Reopens, Test};
pub use schema::schema;
pub use sections::is_part;
pub use settings::{AdminSettings, AdminToken, TrustedProxies};

/// A compiled configuration.
pub struct Snapshot {
    /// The SHA-256 of every file that was read, in hexadecimal. Secrets are not in it, but the public part of what signs.
    pub id: Arc<str>,
    /// What its secrets are.
    secrets: SecretsMark,
    /// Where requests are accepted.
    pub listen: Vec<Listen>,
    /// Keys of listeners and upstreams that could not be read, each with its place and the reason.
    unfetched: Vec<(Place, String)>,
    /// The admin listener.
    pub admin: Option<AdminSettings>,
    /// Worker threads; the number of cores where nothing is said.
    pub threads: Option<usize>,
    /// What one client may cost.
    pub bounds: BoundsSettings,
    /// Whose word on addresses is believed.
    pub trusted_proxies: Option<TrustedProxies>,
    /// The upstreams, by index.
    pub upstreams: Vec<Upstream>,
    /// Everything routes refer to by name.
    pub defined: Defined,
    /// The calendars.
    pub calendars: Calendars,
    /// The clients.
    pub clients: Clients,
    /// The routes.
    pub router: Router<Arc<Route>>,
    /// What every request meets, routed or not; the rules of a request that no route matches.
    pub unrouted: Vec<Rule>,
    /// The names of `unrouted`, in order.
    pub unrouted_names: Arc<[Arc<str>]>,
    /// Headers that the gateway alone writes, stripped from every request.
    pub stripped: Vec<HeaderName>,
    /// Whether callers may open sockets through some route.
    pub has_sockets: bool,
    /// Where else than in `Authorization` some authenticator takes tokens from: headers and cookies that no upstream sees.
    pub token_headers: Vec<HeaderName>,
    /// The names of those cookies.
    pub token_cookies: Vec<Box<str>>,
    /// What records keep of a request.
    pub kept: Kept,
    /// The folder of what outlives the process; `$STATE_DIRECTORY` where nothing is said.
    pub state: Option<PathBuf>,
    /// The audit log.
    pub audit: Option<AuditSettings>,
    /// The detectors.
    pub anomalies: Anomalies,
    /// What it says of itself.
    pub tests: Box<[Test]>,
    /// Every file the configuration consists of, to be watched.
    pub files: Vec<PathBuf>,
}

/// A match, its rules and its target.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Its path template.
    pub template: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// What is judged, in order.
    pub rules: Vec<Rule>,
    /// The rules' names, in order.
    pub rule_names: Arc<[Arc<str>]>,
    /// Who answers.
    pub target: Target,
    /// Where callers may put a token.
    pub token_sources: Box<[Source]>,
    /// Whether the upstream sees the caller's `Authorization` unless a rule says otherwise.
    pub keeps_authorization: bool,
    /// When an aggregate must be done.
    pub deadline: std::time::Duration,
}

/// What records keep of a request: exactly what some rule, route or client reads.
#[derive(Debug, Default)]
pub struct Kept {
    /// Headers.
    pub headers: Vec<HeaderName>,
    /// Query parameters.
    pub query: Vec<String>,
    /// Claims, by path.
    pub claims: Arc<[String]>,
}

/// When and for what a configuration is compiled.
#[derive(Debug, Clone, Copy)]
pub struct Occasion {
    /// The instant that calendars are checked at.
    pub now: Timestamp,
    /// Whether a gateway is starting: a holidays file past its end is then a warning, so that a restart never takes it down.
    pub at_start: bool,
}

/// Reads and compiles the file, or the files of the directory, at `path`. The findings come with it, or instead.
pub fn load(path: &Path, occasion: Occasion) -> (Option<Snapshot>, Vec<Finding>) {
    let attempt = attempt(path, occasion);
    (attempt.snapshot, attempt.findings)
}

/// What came of reading a configuration.
pub struct Attempt {
    /// The configuration, if it can be used.
    pub snapshot: Option<Snapshot>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Every file that was asked for, also of a configuration that cannot be used, and also those that are missing.
    pub files: Vec<PathBuf>,
}

/// As [`load`], for those who want to know what to watch.
pub fn attempt(path: &Path, occasion: Occasion) -> Attempt {
    let load = Load::new();
    let (document, files) = sections::read(path, &load);
    let snapshot = document
        .as_ref()
        .and_then(|document| compile(document, occasion, &load));
    let (has_errors, wanted) = (load.has_errors(), load.wanted());
    let mut findings = load.into_findings(&files);
    schema::point_out(&mut findings);
    Attempt {
        snapshot: snapshot.filter(|_| !has_errors),
        files: wanted,
        findings,
    }
}

/// Compiles a document; `None`, or errors in `load`, where it cannot be used.
pub fn compile(document: &Node, occasion: Occasion, load: &Load) -> Option<Snapshot> {
    let written = document;
    let document = &*mend(document, sections::SECTIONS.known, load);
    sections::declare(document, load);
    let mut fields = Fields::of(document, load)?;
    let listen = fields.take::<Vec<ListenSettings>>("listen", None);
    let admin = fields.take::<Option<AdminSettings>>("admin", None).flatten();
    let threads = fields
        .take::<Option<std::num::NonZeroUsize>>("threads", None)
        .flatten()
        .map(Into::into);
    let bounds = fields.take::<BoundsSettings>("bounds", Some(BoundsSettings::default));
    let trusted_proxies = fields.take::<Option<TrustedProxies>>("trusted_proxies", None).flatten();
    let upstreams = fields
        .take::<Named<UpstreamSettings>>("upstreams", None)
        .unwrap_or_default();
    let authenticators = fields
        .take::<Named<AuthenticatorSettings>>("authenticators", None)
        .unwrap_or_default();
    let passport = fields.take::<Option<PassportSettings>>("passport", None).flatten();
    let clients = fields.take::<Named<Node>>("clients", None).unwrap_or_default();
    let calendars = fields.take::<Named<Node>>("calendars", None).unwrap_or_default();
    let policies = fields.take::<Named<Node>>("policies", None).unwrap_or_default();
    let limits = fields.take::<Named<Node>>("limits", None).unwrap_or_default();
    let shapes = fields.take::<Named<ShapeSettings>>("shapes", None).unwrap_or_default();
    let defaults = fields.node("defaults");
    let routes = fields
        .take::<Named<Node>>("routes", Some(Named::default))
        .unwrap_or_default();
    let state = fields.take::<Option<StatePath>>("state", None).flatten();
    let audit = fields.take::<Option<AuditSettings>>("audit", None).flatten();
    let anomalies = fields.take::<Anomalies>("anomalies", None).unwrap_or_default();
    let tests = fields.node("tests");
    fields.finish();

    if listen.as_ref().is_some_and(Vec::is_empty) {
        load.error(&document.place, "`listen` needs at least one address");
    }
    listen::check_addresses(document, load);
    // Routes that are there and cannot be read are reported as such.
    let has_routes = match document.get("routes").map(|node| &node.value) {
        Some(Value::Map(entries)) => !entries.is_empty(),
        written => written.is_some(),
    };
    if !has_routes {
        load.warn(&document.place, "no routes: every request will be answered 404");
    }
    let mut unfetched = Vec::new();
    let listen = listen.map(|listeners| -> Vec<Listen> {
        let compiled = listeners.into_iter();
        compiled
            .map(|listen| listen.compile(occasion.now, load, &mut unfetched))
            .collect()
    });
    let upstreams = upstreams::compile(upstreams, occasion.now, load, &mut unfetched);
    let clients = Clients::compile(&clients, load);
    let calendars = Calendars::compile(&calendars, occasion.now, occasion.at_start, load);
    let defined = Defined {
        authenticators: Authenticators::compile(&authenticators, load),
        passport: passport.map(|settings| Arc::new(Passport::compile(settings, load))),
        policies: Policies::compile(&policies, &calendars, &clients, load),
        limits: Limits::compile(&limits, load),
        shapes: Shapes::compile(&shapes, load),
        client_names: clients.names().cloned().collect(),
        client_headers: clients.headers().to_vec(),
    };
    let upstream_names: Vec<Arc<str>> = upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    let defaults = defaults.map(|node| mend(node, &routes::inherited(), load));
    let compiler = routes::Compiler::new(
        load,
        &defined,
        &upstream_names,
        &calendars,
        &clients,
        defaults.as_deref(),
    );
    let unrouted = compiler.unrouted();
    let compiled: Vec<_> = routes.0.iter().map(|(name, node)| compiler.route(name, node)).collect();
    let router = router(compiled, load);
    if let Some(router) = &router {
        inner::check(router, load);
    }
    sockets::check(&routes, &upstreams, load);
    let tests = tests.map(|node| {
        let rules = router.as_ref().map(|router| rule_names(router, &unrouted));
        let names = own_tests::Names {
            load,
            defined: &defined,
            clients: &clients,
            calendars: &calendars,
            routes: &routes.names().collect::<Vec<_>>(),
            upstreams: &upstream_names,
            rules: rules.as_deref(),
        };
        own_tests::read(node, &names)
    });
    load.check_references(written);
    sections::check_unused(document, load);
    let router = router?;
    let stripped = compiler.stripped(&routes);
    let kept = kept(&router, &clients, &unrouted);
    let has_sockets = router.iter().any(|(_, route)| route.has_sockets());
    let (mut token_headers, mut token_cookies) = (Vec::new(), Vec::new());
    for (source, place) in defined.authenticators.sources() {
        match source {
            Source::Authorization => {}
            Source::Certificate => {
                let asks = |listen: &Listen| listen.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
                if listen.as_ref().is_some_and(|listeners| !listeners.iter().any(asks)) {
                    load.warn(
                        place,
                        "no listener has `tls: { clients: … }`, so nobody can show a certificate",
                    );
                }
            }
            Source::Header(name) | Source::KeyHeader(name) => {
                if stripped.contains(name) {
                    let message =
                        format!("`{name}` is written by a `forward:`, so no caller can put a credential in it");
                    load.error(place, message);
                } else if kept.headers.contains(name) {
                    load.error(place, carries_tokens(name.as_str()));
                }
                token_headers.push(name.clone());
            }
            Source::Cookie(name) => token_cookies.push(name.clone()),
            Source::Query(name) | Source::KeyQuery(name) => {
                if kept.query.iter().any(|read| **read == **name) {
                    load.error(place, carries_tokens(name));
                }
            }
        }
    }
    compiler.check_changed_headers(&routes, &stripped, &token_headers);
    let unrouted_names = unrouted.iter().map(|rule| rule.name.clone()).collect();
    let files = load.files();
    Some(Snapshot {
        id: hash(&files, defined.passport.as_deref()),
        secrets: load.secrets_mark(),
        listen: listen?,
        unfetched,
        admin,
        threads,
        bounds: bounds.unwrap_or_default(),
        trusted_proxies,
        upstreams,
        calendars,
        clients,
        router,
        unrouted,
        unrouted_names,
        stripped,
        has_sockets,
        token_headers,
        token_cookies,
        kept,
        state: state.map(|state| state.0),
        audit,
        anomalies,
        tests: tests.unwrap_or_default(),
        files: load.wanted(),
        defined,
    })
}

/// What rules read is kept in records, and a record keeps no credential.
fn carries_tokens(name: &str) -> String {
    format!("`{name}` is read by a rule, so it cannot carry a credential: records keep what rules read")
}

/// `None` where a route has mistakes. It still matches what it matches: ties and unreachable routes are looked for among all.
fn router(compiled: Vec<(Option<Match>, Option<Arc<Route>>)>, load: &Load) -> Option<Router<Arc<Route>>> {
    let is_sound = compiled
        .iter()
        .all(|(matches, route)| matches.is_some() && route.is_some());
    if !is_sound {
        let matches = compiled.into_iter().filter_map(|(matches, _)| matches);
        Router::new(matches.map(|matches| (matches, ())).collect(), load);
        return None;
    }
    let routes = compiled.into_iter().filter_map(|(matches, route)| matches.zip(route));
    Some(Router::new(routes.collect(), load))
}

/// Every rule that a request may meet, by name.
fn rule_names<'a>(router: &'a Router<Arc<Route>>, unrouted: &'a [Rule]) -> Vec<&'a str> {
    let routed = router.iter().flat_map(|(_, route)| &route.rules);
    let mut names: Vec<&str> = routed.chain(unrouted).map(|rule| &*rule.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn kept(router: &Router<Arc<Route>>, clients: &Clients, unrouted: &[Rule]) -> Kept {
    let mut headers = router.headers_read();
    headers.extend_from_slice(clients.headers());
    let (mut query, mut claims) = (Vec::new(), Vec::new());
    for rule in router.iter().flat_map(|(_, route)| &route.rules).chain(unrouted) {
        headers.extend(rule.policy.reads_headers());
        query.extend(rule.policy.reads_query());
        claims.extend(rule.policy.reads_claims());
    }
    headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    headers.dedup();
    query.sort();
    query.dedup();
    claims.sort();
    claims.dedup();
    // What carries a credential is never kept, whoever asks.
    headers.retain(|name| !["authorization", "cookie", "proxy-authorization"].contains(&name.as_str()));
    Kept {
        headers,
        query,
        claims: claims.into(),
    }
}

/// Over every file's name and content, each framed by its length, and the public keys of passports: a key that is changed is
/// news, though its file is a secret.
fn hash(files: &[Arc<crate::conf::Source>], passport: Option<&Passport>) -> Arc<str> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    };
    for source in files {
        add(source.path.file_name().unwrap_or_default().as_encoded_bytes());
        add(source.text.as_bytes());
    }
    if let Some(passport) = passport {
        add(passport.key_set().as_bytes());
    }
    let digest = context.finish();
    Arc::from(
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    )
}

impl Snapshot {
    /// Whether the other was made of the same files and secrets.
    pub fn is_made_as(&self, other: &Self) -> bool {
        self.id == other.id && self.secrets == other.secrets
    }

    /// Those of the headers that no rule and no upstream may read from a caller: those that the gate alone writes, hearsay,
    /// names with `_`, which many servers read as the same name with `-`, and `Upgrade`, where no socket is asked for that some
    /// route opens. A token proves itself, whatever it stands in; what a trusted proxy says of the caller stays where it is one
    /// that says it (`is_proxied`).
    pub fn forbidden(&self, headers: &HeaderMap, is_proxied: bool) -> Vec<HeaderName> {
        let trusted = self.trusted_header();
        let is_forbidden = |name: &&HeaderName| {
            let text = name.as_str();
            if Some(*name) == trusted {
                return !is_proxied;
            }
            if **name == header::UPGRADE {
                return !self.has_sockets || !handshake::is_asked(headers);
            }
            is_hearsay(text) && !self.token_headers.contains(name) || text.contains('_') || self.stripped.contains(name)
        };
        headers.keys().filter(is_forbidden).cloned().collect()
    }

    /// The header in which trusted proxies name the caller, if there are any that do.
    pub fn trusted_header(&self) -> Option<&HeaderName> {
        self.trusted_proxies.as_ref().and_then(TrustedProxies::header)
    }

    /// The folder of what outlives the process, if there is one: that of `state:`, else `$STATE_DIRECTORY`, which systemd sets.
    pub fn state_folder(&self) -> Option<PathBuf> {
        let listed = || std::env::var_os("STATE_DIRECTORY").filter(|listed| !listed.is_empty());
        self.state.clone().or_else(|| std::env::split_paths(&listed()?).next())
    }

    /// Secrets that could not be fetched, each with its place and the reason. A gateway must not start with any.
    pub fn unfetched_secrets(&self) -> impl Iterator<Item = &(Place, String)> {
        let admin = self.admin.as_ref().and_then(|admin| admin.unfetched.as_ref());
        let of_authenticators = self.defined.authenticators.unfetched_secrets();
        let of_passports = self
            .defined
            .passport
            .iter()
            .flat_map(|passport| passport.unfetched_secrets());
        of_authenticators
            .iter()
            .chain(of_passports)
            .chain(&self.unfetched)
            .chain(admin)
    }

    /// Whether a freeze of that kind and name closes anything.
    pub fn has(&self, kind: Freezable, name: &str) -> bool {
        match kind {
            Freezable::Route => self.route(name).is_some(),
            Freezable::Upstream => self.upstreams.iter().any(|upstream| *upstream.name == *name),
        }
    }

    /// The route of that name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.router
            .iter()
            .map(|(_, route)| route)
            .find(|route| &*route.name == name)
    }
}

#[cfg(test)]
pub(crate) mod allocations;
#[cfg(test)]
mod tests;
