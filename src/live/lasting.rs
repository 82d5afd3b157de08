//! Exchanges that are open as long as they like: sockets, streams of events, gRPC, long answers.
//!
//! Judged at the start like any request, they are judged again whenever something may have changed: at the next instant at
//! which one of their rules may change its mind, when an operator freezes or revokes, and under the new configuration when
//! there is one. What would be refused by then is ended, and so is what the caller's credential is too old for (`exp`, leeway
//! not counted). Only windows, freezes and revocations move: who calls, how old the login is, limits and what an `if:` makes of
//! `now` are held as they were at the start. API keys and client certificates are judged again, so that one that is no longer
//! known takes its sockets along.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::{Generation, Live, ends};
use crate::engine::{
    Act, Answer, Answers, AuthenticatorId, ClientCertificate, CredentialRefusal, Effect, Ended, EndedBy, Headers,
    LimitAnswer, Lookup, Principal, Question, RequestView,
};
use crate::policies::authn::Authenticator;
use crate::policies::freeze;
use crate::snapshot::judge_later_alone;
use crate::targets::Target;

/// More are refused: nothing lasts that nobody watches over.
const MAX: usize = 65_536;
/// Of these, from one address: one HTTP/2 client after another would leave no room for anybody else's.
const MAX_PER_ADDRESS: usize = MAX / 8;
/// What is over by then was judged often enough.
const FIRST: SignedDuration = SignedDuration::from_secs(1);
/// The wall clock may be set: what is due is looked for at least so often.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Whether an answer of that header is a stream of events or messages.
pub fn is_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| {
        let value = value.as_bytes();
        [&b"text/event-stream"[..], b"application/grpc"].iter().any(|stream| {
            let start = value.get(..stream.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(stream))
        })
    })
}

/// The exchanges that last.
#[derive(Default)]
pub struct Lasting {
    open: Mutex<Open>,
    /// Something may have changed for all of them.
    is_news: AtomicBool,
    /// Wakes whoever watches over them.
    woken: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, (Arc<Standing>, Option<Timestamp>)>,
    /// How many there are from each network.
    by_address: HashMap<IpAddr, usize>,
    /// Which is to be judged again, and when.
    due: BTreeSet<(Timestamp, u64)>,
    is_over: bool,
}

/// A request that is being answered, with all that it was judged by.
pub struct Standing {
    /// Its instant.
    pub at: Timestamp,
    /// How far its clock is ahead of the gateway's: a rehearsal may say when a request is.
    pub ahead: SignedDuration,
    /// Its method.
    pub method: Method,
    /// Its host, normalised.
    pub host: String,
    /// Its path, normalised.
    pub path: String,
    /// Its query.
    pub query: String,
    /// Its headers, credentials left out.
    pub headers: HeaderMap,
    /// The word for its credential ([`RecordedRequest::credential`](crate::engine::RecordedRequest)).
    pub credential: &'static str,
    /// Where it came from.
    pub address: IpAddr,
    /// The certificate of the connection that it came by.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Who calls.
    pub principal: Option<Arc<Principal>>,
    /// The upstream that answers it, whatever the route's is by now.
    pub upstream: Option<Arc<str>>,
    /// Whether it is a socket.
    pub is_socket: bool,
    /// How it is ended.
    pub cut: Arc<Cut>,
}

/// How an exchange is told to end.
#[derive(Default)]
pub struct Cut {
    ended: OnceLock<Ended>,
    waker: AtomicWaker,
}

impl Cut {
    pub(super) fn end(&self, ended: Ended) {
        if self.ended.set(ended).is_ok() {
            self.waker.wake();
        }
    }

