use std::sync::atomic::AtomicU64;

use super::*;
use crate::observe::samples::{person, refused, transfer};

fn read(yaml: &str) -> Result<Anomalies, Vec<String>> {
    let load = Load::new();
    let node = load.text("t.yaml", yaml).unwrap();
    let settings = Anomalies::read(&node, &load);
    let found = load.into_findings(Some(&node));
    match settings {
        Some(settings) if found.is_empty() => Ok(settings),
        _ => Err(found.iter().map(ToString::to_string).collect()),
    }
}

const STUFFING: &str =
    "stuffing: { watch: ip, when: { status: 401, distinct: claimed_sub, over: 3, within: 1m }, then: alert }";

fn detector(yaml: &str) -> Detector {
    let settings = read(yaml).unwrap();
    let (name, settings) = &settings.0[0];
    Detector::new(&name.value, *settings)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// How many different things the alert names.
fn seen(detector: &Detector, sub: Option<&str>, address: &str, second: i64) -> Option<u32> {
    detector
        .see(&refused(sub, address, at(second)))
        .map(|alert| alert.distinct)
}

#[test]
fn fires_once_per_key_and_window() {
    let detector = detector(STUFFING);
    let mut alerts = Vec::new();
    for second in 0..120 {
        alerts.extend(seen(&detector, Some(&format!("u{second}")), "192.0.2.1", second).map(|count| (second, count)));
    }
    assert_eq!(alerts, [(3, 4), (63, 4)]);
}

#[test]
fn counts_only_what_differs_and_only_in_the_window() {
    let detector = detector(STUFFING);
    for second in 0..50 {
        assert_eq!(
            seen(
                &detector,
                Some(["a", "b", "c"][second as usize % 3]),
                "192.0.2.1",
                second
            ),
            None
        );
    }
    // The three were last seen at 47, 48 and 49.
    assert_eq!(seen(&detector, Some("d"), "192.0.2.1", 107), None);
    assert_eq!(seen(&detector, Some("a"), "192.0.2.1", 108), None);
    assert_eq!(seen(&detector, Some("e"), "192.0.2.1", 108), Some(4));
}

#[test]
fn watches_each_address_by_itself() {
    let detector = detector(STUFFING);
    for number in 0..100 {
        assert_eq!(
            seen(&detector, Some(&format!("u{number}")), &format!("192.0.2.{number}"), 0),
            None
        );
    }
    for number in 0..3 {
        assert_eq!(
            seen(
                &detector,
                Some(&format!("u{number}")),
                &format!("2001:db8::{number}"),
                0
            ),
            None
        );
    }
    assert_eq!(seen(&detector, Some("u4"), "2001:db8::ffff:1", 0), Some(4));
    assert_eq!(seen(&detector, Some("u5"), "2001:db8:0:1::1", 0), None);
}

#[test]
fn ignores_expired_tokens_and_other_statuses() {
    let detector = detector(STUFFING);
    for second in 0..20 {
        assert_eq!(seen(&detector, None, "192.0.2.1", second), None);
        let mut other = refused(Some(&format!("u{second}")), "192.0.2.1", at(second));
        other.status = 403;
        assert!(detector.see(&other).is_none());
    }
    let paths =
        self::detector("p: { watch: ip, when: { status: 401, distinct: path, over: 1, within: 1m }, then: alert }");
    let on = |path: &str, sub| {
        let mut record = refused(sub, "192.0.2.1", at(0));
        record.request.params[0].1 = path.into();
        paths.see(&record).is_some()
    };
    assert!(!on("a", None) && !on("b", None) && !on("c", None));
    assert!(!on("a", Some("u")) && on("b", Some("u")));
}

#[test]
fn watches_a_caller_by_its_whole_identity() {
    let detector = detector(
        "e: { watch: principal.sub, when: { status: 404, distinct: path, over: 2, within: 1m }, then: alert }",
    );
    let get = |who: &str, path: &str| {
        let mut record = transfer();
        record.principal = Some(Arc::new(person(who)));
        record.status = 404;
        record.request.params[0].1 = path.into();
        detector.see(&record)
    };
    for path in ["a", "b", "a", "b"] {
        assert!(get("u1", path).is_none() && get("u2", path).is_none());
    }
    let alert = get("u1", "c").unwrap();
    assert!(matches!(&alert.suspect, Suspect::Principal(who) if &*who.subject == "u1"));
    let mut anonymous = transfer();
    anonymous.principal = None;
    anonymous.status = 404;
    assert!(detector.see(&anonymous).is_none());
}

#[test]
fn survives_a_clock_set_back() {
    let detector = detector(STUFFING);
    for (number, second) in [5000, 5001, 5002, 5003].into_iter().enumerate() {
        seen(&detector, Some(&format!("u{number}")), "192.0.2.1", second);
    }
    for number in 0..3 {
        assert_eq!(seen(&detector, Some(&format!("v{number}")), "192.0.2.1", 0), None);
    }
    assert_eq!(seen(&detector, Some("v3"), "192.0.2.1", 1), Some(4));
}

#[test]
fn forgets_addresses_seen_once_before_a_busy_one() {
    let detector = detector(STUFFING);
    seen(&detector, Some("a"), "192.0.2.1", 0);
    seen(&detector, Some("b"), "192.0.2.1", 0);
    seen(&detector, Some("c"), "192.0.2.1", 0);
    let template = refused(Some("x"), "192.0.2.1", at(1));
    for number in 0..(2 * MAX_KEYS) as u32 {
        let mut record = template.clone();
        record.request.address = IpAddr::V4((0x0a00_0000 + number).into());
        assert!(detector.see(&record).is_none());
    }
    assert!(detector.watched.lock().len() <= MAX_KEYS);
    assert_eq!(seen(&detector, Some("d"), "192.0.2.1", 2), Some(4));
}

#[test]
fn tells_metrics_and_outlives_a_reload_when_unchanged() {
    let metrics = Arc::new(
        Metrics::new(
            at(0),
            Arc::new(super::super::audit::Counts {
                dropped: AtomicU64::new(0),
                ..Default::default()
            }),
        )
        .unwrap(),
    );
    let settings = read(STUFFING).unwrap();
    let first = Detectors::new(&settings, None, metrics.clone());
    let record = |detectors: &Detectors, number: u32| {
        detectors.record(&Arc::new(refused(Some(&format!("u{number}")), "192.0.2.1", at(0))));
    };
    (0..3).for_each(|number| record(&first, number));
    let unchanged = first.renew(&settings, None);
    record(&unchanged, 3);
    assert!(
        metrics
            .render(0, 0)
            .unwrap()
            .contains("gwanmun_anomalies_total{detector=\"stuffing\"} 1")
    );
    let changed = unchanged.renew(&read(&STUFFING.replace("over: 3", "over: 4")).unwrap(), None);
    (10..14).for_each(|number| record(&changed, number));
    assert!(
        metrics
            .render(0, 0)
            .unwrap()
            .contains("gwanmun_anomalies_total{detector=\"stuffing\"} 1")
    );
}

#[test]
fn points_at_detectors_that_cannot_work() {
    let found = read(
        "a: { watch: principal.sub, when: { status: 401, distinct: claimed_sub, over: 3, within: 1m }, then: alert }\n\
         b: { watch: ip, when: { status: 403, distinct: claimed_sub, over: 0, within: 2d }, then: block }\n\
         c: { watch: ip, when: { status: 404, distinct: path, over: 1001, within: 0s }, then: alert }\n",
    )
    .unwrap_err();
    let places: Vec<&str> = found.iter().map(|found| found.split(": ").next().unwrap()).collect();
    let expected = ["1:13", "2:48", "2:67", "2:78", "2:90", "3:60", "3:74"].map(|place| format!("t.yaml:{place}"));
    assert_eq!(places, expected, "{found:#?}");
}
