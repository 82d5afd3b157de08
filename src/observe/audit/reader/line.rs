//! The members of a line, and how they become a [`Recorded`].

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use http::{HeaderName, Method};
use jiff::Timestamp;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{ReadFailure, Recorded, RecordedDecision};
use crate::engine::claims::Claim;
use crate::engine::{
    Answer, CredentialRefusal, Extent, Freezable, Freeze, FreezeChange, Granted, LimitAnswer, Principal, Reach,
    Revocation, RevocationChange, Revoked, Whom,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestLine {
    #[serde(rename = "v")]
    _v: u32,
    n: u64,
    #[serde(rename = "prev")]
    _prev: Option<String>,
    id: String,
    at: Timestamp,
    config: String,
    route: Option<String>,
    method: String,
    host: String,
    template: Option<String>,
    #[serde(default)]
    params: Members<String>,
    path: Option<String>,
    #[serde(default)]
    headers: Members<Vec<Option<String>>>,
    #[serde(default)]
    query: Members<Vec<Option<String>>>,
    credential: String,
    address: IpAddr,
    client: String,
    principal: Option<PrincipalMember>,
    claimed_sub: Option<Box<str>>,
    decision: RecordedDecision,
    #[serde(default)]
    shadow: Vec<String>,
    #[serde(default)]
    answers: Vec<AnswerMember>,
    status: u16,
    #[serde(rename = "duration_ms")]
    _duration: f64,
    #[serde(rename = "request_bytes")]
    _request_bytes: u64,
    #[serde(rename = "response_bytes")]
    _response_bytes: u64,
    #[serde(rename = "upstream")]
    _upstream: Option<IgnoredAny>,
    #[serde(rename = "parts")]
    _parts: Option<IgnoredAny>,
    #[serde(rename = "cache")]
    _cache: Option<String>,
    #[serde(rename = "failure")]
    _failure: Option<String>,
    #[serde(rename = "ended")]
    _ended: Option<IgnoredAny>,
    #[serde(default)]
    rehearsal: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalMember {
    authenticator: String,
    issuer: String,
    sub: CompactString,
    scopes: Granted,
    roles: Granted,
    acr: Option<CompactString>,
    auth_time: Option<Timestamp>,
    exp: Option<Timestamp>,
    jti: Option<CompactString>,
    claims: Members<Claim>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerMember {
    rule: String,
    principal: Option<bool>,
    refused: Option<String>,
    limit: Option<LimitMember>,
    freezes: Option<Vec<FreezeMember>>,
    revoked: Option<RevokedMember>,
    unavailable: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitMember {
    admitted: bool,
    remaining: u32,
    reset_ns: u64,
    retry_after_ns: u64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeMember {
    route: Option<String>,
    upstream: Option<String>,
    until: Option<Timestamp>,
    #[serde(default)]
    reason: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FreezeLine {
    #[serde(rename = "v")]
    _v: u32,
    #[serde(rename = "n")]
    _n: u64,
    #[serde(rename = "prev")]
    _prev: Option<String>,
    #[serde(rename = "kind")]
    _kind: String,
    at: Timestamp,
    route: Option<String>,
    upstream: Option<String>,
    until: Option<Timestamp>,
    #[serde(default)]
    reason: String,
    address: IpAddr,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedMember {
    whom: String,
    until: Option<Timestamp>,
    issued_before: Option<Timestamp>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationLine {
    #[serde(rename = "v")]
    _v: u32,
    #[serde(rename = "n")]
    _n: u64,
    #[serde(rename = "prev")]
    _prev: Option<String>,
    #[serde(rename = "kind")]
    _kind: String,
    at: Timestamp,
    whom: String,
    until: Option<Timestamp>,
    issued_before: Option<Timestamp>,
    authenticator: Option<String>,
    issuer: Option<String>,
    sub: Option<String>,
    jti: Option<String>,
    #[serde(default)]
    reason: String,
    address: IpAddr,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DroppedLine {
    #[serde(rename = "v")]
    _v: u32,
    #[serde(rename = "n")]
    _n: u64,
    #[serde(rename = "prev")]
    _prev: Option<String>,
    #[serde(rename = "kind")]
    _kind: String,
    pub count: u64,
    pub from: Timestamp,
    pub to: Timestamp,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertLine {
    #[serde(rename = "v")]
    _v: u32,
    #[serde(rename = "n")]
    _n: u64,
    #[serde(rename = "prev")]
    _prev: Option<String>,
    #[serde(rename = "kind")]
    _kind: String,
    pub at: Timestamp,
    pub detector: String,
    #[serde(rename = "watch")]
    _watch: String,
    #[serde(rename = "address")]
    _address: Option<IpAddr>,
    #[serde(rename = "principal")]
    _principal: Option<IgnoredAny>,
    #[serde(rename = "status")]
    _status: u16,
    #[serde(rename = "distinct")]
    _distinct: u32,
    #[serde(rename = "within_ns")]
    _within: u64,
}

pub(super) fn recorded(line: RequestLine) -> Result<Recorded, ReadFailure> {
    let principal = line.principal.map(|member| Arc::new(identified(member)));
    let answers = line
        .answers
        .into_iter()
        .map(|member| answered(member, principal.as_ref(), line.claimed_sub.as_deref()))
        .collect::<Result<_, _>>()?;
    let headers = line.headers.0.into_iter().map(|(name, values)| {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| ReadFailure::Value("not a header name"))?;
        Ok((name, values))
    });
    Ok(Recorded {
        n: line.n,
        id: line.id,
        at: line.at,
        config: line.config,
        route: line.route,
        method: Method::from_bytes(line.method.as_bytes()).map_err(|_| ReadFailure::Value("not a method"))?,
        host: line.host,
        path: path(line.template.as_deref(), line.path, &line.params.0)?,
        params: line.params.0,
        headers: headers.collect::<Result<_, ReadFailure>>()?,
        query: query(&line.query.0),
        credential: credential(&line.credential)?,
        address: line.address,
        client: line.client,
        principal,
        answers,
        decision: line.decision,
        shadow: line.shadow,
        status: line.status,
        rehearsal: line.rehearsal,
    })
}

fn identified(member: PrincipalMember) -> Principal {
    Principal {
        identity: Principal::frame(&member.authenticator, &member.issuer, &member.sub),
        authenticator: member.authenticator.into(),
        issuer: member.issuer.into(),
        subject: member.sub,
        scopes: member.scopes,
        roles: member.roles,
        claims: member
            .claims
            .0
            .into_iter()
            .map(|(path, claim)| (path, claim.0))
            .collect(),
        auth_time: member.auth_time,
        acr: member.acr,
        expires: member.exp,
        token_id: member.jti,
    }
}

fn answered(
    member: AnswerMember,
    principal: Option<&Arc<Principal>>,
    claimed_sub: Option<&str>,
) -> Result<(String, Answer), ReadFailure> {
    let others = member.principal.is_some() || member.refused.is_some() || member.limit.is_some();
    let others = others || member.unavailable.is_some();
    let two = || ReadFailure::Value("an answer that says nothing, or two things");
    match (member.freezes, member.revoked) {
        (None, None) => {}
        (Some(freezes), None) if !others && !freezes.is_empty() => {
            let freezes = freezes.into_iter().map(|member| member.freeze().map(Arc::new));
            return Ok((member.rule, Answer::Freezes(freezes.collect::<Result<_, _>>()?)));
        }
        (None, Some(revoked)) if !others => return Ok((member.rule, Answer::Revoked(Some(revoked.revoked()?)))),
        _ => return Err(two()),
    }
    let answer = match (member.principal, member.refused, member.limit, member.unavailable) {
        (Some(true), None, None, None) => {
            let principal = principal.ok_or(ReadFailure::Value("an answer without the principal it speaks of"))?;
            Answer::Principal(principal.clone())
        }
        (None, Some(code), None, None) => Answer::Refused(CredentialRefusal {
            code: interned(&code)?,
            detail: "",
            claimed_sub: claimed_sub.map(Box::from),
        }),
        (None, None, Some(limit), None) => Answer::Limit(LimitAnswer {
            admitted: limit.admitted,
            remaining: limit.remaining,
            reset: Duration::from_nanos(limit.reset_ns),
            retry_after: Duration::from_nanos(limit.retry_after_ns),
        }),
        (None, None, None, Some(code)) => Answer::Unavailable { code: interned(&code)? },
        _ => return Err(two()),
    };
    Ok((member.rule, answer))
}

impl FreezeMember {
    fn freeze(self) -> Result<Freeze, ReadFailure> {
        let (kind, name) = match (self.route, self.upstream) {
            (Some(name), None) => (Freezable::Route, name),
            (None, Some(name)) => (Freezable::Upstream, name),
            _ => {
                return Err(ReadFailure::Value(
                    "a freeze of neither a route nor an upstream, or of both",
                ));
            }
        };
        Ok(Freeze {
            kind,
            name: name.into(),
            until: self.until,
            reason: self.reason.into(),
        })
    }
}

impl RevokedMember {
    fn revoked(self) -> Result<Revoked, ReadFailure> {
        let mut all = Reach::ALL.into_iter();
        let reach = all.find(|reach| reach.word() == self.whom);
        let reach = reach.ok_or(ReadFailure::Value("a kind of revocation that is not known"))?;
        let extent = match (self.until, self.issued_before) {
            (until, None) => Extent::Every { until },
            (None, Some(instant)) => Extent::IssuedBefore(instant),
            (Some(_), Some(_)) => return Err(ReadFailure::Value("a revocation of two kinds")),
        };
        Ok(Revoked { reach, extent })
    }
}

impl RevocationLine {
    pub fn change(self, is_lifted: bool) -> Result<RevocationChange, ReadFailure> {
        let member = RevokedMember {
            whom: self.whom,
            until: self.until,
            issued_before: self.issued_before,
        };
        let Revoked { reach, extent } = member.revoked()?;
        let name = |name: Option<String>| name.map(Arc::<str>::from);
        let names = (
            name(self.authenticator),
            name(self.issuer),
            name(self.sub),
            name(self.jti),
        );
        let whom = match (reach, names) {
            (Reach::Identity, (Some(authenticator), Some(issuer), Some(subject), None)) => Whom::Identity {
                authenticator,
                issuer,
                subject,
            },
            (Reach::Token, (Some(authenticator), Some(issuer), None, Some(id))) => Whom::Token {
                authenticator,
                issuer,
                id,
            },
            (Reach::Subject, (None, None, Some(subject), None)) => Whom::Subject(subject),
            (Reach::Authenticator, (Some(name), None, None, None)) => Whom::Authenticator(name),
            (Reach::Issuer, (None, Some(issuer), None, None)) => Whom::Issuer(issuer),
            (Reach::Everybody, (None, None, None, None)) => Whom::Everybody,
            _ => return Err(ReadFailure::Value("a revocation that does not say whose")),
        };
        Ok(RevocationChange {
            at: self.at,
            address: self.address,
            revocation: Revocation { whom, extent },
            reason: self.reason.into(),
            is_lifted,
        })
    }
}

impl FreezeLine {
    pub fn change(self, is_thaw: bool) -> Result<FreezeChange, ReadFailure> {
        let member = FreezeMember {
            route: self.route,
            upstream: self.upstream,
            until: self.until,
            reason: self.reason,
        };
        Ok(FreezeChange {
            at: self.at,
            address: self.address,
            freeze: member.freeze()?,
            is_thaw,
        })
    }
}

/// The codes of answers are `&'static str` because a running gateway knows them all. A reader does not, so each new one is
/// kept for ever; the bounds keep a hostile log from filling memory.
fn interned(code: &str) -> Result<&'static str, ReadFailure> {
    const MAX_CODES: usize = 1024;
    const MAX_LETTERS: usize = 64;
    static CODES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut codes = CODES.lock();
    if let Some(known) = codes.get(code) {
        return Ok(known);
    }
    let kebab = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if code.is_empty() || code.len() > MAX_LETTERS || !code.bytes().all(kebab) {
        return Err(ReadFailure::Value("not a code"));
    }
    if codes.len() >= MAX_CODES {
        return Err(ReadFailure::Value("a code beyond the first thousand"));
    }
    let kept: &'static str = String::from(code).leak();
    codes.insert(kept);
    Ok(kept)
}

fn credential(word: &str) -> Result<&'static str, ReadFailure> {
    [
        "absent",
        "bearer",
        "header",
        "cookie",
        "query",
        "key",
        "certificate",
        "repeated",
        "unreadable",
    ]
    .into_iter()
    .find(|known| *known == word)
    .ok_or(ReadFailure::Value("a credential that is not known"))
}

/// The path: as it stands, or the template with its parameters filled in.
fn path(template: Option<&str>, path: Option<String>, params: &[(String, String)]) -> Result<String, ReadFailure> {
    let path = match (template, path) {
        (None, Some(path)) => path,
        (Some(template), None) => {
            let mut filled = String::with_capacity(template.len() + 32);
            for (at, segment) in template.split('/').enumerate() {
                if at > 0 {
                    filled.push('/');
                }
                match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                    None => filled.push_str(segment),
                    Some(name) => {
                        let name = name.strip_suffix("...").unwrap_or(name);
                        let value = params.iter().find(|(known, _)| known == name);
                        let (_, value) = value.ok_or(ReadFailure::Value("a template without its parameter"))?;
                        filled.push_str(value);
                    }
                }
            }
            filled
        }
        _ => return Err(ReadFailure::Value("neither a path nor a template, or both")),
    };
    // `*` is the path of `OPTIONS *`, which no route matches.
    match path.starts_with('/') || path == "*" {
        true => Ok(path),
        false => Err(ReadFailure::Value("a path that does not begin with `/`")),
    }
}

fn query(kept: &[(String, Vec<Option<String>>)]) -> String {
    /// RFC 3986 unreserved: everything else is encoded, so that decoding gives back exactly what was kept.
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let mut query = String::new();
    for (name, values) in kept {
        for value in values {
            if !query.is_empty() {
                query.push('&');
            }
            query.extend(utf8_percent_encode(name, ENCODED));
            query.push('=');
            match value {
                Some(value) => query.extend(utf8_percent_encode(value, ENCODED)),
                // Stands in for a value that was not UTF-8: it is none either.
                None => query.push_str("%FF"),
            }
        }
    }
    query
}

/// The members of an object in their order; a name that stands twice is an error.
struct Members<T>(Vec<(String, T)>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

struct MembersVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MembersVisitor<T> {
    type Value = Members<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        /// A configuration reads a handful; the bound keeps the search for repeated names short on hostile lines.
        const MAX_MEMBERS: usize = 4096;
        let mut members: Vec<(String, T)> = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.len() >= MAX_MEMBERS {
                return Err(A::Error::custom("an object with too many members"));
            }
            if members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format_args!("`{name}` stands twice")));
            }
            members.push((name, access.next_value()?));
        }
        Ok(Members(members))
    }
}
