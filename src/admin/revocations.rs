//! `/revocations`: how much is revoked, revoking and lifting.

use std::sync::Arc;

use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::freezes::{check_reason, hint, short, shown, until};
use super::{Admin, Asked, Problem, blocking};
use crate::engine::{Extent, Revocation, RevocationChange, Whom};
use crate::live::{Live, MAX_REVOCATIONS, REVOCATION_SKEW, RevocationFailure};
use crate::snapshot::Snapshot;

impl Admin {
    /// What came of a request to `/revocations`.
    pub(super) async fn revocations(&self, asked: Asked) -> Result<Value, Problem> {
        let live = self.live.clone();
        blocking(move || match asked.method {
            Method::POST => revoke(&live, &asked),
            Method::DELETE => lift(&live, &asked),
            _ => Ok(json!({ "revocations": figures(&live) })),
        })
        .await
    }
}

/// How much is revoked, for programs. Nobody is named: the audit log does that.
pub(super) fn figures(live: &Live) -> Value {
    let figures = live.revocations.figures();
    let mut told = json!({
        "held": figures.total(),
        "most": MAX_REVOCATIONS,
        "memory_bytes": figures.memory,
        "floors": figures.floors,
    });
    if let Some(members) = told.as_object_mut() {
        let counts = figures.counts.iter();
        members.extend(counts.map(|(whom, count)| (whom.word().to_owned(), (*count).into())));
    }
    told
}

/// Whose tokens, as an operator says it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    authenticator: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    jti: Option<String>,
    #[serde(default)]
    anywhere: bool,
    #[serde(default)]
    everybody: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    authenticator: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    jti: Option<String>,
    #[serde(default)]
    anywhere: bool,
    #[serde(default)]
    everybody: bool,
    issued_before: Option<String>,
    until: Option<String>,
    r#for: Option<String>,
    expires: Option<Value>,
    reason: Option<String>,
}

