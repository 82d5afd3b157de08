//! Callers known by API keys: who they are, what they may, and where their keys never go.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Request, Upstream, fill};

const ADMIN: &str = "0123456789abcdef0123456789abcdef-not-a-secret";
const NOON: &str = "2026-11-24T12:00:00+09:00";

const SHOP: &str = "
admin: { address: 127.0.0.1:0, token: '%{env:GWANMUN_ADMIN_TOKEN}' }
state: state
upstreams:
  origin: { endpoints: [$upstream] }
authenticators:
  partners: { api_key: { keys: partners.list } }
  asked: { api_key: { from: { header: x-shop-key, query: key }, keys: partners.list } }
  customer:
    jwt: { issuer: $issuer, audience: mobile-bank, algorithms: ES256, jwks: discover, typ: at+jwt }
  carried:
    jwt: { issuer: $issuer, audience: mobile-bank, algorithms: ES256, jwks: discover, from: { cookie: token } }
policies:
  partners-only: { require: { roles: [partner] } }
  gold-only: { require: { claims: { tier: gold } } }
  own: { require: { if: 'claims.sub == path.who' } }
routes:
  orders: { match: 'GET,POST /orders', auth: partners, forward: { x-user: principal.sub, x-roles: principal.roles }, upstream: origin }
  kept: { match: GET /kept, auth: partners, forward: { authorization: keep }, upstream: origin }
  kept-parts: { match: GET /kept-parts, auth: partners, forward: { authorization: keep }, aggregate: { own: { get: 'origin:/own' }, routed: { get: /kept }, orders: { get: /orders } } }
  kept-asked: { match: GET /kept-asked, auth: asked, forward: { authorization: keep }, upstream: origin }
  write: { match: POST /write, auth: partners, scopes: [order:write], upstream: origin }
  gold: { match: GET /gold, auth: partners, policies: [partners-only, gold-only], upstream: origin }
  own: { match: 'GET /of/{who}', auth: partners, policies: [own], upstream: origin }
  asked: { match: GET /asked, auth: [asked, none], forward: { x-user: principal.sub }, upstream: origin }
  key-first: { match: GET /key-first, auth: [partners, customer, carried], forward: { x-user: principal.sub }, upstream: origin }
  token-first: { match: GET /token-first, auth: [customer, carried, partners, none], forward: { x-user: principal.sub }, upstream: origin }
  two: { match: GET /two, auth: [partners, asked], forward: { x-user: principal.sub }, upstream: origin }
  open: { match: GET /open, auth: none, upstream: origin }
  stored: { match: GET /stored, auth: partners, cache: { ttl: 1h, share: principal }, upstream: origin }
";

