//! `gwanmun hash-key`: an API key for a caller, and the line that makes the gateway know it.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::tell;
use crate::conf::Instant;
use crate::policies::authn::NewKey;

/// More than any key has.
const MAX_READ: u64 = 4096;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key is shown this once and kept nowhere: give it to the caller, and put the line into the file that `keys:` of an \
                  `api_key` authenticator names. The line holds a hash, from which nobody comes back to the key.\n\n\
                  To change a key, add a second line for the same subject, let the caller change over, and take the first out.\n\n\
                  With --json: `{key, line}`, the line as a map.\n\n\
                  Examples:\n  gwanmun hash-key --subject acme --role partner --scope order:read --expires 2027-12-31T00:00Z\n  \
                  gwanmun hash-key --subject acme --stdin < key.txt"
)]
pub(super) struct Arguments {
    /// Who calls with it; otherwise what is shown of the key
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// A role of its caller; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A scope that it grants; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// From when it is good, such as 2026-12-01T00:00Z
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    not_before: Option<String>,
    /// When it ends
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    expires: Option<String>,
    /// Read the key from standard input, one line, instead of making one
    #[arg(long)]
    stdin: bool,
    /// Print `{key, line}`
    #[arg(long)]
    json: bool,
}

fn instant(text: &str) -> Result<String, String> {
    Instant::parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("it {error}"))
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let made = match arguments.stdin {
        true => read_key()?,
        false => NewKey::random().context("the system has no random bytes")?,
    };
    let line = arguments.line(&made);
    // A key that was given is known already, and is not repeated.
    let key = Some(&made.key).filter(|_| !arguments.stdin);
    if arguments.json {
        let mut told = serde_json::Map::new();
        if let Some(key) = key {
            told.insert("key".into(), key.as_str().into());
        }
        let line = line
            .iter()
            .cloned()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        told.insert("line".into(), Value::Object(line));
        tell(&format!("{:#}\n", Value::Object(told)))?;
    } else {
        if let Some(key) = key {
            tell(&format!(
                "# The key, for the caller; it is shown this once:\n{key}\n# Its line, for the file of keys:\n"
            ))?;
        }
        let members: Vec<String> = line
            .iter()
            .map(|(name, value)| format!("{name}: {}", yaml(value)))
            .collect();
        tell(&format!("- {{ {} }}\n", members.join(", ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_key() -> anyhow::Result<NewKey> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::io::stdin()
        .take(MAX_READ)
        .read_to_end(&mut bytes)
        .context("cannot read the key")?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Ok(key) = std::str::from_utf8(line) else {
        bail!("the key cannot be sent in a header: it is no text");
    };
    match NewKey::given(key.to_owned()) {
        Ok(given) => Ok(given),
        Err(fault) => bail!("the key {fault}"),
    }
}

impl Arguments {
    /// The members of the line, in the order in which they are read best.
    fn line(&self, made: &NewKey) -> Vec<(&'static str, Value)> {
        let hash = made.hash();
        let shown = made.prefix.clone().unwrap_or_else(|| hash.shown());
        let mut line = vec![("hash", json!(hash.to_string()))];
        let said = [
            ("prefix", made.prefix.as_ref().map(|prefix| json!(prefix))),
            ("subject", Some(json!(self.subject.as_ref().unwrap_or(&shown)))),
            ("roles", Some(json!(self.roles)).filter(|_| !self.roles.is_empty())),
            ("scopes", Some(json!(self.scopes)).filter(|_| !self.scopes.is_empty())),
            ("not_before", self.not_before.as_ref().map(|at| json!(at))),
            ("expires", self.expires.as_ref().map(|at| json!(at))),
        ];
        line.extend(said.into_iter().filter_map(|(name, value)| Some((name, value?))));
        line
    }
}

/// A value as YAML in flow style: without quotes where it needs none.
fn yaml(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Whether nobody takes the text for anything but a text.
fn is_plain(text: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    // A colon within a word divides nothing.
    let is_inner = |letter: char| is_letter(letter) || letter == ':';
    !text.eq_ignore_ascii_case("null")
        && text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && text.ends_with(is_letter)
        && text.chars().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_yaml_would_read_otherwise() {
        for (value, expected) in [
            (json!("acme"), "acme"),
            (json!("sha256:00ff"), "sha256:00ff"),
            (json!("2027-12-31T00:00Z"), "2027-12-31T00:00Z"),
            (json!(["order:read", "a b"]), "[order:read, \"a b\"]"),
            (json!("a: b"), "\"a: b\""),
            (json!("a:"), "\"a:\""),
            (json!("-a"), "\"-a\""),
            (json!("a, b"), "\"a, b\""),
            (json!("김"), "\"김\""),
            (json!("a\"b"), "\"a\\\"b\""),
            (json!(""), "\"\""),
            (json!("Null"), "\"Null\""),
        ] {
            assert_eq!(yaml(&value), expected);
        }
    }
}
