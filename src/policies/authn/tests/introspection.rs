//! Introspection against an endpoint on a socket: counts and order, no waiting for time.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jsonwebtoken::Algorithm;

use super::super::{Introspector, Timing, Verifiers};
use super::kit::*;
use super::live::said;
use crate::engine::AuthenticatorId;
use crate::io::Client;

const JSON: &str = "Content-Type: application/json\r\n";
const PATH: &str = "/introspect";
const ID: &[AuthenticatorId] = &[AuthenticatorId(0)];

/// `introspection:` with a secret that is there, and further keys.
fn yaml(issuer: &Issuer, more: &str) -> (String, tempfile::NamedTempFile) {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"a secret of the tests").unwrap();
    let file = secret.path().display();
    let endpoint = issuer.url(PATH);
    let introspection =
        format!("endpoint: \"{endpoint}\", client_id: gate, client_secret: \"${{file:{file}}}\", timeout: 30s, {more}");
    (format!("main: {{ introspection: {{ {introspection} }} }}\n"), secret)
}

fn verifiers(issuer: &Issuer, more: &str) -> Verifiers {
    let (yaml, _secret) = yaml(issuer, more);
    let (all, findings) = compile(&yaml);
    assert_eq!(findings, Vec::<String>::new());
    Verifiers::new(&all, None, &Arc::new(Client::new()), Timing::default())
}

fn introspector(verifiers: &Verifiers) -> Arc<Introspector> {
    verifiers.introspectors().next().unwrap().clone()
}

