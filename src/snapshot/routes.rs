//! Compiling routes: `defaults` and a route's own keys come together, each key by its kind.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use jiff::tz::TimeZone;

use crate::conf::{Entry, Load, Named, Node, Read, Spanned, Value, mend, nearest};
use crate::engine::{Policy, Reply, Rule, Stage};
use crate::policies::access::{Calendars, When};
use crate::policies::clients::Clients;
use crate::policies::freeze::{self, FreezeRule};
use crate::policies::revocation::{self, RevocationRule};
use crate::policies::{Defined, Draft, Inherit, KINDS, Kind, Scope, authn, forward, passport, transform};
use crate::routing::Match;
use crate::targets::aggregate::{Aggregate, AggregateScope};
use crate::targets::{Target, UpstreamIndex, fixed};

use super::Route;

/// The keys of a route besides those of [`KINDS`].
const KEYS: [&str; 7] = [
    "match",
    "upstream",
    "aggregate",
    "reply",
    "redirect",
    "deadline",
    "without",
];
/// The keys that say who answers.
pub(super) const TARGETS: [&str; 4] = ["upstream", "aggregate", "reply", "redirect"];
/// The answer that tells the public keys of passports.
pub(super) const PASSPORT_KEYS: &str = "passport_keys";
/// What is written for `off` by mistake.
const OFF: [&str; 5] = ["no", "No", "false", "False", "none"];
/// An aggregate that names no deadline has this one.
const DEADLINE: Duration = Duration::from_secs(10);

/// The keys that may stand in `defaults`.
pub(super) fn inherited() -> Vec<&'static str> {
    let inherited = KINDS.iter().filter(|kind| kind.inherit != Inherit::Never);
    inherited.map(|kind| kind.name).collect()
}

/// Compiles the routes of one document.
pub(super) struct Compiler<'a> {
    load: &'a Load,
    defined: &'a Defined,
    upstreams: &'a [Arc<str>],
    calendars: &'a Calendars,
    clients: &'a Clients,
    defaults: &'a [Entry],
    /// The zone of all calendars, where it is one.
    zone: Option<TimeZone>,
}

impl<'a> Compiler<'a> {
    pub fn new(
        load: &'a Load,
        defined: &'a Defined,
        upstreams: &'a [Arc<str>],
        calendars: &'a Calendars,
        clients: &'a Clients,
        defaults: Option<&'a Node>,
    ) -> Self {
        Self {
            load,
            defined,
            upstreams,
            calendars,
            clients,
            defaults: defaults.and_then(|node| node.entries(load)).unwrap_or_default(),
            zone: calendars.zone().cloned(),
        }
    }

    /// The rules of a request that no route matches: what `defaults` says of every request.
    pub fn unrouted(&self) -> Vec<Rule> {
        // As on a route that asks who calls: what cannot be done without is found on the routes it is missing on.
        let scope = self.scope(&Arc::from(""), true, None, None);
        // Findings of `defaults` are reported by the routes that inherit them, or here where there is none.
        let drafts = KINDS.iter().flat_map(|kind| {
            let node = self
                .default(kind.name)
                .filter(|node| kind.inherit != Inherit::Never && self.is_value(kind, node));
            let drafts = node.map_or_else(Vec::new, |node| (kind.compile)(node, &scope));
            drafts.into_iter().map(|draft| rule(kind, draft))
        });
        let mut rules: Vec<Rule> = drafts
            .filter(|rule| matches!(rule.stage, Stage::Annotate | Stage::Screen | Stage::Preflight))
            .collect();
        rules.sort_by_key(|rule| rule.stage);
        rules
    }