fn gwanmun(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command.current_dir(folder).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the gateway's binary runs");
    // Whoever does not read its input has closed it.
    let _ = child.stdin.take().expect("its input").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// A new key with its line.
fn made(arguments: &[&str]) -> (String, String) {
    let all = [&["hash-key"][..], arguments].concat();
    let output = gwanmun(Path::new("."), &all, b"");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let [key, line] = lines[..] else { panic!("{text}") };
    (key.to_owned(), format!("{line}\n"))
}

struct Shop {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
    acme: String,
    gold: String,
    ended: String,
    /// The lines of all three.
    lines: String,
}

impl Shop {
    fn open() -> Self {
        let upstream = Upstream::http1(|seen| {
            let user = seen.header("x-user").unwrap_or("nobody");
            Reply::json(&json!({"user": user, "target": seen.target}))
        });
        let issuer = Issuer::new();
        let (acme, first) = made(&["--subject", "acme", "--role", "partner", "--scope", "order:read"]);
        let (gold, second) = made(&["--subject", "gold & co", "--role", "partner", "--scope", "order:write"]);
        let second = second.replace(" }\n", ", claims: { tier: gold } }\n");
        let (ended, third) = made(&["--subject", "old", "--expires", "2026-11-24T11:00+09:00"]);
        let lines = format!("{first}{second}{third}");
        let yaml = fill(SHOP, &[("upstream", &upstream.address()), ("issuer", &issuer.url())]).replace("%{", "${");
        let gateway = Gateway::with(&yaml)
            .file("partners.list", &lines)
            .environment("GWANMUN_ADMIN_TOKEN", ADMIN)
            .rehearse_at(NOON)
            .start();
        Self {
            gateway,
            issuer,
            upstream,
            acme,
            gold,
            ended,
            lines,
        }
    }

    fn get(&self, path: &str, key: &str) -> Request {
        self.gateway.get(path).header("x-api-key", key)
    }

    fn user(&self, request: &Request) -> String {
        request.send().expect(200).json()["user"].as_str().unwrap().to_owned()
    }

    /// All that it ever wrote, on its way out.
    fn written(self) -> (String, Vec<Value>) {
        let log = self.gateway.log();
        (log, self.gateway.stop())
    }
}

#[test]
fn says_who_calls_and_keeps_the_key_to_itself() {
    let shop = Shop::open();
    let response = shop.get("/orders?a=1", &shop.acme).send();
    assert_eq!(response.expect(200).list("cache-control"), ["private"]);
    let seen = shop.upstream.last();
    assert_eq!(
        (seen.header("x-user"), seen.header("x-roles")),
        (Some("acme"), Some("partner"))
    );
    assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (None, None));
    // A name has no case, a key has.
    shop.gateway
        .get("/orders")
        .header("X-API-Key", &shop.acme)
        .send()
        .expect(200);
    shop.get("/orders", &shop.acme.to_uppercase())
        .send()
        .expect_problem(401, "key-unknown");
    let unscoped = shop.gateway.post("/write").header("x-api-key", &shop.acme).send();
    unscoped.expect_problem(403, "scope-missing");
    assert_eq!(unscoped.header("www-authenticate"), None);
    shop.gateway
        .post("/write")
        .header("x-api-key", &shop.gold)
        .send()
        .expect(200);
    shop.get("/gold", &shop.gold).send().expect(200);
    shop.get("/gold", &shop.acme).send().expect(403);
    shop.get("/of/acme", &shop.acme).send().expect(200);
    shop.get("/of/acme", &shop.gold).send().expect(403);
    // No other route's upstream sees it either.
    shop.get("/open", &shop.acme).send().expect(200);
    assert_eq!(shop.upstream.last().header("x-api-key"), None);
    // Where that is said in so many words, the upstream does.
    shop.get("/kept", &shop.acme).send().expect(200);
    assert_eq!(shop.upstream.last().header("x-api-key"), Some(&*shop.acme));
    // So do those of the parts of an aggregate, each as its own route says.
    shop.get("/kept-parts", &shop.acme).send().expect(200);
    let shown = |path: &str| {
        let seen = shop
            .upstream
            .seen()
            .into_iter()
            .rfind(|seen| seen.path() == path)
            .unwrap();
        let shown = ["x-api-key", "authorization"].map(|name| seen.header(name).map(str::to_owned));
        (shown[0] == Some(shop.acme.clone()), shown[1].clone())
    };
    let seen = ["/own", "/kept", "/orders"].map(shown);
    assert_eq!(seen, [(true, None), (true, None), (false, None)]);

    let (keys, prefix) = ([shop.acme.clone(), shop.gold.clone()], shop.acme[..12].to_owned());
    let (log, records) = shop.written();
    let calls: Vec<&Value> = records
        .iter()
        .filter(|record| record["principal"]["sub"] == "acme")
        .collect();
    assert!(!calls.is_empty());
    assert!(
        calls
            .iter()
            .all(|record| record["principal"]["jti"] == prefix && record["credential"] == "key")
    );
    for key in keys {
        let text = records.iter().map(ToString::to_string).collect::<String>();
        assert!(!log.contains(&key[12..]) && !text.contains(&key[12..]));
    }
}

