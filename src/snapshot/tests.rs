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
  g: { mach: GET /g, auth: none, reply: { status: 200, jsn: {} } }
  h: { math: GET /h, aut: x, aggregate: { p: { get: 'one:/{path.id}', tiemout: 1s } } }
";
    assert_eq!(
        findings(yaml),
        [
            "t.yaml:4:43: unknown key `scopes`, expected one of `body`, `compress`, `cors`, `errors`, `forward`, `limits`, `policies` (at `defaults.scopes`)",
            "t.yaml:6:3: route `a` does not say who may call: write `auth:`, or `auth: none` for everybody (at `routes.a`)",
            "t.yaml:7:45: unknown upstream `uno` (at `routes.b.upstream`)",
            "t.yaml:8:3: route `c` has no target: write one of upstream, aggregate, reply, redirect (at `routes.c`)",
            "t.yaml:9:60: route `d` has more than one target: upstream, redirect (at `routes.d.redirect`)",
            "t.yaml:10:60: `floood` is not among the defaults, did you mean `flood`? (at `routes.e.without[0]`)",
            "t.yaml:10:79: `deadline` stands with `aggregate`; an upstream has `timeout` (at `routes.e.deadline`)",
            "t.yaml:11:35: unknown key `upsteam`, did you mean `upstream`? (at `routes.f.upsteam`)",
            "t.yaml:12:8: unknown key `mach`, did you mean `match`? (at `routes.g.mach`)",
            "t.yaml:12:56: unknown key `jsn`, did you mean `json`? (at `routes.g.reply.jsn`)",
            "t.yaml:13:8: unknown key `math`, did you mean `match`? (at `routes.h.math`)",
            "t.yaml:13:22: unknown key `aut`, did you mean `auth`? (at `routes.h.aut`)",
            "t.yaml:13:27: unknown authenticator `x` (at `routes.h.aut`)",
            "t.yaml:13:53: unknown path parameter `id` (at `routes.h.aggregate.p.get`)",
            "t.yaml:13:71: unknown key `tiemout`, did you mean `timeout`? (at `routes.h.aggregate.p.tiemout`)",
        ]
    );
}

