//! Records for tests: a typical one, and any at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use http::{HeaderName, Method};
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::json;
use smallvec::smallvec;

use crate::engine::{
    Answer, CredentialRefusal, Effected, Extent, Freezable, Freeze, LimitAnswer, Mark, PartSummary, Principal, Reach,
    Record, RecordedRequest, Revoked, UpstreamSummary, Why,
};

pub(crate) fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An allowed transfer, as the bank's gateway records it.
pub(crate) fn transfer() -> Record {
    let rules: Vec<Arc<str>> = [
        "flood",
        "customer",
        "scopes",
        "no-night-transfer",
        "night-shadow",
        "per-customer",
    ]
    .map(Arc::from)
    .to_vec();
    let principal = Arc::new(person("u-1029"));
    let limit = |remaining| {
        Answer::Limit(LimitAnswer {
            admitted: true,
            remaining,
            reset: Duration::from_nanos(1_049_999_999),
            retry_after: Duration::ZERO,
        })
    };
    let mark = |rule, shadow| Mark {
        rule,
        refused: shadow,
        shadow,
        why: Why::Held,
    };
    Record {
        id: "0b0c6f4e9a5d4b7f8f1e2d3c4b5a6978".into(),
        at: instant("2026-11-24T03:00:00.123456789Z"),
        config: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        route: Some("transfer".into()),
        answers: vec![
            (rules[0].clone(), limit(999)),
            (rules[1].clone(), Answer::Principal(principal.clone())),
            (rules[5].clone(), limit(39)),
        ],
        trail: [mark(2, false), mark(3, false), mark(4, true)].into_iter().collect(),
        rules: rules.into(),
        request: RecordedRequest {
            method: Method::POST,
            host: "bank.example".into(),
            template: Some("/transfers/{account}/{rest...}".into()),
            params: vec![("account".into(), "a%2F1".into()), ("rest".into(), "b/c".into())],
            path: None,
            headers: vec![(HeaderName::from_static("x-client"), vec![Some("ios".into())])],
            query: vec![("dry run".into(), vec![Some("1".into()), Some("a&b=c".into())])],
            credential: "bearer",
            address: "192.0.2.7".parse().unwrap(),
            client: "ios".into(),
            claims: vec!["tier".to_owned(), "address.country".to_owned()].into(),
        },
        principal: Some(principal),
        claimed_sub: None,
        decision: Effected {
            effect: "allow",
            status: None,
            code: None,
            rule: None,
            reopens_at: None,
        },
        status: 201,
        duration: Duration::from_micros(4_207),
        request_bytes: 312,
        response_bytes: 128,
        upstream: Some(UpstreamSummary {
            name: "transfers".into(),
            endpoint: "127.0.0.1:7003".into(),
            tries: 1,
            duration: Duration::from_micros(3_950),
            status: Some(201),
            fault: None,
        }),
        parts: Vec::new(),
        cache: None,
        failure: None,
        ended: None,
        rehearsal: false,
    }
}

/// A refused transfer with a bad token that claims to be `sub`'s.
pub(crate) fn refused(sub: Option<&str>, address: &str, at: Timestamp) -> Record {
    let mut record = transfer();
    let code = if sub.is_some() {
        "token-invalid"
    } else {
        "token-expired"
    };
    record.at = at;
    record.request.address = address.parse().unwrap();
    record.principal = None;
    record.claimed_sub = sub.map(Box::from);
    record.answers[1].1 = Answer::Refused(CredentialRefusal {
        code,
        detail: "",
        claimed_sub: sub.map(Box::from),
    });
    record.decision = Effected {
        effect: "challenge",
        status: Some(401),
        code: Some(code.into()),
        rule: Some("customer".into()),
        reopens_at: None,
    };
    record.status = 401;
    record.upstream = None;
    record
}

pub(crate) fn person(subject: &str) -> Principal {
    let claims = json!({"tier": "gold", "address": {"country": "KR"}, "email": "a@b.example"});
    Principal {
        authenticator: "customer".into(),
        issuer: "https://id.bank.example".into(),
        subject: subject.into(),
        scopes: smallvec!["transfer:write".into(), "accounts:read".into()],
        roles: smallvec!["customer".into()],
        claims: claims.as_object().cloned().unwrap().into(),
        auth_time: Some(instant("2026-11-24T02:58:00Z")),
        acr: Some("otp".into()),
        expires: Some(instant("2026-11-24T03:10:00Z")),
        token_id: Some("7d1c".into()),
        identity: Principal::frame("customer", "https://id.bank.example", subject),
    }
}

