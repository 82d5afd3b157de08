//! `gwanmun explain`: what would happen to a request, which rule decides, and when that changes.
//!
//! The gateway's own code decides; only the questions are answered from assumptions: the caller is who `--as` says, and
//! no limit is reached. Frozen and revoked is what the gateway's state folder, `--frozen` and `--revoked` say.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};

use super::{NO, complain, tell};
use crate::conf::nearest;
use crate::engine::{Freezable, Freeze, rfc3339};
use crate::policies::freeze::{Held, HeldFreeze, read_held};
use crate::policies::revocation::{self, read_revoked};
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
    /// Assume that a route or upstream is frozen, until then where that is said (RFC 3339, or HH:MM); may be repeated
    #[arg(long, value_name = "NAME[=UNTIL]")]
    frozen: Vec<String>,
    /// Assume that the caller is revoked
    #[arg(long)]
    revoked: bool,
    /// Leave aside what is frozen and revoked on the running gateway, which is read from the folder of `state:`
    #[arg(long)]
    no_state: bool,
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
    let kept = match arguments.no_state {
        true => Kept::default(),
        false => Kept::of(&snapshot),
    };
    asked.frozen = frozen(arguments, kept.frozen, &snapshot, at.at)?;
    asked.revoked = match arguments.revoked {
        true => Arc::new(revocation::Held::of_everybody()),
        false => kept.revoked,
    };
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

/// What the flags say is frozen, and what the running gateway keeps.
fn frozen(arguments: &Arguments, mut frozen: Held, snapshot: &Snapshot, at: Timestamp) -> anyhow::Result<Held> {
    for written in &arguments.frozen {
        let (name, until) = match written.split_once('=') {
            Some((name, until)) => (name, Some(until)),
            None => (written.as_str(), None),
        };
        let until = until.map(|until| {
            let instant = snapshot.calendars.instant_after(until, at);
            instant.map_err(|error| anyhow!("`{until}` {error}"))
        });
        let until = until.transpose()?;
        let kinds = Freezable::ALL.into_iter().filter(|kind| snapshot.has(*kind, name));
        let mut found = false;
        for kind in kinds {
            found = true;
            frozen.insert(HeldFreeze {
                freeze: Arc::new(Freeze {
                    kind,
                    name: name.into(),
                    until,
                    reason: Arc::from("assumed"),
                }),
                since: at,
                by: arguments.ip,
            });
        }
        if !found {
            let routes = snapshot.router.iter().map(|(_, route)| &*route.name);
            let names = routes.chain(snapshot.upstreams.iter().map(|upstream| &*upstream.name));
            let hint = nearest(name, names).map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            bail!("there is no route or upstream `{name}`{hint}");
        }
    }
    Ok(frozen)
}

/// What a running gateway keeps frozen and revoked. Whoever may not read that still gets an explanation.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub frozen: Held,
    pub revoked: Arc<revocation::Held>,
}

impl Kept {
    /// What the folder of `state:` says, as far as it can be read.
    pub fn of(snapshot: &Snapshot) -> Self {
        let Some(folder) = snapshot.state_folder() else {
            return Self::default();
        };
        Self {
            frozen: known("frozen", read_held(&folder)),
            revoked: Arc::new(known("revoked", read_revoked(&folder))),
        }
    }
}

fn known<T: Default>(what: &str, kept: Result<T, impl std::fmt::Display>) -> T {
    kept.unwrap_or_else(|error| {
        complain(&format!(
            "gwanmun: what is {what} is not known, and taken for nothing: {error}"
        ));
        T::default()
    })
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
