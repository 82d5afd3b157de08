//! What one connection may cost.

use std::time::Duration;

use super::pace::Pace;
use super::proxied::Proxies;

/// How listeners are set up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What one connection may cost.
    pub bounds: Bounds,
    /// Who forwards connections of others.
    pub proxies: Proxies,
}

/// What one connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For the whole request header, from its first byte.
    pub header_deadline: Duration,
    /// For the whole request, from its first byte to the last of its body.
    pub request_deadline: Duration,
    /// For the first byte of a request on an open connection.
    pub idle: Duration,
    /// Bytes of the request line and headers.
    pub max_header: usize,
    /// Header lines.
    pub max_lines: usize,
    /// Bytes of the request target.
    pub max_target: usize,
    /// Open connections in all; more are closed at once.
    pub max_connections: usize,
    /// Of these, from one address; those of proxies that name callers in a header do not count.
    pub max_per_address: usize,
    /// Requests on one connection.
    pub max_requests: u32,
    /// How slowly a client may send a body.
    pub sending: Pace,
    /// How slowly a client may take an answer.
    pub taking: Pace,
}

impl Default for Bounds {
    fn default() -> Self {
        let pace = Pace {
            rate: 512,
            grace: Duration::from_secs(20),
        };
        Self {
            header_deadline: Duration::from_secs(10),
            request_deadline: Duration::from_secs(300),
            idle: Duration::from_secs(60),
            max_header: 64 << 10,
            max_lines: 128,
            max_target: 8 << 10,
            max_connections: 20_000,
            max_per_address: 10_000,
            max_requests: 10_000,
            sending: pace,
            taking: pace,
        }
    }
}
