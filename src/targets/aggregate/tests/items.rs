//! Parts made of arrays, and what a part sends.

use super::*;

#[test]
fn joins_the_values_of_an_array() {
    let orders = r#"{"items":[{"id":"a,b","n":1},{"id":7.0},{"x":1},{"id":null}],"none":[],"odd":[{"id":{}}]}"#;
    let text = "
orders: { get: 'accounts:/orders', required: true }
names:  { get: 'invest:/x?ids={orders.items[*].id}' }
along:  { get: 'invest:/x/{orders.items[*].id}/y' }
none:   { get: 'invest:/x?ids={orders.none[*].id}' }
odd:    { get: 'invest:/x?ids={orders.odd[*].id}' }
whole:  { get: 'invest:/x?ids={orders.items}' }";
    let services = services(vec![
        ("accounts:/orders", json(orders)),
        ("invest:/x?ids=a%2Cb,7.0", json("1")),
        ("invest:/x/a%2Cb,7.0/y", json("2")),
    ]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        lacking(&done).as_deref(),
        Some("none;reason=skipped, odd;reason=skipped, whole;reason=skipped")
    );
    assert!(body(&done).contains(r#""names":1,"along":2,"#), "{}", body(&done));
}

const EACH: &str = "
orders: { get: 'accounts:/orders' }
stock:  { get: 'invest:/stock/{each.id}', each: orders.items }
ids:    { get: 'invest:/stock/{each}', each: 'orders.items[*].id' }";

#[test]
fn calls_once_for_every_item_and_keeps_their_order() {
    let services = services(vec![
        (
            "accounts:/orders",
            json(r#"{"items":[{"id":2},{"id":1},{"id":2},{"id":null}]}"#),
        ),
        ("invest:/stock/1", json("1.0")),
        ("invest:/stock/2", json("2.0")),
        ("invest:/stock/null", json("0")),
    ]);
    let done = run(EACH, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"orders":{"items":[{"id":2},{"id":1},{"id":2},{"id":null}]},"stock":[2.0,1.0,2.0,null],"ids":[2.0,1.0,2.0,null]}"#
    );
    // An item that names nothing is missing, and said to be.
    assert_eq!(
        lacking(&done).as_deref(),
        Some("stock;reason=skipped, ids;reason=skipped")
    );
    assert_eq!(services.called.lock().unwrap().len(), 3, "the same is asked once");
}

#[test]
fn gives_null_for_items_that_fail_and_fails_where_they_are_required() {
    let answers = || {
        vec![
            ("accounts:/orders", json(r#"{"items":[{"id":1},{"id":2}]}"#)),
            ("invest:/stock/1", Does::Answer(500, "", "")),
            ("invest:/stock/2", json("2")),
        ]
    };
    let text = EACH.lines().take(3).collect::<Vec<_>>().join("\n");
    let done = run(&text, &ASKED, &services(answers()));
    assert_eq!(
        body(&done),
        r#"{"orders":{"items":[{"id":1},{"id":2}]},"stock":[null,2]}"#
    );
    assert_eq!(lacking(&done).as_deref(), Some("stock;reason=status"));
    let required = text.replace("each: orders.items", "each: orders.items, required: true");
    let failure = run(&required, &ASKED, &services(answers())).body.unwrap_err();
    assert_eq!((&*failure.part, failure.reason), ("stock", Reason::Status));
}

#[test]
fn bounds_how_many_items_are_asked_for_and_how_many_at_once() {
    let items = |count: usize| -> &'static str {
        let items: Vec<String> = (0..count).map(|id| id.to_string()).collect();
        Box::leak(format!("[{}]", items.join(",")).into_boxed_str())
    };
    let text = "all: { get: 'accounts:/all' }\none: { get: 'invest:/{each}', each: all }";
    let done = run(text, &ASKED, &services(vec![("accounts:/all", json(items(101)))]));
    assert_eq!(lacking(&done).as_deref(), Some("one;reason=unreadable"));
    let empty = run(text, &ASKED, &services(vec![("accounts:/all", json("[]"))]));
    assert_eq!((body(&empty), lacking(&empty)), (r#"{"all":[],"one":[]}"#, None));

    // Eight are under way; the ninth waits, and two other parts do not.
    let text = format!("{text}\nx: {{ get: 'transfers:/x' }}\ny: {{ get: 'transfers:/y/{{x.id}}' }}");
    let names: Vec<&'static str> = (0..20)
        .map(|id| -> &'static str { Box::leak(format!("invest:/{id}").into_boxed_str()) })
        .collect();
    let mut answers: Vec<_> = names.into_iter().map(|name| (name, Does::Hang)).collect();
    answers.push(("accounts:/all", json(items(20))));
    answers.push(("transfers:/x", json(r#"{"id":1}"#)));
    answers.push(("transfers:/y/1", json("1")));
    let services = services(answers);
    let aggregate = compile(&text).unwrap();
    let done = block_on(async {
        let deadline = Instant::now() + Duration::from_millis(50);
        aggregate.run(inputs(&aggregate, &ASKED), &services, deadline).await
    });
    assert_eq!(lacking(&done).as_deref(), Some("one;reason=timeout"));
    assert!(body(&done).ends_with(r#""y":1}"#), "{}", body(&done));
    let called = services.called.lock().unwrap();
    assert_eq!(
        called.iter().filter(|name| name.starts_with("invest")).count(),
        8,
        "{called:?}"
    );
    assert_eq!(services.dropped.load(Ordering::SeqCst), 8);
    assert_eq!(
        services.overdue.load(Ordering::SeqCst),
        0,
        "the whole was, no call of it"
    );
}

#[test]
fn posts_what_its_body_says() {
    let text = r#"
a: { get: 'accounts:/a' }
b: { post: 'invest:/b', body: { ids: '{a.items[*].id}', one: '{a.n}', of: '{principal.sub}', text: 'no {a.n} of {query.q}', limit: 5, all: [true, '{a.items}'] } }
c: { post: 'invest:/c' }
d: { post: 'invest:/d', body: '{a.missing}' }"#;
    let services = services(vec![
        (
            "accounts:/a",
            json(r#"{"items":[{"id":1.10},{"id":"\u00e4"}],"n":1e400}"#),
        ),
        (
            r#"invest:/b {"ids":[1.10,"\u00e4"],"one":1e400,"of":"u1","text":"no 1e400 of a","limit":5,"all":[true,[{"id":1.10},{"id":"\u00e4"}]]}"#,
            json("1"),
        ),
        ("invest:/c ", json("2")),
    ]);
    let done = run(text, &ASKED, &services);
    assert!(body(&done).ends_with(r#""b":1,"c":2,"d":null}"#), "{}", body(&done));
    assert_eq!(lacking(&done).as_deref(), Some("d;reason=skipped"));
}

#[test]
fn takes_a_listed_status_for_nothing_there() {
    let text = "
a: { get: 'invest:/a', pass_status: [404], default: [] }
b: { get: 'invest:/b', pass_status: [404] }
c: { get: 'invest:/c/{b.id}' }";
    let none = || Does::Answer(404, "text/html", "stack trace");
    let missing = services(vec![("invest:/a", none()), ("invest:/b", none())]);
    let done = run(text, &ASKED, &missing);
    assert_eq!(body(&done), r#"{"a":[],"b":null,"c":null}"#);
    assert_eq!(lacking(&done).as_deref(), Some("c;reason=skipped"));

    let required = "a: { get: 'invest:/a', pass_status: [404, 409], required: true }";
    for (status, whole) in [(404, 404), (409, 409), (410, 502), (500, 502)] {
        let services = services(vec![("invest:/a", Does::Answer(status, "application/json", "{}"))]);
        let failure = run(required, &ASKED, &services).body.unwrap_err();
        assert_eq!((failure.status.as_u16(), failure.reason), (whole, Reason::Status));
    }
}

#[test]
fn leaves_out_what_is_not_asked_for() {
    let text = "
a: { get: 'invest:/a', when: { is: false }, default: { id: 5 } }
b: { get: 'invest:/b/{a.id}', when: { is: true } }
c: { get: 'invest:/c', when: { is: false }, required: false }";
    let services = services(vec![("invest:/b/5", json("1"))]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        (body(&done), lacking(&done)),
        (r#"{"a":{"id":5},"b":1,"c":null}"#, None)
    );
}
