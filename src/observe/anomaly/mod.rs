//! Detectors: too many different things from one address or caller in a while.
//!
//! ```yaml
//! anomalies:
//!   credential-stuffing: { watch: ip, when: { status: 401, distinct: claimed_sub, over: 20, within: 1m }, then: alert }
//!   enumeration:         { watch: principal.sub, when: { status: 404, distinct: path, over: 50, within: 1m }, then: alert }
//! ```
//!
//! An alert is a line of the audit log, a count in `gwanmun_anomalies_total` and a warning; it changes no answer. It is
//! raised once per watched key and window. `claimed_sub` is the unverified subject of a refused token; a token that is valid
//! but expired counts nowhere. IPv6 addresses are watched by their /64.
//!
//! Counting is exact, the memory bounded: of many watched keys the less frequent are forgotten first.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use quick_cache::unsync::Cache;

use super::audit::Audit;
use super::metrics::Metrics;
use crate::conf::{Describe, Load, Named, Node, Read, Schema, Schemas, Spanned};
use crate::engine::{Answer, Observer, Principal, Record};

/// Keys watched by one detector, where each needs little memory.
const MAX_KEYS: usize = 65_536;
/// Things remembered by one detector over all its keys; at 24 bytes each some 50 MB.
const MAX_THINGS: usize = 1 << 21;

/// `anomalies:`
pub type Anomalies = Named<AnomalySettings>;

crate::words! {
    /// Whom a detector watches.
    pub enum Watch {
        /// The caller's address.
        Ip = "ip",
        /// The verified caller, by its whole identity.
        PrincipalSub = "principal.sub",
    }
}

crate::words! {
    /// What has to differ to be counted.
    pub enum Distinct {
        /// The unverified subject of a refused token.
        ClaimedSub = "claimed_sub",
        /// The path.
        Path = "path",
    }
}

crate::words! {
    /// What follows.
    pub enum Then {
        /// A line of the audit log, a count and a warning; no answer changes.
        Alert = "alert",
    }
}

/// One detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnomalySettings {
    /// Whom it watches.
    pub watch: Watch,
    /// What it counts.
    pub when: When,
    /// What follows.
    pub then: Then,
}

/// What a detector counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Answers of this status.
    pub status: u16,
    /// By what they differ.
    pub distinct: Distinct,
    /// More than so many different ones, at most 1000, raise the alert.
    pub over: u32,
    /// In this time, at most a day.
    pub within: Duration,
}

crate::settings! {
    /// A detector: too many different things from one address or caller in a while.
    struct Written {
        /// Whom it watches.
        watch: Spanned<Watch>,
        /// What it counts.
        when: When,
        /// What follows.
        then: Then,
    }
}

crate::settings! {
    /// What a detector counts.
    struct WhenWritten {
        /// Answers of this status.
        status: http::StatusCode,
        /// By what they differ.
        distinct: Spanned<Distinct>,
        /// More than so many different ones, at most 1000, raise the alert.
        over: Spanned<u32>,
        /// In this time, at most `1d`.
        within: Spanned<Duration>,
    }
}

impl Describe for AnomalySettings {
    fn schema(schemas: &mut Schemas) -> Schema {
        Written::schema(schemas)
    }
}

impl Read for AnomalySettings {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let Written { watch, when, then } = Written::read(node, load)?;
        if watch.value == Watch::PrincipalSub && when.distinct == Distinct::ClaimedSub {
            load.error(
                &watch.place,
                "this can never match: the bearer of a refused token is no principal",
            );
            return None;
        }
        let watch = watch.value;
        Some(Self { watch, when, then })
    }
}

impl Describe for When {
    fn schema(schemas: &mut Schemas) -> Schema {
        WhenWritten::schema(schemas)
    }
}

