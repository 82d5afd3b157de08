//! What is open as long as it likes ends when it would be refused: at night, after its token, by an operator's word, under new
//! rules.

use std::process::Command;

use serde_json::{Value, json};

use crate::sockets::kit::{Endpoint, Wire, frame, handshake, switch};
use crate::support::{Gateway, Issuer, fill};

const TOKEN: &str = "0123456789abcdef0123456789abcdef-not-a-secret";
/// Two seconds before the night.
const LATE: &str = "2026-11-24T23:29:58+09:00";
const NOON: &str = "2026-11-24T12:00:00+09:00";
/// Noon, in seconds.
const NOW: i64 = 1_795_489_200;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

const BANK: &str = "
admin: { address: 127.0.0.1:0, token: '${env:GWANMUN_ADMIN_TOKEN}' }
state: state
upstreams:
  live: { endpoints: [$endpoint] }
$authenticators
  partners: { api_key: { keys: partners.list } }
calendars:
  seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } }
policies:
  no-night: { deny: { during: seoul.night }, unless: { roles: [treasury] }, reply: { code: NIGHT } }
routes:
  live: { match: 'GET /live/{room}', auth: [customer, partners], policies: [no-night], websocket: true, upstream: live }
  events: { match: GET /events, auth: customer, policies: [no-night], upstream: live }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    yaml: String,
}

impl Bank {
    fn open() -> Self {
        Self::before(&endpoint(), "[]\n")
    }

    fn before(endpoint: &Endpoint, keys: &str) -> Self {
        let issuer = Issuer::new();
        let yaml = fill(
            BANK,
            &[
                ("endpoint", &endpoint.address),
                ("authenticators", &issuer.authenticator()),
            ],
        );
        let gateway = Gateway::with(&yaml)
            .file("partners.list", keys)
            .rehearse_at(NOON)
            .environment("GWANMUN_ADMIN_TOKEN", TOKEN);
        Self {
            gateway: gateway.start(),
            issuer,
            yaml,
        }
    }

    fn lines(&self, claims: &Value, at: &str) -> String {
        let token = self.issuer.token(claims);
        format!("Authorization: Bearer {token}\r\nGwanmun-At: {at}\r\n")
    }

    /// A socket of that caller, opened at that hour.
    fn socket(&self, claims: &Value, at: &str) -> Wire {
        let mut socket = Wire::connect(self.gateway.address(), "/live/1", &self.lines(claims, at));
        echoes(&mut socket);
        socket
    }

    /// A stream of events that has begun.
    fn events(&self, claims: &Value, at: &str) -> Wire {
        let mut stream = Wire::open(self.gateway.address());
        let lines = self.lines(claims, at);
        stream.send(format!("GET /events HTTP/1.1\r\nHost: gate.example\r\n{lines}\r\n").as_bytes());
        let head = stream.head().expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(event(&mut stream), "data: first\n\n");
        stream
    }

    fn order(&self, method: &str, target: &str, order: &Value) {
        let answer = self.gateway.admin(method, target).bearer(TOKEN);
        answer.body(order.to_string()).send().expect(200);
    }

    /// How each exchange ended, by the route, in the order of their ends.
    fn ends(self, count: usize) -> Vec<(String, Value)> {
        self.gateway.records(count);
        let records = self.gateway.stop();
        let ended = records.iter().filter(|record| record.get("ended").is_some());
        ended
            .map(|record| (record["route"].as_str().unwrap().to_owned(), record["ended"].clone()))
            .collect()
    }
}

/// A new API key, and the line by which the gateway knows it.
fn key(subject: &str) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gwanmun"))
        .args(["hash-key", "--subject", subject])
        .output()
        .expect("the gateway's binary runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    (lines[0].to_owned(), format!("{}\n", lines[1]))
}

/// Sends messages back; of events it gives one, and keeps the stream open.
fn endpoint() -> Endpoint {
    Endpoint::start(|mut wire, head| {
        if !head.starts_with("GET /events ") {
            return wire.echo(&head);
        }
        let event = "data: first\n\n";
        wire.send(
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n",
                event.len()
            )
            .as_bytes(),
        );
        wire.rest();
    })
}

fn echoes(socket: &mut Wire) {
    socket.send(&frame(TEXT, b"still here?", true));
    assert_eq!(socket.frame(), Some((TEXT, b"still here?".to_vec())));
}

/// The next chunk.
fn event(stream: &mut Wire) -> String {
    let size = stream.line().expect("a chunk");
    let size = usize::from_str_radix(&size, 16).expect("a size");
    let chunk = stream.take(size + 2).expect("a chunk");
    String::from_utf8(chunk[..size].to_vec()).unwrap()
}

