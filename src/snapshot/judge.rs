//! From the facts of a request to its decision: client, route, rules. Live traffic, `explain` and replay come through here.
//!
//! A CORS preflight is routed by the method it asks about, and answered by that route's `cors`. Without one, it is an
//! ordinary OPTIONS request if a route matches that, else a 204 that allows nothing: it is never told 404 or 405.
//! Where no route matches, the rules of every request are judged before 404 `route-not-found` or 405 `method-not-allowed`.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;

use super::{Route, Snapshot};
use crate::engine::{
    Act, Client, Decision, Denial, DenialKind, Effect, Effected, Facts, HeaderEdits, Lookup, Params, Reply,
    RequestView, Rule, Stage, decide, reopens_at,
};
use crate::policies::authn::{Source, asked_for};
use crate::routing::{Allow, Found, Rival};
use crate::targets::Target;

/// A request that was decided.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Its route.
    pub route: Option<&'a Arc<Route>>,
    /// The rules that stood on the way, in order; the trail names them by index.
    pub rules: &'a [Rule],
    /// The names of those rules.
    pub rule_names: &'a Arc<[Arc<str>]>,
    /// The parameters of the route's path.
    pub params: Params<'a>,
    /// The kind of application that calls.
    pub client: &'a Client,
    /// What happens.
    pub decision: Box<Decision>,
    /// The methods that would do, on 405; they stand in the decision as `Allow`, too.
    pub allow: Option<Allow>,
}

/// Decides `request`, whose host and path are normalised, from `address` at `now`.
pub fn judge<'a>(
    snapshot: &'a Snapshot,
    request: RequestView<'a>,
    address: IpAddr,
    now: Timestamp,
    lookup: &impl Lookup,
) -> impl Future<Output = Judged<'a>> {
    judge_later(snapshot, request, address, now, now, lookup)
}

/// As [`judge`], with windows and freezes as they are at `window_at` and all else as it is at `now`.
pub fn judge_later<'a>(
    snapshot: &'a Snapshot,
    request: RequestView<'a>,
    address: IpAddr,
    now: Timestamp,
    window_at: Timestamp,
    lookup: &impl Lookup,
) -> impl Future<Output = Judged<'a>> {
    judge_how(snapshot, request, address, [now, window_at], lookup, true)
}

/// As [`judge_later`], for those who do not want to know when a refusal ends, which takes longer than all else.
pub fn judge_later_alone<'a>(
    snapshot: &'a Snapshot,
    request: RequestView<'a>,
    address: IpAddr,
    now: Timestamp,
    window_at: Timestamp,
    lookup: &impl Lookup,
) -> impl Future<Output = Judged<'a>> {
    judge_how(snapshot, request, address, [now, window_at], lookup, false)
}

async fn judge_how<'a>(
    snapshot: &'a Snapshot,
    request: RequestView<'a>,
    address: IpAddr,
    [now, window_at]: [Timestamp; 2],
    lookup: &impl Lookup,
    looks_ahead: bool,
) -> Judged<'a> {
    let (found, is_preflight) = find(snapshot, &request);
    let (route, params, allow) = match found {
        Found::Route(route, params) => (Some(route), params, None),
        Found::MethodNotAllowed(allow) => (None, Params::default(), Some(allow)),
        Found::NotFound => (None, Params::default(), None),
    };
    let (rules, rule_names) = standing(snapshot, route);
    let client = snapshot.clients.of(&request);
    let chose = if is_preflight {
        None
    } else {
        choosing(snapshot, &request, route)
    };
    let mut facts = Facts {
        now,
        window_at,
        address,
        client,
        request,
        params,
        principal: None,
    };
    let mut decision = decide(rules, &mut facts, lookup).await;
    match (route, is_preflight) {
        (None, true) => allow_nothing(&mut decision),
        (None, false) if decision.is_forwarded() => unrouted(&mut decision, allow.as_ref()),
        _ => {}
    }
    decision.acts.extend(chose);
    if let (Effect::Deny(denial), Some(route)) = (&mut decision.effect, route) {
        ask_for_what_would_do(denial, route);
    }
    if looks_ahead {
        fill_in_reopening(rules, &mut facts, &mut decision);
    }
    Judged {
        route,
        rules,
        rule_names,
        params: facts.params,
        client,
        decision,
        allow,
    }
}

