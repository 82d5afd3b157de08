//! Passports that were made, so that one is signed for each token and upstream and not for each request.

use std::sync::{Arc, Weak};

use foldhash::quality::RandomState;
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, json};

use super::key::encode;
use super::{Audience, Passport};
use crate::conf::Json;
use crate::engine::{Granted, Principal};

/// About fifty thousand passports of common size.
const MAX_BYTES: u64 = 64 << 20;
const USUAL: usize = 16_384;
/// How long a passport is good whose caller's token is over: for a call.
const LEAST: SignedDuration = SignedDuration::from_secs(5);

/// Everything live about passports.
#[derive(Debug)]
pub struct Passports {
    passport: Arc<Passport>,
    made: Cache<Holder, Arc<Slot>, Weight, RandomState>,
}

/// Who holds a passport, and for whom it is. The principal stands for the token: whoever remembers a verified token keeps one
/// for it, and one only.
type Holder = (Address, Arc<str>);

/// Where a principal stands in memory. It tells two apart for as long as the slot found by it holds on to the place.
type Address = usize;

/// A passport, made and renewed by the first who needs it while the others wait.
#[derive(Debug)]
struct Slot {
    made: Mutex<Option<Made>>,
    /// What it takes, in bytes.
    weight: u64,
    /// Keeps the place from being given to another principal.
    _holder: Weak<Principal>,
}

#[derive(Debug)]
struct Made {
    value: HeaderValue,
    from: Timestamp,
    /// When half of its time is over.
    renew: Timestamp,
}

/// No passport could be signed: there is no randomness, or no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no passport can be signed")]
pub struct Unsigned;

impl Passports {
    /// Those of a configuration; taken over from `previous` where they would be made alike.
    pub fn new(passport: &Arc<Passport>, previous: Option<&Arc<Self>>) -> Arc<Self> {
        match previous.filter(|previous| previous.passport == *passport) {
            Some(previous) => previous.clone(),
            None => Arc::new(Self::holding(passport, MAX_BYTES, USUAL)),
        }
    }

    pub(super) fn holding(passport: &Arc<Passport>, bytes: u64, usual: usize) -> Self {
        let (hash, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
        Self {
            passport: passport.clone(),
            made: Cache::with(usual, bytes, Weight, hash, lifecycle),
        }
    }

    /// The caller's passport for an upstream, as the value of `Authorization`.
    pub fn bearer(
        &self,
        holder: &Arc<Principal>,
        upstream: &Arc<str>,
        now: Timestamp,
    ) -> Result<HeaderValue, Unsigned> {
        let key = (Arc::as_ptr(holder) as Address, upstream.clone());
        let slot = self.made.get_or_insert_with(&key, || Ok(Arc::new(Slot::new(holder))))?;
        let mut made = slot.made.lock();
        match &*made {
            // Both ends: on a rehearsal clock time may stand anywhere.
            Some(made) if made.from <= now && now < made.renew => Ok(made.value.clone()),
            _ => {
                let fresh = self.passport.make(holder, upstream, now)?;
                let value = fresh.value.clone();
                *made = Some(fresh);
                Ok(value)
            }
        }
    }

    /// What the caller's passport for an upstream says, without what is another in each that is signed: `iat`, `exp`, `jti`.
    pub fn said(&self, holder: &Principal, upstream: &str, now: Timestamp) -> String {
        let mut claims = self.passport.claims(holder, upstream, [now, now], "");
        claims.retain(|name, _| !matches!(name.as_str(), "iat" | "exp" | "jti"));
        Json::Object(claims).to_string()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }
}

impl Slot {
    fn new(holder: &Arc<Principal>) -> Self {
        let names = holder.scopes.iter().chain(&holder.roles).map(|name| name.len());
        let said = names.sum::<usize>() + holder.subject.len() + holder.issuer.len();
        Self {
            made: Mutex::new(None),
            // The rest of a passport and of an entry, and the holder's place, which stays as long; base64 and what stands
            // between names come to less than half.
            weight: 1200 + 2 * said as u64,
            _holder: Arc::downgrade(holder),
        }
    }
}

impl Passport {
    fn make(&self, holder: &Principal, upstream: &str, now: Timestamp) -> Result<Made, Unsigned> {
        let key = self.keys.first().ok_or(Unsigned)?;
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| Unsigned)?;
        let ends = self.ends(holder, now);
        let payload = Json::Object(self.claims(holder, upstream, [now, ends], &encode(id))).to_string();
        let token = key.sign(&payload).map_err(|_| Unsigned)?;
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Unsigned)?;
        value.set_sensitive(true);
        Ok(Made {
            value,
            from: now,
            renew: after(now, self.ttl / 2).min(ends),
        })
    }

    /// With the caller's token at the latest. One that is let through within the leeway is over already: its passport is good
    /// for a call.
    pub(super) fn ends(&self, holder: &Principal, now: Timestamp) -> Timestamp {
        let ends = after(now, self.ttl);
        let latest = match holder.expires {
            None => return ends,
            Some(expires) if expires > now => expires,
            Some(_) => after(now, LEAST),
        };
        latest.min(ends)
    }

    pub(super) fn claims(
        &self,
        holder: &Principal,
        upstream: &str,
        [now, ends]: [Timestamp; 2],
        id: &str,
    ) -> Map<String, Json> {
        let audience = match &self.audience {
            Audience::Upstream => upstream,
            Audience::Named(name) => name,
        };
        let texts = |names: &Granted| (!names.is_empty()).then(|| names.join(" "));
        let claims = [
            ("iss", Some(json!(self.issuer))),
            ("aud", Some(json!(audience))),
            ("iat", Some(json!(now.as_second()))),
            ("exp", Some(json!(ends.as_second()))),
            ("jti", Some(json!(id))),
            ("authenticator", Some(json!(&*holder.authenticator))),
            (
                "idp",
                Some(json!(&*holder.issuer)).filter(|_| !holder.issuer.is_empty()),
            ),
            ("sub", Some(json!(&*holder.subject))),
            ("scope", texts(&holder.scopes).map(Json::from)),
            ("roles", Some(json!(holder.roles)).filter(|_| !holder.roles.is_empty())),
            ("acr", holder.acr.as_deref().map(Json::from)),
            ("auth_time", holder.auth_time.map(|at| json!(at.as_second()))),
        ];
        let said = claims
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        said.collect()
    }
}

fn after(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Holder, Arc<Slot>> for Weight {
    fn weight(&self, _: &Holder, slot: &Arc<Slot>) -> u64 {
        slot.weight
    }
}
