//! Metrics for Prometheus, in the text format 0.0.4.
//!
//! Every label value is a name of the configuration, or a word of a closed list: clients cannot add series. The handles of a
//! configuration are held in a table that is swapped with the snapshot, so that counting a request is a handful of atomic
//! additions. Each gateway has a registry of its own.

mod authenticators;
mod process;
mod table;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use self::authenticators::Authenticators;
pub use self::authenticators::IntrospectionFigures;
use self::process::Process;
use self::table::{Table, Tables};
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

    /// Shows how many connections were refused since the start, by reason.
    pub fn show_refused_connections(&self, counts: &[(&'static str, u64)]) {
        let _turn = self.turn.lock();
        for (reason, count) in counts {
            let shown = self.families.connections_refused.with_label_values(&[reason]);
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

/// Seconds: from a cache hit to the longest wait anybody puts up with.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The metrics by name.
struct Families {
    requests: IntCounterVec,
    duration: HistogramVec,
    decisions: IntCounterVec,
    limit_answers: IntCounterVec,
    cache: IntCounterVec,
    upstream_requests: IntCounterVec,
    upstream_duration: HistogramVec,
    upstream_healthy: IntGaugeVec,
    upstream_in_flight: IntGaugeVec,
    upstream_retries: IntCounterVec,
    breaker_open: IntGaugeVec,
    breaker_opened: IntCounterVec,
    config_reloads: IntCounterVec,
    config_reload_failed: IntGauge,
    config_tests_failed: IntGauge,
    config_info: IntGaugeVec,
    freezes: IntGaugeVec,
    revocations: IntGaugeVec,
    revocations_memory: IntGauge,
    audit_records: IntCounter,
    audit_dropped: IntCounter,
    audit_write_failures: IntCounter,
    anomalies: IntCounterVec,
    jwks_keys: IntGaugeVec,
    jwks_age: GaugeVec,
    jwks_fetches: IntCounterVec,
    jwks_fetch_failures: IntCounterVec,
    tokens_remembered: IntGaugeVec,
    in_flight: IntGauge,
    connections: IntGauge,
    connections_refused: IntCounterVec,
    build_info: IntGaugeVec,
    start_time: Gauge,
}

impl Families {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let histograms = |name: &str, help: &str, labels: &[&str]| {
            let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let start_time = Gauge::new(
            "gwanmun_start_time_seconds",
            "When the gateway started, in seconds since 1970.",
        )?;
        registry.register(Box::new(start_time.clone()))?;
        let jwks_age = Opts::new(
            "gwanmun_jwks_age_seconds",
            "Time since an issuer's keys were last fetched.",
        );
        let jwks_age = GaugeVec::new(jwks_age, &["authenticator"])?;
        registry.register(Box::new(jwks_age.clone()))?;
        Ok(Self {
            requests: counters(
                "gwanmun_requests_total",
                "Finished requests by route (empty: none matched, `(gone)`: of an older configuration), method and class of status (`gone`: the client left before an answer).",
                &["route", "method", "class"],
            )?,
            duration: histograms(
                "gwanmun_request_duration_seconds",
                "Time from the request line to the last byte of the answer.",
                &["route"],
            )?,
            decisions: counters(
                "gwanmun_decisions_total",
                "Decisions by effect and refusing rule (empty where none refused). `would_deny` counts shadow rules that would have refused an allowed request.",
                &["route", "rule", "effect"],
            )?,
            limit_answers: counters(
                "gwanmun_limit_answers_total",
                "What each limit answered: `admitted`, `refused` or `unavailable`.",
                &["limit", "answer"],
            )?,
            cache: counters(
                "gwanmun_cache_total",
                "Requests that asked the cache, by what came of it.",
                &["route", "result"],
            )?,
            upstream_requests: counters(
                "gwanmun_upstream_requests_total",
                "Forwarded requests by the endpoint tried last and the class of its status (`failed`: it sent none).",
                &["upstream", "endpoint", "class"],
            )?,
            upstream_duration: histograms(
                "gwanmun_upstream_duration_seconds",
                "Time from the first try to the upstream's response header.",
                &["upstream"],
            )?,
            upstream_healthy: gauges(
                "gwanmun_upstream_healthy",
                "Whether an endpoint is in use: 1, or 0 after failed health checks.",
                &["upstream", "endpoint"],
            )?,
            upstream_in_flight: gauges(
                "gwanmun_upstream_in_flight_requests",
                "Requests under way at an endpoint, parts of aggregates among them.",
                &["upstream", "endpoint"],
            )?,
            upstream_retries: counters(
                "gwanmun_upstream_retries_total",
                "Extra tries: `made`, or `refused` because the retry budget was spent.",
                &["upstream", "result"],
            )?,
            breaker_open: gauges(
                "gwanmun_upstream_breaker_open",
                "Whether an endpoint's breaker holds requests back: 1 or 0.",
                &["upstream", "endpoint"],
            )?,
            breaker_opened: counters(
                "gwanmun_upstream_breaker_opened_total",
                "How often an endpoint's breaker opened.",
                &["upstream", "endpoint"],
            )?,
            config_reloads: counters(
                "gwanmun_config_reloads_total",
                "Reloads of the configuration by result; after a failed one the old configuration goes on.",
                &["result"],
            )?,
            config_reload_failed: gauge(
                "gwanmun_config_reload_failed",
                "Whether the last reload failed: 1 or 0.",
            )?,
            config_tests_failed: gauge(
                "gwanmun_config_tests_failed",
                "Tests of the configuration that failed at the start, which goes on; a reload with such is refused.",
            )?,
            config_info: gauges(
                "gwanmun_config_info",
                "The hash of the configuration that serves; always 1.",
                &["hash"],
            )?,
            freezes: gauges(
                "gwanmun_freezes",
                "What operators have frozen: 1, or 0 for a route or upstream that the configuration no longer has.",
                &["kind", "name"],
            )?,
            revocations: gauges(
                "gwanmun_revocations",
                "Revocations that may still hit a token, by whom they name.",
                &["whom"],
            )?,
            revocations_memory: gauge("gwanmun_revocations_bytes", "Memory that revocations take.")?,
            audit_records: counter("gwanmun_audit_records_total", "Lines written to the audit log.")?,
            audit_dropped: counter(
                "gwanmun_audit_dropped_total",
                "Entries of the audit log that were lost because the queue was full or the log could not be written.",
            )?,
            audit_write_failures: counter(
                "gwanmun_audit_write_failures_total",
                "Failed attempts to write, rotate or open the audit log; each is tried again.",
            )?,
            anomalies: counters("gwanmun_anomalies_total", "Alerts by detector.", &["detector"])?,
            jwks_keys: gauges(
                "gwanmun_jwks_keys",
                "Keys that tokens may be verified with; 0 until the issuer was reached.",
                &["authenticator"],
            )?,
            jwks_age,
            jwks_fetches: counters(
                "gwanmun_jwks_fetches_total",
                "Fetches of an issuer's keys that were begun.",
                &["authenticator"],
            )?,
            jwks_fetch_failures: counters(
                "gwanmun_jwks_fetch_failures_total",
                "Fetches of an issuer's keys that failed; the last good keys stay.",
                &["authenticator"],
            )?,
            tokens_remembered: gauges(
                "gwanmun_tokens_remembered",
                "Verified tokens that need not be verified again.",
                &["authenticator"],
            )?,
            in_flight: gauge("gwanmun_in_flight_requests", "Requests being handled.")?,
            connections: gauge("gwanmun_connections", "Open connections of clients.")?,
            connections_refused: counters(
                "gwanmun_connections_refused_total",
                "Connections closed before a request was read, by reason: too many in all, too many from one address, no PROXY header.",
                &["reason"],
            )?,
            build_info: gauges("gwanmun_build_info", "The version that runs; always 1.", &["version"])?,
            start_time,
        })
    }

    /// Counted elsewhere, in what outlives reloads; an upstream that went and came back begins anew.
    fn show_upstreams(&self, all: &[UpstreamFigures]) {
        self.upstream_in_flight.reset();
        self.upstream_retries.reset();
        self.breaker_open.reset();
        self.breaker_opened.reset();
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for upstream in all {
            for (result, count) in [("made", upstream.retries), ("refused", upstream.retries_refused)] {
                let retries = self.upstream_retries.with_label_values(&[&*upstream.name, result]);
                retries.inc_by(count);
            }
            for endpoint in &upstream.endpoints {
                let labels = &[&*upstream.name, &*endpoint.label];
                let in_flight = self.upstream_in_flight.with_label_values(labels);
                in_flight.set(whole(endpoint.in_flight));
                if let Some((is_open, opened)) = endpoint.breaker {
                    self.breaker_open.with_label_values(labels).set(i64::from(is_open));
                    self.breaker_opened.with_label_values(labels).inc_by(opened);
                }
            }
        }
    }

    /// What counts fetches may begin anew with a reload: a counter that falls is one that began anew.
    fn show_keys(&self, all: &[KeyFigures]) {
        self.jwks_keys.reset();
        self.jwks_age.reset();
        self.jwks_fetches.reset();
        self.jwks_fetch_failures.reset();
        self.tokens_remembered.reset();
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for figures in all {
            let name = &[&*figures.authenticator];
            self.jwks_keys.with_label_values(name).set(whole(figures.keys));
            self.tokens_remembered
                .with_label_values(name)
                .set(whole(figures.remembered));
            if let Some(age) = figures.age {
                self.jwks_age.with_label_values(name).set(age.as_secs_f64());
            }
            if let Some((begun, failed)) = figures.fetches {
                self.jwks_fetches.with_label_values(name).inc_by(begun);
                self.jwks_fetch_failures.with_label_values(name).inc_by(failed);
            }
        }
    }
}
