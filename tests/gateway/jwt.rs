//! Which tokens are believed, and what happens when their issuer changes its keys, errs or goes away.

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Key, Reply, Request, Upstream, eventually, fill, refused_start};

const WHO: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  who:
    match: GET /who
    auth: customer
    forward: { x-user: principal.sub }
    upstream: origin
";

/// An upstream that answers who it was told calls.
fn echo() -> Upstream {
    Upstream::http1(|seen| Reply::text(seen.header("x-user").unwrap_or_default()))
}

fn yaml(upstream: &Upstream, authenticators: &str) -> String {
    fill(
        WHO,
        &[("upstream", &upstream.address()), ("authenticators", &authenticators)],
    )
}

fn ask(gateway: &Gateway, token: &str) -> Request {
    gateway.get("/who").bearer(token)
}

#[test]
fn believes_each_algorithm_it_is_told_to() {
    for key in [Key::es256("k"), Key::eddsa("k"), Key::rs256("k"), Key::ps256("k")] {
        let (upstream, issuer) = (echo(), Issuer::signing_with(key));
        let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
        let algorithm = issuer.key().algorithm();
        let response = ask(&gateway, &issuer.token(&json!({"sub": algorithm}))).send();
        assert_eq!(response.expect(200).text(), algorithm);
    }
}

#[test]
fn believes_a_shared_secret() {
    let secret = "correct horse battery staple and more";
    let (upstream, issuer) = (echo(), Issuer::new());
    let authenticators = format!(
        "authenticators:
  customer:
    jwt:
      issuer: {}
      audience: [mobile-bank]
      algorithms: [HS256]
      secret: '${{env:GATE_TEST_SECRET}}'
",
        issuer.url()
    );
    let gateway = Gateway::with(&yaml(&upstream, &authenticators))
        .environment("GATE_TEST_SECRET", secret)
        .start();
    let signed = |secret: &str| issuer.token_by(&Key::hs256("k", secret.as_bytes()), &json!({}), &json!({}));
    ask(&gateway, &signed(secret)).send().expect(200);
    ask(&gateway, &signed("another secret of the same length...."))
        .send()
        .expect_problem(401, "token-signature");
    ask(&gateway, &issuer.token(&json!({})))
        .send()
        .expect_problem(401, "token-algorithm");
    assert!(!gateway.log().contains(secret));
    assert_eq!(issuer.key_fetches(), 0);
}

#[test]
fn takes_keys_from_an_address_or_a_file() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let with = |jwks: &str| yaml(&upstream, &issuer.authenticator().replace("discover", jwks));
    let gateway = Gateway::start(&with(&format!("{}/jwks", issuer.url())));
    ask(&gateway, &issuer.token(&json!({}))).send().expect(200);
    assert!(issuer.key_fetches() >= 1);

    let fetched = issuer.key_fetches();
    let keys = json!({"keys": [issuer.key().jwk()]}).to_string();
    let gateway = Gateway::with(&with("keys.json")).file("keys.json", &keys).start();
    ask(&gateway, &issuer.token(&json!({}))).send().expect(200);
    assert_eq!(issuer.key_fetches(), fetched);
}

#[test]
fn follows_the_issuer_to_new_keys() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    ask(&gateway, &issuer.token(&json!({}))).send().expect(200);

    let new = Key::es256("key-2");
    let token = issuer.token_by(&new, &json!({}), &json!({"sub": "later"}));
    ask(&gateway, &token).send().expect_problem(401, "token-key-unknown");
    issuer.publish(vec![new.jwk()]);
    // The fetch that the first attempt caused may forbid another for some seconds, not for ever.
    eventually("the new key is known", || {
        (ask(&gateway, &token).send().status == 200).then_some(())
    });
}

#[test]
fn fetches_keys_once_for_a_flood_of_unknown_ids() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    ask(&gateway, &issuer.token(&json!({}))).send().expect(200);
    let before = issuer.key_fetches();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, issuer) = (&gateway, &issuer);
            scope.spawn(move || {
                for n in 0..10 {
                    let token = issuer.token_with(&json!({"kid": format!("{worker}-{n}")}), &json!({}));
                    ask(gateway, &token).send().expect_problem(401, "token-key-unknown");
                }
            });
        }
    });
    let fetches = issuer.key_fetches() - before;
    // One per ten seconds; forty at once would be one per token.
    assert!(fetches <= 8, "{fetches} fetches");
}

