//! The handles of one configuration, looked up by the names in a record.
//!
//! A handle is made when it is first needed, so that ten thousand routes cost no series before they are used.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;
use http::Method;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{Histogram, IntCounter};

use super::{Families, Names};
use crate::engine::{Answer, Record, UpstreamSummary};

/// Stands for routes that only an older configuration knows; no route can bear this name.
const GONE: &str = "(gone)";

type ByName<T> = HashMap<Arc<str>, T, RandomState>;

/// The handles of the configuration that serves, and of the one before, whose last requests are still under way.
pub(super) struct Tables {
    current: Arc<Table>,
    previous: Option<Arc<Table>>,
}

impl Tables {
    pub(super) fn first(table: Table) -> Self {
        Self {
            current: Arc::new(table),
            previous: None,
        }
    }

    pub(super) fn followed_by(&self, table: Table) -> Self {
        Self {
            current: Arc::new(table),
            previous: Some(self.current.clone()),
        }
    }

    /// Counts one finished request.
    pub(super) fn count(&self, record: &Record, families: &Families) {
        let known = self.both().find(|table| Arc::ptr_eq(&table.config, &record.config));
        let known = known.or_else(|| self.both().find(|table| table.config == record.config));
        known.unwrap_or(&self.current).count(record, families);
    }

    /// Whether `older` had names that are here no more.
    pub(super) fn lacks_names_of(&self, older: &Self) -> bool {
        older.both().any(|table| {
            table.routes.values().any(|route| !self.names_rules(route))
                || table
                    .limits
                    .keys()
                    .any(|limit| !self.both().any(|table| table.limits.contains_key(limit)))
                || table.detectors.iter().any(|detector| !self.names_detector(detector))
                || table.upstreams.iter().any(|(upstream, handles)| {
                    handles
                        .endpoints
                        .keys()
                        .any(|endpoint| !self.names_endpoint(upstream, endpoint))
                })
        })
    }

    pub(super) fn names_endpoint(&self, upstream: &str, endpoint: &str) -> bool {
        self.both().any(|table| {
            table
                .upstreams
                .get(upstream)
                .is_some_and(|upstream| upstream.endpoints.contains_key(endpoint))
        })
    }

    fn names_route(&self, route: &str) -> bool {
        route.is_empty() || route == GONE || self.both().any(|table| table.routes.contains_key(route))
    }

    fn names_rules(&self, route: &RouteHandles) -> bool {
        route.rules.iter().all(|rule| self.names_rule(&route.name, rule))
    }

    fn names_rule(&self, route: &str, rule: &str) -> bool {
        if rule.is_empty() {
            return self.names_route(route);
        }
        let has_rule = |route: &RouteHandles| route.rules.iter().any(|known| &**known == rule);
        self.both().any(|table| table.routes.get(route).is_some_and(has_rule))
    }

    fn names_detector(&self, detector: &str) -> bool {
        self.both()
            .any(|table| table.detectors.iter().any(|known| &**known == detector))
    }

    fn both(&self) -> impl Iterator<Item = &Arc<Table>> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// The handles of one configuration.
pub(super) struct Table {
    config: Arc<str>,
    routes: ByName<RouteHandles>,
    /// Requests that no route matched.
    unrouted: RouteHandles,
    /// Requests of configurations older than both tables, on routes that are gone.
    gone: RouteHandles,
    upstreams: ByName<UpstreamHandles>,
    limits: ByName<ByWord<3>>,
    detectors: Vec<Arc<str>>,
}

impl Table {
    pub(super) fn new(names: &Names, families: &Families) -> Self {
        for detector in &names.detectors {
            families.anomalies.with_label_values(&[detector]);
        }
        let route = |name: &Arc<str>, rules: &Arc<[Arc<str>]>| RouteHandles::new(name.clone(), rules.clone());
        let upstreams = names.upstreams.iter().map(|upstream| {
            let endpoints = upstream.endpoints.iter();
            let handles = UpstreamHandles {
                duration: families.upstream_duration.with_label_values(&[&upstream.name]),
                endpoints: endpoints
                    .map(|endpoint| (endpoint.clone(), ByWord::default()))
                    .collect(),
            };
            (upstream.name.clone(), handles)
        });
        Self {
            config: names.config.clone(),
            routes: names
                .routes
                .iter()
                .map(|names| (names.name.clone(), route(&names.name, &names.rules)))
                .collect(),
            unrouted: route(&Arc::from(""), &Arc::from([])),
            gone: route(&Arc::from(GONE), &Arc::from([])),
            upstreams: upstreams.collect(),
            limits: names
                .limits
                .iter()
                .map(|limit| (limit.clone(), ByWord::default()))
                .collect(),
            detectors: names.detectors.clone(),
        }
    }

