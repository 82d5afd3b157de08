#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::held::{Fullness, Item};
use super::marks::{EVER, Marks, NEVER};
use super::*;
use crate::engine::{Client, NoHeaders, Outcome, Params, Principal, RequestView, Revocation, Whom};
use crate::io::StateFolder;
use crate::snapshot::allocations::bytes_held;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A caller whose token `t1` was issued at 100.
fn caller(authenticator: &str, issuer: &str, subject: &str) -> Principal {
    Principal {
        authenticator: authenticator.into(),
        issuer: issuer.into(),
        subject: subject.into(),
        scopes: Vec::new(),
        roles: Vec::new(),
        claims: json!({"iat": 100}).as_object().cloned().unwrap(),
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
        who.claims.insert("iat".to_owned(), iat);
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
    silent.claims.remove("iat");
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

/// One of each kind.
fn one_of_each() -> Vec<(Whom, Extent)> {
    vec![
        (identity("a", "i", "u\"1\u{1f600}"), EVERY),
        (identity("a", "j", "u1"), until(300)),
        (subject("u1"), before(90)),
        (token("a", "i", "t\n2"), until(300)),
        (Whom::Authenticator("a".into()), before(80)),
        (Whom::Issuer("i".into()), before(70)),
        (Whom::Everybody, before(60)),
    ]
}

fn items(revocations: &Revocations) -> Vec<String> {
    let mut items = Vec::new();
    let shown = revocations.held().each(|item| {
        items.push(format!("{item:?}"));
        Ok::<_, ()>(())
    });
    shown.unwrap();
    items.sort();
    items
}

#[test]
fn keeps_revocations_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    for (whom, extent) in one_of_each() {
        revoke(&first, whom, extent);
    }
    revoke(&first, subject("gone"), EVERY);
    first.turn().lift(&subject("gone")).unwrap();
    let before = items(&first);
    assert_eq!((before.len(), first.figures().total()), (7, 7));
    drop(first);
    let second = open(folder.path());
    assert_eq!(items(&second), before);
    revoke(&second, subject("more"), EVERY);
    // Written anew it says the same.
    second.turn().write_anew().unwrap();
    let before = items(&second);
    drop(second);
    let third = open(folder.path());
    assert_eq!((items(&third), before.len()), (before, 8));
    let held = read_revoked(folder.path()).unwrap();
    assert!(held.hit(&caller("x", "y", "more"), at(200)).is_some());
    assert_eq!(
        read_revoked(&folder.path().join("elsewhere"))
            .unwrap()
            .figures()
            .total(),
        0
    );
}

#[test]
fn does_not_start_on_state_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |text: &str| {
        std::fs::write(folder.path().join("revocations.jsonl"), text).unwrap();
        read_revoked(folder.path()).map(|held| held.figures().total())
    };
    let head = "{\"v\":1}\n";
    let good = r#"{"authenticator":"a","issuer":"i","sub":"u1","every":true,"until":"1970-01-01T00:05:00Z"}"#;
    assert_eq!(kept(&format!("{head}{good}\n")).unwrap(), 1);
    assert_eq!(kept(head).unwrap(), 0);
    // The last line was never said to be kept.
    assert_eq!(kept(&format!("{head}{good}\n{}", &good[..40])).unwrap(), 1);
    assert_eq!(kept(&format!("{head}{good}")).unwrap(), 0);
    let cases = [
        String::new(),
        "{\"v\":1}".to_owned(),
        format!("{good}\n"),
        "{\"v\":2}\n".to_owned(),
        format!("{head}\n"),
        format!("{head}{{}}\n"),
        format!("{head}{}\n{good}\n", &good[..40]),
        format!("{head}{}\n", good.replace("sub", "subject")),
        format!("{head}{}\n", good.replace("\"every\":true,", "")),
        format!("{head}{}\n", good.replace("\"issuer\":\"i\",", "")),
        format!(
            "{head}{}\n",
            good.replace("\"every\":true", "\"every\":true,\"lifted\":true")
        ),
        // Nobody could say when it may be forgotten.
        format!("{head}{}\n", good.replace("sub", "jti")),
        format!(
            "{head}{}\n",
            good.replace("\"every\":true", "\"every\":true,\"everybody\":true")
        ),
        format!(
            "{head}{}\n",
            good.replace("\"sub\":\"u1\"", "\"sub\":\"u1\",\"floor\":\"1970-01-01T00:00:00Z\"")
        ),
        format!("{head}\u{0}\n"),
    ];
    for bad in cases {
        let error = kept(&bad).unwrap_err();
        assert!(matches!(error, RevocationFailure::Unreadable { .. }), "{bad}");
        assert!(error.to_string().contains("revocations.jsonl"), "{error}");
        let folder = Arc::new(StateFolder::open(folder.path()).unwrap());
        assert!(Revocations::open(Some(folder)).is_err());
    }
}