#[test]
fn keeps_the_last_good_keys_when_the_issuer_is_away() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    ask(&gateway, &issuer.token(&json!({"sub": "before"})))
        .send()
        .expect(200);
    issuer.go_away();
    // An unknown key makes it ask again, in vain.
    let fetched = issuer.key_fetches();
    let stranger = Key::es256("stranger");
    eventually("it has asked again", || {
        let token = issuer.token_by(&stranger, &json!({}), &json!({}));
        // It may be a good one by a key that nobody can fetch now: an outage logs nobody out.
        ask(&gateway, &token).send().expect_problem(503, "keys-unavailable");
        (issuer.key_fetches() > fetched || asked_for_discovery(&issuer, 2)).then_some(())
    });
    ask(&gateway, &issuer.token(&json!({"sub": "after"})))
        .send()
        .expect(200);
}

fn asked_for_discovery(issuer: &Issuer, times: usize) -> bool {
    issuer.fetches("/.well-known/openid-configuration") >= times
}

#[test]
fn says_that_it_cannot_judge_while_it_has_no_keys() {
    let (upstream, issuer) = (echo(), Issuer::new());
    issuer.go_away();
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    let token = issuer.token(&json!({}));
    ask(&gateway, &token).send().expect_problem(503, "keys-unavailable");
    gateway.get("/who").send().expect_problem(401, "token-missing");
    issuer.come_back();
    eventually("the keys are there", || {
        (ask(&gateway, &token).send().status == 200).then_some(())
    });
    assert_eq!(upstream.seen()[0].header("x-user"), Some("u1"));
}

#[test]
fn does_not_believe_a_discovery_document_of_another_issuer() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let (url, keys) = (issuer.url(), json!({"keys": [issuer.key().jwk()]}));
    issuer.answer_with(move |seen| match seen.path() {
        "/jwks" => Reply::json(&keys),
        _ => Reply::json(&json!({"issuer": format!("{url}/other"), "jwks_uri": format!("{url}/jwks")})),
    });
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    ask(&gateway, &issuer.token(&json!({})))
        .send()
        .expect_problem(503, "keys-unavailable");
    assert_eq!(issuer.key_fetches(), 0);
}

#[test]
fn does_not_follow_a_redirect_to_keys() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let other = Issuer::new();
    let elsewhere = format!("{}/jwks", other.url());
    issuer.answer_with(move |_| Reply::status(302).header("location", &elsewhere));
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    ask(&gateway, &issuer.token(&json!({})))
        .send()
        .expect_problem(503, "keys-unavailable");
    assert_eq!(other.key_fetches(), 0);
}

#[test]
fn skips_keys_it_cannot_use() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let mut encrypting = issuer.key().jwk();
    encrypting["use"] = json!("enc");
    encrypting["kid"] = json!("encrypting");
    issuer.publish(vec![
        json!("not an object"),
        json!({"kty": "XYZ", "kid": "odd"}),
        json!({"kty": "EC", "crv": "P-256", "kid": "broken", "x": "AA", "y": "AA"}),
        json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}),
        encrypting,
        issuer.key().jwk(),
    ]);
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    ask(&gateway, &issuer.token(&json!({}))).send().expect(200);
    for kid in ["odd", "broken", "shared", "encrypting"] {
        let token = issuer.token_with(&json!({"kid": kid}), &json!({}));
        ask(&gateway, &token).send().expect_problem(401, "token-key-unknown");
    }
}

#[test]
fn never_fetches_a_key_from_where_a_token_says() {
    let (upstream, issuer, evil) = (echo(), Issuer::new(), Issuer::new());
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    let header = json!({"jku": format!("{}/jwks", evil.url()), "x5u": format!("{}/x", evil.url()), "kid": "evil"});
    let token = issuer.token_by(evil.key(), &header, &json!({}));
    ask(&gateway, &token).send().expect_problem(401, "token-key-unknown");
    assert_eq!((evil.key_fetches(), evil.fetches("/x")), (0, 0));
}

