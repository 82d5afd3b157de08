//! `gwanmun explain`: what would happen to a request, which rule decides, and when that changes.
//!
//! The gateway's own code decides; only the questions are answered from assumptions: the caller is who `--as` says, and
//! limits were never used but for those that `--exhausted` names. Frozen and revoked is what the gateway's state folder,
//! `--frozen` and `--revoked` say. With `--shape` it shows what becomes of an answer instead. Of a record (`--record FILE --id ID`) the recorded answers are used, and the decision is compared to the recorded one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};

use super::replay::{decided, differences};
use super::{NO, complain, tell};
use crate::conf::nearest;
use crate::engine::{Answer, Answers, Freezable, Freeze, Lookup, Question, rfc3339};
use crate::observe::audit::reader::{NOT_RECORDED, Recorded};
use crate::policies::freeze::{Held, HeldFreeze, read_held};
use crate::policies::rate_limit::Limits;
use crate::policies::revocation::{self, read_revoked};
use crate::rehearse::{
    Case, Explanation, Made, Paint, ToldRecord, explain, read_claims, shape_of, shapes_for, show_findings,
};
use crate::snapshot::{self, Asked, Judged, Occasion, Snapshot};

/// More of an answer is not read.
const MAX_SAMPLE: u64 = 256 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gwanmun explain conf/bank.yaml 'POST /transfers' --as teller.yaml --at 2026-11-24T23:45+09:00\n\n  \
                  with teller.yaml: { sub: t2001, roles: [teller], scope: transfer:write, acr: otp, auth_age: 1m }\n\n  \
                  gwanmun explain conf/bank.yaml --record var/bank/audit.jsonl --id 4f1c0a…\n  \
                  gwanmun explain conf/shop.yaml 'GET /products/7' --shape ios < sample.json"
)]
pub(super) struct Arguments {
    /// The configuration: a file, or a directory whose `*.yaml` and `*.yml` come together
    file: PathBuf,
    /// The request: `METHOD /path?query` or `METHOD https://host/path?query`
    #[arg(required_unless_present_any = ["record", "shape"])]
    request: Option<String>,
    #[command(flatten)]
    assumed: Assumptions,
    /// Explain a recorded request instead, with the answers that were given then: the audit log it stands in
    #[arg(long, value_name = "FILE", requires = "id", conflicts_with_all = ["request", "Assumptions"])]
    record: Option<PathBuf>,
    /// The id of the recorded request, as its `X-Request-Id` said
    #[arg(long, value_name = "ID", requires = "record")]
    id: Option<String>,
    /// Cut the JSON answer on stdin instead, by the shape of that name, or the one that the client of that name gets
    #[arg(long, value_name = "NAME", conflicts_with = "record")]
    shape: Option<String>,
    /// Print `{route, decision: {effect, status, policy, code, reopens_at}, rules: [...], matched, rivals, limits, answer, next, ...}`
    #[arg(long)]
    json: bool,
}

/// What is assumed of a request.
#[derive(Debug, clap::Args)]
struct Assumptions {
    /// A YAML or JSON file with the claims of the caller, who is anonymous otherwise; `auth_age: 1m` may stand for `auth_time`
    #[arg(long = "as", value_name = "FILE")]
    claims: Option<PathBuf>,
    /// The authenticator that maps the claims; otherwise the route's first
    #[arg(long, value_name = "NAME", requires = "claims")]
    via: Option<String>,
    /// When, in RFC 3339; otherwise now
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Instant>,
    /// The kind of application that calls
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// The address it calls from; 127.0.0.1 otherwise
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// A header of the request; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Assume that a limit has no room left; may be repeated
    #[arg(long, value_name = "LIMIT")]
    exhausted: Vec<String>,
    /// Assume that a route or upstream is frozen, until then where that is said (RFC 3339, or HH:MM); may be repeated
    #[arg(long, value_name = "NAME[=UNTIL]")]
    frozen: Vec<String>,
    /// Assume that the caller is revoked
    #[arg(long)]
    revoked: bool,
    /// Leave aside what is frozen and revoked on the running gateway, which is read from the folder of `state:`
    #[arg(long)]
    no_state: bool,
}

/// An instant and the offset it was written in, which is how it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instant {
    pub at: Timestamp,
    pub offset: Offset,
}

