#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderName, Method};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::conf::{Load, Named, Read};
use crate::engine::{Client, Headers, LimitAnswer, Outcome, Params, Principal, RequestView};
use crate::policies::Defined;

const SECOND: u64 = 1_000_000_000;

fn limits(yaml: &str) -> (Limits, Vec<String>) {
    let load = Load::new();
    let node = load.text("t.yaml", yaml).unwrap();
    let limits = Limits::compile(&Named::read(&node, &load).unwrap(), &load);
    (
        limits,
        load.into_findings(Some(&node))
            .iter()
            .map(ToString::to_string)
            .collect(),
    )
}

fn bounds(burst: u32, interval: u64, approximate: bool) -> Bounds {
    Bounds {
        key: KeySource::Identity,
        burst: NonZeroU32::new(burst).unwrap(),
        interval,
        approximate,
    }
}

fn table(burst: u32, interval: u64) -> LimitTable {
    LimitTable::new(bounds(burst, interval, false))
}

fn ask(table: &LimitTable, key: &str, now: u64) -> LimitAnswer {
    check(&[(table, LimitKey::Text(key))], now)[0]
}

#[test]
fn admits_exactly_the_burst_at_one_instant_and_then_the_rate() {
    for burst in [1, 2, 40, 1000] {
        let table = table(burst, SECOND / 20);
        for left in (0..burst).rev() {
            let answer = ask(&table, "k", 5 * SECOND);
            assert!(answer.admitted);
            assert_eq!((answer.remaining, answer.retry_after), (left, Duration::ZERO));
        }
        let refused = ask(&table, "k", 5 * SECOND);
        assert_eq!((refused.admitted, refused.remaining), (false, 0));
        assert_eq!(refused.retry_after, Duration::from_millis(50));
        assert_eq!(refused.reset, Duration::from_millis(50) * burst);
        assert!(!ask(&table, "k", 5 * SECOND + SECOND / 20 - 1).admitted);
        assert!(ask(&table, "k", 5 * SECOND + SECOND / 20).admitted);
        assert!(!ask(&table, "k", 5 * SECOND + SECOND / 20).admitted);
        assert!(ask(&table, "other", 5 * SECOND).admitted);
    }
}

#[test]
fn keeps_kinds_of_keys_apart_and_counts_ipv6_by_its_64() {
    let admits = |keys: [LimitKey<'_>; 2]| {
        let table = table(1, SECOND);
        keys.map(|key| check(&[(&table, key)], 0)[0].admitted)
    };
    let address = |text: &str| LimitKey::Address(text.parse().unwrap());
    let (text, number) = (Value::from("7"), Value::from(7));
    let claim = |issuer, value| LimitKey::Claim {
        authenticator: "a",
        issuer,
        value,
    };
    for (one, two) in [
        (address("192.0.2.1"), LimitKey::Keyless("192.0.2.1".parse().unwrap())),
        (address("192.0.2.1"), address("192.0.2.2")),
        (LimitKey::Text("a"), LimitKey::Identity(b"a")),
        (claim("i", &text), claim("j", &text)),
        (claim("i", &text), claim("i", &number)),
        (claim("i", &text), LimitKey::Text("7")),
        (address("2001:db8::1"), address("2001:db8:0:1::1")),
        (address("::ffff:192.0.2.1"), address("::ffff:192.0.2.2")),
    ] {
        assert_eq!(admits([one.clone(), two.clone()]), [true, true], "{one:?} {two:?}");
    }
    for (one, two) in [
        (address("2001:db8::1"), address("2001:db8::2:3:4:5")),
        (address("::ffff:192.0.2.1"), address("192.0.2.1")),
        (LimitKey::Text("a"), LimitKey::Text("a")),
        (claim("i", &number), claim("i", &number)),
    ] {
        assert_eq!(admits([one.clone(), two.clone()]), [true, false], "{one:?} {two:?}");
    }
}

