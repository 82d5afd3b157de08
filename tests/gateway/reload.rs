//! A changed configuration is taken whole and at once, or not at all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::{Gate, Gateway, Issuer, Reply, Upstream, eventually, fill, refused_start};

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
calendars:
  seoul:
    timezone: Asia/Seoul
    holidays: holidays.yaml
    windows:
      night: [{ days: daily, hours: $night }]
      trading: [{ days: mon-fri, hours: 09:00-15:30, except: holidays }]
policies:
  no-night-transfer:
    deny: { during: seoul.night }
    reply:
      code: TRANSFER_CLOSED
      message: { en: Transfers are closed at night }
  trading-hours: { require: { during: seoul.trading } }
routes:
  transfer:
    match: POST /transfers
    auth: customer
    policies: [no-night-transfer]
    upstream: bank
  order:
    match: POST /orders
    auth: none
    policies: [trading-hours]
    upstream: bank
  status:
    match: GET /status
    auth: none
    reply: { status: 200, json: { open: true } }
";

const NOON: &str = "2026-11-24T12:00:00+09:00";
const HOLIDAYS: &str = "through: 2028-12-31\ndates: { 2026-09-25: Chuseok }\n";
const MORE_HOLIDAYS: &str = "through: 2028-12-31\ndates: { 2026-09-25: Chuseok, 2026-11-24: A new one }\n";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Bank {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let issuer = Issuer::new();
        let gateway = Gateway::with(&yaml(&upstream, &issuer, "23:30-05:00")).file("holidays.yaml", HOLIDAYS);
        Self {
            gateway: gateway.rehearse_at(NOON).start(),
            issuer,
            upstream,
        }
    }

    fn closed_during(&self, night: &str) -> String {
        yaml(&self.upstream, &self.issuer, night)
    }

    fn transfer(&self) -> u16 {
        self.gateway
            .post("/transfers")
            .bearer(&self.issuer.token(&json!({})))
            .at(NOON)
            .send()
            .status
    }

    fn failed(&self) -> f64 {
        self.gateway
            .metrics()
            .value("gwanmun_config_reload_failed", &[])
            .expect("the metric")
    }
}

fn yaml(upstream: &Upstream, issuer: &Issuer, night: &str) -> String {
    fill(
        BANK,
        &[
            ("upstream", &upstream.address()),
            ("authenticators", &issuer.authenticator()),
            ("night", &night),
        ],
    )
}

#[test]
fn follows_the_file() {
    let bank = Bank::open();
    assert_eq!(bank.transfer(), 200);
    assert!(bank.gateway.reload(&bank.closed_during("11:00-13:00")));
    assert_eq!(bank.transfer(), 403);
    assert!(bank.gateway.reload_in_place(&bank.closed_during("13:00-14:00")));
    assert_eq!(bank.transfer(), 200);
}

#[test]
fn follows_the_files_it_names() {
    let bank = Bank::open();
    let order = || bank.gateway.post("/orders").at(NOON).send().status;
    assert_eq!(order(), 200);
    assert!(bank.gateway.reload_beside("holidays.yaml", MORE_HOLIDAYS));
    assert_eq!(order(), 403);
}