#[test]
fn refuses_every_key_that_is_none_of_its_own() {
    let shop = Shop::open();
    let missing = shop.gateway.get("/orders").send();
    missing.expect_problem(401, "key-missing");
    assert_eq!(missing.header("www-authenticate"), Some("ApiKey realm=\"gwanmun\""));
    let mut nearly = shop.acme.clone();
    let last = nearly.pop();
    nearly.push(if last == Some('A') { 'B' } else { 'A' });
    let long = "k".repeat(513);
    let cases = [
        (nearly.as_str(), "key-unknown"),
        (&shop.acme[..46], "key-unknown"),
        (&shop.acme[..12], "key-unknown"),
        (shop.ended.as_str(), "key-expired"),
        ("null", "key-unknown"),
        ("sha256:0000", "key-unknown"),
        (&long[1..], "key-unknown"),
        ("", "credential-unreadable"),
        (&long, "credential-unreadable"),
        ("a key", "credential-unreadable"),
        ("k\u{e9}y", "credential-unreadable"),
        ("키", "credential-unreadable"),
    ];
    for (key, code) in cases {
        let response = shop.get("/orders", key).send();
        let problem = response.expect_problem(401, code);
        assert_eq!(
            response.header("www-authenticate"),
            Some("ApiKey realm=\"gwanmun\""),
            "{key}"
        );
        assert!(key.len() < 8 || !problem.to_string().contains(&key[..8]), "{problem}");
    }
    let twice = shop.get("/orders", &shop.acme).header("x-api-key", &shop.acme).send();
    twice.expect_problem(401, "credential-unreadable");
    let joined = format!("{},{}", shop.acme, shop.acme);
    shop.get("/orders", &joined).send().expect_problem(401, "key-unknown");
    let scheme = format!("ApiKey {}", shop.acme);
    shop.gateway
        .get("/orders")
        .header("authorization", &scheme)
        .send()
        .expect_problem(401, "credential-unreadable");
    shop.gateway
        .get("/orders")
        .bearer(&shop.acme)
        .send()
        .expect_problem(401, "credential-unreadable");
    shop.gateway
        .get("/orders")
        .header("x_api_key", &shop.acme)
        .send()
        .expect_problem(401, "key-missing");
    // What has nothing to do with keys is refused before it could be dropped.
    shop.get("/orders", &shop.acme)
        .bearer("x")
        .send()
        .expect_problem(401, "credential-unreadable");
    assert_eq!(shop.upstream.count(), 0);
    let (acme, (log, records)) = (shop.acme.clone(), shop.written());
    assert!(!log.contains(&acme[12..]));
    assert!(records.iter().all(|record| !record.to_string().contains(&acme[12..])));
    let claimed = records.iter().filter_map(|record| record["claimed_sub"].as_str());
    let mut guesses: std::collections::HashSet<&str> = claimed.collect();
    // The one that had been good: whose it was.
    assert!(guesses.remove("old"), "{guesses:?}");
    assert!(
        guesses.len() >= 5
            && guesses
                .iter()
                .all(|guess| guess.starts_with("sha256:") && guess.len() == 19),
        "{guesses:?}"
    );
}

#[test]
fn takes_a_key_from_the_query_only_where_it_is_told_to() {
    let shop = Shop::open();
    shop.gateway
        .get(&format!("/orders?x-api-key={}", shop.acme))
        .send()
        .expect_problem(401, "key-missing");
    let by_query = shop.gateway.get(&format!("/asked?a=1&key={}&b=2", shop.acme));
    assert_eq!(shop.user(&by_query), "acme");
    assert_eq!(shop.upstream.last().target, "/asked?a=1&b=2");
    assert_eq!(
        shop.user(&shop.gateway.get("/asked").header("x-shop-key", &shop.acme)),
        "acme"
    );
    assert_eq!(shop.user(&shop.gateway.get("/asked")), "nobody");
    // Another authenticator's header is no credential here.
    assert_eq!(shop.user(&shop.get("/asked", &shop.acme)), "nobody");
    let both = format!("/asked?key={}", shop.acme);
    let both = shop.gateway.get(&both).header("x-shop-key", &shop.acme).send();
    both.expect_problem(401, "credential-unreadable");
    let twice = format!("/asked?key={}&%6bey={}", shop.acme, shop.acme);
    shop.gateway
        .get(&twice)
        .send()
        .expect_problem(401, "credential-unreadable");
    shop.gateway
        .get("/asked?key=")
        .send()
        .expect_problem(401, "credential-unreadable");
    // It never goes on.
    shop.gateway
        .get(&format!("/kept-asked?key={}", shop.acme))
        .send()
        .expect(200);
    assert_eq!(
        (shop.upstream.last().header("x-shop-key"), &*shop.upstream.last().target),
        (None, "/kept-asked")
    );
    let acme = shop.acme.clone();
    let (log, records) = shop.written();
    assert!(!log.contains(&acme[12..]) && records.iter().all(|record| !record.to_string().contains(&acme[12..])));
}