/// Text with everything that JSON, URLs and line ends treat specially.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9-]{0,12}",
        "\\PC{0,12}",
        vec(
            prop_oneof![
                Just('"'),
                Just('\\'),
                Just('\n'),
                Just('\r'),
                Just('\0'),
                Just('\u{1f}'),
                Just('\u{7f}'),
                Just('\u{2028}'),
                Just('%'),
                Just('&'),
                Just('='),
                Just('+'),
                Just('{'),
                Just('}'),
                Just(','),
                Just('관'),
                Just('😀'),
                any::<char>()
            ],
            0..8
        )
        .prop_map(|letters| letters.into_iter().collect()),
    ]
}

fn arc() -> impl Strategy<Value = Arc<str>> {
    hostile().prop_map(Arc::from)
}

fn boxed() -> impl Strategy<Value = Box<str>> {
    hostile().prop_map(Box::from)
}

fn instants() -> impl Strategy<Value = Timestamp> {
    let seconds = Timestamp::MIN.as_second() + 1..Timestamp::MAX.as_second();
    (seconds, 0..1_000_000_000).prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
}

fn durations() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

/// Different names with values.
fn named<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(String, T)>> {
    vec((hostile(), value), 0..4).prop_map(|members| {
        let number = |(at, (name, value))| (format!("{name}{at}"), value);
        members.into_iter().enumerate().map(number).collect()
    })
}

fn claims() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<u64>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        hostile().prop_map(|value| json!(value)),
        // A name that `serde_json` itself gives a meaning.
        Just(json!({"$serde_json::private::RawValue": "{}"})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            named(inner).prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn principals() -> impl Strategy<Value = Principal> {
    let names = || vec(hostile(), 0..3).prop_map(|names| names.into_iter().map(Into::into).collect());
    let short = || hostile().prop_map(CompactString::from);
    let who = (arc(), arc(), short(), names(), names());
    let rest = (
        named(claims()),
        option::of(instants()),
        option::of(short()),
        option::of(instants()),
        option::of(short()),
    );
    (who, rest).prop_map(
        |((authenticator, issuer, subject, scopes, roles), (claims, auth_time, acr, expires, token_id))| Principal {
            identity: Principal::frame(&authenticator, &issuer, &subject),
            authenticator,
            issuer,
            subject,
            scopes,
            roles,
            claims: claims.into_iter().collect(),
            auth_time,
            acr,
            expires,
            token_id,
        },
    )
}

fn answers(principal: Option<Arc<Principal>>, claimed: Option<Box<str>>) -> BoxedStrategy<Answer> {
    let limit = (any::<bool>(), any::<u32>(), durations(), durations());
    let limit = limit.prop_map(|(admitted, remaining, reset, retry_after)| {
        Answer::Limit(LimitAnswer {
            admitted,
            remaining,
            reset,
            retry_after,
        })
    });
    let code = || prop_oneof![Just("token-expired"), Just("keys-unavailable")];
    let refused = code().prop_map(move |code| {
        Answer::Refused(CredentialRefusal {
            code,
            detail: "",
            claimed_sub: claimed.clone(),
        })
    });
    let unavailable = code().prop_map(|code| Answer::Unavailable { code });
    let freeze = (any::<bool>(), hostile(), option::of(any::<u32>()), hostile());
    let freeze = freeze.prop_map(|(is_route, name, until, reason)| {
        Arc::new(Freeze {
            kind: Freezable::ALL[usize::from(!is_route)],
            name: name.into(),
            until: until.map(|second| Timestamp::from_second(second.into()).unwrap()),
            reason: reason.into(),
        })
    });
    let frozen = vec(freeze, 1..3).prop_map(Answer::Freezes);
    let revoked = (0..Reach::ALL.len(), any::<bool>(), option::of(any::<u32>()));
    let revoked = revoked.prop_map(|(reach, is_every, second)| {
        let at = second.map(|second| Timestamp::from_second(second.into()).unwrap());
        let extent = match (is_every, at) {
            (false, Some(instant)) => Extent::IssuedBefore(instant),
            (_, until) => Extent::Every { until },
        };
        let reach = Reach::ALL[reach];
        Answer::Revoked(Some(Revoked { reach, extent }))
    });
    match principal {
        Some(who) => prop_oneof![
            limit,
            refused,
            unavailable,
            frozen,
            revoked,
            Just(Answer::Principal(who))
        ]
        .boxed(),
        None => prop_oneof![limit, refused, unavailable, frozen, revoked].boxed(),
    }
}

fn requests() -> impl Strategy<Value = RecordedRequest> {
    let method = prop_oneof![
        Just(Method::GET),
        Just(Method::POST),
        "[A-Z]{1,9}".prop_map(|text| text.parse().unwrap())
    ];
    let path = hostile().prop_map(|path| format!("/{}", path.replace(['{', '}'], "")));
    let headers = vec((any::<bool>(), vec(option::of(hostile()), 0..3)), 0..2);
    let credential = prop_oneof![
        Just("absent"),
        Just("bearer"),
        Just("cookie"),
        Just("certificate"),
        Just("repeated"),
        Just("unreadable")
    ];
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()))
    ];
    let parts = (
        method,
        hostile(),
        option::of(vec("[a-z]{1,5}", 0..3)),
        vec(hostile(), 3),
        path,
        headers,
        named(vec(option::of(hostile()), 0..3)),
        credential,
        address,
        arc(),
    );
    parts.prop_map(
        |(method, host, names, values, path, headers, query, credential, address, client)| {
            let names = names.map(|names| {
                let number = |(at, name)| format!("{name}{at}");
                names.into_iter().enumerate().map(number).collect::<Vec<_>>()
            });
            let template = names.as_ref().map(|names| {
                let segments: String = names.iter().map(|name| format!("/{{{name}}}")).collect();
                Arc::from(format!("{}{segments}", path))
            });
            let headers = headers.into_iter().zip(["x-client", "accept-language"]);
            RecordedRequest {
                method,
                host,
                params: names
                    .iter()
                    .flatten()
                    .map(|name| Arc::from(name.as_str()))
                    .zip(values)
                    .collect(),
                path: template.is_none().then_some(path),
                template,
                headers: headers
                    .map(|((_, values), name)| (HeaderName::from_static(name), values))
                    .collect(),
                query,
                credential,
                address,
                client,
                claims: Arc::from([]),
            }
        },
    )
}

