//! What stands before the proxy, set up by a configuration: its bounds, its proxies, and the records of what it refuses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::engine::{Denial, DenialKind, Effected, Record, RecordedRequest, Trail};
use crate::front::{Bounds, Pace, Proxies, Refusals, Settings};
use crate::live::Live;
use crate::proxy::RequestIds;
use crate::snapshot::Snapshot;

/// The settings of listeners by a snapshot.
pub(super) fn settings(snapshot: &Snapshot) -> Settings {
    let written = &snapshot.bounds;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let count = |number: std::num::NonZeroU32| usize::try_from(number.get()).unwrap_or(usize::MAX);
    let trusted = snapshot.trusted_proxies.as_ref();
    Settings {
        bounds: Bounds {
            header_deadline: written.header.within.0,
            request_deadline: written.body.within.0,
            idle: written.connections.idle.0,
            max_header: size(written.header.size.0.0),
            max_lines: count(written.header.lines.0),
            max_target: size(written.header.target.0),
            max_connections: count(written.connections.open),
            max_per_address: count(written.connections.per_address),
            max_requests: written.connections.requests.get(),
            sending: Pace {
                rate: written.body.per_second.0.0,
                grace: written.body.grace.0,
            },
            taking: Pace {
                rate: written.answer.per_second.0.0,
                grace: written.answer.grace.0,
            },
        },
        proxies: Proxies {
            from: trusted.map_or_else(Vec::new, |trusted| trusted.from().to_vec()),
            speak_proxy_protocol: trusted.is_some_and(|trusted| trusted.header().is_none()),
        },
    }
}

/// The settings of the admin listener: few speak there, and shortly.
pub(super) fn admin_settings() -> Settings {
    Settings {
        bounds: Bounds {
            max_connections: 256,
            max_per_address: 256,
            max_header: 16 << 10,
            ..Bounds::default()
        },
        proxies: Proxies::default(),
    }
}

/// Records for requests that were refused before the proxy saw them.
pub(super) struct FrontRefusals {
    pub live: Arc<Live>,
    pub ids: Arc<RequestIds>,
}

impl Refusals for FrontRefusals {
    fn refused(&self, peer: SocketAddr, method: &Method, target: &str, denial: &Denial) -> Arc<str> {
        let generation = self.live.current();
        let id = self.ids.next();
        let path = target
            .split('?')
            .next()
            .filter(|path| path.starts_with('/'))
            .map(str::to_owned);
        let record = Record {
            id: id.clone(),
            at: self.live.clock.now(),
            config: generation.snapshot.id.clone(),
            route: None,
            rules: Arc::from([]),
            request: RecordedRequest {
                method: method.clone(),
                host: String::new(),
                template: None,
                params: Vec::new(),
                path,
                headers: Vec::new(),
                query: Vec::new(),
                credential: "absent",
                address: peer.ip().to_canonical(),
                client: Arc::from(""),
                claims: generation.snapshot.kept.claims.clone(),
            },
            principal: None,
            claimed_sub: None,
            decision: Effected {
                effect: DenialKind::Refuse.word(),
                status: Some(denial.status.as_u16()),
                code: Some(denial.code.clone()),
                rule: None,
                reopens_at: None,
            },
            answers: Vec::new(),
            trail: Trail::new(),
            status: denial.status.as_u16(),
            duration: Duration::ZERO,
            request_bytes: 0,
            response_bytes: 0,
            upstream: None,
            parts: Vec::new(),
            cache: None,
            failure: None,
            ended: None,
            rehearsal: self.live.clock.is_rehearsal(),
        };
        generation.observer.record(&Arc::new(record));
        id
    }
}
