#![no_main]
//! Raw bytes through a real connection to a whole gateway: what the upstream gets are whole, well-formed requests in one
//! spelling, and no more of them than a strict reader finds in what was sent. The reader shares no line with the gateway's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use gwanmun::server::{Options, Running, prepare, start};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[path = "../../gateway/support/wire.rs"]
mod wire;

/// It serves for as long as the fuzzer runs.
struct Door {
    listener: SocketAddr,
    _running: Mutex<Running>,
    _runtime: Runtime,
}

/// What the upstream was sent that is no request.
static FAULT: Mutex<Option<String>> = Mutex::new(None);
/// Whole requests at the upstream, and those that may have come there.
static CAME: AtomicUsize = AtomicUsize::new(0);
static SENT: AtomicUsize = AtomicUsize::new(0);

static DOOR: LazyLock<Door> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = std::env::temp_dir().join(format!("gwanmun-fuzz-front-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (listener, running) = runtime.block_on(async {
        let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = upstream.local_addr().expect("an address");
        tokio::spawn(serve(upstream));
        let config = folder.join("fuzz.yaml");
        let yaml = format!(
            "listen: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ endpoints: ['{address}'] }} }}\n\
             routes: {{ all: {{ match: {{ path: '/{{rest...}}' }}, auth: none, upstream: origin }} }}\n"
        );
        std::fs::write(&config, yaml).expect("a configuration");
        let options = Options {
            config,
            rehearse_at: None,
            state: None,
            announce: false,
            admin_token: None,
        };
        let snapshot = prepare(&options).expect("a snapshot");
        let running = start(&options, snapshot).await.expect("a gateway");
        let listener = *running.listeners().first().expect("a listener");
        (listener, running)
    });
    let door = Door {
        listener,
        _running: Mutex::new(running),
        _runtime: runtime,
    };
    let answer = exchange(
        door.listener,
        b"GET /seed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        false,
    );
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "a good request is let through");
    SENT.fetch_add(1, Ordering::SeqCst);
    door
});

async fn serve(upstream: TcpListener) {
    while let Ok((mut stream, _)) = upstream.accept().await {
        tokio::spawn(async move {
            let mut unread = Vec::new();
            let mut piece = vec![0; 16 << 10];
            while let Ok(read @ 1..) = stream.read(&mut piece).await {
                unread.extend_from_slice(&piece[..read]);
                loop {
                    match wire::message(&unread) {
                        Ok(Some((message, used))) => {
                            unread.drain(..used);
                            CAME.fetch_add(1, Ordering::SeqCst);
                            let told = message.line();
                            let length = told.len();
                            let body = if message.method == "HEAD" { "" } else { &*told };
                            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                            if stream.write_all(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => break,
                        Err(why) => {
                            let text = format!("{why}: {:?}", String::from_utf8_lossy(&unread));
                            *FAULT.lock().expect("no panic while noting") = Some(text);
                            return;
                        }
                    }
                }
            }
        });
    }
}

/// Sends the bytes and reads until the gateway closes.
fn exchange(to: SocketAddr, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("the gateway accepts");
    stream.set_nodelay(true).expect("no delay");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    // It may have refused what came before and be gone.
    let _ = stream.write_all(bytes);
    if ends {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            panic!("the gateway hangs on {:?}", String::from_utf8_lossy(bytes))
        }
        _ => answer,
    }
}

fuzz_target!(|input: &[u8]| {
    let listener = DOOR.listener;
    let is_http2 = input.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // Every request has a line of its own, whatever else can be said of it.
    let lines = input
        .windows(8)
        .filter(|window| window.starts_with(b" HTTP/1."))
        .count();
    let most = match wire::read(input) {
        // In HTTP/2 none is smaller than the header of its frame (RFC 9113 §3.4, §4.1).
        _ if is_http2 => input.len() / 9,
        // Read strictly to the end: there are no more than these.
        Ok(read) if !read.unfinished => read.requests.len(),
        _ => lines,
    };
    SENT.fetch_add(most, Ordering::SeqCst);
    let answer = exchange(listener, input, true);
    let is_answer = match is_http2 {
        // SETTINGS comes first.
        true => answer.get(3) == Some(&4),
        false => answer.starts_with(b"HTTP/1.1 "),
    };
    assert!(answer.is_empty() || is_answer, "not an answer");
    if let Some(fault) = FAULT.lock().expect("no panic while noting").take() {
        panic!("the upstream was sent what is no request: {fault}");
    }
    let (came, sent) = (CAME.load(Ordering::SeqCst), SENT.load(Ordering::SeqCst));
    assert!(came <= sent, "{came} requests came of at most {sent} that were sent");
});