/// Where no bearer token would do, no rule asks for one.
fn ask_for_what_would_do(denial: &mut Denial, route: &Route) {
    let sources = &route.token_sources;
    let takes_no_tokens = !sources.is_empty() && !sources.iter().any(Source::is_of_tokens);
    if takes_no_tokens && denial.challenge.is_some() {
        denial.challenge = (denial.status == StatusCode::UNAUTHORIZED).then(|| asked_for(sources));
    }
}

impl Snapshot {
    /// The rules that [`judge`] would judge of `request`, in order.
    pub fn rules_for<'a>(&'a self, request: &RequestView<'a>) -> &'a [Rule] {
        match find(self, request).0 {
            Found::Route(route, _) => standing(self, Some(route)).0,
            Found::MethodNotAllowed(_) | Found::NotFound => standing(self, None).0,
        }
    }

    /// The routes beside the one that [`judge`] takes for `request`, with what decided between them.
    pub fn rivals<'a>(
        &'a self,
        request: &RequestView<'_>,
        taken: Option<&'a Arc<Route>>,
    ) -> Vec<Rival<'a, Arc<Route>>> {
        let router = &self.router;
        let by = |method: &Method| router.find(method, request.host, request.path, request.headers);
        let asked = asked_about(request).filter(|asked| {
            let found = by(asked);
            matches!((&found, taken), (Found::Route(route, _), Some(taken)) if Arc::ptr_eq(route, taken))
        });
        let method = asked.as_ref().unwrap_or(request.method);
        router.rivals(taken, method, request.host, request.path, request.headers)
    }
}

impl Judged<'_> {
    /// The decision in short, as records keep it.
    pub fn effected(&self) -> Effected {
        self.decision.effected(self.rule_names)
    }

    /// When windows may next have `request` judged otherwise than at `window_at`, all else being as it was at `now`.
    pub fn next_change(
        &self,
        request: RequestView<'_>,
        address: IpAddr,
        now: Timestamp,
        window_at: Timestamp,
    ) -> Option<Timestamp> {
        let facts = Facts {
            now,
            window_at,
            address,
            client: self.client,
            request,
            params: Params {
                names: self.params.names,
                values: self.params.values.iter().copied().collect(),
            },
            principal: self.decision.principal.clone(),
        };
        let enforced = self.rules.iter().filter(|rule| !rule.shadow);
        enforced.filter_map(|rule| rule.policy.next_change(&facts)).min()
    }

    /// Whether it is refused.
    pub fn is_refused(&self) -> bool {
        matches!(self.decision.effect, Effect::Deny(_))
    }

    /// The status, where the gateway itself answers.
    pub fn status(&self) -> Option<StatusCode> {
        match (&self.decision.effect, self.route.map(|route| &route.target)) {
            (Effect::Deny(denial), _) => Some(denial.status),
            (Effect::Reply(reply), _) | (Effect::Forward, Some(Target::Fixed(reply))) => Some(reply.status),
            (Effect::Forward, Some(Target::Upstream(_) | Target::Aggregate(_)) | None) => None,
        }
    }
}

fn standing<'a>(snapshot: &'a Snapshot, route: Option<&'a Arc<Route>>) -> (&'a [Rule], &'a Arc<[Arc<str>]>) {
    match route {
        Some(route) => (&route.rules, &route.rule_names),
        None => (&snapshot.unrouted, &snapshot.unrouted_names),
    }
}

