//! `gwanmun explain`: what would happen to a request, which rule decides, and when that changes.
//!
//! The gateway's own code decides; only the questions are answered from assumptions: the caller is who `--as` says, and
//! no limit is reached.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};

use super::{NO, complain, tell};
use crate::engine::rfc3339;
use crate::rehearse::{Asked, Paint, explain, read_claims, show_findings};
use crate::snapshot::{self, Occasion, Snapshot};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  gwanmun explain conf/bank.yaml 'POST /transfers' --as teller.yaml --at 2026-11-24T23:45+09:00\n\n  \
                  with teller.yaml: { sub: t2001, roles: [teller], scope: transfer:write, acr: otp, auth_age: 1m }"
)]
pub(super) struct Arguments {
    /// The configuration: a file, or a directory whose `*.yaml` and `*.yml` come together
    file: PathBuf,
    /// The request: `METHOD /path?query` or `METHOD https://host/path?query`
    request: String,
    /// A YAML or JSON file with the claims of the caller, who is anonymous otherwise; `auth_age: 1m` may stand for `auth_time`
    #[arg(long = "as", value_name = "FILE")]
    claims: Option<PathBuf>,
    /// When, in RFC 3339; otherwise now
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Instant>,
    /// The kind of application that calls
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// The address it calls from
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    ip: IpAddr,
    /// A header of the request; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Print `{route, decision: {effect, status, policy, code, reopens_at}, rules: [...]}`
    #[arg(long)]
    json: bool,
}

/// An instant and the offset it was written in, which is how it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instant {
    pub at: Timestamp,
    pub offset: Offset,
}

pub(super) fn instant(text: &str) -> Result<Instant, String> {
    let at = text
        .parse()
        .map_err(|_| "not an instant such as `2026-11-24T23:45+09:00`")?;
    let written = Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset());
    Ok(Instant {
        at,
        offset: written.unwrap_or(Offset::UTC),
    })
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let at = arguments.at.unwrap_or_else(|| Instant {
        at: Timestamp::now(),
        offset: Offset::UTC,
    });
    let snapshot = open(&arguments.file, at.at)?;
    let mut asked = Asked::new(&arguments.request, arguments.ip, at.at)?;
    for header in &arguments.headers {
        asked.add_header(header)?;
    }
    if let Some(client) = &arguments.client {
        asked.come_from(client, &snapshot)?;
    }
    if let Some(file) = &arguments.claims {
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
        let claims = read_claims(&text).with_context(|| format!("no claims in `{shown}`"))?;
        asked.hold(claims).with_context(|| format!("no caller in `{shown}`"))?;
    }
    asked.strip(&snapshot);
    let explanation = explain(&snapshot, &asked)?;
    if arguments.json {
        tell(&format!("{:#}\n", explanation.json()))?;
    } else {
        let when = rfc3339(at.at, &TimeZone::fixed(at.offset));
        let head = format!("{} at {when}\n", arguments.request);
        tell(&format!("{head}{}", explanation.text(Paint::for_stdout())))?;
    }
    Ok(if explanation.is_refusal() { NO } else { 0 }.into())
}

/// Loads a configuration as a gateway that starts at `at` would; warnings go to stderr.
pub(super) fn open(file: &Path, at: Timestamp) -> anyhow::Result<Snapshot> {
    let occasion = Occasion {
        now: at,
        at_start: true,
    };
    let (snapshot, findings) = snapshot::load(file, occasion);
    if !findings.is_empty() {
        complain(show_findings(&findings, Paint::for_stderr()).trim_end());
    }
    snapshot.with_context(|| format!("`{}` cannot be used", file.display()))
}
