//! The admin API and the command that speaks it: who is obeyed, and what becomes of the rest.

use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use super::{Bank, NOON, TOKEN};
use crate::support::{Connection, Gateway, Request, refused, refused_start, said};

#[test]
fn can_be_told_by_command() {
    let bank = Bank::open();
    let (code, out, errors) = said(&bank.ctl(&["freeze", "transfer", "--until", "06:00", "--reason", "a wave"]));
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(out, "froze route `transfer` until 2026-11-25T06:00:00+09:00 (a wave)\n");
    bank.transfer().at(NOON).send().expect_problem(503, "frozen");
    let (code, out, _) = said(&bank.ctl(&["status"]));
    assert_eq!(code, Some(0));
    for part in [
        "version    ",
        "frozen     route `transfer` until 2026-11-25T06",
        " by 127.0.0.1",
        "0 refused",
        "(a rehearsal)",
    ] {
        assert!(out.contains(part), "no {part} in\n{out}");
    }
    let (_, out, _) = said(&bank.ctl(&["status", "--json"]));
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            status["freezes"].as_array().unwrap().len(),
            status["config"].as_str().unwrap().len()
        ),
        (1, 64)
    );

    for (arguments, code, part) in [
        (&["freeze", "transfre"][..], 1, "did you mean `transfer`?"),
        (&["thaw", "balance"], 1, "nothing named `balance` is frozen"),
        (
            &["freeze", "transfer", "--until", "yesterday"],
            1,
            "`yesterday` is not an instant",
        ),
        (&["freeze", "transfer", "--for", "2"], 1, "not a duration"),
        (&["freeze", "transfer", "--for", "2h", "--until", "06:00"], 2, "--until"),
        (&["freeze", "a/../b"], 2, "no name"),
        (&["--admin", "http://127.0.0.1:1", "status"], 2, "no gateway answers"),
        (&["--admin", "http://gate.example", "status"], 2, "no gateway answers"),
    ] {
        let (found, _, errors) = said(&bank.ctl(arguments));
        assert_eq!(found, Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "no {part} in {errors}");
        assert!(!errors.contains(TOKEN) && !errors.contains("panicked"), "{errors}");
    }
    let (code, out, _) = said(&bank.ctl(&["thaw", "transfer"]));
    assert_eq!((code, out.as_str()), (Some(0), "thawed route `transfer`\n"));
    bank.transfer().at(NOON).send().expect(200);

    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command.args(["ctl", "status"]).env_remove("GWANMUN_ADMIN_TOKEN");
    let (code, _, errors) = said(&command.output().unwrap());
    assert!(code == Some(2) && errors.contains("GWANMUN_ADMIN_TOKEN"), "{errors}");
}

#[test]
fn obeys_nobody_without_the_token() {
    let bank = Bank::open();
    let asks = |request: Request| refused(&request.send(), 401, "token-missing");
    for (method, target) in [
        ("GET", "/status"),
        ("GET", "/freezes"),
        ("PUT", "/freezes/transfer"),
        ("DELETE", "/freezes/x"),
    ] {
        asks(bank.gateway.admin(method, target));
        let half = TOKEN.get(..32).unwrap();
        for wrong in [
            half,
            "",
            "x",
            &TOKEN.to_uppercase(),
            &format!("{TOKEN}x"),
            &"x".repeat(8000),
        ] {
            let response = bank.gateway.admin(method, target).bearer(wrong).send();
            assert_eq!(
                response.header("www-authenticate"),
                Some("Bearer realm=\"gwanmun admin\"")
            );
            assert!(!response.text().contains(TOKEN));
            refused(&response, 401, "token-invalid");
        }
    }
    let basic = bank
        .gateway
        .admin("GET", "/status")
        .header("authorization", &format!("Basic {TOKEN}"));
    refused(&basic.send(), 401, "token-invalid");
    asks(bank.gateway.admin("GET", "/status").bearer("x").bearer(TOKEN));
    asks(bank.gateway.admin("GET", &format!("/status?token={TOKEN}")));
    // A page of another name, resolved to this machine.
    let rebound = bank.api("PUT", "/freezes/transfer").host("evil.example").send();
    refused(&rebound, 421, "host-unknown");
    bank.transfer().at(NOON).send().expect(200);
    bank.api("GET", "/status").send().expect(200);
    for open in ["/healthz", "/readyz", "/metrics"] {
        bank.gateway.admin("GET", open).send().expect(200);
    }
    assert!(!bank.gateway.log().contains(TOKEN));
}