fn revoke(live: &Live, asked: &Asked) -> Result<Value, Problem> {
    let order: Order = serde_json::from_slice(&asked.body).map_err(|error| {
        let detail = format!("not JSON such as `{{\"subject\": \"…\", \"authenticator\": \"…\"}}`: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "body-unreadable", detail)
    })?;
    let reason: Arc<str> = order.reason.as_deref().unwrap_or_default().trim().into();
    check_reason(&reason)?;
    let mut turn = live.revocations.turn();
    let (generation, now) = (live.current(), live.clock.now());
    let snapshot = &generation.snapshot;
    let named = Named {
        authenticator: order.authenticator.clone(),
        issuer: order.issuer.clone(),
        subject: order.subject.clone(),
        jti: order.jti.clone(),
        anywhere: order.anywhere,
        everybody: order.everybody,
    };
    let whom = named.whom(snapshot, true)?;
    let extent = order.extent(&whom, snapshot, now)?;
    let revocation = Revocation { whom, extent };
    let standing = turn.revoke(&revocation, now, live.lifetimes().as_ref());
    let standing = standing.map_err(|error| failed(&error))?;
    generation
        .verifiers
        .forget(|principal| revocation.whom.concerns(principal));
    live.lasting.judge_again();
    let told: Vec<Value> = standing.iter().map(|standing| told(standing, snapshot)).collect();
    tell(live, asked, now, vec![revocation], &reason, false);
    Ok(json!({ "revoked": told }))
}

fn lift(live: &Live, asked: &Asked) -> Result<Value, Problem> {
    let named = Named::of_query(&asked.query)?;
    let mut turn = live.revocations.turn();
    let (generation, now) = (live.current(), live.clock.now());
    let whom = named.whom(&generation.snapshot, false)?;
    let lifted = turn.lift(&whom).map_err(|error| failed(&error))?;
    if lifted.is_empty() {
        let detail = format!("of {}, nothing is revoked", words(&whom));
        return Err(Problem::new(StatusCode::NOT_FOUND, "not-revoked", detail));
    }
    let told: Vec<Value> = lifted.iter().map(|lifted| told(lifted, &generation.snapshot)).collect();
    tell(live, asked, now, lifted, &Arc::from(""), true);
    Ok(json!({ "lifted": told }))
}

/// Everybody who has to know: the log, which names nobody, and the audit log.
fn tell(live: &Live, asked: &Asked, at: Timestamp, all: Vec<Revocation>, reason: &Arc<str>, is_lifted: bool) {
    let generation = live.current();
    for revocation in all {
        let verb = if is_lifted { "lifted a revocation of" } else { "revoked" };
        let (who, which) = (words(&revocation.whom), extent_words(&revocation, &generation.snapshot));
        let why = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        log::warn!("{} {verb} {who}{which}{why}", asked.address);
        let change = RevocationChange {
            at,
            address: asked.address,
            revocation,
            reason: reason.clone(),
            is_lifted,
        };
        generation.observer.revoked(&Arc::new(change));
    }
}

fn words(whom: &Whom) -> String {
    match whom {
        Whom::Identity { authenticator, .. } => format!("a caller of `{}`", short(authenticator)),
        Whom::Subject(_) => "a subject, whoever vouches for it".to_owned(),
        Whom::Token { authenticator, .. } => format!("a token of `{}`", short(authenticator)),
        Whom::Authenticator(name) => format!("everything of `{}`", short(name)),
        Whom::Issuer(issuer) => format!("everything of the issuer `{}`", short(issuer)),
        Whom::Everybody => "everything".to_owned(),
    }
}

fn extent_words(revocation: &Revocation, snapshot: &Snapshot) -> String {
    match revocation.extent {
        Extent::Every { until: None } => String::new(),
        Extent::Every { until: Some(until) } => format!(" until {}", shown(until, snapshot)),
        Extent::IssuedBefore(instant) => format!(" issued before {}", shown(instant, snapshot)),
    }
}

fn told(revocation: &Revocation, snapshot: &Snapshot) -> Value {
    let mut told = Map::new();
    let mut add = |name: &str, value: Value| told.insert(name.to_owned(), value);
    add("whom", revocation.whom.reach().word().into());
    match &revocation.whom {
        Whom::Identity {
            authenticator,
            issuer,
            subject,
        } => {
            add("authenticator", (&**authenticator).into());
            add("issuer", (&**issuer).into());
            add("subject", (&**subject).into());
        }
        Whom::Subject(subject) => {
            add("subject", (&**subject).into());
        }
        Whom::Token {
            authenticator,
            issuer,
            id,
        } => {
            add("authenticator", (&**authenticator).into());
            add("issuer", (&**issuer).into());
            add("jti", (&**id).into());
        }
        Whom::Authenticator(name) => {
            add("authenticator", (&**name).into());
        }
        Whom::Issuer(issuer) => {
            add("issuer", (&**issuer).into());
        }
        Whom::Everybody => {}
    }
    match revocation.extent {
        Extent::Every { until } => add("until", until.map(|until| shown(until, snapshot)).into()),
        Extent::IssuedBefore(instant) => add("issued_before", shown(instant, snapshot).into()),
    };
    Value::Object(told)
}

impl Named {
    /// Reads `authenticator=customer&subject=u1`, percent-encoded as in a form.
    fn of_query(query: &str) -> Result<Self, Problem> {
        let invalid = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "whom-invalid", detail);
        let mut members = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8();
            let value = value.map_err(|_| invalid("the query is not UTF-8"))?;
            let value = match (name, &*value) {
                ("anywhere" | "everybody", "true") => Value::Bool(true),
                (_, text) => Value::from(text),
            };
            if members.insert(name.to_owned(), value).is_some() {
                return Err(invalid("the query says something twice"));
            }
        }
        serde_json::from_value(Value::Object(members)).map_err(|error| {
            invalid(&format!(
                "the query does not say whose tokens: {}",
                short(&error.to_string())
            ))
        })
    }

    /// Whom that is. Names have to be known to revoke, as one that is misspelt would never hit; what is gone from the
    /// configuration can still be lifted.
    fn whom(&self, snapshot: &Snapshot, must_be_known: bool) -> Result<Whom, Problem> {
        let all = [&self.authenticator, &self.issuer, &self.subject, &self.jti];
        if all.into_iter().flatten().any(String::is_empty) {
            return Err(invalid("an empty name is nobody's"));
        }
        let of_one = || self.vouching(snapshot, must_be_known);
        let nobody = self.authenticator.is_none() && self.issuer.is_none();
        let names = (self.subject.as_deref(), self.jti.as_deref());
        match (names, self.anywhere, self.everybody) {
            ((Some(subject), None), false, false) => {
                let (authenticator, issuer) = of_one()?;
                Ok(Whom::Identity {
                    authenticator,
                    issuer,
                    subject: readable(subject)?,
                })
            }
            ((Some(subject), None), true, false) if nobody => Ok(Whom::Subject(readable(subject)?)),
            ((None, Some(id)), false, false) => {
                let (authenticator, issuer) = of_one()?;
                Ok(Whom::Token {
                    authenticator,
                    issuer,
                    id: id.into(),
                })
            }
            ((None, None), false, true) if nobody => Ok(Whom::Everybody),
            ((None, None), false, false) => match (&self.authenticator, &self.issuer) {
                (Some(name), None) if must_be_known => Ok(Whom::Authenticator(known(snapshot, name)?.0)),
                (Some(name), None) => Ok(Whom::Authenticator(name.as_str().into())),
                (None, Some(issuer)) if must_be_known => known_issuer(snapshot, issuer).map(Whom::Issuer),
                (None, Some(issuer)) => Ok(Whom::Issuer(issuer.as_str().into())),
                _ => Err(invalid(WHOM)),
            },
            _ => Err(invalid(WHOM)),
        }
    }

    /// The authenticator and the issuer, where one of them goes without saying.
    fn vouching(&self, snapshot: &Snapshot, must_be_known: bool) -> Result<(Arc<str>, Arc<str>), Problem> {
        if let (Some(name), Some(issuer), false) = (&self.authenticator, &self.issuer, must_be_known) {
            return Ok((name.as_str().into(), issuer.as_str().into()));
        }
        let (name, own) = match &self.authenticator {
            Some(name) => known(snapshot, name)?,
            None => {
                let mut all = snapshot.defined.authenticators.iter();
                match (all.next(), all.next()) {
                    (Some((_, only)), None) => (only.name().clone(), only.issuer().clone()),
                    _ => {
                        return Err(invalid(
                            "say whose: `authenticator`, or `anywhere` for a subject of all",
                        ));
                    }
                }
            }
        };
        match &self.issuer {
            Some(issuer) if **issuer != *own => {
                let detail = format!("the issuer of `{name}` is `{own}`");
                Err(invalid(&detail))
            }
            _ => Ok((name, own)),
        }
    }
}