    fn count(&self, record: &Record, families: &Families) {
        let route = match &record.route {
            None => &self.unrouted,
            Some(name) => self.routes.get(name).unwrap_or(&self.gone),
        };
        route.count(record, families);
        for (rule, answer) in &record.answers {
            let limit = self.limits.get(rule);
            let word = match (answer, limit) {
                (Answer::Limit(limit), _) if limit.admitted => "admitted",
                (Answer::Limit(_), _) => "refused",
                (Answer::Unavailable { .. }, Some(_)) => "unavailable",
                _ => continue,
            };
            let make = || families.limit_answers.with_label_values(&[&**rule, word]);
            limit.map_or_else(|| make().inc(), |limit| limit.count(word, make));
        }
        let of_parts = record.parts.iter().flat_map(|part| &part.calls);
        for summary in record.upstream.iter().chain(of_parts) {
            self.count_upstream(summary, families);
        }
    }

    /// An upstream or endpoint that the configuration does not name is one of an older one: its series are gone.
    fn count_upstream(&self, summary: &UpstreamSummary, families: &Families) {
        let Some(upstream) = self.upstreams.get(&summary.name) else {
            return;
        };
        upstream.duration.observe(summary.duration.as_secs_f64());
        if let Some(endpoint) = upstream.endpoints.get(&summary.endpoint) {
            let word = summary.status.map_or("failed", class);
            endpoint.count(word, || {
                let labels = [&*summary.name, &*summary.endpoint, word];
                families.upstream_requests.with_label_values(&labels)
            });
        }
    }
}

struct RouteHandles {
    name: Arc<str>,
    rules: Arc<[Arc<str>]>,
    requests: [OnceLock<Box<ByWord<6>>>; METHODS.len() + 1],
    duration: OnceLock<Histogram>,
    /// Decisions that no rule made.
    unopposed: ByWord<2>,
    /// In the order of the rules.
    decisions: Box<[ByWord<2>]>,
    cache: ByWord<6>,
}

impl RouteHandles {
    fn new(name: Arc<str>, rules: Arc<[Arc<str>]>) -> Self {
        Self {
            requests: Default::default(),
            duration: OnceLock::new(),
            unopposed: ByWord::default(),
            decisions: rules.iter().map(|_| ByWord::default()).collect(),
            cache: ByWord::default(),
            name,
            rules,
        }
    }

    fn count(&self, record: &Record, families: &Families) {
        let (at, method) = method(&record.request.method);
        let word = if record.status == 0 {
            "gone"
        } else {
            class(record.status)
        };
        let make = || families.requests.with_label_values(&[&*self.name, method, word]);
        match self.requests.get(at) {
            Some(requests) => requests.get_or_init(Box::default).count(word, make),
            None => make().inc(),
        }
        // How long somebody kept a socket open says nothing of how long requests take.
        if record.ended.is_none() {
            let duration = self
                .duration
                .get_or_init(|| families.duration.with_label_values(&[&*self.name]));
            duration.observe(record.duration.as_secs_f64());
        }
        self.count_decision(
            record.decision.rule.as_deref().unwrap_or(""),
            record.decision.effect,
            families,
        );
        for rule in record.would_deny() {
            self.count_decision(rule, "would_deny", families);
        }
        if let Some(result) = record.cache {
            self.cache
                .count(result, || families.cache.with_label_values(&[&*self.name, result]));
        }
    }

