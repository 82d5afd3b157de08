//! Upstreams: named pools of endpoints with balancing, health checks, timeouts and retries.
//!
//! ```yaml
//! upstreams:
//!   accounts:
//!     endpoints: [127.0.0.1:7001, 127.0.0.1:7002]
//!     balance: round_robin
//!     protocol: http1                                     # | http2 (without TLS, by prior knowledge)
//!     health:  { path: /healthz, every: 2s }              # two failures in a row take an endpoint out, one success brings it back
//!     timeout: { connect: 200ms, response: 2s }           # `response` ends at the response header
//!     retry:   { attempts: 1, after: [connect, 502, 503] }
//! ```
//!
//! `retry.attempts` are extra tries, each on another endpoint while there is one. A failed connect may be retried for every
//! method, nothing having been sent; an answer listed in `after` only for idempotent methods (RFC 9110 §9.2.2).
//! Causes `502 upstream-unreachable`, `503 no-healthy-endpoint`, `504 upstream-timeout`.

mod call;
mod pool;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::conf::{Describe, Json, Load, Named, Node, Read, Schema, Schemas, Spanned};

pub use call::{CallError, Called, Caller};
pub use pool::{Endpoint, Pool};

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
        /// How endpoints are checked; without it all count as healthy.
        pub health: Option<HealthSettings>,
        /// How long to wait.
        pub timeout: TimeoutSettings = TimeoutSettings::default(),
        /// When to try again.
        pub retry: RetrySettings = RetrySettings { attempts: 1, after: vec![RetryAfter::Connect] },
    }
}

crate::words! {
    /// Who gets the next request.
    pub enum Balance {
        /// One endpoint after the other.
        RoundRobin = "round_robin",
    }
}

crate::words! {
    /// What the endpoints of an upstream speak.
    pub enum Protocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
        Http2 = "http2",
    }
}

crate::settings! {
    /// How endpoints are checked.
    #[derive(PartialEq)]
    pub struct HealthSettings {
        /// The path to ask, such as `/healthz`; a 2xx answer is well.
        pub path: String,
        /// How often. Two failures in a row take an endpoint out, one success brings it back.
        pub every: Duration = Duration::from_secs(5),
    }
}

crate::settings! {
    /// How long to wait for an endpoint.
    #[derive(PartialEq)]
    pub struct TimeoutSettings {
        /// For the connection.
        pub connect: Duration = Duration::from_secs(1),
        /// For the response header.
        pub response: Duration = Duration::from_secs(30),
    }
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            response: Duration::from_secs(30),
        }
    }
}

crate::settings! {
    /// When to try again, on another endpoint while there is one.
    #[derive(PartialEq)]
    pub struct RetrySettings {
        /// Extra tries, at most 5.
        pub attempts: u16 = 1,
        /// After what: `connect`, or a status from 500 to 599, which repeats idempotent methods alone.
        pub after: Vec<RetryAfter> = vec![RetryAfter::Connect],
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
        for endpoint in &endpoints {
            if endpoint.value.port() == 0 || endpoint.value.ip().is_unspecified() {
                load.error(&endpoint.place, format!("`{}` cannot be connected to", endpoint.value));
            } else if addresses.contains(&endpoint.value) {
                load.error(&endpoint.place, format!("`{}` stands here twice", endpoint.value));
            } else {
                addresses.push(endpoint.value);
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
}

/// Checks and names what stands under `upstreams:`.
pub fn compile(settings: Named<UpstreamSettings>, load: &Load) -> Vec<Upstream> {
    let mut upstreams = Vec::with_capacity(settings.0.len());
    for (name, settings) in settings.0 {
        if settings.retry.attempts > 5 {
            load.error(&name.place, format!("upstream `{}`: at most 5 extra tries", name.value));
        }
        if settings
            .health
            .as_ref()
            .is_some_and(|health| !health.path.starts_with('/'))
        {
            load.error(
                &name.place,
                format!("upstream `{}`: a health path begins with `/`", name.value),
            );
        }
        for (what, wait) in [
            ("connect", settings.timeout.connect),
            ("response", settings.timeout.response),
        ] {
            if wait.is_zero() {
                load.error(
                    &name.place,
                    format!("upstream `{}`: a {what} timeout above 0 is needed", name.value),
                );
            }
        }
        upstreams.push(Upstream {
            name: Arc::from(name.value),
            settings,
        });
    }
    upstreams
}