#[test]
fn follows_secrets_whose_reference_stays_as_it_is() {
    const YAML: &str = "
admin: { address: 127.0.0.1:0, token: '${file:admin.token}' }
authenticators:
  customer: { jwt: { issuer: https://id.example, audience: bank, algorithms: HS256, secret: '${file:customer.secret}' } }
routes:
  hello: { match: GET /hello, auth: customer, reply: { status: 200, json: { hello: true } } }
";
    const OLD: &str = "an old secret that nobody can guess at all";
    const NEW: &str = "a new secret that nobody can guess either!";
    const OLD_TOKEN: &str = "an-old-token-that-nobody-can-guess";
    const NEW_TOKEN: &str = "a-new-token-that-nobody-can-guess!";
    let gateway = Gateway::with(YAML)
        .file("admin.token", OLD_TOKEN)
        .file("customer.secret", OLD)
        .start();
    let hello = |secret: &str| gateway.get("/hello").bearer(&signed(secret)).send().status;
    let told = |token: &str| gateway.admin("GET", "/status").bearer(token).send().status;
    let put = |name: &str, text: &str| {
        let new = gateway.folder().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, gateway.folder().join(name)).unwrap();
    };
    assert_eq!((hello(OLD), hello(NEW)), (200, 401));
    assert_eq!((told(OLD_TOKEN), told(NEW_TOKEN)), (200, 401));
    put("customer.secret", NEW);
    eventually("the new secret", || (hello(NEW) == 200).then_some(()));
    assert_eq!((hello(OLD), told(OLD_TOKEN)), (401, 200));
    put("admin.token", NEW_TOKEN);
    eventually("the new token", || (told(NEW_TOKEN) == 200).then_some(()));
    assert_eq!((told(OLD_TOKEN), hello(NEW)), (401, 200));
    eventually("two reloads", || {
        let reloads = gateway
            .metrics()
            .value("gwanmun_config_reloads_total", &[("result", "ok")]);
        (reloads == Some(2.0)).then_some(())
    });
}

/// A token of `https://id.example`, signed by a shared secret.
fn signed(secret: &str) -> String {
    let now = jiff::Timestamp::now().as_second();
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let head = part(json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = json!({ "iss": "https://id.example", "aud": "bank", "sub": "u1", "iat": now, "exp": now + 600 });
    let text = format!("{head}.{}", part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    format!(
        "{text}.{}",
        URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, text.as_bytes()))
    )
}

#[test]
fn reloads_when_told_to() {
    let bank = Bank::open();
    assert!(bank.gateway.hang_up());
    assert!(bank.gateway.hang_up());
    assert_eq!(bank.transfer(), 200);
}

#[test]
fn keeps_what_it_has_when_the_new_one_is_broken() {
    let bank = Bank::open();
    assert_eq!(bank.failed(), 0.0);
    let good = bank.closed_during("11:00-13:00");
    for broken in [
        good.replace("deny:", "dny:"),
        good.replace("policies: [no-night-transfer]", "policies: [no-nite-transfer]"),
        good.replace("11:00-13:00", "11:00-11:00"),
        format!("{good}\n  }}: ["),
        "nonsense: true\n".to_owned(),
    ] {
        assert!(!bank.gateway.reload(&broken), "took:\n{broken}");
        assert_eq!(bank.failed(), 1.0);
        assert_eq!(bank.transfer(), 200);
    }
    assert!(!bank.gateway.reload_beside("holidays.yaml", "through: yesterday\n"));
    assert_eq!(bank.transfer(), 200);
    assert!(bank.gateway.log().contains("gwanmun.yaml:"), "{}", bank.gateway.log());

    // Mended in the file that names it and in the one that is named: all is well again.
    bank.gateway.reload_beside("holidays.yaml", HOLIDAYS);
    assert!(bank.gateway.reload(&good));
    assert_eq!(bank.failed(), 0.0);
    assert_eq!(bank.transfer(), 403);
}

#[test]
fn fails_no_request_while_it_changes() {
    let bank = Bank::open();
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (bank, done, served) = (&bank, &done, &served);
            scope.spawn(move || {
                let mut connection = bank.gateway.connect();
                while !done.load(Ordering::Relaxed) {
                    // Half of them on one connection all the time, half on new ones.
                    let response = if worker % 2 == 0 {
                        assert!(connection.send(&bank.gateway.get("/status").bytes()));
                        connection.response()
                    } else {
                        bank.gateway.post("/orders").at(NOON).send()
                    };
                    // A gate may end a connection after so many requests, if it says so.
                    if response.header("connection") == Some("close") {
                        connection = bank.gateway.connect();
                    }
                    response.expect(200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Told to stop however this ends, or the workers would go on for ever.
        let _stop = StopWhenDropped(&done);
        for n in 0..10 {
            let before = served.load(Ordering::Relaxed);
            let (night, status) = if n % 2 == 0 {
                ("11:00-13:00", 403)
            } else {
                ("23:30-05:00", 200)
            };
            assert!(bank.gateway.reload(&bank.closed_during(night)));
            assert_eq!(bank.transfer(), status);
            eventually("requests go on", || {
                (served.load(Ordering::Relaxed) >= before + 20).then_some(())
            });
        }
    });
    let mut configurations: Vec<String> = bank
        .gateway
        .stop()
        .iter()
        .filter_map(|record| record["config"].as_str().map(str::to_owned))
        .collect();
    configurations.sort();
    configurations.dedup();
    assert_eq!(configurations.len(), 2, "each answer under one of the two");
}

struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn ends_a_request_under_the_configuration_it_began_under() {
    let bank = Bank::open();
    let gate = Gate::closed();
    let held = gate.clone();
    bank.upstream
        .answer_with(move |_| Reply::text("at last").held_by(&held));
    let token = bank.issuer.token(&json!({}));
    let before = bank.gateway.metrics().label_values("gwanmun_config_info", "hash");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| bank.gateway.post("/transfers").bearer(&token).at(NOON).send());
        bank.upstream.wait_for("/transfers", 1);
        assert!(bank.gateway.reload(&bank.closed_during("11:00-13:00")));
        gate.open();
        assert_eq!(waiting.join().unwrap().expect(200).text(), "at last");
    });
    assert_eq!(bank.gateway.stop()[0]["config"], before[0].as_str());
}

