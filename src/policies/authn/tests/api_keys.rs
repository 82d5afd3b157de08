//! `api_key:` — who calls by which key, and what is said of those that prove nobody.

use std::sync::Arc;

use futures::executor::block_on;

use super::super::{KeyHash, Source, Timing, Verifiers};
use super::kit::*;
use crate::engine::{Answer, AuthenticatorId, Principal};
use crate::io::Client;

const KEY: &str = "gwk_R7fJ0Q3c9vWkq2hXtYb8LmN4pZs6Ua1eDgOiKjHrE5w";

fn hash(key: &str) -> KeyHash {
    KeyHash::of(key.as_bytes())
}

/// An authenticator named `main` with these lines.
fn verifiers(lines: &[String]) -> Verifiers {
    let keys: Vec<String> = lines.iter().map(|line| format!("    - {{ {line} }}\n")).collect();
    let (authenticators, findings) = compile(&format!("main:\n  api_key:\n   keys:\n{}", keys.concat()));
    assert_eq!(findings, Vec::<String>::new());
    Verifiers::new(&authenticators, None, &Arc::new(Client::new()), Timing::default())
}

fn line(key: &str, more: &str) -> String {
    format!("hash: \"{}\", {more}", hash(key))
}

fn ask(verifiers: &Verifiers, key: &str, at: &str) -> Answer {
    block_on(verifiers.answer(&[AuthenticatorId(0)], key, None, at.parse().unwrap()))
}

/// Who calls, or the code.
fn said(answer: &Answer) -> String {
    match answer {
        Answer::Principal(principal) => principal.subject.to_string(),
        Answer::Refused(refusal) => refusal.code.to_owned(),
        other => panic!("{other:?}"),
    }
}

const NOON: &str = "2026-11-24T12:00:00Z";

