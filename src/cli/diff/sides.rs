//! One of the two configurations: what its routes look at, and what becomes of a request.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use futures::FutureExt;
use jiff::tz::TimeZone;
use serde_json::Map;

use crate::engine::{AuthenticatorId, Decision, Effect, Facts, Mentions, Question, Rule, Stage, decide};
use crate::policies::authn::{Authenticator, Source};
use crate::rehearse::{Assumed, Issued};
use crate::routing::Found;
use crate::snapshot::{Asked, Route, Snapshot, judge};
use crate::targets::Target;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// It is answered as the route says.
    Allowed(Answered),
    /// It is refused.
    Refused(Refusal),
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Answered {
    /// In words.
    pub by: Arc<str>,
    /// What else tells two of them apart.
    fingerprint: Arc<str>,
}

/// A refusal, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Refusal {
    /// `deny`, `challenge` or `throttle`.
    pub effect: &'static str,
    pub status: u16,
    pub code: Arc<str>,
    pub policy: Option<Arc<str>>,
}

/// Whose token it is, and where scopes and roles stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub issuer: Arc<str>,
    /// The first authenticator that was found to accept it.
    pub authenticator: Arc<str>,
    pub scopes: String,
    pub roles: String,
    /// Where that one looks for it.
    sources: Vec<Source>,
}

impl Token {
    fn of(authenticator: &Authenticator) -> Self {
        let (scopes, roles) = authenticator.scopes_and_roles();
        Self {
            issuer: authenticator.issuer().clone(),
            authenticator: authenticator.name().clone(),
            scopes: scopes.to_owned(),
            roles: roles.to_owned(),
            sources: authenticator.sources().to_vec(),
        }
    }

    /// Whether it is the same token, whatever the authenticators are called.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.issuer, &self.scopes, &self.roles) == (&other.issuer, &other.scopes, &other.roles)
    }
}

/// A configuration with what was found out about its routes.
pub(super) struct Side<'a> {
    pub snapshot: &'a Snapshot,
    routes: HashMap<Arc<str>, Known>,
}

/// What is known of a route.
pub(super) struct Known {
    /// What its rules look at.
    pub mentions: Mentions,
    /// Its rules, in their order.
    pub rules: Vec<Part>,
    /// Rules of which nobody can say what they look at.
    pub opaque: Vec<Opaque>,
    /// The other rules, where there are such: for those who are known, and for those who are not.
    clear: Option<[Vec<Rule>; 2]>,
    answered: Answered,
    sources: Box<[Source]>,
}

/// One rule of a route.
pub(super) struct Part {
    /// What it looks at, where that can be told.
    pub mentions: Mentions,
    /// The same for rules that judge alike, as long as what they refer to is the same.
    text: Arc<str>,
}

/// A rule of which nobody can say what it looks at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Opaque {
    pub name: Arc<str>,
    /// What it says.
    pub words: Vec<String>,
    /// Windows that it names besides.
    pub windows: Vec<Arc<str>>,
    /// Whether it tells clients apart.
    pub tells_clients: bool,
    /// On whose clocks it reads `now`.
    pub clocks: Vec<TimeZone>,
}

impl Known {
    /// The rules that are not the same in `other`, where windows do not say otherwise.
    pub fn apart<'k>(&'k self, other: &'k Self, windows: &'k [Arc<str>]) -> impl Iterator<Item = &'k Part> {
        let is_same = move |rule: &Part| {
            let named = &rule.mentions.windows;
            !named.iter().any(|window| windows.contains(window)) && other.rules.iter().any(|one| one.text == rule.text)
        };
        self.rules.iter().filter(move |rule| !is_same(rule))
    }

    /// Whether every request gets the same from both, where windows do not say otherwise.
    pub fn is_like(&self, other: &Self, windows: &[Arc<str>]) -> bool {
        let texts = |known: &'_ Self| -> Vec<Arc<str>> { known.rules.iter().map(|rule| rule.text.clone()).collect() };
        texts(self) == texts(other)
            && self.apart(other, windows).next().is_none()
            && (&self.answered, &self.sources) == (&other.answered, &other.sources)
    }

    /// The rules that are left out, by name.
    pub fn left_out(&self) -> impl Iterator<Item = &Arc<str>> {
        self.opaque.iter().map(|rule| &rule.name)
    }
}

/// What `rule` looks at: nothing where it is not enforced, or judges nothing but who calls and how often.
pub(super) fn mentions_of(rule: &Rule) -> Mentions {
    let mut mentions = Mentions::default();
    if matches!(rule.stage, Stage::Authorize | Stage::StepUp) && !rule.shadow {
        rule.policy.mention(&mut mentions);
    }
    mentions
}

