#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::net::IpAddr;

use http::Method;

use super::*;
use crate::engine::{Client, NoHeaders, Outcome, Params, RequestView};
use crate::io::StateFolder;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn freeze(kind: Freezable, name: &str, until: Option<i64>) -> Freeze {
    Freeze {
        kind,
        name: name.into(),
        until: until.map(at),
        reason: "a \"test\"".into(),
    }
}

/// A rule of the route `pay`, which needs `a` and calls `b`, judged at 100 on what is frozen.
fn judged(freezes: &[Freeze]) -> (Verdict, Vec<String>) {
    let rule = FreezeRule::new("pay".into(), vec!["a".into()], vec!["b".into()], None);
    let client = Client::unnamed();
    let facts = Facts {
        now: at(100),
        window_at: at(100),
        address: "192.0.2.1".parse().unwrap(),
        client: &client,
        request: RequestView {
            method: &Method::GET,
            host: "h",
            path: "/",
            query: "",
            headers: &NoHeaders,
        },
        params: Params::default(),
        principal: None,
    };
    let mut held = Held::default();
    for freeze in freezes {
        held.insert(HeldFreeze {
            freeze: Arc::new(freeze.clone()),
            since: at(0),
            by: [127, 0, 0, 1].into(),
        });
    }
    let Some(Question::Freezes { route, upstreams }) = rule.ask(&facts) else {
        panic!("asks for something else")
    };
    let answer = Answer::Freezes(held.concerning(route, upstreams, facts.now));
    (rule.judge(&facts, Some(&answer)), rule.describe(&facts, Some(&answer)))
}

fn refusal(freezes: &[Freeze]) -> Option<Option<Timestamp>> {
    match judged(freezes).0.outcome {
        Outcome::Deny(denial) => {
            assert_eq!((denial.status.as_u16(), &*denial.code), (503, "frozen"));
            assert!(!denial.detail.contains("test"));
            Some(denial.ends_at)
        }
        _ => None,
    }
}

#[test]
fn passes_what_is_not_frozen() {
    use Freezable::{Route, Upstream};
    for freezes in [
        vec![],
        vec![freeze(Route, "other", None)],
        vec![freeze(Upstream, "pay", None)],
        vec![freeze(Route, "a", None)],
        // The end is excluded.
        vec![freeze(Route, "pay", Some(100))],
    ] {
        assert_eq!(refusal(&freezes), None, "{freezes:?}");
        assert_eq!(judged(&freezes).0.why, Why::NotConcerned);
    }
}

#[test]
fn refuses_until_the_last_end() {
    use Freezable::{Route, Upstream};
    assert_eq!(refusal(&[freeze(Route, "pay", Some(101))]), Some(Some(at(101))));
    assert_eq!(refusal(&[freeze(Upstream, "a", Some(200))]), Some(Some(at(200))));
    let both = [freeze(Route, "pay", Some(300)), freeze(Upstream, "a", Some(200))];
    assert_eq!(refusal(&both), Some(Some(at(300))));
    let for_good = [freeze(Route, "pay", Some(300)), freeze(Upstream, "a", None)];
    assert_eq!(refusal(&for_good), Some(None));
    // What the route can do without does not make it wait.
    let with_other = [freeze(Route, "pay", Some(300)), freeze(Upstream, "b", None)];
    assert_eq!(refusal(&with_other), Some(Some(at(300))));
}

#[test]
fn goes_on_without_what_is_not_needed() {
    let (verdict, told) = judged(&[freeze(Freezable::Upstream, "b", None)]);
    let Outcome::Add(Act::Without(names)) = verdict.outcome else {
        panic!("{verdict:?}")
    };
    assert_eq!(&*names, [Arc::from("b")]);
    assert_eq!(
        told,
        ["upstream `b` is frozen until it is thawed, and its parts are denied: a \"test\""]
    );
}