const LISTED: &str = "routes:\n  $name: { match: GET /$name, auth: none, reply: { text: $name } }\n";

#[test]
fn follows_a_directory() {
    let listed = |name: &str| fill(LISTED, &[("name", &name)]);
    let gateway = Gateway::with(&listed("one")).directory().start();
    let status = |path: &str| gateway.get(path).send().status;
    assert_eq!((status("/one"), status("/two")), (200, 404));
    assert!(gateway.reload_beside("20-two.yml", &listed("two")));
    assert_eq!((status("/one"), status("/two")), (200, 200));
    // Broken, or against what another file says: all stays as it is.
    assert!(!gateway.reload_beside("30-three.yaml", "routes: [\n"));
    assert!(!gateway.reload_beside("30-three.yaml", &listed("two")));
    assert_eq!((status("/one"), status("/two"), status("/three")), (200, 200, 404));
    assert!(gateway.reload_beside("30-three.yaml", &listed("three")));
    assert_eq!(status("/three"), 200);
    // Renamed, into it and out of it.
    let rename = |from: &str, to: &str| {
        gateway.reload_folder(|folder| std::fs::rename(folder.join(from), folder.join(to)).expect("a rename"))
    };
    assert!(rename("20-two.yml", "20-two.yml~"));
    assert_eq!(status("/two"), 404);
    assert!(rename("20-two.yml~", "40-two.yaml"));
    assert_eq!(status("/two"), 200);
    assert!(gateway.reload_folder(|folder| std::fs::remove_file(folder.join("30-three.yaml")).expect("a removal")));
    assert_eq!((status("/one"), status("/two"), status("/three")), (200, 200, 404));
}

#[test]
fn follows_the_turning_of_a_link() {
    let listed = |name: &str| fill(LISTED, &[("name", &name)]);
    let gateway = Gateway::start(&listed("first"));
    let text = |folder: &std::path::Path| std::fs::read_to_string(folder.join("gwanmun.yaml")).expect("the file");
    let turn = |folder: &std::path::Path, link: &str, to: &str| {
        std::os::unix::fs::symlink(to, folder.join("turning")).expect("a link");
        std::fs::rename(folder.join("turning"), folder.join(link)).expect("a rename");
    };
    // As mounted volumes are laid out: the file is a link into what a link stands for.
    let lay = |folder: &std::path::Path, day: &str, from: &str, to: &str| {
        let changed = text(folder).replace(from, to);
        std::fs::create_dir(folder.join(day)).expect("a folder");
        std::fs::write(folder.join(day).join("gwanmun.yaml"), changed).expect("a file");
    };
    assert!(gateway.reload_folder(|folder| {
        lay(folder, "..1", "first", "second");
        turn(folder, "..data", "..1");
        turn(folder, "gwanmun.yaml", "..data/gwanmun.yaml");
    }));
    assert_eq!(gateway.get("/second").send().status, 200);
    assert!(gateway.reload_folder(|folder| {
        lay(folder, "..2", "second", "third");
        turn(folder, "..data", "..2");
        std::fs::remove_dir_all(folder.join("..1")).expect("a removal");
    }));
    assert_eq!(gateway.get("/third").send().status, 200);
    // And written in place behind the link.
    assert!(gateway.reload_folder(|folder| {
        let changed = text(folder).replace("third", "fourth");
        std::fs::write(folder.join("..2/gwanmun.yaml"), changed).expect("a file");
    }));
    assert_eq!(gateway.get("/fourth").send().status, 200);
}