impl Instant {
    fn now() -> Self {
        Self {
            at: Timestamp::now(),
            offset: Offset::UTC,
        }
    }
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
    if let Some(name) = &arguments.shape {
        return cut(arguments, name);
    }
    let (head, explanation) = match (&arguments.record, &arguments.id, &arguments.request) {
        (Some(log), Some(id), _) => (String::new(), of_record(&arguments.file, log, id)?),
        (_, _, Some(request)) => {
            let at = arguments.assumed.at.unwrap_or_else(Instant::now);
            let when = rfc3339(at.at, &TimeZone::fixed(at.offset));
            let explanation = of_request(&arguments.file, request, &arguments.assumed, at.at)?;
            (format!("{request} at {when}\n"), explanation)
        }
        _ => bail!("say which request, or which record"),
    };
    if arguments.json {
        tell(&format!("{:#}\n", explanation.json()))?;
    } else {
        tell(&format!("{head}{}", explanation.text(Paint::for_stdout())))?;
    }
    Ok(if explanation.is_refusal() { NO } else { 0 }.into())
}

/// Shows what a shape makes of the answer on stdin.
fn cut(arguments: &Arguments, name: &str) -> anyhow::Result<ExitCode> {
    let at = arguments.assumed.at.unwrap_or_else(Instant::now);
    let snapshot = open(&arguments.file, at.at)?;
    let shape = match (snapshot.defined.shapes.get(name), &arguments.request) {
        (Some(shape), _) => shape,
        (None, Some(request)) => {
            let address = arguments.assumed.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let mut asked = Asked::new(request, address, at.at)?;
            asked.come_from(name, &snapshot.clients)?;
            shape_of(&snapshot, &asked)?
                .with_context(|| format!("no shape cuts the answer to `{request}` for `{name}`"))?
        }
        (None, None) => {
            let client = snapshot.clients.get(name).with_context(|| {
                let known = snapshot
                    .defined
                    .shapes
                    .names()
                    .chain(snapshot.clients.names().map(|name| &**name));
                unknown("shape or client", name, known)
            })?;
            match &shapes_for(&snapshot, client)[..] {
                [only] => only.clone(),
                [] => bail!("no route has a shape for client `{name}`"),
                several => {
                    let names: Vec<String> = several.iter().map(|shape| format!("`{}`", shape.name())).collect();
                    bail!("client `{name}` gets {}: say which, or which request", names.join(", "))
                }
            }
        }
    };
    let mut sample = Vec::new();
    std::io::stdin()
        .take(MAX_SAMPLE)
        .read_to_end(&mut sample)
        .context("cannot read the answer on stdin")?;
    let made = Made::of(&*shape, &sample);
    tell(&match arguments.json {
        true => format!("{:#}\n", made.json()),
        false => made.text(),
    })?;
    Ok(if made.is_refused() { NO } else { 0 }.into())
}

fn of_request(file: &Path, request: &str, assumed: &Assumptions, at: Timestamp) -> anyhow::Result<Explanation> {
    let snapshot = open(file, at)?;
    let address = assumed.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut asked = Asked::new(request, address, at)?;
    for header in &assumed.headers {
        asked.add_header(header)?;
    }
    if let Some(client) = &assumed.client {
        asked.come_from(client, &snapshot.clients)?;
    }
    if let Some(file) = &assumed.claims {
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
        let claims = read_claims(&text).with_context(|| format!("no claims in `{shown}`"))?;
        asked.hold(claims).with_context(|| format!("no caller in `{shown}`"))?;
    }
    let defined = &snapshot.defined;
    if let Some(name) = &assumed.via {
        let known = defined.authenticators.iter().map(|(_, known)| &**known.name());
        let found = defined.authenticators.get(name);
        asked.via = Some(found.with_context(|| unknown("authenticator", name, known))?.0);
    }
    for name in &assumed.exhausted {
        let known = defined.limits.iter().map(|(_, limit)| &*limit.name);
        let found = defined.limits.get(name);
        asked
            .exhausted
            .push(found.with_context(|| unknown("limit", name, known))?.0);
    }
    let kept = match assumed.no_state {
        true => Kept::default(),
        false => Kept::of(&snapshot),
    };
    asked.frozen = frozen(assumed, kept.frozen, &snapshot, at)?;
    asked.revoked = match assumed.revoked {
        true => Arc::new(revocation::Held::of_everybody()),
        false => kept.revoked,
    };
    explain(&snapshot, &asked)
}

fn unknown<'k>(kind: &str, name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let hint = nearest(name, known).map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
    format!("there is no {kind} `{name}`{hint}")
}

