//! What verifying an RS256 token costs: by the gateway's own verifier, while it does not remember the token and once it does,
//! beside the crypto library alone and the `jsonwebtoken` crate on top of it.
//!
//! Every case is first shown to believe its tokens, and to refuse one that was tampered with. At last the gateway and the crypto
//! library take turns of a few milliseconds: what a busy machine slows, it slows both.

#![allow(clippy::expect_used, reason = "a benchmark that cannot go on says why")]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use gwanmun::conf::{Load, Named, Read};
use gwanmun::engine::{Answer, AuthenticatorId};
use gwanmun::io::Client;
use gwanmun::policies::authn::{AuthenticatorSettings, Authenticators, Timing, Verifiers, crypto};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::sha2::Sha256;
use rsa::signature::{SignatureEncoding, Signer};
use rsa::traits::PublicKeyParts;
use serde_json::Value;

/// The gateway's.
#[global_allocator]
static ALLOCATOR: gwanmun::server::Allocator = gwanmun::server::Allocator;

const NOW: Timestamp = Timestamp::constant(1_795_500_000, 0);
/// So many tokens are verified before they are forgotten.
const TOKENS: usize = 256;
/// So often the gateway and the crypto library take turns.
const TURNS: usize = 1000;

struct Bench {
    tokens: Vec<String>,
    /// Modulus and exponent.
    public: (Vec<u8>, Vec<u8>),
    verifiers: Verifiers,
}

