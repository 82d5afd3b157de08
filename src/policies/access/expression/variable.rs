//! What an expression reads. Each use of a variable becomes one of these while the expression is compiled, so that judging
//! looks nothing up by name, builds nothing that is not read, and records know exactly what is read.

use std::borrow::Cow;
use std::collections::HashMap;

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, CelUInt,
};
use cel::common::value::{CowVal, Val};
use http::{HeaderName, Method};
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::functions::Pattern;
use super::kinds::Kinds;
use crate::engine::Facts;

/// Longer lists have no value, so that loops over them end soon.
pub(super) const MAX_ITEMS: usize = 100;
/// Neither have claims with more values inside one another,
const MAX_VALUES: usize = 2048;
/// or deeper ones.
const MAX_DEPTH: usize = 16;
/// From here on floating point does not tell neighbouring whole numbers apart.
pub(super) const EXACT: f64 = 9_007_199_254_740_992.0;

/// Something that an expression reads.
#[derive(Debug)]
pub(super) enum Variable {
    Method,
    Host,
    Path,
    Address,
    Client,
    /// The instant of the request, on the clocks of a zone.
    Now(TimeZone),
    Header(HeaderName),
    HasHeader(HeaderName),
    Query(Box<str>),
    HasQuery(Box<str>),
    Param(Box<str>),
    HasParam(Box<str>),
    /// A claim by its path.
    Claim(Box<str>),
    HasClaim(Box<str>),
    InNetwork(IpNet),
    Pattern(Pattern),
    /// What is the same for every request, such as an instant.
    Constant(Box<dyn Val>),
}

impl Variable {
    /// What its value may be.
    pub fn kinds(&self) -> Kinds {
        match self {
            Self::Method | Self::Host | Self::Path | Self::Address | Self::Client => Kinds::TEXT,
            Self::Header(_) | Self::Query(_) | Self::Param(_) => Kinds::TEXT,
            Self::Now(_) => Kinds::INSTANT,
            Self::Claim(path) => Kinds::of_claim(path),
            Self::HasHeader(_) | Self::HasQuery(_) | Self::HasParam(_) | Self::HasClaim(_) | Self::InNetwork(_) => {
                Kinds::TRUTH
            }
            Self::Pattern(_) | Self::Constant(_) => Kinds::EVERYTHING,
        }
    }

    /// Whether it depends on who calls.
    pub fn is_about_caller(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::HasClaim(_))
    }

    /// Whether it is the same for every request.
    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Pattern(_) | Self::Constant(_))
    }

    /// Its value, borrowed where it can be; `None` where it has none: it is absent, repeated, unreadable or beyond a bound.
    pub fn value<'v>(&'v self, facts: &'v Facts<'_>) -> Option<CowVal<'v, 'v>> {
        let request = &facts.request;
        match self {
            // GET stands for HEAD, too, as in `methods`: a rule on GET must not be passed by asking with HEAD.
            Self::Method if *request.method == Method::HEAD => Some(text("GET")),
            Self::Method => Some(text(request.method.as_str())),
            Self::Host => Some(text(request.host)),
            Self::Path => Some(text(request.path)),
            Self::Address => Some(CowVal::owned(CelString::from(facts.address.to_canonical().to_string()))),
            Self::Client => Some(text(&facts.client.name)),
            Self::Now(zone) => instant(facts.now, zone),
            Self::Header(name) => request.header(name).map(text),
            Self::HasHeader(name) => Some(truth(request.headers.first(name).is_some())),
            Self::Query(name) => {
                let mut sent = request.query_sent(name);
                match (sent.next(), sent.next()) {
                    (Some(Some(value)), None) => Some(decoded(value)),
                    _ => None,
                }
            }
            Self::HasQuery(name) => Some(truth(request.query_sent(name).next().is_some())),
            Self::Param(name) => percent_decode_str(param(facts, name)?).decode_utf8().ok().map(decoded),
            Self::HasParam(name) => Some(truth(param(facts, name).is_some())),
            Self::Claim(path) => json(claim(facts, path)?, &mut { MAX_VALUES }, 0).map(CowVal::Owned),
            Self::HasClaim(path) => Some(truth(claim(facts, path).is_some())),
            Self::InNetwork(network) => Some(truth(network.contains(&facts.address.to_canonical()))),
            Self::Pattern(_) | Self::Constant(_) => self.constant(),
        }
    }

    /// The value that it has for every request.
    pub fn constant(&self) -> Option<CowVal<'_, '_>> {
        match self {
            Self::Pattern(pattern) => Some(CowVal::Borrowed(pattern)),
            Self::Constant(value) => Some(CowVal::Borrowed(&**value)),
            _ => None,
        }
    }

    /// Why it has no value, without a word of what was sent: that may be private.
    pub fn absence(&self, facts: &Facts<'_>) -> String {
        let request = &facts.request;
        let no_such_key = |map: &str, name: &str| format!("no such key: {map}.{name}");
        match self {
            Self::Claim(_) if facts.principal.is_none() => "the caller is not known".into(),
            Self::Claim(path) if claim(facts, path).is_none() => no_such_key("claims", path),
            Self::Claim(path) => format!("claims.{path} is too large to be judged, or a number too large to be exact"),
            Self::Header(name) if request.headers.first(name).is_none() => {
                no_such_key("request.headers", name.as_str())
            }
            Self::Header(name) => format!("the header {name} is repeated or unreadable"),
            Self::Query(name) => match request.query_sent(name).count() {
                0 => no_such_key("query", name),
                1 => format!("query.{name} is unreadable"),
                count => format!("query.{name} is sent {count} times"),
            },
            Self::Param(name) if param(facts, name).is_none() => no_such_key("path", name),
            Self::Param(name) => format!("path.{name} is unreadable"),
            _ => "a variable has no value".into(),
        }
    }
}