/// Any record that a gateway could write.
pub(crate) fn records() -> impl Strategy<Value = Record> {
    let who = (option::of(principals().prop_map(Arc::new)), option::of(boxed()));
    let decision = (
        prop_oneof![Just("allow"), Just("deny"), Just("throttle")],
        option::of(any::<u16>()),
        option::of(arc()),
        option::of(arc()),
        option::of(instants()),
    );
    let decision = decision.prop_map(|(effect, status, code, rule, reopens_at)| Effected {
        effect,
        status,
        code,
        rule,
        reopens_at,
    });
    let marks = vec((0..4_u16, any::<bool>(), any::<bool>()), 0..4);
    let counts = (
        prop_oneof![Just(0), 100..600_u16],
        durations(),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
    );
    let upstream = option::of((arc(), arc(), any::<u32>(), durations(), option::of(any::<u16>())));
    let parts = vec(
        (
            arc(),
            option::of(any::<u16>()),
            option::of(Just("timeout")),
            durations(),
        ),
        0..3,
    );
    let head = (arc(), instants(), arc(), option::of(arc()), vec(arc(), 4));
    let known = who.prop_flat_map(|(principal, claimed_sub)| {
        let answers = vec((arc(), answers(principal.clone(), claimed_sub.clone())), 0..4);
        (Just((principal, claimed_sub)), answers)
    });
    let record = (known, head, requests(), decision, marks, counts, upstream, parts);
    record.prop_map(
        |(((principal, claimed_sub), answers), head, mut request, decision, marks, counts, upstream, parts)| {
            let (id, at, config, route, rules) = head;
            let (status, duration, request_bytes, response_bytes, rehearsal) = counts;
            if let Some(who) = &principal {
                // All but the last of its claims are kept, and one it lacks.
                let kept = who.claims.keys().rev().skip(1).cloned().chain(["lacking".to_owned()]);
                request.claims = kept.collect();
            }
            Record {
                id,
                at,
                config,
                route,
                request,
                principal,
                claimed_sub,
                decision,
                answers,
                status,
                duration,
                request_bytes,
                response_bytes,
                rehearsal,
                rules: rules.into(),
                trail: marks
                    .into_iter()
                    .map(|(rule, refused, shadow)| Mark {
                        rule,
                        refused,
                        shadow,
                        why: Why::Held,
                    })
                    .collect(),
                upstream: upstream.map(|(name, endpoint, tries, duration, status)| UpstreamSummary {
                    name,
                    endpoint,
                    tries,
                    duration,
                    status,
                    fault: None,
                }),
                parts: parts
                    .into_iter()
                    .map(|(name, status, reason, duration)| PartSummary {
                        name,
                        status,
                        reason,
                        duration,
                        calls: Vec::new(),
                    })
                    .collect(),
                cache: Some("hit"),
                failure: None,
                ended: None,
            }
        },
    )
}