    /// Why it has to end, once it has.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// Returns when the exchange has to end. One waits at a time.
    pub async fn told(&self) -> Ended {
        std::future::poll_fn(|context| match self.poll(context) {
            Poll::Ready(()) => self.ended.get().cloned().map_or(Poll::Pending, Poll::Ready),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.ended.get() {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

/// An exchange that is watched over until this is dropped.
pub struct Lasts {
    live: Arc<Live>,
    number: u64,
    cut: Arc<Cut>,
}

impl Lasts {
    /// How it is ended.
    pub fn cut(&self) -> &Arc<Cut> {
        &self.cut
    }

    /// Has the exchange of this task dropped when it has to end ([`until_cut`](super::until_cut)).
    pub fn drop_when_told(&self) {
        ends::drop_when_told(&self.cut);
    }
}

impl Drop for Lasts {
    fn drop(&mut self) {
        let mut open = self.live.lasting.open.lock();
        let Some((standing, due)) = open.all.remove(&self.number) else {
            return;
        };
        if let Some(due) = due {
            open.due.remove(&(due, self.number));
        }
        open.leave(standing.address);
    }
}

impl Live {
    /// Watches over an exchange from now on; `None` where there are too many, of all or of its address, or the gateway stops.
    pub fn watch(self: &Arc<Self>, standing: Standing) -> Option<Lasts> {
        let cut = standing.cut.clone();
        let due = self.clock.now().saturating_add(FIRST).unwrap_or(Timestamp::MAX);
        let mut open = self.lasting.open.lock();
        if open.is_over || open.all.len() >= MAX || !open.enter(standing.address) {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.all.insert(number, (Arc::new(standing), Some(due)));
        open.due.insert((due, number));
        let is_first = open.due.first().is_some_and(|(_, first)| *first == number);
        drop(open);
        if is_first {
            self.lasting.woken.notify_one();
        }
        Some(Lasts {
            live: self.clone(),
            number,
            cut,
        })
    }
}

impl Open {
    /// Counts one more of an address, unless it has its share.
    fn enter(&mut self, address: IpAddr) -> bool {
        let count = self.by_address.entry(network(address)).or_default();
        let has_room = *count < MAX_PER_ADDRESS;
        *count += usize::from(has_room);
        has_room
    }

    fn leave(&mut self, address: IpAddr) {
        if let Entry::Occupied(mut count) = self.by_address.entry(network(address)) {
            match count.get() {
                0 | 1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

/// Whoever has an IPv6 address has a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

impl Lasting {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.lock().all.len()
    }

    /// Has all of them judged again: something changed that may concern any.
    pub fn judge_again(&self) {
        self.is_news.store(true, Ordering::Release);
        self.woken.notify_one();
    }

    /// Ends all of them, and lets none begin any more.
    pub fn end_all(&self) {
        let mut open = self.open.lock();
        open.is_over = true;
        for (standing, _) in open.all.values() {
            standing.cut.end(EndedBy::Shutdown.into());
        }
    }

    /// The numbers of those that are to be judged at `now`.
    fn take_due(&self, now: Timestamp) -> Vec<u64> {
        let mut open = self.open.lock();
        if self.is_news.swap(false, Ordering::AcqRel) {
            return open.all.keys().copied().collect();
        }
        let mut due = Vec::new();
        while let Some((at, number)) = open.due.first().copied().filter(|(at, _)| *at <= now) {
            open.due.remove(&(at, number));
            if let Some((_, due)) = open.all.get_mut(&number) {
                *due = None;
            }
            due.push(number);
        }
        due
    }

    fn get(&self, number: u64) -> Option<Arc<Standing>> {
        self.open.lock().all.get(&number).map(|(standing, _)| standing.clone())
    }

    fn set_due(&self, number: u64, next: Option<Timestamp>) {
        let mut open = self.open.lock();
        let Open { all, due, .. } = &mut *open;
        let Some((_, standing)) = all.get_mut(&number) else {
            return;
        };
        if let Some(before) = std::mem::replace(standing, next) {
            due.remove(&(before, number));
        }
        due.extend(next.map(|next| (next, number)));
    }

    /// How long nothing is due.
    fn pause(&self, now: Timestamp) -> Duration {
        let first = self.open.lock().due.first().map(|(at, _)| *at);
        let wait = first.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        wait.map_or(LONGEST_SLEEP, |wait| wait.min(LONGEST_SLEEP))
    }
}

/// Watches over the exchanges that last, as long as there is a gateway.
pub async fn watch_over(live: Weak<Live>) {
    while let Some(living) = live.upgrade() {
        for number in living.lasting.take_due(living.clock.now()) {
            if let Some(standing) = living.lasting.get(number) {
                match judge(&living, &standing).await {
                    Ok(next) => living.lasting.set_due(number, next),
                    Err(ended) => standing.cut.end(ended),
                }
                tokio::task::coop::consume_budget().await;
            }
        }
        let (lasting, pause) = (living.lasting.clone(), living.lasting.pause(living.clock.now()));
        drop(living);
        let _ = tokio::time::timeout(pause, lasting.woken.notified()).await;
    }
}

/// Judges again; with it comes when to judge next.
async fn judge(live: &Live, standing: &Standing) -> Result<Option<Timestamp>, Ended> {
    let generation = live.current();
    let own = |at: Timestamp| at.saturating_add(standing.ahead).unwrap_or(at);
    let gateways = |at: Timestamp| at.saturating_sub(standing.ahead).unwrap_or(at);
    let now = own(live.clock.now());
    let expires = standing.principal.as_ref().and_then(|principal| principal.expires);
    if expires.is_some_and(|end| end <= now) {
        return Err(EndedBy::Expiry.into());
    }
    let headers = KeptHeaders(standing);
    let view = RequestView {
        method: &standing.method,
        host: &standing.host,
        path: &standing.path,
        query: &standing.query,
        headers: &headers,
    };
    let again = Again {
        live,
        generation: &generation,
        principal: standing.principal.as_ref(),
        certificate: standing.certificate.as_deref(),
        now,
    };
    let (snapshot, address) = (&generation.snapshot, standing.address);
    let judged = judge_later_alone(snapshot, view, address, standing.at, now, &again).await;
    let refused = |code: Option<Arc<str>>, rule: Option<Arc<str>>| {
        let by = EndedBy::Refusal;
        Err(Ended { by, code, rule })
    };
    // The route may have another upstream by now; what is open is still this one's.
    let upstream = standing.upstream.as_slice();
    if !live.freezes.held().concerning("", upstream, now).is_empty() {
        return refused(Some(freeze::CODE.into()), Some(freeze::NAME.into()));
    }
    match &judged.decision.effect {
        Effect::Forward => {}
        Effect::Deny(_) => {
            let effected = judged.effected();
            return refused(effected.code, effected.rule);
        }
        Effect::Reply(_) => return refused(None, None),
    }
    let has_sockets = judged.decision.acts.iter().any(|act| matches!(act, Act::WebSocket));
    let is_forwarded = judged
        .route
        .is_some_and(|route| matches!(route.target, Target::Upstream(_)));
    if !is_forwarded || standing.is_socket && !has_sockets {
        return refused(None, None);
    }
    let change = judged.next_change(view, address, standing.at, now);
    let certificate = standing.certificate.as_ref().and_then(|shown| shown.until(now));
    // The last second of a certificate is a good one.
    let ended = certificate.and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok());
    Ok([expires, change, ended].into_iter().flatten().min().map(gateways))
}

/// The headers of a request, with the word for what is left out.
struct KeptHeaders<'a>(&'a Standing);

impl Headers for KeptHeaders<'_> {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.headers.get_all(name).iter().nth(1).is_some()
    }

    fn all(&self, name: &HeaderName) -> SmallVec<[&[u8]; 2]> {
        self.0.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }

    fn credential(&self) -> Option<&'static str> {
        Some(self.0.credential)
    }
}

/// Answers as before, but for what operators did since.
struct Again<'a> {
    live: &'a Live,
    generation: &'a Generation,
    principal: Option<&'a Arc<Principal>>,
    certificate: Option<&'a ClientCertificate>,
    now: Timestamp,
}

impl Lookup for Again<'_> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        let one = |(_, question): &(u16, Question<'_>)| match question {
            Question::Token { authenticators, .. } | Question::Certificate { authenticators, .. } => {
                self.token(authenticators)
            }
            Question::Freezes { route, upstreams } => {
                Answer::Freezes(self.live.freezes.held().concerning(route, upstreams, self.now))
            }
            Question::Revocation { principal } => Answer::Revoked(self.live.revocations.hit(principal, self.now)),
            // It was counted when it came.
            Question::Limit { .. } => Answer::Limit(LimitAnswer {
                admitted: true,
                remaining: 1,
                reset: Duration::ZERO,
                retry_after: Duration::ZERO,
            }),
        };
        asked.iter().map(one).collect()
    }
}