#[test]
fn goes_on_after_a_crash_in_the_middle_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    revoke(&first, subject("u1"), EVERY);
    drop(first);
    let path = folder.path().join("revocations.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"sub\":\"u2\",\"ev");
    std::fs::write(&path, text).unwrap();
    let second = open(folder.path());
    revoke(&second, subject("u3"), EVERY);
    drop(second);
    let third = open(folder.path());
    assert_eq!(third.figures().total(), 2);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n") && !text.contains("u2"), "{text}");
}

#[test]
fn changes_nothing_where_it_cannot_be_kept() {
    let homeless = Revocations::open(None).unwrap();
    let order = revocation(subject("u1"), EVERY);
    let refused = homeless.turn().revoke(&order, at(200), None).unwrap_err();
    assert!(matches!(refused, RevocationFailure::NoState) && refused.to_string().contains("`state:`"));

    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    std::fs::create_dir(folder.path().join("revocations.jsonl.new")).unwrap();
    assert!(revocations.turn().revoke(&order, at(200), None).is_err());
    assert_eq!(hit_by(&revocations, &caller("a", "i", "u1")), None);
    std::fs::remove_dir(folder.path().join("revocations.jsonl.new")).unwrap();
    revoke(&revocations, subject("u1"), EVERY);
    // What cannot be lifted on disk stays revoked.
    std::fs::remove_file(folder.path().join("revocations.jsonl")).unwrap();
    revocations.turn().break_log();
    std::fs::create_dir(folder.path().join("revocations.jsonl.new")).unwrap();
    assert!(revocations.turn().lift(&subject("u1")).is_err());
    assert_eq!(hit_by(&revocations, &caller("a", "i", "u1")), Some(Reach::Subject));
}

#[test]
fn an_entry_dies_with_the_last_token_it_could_hit() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let forget = |now: i64, lifetimes: &Lifetimes| revocations.turn().forget(at(now), Some(lifetimes)).unwrap();
    revoke(&revocations, identity("a", "i", "u1"), before(100));
    // Made at 200: the token was issued by 500, the clock of its issuer being as wrong as can be.
    revoke(&revocations, token("a", "i", "t1"), EVERY);
    revoke(&revocations, token("a", "i", "t2"), until(700));
    revoke(&revocations, identity("a", "i", "u2"), until(900));
    revoke(&revocations, identity("a", "i", "u3"), EVERY);
    revoke(&revocations, identity("b", "i", "u1"), before(100));
    revoke(&revocations, subject("u4"), before(100));
    assert_eq!(revocations.figures().total(), 7);
    assert_eq!(
        forget(699, &Lifetimes::default()),
        0,
        "nobody knows how long tokens live"
    );
    let life = lives(1000);
    assert_eq!(forget(100 + 1000 + SLACK - 1, &life), 2, "two have come to their end");
    assert_eq!(forget(100 + 1000 + SLACK, &life), 2, "an identity and a subject");
    assert_eq!(forget(500 + 1000 + SLACK - 1, &life), 0);
    assert_eq!(forget(500 + 1000 + SLACK, &life), 1, "a token");
    // Who is shut out for good, and what is of an authenticator without a bound, stay.
    assert_eq!(forget(i64::from(u32::MAX), &life), 0);
    assert_eq!(revocations.figures().total(), 2);
    // Nothing of a subject anywhere may be forgotten while some authenticator has no bound.
    revoke(&revocations, subject("u4"), before(100));
    let open_ended = Lifetimes(vec![life.0[0].clone(), ("keys".into(), None)]);
    assert_eq!(forget(i64::from(u32::MAX), &open_ended), 0);
}

#[test]
fn longer_lives_bring_back_no_token_that_was_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let who = |issued: Option<i64>| {
        let mut who = caller("a", "i", "u9");
        match issued {
            Some(issued) => who.claims.insert("iat".to_owned(), issued.into()),
            None => who.claims.remove("iat"),
        };
        who
    };
    revoke(&revocations, identity("a", "i", "u1"), before(150));
    let life = lives(1000);
    let end = 150 + 1000 + SLACK;
    assert_eq!(hit_by(&revocations, &who(Some(100))), None);
    assert_eq!(revocations.turn().forget(at(end), Some(&life)).unwrap(), 1);
    // Such a token was too old by then for everybody.
    let floor = Some(Revoked {
        reach: Reach::Authenticator,
        extent: before(150),
    });
    let hit = |revocations: &Revocations, issued| revocations.hit(&who(issued), at(end));
    assert_eq!(hit(&revocations, Some(149)), floor);
    assert_eq!((hit(&revocations, Some(150)), hit(&revocations, None)), (None, None));
    assert_eq!((revocations.figures().total(), revocations.figures().floors), (0, 1));
    drop(revocations);
    let again = open(folder.path());
    assert_eq!(hit(&again, Some(149)), floor);
    let whom = Whom::Authenticator("a".into());
    assert_eq!(
        again.turn().lift(&whom).unwrap(),
        [revocation(whom.clone(), before(150))]
    );
    assert_eq!((hit(&again, Some(149)), again.figures().floors), (None, 0));
    drop(again);
    assert_eq!(hit(&open(folder.path()), Some(149)), None);
}

