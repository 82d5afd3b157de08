//! What a file may say of an aggregate.

use super::*;

#[test]
fn names_mistakes_with_their_places() {
    for (text, found) in [
        ("{}", "from 1 to 32 parts"),
        (
            "a: { get: 'invets:/x' }",
            "t.yaml:1:11: unknown upstream `invets`, did you mean `invest`?",
        ),
        (
            "a: { get: 'invest:/{path.idd}' }",
            "unknown path parameter `idd`, did you mean `id`?",
        ),
        ("a: { get: 'invest:/{principal.name}' }", "expected `{principal.sub}`"),
        (
            "a: { get: 'invest:/{header.cookie}' }",
            "would write a credential into a URL",
        ),
        ("a: { get: 'invest:/{sub}' }", "`{sub}` is not a reference"),
        ("a: { get: 'invest:/{}' }", "is not a reference"),
        ("a: { get: 'invest:/{b.x}' }", "there is no part `b`"),
        (
            "ab: { get: 'invest:/x' }\nc: { get: 'invest:/{aba.x}' }",
            "did you mean `ab`?",
        ),
        ("a: { get: 'invest:/{a.x}' }", "t.yaml:1:11: `a` refers to itself"),
        ("a: { get: 'invest:/{path.id' }", "without its `}`"),
        ("a: { get: 'invest:/x/../y' }", "`.` and `..`"),
        ("a: { get: 'invest:/x/%2e./y' }", "`.` and `..`"),
        ("a: { get: 'invest:x' }", "is not `upstream:/path`"),
        ("a: { get: x }", "is not `upstream:/path`"),
        ("a: { timeout: 1s }", "t.yaml:1:1: part `a` calls nobody"),
        ("a: { get: 'invest:/x', post: 'invest:/x' }", "either `get` or `post`"),
        ("a: { get: 'invest:/x', body: { a: 1 } }", "sent by `post` alone"),
        (
            "a: { post: 'invest:/x', body: { a: '{b.x}' } }",
            "t.yaml:1:31: `{b.x}`: there is no part `b`",
        ),
        ("a: { post: 'invest:/x', cache: 1s }", "what is posted is not kept"),
        ("a: { get: /x, cache: 1s }", "as that route's `cache` says"),
        ("a: { get: 'invest:/x', cache: 0s }", "a time above 0"),
        (
            "a: { get: 'invest:/{principal.sub}', cache: { ttl: 1s, share: public } }",
            "cannot depend on `{principal.sub}`",
        ),
        (
            "a: { get: 'invest:/x', cache: { ttl: 1s, share: pubic } }",
            "did you mean `public`?",
        ),
        ("a: { get: 'invest:/{each.x}' }", "`{each}` needs `each:`"),
        ("a: { get: 'invest:/x', each: b.items }", "there is no part `b`"),
        ("a: { get: 'invest:/x', each: a.items }", "`a` refers to itself"),
        (
            "a: { get: 'invest:/{b.x[0]}' }\nb: { get: 'invest:/x' }",
            "is not the way to a value",
        ),
        ("a: { get: 'invest:/x', pick: 'x[*]' }", "is not the way to one member"),
        ("a: { get: 'invest:/x', pick: '' }", "is not the way to one member"),
        ("a: { get: 'invest:/x', group: 'a b' }", "is not a name"),
        (
            "a: { get: 'invest:/x', spread: true, default: [] }",
            "its `default` is a map",
        ),
        ("a: { get: 'invest:/x', spread: [] }", "no member is named"),
        (
            "a: { get: 'invest:/x', pass_status: [200] }",
            "is not a status from 400 to 599",
        ),
        (
            "a: { get: 'invest:/x', headers: [set-cookie] }",
            "of the part's own answer",
        ),
        (
            "a: { get: 'invest:/x', headers: [content-type] }",
            "of the part's own answer",
        ),
        ("a: { get: 'invest:/x', retry: { attempts: 6 } }", "at most 5"),
        (
            "a: { get: 'invest:/x', retry: { budget: 20% } }",
            "unknown key `budget`",
        ),
        (
            "a: { get: 'invest:/x', group: b }\nb: { get: 'invest:/x' }",
            "t.yaml:2:1: two members would be called `b`\n  t.yaml:1:31: the other one",
        ),
        (
            "a: { get: 'invest:/x', spread: [b] }\nb: { get: 'invest:/x' }",
            "two members would be called `b`",
        ),
        (
            "a: { get: 'invest:/x', spread: true, default: { x: 1, b: 0 } }\nb: { get: 'invest:/x' }",
            "t.yaml:2:1: two members would be called `b`\n  t.yaml:1:55: the other one",
        ),
        (
            "a: { get: 'invest:/x', spread: true, default: { b: 0 } }\nb: { get: 'invest:/y', spread: true, default: { b: 1 } }",
            "t.yaml:2:49: two members would be called `b`\n  t.yaml:1:49: the other one",
        ),
        ("a: { get: 'invest:/x y' }", "percent-encoded"),
        ("a: { get: 'invest:/x#y' }", "percent-encoded"),
        ("a: { get: 'invest:/x', requird: true }", "did you mean `required`?"),
        ("a: { get: 'invest:/x', timeout: 0s }", "above 0"),
        (
            "a: { get: 'invest:/x', required: true, default: 1 }",
            "no use for a `default`",
        ),
        ("path: { get: 'invest:/x' }", "stands for something else"),
    ] {
        let complaint = complaint(text);
        assert!(complaint.contains(found), "{text}: {complaint}");
    }
    let text = "a: { get: 'invest:/x' }\nb: { get: 'invest:/{c.x}' }\nc: { get: 'invest:/{a.x}{b.x}' }";
    assert_eq!(
        complaint(text),
        "t.yaml:2:11: `b` waits for itself: its references go round in a circle\n  t.yaml:3:11: by way of `c`"
    );
    // Whoever waits for a circle is in none, and other mistakes hide no circle.
    let text = "d: { get: 'invest:/{b.x}' }\nb: { get: 'invest:/{c.x}' }\nc: { get: 'invest:/{b.x}/{path.idd}' }\n\
                e: { get: 'invets:/{e.x}/{path.no}' }";
    let found = compile(text).unwrap_err();
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[0].starts_with("t.yaml:2:11: `b` waits for itself"), "{found:?}");
    assert!(
        found.iter().any(|found| found.contains("`e` refers to itself")),
        "{found:?}"
    );
    let anonymous = compile_with("a: { get: 'invest:/{principal.sub}' }", false).unwrap_err();
    assert!(anonymous[0].contains("needs `auth`"));
}