#[test]
fn believes_a_token_to_its_end_and_half_a_minute_longer() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let gateway = Gateway::with(&yaml(&upstream, &issuer.authenticator()))
        .rehearse_at("2026-11-24T12:00:00Z")
        .start();
    // 2026-11-24T12:00:00Z
    let token = issuer.token(&json!({"exp": 1_795_521_600}));
    let at = |instant: &str| ask(&gateway, &token).at(instant).send();
    at("2026-11-24T11:59:59Z").expect(200);
    at("2026-11-24T12:00:29Z").expect(200);
    // Remembered as it is by now, it ends all the same.
    at("2026-11-24T12:00:31Z").expect_problem(401, "token-expired");
    at("2026-11-24T13:00:00Z").expect_problem(401, "token-expired");

    let token = issuer.token(&json!({"nbf": 1_795_521_600}));
    let at = |instant: &str| ask(&gateway, &token).at(instant).send();
    at("2026-11-24T11:59:29Z").expect_problem(401, "token-not-yet-valid");
    at("2026-11-24T11:59:31Z").expect(200);
}

#[test]
fn serves_a_hot_token_without_asking_the_issuer_again() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    let token = issuer.token(&json!({}));
    ask(&gateway, &token).send().expect(200);
    let fetched = issuer.key_fetches();
    for _ in 0..100 {
        assert_eq!(ask(&gateway, &token).send().expect(200).text(), "u1");
    }
    assert_eq!(issuer.key_fetches(), fetched);
    // One changed character, and the memory knows nothing of it.
    let mut other = token.clone();
    let last = other.pop();
    other.push(if last == Some('A') { 'B' } else { 'A' });
    assert_eq!(ask(&gateway, &other).send().status, 401);
}

#[test]
fn takes_no_login_token_for_an_access_token() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let authenticators = issuer.authenticator().replace("      typ: at+jwt\n", "");
    let gateway = Gateway::start(&yaml(&upstream, &authenticators));
    let plain = |claims: Value| ask(&gateway, &issuer.token_with(&json!({"typ": "JWT"}), &claims)).send();
    plain(json!({})).expect(200);
    plain(json!({"nonce": "n"})).expect_problem(401, "token-type");
    plain(json!({"at_hash": "h"})).expect_problem(401, "token-type");
}

#[test]
fn reads_the_scheme_and_audiences_as_the_standards_say() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    let token = issuer.token(&json!({"aud": ["elsewhere", "mobile-bank"]}));
    gateway
        .get("/who")
        .header("Authorization", &format!("bearer {token}"))
        .send()
        .expect(200);
    let token = issuer.token_with(&json!({"typ": "application/at+jwt"}), &json!({"aud": "mobile-bank"}));
    ask(&gateway, &token).send().expect(200);
}

