//! Requests from inside, on behalf of one that came from outside: the parts of aggregates.
//!
//! A part that names an upstream stands under the aggregate's own route alone. One that names a path goes through the route
//! that it leads to: that route's auth, policies, windows, shape and stored answers apply, and those of its limits that the
//! outer request was not asked about; a refusal is [`CallError::Denied`]. Only the outer request is recorded.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;

use super::exchange::{authorization, told, without};
use super::request::View;
use super::trace;
use crate::engine::{
    About, Act, Answer, Answers, CacheRule, ClientCertificate, Decision, Effect, Facts, Forwarded, LimitAnswer, Lookup,
    Principal, Question, Reply, RequestView, ReshapeFailure, Share, json,
};
use crate::live::{Asking, Generation, Live};
use crate::policies::cache::storable::freshness;
use crate::routing::normalise_path;
use crate::snapshot::{Judged, Route, judge};
use crate::targets::aggregate::{Aggregate, Destination, KeepRule, MAX_PART, json_text};
use crate::targets::{Call, Target, UpstreamIndex, Wanted};
use crate::upstreams::{CallError, Called, Outcome, Outgoing, Whom};

/// An aggregate that is a part of an aggregate that is a part: deeper is refused. Circles are found at load; this is for paths
/// that only a request's values complete.
const MAX_DEPTH: u8 = 4;

/// What differs from one request to the next without changing any answer.
const OF_THE_REQUEST: [&str; 3] = ["x-request-id", "traceparent", "tracestate"];

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
    /// What upstreams are told by the route that asks.
    pub told: Vec<(HeaderName, HeaderValue)>,
    /// The caller's credential as upstreams may see it.
    pub authorization: Option<HeaderValue>,
    /// Whose passport upstreams are shown instead.
    pub passport: Option<Arc<Principal>>,
    /// The upstreams that must not be called.
    pub without: Arc<[Arc<str>]>,
    /// The limits that were asked already, by name.
    pub asked: Vec<Arc<str>>,
    pub deadline: tokio::time::Instant,
    pub depth: u8,
}

impl Call for Inside {
    async fn call(&self, wanted: Wanted) -> Outcome {
        let key = self.key(&wanted);
        let keep = wanted.keep.map(|keep| (self.kept_key(&wanted, keep), keep));
        if let Some((key, _)) = &keep
            && let Some(called) = self.live.kept.find(key, Instant::now())
        {
            return Ok(called);
        }
        if wanted.post.is_some() {
            return self.clone().make(wanted).await;
        }
        let inside = self.clone();
        let live = &self.live;
        let begin = || {
            async move {
                let called = inside.clone().make(wanted).await?;
                if let Some((key, keep)) = &keep {
                    let share = if keep.public { Share::Public } else { Share::Principal };
                    let rule = CacheRule {
                        route: Arc::from(""),
                        ttl: Some(keep.ttl),
                        share,
                    };
                    return Ok(inside.keep(key, called, &rule));
                }
                Ok(called)
            }
            .boxed()
        };
        live.flights.join(key, begin).await
    }
}