/// The route, and whether the request is a preflight that no route answers.
fn find<'a>(snapshot: &'a Snapshot, request: &RequestView<'a>) -> (Found<'a, Arc<Route>>, bool) {
    let by = |method: &Method| {
        snapshot
            .router
            .find(method, request.host, request.path, request.headers)
    };
    if !is_preflight(request) {
        return (by(request.method), false);
    }
    if let Some(method) = asked_about(request)
        && let Found::Route(route, params) = by(&method)
        && route.rules.iter().any(|rule| rule.stage == Stage::Preflight)
    {
        return (Found::Route(route, params), false);
    }
    match by(&Method::OPTIONS) {
        Found::Route(route, params) => (Found::Route(route, params), false),
        Found::MethodNotAllowed(_) | Found::NotFound => (Found::NotFound, true),
    }
}

fn is_preflight(request: &RequestView<'_>) -> bool {
    request.method == Method::OPTIONS
        && request.header(&header::ORIGIN).is_some()
        && request.header(&header::ACCESS_CONTROL_REQUEST_METHOD).is_some()
}

/// The method that a preflight asks about, if it is one.
fn asked_about(request: &RequestView<'_>) -> Option<Method> {
    let asked = request.header(&header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes())
        .ok()
        .filter(|_| is_preflight(request))
}

/// Says by which headers the route was chosen, or may be that an aggregate asks: caches on the way would else give one route's
/// answers for another's (RFC 9110 §12.5.5). The gate's own keeps them apart by the route's name.
fn choosing(snapshot: &Snapshot, request: &RequestView<'_>, route: Option<&Arc<Route>>) -> Option<Act> {
    let router = &snapshot.router;
    let asks_routes = |target: &Target| matches!(target, Target::Aggregate(of) if of.inner().next().is_some());
    let names = match route.is_some_and(|route| asks_routes(&route.target)) {
        // What the parts refer to says at which address.
        true => router.headers_read(),
        false => router.decided_by(request.method, request.host, request.path, request.headers),
    };
    if names.is_empty() {
        return None;
    }
    let varies = names.into_iter().map(|name| (header::VARY, HeaderValue::from(name)));
    Some(Act::ResponseHeaders(Arc::new(HeaderEdits {
        append: varies.collect(),
        ..HeaderEdits::default()
    })))
}

/// Answers a preflight so that the browser goes no further and learns nothing of what is there.
fn allow_nothing(decision: &mut Decision) {
    let allows = [
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        header::ACCESS_CONTROL_MAX_AGE,
    ];
    match &mut decision.effect {
        Effect::Deny(_) => return,
        Effect::Reply(reply) => reply.headers.retain(|(name, _)| !allows.contains(name)),
        Effect::Forward => {
            decision.effect = Effect::Reply(Reply {
                status: StatusCode::NO_CONTENT,
                headers: Vec::new(),
                body: Bytes::new(),
            });
        }
    }
    let edits = HeaderEdits {
        remove: allows.into(),
        ..HeaderEdits::default()
    };
    decision.acts.push(Act::ResponseHeaders(Arc::new(edits)));
}

fn unrouted(decision: &mut Decision, allow: Option<&Allow>) {
    let denial = |status, code, detail| Denial::new(DenialKind::Refuse, status, code, detail);
    let Some(allow) = allow else {
        let detail = "There is nothing at this address.";
        return decision.refuse(denial(StatusCode::NOT_FOUND, "route-not-found", detail));
    };
    decision.refuse(denial(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "This method is not allowed here.",
    ));
    if let Ok(value) = HeaderValue::from_str(&allow.to_string()) {
        let edits = HeaderEdits {
            set: vec![(header::ALLOW, value)],
            ..HeaderEdits::default()
        };
        decision.acts.push(Act::ResponseHeaders(Arc::new(edits)));
    }
}

