#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Method};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::conf::Read;
use crate::engine::{About, Client, NoHeaders, Outcome, Params, RequestView, ReshapeFailure};
use crate::policies::Defined;

fn shapes(text: &str) -> Result<Shapes, Vec<String>> {
    let load = Load::new();
    let node = load.text("t.yaml", text).unwrap();
    let shapes = Named::read(&node, &load).map(|settings| Shapes::compile(&settings, &load));
    match shapes.filter(|_| !load.has_errors()) {
        Some(shapes) => Ok(shapes),
        None => Err(load.into_findings(None).iter().map(ToString::to_string).collect()),
    }
}

fn shape(settings: &str) -> Arc<dyn Reshape> {
    let shapes = shapes(&format!("s: {settings}")).unwrap();
    shaped(shapes.0[0].1.clone(), &[])
}

fn reshape(settings: &str, body: &str) -> Result<String, ReshapeFailure> {
    let body = shape(settings).reshape(body.as_bytes(), &About::default())?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn findings(settings: &str) -> Vec<String> {
    shapes(&format!("s: {settings}")).err().unwrap_or_default()
}

#[test]
fn keeps_drops_and_renames_in_the_order_of_the_source() {
    let body = r#"{ "z": 1, "id": 7, "price": {"amount": 1.10, "tax": 0.1}, "thumbnail": "t", "a": [] }"#;
    assert_eq!(
        reshape(
            "{ keep: [id, price.amount, thumbnail], rename: { thumbnail: image } }",
            body
        )
        .unwrap(),
        r#"{"id":7,"price":{"amount":1.10},"image":"t"}"#
    );
    assert_eq!(
        reshape("{ drop: [z, price.tax], rename: { price.amount: sum } }", body).unwrap(),
        r#"{"id":7,"price":{"sum":1.10},"thumbnail":"t","a":[]}"#
    );
    assert_eq!(
        reshape("{ keep: [price], drop: [price.tax] }", body).unwrap(),
        r#"{"price":{"amount":1.10}}"#
    );
}

#[test]
fn walks_arrays_at_any_depth() {
    let body = r#"[[{"id":1,"x":2},{"x":3}],[],{"id":[4]},5]"#;
    assert_eq!(
        reshape("{ keep: id }", body).unwrap(),
        r#"[[{"id":1},{}],[],{"id":[4]}]"#
    );
    assert_eq!(
        reshape("{ drop: [x] }", body).unwrap(),
        r#"[[{"id":1},{}],[],{"id":[4]},5]"#
    );
    let body = r#"{"lines":[{"a":{"b":1,"c":2}},{"a":3}]}"#;
    assert_eq!(
        reshape("{ keep: lines.a.b }", body).unwrap(),
        r#"{"lines":[{"a":{"b":1}},{}]}"#
    );
}

#[test]
fn leaves_out_a_scalar_where_a_path_goes_deeper() {
    assert_eq!(reshape("{ keep: a.b }", r#"{"a":1}"#).unwrap(), "{}");
    assert_eq!(reshape("{ keep: a.b }", r#"{"a":null}"#).unwrap(), "{}");
    assert_eq!(reshape("{ keep: a.b }", r#"{"a":{"c":1}}"#).unwrap(), r#"{"a":{}}"#);
    assert_eq!(reshape("{ keep: a }", "5").unwrap(), "null");
    assert_eq!(reshape("{ drop: a.b }", r#"{"a":1}"#).unwrap(), r#"{"a":1}"#);
    assert_eq!(reshape("{ drop: a }", "5").unwrap(), "5");
}

#[test]
fn keeps_every_digit_and_escape() {
    for literal in [
        "90071992547409931.10",
        "9223372036854775807",
        "1e400",
        "-0",
        "1.0",
        "9223372036854775808",
        "1E5",
        r#""\u0061\ud83d\ude00\/""#,
    ] {
        let body = format!(r#"{{"x":0,"\u0061":[{literal}],"b":{{"c":{literal}}}}}"#);
        let cut = format!(r#"{{"\u0061":[{literal}],"n":{{"c":{literal}}}}}"#);
        assert_eq!(reshape("{ drop: x, rename: { b: n } }", &body).unwrap(), cut);
        assert_eq!(reshape("{ keep: [a, b], rename: { b: n } }", &body).unwrap(), cut);
        let moved = format!(r#"{{"\u0061":[{literal}],"b":{{}},"n":{{"c":{literal}}}}}"#);
        assert_eq!(reshape("{ drop: x, move: { b.c: n.c } }", &body).unwrap(), moved);
        let wrapped = format!(r#"{{"w":{{"x":0,"\u0061":[{literal}],"b":{{"c":{literal}}},"d":-0}}}}"#);
        assert_eq!(
            reshape("{ wrap: w, defaults: { d: -0, b.c: 1 } }", &body).unwrap(),
            wrapped
        );
        let lone = format!(r#"{{"data":{literal},"meta":{{"request_id":"","partial":[]}}}}"#);
        assert_eq!(reshape("{ envelope: true }", literal).unwrap(), lone);
    }
}

#[test]
fn refuses_a_new_name_that_is_taken() {
    let settings = "{ rename: { a: b } }";
    assert_eq!(reshape(settings, r#"{"a":1,"b":2}"#), Err(ReshapeFailure::Collision));
    assert_eq!(
        reshape(settings, r#"{"\u0062":2,"a":1}"#),
        Err(ReshapeFailure::Collision)
    );
    assert_eq!(
        reshape("{ drop: b, rename: { a: b } }", r#"{"a":1,"b":2}"#).unwrap(),
        r#"{"b":1}"#
    );
    assert_eq!(
        reshape("{ rename: { a: b, b: a } }", r#"{"a":1,"b":2}"#).unwrap(),
        r#"{"b":1,"a":2}"#
    );
    // Where it can be seen, the file is refused.
    for settings in [
        "{ rename: { a: x, b: x } }",
        "{ keep: [a, x], rename: { a: x } }",
        "{ keep: [a, x.y], rename: { a: x } }",
        "{ keep: o, rename: { o.a: x, o.b: x } }",
    ] {
        let found = findings(settings);
        assert!(found[0].contains("which is there too"), "{settings}: {found:?}");
    }
    assert_eq!(findings("{ drop: x, rename: { a: x } }"), [""; 0]);
}

#[test]
fn moves_to_places_of_the_answer() {
    let body = r#"{"id":1,"price":{"amount":1.10,"tax":0},"z":{"k":2}}"#;
    assert_eq!(
        reshape("{ move: { price.amount: amount, id: z.ref.id } }", body).unwrap(),
        r#"{"price":{"tax":0},"z":{"k":2,"ref":{"id":1}},"amount":1.10}"#
    );
    // The left side names the source, whatever it is renamed to; what is empty then stays.
    assert_eq!(
        reshape(
            "{ keep: price.amount, rename: { price: cost, price.amount: sum }, move: { price.amount: total } }",
            body
        )
        .unwrap(),
        r#"{"cost":{},"total":1.10}"#
    );
    assert_eq!(reshape("{ move: { a: b } }", r#"{"c":1}"#).unwrap(), r#"{"c":1}"#);
    assert_eq!(reshape("{ move: { a.b: c } }", r#"{"a":1}"#).unwrap(), r#"{"a":1}"#);
    assert_eq!(reshape("{ move: { a.b: c } }", "[[7]]").unwrap(), "[[7]]");
}

#[test]
fn moves_within_the_items_of_arrays_and_never_out_of_one() {
    let body = r#"{"items":[[{"p":{"a":-0}}],{"p":{"a":1e400}},{},3]}"#;
    assert_eq!(
        reshape("{ move: { items.p.a: items.a } }", body).unwrap(),
        r#"{"items":[[{"p":{},"a":-0}],{"p":{},"a":1e400},{},3]}"#
    );
    assert_eq!(
        reshape("{ move: { items.p: p } }", body),
        Err(ReshapeFailure::Collision)
    );
    assert_eq!(
        reshape("{ move: { b: a.b } }", r#"{"a":[],"b":1}"#),
        Err(ReshapeFailure::Collision)
    );
}

#[test]
fn refuses_to_move_onto_what_is_there() {
    for body in [r#"{"a":1,"b":2}"#, r#"{"a":1,"\u0062":null}"#] {
        assert_eq!(reshape("{ move: { a: b } }", body), Err(ReshapeFailure::Collision));
    }
    assert_eq!(
        reshape("{ move: { a: b.c } }", r#"{"a":1,"b":"text"}"#),
        Err(ReshapeFailure::Collision)
    );
    assert_eq!(
        reshape("{ move: { a: b, b: a } }", r#"{"a":1,"b":2}"#),
        Err(ReshapeFailure::Collision)
    );
    let found = |settings: &str| findings(settings).join("; ");
    assert!(found("{ move: { a: a } }").contains("to where it is"));
    assert!(found("{ move: { a: a.b } }").contains("into itself"));
    assert!(found("{ move: { a.b: a } }").contains("onto the one it stands in"));
    assert!(found("{ move: { a: c, b: c } }").contains("moves two members to `c`"));
    assert!(found("{ keep: [a, b], move: { a: b } }").contains("onto `b`, which it keeps"));
    assert!(found("{ drop: a, move: { a.b: c } }").contains("moves what it drops"));
    assert!(found("{ keep: b, move: { a: c } }").contains("moves what it does not keep"));
}

#[test]
fn adds_what_is_missing_to_the_objects_that_are_there() {
    let settings = "{ defaults: { stock: 0, price.currency: KRW, items.tags: [], note: ~, rate: 1.10 } }";
    assert_eq!(
        reshape(settings, r#"{"stock":null,"price":{},"items":[{"tags":1},{},[{}]]}"#).unwrap(),
        r#"{"stock":null,"price":{"currency":"KRW"},"items":[{"tags":1},{"tags":[]},[{"tags":[]}]],"note":null,"rate":1.10}"#
    );
    assert_eq!(
        reshape(settings, r#"{"price":1,"items":{}}"#).unwrap(),
        r#"{"price":1,"items":{"tags":[]},"stock":0,"note":null,"rate":1.10}"#
    );
    assert_eq!(reshape(settings, "[]").unwrap(), "[]");
    assert_eq!(reshape("{ defaults: { a: '1' } }", "{}").unwrap(), r#"{"a":"1"}"#);
}

#[test]
fn wraps_the_whole_and_puts_it_into_an_envelope() {
    assert_eq!(reshape("{ wrap: a.b\"c }", "[1]").unwrap(), r#"{"a":{"b\"c":[1]}}"#);
    let shape = shape("{ keep: id, wrap: product, envelope: true }");
    let about = About {
        request_id: "4f1c",
        partial: &[(Arc::from("recent"), "timeout")],
    };
    assert_eq!(
        shape.reshape(br#"{"id":1,"x":2}"#, &about).unwrap(),
        r#"{"data":{"product":{"id":1}},"meta":{"request_id":"4f1c","partial":[{"part":"recent","reason":"timeout"}]}}"#
    );
    assert_eq!(
        reshape("{ envelope: true }", " 1e400\n").unwrap(),
        r#"{"data":1e400,"meta":{"request_id":"","partial":[]}}"#
    );
}

#[test]
fn marks_what_it_makes_by_what_it_does() {
    let settings = [
        "{ keep: a }",
        "{ drop: a }",
        "{ keep: [a, b] }",
        "{ keep: a.b }",
        "{ rename: { a: b } }",
        "{ move: { a: b } }",
        "{ defaults: { a: b } }",
        "{ defaults: { a: bc } }",
        "{ wrap: a }",
        "{ envelope: true }",
        "{ keep: a, envelope: true }",
    ];
    let marks: std::collections::HashSet<String> = settings.iter().map(|text| shape(text).mark().to_owned()).collect();
    assert_eq!(marks.len(), settings.len());
    assert!(marks.iter().all(|mark| mark.len() == 8));
    assert_eq!(shape("{ keep: a }").mark(), shape("{ keep: [a], uncut: pass }").mark());
}

#[test]
fn refuses_ambiguous_bodies_even_in_what_is_left_out() {
    for body in [
        r#"{"x":{"a":1,"a":2}}"#,
        r#"{"x":"\ud800"}"#,
        r#"{"x":1,"x":2}"#,
        "",
        "{",
        "<p>",
    ] {
        assert_eq!(reshape("{ drop: x }", body), Err(ReshapeFailure::Unreadable), "{body}");
        assert_eq!(reshape("{ keep: y }", body), Err(ReshapeFailure::Unreadable), "{body}");
        assert_eq!(reshape("{ wrap: y }", body), Err(ReshapeFailure::Unreadable), "{body}");
        assert_eq!(
            reshape("{ defaults: { y: 1 } }", body),
            Err(ReshapeFailure::Unreadable),
            "{body}"
        );
    }
}

#[test]
fn bounds_depth_and_size() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(reshape("{ drop: x }", &deep), Err(ReshapeFailure::TooLarge));
    let large = format!("\"{}\"", "x".repeat(MAX_BODY));
    assert_eq!(reshape("{ drop: x }", &large), Err(ReshapeFailure::TooLarge));
    let growing = format!("[{}1]", r#"{"a":1},"#.repeat(MAX_BODY / 16));
    let settings = format!("{{ rename: {{ a: {} }} }}", "n".repeat(100));
    assert_eq!(reshape(&settings, &growing), Err(ReshapeFailure::TooLarge));
    let settings = format!("{{ defaults: {{ b: {} }} }}", "n".repeat(100));
    assert_eq!(reshape(&settings, &growing), Err(ReshapeFailure::TooLarge));
    let settings = format!("{{ wrap: {} }}", "n".repeat(100));
    let just = format!("\"{}\"", "x".repeat(MAX_BODY - 2));
    assert_eq!(reshape(&settings, &just), Err(ReshapeFailure::TooLarge));
}

#[test]
fn names_bad_shapes_with_their_places() {
    let found =
        shapes("a: { keep: [x..y, 'l[*].id'], rename: { p.q: r.s, '': x } }\nb: {}\nc: { drop: a, keep: [a.b] }\nd: { rename: { a: b }, keep: [c] }\ne: { move: { a: a }, uncut: cut }\n")
            .err();
    let found = found.unwrap();
    let starts = [
        "t.yaml:1:13",
        "t.yaml:1:19",
        "t.yaml:1:46",
        "t.yaml:1:51",
        "t.yaml:2:1",
        "t.yaml:3:22",
        "t.yaml:4:16",
        "t.yaml:5:29",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (finding, start) in found.iter().zip(starts) {
        assert!(finding.starts_with(&format!("{start}: ")), "{finding}");
    }
}

fn rule(text: &str) -> Result<Arc<dyn Policy>, Vec<String>> {
    let load = Load::new();
    let node = load.text("t.yaml", text).unwrap();
    let defined = Defined {
        shapes: shapes("compact: { drop: x }").unwrap(),
        client_names: vec![Arc::from("ios"), Arc::from("web")],
        client_headers: vec![HeaderName::from_static("x-client")],
        ..Defined::default()
    };
    let scope = Scope::plain(&load, &defined);
    let drafts = compile(node.get("shape").unwrap(), &scope);
    match drafts.into_iter().next().filter(|_| !load.has_errors()) {
        Some(draft) => Ok(draft.policy),
        None => Err(load.into_findings(None).iter().map(ToString::to_string).collect()),
    }
}

fn judge(policy: &Arc<dyn Policy>, client: u16) -> Outcome {
    let client = Client {
        name: "c".into(),
        index: client,
    };
    let facts = Facts {
        now: Timestamp::UNIX_EPOCH,
        window_at: Timestamp::UNIX_EPOCH,
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
    policy.judge(&facts, None).outcome
}

#[test]
fn picks_the_shape_of_the_client() {
    let policy = rule("shape: { ios: compact }").unwrap();
    let Outcome::Add(Act::Reshape(shape)) = judge(&policy, 0) else {
        panic!()
    };
    assert_eq!(shape.varies_on(), [HeaderName::from_static("x-client")]);
    assert_eq!(
        shape.reshape(br#"{"x":1}"#, &About::default()).unwrap(),
        Bytes::from("{}")
    );
    // Not cut for this client, but another would get something else.
    for client in [1, u16::MAX] {
        let Outcome::Add(Act::ResponseHeaders(edits)) = judge(&policy, client) else {
            panic!()
        };
        assert_eq!(edits.append, [(header::VARY, HeaderValue::from_static("x-client"))]);
    }
    let policy = rule("shape: compact").unwrap();
    let Outcome::Add(Act::Reshape(shape)) = judge(&policy, u16::MAX) else {
        panic!()
    };
    assert!(shape.varies_on().is_empty());
}

#[test]
fn names_unknown_shapes_and_clients() {
    assert_eq!(
        rule("shape: compct").unwrap_err(),
        ["t.yaml:1:8: unknown shape `compct`, did you mean `compact`?"]
    );
    assert_eq!(
        rule("shape: { iso: compact, web: x }").unwrap_err(),
        [
            "t.yaml:1:10: unknown client `iso`, did you mean `ios`?",
            "t.yaml:1:29: unknown shape `x`"
        ]
    );
}

/// The slow model: on a tree, path by path.
mod model {
    use super::*;

    pub type Paths = Vec<Vec<String>>;

    pub fn drop(value: &mut Json, path: &[String]) {
        match value {
            Json::Array(items) => items.iter_mut().for_each(|item| drop(item, path)),
            Json::Object(members) => match path {
                [last] => {
                    members.remove(last);
                }
                [first, rest @ ..] => {
                    if let Some(member) = members.get_mut(first) {
                        drop(member, rest);
                    }
                }
                [] => {}
            },
            _ => {}
        }
    }

    /// `None` where nothing stays.
    pub fn keep(value: &Json, paths: &Paths) -> Option<Json> {
        if paths.iter().any(Vec::is_empty) {
            return Some(value.clone());
        }
        match value {
            Json::Array(items) => Some(items.iter().filter_map(|item| keep(item, paths)).collect()),
            Json::Object(members) => {
                let mut kept = Map::new();
                for (name, member) in members {
                    let below: Paths = paths
                        .iter()
                        .filter(|path| path[0] == *name)
                        .map(|path| path[1..].to_vec())
                        .collect();
                    if let Some(member) = (!below.is_empty()).then(|| keep(member, &below)).flatten() {
                        kept.insert(name.clone(), member);
                    }
                }
                Some(Json::Object(kept))
            }
            _ => None,
        }
    }

    pub fn rename(value: Json, at: &[String], renames: &[(Vec<String>, String)]) -> Option<Json> {
        match value {
            Json::Array(items) => items.into_iter().map(|item| rename(item, at, renames)).collect(),
            Json::Object(members) => {
                let mut renamed = Map::new();
                for (name, member) in members {
                    let path = [at, std::slice::from_ref(&name)].concat();
                    let new = renames
                        .iter()
                        .rev()
                        .find(|(of, _)| *of == path)
                        .map_or(name, |(_, new)| new.clone());
                    if renamed.insert(new, rename(member, &path, renames)?).is_some() {
                        return None;
                    }
                }
                Some(Json::Object(renamed))
            }
            scalar => Some(scalar),
        }
    }

    /// The path after renaming.
    pub fn renamed(path: &[String], renames: &[(Vec<String>, String)]) -> Vec<String> {
        let new = |at: usize| {
            let rename = renames.iter().find(|(of, _)| of[..] == path[..=at]);
            rename.map_or_else(|| path[at].clone(), |(_, new)| new.clone())
        };
        (0..path.len()).map(new).collect()
    }

    /// Moves in every object that both paths lead through; `None` where there is no one place.
    pub fn shift(value: &mut Json, from: &[String], to: &[String]) -> Option<()> {
        if from[0] == to[0] {
            return match value {
                Json::Array(items) => items.iter_mut().try_for_each(|item| shift(item, from, to)),
                Json::Object(members) => match members.get_mut(&from[0]) {
                    Some(member) => shift(member, &from[1..], &to[1..]),
                    None => Some(()),
                },
                _ => Some(()),
            };
        }
        match value {
            Json::Array(items) => items.iter_mut().try_for_each(|item| shift(item, from, to)),
            Json::Object(_) => match taken(value, from)? {
                Some(moved) => set(value, to, moved),
                None => Some(()),
            },
            _ => Some(()),
        }
    }

    fn taken(value: &mut Json, path: &[String]) -> Option<Option<Json>> {
        match value {
            Json::Array(_) => None,
            Json::Object(members) if path.len() == 1 => Some(members.remove(&path[0])),
            Json::Object(members) => match members.get_mut(&path[0]) {
                Some(member) => taken(member, &path[1..]),
                None => Some(None),
            },
            _ => Some(None),
        }
    }

    fn set(value: &mut Json, path: &[String], of: Json) -> Option<()> {
        let members = value.as_object_mut()?;
        if path.len() == 1 {
            return members.insert(path[0].clone(), of).is_none().then_some(());
        }
        set(members.entry(&path[0]).or_insert_with(|| json!({})), &path[1..], of)
    }

    pub fn default(value: &mut Json, path: &[String], of: i8) {
        match value {
            Json::Array(items) => items.iter_mut().for_each(|item| default(item, path, of)),
            Json::Object(members) if path.len() == 1 => {
                members.entry(&path[0]).or_insert(of.into());
            }
            Json::Object(members) => {
                if let Some(member) = members.get_mut(&path[0]) {
                    default(member, &path[1..], of);
                }
            }
            _ => {}
        }
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "[a-c\"\\\\é]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 48, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn any_place() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-f]".prop_map(String::from), 1..3)
}

fn any_path() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-d]".prop_map(String::from), 1..4)
}

proptest! {
    #[test]
    fn does_what_the_slow_model_does(
        value in any_json(),
        drops in prop::collection::vec(any_path(), 0..3),
        keeps in prop::collection::vec(any_path(), 0..4),
        renames in prop::collection::btree_map(any_path(), "[a-f]".prop_map(String::from), 0..3),
        moves in prop::collection::btree_map(any_path(), any_place(), 0..3),
        defaults in prop::collection::btree_map(any_place(), any::<i8>(), 0..3),
        wrap in prop::option::of(any_place()),
    ) {
        let quote = |paths: &[Vec<String>]| paths.iter().map(|path| path.join(".")).collect::<Vec<_>>().join(", ");
        let mut settings = String::from("s: { drop: [");
        settings.push_str(&format!("{}]", quote(&drops)));
        if !keeps.is_empty() {
            settings.push_str(&format!(", keep: [{}]", quote(&keeps)));
        }
        let pairs = |word: &str, pairs: Vec<(String, String)>| {
            let pairs: Vec<String> = pairs.into_iter().map(|(path, of)| format!("{path}: {of}")).collect();
            format!(", {word}: {{ {} }}", pairs.join(", "))
        };
        let text = |path: &Vec<String>| path.join(".");
        settings.push_str(&pairs("rename", renames.iter().map(|(path, new)| (text(path), new.clone())).collect()));
        settings.push_str(&pairs("move", moves.iter().map(|(path, to)| (text(path), text(to))).collect()));
        settings.push_str(&pairs("defaults", defaults.iter().map(|(path, of)| (text(path), of.to_string())).collect()));
        if let Some(path) = &wrap {
            settings.push_str(&format!(", wrap: {}", text(path)));
        }
        settings.push_str(" }");
        let Ok(shapes) = shapes(&settings) else { return Ok(()) };
        let fast = shaped(shapes.0[0].1.clone(), &[]).reshape(value.to_string().as_bytes(), &About::default());

        let renames: Vec<(Vec<String>, String)> = renames.into_iter().collect();
        let expected = (|| {
            let mut expected = value;
            for path in &drops {
                model::drop(&mut expected, path);
            }
            if !keeps.is_empty() {
                expected = model::keep(&expected, &keeps).unwrap_or(Json::Null);
            }
            expected = model::rename(expected, &[], &renames)?;
            for (path, to) in &moves {
                let from = model::renamed(path, &renames);
                model::shift(&mut expected, &from, to)?;
            }
            for (path, value) in &defaults {
                model::default(&mut expected, path, *value);
            }
            for name in wrap.iter().flatten().rev() {
                expected = json!({ name: expected });
            }
            Some(expected)
        })();
        match expected {
            Some(expected) => prop_assert_eq!(serde_json::from_slice::<Json>(&fast.unwrap()).unwrap(), expected),
            None => prop_assert_eq!(fast, Err(ReshapeFailure::Collision)),
        }
    }

    #[test]
    fn writes_json_whatever_it_reads(body in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(cut) = shape("{ drop: a, rename: { b: c } }").reshape(&body, &About::default()) {
            prop_assert!(serde_json::from_slice::<Json>(&cut).is_ok());
        }
    }
}