const WHOM: &str = "say whose: a `subject` of an `authenticator` (or `anywhere`), a `jti` of one, or everything `issued_before` \
                    an instant of an `authenticator`, of an `issuer`, or of `everybody`";

fn invalid(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "whom-invalid", detail)
}

fn readable(subject: &str) -> Result<Arc<str>, Problem> {
    match subject.chars().any(char::is_control) {
        true => Err(invalid("no authenticator takes a subject with control characters")),
        false => Ok(subject.into()),
    }
}

/// An authenticator's name and issuer.
fn known(snapshot: &Snapshot, name: &str) -> Result<(Arc<str>, Arc<str>), Problem> {
    let authenticators = &snapshot.defined.authenticators;
    if let Some((_, known)) = authenticators.get(name) {
        return Ok((known.name().clone(), known.issuer().clone()));
    }
    let hint = hint(name, authenticators.iter().map(|(_, known)| &**known.name()));
    let detail = format!("there is no authenticator `{}`{hint}", short(name));
    Err(Problem::new(StatusCode::NOT_FOUND, "name-unknown", detail))
}

fn known_issuer(snapshot: &Snapshot, issuer: &str) -> Result<Arc<str>, Problem> {
    let mut all = snapshot.defined.authenticators.iter().map(|(_, known)| known.issuer());
    if let Some(known) = all.find(|known| ***known == *issuer) {
        return Ok(known.clone());
    }
    let all = snapshot.defined.authenticators.iter();
    let hint = hint(issuer, all.map(|(_, known)| &**known.issuer()));
    let detail = format!("no authenticator takes what `{}` issues{hint}", short(issuer));
    Err(Problem::new(StatusCode::NOT_FOUND, "name-unknown", detail))
}

