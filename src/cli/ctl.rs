//! `gwanmun ctl`: what operators say to a running gateway, by way of its admin API.
//!
//! The token comes from the environment alone: arguments can be read by everybody on the machine.

mod revocations;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value};

use self::revocations::{Revoke, Whom, figures, told as told_revocation};
use super::{NO, complain, tell};
use crate::io::{Bounds, Client, PlainHttp};

/// The variable that holds the token.
const TOKEN: &str = "GWANMUN_ADMIN_TOKEN";
/// The variable that holds the address where no flag does.
const ADMIN: &str = "GWANMUN_ADMIN";
const DEFAULT: &str = "http://127.0.0.1:9900";
const DEADLINE: Duration = Duration::from_secs(15);
const MAX_BODY: usize = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The token of `admin.token` is read from GWANMUN_ADMIN_TOKEN. Exits with 1 where the gateway refuses, with 2 where it \
                        cannot be asked.\n\nExamples:\n  \
                        gwanmun ctl freeze transfer --until 06:00 --reason 'fraud wave, call Kim'\n  \
                        gwanmun ctl freeze accounts --upstream --for 2h\n  \
                        gwanmun ctl thaw transfer\n  \
                        gwanmun ctl revoke --subject u1001 --authenticator customer --issued-before now\n  \
                        gwanmun ctl status"
)]
pub(super) struct Arguments {
    /// The gateway's admin address; otherwise GWANMUN_ADMIN, or http://127.0.0.1:9900
    #[arg(long, global = true, value_name = "URL")]
    admin: Option<String>,
    /// Print what the gateway answers
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, clap::Subcommand)]
enum Order {
    /// Answer 503 on a route, or on all that calls an upstream, until an instant or until it is thawed
    #[command(after_help = "Example:\n  gwanmun ctl freeze transfer --until 06:00 --reason 'fraud wave, call Kim'")]
    Freeze {
        #[command(flatten)]
        named: Named,
        /// When it ends: RFC 3339, or HH:MM in the zone of the gateway's calendars, the next time clocks show it
        #[arg(long, value_name = "INSTANT", conflicts_with = "lasts")]
        until: Option<String>,
        /// How long it lasts, such as `2h`; without an end it lasts until it is thawed
        #[arg(long = "for", value_name = "DURATION")]
        lasts: Option<String>,
        /// Why, for the records and for other operators; clients are not told
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Lift a freeze
    #[command(after_help = "Example:\n  gwanmun ctl thaw transfer")]
    Thaw {
        #[command(flatten)]
        named: Named,
    },
    /// Refuse the tokens of a caller, one token, or what was issued before an instant
    #[command(
        after_help = "A caller is revoked with all its tokens, those issued later too, until it is lifted or till --until; with \
                      --issued-before whoever logs in again is let in.\n\nExamples:\n  \
                      gwanmun ctl revoke --subject u1001 --authenticator customer --issued-before now\n  \
                      gwanmun ctl revoke --jti 7f3a… --authenticator customer --expires 1795564800\n  \
                      gwanmun ctl revoke --subject u1001 --anywhere --for 24h --reason 'stolen phone'\n  \
                      gwanmun ctl revoke --authenticator customer --issued-before 2026-11-24T12:00:00+09:00"
    )]
    Revoke(Revoke),
    /// Lift a revocation
    #[command(after_help = "Example:\n  gwanmun ctl unrevoke --subject u1001 --authenticator customer")]
    Unrevoke {
        #[command(flatten)]
        whom: Whom,
    },
    /// Say how much is revoked, and what memory that takes
    #[command(after_help = "Example:\n  gwanmun ctl revocations")]
    Revocations,
    /// Say what runs: version, configuration, reloads, freezes
    #[command(after_help = "Example:\n  gwanmun ctl status --json")]
    Status,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The name of a route or an upstream; one that both have means both
    name: String,
    /// Only the route of that name
    #[arg(long, conflicts_with = "upstream")]
    route: bool,
    /// Only the upstream of that name, with all that calls it
    #[arg(long)]
    upstream: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (method, target, body) = match &arguments.order {
        Order::Freeze {
            named,
            until,
            lasts,
            reason,
        } => {
            let members = [
                ("until", until.clone()),
                ("for", lasts.clone()),
                ("reason", Some(reason.clone())),
            ];
            let members = members
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
            (
                Method::PUT,
                named.target()?,
                Value::Object(members.collect::<Map<_, _>>()).to_string(),
            )
        }
        Order::Thaw { named } => (Method::DELETE, named.target()?, String::new()),
        Order::Revoke(revoke) => (Method::POST, "/revocations".to_owned(), revoke.body()),
        Order::Unrevoke { whom } => (Method::DELETE, whom.target(), String::new()),
        Order::Revocations => (Method::GET, "/revocations".to_owned(), String::new()),
        Order::Status => (Method::GET, "/status".to_owned(), String::new()),
    };
    let admin = arguments.admin.clone().or_else(|| std::env::var(ADMIN).ok());
    let (status, answer) = ask(admin.as_deref().unwrap_or(DEFAULT), method, &target, body)?;
    if status != StatusCode::OK {
        let said = answer.get("detail").and_then(Value::as_str);
        let said = said.map_or_else(|| format!("the gateway answers {status}"), str::to_owned);
        complain(&format!("gwanmun: {said}"));
        if arguments.json {
            tell(&format!("{answer:#}\n"))?;
        }
        return Ok(NO.into());
    }
    match arguments.json {
        true => tell(&format!("{answer:#}\n"))?,
        false => tell(&report(&answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Status and JSON of the answer. An error means that no gateway answered.
fn ask(admin: &str, method: Method, target: &str, body: String) -> anyhow::Result<(StatusCode, Value)> {
    let token = std::env::var(TOKEN).with_context(|| format!("the token of the admin API is missing: set {TOKEN}"))?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .with_context(|| format!("{TOKEN} holds what cannot be sent in a header"))?;
    bearer.set_sensitive(true);
    let base = match admin.contains("://") {
        true => admin.trim_end_matches('/').to_owned(),
        false => format!("http://{}", admin.trim_end_matches('/')),
    };
    let bounds = Bounds {
        deadline: DEADLINE,
        max_body: MAX_BODY,
        // Elsewhere anybody on the way could read the token.
        plain_http: PlainHttp::Loopback,
        link_local: true,
    };
    let mut headers = vec![(header::AUTHORIZATION, bearer)];
    if !body.is_empty() {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("{base}{target}");
    let sent = async {
        Client::new()
            .send(method, &url, &headers, Bytes::from(body), bounds)
            .await
    };
    let response = runtime
        .block_on(sent)
        .with_context(|| format!("no gateway answers at {base}"))?;
    let answer = serde_json::from_slice(&response.body);
    match answer {
        Ok(answer @ Value::Object(_)) => Ok((response.status, answer)),
        _ => bail!(
            "what answers at {base} is no gateway's admin API (status {})",
            response.status.as_u16()
        ),
    }
}

impl Named {
    fn target(&self) -> anyhow::Result<String> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if self.name.is_empty() || !self.name.bytes().all(letters) {
            bail!("`{}` is no name of a route or an upstream", self.name);
        }
        let kind = match (self.route, self.upstream) {
            (true, _) => "?kind=route",
            (_, true) => "?kind=upstream",
            (false, false) => "",
        };
        Ok(format!("/freezes/{}{kind}", self.name))
    }
}

/// For people.
fn report(answer: &Value) -> String {
    let list = |member: &str| answer.get(member).and_then(Value::as_array).map(Vec::as_slice);
    let each = |all: &[Value], tell: &dyn Fn(&Value) -> String| all.iter().map(tell).collect();
    let revocations = answer.get("revocations").filter(|_| answer.get("version").is_none());
    let lines: Vec<String> = if let Some(frozen) = list("frozen") {
        each(frozen, &|freeze| format!("froze {}", told(freeze)))
    } else if let Some(thawed) = list("thawed") {
        each(thawed, &|freeze| format!("thawed {}", named(freeze)))
    } else if let Some(revoked) = list("revoked") {
        each(revoked, &|revocation| {
            format!("revoked {}", told_revocation(revocation))
        })
    } else if let Some(lifted) = list("lifted") {
        each(lifted, &|revocation| format!("lifted: {}", told_revocation(revocation)))
    } else if let Some(revocations) = revocations {
        vec![figures(revocations)]
    } else {
        status(answer)
    };
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn status(answer: &Value) -> Vec<String> {
    let reloads = answer.get("reloads").unwrap_or(&Value::Null);
    let errors = reloads
        .get("errors")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let rehearsal = match answer.get("rehearsal") {
        Some(Value::Bool(true)) => " (a rehearsal)",
        _ => "",
    };
    let mut lines = vec![
        format!("version    {}", text(answer, "version")),
        format!("config     {}", text(answer, "config")),
        format!("clock      {}{rehearsal}", text(answer, "now")),
        format!("uptime     {} s", text(answer, "uptime_s")),
        format!(
            "ready      {}",
            if text(answer, "ready") == "true" { "yes" } else { "no" }
        ),
        format!(
            "load       {} requests, {} connections",
            text(answer, "in_flight"),
            text(answer, "connections")
        ),
    ];
    let counts = format!(
        "reloads    {} taken, {} refused",
        text(reloads, "ok"),
        text(reloads, "failed")
    );
    lines.push(match (reloads.get("last"), errors) {
        (Some(Value::String(at)), []) => format!("{counts}; the last was taken at {at}"),
        (Some(Value::String(at)), _) => format!("{counts}; the last was refused at {at}:"),
        _ => counts,
    });
    lines.extend(
        errors
            .iter()
            .filter_map(Value::as_str)
            .map(|error| format!("           {error}")),
    );
    match answer.get("freezes").and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) | None => lines.push("frozen     nothing".to_owned()),
        Some(freezes) => {
            let since = |freeze: &Value| format!("since {} by {}", text(freeze, "since"), text(freeze, "by"));
            lines.extend(
                freezes
                    .iter()
                    .map(|freeze| format!("frozen     {}, {}", told(freeze), since(freeze))),
            );
        }
    }
    if let Some(revocations) = answer.get("revocations") {
        lines.push(format!("revoked    {}", figures(revocations)));
    }
    lines
}

fn named(freeze: &Value) -> String {
    format!("{} `{}`", text(freeze, "kind"), text(freeze, "name"))
}

fn told(freeze: &Value) -> String {
    let until = match freeze.get("until") {
        Some(Value::String(until)) => format!("until {until}"),
        _ => "until it is thawed".to_owned(),
    };
    match text(freeze, "reason") {
        reason if reason.is_empty() => format!("{} {until}", named(freeze)),
        reason => format!("{} {until} ({reason})", named(freeze)),
    }
}

/// A member as text, without what a terminal would obey.
fn text(value: &Value, member: &str) -> String {
    let text = match value.get(member) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tells_people_what_came_of_it() {
        let one = json!({ "kind": "route", "name": "pay", "until": null, "reason": "", "since": "s", "by": "::1" });
        let other = json!({ "kind": "upstream", "name": "pay", "until": "u", "reason": "why\u{1b}[2J", "since": "s", "by": "b" });
        assert_eq!(
            report(&json!({ "frozen": [one, other] })),
            "froze route `pay` until it is thawed\nfroze upstream `pay` until u (why[2J)\n"
        );
        assert_eq!(report(&json!({ "thawed": [one] })), "thawed route `pay`\n");
        let status = json!({
            "version": "1", "config": "c", "now": "n", "uptime_s": 3, "ready": false, "in_flight": 1, "connections": 2,
            "reloads": { "ok": 1, "failed": 2, "last": "l", "errors": ["a.yaml:1:1: no"] }, "freezes": [other],
        });
        let told = report(&status);
        for line in [
            "ready      no",
            "reloads    1 taken, 2 refused; the last was refused at l:",
            "           a.yaml:1:1: no",
            "frozen     upstream `pay` until u (why[2J), since s by b",
        ] {
            assert!(told.lines().any(|told| told == line), "no {line} in\n{told}");
        }
        // Another version may know less.
        assert!(report(&json!({})).contains("frozen     nothing"));
    }

    #[test]
    fn asks_for_names_alone() {
        let target = |name: &str, route, upstream| {
            let named = Named {
                name: name.to_owned(),
                route,
                upstream,
            };
            named.target().ok()
        };
        assert_eq!(target("a-b_1", false, false).unwrap(), "/freezes/a-b_1");
        assert_eq!(target("a", false, true).unwrap(), "/freezes/a?kind=upstream");
        for wrong in ["", "a/b", "a?kind=route", "a b", "ä", "a\r\nx: y"] {
            assert_eq!(target(wrong, false, false), None, "{wrong}");
        }
    }
}