/// Two versions that differ in several places: what a page may read stands in `defaults`, the version in the route, and the
/// upstreams are counted otherwise.
const VERSION: &str = "
defaults: { cors: { origins: [https://bank.example], expose: [x-$version] } }
policies:
  closed: { deny: { methods: [GET] }, reply: { code: closed-$version } }
upstreams:
$upstreams
routes:
  version: { match: GET /version, auth: none, reply: { text: $version } }
  closed: { match: GET /closed, auth: none, policies: [closed], reply: { text: open } }
  behind: { match: GET /behind, auth: none, upstream: $version }
";

#[test]
fn answers_with_one_configuration_alone() {
    let (a, b) = (
        Upstream::http1(|_| Reply::text("a")),
        Upstream::http1(|_| Reply::text("b")),
    );
    let one = |name: &str, of: &Upstream| format!("  {name}: {{ endpoints: [{}] }}\n", of.address());
    let version = |name: &str| {
        let upstreams = match name {
            "a" => one("a", &a),
            _ => one("other", &a) + &one("b", &b),
        };
        fill(VERSION, &[("version", &name), ("upstreams", &upstreams)])
    };
    let gateway = Gateway::start(&version("a"));
    let done = AtomicBool::new(false);
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (gateway, done, seen) = (&gateway, &done, &seen);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let path = ["/version", "/closed", "/behind"][worker];
                    let response = gateway.get(path).header("origin", "https://bank.example").send();
                    let told = response
                        .header("access-control-expose-headers")
                        .expect("what may be read")
                        .to_owned();
                    let version = told.strip_prefix("x-").expect("a version");
                    match path {
                        "/closed" => drop(response.expect_problem(403, &format!("closed-{version}"))),
                        _ => assert_eq!(response.expect(200).text(), version),
                    }
                    seen[usize::from(version == "b")].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = StopWhenDropped(&done);
        for n in 1..=20 {
            let name = if n % 2 == 0 { "a" } else { "b" };
            let before = seen[usize::from(name == "b")].load(Ordering::Relaxed);
            assert!(gateway.reload(&version(name)));
            eventually("answers under the new one", || {
                let now = seen[usize::from(name == "b")].load(Ordering::Relaxed);
                (now >= before + 10).then_some(())
            });
        }
    });
}

#[test]
fn refuses_to_start_on_a_broken_file_and_says_where() {
    for (yaml, place) in [
        (
            "listen:\n  - address: 127.0.0.1:0\nroutes:\n  status:\n    mach: GET /status\n    auth: none\n    reply: { status: 200 }\n",
            "gwanmun.yaml:5:5",
        ),
        ("listen:\n  - adress: 127.0.0.1:0\n", "gwanmun.yaml:2:5"),
        ("listen: [\n", "gwanmun.yaml:"),
        (
            "listen:\n  - address: 127.0.0.1:0\nroutes:\n  status:\n    match: GET /status\n    reply: { status: 200 }\n",
            "auth",
        ),
    ] {
        let output = refused_start(yaml, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{yaml}\n{said}");
        assert!(said.contains(place), "no {place} in:\n{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn reports_all_errors_at_once() {
    let yaml = "listen:\n  - adress: 127.0.0.1:0\nroutes:\n  status:\n    mach: GET /status\n    auth: nobody\n    reply: { status: 2000 }\n";
    let output = refused_start(yaml, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    for place in [
        "gwanmun.yaml:2:5",
        "gwanmun.yaml:5:5",
        "did you mean `match`",
        "did you mean `address`",
    ] {
        assert!(said.contains(place), "no {place} in:\n{said}");
    }
}

#[test]
fn rehearses_only_where_nobody_else_can_come() {
    let yaml = "listen:\n  - address: 0.0.0.0:0\nroutes:\n  status: { match: GET /status, auth: none, reply: { status: 200, json: {} } }\n";
    let output = refused_start(yaml, &["--rehearse-at", NOON]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = refused_start(&yaml.replace("0.0.0.0", "127.0.0.1"), &["--rehearse-at", "noon"]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
