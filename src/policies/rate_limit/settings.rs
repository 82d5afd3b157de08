//! The `limits:` section as written, and as compiled.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::LimitFields;
use crate::conf::{Describe, Load, Named, Node, Place, Rate, Read, Schema, Schemas, TOKEN};
use crate::engine::{LimitId, never_read};
use crate::settings;

/// Limits whose burst takes longer to come back are refused; all sums then stay far inside 64 bits of nanoseconds.
const MAX_WINDOW: Duration = Duration::from_secs(366 * 86_400);

settings! {
    /// How many requests a key may make; routes name it in `limits`.
    pub struct LimitSettings {
        /// Whom it counts: `ip` (IPv6 by its /64), `principal.sub` (the whole identity), `header.NAME` or `claims.PATH`.
        pub key: KeySource,
        /// How many in which time, such as `20/s`.
        pub rate: Rate,
        /// How many at once after idleness; one second's worth, at least 1, where it is not said.
        pub burst: Option<NonZeroU32>,
        /// Whether it is counted in a sketch of constant size, which may count too much and never too little.
        pub approximate: bool = false,
    }
}

/// Whom a limit counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The caller's address, IPv6 by its /64: `ip`.
    Address,
    /// The caller's whole identity: `principal.sub`.
    Identity,
    /// A request header: `header.NAME`.
    Header(HeaderName),
    /// A claim of the caller, apart for every issuer: `claims.PATH`.
    Claim(Box<str>),
}

impl Describe for KeySource {
    fn schema(_: &mut Schemas) -> Schema {
        let pattern = format!(r"^(ip|principal\.sub|header\.{TOKEN}|claims\.[^.]+(\.[^.]+)*)$");
        Schema::text(&pattern).examples(["ip", "principal.sub", "header.x-partner", "claims.tenant"])
    }
}

impl Read for KeySource {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        const FORMS: &str = "`ip`, `principal.sub`, `header.NAME` or `claims.PATH`";
        node.parse(&format!("a key: {FORMS}"), load, |text| match text.split_once('.') {
            None if text == "ip" => Ok(Self::Address),
            Some(("principal", "sub")) => Ok(Self::Identity),
            Some(("header", name)) => match HeaderName::try_from(name) {
                Ok(name) => match never_read(&name) {
                    Some(fault) => Err(format!("names no header: `{name}` {fault}")),
                    None => Ok(Self::Header(name)),
                },
                Err(_) => Err(format!("names no header: `{name}` is not a header name")),
            },
            Some(("claims", path)) if !path.split('.').any(str::is_empty) => Ok(Self::Claim(Box::from(path))),
            _ => Err(format!("is not a key: {FORMS}")),
        })
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address => f.write_str("ip"),
            Self::Identity => f.write_str("principal.sub"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Claim(path) => write!(f, "claims.{path}"),
        }
    }
}

/// A limit's numbers. Two limits of equal bounds count alike, so that live counts survive a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Whom it counts.
    pub key: KeySource,
    /// How many at once after idleness.
    pub burst: NonZeroU32,
    /// The time one request takes to come back, in whole nanoseconds, rounded up; at least 1.
    pub interval: u64,
    /// Counted in a sketch.
    pub approximate: bool,
}

impl Bounds {
    /// The numbers of a rate; the error is a sentence.
    fn of(settings: &LimitSettings) -> Result<Self, String> {
        let Rate { count, period } = settings.rate;
        let second = u64::from(count.get()).div_ceil(period.as_secs().max(1));
        let one_second = u32::try_from(second).ok().and_then(NonZeroU32::new).unwrap_or(count);
        let burst = settings.burst.unwrap_or(one_second);
        let interval = period.as_nanos().div_ceil(u128::from(count.get()));
        if u128::from(count.get()) > period.as_nanos() {
            return Err("a rate of more than one in a nanosecond limits nothing".into());
        }
        if interval * u128::from(burst.get()) > MAX_WINDOW.as_nanos() {
            return Err("this burst would take more than a year to come back".into());
        }
        if settings.approximate && burst < one_second {
            return Err(format!(
                "an approximate limit counts in windows of a second or more, which is a `burst` of at least {one_second}"
            ));
        }
        Ok(Self {
            key: settings.key.clone(),
            burst,
            interval: u64::try_from(interval).unwrap_or(u64::MAX),
            approximate: settings.approximate,
        })
    }

    /// The time the whole burst takes to come back, in nanoseconds.
    pub fn window(&self) -> u64 {
        self.interval.saturating_mul(u64::from(self.burst.get()))
    }
}

/// A compiled limit.
#[derive(Debug, Clone)]
pub struct LimitRule {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is defined.
    pub place: Place,
    /// As written.
    pub settings: LimitSettings,
    /// As counted.
    pub bounds: Bounds,
    /// Its part of the response fields.
    pub fields: LimitFields,
}

/// The limits of a configuration, found by name while compiling and by [`LimitId`] later.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    rules: Vec<LimitRule>,
    /// Names whose definition is wrong: a route that uses one is not told a second time.
    broken: Vec<Box<str>>,
}

impl Describe for Limits {
    fn schema(schemas: &mut Schemas) -> Schema {
        Named::<LimitSettings>::schema(schemas)
    }
}

impl Limits {
    /// Compiles the `limits:` section; problems go to `load`.
    pub fn compile(named: &Named<Node>, load: &Load) -> Self {
        let mut limits = Self::default();
        for (name, node) in &named.0 {
            let bounds = LimitSettings::read(node, load).and_then(|settings| match Bounds::of(&settings) {
                Ok(bounds) => Some((settings, bounds)),
                Err(error) => {
                    load.error(&node.place, error);
                    None
                }
            });
            let Some((settings, bounds)) = bounds else {
                limits.broken.push(Box::from(name.value.as_str()));
                continue;
            };
            if limits.rules.len() > usize::from(u16::MAX) {
                load.error(&name.place, "more than 65536 limits");
                break;
            }
            limits.rules.push(LimitRule {
                name: Arc::from(name.value.as_str()),
                place: name.place.clone(),
                fields: LimitFields::of(&name.value, &bounds),
                settings,
                bounds,
            });
        }
        limits
    }

    /// The limit of a name.
    pub fn get(&self, name: &str) -> Option<(LimitId, &LimitRule)> {
        self.iter().find(|(_, rule)| &*rule.name == name)
    }

    /// The limit of an id of this configuration.
    pub fn by_id(&self, id: LimitId) -> Option<&LimitRule> {
        self.rules.get(usize::from(id.0))
    }

    /// All limits, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (LimitId, &LimitRule)> {
        (0..=u16::MAX).map(LimitId).zip(&self.rules)
    }

    /// Whether the name is defined, though wrongly.
    pub(super) fn is_broken(&self, name: &str) -> bool {
        self.broken.iter().any(|broken| &**broken == name)
    }
}