#[test]
fn a_file_whose_lines_say_nothing_any_more_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for number in 0..10 {
        revoke(&revocations, subject(&format!("u{number}")), until(300));
    }
    let path = folder.path().join("revocations.jsonl");
    let length = |path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(revocations.turn().forget(at(300), Some(&lives(1))).unwrap(), 10);
    assert_eq!(length(&path), 11);
    // Ten lines are no burden; as if there were more.
    revocations.turn().pretend_lines(5000);
    revoke(&revocations, subject("u1"), EVERY);
    assert_eq!(length(&path), 2);
    revoke(&revocations, subject("u2"), EVERY);
    revocations.turn().lift(&subject("u1")).unwrap();
    assert_eq!(length(&path), 4);
    drop(revocations);
    assert_eq!(open(folder.path()).figures().total(), 1);
}

#[test]
fn a_million_revocations_take_the_memory_that_is_told() {
    const COUNT: usize = 1_000_000;
    let whom = |number: usize| {
        identity(
            "customer",
            "https://id.bank.example",
            &format!("9b2e6c1e-7f3a-4c55-8d21-{number:012}"),
        )
    };
    let marks = Marks {
        until: NEVER,
        before: 1_795_521_600,
    };
    let (bytes, held) = bytes_held(|| {
        let held = Held::default();
        for number in 0..COUNT {
            held.set(&whom(number), marks);
        }
        held
    });
    let told = held.figures();
    assert_eq!((told.total(), held.len()), (COUNT, COUNT));
    println!("{COUNT} revocations: {bytes} bytes held, {} told", told.memory);
    // Sizes that allocators round up are told as such.
    assert!(
        told.memory >= bytes && told.memory <= bytes + bytes / 8,
        "{bytes}, told as {}",
        told.memory
    );
    assert!(bytes / COUNT <= 120, "{} bytes each", bytes / COUNT);
    let mut who = caller(
        "customer",
        "https://id.bank.example",
        "9b2e6c1e-7f3a-4c55-8d21-000000999999",
    );
    assert!(held.hit(&who, at(200)).is_some());
    who.subject = "9b2e6c1e-7f3a-4c55-8d21-000001000000".into();
    assert!(held.hit(&who, at(200)).is_none());

    // Beyond the cap nothing is taken in, and nothing is dropped for it.
    assert_eq!(held.room_for(&whom(COUNT)), Ok(()));
    for number in COUNT..MAX_ENTRIES {
        held.set(&whom(number), marks);
    }
    assert_eq!(held.room_for(&whom(MAX_ENTRIES)), Err(Fullness::Entries));
    assert_eq!(held.room_for(&whom(0)), Ok(()));
    assert!(held.figures().memory <= 128 << 20);
    // Memory is given back with what is forgotten.
    let life = Lifetimes(vec![("customer".into(), Some(Duration::from_secs(60)))]);
    assert_eq!(held.forget(1_795_521_600 + 60 + SLACK, &life), MAX_ENTRIES);
    assert!(held.figures().memory < 1 << 20 && held.len() == 0);
}

#[test]
#[ignore = "by hand, best with --release: takes most of a minute without"]
fn a_file_of_a_million_revocations_is_read_in_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for number in 0..1_000_000 {
        let subject = format!("9b2e6c1e-7f3a-4c55-8d21-{number:012}");
        let marks = Marks {
            until: NEVER,
            before: 1_795_521_600,
        };
        revocations
            .held()
            .set(&identity("customer", "https://id.bank.example", &subject), marks);
    }
    let began = std::time::Instant::now();
    revocations.turn().write_anew().unwrap();
    let (written, length) = (
        began.elapsed(),
        std::fs::metadata(folder.path().join("revocations.jsonl"))
            .unwrap()
            .len(),
    );
    drop(revocations);
    let began = std::time::Instant::now();
    assert_eq!(open(folder.path()).figures().total(), 1_000_000);
    println!(
        "{} MB written in {written:?}, read in {:?}",
        length / 1_000_000,
        began.elapsed()
    );
}

