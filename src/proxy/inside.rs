//! Requests from inside, on behalf of one that came from outside: the parts of aggregates.
//!
//! A part that names an upstream stands under the aggregate's own route alone. One that names a path goes through the route
//! that it leads to: that route's auth, policies, windows, changes, shape and stored answers apply, and those of its limits that
//! the outer request was not asked about; a refusal is [`CallError::Denied`]. Only the outer request is recorded.
//!
//! Each request is decided for itself. What is shared and kept are answers of upstreams, by a key of all that the upstream was
//! told ([`told`](super::told)), and of nobody's deadline.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use pingora::prelude::fast_timeout::fast_sleep;

use super::called::{Lacks, decoded, of_reply, personal, reshaped};
use super::exchange::{authorization, edits, told, without};
use super::request::View;
use super::sparing::{Sparing, limits};
use super::spending::Held;
use super::told::{Key, is_unkeyed};
use super::{rewrite, tokens, trace};
use crate::engine::{
    Act, CacheRule, ClientCertificate, Effect, Facts, Forwarded, Principal, RequestEdits, RequestView, Share,
};
use crate::live::{Asking, Generation, Live};
use crate::policies::cache::storable::{freshness, varies_on};
use crate::routing::normalise_path;
use crate::snapshot::{Judged, Route, judge};
use crate::targets::aggregate::{Aggregate, Destination, Reason, json_text};
use crate::targets::{Call, Target, UpstreamIndex, Wanted};
use crate::upstreams::{CallError, CallFailure, Called, Outcome, Outgoing, Pool, Whom};

/// An aggregate that is a part of an aggregate that is a part: deeper is refused. Circles are found at load; this is for paths
/// that only a request's values complete.
const MAX_DEPTH: u8 = 4;

/// Makes requests for one request from outside.
#[derive(Clone)]
pub(super) struct Inside {
    pub live: Arc<Live>,
    pub generation: Arc<Generation>,
    pub at: Timestamp,
    /// The id of the request from outside.
    pub id: Arc<str>,
    pub host: String,
    pub address: IpAddr,
    pub principal: Option<Arc<Principal>>,
    /// The request's headers, as rules read them.
    pub sent: Arc<HeaderMap>,
    /// The certificate of the connection that it came by.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The parameters of its query by which the caller proved who it is, as they were sent.
    pub credential: Arc<str>,
    /// What upstreams are told of the caller by the route that asks, its credential among it where they may see that.
    pub told: Vec<(HeaderName, HeaderValue)>,
    /// Whose passport upstreams are shown instead.
    pub passport: Option<Arc<Principal>>,
    /// What the route that asks changes of requests.
    pub edits: Option<Arc<RequestEdits>>,
    /// The upstreams that must not be called.
    pub without: Arc<[Arc<str>]>,
    /// The limits that were asked already, by name.
    pub asked: Vec<Arc<str>>,
    pub deadline: tokio::time::Instant,
    pub depth: u8,
    pub held: Arc<Held>,
    /// What goes along with each call: where the answer is the caller's, and where it is for everybody.
    pub lines: [OnceLock<Lines>; 2],
}

/// Headers that go along with calls, and the same as part of a key.
#[derive(Clone)]
pub(super) struct Lines {
    headers: HeaderMap,
    key: Key,
}

impl Call for Arc<Inside> {
    async fn call(&self, wanted: Wanted, overdue: Arc<AtomicBool>) -> Outcome {
        if !self.held.begin() {
            return Err(CallError::TooLarge.into());
        }
        let called = match wanted.to {
            Destination::Upstream(index) => {
                let rule = wanted.keep.map(|keep| {
                    Arc::new(CacheRule {
                        route: Arc::from(""),
                        ttl: Some(keep.ttl),
                        share: if keep.public { Share::Public } else { Share::Principal },
                    })
                });
                self.ask(index, wanted, rule, None, overdue).await?
            }
            Destination::Route(_) => self.clone().through(wanted, overdue).await?,
        };
        match self.held.take(called.size()) {
            true => Ok(called),
            false => Err(CallFailure {
                error: CallError::TooLarge,
                upstream: called.upstream,
            }),
        }
    }

    /// By Pingora's clock, which ticks every 10 ms and wakes nobody when it is set.
    async fn sleep(&self, time: Duration) {
        fast_sleep(time).await;
    }
}

