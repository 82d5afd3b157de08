//! HTTP/2: the frames of a connection are the `h2` crate's; each request on it is a session of our own for Pingora.
//!
//! Pingora's own knows no pace of bodies, answers what it refuses without a record, and drops interim answers. What HTTP/1
//! refuses is refused here with the same codes, as an answer on the request's stream; what no reader of HTTP/2 takes for a
//! request (RFC 9113 §8.1.1) ends its stream with PROTOCOL_ERROR. Source: RFC 9113.

mod frames;
mod gauge;
mod head;
mod stream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{StatusCode, header};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl, UniqueID};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::connections::Cut;
use super::framing::is_bodyless;
use super::head::HeadFault;
use super::refuse::ALLOWED;
use super::shown::{self, Shown};
use super::transport::Transport;
use super::{Bounds, Front};
use crate::engine::{Denial, DenialKind, problem};
use crate::live::{Alarm, until_cut};

use gauge::Gauge;
use stream::Stream;
use wire::Wire;

/// What a client begins with (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// So far no request begins.
pub(super) const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Requests that a client may have under way on one connection.
const STREAMS: u32 = 100;
/// Bytes of one answer that wait for the connection; what is beyond waits where it comes from.
const WAITING: usize = 64 << 10;
/// Bytes of bodies that nobody has read yet, of all requests of a connection: several that are not read leave room for others.
const UNREAD: u32 = 256 << 10;
/// What pieces of bodies that nobody has read yet may cost besides, by the account of the `h2` crate: 256 less their length each.
/// A client fills the window of a stream at once, if it has to with messages of gRPC that are empty.
const PIECES: usize = 4 << 20;
/// Requests of one connection that are refused here; of a client of HTTP/1 there is one.
const REFUSED: u32 = 32;
/// A connection that was told to end is given so long once nothing is under way.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one connection whose first bytes were read already as far as they are `ahead`.
pub(super) async fn serve<A>(
    front: &Front<A>,
    transport: Transport,
    mut shown: Option<Box<Shown>>,
    ahead: Bytes,
    peer: SocketAddr,
    mut shutdown: watch::Receiver<bool>,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let bounds = front.settings.load().bounds;
    let digest = Arc::new(Digest {
        ssl_digest: transport.get_ssl_digest(),
        timing_digest: transport.get_timing_digest(),
        proxy_digest: transport.get_proxy_digest(),
        socket_digest: transport.get_socket_digest(),
    });
    let gauge = Arc::new(Gauge::new(transport.id()));
    let wire = Wire::new(transport, ahead, &bounds, gauge.clone());
    let Ok(Ok(mut connection)) = timeout(bounds.header_deadline, options(&bounds).handshake(wire)).await else {
        return;
    };
    let under_way = Arc::new(UnderWay::default());
    let (mut accepted, mut refused, mut is_ending) = (0, 0, false);
    loop {
        let bounds = front.settings.load().bounds;
        let next = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop), if !is_ending => Next::Stop,
            next = accept(&mut connection, &gauge) => next,
            () = under_way.none_for(if is_ending { LINGER } else { bounds.idle }) => Next::Idle,
        };
        let (request, mut reply) = match next {
            Next::Request(request) => request,
            Next::Stop => {
                connection.graceful_shutdown();
                (accepted, is_ending) = (0, true);
                continue;
            }
            Next::Idle => return end(connection, Reason::NO_ERROR).await,
            Next::Cut(why) => {
                front.connections.cut(why);
                let reason = match why {
                    Cut::Malformed => Reason::PROTOCOL_ERROR,
                    Cut::Frames | Cut::Resets | Cut::Slow => Reason::ENHANCE_YOUR_CALM,
                };
                return end(connection, reason).await;
            }
            Next::Gone(why) => return why.into_iter().for_each(|why| front.connections.cut(why)),
        };
        if !shown::is_good(&mut shown) {
            // Nobody has seen it: the client may send it again.
            reply.send_reset(Reason::REFUSED_STREAM);
            return end(connection, Reason::NO_ERROR).await;
        }
        accepted += 1;
        if is_ending && accepted > STREAMS {
            // More than can have been on their way when the client was told.
            front.connections.cut(Cut::Frames);
            return end(connection, Reason::ENHANCE_YOUR_CALM).await;
        }
        let (mut request, body) = request.into_parts();
        if gauge.cut().is_some() {
            // It came before the client was cut off, which is told that it was looked at.
            let fault = HeadFault::Invalid("the connection is ended for what else came on it");
            refuse(front, peer, &request, body, reply, fault);
            continue;
        }
        match head::check(&mut request, &bounds) {
            Ok(()) => {
                let stream = Stream::new(request, body, reply, digest.clone(), &bounds, gauge.clone());
                let (app, shutdown, counted) = (front.app.clone(), shutdown.clone(), under_way.enter());
                tokio::spawn(async move {
                    let _counted = counted;
                    let session = ServerSession::new_custom(Box::new(stream));
                    // What has to end before its end is dropped, and so its stream is reset.
                    let _ = until_cut(app.process_new_http(session, &shutdown), &mut Alarm::default()).await;
                });
            }
            Err(fault) => {
                refuse(front, peer, &request, body, reply, fault);
                refused += 1;
            }
        }
        if refused > REFUSED {
            front.connections.cut(Cut::Malformed);
            return end(connection, Reason::ENHANCE_YOUR_CALM).await;
        }
        if !is_ending && accepted >= bounds.max_requests {
            connection.graceful_shutdown();
            (accepted, is_ending) = (0, true);
        }
    }
}

