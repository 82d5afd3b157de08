//! A service that believes passports by a library of others: `jose` of npm, which comes with the provider.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use serde_json::{Value, json};

use super::provider::node;
use super::{Gateway, Seen};

/// A running verifier; it ends with the pipe to it.
pub struct Verifier {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Verifier {
    pub fn start() -> Self {
        let mut child = node("verifier.js");
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("its output")),
            child,
        }
    }

    /// Header and claims of a passport for `audience` by the keys that the gateway tells at that moment, or why it is refused.
    pub fn believe(
        &mut self,
        passport: &str,
        audience: &str,
        gateway: &Gateway,
        now: jiff::Timestamp,
    ) -> Result<(Value, Value), String> {
        let question = json!({
            "token": passport, "audience": audience, "issuer": "https://gate.example",
            "keys": format!("http://{}/.well-known/gwanmun-jwks.json", gateway.address()),
            "now": now.as_millisecond(),
        });
        let input = self.input.as_mut().expect("its input");
        writeln!(input, "{question}").expect("it listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        match answer["refused"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok((answer["header"].take(), answer["claims"].take())),
        }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// The passport that an upstream was shown.
pub fn passport_in(seen: &Seen) -> String {
    let value = seen.header("authorization").expect("a passport");
    value.strip_prefix("Bearer ").expect("the scheme").to_owned()
}