/// Whether tokens and clients are told in the same way, so that rules that read alike judge alike.
pub(super) fn is_told_alike(now: &Snapshot, next: &Snapshot) -> bool {
    let (was, is) = (&now.defined.authenticators, &next.defined.authenticators);
    let (was, is): (Vec<_>, Vec<_>) = (was.iter().collect(), is.iter().collect());
    was == is
        && now.clients.told_otherwise(&next.clients).is_empty()
        && next.clients.told_otherwise(&now.clients).is_empty()
}

impl<'a> Side<'a> {
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let mut texts = HashMap::new();
        let routes = snapshot.router.iter().map(|(_, route)| {
            let known = Known::of(route, snapshot, &mut texts);
            (route.name.clone(), known)
        });
        Self {
            snapshot,
            routes: routes.collect(),
        }
    }

    /// What is known of the route of that name.
    pub fn known(&self, route: &str) -> Option<&Known> {
        self.routes.get(route)
    }

    /// The route that `asked` takes, by its name.
    pub fn taken(&self, asked: &Asked) -> Option<(&Arc<str>, &Known)> {
        let router = &self.snapshot.router;
        match router.find(&asked.method, &asked.host, &asked.path, &asked.headers) {
            Found::Route(route, _) => self.routes.get_key_value(&route.name),
            Found::MethodNotAllowed(_) | Found::NotFound => None,
        }
    }

    /// The tokens that are accepted where `asked`, which carries one, goes.
    pub fn tokens(&self, asked: &Asked) -> Vec<Token> {
        let view = asked.view();
        let facts = Facts {
            now: asked.at,
            window_at: asked.at,
            address: asked.address,
            client: self.snapshot.clients.of(&view),
            request: view,
            params: Default::default(),
            principal: None,
        };
        let rules = self.snapshot.rules_for(&view).iter();
        let asks = rules.filter_map(|rule| match rule.policy.ask(&facts) {
            Some(Question::Token { authenticators, .. }) => Some(authenticators.to_vec()),
            _ => None,
        });
        let known = &self.snapshot.defined.authenticators;
        let token = |id: AuthenticatorId| {
            known
                .iter()
                .find(|(known, _)| *known == id)
                .map(|(_, one)| Token::of(one))
        };
        asks.flatten().filter_map(token).collect()
    }

    /// Whether the token is looked at where `asked` goes. An `Authorization` is never passed over; an API key in a header that
    /// nobody reads there, or a token in such a cookie, is.
    pub fn looks_for(&self, asked: &Asked, token: &Token) -> bool {
        let router = &self.snapshot.router;
        match router.find(&asked.method, &asked.host, &asked.path, &asked.headers) {
            Found::Route(route, _) => {
                let is_read =
                    |source: &Source| *source == Source::Authorization || route.token_sources.contains(source);
                token.sources.iter().any(is_read)
            }
            Found::MethodNotAllowed(_) | Found::NotFound => true,
        }
    }

    /// The name of the route that `asked` takes, and what becomes of it; a token is one of `issuer`, where that is said. Rules that are
    /// opaque are left out.
    pub fn outcome(&self, asked: &Asked, issuer: Option<&str>) -> anyhow::Result<(Option<Arc<str>>, Outcome)> {
        let nothing = Map::new();
        let authenticators = &self.snapshot.defined.authenticators;
        let lookup = Assumed {
            authenticators,
            claims: asked.claims.as_ref().unwrap_or(&nothing),
            token: issuer.map_or(Issued::ForFirst, Issued::By),
            limits: &self.snapshot.defined.limits,
            exhausted: &[],
        };
        const WAITED: &str = "an assumption was waited for";
        let judged = judge(self.snapshot, asked.view(), asked.address, asked.at, &lookup);
        let judged = judged.now_or_never().context(WAITED)?;
        let route = judged.route.map(|route| route.name.clone());
        let known = route.as_ref().and_then(|route| self.routes.get(route));
        let outcome = match known.and_then(|known| known.clear.as_ref()) {
            None => {
                let policy = |at: u16| judged.rule_names.get(usize::from(at)).cloned();
                outcome(&judged.decision, known, policy)
            }
            Some([known_callers, strangers]) => {
                let rules = if asked.claims.is_some() {
                    known_callers
                } else {
                    strangers
                };
                let mut facts = Facts {
                    now: asked.at,
                    window_at: asked.at,
                    address: asked.address,
                    client: judged.client,
                    request: asked.view(),
                    params: judged.params,
                    principal: None,
                };
                let decided = decide(rules, &mut facts, &lookup).now_or_never();
                let decision = decided.context(WAITED)?;
                let policy = |at: u16| rules.get(usize::from(at)).map(|rule| rule.name.clone());
                outcome(&decision, known, policy)
            }
        };
        Ok((route, outcome))
    }
}