impl Bench {
    fn new() -> Self {
        let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("a key");
        let public = (key.n().to_bytes_be(), key.e().to_bytes_be());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let set = format!(
            r#"{{"keys":[{{"kty":"RSA","kid":"bench","alg":"RS256","n":"{}","e":"{}"}}]}}"#,
            encode(&public.0),
            encode(&public.1)
        );
        let signing = SigningKey::<Sha256>::new(key);
        let token = |number: usize| {
            let header = encode(br#"{"typ":"at+jwt","alg":"RS256","kid":"bench"}"#);
            let claims = format!(
                r#"{{"iss":"https://id.bank.example","aud":["mobile-bank"],"sub":"customer-{number}","client_id":"app","scope":"transfer:read transfer:write","roles":["customer"],"jti":"{number}","iat":{},"exp":{}}}"#,
                NOW.as_second() - 60,
                NOW.as_second() + 3600
            );
            let message = format!("{header}.{}", encode(claims.as_bytes()));
            let signature = encode(&signing.sign(message.as_bytes()).to_vec());
            format!("{message}.{signature}")
        };
        Self {
            tokens: (0..TOKENS).map(token).collect(),
            public,
            verifiers: verifiers(&set),
        }
    }

    /// By the crypto library alone: the signature as bytes, over the message.
    fn by_ring(&self, token: &str) -> bool {
        let (message, signature) = token.rsplit_once('.').expect("a token");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        self.verifies(message.as_bytes(), &signature)
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (n, e) = &self.public;
        let key = RsaPublicKeyComponents { n, e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
    }

    fn by_the_gateway(&self, token: &str) -> bool {
        let answer = now(self.verifiers.answer(&[AuthenticatorId(0)], token, None, NOW));
        matches!(answer, Answer::Principal(_))
    }

    /// The time of verifying as many tokens as asked for, none of which is remembered.
    fn unremembered(&self, iterations: u64) -> Duration {
        let (mut left, mut took) = (iterations, Duration::ZERO);
        while left > 0 {
            self.verifiers.forget(|_| true);
            let turn = left.min(TOKENS as u64);
            let began = Instant::now();
            for token in self.tokens.iter().take(turn as usize) {
                black_box(self.by_the_gateway(black_box(token)));
            }
            took += began.elapsed();
            left -= turn;
        }
        took
    }
}

fn tokens(criterion: &mut Criterion) {
    let bench = Bench::new();
    crypto::install();
    let (n, e) = &bench.public;
    let decoding = DecodingKey::from_rsa_raw_components(n, e);
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.set_audience(&["mobile-bank"]);
    let by_jsonwebtoken = |token: &str| jsonwebtoken::decode::<Value>(token, &decoding, &validation).is_ok();
    for token in &bench.tokens {
        assert!(bench.by_ring(token) && by_jsonwebtoken(token) && bench.by_the_gateway(token));
        let tampered = token.replacen("eyJ", "eyK", 1);
        assert!(!bench.by_ring(&tampered) && !by_jsonwebtoken(&tampered) && !bench.by_the_gateway(&tampered));
    }
    // Each goes through all of them: one and the same would stay in the caches of the processor.
    let taken_apart = |token: &String| {
        let (message, signature) = token.rsplit_once('.').expect("a token");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        (message.to_owned(), signature)
    };
    let taken_apart: Vec<(String, Vec<u8>)> = bench.tokens.iter().map(taken_apart).collect();
    let (mut in_turn, mut tokens) = (taken_apart.iter().cycle(), bench.tokens.iter().cycle());
    let mut next = || in_turn.next().expect("a token");
    let mut next_token = || tokens.next().expect("a token");
    let by_ring = || {
        let began = Instant::now();
        for (message, signature) in &taken_apart {
            black_box(bench.verifies(black_box(message.as_bytes()), signature));
        }
        began.elapsed()
    };
    let mut group = criterion.benchmark_group("RS256");
    group.bench_function("ring alone", |bencher| {
        bencher.iter(|| {
            let (message, signature) = next();
            black_box(bench.verifies(black_box(message.as_bytes()), signature))
        });
    });
    group.bench_function("the gateway, not remembered", |bencher| {
        bencher.iter_custom(|iterations| bench.unremembered(iterations));
    });
    group.bench_function("jsonwebtoken on ring", |bencher| {
        bencher.iter(|| black_box(by_jsonwebtoken(black_box(next_token()))));
    });
    let first = bench.tokens.first().expect("a token");
    assert!(bench.by_the_gateway(first));
    group.bench_function("the gateway, remembered", |bencher| {
        bencher.iter(|| black_box(bench.by_the_gateway(black_box(first))));
    });
    group.finish();
    let turn = |_| bench.unremembered(TOKENS as u64).as_secs_f64() / by_ring().as_secs_f64();
    let mut ratios: Vec<f64> = (0..TURNS).map(turn).collect();
    ratios.sort_by(f64::total_cmp);
    let [tenth, median, ninetieth] =
        [TURNS / 10, TURNS / 2, TURNS * 9 / 10].map(|at| ratios.get(at).unwrap_or(&f64::NAN));
    println!(
        "RS256, not remembered ÷ ring alone, {TURNS} turns each: {median:.3} (10 %: {tenth:.3}, 90 %: {ninetieth:.3})"
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = tokens
}
criterion_main!(benches);

/// One authenticator with this key set.
fn verifiers(set: &str) -> Verifiers {
    let file = std::env::temp_dir().join(format!("gwanmun-bench-keys-{}.json", std::process::id()));
    std::fs::write(&file, set).expect("a key file");
    let yaml = format!(
        "customer: {{ jwt: {{ issuer: https://id.bank.example, audience: mobile-bank, algorithms: RS256, typ: at+jwt, jwks: \"{}\" }} }}",
        file.display()
    );
    let load = Load::new();
    let node = load.text("tokens.yaml", &yaml).expect("YAML");
    let settings = Named::<AuthenticatorSettings>::read(&node, &load).expect("settings");
    let authenticators = Authenticators::compile(&settings, &load);
    assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&node)));
    // It was read.
    std::fs::remove_file(&file).expect("the file can go");
    Verifiers::new(&authenticators, None, &Arc::new(Client::new()), Timing::default())
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("the keys are there"),
    }
}