impl Read for When {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let WhenWritten {
            status,
            distinct,
            over,
            within,
        } = WhenWritten::read(node, load)?;
        let checks = [
            (
                distinct.value == Distinct::ClaimedSub && status.as_u16() != 401,
                &distinct.place,
                "this can never match: only a refused token (401) has a `claimed_sub`",
            ),
            (
                !(1..=1000).contains(&over.value),
                &over.place,
                "a number from 1 to 1000 is needed",
            ),
            (
                within.value.is_zero() || within.value > Duration::from_secs(86_400),
                &within.place,
                "a time above 0 and up to `1d` is needed",
            ),
        ];
        let wrong = checks.iter().filter(|(is_wrong, ..)| *is_wrong);
        let wrong = wrong.map(|(_, place, message)| load.error(place, *message)).count();
        (wrong == 0).then_some(Self {
            status: status.as_u16(),
            distinct: distinct.value,
            over: over.value,
            within: within.value,
        })
    }
}

/// What a detector found.
#[derive(Debug, Clone)]
pub struct Alert {
    /// The instant of the request that was one too many.
    pub at: Timestamp,
    /// The detector's name.
    pub detector: Arc<str>,
    /// Who.
    pub suspect: Suspect,
    /// The status that was counted.
    pub status: u16,
    /// How many different things were seen.
    pub distinct: u32,
    /// In which time.
    pub within: Duration,
}

/// Whom an alert is about.
#[derive(Debug, Clone)]
pub enum Suspect {
    /// An address; of IPv6 the one that was seen last in its /64.
    Address(IpAddr),
    /// A verified caller.
    Principal(Arc<Principal>),
}

impl Suspect {
    /// How it is watched.
    pub fn watch(&self) -> Watch {
        match self {
            Self::Address(_) => Watch::Ip,
            Self::Principal(_) => Watch::PrincipalSub,
        }
    }
}

/// The detectors of one configuration. An unchanged detector should outlive a reload: see [`renew`](Self::renew).
pub struct Detectors {
    detectors: Vec<Arc<Detector>>,
    audit: Option<Arc<Audit>>,
    metrics: Arc<Metrics>,
}

impl Detectors {
    /// Detectors that have seen nothing. Alerts go to `audit`, where there is one, and to `metrics`.
    pub fn new(settings: &Anomalies, audit: Option<Arc<Audit>>, metrics: Arc<Metrics>) -> Self {
        Self::build(settings, audit, metrics, &[])
    }

    /// The detectors of the next configuration; those that are unchanged go on with what they have seen.
    pub fn renew(&self, settings: &Anomalies, audit: Option<Arc<Audit>>) -> Self {
        Self::build(settings, audit, self.metrics.clone(), &self.detectors)
    }

    fn build(settings: &Anomalies, audit: Option<Arc<Audit>>, metrics: Arc<Metrics>, known: &[Arc<Detector>]) -> Self {
        let detector = |name: &str, settings: AnomalySettings| {
            let same = known
                .iter()
                .find(|known| &*known.name == name && known.settings == settings);
            same.cloned().unwrap_or_else(|| Arc::new(Detector::new(name, settings)))
        };
        let detectors = settings
            .0
            .iter()
            .map(|(name, settings)| detector(&name.value, *settings));
        Self {
            detectors: detectors.collect(),
            audit,
            metrics,
        }
    }
}

impl Observer for Detectors {
    fn record(&self, record: &Arc<Record>) {
        for detector in &self.detectors {
            if let Some(alert) = detector.see(record) {
                self.metrics.count_anomaly(&alert.detector);
                match &alert.suspect {
                    Suspect::Address(address) => log::warn!(
                        "anomaly `{}`: {} different in {:?} from {address}",
                        alert.detector,
                        alert.distinct,
                        alert.within
                    ),
                    Suspect::Principal(who) => log::warn!(
                        "anomaly `{}`: {} different in {:?} from {:?} of `{}`",
                        alert.detector,
                        alert.distinct,
                        alert.within,
                        who.subject,
                        who.authenticator
                    ),
                }
                if let Some(audit) = &self.audit {
                    audit.alert(Arc::new(alert));
                }
            }
        }
    }
}

impl std::fmt::Debug for Detectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.detectors.iter().map(|detector| &detector.name))
            .finish()
    }
}

