#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::engine::{Principal, Revocation, Whom};
use crate::io::StateFolder;

mod judged;
mod kept;
mod room;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A caller whose token `t1` was issued at 100.
fn caller(authenticator: &str, issuer: &str, subject: &str) -> Principal {
    Principal {
        authenticator: authenticator.into(),
        issuer: issuer.into(),
        subject: subject.into(),
        scopes: Default::default(),
        roles: Default::default(),
        claims: json!({"iat": 100}).as_object().cloned().unwrap().into(),
        auth_time: None,
        acr: None,
        expires: None,
        token_id: Some("t1".into()),
        identity: Principal::frame(authenticator, issuer, subject),
    }
}

fn identity(authenticator: &str, issuer: &str, subject: &str) -> Whom {
    Whom::Identity {
        authenticator: authenticator.into(),
        issuer: issuer.into(),
        subject: subject.into(),
    }
}

fn token(authenticator: &str, issuer: &str, id: &str) -> Whom {
    Whom::Token {
        authenticator: authenticator.into(),
        issuer: issuer.into(),
        id: id.into(),
    }
}

const EVERY: Extent = Extent::Every { until: None };

fn until(second: i64) -> Extent {
    Extent::Every {
        until: Some(at(second)),
    }
}

fn before(second: i64) -> Extent {
    Extent::IssuedBefore(at(second))
}

fn revocation(whom: Whom, extent: Extent) -> Revocation {
    Revocation { whom, extent }
}

/// As many as there are, each by what hits `u1` of `a` at 200.
fn hit(all: &[(Whom, Extent)]) -> Option<Reach> {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for (whom, extent) in all {
        revoke(&revocations, whom.clone(), *extent);
    }
    hit_by(&revocations, &caller("a", "i", "u1"))
}

fn hit_by(revocations: &Revocations, who: &Principal) -> Option<Reach> {
    revocations.hit(who, at(200)).map(|revoked| revoked.reach)
}

fn open(path: &std::path::Path) -> Revocations {
    Revocations::open(Some(Arc::new(StateFolder::open(path).unwrap()))).unwrap()
}

fn revoke(revocations: &Revocations, whom: Whom, extent: Extent) -> Vec<Revocation> {
    let mut turn = revocations.turn();
    turn.revoke(&revocation(whom, extent), at(200), None).unwrap()
}

fn subject(subject: &str) -> Whom {
    Whom::Subject(subject.into())
}

fn lives(seconds: u64) -> Lifetimes {
    Lifetimes(vec![("a".into(), Some(Duration::from_secs(seconds)))])
}

/// What is added to a lifetime before anything is forgotten.
const SLACK: i64 = 301;

#[test]
fn hits_those_that_are_named() {
    use Reach::*;
    let wide = |extent| {
        [
            (Whom::Authenticator("a".into()), extent),
            (Whom::Issuer("i".into()), extent),
            (Whom::Everybody, extent),
        ]
    };
    assert_eq!(hit(&[]), None);
    for (whom, extent, reach) in [
        (identity("a", "i", "u1"), EVERY, Some(Identity)),
        (identity("a", "i", "u2"), EVERY, None),
        (identity("b", "i", "u1"), EVERY, None),
        (identity("a", "j", "u1"), EVERY, None),
        (subject("u1"), EVERY, Some(Subject)),
        (subject("u2"), EVERY, None),
        (token("a", "i", "t1"), EVERY, Some(Token)),
        (token("a", "i", "t2"), EVERY, None),
        // What identifies a token is its issuer's alone.
        (token("a", "j", "t1"), EVERY, None),
        (token("b", "i", "t1"), EVERY, Some(Token)),
        // Neither is the other.
        (token("a", "i", "u1"), EVERY, None),
        (identity("a", "i", "t1"), EVERY, None),
        (identity("a", "i", "u1"), until(201), Some(Identity)),
        (identity("a", "i", "u1"), until(200), None),
        (identity("a", "i", "u1"), before(101), Some(Identity)),
        (identity("a", "i", "u1"), before(100), None),
        (subject("u1"), before(101), Some(Subject)),
        (subject("u1"), before(100), None),
        (Whom::Authenticator("b".into()), before(101), None),
        (Whom::Issuer("j".into()), before(101), None),
    ] {
        assert_eq!(hit(&[(whom.clone(), extent)]), reach, "{whom:?} {extent:?}");
    }
    for (whom, extent) in wide(before(101)) {
        assert_eq!(hit(&[(whom.clone(), extent)]), Some(whom.reach()));
        assert_eq!(hit(&[(whom.clone(), before(100))]), None);
    }
    // Of several the narrowest.
    let all = [
        (subject("u1"), EVERY),
        (identity("a", "i", "u1"), EVERY),
        (token("a", "i", "t1"), EVERY),
    ];
    assert_eq!(hit(&all), Some(Token));
    assert_eq!(hit(&all[..2]), Some(Identity));
}

