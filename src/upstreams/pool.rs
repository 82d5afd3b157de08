//! The live half of an upstream: whose turn it is, and who is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use pingora::upstreams::peer::{HttpPeer, Peer};
use smallvec::SmallVec;

use super::balance::{hash, highest, in_turn, less_busy, mix};
use super::breaker::{Admitted, Breaker};
use super::idle::Idle;
use super::window::{Count, Window};
use super::{
    Balance, BreakerFigures, CallError, Caller, Outgoing, Protocol, RetryAfter, RetrySettings, Upstream,
    UpstreamSettings, UpstreamTls, Whom,
};

/// Failed checks in a row that take an endpoint out.
const FALL: u32 = 2;
/// Pooled connections are given up before servers' usual 60 s and more.
const IDLE: Duration = Duration::from_secs(50);
const WRITE: Duration = Duration::from_secs(30);
const HTTP2_STREAMS: usize = 100;
/// Retry budgets look back so far, and allow so many tries whatever the share: a quiet upstream is retried, too.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const BUDGET_FLOOR: u64 = 3;

/// The live endpoints of one upstream. What it shares with the pools of other configurations outlives them.
#[derive(Debug)]
pub struct Pool {
    /// The upstream's name.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: UpstreamSettings,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<Endpoint>,
    shared: Arc<Shared>,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The address as text, for records and metrics.
    pub label: Arc<str>,
    /// What requests from inside say as their `Host`.
    pub(super) host: HeaderValue,
    pub(super) peer: HttpPeer,
    /// Connections to it that wait for requests from inside.
    pub(super) idle: Arc<Idle>,
    is_checked: bool,
    /// What stands for it when keys are shared out.
    seed: u64,
    state: Arc<State>,
}

/// What an endpoint is like at this moment. One per upstream and address, whoever asks it.
#[derive(Debug)]
struct State {
    healthy: AtomicBool,
    /// Failed checks in a row.
    failures: AtomicU32,
    in_flight: AtomicUsize,
    /// How often its connections were left.
    left: AtomicU64,
    breaker: Breaker,
}

/// What an upstream's endpoints have in common.
#[derive(Debug)]
struct Shared {
    next: AtomicUsize,
    budget: Mutex<Window>,
    retries: AtomicU64,
    unaffordable: AtomicU64,
}

/// An endpoint whose health changed.
#[derive(Debug)]
pub struct Checked {
    /// Which one.
    pub endpoint: Arc<str>,
    /// What is wrong with it; `None` where it is well again.
    pub fault: Option<String>,
}

/// Extra tries of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Those that were made.
    pub made: u64,
    /// Those that the budget did not allow.
    pub refused: u64,
}

/// Why there is nobody to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEndpoint {
    /// No endpoint is healthy.
    Unhealthy,
    /// The breakers of all healthy ones are open; one may close after this time.
    BreakerOpen(Duration),
}

/// A try at an endpoint, counted there while this lives. Say how it went; a lease that is dropped without a word says nothing
/// about the endpoint.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    at: u16,
    admitted: Admitted,
    is_told: bool,
    /// Whether it is given up because it took too long.
    overdue: Option<Arc<AtomicBool>>,
}

impl Endpoint {
    /// Whether the last checks went well; unchecked endpoints are.
    pub fn is_healthy(&self) -> bool {
        !self.is_checked || self.state.healthy.load(Ordering::Relaxed)
    }

    /// What Pingora connects to.
    pub fn peer(&self) -> Box<HttpPeer> {
        // It is large: it is put where it stays.
        let mut peer = Box::new(self.peer.clone());
        peer.group_key = peer.group_key.wrapping_add(self.state.left.load(Ordering::Relaxed));
        peer
    }

    /// Requests under way there.
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// How its breaker stands.
    pub fn breaker(&self) -> BreakerFigures {
        self.state.breaker.figures()
    }
}

