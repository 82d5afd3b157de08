//! What the gate knows of one request while it is served. Fixed: a feature adds acts, never a field here.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use smallvec::SmallVec;

use super::finish;
use super::request::RequestIds;
use super::shape::Change;
use crate::engine::{
    Act, CacheRule, CompressRule, Decision, Denial, Effect, Ended, Forwarded, PartSummary, Principal, RecordedRequest,
    RequestEdits, Reshape,
};
use crate::live::{Generation, InFlight, Lasts, Live};
use crate::policies::cache::storable::Lookup;
use crate::policies::compress::encode::Encoder;
use crate::snapshot::{Carried, Route};
use crate::upstreams::{Lease, Pool};

/// One request being served.
pub struct Exchange {
    pub(super) generation: Arc<Generation>,
    pub(super) id: Arc<str>,
    pub(super) at: Timestamp,
    pub(super) began: Instant,
    pub(super) rehearsal: bool,
    pub(super) route: Option<Arc<Route>>,
    pub(super) rules: Arc<[Arc<str>]>,
    pub(super) decision: Option<Box<Decision>>,
    pub(super) recorded: Option<RecordedRequest>,
    /// The normalised target, where it differs from what the client sent.
    pub(super) target: Option<String>,
    /// `X-Forwarded-For` for the upstream.
    pub(super) forwarded_for: Option<HeaderValue>,
    pub(super) attempt: Attempt,
    pub(super) body: Body,
    pub(super) parts: Vec<PartSummary>,
    pub(super) cache_lookup: Option<Lookup>,
    /// The refusal or failure that was, or is about to be, told to the client.
    pub(super) failure: Option<Denial>,
    /// Held while it is watched over, being open as long as it likes.
    pub(super) lasts: Option<Lasts>,
    /// What became of a socket.
    pub(super) tunnel: Option<Tunnelled>,
    in_flight: InFlight,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        finish::record_cut(self);
    }
}

/// What went through a socket, and how it ended.
pub(super) struct Tunnelled {
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    pub ended: Ended,
}

/// Tries at an upstream.
#[derive(Default)]
pub(super) struct Attempt {
    pub pool: Option<Arc<Pool>>,
    pub tried: SmallVec<[u16; 4]>,
    /// The try that is under way.
    pub lease: Option<Lease>,
    /// What its endpoint is waited for.
    pub awaited: Awaited,
    /// Whether all of the request is on its way there.
    pub is_sent: bool,
    pub began: Option<Instant>,
    pub header_after: Option<std::time::Duration>,
    pub status: Option<u16>,
    /// What went wrong with the last try, in a word.
    pub fault: Option<&'static str>,
    /// Interim answers (1xx) so far.
    pub interim: u32,
    /// Headers that the origin varies on, which a request for everybody's answer carries from the second try on.
    pub keyed: Vec<HeaderName>,
}

/// What an endpoint is waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Nothing.
    #[default]
    Nothing,
    /// The header, within `timeout.response`.
    Header,
    /// What follows the header, with `timeout.response` between its pieces; of a stream, with `timeout.idle`.
    Rest,
    /// What a call of gRPC is answered, header and all, with `timeout.idle` between its pieces.
    Call,
    /// The same with less patience than `timeout.response`, which is the caller's own.
    HurriedCall,
}

/// What is done to bodies on the way.
#[derive(Default)]
pub(super) struct Body {
    pub received: u64,
    pub sent: u64,
    /// What goes to the upstream in place of the request's body.
    pub outgoing: Option<Bytes>,
    pub change: Change,
    pub encoder: Option<Encoder>,
}

impl Exchange {
    /// A request that has just been read. It is large, and made where it stays.
    pub(super) fn new(live: &Arc<Live>, ids: &RequestIds) -> Box<Self> {
        let place = Box::new_uninit();
        let generation = live.current();
        let exchange = Self {
            rules: generation.snapshot.unrouted_names.clone(),
            generation,
            id: ids.next(),
            at: live.clock.now(),
            began: Instant::now(),
            rehearsal: live.clock.is_rehearsal(),
            route: None,
            decision: None,
            recorded: None,
            target: None,
            forwarded_for: None,
            attempt: Attempt::default(),
            body: Body::default(),
            parts: Vec::new(),
            cache_lookup: None,
            failure: None,
            lasts: None,
            tunnel: None,
            in_flight: live.enter(),
        };
        Box::write(place, exchange)
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        self.in_flight.live()
    }

    pub(super) fn acts(&self) -> &[Act] {
        self.decision.as_ref().map_or(&[], |decision| &decision.acts)
    }

