//! `balance`: who gets the next request.
//!
//! ```yaml
//! upstreams:
//!   accounts:
//!     endpoints: [127.0.0.1:7001, 127.0.0.1:7002]
//!     balance: { consistent_hash: principal.sub }         # | round_robin | least_loaded
//! ```
//!
//! `least_loaded` takes the less busy of two endpoints drawn by lot, which is nearly as good as the least busy of all and
//! never sends everybody to the same one (Mitzenmacher, *The power of two choices*, 2001). `consistent_hash` sends what has the
//! same key to the same endpoint, by the highest score of key and address (rendezvous hashing, Thaler and Ravishankar 1998):
//! where an endpoint leaves, only its own keys move. The key is `principal.sub` (the whole identity), `ip` or `header.NAME`; a
//! request without one goes by its address.

use std::net::IpAddr;

use http::HeaderName;

use crate::conf::{Describe, Fields, Json, Key, Load, Node, Read, Schema, Schemas, TOKEN, Value, read_word};
use crate::engine::{Principal, never_read};

/// Who gets the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// One endpoint after the other.
    RoundRobin,
    /// The less busy of two drawn by lot.
    LeastLoaded,
    /// Always the same one for the same key.
    ConsistentHash(HashKey),
}

const WORDS: [(&str, Word); 2] = [("round_robin", Word::RoundRobin), ("least_loaded", Word::LeastLoaded)];
const BY_KEY: &str = "consistent_hash";

#[derive(Clone, Copy)]
enum Word {
    RoundRobin,
    LeastLoaded,
}

impl Describe for Balance {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Balance", |schemas| {
            let words = Schema::words(&[
                ("round_robin", "One endpoint after the other."),
                ("least_loaded", "The less busy of two endpoints drawn by lot."),
            ]);
            let about = "The same key goes to the same endpoint, as long as that is well.";
            let by_key = Schema::map([Key::new::<HashKey>(schemas, BY_KEY, about).required(true)]);
            Schema::any_of([words, by_key]).about("Who gets the next request.")
        })
    }

    fn written(&self) -> Option<Json> {
        Some(match self {
            Self::RoundRobin => "round_robin".into(),
            Self::LeastLoaded => "least_loaded".into(),
            Self::ConsistentHash(key) => serde_json::json!({ BY_KEY: key.to_string() }),
        })
    }
}

impl Read for Balance {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        match &node.value {
            Value::Map(_) => {
                let mut fields = Fields::of(node, load)?;
                let key = fields.take::<HashKey>(BY_KEY, None);
                fields.finish();
                key.map(Self::ConsistentHash)
            }
            Value::Scalar { text, .. } if text == BY_KEY => {
                let message = "by which key? write `{ consistent_hash: principal.sub }`";
                load.error(&node.place, message);
                None
            }
            _ => read_word(node, load, &WORDS).map(|word| match word {
                Word::RoundRobin => Self::RoundRobin,
                Word::LeastLoaded => Self::LeastLoaded,
            }),
        }
    }
}

/// What requests of one endpoint have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The caller's whole identity: `principal.sub`.
    Identity,
    /// The caller's address: `ip`.
    Address,
    /// A request header: `header.NAME`.
    Header(HeaderName),
}

impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity => f.write_str("principal.sub"),
            Self::Address => f.write_str("ip"),
            Self::Header(name) => write!(f, "header.{name}"),
        }
    }
}

impl Describe for HashKey {
    fn schema(_: &mut Schemas) -> Schema {
        let pattern = format!(r"^(ip|principal\.sub|header\.{TOKEN})$");
        Schema::text(&pattern).examples(["principal.sub", "ip", "header.x-tenant"])
    }
}

impl Read for HashKey {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        const FORMS: &str = "`principal.sub`, `ip` or `header.NAME`";
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
            _ => Err(format!("is not a key: {FORMS}")),
        })
    }
}

/// Whom a request is made for, as far as the choice of an endpoint depends on it.
#[derive(Clone, Copy)]
pub struct Whom<'a> {
    /// Who calls, where that is known.
    pub principal: Option<&'a Principal>,
    /// The caller's address.
    pub address: IpAddr,
    /// The request's headers by name, the first of each.
    pub header: &'a (dyn Fn(&HeaderName) -> Option<&'a [u8]> + Sync),
}

impl HashKey {
    /// The number that stands for a caller's key.
    pub(super) fn of(&self, whom: &Whom<'_>) -> u64 {
        // Each kind begins with a letter of its own, so that no header can spell an identity.
        match self {
            Self::Identity => whom.principal.map(|principal| hash(b'p', &principal.identity)),
            Self::Header(name) => (whom.header)(name)
                .filter(|value| !value.is_empty())
                .map(|value| hash(b'h', value)),
            Self::Address => None,
        }
        .unwrap_or_else(|| match whom.address {
            IpAddr::V4(address) => hash(b'a', &address.octets()),
            IpAddr::V6(address) => hash(b'a', &address.octets()),
        })
    }
}