impl Inside {
    fn make(self, wanted: Wanted) -> BoxFuture<'static, Outcome> {
        async move {
            match wanted.to {
                Destination::Upstream(index) => self.upstream(index, &wanted).await,
                Destination::Route(_) => self.route(&wanted).await,
            }
        }
        .boxed()
    }

    async fn upstream(&self, index: UpstreamIndex, wanted: &Wanted) -> Outcome {
        let pool = self.generation.pool(index).ok_or(CallError::NoEndpoint)?;
        if self.without.contains(&pool.name) {
            return Err(CallError::Denied.into());
        }
        let whom = Whom {
            principal: self.principal.as_deref(),
            address: self.address,
            header: &|name| self.sent.get(name).map(HeaderValue::as_bytes),
        };
        let mut headers = self.headers(wanted);
        let is_public = wanted.keep.is_some_and(|keep| keep.public);
        if let Some(holder) = self.passport.as_ref().filter(|_| !is_public) {
            let passports = self.generation.passports.as_ref();
            let signed = passports.and_then(|passports| passports.bearer(holder, &pool.name, self.at).ok());
            headers.push((header::AUTHORIZATION, signed.ok_or(CallError::Unsigned)?));
        }
        let outgoing = Outgoing {
            target: &wanted.target,
            headers: &headers,
            post: wanted.post.clone(),
            max_body: wanted.max_body,
        };
        let caller = &self.live.caller;
        caller.send(pool, &whom, &outgoing, wanted.retry.as_deref()).await
    }

    /// What goes along: what is said of the caller, its language, and what names this request in logs. Where the answer is for
    /// everybody, nothing of the caller.
    fn headers(&self, wanted: &Wanted) -> Vec<(HeaderName, HeaderValue)> {
        let is_public = wanted.keep.is_some_and(|keep| keep.public);
        let mut headers = if is_public { Vec::new() } else { self.told.clone() };
        if let Some(language) = self.sent.get(header::ACCEPT_LANGUAGE) {
            headers.push((header::ACCEPT_LANGUAGE, language.clone()));
        }
        headers.extend(trace::told(&self.sent, &self.id));
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.push((HeaderName::from_static("x-request-id"), id));
        }
        headers
    }

    /// Everything that the answer to a request under way may depend on, each framed by its length.
    fn key(&self, wanted: &Wanted) -> Vec<u8> {
        let mut key = Vec::with_capacity(256);
        frame(&mut key, self.generation.snapshot.id.as_bytes());
        self.frame_who(&mut key, wanted.keep.is_some_and(|keep| keep.public));
        match (&wanted.retry, wanted.keep) {
            (None, None) => key.push(0),
            said => frame(&mut key, format!("{said:?}").as_bytes()),
        }
        self.frame_target(&mut key, wanted);
        match wanted.to {
            Destination::Upstream(_) => {
                for (name, value) in self.headers(wanted) {
                    frame_header(&mut key, &name, &value);
                }
            }
            // Its rules may read any of them.
            Destination::Route(_) => {
                frame(&mut key, self.host.as_bytes());
                key.extend_from_slice(&[self.depth]);
                let thumbprint = self.certificate.as_ref().map_or("", |shown| &*shown.thumbprint);
                frame(&mut key, thumbprint.as_bytes());
                for (name, value) in self.sent.iter() {
                    frame_header(&mut key, name, value);
                }
            }
        }
        key
    }

    /// Everything that a kept answer may depend on. The caller's credential is not among it: it proves the identity, which is.
    fn kept_key(&self, wanted: &Wanted, keep: KeepRule) -> Vec<u8> {
        let mut key = Vec::with_capacity(256);
        frame(&mut key, b"part");
        self.frame_who(&mut key, keep.public);
        self.frame_target(&mut key, wanted);
        for (name, value) in self.headers(wanted) {
            if name != header::AUTHORIZATION {
                frame_header(&mut key, &name, &value);
            }
        }
        key
    }

    /// Two callers never share a key: each kind of name has a letter of its own.
    fn frame_who(&self, key: &mut Vec<u8>, public: bool) {
        match (&self.principal, public) {
            (_, true) => key.push(b'*'),
            (Some(principal), false) => {
                key.push(b'p');
                frame(key, &principal.identity);
            }
            (None, false) => {
                key.push(b'a');
                frame(key, self.address.to_string().as_bytes());
            }
        }
    }

    fn frame_target(&self, key: &mut Vec<u8>, wanted: &Wanted) {
        let upstream = match wanted.to {
            Destination::Upstream(index) => self.generation.pool(index).map(|pool| &*pool.name),
            Destination::Route(_) => None,
        };
        key.push(u8::from(upstream.is_some()));
        // It is signed anew for every call, and says no more than who calls.
        key.push(u8::from(self.passport.is_some()));
        frame(key, upstream.unwrap_or("").as_bytes());
        frame(key, wanted.target.as_bytes());
    }

    /// Keeps a good answer as long as it says itself, or else as the rule does.
    fn keep(&self, key: &[u8], called: Called, rule: &CacheRule) -> Called {
        let is_good = called.status == StatusCode::NO_CONTENT || called.status == StatusCode::OK;
        let is_readable = || called.status == StatusCode::NO_CONTENT || json_text(&called).is_some();
        if is_good
            && is_readable()
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
    async fn route(&self, wanted: &Wanted) -> Outcome {
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
        let view = RequestView {
            method: &method,
            host: &self.host,
            path: &path,
            query,
            headers: &View(&self.sent, self.certificate.as_ref()),
        };
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
        let judged = judge(snapshot, view, self.address, self.at, &sparing).await;
        let route = match (&judged.decision.effect, judged.route) {
            (Effect::Forward, Some(route)) => route,
            (Effect::Reply(reply), _) => return Ok(of_reply(reply)),
            _ => return Err(CallError::Denied.into()),
        };
        let inner = self.under(route, &judged);
        let called = match &route.target {
            Target::Fixed(reply) => of_reply(reply),
            Target::Upstream(index) => {
                let target = match query {
                    "" => path.to_string(),
                    query => format!("{path}?{query}"),
                };
                let wanted = Wanted {
                    to: Destination::Upstream(*index),
                    target,
                    ..wanted.clone()
                };
                inner.stored(route, *index, wanted, &judged.decision).await?
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
        reshaped(called, &judged.decision.acts, &self.id)
    }

    /// The same request as the inner route has decided it.
    fn under(&self, route: &Route, judged: &Judged<'_>) -> Self {
        let acts = &judged.decision.acts;
        let mut said: Vec<_> = told(acts).cloned().collect();
        let forwarded = authorization(acts, route.keeps_authorization);
        if forwarded == Forwarded::Credential
            && let Some(value) = &self.authorization
        {
            said.push((header::AUTHORIZATION, value.clone()));
        }
        let now = tokio::time::Instant::now();
        Self {
            principal: judged.decision.principal.clone(),
            told: said,
            passport: judged
                .decision
                .principal
                .clone()
                .filter(|_| forwarded == Forwarded::Passport),
            without: without(acts),
            asked: limits(&judged.decision, judged.rule_names)
                .chain(self.asked.iter().cloned())
                .collect(),
            deadline: self.deadline.min(now + route.deadline),
            depth: self.depth + 1,
            ..self.clone()
        }
    }

    /// An upstream's answer, or the one that the route's `cache` has kept.
    async fn stored(&self, route: &Route, index: UpstreamIndex, wanted: Wanted, decision: &Decision) -> Outcome {
        let rule = decision.acts.iter().find_map(|act| match act {
            Act::Cache(rule) => Some(rule),
            _ => None,
        });
        let Some(rule) = rule.filter(|_| wanted.post.is_none()) else {
            return self.upstream(index, &wanted).await;
        };
        let public = rule.share == Share::Public;
        let ttl = rule.ttl.unwrap_or_default();
        let wanted = Wanted {
            keep: Some(KeepRule { ttl, public }),
            ..wanted
        };
        let mut key = Vec::from(b"route" as &[u8]);
        frame(&mut key, route.name.as_bytes());
        key.extend(self.kept_key(&wanted, KeepRule { ttl, public }));
        if let Some(called) = self.live.kept.find(&key, Instant::now()) {
            return Ok(called);
        }
        let called = self.upstream(index, &wanted).await?;
        Ok(self.keep(&key, called, rule))
    }

    async fn aggregate(&self, aggregate: &Aggregate, facts: &Facts<'_>) -> Outcome {
        let inputs = aggregate.inputs(facts);
        let done = aggregate.run(inputs, self, self.deadline).await;
        let is_partial = !done.partial.is_empty();
        let body = done.body.map_err(|failure| match failure.status {
            StatusCode::GATEWAY_TIMEOUT => CallError::Timeout,
            _ => CallError::Broken,
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // How long an aggregate of parts is good is not told further inwards; that it lacks something is.
        let good = if is_partial { "no-store" } else { "private, no-cache" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(good));
        Ok(Called {
            status: StatusCode::OK,
            headers: Arc::new(headers),
            body,
            kept: None,
            upstream: None,
        })
    }
}

/// The limits that a decision asked, by name.
pub(super) fn limits<'d>(decision: &'d Decision, names: &'d [Arc<str>]) -> impl Iterator<Item = Arc<str>> + use<'d> {
    let asked = decision
        .answers
        .iter()
        .filter(|(_, answer)| matches!(answer, Answer::Limit(_)));
    asked.filter_map(|(rule, _)| names.get(usize::from(*rule)).cloned())
}

/// Asks everything but limits that were asked before.
struct Sparing<'a> {
    asking: Asking<'a>,
    asked: &'a [Arc<str>],
}

impl Lookup for Sparing<'_> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        const SPARED: Answer = Answer::Limit(LimitAnswer {
            admitted: true,
            remaining: u32::MAX,
            reset: std::time::Duration::ZERO,
            retry_after: std::time::Duration::ZERO,
        });
        let limits = &self.asking.generation.snapshot.defined.limits;
        let is_spared = |question: &Question<'_>| match question {
            Question::Limit { limit, .. } => limits
                .by_id(*limit)
                .is_some_and(|limit| self.asked.contains(&limit.name)),
            _ => false,
        };
        let left: Vec<_> = asked
            .iter()
            .filter(|(_, question)| !is_spared(question))
            .cloned()
            .collect();
        let mut answers = self.asking.answer(&left).await.into_iter();
        let answer = |(_, question): &(u16, Question<'_>)| match is_spared(question) {
            true => Some(SPARED),
            false => answers.next(),
        };
        asked.iter().map_while(answer).collect()
    }
}

