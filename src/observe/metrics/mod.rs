//! Metrics for Prometheus, in the text format 0.0.4.
//!
//! Every label value is a name of the configuration, or a word of a closed list: clients cannot add series. The handles of a
//! configuration are held in a table that is swapped with the snapshot, so that counting a request is a handful of atomic
//! additions. Each gateway has a registry of its own.

mod authenticators;
mod families;
mod process;
mod table;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};

use self::authenticators::Authenticators;
pub use self::authenticators::IntrospectionFigures;
use self::families::Families;
use self::process::Process;
use self::table::{Table, Tables};
use super::Connections;
use super::audit::Counts;
use crate::engine::{Observer, Record};

/// The names of one configuration.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Its hash; that of the records that belong to it, best the same `Arc`.
    pub config: Arc<str>,
    /// The routes.
    pub routes: Vec<RouteNames>,
    /// The upstreams.
    pub upstreams: Vec<UpstreamNames>,
    /// The limits; rules that ask a limit bear its name.
    pub limits: Vec<Arc<str>>,
    /// The anomaly detectors.
    pub detectors: Vec<Arc<str>>,
}

/// A route.
#[derive(Debug, Clone)]
pub struct RouteNames {
    /// Its name.
    pub name: Arc<str>,
    /// The names of its rules.
    pub rules: Arc<[Arc<str>]>,
}

/// An upstream.
#[derive(Debug, Clone)]
pub struct UpstreamNames {
    /// Its name.
    pub name: Arc<str>,
    /// The addresses of its endpoints.
    pub endpoints: Vec<Arc<str>>,
}

/// The keys of an authenticator at this moment.
#[derive(Debug, Clone)]
pub struct KeyFigures {
    /// The authenticator's name.
    pub authenticator: Arc<str>,
    /// How many keys can be used.
    pub keys: usize,
    /// How long ago they were fetched; `None` where they never were.
    pub age: Option<Duration>,
    /// Fetches begun, and how many of them failed; `None` where nothing is fetched.
    pub fetches: Option<(u64, u64)>,
    /// Verified tokens remembered.
    pub remembered: usize,
}

/// An upstream at this moment.
#[derive(Debug, Clone)]
pub struct UpstreamFigures {
    /// Its name.
    pub name: Arc<str>,
    /// Extra tries that were made.
    pub retries: u64,
    /// Extra tries that the budget did not allow.
    pub retries_refused: u64,
    /// Its endpoints.
    pub endpoints: Vec<EndpointFigures>,
}

/// An endpoint at this moment.
#[derive(Debug, Clone)]
pub struct EndpointFigures {
    /// Its address.
    pub label: Arc<str>,
    /// Requests under way there.
    pub in_flight: usize,
    /// Whether its breaker holds requests back, and how often it opened; `None` where the upstream has no breaker.
    pub breaker: Option<(bool, u64)>,
}

/// All metrics of one gateway.
pub struct Metrics {
    registry: Registry,
    families: Families,
    authenticators: Authenticators,
    tables: ArcSwap<Tables>,
    /// One rendering and one binding at a time: both read counters before they change them.
    turn: Mutex<Process>,
    audit: Arc<Counts>,
}

impl Metrics {
    /// Metrics that have counted nothing. `started` is shown as the start of the process; `audit` is counted elsewhere.
    ///
    /// # Errors
    /// None that a user could cause: a metric defined wrongly.
    pub fn new(started: Timestamp, audit: Arc<Counts>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        families
            .build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        families.start_time.set(started.as_duration().as_secs_f64());
        for result in ["ok", "failed"] {
            families.config_reloads.with_label_values(&[result]);
        }
        let process = Process::register(&registry)?;
        let authenticators = Authenticators::register(&registry)?;
        let tables = Tables::first(Table::new(&Names::default(), &families));
        Ok(Self {
            registry,
            families,
            authenticators,
            tables: ArcSwap::from_pointee(tables),
            turn: Mutex::new(process),
            audit,
        })
    }

    /// Prepares for the records of a configuration about to serve. Those of the one before still find their handles; series
    /// that neither of the two names are removed.
    pub fn bind(&self, names: &Names) {
        let _turn = self.turn.lock();
        let before = self.tables.load_full();
        let after = Arc::new(before.followed_by(Table::new(names, &self.families)));
        self.tables.store(after.clone());
        self.families.config_info.reset();
        self.families.config_info.with_label_values(&[&names.config]).set(1);
        if after.lacks_names_of(&before) {
            self.families.remove_unnamed(&after);
        }
    }