#[test]
fn finds_sockets_that_nobody_could_open() {
    let yaml = "\
listen: [{ address: 127.0.0.1:0 }]
upstreams: { one: { endpoints: [127.0.0.1:1] }, two: { endpoints: [127.0.0.1:2], protocol: http2 } }
limits: { some: { key: ip, rate: 5/s } }
routes:
  a: { match: POST /a, auth: none, limits: [some], upstream: one, websocket: true }
  b: { match: GET /b, auth: none, upstream: two, websocket: true }
  c: { match: GET /c, auth: none, reply: { status: 200, json: {} }, websocket: true }
  d: { match: GET /d, auth: none, upstream: one, websocket: yes }
  e: { match: GET /e, auth: none, upstream: two, websocket: false }
  f: { match: GET /f, auth: none, upstream: one, websockets: true }
";
    assert_eq!(
        findings(yaml),
        [
            "t.yaml:5:78: a socket is opened by GET, which this route does not match (at `routes.a.websocket`)",
            "t.yaml:6:61: sockets are opened over HTTP/1.1 alone (at `routes.b.websocket`)\n  t.yaml:6:45: this upstream speaks HTTP/2",
            "t.yaml:7:80: `websocket` opens nothing here: it stands with `upstream`, not with `reply` (at `routes.c.websocket`)",
            "t.yaml:8:61: `yes` is neither `true` nor `false`; write `true` (at `routes.d.websocket`)",
            "t.yaml:10:50: unknown key `websockets`, did you mean `websocket`? (at `routes.f.websockets`)",
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
        ("flood auth freeze own", "auth freeze")
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
fn refuses_stored_answers_that_would_not_be_what_the_file_says() {
    let of = |route: &str| {
        findings(&format!(
            "\
listen: [{{ address: 127.0.0.1:0 }}]
upstreams: {{ one: {{ endpoints: [127.0.0.1:1] }} }}
authenticators: {{ a: {{ jwt: {{ issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover }} }} }}
routes:
  a: {{ match: GET /a, {route} }}
  b: {{ match: GET /b, auth: a, upstream: one }}
"
        ))
    };
    let rename = "request: { headers: { rename: { x-lang: accept-language } } }";
    for (route, complaint) in [
        (
            &*format!("auth: none, upstream: one, cache: {{ ttl: 1s }}, {rename}"),
            "a stored answer cannot depend on a header",
        ),
        (
            &*format!("auth: a, upstream: one, cache: {{ share: principal }}, {rename}"),
            "a stored answer cannot depend on a header",
        ),
        (
            "auth: none, upstream: one, cache: { ttl: 1s }, forward: { authorization: keep }",
            "is asked for without a credential",
        ),
        (
            "auth: a, upstream: one, cache: { share: public }, forward: { authorization: keep }",
            "is asked for without a credential",
        ),
        (
            "auth: none, cache: { ttl: 1s }, reply: { status: 200, json: 1 }",
            "`cache` changes nothing here: it stands with `upstream`, not with `reply`",
        ),
    ] {
        let found = of(route);
        assert!(found.len() == 1 && found[0].contains(complaint), "{route}: {found:?}");
    }
    for route in [
        "auth: none, upstream: one, cache: { ttl: 1s }, request: { query: { rename: { q: search } }, headers: { drop: [x-a] } }",
        "auth: a, upstream: one, cache: { share: principal }, forward: { authorization: keep }",
        "auth: a, upstream: one, cache: { share: public }, forward: { authorization: drop }",
    ] {
        assert!(of(route).is_empty(), "{route}: {:?}", of(route));
    }
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

mod examples {
    //! The YAML in the heads of modules is what users read first: it is compiled as it stands.

    use std::path::PathBuf;

    use serde_yaml::{Mapping, Value};

    use super::*;

    const BASE: &str = "
listen: [{ address: 127.0.0.1:0 }]
upstreams:
  accounts: { endpoints: [127.0.0.1:1] }
  transfers: { endpoints: [127.0.0.1:2] }
authenticators:
  customer: { jwt: { issuer: https://id.example, audience: x, algorithms: [RS256], jwks: discover } }
clients: { ios: { header: { x-client: ios } }, android: { header: { x-client: android } }, web: { default: true } }
calendars:
  seoul:
    timezone: Asia/Seoul
    windows: { night: [{ days: daily, hours: 23:30-05:00 }], trading: [{ days: mon-fri }], upkeep: [{ days: 3rd sun }] }
shapes: { compact: { drop: [x] } }
";

    /// What tests speak of.
    const TESTED: &str = "
policies: { no-night-transfer: { deny: { during: seoul.night } } }
limits: { per-customer: { key: principal.sub, rate: 20/s } }
routes: { transfer: { match: POST /transfers, policies: [no-night-transfer], limits: [per-customer] } }
";

    fn sources(folder: PathBuf) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let deeper = |path: PathBuf| if path.is_dir() { sources(path) } else { vec![path] };
        entries
            .flat_map(deeper)
            .filter(|path| path.extension().is_some_and(|kind| kind == "rs"))
            .collect()
    }

    fn blocks(text: &str) -> Vec<String> {
        let head = text.lines().take_while(|line| line.starts_with("//!"));
        let head: Vec<&str> = head.map(|line| line.strip_prefix("//! ").unwrap_or("")).collect();
        let head = head.join("\n");
        head.split("```yaml\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap().to_owned())
            .collect()
    }

    /// A block may show one key in several ways, each on a line of its own.
    fn readings(block: &str) -> Vec<Mapping> {
        match serde_yaml::from_str(block) {
            Ok(whole) => vec![whole],
            Err(_) => block
                .trim()
                .lines()
                .map(|line| serde_yaml::from_str(line).unwrap())
                .collect(),
        }
    }

    fn nested(keys: &[&str], value: Value) -> Mapping {
        let (last, outer) = keys.split_last().unwrap();
        let inner = Mapping::from_iter([(Value::from(*last), value)]);
        outer.iter().rev().fold(inner, |inner, key| {
            Mapping::from_iter([(Value::from(*key), inner.into())])
        })
    }

    /// The document that an example belongs into.
    fn document(file: &str, example: Mapping) -> Mapping {
        let mut document: Mapping = serde_yaml::from_str(BASE).unwrap();
        let section = |key: &str| {
            [
                "routes",
                "policies",
                "limits",
                "bounds",
                "anomalies",
                "audit",
                "admin",
                "tests",
                "passport",
            ]
            .contains(&key)
        };
        let whole = example
            .keys()
            .all(|key| document.contains_key(key) || section(key.as_str().unwrap()));
        let example = match file {
            "condition.rs" => nested(&["policies", "example", "require"], example.into()),
            "login.rs" => nested(&["policies", "example"], example.into()),
            "reply.rs" => {
                let mut policy = example;
                policy.insert("deny".into(), nested(&["methods"], "POST".into()).into());
                nested(&["policies", "example"], policy.into())
            }
            _ if whole => example,
            _ => nested(&["routes", "example"], example.into()),
        };
        if example.contains_key("tests") {
            document.extend(serde_yaml::from_str::<Mapping>(TESTED).unwrap());
        }
        document.extend(example);
        let Some(Value::Mapping(routes)) = document.get_mut("routes") else {
            return document;
        };
        for (name, route) in routes.iter_mut() {
            let Value::Mapping(route) = route else {
                panic!("{name:?}")
            };
            let mut fill = |key: &str, value: Value| {
                if !route.contains_key(key) {
                    route.insert(key.into(), value);
                }
            };
            fill("match", format!("GET /{}", name.as_str().unwrap()).into());
            fill("auth", if file == "mod.rs" { "none" } else { "customer" }.into());
            if !["aggregate", "reply", "redirect"]
                .iter()
                .any(|target| route.contains_key(*target))
            {
                route.insert("upstream".into(), "accounts".into());
            }
            if route.contains_key("aggregate") {
                route.insert("auth".into(), "customer".into());
            }
        }
        document
    }

    /// A copy of `conf/`, with the certificates and the file of API keys that the examples name.
    fn conf() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        std::fs::write(folder.path().join("partners.yaml"), "[]").unwrap();
        let certs = folder.path().join("certs");
        std::fs::create_dir(&certs).unwrap();
        for name in ["bank", "shop", "partners-ca", "machines-ca", "internal-ca", "gate"] {
            let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
            std::fs::write(certs.join(name).with_extension("pem"), made.cert.pem()).unwrap();
            std::fs::write(certs.join(name).with_extension("key"), made.signing_key.serialize_pem()).unwrap();
        }
        folder
    }

    #[test]
    fn in_module_heads_compile() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let conf = conf();
        let mut seen = 0;
        for path in sources(root.join("src")) {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            for block in blocks(&std::fs::read_to_string(&path).unwrap()) {
                let folder = tempfile::tempdir().unwrap();
                let block = if file == "holidays.rs" {
                    std::fs::write(folder.path().join("days.yaml"), block).unwrap();
                    let windows = "{ w: [{ days: holidays }] }";
                    let days = folder.path().join("days.yaml");
                    format!(
                        "calendars: {{ x: {{ timezone: Asia/Seoul, holidays: {}, windows: {windows} }} }}",
                        days.display()
                    )
                } else {
                    block
                };
                for example in readings(&block) {
                    let text = serde_yaml::to_string(&document(&file, example)).unwrap();
                    let load = Load::new();
                    let place = conf.path().join("example.yaml");
                    let node = load.text(place.to_str().unwrap(), &text).unwrap();
                    compile(&node, occasion(), &load);
                    let has_errors = load.has_errors();
                    let found: Vec<String> = load
                        .into_findings(Some(&node))
                        .iter()
                        .map(ToString::to_string)
                        .collect();
                    assert!(!has_errors, "{}: {found:#?}\n{text}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen >= 20, "{seen} examples");
    }
}

#[test]
fn warns_of_policies_about_other_methods_than_the_routes() {
    let yaml = "\
listen: [{ address: 127.0.0.1:0 }]
policies:
  delete: { deny: { methods: [PUT, DELETE], ip: 10.0.0.0/8 } }
  put: { require: { methods: PUT }, unless: { methods: POST } }
  read: { require: { ip: 10.0.0.0/8 }, when: { methods: GET } }
  some: { deny: { methods: [GET, DELETE] }, unless: { methods: PUT } }
  all: { deny: { ip: 10.0.0.0/8 }, unless: { methods: PUT } }
defaults: { policies: [delete] }
routes:
  get: { match: GET /a, auth: none, policies: [delete, put, read, some, all], reply: { status: 200 } }
  post: { match: 'POST,HEAD /a', auth: none, policies: [put, read], reply: { status: 200 } }
  inherited: { match: GET /b, auth: none, reply: { status: 200 } }
  any: { match: { path: /c }, auth: none, policies: [delete, put, read, some, all], reply: { status: 200 } }
";
    let takes = |column: usize, method: &str| format!("\n  t.yaml:{method}:{column}: the route takes none of them");
    let first = takes(17, "10");
    assert_eq!(
        findings(yaml),
        [
            format!(
                "t.yaml:10:48: warning: `delete` can never refuse on route `get`, by its methods (at `routes.get.policies[0]`){first}"
            ),
            format!(
                "t.yaml:10:56: warning: `put` refuses every request on route `get`, by its methods (at `routes.get.policies[1]`){first}"
            ),
        ]
    );
}
