//! The accept loop before the proxy: connection bounds, and the whole request header under one deadline and one size.
//!
//! Pingora alone bounds neither (a header may take a minute per byte). What is read here goes to it as the connection's
//! first bytes, in one form: a target in origin-form, chunks without extensions and trailers. Refusals at this point, each
//! answered as problem+json and the connection closed: `400 request-invalid`, `405 connect-not-allowed`,
//! `408 header-timeout`, `414 uri-too-long`, `431 header-too-large`, `501 method-not-supported`,
//! `501 coding-not-supported`, `505 version-not-supported`. Source: RFC 9112.

mod bounds;
mod chunks;
mod connections;
mod door;
mod framing;
mod head;
mod http2;
mod kernel;
mod pace;
mod proxied;
mod refuse;
mod shown;
mod stream;
mod target;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Buf, BytesMut};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, GetSocketDigest, SocketDigest, Ssl};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use chunks::Chunks;
use connections::{Connections, EnteredFrom, Turned};
use framing::Framing;
use head::{Head, HeadFault};
use refuse::refuse;
use shown::Shown;
use stream::{Awaited, Downstream};
use transport::Transport;

use crate::live::{Alarm, until_cut};

pub use bounds::{Bounds, Settings};
pub use door::{Entrance, TlsDoor, TlsSettings};
pub use pace::Pace;
pub use proxied::Proxies;
pub use refuse::Refusals;
pub use stream::unbound;

/// The accept loop's shared half.
pub struct Front<A> {
    app: Arc<A>,
    settings: ArcSwap<Settings>,
    refusals: Arc<dyn Refusals>,
    connections: Connections,
}

