//! Upstreams: named pools of endpoints with balancing, health checks, timeouts and retries.
//!
//! ```yaml
//! upstreams:
//!   accounts:
//!     endpoints: [127.0.0.1:7001, 127.0.0.1:7002]
//!     balance: round_robin                                # | least_loaded | { consistent_hash: principal.sub }
//!     protocol: http1                                     # | http2 (without `tls` by prior knowledge)
//!     health:  { path: /healthz, every: 2s }              # two failures in a row take an endpoint out, one success brings it back
//!     timeout: { connect: 200ms, response: 2s, idle: 5m } # `response` is for the header; streams have `idle` after it
//!     retry:   { attempts: 1, after: [connect, 502, 503], budget: 20% }
//!     breaker: { error_ratio: 50%, window: 10s, open_for: 5s }
//! ```
//!
//! `retry.attempts` are extra tries, each on another endpoint while there is one. A failed connect may be retried for every
//! method, nothing having been sent; an answer listed in `after` only for idempotent methods (RFC 9110 §9.2.2). With a `budget`
//! extra tries are at most that share of the requests of the last 10 s, and 3 in any case, so that an upstream in trouble is not
//! asked twice as much. Health, breaker and load of an endpoint are one state, whoever asks it, and survive reloads.
//! How connections are encrypted is told in [`UpstreamTlsSettings`].
//! Causes `502 upstream-unreachable`, `503 no-healthy-endpoint`, `503 breaker-open`, `504 upstream-timeout`.

mod balance;
mod breaker;
mod call;
mod fault;
mod flights;
mod idle;
mod pool;
mod tls;
pub mod wellformed;
mod window;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use crate::conf::{Describe, Json, Load, Named, Node, Percent, Place, Read, Schema, Schemas, Spanned};

pub use balance::{Balance, HashKey, Whom};
pub use breaker::{BreakerFigures, BreakerSettings};
pub use call::{CallError, CallFailure, Called, Caller, Outgoing};
pub use fault::fault;
pub use flights::{Flights, Kept, Outcome};
pub use pool::{Checked, Endpoint, Lease, NoEndpoint, Pool, Retries};
pub use tls::{UpstreamTls, UpstreamTlsSettings, distrust};

crate::settings! {
    /// A named pool of endpoints.
    #[derive(PartialEq)]
    pub struct UpstreamSettings {
        /// Where the service listens: addresses with ports, at least one.
        pub endpoints: Endpoints,
        /// Who gets the next request.
        pub balance: Balance = Balance::RoundRobin,
        /// What the endpoints speak.
        pub protocol: Protocol = Protocol::Http1,
        /// Encrypts connections and has endpoints prove who they are; without it they are plain.
        pub tls: Option<UpstreamTlsSettings>,
        /// How endpoints are checked; without it all count as healthy.
        pub health: Option<HealthSettings>,
        /// How long to wait.
        pub timeout: TimeoutSettings = TimeoutSettings::default(),
        /// When to try again.
        pub retry: RetrySettings = RetrySettings { attempts: Attempts(1), after: vec![RetryAfter::Connect], budget: None },
        /// When an endpoint that fails is left alone; without it, never.
        pub breaker: Option<BreakerSettings>,
    }
}

crate::words! {
    /// What the endpoints of an upstream speak.
    pub enum Protocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2: with `tls` by ALPN (RFC 9113 §3.2), without it by prior knowledge (§3.3).
        Http2 = "http2",
    }
}

crate::settings! {
    /// How endpoints are checked.
    #[derive(PartialEq)]
    pub struct HealthSettings {
        /// The path to ask, such as `/healthz`; a 2xx answer is well.
        pub path: HealthPath,
        /// How often. Two failures in a row take an endpoint out, one success brings it back.
        pub every: Patience = Patience(Duration::from_secs(5)),
    }
}

crate::settings! {
    /// How long to wait for an endpoint.
    #[derive(PartialEq)]
    pub struct TimeoutSettings {
        /// For the connection.
        pub connect: Patience = Patience(Duration::from_secs(1)),
        /// For the response header, from the end of the request on, and between the pieces of what follows it.
        pub response: Patience = Patience(Duration::from_secs(30)),
        /// For something to move in what is open as long as it likes: sockets and streams.
        pub idle: Patience = Patience(Duration::from_secs(300)),
    }
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self {
            connect: Patience(Duration::from_secs(1)),
            response: Patience(Duration::from_secs(30)),
            idle: Patience(Duration::from_secs(300)),
        }
    }
}

