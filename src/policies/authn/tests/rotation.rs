//! Issuers that change their keys or go away, under load. The clock stands still but for what a test moves it on, so that
//! minutes pass in no time and every fetch has an instant of its own.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, advance};

use super::super::jwks::Timing;
use super::super::verifier::Verifier;
use super::kit::*;
use super::live::{discovering, said, token};

/// Keeps the clock from jumping to the next timer whenever everybody waits for a socket, until it is dropped.
fn hold_the_clock() -> std::sync::mpsc::Sender<()> {
    let (hold, held) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv());
    hold
}

const STEP: Duration = Duration::from_millis(50);

/// Steps in so many seconds.
fn steps(seconds: u64) -> u64 {
    seconds * 20
}

/// What is asked in one step, at 200 requests a second: tokens by `signer`, never the same twice.
fn load(signer: &Signer, kid: &str, url: &str, step: u64) -> Vec<String> {
    (0..10)
        .map(|n| token(signer, kid, url, &format!("u{step}-{n}")))
        .collect()
}

/// Tokens that name keys which do not exist.
fn forged(url: &str, step: u64) -> Vec<String> {
    let one = |n| {
        let header = format!(r#"{{"alg":"EdDSA","kid":"x{step}-{n}"}}"#);
        let payload = claims(&[("iss", &format!("\"{url}\""))]);
        format!("{}.{}.{}", b64(header), b64(payload), b64([7; 64]))
    };
    (0..10).map(one).collect()
}

async fn answers(verifier: &Verifier, tokens: &[String]) -> Vec<String> {
    let all = join_all(tokens.iter().map(|token| verifier.answer(token, noon()))).await;
    all.iter().map(said).collect()
}

async fn assert_all_good(verifier: &Verifier, tokens: &[String], when: &str) {
    for said in answers(verifier, tokens).await {
        assert!(said.starts_with('u'), "{said} {when}");
    }
}

/// The shortest time between two fetches of keys, but for the very first, which no token's key caused.
fn shortest_pause(issuer: &Issuer) -> Duration {
    let instants = &issuer.key_instants()[1..];
    let pauses = instants.windows(2).map(|pair| pair[1] - pair[0]);
    pauses.min().unwrap_or(Duration::MAX)
}

#[tokio::test(start_paused = true)]
async fn keys_that_rotate_every_15_seconds_and_are_used_at_once_refuse_nobody() {
    let _still = hold_the_clock();
    let signers: Vec<Signer> = (0..3).map(|_| Signer::ed()).collect();
    let jwk = |at: usize| signers[at].jwk(&format!(r#""kid":"k{at}","#));
    let issuer = Issuer::with_keys(&[jwk(0)]).await;
    let (url, verifier) = (issuer.url(""), discovering(&issuer, Timing::default()));
    for at in 0..signers.len() {
        let before = at.saturating_sub(1);
        issuer.publish(&[jwk(before), jwk(at)]);
        for step in 0..steps(15) {
            let when = format!("{step} steps after rotation {at}");
            assert_all_good(&verifier, &load(&signers[at], &format!("k{at}"), &url, step), &when).await;
            // Tokens by the key before go on for their lifetime.
            let old = token(&signers[before], &format!("k{before}"), &url, &format!("u-old{step}"));
            assert_all_good(&verifier, &[old], &when).await;
            advance(STEP).await;
        }
    }
    assert_eq!(issuer.key_requests(), signers.len());
    assert!(shortest_pause(&issuer) >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_hides_no_key_published_ten_seconds_before_its_use() {
    let _still = hold_the_clock();
    let signers: Vec<Signer> = (0..3).map(|_| Signer::ed()).collect();
    let jwk = |at: usize| signers[at].jwk(&format!(r#""kid":"k{at}","#));
    let issuer = Issuer::with_keys(&[jwk(0)]).await;
    let (url, verifier) = (issuer.url(""), discovering(&issuer, Timing::default()));
    assert_all_good(&verifier, &load(&signers[0], "k0", &url, 0), "at first").await;
    let began = Instant::now();
    for at in 1..signers.len() {
        // Out of step with the flood's own fetches by a little more each time.
        for step in 0..steps(13) + at as u64 {
            for said in answers(&verifier, &forged(&url, step)).await {
                assert_eq!(said, "token-key-unknown");
            }
            assert_all_good(
                &verifier,
                &load(&signers[at - 1], &format!("k{}", at - 1), &url, step),
                "still",
            )
            .await;
            if step == steps(3) + at as u64 {
                issuer.publish(&[jwk(at - 1), jwk(at)]);
            }
            advance(STEP).await;
        }
        let when = format!("ten seconds after key {at} was published");
        assert_all_good(&verifier, &load(&signers[at], &format!("k{at}"), &url, 0), &when).await;
    }
    let fetches = issuer.key_requests() as u64;
    assert!(shortest_pause(&issuer) >= Duration::from_secs(10));
    assert!(fetches <= 2 + began.elapsed().as_secs() / 10, "{fetches} fetches");
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_ahead_of_the_end_that_their_answer_names_within_a_minute_and_a_day() {
    let _still = hold_the_clock();
    let signer = Signer::ed();
    let issuer = Issuer::with_keys(&[signer.jwk("")]).await;
    let says = |line: &str| issuer.answer("/keys", &ok(&set(&[signer.jwk("")]), line));
    says("Cache-Control: max-age=1000\r\n");
    let verifier = discovering(&issuer, Timing::default());
    verifier.start();
    let settled = async |fetches: u64| {
        while verifier.status().fetches < fetches || verifier.status().age.is_none() {
            tokio::task::yield_now().await;
        }
        issuer.saw(2 * fetches as usize).await;
        // The answer is read before the clock moves on.
        while verifier.status().age.is_none_or(|age| age > Duration::ZERO) {
            tokio::task::yield_now().await;
        }
    };
    settled(1).await;
    let no_longer = "Cache-Control: no-store\r\n";
    let whole_week = "Cache-Control: max-age=604800\r\n";
    for (number, (pause, then)) in [(800, no_longer), (60, whole_week), (86_400, "")]
        .into_iter()
        .enumerate()
    {
        advance(Duration::from_secs(pause - 1)).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(verifier.status().fetches, 1 + number as u64, "before {pause} s");
        says(then);
        advance(Duration::from_secs(1)).await;
        settled(2 + number as u64).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_away_for_longer_than_its_keys_are_fresh_logs_nobody_out() {
    let _still = hold_the_clock();
    let (old, new) = (Signer::ed(), Signer::ed());
    let issuer = Issuer::with_keys(&[old.jwk(r#""kid":"a","#)]).await;
    let fresh = ok(&set(&[old.jwk(r#""kid":"a","#)]), "Cache-Control: max-age=1\r\n");
    issuer.answer("/keys", &fresh);
    let timing = Timing {
        refresh: (Duration::from_secs(1), Duration::from_secs(2)),
        ..Timing::default()
    };
    let (url, verifier) = (issuer.url(""), discovering(&issuer, timing));
    let held = token(&old, "a", &url, "u-held");
    assert_all_good(&verifier, std::slice::from_ref(&held), "at first").await;
    issuer.answer("/keys", "HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n");
    let good_fetches = verifier.status().fetches;
    for step in 0..600 {
        advance(Duration::from_secs(1)).await;
        // A fetch that fell due comes to its end before the clock moves on.
        while verifier.status().fetches > good_fetches + verifier.status().failures {
            tokio::task::yield_now().await;
        }
        let fresh = token(&old, "a", &url, &format!("u{step}"));
        assert_all_good(&verifier, &[held.clone(), fresh], "while it is away").await;
    }
    let status = verifier.status();
    assert!(
        status.failures > 50 && status.age > Some(Duration::from_secs(590)),
        "{status:?}"
    );
    assert_eq!(
        answers(&verifier, &[token(&new, "b", &url, "u")]).await,
        ["keys-unavailable"]
    );
    issuer.publish(&[new.jwk(r#""kid":"b","#)]);
    advance(Duration::from_secs(10)).await;
    assert_all_good(&verifier, &[token(&new, "b", &url, "u-new")], "once it is back").await;
    assert_eq!(answers(&verifier, &[held]).await, ["token-key-unknown"]);
    assert!(verifier.status().failing.is_none());
}
