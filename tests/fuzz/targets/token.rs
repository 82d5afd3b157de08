#![no_main]
//! From the header line to who calls: whoever is believed was vouched for, whatever was sent.
//!
//! An input is either lines to send as they are (`A` an Authorization, `C` a Cookie, `Q` a query, a colon and the rest), or
//! `E` or `H` and a header and a payload, a line each, to be signed with the key or the secret that the gate believes.

use std::future::Future;
use std::sync::{Arc, LazyLock, Once};
use std::task::{Context, Poll, Waker};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gwanmun::conf::Load;
use gwanmun::engine::{Answer, Answers, Effect, Headers, Lookup, Principal, Question, RequestView};
use gwanmun::io::Client;
use gwanmun::policies::authn::{Timing, Verifiers};
use gwanmun::snapshot::{Judged, Occasion, Snapshot, compile, judge};
use http::{HeaderName, Method, header};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;

const NOW: Timestamp = Timestamp::constant(1_795_500_000, 0);
const ISSUERS: [&str; 2] = ["https://key.example", "https://secret.example"];
const SECRET: &[u8] = b"a secret of the fuzzer, known to all";

struct Gate {
    snapshot: Snapshot,
    verifiers: Verifiers,
    key: Ed25519KeyPair,
}

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
    let folder = std::env::temp_dir().join(format!("gwanmun-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}}]}}"#);
    std::fs::write(folder.join("keys.json"), set).expect("a key set");
    std::fs::write(folder.join("secret"), SECRET).expect("a secret");
    let from = "from: { header: authorization, cookie: token, query: access_token }";
    let yaml = format!(
        r#"
listen: [{{ address: 127.0.0.1:0 }}]
authenticators:
  key: {{ jwt: {{ issuer: "{}", audience: api, algorithms: EdDSA, jwks: "{folder}/keys.json", {from} }} }}
  secret: {{ jwt: {{ issuer: "{}", audience: api, algorithms: [HS256], secret: "${{file:{folder}/secret}}", roles: a.b, {from} }} }}
routes:
  closed: {{ match: GET /closed, auth: [key, secret], reply: {{ status: 200 }} }}
  open: {{ match: GET /open, auth: [secret, key, none], reply: {{ status: 200 }} }}
"#,
        ISSUERS[0],
        ISSUERS[1],
        folder = folder.display()
    );
    let load = Load::new();
    let document = load.text("fuzz.yaml", &yaml).expect("a document");
    let occasion = Occasion {
        now: NOW,
        at_start: true,
    };
    let snapshot = compile(&document, occasion, &load);
    assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&document)));
    let snapshot = snapshot.expect("a snapshot");
    // Everything was read.
    std::fs::remove_dir_all(&folder).expect("the folder can go");
    let authenticators = &snapshot.defined.authenticators;
    let verifiers = Verifiers::new(authenticators, None, &Arc::new(Client::new()), Timing::default());
    Gate {
        snapshot,
        verifiers,
        key,
    }
});

impl Lookup for Gate {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        let mut answers = Answers::new();
        for (_, question) in asked {
            let (authenticators, token) = match question {
                Question::Token {
                    authenticators, token, ..
                } => (authenticators, token),
                // Nothing is closed to anybody.
                Question::Freezes { .. } => {
                    answers.push(Answer::Freezes(Vec::new()));
                    continue;
                }
                Question::Revocation { .. } => {
                    answers.push(Answer::Revoked(None));
                    continue;
                }
                Question::Certificate { .. } | Question::Limit { .. } => panic!("there is no limit and no certificate"),
            };
            let first = self.verifiers.answer(authenticators, token, None, NOW).await;
            // Verified or remembered, it is the same.
            let again = self.verifiers.answer(authenticators, token, None, NOW).await;
            assert_eq!(first, again);
            assert!(!matches!(first, Answer::Unavailable { .. }), "the keys are there");
            answers.push(first);
        }
        answers
    }
}

#[derive(Default)]
struct Sent<'a> {
    authorization: Vec<&'a [u8]>,
    cookie: Vec<&'a [u8]>,
}

impl Sent<'_> {
    fn lines(&self, name: &HeaderName) -> &[&[u8]] {
        match *name {
            header::AUTHORIZATION => &self.authorization,
            header::COOKIE => &self.cookie,
            _ => &[],
        }
    }
}

impl Headers for Sent<'_> {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.lines(name).first().copied()
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.lines(name).len() > 1
    }

    fn all(&self, name: &HeaderName) -> smallvec::SmallVec<[&[u8]; 2]> {
        self.lines(name).iter().copied().collect()
    }
}

/// A gate that believed nobody would pass for a safe one.
static BELIEVES: Once = Once::new();

fuzz_target!(|input: &[u8]| {
    BELIEVES.call_once(|| {
        for (kind, seed) in [
            (b'E', &include_bytes!("../seeds/token/signed")[..]),
            (b'H', include_bytes!("../seeds/token/secret")),
        ] {
            assert!(signed(kind, &seed[1..]).is_some(), "a good token is refused");
        }
    });
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind {
        b'E' | b'H' => {
            signed(*kind, rest);
        }
        _ => raw(input),
    }
});