#[test]
fn says_what_a_table_would_say_of_new_and_of_used_up_keys() {
    for bounds in [bounds(3, SECOND, false), bounds(1, 7, false), bounds(5, SECOND, true)] {
        let table = LimitTable::with_cap(bounds.clone(), 100);
        let one_left = bounds.burst.get() - 1;
        assert_eq!(ask(&table, "k", 0), bounds.first(true), "{bounds:?}");
        for _ in 0..one_left {
            assert!(ask(&table, "k", 0).admitted);
        }
        assert_eq!(ask(&table, "k", 0), bounds.exhausted(), "{bounds:?}");
        // Not charged where another limit refuses.
        let none = LimitTable::with_cap(
            Bounds {
                burst: NonZeroU32::MIN,
                ..bounds.clone()
            },
            100,
        );
        assert!(ask(&none, "k", 0).admitted);
        let both = check(&[(&table, LimitKey::Text("other")), (&none, LimitKey::Text("k"))], 0);
        assert_eq!(both[0], bounds.first(false), "{bounds:?}");
    }
}

#[test]
fn charges_all_limits_or_none() {
    let (wide, narrow) = (table(10, SECOND), table(2, SECOND));
    let both = |now| check(&[(&wide, LimitKey::Text("k")), (&narrow, LimitKey::Text("k"))], now);
    both(0);
    both(0);
    let refused = both(0);
    assert_eq!([refused[0].admitted, refused[1].admitted], [true, false]);
    assert_eq!([refused[0].remaining, refused[1].remaining], [8, 0]);
    assert_eq!(ask(&wide, "k", 0).remaining, 7);

    // Named twice in one request, a limit is charged once.
    let twice = check(&[(&wide, LimitKey::Text("k")), (&wide, LimitKey::Text("k"))], 0);
    assert_eq!([twice[0].remaining, twice[1].remaining], [6, 6]);
    assert!(check(&[], 0).is_empty());
}

