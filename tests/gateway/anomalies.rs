//! What no single request shows: one address trying the tokens of many.

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Upstream, eventually, guarded, is_request};

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
routes:
  balance: { match: GET /balance, auth: customer, upstream: bank }
anomalies:
  credential-stuffing: { watch: ip, when: { status: 401, distinct: claimed_sub, over: 20, within: 1m }, then: alert }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    _upstream: Upstream,
}

impl Bank {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let issuer = Issuer::new();
        let yaml = guarded(BANK, &upstream, &issuer);
        Self {
            gateway: Gateway::start(&yaml),
            issuer,
            _upstream: upstream,
        }
    }

    /// A token in the name of the subject, signed by somebody else.
    fn forged(&self, subject: &str) -> String {
        let mut token = self.issuer.token(&json!({"sub": subject}));
        let signature = token.rfind('.').unwrap();
        token.truncate(signature + 1);
        token + &"A".repeat(86)
    }

    fn alerts(&self) -> f64 {
        self.gateway
            .metrics()
            .value("gwanmun_anomalies_total", &[])
            .unwrap_or_default()
    }

    fn stop(self) -> Vec<Value> {
        let records = self.gateway.stop();
        records.into_iter().filter(|record| !is_request(record)).collect()
    }
}

#[test]
fn notices_one_address_trying_many_names() {
    let bank = Bank::open();
    for n in 0..20 {
        let token = bank.forged(&format!("victim-{n}"));
        bank.gateway
            .get("/balance")
            .bearer(&token)
            .send()
            .expect_problem(401, "token-signature");
    }
    assert_eq!(bank.alerts(), 0.0);
    bank.gateway
        .get("/balance")
        .bearer(&bank.forged("victim-20"))
        .send()
        .expect_problem(401, "token-signature");
    eventually("an alert", || (bank.alerts() >= 1.0).then_some(()));
    // An alert blocks nobody.
    bank.gateway
        .get("/balance")
        .bearer(&bank.issuer.token(&json!({})))
        .send()
        .expect(200);
    let alerts = bank.stop();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let alert = alerts[0].to_string();
    assert!(
        alert.contains("credential-stuffing") && alert.contains("127.0.0.1"),
        "{alert}"
    );
}

#[test]
fn counts_names_not_tries_and_addresses_apart() {
    let bank = Bank::open();
    for n in 0..60 {
        let token = bank.forged(&format!("victim-{}", n % 15));
        bank.gateway
            .get("/balance")
            .bearer(&token)
            .send()
            .expect_problem(401, "token-signature");
    }
    for n in 0..15 {
        let token = bank.forged(&format!("victim-{}", n + 15));
        bank.gateway
            .get("/balance")
            .from("127.0.0.9")
            .bearer(&token)
            .send()
            .expect_problem(401, "token-signature");
    }
    assert!(bank.stop().is_empty());
}

#[test]
fn suspects_nobody_whose_token_has_merely_ended() {
    let bank = Bank::open();
    for n in 0..25 {
        let token = bank
            .issuer
            .token(&json!({"sub": format!("customer-{n}"), "exp": 1_700_000_000}));
        bank.gateway
            .get("/balance")
            .bearer(&token)
            .send()
            .expect_problem(401, "token-expired");
    }
    assert!(bank.stop().is_empty());
}