#[test]
fn counts_a_wrong_answer_against_the_request() {
    let rule = FreezeRule::new("pay".into(), Vec::new(), Vec::new(), None);
    let client = Client::unnamed();
    let facts = Facts {
        now: at(100),
        window_at: at(100),
        address: "192.0.2.1".parse().unwrap(),
        client: &client,
        request: RequestView {
            method: &Method::GET,
            host: "h",
            path: "/",
            query: "",
            headers: &NoHeaders,
        },
        params: Params::default(),
        principal: None,
    };
    let unknown = Answer::Unavailable { code: "not-answered" };
    let Outcome::Deny(denial) = rule.judge(&facts, Some(&unknown)).outcome else {
        panic!("passes what nobody knows")
    };
    assert_eq!(&*denial.code, "freezes-unavailable");
}

const BY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn open(path: &std::path::Path) -> Result<Freezes, FreezeFailure> {
    Freezes::open(Some(Arc::new(StateFolder::open(path)?)))
}

fn names(freezes: &Freezes, now: i64) -> Vec<String> {
    let held = freezes.held();
    let shown = |held: &&HeldFreeze| format!("{} {}", held.freeze.kind.word(), held.freeze.name);
    held.in_force(at(now)).iter().map(shown).collect()
}

#[test]
fn keeps_freezes_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = open(&path).unwrap();
    let all = vec![
        freeze(Freezable::Route, "pay", None),
        freeze(Freezable::Upstream, "a", Some(50)),
    ];
    first.turn().freeze(all, at(10), BY).unwrap();
    let before = first.held().in_force(at(10)).into_iter().cloned().collect::<Vec<_>>();
    drop(first);

    let second = open(&path).unwrap();
    let after = second.held().in_force(at(10)).into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(before, after);
    assert_eq!(names(&second, 49), ["route pay", "upstream a"]);
    // It has ended by itself, and the next change forgets it.
    assert_eq!(names(&second, 50), ["route pay"]);
    let thawed = second.turn().thaw(&Freezable::ALL, "pay", at(60)).unwrap();
    assert_eq!((thawed.len(), names(&second, 0).len()), (1, 0));
    assert_eq!(read_held(&path).unwrap().in_force(at(0)).len(), 0);
}

#[test]
fn replaces_a_freeze_of_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let freezes = open(&folder.path().join("state")).unwrap();
    for until in [Some(20), None] {
        let turn = freezes.turn();
        turn.freeze(vec![freeze(Freezable::Route, "pay", until)], at(10), BY)
            .unwrap();
    }
    let held = freezes.held();
    assert_eq!(held.in_force(at(10)).len(), 1);
    assert_eq!(held.in_force(at(10))[0].freeze.until, None);
}

#[test]
fn does_not_start_on_state_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let good = r#"{"v":1,"freezes":[{"kind":"route","name":"pay","until":null,"since":"1970-01-01T00:00:10Z","by":"::1","reason":""}]}"#;
    let kept = |text: &str| {
        std::fs::write(folder.path().join("freezes.json"), text).unwrap();
        read_held(folder.path()).map(|held| held.in_force(at(0)).len())
    };
    assert_eq!(kept(good).unwrap(), 1);
    for bad in [
        "",
        "{}",
        good.trim_end_matches('}'),
        &good.replace("\"v\":1", "\"v\":2"),
        &good.replace("route", "rout"),
        &good.replace("\"reason\":\"\"", "\"reason\":\"\",\"more\":1"),
        &good.replace("1970-01-01T00:00:10Z", "once"),
    ] {
        let error = kept(bad).unwrap_err();
        assert!(matches!(error, FreezeFailure::Unreadable { .. }), "{bad}");
        assert!(error.to_string().contains("freezes.json"), "{error}");
    }
}

#[test]
fn changes_nothing_where_it_cannot_be_kept() {
    let homeless = Freezes::open(None).unwrap();
    let route = || vec![freeze(Freezable::Route, "pay", None)];
    let refused = homeless.turn().freeze(route(), at(0), BY).unwrap_err();
    assert!(refused.is_for_want_of_a_folder() && refused.to_string().contains("`state:`"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let freezes = open(&path).unwrap();
    std::fs::create_dir(path.join("freezes.json.new")).unwrap();
    assert!(freezes.turn().freeze(route(), at(0), BY).is_err());
    assert_eq!(names(&freezes, 0).len(), 0);
}