fn of_reply(reply: &Reply) -> Called {
    Called {
        status: reply.status,
        headers: Arc::new(reply.headers.iter().cloned().collect()),
        body: reply.body.clone(),
        kept: None,
        upstream: None,
    }
}

/// Cuts an answer as its route says.
fn reshaped(called: Called, acts: &[Act], id: &str) -> Outcome {
    let reshape = acts.iter().find_map(|act| match act {
        Act::Reshape(reshape) => Some(reshape),
        _ => None,
    });
    let Some(reshape) = reshape else { return Ok(called) };
    let is_cut = called.status.is_success() && called.content_type().is_some_and(json::is_json);
    if !is_cut {
        return Ok(called);
    }
    let about = About {
        request_id: id,
        partial: &[],
    };
    let is_coded = called.headers.contains_key(header::CONTENT_ENCODING);
    let body = match called.body.len() <= MAX_PART && !is_coded {
        true => reshape.reshape(&called.body, &about),
        false => Err(ReshapeFailure::TooLarge),
    };
    let body = match body {
        Ok(body) => body,
        Err(_) if reshape.passes_uncut() => return Ok(called),
        Err(_) => return Err(CallError::Broken.into()),
    };
    Ok(Called { body, ..called })
}

fn frame(key: &mut Vec<u8>, piece: &[u8]) {
    key.extend_from_slice(&(piece.len() as u64).to_le_bytes());
    key.extend_from_slice(piece);
}

fn frame_header(key: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    if !OF_THE_REQUEST.contains(&name.as_str()) {
        frame(key, name.as_str().as_bytes());
        frame(key, value.as_bytes());
    }
}
