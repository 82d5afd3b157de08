use std::io::Write;
use std::process::{Command, Stdio};

use super::super::{Metrics, Observer, RouteNames, UpstreamNames};
use super::*;
use crate::observe::samples::{instant, refused, transfer};

fn metrics() -> Metrics {
    Metrics::new(instant("2026-11-24T03:00:00Z"), Arc::default()).unwrap()
}

fn names(config: &str, routes: &[&str], endpoints: &[&str]) -> Names {
    let rules = transfer().rules;
    let route = |name: &&str| RouteNames {
        name: Arc::from(*name),
        rules: rules.clone(),
    };
    Names {
        config: config.into(),
        routes: routes.iter().map(route).collect(),
        upstreams: vec![UpstreamNames {
            name: "transfers".into(),
            endpoints: endpoints.iter().map(|endpoint| Arc::from(*endpoint)).collect(),
        }],
        limits: vec!["flood".into(), "per-customer".into()],
        detectors: vec!["stuffing".into()],
    }
}

fn record(config: &str) -> Record {
    let mut record = transfer();
    record.config = config.into();
    record
}

/// The lines that begin so.
fn shown(metrics: &Metrics, prefix: &str) -> Vec<String> {
    let text = metrics.render(0, 0).unwrap();
    text.lines()
        .filter(|line| line.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

const ENDPOINT: &str = "127.0.0.1:7003";

#[test]
fn counts_a_request_by_route_decision_limit_and_upstream() {
    let metrics = metrics();
    metrics.bind(&names("one", &["transfer"], &[ENDPOINT]));
    let mut record = record("one");
    record.cache = Some("miss");
    metrics.record(&Arc::new(record));
    for line in [
        r#"gwanmun_requests_total{class="2xx",method="POST",route="transfer"} 1"#,
        r#"gwanmun_request_duration_seconds_bucket{route="transfer",le="0.0025"} 0"#,
        r#"gwanmun_request_duration_seconds_bucket{route="transfer",le="0.005"} 1"#,
        r#"gwanmun_decisions_total{effect="allow",route="transfer",rule=""} 1"#,
        r#"gwanmun_decisions_total{effect="would_deny",route="transfer",rule="night-shadow"} 1"#,
        r#"gwanmun_limit_answers_total{answer="admitted",limit="flood"} 1"#,
        r#"gwanmun_limit_answers_total{answer="admitted",limit="per-customer"} 1"#,
        r#"gwanmun_cache_total{result="miss",route="transfer"} 1"#,
        r#"gwanmun_upstream_requests_total{class="2xx",endpoint="127.0.0.1:7003",upstream="transfers"} 1"#,
        r#"gwanmun_upstream_duration_seconds_count{upstream="transfers"} 1"#,
        r#"gwanmun_config_info{hash="one"} 1"#,
    ] {
        assert_eq!(shown(&metrics, line), [line]);
    }
}

#[test]
fn counts_refusals_by_rule() {
    let metrics = metrics();
    metrics.bind(&names("one", &["transfer"], &[ENDPOINT]));
    let mut record = refused(None, "192.0.2.1", instant("2026-11-24T03:00:00Z"));
    record.config = "one".into();
    record.answers[0].1 = Answer::Unavailable { code: "store-down" };
    metrics.record(&Arc::new(record.clone()));
    record.status = 0;
    record.request.method = "BREW".parse().unwrap();
    metrics.record(&Arc::new(record));
    let decided = r#"gwanmun_decisions_total{effect="challenge",route="transfer",rule="customer"} 2"#;
    assert_eq!(shown(&metrics, "gwanmun_decisions_total"), [decided]);
    assert_eq!(
        shown(&metrics, "gwanmun_requests_total"),
        [
            r#"gwanmun_requests_total{class="4xx",method="POST",route="transfer"} 1"#,
            r#"gwanmun_requests_total{class="gone",method="other",route="transfer"} 1"#,
        ]
    );
    let unavailable = r#"gwanmun_limit_answers_total{answer="unavailable",limit="flood"} 2"#;
    assert_eq!(shown(&metrics, unavailable), [unavailable]);
}

#[test]
fn keeps_series_as_long_as_one_of_two_configurations_names_them() {
    let metrics = metrics();
    let old = r#"gwanmun_requests_total{class="2xx",method="POST",route="transfer"}"#;
    metrics.bind(&names("one", &["transfer"], &[ENDPOINT]));
    metrics.set_healthy("transfers", ENDPOINT, true);
    metrics.record(&Arc::new(record("one")));
    metrics.bind(&names("two", &["other"], &["127.0.0.1:1"]));
    metrics.record(&Arc::new(record("one")));
    assert_eq!(shown(&metrics, old), [format!("{old} 2")]);
    metrics.bind(&names("three", &["other"], &["127.0.0.1:1"]));
    assert_eq!(shown(&metrics, old), Vec::<String>::new());
    let text = metrics.render(0, 0).unwrap();
    assert!(!text.contains("\"transfer\"") && !text.contains(ENDPOINT), "{text}");
    // Too old for both: the request is counted, its route is not brought back.
    metrics.record(&Arc::new(record("one")));
    metrics.set_healthy("transfers", ENDPOINT, true);
    let text = metrics.render(0, 0).unwrap();
    assert!(!text.contains("\"transfer\"") && !text.contains(ENDPOINT), "{text}");
    let gone = r#"gwanmun_requests_total{class="2xx",method="POST",route="(gone)"} 1"#;
    assert_eq!(shown(&metrics, gone), [gone]);
    // Too old for both, but its route is still there.
    metrics.bind(&names("four", &["transfer"], &[ENDPOINT]));
    metrics.record(&Arc::new(record("one")));
    assert_eq!(shown(&metrics, old), [format!("{old} 1")]);
}

#[test]
fn counts_what_no_route_matched() {
    let metrics = metrics();
    let mut record = record("none");
    record.route = None;
    record.status = 404;
    metrics.record(&Arc::new(record));
    let unrouted = r#"gwanmun_requests_total{class="4xx",method="POST",route=""} 1"#;
    assert_eq!(shown(&metrics, "gwanmun_requests_total"), [unrouted]);
}

#[test]
fn shows_reloads_and_what_is_under_way() {
    let metrics = metrics();
    metrics.count_reload(false);
    assert_eq!(
        shown(&metrics, "gwanmun_config_reload_failed"),
        ["gwanmun_config_reload_failed 1"]
    );
    let text = metrics.render(2, 3).unwrap();
    assert!(text.contains("gwanmun_in_flight_requests 2\n") && text.contains("gwanmun_connections 3\n"));
    metrics.count_reload(true);
    assert_eq!(
        shown(&metrics, "gwanmun_config_reload_failed"),
        ["gwanmun_config_reload_failed 0"]
    );
    assert_eq!(shown(&metrics, "gwanmun_in_flight"), ["gwanmun_in_flight_requests 0"]);
    assert_eq!(
        shown(&metrics, "gwanmun_config_reloads_total"),
        [
            r#"gwanmun_config_reloads_total{result="failed"} 1"#,
            r#"gwanmun_config_reloads_total{result="ok"} 1"#
        ]
    );
}

#[test]
fn counts_words_beyond_its_places_too() {
    let words: ByWord<2> = ByWord::default();
    let counters = ["a", "b", "c", "d"].map(|word| (word, IntCounter::new(word, "help").unwrap()));
    for _ in 0..3 {
        for (word, counter) in &counters {
            words.count(word, || counter.clone());
        }
    }
    assert!(counters.iter().all(|(_, counter)| counter.get() == 3));
}

#[test]
fn satisfies_promtool() {
    let metrics = metrics();
    metrics.bind(&names("one", &["transfer"], &[ENDPOINT]));
    metrics.record(&Arc::new(record("one")));
    metrics.record(&Arc::new(refused(
        Some("u"),
        "192.0.2.1",
        instant("2026-11-24T03:00:00Z"),
    )));
    metrics.set_healthy("transfers", ENDPOINT, false);
    metrics.count_anomaly("stuffing");
    let text = metrics.render(0, 0).unwrap();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        // Not installed everywhere; the black-box tests insist on it.
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success() && complaints.is_empty(), "{complaints}\n{text}");
}