impl<A: HttpServerApp + Send + Sync + 'static> Front<A> {
    /// A front before `app`.
    pub fn new(app: Arc<A>, settings: Settings, refusals: Arc<dyn Refusals>) -> Arc<Self> {
        Arc::new(Self {
            app,
            settings: ArcSwap::from_pointee(settings),
            refusals,
            connections: Connections::default(),
        })
    }

    /// From now on by others; also for the next request of connections that are open.
    pub fn renew(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.open()
    }

    /// Connections that were closed before a byte of HTTP was read, by reason.
    pub fn turned_away(&self) -> [(&'static str, u64); 3] {
        self.connections.turned_away()
    }

    /// Connections in HTTP/2 that were ended for what came on them, by reason.
    pub fn cut_off(&self) -> [(&'static str, u64); 4] {
        self.connections.cut_off()
    }

    /// Accepts until `shutdown` turns true; connections that are idle then are closed, others finish their requests.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        entrance: Entrance,
        mut shutdown: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let (front, entrance, shutdown) = (self.clone(), entrance.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        let most = front.settings.load().bounds.max_connections;
                        let Some(_entered) = front.connections.enter(most) else {
                            return;
                        };
                        let Some((tcp, peer, _entered_from)) = front.welcome(tcp, peer).await else {
                            return;
                        };
                        if let Some((transport, shown)) = front.open(tcp, peer, &entrance).await {
                            front.serve(transport, shown, &entrance, peer, shutdown).await;
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

    /// Whose connection it is, unless there are too many of theirs already.
    async fn welcome(
        &self,
        mut tcp: TcpStream,
        peer: SocketAddr,
    ) -> Option<(TcpStream, SocketAddr, Option<EnteredFrom<'_>>)> {
        let settings = self.settings.load_full();
        let is_proxy = settings.proxies.has(&peer.ip().to_canonical());
        let mut caller = peer;
        if settings.proxies.speak_proxy_protocol {
            let told = match is_proxy {
                true => timeout(settings.bounds.header_deadline, proxied::read(&mut tcp)).await,
                false => Ok(Err(std::io::ErrorKind::PermissionDenied.into())),
            };
            match told {
                Ok(Ok(told)) => caller = told.unwrap_or(peer),
                Ok(Err(_)) | Err(_) => {
                    self.connections.turn_away(Turned::Proxy);
                    return None;
                }
            }
        } else if is_proxy {
            return Some((tcp, caller, None));
        }
        let most = settings.bounds.max_per_address;
        let entered = self.connections.enter_from(caller.ip(), most)?;
        Some((tcp, caller, Some(entered)))
    }

    /// The connection, ready for requests, and the certificate that the client has shown. The handshake has as long as a header
    /// has.
    async fn open(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        entrance: &Entrance,
    ) -> Option<(Transport, Option<Box<Shown>>)> {
        let tcp = prepare(tcp, peer)?;
        let Entrance::Tls(door) = entrance else {
            return Some((Transport::Plain(tcp), None));
        };
        let deadline = self.settings.load().bounds.header_deadline;
        let shaken = timeout(deadline, door.shake_hands(tcp)).await;
        let (stream, shown) = shaken.ok().flatten()?;
        Some((Transport::Tls(Box::new(stream)), shown))
    }

    async fn serve(
        &self,
        mut transport: Transport,
        mut shown: Option<Box<Shown>>,
        entrance: &Entrance,
        peer: SocketAddr,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut ahead = BytesMut::new();
        let opening = match entrance {
            Entrance::Plain { http2: true } => self.opening(&mut transport, &mut ahead, &mut shutdown).await,
            Entrance::Plain { http2: false } => Opening::Http1,
            Entrance::Tls(_) if transport.selected_alpn_proto() == Some(ALPN::H2) => Opening::Http2,
            Entrance::Tls(_) => Opening::Http1,
        };
        let mut stream = match opening {
            Opening::Http1 => Box::new(Downstream::new(transport)),
            Opening::Http2 => return http2::serve(self, transport, shown, ahead.freeze(), peer, shutdown).await,
            Opening::Nothing => return,
            Opening::Fault(fault) => {
                let mut stream = Downstream::new(transport);
                return refuse(&*self.refusals, &mut stream, peer, &ahead, fault).await;
            }
        };
        let (mut settings, mut alarm) = (None, Alarm::default());
        for served in 1.. {
            let (head, bounds, began) = match self.read_head(&mut stream, &mut ahead, &mut shutdown, &mut alarm).await {
                Ok(Some(read)) => read,
                Ok(None) => return,
                Err(fault) => return refuse(&*self.refusals, &mut stream, peer, &ahead, fault).await,
            };
            if !shown::is_good(&mut shown) {
                return;
            }
            // Bytes beyond this request are the next one's: Pingora would end the connection over them.
            let (prefix, awaited) = match take(&head, &mut ahead) {
                Ok(taken) => taken,
                Err(fault) => return refuse(&*self.refusals, &mut stream, peer, &ahead, fault).await,
            };
            let until = began + bounds.request_deadline;
            stream.await_only(awaited, bounds.sending, bounds.taking, until);
            if head.upgrade {
                // What follows at once is of the other protocol, if the answer is one.
                stream.keep(ahead.split());
            }
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings.take() {
                pingora::apps::HttpPersistentSettings::apply_to_session(settings, &mut session);
            }
            // Whether the client wants to go on is known when Pingora has read the header: then the proxy says what is done.
            session.set_keepalive_reuses_remaining((served >= bounds.max_requests).then_some(0));
            session.set_pipelined_prefix(prefix);
            let exchange = self.app.process_new_http(session, &shutdown);
            let Some(Some(reused)) = until_cut(exchange, &mut alarm).await else {
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

    /// Reads until it is clear whether the client begins with the preface of HTTP/2 (RFC 9113 §3.4).
    async fn opening(
        &self,
        transport: &mut Transport,
        ahead: &mut BytesMut,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Opening {
        let bounds = self.settings.load().bounds;
        let first = tokio::select! {
            first = timeout(bounds.idle, transport::read_some(transport, ahead)) => first,
            _ = shutdown.wait_for(|stop| *stop) => return Opening::Nothing,
        };
        let Ok(Ok(1..)) = first else {
            return Opening::Nothing;
        };
        let deadline = Instant::now() + bounds.header_deadline;
        while ahead.len() < http2::PREFACE.len() && http2::PREFACE.starts_with(ahead) {
            match timeout_at(deadline, transport::read_some(transport, ahead)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => break,
                Err(_) => return Opening::Fault(HeadFault::Slow),
            }
        }
        match () {
            () if ahead.starts_with(http2::PREFACE) => Opening::Http2,
            () if ahead.starts_with(http2::PREFACE_LINE) => {
                Opening::Fault(HeadFault::Invalid("the preface of HTTP/2 breaks off"))
            }
            () => Opening::Http1,
        }
    }

    /// Reads until the header is whole; with it come the bounds it was read within, and when it began.
    /// `None` where there is nobody to answer.
    async fn read_head(
        &self,
        stream: &mut Downstream,
        buffer: &mut BytesMut,
        shutdown: &mut watch::Receiver<bool>,
        alarm: &mut Alarm,
    ) -> Result<Option<(Head, Bounds, Instant)>, HeadFault> {
        // RFC 9112 §2.2: an empty line before the request is forgiven, once.
        let mut may_skip = true;
        loop {
            if buffer.is_empty() {
                // What is left of the last request must not be held while nothing comes.
                *buffer = BytesMut::new();
                let until = Instant::now() + self.settings.load().bounds.idle;
                let first = tokio::select! {
                    first = alarm.before(until, stream.read_first(buffer)) => first,
                    _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
                };
                match first {
                    Some(Ok(count)) if count > 0 => {}
                    _ => return Ok(None),
                }
            }
            let began = Instant::now();
            let bounds = self.settings.load().bounds;
            let deadline = began + bounds.header_deadline;
            let mut parsed = 0;
            loop {
                if may_skip && buffer.starts_with(b"\r\n") {
                    buffer.advance(2);
                    may_skip = false;
                    if buffer.is_empty() {
                        break;
                    }
                }
                // Byte by byte arrivals must not cost a reading each: only the end of a line can end a header.
                // And so can a request line that is too long already.
                let fresh = buffer.get(parsed..).unwrap_or_default();
                let longest = head::longest_line(&bounds);
                if fresh.contains(&b'\n') || fresh.len() > 4096 || parsed <= longest && buffer.len() > longest {
                    parsed = buffer.len();
                    if let Some(head) = head::parse(buffer, &bounds)? {
                        return Ok(Some((head, bounds, began)));
                    }
                }
                match alarm.before(deadline, stream.read_first(buffer)).await {
                    Some(Ok(count)) if count > 0 => {}
                    // What had no request line yet was no request.
                    Some(_) if buffer.contains(&b'\n') => return Err(HeadFault::Broken),
                    Some(_) => return Ok(None),
                    None => return Err(HeadFault::Slow),
                }
            }
        }
    }
}

/// Takes the request that `ahead` begins with, as far as it is there, and says what is still to come of it.
fn take(head: &Head, ahead: &mut BytesMut) -> Result<(BytesMut, Awaited), HeadFault> {
    match head.body {
        Framing::Length(length) => {
            let there = head.length.saturating_add(length).min(ahead.len());
            let rest = ahead.split_off(there);
            let taken = std::mem::replace(ahead, rest);
            let awaited = length.saturating_sub(there.saturating_sub(head.length));
            Ok((head.rewrite(taken), Awaited::Bytes(awaited)))
        }
        Framing::Chunked => {
            let (mut chunks, mut body) = (Box::new(Chunks::new()), BytesMut::new());
            let sent = ahead.get(head.length..).unwrap_or_default();
            let own = chunks
                .read(sent, &mut body)
                .map_err(|_| HeadFault::Invalid("the chunks of the body cannot be read unambiguously"))?;
            let mut taken = head.rewrite(ahead.split_to(head.length));
            ahead.advance(own);
            taken.unsplit(body);
            let awaited = match chunks.is_done() {
                true => Awaited::Bytes(0),
                false => Awaited::Chunks(chunks),
            };
            Ok((taken, awaited))
        }
    }
}

/// How a client begins.
enum Opening {
    /// With a request.
    Http1,
    /// With the preface, or as was agreed on in the handshake.
    Http2,
    /// Not at all.
    Nothing,
    /// With something that is neither.
    Fault(HeadFault),
}

fn prepare(tcp: TcpStream, peer: SocketAddr) -> Option<L4Stream> {
    use std::os::fd::AsRawFd;
    tcp.set_nodelay(true).ok()?;
    kernel::hold_little(tcp.as_raw_fd());
    let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
    let _ = digest
        .peer_addr
        .set(Some(pingora::protocols::l4::socket::SocketAddr::Inet(peer)));
    let mut stream = L4Stream::from(tcp);
    stream.set_socket_digest(digest);
    Some(stream)
}
