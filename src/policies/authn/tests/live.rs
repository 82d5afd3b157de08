//! Verifiers against an issuer on a socket: counts and order, no waiting for time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;

use super::super::Authenticators;
use super::super::copies::KeyCopies;
use super::super::jwks::Timing;
use super::super::memory::Hashed;
use super::super::verifier::{Verifier, Verifiers};
use super::kit::*;
use crate::engine::{Answer, AuthenticatorId};
use crate::io::{Client, StateFolder};

/// No fetch happens for the sake of time, and tokens may cause as many as they like.
fn eager() -> Timing {
    let hour = Duration::from_secs(3600);
    Timing {
        cooldown: Duration::ZERO,
        retry: hour,
        refresh: (hour, hour),
        ..Timing::default()
    }
}

/// Tokens may cause one fetch.
pub(super) fn patient() -> Timing {
    Timing {
        cooldown: Duration::from_secs(3600),
        ..eager()
    }
}

pub(super) fn authenticators(issuers: &[(&str, &str)], more: &str) -> Authenticators {
    let mut yaml = String::new();
    for (name, issuer) in issuers {
        yaml.push_str(&format!(
            "{name}: {{ jwt: {{ issuer: \"{issuer}\", audience: api, algorithms: [EdDSA, ES256], {more} }} }}\n"
        ));
    }
    let (authenticators, findings) = compile(&yaml);
    assert_eq!(findings, Vec::<String>::new());
    authenticators
}

pub(super) fn discovering(issuer: &Issuer, timing: Timing) -> Arc<Verifier> {
    let authenticators = authenticators(&[("main", &issuer.url(""))], "jwks: discover");
    let verifiers = Verifiers::new(&authenticators, None, &Arc::new(Client::new()), timing);
    verifiers.iter().next().unwrap().clone()
}

pub(super) fn token(signer: &Signer, kid: &str, issuer: &str, sub: &str) -> String {
    let issuer = format!("\"{issuer}\"");
    let header = format!(r#"{{"alg":"{:?}","kid":"{kid}"}}"#, signer.algorithm);
    signer.token(header, claims(&[("iss", &issuer), ("sub", &format!("\"{sub}\""))]))
}

/// The subject, or the code.
pub(super) fn said(answer: &Answer) -> String {
    match answer {
        Answer::Principal(principal) => principal.subject.to_string(),
        Answer::Refused(refusal) => refusal.code.into(),
        Answer::Unavailable { code } => (*code).into(),
        Answer::Limit(_) | Answer::Freezes(_) | Answer::Revoked(_) => "no answer about a token".into(),
    }
}

fn remembers(verifier: &Verifier, token: &str, now: Timestamp) -> bool {
    verifier.remembered(Hashed::new(token), now).is_some()
}

#[tokio::test]
async fn first_tokens_wait_for_the_one_first_fetch() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk(r#""kid":"a","#)]).await;
    issuer.hold();
    let verifier = discovering(&issuer, patient());
    let tokens: Vec<String> = (0..50)
        .map(|n| token(&signer, "a", &issuer.url(""), &format!("u{n}")))
        .collect();
    let asking = join_all(tokens.iter().map(|token| verifier.answer(token, noon())));
    let releasing = async {
        issuer.saw(1).await;
        issuer.release();
    };
    let (answers, ()) = futures::join!(asking, releasing);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(said(answer), format!("u{n}"));
    }
    assert_eq!(issuer.asked(), ["/.well-known/openid-configuration", "/keys"]);
    let status = verifier.status();
    assert_eq!(
        (status.keys, status.fetches, status.failures, status.remembered),
        (Some(1), 1, 0, 50)
    );
    assert!(status.age.is_some() && status.failing.is_none());
}