    pub(super) fn is_forwarded(&self) -> bool {
        matches!(
            self.decision.as_ref().map(|decision| &decision.effect),
            Some(Effect::Forward)
        )
    }

    /// What every answer carries.
    pub(super) fn carried(&self) -> Carried<'_> {
        let snapshot = &self.generation.snapshot;
        Carried {
            snapshot,
            rules: self.route.as_ref().map_or(&snapshot.unrouted, |route| &route.rules),
            decision: self.decision.as_deref(),
            id: &self.id,
            rehearsed: self.rehearsal.then_some(self.at),
        }
    }

    pub(super) fn cache_rule(&self) -> Option<&Arc<CacheRule>> {
        self.acts().iter().find_map(|act| match act {
            Act::Cache(rule) => Some(rule),
            _ => None,
        })
    }

    pub(super) fn compress_rule(&self) -> Option<Arc<CompressRule>> {
        self.acts().iter().find_map(|act| match act {
            Act::Compress(rule) => Some(rule.clone()),
            _ => None,
        })
    }

    pub(super) fn reshape(&self) -> Option<&Arc<dyn Reshape>> {
        self.acts().iter().find_map(|act| match act {
            Act::Reshape(reshape) => Some(reshape),
            _ => None,
        })
    }

    pub(super) fn has_socket(&self) -> bool {
        self.acts().iter().any(|act| matches!(act, Act::WebSocket))
    }

    pub(super) fn body_limit(&self) -> u64 {
        let named = self.acts().iter().find_map(|act| match act {
            Act::BodyLimit(max) => Some(*max),
            _ => None,
        });
        named.unwrap_or(crate::policies::body::DEFAULT_MAX)
    }

    /// The upstreams that parts must not call.
    pub(super) fn without(&self) -> Arc<[Arc<str>]> {
        without(self.acts())
    }

    /// What the upstream gets as `Authorization`.
    pub(super) fn authorization(&self) -> Forwarded {
        let keeps = self.route.as_ref().is_some_and(|route| route.keeps_authorization);
        authorization(self.acts(), keeps)
    }

    /// Whose passport the upstreams get, where they get one.
    pub(super) fn passport_holder(&self) -> Option<&Arc<Principal>> {
        let principal = self.decision.as_ref()?.principal.as_ref();
        principal.filter(|_| self.authorization() == Forwarded::Passport)
    }

    /// Whether the route says in so many words that the upstream sees the caller's credential.
    pub(super) fn says_keep(&self) -> bool {
        says_keep(self.acts())
    }

    /// The headers that the upstream is told by the gate.
    pub(super) fn told(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        told(self.acts())
    }

    /// For log lines: no query, no header.
    pub(super) fn summary(&self) -> String {
        let route = self.route.as_ref().map_or("-", |route| &route.name);
        match &self.recorded {
            Some(request) => format!(
                "request {} {} route {route} from {}",
                self.id, request.method, request.address
            ),
            None => format!("request {} route {route}", self.id),
        }
    }
}

/// The upstreams that parts must not call.
pub(super) fn without(acts: &[Act]) -> Arc<[Arc<str>]> {
    let named = acts.iter().find_map(|act| match act {
        Act::Without(names) => Some(names.clone()),
        _ => None,
    });
    named.unwrap_or_default()
}

/// What the upstream gets as `Authorization`, on a route that `keeps` the caller's unless a rule says otherwise.
pub(super) fn authorization(acts: &[Act], keeps: bool) -> Forwarded {
    let said = acts.iter().find_map(|act| match act {
        Act::Authorization(forwarded) => Some(*forwarded),
        _ => None,
    });
    said.unwrap_or(if keeps {
        Forwarded::Credential
    } else {
        Forwarded::Nothing
    })
}

/// The headers that the upstream is told by the gate.
pub(super) fn told(acts: &[Act]) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
    acts.iter().flat_map(|act| match act {
        Act::RequestHeaders(edits) => &edits.set[..],
        _ => &[],
    })
}

/// What the route changes of requests.
pub(super) fn edits(acts: &[Act]) -> Option<&Arc<RequestEdits>> {
    acts.iter().find_map(|act| match act {
        Act::Request(edits) => Some(edits),
        _ => None,
    })
}

/// Whether a rule says in so many words that the upstream sees the caller's credential.
pub(super) fn says_keep(acts: &[Act]) -> bool {
    let keeps = |act: &Act| matches!(act, Act::Authorization(Forwarded::Credential));
    acts.iter().any(keeps)
}
