//! The accept loop before the proxy: connection bounds, and the whole request header under one deadline and one size.
//!
//! Pingora alone bounds neither (a header may take a minute per byte). What is read here goes to it as the connection's
//! first bytes. Refusals at this point: `408 header-timeout`, `431 header-too-large`, `414 uri-too-long`,
//! `400 request-invalid`, `405 connect-not-allowed`, each answered as problem+json and the connection closed.

mod door;
mod head;
mod stream;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use http::{Method, StatusCode};
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, GetSocketDigest, SocketDigest, Ssl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::engine::{Denial, DenialKind, problem};

use head::{Head, HeadFault};
use stream::Downstream;
use transport::Transport;

pub use door::TlsDoor;

/// What one connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For the whole request header, from its first byte.
    pub header_deadline: Duration,
    /// For the first byte of a request on an open connection.
    pub idle: Duration,
    /// Bytes of the request line and headers.
    pub max_header: usize,
    /// Bytes of the request target.
    pub max_target: usize,
    /// Open connections in all; more are closed at once.
    pub max_connections: usize,
    /// Requests on one connection.
    pub max_requests: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            header_deadline: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            max_header: 64 << 10,
            max_target: 8 << 10,
            max_connections: 20_000,
            max_requests: 10_000,
        }
    }
}

/// Told of what the front refused itself.
pub trait Refusals: Send + Sync {
    /// A request whose line could be read was refused. Returns the request id to tell the client.
    fn refused(&self, peer: SocketAddr, method: &Method, target: &str, denial: &Denial) -> Arc<str>;
}

/// The accept loop's shared half.
pub struct Front<A> {
    app: Arc<A>,
    bounds: Bounds,
    refusals: Arc<dyn Refusals>,
    open: AtomicUsize,
}

impl<A: HttpServerApp + Send + Sync + 'static> Front<A> {
    /// A front before `app`.
    pub fn new(app: Arc<A>, bounds: Bounds, refusals: Arc<dyn Refusals>) -> Arc<Self> {
        Arc::new(Self {
            app,
            bounds,
            refusals,
            open: AtomicUsize::new(0),
        })
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Accepts until `shutdown` turns true; connections that are idle then are closed, others finish their request. With a
    /// `door`, connections are encrypted.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        door: Option<Arc<TlsDoor>>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    if self.open.fetch_add(1, Ordering::Relaxed) >= self.bounds.max_connections {
                        self.open.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    let (front, door, shutdown) = (self.clone(), door.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        let _open = Open(&front.open);
                        if let Some(stream) = front.open(tcp, peer, door.as_deref()).await {
                            front.serve(stream, peer, shutdown).await;
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: the next accept would fail the same way at once.
                    log::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// The connection, ready for requests. The handshake has as long as a header has.
    async fn open(&self, tcp: TcpStream, peer: SocketAddr, door: Option<&TlsDoor>) -> Option<Box<Downstream>> {
        let tcp = prepare(tcp, peer)?;
        let transport = match door {
            None => Transport::Plain(tcp),
            Some(door) => {
                let shaken = timeout(self.bounds.header_deadline, door.shake_hands(tcp)).await;
                Transport::Tls(Box::new(shaken.ok().flatten()?))
            }
        };
        Some(Box::new(Downstream::new(transport)))
    }

    async fn serve(&self, mut stream: Box<Downstream>, peer: SocketAddr, mut shutdown: watch::Receiver<bool>) {
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            self.app.process_new(stream, &shutdown).await;
            return;
        }
        let mut ahead = BytesMut::new();
        let mut settings = None;
        for _ in 0..self.bounds.max_requests {
            let head = match self.read_head(&mut stream, &mut ahead, &mut shutdown).await {
                Ok(Some(head)) => head,
                Ok(None) => return,
                Err(fault) => return self.refuse(&mut stream, peer, &ahead, fault).await,
            };
            // Bytes beyond this request are the next one's: Pingora would end the connection over them.
            let rest = ahead.split_off(head.buffered.min(ahead.len()));
            let prefix = std::mem::replace(&mut ahead, rest);
            stream.await_only(head.awaited);
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings.take() {
                pingora::apps::HttpPersistentSettings::apply_to_session(settings, &mut session);
            }
            session.set_keepalive(Some(self.bounds.idle.as_secs()));
            session.set_pipelined_prefix(prefix);
            let Some(reused) = self.app.process_new_http(session, &shutdown).await else {
                return;
            };
            let (reused, kept) = reused.consume();
            let Ok(downstream) = reused.into_any().downcast::<Downstream>() else {
                return;
            };
            (stream, settings) = (downstream, kept);
            ahead.unsplit(stream.take_early());
            if *shutdown.borrow() {
                return;
            }
        }
    }

    /// Reads until the header is whole. `None` where there is nobody to answer.
    async fn read_head(
        &self,
        stream: &mut Downstream,
        buffer: &mut BytesMut,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Option<Head>, HeadFault> {
        if buffer.is_empty() {
            buffer.reserve(4096);
            let first = tokio::select! {
                first = timeout(self.bounds.idle, stream.read_buf(buffer)) => first,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
            };
            match first {
                Ok(Ok(count)) if count > 0 => {}
                _ => return Ok(None),
            }
        }
        let deadline = Instant::now() + self.bounds.header_deadline;
        let mut parsed = 0;
        loop {
            // Byte by byte arrivals must not cost a reading each: only the end of a line can end a header.
            let fresh = buffer.get(parsed..).unwrap_or_default();
            if fresh.contains(&b'\n') || fresh.len() > 4096 {
                parsed = buffer.len();
                if let Some(head) = head::parse(buffer, &self.bounds)? {
                    return Ok(Some(head));
                }
            }
            match timeout_at(deadline, stream.read_buf(buffer)).await {
                Ok(Ok(count)) if count > 0 => {}
                Ok(_) => return Ok(None),
                Err(_) => return Err(HeadFault::Slow),
            }
        }
    }

    async fn refuse(&self, stream: &mut Downstream, peer: SocketAddr, buffer: &[u8], fault: HeadFault) {
        let (status, code, detail) = fault.told();
        let denial = Denial::new(DenialKind::Refuse, status, code, detail);
        let (method, target) = head::request_line(buffer);
        let id = self.refusals.refused(peer, &method, &target, &denial);
        let mut answer = answer(&denial, &id);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            answer.insert_str(
                answer.find("\r\n").map_or(0, |end| end + 2),
                "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n",
            );
        }
        // The client may still be sending: it is given a moment to read the answer before the reset.
        let told = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            stream.shutdown().await?;
            let mut left = [0; 4096];
            while stream.read(&mut left).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        let _ = timeout(Duration::from_secs(1), told).await;
    }
}

struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn prepare(tcp: TcpStream, peer: SocketAddr) -> Option<L4Stream> {
    use std::os::fd::AsRawFd;
    tcp.set_nodelay(true).ok()?;
    let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
    let _ = digest
        .peer_addr
        .set(Some(pingora::protocols::l4::socket::SocketAddr::Inet(peer)));
    let mut stream = L4Stream::from(tcp);
    stream.set_socket_digest(digest);
    Some(stream)
}

/// A refusal as HTTP/1.1 that closes the connection.
fn answer(denial: &Denial, id: &str) -> String {
    let reply = problem(denial, id, jiff::Timestamp::UNIX_EPOCH, 0);
    let mut text = format!("HTTP/1.1 {}\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    text.push_str(&format!(
        "x-request-id: {id}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reply.body.len()
    ));
    text.push_str(&String::from_utf8_lossy(&reply.body));
    text
}
