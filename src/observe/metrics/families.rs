//! The metrics by name, with what they say of themselves.

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{KeyFigures, UpstreamFigures};

/// Seconds: from a cache hit to the longest wait anybody puts up with.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The metrics by name.
pub(super) struct Families {
    pub requests: IntCounterVec,
    pub duration: HistogramVec,
    pub decisions: IntCounterVec,
    pub limit_answers: IntCounterVec,
    pub cache: IntCounterVec,
    pub upstream_requests: IntCounterVec,
    pub upstream_duration: HistogramVec,
    pub upstream_healthy: IntGaugeVec,
    pub upstream_in_flight: IntGaugeVec,
    pub upstream_retries: IntCounterVec,
    pub breaker_open: IntGaugeVec,
    pub breaker_opened: IntCounterVec,
    pub part_calls_waiting: IntGauge,
    pub config_reloads: IntCounterVec,
    pub config_reload_failed: IntGauge,
    pub config_tests_failed: IntGauge,
    pub config_info: IntGaugeVec,
    pub freezes: IntGaugeVec,
    pub revocations: IntGaugeVec,
    pub revocations_memory: IntGauge,
    pub audit_records: IntCounter,
    pub audit_dropped: IntCounter,
    pub audit_write_failures: IntCounter,
    pub anomalies: IntCounterVec,
    pub jwks_keys: IntGaugeVec,
    pub jwks_age: GaugeVec,
    pub jwks_fetches: IntCounterVec,
    pub jwks_fetch_failures: IntCounterVec,
    pub tokens_remembered: IntGaugeVec,
    pub in_flight: IntGauge,
    pub connections: IntGauge,
    pub connections_refused: IntCounterVec,
    pub connections_cut: IntCounterVec,
    pub build_info: IntGaugeVec,
    pub start_time: Gauge,
}

impl Families {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
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
            part_calls_waiting: gauge(
                "gwanmun_part_calls_waiting",
                "Parts of aggregates that wait for an answer; those that share a call count each.",
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
            connections_cut: counters(
                "gwanmun_connections_cut_total",
                "Connections in HTTP/2 ended for what came on them, by reason: frames that ask for nothing, requests taken back, no HTTP/2 or too many requests that are none, a frame that does not come to its end.",
                &["reason"],
            )?,
            build_info: gauges("gwanmun_build_info", "The version that runs; always 1.", &["version"])?,
            start_time,
        })
    }

    /// Counted elsewhere, in what outlives reloads; an upstream that went and came back begins anew.
    pub fn show_upstreams(&self, all: &[UpstreamFigures]) {
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
    pub fn show_keys(&self, all: &[KeyFigures]) {
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
