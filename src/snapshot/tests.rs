#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn occasion() -> Occasion {
    Occasion {
        now: "2026-11-24T12:00:00+09:00".parse().unwrap(),
        at_start: false,
    }
}

fn findings(yaml: &str) -> Vec<String> {
    let load = Load::new();
    let document = load.text("t.yaml", yaml).unwrap();
    let snapshot = compile(&document, occasion(), &load);
    assert!(snapshot.is_some() || load.has_errors());
    load.into_findings(Some(&document))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_examples_compile_without_a_word() {
    for name in ["bank", "shop"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("conf")
            .join(name)
            .with_extension("yaml");
        let (snapshot, findings) = load(&path, occasion());
        assert!(findings.is_empty(), "{findings:?}");
        assert!(snapshot.unwrap().router.iter().count() > 5);
    }
}

#[test]
fn reports_all_that_is_wrong_with_routes() {
    let yaml = "\
listen: [{ address: 127.0.0.1:0 }]
upstreams: { one: { endpoints: [127.0.0.1:1] } }
limits: { flood: { key: ip, rate: 5/s } }
defaults: { limits: [flood], cors: 'off', scopes: [x] }
routes:
  a: { match: GET /a, upstream: one }
  b: { match: GET /b, auth: none, upstream: uno }
  c: { match: GET /c, auth: none }
  d: { match: GET /d, auth: none, upstream: one, redirect: { status: 308, to: / } }
  e: { match: GET /e, auth: none, upstream: one, without: [floood], deadline: 5s }
  f: { match: GET /f, auth: none, upsteam: one }
";
    assert_eq!(
        findings(yaml),
        [
            "t.yaml:4:43: unknown key `scopes`, expected one of `body`, `compress`, `cors`, `forward`, `limits`, `policies` (at `defaults.scopes`)",
            "t.yaml:6:3: route `a` does not say who may call: write `auth:`, or `auth: none` for everybody (at `routes.a`)",
            "t.yaml:7:45: unknown upstream `uno` (at `routes.b.upstream`)",
            "t.yaml:8:3: route `c` has no target: write one of upstream, aggregate, reply, redirect (at `routes.c`)",
            "t.yaml:9:60: route `d` has more than one target: upstream, redirect (at `routes.d.redirect`)",
            "t.yaml:10:60: `floood` is not among the defaults, did you mean `flood`? (at `routes.e.without[0]`)",
            "t.yaml:10:79: `deadline` stands with `aggregate`; an upstream has `timeout` (at `routes.e.deadline`)",
            "t.yaml:11:35: unknown key `upsteam`, did you mean `upstream`? (at `routes.f.upsteam`)",
        ]
    );
}

#[test]
fn defaults_come_first_and_can_be_taken_out() {
    let yaml = "\
listen: [{ address: 127.0.0.1:0 }]
limits: { flood: { key: ip, rate: 5/s }, own: { key: header.x-shop, rate: 5/s } }
defaults: { limits: [flood] }
routes:
  with: { match: GET /a, auth: none, limits: [own], reply: { status: 200, json: {} } }
  without: { match: GET /b, auth: none, without: [flood], reply: { status: 200, json: {} } }
";
    let load = Load::new();
    let document = load.text("t.yaml", yaml).unwrap();
    let snapshot = compile(&document, occasion(), &load).unwrap();
    assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&document)));
    let names = |route: &str| snapshot.route(route).unwrap().rule_names.join(" ");
    assert_eq!(
        (names("with").as_str(), names("without").as_str()),
        ("flood auth own", "auth")
    );
    assert_eq!(snapshot.unrouted_names.join(" "), "flood");
}

#[test]
fn refuses_a_public_cache_of_answers_that_depend_on_the_caller() {
    let yaml = "\
listen: [{ address: 127.0.0.1:0 }]
upstreams: { one: { endpoints: [127.0.0.1:1] } }
authenticators: { a: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover } } }
routes:
  a: { match: GET /a, auth: a, upstream: one, forward: { x-user: principal.sub }, cache: { share: public } }
";
    let found = findings(yaml);
    assert!(
        found.len() == 1 && found[0].contains("cannot depend on the caller"),
        "{found:?}"
    );
}

#[test]
fn the_hash_follows_every_byte_of_every_file() {
    let id = |yaml: &str| {
        let load = Load::new();
        let document = load.text("t.yaml", yaml).unwrap();
        compile(&document, occasion(), &load).unwrap().id
    };
    let one = id("listen: [{ address: 127.0.0.1:0 }]");
    assert_eq!(one, id("listen: [{ address: 127.0.0.1:0 }]"));
    assert_ne!(one, id("listen: [{ address: 127.0.0.1:1 }]"));
    assert_eq!(one.len(), 64);
}