impl Again<'_> {
    /// The caller of before, where the authenticator that knew it is still asked.
    fn token(&self, candidates: &[AuthenticatorId]) -> Answer {
        let known = &self.generation.snapshot.defined.authenticators;
        let mut asked = candidates.iter().filter_map(|id| known.by_id(*id));
        let found = self.principal.and_then(|principal| {
            let is_same =
                |one: &&Authenticator| *one.name() == principal.authenticator && *one.issuer() == principal.issuer;
            Some((principal, asked.find(is_same)?))
        });
        let proved = match found {
            Some((principal, Authenticator::ApiKey(keys))) => {
                let shown = principal.token_id.as_deref();
                shown.and_then(|shown| keys.prove_shown(shown, self.now))
            }
            Some((_, Authenticator::Certificate(certificates))) => {
                let shown = self.certificate;
                shown.map(|shown| certificates.prove(shown, self.now))
            }
            Some((principal, _)) => Some(Ok(principal.clone())),
            None => None,
        };
        let nobody = || {
            Err(CredentialRefusal {
                code: "credential-withdrawn",
                detail: "The credential is not accepted here any more.",
                claimed_sub: None,
            })
        };
        match proved.unwrap_or_else(nobody) {
            Ok(principal) => Answer::Principal(principal),
            Err(refusal) => Answer::Refused(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_takes_the_room_of_others() {
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut open = Open::default();
        // Two addresses of one network are one.
        for at in 0..MAX_PER_ADDRESS {
            assert!(open.enter(of(if at % 2 == 0 { "2001:db8::1" } else { "2001:db8::2" })));
        }
        assert!(!open.enter(of("2001:db8::3")));
        assert!(open.enter(of("2001:db8:0:1::1")) && open.enter(of("192.0.2.1")));
        open.leave(of("2001:db8::1"));
        assert!(open.enter(of("2001:db8::3")));
        open.leave(of("192.0.2.1"));
        assert_eq!(open.by_address.len(), 2, "who has none is forgotten");
    }
}