#[test]
fn a_key_says_who_calls() {
    let more = "prefix: gwk_R7fJ0Q3c, subject: acme, roles: [partner, gold], scopes: [order:read, order:write], \
                claims: { tier: 5, plan: { name: big } }, not_before: 2026-11-01T00:00Z, expires: 2027-01-01T00:00+09:00";
    let verifiers = verifiers(&[line(KEY, more)]);
    let Answer::Principal(principal) = ask(&verifiers, KEY, NOON) else {
        panic!()
    };
    assert_eq!(
        (&*principal.authenticator, &*principal.issuer),
        ("main", "api-key:main")
    );
    assert_eq!(&*principal.subject, "acme");
    assert_eq!(principal.identity, Principal::frame("main", "api-key:main", "acme"));
    assert!(principal.has_role("gold") && principal.has_scope("order:write"));
    assert_eq!((principal.roles.len(), principal.scopes.len()), (2, 2));
    assert_eq!(principal.token_id.as_deref(), Some("gwk_R7fJ0Q3c"));
    assert_eq!(principal.expires, Some("2026-12-31T15:00:00Z".parse().unwrap()));
    assert_eq!(
        principal.issued(),
        Some("2026-11-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second())
    );
    assert_eq!(principal.claim("sub").unwrap(), "acme");
    assert_eq!(principal.claim("plan.name").unwrap(), "big");
    assert_eq!(principal.claim("scope").unwrap(), "order:read order:write");
    // Whoever calls again is the same, and not made anew.
    let Answer::Principal(again) = ask(&verifiers, KEY, NOON) else {
        panic!()
    };
    assert!(Arc::ptr_eq(&principal, &again));
    assert!(!format!("{principal:?}").contains(KEY) && !format!("{verifiers:?}").contains(KEY));
}

#[test]
fn a_key_that_shows_nothing_of_itself_is_named_by_its_hash() {
    let verifiers = verifiers(&[line(KEY, "subject: acme")]);
    let Answer::Principal(principal) = ask(&verifiers, KEY, NOON) else {
        panic!()
    };
    assert_eq!(principal.token_id.as_deref(), Some(&*hash(KEY).shown()));
    assert!(principal.roles.is_empty() && principal.scopes.is_empty() && principal.expires.is_none());
}

#[test]
fn a_key_is_good_from_its_first_instant_to_its_last() {
    let more = "subject: acme, not_before: 2026-11-24T12:00Z, expires: 2026-11-24T13:00Z";
    let verifiers = verifiers(&[line(KEY, more)]);
    for (at, expected) in [
        ("2026-11-24T11:59:59.999Z", "key-not-yet-valid"),
        ("2026-11-24T12:00:00Z", "acme"),
        ("2026-11-24T12:59:59.999Z", "acme"),
        ("2026-11-24T13:00:00Z", "key-expired"),
        // On a rehearsed clock time goes back.
        ("2026-11-24T12:30:00Z", "acme"),
    ] {
        let answer = ask(&verifiers, KEY, at);
        assert_eq!(said(&answer), expected, "{at}");
        if let Answer::Refused(refusal) = answer {
            assert_eq!(refusal.claimed_sub.as_deref(), Some("acme"), "{at}");
        }
    }
}

#[test]
fn two_keys_of_one_subject_overlap() {
    let (old, new) = (KEY, "gwk_9hD2sVq0Lm3xTzP7yBfW1cJkN8eRgUa5iOoQ4tXvY6w");
    let verifiers = verifiers(&[
        line(old, "subject: acme, expires: 2026-12-01T00:00Z"),
        line(new, "subject: acme, not_before: 2026-11-01T00:00Z"),
    ]);
    let ids: Vec<_> = [old, new]
        .iter()
        .map(|key| match ask(&verifiers, key, NOON) {
            Answer::Principal(principal) => (principal.identity.clone(), principal.token_id.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids[0].0, ids[1].0);
    assert_ne!(ids[0].1, ids[1].1);
    let later = "2026-12-01T00:00:00Z";
    assert_eq!(said(&ask(&verifiers, old, later)), "key-expired");
    assert_eq!(said(&ask(&verifiers, new, later)), "acme");
}

#[test]
fn nothing_but_the_whole_key_is_the_key() {
    let verifiers = verifiers(&[line(KEY, "subject: acme")]);
    let mut others = vec![
        String::new(),
        KEY.to_lowercase(),
        KEY.to_uppercase(),
        format!("{KEY} "),
        format!(" {KEY}"),
        format!("{KEY}\0"),
        format!("{KEY}{KEY}"),
        hash(KEY).to_string(),
        hash(KEY).shown(),
        "gwk_R7fJ0Q3c".into(),
    ];
    others.extend((0..KEY.len()).map(|at| KEY[..at].to_owned()));
    for other in &others {
        let answer = ask(&verifiers, other, NOON);
        let Answer::Refused(refusal) = &answer else {
            panic!("{other}: {answer:?}")
        };
        assert_eq!(refusal.code, "key-unknown", "{other}");
        // Of what was tried, only that it was not the same is noted.
        assert_eq!(refusal.claimed_sub.as_deref(), Some(&*hash(other).shown()));
    }
}

#[test]
fn the_authenticator_that_knows_the_key_judges_it() {
    let other = "gwk_9hD2sVq0Lm3xTzP7yBfW1cJkN8eRgUa5iOoQ4tXvY6w";
    let (authenticators, findings) = compile(&format!(
        "a: {{ api_key: {{ keys: [{{ {} }}] }} }}\nb: {{ api_key: {{ keys: [{{ {} }}] }} }}\n",
        line(KEY, "subject: x"),
        line(other, "subject: x")
    ));
    assert_eq!(findings, Vec::<String>::new());
    let verifiers = Verifiers::new(&authenticators, None, &Arc::new(Client::new()), Timing::default());
    let both = [AuthenticatorId(0), AuthenticatorId(1)];
    let by = |ids: &[AuthenticatorId], key: &str| match block_on(verifiers.answer(ids, key, None, noon())) {
        Answer::Principal(principal) => format!("{}", principal.authenticator),
        other => said(&other),
    };
    assert_eq!((by(&both, KEY), by(&both, other)), ("a".into(), "b".into()));
    // A route that does not name it does not take its keys.
    assert_eq!(by(&both[..1], other), "key-unknown");
    assert_eq!(by(&both[1..], KEY), "key-unknown");
    assert_eq!(verifiers.api_keys().map(|(_, count)| count).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn keys_stand_in_their_header_unless_said() {
    let sources = |from: &str| {
        let (all, findings) = compile(&format!("main: {{ api_key: {{ {from} keys: [] }} }}"));
        assert_eq!(findings, Vec::<String>::new());
        all.get("main").unwrap().1.sources().to_vec()
    };
    let header = |name: &str| Source::KeyHeader(name.parse().unwrap());
    assert_eq!(sources(""), [header("x-api-key")]);
    assert_eq!(sources("from: { header: X-Shop-Key },"), [header("x-shop-key")]);
    assert_eq!(sources("from: { query: key },"), [Source::KeyQuery("key".into())]);
}

#[test]
fn equal_keys_are_equal_whoever_has_called() {
    let yaml = |more: &str| format!("main: {{ api_key: {{ keys: [{{ {} }}] }} }}", line(KEY, more));
    let (one, _) = compile(&yaml("subject: acme"));
    let (two, _) = compile(&yaml("subject: acme"));
    let (other, _) = compile(&yaml("subject: acme, roles: a"));
    let verifiers = Verifiers::new(&one, None, &Arc::new(Client::new()), Timing::default());
    assert_eq!(said(&ask(&verifiers, KEY, NOON)), "acme");
    assert_eq!(one.get("main").unwrap().1, two.get("main").unwrap().1);
    assert_ne!(one.get("main").unwrap().1, other.get("main").unwrap().1);
}

#[test]
fn many_keys_have_lists_in_common() {
    let lines: Vec<String> = (0..2000)
        .map(|at| {
            line(
                &format!("key-{at}"),
                &format!("subject: s{at}, roles: [partner], scopes: [order:read]"),
            )
        })
        .collect();
    let verifiers = verifiers(&lines);
    assert_eq!(verifiers.api_keys().next().unwrap().1, 2000);
    for at in [0, 1, 999, 1999] {
        assert_eq!(said(&ask(&verifiers, &format!("key-{at}"), NOON)), format!("s{at}"));
    }
    assert_eq!(said(&ask(&verifiers, "key-2000", NOON)), "key-unknown");
}