impl Pool {
    /// A pool of an upstream; endpoints that `before` has too keep their state.
    pub fn new(upstream: &Upstream, before: Option<&Self>) -> Self {
        let settings = upstream.settings.clone();
        let now = Instant::now();
        let fresh = || State {
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            left: AtomicU64::new(0),
            breaker: Breaker::new(now),
        };
        let endpoints = settings.endpoints.0.iter().map(|address| {
            let known = before.and_then(|pool| pool.endpoints.iter().find(|known| known.address == *address));
            let label: Arc<str> = address.to_string().into();
            let tls = upstream.tls.as_ref();
            let peer = peer(*address, &settings, tls);
            // Connections were made as the peer says: to whom, and who the gate is there.
            let same = known.filter(|known| known.peer.reuse_hash() == peer.reuse_hash());
            let host = tls.map_or_else(|| label.to_string(), |tls| tls.authority(address.port()));
            Endpoint {
                address: *address,
                host: HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("")),
                idle: same.map_or_else(Arc::default, |known| known.idle.clone()),
                peer,
                is_checked: settings.health.is_some(),
                seed: hash(b'e', label.as_bytes()),
                state: known.map_or_else(|| Arc::new(fresh()), |known| known.state.clone()),
                label,
            }
        });
        let shared = || Shared {
            next: AtomicUsize::new(0),
            budget: Mutex::new(Window::new(now)),
            retries: AtomicU64::new(0),
            unaffordable: AtomicU64::new(0),
        };
        Self {
            name: upstream.name.clone(),
            endpoints: endpoints.collect(),
            settings,
            shared: before.map_or_else(|| Arc::new(shared()), |pool| pool.shared.clone()),
        }
    }

    /// The endpoint whose turn it is: healthy, its breaker not open, and not among `tried`, unless all such were tried.
    pub fn pick(self: &Arc<Self>, tried: &[u16], whom: &Whom<'_>) -> Result<Lease, NoEndpoint> {
        let now = Instant::now();
        if tried.is_empty() && self.settings.retry.budget.is_some() {
            let count = Count { all: 1, marked: 0 };
            self.shared.budget.lock().add(BUDGET_WINDOW, now, count);
        }
        let turn = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut refused = SmallVec::<[u16; 4]>::new();
        let mut wait: Option<Duration> = None;
        for passed_over in [tried, &[]] {
            while let Some(at) = self.choose(turn, whom, |at| passed_over.contains(&at) || refused.contains(&at)) {
                match self.admit(at, now) {
                    Ok(admitted) => return Ok(Lease::new(self.clone(), at, admitted)),
                    Err(more) => {
                        wait = Some(wait.map_or(more, |wait| wait.min(more)));
                        refused.push(at);
                    }
                }
            }
        }
        Err(wait.map_or(NoEndpoint::Unhealthy, NoEndpoint::BreakerOpen))
    }

    fn choose(&self, turn: usize, whom: &Whom<'_>, passed_over: impl Fn(u16) -> bool) -> Option<u16> {
        let count = self.endpoints.len();
        let eligible = |at: usize| {
            let is_healthy = self.endpoints.get(at).is_some_and(Endpoint::is_healthy);
            is_healthy && !u16::try_from(at).is_ok_and(&passed_over)
        };
        let chosen = match &self.settings.balance {
            Balance::RoundRobin => in_turn(count, turn, eligible),
            Balance::LeastLoaded => {
                let load = |at: usize| self.endpoints.get(at).map_or(usize::MAX, Endpoint::in_flight);
                less_busy(count, mix(turn as u64), eligible, load)
            }
            Balance::ConsistentHash(key) => {
                let seed = |at: usize| self.endpoints.get(at).map_or(0, |endpoint| endpoint.seed);
                highest(count, key.of(whom), eligible, seed)
            }
        };
        chosen.and_then(|at| u16::try_from(at).ok())
    }

    fn admit(&self, at: u16, now: Instant) -> Result<Admitted, Duration> {
        match self.endpoints.get(usize::from(at)) {
            Some(endpoint) if self.settings.breaker.is_some() => endpoint.state.breaker.admit(now),
            _ => Ok(Admitted::Plainly),
        }
    }

    /// Whether what happened is tried again after so many tries, by `retry`, which mostly is the pool's own; after an answer the
    /// caller has looked at the method. Ask once for each: a yes is paid for.
    pub fn retries(&self, retry: &RetrySettings, what: RetryAfter, tries: usize) -> bool {
        tries <= usize::from(retry.attempts.0) && retry.after.contains(&what) && self.can_afford_retry(Instant::now())
    }

    fn can_afford_retry(&self, now: Instant) -> bool {
        if let Some(share) = self.settings.retry.budget {
            let mut budget = self.shared.budget.lock();
            let spent = budget.sum(BUDGET_WINDOW, now);
            if spent.marked >= share.of(spent.all).max(BUDGET_FLOOR) {
                self.shared.unaffordable.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            budget.add(BUDGET_WINDOW, now, Count { all: 0, marked: 1 });
        }
        self.shared.retries.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How often it was tried again.
    pub fn retried(&self) -> Retries {
        Retries {
            made: self.shared.retries.load(Ordering::Relaxed),
            refused: self.shared.unaffordable.load(Ordering::Relaxed),
        }
    }

    /// Checks every endpoint once; returns those whose health changed.
    pub async fn check(&self, caller: &Caller) -> Vec<Checked> {
        let Some(health) = &self.settings.health else {
            return Vec::new();
        };
        let wait = health.every.0.clamp(Duration::from_millis(100), Duration::from_secs(2));
        let outgoing = Outgoing {
            target: &health.path.0,
            headers: &HeaderMap::new(),
            authorization: None,
            post: None,
            max_body: 64 << 10,
            overdue: None,
        };
        let checks = self.endpoints.iter().map(|endpoint| async {
            let fault = match tokio::time::timeout(wait, caller.ask(endpoint, &outgoing)).await {
                Ok(Ok(called)) if called.status.is_success() => None,
                Ok(Ok(called)) => Some(format!("it answers {}", called.status.as_u16())),
                Ok(Err(failed)) => Some(failed.error.to_string()),
                Err(_) => Some(CallError::Timeout.to_string()),
            };
            let before = endpoint.is_healthy();
            let after = if fault.is_none() {
                endpoint.state.failures.store(0, Ordering::Relaxed);
                true
            } else {
                before && endpoint.state.failures.fetch_add(1, Ordering::Relaxed) + 1 < FALL
            };
            endpoint.state.healthy.store(after, Ordering::Relaxed);
            (before != after).then(|| Checked {
                endpoint: endpoint.label.clone(),
                fault,
            })
        });
        futures::future::join_all(checks).await.into_iter().flatten().collect()
    }
}

impl Lease {
    fn new(pool: Arc<Pool>, at: u16, admitted: Admitted) -> Self {
        let lease = Self {
            pool,
            at,
            admitted,
            is_told: false,
            overdue: None,
        };
        if let Some(state) = lease.state() {
            state.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        lease
    }

    /// Which endpoint, by its place in the pool.
    pub fn at(&self) -> u16 {
        self.at
    }

    /// The endpoint.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.pool.endpoints.get(usize::from(self.at))
    }

    /// It answered: a 5xx counts as a failure.
    pub fn answered(&mut self, status: StatusCode) {
        self.tell(status.is_server_error());
    }

    /// No connection, no answer in time, or an exchange that broke off. After an answer that counted as good, this counts too.
    pub fn failed(&mut self) {
        if !self.is_told {
            self.tell(true);
        } else if let (Some(settings), Some(state)) = (&self.pool.settings.breaker, self.state()) {
            state.breaker.report_broken(settings, Instant::now());
        }
    }

    /// No other request goes where this one waited in vain: of a connection that is dead, all the streams are.
    pub fn leave_connections(&self) {
        if self.pool.settings.protocol == Protocol::Http2
            && let Some(state) = self.state()
        {
            state.left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Dropped without a word once this is set, it has failed: whoever waited has waited too long.
    pub fn watch(&mut self, overdue: Arc<AtomicBool>) {
        self.overdue = Some(overdue);
    }

    fn tell(&mut self, failed: bool) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        if let (Some(settings), Some(state)) = (&self.pool.settings.breaker, self.state()) {
            state.breaker.report(settings, Instant::now(), self.admitted, failed);
        }
    }

    fn state(&self) -> Option<&Arc<State>> {
        self.endpoint().map(|endpoint| &endpoint.state)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self
            .overdue
            .as_ref()
            .is_some_and(|overdue| overdue.load(Ordering::Relaxed))
        {
            self.tell(true);
        }
        let Some(state) = self.state() else { return };
        state.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.admitted == Admitted::AsProbe && !self.is_told {
            state.breaker.give_up(Instant::now());
        }
    }
}

/// Every timeout is set, that for reading with each try: Pingora's own defaults wait for ever.
fn peer(address: SocketAddr, settings: &UpstreamSettings, tls: Option<&UpstreamTls>) -> HttpPeer {
    let mut peer = match tls {
        None => HttpPeer::new(address, false, String::new()),
        Some(tls) => HttpPeer::new(address, true, tls.server_name().to_owned()),
    };
    if let Some(tls) = tls {
        tls.apply(&mut peer);
    }
    peer.options.connection_timeout = Some(settings.timeout.connect.0);
    peer.options.total_connection_timeout = Some(settings.timeout.connect.0);
    peer.options.read_timeout = Some(settings.timeout.response.0);
    peer.options.write_timeout = Some(WRITE);
    peer.options.idle_timeout = Some(IDLE);
    if settings.protocol == Protocol::Http2 {
        peer.options.set_http_version(2, 2);
        peer.options.max_h2_streams = HTTP2_STREAMS;
    }
    peer
}

#[cfg(test)]
mod tests;