#[test]
fn needs_what_its_required_parts_need() {
    let needed = |text: &str| {
        let needed = compile(text).unwrap().needed_upstreams();
        needed
            .iter()
            .map(|index| UPSTREAMS[usize::from(index.0)])
            .collect::<Vec<_>>()
    };
    let none = "{ a: { get: 'accounts:/a' }, b: { get: 'transfers:/b' } }";
    assert!(needed(none).is_empty());
    let chain =
        "{ c: { get: 'invest:/{b.x}', required: true }, b: { get: 'transfers:/{a.x}' }, a: { get: 'accounts:/a' } }";
    assert_eq!(needed(chain), ["accounts", "transfers", "invest"]);
    let back = "{ a: { get: 'accounts:/a', required: true }, b: { get: 'transfers:/{a.x}' } }";
    assert_eq!(needed(back), ["accounts"]);
}

#[test]
fn names_what_is_frozen_as_denied() {
    let text = "{ a: { get: 'accounts:/a' }, b: { get: 'transfers:/b', default: [] } }";
    let frozen = Does::Fail(CallError::Denied);
    let services = services(vec![("accounts:/a", json("1")), ("transfers:/b", frozen)]);
    let done = run(text, &ASKED, &services);
    assert_eq!(body(&done), r#"{"a":1,"b":[]}"#);
    assert_eq!(lacking(&done).as_deref(), Some("b;reason=denied"));
}