#[test]
fn is_not_hurt_by_hostile_orders() {
    let bank = Bank::open();
    let put = |target: &str, body: &[u8]| bank.api("PUT", target).body(body).send();
    for (body, status, code) in [
        (&b"{"[..], 400, "body-unreadable"),
        (b"[]", 400, "body-unreadable"),
        (b"null", 400, "body-unreadable"),
        (b"\xff\xfe", 400, "body-unreadable"),
        (b"{\"until\": 6}", 400, "body-unreadable"),
        (b"{\"untl\": \"06:00\"}", 400, "body-unreadable"),
        (b"{\"until\": \"06:00\", \"until\": \"07:00\"}", 400, "body-unreadable"),
        (b"{\"until\": \"2020-01-01T00:00:00Z\"}", 422, "until-invalid"),
        (b"{\"until\": \"\"}", 422, "until-invalid"),
        (b"{\"for\": \"0s\"}", 422, "until-invalid"),
        (b"{\"for\": \"-1h\"}", 422, "until-invalid"),
        (b"{\"for\": \"&a [*a]\"}", 422, "until-invalid"),
        (b"{\"for\": \"1h\", \"until\": \"06:00\"}", 422, "until-invalid"),
        (b"{\"reason\": \"one\\nERROR another line\"}", 422, "reason-invalid"),
    ] {
        refused(&put("/freezes/transfer", body), status, code);
    }
    refused(
        &put(
            "/freezes/transfer",
            json!({"reason": "x".repeat(501)}).to_string().as_bytes(),
        ),
        422,
        "reason-invalid",
    );
    refused(&put("/freezes/transfer", &vec![b' '; 17 << 10]), 413, "body-too-large");
    let chunked = bank
        .api("PUT", "/freezes/transfer")
        .body(vec![b' '; 17 << 10])
        .chunked()
        .send();
    refused(&chunked, 413, "body-too-large");
    refused(&put("/freezes/transfer?kind=both", b""), 422, "kind-invalid");
    assert!(refused(&put("/freezes/transfre", b""), 404, "name-unknown").contains("did you mean `transfer`?"));
    refused(&put("/freezes/transfer?kind=upstream", b""), 404, "name-unknown");
    refused(
        &put(&format!("/freezes/{}", "x".repeat(5000)), b""),
        404,
        "name-unknown",
    );
    refused(&put("/freezes/a%00b", b""), 404, "name-unknown");
    refused(
        &bank.api("PATCH", "/freezes/transfer").send(),
        405,
        "method-not-allowed",
    );
    refused(&bank.api("DELETE", "/freezes").send(), 405, "method-not-allowed");
    // Somebody who promises a body and never sends it holds up nobody else.
    let mut slow = Connection::open(bank.gateway.admin_address());
    let head = format!(
        "PUT /freezes/transfer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10\r\n\r\n{{"
    );
    assert!(slow.send(head.as_bytes()));
    bank.transfer().at(NOON).send().expect(200);
    bank.freeze("transfer", &json!({}));
    bank.thaw("transfer");
    refused(&slow.response(), 400, "body-unreadable");
}

#[test]
fn asks_for_a_folder_to_keep_a_freeze_in() {
    let yaml = "admin: { address: 127.0.0.1:0, token: '${file:token}' }\nroutes:\n  status: { match: GET /status, auth: none, reply: { status: 200, json: {} } }\n";
    let gateway = Gateway::with(yaml).file("token", &format!("{TOKEN}\n")).start();
    let response = gateway.admin("PUT", "/freezes/status").bearer(TOKEN).send();
    assert!(refused(&response, 409, "state-missing").contains("`state:`"));
    gateway.get("/status").send().expect(200);

    // The folder that systemd makes for a service.
    let folder = tempfile::tempdir().unwrap();
    let listed = format!("{}:/nowhere", folder.path().display());
    let gateway = Gateway::with(yaml)
        .file("token", TOKEN)
        .environment("STATE_DIRECTORY", &listed)
        .start();
    gateway
        .admin("POST", "/freezes/status")
        .bearer(TOKEN)
        .send()
        .expect(200);
    gateway.get("/status").send().expect_problem(503, "frozen");
    assert!(folder.path().join("freezes.json").is_file());
}

#[test]
fn follows_a_token_that_changes() {
    let yaml = "admin: { address: 127.0.0.1:0, token: '${file:token}' }\nroutes:\n  status: { match: GET /status, auth: none, reply: { status: 200, json: {} } }\n";
    let gateway = Gateway::with(yaml).file("token", TOKEN).start();
    let other = TOKEN.replace('0', "9");
    std::fs::File::create(gateway.folder().join("token"))
        .unwrap()
        .write_all(other.as_bytes())
        .unwrap();
    gateway.hang_up();
    refused(
        &gateway.admin("GET", "/status").bearer(TOKEN).send(),
        401,
        "token-invalid",
    );
    gateway.admin("GET", "/status").bearer(&other).send().expect(200);
}

#[test]
fn starts_with_no_token_that_can_be_guessed() {
    let yaml = |token: &str| {
        format!("listen: [{{ address: 127.0.0.1:0 }}]\nadmin:\n  address: 127.0.0.1:0\n  token: {token}\n")
    };
    for (token, part) in [
        ("'${env:GWANMUN_NO_SUCH_TOKEN}'", "GWANMUN_NO_SUCH_TOKEN"),
        ("'${file:gwanmun.yaml}'", "visible ASCII"),
        ("0123456789abcdef0123456789abcdef", "not written here"),
    ] {
        let (code, _, errors) = said(&refused_start(&yaml(token), &[]));
        assert_eq!(code, Some(1), "{errors}");
        assert!(
            errors.contains("gwanmun.yaml:4:10") && errors.contains(part),
            "{errors}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("short"), "only-thirty-one-characters-here").unwrap();
    let short = format!("'${{file:{}}}'", folder.path().join("short").display());
    let (code, _, errors) = said(&refused_start(&yaml(&short), &[]));
    assert!(code == Some(1) && errors.contains("shorter than 32"), "{errors}");
    assert!(!errors.contains("only-thirty"), "{errors}");
}
