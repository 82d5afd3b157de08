//! Upstreams that really answer on sockets, over HTTP/1.1 or HTTP/2, and remember what they saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{TlsServer, eventually, runtime};

/// One request as an upstream received it, with its whole body.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: http::Version,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers(name);
        assert!(values.len() < 2, "`{name}` reached the upstream twice: {values:?}");
        values.first().copied()
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// Holds answers back until it is opened, so that tests order events instead of timing them.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.close();
    }

    async fn passed(&self) {
        // No permit is ever given; waiting ends, with an error, when the semaphore is closed.
        let _ = self.0.acquire().await;
    }
}

/// What an upstream answers.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    chunked: bool,
    cut_short: bool,
    gate: Option<Gate>,
}

impl Reply {
    pub fn json(value: &Value) -> Self {
        Self::typed("application/json", value.to_string())
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::typed("text/plain", text.into())
    }

    pub fn typed(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::status(200).header("content-type", content_type).body(body)
    }

    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            chunked: false,
            cut_short: false,
            gate: None,
        }
    }

    /// An answer that never comes.
    pub fn never() -> Self {
        Self::status(200).held_by(&Gate::closed())
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Gives the body in pieces and without its length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Breaks the connection after half of the body.
    pub fn cut_short(mut self) -> Self {
        self.cut_short = true;
        self
    }

    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    fn into_response(self) -> http::Response<Sent> {
        let mut response = http::Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        if !self.chunked && !self.cut_short {
            let body = Full::new(self.body).map_err(|never: Infallible| match never {}).boxed();
            return response.body(body).expect("a reply that can be sent");
        }
        if !self.chunked {
            response = response.header("content-length", self.body.len());
        }
        let body = match self.cut_short {
            false => pieces(&self.body, None),
            true => pieces(
                &self.body[..self.body.len() / 2],
                Some(std::io::Error::other("cut short")),
            ),
        };
        response.body(body).expect("a reply that can be sent")
    }
}

type Sent = BoxBody<Bytes, std::io::Error>;

fn pieces(body: &[u8], end: Option<std::io::Error>) -> Sent {
    let mut pieces: Vec<_> = body
        .chunks(1000)
        .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    pieces.extend(end.map(Err));
    let pieces = futures::stream::iter(pieces).then(async |piece: Result<_, _>| {
        if piece.is_err() {
            // Waiting makes hyper send what it holds, which it would not do once it knows of the error.
            tokio::task::yield_now().await;
        }
        piece
    });
    BodyExt::boxed(StreamBody::new(pieces))
}

type Answer = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

struct State {
    seen: Mutex<Vec<Seen>>,
    abandoned: AtomicUsize,
    handshakes: AtomicUsize,
    answer: Mutex<Answer>,
}

/// A server on a port of its own; it stops, connections and all, when dropped.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

impl Upstream {
    pub fn http1(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(Arc::new(answer), Protocol::Http1, free_listener())
    }

    /// Over TLS, in the one protocol that is offered by ALPN: HTTP/1.1.
    pub fn http1_over(tls: &TlsServer, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let acceptor = TlsAcceptor::from(tls.config("http/1.1"));
        Self::serve_over(Arc::new(answer), Protocol::Http1, free_listener(), Some(acceptor))
    }

    /// Over TLS, in the one protocol that is offered by ALPN: HTTP/2.
    pub fn http2_over(tls: &TlsServer, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let acceptor = TlsAcceptor::from(tls.config("h2"));
        Self::serve_over(Arc::new(answer), Protocol::Http2, free_listener(), Some(acceptor))
    }

    /// HTTP/2 without TLS, by prior knowledge.
    pub fn http2(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(Arc::new(answer), Protocol::Http2, free_listener())
    }

