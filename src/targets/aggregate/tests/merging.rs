//! How the answers of parts become one.

use super::*;

#[test]
fn picks_groups_and_spreads() {
    let text = "
a: { get: 'invest:/a', pick: data.items }
b: { get: 'invest:/b', group: money }
c: { get: 'invest:/c', spread: [y, x] }
d: { get: 'invest:/d', spread: true, group: money }
e: { get: 'invest:/e', pick: data.missing }";
    let services = services(vec![
        ("invest:/a", json(r#"{"data":{"items":[1, 2]},"rest":0}"#)),
        ("invest:/b", json("1.10")),
        ("invest:/c", json(r#"{"x":1,"secret":2,"\u0079":-0}"#)),
        ("invest:/d", json(r#"{"p":{"q":1},"r":[]}"#)),
        ("invest:/e", json(r#"{"data":{}}"#)),
    ]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        (body(&done), lacking(&done)),
        (
            r#"{"a":[1, 2],"money":{"b":1.10,"p":{"q":1},"r":[]},"x":1,"\u0079":-0,"e":null}"#,
            None
        )
    );
}

#[test]
fn never_writes_a_name_twice() {
    let text = "
a: { get: 'invest:/a', spread: true, default: { q: 0 } }
b: { get: 'invest:/b', spread: true }
c: { get: 'invest:/c' }";
    let with = |a: &'static str, b: &'static str| {
        let services = services(vec![
            ("invest:/a", json(a)),
            ("invest:/b", json(b)),
            ("invest:/c", json("1")),
        ]);
        let done = run(text, &ASKED, &services);
        (body(&done).to_owned(), lacking(&done).unwrap_or_default())
    };
    assert_eq!(
        with(r#"{"x":1}"#, r#"{"y":2}"#),
        (r#"{"x":1,"y":2,"c":1}"#.into(), String::new())
    );
    let taken = (r#"{"q":0,"y":2,"c":1}"#.to_owned(), "a;reason=unreadable".to_owned());
    assert_eq!(with(r#"{"c":5}"#, r#"{"y":2}"#), taken);
    assert_eq!(with("[1]", r#"{"y":2}"#), taken);
    let second = (r#"{"x":1,"c":1}"#.to_owned(), "b;reason=unreadable".to_owned());
    assert_eq!(with(r#"{"x":1}"#, r#"{"\u0078":2}"#), second);
    assert_eq!(with(r#"{"x":1}"#, "null").1, "");
    // The names of a default are its part's own, whether it is there or stands by.
    let own = (r#"{"q":1,"y":2,"c":1}"#.to_owned(), String::new());
    assert_eq!(with(r#"{"q":1}"#, r#"{"y":2}"#), own);
    let both = (
        r#"{"q":0,"c":1}"#.to_owned(),
        "a;reason=unreadable, b;reason=unreadable".to_owned(),
    );
    assert_eq!(with("[1]", r#"{"q":2}"#), both);
    let stood_by = (r#"{"x":1,"c":1}"#.to_owned(), "b;reason=unreadable".to_owned());
    assert_eq!(with(r#"{"x":1}"#, r#"{"q":2}"#), stood_by);
    let grouped = text.replace("c' }", "c' }\nd: { get: 'invest:/b', spread: true, group: g }");
    let services_of = services(vec![
        ("invest:/a", json("7")),
        ("invest:/b", json(r#"{"q":2}"#)),
        ("invest:/c", json("1")),
    ]);
    let done = run(&grouped, &ASKED, &services_of);
    assert_eq!(body(&done), r#"{"q":0,"c":1,"g":{"q":2}}"#, "an object of its own");
    let required = "a: { get: 'invest:/a', spread: true, required: true }";
    let services = services(vec![("invest:/a", json("7"))]);
    assert_eq!(
        run(required, &ASKED, &services).body.unwrap_err().reason,
        Reason::Unreadable
    );
}

#[test]
fn carries_the_headers_that_are_chosen() {
    let text = "{ a: { get: 'invest:/a', headers: [x-of, x-none] }, b: { get: 'accounts:/b' } }";
    let services = services(vec![("invest:/a", json("1")), ("accounts:/b", json("2"))]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        done.headers,
        [(HeaderName::from_static("x-of"), HeaderValue::from_static("invest"))]
    );
    assert_eq!(done.freshness.len(), 2);
}

#[test]
fn carries_no_headers_of_what_is_not_there() {
    let text = "a: { get: 'invest:/a', headers: [x-of], default: 1, pass_status: [404] }";
    for (status, kind, body) in [
        (500, "application/json", "{}"),
        (404, "application/json", "{}"),
        (206, "application/json", "{}"),
        (304, "application/json", ""),
        (200, "text/html", "{}"),
    ] {
        let services = services(vec![("invest:/a", Does::Answer(status, kind, body))]);
        assert_eq!(run(text, &ASKED, &services).headers, [], "{status}");
    }
    let spread = "{ a: { get: 'invest:/a', headers: [x-of], spread: true }, b: { get: 'accounts:/b' } }";
    let services = services(vec![("invest:/a", json(r#"{"b":1}"#)), ("accounts:/b", json("2"))]);
    let done = run(spread, &ASKED, &services);
    assert_eq!((body(&done), &done.headers[..]), (r#"{"b":2}"#, &[][..]));
}

#[test]
fn takes_no_body_of_a_status_that_has_none() {
    for status in [204, 205] {
        let services = services(vec![(
            "invest:/a",
            Does::Answer(status, "application/json", r#"{"x":1}"#),
        )]);
        let done = run("a: { get: 'invest:/a' }", &ASKED, &services);
        assert_eq!((body(&done), lacking(&done)), (r#"{"a":null}"#, None), "{status}");
    }
}

#[test]
fn asks_routes_of_its_own_for_paths() {
    let text = "a: { get: '/products/{path.id}?x={query.q}' }";
    let services = services(vec![(":/products/7?x=a", json("1"))]);
    assert_eq!(body(&run(text, &ASKED, &services)), r#"{"a":1}"#);
    let aggregate = compile(text).unwrap();
    let inner: Vec<&str> = aggregate.inner().map(|inner| inner.sample).collect();
    assert_eq!(inner, ["/products/x?x=x"]);
    assert!(aggregate.upstreams().is_empty());
    let told: Vec<_> = aggregate.describe().collect();
    assert_eq!(told, [("a", "GET /products/{path.id}?x={query.q}".to_owned())]);
}

#[test]
fn begins_with_who_took_longest_last_time() {
    let answers = vec![
        ("invest:/a", json("1")),
        ("invest:/b", json("2")),
        ("invest:/c", json("3")),
    ];
    let text = "{ a: { get: 'invest:/a' }, b: { get: 'invest:/b' }, c: { get: 'invest:/c' } }";
    let aggregate = compile(text).unwrap();
    let order = || {
        let services = services(answers.clone());
        let deadline = Instant::now() + Duration::from_secs(60);
        block_on(aggregate.run(inputs(&aggregate, &ASKED), &services, deadline));
        services.called.into_inner().unwrap()
    };
    assert_eq!(order(), ["invest:/a", "invest:/b", "invest:/c"], "as they stand");
    for (part, seconds) in aggregate.parts.iter().zip([1, 3, 2]) {
        part.note(Duration::from_secs(seconds));
    }
    assert_eq!(order(), ["invest:/b", "invest:/c", "invest:/a"]);
}