impl Known {
    /// The texts of rules are kept in `texts`, as routes share them.
    fn of(route: &Route, snapshot: &Snapshot, texts: &mut HashMap<*const (), Arc<str>>) -> Self {
        let mut known = Self {
            mentions: Mentions::default(),
            rules: Vec::with_capacity(route.rules.len()),
            opaque: Vec::new(),
            clear: None,
            answered: Answered::of(&route.target, snapshot),
            sources: route.token_sources.clone(),
        };
        let mut clear = [Vec::new(), Vec::new()];
        for rule in &route.rules {
            let policy = texts.entry(Arc::as_ptr(&rule.policy).cast());
            let policy = policy.or_insert_with(|| format!("{:?}", rule.policy).into());
            let text = format!("{} {} {} {policy}", rule.kind, rule.name, rule.shadow).into();
            let mut mentions = mentions_of(rule);
            let opaque = std::mem::take(&mut mentions.opaque);
            let [callers, strangers] = &mut clear;
            if opaque.is_empty() || mentions.refuses_strangers {
                strangers.push(rule.clone());
            }
            if opaque.is_empty() {
                callers.push(rule.clone());
                add(&mut known.mentions, mentions.clone());
            } else {
                known.opaque.push(Opaque {
                    name: rule.name.clone(),
                    words: opaque,
                    windows: mentions.windows,
                    tells_clients: !mentions.clients.is_empty(),
                    clocks: mentions.clocks,
                });
                mentions = Mentions::default();
            }
            known.rules.push(Part { mentions, text });
        }
        known.clear = (!known.opaque.is_empty()).then_some(clear);
        known
    }
}

/// Adds `more` to `all`.
pub(super) fn add(all: &mut Mentions, more: Mentions) {
    let Mentions {
        windows,
        roles,
        scopes,
        required_scopes,
        claims,
        login_ages,
        networks,
        clients,
        methods,
        headers,
        query,
        clocks,
        opaque,
        refuses_strangers,
    } = more;
    all.windows.extend(windows);
    all.roles.extend(roles);
    all.scopes.extend(scopes);
    all.required_scopes.extend(required_scopes);
    all.claims.extend(claims);
    all.login_ages.extend(login_ages);
    all.networks.extend(networks);
    all.clients.extend(clients);
    all.methods.extend(methods);
    all.headers.extend(headers);
    all.query.extend(query);
    all.clocks.extend(clocks);
    all.opaque.extend(opaque);
    all.refuses_strangers |= refuses_strangers;
}

fn outcome(decision: &Decision, known: Option<&Known>, policy: impl Fn(u16) -> Option<Arc<str>>) -> Outcome {
    match (&decision.effect, known) {
        (Effect::Deny(denial), _) => Outcome::Refused(Refusal {
            effect: denial.kind.word(),
            status: denial.status.as_u16(),
            code: denial.code.clone(),
            policy: denial.rule.and_then(policy),
        }),
        (Effect::Forward, Some(known)) => Outcome::Allowed(known.answered.clone()),
        (Effect::Forward | Effect::Reply(_), _) => Outcome::Allowed(Answered {
            by: "the gateway itself".into(),
            fingerprint: "".into(),
        }),
    }
}

impl Answered {
    fn of(target: &Target, snapshot: &Snapshot) -> Self {
        let name = |at: usize| snapshot.upstreams.get(at).map_or("?", |upstream| &*upstream.name);
        let (by, fingerprint) = match target {
            Target::Upstream(index) => (format!("upstream `{}`", name(usize::from(index.0))), String::new()),
            Target::Aggregate(aggregate) => {
                let upstreams = aggregate.upstreams();
                let names = upstreams
                    .iter()
                    .map(|index| format!("`{}`", name(usize::from(index.0))));
                let by = format!("an aggregate of {}", names.collect::<Vec<_>>().join(", "));
                (by, aggregate.fingerprint(|index| name(usize::from(index.0))))
            }
            Target::Fixed(reply) => {
                let fingerprint = format!("{:?}{:?}", reply.headers, reply.body);
                (format!("a fixed {}", reply.status.as_u16()), fingerprint)
            }
        };
        Self {
            by: by.into(),
            fingerprint: fingerprint.into(),
        }
    }
}
