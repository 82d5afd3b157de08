#![allow(clippy::unwrap_used)]

use super::*;
use crate::conf::{Load, Named, Read};

fn upstream(yaml: &str) -> Upstream {
    let load = Load::new();
    let node = load.text("t.yaml", yaml).unwrap();
    let named = Named::read(&node, &load).unwrap();
    let upstreams = crate::upstreams::compile(named, jiff::Timestamp::UNIX_EPOCH, &load, &mut Vec::new());
    assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&node)));
    upstreams.into_iter().next().unwrap()
}

fn pool(yaml: &str) -> Arc<Pool> {
    Arc::new(Pool::new(&upstream(yaml), None))
}

fn nobody() -> Whom<'static> {
    Whom {
        principal: None,
        address: [127, 0, 0, 1].into(),
        header: &|_| None,
    }
}

fn set_health(pool: &Pool, at: usize, healthy: bool) {
    let state = &pool.endpoints.get(at).unwrap().state;
    state.healthy.store(healthy, Ordering::Relaxed);
}

fn picked(pool: &Arc<Pool>, tried: &[u16]) -> Option<u16> {
    pool.pick(tried, &nobody()).ok().map(|lease| lease.at())
}

const CHECKED: &str = "a: { endpoints: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3], health: { path: / } }";

#[test]
fn takes_turns_skips_the_unwell_and_the_tried() {
    let pool = pool(CHECKED);
    let turns: Vec<_> = (0..6).map(|_| picked(&pool, &[]).unwrap()).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    set_health(&pool, 1, false);
    let turns: Vec<_> = (0..4).map(|_| picked(&pool, &[0]).unwrap()).collect();
    assert!(turns.iter().all(|at| *at == 2), "{turns:?}");
    assert!(picked(&pool, &[0, 2]).is_some(), "all tried: one is tried again");
    for at in 0..3 {
        set_health(&pool, at, false);
    }
    assert_eq!(pool.pick(&[], &nobody()).unwrap_err(), NoEndpoint::Unhealthy);
}

const BREAKING: &str = "a: { endpoints: [127.0.0.1:1, 127.0.0.1:2], breaker: { min_requests: 2, open_for: 1h } }";

/// Lets requests fail until the breaker of an endpoint opens.
fn fail_at(pool: &Arc<Pool>, at: u16) {
    for _ in 0..4 {
        if let Ok(mut lease) = pool.pick(&[1 - at], &nobody())
            && lease.at() == at
        {
            lease.answered(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}

#[test]
fn leaves_endpoints_alone_whose_breaker_is_open() {
    let pool = pool(BREAKING);
    fail_at(&pool, 0);
    assert!((0..4).all(|_| picked(&pool, &[]) == Some(1)));
    assert_eq!(picked(&pool, &[1]), Some(1), "rather the tried one than one left alone");
    fail_at(&pool, 1);
    let none = pool.pick(&[], &nobody()).unwrap_err();
    assert!(
        matches!(none, NoEndpoint::BreakerOpen(wait) if wait > Duration::from_secs(3_500)),
        "{none:?}"
    );
}

#[test]
fn counts_a_body_that_breaks_off_and_no_caller_who_leaves() {
    let pool = pool("a: { endpoints: [127.0.0.1:1], breaker: { min_requests: 2, error_ratio: 100% } }");
    for _ in 0..10 {
        drop(pool.pick(&[], &nobody()).unwrap());
    }
    for _ in 0..2 {
        let mut lease = pool.pick(&[], &nobody()).unwrap();
        lease.answered(StatusCode::OK);
        lease.failed();
    }
    assert!(picked(&pool, &[]).is_none(), "two of two broke off");
}

#[test]
fn keeps_the_state_of_endpoints_over_a_reload() {
    let before = pool(BREAKING);
    fail_at(&before, 0);
    let lease = before.pick(&[], &nobody()).unwrap();
    let changed = BREAKING
        .replace("1h", "2h")
        .replace("[127.0.0.1:1,", "[127.0.0.1:3, 127.0.0.1:1,");
    let after = Arc::new(Pool::new(&upstream(&changed), Some(&before)));
    let busy: Vec<_> = after.endpoints.iter().map(Endpoint::in_flight).collect();
    assert_eq!(busy, [0, 0, 1]);
    assert!(
        (0..6).all(|_| picked(&after, &[]) != Some(1)),
        "its breaker is still open"
    );
    drop(lease);
    assert_eq!(after.endpoints.get(2).map(Endpoint::in_flight), Some(0));
}

#[test]
fn takes_the_less_busy_and_the_same_for_the_same() {
    let pool = pool("a: { endpoints: [127.0.0.1:1, 127.0.0.1:2], balance: least_loaded }");
    let first = pool.pick(&[], &nobody()).unwrap();
    assert!((0..8).all(|_| picked(&pool, &[]) != Some(first.at())));

    let hashed = "a: { endpoints: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3], balance: { consistent_hash: ip }, health: { path: / } }";
    let pool = self::pool(hashed);
    let of = |last: u8| {
        let address = [192, 0, 2, last].into();
        pool.pick(&[], &Whom { address, ..nobody() }).unwrap().at()
    };
    let before: Vec<u16> = (0..60).map(of).collect();
    assert_eq!(before, (0..60).map(of).collect::<Vec<_>>());
    assert!((0..3).all(|at| before.contains(&at)));
    set_health(&pool, 1, false);
    for (last, at) in (0..60).zip(before) {
        assert!(at == 1 || of(last) == at);
    }
}

fn retries(pool: &Pool, what: RetryAfter) -> bool {
    pool.retries(&pool.settings.retry, what, 1)
}

#[test]
fn pays_for_retries_out_of_its_budget() {
    let pool = pool("a: { endpoints: [127.0.0.1:1], retry: { attempts: 5, after: [connect, 503], budget: 20% } }");
    drop(pool.pick(&[], &nobody()));
    assert_eq!((0..10).filter(|_| retries(&pool, RetryAfter::Connect)).count(), 3);
    for _ in 0..99 {
        drop(pool.pick(&[], &nobody()));
        // A second try is no request of its own.
        drop(pool.pick(&[0], &nobody()));
    }
    let retried = (0..50).filter(|_| retries(&pool, RetryAfter::Status(StatusCode::SERVICE_UNAVAILABLE)));
    assert_eq!(retried.count(), 17);
    assert_eq!(pool.retried(), Retries { made: 20, refused: 40 });
    assert!(
        !retries(&pool, RetryAfter::Status(StatusCode::BAD_GATEWAY)),
        "not listed"
    );
    assert_eq!(pool.retried().refused, 40);
}

#[test]
fn points_at_bad_endpoints() {
    let load = Load::new();
    let node = load
        .text(
            "t.yaml",
            "a: { endpoints: [127.0.0.1:0, 'x:1', 127.0.0.1:2, 127.0.0.1:2] }",
        )
        .unwrap();
    Named::<UpstreamSettings>::read(&node, &load);
    let found: Vec<String> = load
        .into_findings(Some(&node))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        ["t.yaml:1:31: `x:1` is not an address with a port such as `127.0.0.1:8080` (at `a.endpoints[1]`)"]
    );
}