impl Inside {
    fn through(self: Arc<Self>, wanted: Wanted, overdue: Arc<AtomicBool>) -> BoxFuture<'static, Outcome> {
        async move { self.route(&wanted, overdue).await }.boxed()
    }

    /// An upstream's answer: one that was kept as `rule` says, one that somebody waits for already, or its own. What is kept and
    /// shared of an `address`, path and query, ends with a write there that succeeded (RFC 9111 §4.4).
    async fn ask(
        self: &Arc<Self>,
        index: UpstreamIndex,
        wanted: Wanted,
        rule: Option<Arc<CacheRule>>,
        address: Option<(&str, &str)>,
        overdue: Arc<AtomicBool>,
    ) -> Outcome {
        let pool = self.generation.pool(index).ok_or(CallError::NoEndpoint)?;
        // Before all else: of an upstream that is closed, nothing that was kept is given either.
        if self.without.contains(&pool.name) {
            return Err(CallError::Denied.into());
        }
        let rule = rule.filter(|_| wanted.post.is_none());
        let is_public = rule.as_ref().is_some_and(|rule| rule.share == Share::Public);
        if wanted.post.is_some() {
            let _turn = self.held.turn().await.ok_or(CallError::TooLarge)?;
            // Boxed: rare, and each call would be as large.
            return Box::pin(self.fetch(pool, &wanted, is_public, overdue)).await;
        }
        let mut key = self.key(pool, &wanted, is_public);
        if let Some((path, query)) = address {
            key.piece(&self.live.cache.changes.last(&self.host, path, query).to_le_bytes());
        }
        if let Some(rule) = &rule {
            key.piece(rule.route.as_bytes());
            key.piece(format!("{:?}", rule.ttl).as_bytes());
        }
        let keep = rule.map(|rule| (key.clone().finish(), rule));
        if let Some((kept, _)) = &keep
            && let Some(called) = self.live.kept.find(kept, Instant::now())
        {
            return Ok(called);
        }
        key.piece(self.generation.snapshot.id.as_bytes());
        if let Some(retry) = &wanted.retry {
            key.piece(format!("{retry:?}").as_bytes());
        }
        let _turn = self.held.turn().await.ok_or(CallError::TooLarge)?;
        let begin = || {
            let (inside, pool) = (self.clone(), pool.clone());
            async move {
                let called = inside.fetch(&pool, &wanted, is_public, overdue).await?;
                Ok(match keep {
                    Some((kept, rule)) => inside.keep(&kept, called, &rule),
                    None => called,
                })
            }
            .boxed()
        };
        self.live.flights.join(key.into_bytes(), begin).await
    }

    async fn fetch(&self, pool: &Arc<Pool>, wanted: &Wanted, is_public: bool, overdue: Arc<AtomicBool>) -> Outcome {
        let whom = Whom {
            principal: self.principal.as_deref(),
            address: self.address,
            header: &|name| self.sent.get(name).map(HeaderValue::as_bytes),
        };
        let passport = match self.passport.as_ref().filter(|_| !is_public) {
            Some(holder) => {
                let passports = self.generation.passports.as_ref();
                let signed = passports.and_then(|passports| passports.bearer(holder, &pool.name, self.at).ok());
                Some(signed.ok_or(CallError::Unsigned)?)
            }
            None => None,
        };
        let outgoing = Outgoing {
            target: &wanted.target,
            headers: &self.lines(is_public).headers,
            authorization: passport,
            post: wanted.post.clone(),
            max_body: wanted.max_body,
            overdue: Some(overdue),
        };
        let caller = &self.live.caller;
        decoded(caller.send(pool, &whom, &outgoing, wanted.retry.as_deref()).await?)
    }

    fn lines(&self, is_public: bool) -> &Lines {
        let [own, public] = &self.lines;
        let lines = if is_public { public } else { own };
        lines.get_or_init(|| {
            let headers = self.headers(is_public);
            let mut key = Key::default();
            for (name, value) in &headers {
                key.header(name, value);
            }
            Lines { headers, key }
        })
    }

    /// What goes along: what is said of the caller, its language, what names this request in logs, and what the route sets.
    /// Where the answer is for everybody, nothing of the caller.
    fn headers(&self, is_public: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(language) = self.sent.get(header::ACCEPT_LANGUAGE) {
            headers.insert(header::ACCEPT_LANGUAGE, language.clone());
        }
        if let Some(edits) = &self.edits {
            let renamed = rewrite::renamed(&self.sent, edits);
            rewrite::take_away(&mut headers, edits, renamed);
        }
        headers.extend(trace::told(&self.sent, &self.id));
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        for (name, value) in self.told.iter().filter(|_| !is_public) {
            headers.insert(name.clone(), value.clone());
        }
        if let Some(edits) = &self.edits {
            rewrite::set(&mut headers, edits);
        }
        headers
    }

    /// Everything that an answer may depend on: what is told, who calls, each kind of name by a letter of its own, and who is
    /// asked for what.
    fn key(&self, pool: &Pool, wanted: &Wanted, is_public: bool) -> Key {
        let mut key = self.lines(is_public).key.clone();
        // Told lines come in pairs: what follows is no line.
        key.piece(b"");
        match (&self.principal, is_public) {
            (_, true) => key.piece(b"*"),
            (Some(principal), false) => {
                key.piece(b"p");
                key.piece(&principal.identity);
            }
            (None, false) => {
                key.piece(b"a");
                key.piece(self.address.to_string().as_bytes());
            }
        }
        let holder = self.passport.as_ref().filter(|_| !is_public);
        key.passport(holder, &self.generation, pool, self.at);
        key.piece(pool.name.as_bytes());
        key.piece(wanted.target.as_bytes());
        key
    }

    /// Keeps a good answer as long as it says itself, or else as the rule does.
    fn keep(&self, key: &[u8], called: Called, rule: &CacheRule) -> Called {
        let is_good = called.status == StatusCode::NO_CONTENT || called.status == StatusCode::OK;
        let is_readable = || called.status == StatusCode::NO_CONTENT || json_text(&called).is_some();
        let is_keyed = || varies_on(&called.headers).is_ok_and(|names| !names.iter().any(is_unkeyed));
        if is_good
            && is_readable()
            && is_keyed()
            && let Ok(fresh) = freshness(rule, false, called.status, &called.headers, SystemTime::now())
        {
            self.live.kept.keep(key, called.clone(), fresh.left, Instant::now());
            return Called {
                kept: Some(fresh.left),
                ..called
            };
        }
        called
    }

    /// Goes through the route that the path leads to.
    async fn route(self: &Arc<Self>, wanted: &Wanted, overdue: Arc<AtomicBool>) -> Outcome {
        if self.depth >= MAX_DEPTH {
            return Err(CallError::Denied.into());
        }
        let (path, query) = wanted.target.split_once('?').unwrap_or((&wanted.target, ""));
        let path = normalise_path(path.as_bytes()).map_err(|_| CallError::Denied)?;
        let method = if wanted.post.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let headers = View(&self.sent, self.certificate.as_ref());
        let view = RequestView {
            method: &method,
            host: &self.host,
            path: &path,
            query,
            headers: &headers,
        };
        // A credential stands where the caller put it, for those who look for one there.
        let proved = match (&*self.credential, query) {
            ("", query) => Cow::Borrowed(query),
            (credential, "") => Cow::Borrowed(credential),
            (credential, query) => Cow::Owned(format!("{query}&{credential}")),
        };
        let proved = RequestView { query: &proved, ..view };
        let sparing = Sparing {
            asking: Asking {
                generation: &self.generation,
                freezes: &self.live.freezes,
                revocations: &self.live.revocations,
                now: self.at,
                monotonic: self.live.monotonic(),
            },
            asked: &self.asked,
        };
        let snapshot = &self.generation.snapshot;
        let judged = judge(snapshot, proved, self.address, self.at, &sparing).await;
        let acts = &judged.decision.acts;
        let route = match (&judged.decision.effect, judged.route) {
            (Effect::Forward, Some(route)) => route,
            (Effect::Reply(reply), _) => return Ok(of_reply(reply)),
            _ => return Err(CallError::Denied.into()),
        };
        let posted = wanted.post.as_ref().map_or(0, Bytes::len) as u64;
        if acts
            .iter()
            .any(|act| matches!(act, Act::BodyLimit(max) if posted > *max))
        {
            return Err(CallError::Denied.into());
        }
        let inner = Arc::new(self.under(route, &judged, &proved));
        let (called, lacks) = match &route.target {
            Target::Fixed(reply) => (of_reply(reply), Lacks::new()),
            Target::Upstream(index) => {
                let edits = inner.edits.as_deref();
                let wanted = Wanted {
                    to: Destination::Upstream(*index),
                    target: rewrite::target(&path, query, edits),
                    post: match (&wanted.post, edits.and_then(|edits| edits.body.as_ref())) {
                        (Some(post), Some(body)) if !post.is_empty() => {
                            Some(body.rewrite(post).map_err(|_| CallError::Denied)?)
                        }
                        (post, _) => post.clone(),
                    },
                    ..wanted.clone()
                };
                let rule = acts.iter().find_map(|act| match act {
                    Act::Cache(rule) => Some(rule.clone()),
                    _ => None,
                });
                let address = Some((&*path, query));
                let called = inner.ask(*index, wanted, rule, address, overdue).await?;
                (called, Lacks::new())
            }
            Target::Aggregate(aggregate) => {
                let facts = Facts {
                    now: self.at,
                    window_at: self.at,
                    address: self.address,
                    client: judged.client,
                    request: view,
                    params: judged.params.clone(),
                    principal: judged.decision.principal.clone(),
                };
                inner.aggregate(aggregate, &facts).await?
            }
        };
        let called = reshaped(called, acts, &self.id, &lacks)?;
        Ok(if inner.is_personal(acts) {
            personal(called)
        } else {
            called
        })
    }

    /// The same request as the inner route has decided it.
    fn under(&self, route: &Route, judged: &Judged<'_>, proved: &RequestView<'_>) -> Self {
        let acts = &judged.decision.acts;
        let principal = &judged.decision.principal;
        let mut said: Vec<_> = told(acts).cloned().collect();
        said.extend(tokens::shown(proved, route, acts));
        let now = tokio::time::Instant::now();
        Self {
            principal: principal.clone(),
            told: said,
            passport: principal
                .clone()
                .filter(|_| authorization(acts, route.keeps_authorization) == Forwarded::Passport),
            edits: edits(acts).cloned(),
            without: without(acts),
            asked: limits(&judged.decision, judged.rule_names)
                .chain(self.asked.iter().cloned())
                .collect(),
            deadline: self.deadline.min(now + route.deadline),
            depth: self.depth + 1,
            held: Arc::new(self.held.within()),
            lines: Default::default(),
            ..self.clone()
        }
    }

    /// Whether an answer is for nobody but the caller, or the kind of application that calls.
    fn is_personal(&self, acts: &[Act]) -> bool {
        let is_of_a_client = |act: &Act| matches!(act, Act::Reshape(reshape) if !reshape.varies_on().is_empty());
        let shows = |(name, _): &(HeaderName, HeaderValue)| *name == header::AUTHORIZATION;
        self.principal.is_some() || self.told.iter().any(shows) || acts.iter().any(is_of_a_client)
    }

    /// The answer of an aggregate, and what it goes without.
    async fn aggregate(
        self: &Arc<Self>,
        aggregate: &Aggregate,
        facts: &Facts<'_>,
    ) -> Result<(Called, Lacks), CallFailure> {
        let inputs = aggregate.inputs(facts);
        let done = aggregate.run(inputs, self, self.deadline).await;
        let lacks: Lacks = done
            .partial
            .iter()
            .map(|(name, reason)| (name.clone(), reason.word()))
            .collect();
        let (status, body) = match done.body {
            Ok(body) => (StatusCode::OK, body),
            Err(failure) => match failure.reason {
                // The part's own, where it may be told.
                Reason::Status => (failure.status, Bytes::new()),
                Reason::Timeout => return Err(CallError::Timeout.into()),
                Reason::Unreachable => return Err(CallError::NoEndpoint.into()),
                Reason::Denied => return Err(CallError::Denied.into()),
                Reason::Unreadable | Reason::Skipped => return Err(CallError::Broken.into()),
            },
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // How long an aggregate of parts is good is not told further inwards; that it lacks something is.
        let good = if lacks.is_empty() {
            "private, no-cache"
        } else {
            "no-store"
        };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(good));
        let called = Called {
            status,
            headers: Arc::new(headers),
            body,
            kept: None,
            lacks: lacks.first().filter(|_| status.is_success()).map(|(_, reason)| *reason),
            upstream: None,
        };
        Ok((called, lacks))
    }
}
