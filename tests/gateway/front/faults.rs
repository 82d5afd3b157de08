//! Upstreams that break in every way there is, while 64 clients ask: whatever a client gets was meant for its request, and
//! nothing of a fault reaches it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::wire::{self, Message};
use crate::support::{Connection, Gateway, RefusingPort, eventually, fill, runtime};

const FAULTY: &str = "
upstreams:
  faulty:  { endpoints: [$faulty], timeout: { response: 3s } }
  refused: { endpoints: [$refused] }
routes:
  refused: { match: 'GET /refused', auth: none, upstream: refused }
  faulty:  { match: 'GET,POST /{fault}', auth: none, upstream: faulty }
";

/// What stands nowhere but in bytes that belong to no answer.
const POISON: &str = "poison";

/// Each fault, the status that a client may see of it, and the word in the record.
const FAULTS: &[(&str, &[u16], Option<&str>)] = &[
    ("well", &[200], None),
    ("dripping", &[200], None),
    ("unread", &[200], None),
    ("refused", &[502], Some("refused")),
    ("reset", &[502], Some("reset")),
    ("closed", &[502], Some("closed")),
    ("hanging", &[504], Some("response-timeout")),
    ("garbage", &[502], Some("malformed")),
    ("no-header", &[502], Some("closed")),
    ("cut", &[200], Some("cut-short")),
    ("cut-chunks", &[200], Some("cut-short")),
    ("bad-chunks", &[200, 502], Some("malformed")),
    ("longer", &[200], None),
    ("two-lengths", &[502], Some("malformed")),
    ("odd-length", &[502], Some("malformed")),
    ("coded", &[502], Some("malformed")),
    ("both", &[200, 502], None),
    ("folded", &[200], None),
    ("giant", &[502], Some("malformed")),
    ("interim", &[502], Some("malformed")),
    ("switching", &[502], Some("malformed")),
    ("not-modified-with-body", &[304], None),
];

#[test]
fn no_answer_reaches_another_request() {
    let upstream = runtime()
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a free port");
    let refusing = RefusingPort::new();
    let gateway = Gateway::start(&fill(
        FAULTY,
        &[
            ("faulty", &upstream.local_addr().expect("an address")),
            ("refused", &refusing.address()),
        ],
    ));
    let serving = runtime().spawn(async move {
        while let Ok((stream, _)) = upstream.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let nonces = AtomicUsize::new(0);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|client| {
                let (gateway, nonces) = (&gateway, &nonces);
                scope.spawn(move || {
                    let mut wrong = Vec::new();
                    let mut connection = gateway.connect();
                    for turn in 0..FAULTS.len() {
                        // Everybody goes another way round.
                        let fault = &FAULTS[(turn * (2 * client + 1) + client) % FAULTS.len()];
                        let nonce = nonces.fetch_add(1, Ordering::Relaxed);
                        wrong.extend(ask(gateway, &mut connection, fault, nonce).err());
                    }
                    wrong
                })
            })
            .collect();
        let told = clients
            .into_iter()
            .map(|client| client.join().expect("no panic in a client"));
        told.flatten().collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        nonces.load(Ordering::Relaxed),
        wrong.join("\n")
    );
    let all = nonces.load(Ordering::Relaxed);
    // The record says which endpoint, and why.
    let records = gateway.records(all);
    let mut words: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in &records {
        let fault = match record["route"].as_str() {
            Some("refused") => "refused",
            _ => record["params"]["fault"].as_str().unwrap_or_default(),
        };
        assert!(record["upstream"]["endpoint"].is_string(), "{record}");
        let word = record["upstream"]["fault"].as_str().unwrap_or_default();
        words.entry(fault.to_owned()).or_default().push(word.to_owned());
    }
    for (fault, _, word) in FAULTS {
        let Some(word) = word else { continue };
        let found = &words[*fault];
        assert!(found.iter().all(|found| found == word), "{fault}: {found:?}");
    }
    eventually("the gateway is well", || {
        ask(&gateway, &mut gateway.connect(), &FAULTS[0], all).ok()
    });
    serving.abort();
}

/// What is wrong with the answer to one request.
fn ask(
    gateway: &Gateway,
    connection: &mut Connection,
    (fault, statuses, _): &(&str, &[u16], Option<&str>),
    nonce: usize,
) -> Result<(), String> {
    let request = match nonce % 2 {
        0 => format!("GET /{fault}?{nonce} HTTP/1.1\r\nHost: a\r\nX-Nonce: {nonce}\r\n\r\n"),
        _ => format!("POST /{fault}?{nonce} HTTP/1.1\r\nHost: a\r\nX-Nonce: {nonce}\r\nContent-Length: 5\r\n\r\nhello"),
    };
    let request = if *fault == "refused" {
        request.replace("POST", "GET")
    } else {
        request
    };
    let response = loop {
        connection.send(request.as_bytes());
        match connection.response_or_close("GET") {
            Some(response) => break response,
            // The connection had ended with the answer before.
            None => *connection = gateway.connect(),
        }
    };
    let shown = format!("{fault} {nonce}: {}", response.summary());
    let is_closing = response.list("connection").contains(&"close".to_owned());
    if is_closing || !response.whole {
        *connection = gateway.connect();
    }
    if !statuses.contains(&response.status) {
        return Err(format!("{shown}: not one of {statuses:?}"));
    }
    if String::from_utf8_lossy(&response.body).contains(POISON) || format!("{:?}", response.headers).contains(POISON) {
        return Err(format!("{shown}: something of the upstream's"));
    }
    if response.status >= 500 {
        let codes = ["upstream-unreachable", "upstream-broken", "upstream-timeout"];
        return response
            .problem(&[502, 504], &codes)
            .map(drop)
            .map_err(|why| format!("{shown}: {why}"));
    }
    if response.headers("x-folded").iter().any(|folded| *folded != "a b") {
        return Err(format!("{shown}: still folded"));
    }
    let own = nonce.to_string();
    let is_own = response.header("x-nonce") == Some(&own)
        && (!response.whole || response.status == 304 || response.text() == own);
    if is_own {
        Ok(())
    } else {
        Err(format!("{shown}: not the answer to {nonce}"))
    }
}