#[test]
fn refuses_what_there_is_no_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for number in 0..1024 {
        revocations.held().set(
            &identity("a", &format!("i{number}"), "u1"),
            Marks {
                until: 300,
                before: NEVER,
            },
        );
        revocations.held().set(
            &Whom::Issuer(format!("i{number}").into()),
            Marks {
                until: NEVER,
                before: 1,
            },
        );
    }
    for whom in [identity("a", "another", "u1"), Whom::Issuer("another".into())] {
        let refused = revocations
            .turn()
            .revoke(&revocation(whom, EVERY), at(200), None)
            .unwrap_err();
        assert!(matches!(refused, RevocationFailure::Full(_)), "{refused}");
        assert!(refused.to_string().contains("1024"), "{refused}");
    }
    revoke(&revocations, identity("a", "i7", "u2"), EVERY);
    assert_eq!(revocations.held().len(), 2049);
}

fn judged(principal: Option<Principal>, answer: Option<&Answer>) -> (Option<u16>, &'static str, Vec<String>) {
    let rule = RevocationRule::default();
    let client = Client::unnamed();
    let facts = Facts {
        now: at(100),
        window_at: at(100),
        address: "192.0.2.1".parse().unwrap(),
        client: &client,
        request: RequestView {
            method: &http::Method::GET,
            host: "h",
            path: "/",
            query: "",
            headers: &NoHeaders,
        },
        params: Params::default(),
        principal: principal.map(Arc::new),
    };
    assert_eq!(rule.ask(&facts).is_some(), facts.principal.is_some());
    let told = rule.describe(&facts, answer);
    let verdict = rule.judge(&facts, answer);
    let code = match verdict.why {
        Why::Credential(code) | Why::Unavailable(code) => code,
        _ => "",
    };
    match verdict.outcome {
        Outcome::Deny(denial) => {
            assert_eq!(&*denial.code, code);
            let challenge = denial.challenge.as_ref().map(|value| value.to_str().unwrap());
            let expected =
                (denial.status.as_u16() == 401).then_some("Bearer realm=\"gwanmun\", error=\"invalid_token\"");
            assert_eq!(challenge, expected);
            (Some(denial.status.as_u16()), code, told)
        }
        _ => (None, code, told),
    }
}

#[test]
fn refuses_whoever_is_hit_and_nobody_else() {
    let who = || Some(caller("a", "i", "u1"));
    let revoked = |reach, extent| Answer::Revoked(Some(Revoked { reach, extent }));
    assert_eq!(judged(None, None).0, None);
    assert_eq!(judged(who(), Some(&Answer::Revoked(None))).0, None);
    assert!(Answer::Revoked(None).is_silent() && !revoked(Reach::Token, EVERY).is_silent());
    for (reach, extent, words) in [
        (Reach::Token, EVERY, "the token is revoked until that is lifted"),
        (
            Reach::Identity,
            until(300),
            "the caller is revoked until 1970-01-01T00:05:00+00:00",
        ),
        (
            Reach::Everybody,
            before(300),
            "everything issued before 1970-01-01T00:05:00+00:00 is revoked",
        ),
    ] {
        let told = judged(who(), Some(&revoked(reach, extent)));
        assert_eq!(told, (Some(401), "token-revoked", vec![words.to_owned()]));
    }
    let mut silent = caller("a", "i", "u1");
    silent.claims.clear();
    let told = judged(Some(silent), Some(&revoked(Reach::Identity, before(300)))).2;
    assert!(told[1].contains("does not say when it was issued"), "{told:?}");
}

#[test]
fn counts_a_wrong_answer_against_the_caller() {
    for wrong in [
        Answer::Unavailable { code: "not-answered" },
        Answer::Freezes(Vec::new()),
    ] {
        let (status, code, _) = judged(Some(caller("a", "i", "u1")), Some(&wrong));
        assert_eq!((status, code), (Some(503), "revocations-unavailable"));
    }
}

#[test]
fn a_revocation_assumed_of_everybody_hits_everybody() {
    let held = Held::of_everybody();
    assert_eq!(
        held.hit(&caller("a", "i", "u1"), at(0)).map(|hit| hit.reach),
        Some(Reach::Everybody)
    );
    let mut items = Vec::new();
    held.each(|item| {
        items.push(item);
        Ok::<_, ()>(())
    })
    .unwrap();
    let marks = Marks {
        until: EVER,
        before: NEVER,
    };
    assert_eq!(items, [Item::Marked(Whom::Everybody, marks)]);
}
