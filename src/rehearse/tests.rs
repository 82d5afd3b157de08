#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::snapshot::{Occasion, load};

fn open(file: &Path, now: Timestamp) -> Snapshot {
    load(file, Occasion { now, at_start: true }).0.unwrap()
}

fn bank(at: &str, request: &str, claims: &str) -> Explanation {
    let at: Timestamp = at.parse().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml");
    let snapshot = open(&file, at);
    let mut asked = Asked::new(request, IpAddr::from([127, 0, 0, 1]), at).unwrap();
    if !claims.is_empty() {
        asked.hold(read_claims(claims).unwrap()).unwrap();
    }
    explain(&snapshot, &asked).unwrap()
}

/// `file:line` of the first line of `conf/bank.yaml` that holds `text`.
fn line_of(text: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml");
    let content = std::fs::read_to_string(&file).unwrap();
    let at = content.lines().position(|line| line.contains(text)).unwrap();
    format!("{}:{}:", file.display(), at + 1)
}

const NOON: &str = "2026-11-24T12:00+09:00";
const NIGHT: &str = "2026-11-24T23:45+09:00";
const TELLER: &str = "{ sub: t2001, roles: [teller], scope: 'transfer:read transfer:write', acr: otp, auth_age: 1m }";

#[test]
fn names_the_rule_that_closes_transfers_at_night() {
    let told = bank(NIGHT, "POST /transfers", TELLER);
    let decision = &told.decision;
    assert!(told.is_refusal());
    assert_eq!(
        (decision.effect, decision.status, decision.policy.as_deref()),
        ("deny", Some(403), Some("no-night-transfer"))
    );
    assert_eq!(told.in_short(), "403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00");
    let place = decision.place.as_ref().unwrap();
    assert!(place.starts_with(&line_of("no-night-transfer:")), "{place}");
    let verdicts: Vec<_> = told
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.verdict))
        .collect();
    assert!(verdicts.contains(&("no-night-transfer", "refuses")), "{verdicts:?}");
    assert!(verdicts.contains(&("per-customer", "not reached")), "{verdicts:?}");
    let text = told.text(Paint::plain());
    for part in [
        "route      transfer (",
        "`t2001` by `customer`",
        "TRANSFER_CLOSED",
        "reopens    2026-11-25T05",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn allows_what_is_open() {
    assert_eq!(
        bank(NOON, "POST /transfers", TELLER).in_short(),
        "allowed, answered by upstream `transfers`"
    );
    let treasury = "{ sub: r3001, roles: [treasury], scope: transfer:write, acr: otp, auth_age: 5m }";
    assert!(!bank(NIGHT, "POST /transfers", treasury).is_refusal());
    assert_eq!(bank(NIGHT, "GET /status", "").in_short(), "200");
}

#[test]
fn tells_of_a_login_that_will_not_do() {
    let older = TELLER.replace("1m", "301s");
    let told = bank(NOON, "POST /transfers", &older);
    assert_eq!(
        (
            told.decision.effect,
            told.in_short().as_str(),
            told.decision.policy.as_deref()
        ),
        ("challenge", "401 step-up-required", Some("strong-login"))
    );
    let text = told.text(Paint::plain());
    for part in [
        "  challenges     policies strong-login (",
        "acr otp: true (otp)\n",
        "max_age 5m: false (the login was 301s ago)\n",
        "not reached    limits per-customer",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    // It is no answer to what is refused anyway, and does not keep it from opening again.
    let told = bank(NIGHT, "POST /transfers", &older);
    assert_eq!(told.in_short(), "403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00");
    let strong_login = told.rules.iter().find(|rule| rule.name == "strong-login").unwrap();
    assert_eq!(strong_login.verdict, "challenges");
    assert_eq!(bank(NOON, "POST /transfers", "").in_short(), "401 token-missing");
}

#[test]
fn knows_holidays_and_missing_rights() {
    let customer = "{ sub: u1001, roles: customer, scope: invest:write }";
    let told = bank("2026-09-25T10:00+09:00", "POST /orders", customer);
    assert_eq!(told.decision.code.as_deref(), Some("MARKET_CLOSED"));
    assert_eq!(told.decision.reopens_at.as_deref(), Some("2026-09-28T09:00:00+09:00"));
    assert_eq!(bank(NOON, "POST /transfers", customer).in_short(), "403 scope-missing");
    // A missing credential does not come with the morning.
    assert_eq!(bank(NIGHT, "POST /transfers", "").in_short(), "401 token-missing");
}

#[test]
fn tells_what_is_not_there() {
    assert_eq!(bank(NOON, "GET /nowhere", "").in_short(), "404 route-not-found");
    let told = bank(NOON, "PUT /transfers", "");
    assert_eq!(told.in_short(), "405 method-not-allowed");
    assert_eq!(told.decision.allow.as_deref(), Some("GET, HEAD, POST"));
    assert!(told.json()["route"].is_null());
}

#[test]
fn tells_clients_by_their_headers() {
    let at: Timestamp = NOON.parse().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml");
    let snapshot = open(&file, at);
    let asked = |client: &str| {
        let mut asked = Asked::new("GET /status", IpAddr::from([127, 0, 0, 1]), at).unwrap();
        asked.come_from(client, &snapshot)?;
        Ok::<_, anyhow::Error>(explain(&snapshot, &asked)?.client)
    };
    assert_eq!(
        (asked("ios").unwrap(), asked("web").unwrap()),
        ("ios".into(), "web".into())
    );
    assert!(asked("toaster").is_err());
}

#[test]
fn has_the_documented_json_form() {
    let told = bank(NIGHT, "POST /transfers", TELLER).json();
    let decision = serde_json::json!({
        "effect": "deny", "status": 403, "policy": "no-night-transfer", "code": "TRANSFER_CLOSED",
        "reopens_at": "2026-11-25T05:00:00+09:00",
    });
    assert_eq!((&told["route"], &told["decision"]), (&"transfer".into(), &decision));
}