#[test]
fn lets_no_caller_spell_a_header_of_the_gate() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let gateway = Gateway::start(&yaml(&upstream, &issuer.authenticator()));
    let mut request = ask(&gateway, &issuer.token(&json!({"sub": "u7"})));
    for name in [
        "x-user",
        "X_User",
        "x_user",
        "X_Forwarded_For",
        "x-real-ip",
        "gwanmun-at",
        "upgrade",
    ] {
        request = request.header(name, "forged");
    }
    request.send().expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-user"), Some("u7"));
    for name in ["x_user", "x_forwarded_for", "x-real-ip", "gwanmun-at", "upgrade"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[test]
fn shows_how_its_keys_are() {
    let (upstream, issuer) = (echo(), Issuer::new());
    issuer.go_away();
    let yaml = yaml(&upstream, &issuer.authenticator());
    let gateway = Gateway::start(&yaml);
    let customer = [("authenticator", "customer")];
    let shown = |name: &str| gateway.metrics().value(name, &customer);
    eventually("the first fetch has failed", || {
        shown("gwanmun_jwks_fetch_failures_total").filter(|failures| *failures >= 1.0)
    });
    assert_eq!(
        (shown("gwanmun_jwks_keys"), shown("gwanmun_jwks_age_seconds")),
        (Some(0.0), None)
    );
    let response = gateway.admin("GET", "/readyz").send();
    assert_eq!(response.status, 503);
    assert_eq!(
        response.text(),
        "authenticator customer: no keys: the issuer answered 503\n"
    );
    issuer.come_back();
    eventually("the keys are there", || {
        (gateway.admin("GET", "/readyz").send().status == 200).then_some(())
    });
    ask(&gateway, &issuer.token(&json!({}))).send().expect(200);
    assert_eq!(
        (shown("gwanmun_jwks_keys"), shown("gwanmun_tokens_remembered")),
        (Some(1.0), Some(1.0))
    );
    assert!(shown("gwanmun_jwks_age_seconds").is_some_and(|age| (0.0..3600.0).contains(&age)));
    assert!(shown("gwanmun_jwks_fetches_total") >= Some(2.0));
    // What is gone from the file is gone from the metrics, and a file is not fetched.
    let keys = json!({"keys": [issuer.key().jwk()]}).to_string();
    let renamed = yaml.replace("customer", "client").replace("discover", "'$KEYS'");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.json"), keys).unwrap();
    let renamed = renamed.replace("$KEYS", folder.path().join("keys.json").to_str().unwrap());
    assert!(gateway.reload(&renamed));
    assert_eq!(shown("gwanmun_jwks_keys"), None);
    let metrics = gateway.metrics();
    let client = [("authenticator", "client")];
    assert_eq!(metrics.value("gwanmun_jwks_keys", &client), Some(1.0));
    assert_eq!(metrics.value("gwanmun_jwks_fetches_total", &client), None);
}

#[test]
fn follows_a_key_file_without_a_restart() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let new = Key::es256("key-2");
    let file = |keys: &[&Key]| json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string();
    let yaml = yaml(&upstream, &issuer.authenticator().replace("discover", "keys.json"));
    let gateway = Gateway::with(&yaml).file("keys.json", &file(&[issuer.key()])).start();
    let (by_old, by_new) = (issuer.token(&json!({})), issuer.token_by(&new, &json!({}), &json!({})));
    ask(&gateway, &by_old).send().expect(200);
    ask(&gateway, &by_new).send().expect_problem(401, "token-key-unknown");
    assert!(gateway.reload_beside("keys.json", &file(&[issuer.key(), &new])));
    ask(&gateway, &by_old).send().expect(200);
    ask(&gateway, &by_new).send().expect(200);
    // Withdrawn, also for a token that was remembered.
    assert!(gateway.reload_beside("keys.json", &file(&[&new])));
    ask(&gateway, &by_old).send().expect_problem(401, "token-key-unknown");
    // A file that holds no key, or is none, changes nothing.
    assert!(!gateway.reload_beside("keys.json", "{\"keys\":[]}"));
    assert!(!gateway.reload_beside("keys.json", "not JSON"));
    ask(&gateway, &by_new).send().expect(200);
}

#[test]
fn starts_on_copied_keys_while_the_issuer_is_away() {
    let (upstream, issuer) = (echo(), Issuer::new());
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let yaml = format!(
        "state: {}\n{}",
        state.display(),
        yaml(&upstream, &issuer.authenticator())
    );
    let token = issuer.token(&json!({}));
    let gateway = Gateway::start(&yaml);
    ask(&gateway, &token).send().expect(200);
    eventually("the copy is on disk", || state.join("keys.json").exists().then_some(()));
    drop(gateway);

    issuer.go_away();
    let gateway = Gateway::start(&yaml);
    ask(&gateway, &token).send().expect(200);
    ask(&gateway, &issuer.token_by(&Key::es256("new"), &json!({}), &json!({})))
        .send()
        .expect_problem(503, "keys-unavailable");
    assert_eq!(gateway.admin("GET", "/readyz").send().status, 200);
    let shown = |name: &str| gateway.metrics().value(name, &[("authenticator", "customer")]);
    assert_eq!(shown("gwanmun_jwks_keys"), Some(1.0));
    assert!(shown("gwanmun_jwks_age_seconds").is_some() && shown("gwanmun_jwks_fetch_failures_total") >= Some(1.0));
    drop(gateway);

    // Without the copy it cannot be said whose the token is, which is not the caller's fault.
    std::fs::remove_file(state.join("keys.json")).unwrap();
    let gateway = Gateway::start(&yaml);
    ask(&gateway, &token).send().expect_problem(503, "keys-unavailable");
    let response = gateway.admin("GET", "/readyz").send();
    assert_eq!(response.status, 503);
    assert!(response.text().contains("customer: no keys: the issuer answered 503"));
    drop(gateway);

    std::fs::write(state.join("keys.json"), "{}").unwrap();
    let output = refused_start(&format!("listen: [{{ address: 127.0.0.1:0 }}]\n{yaml}"), &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("keys.json` does not hold copies of keys"),
        "{said}"
    );
}