/// Decides a recorded request again, with what was answered then.
fn of_record(file: &Path, log: &Path, id: &str) -> anyhow::Result<Explanation> {
    let recorded = find_record(log, id)?;
    let snapshot = open(file, recorded.at)?;
    let view = recorded.view();
    let headers: HeaderMap = recorded
        .headers
        .iter()
        .flat_map(|(name, values)| values.iter().flatten().map(move |value| (name, value)))
        .filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_str(value).ok()?)))
        .collect();
    let rules = snapshot.rules_for(&view);
    let lookup = Then {
        limits: &snapshot.defined.limits,
        recorded: recorded.answering(rules),
    };
    let case = Case {
        snapshot: &snapshot,
        request: view,
        headers: &headers,
        address: recorded.address,
        at: recorded.at,
        id: &recorded.id,
        is_assumed: false,
    };
    let mut explanation = case.explain(&lookup)?;
    let judged = case.judged(recorded.at, &lookup)?;
    let zone = snapshot.calendars.zone().cloned().unwrap_or(TimeZone::UTC);
    let is_same = *recorded.config == *snapshot.id;
    explanation.record = Some(ToldRecord {
        n: recorded.n,
        id: recorded.id.clone(),
        at: rfc3339(recorded.at, &zone),
        request: format!("{} {}{}", recorded.method, recorded.host, recorded.path),
        decided_under: (!is_same).then(|| recorded.config.clone()),
        explained_under: snapshot.id.to_string(),
        status: recorded.status,
        differences: differences(&recorded, &judged),
        lacking: lacking(&recorded, &judged),
    });
    Ok(explanation)
}

/// Answers as it was answered then. A limit that nobody asked then is assumed to have room.
struct Then<'a, L> {
    limits: &'a Limits,
    recorded: L,
}

impl<L: Lookup> Lookup for Then<'_, L> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        let mut answers = self.recorded.answer(asked).await;
        for ((_, question), answer) in asked.iter().zip(&mut answers) {
            if let (Question::Limit { limit, .. }, Answer::Unavailable { code: NOT_RECORDED }) = (question, &*answer)
                && let Some(rule) = self.limits.by_id(*limit)
            {
                *answer = Answer::Limit(rule.bounds.first(true));
            }
        }
        answers
    }
}

/// What nobody knows, as it was not asked then.
fn lacking(recorded: &Recorded, judged: &Judged<'_>) -> Vec<String> {
    let is_recorded = |name: &str| recorded.answers.iter().any(|(known, _)| known == name);
    let answers = judged.decision.answers.iter();
    answers
        .filter_map(|(at, answer)| {
            let name = judged.rule_names.get(usize::from(*at))?;
            match answer {
                Answer::Limit(_) if !is_recorded(name) => {
                    Some(format!("`{name}` was not asked then, and is taken to have room"))
                }
                Answer::Unavailable { code: NOT_RECORDED } => {
                    Some(format!("`{name}` got no answer then, and gets none now"))
                }
                _ => None,
            }
        })
        .collect()
}

/// The first record of the request with that id.
fn find_record(log: &Path, id: &str) -> anyhow::Result<Box<Recorded>> {
    let shown = log.display();
    let unreadable = || format!("cannot read `{shown}`");
    let mut lines = BufReader::new(File::open(log).with_context(unreadable)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if lines.read_until(b'\n', &mut line).with_context(unreadable)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.contains(id) {
            continue;
        }
        // Of other lines nobody asked.
        let is_meant = serde_json::from_str(&text).is_ok_and(|named: Named| named.id.as_deref() == Some(id));
        if !is_meant {
            continue;
        }
        let found = decided(text.trim_end()).map_err(|error| anyhow!("{shown}:{number}: {error}"))?;
        return found
            .with_context(|| format!("{shown}:{number}: the request could not be read, so nothing was decided"));
    }
    bail!("there is no record of a request `{id}` in `{shown}`")
}

/// As much of a line as tells which request it is about.
#[derive(serde::Deserialize)]
struct Named {
    id: Option<String>,
}

/// What the flags say is frozen, and what the running gateway keeps.
fn frozen(assumed: &Assumptions, mut frozen: Held, snapshot: &Snapshot, at: Timestamp) -> anyhow::Result<Held> {
    for written in &assumed.frozen {
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
                by: IpAddr::V4(Ipv4Addr::LOCALHOST),
            });
        }
        if !found {
            let routes = snapshot.router.iter().map(|(_, route)| &*route.name);
            let names = routes.chain(snapshot.upstreams.iter().map(|upstream| &*upstream.name));
            bail!(unknown("route or upstream", name, names));
        }
    }
    Ok(frozen)
}

/// What a running gateway keeps frozen and revoked. Whoever may not read that still gets an explanation.
#[derive(Debug, Default)]
struct Kept {
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