impl Order {
    /// How much of it.
    fn extent(&self, whom: &Whom, snapshot: &Snapshot, now: Timestamp) -> Result<Extent, Problem> {
        let refused = |code, detail: &str| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail));
        let has_end = self.until.is_some() || self.r#for.is_some();
        let is_token = matches!(whom, Whom::Token { .. });
        if self.expires.is_some() && !is_token {
            return refused("expires-invalid", "`expires` is the end of the token that `jti` names");
        }
        match (whom, &self.issued_before) {
            (Whom::Token { .. }, Some(_)) => {
                refused("issued-before-invalid", "a token that `jti` names is revoked whole")
            }
            (Whom::Token { .. }, None) if has_end => {
                refused("until-invalid", "a token stays revoked to its end: say `expires`")
            }
            (Whom::Token { .. }, None) => {
                let expires = self.expires.as_ref().map(|expires| ends(expires, now)).transpose()?;
                Ok(Extent::Every { until: expires })
            }
            (_, Some(_)) if has_end => refused(
                "until-invalid",
                "what was issued before an instant stays revoked to the end of the last token",
            ),
            (_, Some(text)) => issued_before(text, now).map(Extent::IssuedBefore),
            (Whom::Identity { .. } | Whom::Subject(_), None) => {
                let until = until(self.until.as_deref(), self.r#for.as_deref(), snapshot, now)?;
                Ok(Extent::Every { until })
            }
            (_, None) => refused(
                "issued-before-invalid",
                "of so many, only what was `issued_before` an instant is revoked",
            ),
        }
    }
}

/// An instant that tokens were issued before, in whole seconds. One to come would refuse all logins till then; a little is
/// forgiven to clocks.
fn issued_before(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let invalid = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "issued-before-invalid", detail);
    let instant = match text {
        "now" => now,
        _ => text.parse().map_err(|_| {
            let detail = format!(
                "`{}` is not an instant such as 2026-11-24T23:45:00+09:00, nor `now`",
                short(text)
            );
            invalid(&detail)
        })?,
    };
    if instant > later(now) {
        return Err(invalid("it is yet to come: whoever logs in till then would be refused"));
    }
    whole(instant).ok_or_else(|| invalid("it is beyond all time"))
}

/// The instant until which a token is kept revoked that says it expires then, as `exp` or in RFC 3339.
fn ends(expires: &Value, now: Timestamp) -> Result<Timestamp, Problem> {
    let invalid = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "expires-invalid", detail);
    let written = || invalid("`expires` is the `exp` of the token: seconds since 1970, or an instant in RFC 3339");
    let expires: Timestamp = match expires {
        Value::String(text) => match text.parse::<i64>() {
            Ok(second) => Timestamp::from_second(second).map_err(|_| written())?,
            Err(_) => text.parse().map_err(|_| written())?,
        },
        Value::Number(second) => {
            let second = second.as_i64().ok_or_else(written)?;
            Timestamp::from_second(second).map_err(|_| written())?
        }
        _ => return Err(written()),
    };
    // Authenticators take a token for a while longer.
    let until = later(expires);
    if until <= now {
        return Err(invalid("the token has ended: it is refused as it is"));
    }
    whole(until).ok_or_else(|| invalid("it is beyond all time"))
}

fn later(at: Timestamp) -> Timestamp {
    let skew = SignedDuration::try_from(REVOCATION_SKEW).unwrap_or(SignedDuration::ZERO);
    at.checked_add(skew).unwrap_or(Timestamp::MAX)
}

/// A fraction of a second counts as one.
fn whole(at: Timestamp) -> Option<Timestamp> {
    let rest = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().checked_add(rest)?).ok()
}

fn failed(error: &RevocationFailure) -> Problem {
    let (status, code) = match error {
        RevocationFailure::NoState => (StatusCode::CONFLICT, "state-missing"),
        RevocationFailure::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "revocations-full"),
        RevocationFailure::State(_) | RevocationFailure::Unreadable { .. } => {
            log::error!("a revocation cannot be kept: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "state-failed")
        }
    };
    Problem::new(status, code, error.to_string())
}
