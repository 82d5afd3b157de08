//! Whatever two policies say: a change that some request would meet is told of.

use std::net::IpAddr;

use jiff::ToSpan;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::json;

use super::{FROM, compare, compiled};
use crate::policies::access::midnight;
use crate::rehearse::{self, Paint};
use crate::snapshot::{Asked, Snapshot};

fn condition() -> impl Strategy<Value = String> {
    let some = |words: &'static [&'static str]| {
        prop::sample::subsequence(words, 1..=2).prop_map(|words| format!("[{}]", words.join(", ")))
    };
    let windows = some(&["seoul.night", "seoul.work", "seoul.rest", "seoul.yule"]);
    let values = some(&["gold", "silver", "7"]);
    let networks = some(&["10.0.0.0/8", "10.9.0.0/16", "192.0.2.0/24"]);
    prop_oneof![
        2 => windows.clone().prop_map(|windows| format!("during: {windows}")),
        1 => windows.prop_map(|windows| format!("outside: {windows}")),
        2 => some(&["a", "b", "c"]).prop_map(|roles| format!("roles: {roles}")),
        1 => some(&["pay", "see"]).prop_map(|scopes| format!("scopes: {scopes}")),
        1 => values.clone().prop_map(|values| format!("claims: {{ tier: {values} }}")),
        1 => values.clone().prop_map(|values| format!("claims: {{ tier: {{ none_of: {values} }} }}")),
        1 => (0..9_u32).prop_map(|age| format!("claims: {{ tier: {{ over: {age} }} }}")),
        1 => any::<bool>().prop_map(|absent| format!("claims: {{ tier: {{ absent: {absent} }} }}")),
        1 => networks.prop_map(|networks| format!("ip: {networks}")),
        1 => some(&["ios", "web", "android"]).prop_map(|clients| format!("clients: {clients}")),
        1 => some(&["GET", "POST"]).prop_map(|methods| format!("methods: {methods}")),
        1 => values.clone().prop_map(|values| format!("headers: {{ x-tier: {values} }}")),
        1 => values.prop_map(|values| format!("query: {{ tier: {values} }}")),
    ]
}

fn policy() -> impl Strategy<Value = String> {
    let block = prop::collection::vec(condition(), 1..3).prop_map(|conditions| {
        let mut keys = Vec::new();
        let mut kept = Vec::new();
        for condition in conditions {
            let key = condition.split(':').next().unwrap().to_owned();
            if !keys.contains(&key) {
                keys.push(key);
                kept.push(condition);
            }
        }
        format!("{{ {} }}", kept.join(", "))
    });
    let block = block.boxed();
    let word = prop_oneof![Just("deny"), Just("require")];
    (word, block.clone(), prop::option::of(block), 0..2_u8).prop_map(|(word, when, unless, code)| {
        let unless = unless.map(|unless| format!(", unless: {unless}")).unwrap_or_default();
        format!("{word}: {when}{unless}, reply: {{ code: C{code} }}")
    })
}

/// A request, who sends it and when: nothing of it knows what the comparison tries.
#[derive(Debug, Clone)]
struct Sample {
    method: usize,
    minute: i64,
    claims: Option<(Vec<&'static str>, Vec<&'static str>, usize)>,
    address: usize,
    client: usize,
    header: usize,
    query: usize,
}

const TIERS: [&str; 5] = ["\"gold\"", "\"silver\"", "7", "3", "\"7\""];
const TEXTS: [&str; 4] = ["gold", "silver", "7", "x"];

fn sample() -> impl Strategy<Value = Sample> {
    let roles = prop::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let scopes = prop::sample::subsequence(vec!["pay", "see"], 0..=2);
    let claims = prop::option::weighted(0.9, (roles, scopes, 0..=TIERS.len()));
    (
        0..2_usize,
        0..7 * 1440_i64,
        claims,
        0..4_usize,
        0..3_usize,
        0..=TEXTS.len(),
        0..=TEXTS.len(),
    )
        .prop_map(|(method, minute, claims, address, client, header, query)| Sample {
            method,
            minute,
            claims,
            address,
            client,
            header,
            query,
        })
}

impl Sample {
    /// What becomes of it, in words.
    fn ask(&self, snapshot: &Snapshot) -> String {
        let start = midnight(&TimeZone::get("Asia/Seoul").unwrap(), FROM);
        let address: IpAddr = ["10.9.3.4", "10.1.2.3", "192.0.2.77", "198.51.100.1"][self.address]
            .parse()
            .unwrap();
        let query = TEXTS
            .get(self.query)
            .map(|text| format!("?tier={text}"))
            .unwrap_or_default();
        let request = format!("{} /pay{query}", ["GET", "POST"][self.method]);
        let mut asked = Asked::new(&request, address, start + self.minute.minutes()).unwrap();
        if let Some(client) = ["ios", "android"].get(self.client) {
            asked.add_header(&format!("x-client: {client}")).unwrap();
        }
        if let Some(text) = TEXTS.get(self.header) {
            asked.add_header(&format!("x-tier: {text}")).unwrap();
        }
        if let Some((roles, scopes, tier)) = &self.claims {
            let mut claims = json!({ "sub": "u1", "roles": roles, "scope": scopes.join(" ") });
            if let Some(tier) = TIERS.get(*tier) {
                claims["tier"] = serde_json::from_str(tier).unwrap();
            }
            asked.hold(claims.as_object().unwrap().clone()).unwrap();
        }
        asked.strip(snapshot);
        let decision = rehearse::decide(snapshot, &asked).unwrap();
        format!(
            "{} {:?} {:?} {:?}",
            decision.effect, decision.status, decision.code, decision.policy
        )
    }
}

fn two_policies([one, two]: [&str; 2]) -> String {
    format!(
        "policies: {{ p: {{ {one} }}, q: {{ {two} }} }}\n\
         routes: {{ pay: {{ match: 'GET,POST /pay', auth: [customer, none], policies: [p, q], upstream: one }} }}\n"
    )
}

/// `GWANMUN_DIFF_CASES` asks for more.
pub(super) fn cases() -> ProptestConfig {
    let asked = std::env::var("GWANMUN_DIFF_CASES")
        .ok()
        .and_then(|count| count.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(30),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn sees_every_change_that_a_request_would_meet(
        now in [policy(), policy()],
        changed in policy(),
        samples in prop::collection::vec(sample(), 100),
    ) {
        let before = two_policies([&now[0], &now[1]]);
        let after = two_policies([&changed, &now[1]]);
        let (was, is) = (compiled(&before), compiled(&after));
        let told = compare(&was, &is, Some(FROM), 7);
        prop_assert!(!compare(&was, &was, Some(FROM), 7).is_change());
        for sample in samples {
            let outcomes = (sample.ask(&was), sample.ask(&is));
            let allowed = (outcomes.0.starts_with("allow"), outcomes.1.starts_with("allow"));
            let seen = match allowed {
                (true, false) => told.closes(),
                (false, true) => told.opens(),
                _ => outcomes.0 == outcomes.1 || told.is_change(),
            };
            prop_assert!(seen, "{outcomes:?}\n{before}{after}{}", told.text(Paint::plain()));
        }
    }
}