struct Detector {
    name: Arc<str>,
    settings: AnomalySettings,
    within: SignedDuration,
    /// Unpredictable, so that nobody can have another's things taken for the same.
    hasher: RandomState,
    watched: Mutex<Cache<u64, Seen>>,
}

/// What was seen of one watched key.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Hashes of the different things, each with when it was last seen.
    things: Vec<(u64, Timestamp)>,
    /// When the last alert was raised.
    alerted: Option<Timestamp>,
}

impl Detector {
    fn new(name: &str, settings: AnomalySettings) -> Self {
        let keys = (MAX_THINGS / (settings.when.over as usize + 1)).min(MAX_KEYS);
        Self {
            name: name.into(),
            settings,
            within: SignedDuration::try_from(settings.when.within).unwrap_or(SignedDuration::MAX),
            hasher: RandomState::default(),
            watched: Mutex::new(Cache::new(keys)),
        }
    }

    /// Takes note of a request; most are none of its business, which the status says at once.
    fn see(&self, record: &Record) -> Option<Alert> {
        let When {
            status,
            distinct,
            over,
            within,
        } = self.settings.when;
        if record.status != status {
            return None;
        }
        let suspect = match self.settings.watch {
            Watch::Ip => Suspect::Address(record.request.address),
            Watch::PrincipalSub => Suspect::Principal(record.principal.clone()?),
        };
        let thing = self.thing(record, distinct)?;
        let key = self.key(&suspect);
        let mut watched = self.watched.lock();
        let mut seen = watched
            .get_mut_or_insert_with(&key, || Ok::<_, Infallible>(Seen::default()))
            .ok()??;
        let count = seen.note(thing, record.at, self.within, over as usize + 1);
        if count <= over as usize || seen.alerted.is_some_and(|at| is_near(at, record.at, self.within)) {
            return None;
        }
        seen.alerted = Some(record.at);
        Some(Alert {
            at: record.at,
            detector: self.name.clone(),
            suspect,
            status,
            distinct: u32::try_from(count).unwrap_or(u32::MAX),
            within,
        })
    }

    /// What has to differ, as a hash; `None` where there is nothing to count.
    fn thing(&self, record: &Record, distinct: Distinct) -> Option<u64> {
        let mut hasher = self.hasher.build_hasher();
        match distinct {
            Distinct::ClaimedSub => record.claimed_sub.as_deref()?.hash(&mut hasher),
            Distinct::Path => {
                let expired = |(_, answer): &(_, Answer)| matches!(answer, Answer::Refused(refusal) if refusal.code == "token-expired");
                if record.status == 401 && record.answers.iter().any(expired) {
                    return None;
                }
                record.request.template.hash(&mut hasher);
                record.request.params.hash(&mut hasher);
                record.request.path.hash(&mut hasher);
            }
        }
        Some(hasher.finish())
    }

    fn key(&self, suspect: &Suspect) -> u64 {
        match suspect {
            Suspect::Address(address) => self.hasher.hash_one(network(*address)),
            Suspect::Principal(who) => self.hasher.hash_one(&who.identity),
        }
    }
}

impl Seen {
    /// Takes note of `thing` and says how many different ones are in the window, at most `most`.
    fn note(&mut self, thing: u64, at: Timestamp, within: SignedDuration, most: usize) -> usize {
        self.things.retain(|(_, seen)| is_near(*seen, at, within));
        if let Some((_, seen)) = self.things.iter_mut().find(|(known, _)| *known == thing) {
            *seen = at.max(*seen);
        } else if self.things.len() < most {
            self.things.push((thing, at));
        } else if let Some(oldest) = self.things.iter_mut().min_by_key(|(_, seen)| *seen) {
            *oldest = (thing, at);
        }
        self.things.len()
    }
}

/// Whether two instants are in one window. Requests end in another order than they came, and a clock may be set back.
fn is_near(one: Timestamp, other: Timestamp, within: SignedDuration) -> bool {
    one.duration_since(other).abs() < within
}

/// IPv6 hosts choose the lower half of their address themselves, as often as they like.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests;
