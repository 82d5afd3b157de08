//! What may vary about the requests of one route: who calls, from where, with what, and when.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Number, Value};

use super::networks::addresses;
use super::sides::Token;
use super::units::Variant;
use crate::conf::Describe;
use crate::engine::Mentions;
use crate::policies::clients::Clients;
use crate::snapshot::Asked;

/// Of more names than that not every combination is tried.
const ALL_COMBINATIONS: usize = 4;
/// Of more names than that not every pair is tried.
const ALL_PAIRS: usize = 6;
/// So many pairs of clients are tried at once.
const MAX_PAIRS: usize = 40;
/// A caller where nothing is said about addresses (RFC 5737).
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Another value than all that are named.
const OTHER: &str = "another-value";
/// Where tokens say when the login was.
const AUTH_TIME: &str = "auth_time";

/// Something that varies, with the values it takes.
#[derive(Debug)]
pub(super) struct Axis {
    pub about: About,
    pub choices: Vec<Choice>,
}

/// What varies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    Request,
    Caller,
    Client,
    Address,
    Header(HeaderName),
    Query(String),
    Claim(String),
    Login,
    Scopes,
    Roles,
    Time,
}

/// One of the values.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    Request(Variant),
    Anonymous,
    Token(Token),
    /// The headers of a client of that name; the one nothing matches has neither.
    Client(String, Vec<(HeaderName, String)>),
    /// An address, and words for the networks it stands for; none for all others.
    Address(IpAddr, Vec<String>),
    /// The value of a header or parameter; `None` where there is none, `Some(None)` for one that is not named.
    Text(Option<Option<String>>),
    /// A claim's value with words for it, where it is named; `None` where it is absent.
    Claim(Option<(Value, Option<String>)>),
    /// How long ago the login was, with words for it; `None` where the issuer does not say.
    Login(Option<Duration>, String),
    /// What is held.
    Names(Vec<String>),
    Time(Timestamp),
}

impl About {
    /// Whether it makes no difference for a caller nobody knows.
    pub fn is_of_caller(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Login | Self::Scopes | Self::Roles)
    }
}

/// The axes on which requests of a route vary, times left out. What was not tried is added to `cut`.
pub(super) fn axes(
    variants: Vec<Variant>,
    tokens: Vec<Token>,
    mentions: &[&Mentions],
    clients: [&Clients; 2],
    cut: &mut Vec<String>,
) -> Vec<Axis> {
    let mut axes = vec![Axis {
        about: About::Request,
        choices: variants.into_iter().map(Choice::Request).collect(),
    }];
    let has_callers = !tokens.is_empty();
    axes.push(Axis {
        about: About::Caller,
        choices: [Choice::Anonymous]
            .into_iter()
            .chain(tokens.into_iter().map(Choice::Token))
            .collect(),
    });
    if mentions.iter().any(|one| !one.clients.is_empty()) {
        axes.push(self::clients(clients, cut));
    }
    let networks: Vec<&Vec<IpNet>> = mentions.iter().flat_map(|one| &one.networks).collect();
    if !networks.is_empty() {
        axes.push(Axis {
            about: About::Address,
            choices: addresses(&networks, ADDRESS),
        });
    }
    for (name, values) in grouped(mentions.iter().flat_map(|one| &one.headers)) {
        axes.push(texts(About::Header(name), values));
    }
    for (name, values) in grouped(mentions.iter().flat_map(|one| &one.query)) {
        axes.push(texts(About::Query(name), values));
    }
    if !has_callers {
        return axes;
    }
    for (path, values) in grouped(mentions.iter().flat_map(|one| &one.claims)) {
        axes.push(claim(path, values));
    }
    let ages = once(mentions.iter().flat_map(|one| &one.login_ages));
    if !ages.is_empty() {
        if mentions
            .iter()
            .flat_map(|one| &one.claims)
            .any(|(path, _)| path == AUTH_TIME)
        {
            cut.push("values of claims.auth_time are not tried together with the ages of logins".to_owned());
        }
        axes.push(logins(ages));
    }
    axes.push(scopes(mentions, cut));
    let roles = once(mentions.iter().flat_map(|one| &one.roles));
    axes.push(Axis {
        about: About::Roles,
        choices: combinations(&roles, "roles", cut)
            .into_iter()
            .map(Choice::Names)
            .collect(),
    });
    axes
}