#[test]
fn the_order_says_which_of_two_credentials_counts() {
    let shop = Shop::open();
    let token = shop.issuer.token(&json!({"sub": "u1", "exp": 1_795_500_000}));
    let both = |path: &str, key: &str, token: &str| shop.get(path, key).bearer(token);
    assert_eq!(shop.user(&both("/key-first", &shop.acme, &token)), "acme");
    // A token that nobody looked at is not passed on as if somebody had.
    assert_eq!(shop.upstream.last().header("authorization"), None);
    assert_eq!(shop.user(&both("/token-first", &shop.acme, &token)), "u1");
    assert_eq!(
        shop.upstream.last().header("authorization"),
        Some(&*format!("Bearer {token}"))
    );
    assert_eq!(shop.upstream.last().header("x-api-key"), None);
    // The first that is there decides, and where it refuses nobody else is asked.
    both("/key-first", "nobody's", &token)
        .send()
        .expect_problem(401, "key-unknown");
    both("/token-first", &shop.acme, "x.y.z")
        .send()
        .expect_problem(401, "token-malformed");
    assert_eq!(shop.user(&both("/key-first", &shop.acme, "x.y.z")), "acme");
    assert_eq!(shop.user(&shop.gateway.get("/key-first").bearer(&token)), "u1");
    assert_eq!(shop.user(&shop.get("/token-first", &shop.acme)), "acme");
    assert_eq!(shop.user(&shop.gateway.get("/token-first")), "nobody");
    // A cookie comes along by itself.
    let plain = shop
        .issuer
        .token_with(&json!({"typ": "JWT"}), &json!({"sub": "u2", "exp": 1_795_500_000}));
    let cookie = format!("token={plain}");
    for path in ["/key-first", "/token-first"] {
        assert_eq!(shop.user(&shop.get(path, &shop.acme).header("cookie", &cookie)), "acme");
        assert_eq!(shop.upstream.last().header("cookie"), None);
        assert_eq!(shop.user(&shop.gateway.get(path).header("cookie", &cookie)), "u2");
    }
    // Each header is a kind of its own.
    assert_eq!(
        shop.user(&shop.get("/two", &shop.acme).header("x-shop-key", &shop.gold)),
        "acme"
    );
    assert_eq!(
        shop.user(&shop.gateway.get("/two").header("x-shop-key", &shop.gold)),
        "gold & co"
    );
    let beside = format!("/two?key={}", shop.gold);
    shop.get(&beside, &shop.acme)
        .send()
        .expect_problem(401, "credential-unreadable");
    let missing = shop.gateway.get("/key-first").send();
    missing.expect_problem(401, "token-missing");
    assert_eq!(
        missing.header("www-authenticate"),
        Some("Bearer realm=\"gwanmun\", ApiKey realm=\"gwanmun\"")
    );
}

#[test]
fn one_callers_answer_is_not_anothers() {
    let shop = Shop::open();
    shop.upstream
        .answer_with(|seen| Reply::text(seen.headers("x-request-id").join("")));
    let get = |key: &str| shop.get("/stored", key).send().expect(200).text();
    let (acme, gold) = (get(&shop.acme), get(&shop.gold));
    assert_ne!(acme, gold);
    assert_eq!((get(&shop.acme), get(&shop.gold)), (acme, gold));
    assert_eq!(shop.upstream.count(), 2);
    shop.gateway.get("/stored").send().expect_problem(401, "key-missing");
    shop.get("/stored", &shop.ended)
        .send()
        .expect_problem(401, "key-expired");
}

