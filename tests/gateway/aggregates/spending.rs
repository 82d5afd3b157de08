//! What one request may cost, however many levels of aggregates it goes through, and whom another's haste concerns.

use serde_json::json;

use super::partial;
use crate::support::{Gate, Gateway, Reply, Upstream, fill};

#[test]
fn makes_so_many_calls_for_one_request_and_no_more() {
    let items: Vec<usize> = (0..60).collect();
    let origin = Upstream::http1(move |seen| match seen.path() {
        "/list" => Reply::json(&json!(items)),
        _ => Reply::json(&json!(1)),
    });
    let yaml = "
upstreams:
  origin: { endpoints: [$origin] }
routes:
  outer:
    match: GET /outer
    auth: none
    deadline: 60s
    aggregate:
      list: { get: 'origin:/list' }
      all:  { get: '/inner/{each}', each: list }
  inner:
    match: GET /inner/{of}
    auth: none
    deadline: 60s
    aggregate:
      list: { get: 'origin:/list?of={path.of}' }
      all:  { get: 'origin:/item/{path.of}-{each}', each: list }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    let response = gateway.get("/outer").send();
    assert_eq!(
        partial(&response),
        [("all".to_owned(), "unreadable".to_owned())],
        "{}",
        response.status
    );
    // Sixty times sixty would have been asked for.
    assert!(origin.count() <= 512, "{}", origin.count());
    // The next request begins anew.
    assert!(partial(&gateway.get("/inner/x").send()).is_empty());
}

#[test]
fn counts_bytes_as_they_come_in_over_all_parts() {
    let items: Vec<usize> = (0..40).collect();
    let large = json!("x".repeat(512 << 10));
    let origin = Upstream::http1(move |seen| match seen.path() {
        "/list" => Reply::json(&json!(items)),
        _ => Reply::json(&large),
    });
    let yaml = "
upstreams:
  origin: { endpoints: [$origin] }
routes:
  page:
    match: GET /page
    auth: none
    deadline: 60s
    aggregate:
      list: { get: 'origin:/list' }
      one:  { get: 'origin:/one/{each}', each: list }
      two:  { get: 'origin:/two/{each}', each: list }
      deep: { get: /inner }
  inner:
    match: GET /inner
    auth: none
    deadline: 60s
    aggregate:
      list: { get: 'origin:/list?inner' }
      all:  { get: 'origin:/three/{each}', each: list }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    let response = gateway.get("/page").send();
    assert!(!partial(&response).is_empty());
    // Sixteen make the whole; those that were under way then end, and none begins.
    assert!(origin.count() < 2 + 16 + 17, "{}", origin.count());
}

#[test]
fn ends_nobodys_call_because_another_is_in_haste() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = Upstream::http1(move |_| Reply::json(&json!(1)).held_by(&held));
    let yaml = "
upstreams:
  origin: { endpoints: [$origin] }
routes:
  hasty:   { match: GET /hasty, auth: none, deadline: 1s, aggregate: { part: { get: /inner } } }
  patient: { match: GET /patient, auth: none, deadline: 50s, aggregate: { part: { get: /inner } } }
  inner:   { match: GET /inner, auth: none, deadline: 50s, aggregate: { part: { get: 'origin:/slow' } } }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    std::thread::scope(|scope| {
        let hasty = scope.spawn(|| gateway.get("/hasty").send());
        origin.wait_for("/slow", 1);
        let patient = scope.spawn(|| gateway.get("/patient").send());
        let hasty = hasty.join().unwrap();
        assert_eq!(partial(&hasty), [("part".to_owned(), "timeout".to_owned())]);
        gate.open();
        let patient = patient.join().unwrap();
        assert!(partial(&patient).is_empty(), "{}", patient.summary());
        assert_eq!(patient.expect(200).json(), json!({"part": {"part": 1}}));
    });
}

#[test]
fn counts_the_headers_of_answers_too() {
    let items: Vec<usize> = (0..100).collect();
    let origin = Upstream::http1(move |seen| match seen.path() {
        "/list" => Reply::json(&json!(items)),
        "/larger" => Reply::json(&json!(1)).header("x-large", &"x".repeat(200 << 10)),
        _ => Reply::json(&json!(1)).header("x-large", &"x".repeat(100 << 10)),
    });
    let yaml = "
upstreams:
  origin: { endpoints: [$origin] }
routes:
  page:
    match: GET /page
    auth: none
    deadline: 60s
    aggregate:
      list: { get: 'origin:/list' }
      all:  { get: 'origin:/{each}', each: list }
  larger: { match: GET /larger, auth: none, aggregate: { a: { get: 'origin:/larger' }, b: { get: 'origin:/b' } } }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    assert!(!partial(&gateway.get("/page").send()).is_empty());
    // Eighty make the whole; those that were under way then end, and none begins.
    assert!(origin.count() < 1 + 82 + 16, "{}", origin.count());
    let larger = gateway.get("/larger").send();
    assert_eq!(partial(&larger), [("a".to_owned(), "unreadable".to_owned())]);
}
