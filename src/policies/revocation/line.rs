//! What is held as lines of JSON: the last line about somebody is what stands.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::held::{Held, Item};
use super::marks::{EVER, Marks, NEVER, end, instant, seconds};
use crate::engine::Whom;

/// The first line of the file.
pub(super) const HEAD: &[u8] = b"{\"v\":1}\n";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    v: u32,
}

/// Whose tokens; which of them is told by `every` (with `until`, where there is an end) and `issued_before`. Of a single
/// token, that tells when it was issued at the latest. A revocation that was `lifted` has nothing of these, and takes the
/// `floor` of an authenticator, or of all, along.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<S> {
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticator: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<S>,
    #[serde(default, skip_serializing_if = "is_false")]
    everybody: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    every: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_false")]
    lifted: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Writes one line, with its line feed.
pub(super) fn write(out: &mut Vec<u8>, item: &Item) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *out, &line(item))?;
    out.push(b'\n');
    Ok(())
}

fn line(item: &Item) -> Line<&str> {
    let (whom, marks) = match item {
        Item::Marked(whom, marks) => (whom, *marks),
        Item::Floor(authenticator, floor) => {
            return Line {
                authenticator: authenticator.as_deref(),
                everybody: authenticator.is_none(),
                floor: Some(instant(*floor)),
                ..Line::default()
            };
        }
    };
    let line = Line {
        every: marks.until != NEVER,
        until: end(marks.until).filter(|_| marks.until != NEVER),
        issued_before: (marks.before != NEVER).then(|| instant(marks.before)),
        lifted: marks.is_none(),
        ..Line::default()
    };
    match whom {
        Whom::Identity {
            authenticator,
            issuer,
            subject,
        } => Line {
            authenticator: Some(authenticator),
            issuer: Some(issuer),
            sub: Some(subject),
            ..line
        },
        Whom::Subject(subject) => Line {
            sub: Some(subject),
            ..line
        },
        Whom::Token {
            authenticator,
            issuer,
            id,
        } => Line {
            authenticator: Some(authenticator),
            issuer: Some(issuer),
            jti: Some(id),
            ..line
        },
        Whom::Authenticator(name) => Line {
            authenticator: Some(name),
            ..line
        },
        Whom::Issuer(issuer) => Line {
            issuer: Some(issuer),
            ..line
        },
        Whom::Everybody => Line {
            everybody: true,
            ..line
        },
    }
}

/// Takes in the line of that number; the error says what is wrong with it.
pub(super) fn read(held: &Held, number: usize, text: &[u8]) -> Result<(), String> {
    let unreadable = |error: serde_json::Error| format!("line {number}: {error}");
    if number == 1 {
        let Head { v } = serde_json::from_slice(text).map_err(unreadable)?;
        return match v {
            1 => Ok(()),
            _ => Err(format!("it is of version {v}, and this gateway knows 1")),
        };
    }
    let line: Line<String> = serde_json::from_slice(text).map_err(unreadable)?;
    let wrong = || format!("line {number}: nothing that a gateway writes");
    match item(line).ok_or_else(wrong)? {
        Item::Marked(whom, marks) if marks.is_none() => held.lift(&whom),
        Item::Marked(whom, marks) => held.set(&whom, marks),
        Item::Floor(authenticator, floor) => held.set_floor(authenticator.as_ref(), floor),
    }
    Ok(())
}

fn item(line: Line<String>) -> Option<Item> {
    let Line {
        authenticator,
        issuer,
        sub,
        jti,
        everybody,
        every,
        until,
        issued_before,
        floor,
        lifted,
    } = line;
    let says = every || issued_before.is_some() || floor.is_some();
    if says == lifted || (until.is_some() && !every) || (floor.is_some() && (every || issued_before.is_some())) {
        return None;
    }
    let marks = Marks {
        until: match (every, until) {
            (false, _) => NEVER,
            (true, None) => EVER,
            (true, Some(until)) => seconds(until),
        },
        before: issued_before.map_or(NEVER, seconds),
    };
    let authenticator: Option<Arc<str>> = authenticator.map(Arc::from);
    let issuer: Option<Arc<str>> = issuer.map(Arc::from);
    let whom = match (authenticator, issuer, sub, jti, everybody) {
        (Some(authenticator), Some(issuer), Some(subject), None, false) => Whom::Identity {
            authenticator,
            issuer,
            subject: subject.into(),
        },
        (None, None, Some(subject), None, false) => Whom::Subject(subject.into()),
        // Without `issued_before` nobody could say when it may be forgotten.
        (Some(authenticator), Some(issuer), None, Some(id), false) if lifted || (every && issued_before.is_some()) => {
            Whom::Token {
                authenticator,
                issuer,
                id: id.into(),
            }
        }
        (Some(name), None, None, None, false) => Whom::Authenticator(name),
        (None, Some(issuer), None, None, false) => Whom::Issuer(issuer),
        (None, None, None, None, true) => Whom::Everybody,
        _ => return None,
    };
    match (floor, whom) {
        (None, whom) => Some(Item::Marked(whom, marks)),
        (Some(floor), Whom::Authenticator(name)) => Some(Item::Floor(Some(name), seconds(floor))),
        (Some(floor), Whom::Everybody) => Some(Item::Floor(None, seconds(floor))),
        (Some(_), _) => None,
    }
}