/// That the stream is cut off: it ends, and not as one that is whole.
#[track_caller]
fn is_cut_off(stream: &mut Wire) {
    assert_eq!(String::from_utf8_lossy(&stream.rest()), "");
}

#[test]
fn night_closes_what_is_open() {
    let bank = Bank::open();
    let teller = json!({ "sub": "t1" });
    let treasury = json!({ "sub": "m1", "roles": ["treasury"] });
    let mut kept = bank.socket(&treasury, LATE);
    let mut kept_events = bank.events(&treasury, LATE);
    let mut by_day = bank.socket(&teller, NOON);
    let mut closed = bank.socket(&teller, LATE);
    let mut closed_events = bank.events(&teller, LATE);
    assert_eq!(closed.closed(), (1008, "NIGHT".to_owned()));
    assert_eq!(closed.rest(), b"");
    is_cut_off(&mut closed_events);
    // Who may at night goes on, and for whom it is not night.
    echoes(&mut kept);
    echoes(&mut by_day);
    assert!(kept_events.is_silent());
    let night = json!({ "by": "refusal", "code": "NIGHT", "rule": "no-night" });
    let mut ends = bank.gateway.records(2);
    ends.retain(|record| record["ended"] == night);
    assert_eq!(ends.len(), 2);
    for record in &ends {
        assert_eq!(record["decision"]["effect"], "allow", "it was allowed when it came");
        assert!(record["response_bytes"].as_u64().unwrap() > 0, "{record}");
    }
}

#[test]
fn closes_with_the_token() {
    let bank = Bank::open();
    let mut kept = bank.socket(&json!({ "sub": "u1" }), NOON);
    let mut closed = bank.socket(&json!({ "sub": "u2", "exp": NOW + 2 }), NOON);
    let mut closed_events = bank.events(&json!({ "sub": "u2", "exp": NOW + 2 }), NOON);
    assert_eq!(closed.closed(), (1008, "expired".to_owned()));
    is_cut_off(&mut closed_events);
    echoes(&mut kept);
    drop(kept);
    let ends = bank.ends(3);
    let expired = ends.iter().filter(|(_, ended)| *ended == json!({ "by": "expiry" }));
    assert_eq!(expired.count(), 2, "{ends:?}");
}

#[test]
fn an_operator_closes_what_is_open() {
    let bank = Bank::open();
    let (one, other) = (json!({ "sub": "u1" }), json!({ "sub": "u2" }));
    let (mut revoked, mut kept) = (bank.socket(&one, NOON), bank.socket(&other, NOON));
    let (mut revoked_events, mut frozen_events) = (bank.events(&one, NOON), bank.events(&other, NOON));
    bank.order("POST", "/revocations", &json!({ "subject": "u1", "anywhere": true }));
    assert_eq!(revoked.closed().0, 1008);
    is_cut_off(&mut revoked_events);
    echoes(&mut kept);
    bank.order("PUT", "/freezes/events", &json!({ "for": "1h" }));
    is_cut_off(&mut frozen_events);
    echoes(&mut kept);
    bank.order("PUT", "/freezes/live?kind=upstream", &json!({}));
    assert_eq!(kept.closed().0, 1008);
    let ends = bank.ends(4);
    let mut rules: Vec<(&str, &str)> = ends
        .iter()
        .map(|(route, ended)| (&**route, ended["rule"].as_str().unwrap_or_default()))
        .collect();
    rules.sort_unstable();
    assert_eq!(
        rules,
        [
            ("events", "freeze"),
            ("events", "revocation"),
            ("live", "freeze"),
            ("live", "revocation")
        ]
    );
}

#[test]
fn a_socket_ends_with_the_upstream_that_it_is_on() {
    let bank = Bank::open();
    let mut socket = bank.socket(&json!({}), NOON);
    let moved = bank
        .yaml
        .replace("websocket: true, upstream: live", "websocket: true, upstream: other");
    let other = Endpoint::echo();
    let moved = moved.replace(
        "upstreams:\n",
        &format!("upstreams:\n  other: {{ endpoints: [{}] }}\n", other.address),
    );
    assert!(bank.gateway.reload(&moved));
    echoes(&mut socket);
    let mut new = bank.socket(&json!({}), NOON);
    bank.order("PUT", "/freezes/live?kind=upstream", &json!({}));
    assert_eq!(socket.closed(), (1008, "frozen".to_owned()));
    echoes(&mut new);
    drop(new);
    let frozen = json!({ "by": "refusal", "code": "frozen", "rule": "freeze" });
    // Whichever was recorded first.
    assert!(bank.ends(2).contains(&("live".to_owned(), frozen)));
}