crate::settings! {
    /// When to try again, on another endpoint while there is one.
    #[derive(PartialEq, Eq)]
    pub struct RetrySettings {
        /// Extra tries, at most 5.
        pub attempts: Attempts = Attempts(1),
        /// After what: `connect`, or a status from 500 to 599, which repeats idempotent methods alone.
        pub after: Vec<RetryAfter> = vec![RetryAfter::Connect],
        /// The share of requests that extra tries may come to, over 10 s; 3 are allowed in any case. Without it, no bound but
        /// `attempts`.
        pub budget: Option<Percent>,
    }
}

/// A time above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl Describe for Patience {
    fn schema(schemas: &mut Schemas) -> Schema {
        Duration::schema(schemas)
    }

    fn written(&self) -> Option<Json> {
        self.0.written()
    }
}

impl Read for Patience {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let wait = Duration::read(node, load)?;
        if wait.is_zero() {
            load.error(&node.place, "a time above 0 is needed");
        }
        Some(Self(wait))
    }
}

/// The path of a health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPath(pub String);

impl Describe for HealthPath {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text("^/")
    }

    fn written(&self) -> Option<Json> {
        self.0.written()
    }
}

impl Read for HealthPath {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a path such as `/healthz`", load, |text| match text.starts_with('/') {
            true => Ok(Self(text.to_owned())),
            false => Err("is not a path: it must begin with `/`".into()),
        })
    }
}

/// Extra tries: at most 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts(pub u16);

impl Describe for Attempts {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::whole(0, 5)
    }

    fn written(&self) -> Option<Json> {
        self.0.written()
    }
}

impl Read for Attempts {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let attempts = u16::read(node, load)?;
        if attempts > 5 {
            load.error(&node.place, "at most 5 extra tries");
        }
        Some(Self(attempts))
    }
}

/// After what to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// The connection could not be made.
    Connect,
    /// The endpoint answered so.
    Status(StatusCode),
}

impl Describe for RetryAfter {
    fn schema(_: &mut Schemas) -> Schema {
        let examples = [Json::from("connect"), 502.into(), 503.into(), 504.into()];
        Schema::whole_or("^(connect|5[0-9][0-9])$", 500, 599).examples(examples)
    }

    fn written(&self) -> Option<Json> {
        Some(match self {
            Self::Connect => "connect".into(),
            Self::Status(status) => status.as_u16().into(),
        })
    }
}

impl Read for RetryAfter {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("`connect` or a status from 500 to 599", load, |text| {
            match text.parse::<StatusCode>() {
                _ if text == "connect" => Ok(Self::Connect),
                Ok(status) if status.is_server_error() => Ok(Self::Status(status)),
                _ => Err("is neither `connect` nor a status from 500 to 599".into()),
            }
        })
    }
}

/// The endpoints of one upstream: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(pub Vec<SocketAddr>);

impl Describe for Endpoints {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::list(SocketAddr::schema(schemas), 1)
    }
}

impl Read for Endpoints {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let endpoints = Vec::<Spanned<SocketAddr>>::read(node, load)?;
        if endpoints.is_empty() {
            load.error(&node.place, "an upstream needs at least one endpoint");
            return None;
        }
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            if endpoint.value.port() == 0 || endpoint.value.ip().is_unspecified() {
                load.error(&endpoint.place, format!("`{}` cannot be connected to", endpoint.value));
                continue;
            }
            let mut earlier = endpoints.iter().take(index);
            match earlier.find(|first| first.value == endpoint.value) {
                Some(first) => {
                    let message = format!("`{}` stands here a second time", endpoint.value);
                    load.error_with(&endpoint.place, message, &first.place, "first here");
                }
                None => addresses.push(endpoint.value),
            }
        }
        (addresses.len() == endpoints.len()).then_some(Self(addresses))
    }
}

/// One upstream of a snapshot.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: UpstreamSettings,
    /// How connections are encrypted; `None` where they are not.
    pub tls: Option<UpstreamTls>,
}

/// Names what stands under `upstreams:`. Keys that cannot be read now are left to `unfetched`, each with its place.
pub fn compile(
    settings: Named<UpstreamSettings>,
    now: Timestamp,
    load: &Load,
    unfetched: &mut Vec<(Place, String)>,
) -> Vec<Upstream> {
    let named = settings.0.into_iter();
    let upstream = |(name, settings): (Spanned<String>, UpstreamSettings)| Upstream {
        name: Arc::from(name.value),
        tls: settings.tls.as_ref().map(|tls| tls.compile(now, load, unfetched)),
        settings,
    };
    named.map(upstream).collect()
}
