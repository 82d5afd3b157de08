//! The certified `oidc-provider` of npm as a child process, of the version its lock file pins.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::npm::installed;
use super::{Response, request_to};

/// The client it knows, and its secret.
pub const CLIENT: (&str, &str) = ("robot", "robot-secret-of-the-tests");

/// A running provider; it ends with the pipe to it.
pub struct Provider {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    pub fn start() -> Self {
        let mut child = node("issuer.js");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut provider = Self {
            child,
            input,
            output,
            issuer: String::new(),
        };
        provider.issuer = provider.line();
        provider
    }

    /// Its identifier, which is where it listens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Withdraws every key and makes new ones.
    pub fn rotate(&mut self) {
        let input = self.input.as_mut().expect("its input");
        input.write_all(b"\n").expect("it listens");
        self.line();
    }

    /// An access token of the client for a resource, `urn:jwt:RS256` or `urn:opaque`.
    pub fn token(&self, resource: &str) -> String {
        let form = format!("grant_type=client_credentials&scope=transfer:read&resource={resource}");
        let response = self.ask("/token", &form);
        let answer: Value = serde_json::from_slice(&response.expect(200).body).expect("JSON");
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// What it answers to a form of the client's.
    pub fn ask(&self, path: &str, form: &str) -> Response {
        let (name, secret) = CLIENT;
        let basic = STANDARD.encode(format!("{name}:{secret}"));
        request_to(self.address(), "POST", path)
            .host(&self.address().to_string())
            .header("authorization", &format!("Basic {basic}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
    }

    fn address(&self) -> SocketAddr {
        let (_, address) = self.issuer.split_once("://").expect("a URL");
        address.parse().expect("an address")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "the provider ended: {:?}", self.child.wait());
        line.trim_end().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// Runs a script of the folder, which is to end with the pipe to it.
pub(super) fn node(script: &str) -> Child {
    Command::new("node")
        .args(["--no-warnings", script])
        .current_dir(installed("oidc-provider", &["issuer.js", "verifier.js"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("node runs; `make test` installs it")
}