    fn count_decision(&self, rule: &str, effect: &'static str, families: &Families) {
        // An older configuration's rules must not come back as series nobody removes.
        let rule = if *self.name == *GONE { "" } else { rule };
        let at = self.rules.iter().position(|known| **known == *rule);
        let handles = match at {
            Some(at) => self.decisions.get(at),
            None => Some(&self.unopposed).filter(|_| rule.is_empty()),
        };
        let make = || families.decisions.with_label_values(&[&*self.name, rule, effect]);
        handles.map_or_else(|| make().inc(), |handles| handles.count(effect, make));
    }
}

struct UpstreamHandles {
    duration: Histogram,
    endpoints: ByName<ByWord<6>>,
}

/// Counters by the last label, in the order in which they were needed first. What finds no place is looked up each time.
struct ByWord<const N: usize>([OnceLock<(&'static str, IntCounter)>; N]);

impl<const N: usize> Default for ByWord<N> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; N])
    }
}

impl<const N: usize> ByWord<N> {
    fn count(&self, word: &'static str, make: impl Fn() -> IntCounter) {
        for slot in &self.0 {
            let (known, counter) = slot.get_or_init(|| (word, make()));
            if *known == word {
                counter.inc();
                return;
            }
        }
        make().inc();
    }
}

/// Methods that are told apart; a client can make up others.
const METHODS: [&str; 8] = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT"];

fn method(method: &Method) -> (usize, &'static str) {
    let found = METHODS.iter().enumerate().find(|(_, known)| **known == method.as_str());
    found.map_or((METHODS.len(), "other"), |(at, word)| (at, *word))
}

fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

impl Families {
    /// Removes the series of routes, rules, limits, detectors and endpoints that no table names.
    pub(super) fn remove_unnamed(&self, tables: &Tables) {
        let route = |label: Label<'_>| tables.names_route(label("route"));
        let limit = |label: Label<'_>| tables.both().any(|table| table.limits.contains_key(label("limit")));
        let upstream = |label: Label<'_>| {
            tables
                .both()
                .any(|table| table.upstreams.contains_key(label("upstream")))
        };
        let endpoint = |label: Label<'_>| tables.names_endpoint(label("upstream"), label("endpoint"));
        keep_only(&self.requests, route);
        keep_only(&self.duration, route);
        keep_only(&self.cache, route);
        keep_only(&self.decisions, |label| {
            tables.names_rule(label("route"), label("rule"))
        });
        keep_only(&self.limit_answers, limit);
        keep_only(&self.upstream_duration, upstream);
        keep_only(&self.upstream_requests, endpoint);
        keep_only(&self.upstream_healthy, endpoint);
        keep_only(&self.anomalies, |label| tables.names_detector(label("detector")));
    }
}

/// The value of a label.
type Label<'a> = &'a dyn Fn(&str) -> &'a str;

/// Removes the series whose labels are not to be kept.
fn keep_only<T: MetricVecBuilder>(series: &MetricVec<T>, keep: impl Fn(Label<'_>) -> bool)
where
    MetricVec<T>: Collector,
{
    for family in series.collect() {
        for metric in family.get_metric() {
            let labels = || metric.get_label().iter().map(|label| (label.name(), label.value()));
            let value = |name: &str| {
                labels()
                    .find(|(known, _)| *known == name)
                    .map_or("", |(_, value)| value)
            };
            if !keep(&value) {
                // It was there a moment ago; that it is gone is what was wanted.
                let _ = series.remove(&labels().collect::<HashMap<&str, &str>>());
            }
        }
    }
}

#[cfg(test)]
mod tests;