/// Windows are asked only where a rule refused that may follow them: a missing credential does not come with the morning.
fn fill_in_reopening(rules: &[Rule], facts: &mut Facts<'_>, decision: &mut Decision) {
    let Effect::Deny(denial) = &decision.effect else {
        return;
    };
    let refused_by = denial.rule.and_then(|rule| rules.get(usize::from(rule)));
    if refused_by.is_none_or(|rule| rule.stage != Stage::Authorize) {
        return;
    }
    let reopens = reopens_at(rules, facts, decision);
    if let Effect::Deny(denial) = &mut decision.effect {
        denial.reopens_at = reopens;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::conf::Load;
    use crate::engine::{Answer, Answers, Headers, Question};
    use crate::snapshot::{Occasion, compile};
    use http::HeaderName;

    struct Lines<'a>(&'a [(&'a str, &'a str)]);

    impl Headers for Lines<'_> {
        fn first(&self, name: &HeaderName) -> Option<&[u8]> {
            let found = self.0.iter().find(|(known, _)| *known == name.as_str());
            found.map(|(_, value)| value.as_bytes())
        }

        fn is_repeated(&self, _: &HeaderName) -> bool {
            false
        }
    }

    struct NothingFrozen;

    impl Lookup for NothingFrozen {
        async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
            asked.iter().map(|_| Answer::Freezes(Vec::new())).collect()
        }
    }

    fn answer(method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String, Vec<String>) {
        let yaml = "\
listen: [{ address: 127.0.0.1:0 }]
defaults: { cors: { origins: [https://a.example] } }
routes:
  a: { match: POST /a, auth: none, reply: { status: 200, json: {} } }
  b: { match: 'POST,OPTIONS /b', auth: none, cors: off, reply: { status: 200, json: {} } }
  c: { match: POST /c, auth: none, cors: off, reply: { status: 200, json: {} } }
";
        let load = Load::new();
        let document = load.text("t.yaml", yaml).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let snapshot = compile(&document, Occasion { now, at_start: false }, &load).unwrap();
        assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&document)));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = RequestView {
            method: &method,
            host: "h",
            path,
            query: "",
            headers: &Lines(headers),
        };
        let address = "192.0.2.1".parse().unwrap();
        let judged = futures::executor::block_on(judge(&snapshot, request, address, now, &NothingFrozen));
        let mut names: Vec<String> = Vec::new();
        let (status, code) = match &judged.decision.effect {
            Effect::Forward => (0, judged.route.unwrap().name.to_string()),
            Effect::Deny(denial) => (denial.status.as_u16(), denial.code.to_string()),
            Effect::Reply(reply) => {
                names.extend(reply.headers.iter().map(|(name, _)| name.to_string()));
                (reply.status.as_u16(), String::new())
            }
        };
        for edits in judged.decision.response_edits() {
            names.retain(|name| edits.remove.iter().all(|removed| removed != name.as_str()));
            names.extend(edits.set.iter().map(|(name, _)| name.to_string()));
        }
        names.retain(|name| name.starts_with("access-control-allow") || name == "allow");
        (status, code, names)
    }

    #[test]
    fn tells_the_methods_that_would_do() {
        assert_eq!(answer("POST", "/a", &[]).1, "a");
        assert_eq!(answer("POST", "/x", &[]), (404, "route-not-found".into(), vec![]));
        assert_eq!(
            answer("GET", "/a", &[]),
            (405, "method-not-allowed".into(), vec!["allow".into()])
        );
    }

    #[test]
    fn answers_preflights_by_the_method_they_ask_about() {
        let asks = |method, path| {
            let headers = [
                ("origin", "https://a.example"),
                ("access-control-request-method", method),
            ];
            let (status, code, names) = answer("OPTIONS", path, &headers);
            (status, code, names.len())
        };
        assert_eq!(asks("POST", "/a"), (204, String::new(), 2));
        for (method, path) in [("GET", "/a"), ("POST", "/x"), ("no method", "/a"), ("POST", "/c")] {
            assert_eq!(asks(method, path), (204, String::new(), 0), "{method} {path}");
        }
        assert_eq!(asks("POST", "/b"), (0, "b".into(), 0));
    }
}
