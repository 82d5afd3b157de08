//! Parts by themselves: when they run, what they refer to, and what becomes of those that fail.

use super::*;

const DASHBOARD: &str = "
balance:     { get: 'accounts:/customers/{principal.sub}/balance', required: true }
recent:      { get: 'transfers:/transfers?account={balance.account.id}&limit=5', default: [1.10] }
investments: { get: 'invest:/summary/{principal.sub}' }
";

#[test]
fn writes_the_parts_as_they_came_in_the_order_of_the_file() {
    let services = services(vec![
        (
            "accounts:/customers/u1/balance",
            json(r#" {"account":{"id":"A-1"},"n":90071992547409931.10} "#),
        ),
        ("transfers:/transfers?account=A-1&limit=5", json("[1e400,-0,1.0]")),
        ("invest:/summary/u1", Does::Answer(204, "text/plain", "")),
    ]);
    let done = run(DASHBOARD, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"balance":{"account":{"id":"A-1"},"n":90071992547409931.10},"recent":[1e400,-0,1.0],"investments":null}"#
    );
    assert_eq!((lacking(&done), done.parts.len()), (None, 3));
    assert!(done.parts.iter().all(|part| part.reason.is_none()));
}

#[test]
fn runs_parts_together_that_do_not_wait_for_each_other() {
    let barrier = Arc::new(Barrier::new(2));
    let services = services(vec![
        (
            "accounts:/customers/u1/balance",
            Does::Meet(barrier.clone(), r#"{"account":{"id":1}}"#),
        ),
        ("transfers:/transfers?account=1&limit=5", json("[]")),
        ("invest:/summary/u1", Does::Meet(barrier, "2")),
    ]);
    let done = run(DASHBOARD, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"balance":{"account":{"id":1}},"recent":[],"investments":2}"#
    );
}

