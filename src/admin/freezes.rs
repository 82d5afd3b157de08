//! `/freezes`: what is frozen, freezing and thawing.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Asked, Problem, blocking};
use crate::conf::{Load, Read, nearest};
use crate::engine::{Freezable, Freeze, FreezeChange, rfc3339};
use crate::live::Live;
use crate::snapshot::Snapshot;

/// Letters of a reason.
const MAX_REASON: usize = 500;

impl Admin {
    /// What came of a request to `/freezes`.
    pub(super) async fn freezes(&self, asked: Asked) -> Result<Value, Problem> {
        let live = self.live.clone();
        // A change waits for the disk, and for others that change.
        blocking(move || match (&asked.name, &asked.method) {
            (None, _) => Ok(json!({ "freezes": frozen(&live) })),
            (Some(name), &Method::DELETE) => thaw(&live, &asked, name),
            (Some(name), _) => freeze(&live, &asked, name),
        })
        .await
    }
}

/// What is frozen now, for programs.
pub(super) fn frozen(live: &Live) -> Vec<Value> {
    let (held, now) = (live.freezes.held(), live.clock.now());
    let snapshot = &live.current().snapshot;
    let told = held.in_force(now).into_iter().map(|held| {
        let mut told = told(&held.freeze, snapshot);
        if let Some(members) = told.as_object_mut() {
            members.insert("since".to_owned(), shown(held.since, snapshot).into());
            members.insert("by".to_owned(), held.by.to_string().into());
        }
        told
    });
    told.collect()
}

fn told(freeze: &Freeze, snapshot: &Snapshot) -> Value {
    json!({
        "kind": freeze.kind.word(),
        "name": &*freeze.name,
        "until": freeze.until.map(|until| shown(until, snapshot)),
        "reason": &*freeze.reason,
    })
}

/// In the zone of the calendars, where it is one, without fractions of a second.
pub(super) fn shown(at: Timestamp, snapshot: &Snapshot) -> String {
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    rfc3339(at, snapshot.calendars.zone().unwrap_or(&TimeZone::UTC))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    until: Option<String>,
    r#for: Option<String>,
    reason: Option<String>,
}

fn freeze(live: &Live, asked: &Asked, name: &str) -> Result<Value, Problem> {
    let order = order(&asked.body)?;
    let kinds = kinds(&asked.query)?;
    // Held until this is over: no reload takes away a name that was just found.
    let turn = live.freezes.turn();
    let (generation, now) = (live.current(), live.clock.now());
    let snapshot = &generation.snapshot;
    let until = until(order.until.as_deref(), order.r#for.as_deref(), snapshot, now)?;
    let reason: Arc<str> = order.reason.unwrap_or_default().trim().into();
    check_reason(&reason)?;
    let meant = kinds.iter().filter(|kind| snapshot.has(**kind, name));
    let freezes: Vec<Freeze> = meant
        .map(|kind| Freeze {
            kind: *kind,
            name: name.into(),
            until,
            reason: reason.clone(),
        })
        .collect();
    if freezes.is_empty() {
        return Err(unknown(name, &kinds, snapshot));
    }
    let frozen = turn
        .freeze(freezes, now, asked.address)
        .map_err(|error| failed(&error))?;
    let freezes: Vec<Freeze> = frozen.iter().map(|held| Freeze::clone(&held.freeze)).collect();
    live.lasting.judge_again();
    tell(live, asked, now, &freezes, false);
    let told: Vec<Value> = freezes.iter().map(|freeze| told(freeze, snapshot)).collect();
    Ok(json!({ "frozen": told }))
}

fn thaw(live: &Live, asked: &Asked, name: &str) -> Result<Value, Problem> {
    let kinds = kinds(&asked.query)?;
    let turn = live.freezes.turn();
    let (generation, now) = (live.current(), live.clock.now());
    {
        let held = live.freezes.held();
        let frozen = held.in_force(now);
        let frozen = frozen
            .iter()
            .map(|held| &held.freeze)
            .filter(|freeze| kinds.contains(&freeze.kind));
        let names: Vec<&str> = frozen.map(|freeze| &*freeze.name).collect();
        if !names.contains(&name) {
            let hint = hint(name, names.into_iter());
            let detail = format!("nothing named `{}` is frozen{hint}", short(name));
            return Err(Problem::new(StatusCode::NOT_FOUND, "not-frozen", detail));
        }
    }
    let thawed = turn.thaw(&kinds, name, now).map_err(|error| failed(&error))?;
    let freezes: Vec<Freeze> = thawed.iter().map(|held| Freeze::clone(&held.freeze)).collect();
    tell(live, asked, now, &freezes, true);
    let told: Vec<Value> = freezes
        .iter()
        .map(|freeze| told(freeze, &generation.snapshot))
        .collect();
    Ok(json!({ "thawed": told }))
}

/// Everybody who has to know: the log, the audit log.
fn tell(live: &Live, asked: &Asked, at: Timestamp, freezes: &[Freeze], is_thaw: bool) {
    let generation = live.current();
    for freeze in freezes {
        let (kind, name) = (freeze.kind.word(), &freeze.name);
        let until = freeze.until.map(|until| shown(until, &generation.snapshot));
        match (is_thaw, until) {
            (true, _) => log::warn!("{} thawed {kind} `{name}`", asked.address),
            (false, Some(until)) => {
                log::warn!(
                    "{} froze {kind} `{name}` until {until}: {}",
                    asked.address,
                    freeze.reason
                );
            }
            (false, None) => log::warn!(
                "{} froze {kind} `{name}` until it is thawed: {}",
                asked.address,
                freeze.reason
            ),
        }
        let change = FreezeChange {
            at,
            address: asked.address,
            freeze: freeze.clone(),
            is_thaw,
        };
        generation.observer.froze(&Arc::new(change));
    }
}

fn order(body: &[u8]) -> Result<Order, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Order::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("not JSON such as `{{\"until\": \"06:00\", \"reason\": \"…\"}}`: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "body-unreadable", detail)
    })
}