/// The request that `choices`, one of each axis, make; `None` for what cannot be asked.
pub(super) fn asked<'c>(choices: impl Iterator<Item = (&'c About, &'c Choice)>) -> anyhow::Result<Asked> {
    let mut headers: Vec<(&HeaderName, &str)> = Vec::new();
    let mut query = String::new();
    let mut claims = Map::new();
    let (mut variant, mut token, mut names, mut age) = (None, None, Vec::new(), None);
    let (mut address, mut at) = (ADDRESS, Timestamp::UNIX_EPOCH);
    for (about, choice) in choices {
        match (about, choice) {
            (_, Choice::Request(chosen)) => variant = Some(chosen),
            (_, Choice::Token(chosen)) => token = Some(chosen),
            (_, Choice::Client(_, chosen)) => headers.extend(chosen.iter().map(|(name, value)| (name, value.as_str()))),
            (_, Choice::Address(chosen, _)) => address = *chosen,
            (_, Choice::Time(chosen)) => at = *chosen,
            (About::Header(name), Choice::Text(Some(value))) => {
                headers.push((name, value.as_deref().unwrap_or(OTHER)));
            }
            (About::Query(name), Choice::Text(Some(value))) => {
                let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
                let value = encoded(value.as_deref().unwrap_or(OTHER));
                let joint = if query.is_empty() { "?" } else { "&" };
                query.push_str(&format!("{joint}{}={value}", encoded(name)));
            }
            (About::Claim(path), Choice::Claim(Some((value, _)))) => {
                claims.insert(path.clone(), value.clone());
            }
            (_, Choice::Login(chosen, _)) => age = *chosen,
            (about, Choice::Names(held)) => names.push((about, held)),
            _ => {}
        }
    }
    let variant = variant.ok_or_else(|| anyhow::anyhow!("a route without a request"))?;
    let Variant { method, host, path, .. } = variant;
    let mut asked = Asked::new(&format!("{method} https://{host}{path}{query}"), address, at)?;
    // The later of two that set one header decides; a header that is sent twice is a case of its own.
    let demanded = variant.headers.iter().map(|(name, value)| (name, value.as_str()));
    let all: Vec<(&HeaderName, &str)> = demanded.chain(headers).collect();
    for (at, (name, value)) in all.iter().enumerate() {
        if !all.iter().skip(at + 1).any(|(later, _)| later == name) {
            asked.add_header(&format!("{name}: {value}"))?;
        }
    }
    let Some(token) = token else {
        return Ok(asked);
    };
    for (about, held) in names {
        let claim = if *about == About::Roles {
            &token.roles
        } else {
            &token.scopes
        };
        if !held.is_empty() && !claims.contains_key(claim) {
            claims.insert(claim.clone(), held.clone().into());
        }
    }
    if let Some(age) = age.filter(|_| !claims.contains_key(AUTH_TIME)) {
        let login = at.checked_sub(SignedDuration::try_from(age)?)?;
        claims.insert(AUTH_TIME.to_owned(), login.as_second().into());
    }
    if !claims.get("sub").is_some_and(Value::is_string) {
        claims.insert("sub".to_owned(), OTHER.into());
    }
    asked.hold(claims)?;
    Ok(asked)
}

/// Each name once, with all its values once, in the order they come.
fn grouped<'m, N: Clone + PartialEq + 'm, V: Clone + PartialEq + 'm>(
    all: impl Iterator<Item = &'m (N, Vec<V>)>,
) -> Vec<(N, Vec<V>)> {
    let mut groups: Vec<(N, Vec<V>)> = Vec::new();
    for (name, values) in all {
        let at = groups.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            groups.push((name.clone(), Vec::new()));
            groups.len() - 1
        });
        for value in values {
            if let Some((_, known)) = groups.get_mut(at).filter(|(_, known)| !known.contains(value)) {
                known.push(value.clone());
            }
        }
    }
    groups
}