    /// What the route matches, and the route itself; each is missing where it has a mistake.
    pub fn route(&self, name: &Spanned<String>, node: &Node) -> (Option<Match>, Option<Arc<Route>>) {
        if node.entries(self.load).is_none() {
            return (None, None);
        }
        let known: Vec<&str> = KEYS.into_iter().chain(KINDS.iter().map(|kind| kind.name)).collect();
        let node = &*mend(node, &known, self.load);
        let missing = |message: String| self.load.error(&name.place, message);
        let matches = match node.get("match") {
            Some(node) => Match::read(node, self.load),
            None => {
                missing(format!("route `{}` has no `match`", name.value));
                None
            }
        };
        let auth = node.get("auth");
        if auth.is_none() {
            missing(format!(
                "route `{}` does not say who may call: write `auth:`, or `auth: none` for everybody",
                name.value
            ));
        }
        // What is left out is not taken for `none`, so that the rest of the route is read as it was meant.
        let has_auth = !auth.is_some_and(|auth| matches!(&auth.value, Value::Scalar { text, .. } if text == "none"));
        let route_name: Arc<str> = Arc::from(name.value.as_str());
        let params = matches.as_ref().map(|matches| matches.path.names());
        let cors = node.get("cors").or(self.default("cors"));
        let scope = self.scope(&route_name, has_auth, params, cors);
        let mut rules = self.rules(node, &scope);
        rules.sort_by_key(|rule| rule.stage);
        let target = self.target(name, node, matches.as_ref(), has_auth);
        self.check_sharing(node, has_auth);
        self.check_changes(node);
        self.check_open_writes(name, node, matches.as_ref(), &rules);
        self.check_methods(name, node, matches.as_ref());
        // Every part was read before the route is given up, so that every mistake is reported.
        if let Some(target) = target.as_ref().map(|(target, _)| target) {
            let first = rules.partition_point(|rule| rule.stage < Stage::Authorize);
            rules.insert(first, self.freeze_rule(&route_name, name, target));
            if has_auth {
                rules.insert(
                    first,
                    standing(revocation::NAME, name, Arc::new(RevocationRule::default())),
                );
            }
        }
        let whole = auth.zip(matches.as_ref().zip(target));
        let route = whole.map(|(auth, (matches, (target, deadline)))| Route {
            name: route_name,
            template: matches.path.text().clone(),
            place: name.place.clone(),
            rule_names: rules.iter().map(|rule| rule.name.clone()).collect(),
            rules,
            target,
            token_sources: authn::sources(auth, &self.defined.authenticators),
            keeps_authorization: has_auth,
            deadline,
        });
        (matches, route.map(Arc::new))
    }

    /// The rule that no configuration asks for: operators freeze what is there.
    fn freeze_rule(&self, route: &Arc<str>, name: &Spanned<String>, target: &Target) -> Rule {
        let (needed, all) = match target {
            Target::Upstream(index) => (vec![*index], vec![*index]),
            Target::Aggregate(aggregate) => (aggregate.needed_upstreams(), aggregate.upstreams()),
            Target::Fixed(_) => (Vec::new(), Vec::new()),
        };
        let others = all.iter().filter(|index| !needed.contains(index));
        let name_of = |index: &UpstreamIndex| self.upstreams.get(usize::from(index.0)).cloned();
        let policy = FreezeRule::new(
            route.clone(),
            needed.iter().filter_map(name_of).collect(),
            others.filter_map(name_of).collect(),
            self.zone.clone(),
        );
        standing(freeze::NAME, name, Arc::new(policy))
    }

    /// The headers that some `forward:` writes.
    pub fn stripped(&self, routes: &Named<Node>) -> Vec<HeaderName> {
        let nodes = routes
            .0
            .iter()
            .filter_map(|(_, node)| node.get("forward"))
            .chain(self.default("forward"));
        let mut names: Vec<HeaderName> = nodes.flat_map(forward::names).collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }

