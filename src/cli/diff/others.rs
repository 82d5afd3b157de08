//! What differs besides decisions: limits, how answers are made, upstreams; and what cannot be compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::sides::{Opaque, Side};
use super::times::{Period, Times};
use crate::engine::{Rule, Stage};
use crate::policies::rate_limit::LimitRule;
use crate::policies::websocket;
use crate::snapshot::{Route, Snapshot};

/// So many routes are named.
const SHOWN: usize = 5;

/// What differs besides decisions, each in a line.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Limits with other numbers, or on other routes.
    pub limits: Vec<String>,
    /// Answers that are made otherwise.
    pub handling: Vec<String>,
    /// What cannot be compared, and differs in its text or nobody knows how.
    pub changed_unseen: Vec<String>,
    /// What cannot be compared, but reads the same.
    pub unseen: Vec<String>,
}

impl Others {
    /// Windows are compared around `period`.
    pub fn find([now, next]: &[Side<'_>; 2], period: &Period) -> Self {
        let mut others = Self::default();
        others.find_limits(now.snapshot, next.snapshot);
        others.find_handling(now.snapshot, next.snapshot);
        others.find_settings(now.snapshot, next.snapshot);
        others.find_clients(now.snapshot, next.snapshot);
        others.find_opaque(now, next, period);
        others
    }

    /// Whether any of it is a change.
    pub fn is_change(&self) -> bool {
        !(self.limits.is_empty() && self.handling.is_empty() && self.changed_unseen.is_empty())
    }

    fn find_limits(&mut self, now: &Snapshot, next: &Snapshot) {
        let used = |snapshot: &Snapshot| -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
            let mut used: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
            let of = |rules: &[Rule]| {
                rules
                    .iter()
                    .filter(|rule| rule.kind == "limits")
                    .map(|rule| rule.name.clone())
                    .collect()
            };
            let routes = snapshot
                .router
                .iter()
                .map(|(_, route)| (route.name.clone(), of(&route.rules)));
            let unrouted: Vec<Arc<str>> = of(&snapshot.unrouted);
            for (route, limits) in routes.chain([("requests without a route".into(), unrouted)]) {
                for limit in limits {
                    used.entry(limit).or_default().push(route.clone());
                }
            }
            used
        };
        let (before, after) = (used(now), used(next));
        let none = Vec::new();
        let names: BTreeSet<&Arc<str>> = before.keys().chain(after.keys()).collect();
        for name in names {
            let rule = |snapshot: &Snapshot| snapshot.defined.limits.get(name).map(|(_, rule)| words(rule));
            if let (Some(was), Some(is)) = (rule(now), rule(next))
                && was != is
            {
                self.limits.push(format!("limit `{name}`: {was} → {is}"));
            }
            let (had, has) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
            let is_there = |snapshot: &Snapshot, route: &str| snapshot.route(route).is_some() || route.contains(' ');
            let added: Vec<&Arc<str>> = has
                .iter()
                .filter(|route| !had.contains(route) && is_there(now, route))
                .collect();
            let taken: Vec<&Arc<str>> = had
                .iter()
                .filter(|route| !has.contains(route) && is_there(next, route))
                .collect();
            if !added.is_empty() {
                let own = rule(next).unwrap_or_default();
                self.limits
                    .push(format!("limit `{name}` ({own}) is new on {}", listed(&added)));
            }
            if !taken.is_empty() {
                self.limits
                    .push(format!("limit `{name}` is no longer on {}", listed(&taken)));
            }
        }
    }

    fn find_handling(&mut self, now: &Snapshot, next: &Snapshot) {
        let mut differ: BTreeMap<&'static str, Vec<&Arc<str>>> = BTreeMap::new();
        for (was, is) in shared(now, next) {
            let (mut before, mut after) = (handling(was), handling(is));
            if was.deadline != is.deadline {
                before.insert("deadline", format!("{:?}", was.deadline));
                after.insert("deadline", format!("{:?}", is.deadline));
            }
            let kinds: BTreeSet<&&'static str> = before.keys().chain(after.keys()).collect();
            for kind in kinds {
                if before.get(kind) != after.get(kind) {
                    differ.entry(kind).or_default().push(&is.name);
                }
            }
        }
        for (kind, routes) in differ {
            self.handling
                .push(format!("`{kind}` is another on {}", listed(&routes)));
        }
        for is in &next.upstreams {
            let was = now.upstreams.iter().find(|was| was.name == is.name);
            let Some(was) = was.filter(|was| was.settings != is.settings) else {
                continue;
            };
            let endpoints = |addresses: &[std::net::SocketAddr]| listed(&addresses.iter().collect::<Vec<_>>());
            let (before, after) = (&was.settings.endpoints.0, &is.settings.endpoints.0);
            self.handling.push(match before == after {
                true => format!("upstream `{}` has other settings", is.name),
                false => format!("upstream `{}`: {} → {}", is.name, endpoints(before), endpoints(after)),
            });
        }
    }

    fn find_settings(&mut self, now: &Snapshot, next: &Snapshot) {
        for (_, is) in next.defined.authenticators.iter() {
            let was = now.defined.authenticators.get(is.name());
            if was.is_some_and(|(_, was)| was != is) {
                let line = format!("authenticator `{}` judges credentials by other settings", is.name());
                self.changed_unseen.push(line);
            }
        }
        if now.bounds != next.bounds {
            self.handling.push("`bounds` are others".to_owned());
        }
        if now.trusted_proxies != next.trusted_proxies {
            let line = "`trusted_proxies` is another: callers may be seen under other addresses";
            self.changed_unseen.push(line.to_owned());
        }
    }

