#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;

use super::query::changed;
use super::*;
use crate::conf::Load;
use crate::engine::{Client, Outcome, Params, RequestView, ReshapeFailure};
use crate::policies::Defined;

struct Sent(HeaderMap);

impl crate::engine::Headers for Sent {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.get_all(name).iter().nth(1).is_some()
    }
}

fn compiled(text: &str, has_auth: bool) -> Result<Arc<dyn Policy>, Vec<String>> {
    let load = Load::new();
    let node = load.text("t.yaml", text).unwrap();
    let defined = Defined::default();
    let params = [Arc::from("tenant")];
    let scope = Scope {
        has_auth,
        params: Some(&params),
        ..Scope::plain(&load, &defined)
    };
    let drafts = compile(node.get("request").unwrap(), &scope);
    match drafts.into_iter().next().filter(|_| !load.has_errors()) {
        Some(draft) => Ok(draft.policy),
        None => Err(load.into_findings(None).iter().map(ToString::to_string).collect()),
    }
}

fn edits(text: &str, query: &str, headers: &[(&'static str, &'static str)]) -> Arc<RequestEdits> {
    let policy = compiled(text, false).unwrap();
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        sent.append(*name, HeaderValue::from_static(value));
    }
    let client = Client {
        name: "ios".into(),
        index: 0,
    };
    let (sent, names) = (Sent(sent), [Arc::from("tenant")]);
    let facts = Facts {
        now: Timestamp::UNIX_EPOCH,
        window_at: Timestamp::UNIX_EPOCH,
        address: "192.0.2.1".parse().unwrap(),
        client: &client,
        request: RequestView {
            method: &Method::POST,
            host: "h",
            path: "/a%20b",
            query,
            headers: &sent,
        },
        params: Params {
            names: &names,
            values: ["a%20b%0D%0Ax"].into_iter().collect(),
        },
        principal: None,
    };
    match policy.judge(&facts, None).outcome {
        Outcome::Add(Act::Request(edits)) => edits,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fills_in_what_is_referred_to() {
    let edits = edits(
        "request: { query: { set: { t: '{path.tenant}', c: 'x-{client}-{{y}}', q: '{query.a}', h: '{header.x-h}', lit: 1.10 } } }",
        "a=%26%3D&b=1",
        &[("x-h", "v w")],
    );
    let values: Vec<_> = edits.query.set.iter().map(|(_, value)| value.as_deref()).collect();
    assert_eq!(
        values,
        [
            Some("a b\r\nx"),
            Some("x-ios-{y}"),
            Some("&="),
            Some("v w"),
            Some("1.10")
        ]
    );
    assert_eq!(
        changed("a=%26%3D&b=1", &edits.query),
        "a=%26%3D&b=1&t=a%20b%0D%0Ax&c=x-ios-%7By%7D&q=%26%3D&h=v%20w&lit=1.10"
    );
}

#[test]
fn sets_nothing_where_a_value_is_absent_repeated_or_cannot_stand_there() {
    let text = "request: { headers: { set: { x-a: '{path.tenant}', x-b: '{query.a}', x-c: '{header.x-h}', x-d: 'v-{query.z}', x-e: ok } } }";
    let edits = edits(text, "a=1&a=2", &[("x-h", "1"), ("x-h", "2")]);
    let values: Vec<_> = edits.headers.set.iter().map(|(_, value)| value.is_some()).collect();
    // A line break in a path cannot stand in a header.
    assert_eq!(values, [false, false, false, false, true]);
}

fn query_changed(settings: &str, query: &str) -> String {
    changed(
        query,
        &edits(&format!("request: {{ query: {settings} }}"), query, &[]).query,
    )
}

#[test]
fn changes_queries_and_leaves_the_rest_byte_for_byte() {
    assert_eq!(
        query_changed("{ drop: [a, 'b c'] }", "x=%7e+1&a=1&A=2&b+c=3&b%20c&a&y"),
        "x=%7e+1&A=2&y"
    );
    assert_eq!(query_changed("{ drop: [a] }", "%61=1&a%00=2&&"), "a%00=2");
    assert_eq!(query_changed("{ drop: [a] }", "a=1"), "");
    assert_eq!(
        query_changed("{ rename: { q: 's p' } }", "q=a%20b&z&q&s+p=own"),
        "s%20p=a%20b&z&s%20p"
    );
    assert_eq!(query_changed("{ rename: { q: s } }", "s=own"), "s=own");
    assert_eq!(query_changed("{ rename: { a: b, b: a } }", "a=1&b=2"), "b=1&a=2");
    assert_eq!(query_changed("{ set: { u: x } }", "u=forged&%75=forged&v=1"), "v=1&u=x");
    assert_eq!(query_changed("{ set: { u: '{query.gone}' } }", "u=forged&v=1"), "v=1");
    assert_eq!(
        query_changed("{ drop: [a], rename: { b: a }, set: { c: '1' } }", "a=0&b=1"),
        "a=1&c=1"
    );
    assert_eq!(query_changed("{ set: { u: a&b=c } }", ""), "u=a%26b%3Dc");
}

fn body(settings: &str, body: &str) -> Result<String, ReshapeFailure> {
    let edits = edits(&format!("request: {{ body: {settings} }}"), "", &[]);
    let changed = edits.body.as_ref().unwrap().rewrite(body.as_bytes())?;
    Ok(String::from_utf8(changed.to_vec()).unwrap())
}

#[test]
fn changes_bodies_and_keeps_digits_and_order() {
    let sent = r#"{"z":1e400,"qty":90071992547409931.10,"internal":1,"lines":[{"qty":-0,"x":1},{}]}"#;
    assert_eq!(
        body(
            "{ drop: [internal, lines.x], rename: { qty: quantity, lines.qty: n } }",
            sent
        )
        .unwrap(),
        r#"{"z":1e400,"quantity":90071992547409931.10,"lines":[{"n":-0},{}]}"#
    );
    assert_eq!(
        body(
            "{ set: { channel: '{client}', z: 1.10, a.b: [x, ~], lines.by: '{path.tenant}' } }",
            sent
        )
        .unwrap(),
        r#"{"z":1.10,"qty":90071992547409931.10,"internal":1,"lines":[{"qty":-0,"x":1,"by":"a b\r\nx"},{"by":"a b\r\nx"}],"channel":"ios","a":{"b":["x",null]}}"#
    );
    // What is not known is not the caller's to say either.
    assert_eq!(
        body("{ set: { user: '{query.u}' } }", r#"{"user":"forged","a":1}"#).unwrap(),
        r#"{"a":1}"#
    );
    assert_eq!(
        body("{ set: { a.user: '{query.u}' } }", r#"{"a":[{"user":1},2],"b":1}"#).unwrap(),
        r#"{"a":[{},2],"b":1}"#
    );
    assert_eq!(
        body("{ set: { user: x } }", r#"[{"user":1},{}]"#).unwrap(),
        r#"[{"user":"x"},{"user":"x"}]"#
    );
}

#[test]
fn refuses_bodies_that_cannot_be_changed() {
    for sent in ["5", "[1]", "\"x\""] {
        assert_eq!(
            body("{ set: { user: x } }", sent),
            Err(ReshapeFailure::Collision),
            "{sent}"
        );
    }
    assert_eq!(
        body("{ set: { a.b: x } }", r#"{"a":1}"#),
        Err(ReshapeFailure::Collision)
    );
    assert_eq!(
        body("{ rename: { a: b } }", r#"{"a":1,"b":2}"#),
        Err(ReshapeFailure::Collision)
    );
    for sent in [
        "",
        "{",
        r#"{"a":1,"a":2}"#,
        r#"{"user":1,"\u0075ser":2}"#,
        r#"["\ud800"]"#,
        "{} {}",
    ] {
        assert_eq!(
            body("{ set: { user: x } }", sent),
            Err(ReshapeFailure::Unreadable),
            "{sent}"
        );
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(body("{ drop: [a] }", &deep), Err(ReshapeFailure::TooLarge));
}

#[test]
fn points_at_what_cannot_be_changed_or_referred_to() {
    let yaml = "request:
  headers:
    drop: [cookie, te, x-fine]
    rename: { x-a: x-forwarded-for, x-b: x-c, x-d: x-c }
    set:
      Host: x
      authorization: y
      x-e: '{principal.sub}'
      x-f: '{header.cookie}'
      x-g: 'a {path.tenent} {nothing.x}'
  query:
    set: { a: '{query.}', b: '{', c: 'x}' }
  body:
    drop: [a..b]
    set: { x: '{principal.sup}' }
";
    let found = compiled(yaml, false).unwrap_err();
    let places: Vec<String> = found
        .iter()
        .map(|finding| finding.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        places,
        [
            "t.yaml:3:12",
            "t.yaml:3:20",
            "t.yaml:4:20",
            "t.yaml:6:7",
            "t.yaml:7:7",
            "t.yaml:14:12"
        ],
        "{found:#?}"
    );
    let yaml = "request:
  headers:
    rename: { x-b: x-c, x-d: x-c }
    set:
      x-e: '{principal.sub}'
      x-f: '{header.cookie}'
      x-g: 'a {path.tenent} {nothing.x}'
  query:
    set: { a: '{query.}', b: '{', c: 'x}' }
  body:
    set: { x: '{principal.sup}' }
";
    let found = compiled(yaml, false).unwrap_err();
    let places: Vec<String> = found
        .iter()
        .map(|finding| finding.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        places,
        [
            "t.yaml:3:30",
            "t.yaml:5:14",
            "t.yaml:6:14",
            "t.yaml:7:16",
            "t.yaml:7:30",
            "t.yaml:9:17",
            "t.yaml:9:31",
            "t.yaml:9:40",
            "t.yaml:11:17"
        ],
        "{found:#?}"
    );
    assert!(found[3].contains("did you mean `tenant`"), "{found:#?}");
    for empty in [
        "request: {}",
        "request: { headers: {} }",
        "request: { body: { drop: [] } }",
    ] {
        assert!(
            compiled(empty, true).unwrap_err()[0].contains("changes nothing"),
            "{empty}"
        );
    }
    assert!(
        compiled(
            "request: { headers: { set: { x-u: '{principal.sub}-{claims.a}' } } }",
            true
        )
        .is_ok()
    );
}

#[test]
fn says_on_what_it_depends() {
    let of = |text: &str| depends(&Load::new().text("t.yaml", text).unwrap());
    assert_eq!(of("{ query: { set: { a: '{path.x}{query.y}' } } }"), Depends::default());
    assert!(of("{ query: { set: { a: '{principal.sub}' } } }").caller);
    assert!(of("{ body: { set: { a: [{ b: '{claims.x}' }] } } }").caller);
    assert!(of("{ headers: { set: { x-a: '{header.x-b}' } } }").headers);
    assert!(of("{ headers: { set: { x-a: '{client}' } } }").headers);
}