    fn scope<'s>(
        &'s self,
        route: &Arc<str>,
        has_auth: bool,
        params: Option<&'s [Arc<str>]>,
        cors: Option<&'s Node>,
    ) -> Scope<'s> {
        Scope {
            load: self.load,
            route: route.clone(),
            has_auth,
            params,
            cors,
            defined: self.defined,
        }
    }

    fn default(&self, key: &str) -> Option<&'a Node> {
        self.defaults
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    fn rules(&self, node: &Node, scope: &Scope<'_>) -> Vec<Rule> {
        let without = self.without(node);
        let mut rules = Vec::new();
        for kind in KINDS {
            let own = node.get(kind.name);
            let inherited = self.default(kind.name);
            let merged = match kind.inherit {
                Inherit::Never => own.cloned(),
                Inherit::Single => own.or(inherited).cloned(),
                Inherit::List => self.merge(inherited, own, &without),
            };
            if let Some(merged) = merged.filter(|merged| self.is_value(kind, merged)) {
                rules.extend(
                    (kind.compile)(&merged, scope)
                        .into_iter()
                        .map(|draft| rule(kind, draft)),
                );
            }
        }
        rules
    }

    /// Reports other words for `off`, which YAML itself would take for the same.
    fn is_value(&self, kind: &Kind, node: &Node) -> bool {
        match &node.value {
            Value::Scalar { text, .. } if kind.inherit == Inherit::Single && OFF.contains(&text.as_str()) => {
                let message = format!("`{}: {text}`: write `{}: off` to turn it off", kind.name, kind.name);
                self.load.error(&node.place, message);
                false
            }
            _ => true,
        }
    }

    /// The defaults' names first, without those taken out and those the route names itself.
    fn merge(&self, inherited: Option<&Node>, own: Option<&Node>, without: &[Spanned<String>]) -> Option<Node> {
        let items = |node: Option<&Node>| match node.map(|node| &node.value) {
            Some(Value::List(items)) => items.clone(),
            _ => Vec::new(),
        };
        let text = |node: &Node| match &node.value {
            Value::Scalar { text, .. } => text.clone(),
            _ => String::new(),
        };
        if let Some(odd) = [inherited, own]
            .into_iter()
            .flatten()
            .find(|node| !matches!(node.value, Value::List(_)))
        {
            return Some(odd.clone());
        }
        let place = own.or(inherited)?.place.clone();
        let own = items(own);
        let mut merged = items(inherited);
        merged.retain(|item| {
            let name = text(item);
            !without.iter().any(|out| out.value == name) && !own.iter().any(|item| text(item) == name)
        });
        merged.extend(own);
        (!merged.is_empty()).then_some(Node {
            place,
            value: Value::List(merged),
        })
    }

    /// The names that the route takes out of the defaults.
    fn without(&self, node: &Node) -> Vec<Spanned<String>> {
        let Some(node) = node.get("without") else {
            return Vec::new();
        };
        let names = Vec::<Spanned<String>>::read(node, self.load).unwrap_or_default();
        let lists = KINDS
            .iter()
            .filter(|kind| kind.inherit == Inherit::List)
            .filter_map(|kind| self.default(kind.name));
        let inherited: Vec<String> = lists
            .flat_map(|node| Vec::<String>::read(node, &Load::new()).unwrap_or_default())
            .collect();
        for name in &names {
            if !inherited.contains(&name.value) {
                let message = match nearest(&name.value, inherited.iter().map(String::as_str)) {
                    Some(near) => format!("`{}` is not among the defaults, did you mean `{near}`?", name.value),
                    None => format!("`{}` is not among the defaults", name.value),
                };
                self.load.error(&name.place, message);
            }
        }
        names
    }

    fn target(
        &self,
        name: &Spanned<String>,
        node: &Node,
        matches: Option<&Match>,
        has_auth: bool,
    ) -> Option<(Target, Duration)> {
        let written: Vec<&str> = TARGETS.into_iter().filter(|key| node.get(key).is_some()).collect();
        if let [_, second, ..] = *written {
            let place = node.get(second).map_or(&name.place, |node| &node.place);
            self.load.error(
                place,
                format!(
                    "route `{}` has more than one target: {}",
                    name.value,
                    written.join(", ")
                ),
            );
            return None;
        }
        let deadline = node
            .get("deadline")
            .map(|node| Spanned::<Duration>::read(node, self.load));
        if let Some(Some(deadline)) = &deadline {
            if node.get("aggregate").is_none() {
                self.load.error(
                    &deadline.place,
                    "`deadline` stands with `aggregate`; an upstream has `timeout`",
                );
            } else if deadline.value.is_zero() {
                self.load.error(&deadline.place, "a deadline above 0 is needed");
            }
        }
        let deadline = deadline.flatten().map_or(DEADLINE, |deadline| deadline.value);
        let target = if let Some(node) = node.get("upstream") {
            Target::Upstream(self.upstream(node)?)
        } else if let (Some(node), nested) = (node.get("aggregate"), node) {
            let params = matches.map(|matches| matches.path.names());
            let scope = AggregateScope {
                load: self.load,
                upstreams: self.upstreams,
                params,
                has_auth,
                condition: &|node| When::compile(node, self.calendars, self.clients, self.load),
            };
            self.check_stored_whole(nested);
            Target::Aggregate(Aggregate::compile(node, &scope)?)
        } else if let Some(node) = node.get("reply") {
            Target::Fixed(self.reply(node)?)
        } else if let Some(node) = node.get("redirect") {
            Target::Fixed(fixed::redirect(node, self.load)?)
        } else {
            let message = format!(
                "route `{}` has no target: write one of {}",
                name.value,
                TARGETS.join(", ")
            );
            self.load.error(&name.place, message);
            return None;
        };
        Some((target, deadline))
    }

    /// An answer that stands here, or the one word for one that the gateway knows.
    fn reply(&self, node: &Node) -> Option<Reply> {
        match &node.value {
            Value::Scalar { text, .. } if text == PASSPORT_KEYS => {
                if !passport::is_there(self.load) {
                    let message = "there is no `passport:` whose keys could be told";
                    self.load.error(&node.place, message);
                }
                Some(self.defined.passport.as_ref()?.told())
            }
            Value::Scalar { text, .. } if nearest(text, [PASSPORT_KEYS].into_iter()).is_some() => {
                let message = format!("unknown word `{text}`, did you mean `{PASSPORT_KEYS}`?");
                self.load.error(&node.place, message);
                None
            }
            _ => fixed::reply(node, self.load),
        }
    }

    fn upstream(&self, node: &Node) -> Option<UpstreamIndex> {
        let name = node.text("the name of an upstream", self.load)?;
        self.load.names.refer("upstream", name);
        if let Some(at) = self.upstreams.iter().position(|known| &**known == name) {
            return u16::try_from(at).ok().map(UpstreamIndex);
        }
        let known = self.upstreams.iter().map(|known| &**known);
        self.load.unknown_name("upstream", name, &node.place, known);
        None
    }

    /// Warns where anybody may change something behind the gate, and nobody thought of it: not even a policy asks who it is,
    /// and the route has no limits of its own, as one has that is meant to be open, such as a login.
    fn check_open_writes(&self, name: &Spanned<String>, node: &Node, matches: Option<&Match>, rules: &[Rule]) {
        let says_none = |node: &Node| matches!(&node.value, Value::Scalar { text, .. } if text == "none");
        let (Some(matches), Some(auth), Some(_)) = (matches, node.get("auth"), node.get("upstream")) else {
            return;
        };
        let is_open = match &auth.value {
            Value::List(listed) => listed.iter().any(says_none),
            _ => says_none(auth),
        };
        let is_asked = rules.iter().any(|rule| !rule.shadow && rule.policy.restricts_callers());
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let writes = writes.iter().find(|method| matches.methods.fit(method).is_some());
        let is_meant =
            matches!(node.get("limits").map(|limits| &limits.value), Some(Value::List(own)) if !own.is_empty());
        if let (true, false, false, Some(method)) = (is_open, is_asked, is_meant, writes) {
            let message = format!(
                "anybody may write through route `{}`: no credential is needed; if that is meant, give it `limits` of its own",
                name.value
            );
            self.load
                .warn_with(&auth.place, message, &matches.place, format!("it takes `{method}`"));
        }
    }

    /// Warns of a policy that the route names itself and that says the same of all its requests, being about other methods.
    fn check_methods(&self, name: &Spanned<String>, node: &Node, matches: Option<&Match>) {
        let (Some(matches), Some(own)) = (matches, node.get("policies")) else {
            return;
        };
        let policies = &self.defined.policies;
        for policy in Vec::<Spanned<String>>::read(own, &Load::new()).unwrap_or_default() {
            if let Some(outlook) = policies.outlook_for(&policy.value, |method| matches.methods.fit(method).is_some()) {
                let message = format!("`{}` {outlook} on route `{}`, by its methods", policy.value, name.value);
                let note = "the route takes none of them";
                self.load.warn_with(&policy.place, message, &matches.place, note);
            }
        }
    }

    /// What changes a request or an answer changes nothing where the gateway answers by itself.
    fn check_changes(&self, node: &Node) {
        for (key, targets) in [("request", &["upstream"][..]), ("shape", &["upstream", "aggregate"])] {
            let target = TARGETS.iter().find(|target| node.get(target).is_some());
            if let (Some(own), Some(target)) = (node.get(key), target.filter(|target| !targets.contains(target))) {
                let message = format!(
                    "`{key}` changes nothing here: it stands with {}, not with `{target}`",
                    either(targets)
                );
                self.load.error(&own.place, message);
            }
        }
        for target in ["reply", "redirect"] {
            if let (Some(cache), Some(_)) = (node.get("cache"), node.get(target)) {
                let message = format!(
                    "`cache` changes nothing here: it stands with {}, not with `{target}`",
                    either(&["upstream"])
                );
                self.load.error(&cache.place, message);
            }
        }
        let (Some(cache), Some(request)) = (node.get("cache"), node.get("request")) else {
            return;
        };
        let depends = transform::depends(request);
        let share = cache.get("share");
        let is_public = matches!(share.map(|share| &share.value), Some(Value::Scalar { text, .. }) if text == "public");
        if depends.caller && is_public {
            self.load.error_with(
                &cache.place,
                "an answer shared with everybody cannot depend on the caller",
                &request.place,
                "the request is changed by who calls here",
            );
        }
        if depends.headers {
            self.load.error_with(
                &cache.place,
                "a stored answer cannot depend on a header or the kind of client: it is found by its address alone",
                &request.place,
                "the request is changed by these here",
            );
        }
    }

    /// A header that says who calls, or carries a token, is not for a `request:` to change.
    pub fn check_changed_headers(&self, routes: &Named<Node>, stripped: &[HeaderName], tokens: &[HeaderName]) {
        let requests = routes.0.iter().filter_map(|(_, node)| node.get("request"));
        for (name, place) in requests.flat_map(transform::changed_headers) {
            if stripped.contains(&name) {
                self.load.error(
                    &place,
                    format!("`{name}` cannot be changed: a `forward:` says in it who calls"),
                );
            } else if tokens.contains(&name) {
                self.load.error(
                    &place,
                    format!("`{name}` cannot be changed: an authenticator reads tokens from it"),
                );
            }
        }
    }

    /// The whole is put together anew for every request: what is kept are its parts.
    fn check_stored_whole(&self, node: &Node) {
        if let Some(cache) = node.get("cache") {
            let message = "an aggregate is not kept as a whole: write `cache` on its parts";
            self.load.error(&cache.place, message);
        }
    }

    /// A publicly shared answer must not depend on who asked first.
    fn check_sharing(&self, node: &Node, has_auth: bool) {
        let Some(cache) = node.get("cache") else { return };
        let share = cache.get("share");
        let is_public = match share.map(|share| &share.value) {
            Some(Value::Scalar { text, .. }) => text == "public",
            Some(_) => false,
            None => !has_auth,
        };
        let place = share.map_or(&cache.place, |share| &share.place);
        let Some(forward) = node.get("forward").or(self.default("forward")).filter(|_| is_public) else {
            return;
        };
        if forward::tells(forward) {
            self.load.error_with(
                place,
                "an answer shared with everybody cannot depend on the caller",
                &forward.place,
                "the caller's facts are forwarded here",
            );
        } else if forward::keeps(forward) {
            self.load.error_with(
                place,
                "an answer shared with everybody is asked for without a credential",
                &forward.place,
                "the caller's is kept here",
            );
        }
    }
}

fn either(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(" or ")
}

/// A rule that no configuration asks for: it stands where the route does.
fn standing(kind: &'static str, route: &Spanned<String>, policy: Arc<dyn Policy>) -> Rule {
    Rule {
        name: Arc::from(kind),
        kind,
        stage: Stage::Authorize,
        shadow: false,
        origin: Arc::from(route.place.to_string()),
        policy,
    }
}

fn rule(kind: &Kind, draft: Draft) -> Rule {
    Rule {
        name: draft.name,
        kind: kind.name,
        stage: draft.stage,
        shadow: draft.shadow,
        origin: Arc::from(draft.place.to_string()),
        policy: draft.policy,
    }
}
