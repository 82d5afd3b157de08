//! What every suite stands on: the real gateway as a child process, and real peers for it on sockets.
//!
//! Tests are plain blocking functions. Upstreams and identity providers run on one background runtime, so that a
//! test waiting for an answer never stops the peer that is to give it.

mod client;
mod gateway;
pub mod http2;
mod issuer;
mod metrics;
mod npm;
mod provider;
mod recorder;
mod rest;
mod tls;
mod upstream;
mod verifier;
pub mod wire;

pub use client::{Connection, Request, Response, decoded, request_to};
pub use gateway::{Gateway, Launch, is_request, refused_start};
pub use issuer::{Issuer, Key, rsa_public_key, rsa_signature_under};
pub use metrics::Metrics;
pub use npm::installed;
pub use provider::Provider;
pub use recorder::Recorder;
pub use rest::RestServer;
pub use tls::{Authority, Certificate, TlsClient, TlsServer, names_shown, talk};
pub use upstream::{Gate, RefusingPort, Reply, Seen, Upstream};
pub use verifier::{Verifier, passport_in};

use std::process::Output;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long anything may take before the test is called hung; no assertion rests on it.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// Polls until `look` finds something: for what a gateway does on its own time, such as writing a record.
///
/// Panics after [`WATCHDOG`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < WATCHDOG, "never came about: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Puts values in place of `$names`: braces mean something in YAML, so `format!` would have to double all of them.
pub fn fill(template: &str, values: &[(&str, &dyn std::fmt::Display)]) -> String {
    // Longest first, so that `$a` does not eat the beginning of `$accounts`.
    let mut values = values.to_vec();
    values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let mut text = template.to_owned();
    for (name, value) in values {
        let placeholder = format!("${name}");
        assert!(text.contains(&placeholder), "the template has no {placeholder}");
        text = text.replace(&placeholder, &value.to_string());
    }
    text
}

/// Fills in the two things that most templates name: `$upstream` and the `$authenticators` of an issuer.
pub fn guarded(template: &str, upstream: &Upstream, issuer: &Issuer) -> String {
    fill(
        template,
        &[
            ("upstream", &upstream.address()),
            ("authenticators", &issuer.authenticator()),
        ],
    )
}

/// How a command ended, and what it wrote to standard output and standard error.
pub fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The detail of a refusal by the admin API, which gives requests no id.
#[track_caller]
pub fn refused(response: &Response, status: u16, code: &str) -> String {
    response.expect(status);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem = response.json();
    assert_eq!(problem["code"], code, "{problem}");
    problem["detail"].as_str().unwrap_or_default().to_owned()
}

pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the peers")
    })
}