/// What a request means: `?kind=` names one kind, otherwise it means both.
fn kinds(query: &str) -> Result<Vec<Freezable>, Problem> {
    match query {
        "" => Ok(Freezable::ALL.to_vec()),
        "kind=route" => Ok(vec![Freezable::Route]),
        "kind=upstream" => Ok(vec![Freezable::Upstream]),
        _ => {
            let detail = "the query is `kind=route`, `kind=upstream` or nothing";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "kind-invalid", detail))
        }
    }
}

/// The end that `until` or `for` says, in whole seconds.
pub(super) fn until(
    until: Option<&str>,
    lasts: Option<&str>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Option<Timestamp>, Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "until-invalid", detail);
    let until = match (until, lasts) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(invalid("`until` and `for` say the same: write one of them".into())),
        (Some(text), None) => {
            let at = snapshot.calendars.instant_after(text, now);
            at.map_err(|error| invalid(format!("`{}` {error}", short(text))))?
        }
        (None, Some(text)) => {
            let wanted = || invalid(format!("`{}` is not a duration above 0 such as `2h`", short(text)));
            let lasts = duration(text).filter(|lasts| !lasts.is_zero()).ok_or_else(wanted)?;
            let lasts = SignedDuration::try_from(lasts).map_err(|_| wanted())?;
            now.checked_add(lasts).map_err(|_| wanted())?
        }
    };
    // Clients are told whole seconds; nobody is told to come before the end.
    let rest = i64::from(until.subsec_nanosecond() > 0);
    let whole = Timestamp::from_second(until.as_second() + rest);
    whole
        .map(Some)
        .map_err(|_| invalid("the end is beyond all time".into()))
}

/// A duration as the configuration spells it.
fn duration(text: &str) -> Option<Duration> {
    let is_one_word = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let load = Load::new();
    let node = is_one_word.then(|| load.text("for", text))??;
    Duration::read(&node, &load)
}

/// It goes to logs and terminals: no line of it may look like another.
pub(super) fn check_reason(reason: &str) -> Result<(), Problem> {
    let is_plain = reason.chars().count() <= MAX_REASON && !reason.chars().any(char::is_control);
    let detail = format!("a reason is one line of at most {MAX_REASON} letters");
    match is_plain {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "reason-invalid", detail)),
    }
}

fn unknown(name: &str, kinds: &[Freezable], snapshot: &Snapshot) -> Problem {
    let routes = snapshot.router.iter().map(|(_, route)| &*route.name);
    let routes = routes.filter(|_| kinds.contains(&Freezable::Route));
    let upstreams = snapshot.upstreams.iter().map(|upstream| &*upstream.name);
    let upstreams = upstreams.filter(|_| kinds.contains(&Freezable::Upstream));
    let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
    let hint = hint(name, routes.chain(upstreams));
    let detail = format!("there is no {} `{}`{hint}", words.join(" or "), short(name));
    Problem::new(StatusCode::NOT_FOUND, "name-unknown", detail)
}

pub(super) fn hint<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    // What is far longer than any name is near none, and comparing takes as long as both are.
    let near = (name.len() <= 128).then(|| nearest(name, known)).flatten();
    near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"))
}

/// As much of what somebody sent as is worth repeating.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

fn failed(error: &crate::live::FreezeFailure) -> Problem {
    if error.is_for_want_of_a_folder() {
        return Problem::new(StatusCode::CONFLICT, "state-missing", error.to_string());
    }
    log::error!("a freeze cannot be kept: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "state-failed", error.to_string())
}
