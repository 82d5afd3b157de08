//! The observers of one gateway across its reloads, and the tasks that look after endpoints.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::engine::Observer;
use crate::live::Live;
use crate::observe::anomaly::Detectors;
use crate::observe::audit::{Audit, AuditSettings, Counts};
use crate::observe::metrics::{Metrics, Names, RouteNames, UpstreamNames};
use crate::observe::{Observers, Reloads};
use crate::snapshot::Snapshot;
use crate::upstreams::{Checked, Pool};

/// Audit log, metrics and detectors.
pub(super) struct Watchers {
    metrics: Arc<Metrics>,
    counts: Arc<Counts>,
    reloads: Arc<Reloads>,
    audit: Mutex<Option<Arc<Audit>>>,
    detectors: Mutex<Arc<Detectors>>,
    /// Pools that a task looks after.
    checked: Mutex<Vec<std::sync::Weak<Pool>>>,
}

impl Watchers {
    pub fn open(snapshot: &Snapshot, now: Timestamp) -> Result<Self, String> {
        let counts = Arc::new(Counts::default());
        let metrics = Arc::new(Metrics::new(now, counts.clone()).map_err(|error| format!("metrics: {error}"))?);
        let audit = snapshot
            .audit
            .as_ref()
            .map(|settings| open(settings, now, &counts))
            .transpose()?;
        let detectors = Arc::new(Detectors::new(&snapshot.anomalies, audit.clone(), metrics.clone()));
        Ok(Self {
            metrics,
            counts,
            reloads: Arc::default(),
            audit: Mutex::new(audit),
            detectors: Mutex::new(detectors),
            checked: Mutex::default(),
        })
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Who is told of requests under `snapshot`; its metric handles are ready when this returns.
    pub fn observer(&self, snapshot: &Snapshot) -> Arc<dyn Observer> {
        self.metrics.bind(&names(snapshot));
        let detectors = self.detectors.lock().clone();
        let mut observers = Observers::new().with(self.metrics.clone()).with(detectors);
        if let Some(audit) = &*self.audit.lock() {
            observers = observers.with(audit.clone());
        }
        Arc::new(observers)
    }

    /// Follows a new configuration. The log it replaces is closed when its last record is on disk.
    pub fn follow(&self, snapshot: &Snapshot, now: Timestamp) -> Result<(), String> {
        let standing = self.audit.lock().clone();
        let audit = match (&snapshot.audit, &standing) {
            (None, _) => None,
            (Some(settings), Some(audit)) if audit.adopts(settings) => Some(audit.clone()),
            (Some(settings), _) => Some(open(settings, now, &self.counts)?),
        };
        let renewed = self.detectors.lock().renew(&snapshot.anomalies, audit.clone());
        *self.detectors.lock() = Arc::new(renewed);
        *self.audit.lock() = audit;
        Ok(())
    }

    pub fn reopen(&self) {
        if let Some(audit) = &*self.audit.lock() {
            audit.reopen();
        }
    }

    /// True when everything is on disk.
    pub fn close(&self, patience: Duration) -> bool {
        let audit = self.audit.lock().clone();
        audit.is_none_or(|audit| audit.close(patience))
    }

    /// Takes note of a reload; one without errors was taken.
    pub fn count_reload(&self, at: Timestamp, errors: &[String]) {
        self.metrics.count_reload(errors.is_empty());
        self.reloads.note(at, errors);
    }

    /// Takes note of how many tests of the configuration in force fail.
    pub fn count_failing_tests(&self, count: usize) {
        self.metrics.set_failing_tests(count);
    }

    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// Has a task look after every pool that no task looks after yet; it ends with its pool.
    pub fn watch_health(&self, live: &Arc<Live>) {
        let mut checked = self.checked.lock();
        checked.retain(|pool| pool.strong_count() > 0);
        for pool in &live.current().pools {
            for endpoint in &pool.endpoints {
                self.metrics
                    .set_healthy(&pool.name, &endpoint.label, endpoint.is_healthy());
            }
            let Some(health) = &pool.settings.health else { continue };
            if checked.iter().any(|known| known.as_ptr() == Arc::as_ptr(pool)) {
                continue;
            }
            let weak = Arc::downgrade(pool);
            checked.push(weak.clone());
            let (every, caller, metrics) = (health.every.0, live.caller.clone(), self.metrics.clone());
            let live = Arc::downgrade(live);
            tokio::spawn(async move {
                // A pool that a reload has replaced lives on with its last requests; endpoints that both have are judged by
                // the new one's checks.
                let is_current = |pool: &Arc<Pool>| {
                    let current = live.upgrade().map(|live| live.current());
                    current.is_some_and(|current| current.pools.iter().any(|known| Arc::ptr_eq(known, pool)))
                };
                while let Some(pool) = weak.upgrade().filter(is_current) {
                    for Checked { endpoint, fault } in pool.check(&caller).await {
                        match &fault {
                            None => log::warn!("upstream `{}`: endpoint {endpoint} is back", pool.name),
                            Some(fault) => {
                                log::warn!("upstream `{}`: endpoint {endpoint} is out: {fault}", pool.name);
                            }
                        }
                        metrics.set_healthy(&pool.name, &endpoint, fault.is_none());
                    }
                    drop(pool);
                    tokio::time::sleep(every).await;
                }
            });
        }
    }
}

fn open(settings: &AuditSettings, now: Timestamp, counts: &Arc<Counts>) -> Result<Arc<Audit>, String> {
    match Audit::open(settings, now, counts.clone()) {
        Ok(audit) => Ok(Arc::new(audit)),
        Err(failure) => Err(format!("audit: {failure}")),
    }
}

fn names(snapshot: &Snapshot) -> Names {
    let routes = snapshot.router.iter();
    let routes = routes.map(|(_, route)| RouteNames {
        name: route.name.clone(),
        rules: route.rule_names.clone(),
    });
    let unrouted = RouteNames {
        name: Arc::from(""),
        rules: snapshot.unrouted_names.clone(),
    };
    let upstreams = snapshot.upstreams.iter().map(|upstream| UpstreamNames {
        name: upstream.name.clone(),
        endpoints: upstream
            .settings
            .endpoints
            .0
            .iter()
            .map(|address| Arc::from(address.to_string()))
            .collect(),
    });
    Names {
        config: snapshot.id.clone(),
        routes: routes.chain([unrouted]).collect(),
        upstreams: upstreams.collect(),
        limits: snapshot
            .defined
            .limits
            .iter()
            .map(|(_, limit)| limit.name.clone())
            .collect(),
        detectors: snapshot.anomalies.names().map(Arc::from).collect(),
    }
}