fn active(sub: &str) -> String {
    ok(&format!(r#"{{"active":true,"sub":"{sub}"}}"#), JSON)
}

#[tokio::test]
async fn a_token_is_asked_about_once_however_many_bring_it() {
    let issuer = Issuer::start().await;
    issuer.answer(PATH, &active("u1"));
    issuer.hold();
    let verifiers = verifiers(&issuer, "");
    let asking = join_all((0..100).map(|_| verifiers.answer(ID, "opaque", None, noon())));
    let releasing = async {
        issuer.saw(1).await;
        issuer.release();
    };
    let (answers, ()) = futures::join!(asking, releasing);
    assert!(answers.iter().all(|answer| said(answer) == "u1"));
    assert_eq!(said(&verifiers.answer(ID, "opaque", None, noon()).await), "u1");
    assert_eq!(issuer.asked(), [PATH]);
    let status = introspector(&verifiers).status();
    assert_eq!((status.asked, status.failures, status.remembered), (1, 0, 1));
    assert!(status.age.is_some() && status.failing.is_none());
    // Another token is another question, also one that begins the same.
    assert_eq!(said(&verifiers.answer(ID, "opaque2", None, noon()).await), "u1");
    assert_eq!(issuer.asked().len(), 2);
}

#[tokio::test]
async fn whoever_asked_first_may_go_away() {
    let issuer = Issuer::start().await;
    issuer.answer(PATH, &active("u1"));
    issuer.hold();
    let verifiers = verifiers(&issuer, "");
    {
        let first = verifiers.answer(ID, "opaque", None, noon());
        let saw = issuer.saw(1);
        futures::pin_mut!(first, saw);
        futures::future::select(first, saw).await;
    }
    let second = verifiers.answer(ID, "opaque", None, noon());
    let releasing = async { issuer.release() };
    let (answer, ()) = futures::join!(second, releasing);
    assert_eq!(said(&answer), "u1");
    assert_eq!(issuer.asked().len(), 1);
}

#[tokio::test]
async fn what_is_remembered_ends() {
    let issuer = Issuer::start().await;
    issuer.answer(PATH, &ok(r#"{"active":false}"#, JSON));
    let verifiers = verifiers(&issuer, "cache: { active: 1h, inactive: 1m }");
    let ask = async || said(&verifiers.answer(ID, "opaque", None, noon()).await);
    assert_eq!(
        (ask().await, ask().await),
        ("token-inactive".into(), "token-inactive".into())
    );
    assert_eq!(issuer.asked().len(), 1);
    issuer.answer(PATH, &active("u1"));
    forward(60).await;
    assert_eq!((ask().await, ask().await), ("u1".into(), "u1".into()));
    assert_eq!(issuer.asked().len(), 2);
    issuer.answer(PATH, &ok(r#"{"active":false}"#, JSON));
    forward(1800).await;
    assert_eq!(ask().await, "u1");
    forward(1800).await;
    assert_eq!(ask().await, "token-inactive");
    assert_eq!(issuer.asked().len(), 3);
}

/// Moves the clock that answers age by.
async fn forward(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn nothing_is_remembered_beyond_the_end_of_the_token() {
    let issuer = Issuer::start().await;
    let end = noon().as_second() + 10;
    issuer.answer(PATH, &ok(&format!(r#"{{"active":true,"sub":"u1","exp":{end}}}"#), JSON));
    let verifiers = verifiers(&issuer, "cache: { active: 1h }");
    let ask = async |seconds: i64| {
        let at = jiff::Timestamp::from_second(noon().as_second() + seconds).unwrap();
        said(&verifiers.answer(ID, "opaque", None, at).await)
    };
    assert_eq!((ask(0).await, ask(9).await), ("u1".into(), "u1".into()));
    assert_eq!(issuer.asked().len(), 1);
    // Its issuer, whose clock counts, still says so.
    assert_eq!(ask(10).await, "u1");
    assert_eq!(issuer.asked().len(), 2);
    assert_eq!(ask(40).await, "token-expired");
    // Time may go back on a rehearsed clock.
    assert_eq!(ask(0).await, "u1");
}

#[tokio::test]
async fn a_failure_is_no_answer_and_is_not_remembered() {
    let issuer = Issuer::start().await;
    let verifiers = verifiers(&issuer, "");
    let token = "opaque";
    let huge = format!(r#"{{"active":true,"sub":"u1","x":"{}"}}"#, "x".repeat(64 << 10));
    let elsewhere = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        issuer.url("/good")
    );
    issuer.answer("/good", &active("u1"));
    let body = r#"{"active":true,"sub":"u1"}"#;
    let cases = [
        (
            "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "the endpoint answered 500",
        ),
        (active("u1").replace("200 OK", "401 No"), "the endpoint answered 401"),
        (active("u1").replace("200 OK", "201 Made"), "the endpoint answered 201"),
        (elsewhere, "the endpoint answered 302"),
        (ok(&huge, JSON), "the body has more than 65536 bytes"),
        (
            ok("garbage", JSON),
            "the answer is not a JSON object whose members are unique",
        ),
        (
            ok(r#"{"active":"true","sub":"u1"}"#, JSON),
            "the answer does not say whether the token is `active`, true or false",
        ),
        (ok(body, ""), "the answer is not `application/json`"),
        (
            ok(body, "Content-Type: text/html\r\n"),
            "the answer is not `application/json`",
        ),
        (
            ok(body, "Content-Type: application/token-introspection+jwt\r\n"),
            "the answer is not `application/json`",
        ),
    ];
    for (at, (response, failing)) in cases.iter().enumerate() {
        issuer.answer(PATH, response);
        assert_eq!(
            said(&verifiers.answer(ID, token, None, noon()).await),
            "introspection-unavailable",
            "{failing}"
        );
        let status = introspector(&verifiers).status();
        assert_eq!(status.failing.as_deref(), Some(*failing));
        assert_eq!((status.failures, status.remembered), (at as u64 + 1, 0));
    }
    issuer.answer(PATH, &ok(body, "Content-Type: Application/JSON; charset=utf-8\r\n"));
    assert_eq!(said(&verifiers.answer(ID, token, None, noon()).await), "u1");
    assert!(introspector(&verifiers).status().failing.is_none());
    assert!(!issuer.asked().contains(&"/good".to_owned()));
    // Whoever is known goes on while the endpoint is away.
    issuer.answer(PATH, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(said(&verifiers.answer(ID, token, None, noon()).await), "u1");
}

#[tokio::test]
async fn an_endpoint_that_is_slow_or_away_is_no_answer() {
    let issuer = Issuer::start().await;
    issuer.hold();
    let slow = verifiers(&issuer, "").introspectors().count();
    assert_eq!(slow, 1);
    let (yaml, _secret) = yaml(&issuer, "");
    let (all, _) = compile(&yaml.replace("timeout: 30s", "timeout: 50ms"));
    let verifiers = Verifiers::new(&all, None, &Arc::new(Client::new()), Timing::default());
    assert_eq!(
        said(&verifiers.answer(ID, "opaque", None, noon()).await),
        "introspection-unavailable"
    );
    let away = compile("main: { introspection: { endpoint: 'http://127.0.0.1:1/i', client_id: a, client_secret: '${env:GWANMUN_TEST_NO_SUCH}' } }").0;
    let away = Verifiers::new(&away, None, &Arc::new(Client::new()), Timing::default());
    assert_eq!(
        said(&away.answer(ID, "opaque", None, noon()).await),
        "introspection-unavailable"
    );
    let status = introspector(&away).status();
    assert_eq!(
        (status.asked, status.failing.as_deref()),
        (0, Some("its secret is missing"))
    );
}

#[tokio::test]
async fn finds_the_endpoint_out() {
    let issuer = Issuer::start().await;
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"s").unwrap();
    let (url, file) = (issuer.url(""), secret.path().display());
    let yaml = format!(
        "main: {{ introspection: {{ issuer: \"{url}\", client_id: gate, client_secret: \"${{file:{file}}}\", timeout: 30s }} }}"
    );
    let (all, findings) = compile(&yaml);
    assert_eq!(findings, Vec::<String>::new());
    let verifiers = Verifiers::new(&all, None, &Arc::new(Client::new()), Timing::default());
    let ask = async |token: &str| said(&verifiers.answer(ID, token, None, noon()).await);
    let document = "/.well-known/openid-configuration";
    // Many wait for one answer, and for a moment after a failure nobody asks again.
    let tokens: Vec<String> = (0..50).map(|at| format!("a{at}")).collect();
    for said in join_all(tokens.iter().map(|token| ask(token))).await {
        assert_eq!(said, "introspection-unavailable");
    }
    let asked = issuer.asked();
    assert!(
        (1..=10).contains(&asked.len()) && asked.iter().all(|path| path == document),
        "{asked:?}"
    );
    forward(2).await;
    let told = |endpoint: &str, issuer: &str| {
        ok(
            &format!(r#"{{"issuer":"{issuer}","introspection_endpoint":"{endpoint}"}}"#),
            "",
        )
    };
    for wrong in [
        told(&issuer.url(PATH), "https://other.example"),
        told("http://192.0.2.1/introspect", &url),
        told("file:///etc/passwd", &url),
        ok(&format!(r#"{{"issuer":"{url}"}}"#), ""),
    ] {
        issuer.answer(document, &wrong);
        assert_eq!(ask("a").await, "introspection-unavailable");
        forward(2).await;
    }
    issuer.answer(PATH, &active("u1"));
    issuer.answer(document, &told(&issuer.url(PATH), &url));
    let before = issuer.asked().len();
    assert_eq!((ask("a").await, ask("b").await), ("u1".into(), "u1".into()));
    assert_eq!(issuer.asked()[before..], [document, PATH, PATH]);
    // What was found out stands while the issuer is away.
    issuer.answer(document, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    forward(3601).await;
    assert_eq!(ask("c").await, "u1");
}

#[tokio::test]
async fn a_revoked_caller_is_forgotten_and_a_reload_forgets_nobody() {
    let issuer = Issuer::start().await;
    let (yaml, _secret) = yaml(&issuer, "");
    let (all, _) = compile(&yaml);
    let client = Arc::new(Client::new());
    let before = Verifiers::new(&all, None, &client, Timing::default());
    for sub in ["u1", "u2"] {
        issuer.answer(PATH, &active(sub));
        assert_eq!(said(&before.answer(ID, &format!("of-{sub}"), None, noon()).await), sub);
    }
    let (same, _) = compile(&yaml);
    let after = Verifiers::new(&same, Some(&before), &client, Timing::default());
    after.forget(|principal| &*principal.subject == "u1");
    assert_eq!(introspector(&after).status().remembered, 1);
    issuer.answer(PATH, &ok(r#"{"active":false}"#, JSON));
    assert_eq!(said(&after.answer(ID, "of-u2", None, noon()).await), "u2");
    assert_eq!(said(&after.answer(ID, "of-u1", None, noon()).await), "token-inactive");
    // Other settings may judge otherwise.
    let (other, _) = compile(&yaml.replace("timeout", "audience: x, timeout"));
    let other = Verifiers::new(&other, Some(&after), &client, Timing::default());
    assert_eq!(said(&other.answer(ID, "of-u2", None, noon()).await), "token-inactive");
}

#[tokio::test]
async fn only_tokens_that_no_other_takes_are_asked_about() {
    let (signer, issuer) = (Signer::ec(Algorithm::ES256), Issuer::start().await);
    issuer.discoverable(&issuer.url(""), &issuer.url("/keys"));
    issuer.publish(&[signer.jwk(r#""kid":"a","#)]);
    issuer.answer(PATH, &active("asked"));
    let (asked, _secret) = yaml(&issuer, "");
    let url = issuer.url("");
    let jwt = format!("own: {{ jwt: {{ issuer: \"{url}\", audience: api, algorithms: ES256, jwks: discover }} }}\n");
    let (all, findings) = compile(&format!("{asked}{jwt}"));
    assert_eq!(findings, Vec::<String>::new());
    let verifiers = Verifiers::new(&all, None, &Arc::new(Client::new()), Timing::default());
    let count = || issuer.asked().iter().filter(|path| *path == PATH).count();
    let own = super::live::token(&signer, "a", &url, "u1");
    let forged = super::live::token(&Signer::ec(Algorithm::ES256), "a", &url, "u1");
    for order in [
        [AuthenticatorId(0), AuthenticatorId(1)],
        [AuthenticatorId(1), AuthenticatorId(0)],
    ] {
        assert_eq!(said(&verifiers.answer(&order, &own, None, noon()).await), "u1");
        assert_eq!(
            said(&verifiers.answer(&order, &forged, None, noon()).await),
            "token-signature"
        );
        assert_eq!(count(), 0);
    }
    let both = [AuthenticatorId(1), AuthenticatorId(0)];
    for (at, token) in [
        super::live::token(&signer, "a", "https://other.example", "u1"),
        "opaque".to_owned(),
        "two.parts".to_owned(),
        format!("{own}x."),
        signer.token("{\"alg\":\"ES256\"}", "{\"sub\":\"u1\"}"),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(
            said(&verifiers.answer(&both, token, None, noon()).await),
            "asked",
            "{token}"
        );
        assert_eq!(count(), at + 1);
    }
    // What is too large for a token is nobody's.
    let large = "x".repeat(16 << 10);
    assert_eq!(said(&verifiers.answer(&both, &large, None, noon()).await), "asked");
    let large = format!("{large}x");
    assert_eq!(
        said(&verifiers.answer(&both, &large, None, noon()).await),
        "token-malformed"
    );
    assert_eq!(count(), 6);
    // Where nobody asks, they are refused as they were.
    assert_eq!(
        said(&verifiers.answer(&both[..1], "opaque", None, noon()).await),
        "token-malformed"
    );
}