#[test]
fn no_name_can_spell_another() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for (authenticator, issuer, name) in [("a", "bc", "d"), ("a", "b", "cd"), ("ab", "c", "d"), ("a", "", "bcd")] {
        revoke(&revocations, identity(authenticator, issuer, name), EVERY);
        assert_eq!(
            hit_by(&revocations, &caller(authenticator, issuer, name)),
            Some(Reach::Identity)
        );
    }
    for (authenticator, issuer, name) in [("abc", "", "d"), ("a", "bcd", ""), ("", "abc", "d"), ("a", "b\0c", "d")] {
        assert_eq!(hit_by(&revocations, &caller(authenticator, issuer, name)), None);
    }
}

#[test]
fn counts_a_token_that_does_not_say_when_it_was_issued_against_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    revoke(&revocations, identity("a", "i", "u1"), before(50));
    let issued = |iat: serde_json::Value| {
        let mut who = caller("a", "i", "u1");
        who.claims = [("iat".to_owned(), iat)].into_iter().collect();
        hit_by(&revocations, &who).is_some()
    };
    for (iat, expected) in [
        (json!(49), true),
        (json!(50), false),
        (json!(49.9), true),
        (json!(50.9), false),
        (json!(-1e300), true),
        (json!(1e300), false),
        (json!(u64::MAX), false),
        (json!("50"), true),
        (json!(null), true),
    ] {
        assert_eq!(issued(iat.clone()), expected, "{iat}");
    }
    let mut silent = caller("a", "i", "u1");
    silent.claims = [].into_iter().collect();
    assert_eq!(hit_by(&revocations, &silent), Some(Reach::Identity));
    // And a token without an identifier is none that is named.
    silent.token_id = None;
    revoke(&revocations, token("a", "i", ""), EVERY);
    silent.subject = "u2".into();
    assert_eq!(hit_by(&revocations, &silent), None);
}

#[test]
fn of_two_the_longer_stands() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let whom = identity("a", "i", "u1");
    let again = |extent| {
        let standing = revoke(&revocations, whom.clone(), extent);
        standing.iter().map(|revocation| revocation.extent).collect::<Vec<_>>()
    };
    assert_eq!(again(until(300)), [until(300)]);
    assert_eq!(again(until(250)), [until(300)]);
    assert_eq!(again(before(100)), [until(300), before(100)]);
    assert_eq!(again(before(90)), [until(300), before(100)]);
    assert_eq!(again(EVERY), [EVERY, before(100)]);
    assert_eq!(again(until(300)), [EVERY, before(100)]);
    let lifted = revocations.turn().lift(&whom).unwrap();
    assert_eq!(
        lifted,
        [revocation(whom.clone(), EVERY), revocation(whom.clone(), before(100))]
    );
    assert_eq!(hit_by(&revocations, &caller("a", "i", "u1")), None);
    assert_eq!(revocations.turn().lift(&whom).unwrap(), []);
    assert_eq!(revocations.figures().total(), 0);
}