#[test]
fn is_exact_when_threads_race() {
    let (one, two) = (Arc::new(table(700, SECOND)), Arc::new(table(500, SECOND)));
    let sketched = Arc::new(LimitTable::new(bounds(900, SECOND / 900, true)));
    let (both, flood) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (one, two, sketched, both, flood) = (&one, &two, &sketched, &both, &flood);
            scope.spawn(move || {
                for _ in 0..400 {
                    let mut asked = [(&**one, LimitKey::Text("k")), (&**two, LimitKey::Text("k"))];
                    if thread % 2 == 0 {
                        asked.reverse();
                    }
                    if check(&asked, SECOND).iter().all(|answer| answer.admitted) {
                        both.fetch_add(1, Ordering::Relaxed);
                    }
                    if ask(sketched, "k", SECOND).admitted {
                        flood.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(both.into_inner(), 500);
    assert_eq!(flood.into_inner(), 900);
    assert_eq!(ask(&one, "k", SECOND).remaining, 199);
}

#[test]
fn counts_new_keys_in_the_sketch_beyond_the_cap_and_forgets_no_live_one() {
    let table = LimitTable::with_cap(bounds(2, 10 * SECOND, false), 1024);
    let key = |n: u32| n.to_string();
    for n in 0..5_000 {
        assert!(ask(&table, &key(n), 0).admitted);
    }
    assert!(table.keys() <= 1024, "{}", table.keys());
    assert!(table.overflowed() >= 3_976, "{}", table.overflowed());
    for n in 0..5_000 {
        ask(&table, &key(n), 0);
    }
    let admitted = (0..5_000).filter(|n| ask(&table, &key(*n), 0).admitted).count();
    assert_eq!(admitted, 0);
    // All are as good as new after the window: room is made, and nothing is kept that need not be.
    let overflowed = table.overflowed();
    assert!((0..500).all(|n| ask(&table, &key(n), 60 * SECOND).admitted));
    assert!(table.keys() <= 1024 && table.overflowed() - overflowed < 100);
}

#[test]
fn takes_what_the_sketch_counted_along_when_there_is_room_again() {
    // Two keys a shard, so that there is room for both keys that are asked about later.
    let table = LimitTable::with_cap(bounds(4, 10 * SECOND, false), 128);
    for n in 0..3_000 {
        ask(&table, &n.to_string(), 0);
    }
    assert_eq!(table.keys(), 128);
    assert_eq!([0; 3].map(|now| ask(&table, "k", now).remaining), [3, 2, 1]);
    // The keys held are as good as new by then.
    let overflowed = table.overflowed();
    assert_eq!(ask(&table, "k", 20 * SECOND).remaining, 0);
    assert_eq!(ask(&table, "other", 20 * SECOND).remaining, 3);
    assert_eq!(table.overflowed(), overflowed);
}

#[test]
fn keeps_counts_over_a_reload_unless_the_numbers_changed() {
    let before = limits("a: { key: ip, rate: 2/s }\nb: { key: ip, rate: 2/s }\nc: { key: ip, rate: 2/s }").0;
    let tables = LimitTables::following(&before, &LimitTables::default());
    let left = |tables: &LimitTables, limits: &Limits, name: &str| {
        let table = tables.get(limits.get(name).unwrap().0).unwrap();
        check(&[(table, LimitKey::Address("192.0.2.1".parse().unwrap()))], 0)[0].remaining
    };
    for name in ["a", "b", "c"] {
        assert_eq!(left(&tables, &before, name), 1);
    }
    let after = limits("z: { key: ip, rate: 2/s }\nc: { key: ip, rate: 2/s, burst: 2 }\nb: { key: ip, rate: 3/s }").0;
    let tables = LimitTables::following(&after, &tables);
    assert_eq!(["z", "b", "c"].map(|name| left(&tables, &after, name)), [1, 2, 0]);
    assert_eq!(tables.iter().count(), 3);
}

#[test]
fn reads_rates_bursts_and_keys() {
    let (limits, found) = limits(
        "a: { key: principal.sub, rate: 20/s, burst: 40 }\nb: { key: header.X-Partner, rate: 90/m }\n\
         c: { key: claims.org.id, rate: 1/h }\nd: { key: ip, rate: 1000/s, approximate: true }\n",
    );
    assert!(found.is_empty(), "{found:?}");
    let bounds: Vec<(String, u32, u64)> = limits
        .iter()
        .map(|(_, rule)| {
            (
                rule.bounds.key.to_string(),
                rule.bounds.burst.get(),
                rule.bounds.interval,
            )
        })
        .collect();
    assert_eq!(
        bounds,
        [
            ("principal.sub".to_owned(), 40, SECOND / 20),
            ("header.x-partner".to_owned(), 2, 666_666_667),
            ("claims.org.id".to_owned(), 1, 3600 * SECOND),
            ("ip".to_owned(), 1000, SECOND / 1000),
        ]
    );
    assert_eq!(limits.get("c").unwrap().0, LimitId(2));
    assert_eq!(&*limits.by_id(LimitId(3)).unwrap().name, "d");
}

#[test]
fn reads_the_example_of_the_module() {
    let example = include_str!("mod.rs")
        .lines()
        .skip_while(|line| *line != "//! ```yaml")
        .skip(2);
    let example = example.map_while(|line| line.strip_prefix("//!   "));
    let (limits, found) = limits(&example.collect::<Vec<_>>().join("\n"));
    assert_eq!((limits.iter().count(), found.len()), (4, 0), "{found:?}");
}

#[test]
fn points_at_limits_that_cannot_be() {
    for (yaml, part) in [
        (
            "a: { key: principal, rate: 1/s }",
            "t.yaml:1:11: `principal` is not a key: `ip`, `principal.sub`",
        ),
        ("a: { key: claims., rate: 1/s }", "is not a key"),
        ("a: { key: 'header.x y', rate: 1/s }", "names no header"),
        ("a: { key: ip, rate: 20 }", "has no unit"),
        ("a: { key: ip }", "missing `rate`"),
        ("a: { key: ip, rate: 1/s, burst: 0 }", "whole number above 0"),
        ("a: { key: ip, rate: 1/s, concurrent: 8 }", "unknown key `concurrent`"),
        ("a: { key: ip, rate: 1/s, quota: 8/day }", "unknown key `quota`"),
        ("a: { key: ip, rate: 1/h, burst: 10000 }", "more than a year"),
        ("a: { key: ip, rate: 4000000000/s }", "more than one in a nanosecond"),
        (
            "a: { key: ip, rate: 100/s, burst: 99, approximate: true }",
            "at least 100",
        ),
    ] {
        let found = limits(yaml).1;
        assert!(found.len() == 1 && found[0].contains(part), "{yaml}: {found:?}");
    }
}

fn drafts(yaml: &str, names: &str) -> (Vec<Draft>, Vec<String>) {
    let defined = Defined {
        limits: limits(yaml).0,
        ..Defined::default()
    };
    let load = Load::new();
    let node = load.text("r.yaml", names).unwrap();
    let scope = Scope {
        load: &load,
        route: "r".into(),
        has_auth: true,
        params: None,
        cors: None,
        defined: &defined,
    };
    let drafts = compile(&node, &scope);
    (
        drafts,
        load.into_findings(None).iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn asks_limits_by_address_before_the_caller_is_known() {
    let yaml = "flood: { key: ip, rate: 9/s }\nmine: { key: principal.sub, rate: 9/s }";
    let (drafts, found) = drafts(yaml, "[flood, mine, flood]");
    let stages: Vec<(&str, Stage)> = drafts.iter().map(|draft| (&*draft.name, draft.stage)).collect();
    assert_eq!(stages, [("flood", Stage::Screen), ("mine", Stage::Limit)]);
    assert!(found.is_empty());
}

#[test]
fn reports_unknown_limits_once() {
    let yaml = "flood: { key: ip, rate: 9/s }\nbad: { key: ip }";
    let (drafts, found) = drafts(yaml, "[flod, bad, [x]]");
    assert!(drafts.is_empty());
    assert_eq!(
        found,
        [
            "r.yaml:1:2: unknown limit `flod`, did you mean `flood`?",
            "r.yaml:1:13: expected the name of a limit, found a list"
        ]
    );
}

struct Lines(Vec<(&'static str, &'static [u8])>);

impl Headers for Lines {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| name == known).map(|(_, value)| *value)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.iter().filter(|(known, _)| name == known).count() > 1
    }
}

fn with_facts<R>(lines: &Lines, claims: Option<Value>, use_facts: impl FnOnce(&Facts<'_>) -> R) -> R {
    let principal = claims.map(|claims| {
        Arc::new(Principal {
            authenticator: "a".into(),
            issuer: "i".into(),
            subject: "s".into(),
            scopes: Default::default(),
            roles: Default::default(),
            claims: claims.as_object().unwrap().clone().into(),
            auth_time: None,
            acr: None,
            expires: None,
            token_id: None,
            identity: Principal::frame("a", "i", "s"),
        })
    });
    let client = Client::unnamed();
    use_facts(&Facts {
        now: Timestamp::UNIX_EPOCH,
        window_at: Timestamp::UNIX_EPOCH,
        address: "192.0.2.1".parse().unwrap(),
        client: &client,
        request: RequestView {
            method: &Method::GET,
            host: "h",
            path: "/",
            query: "",
            headers: lines,
        },
        params: Params::default(),
        principal,
    })
}

#[test]
fn counts_a_request_without_the_key_by_its_address() {
    let yaml = "s: { key: principal.sub, rate: 1/s }\nh: { key: header.x-k, rate: 1/s }\n\
                c: { key: claims.org.id, rate: 1/s }\ni: { key: ip, rate: 1/s }";
    let (rules, _) = drafts(yaml, "[s, h, c, i]");
    let keys = |lines: &[(&'static str, &'static [u8])], claims: Option<Value>| {
        with_facts(&Lines(lines.to_vec()), claims, |facts| {
            let key = |draft: &Draft| match draft.policy.ask(facts) {
                Some(Question::Limit {
                    key: LimitKey::Text(text),
                    ..
                }) => text.to_owned(),
                Some(Question::Limit {
                    key: LimitKey::Identity(_),
                    ..
                }) => "identity".to_owned(),
                Some(Question::Limit {
                    key: LimitKey::Keyless(_),
                    ..
                }) => "keyless".to_owned(),
                Some(Question::Limit {
                    key: LimitKey::Address(_),
                    ..
                }) => "address".to_owned(),
                Some(Question::Limit {
                    key: LimitKey::Claim { value, .. },
                    ..
                }) => value.to_string(),
                other => panic!("{other:?}"),
            };
            rules.iter().map(key).collect::<Vec<_>>().join(" ")
        })
    };
    let org = |id: Value| Some(serde_json::json!({ "org": { "id": id } }));
    assert_eq!(keys(&[], None), "keyless keyless keyless address");
    assert_eq!(
        keys(&[("x-k", b"")], org("".into())),
        "identity keyless keyless address"
    );
    assert_eq!(keys(&[("x-k", b"v")], org("o".into())), "identity v \"o\" address");
    assert_eq!(
        keys(&[("x-k", b"\xff")], org(true.into())),
        "identity keyless true address"
    );
    assert_eq!(
        keys(&[("x-k", b"v"), ("x-k", b"w")], org(7.into())),
        "identity keyless 7 address"
    );
}

#[test]
fn refuses_with_the_wait_and_when_nobody_counts() {
    let (rules, _) = drafts("s: { key: principal.sub, rate: 20/s, burst: 40 }", "[s]");
    let answer = |admitted, retry_after| LimitAnswer {
        admitted,
        remaining: 3,
        reset: Duration::from_millis(1850),
        retry_after,
    };
    with_facts(&Lines(Vec::new()), None, |facts| {
        let judge = |answer: Option<Answer>| match rules[0].policy.judge(facts, answer.as_ref()).outcome {
            Outcome::Continue => None,
            Outcome::Deny(denial) => Some((denial.status.as_u16(), denial.code.to_string(), denial.retry_after)),
            other => panic!("{other:?}"),
        };
        let wait = Duration::from_millis(50);
        assert_eq!(judge(Some(Answer::Limit(answer(true, Duration::ZERO)))), None);
        let refused = judge(Some(Answer::Limit(answer(false, wait))));
        assert_eq!(refused, Some((429, "limit-exceeded".to_owned(), Some(wait))));
        let unavailable = Some((503, "limits-unavailable".to_owned(), None));
        assert_eq!(judge(Some(Answer::Unavailable { code: "store-down" })), unavailable);
        assert_eq!(judge(None), unavailable);
        let words = rules[0]
            .policy
            .describe(facts, Some(&Answer::Limit(answer(true, wait))));
        assert_eq!(
            words,
            [
                "20 in 1 s, 40 at once, by `principal.sub`",
                "the request has no `principal.sub`: counted by its address 192.0.2.1",
                "3 left, full again in 1.85s"
            ]
        );
    });
}

#[test]
fn writes_the_fields_of_every_limit_asked() {
    let (limits, _) = limits("a: { key: ip, rate: 20/s, burst: 50 }\nb: { key: ip, rate: 60/m }");
    let rule = |name: &str| &limits.get(name).unwrap().1.fields;
    let answer = |remaining, reset| LimitAnswer {
        admitted: true,
        remaining,
        reset: Duration::from_millis(reset),
        retry_after: Duration::ZERO,
    };
    let (one, two) = (answer(49, 50), answer(0, 1000));
    let (policy, limit) = limit_fields([(rule("a"), &one)].into_iter()).unwrap();
    assert_eq!(
        (policy, limit),
        ("\"a\";q=50;w=3".parse().unwrap(), "\"a\";r=49;t=1".parse().unwrap())
    );
    let (policy, limit) = limit_fields([(rule("a"), &one), (rule("b"), &two)].into_iter()).unwrap();
    assert_eq!(policy, "\"a\";q=50;w=3, \"b\";q=1;w=1");
    assert_eq!(limit, "\"a\";r=49;t=1, \"b\";r=0;t=1");
    assert_eq!(limit_fields(std::iter::empty()), None);
}

#[test]
fn forgets_old_windows_of_a_sketch() {
    let table = LimitTable::new(bounds(10, SECOND / 10, true));
    for _ in 0..10 {
        assert!(ask(&table, "k", SECOND / 2).admitted);
    }
    let refused = ask(&table, "k", SECOND / 2);
    assert_eq!((refused.admitted, refused.remaining), (false, 0));
    assert_eq!(refused.reset, Duration::from_millis(1500));
    // A tenth of the last window is out of sight when a tenth of the next one has passed.
    assert_eq!(refused.retry_after, Duration::from_millis(600));
    assert!(!ask(&table, "k", SECOND + SECOND / 10 - 1).admitted);
    assert!(ask(&table, "k", SECOND + SECOND / 10).admitted);
    // A clock read a little earlier by another thread.
    assert!(!ask(&table, "k", SECOND - 1).admitted);
    assert_eq!(ask(&table, "k", 9 * SECOND).remaining, 9);
}

proptest! {
    #[test]
    fn never_admits_more_than_the_quota_in_any_window(
        burst in 1u32..30,
        interval in 1_000_000u64..2_000_000_000,
        approximate: bool,
        overflow: bool,
        gaps in proptest::collection::vec(prop_oneof![4 => Just(0u64), 4 => 0u64..300_000_000, 1 => 0u64..5_000_000_000], 1..300),
    ) {
        // Windows of an overflow's sketch are not shorter than 100 ms.
        let interval = if overflow { interval.max(100_000_000 / u64::from(burst) + 1) } else { interval };
        let bounds = bounds(burst, interval, approximate);
        let table = LimitTable::with_cap(bounds, if overflow { 0 } else { 1 << 16 });
        let mut now = 7 * SECOND;
        let mut admitted: Vec<u64> = Vec::new();
        for gap in gaps {
            now += gap;
            let answer = ask(&table, "k", now);
            prop_assert!(answer.remaining <= burst);
            prop_assert_eq!(answer.admitted, answer.retry_after == Duration::ZERO);
            if answer.admitted {
                admitted.push(now);
            }
        }
        for (first, start) in admitted.iter().enumerate() {
            for (last, end) in admitted.iter().enumerate().skip(first) {
                let most = u64::from(burst) + (end - start) / interval;
                prop_assert!((last - first + 1) as u64 <= most, "{} from {start} to {end}", last - first + 1);
            }
        }
    }

    #[test]
    fn waiting_as_told_is_enough_and_exact_waits_are_not_too_long(
        burst in 1u32..20,
        interval in 1_000_000u64..2_000_000_000,
        approximate: bool,
        gaps in proptest::collection::vec(0u64..200_000_000, 1..80),
    ) {
        let table = LimitTable::new(bounds(burst, interval, approximate));
        let mut now = 0;
        for gap in gaps {
            now += gap;
            let answer = ask(&table, "k", now);
            if !answer.admitted {
                let wait = u64::try_from(answer.retry_after.as_nanos()).unwrap();
                if !approximate {
                    prop_assert!(!ask(&table, "k", now + wait - 1).admitted);
                }
                now += wait;
                prop_assert!(ask(&table, "k", now).admitted);
            }
        }
    }

    #[test]
    fn what_remains_is_what_is_admitted(
        burst in 1u32..40,
        interval in 1_000_000u64..1_000_000_000,
        approximate: bool,
        gaps in proptest::collection::vec(0u64..500_000_000, 1..30),
    ) {
        let table = LimitTable::new(bounds(burst, interval, approximate));
        let mut now = 0;
        for gap in gaps {
            now += gap;
            let answer = ask(&table, "k", now);
            let mut left = answer.remaining;
            while left > 0 {
                let next = ask(&table, "k", now);
                prop_assert!(next.admitted);
                prop_assert_eq!(next.remaining, left - 1);
                left = next.remaining;
            }
            prop_assert!(!ask(&table, "k", now).admitted);
        }
    }

    #[test]
    fn all_limits_are_charged_or_none(
        bursts in proptest::collection::vec(1u32..8, 1..5),
        asked in proptest::collection::vec((any::<u8>(), 0u64..400_000_000), 1..60),
    ) {
        let tables: Vec<LimitTable> = bursts.iter().map(|burst| table(*burst, SECOND)).collect();
        let alone: Vec<LimitTable> = bursts.iter().map(|burst| table(*burst, SECOND)).collect();
        let mut now = 0;
        for (mask, gap) in asked {
            now += gap;
            let chosen: Vec<usize> = (0..tables.len()).filter(|at| mask & (1 << at) != 0).collect();
            let together: Vec<(&LimitTable, LimitKey<'_>)> =
                chosen.iter().map(|at| (&tables[*at], LimitKey::Text("k"))).collect();
            let answers = check(&together, now);
            // The model charges each by itself, and only where all admit.
            if answers.iter().all(|answer| answer.admitted) {
                for (at, answer) in chosen.iter().zip(&answers) {
                    prop_assert_eq!(ask(&alone[*at], "k", now), *answer);
                }
            }
        }
        for (table, alone) in tables.iter().zip(&alone) {
            prop_assert_eq!(ask(table, "k", now), ask(alone, "k", now));
        }
    }
}