    /// Writes these bytes after any request head, whatever they are, and closes.
    pub fn raw(bytes: &'static [u8]) -> Self {
        let listener = free_listener();
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            seen: Mutex::default(),
            abandoned: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            answer: Mutex::new(Arc::new(|_: &Seen| Reply::status(500))),
        });
        let accepting = runtime().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let _ = stream.write_all(bytes).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers differently from the next request on.
    pub fn answer_with(&self, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.state.answer.lock().expect("no panic in an answer") = Arc::new(answer);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no panic in an answer").clone()
    }

    /// How many whole requests came.
    pub fn count(&self) -> usize {
        self.state.seen.lock().expect("no panic in an answer").len()
    }

    /// How many whole requests came for this path.
    pub fn count_of(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path() == path).count()
    }

    /// The one request that came.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request at the upstream")
    }

    /// How many requests were given up by who made them before they were answered.
    pub fn abandoned(&self) -> usize {
        self.state.abandoned.load(Ordering::SeqCst)
    }

    /// Waits until this many requests have come for a path.
    pub fn wait_for(&self, path: &str, count: usize) {
        eventually(&format!("{count} requests for {path}"), || {
            (self.count_of(path) >= count).then_some(())
        });
    }

    /// How many handshakes came to an end that both sides were content with.
    pub fn handshakes(&self) -> usize {
        self.state.handshakes.load(Ordering::SeqCst)
    }

    fn serve(answer: Answer, protocol: Protocol, listener: TcpListener) -> Self {
        Self::serve_over(answer, protocol, listener, None)
    }

    fn serve_over(answer: Answer, protocol: Protocol, listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            seen: Mutex::default(),
            abandoned: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            answer: Mutex::new(answer),
        });
        let shared = Arc::clone(&state);
        let accepting = runtime().spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let Some(tls) = tls else {
                        return serve_connection(stream, protocol, state).await;
                    };
                    if let Ok(stream) = tls.accept(stream).await {
                        state.handshakes.fetch_add(1, Ordering::SeqCst);
                        serve_connection(stream, protocol, state).await;
                    }
                });
            }
        });
        Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
    state: Arc<State>,
) {
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| answer(Arc::clone(&state), request));
    // A peer that goes away in the middle is for the gateway to handle, not for the upstream.
    match protocol {
        Protocol::Http1 => {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(stream, service)
                .await;
        }
        Protocol::Http2 => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(stream, service).await;
        }
    }
}

async fn answer(state: Arc<State>, request: http::Request<Incoming>) -> Result<http::Response<Sent>, hyper::Error> {
    let (head, body) = request.into_parts();
    // A body that breaks off is not a request seen.
    let body = body.collect().await?.to_bytes().to_vec();
    let seen = Seen {
        method: head.method.to_string(),
        target: head
            .uri
            .path_and_query()
            .map_or_else(|| head.uri.to_string(), ToString::to_string),
        version: head.version,
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body,
    };
    let answer = Arc::clone(&state.answer.lock().expect("no panic in an answer"));
    state.seen.lock().expect("no panic in an answer").push(seen.clone());
    let reply = answer(&seen);
    if let Some(gate) = &reply.gate {
        let mut waiting = Waiting(&state.abandoned, true);
        gate.passed().await;
        waiting.1 = false;
    }
    Ok(reply.into_response())
}

/// Counts as abandoned when it is dropped, unless it was told that all is well.
struct Waiting<'a>(&'a AtomicUsize, bool);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(usize::from(self.1), Ordering::SeqCst);
    }
}

fn free_listener() -> TcpListener {
    runtime()
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a free port")
}

/// An address that refuses connections for as long as this is held: bound, so that nobody else gets the port, but not listening.
pub struct RefusingPort {
    socket: TcpSocket,
    address: SocketAddr,
}

impl RefusingPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = socket.local_addr().expect("an address");
        Self { socket, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets a server come up on the address.
    pub fn come_up(self, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Upstream {
        let _context = runtime().enter();
        let listener = self.socket.listen(1024).expect("a listener");
        Upstream::serve(Arc::new(answer), Protocol::Http1, listener)
    }
}