/// Signed by whom the gate believes: what is believed is what was signed.
fn signed(kind: u8, rest: &[u8]) -> Option<Arc<Principal>> {
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let (header, payload) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = match kind {
        b'E' => GATE.key.sign(message.as_bytes()).as_ref().to_vec(),
        _ => ring::hmac::sign(&secret(), message.as_bytes()).as_ref().to_vec(),
    };
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let line = format!("Bearer {token}");
    let sent = Sent {
        authorization: vec![line.as_bytes()],
        ..Sent::default()
    };
    let cookie = format!("x=1; token={token}");
    let carried = Sent {
        cookie: vec![cookie.as_bytes()],
        ..Sent::default()
    };
    let believed = ask(&sent, "");
    assert_eq!(believed, ask(&carried, ""), "a cookie says the same");
    assert_eq!(believed, ask(&Sent::default(), &format!("a=b&access_token={token}")));
    if let Some(principal) = &believed {
        check(principal, &token);
        assert_eq!(*principal.issuer, *ISSUERS[usize::from(kind == b'H')]);
    }
    believed
}

fn raw(input: &[u8]) {
    let mut sent = Sent::default();
    let mut query = "";
    for line in input.split(|byte| *byte == b'\n') {
        match line {
            [b'A', b':', value @ ..] => sent.authorization.push(value),
            [b'C', b':', value @ ..] => sent.cookie.push(value),
            [b'Q', b':', value @ ..] => query = std::str::from_utf8(value).unwrap_or_default(),
            _ => {}
        }
    }
    let Some(principal) = ask(&sent, query) else { return };
    // Somewhere in there is the token that says so.
    let lines = sent.authorization.iter().chain(&sent.cookie).copied();
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let found = lines
        .chain([query.as_bytes()])
        .flat_map(|line| line.split(|byte| !is_letter(*byte)))
        .filter_map(|word| std::str::from_utf8(word).ok())
        .any(|word| vouches(&principal, word));
    assert!(found, "believed without a good token");
}

/// Who calls, by both routes; whoever is nobody on one is nobody on the other.
fn ask(sent: &Sent<'_>, query: &str) -> Option<Arc<Principal>> {
    let gate = &*GATE;
    let view = |path| RequestView {
        method: &Method::GET,
        host: "gate.example",
        path,
        query,
        headers: sent,
    };
    let decided = |path| now(judge(&gate.snapshot, view(path), [192, 0, 2, 1].into(), NOW, gate));
    let (closed, open) = (decided("/closed"), decided("/open"));
    match (&closed.decision.effect, &closed.decision.principal) {
        (Effect::Deny(denial), None) => assert_eq!(denial.status.as_u16(), 401),
        (Effect::Forward, Some(_)) => {}
        other => panic!("neither believed nor refused: {other:?}"),
    }
    assert_eq!(open.decision.principal, closed.decision.principal);
    let is_missing = |judged: &Judged<'_>| match &judged.decision.effect {
        Effect::Deny(denial) => &*denial.code == "token-missing",
        _ => false,
    };
    let is_let_in = matches!(open.decision.effect, Effect::Forward);
    assert_eq!(is_let_in, closed.decision.principal.is_some() || is_missing(&closed));
    closed.decision.principal.clone()
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("waits for keys that are there"),
    }
}

fn secret() -> ring::hmac::Key {
    ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET)
}

fn vouches(principal: &Principal, token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
        return false;
    };
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, GATE.key.public_key());
    let is_signed = match &*principal.issuer {
        issuer if issuer == ISSUERS[0] => key.verify(message.as_bytes(), &signature).is_ok(),
        _ => ring::hmac::verify(&secret(), message.as_bytes(), &signature).is_ok(),
    };
    if is_signed {
        check(principal, token);
    }
    is_signed
}

/// What a believed token has to say, read by another reader than the gate's.
fn check(principal: &Principal, token: &str) {
    let decode = |part: Option<&str>| URL_SAFE_NO_PAD.decode(part.expect("a part")).expect("base64url");
    let mut parts = token.split('.');
    let header: Value = serde_json::from_slice(&decode(parts.next())).expect("a header");
    let claims: Value = serde_json::from_slice(&decode(parts.next())).expect("claims");
    assert_eq!(parts.count(), 1);
    let algorithm = if *principal.issuer == *ISSUERS[0] {
        "EdDSA"
    } else {
        "HS256"
    };
    assert_eq!(header["alg"], algorithm);
    assert!(header.get("crit").is_none() && header.get("b64").is_none_or(|b64| *b64 == true));
    assert_eq!(claims, Value::Object((*principal.claims).clone()));
    assert_eq!(claims["iss"], *principal.issuer);
    assert_eq!(claims["sub"], *principal.subject);
    assert!(!principal.subject.is_empty() && !principal.subject.chars().any(char::is_control));
    let heard = match &claims["aud"] {
        Value::String(audience) => audience == "api",
        Value::Array(all) => all.iter().any(|audience| audience == "api"),
        _ => false,
    };
    assert!(heard, "for somebody else");
    let (now, leeway) = (NOW.as_second() as f64, 30.0);
    assert!(claims["exp"].as_f64().expect("a number") + leeway > now, "expired");
    if let Some(from) = claims.get("nbf") {
        assert!(from.as_f64().expect("a number") <= now + leeway, "not yet valid");
    }
}