/// FNV-1a and a finaliser: the same in every version and on every machine, so that a fleet agrees.
pub(super) fn hash(kind: u8, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix([kind].iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, step))
}

/// The finaliser of SplitMix64: a bijection that spreads every bit.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One of `eligible`, by the order of turns.
pub(super) fn in_turn(count: usize, turn: usize, eligible: impl Fn(usize) -> bool) -> Option<usize> {
    (0..count)
        .map(|step| turn.wrapping_add(step) % count)
        .find(|at| eligible(*at))
}

/// The less busy of two eligible ones drawn by lot.
pub(super) fn less_busy(
    count: usize,
    lot: u64,
    eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> usize,
) -> Option<usize> {
    let mut drawn = (0..count).filter(|at| eligible(*at));
    let many = u64::try_from(drawn.clone().count()).ok().filter(|many| *many > 0)?;
    let first = lot % many;
    if many == 1 {
        return drawn.next();
    }
    let step = 1 + (lot >> 32) % (many - 1);
    let nth = |n: u64| drawn.clone().nth(usize::try_from(n).unwrap_or_default());
    let (first, second) = (nth(first)?, nth((first + step) % many)?);
    Some(if load(second) < load(first) { second } else { first })
}

/// The eligible one with the highest score for a key.
pub(super) fn highest(
    count: usize,
    key: u64,
    eligible: impl Fn(usize) -> bool,
    seed: impl Fn(usize) -> u64,
) -> Option<usize> {
    (0..count)
        .filter(|at| eligible(*at))
        .max_by_key(|at| mix(key ^ seed(*at)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn takes_turns() {
        let all = |_| true;
        let turns: Vec<_> = (0..4).map(|turn| in_turn(3, turn, all).unwrap()).collect();
        assert_eq!(turns, [0, 1, 2, 0]);
        assert_eq!(in_turn(3, 1, |at| at != 1), Some(2));
        assert_eq!(in_turn(3, usize::MAX, |at| at == 0), Some(0));
        assert_eq!(in_turn(3, 0, |_| false), None);
        assert_eq!(in_turn(0, 0, all), None);
    }

    #[test]
    fn prefers_the_less_busy_and_draws_everybody() {
        let loads = [5, 0, 9, 3];
        let mut drawn = [0; 4];
        for lot in 0..10_000_u64 {
            drawn[less_busy(4, mix(lot), |_| true, |at| loads[at]).unwrap()] += 1;
        }
        // The busiest of all loses every pair, the least busy wins every one it is in.
        assert_eq!(drawn[2], 0);
        assert!(drawn[1] > 4_500 && drawn[3] > drawn[0] && drawn[0] > 1_000, "{drawn:?}");
        for lot in 0..100 {
            let two = less_busy(4, mix(lot), |at| at == 0 || at == 2, |at| loads[at]);
            assert_eq!(two, Some(0));
            assert_eq!(less_busy(4, mix(lot), |at| at == 2, |at| loads[at]), Some(2));
        }
        assert_eq!(less_busy(4, 0, |_| false, |at| loads[at]), None);
    }

    #[test]
    fn moves_only_the_keys_of_an_endpoint_that_leaves() {
        let seeds: Vec<u64> = (0..5_u8).map(|at| hash(b'e', &[at])).collect();
        let mut held = [0; 5];
        for key in 0..5_000_u64 {
            let key = hash(b'p', &key.to_le_bytes());
            let before = highest(5, key, |_| true, |at| seeds[at]).unwrap();
            let after = highest(5, key, |at| at != 3, |at| seeds[at]).unwrap();
            held[before] += 1;
            assert!(before == after || before == 3);
        }
        assert!(held.iter().all(|held| (800..1_200).contains(held)), "{held:?}");
    }

    #[test]
    fn keeps_kinds_of_keys_apart() {
        let whom = |value: &'static [u8]| {
            let header = move |_: &HeaderName| Some(value);
            let by_header = HashKey::Header(HeaderName::from_static("x-tenant"));
            let address = IpAddr::from([127, 0, 0, 1]);
            let whom = Whom {
                principal: None,
                address,
                header: &header,
            };
            (by_header.of(&whom), HashKey::Identity.of(&whom))
        };
        let (tenant, nobody) = whom(&[127, 0, 0, 1]);
        assert_ne!(tenant, nobody);
        let (empty, nobody) = whom(b"");
        assert_eq!(empty, nobody, "who has no key goes by the address");
    }
}