#[test]
fn a_socket_that_is_not_open_yet_ends_as_well() {
    let (asked, was_asked) = std::sync::mpsc::channel();
    let mute = Endpoint::start(move |mut wire, _| {
        asked.send(()).unwrap();
        wire.rest();
    });
    let bank = Bank::before(&mute, "[]\n");
    let mut client = Wire::open(bank.gateway.address());
    client.send(handshake("/live/1", &bank.lines(&json!({}), NOON)).as_bytes());
    was_asked.recv().unwrap();
    bank.order("PUT", "/freezes/live", &json!({ "for": "1h" }));
    assert_eq!(client.rest(), b"");
    let ends = bank.ends(1);
    let frozen = json!({ "by": "refusal", "code": "frozen", "rule": "freeze" });
    assert_eq!(ends, [("live".to_owned(), frozen)]);
}

#[test]
fn a_handshake_that_opens_no_socket_is_an_answer_like_any() {
    // For thirty seconds; what is that long is noticed after ten.
    let endless = Endpoint::start(|mut wire, _| {
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..300 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            if !wire.send(b"3\r\nyes\r\n") {
                return;
            }
        }
        wire.send(b"0\r\n\r\n");
    });
    let bank = Bank::before(&endless, "[]\n");
    let mut client = Wire::open(bank.gateway.address());
    let lines = bank.lines(&json!({ "exp": NOW + 2 }), NOON);
    client.send(handshake("/live/1", &lines).as_bytes());
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it is cut off");
    assert_eq!(bank.ends(1), [("live".to_owned(), json!({ "by": "expiry" }))]);
}

#[test]
fn new_rules_hold_for_what_is_open() {
    let bank = Bank::open();
    let (teller, clerk) = (json!({ "sub": "t1", "roles": ["teller"] }), json!({ "sub": "c1" }));
    let (mut kept, mut closed) = (bank.socket(&teller, NOON), bank.socket(&clerk, NOON));
    let mut closed_events = bank.events(&clerk, NOON);
    let stricter = bank.yaml.replace(
        "deny: { during: seoul.night }, unless: { roles: [treasury] }",
        "require: { roles: [teller] }",
    );
    assert!(bank.gateway.reload(&stricter));
    assert_eq!(closed.closed(), (1008, "NIGHT".to_owned()));
    is_cut_off(&mut closed_events);
    echoes(&mut kept);
    // What lets nobody open sockets leaves none open.
    assert!(bank.gateway.reload(&stricter.replace(" websocket: true,", "")));
    assert_eq!(kept.closed(), (1008, "not-allowed".to_owned()));
}

#[test]
fn a_key_that_is_gone_takes_its_sockets_along() {
    let ((one, first), (two, second)) = (key("one"), key("two"));
    let bank = Bank::before(&endpoint(), &format!("{first}{second}"));
    let socket = |key: &str| {
        let lines = format!("X-Api-Key: {key}\r\n");
        Wire::connect(bank.gateway.address(), "/live/1", &lines)
    };
    let (mut kept, mut closed) = (socket(&one), socket(&two));
    echoes(&mut closed);
    assert!(bank.gateway.reload_beside("partners.list", &first));
    assert_eq!(closed.closed(), (1008, "credential-withdrawn".to_owned()));
    echoes(&mut kept);
}

#[test]
fn nothing_is_put_into_a_frame_that_is_under_way() {
    let endpoint = Endpoint::start(|mut wire, head| {
        wire.send(switch(&head).as_bytes());
        wire.send(&frame(BINARY, &[7; 1000], false)[..500]);
        wire.rest();
    });
    let bank = Bank::before(&endpoint, "[]\n");
    let lines = bank.lines(&json!({ "exp": NOW + 2 }), NOON);
    let mut socket = Wire::connect(bank.gateway.address(), "/live/1", &lines);
    assert_eq!(socket.rest(), frame(BINARY, &[7; 1000], false)[..500]);
}

#[test]
fn tells_what_is_open_when_it_stops() {
    let bank = Bank::open();
    let mut socket = bank.socket(&json!({}), NOON);
    let mut events = bank.events(&json!({}), NOON);
    // The socket's client has to answer, while the gateway is being stopped.
    let waiting = std::thread::spawn(move || {
        let told = socket.closed();
        is_cut_off(&mut events);
        told
    });
    let ends = bank.ends(0);
    assert_eq!(waiting.join().unwrap(), (1001, "shutdown".to_owned()));
    let shutdown = json!({ "by": "shutdown" });
    assert!(
        ends.len() == 2 && ends.iter().all(|(_, ended)| *ended == shutdown),
        "{ends:?}"
    );
}