#[test]
fn gives_defaults_and_names_what_is_missing() {
    let services = services(vec![
        ("accounts:/customers/u1/balance", json(r#"{"account":{"id":"x"}}"#)),
        (
            "transfers:/transfers?account=x&limit=5",
            Does::Answer(500, "application/json", "{}"),
        ),
        ("invest:/summary/u1", Does::Fail(CallError::Connect)),
    ]);
    let done = run(DASHBOARD, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"balance":{"account":{"id":"x"}},"recent":[1.10],"investments":null}"#
    );
    assert_eq!(
        lacking(&done).as_deref(),
        Some("recent;reason=status, investments;reason=unreachable")
    );
    assert_eq!(
        (done.parts[1].status, done.parts[1].reason),
        (Some(500), Some("status"))
    );
}

#[test]
fn quotes_names_that_are_no_tokens() {
    let services = services(vec![("invest:/x", Does::Fail(CallError::Broken))]);
    let done = run(
        "{ 2nd: { get: 'invest:/x' }, _a: { get: 'invest:/x' }, b-C_3: { get: 'invest:/x' } }",
        &ASKED,
        &services,
    );
    assert_eq!(
        lacking(&done).as_deref(),
        Some("\"2nd\";reason=unreadable, \"_a\";reason=unreadable, b-C_3;reason=unreadable")
    );
}

#[test]
fn fails_as_a_whole_with_a_required_part() {
    for (does, status, reason) in [
        (Does::Fail(CallError::Timeout), 504, Reason::Timeout),
        (Does::Fail(CallError::NoEndpoint), 502, Reason::Unreachable),
        (Does::Fail(CallError::TooLarge), 502, Reason::Unreadable),
        (Does::Answer(404, "application/json", "{}"), 502, Reason::Status),
        (Does::Answer(302, "application/json", "{}"), 502, Reason::Status),
        (Does::Answer(206, "application/json", "{}"), 502, Reason::Status),
        (Does::Answer(200, "text/html", "{}"), 502, Reason::Unreadable),
        (
            Does::Answer(200, "application/json", "{\"a\":1,\"a\":2}"),
            502,
            Reason::Unreadable,
        ),
        (Does::Answer(200, "application/json", ""), 502, Reason::Unreadable),
    ] {
        // The other part never ends: the failure does not wait for it, and its call is dropped.
        let services = services(vec![
            ("accounts:/customers/u1/balance", does),
            ("invest:/summary/u1", Does::Hang),
        ]);
        let done = run(DASHBOARD, &ASKED, &services);
        let failure = done.body.unwrap_err();
        assert_eq!(
            (failure.status.as_u16(), failure.reason, &*failure.part),
            (status, reason, "balance")
        );
        assert_eq!(failure.code, "part-failed");
        assert_eq!(services.dropped.load(Ordering::SeqCst), 1);
        assert_eq!(
            services.overdue.load(Ordering::SeqCst),
            0,
            "nobody waited for it too long"
        );
    }
}

#[test]
fn skips_a_part_whose_reference_is_not_there() {
    for balance in [
        r#"{"account":{}}"#,
        r#"{"account":{"id":null}}"#,
        r#"{"account":{"id":[1]}}"#,
        r#"{"account":{"id":{}}}"#,
        r#"{"account":[{"id":1}]}"#,
        "7",
    ] {
        let services = services(vec![
            ("accounts:/customers/u1/balance", json(balance)),
            ("invest:/summary/u1", json("1")),
        ]);
        let done = run(DASHBOARD, &ASKED, &services);
        assert_eq!(lacking(&done).as_deref(), Some("recent;reason=skipped"), "{balance}");
    }
    // A part that failed is not referred to, whatever its default says; required, its dependent fails the whole.
    let chain = "
a: { get: 'invest:/a', default: { id: 5 } }
b: { get: 'invest:/b/{a.id}' }
c: { get: 'invest:/c/{b.id}', required: true }";
    let services = services(vec![("invest:/a", Does::Answer(500, "", ""))]);
    let failure = run(chain, &ASKED, &services).body.unwrap_err();
    assert_eq!(
        (failure.status.as_u16(), &*failure.part, failure.reason),
        (502, "c", Reason::Skipped)
    );
}

#[test]
fn encodes_what_it_refers_to() {
    let text = "
a: { get: 'invest:/x/{path.id}/{path.rest}?q={query.q}&t={header.x-tenant}' }
b: { get: 'invest:/s/{a.v}' }";
    let asked = Asked {
        id: "%2e%2F%C3%A4",
        query: "q=1%262%0d%0a+3&r=x",
        header: "a/b?c#d e",
        ..ASKED
    };
    let services = services(vec![
        (
            "invest:/x/.%2F%C3%A4/a%2Fb?q=1%262%0D%0A%203&t=a%2Fb%3Fc%23d%20e",
            json(r#"{"v":"../\u0000x"}"#),
        ),
        ("invest:/s/..%2F%00x", json("true")),
    ]);
    assert_eq!(
        body(&run(text, &asked, &services)),
        r#"{"a":{"v":"../\u0000x"},"b":true}"#
    );
}

#[test]
fn never_lets_a_value_choose_another_path() {
    for sub in ["", ".", ".."] {
        let services = services(Vec::new());
        let done = run(
            "{ a: { get: 'invest:/x/{principal.sub}' } }",
            &Asked { sub, ..ASKED },
            &services,
        );
        assert_eq!(
            (body(&done), lacking(&done).as_deref()),
            (r#"{"a":null}"#, Some("a;reason=skipped"))
        );
    }
    for text in [
        "{ a: { get: 'invest:/x/.{principal.sub}' } }",
        "{ a: { get: 'invest:/x/{principal.sub}{principal.sub}/y' } }",
        "{ a: { get: 'invest:/x/%2E{principal.sub}?q' } }",
    ] {
        let done = run(text, &Asked { sub: ".", ..ASKED }, &services(Vec::new()));
        assert_eq!(lacking(&done).as_deref(), Some("a;reason=skipped"), "{text}");
    }
    // In a query they are values like any other; a parameter that is there twice is none, readable or not.
    let services = services(vec![("invest:/x?a=..&b=", json("1"))]);
    let done = run(
        "{ a: { get: 'invest:/x?a={principal.sub}&b={query.q}' } }",
        &Asked {
            sub: "..",
            query: "q=",
            ..ASKED
        },
        &services,
    );
    assert_eq!(body(&done), r#"{"a":1}"#);
    for query in ["q=1&q=2", "q=1&q=%FF", "q=%FF"] {
        let done = run(
            "{ a: { get: 'invest:/x?b={query.q}' } }",
            &Asked { query, ..ASKED },
            &services,
        );
        assert_eq!(lacking(&done).as_deref(), Some("a;reason=skipped"), "{query}");
    }
}

#[test]
fn fetches_the_same_only_once() {
    let text = "
a: { get: 'invest:/x/{principal.sub}' }
b: { get: 'invest:/x/u1' }
c: { get: 'invest:/x/{a.id}' }
d: { get: 'transfers:/x/u1' }";
    let services = services(vec![
        ("invest:/x/u1", json(r#"{"id":"u1"}"#)),
        ("transfers:/x/u1", json("0")),
    ]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"a":{"id":"u1"},"b":{"id":"u1"},"c":{"id":"u1"},"d":0}"#
    );
    assert_eq!(*services.called.lock().unwrap(), ["invest:/x/u1", "transfers:/x/u1"]);
}

#[test]
fn gives_each_part_its_own_time_on_a_shared_call() {
    // `a` gives up first, then `c`, whose call is dropped; only then the call that `b` still waits for is answered.
    let barrier = Arc::new(Barrier::new(2));
    let text = "
a: { get: 'invest:/x', timeout: 1ms }
b: { get: 'invest:/x', timeout: 60s }
c: { get: 'accounts:/hangs', timeout: 5ms }";
    let services = services(vec![
        ("invest:/x", Does::Meet(barrier.clone(), "1")),
        ("accounts:/hangs", Does::Hang),
    ]);
    let aggregate = compile(text).unwrap();
    let done = block_on(async {
        let deadline = Instant::now() + Duration::from_secs(60);
        let meets = async {
            services.drops.notified().await;
            barrier.wait().await;
        };
        futures::join!(aggregate.run(inputs(&aggregate, &ASKED), &services, deadline), meets).0
    });
    assert_eq!(body(&done), r#"{"a":null,"b":1,"c":null}"#);
    assert_eq!(lacking(&done).as_deref(), Some("a;reason=timeout, c;reason=timeout"));
    assert_eq!(services.called.lock().unwrap().len(), 2);
    assert_eq!(services.overdue.load(Ordering::SeqCst), 1, "the hanging one alone");
}

#[test]
fn ends_at_the_deadline_with_what_is_there() {
    let services = services(vec![("invest:/a", Does::Hang), ("invest:/c", json("3"))]);
    let text = "{ a: { get: 'invest:/a' }, b: { get: 'invest:/b/{a.x}' }, c: { get: 'invest:/c' } }";
    let aggregate = compile(text).unwrap();
    let done = block_on(async {
        aggregate
            .run(inputs(&aggregate, &ASKED), &services, Instant::now())
            .await
    });
    assert_eq!(body(&done), r#"{"a":null,"b":null,"c":3}"#);
    assert_eq!(lacking(&done).as_deref(), Some("a;reason=timeout, b;reason=skipped"));
}

#[test]
fn bounds_all_bodies_together() {
    let large: &'static str = Box::leak(format!("\"{}\"", "x".repeat(MAX_PART - 2)).into_boxed_str());
    let services = services(vec![("invest:/x", json(large))]);
    let parts: Vec<String> = (0..9).map(|at| format!("p{at}: {{ get: 'invest:/x' }}")).collect();
    let done = run(&parts.join("\n"), &ASKED, &services);
    assert_eq!(lacking(&done).as_deref(), Some("p8;reason=unreadable"));
}

#[test]
fn can_run_on_any_worker() {
    fn is_send<T: Send>(_: &T) {}
    let aggregate = compile("{ a: { get: 'invest:/x' } }").unwrap();
    let services = services(Vec::new());
    let inputs = inputs(&aggregate, &ASKED);
    is_send(&aggregate.run(inputs, &services, Instant::now()));
}