#[test]
fn follows_the_file_of_keys_and_its_clock() {
    let shop = Shop::open();
    let at = |instant: &str| shop.get("/orders", &shop.ended).at(instant).send();
    at("2026-11-24T10:59:59+09:00").expect(200);
    at("2026-11-24T11:00:00+09:00").expect_problem(401, "key-expired");
    let (new, line) = made(&["--subject", "acme", "--role", "partner"]);
    shop.get("/orders", &new).send().expect_problem(401, "key-unknown");
    let before = shop.gateway.admin("GET", "/status").bearer(ADMIN).send().json()["config"].clone();
    // Both are good while the caller changes over.
    assert!(
        shop.gateway
            .reload_beside("partners.list", &format!("{}{line}", shop.lines))
    );
    for key in [&new, &shop.acme] {
        assert_eq!(shop.user(&shop.get("/orders", key)), "acme");
    }
    let after = shop.gateway.admin("GET", "/status").bearer(ADMIN).send().json()["config"].clone();
    assert_ne!(before, after);
    let without: String = shop.lines.split_inclusive('\n').skip(1).collect();
    assert!(shop.gateway.reload_beside("partners.list", &format!("{without}{line}")));
    shop.get("/orders", &shop.acme)
        .send()
        .expect_problem(401, "key-unknown");
    assert_eq!(shop.user(&shop.get("/orders", &new)), "acme");
    let counted = |name: &str| {
        shop.gateway
            .metrics()
            .value("gwanmun_api_keys", &[("authenticator", name)])
    };
    assert_eq!((counted("partners"), counted("customer")), (Some(3.0), None));
    // A file with a mistake changes nothing, and the log does not repeat what may be a key.
    assert!(
        !shop
            .gateway
            .reload_beside("partners.list", &format!("- {{ hash: {new}, subject: x }}\n"))
    );
    assert_eq!(shop.user(&shop.get("/orders", &new)), "acme");
    assert!(!shop.gateway.log().contains(&new[12..]), "{}", shop.gateway.log());
}

#[test]
fn a_revoked_caller_and_a_revoked_key_are_out() {
    let shop = Shop::open();
    let (second, line) = made(&["--subject", "acme"]);
    assert!(
        shop.gateway
            .reload_beside("partners.list", &format!("{}{line}", shop.lines))
    );
    let order = |order: Value| {
        let asked = shop.gateway.admin("POST", "/revocations").bearer(ADMIN);
        asked.body(order.to_string()).send().expect(200);
    };
    let get = |key: &str| shop.get("/orders", key).send();
    get(&shop.acme).expect(200);
    order(json!({"jti": &shop.acme[..12], "authenticator": "partners"}));
    let revoked = get(&shop.acme);
    revoked.expect_problem(401, "token-revoked");
    assert_eq!(revoked.header("www-authenticate"), Some("ApiKey realm=\"gwanmun\""));
    get(&second).expect(200);
    order(json!({"subject": "acme", "authenticator": "partners"}));
    get(&second).expect_problem(401, "token-revoked");
    get(&shop.gold).expect(200);
    order(json!({"authenticator": "partners", "issued_before": NOON}));
    get(&shop.gold).expect_problem(401, "token-revoked");
}