/// Serves one connection of the gateway for as long as the fault of each request lets it.
async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let message = loop {
            // One answer comes before its request was read to the end.
            let is_early = unread.starts_with(b"POST /unread?");
            let head = String::from_utf8_lossy(&unread).into_owned();
            match wire::message(&unread) {
                Ok(Some((message, used))) => {
                    unread.drain(..used);
                    break message;
                }
                Ok(None) if is_early && head.contains("\r\n\r\n") => return early(&mut stream, &head).await,
                Ok(None) => {}
                Err(why) => panic!("{why}"),
            }
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => unread.extend_from_slice(&piece[..read]),
                _ => return,
            }
        };
        if !answer(&mut stream, &message).await {
            return;
        }
    }
}

async fn early(stream: &mut TcpStream, head: &str) {
    let nonce = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("x-nonce: ").map(str::to_owned));
    let nonce = nonce.unwrap_or_default();
    let text = format!(
        "HTTP/1.1 200 OK\r\nX-Nonce: {nonce}\r\nContent-Length: {}\r\n\r\n{nonce}",
        nonce.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

/// Whether the connection may go on.
async fn answer(stream: &mut TcpStream, message: &Message) -> bool {
    let nonce = String::from_utf8_lossy(message.values("x-nonce")[0]).into_owned();
    let length = nonce.len();
    let fault = message
        .target
        .trim_start_matches('/')
        .split('?')
        .next()
        .unwrap_or_default();
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\nX-Nonce: {nonce}\r\n{lines}\r\n");
    let fine = head(&format!("Content-Length: {length}\r\n")) + &nonce;
    let bad = |lines: &str| head(&format!("X-Secret: {POISON}\r\n{lines}")) + POISON;
    let (text, goes_on) = match fault {
        "well" | "unread" => (fine, true),
        "dripping" => {
            for byte in fine.as_bytes() {
                if stream.write_all(&[*byte]).await.is_err() {
                    return false;
                }
                tokio::task::yield_now().await;
            }
            return true;
        }
        "reset" => {
            #[allow(deprecated, reason = "only a reset is meant to block nothing here")]
            let _ = stream.set_linger(Some(Duration::ZERO));
            return false;
        }
        "closed" => return false,
        "hanging" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            return false;
        }
        "garbage" => (format!("\0\x01{POISON} {nonce}\r\n\r\n"), false),
        "no-header" => (format!("HTTP/1.1 200 OK\r\nX-Secret: {POISON}"), false),
        "cut" => (head("Content-Length: 100\r\n") + &nonce, false),
        "cut-chunks" => (
            head("Transfer-Encoding: chunked\r\n") + &format!("{length:x}\r\n{nonce}\r\n"),
            false,
        ),
        "bad-chunks" => (
            head("Transfer-Encoding: chunked\r\n") + &format!("zz\r\n{POISON}\r\n0\r\n\r\n"),
            true,
        ),
        // Whoever reads on finds an answer to nobody's request.
        "longer" => (fine + &bad(&format!("Content-Length: {}\r\n", POISON.len())), true),
        "two-lengths" => (bad("Content-Length: 6\r\nContent-Length: 7\r\n"), true),
        "odd-length" => (bad("Content-Length: +6\r\n"), true),
        "coded" => (bad("Transfer-Encoding: gzip, chunked\r\n"), true),
        "both" => {
            let lines = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
            (head(lines) + &format!("{length:x}\r\n{nonce}\r\n0\r\n\r\n"), true)
        }
        // RFC 9112 §5.2: a gateway may unfold the line instead.
        "folded" => {
            let lines = format!("X-Folded: a\r\n b\r\nContent-Length: {length}\r\n");
            (head(&lines) + &nonce, true)
        }
        "giant" => (
            bad(&format!("X-Giant: {}\r\nContent-Length: 6\r\n", "x".repeat(200_000))),
            true,
        ),
        "interim" => (
            "HTTP/1.1 103 Early Hints\r\nLink: </poison>\r\n\r\n".repeat(1000) + &fine,
            true,
        ),
        "switching" => {
            let text = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n{POISON}");
            (text, true)
        }
        "not-modified-with-body" => {
            let text = head(&format!("Content-Length: {}\r\n", POISON.len())).replace("200 OK", "304 Not Modified");
            (text + POISON, true)
        }
        other => panic!("{other} is no fault"),
    };
    stream.write_all(text.as_bytes()).await.is_ok() && goes_on
}