pub(super) fn once<'m, T: Clone + PartialEq + 'm>(all: impl Iterator<Item = &'m T>) -> Vec<T> {
    let mut seen: Vec<T> = Vec::new();
    for one in all {
        if !seen.contains(one) {
            seen.push(one.clone());
        }
    }
    seen
}

fn clients(sides: [&Clients; 2], cut: &mut Vec<String>) -> Axis {
    let mut choices = vec![(String::new(), Vec::new())];
    for (name, headers) in sides.into_iter().flat_map(Clients::samples) {
        let headers: Vec<(HeaderName, String)> = headers
            .into_iter()
            .map(|(name, value)| (name.clone(), value.to_owned()))
            .collect();
        if !choices.iter().any(|(_, known)| *known == headers) {
            choices.push((name.to_string(), headers));
        }
    }
    let [now, next] = sides;
    if !(now.told_otherwise(next).is_empty() && next.told_otherwise(now).is_empty()) {
        // Who has the headers of two may be the one here and the other there.
        let mut pairs = Vec::new();
        for (at, (one, own)) in choices.iter().enumerate().skip(1) {
            for (other, others) in choices.iter().skip(at + 1) {
                let clash = |(name, value): &(HeaderName, String)| {
                    others.iter().any(|(known, other)| known == name && other != value)
                };
                if !own.iter().any(clash) {
                    let name = if one == other {
                        one.clone()
                    } else {
                        format!("{one} and {other} at once")
                    };
                    let more = others.iter().filter(|header| !own.contains(header));
                    pairs.push((name, own.iter().chain(more).cloned().collect()));
                }
            }
        }
        if pairs.len() > MAX_PAIRS {
            cut.push(format!("tried {MAX_PAIRS} of {} pairs of clients at once", pairs.len()));
            pairs.truncate(MAX_PAIRS);
        }
        choices.extend(pairs);
    }
    Axis {
        about: About::Client,
        choices: choices
            .into_iter()
            .map(|(name, headers)| Choice::Client(name, headers))
            .collect(),
    }
}

fn texts(about: About, values: Vec<String>) -> Axis {
    let named = values.into_iter().map(|value| Choice::Text(Some(Some(value))));
    let rest = [Choice::Text(Some(None)), Choice::Text(None)];
    Axis {
        about,
        choices: named.chain(rest).collect(),
    }
}

fn claim(path: String, values: Vec<Value>) -> Axis {
    let mut choices: Vec<Option<(Value, Option<String>)>> = vec![None];
    let mut add = |value: Value, words: String| choices.push(Some((value, Some(words))));
    let (numbers, texts): (Vec<Value>, Vec<Value>) = values.into_iter().partition(Value::is_number);
    for (value, words) in around(&numbers) {
        add(value, words);
    }
    for value in &texts {
        add(value.clone(), plain(value));
    }
    if texts.iter().any(Value::is_boolean) {
        for truth in [true, false].map(Value::Bool) {
            if !texts.contains(&truth) {
                add(truth.clone(), plain(&truth));
            }
        }
    }
    choices.push(Some((OTHER.into(), None)));
    // A context of authentication is one.
    if texts.len() > 1 && path != "acr" {
        // A list, which is each of them.
        let words: Vec<String> = texts.iter().map(plain).collect();
        choices.push(Some((texts.into(), Some(words.join(" and ")))));
    }
    Axis {
        about: About::Claim(path),
        choices: choices.into_iter().map(Choice::Claim).collect(),
    }
}

