//! `gwanmun explain`: what would happen to a request, which rule decides, and when that changes.
//!
//! The gateway's own code decides; only the questions are answered from assumptions: the caller is who `--as` says, and
//! no limit is reached.

mod asked;
mod assumed;
mod told;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use futures::FutureExt;
use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use serde_json::Map;

use self::assumed::Assumed;
use super::paint::Paint;
use super::{NO, complain, tell};
use crate::engine::{Answer, Effect, Facts, Mark, Params, rfc3339};
use crate::snapshot::{self, Judged, Occasion, Snapshot, judge};
use crate::targets::Target;

pub use asked::{Asked, Sent, read_claims};
pub use told::{Explanation, ToldDecision, ToldRoute, ToldRule};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  gwanmun explain conf/bank.yaml 'POST /transfers' --as teller.yaml --at 2026-11-24T23:45+09:00\n\n  \
                  with teller.yaml: { sub: t2001, roles: [teller], scope: transfer:write, acr: otp, auth_age: 1m }"
)]
pub(super) struct Arguments {
    /// The configuration
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
    asked.strip(&snapshot.stripped);
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
    for finding in &findings {
        complain(&finding.to_string());
    }
    snapshot.with_context(|| format!("`{}` cannot be used", file.display()))
}

/// Decides and says why.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> anyhow::Result<Explanation> {
    let nothing = Map::new();
    let lookup = Assumed {
        authenticators: &snapshot.defined.authenticators,
        claims: asked.claims.as_ref().unwrap_or(&nothing),
    };
    let judged = judge(snapshot, asked.view(), asked.address, asked.at, &lookup);
    // An assumption is at hand: there is nothing to wait for.
    let judged = judged.now_or_never().context("an assumption was waited for")?;
    Ok(Explanation {
        route: judged.route.map(|route| ToldRoute {
            name: route.name.to_string(),
            place: route.place.to_string(),
            matches: snapshot
                .router
                .iter()
                .find(|(_, known)| known.name == route.name)
                .map(|(matches, _)| told::matching(matches))
                .unwrap_or_default(),
            target: target(snapshot, &route.target),
        }),
        client: judged.client.name.to_string(),
        address: asked.address,
        principal: judged.decision.principal.clone(),
        rules: rules(&judged, asked),
        decision: decision(&judged),
    })
}

fn target(snapshot: &Snapshot, target: &Target) -> String {
    let name = |at: usize| snapshot.upstreams.get(at).map_or("?", |upstream| &*upstream.name);
    match target {
        Target::Upstream(index) => format!("upstream `{}`", name(usize::from(index.0))),
        Target::Aggregate(aggregate) => {
            let upstreams = aggregate.upstreams();
            let names: Vec<String> = upstreams
                .iter()
                .map(|index| format!("`{}`", name(usize::from(index.0))))
                .collect();
            format!("an aggregate of {}", names.join(", "))
        }
        Target::Fixed(reply) => format!("{}, as it stands in the file", reply.status.as_u16()),
    }
}

fn rules(judged: &Judged<'_>, asked: &Asked) -> Vec<ToldRule> {
    let facts = Facts {
        now: asked.at,
        window_at: asked.at,
        address: asked.address,
        client: judged.client,
        request: asked.view(),
        params: Params {
            names: judged.params.names,
            values: judged.params.values.iter().copied().collect(),
        },
        principal: judged.decision.principal.clone(),
    };
    let numbered = judged.rules.iter().enumerate();
    numbered
        .map(|(at, rule)| {
            let mark = judged.trail.iter().find(|mark| usize::from(mark.rule) == at);
            let mut answers = judged.decision.answers.iter();
            let answer = answers.find(|(number, _)| usize::from(*number) == at);
            ToldRule {
                name: rule.name.to_string(),
                kind: rule.kind,
                place: rule.origin.to_string(),
                verdict: mark.map_or("not reached", verdict),
                why: mark.map(|mark| mark.why.words()),
                because: match (mark, answer) {
                    (None, _) => Vec::new(),
                    // The figures of an assumed answer would only mislead.
                    (Some(_), Some((_, Answer::Limit(_)))) => {
                        let mut lines = rule.policy.describe(&facts, None);
                        lines.push("assumed to have room".to_owned());
                        lines
                    }
                    (Some(_), answer) => rule.policy.describe(&facts, answer.map(|(_, answer)| answer)),
                },
            }
        })
        .collect()
}

fn verdict(mark: &Mark) -> &'static str {
    match (mark.refused, mark.shadow, mark.why.is_concerned()) {
        (true, true, _) => "would refuse",
        (true, false, _) => "refuses",
        (false, _, true) => "passes",
        (false, _, false) => "not concerned",
    }
}

fn decision(judged: &Judged<'_>) -> ToldDecision {
    let rule = |number: u16| judged.rules.get(usize::from(number));
    match &judged.decision.effect {
        Effect::Forward => ToldDecision {
            effect: "allow",
            status: judged.route.and_then(|route| match &route.target {
                Target::Fixed(reply) => Some(reply.status.as_u16()),
                Target::Upstream(_) | Target::Aggregate(_) => None,
            }),
            ..ToldDecision::default()
        },
        Effect::Reply(reply) => ToldDecision {
            effect: "allow",
            status: Some(reply.status.as_u16()),
            ..ToldDecision::default()
        },
        Effect::Deny(denial) => {
            let refusing = denial.rule.and_then(rule);
            let details = match &denial.messages {
                Some(messages) => messages.0.iter().map(|(_, text)| text.clone()).collect(),
                None => vec![denial.detail.to_string()],
            };
            ToldDecision {
                effect: denial.kind.word(),
                status: Some(denial.status.as_u16()),
                policy: refusing.map(|rule| rule.name.to_string()),
                code: Some(denial.code.to_string()),
                reopens_at: denial.reopens_at.as_ref().map(|(at, zone)| rfc3339(*at, zone)),
                place: refusing.map(|rule| rule.origin.to_string()),
                details,
                allow: judged.allow.as_ref().map(ToString::to_string),
            }
        }
    }
}

#[cfg(test)]
mod tests;
