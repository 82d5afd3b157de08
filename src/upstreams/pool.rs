//! The live half of an upstream: whose turn it is, and who is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;

use super::{Caller, Protocol, RetryAfter, Upstream, UpstreamSettings};

/// Failed checks in a row that take an endpoint out.
const FALL: u32 = 2;
/// Pooled connections are given up before servers' usual 60 s and more.
const IDLE: Duration = Duration::from_secs(50);
const WRITE: Duration = Duration::from_secs(30);
const HTTP2_STREAMS: usize = 100;

/// The live endpoints of one upstream. Outlives reloads that do not change its settings.
#[derive(Debug)]
pub struct Pool {
    /// The upstream's name.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: UpstreamSettings,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<Endpoint>,
    next: AtomicUsize,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The address as text, for records and metrics.
    pub label: Arc<str>,
    peer: HttpPeer,
    healthy: AtomicBool,
    failures: AtomicU32,
}

impl Endpoint {
    /// Whether the last checks went well; unchecked endpoints are.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// What Pingora connects to.
    pub fn peer(&self) -> HttpPeer {
        self.peer.clone()
    }
}

impl Pool {
    /// A pool of an upstream; endpoints that `before` has too keep their health.
    pub fn new(upstream: &Upstream, before: Option<&Self>) -> Self {
        let settings = upstream.settings.clone();
        let endpoints = settings.endpoints.0.iter().map(|address| {
            let known = before.and_then(|pool| pool.endpoints.iter().find(|known| known.address == *address));
            let checked = settings.health.is_some();
            Endpoint {
                address: *address,
                label: Arc::from(address.to_string()),
                peer: peer(*address, &settings),
                healthy: AtomicBool::new(!checked || known.is_none_or(Endpoint::is_healthy)),
                failures: AtomicU32::new(0),
            }
        });
        Self {
            name: upstream.name.clone(),
            endpoints: endpoints.collect(),
            settings,
            next: AtomicUsize::new(0),
        }
    }

    /// The endpoint whose turn it is: healthy, and not among `tried`, unless all healthy ones were tried.
    pub fn pick(&self, tried: &[u16]) -> Option<(u16, &Endpoint)> {
        let count = self.endpoints.len();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut again = None;
        for step in 0..count {
            let at = turn.wrapping_add(step) % count;
            let Some(endpoint) = self.endpoints.get(at).filter(|endpoint| endpoint.is_healthy()) else {
                continue;
            };
            let at = u16::try_from(at).ok()?;
            if !tried.contains(&at) {
                return Some((at, endpoint));
            }
            again = again.or(Some((at, endpoint)));
        }
        again
    }

    /// Whether a failed connect may be tried again after so many tries.
    pub fn retries_connect(&self, tries: usize) -> bool {
        self.has_tries_left(tries) && self.settings.retry.after.contains(&RetryAfter::Connect)
    }

    /// Whether an answer of `status` may be tried again after so many tries; the caller looks at the method.
    pub fn retries_status(&self, status: http::StatusCode, tries: usize) -> bool {
        self.has_tries_left(tries) && self.settings.retry.after.contains(&RetryAfter::Status(status))
    }

    fn has_tries_left(&self, tries: usize) -> bool {
        tries <= usize::from(self.settings.retry.attempts.0)
    }

    /// Checks every endpoint once; returns those whose health changed.
    pub async fn check(&self, caller: &Caller) -> Vec<(Arc<str>, bool)> {
        let Some(health) = &self.settings.health else {
            return Vec::new();
        };
        let wait = health.every.0.clamp(Duration::from_millis(100), Duration::from_secs(2));
        let checks = self.endpoints.iter().map(|endpoint| async {
            let well = match tokio::time::timeout(wait, caller.ask(endpoint, &health.path.0, &[], 64 << 10)).await {
                Ok(Ok(called)) => called.status.is_success(),
                Ok(Err(_)) | Err(_) => false,
            };
            let before = endpoint.is_healthy();
            let after = if well {
                endpoint.failures.store(0, Ordering::Relaxed);
                true
            } else {
                before && endpoint.failures.fetch_add(1, Ordering::Relaxed) + 1 < FALL
            };
            endpoint.healthy.store(after, Ordering::Relaxed);
            (before != after).then(|| (endpoint.label.clone(), after))
        });
        futures::future::join_all(checks).await.into_iter().flatten().collect()
    }
}

/// Every timeout is set: Pingora's own defaults wait for ever.
fn peer(address: SocketAddr, settings: &UpstreamSettings) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::conf::{Load, Named, Read};

    fn pool(yaml: &str) -> Pool {
        let load = Load::new();
        let node = load.text("t.yaml", yaml).unwrap();
        let named = Named::read(&node, &load).unwrap();
        let upstreams = crate::upstreams::compile(named);
        assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&node)));
        Pool::new(upstreams.first().unwrap(), None)
    }

    #[test]
    fn takes_turns_skips_the_unwell_and_the_tried() {
        let pool = pool("a: { endpoints: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3] }");
        let turns: Vec<u16> = (0..6).map(|_| pool.pick(&[]).unwrap().0).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        pool.endpoints.get(1).unwrap().healthy.store(false, Ordering::Relaxed);
        let turns: Vec<u16> = (0..4).map(|_| pool.pick(&[0]).unwrap().0).collect();
        assert!(turns.iter().all(|at| *at == 2), "{turns:?}");
        assert!(pool.pick(&[0, 2]).is_some(), "all tried: one is tried again");
        for endpoint in &pool.endpoints {
            endpoint.healthy.store(false, Ordering::Relaxed);
        }
        assert!(pool.pick(&[]).is_none());
    }

    #[test]
    fn points_at_bad_endpoints() {
        let load = Load::new();
        let node = load
            .text(
                "t.yaml",
                "a: { endpoints: [127.0.0.1:0, 'x:1', 127.0.0.1:2, 127.0.0.1:2] }",
            )
            .unwrap();
        Named::<UpstreamSettings>::read(&node, &load);
        let found: Vec<String> = load
            .into_findings(Some(&node))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            ["t.yaml:1:31: `x:1` is not an address with a port such as `127.0.0.1:8080` (at `a.endpoints[1]`)"]
        );
    }
}