/// Each age, one above all, and none that is known.
fn logins(mut ages: Vec<Duration>) -> Axis {
    ages.sort_unstable();
    let words = |age: &Duration| {
        age.written()
            .and_then(|text| text.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let mut choices = Vec::new();
    for (at, age) in ages.iter().enumerate() {
        choices.push(Choice::Login(
            Some(*age),
            match at.checked_sub(1).and_then(|before| ages.get(before)) {
                None => format!("logged in at most {} ago", words(age)),
                Some(before) => format!("logged in {} to {} ago", words(before), words(age)),
            },
        ));
    }
    if let Some(last) = ages.last() {
        let words = format!("logged in more than {} ago", words(last));
        choices.push(Choice::Login(Some(*last + Duration::from_secs(1)), words));
    }
    choices.push(Choice::Login(None, "logged in nobody knows when".to_owned()));
    Axis {
        about: About::Login,
        choices,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The numbers, one between each two neighbours, one below and one above all.
fn around(numbers: &[Value]) -> Vec<(Value, String)> {
    let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
    let mut sorted: Vec<(f64, &Value)> = numbers
        .iter()
        .filter_map(|value| Some((number(value)?, value)))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let value = |number: f64| match number.fract() == 0.0 && number.abs() < 1e15 {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 10^15")]
        true => Some(Value::from(number as i64)),
        false => Number::from_f64(number).map(Value::Number),
    };
    let mut all = Vec::new();
    if let Some((first, written)) = sorted.first() {
        all.extend(value(first - 1.0).map(|value| (value, format!("below {written}"))));
    }
    for (at, (own, written)) in sorted.iter().enumerate() {
        all.push(((*written).clone(), written.to_string()));
        all.extend(match sorted.get(at + 1) {
            Some((next, after)) => {
                value(own.midpoint(*next)).map(|value| (value, format!("between {written} and {after}")))
            }
            None => value(own + 1.0).map(|value| (value, format!("above {written}"))),
        });
    }
    all
}

fn scopes(mentions: &[&Mentions], cut: &mut Vec<String>) -> Axis {
    let required: Vec<Vec<String>> = once(mentions.iter().flat_map(|one| &one.required_scopes));
    let mut held: Vec<Vec<String>> = vec![Vec::new()];
    let mut add = |set: Vec<String>| {
        let mut set = set;
        set.sort();
        set.dedup();
        if !held.contains(&set) {
            held.push(set);
        }
    };
    required.iter().for_each(|set| add(set.clone()));
    for (at, one) in required.iter().enumerate() {
        for other in required.iter().skip(at + 1) {
            add(one.iter().chain(other).cloned().collect());
        }
    }
    add(required.concat());
    once(required.iter().flatten())
        .into_iter()
        .for_each(|scope| add(vec![scope]));
    let named = once(mentions.iter().flat_map(|one| &one.scopes));
    let mut sets = Vec::new();
    for extra in combinations(&named, "scopes", cut) {
        for base in &held {
            let mut set: Vec<String> = base.iter().chain(&extra).cloned().collect();
            set.sort();
            set.dedup();
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
    }
    Axis {
        about: About::Scopes,
        choices: sets.into_iter().map(Choice::Names).collect(),
    }
}

/// Sets of names: every one where they are few, else none, each alone, pairs of not too many, and all together.
fn combinations(names: &[String], what: &str, cut: &mut Vec<String>) -> Vec<Vec<String>> {
    if names.len() <= ALL_COMBINATIONS {
        let sets = 0_u32..1 << names.len();
        let chosen = |set: u32| {
            let held = names.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
            held.map(|(_, name)| name.clone()).collect()
        };
        return sets.map(chosen).collect();
    }
    let mut sets = vec![Vec::new()];
    sets.extend(names.iter().map(|name| vec![name.clone()]));
    let pairs = names.len() <= ALL_PAIRS;
    if pairs {
        for (at, one) in names.iter().enumerate() {
            sets.extend(names.iter().skip(at + 1).map(|other| vec![one.clone(), other.clone()]));
        }
    }
    sets.push(names.to_vec());
    let tried = if pairs { "each alone, each pair" } else { "each alone" };
    cut.push(format!("of {} {what}: tried {tried}, and all together", names.len()));
    sets
}
