//! `/status`: what runs, and how it is.

use serde_json::{Value, json};

use super::Admin;
use super::freezes::{frozen, shown};
use super::revocations::figures;

impl Admin {
    /// Everything at a glance. Nothing in it is secret.
    pub(super) fn status(&self) -> Value {
        let (live, reloaded) = (&self.live, self.reloads.so_far());
        let generation = live.current();
        let snapshot = &generation.snapshot;
        let missing = generation
            .verifiers
            .iter()
            .filter(|verifier| verifier.status().keys.is_none());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": &*snapshot.id,
            "now": shown(live.clock.now(), snapshot),
            "rehearsal": live.clock.is_rehearsal(),
            "uptime_s": live.uptime().as_secs(),
            "ready": missing.count() == 0,
            "in_flight": live.in_flight(),
            "connections": (self.connections)().open,
            "reloads": {
                "ok": reloaded.taken,
                "failed": reloaded.refused,
                "last": reloaded.last.map(|at| shown(at, snapshot)),
                "errors": reloaded.errors,
            },
            "freezes": frozen(live),
            "revocations": figures(live),
        })
    }
}