    fn find_clients(&mut self, now: &Snapshot, next: &Snapshot) {
        let told = clients_told_otherwise(now, next);
        let is_shaped = |(was, is): &(&Route, &Route)| {
            let mut rules = was.rules.iter().chain(&is.rules);
            rules.any(|rule| rule.kind == "shape")
        };
        let shaped = shared(now, next).filter(is_shaped);
        let shaped: Vec<&Arc<str>> = shaped.map(|(_, is)| &is.name).collect();
        let shapes = match shaped.as_slice() {
            [] => String::new(),
            shaped => format!(": `shape` may be another for it on {}", listed(shaped)),
        };
        let line = |name: &Arc<str>| format!("client `{name}` is told in another way{shapes}");
        self.handling.extend(told.iter().map(|name| line(name)));
    }

    fn find_opaque(&mut self, now: &Side<'_>, next: &Side<'_>, period: &Period) {
        let are_clients_alike = clients_told_otherwise(now.snapshot, next.snapshot).is_empty();
        // Whether what the rule names is the same on both sides.
        let is_meant_alike = |rule: &Opaque| {
            let windows = [now, next]
                .into_iter()
                .flat_map(|side| side.snapshot.calendars.windows());
            let named: Vec<_> = windows.filter(|window| rule.windows.contains(window.name())).collect();
            (are_clients_alike || !rule.tells_clients)
                && Times::new(&named, period, &TimeZone::UTC).differing.is_empty()
        };
        let mut found: BTreeMap<(Arc<str>, String), Places> = BTreeMap::new();
        let routes = |side: &Side<'_>| -> Vec<Arc<str>> {
            let routes = side.snapshot.router.iter();
            routes.map(|(_, route)| route.name.clone()).collect()
        };
        let names: BTreeSet<Arc<str>> = [now, next].into_iter().flat_map(routes).collect();
        for route in names {
            let of = |side: &Side<'_>| side.known(&route).map(|known| known.opaque.clone()).unwrap_or_default();
            let (before, after) = (of(now), of(next));
            for rule in before.iter().chain(after.iter().filter(|rule| !before.contains(rule))) {
                let places = found.entry((rule.name.clone(), rule.words.join("; "))).or_default();
                let says_same = |other: &Opaque| (&other.name, &other.words) == (&rule.name, &rule.words);
                let routes = match (before.contains(rule), after.contains(rule)) {
                    (true, true) if is_meant_alike(rule) => &mut places.both,
                    (true, true) => &mut places.other,
                    (true, false) if after.iter().any(says_same) => &mut places.other,
                    (false, true) if before.iter().any(says_same) => continue,
                    (true, false) => &mut places.first,
                    _ => &mut places.second,
                };
                routes.push(route.clone());
            }
        }
        for ((rule, text), places) in found {
            let Places {
                both,
                other,
                first,
                second,
            } = places;
            let line = |what: &str, routes: &[Arc<str>]| format!("{what}`{rule}` ({text}) on {}", listed(routes));
            if !both.is_empty() {
                self.unseen.push(line("", &both));
            }
            if !other.is_empty() {
                let what = "with other windows, clients or clocks: ";
                self.changed_unseen.push(line(what, &other));
            }
            if !first.is_empty() {
                self.changed_unseen.push(line("no longer there: ", &first));
            }
            if !second.is_empty() {
                self.changed_unseen.push(line("new: ", &second));
            }
        }
    }
}

/// Where a rule is that cannot be compared.
#[derive(Debug, Default)]
struct Places {
    both: Vec<Arc<str>>,
    /// On both sides, but what it names is another.
    other: Vec<Arc<str>>,
    first: Vec<Arc<str>>,
    second: Vec<Arc<str>>,
}

/// The clients of either side that are not told alike on both, by name.
fn clients_told_otherwise<'s>(now: &'s Snapshot, next: &'s Snapshot) -> BTreeSet<&'s Arc<str>> {
    let (was, is) = (&now.clients, &next.clients);
    was.told_otherwise(is)
        .into_iter()
        .chain(is.told_otherwise(was))
        .collect()
}

/// The routes of both, by their name.
fn shared<'s>(now: &'s Snapshot, next: &'s Snapshot) -> impl Iterator<Item = (&'s Route, &'s Route)> {
    let before: HashMap<&str, &Route> = now.router.iter().map(|(_, route)| (&*route.name, &**route)).collect();
    let routes = next.router.iter();
    routes.filter_map(move |(_, is)| Some((*before.get(&*is.name)?, &**is)))
}

/// What is done besides deciding, by the route's key, in a text that is the same where the meaning is.
fn handling(route: &Route) -> BTreeMap<&'static str, String> {
    let mut texts: BTreeMap<&'static str, String> = BTreeMap::new();
    let acts = |rule: &&Rule| {
        matches!(rule.stage, Stage::Annotate | Stage::Preflight | Stage::Shape) || rule.kind == websocket::KIND.name
    };
    for rule in route.rules.iter().filter(acts) {
        texts
            .entry(rule.kind)
            .or_default()
            .push_str(&format!("{:?}", rule.policy));
    }
    texts
}

/// `20/s by principal.sub, 40 at once`.
fn words(rule: &LimitRule) -> String {
    let rate = rule.settings.rate;
    let period = match rate.period.as_secs() {
        1 => "s".to_owned(),
        60 => "m".to_owned(),
        3_600 => "h".to_owned(),
        seconds => format!("{seconds}s"),
    };
    let about = if rule.bounds.approximate { ", approximate" } else { "" };
    let (key, burst) = (&rule.bounds.key, rule.bounds.burst);
    format!("{}/{period} by {key}, {burst} at once{about}", rate.count)
}

fn listed(names: &[impl std::fmt::Display]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}