#[test]
fn is_explained_and_tried_without_a_key() {
    let shop = Shop::open();
    let (folder, caller) = (
        tempfile::tempdir().unwrap(),
        "{\"sub\": \"acme\", \"roles\": [\"partner\"]}",
    );
    let yaml = fill(
        SHOP,
        &[("upstream", &shop.upstream.address()), ("issuer", &shop.issuer.url())],
    )
    .replace("%{", "${");
    let tests = "
tests:
  - { at: 2026-11-24T12:00+09:00, as: { sub: acme, roles: partner, tier: gold }, request: GET /gold, expect: allow }
  - { at: 2026-11-24T12:00+09:00, as: { sub: acme, roles: partner }, request: GET /gold, expect: { status: 403, policy: gold-only } }
  - { at: 2026-11-24T12:00+09:00, as: { sub: acme }, via: partners, request: GET /token-first, expect: allow }
  - { at: 2026-11-24T12:00+09:00, as: { sub: acme }, via: asked, request: GET /orders, expect: { status: 401, code: key-missing } }
  - { at: 2026-11-24T12:00+09:00, as: { sub: u1 }, via: carried, request: GET /key-first, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: GET /orders, expect: { status: 401, code: key-missing } }
";
    let yaml = format!("listen: [{{ address: 127.0.0.1:0 }}]\n{yaml}{tests}");
    for (name, text) in [
        ("t.yaml", yaml.as_str()),
        ("partners.list", &shop.lines),
        ("acme.json", caller),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let run = |arguments: &[&str]| {
        let output = gwanmun(folder.path(), arguments, b"");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run(&["check", "t.yaml"]);
    assert_eq!(code, Some(0), "{said}");
    let at = ["--at", NOON, "--as", "acme.json"];
    let (code, said) = run(&[&["explain", "t.yaml", "GET /orders"], &at[..]].concat());
    assert!(
        code == Some(0) && said.contains("`partners` says that `acme` calls"),
        "{said}"
    );
    let (code, said) = run(&[&["explain", "t.yaml", "GET /token-first", "--via", "partners"], &at[..]].concat());
    assert!(
        code == Some(0) && said.contains("`partners` says that `acme` calls"),
        "{said}"
    );
    let header = ["--header", "x-api-key: secret"];
    let (code, said) = run(&[&["explain", "t.yaml", "GET /orders", "--at", NOON], &header[..]].concat());
    assert!(code == Some(2) && !said.contains("secret"), "{said}");

    // What was decided is decided again.
    shop.get("/orders", &shop.acme).send().expect(200);
    let record = shop.gateway.records(1)[0].clone();
    let id = record["id"].as_str().unwrap();
    let log = shop.gateway.records_folder();
    assert_eq!(record["answers"][0]["principal"], true, "{record}");
    assert!(!id.is_empty() && log.exists());
}

#[test]
fn makes_keys_and_the_lines_of_given_ones() {
    let run = |arguments: &[&str], input: &[u8]| {
        let output = gwanmun(Path::new("."), &[&["hash-key"], arguments].concat(), input);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, told, said) = run(&[], b"");
    assert!(code == Some(0) && said.is_empty());
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines.len() == 4 && lines[0].starts_with("# ") && lines[2].starts_with("# "),
        "{told}"
    );
    let (key, line) = (lines[1], lines[3]);
    let hashed = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let hex: String = hashed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let prefix = &key[..12];
    assert_eq!(
        line,
        format!("- {{ hash: sha256:{hex}, prefix: {prefix}, subject: {prefix} }}")
    );

    let given = b"3f9a1c7be02d4856a1f7c09b8e6d25340f1e2d3c\n";
    let (code, told, _) = run(
        &["--stdin", "--subject", "a b", "--expires", "2027-01-01T00:00Z"],
        given,
    );
    assert!(
        code == Some(0) && told.lines().count() == 1 && !told.contains("8e6d2534"),
        "{told}"
    );
    assert!(
        told.contains("prefix: 3f9a1c7b, subject: \"a b\", expires: 2027-01-01T00:00Z }"),
        "{told}"
    );
    assert!(told.starts_with("- { hash: sha256:"));
    let (_, told, _) = run(&["--json", "--stdin"], given);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(
        told.get("key").is_none() && told["line"]["prefix"] == "3f9a1c7b",
        "{told}"
    );
    let (_, told, _) = run(&["--json", "--role", "a"], b"");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["key"].as_str().unwrap().starts_with("gwk_") && told["line"]["roles"] == json!(["a"]));

    for (input, why) in [
        (&b"hunter2hunter2\n"[..], "can be guessed"),
        (
            b"correct horse battery staple and then some more words",
            "cannot be sent",
        ),
        (b"correct-horse-battery-staple-and-then-some", "looks like words"),
        (b"", "cannot be sent"),
        (b"\xff\xfe3f9a1c7be02d4856a1f7c09b8e6d2534", "it is no text"),
        (
            b"3f9a1c7be02d4856a1f7c09b8e6d2534\n3f9a1c7be02d4856a1f7c09b8e6d2534\n",
            "cannot be sent",
        ),
    ] {
        let (code, told, said) = run(&["--stdin"], input);
        assert!(code == Some(2) && told.is_empty() && said.contains(why), "{said}");
        assert!(
            !said.contains("hunter2") && !said.contains("3f9a") && !said.contains("horse"),
            "{said}"
        );
    }
    let (code, _, said) = run(&["--expires", "tomorrow"], b"");
    assert!(code == Some(2) && said.contains("tomorrow"), "{said}");
    let (_, help, _) = run(&["--help"], b"");
    assert!(
        help.contains("gwanmun hash-key --subject acme --role partner"),
        "{help}"
    );
}