/// What happens next on a connection.
#[expect(clippy::large_enum_variant, reason = "taken apart where it is made")]
enum Next {
    Request((http::Request<RecvStream>, SendResponse<Bytes>)),
    Stop,
    Idle,
    /// The connection has to be ended.
    Cut(Cut),
    /// It has ended; for a fault of the client's, where there is one.
    Gone(Option<Cut>),
}

/// Drives the connection until there is another request, or none will be. Those that were read come before the end.
async fn accept(connection: &mut Connection<Wire, Bytes>, gauge: &Gauge) -> Next {
    let mut accepting = std::pin::pin!(connection.accept());
    std::future::poll_fn(|context| {
        let accepted = accepting.as_mut().poll(context);
        if let (Some(why), false) = (gauge.cut(), matches!(accepted, Poll::Ready(Some(Ok(_))))) {
            return Poll::Ready(Next::Cut(why));
        }
        accepted.map(|request| match request {
            Some(Ok(request)) => Next::Request(request),
            Some(Err(error)) if error.is_library() && error.is_go_away() => Next::Gone(Some(match error.reason() {
                Some(Reason::ENHANCE_YOUR_CALM) => Cut::Frames,
                _ => Cut::Malformed,
            })),
            Some(Err(_)) | None => Next::Gone(None),
        })
    })
    .await
}

fn options(bounds: &Bounds) -> Builder {
    // RFC 9113 §6.5.2 counts 32 bytes more for each field. What is a little too large is refused here, with a record.
    let fields = bounds.max_header + 32 * bounds.max_lines + (16 << 10);
    let mut options = Builder::new();
    options
        .max_header_list_size(u32::try_from(fields).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .max_local_error_reset_streams(None)
        .data_frame_budget(PIECES)
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_send_buffer_size(WAITING)
        .initial_connection_window_size(UNREAD);
    options
}

/// Says that the connection ends, and why.
async fn end(mut connection: Connection<Wire, Bytes>, reason: Reason) {
    connection.abrupt_shutdown(reason);
    let _ = timeout(LINGER, std::future::poll_fn(|context| connection.poll_closed(context))).await;
}

/// Answers a request that is none of ours to serve.
fn refuse<A>(
    front: &Front<A>,
    peer: SocketAddr,
    request: &Parts,
    body: RecvStream,
    mut reply: SendResponse<Bytes>,
    fault: HeadFault,
) {
    let (status, code, detail) = fault.told();
    let denial = Denial::new(DenialKind::Refuse, status, code, detail);
    let target = request.uri.path_and_query().map_or("", |target| target.as_str());
    let target: String = target.chars().take(256).collect();
    let id = front.refusals.refused(peer, &request.method, &target, &denial);
    let own = problem(&denial, &id, jiff::Timestamp::UNIX_EPOCH, 0);
    let mut answer = http::Response::new(());
    *answer.status_mut() = own.status;
    answer.headers_mut().extend(own.headers);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(header::ALLOW, ALLOWED);
    }
    if let Ok(id) = http::HeaderValue::from_str(&id) {
        answer.headers_mut().insert("x-request-id", id);
    }
    let is_bodyless = is_bodyless(&request.method, status);
    if let (Ok(mut sent), false) = (reply.send_response(answer, is_bodyless), is_bodyless) {
        let _ = sent.send_data(own.body, true);
    }
    // Only now: h2 ends a stream whose body nobody wants.
    drop(body);
}

/// The requests of a connection that are being served.
#[derive(Default)]
struct UnderWay {
    count: AtomicUsize,
    left: Notify,
}

impl UnderWay {
    /// Counts one more until what is returned is dropped.
    fn enter(self: &Arc<Self>) -> Entered {
        self.count.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }

    /// Waits until there is none, and then for that long.
    async fn none_for(&self, idle: Duration) {
        while self.count.load(Ordering::Relaxed) > 0 {
            self.left.notified().await;
        }
        sleep(idle).await;
    }
}

/// A request that counts.
struct Entered(Arc<UnderWay>);

impl Drop for Entered {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.left.notify_one();
        }
    }
}