/// A claim that is `null` counts as absent.
fn claim<'f>(facts: &'f Facts<'_>, path: &str) -> Option<&'f Value> {
    let claim = facts.principal.as_deref()?.claim(path)?;
    (!claim.is_null()).then_some(claim)
}

fn param<'f>(facts: &'f Facts<'_>, name: &str) -> Option<&'f str> {
    let mut params = facts.params.iter();
    params.find(|(known, _)| ***known == *name).map(|(_, value)| value)
}

fn text<'v>(text: &'v str) -> CowVal<'v, 'v> {
    CowVal::owned(CelString::from(text))
}

fn decoded(text: Cow<'_, str>) -> CowVal<'_, '_> {
    match text {
        Cow::Borrowed(text) => CowVal::owned(CelString::from(text)),
        Cow::Owned(text) => CowVal::owned(CelString::from(text)),
    }
}

fn truth<'v>(truth: bool) -> CowVal<'v, 'v> {
    CowVal::Borrowed(if truth { &CelBool::TRUE } else { &CelBool::FALSE })
}

fn instant<'v>(at: Timestamp, zone: &TimeZone) -> Option<CowVal<'v, 'v>> {
    let offset = chrono::FixedOffset::east_opt(zone.to_offset(at).seconds())?;
    let nanosecond = u32::try_from(at.subsec_nanosecond()).ok();
    // Before 1970 the fraction counts downwards; no request comes from there.
    let utc = chrono::DateTime::from_timestamp(at.as_second(), nanosecond?)?;
    Some(CowVal::owned(CelTimestamp::from(utc.with_timezone(&offset))))
}

/// JSON as CEL has it. `left` is how many more values there may be.
fn json<'v>(value: &'v Value, left: &mut usize, depth: usize) -> Option<Box<dyn Val + 'v>> {
    *left = left.checked_sub(1)?;
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => Box::new(CelInt::from(whole)),
            (None, Some(whole), _) => Box::new(CelUInt::from(whole)),
            // Beyond, different numbers have become the same one while the token was read.
            (None, None, Some(number)) if number.abs() < EXACT => Box::new(CelDouble::from(number)),
            _ => return None,
        },
        Value::Array(items) if items.len() > MAX_ITEMS => return None,
        Value::Array(items) => {
            let items = items.iter().map(|item| json(item, left, depth + 1));
            let items: Option<Vec<Box<dyn Val + 'v>>> = items.collect();
            Box::new(CelList::from(items?))
        }
        Value::Object(members) if members.len() > MAX_ITEMS => return None,
        Value::Object(members) => {
            let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::with_capacity(members.len());
            for (name, member) in members {
                let key = CelMapKey::String(CelString::from(name.as_str()));
                map.insert(key, json(member, left, depth + 1)?);
            }
            Box::new(CelMap::from(map))
        }
    })
}