#[tokio::test]
async fn an_issuer_that_was_never_there_is_503_and_may_come_later() {
    let signer = Signer::ed();
    let issuer = Issuer::start().await;
    let verifier = discovering(&issuer, eager());
    let token = token(&signer, "a", &issuer.url(""), "u1");
    assert_eq!(said(&verifier.answer(&token, noon()).await), "keys-unavailable");
    let status = verifier.status();
    assert_eq!((status.keys, status.failures), (None, 1));
    assert_eq!(status.failing.as_deref(), Some("the issuer answered 404"));
    issuer.discoverable(&issuer.url(""), &issuer.url("/keys"));
    issuer.publish(&[signer.jwk(r#""kid":"a","#)]);
    assert_eq!(said(&verifier.answer(&token, noon()).await), "u1");
    assert!(verifier.status().failing.is_none());
}

#[tokio::test]
async fn a_new_key_costs_one_fetch_however_many_wait_for_it() {
    let (old, new) = (Signer::ed(), Signer::ec(Algorithm::ES256));
    let issuer = Issuer::with_keys(&[old.jwk(r#""kid":"a","#)]).await;
    let verifier = discovering(&issuer, eager());
    let url = issuer.url("");
    assert_eq!(
        said(&verifier.answer(&token(&old, "a", &url, "u0"), noon()).await),
        "u0"
    );
    issuer.publish(&[old.jwk(r#""kid":"a","#), new.jwk(r#""kid":"b","#)]);
    issuer.hold();
    let tokens: Vec<String> = (0..200).map(|n| token(&new, "b", &url, &format!("u{n}"))).collect();
    let asking = join_all(tokens.iter().map(|token| verifier.answer(token, noon())));
    let releasing = async {
        issuer.saw(3).await;
        // Known keys are not waiting for unknown ones.
        assert_eq!(
            said(&verifier.answer(&token(&old, "a", &url, "other"), noon()).await),
            "other"
        );
        issuer.release();
    };
    let (answers, ()) = futures::join!(asking, releasing);
    assert!(
        answers
            .iter()
            .enumerate()
            .all(|(n, answer)| said(answer) == format!("u{n}"))
    );
    assert_eq!(issuer.key_requests(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch_in_its_time() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk(r#""kid":"a","#)]).await;
    let verifier = discovering(&issuer, patient());
    let url = issuer.url("");
    assert_eq!(
        said(&verifier.answer(&token(&signer, "a", &url, "u1"), noon()).await),
        "u1"
    );
    let forged: Vec<String> = (0..100)
        .map(|n| token(&Signer::ed(), &format!("x{n}"), &url, "u1"))
        .collect();
    for _ in 0..2 {
        for answer in join_all(forged.iter().map(|token| verifier.answer(token, noon()))).await {
            assert_eq!(said(&answer), "token-key-unknown");
        }
        assert_eq!((issuer.key_requests(), verifier.status().remembered), (2, 1));
    }
}

#[tokio::test]
async fn a_fetch_ahead_of_expiry_delays_none_that_a_token_asks_for() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let issuer = Issuer::with_keys(&[old.jwk(r#""kid":"a","#)]).await;
    let verifier = discovering(&issuer, patient());
    let url = issuer.url("");
    verifier.start();
    issuer.saw(2).await;
    issuer.publish(&[new.jwk(r#""kid":"b","#)]);
    assert_eq!(
        said(&verifier.answer(&token(&new, "b", &url, "u1"), noon()).await),
        "u1"
    );
    assert_eq!(
        said(&verifier.answer(&token(&new, "c", &url, "u1"), noon()).await),
        "token-key-unknown"
    );
    assert_eq!(issuer.key_requests(), 2);
}

#[tokio::test]
async fn a_fetch_that_began_before_the_key_was_published_is_not_the_last_word() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let issuer = Issuer::with_keys(&[old.jwk(r#""kid":"a","#)]).await;
    let verifier = discovering(&issuer, eager());
    let url = issuer.url("");
    assert_eq!(
        said(&verifier.answer(&token(&old, "a", &url, "u0"), noon()).await),
        "u0"
    );
    // A key set that is on its way while the new key appears.
    issuer.hold();
    let forged = token(&new, "x", &url, "u1");
    let (first, ()) = futures::join!(verifier.answer(&forged, noon()), async {
        issuer.saw(3).await;
        issuer.release();
    });
    assert_eq!(said(&first), "token-key-unknown");
    issuer.publish(&[new.jwk(r#""kid":"b","#)]);
    assert_eq!(
        said(&verifier.answer(&token(&new, "b", &url, "u2"), noon()).await),
        "u2"
    );
}

#[tokio::test]
async fn keeps_the_last_good_keys_while_the_issuer_is_away() {
    let (signer, stranger) = (Signer::ed(), Signer::ed());
    let issuer = Issuer::with_keys(&[signer.jwk(r#""kid":"a","#)]).await;
    let verifier = discovering(&issuer, eager());
    let url = issuer.url("");
    assert_eq!(
        said(&verifier.answer(&token(&signer, "a", &url, "u1"), noon()).await),
        "u1"
    );
    issuer.answer("/keys", "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    // Perhaps it is signed by a key that cannot be seen now: that is not the caller's fault.
    assert_eq!(
        said(&verifier.answer(&token(&stranger, "b", &url, "u2"), noon()).await),
        "keys-unavailable"
    );
    let nameless = stranger.token(r#"{"alg":"EdDSA"}"#, claims(&[("iss", &format!("\"{url}\""))]));
    assert_eq!(said(&verifier.answer(&nameless, noon()).await), "token-signature");
    assert_eq!(
        said(&verifier.answer(&token(&signer, "a", &url, "u3"), noon()).await),
        "u3"
    );
    assert_eq!(verifier.status().failing.as_deref(), Some("the issuer answered 500"));
}

#[tokio::test]
async fn a_withdrawn_key_takes_its_remembered_tokens_along() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let both = [old.jwk(r#""kid":"a","#), new.jwk(r#""kid":"b","#)];
    let issuer = Issuer::with_keys(&both).await;
    let verifier = discovering(&issuer, eager());
    let url = issuer.url("");
    let (by_old, by_new) = (token(&old, "a", &url, "u1"), token(&new, "b", &url, "u2"));
    assert_eq!(said(&verifier.answer(&by_old, noon()).await), "u1");
    assert_eq!(said(&verifier.answer(&by_new, noon()).await), "u2");
    issuer.publish(&both[1..]);
    // Makes it look again.
    assert_eq!(
        said(&verifier.answer(&token(&old, "x", &url, "u1"), noon()).await),
        "token-key-unknown"
    );
    assert!(!remembers(&verifier, &by_old, noon()));
    assert!(remembers(&verifier, &by_new, noon()));
    assert_eq!(said(&verifier.answer(&by_old, noon()).await), "token-key-unknown");
}

#[tokio::test]
async fn refreshes_in_the_background_until_dropped() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk(r#""kid":"a","#)]).await;
    issuer.answer("/keys", &ok(&set(&[signer.jwk("")]), "Cache-Control: max-age=0\r\n"));
    let timing = Timing {
        refresh: (Duration::from_millis(1), Duration::from_secs(1)),
        ..patient()
    };
    let client = Arc::new(Client::new());
    let authenticators = authenticators(&[("main", &issuer.url(""))], "jwks: discover");
    let verifiers = Verifiers::new(&authenticators, None, &client, timing);
    verifiers.start();
    issuer.saw(8).await;
    drop(verifiers);
    // The task holds the client; it is gone once nobody else does.
    while Arc::strong_count(&client) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn remembers_a_token_only_within_its_time() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk("")]).await;
    let verifier = discovering(&issuer, patient());
    let url = format!("\"{}\"", issuer.url(""));
    let now = noon().as_second();
    let (from, until) = (now.to_string(), (now + 60).to_string());
    let token = signer.usual(&claims(&[("iss", &url), ("nbf", &from), ("exp", &until)]));
    let at = |seconds: i64| noon() + jiff::SignedDuration::from_secs(seconds);
    assert_eq!(said(&verifier.answer(&token, noon()).await), "u1");
    for (seconds, remembered) in [
        (0, true),
        (-30, true),
        (-31, false),
        (59, true),
        (60, false),
        (1000, false),
    ] {
        assert_eq!(remembers(&verifier, &token, at(seconds)), remembered, "{seconds}");
    }
    // Within the leeway the signature is verified again; beyond it the answer is no.
    assert_eq!(said(&verifier.answer(&token, at(89)).await), "u1");
    assert_eq!(said(&verifier.answer(&token, at(90)).await), "token-expired");
    assert_eq!(said(&verifier.answer(&token, at(-31)).await), "token-not-yet-valid");
    let mut longer = token.clone();
    longer.push('A');
    assert!(!remembers(&verifier, &longer, noon()) && !remembers(&verifier, &token[1..], noon()));
}

#[tokio::test]
async fn the_authenticator_of_the_tokens_issuer_judges() {
    let (one, two) = (Signer::ed(), Signer::ed());
    let first = Issuer::with_keys(&[one.jwk("")]).await;
    let second = Issuer::with_keys(&[two.jwk("")]).await;
    let authenticators = authenticators(
        &[("first", &first.url("")), ("second", &second.url(""))],
        "jwks: discover",
    );
    let verifiers = Verifiers::new(&authenticators, None, &Arc::new(Client::new()), patient());
    let ids = [AuthenticatorId(0), AuthenticatorId(1)];
    let by_two = token(&two, "a", &second.url(""), "u1");
    for _ in 0..2 {
        let Answer::Principal(principal) = verifiers.answer(&ids, &by_two, None, noon()).await else {
            panic!()
        };
        assert_eq!((&*principal.authenticator, &*principal.subject), ("second", "u1"));
    }
    assert_eq!(first.asked(), Vec::<String>::new());
    // Remembered by one authenticator is not good for another.
    assert_eq!(
        said(&verifiers.answer(&ids[..1], &by_two, None, noon()).await),
        "token-issuer"
    );
    assert_eq!(
        said(&verifiers.answer(&[], &by_two, None, noon()).await),
        "token-issuer"
    );
    assert_eq!(
        said(&verifiers.answer(&[AuthenticatorId(9)], &by_two, None, noon()).await),
        "token-issuer"
    );
    let claimed = token(&one, "a", &second.url(""), "u1");
    assert_eq!(
        said(&verifiers.answer(&ids, &claimed, None, noon()).await),
        "token-signature"
    );
    let nobodys = two.usual(&claims(&[("iss", "5")]));
    assert_eq!(
        said(&verifiers.answer(&ids, &nobodys, None, noon()).await),
        "token-claims"
    );
    assert_eq!(
        said(&verifiers.answer(&ids, "a.b.c", None, noon()).await),
        "token-malformed"
    );
}

#[tokio::test]
async fn a_reload_keeps_what_did_not_change() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk("")]).await;
    let client = Arc::new(Client::new());
    let url = issuer.url("");
    let before = Verifiers::new(
        &authenticators(&[("a", &url)], "jwks: discover"),
        None,
        &client,
        patient(),
    );
    let token = token(&signer, "a", &url, "u1");
    assert_eq!(
        said(&before.answer(&[AuthenticatorId(0)], &token, None, noon()).await),
        "u1"
    );
    let same = authenticators(&[("b", "https://other.example"), ("a", &url)], "jwks: discover");
    let after = Verifiers::new(&same, Some(&before), &client, patient());
    assert!(remembers(after.iter().nth(1).unwrap(), &token, noon()));
    assert!(!remembers(after.iter().next().unwrap(), &token, noon()));
    let changed = authenticators(&[("a", &url)], "jwks: discover, leeway: 1s");
    let changed = Verifiers::new(&changed, Some(&after), &client, patient());
    assert!(!remembers(changed.iter().next().unwrap(), &token, noon()));
}

#[tokio::test]
async fn takes_keys_from_a_url_without_discovery() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk("")]).await;
    let more = format!("jwks: \"{}\"", issuer.url("/keys"));
    let authenticators = authenticators(&[("main", "https://id.example")], &more);
    let verifiers = Verifiers::new(&authenticators, None, &Arc::new(Client::new()), patient());
    let token = token(&signer, "a", "https://id.example", "u1");
    assert_eq!(
        said(&verifiers.answer(&[AuthenticatorId(0)], &token, None, noon()).await),
        "u1"
    );
    assert_eq!(issuer.asked(), ["/keys"]);
}

#[tokio::test]
async fn believes_only_the_issuers_own_bounded_documents() {
    let signer = Signer::ed();
    let keys = set(&[signer.jwk("")]);
    let many = set(&vec![signer.jwk(""); 65]);
    let large = format!("{keys}{}", " ".repeat(256 << 10));
    let elsewhere = Issuer::with_keys(&[signer.jwk("")]).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        elsewhere.url("/keys")
    );
    let document = |issuer: &str, uri: &str| ok(&format!(r#"{{"issuer":"{issuer}","jwks_uri":"{uri}"}}"#), "");
    let other = "the discovery document is of another issuer";
    let not_one = "the discovery document is not one";
    let uncallable = "the discovery document names a `jwks_uri` that is not called: https, or http on the loopback of a loopback issuer";
    // Either a discovery document or a key set, `ISSUER` standing for the issuer's own URL.
    let cases: Vec<(bool, String, &str)> = vec![
        (true, document("https://evil.example", "ISSUER/keys"), other),
        (true, document("ISSUER/", "ISSUER/keys"), other),
        (true, ok(r#"{"jwks_uri":"ISSUER/keys"}"#, ""), other),
        (
            true,
            ok(r#"{"issuer":"ISSUER","issuer":"ISSUER","jwks_uri":"ISSUER/keys"}"#, ""),
            not_one,
        ),
        (true, ok(r#"{"issuer":"ISSUER"}"#, ""), not_one),
        (true, ok("<html>", ""), not_one),
        (true, document("ISSUER", "http://192.0.2.1/keys"), uncallable),
        (true, document("ISSUER", "file:///etc/passwd"), uncallable),
        (true, document("ISSUER", "/keys"), uncallable),
        (true, document("ISSUER", "https://a@b.example/keys"), uncallable),
        (
            true,
            document("ISSUER", "https://169.254.169.254/keys"),
            "`169.254.169.254` is a link-local address",
        ),
        (
            true,
            document("ISSUER", "https://[fe80::1]/keys"),
            "`fe80::1` is a link-local address",
        ),
        (true, redirect.clone(), "the issuer answered 302"),
        (false, redirect, "the issuer answered 302"),
        (
            false,
            "HTTP/1.1 204 No Content\r\n\r\n".into(),
            "the issuer answered 204",
        ),
        (false, ok(&large, ""), "the body has more than 262144 bytes"),
        (false, ok(&many, ""), "the key set has more than 64 keys"),
        (false, ok("[]", ""), "not a JSON Web Key Set"),
        (false, ok(r#"{"keys":{}}"#, ""), "not a JSON Web Key Set"),
        (false, ok(&format!("{keys}x"), ""), "not a JSON Web Key Set"),
        (false, ok("", ""), "not a JSON Web Key Set"),
    ];
    for (is_discovery, response, expected) in cases {
        let issuer = Issuer::with_keys(&[signer.jwk("")]).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let body = body.replace("ISSUER", &issuer.url(""));
        let head = match body.is_empty() {
            true => head.to_owned(),
            false => format!("HTTP/1.1 200 OK\r\nContent-Length: {}", body.len()),
        };
        let path = if is_discovery {
            "/.well-known/openid-configuration"
        } else {
            "/keys"
        };
        issuer.answer(path, &format!("{head}\r\n\r\n{body}"));
        let verifier = discovering(&issuer, patient());
        let answer = verifier
            .answer(&token(&signer, "a", &issuer.url(""), "u1"), noon())
            .await;
        assert_eq!(
            (said(&answer).as_str(), verifier.status().failing.as_deref()),
            ("keys-unavailable", Some(expected))
        );
        assert_eq!(issuer.key_requests(), usize::from(!is_discovery), "{response}");
    }
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_set_without_a_key_is_none() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[]).await;
    let verifier = discovering(&issuer, patient());
    let answer = verifier
        .answer(&token(&signer, "a", &issuer.url(""), "u1"), noon())
        .await;
    let status = verifier.status();
    assert_eq!((said(&answer).as_str(), status.keys), ("keys-unavailable", None));
    assert_eq!(
        status.failing.as_deref(),
        Some("the key set holds no key that can be used")
    );
}

#[tokio::test]
async fn an_authenticator_without_its_secret_answers_503() {
    let (all, _) = compile(
        "main: { jwt: { issuer: x, audience: api, algorithms: HS256, secret: \"${env:GWANMUN_TEST_NO_SUCH}\" } }",
    );
    let verifiers = Verifiers::new(&all, None, &Arc::new(Client::new()), patient());
    let token = Signer::secret(Algorithm::HS256, SECRET).usual(&claims(&[("iss", "\"x\"")]));
    assert_eq!(
        said(&verifiers.answer(&[AuthenticatorId(0)], &token, None, noon()).await),
        "keys-unavailable"
    );
}

#[tokio::test]
async fn authenticators_of_one_issuer_fetch_its_keys_once() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk("")]).await;
    let url = issuer.url("");
    let client = Arc::new(Client::new());
    let both = authenticators(&[("a", &url), ("b", &url)], "jwks: discover");
    let verifiers = Verifiers::new(&both, None, &client, patient());
    let token = token(&signer, "a", &url, "u1");
    for id in [AuthenticatorId(0), AuthenticatorId(1)] {
        let Answer::Principal(principal) = verifiers.answer(&[id], &token, None, noon()).await else {
            panic!()
        };
        assert_eq!(&*principal.authenticator, ["a", "b"][usize::from(id.0)]);
    }
    assert_eq!(issuer.key_requests(), 1);
    // A reload that changes how tokens are judged asks for no keys, so that it logs nobody out while the issuer is away.
    issuer.hold();
    let changed = authenticators(&[("a", &url)], "jwks: discover, leeway: 1s");
    let changed = Verifiers::new(&changed, Some(&verifiers), &client, patient());
    drop(verifiers);
    let answer = changed.answer(&[AuthenticatorId(0)], &token, None, noon()).await;
    assert_eq!((said(&answer).as_str(), issuer.key_requests()), ("u1", 1));
}

#[tokio::test]
async fn forgets_those_it_is_told_to() {
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk("")]).await;
    let url = issuer.url("");
    let authenticators = authenticators(&[("main", &url)], "jwks: discover");
    let verifiers = Verifiers::new(&authenticators, None, &Arc::new(Client::new()), patient());
    let (one, two) = (token(&signer, "a", &url, "u1"), token(&signer, "a", &url, "u2"));
    for token in [&one, &two] {
        verifiers.answer(&[AuthenticatorId(0)], token, None, noon()).await;
    }
    verifiers.forget(|principal| &*principal.subject == "u1");
    let verifier = verifiers.iter().next().unwrap();
    assert!(!remembers(verifier, &one, noon()) && remembers(verifier, &two, noon()));
    assert_eq!(verifier.status().remembered, 1);
}

const AWAY: &str = "HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn starts_on_copied_keys_where_the_issuer_is_away() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let issuer = Issuer::with_keys(&[old.jwk(r#""kid":"a","#)]).await;
    let url = issuer.url("");
    let authenticators = authenticators(&[("main", &url)], "jwks: discover");
    let folder = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(&folder.path().join("state")).unwrap();
    let copies = Arc::new(KeyCopies::open(Some(Arc::new(folder))).unwrap());
    let client = Arc::new(Client::new());
    let start = || Verifiers::with_copies(&authenticators, None, &client, patient(), &copies);
    let ask = async |verifiers: &Verifiers, token: &str| {
        said(&verifiers.answer(&[AuthenticatorId(0)], token, None, noon()).await)
    };
    let by_old = token(&old, "a", &url, "u1");
    assert_eq!(ask(&start(), &by_old).await, "u1");
    // Nobody waits for the disk.
    while copies.find(&url, "discover").is_none() {
        tokio::task::yield_now().await;
    }
    issuer.answer("/keys", AWAY);
    let again = start();
    assert_eq!(ask(&again, &by_old).await, "u1");
    assert_eq!(ask(&again, &token(&new, "b", &url, "u2")).await, "keys-unavailable");
    let status = again.iter().next().unwrap().status();
    assert_eq!(status.failing.as_deref(), Some("the issuer answered 503"));
    assert!(status.keys == Some(1) && status.age.is_some(), "{status:?}");
    // Without the copy nobody can say.
    let without = Verifiers::new(&authenticators, None, &client, patient());
    assert_eq!(ask(&without, &by_old).await, "keys-unavailable");
    // What was withdrawn meanwhile is not believed for the sake of an old copy.
    issuer.publish(&[new.jwk(r#""kid":"b","#)]);
    let fresh = start();
    assert_eq!(ask(&fresh, &by_old).await, "token-key-unknown");
    assert_eq!(ask(&fresh, &token(&new, "b", &url, "u2")).await, "u2");
}