    /// Counts a reload, and shows whether the last one failed.
    pub fn count_reload(&self, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.families.config_reloads.with_label_values(&[result]).inc();
        self.families.config_reload_failed.set(i64::from(!succeeded));
    }

    /// Shows how many tests of the configuration in force fail.
    pub fn set_failing_tests(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.families.config_tests_failed.set(count);
    }

    /// Shows whether an endpoint is in use; one that the configuration does not name is passed over.
    pub fn set_healthy(&self, upstream: &str, endpoint: &str, is_healthy: bool) {
        if self.tables.load().names_endpoint(upstream, endpoint) {
            let gauge = self.families.upstream_healthy.with_label_values(&[upstream, endpoint]);
            gauge.set(i64::from(is_healthy));
        }
    }

    /// Shows how the keys of all authenticators are, and none of authenticators that are gone.
    pub fn show_keys(&self, all: &[KeyFigures]) {
        let _turn = self.turn.lock();
        self.families.show_keys(all);
    }

    /// Shows how many parts of aggregates wait for an answer.
    pub fn show_part_calls(&self, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.families.part_calls_waiting.set(waiting);
    }

    /// Shows how all upstreams are, and none that are gone.
    pub fn show_upstreams(&self, all: &[UpstreamFigures]) {
        let _turn = self.turn.lock();
        self.families.show_upstreams(all);
    }

    /// Shows how many API keys each authenticator by keys has, by its name.
    pub fn show_api_keys<'a>(&self, all: impl Iterator<Item = (&'a str, usize)>) {
        let _turn = self.turn.lock();
        self.authenticators.show_api_keys(all);
    }

    /// Shows how asking about tokens goes.
    pub fn show_introspection(&self, all: impl Iterator<Item = IntrospectionFigures>) {
        let _turn = self.turn.lock();
        self.authenticators.show_introspection(all);
    }

    /// Shows what is frozen: each with its kind, its name, and whether the configuration has such a name.
    pub fn show_freezes<'a>(&self, freezes: impl Iterator<Item = (&'static str, &'a str, bool)>) {
        let _turn = self.turn.lock();
        self.families.freezes.reset();
        for (kind, name, is_known) in freezes {
            let gauge = self.families.freezes.with_label_values(&[kind, name]);
            gauge.set(i64::from(is_known));
        }
    }

    /// Shows how much is revoked: how often of each kind, and the bytes of memory that all takes.
    pub fn show_revocations(&self, counts: impl Iterator<Item = (&'static str, usize)>, memory: usize) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (whom, count) in counts {
            self.families.revocations.with_label_values(&[whom]).set(whole(count));
        }
        self.families.revocations_memory.set(whole(memory));
    }

    /// Counts an alert.
    pub fn count_anomaly(&self, detector: &str) {
        self.families.anomalies.with_label_values(&[detector]).inc();
    }

    /// Shows how many connections were refused and cut since the start, by reason.
    pub fn show_connections(&self, connections: &Connections) {
        let _turn = self.turn.lock();
        let refused = connections
            .refused
            .iter()
            .map(|count| (&self.families.connections_refused, count));
        let cut = connections
            .cut
            .iter()
            .map(|count| (&self.families.connections_cut, count));
        for (family, (reason, count)) in refused.chain(cut) {
            let shown = family.with_label_values(&[reason]);
            shown.inc_by(count.saturating_sub(shown.get()));
        }
    }

    /// Everything in the text format, with the requests in flight and the open connections of this moment; its media type is
    /// `text/plain; version=0.0.4`.
    ///
    /// # Errors
    /// None that a user could cause: a metric that cannot be encoded.
    pub fn render(&self, in_flight: usize, connections: usize) -> prometheus::Result<String> {
        let mut process = self.turn.lock();
        self.families
            .in_flight
            .set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.families
            .connections
            .set(i64::try_from(connections).unwrap_or(i64::MAX));
        process.update();
        let counted = [
            (&self.families.audit_records, &self.audit.records),
            (&self.families.audit_dropped, &self.audit.dropped),
            (&self.families.audit_write_failures, &self.audit.write_failures),
        ];
        for (shown, counted) in counted {
            shown.inc_by(counted.load(Ordering::Relaxed).saturating_sub(shown.get()));
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl Observer for Metrics {
    fn record(&self, record: &Arc<Record>) {
        self.tables.load().count(record, &self.families);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}
