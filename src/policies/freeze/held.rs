//! A set of freezes, and which of them concern a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use jiff::Timestamp;

use crate::engine::{Freezable, Freeze};

/// A freeze, with who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFreeze {
    /// What is frozen, and until when.
    pub freeze: Arc<Freeze>,
    /// When it was set.
    pub since: Timestamp,
    /// From where.
    pub by: IpAddr,
}

/// Freezes, at most one of a kind and name.
#[derive(Debug, Clone, Default)]
pub struct Held {
    routes: HashMap<Arc<str>, HeldFreeze, RandomState>,
    upstreams: HashMap<Arc<str>, HeldFreeze, RandomState>,
}

impl Held {
    /// Adds a freeze, in place of one of the same kind and name.
    pub fn insert(&mut self, held: HeldFreeze) {
        let name = held.freeze.name.clone();
        self.of_mut(held.freeze.kind).insert(name, held);
    }

    /// Takes a freeze out.
    pub fn remove(&mut self, kind: Freezable, name: &str) -> Option<HeldFreeze> {
        self.of_mut(kind).remove(name)
    }

    /// Forgets those that have ended at `now`.
    pub fn forget_ended(&mut self, now: Timestamp) {
        for kind in Freezable::ALL {
            self.of_mut(kind).retain(|_, held| held.freeze.is_in_force(now));
        }
    }

    /// Those in force at `now`, routes first, by name.
    pub fn in_force(&self, now: Timestamp) -> Vec<&HeldFreeze> {
        let all = self.routes.values().chain(self.upstreams.values());
        let mut standing: Vec<_> = all.filter(|held| held.freeze.is_in_force(now)).collect();
        standing.sort_by_key(|held| (held.freeze.kind, held.freeze.name.clone()));
        standing
    }

    /// Those in force at `now` that close the route, or one of the upstreams it calls.
    pub fn concerning(&self, route: &str, upstreams: &[Arc<str>], now: Timestamp) -> Vec<Arc<Freeze>> {
        let mut found = Vec::new();
        if self.routes.is_empty() && self.upstreams.is_empty() {
            return found;
        }
        let mut add = |held: Option<&HeldFreeze>| {
            let freeze = held.map(|held| &held.freeze);
            found.extend(freeze.filter(|freeze| freeze.is_in_force(now)).cloned());
        };
        add(self.routes.get(route));
        for upstream in upstreams {
            add(self.upstreams.get(upstream));
        }
        found
    }

    fn of_mut(&mut self, kind: Freezable) -> &mut HashMap<Arc<str>, HeldFreeze, RandomState> {
        match kind {
            Freezable::Route => &mut self.routes,
            Freezable::Upstream => &mut self.upstreams,
        }
    }
}
