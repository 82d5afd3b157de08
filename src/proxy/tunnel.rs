//! Sockets (RFC 6455): the handshake with the endpoint, and bytes each way until one side ends.
//!
//! They do not go Pingora's way of upgrades. There a very fast answer may end the socket at once
//! (cloudflare/pingora#946), and an endpoint that writes before it reads on can wait for a gate that waits for it: here both
//! directions move by themselves. Nothing is read or changed on the way; frames are only followed, so that the gate closes
//! between two of them.

use std::future::poll_fn;
use std::io::{self, Cursor};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use http::{HeaderValue, StatusCode, Version, header};
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession as Http1;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::exchange::Tunnelled;
use super::{Exchange, failure, lasting, reply, response, upstream};
use crate::engine::{Act, Ended, EndedBy, HeaderEdits};
use crate::front::unbound;
use crate::live::{Cut, Live};
use crate::policies::websocket::frames::{self, Frames};
use crate::policies::websocket::handshake::{self, Fault};
use crate::upstreams::wellformed;

/// Bytes read at once.
const PIECE: usize = 16 << 10;
/// A client that was told of the end has so long to say that it knows.
const FAREWELL: Duration = Duration::from_secs(2);
/// Statuses of RFC 6455 §7.4.1.
const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;

/// Opens the socket that was asked for and carries it to its end, or answers as the endpoint does.
pub(super) async fn open(live: &Arc<Live>, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    let request = session.req_header();
    let accept = match handshake::check(&request.method, &request.headers) {
        Ok(accept) => accept,
        Err(fault) => return refuse(session, exchange, fault).await,
    };
    let lasts = lasting::watch(session, exchange, true)?;
    let cut = lasts.cut().clone();
    let (mut client, answer) = match ask(live, session, exchange, &cut).await {
        Ok(asked) => asked,
        Err(error) => {
            // It is recorded why it had to end.
            exchange.lasts = cut.ended().is_some().then_some(lasts);
            return Err(error);
        }
    };
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        // From here on it is watched over like any answer.
        drop(lasts);
        return pass_on(session, exchange, client, answer).await;
    }
    if answer.version != Version::HTTP_11 || !handshake::is_opened(&answer.headers, &accept) {
        exchange.failure = Some(failure::broken());
        let fault = Error::explain(ErrorType::InvalidHTTPHeader, "a socket that was not asked for");
        return Err(fault.into_up());
    }
    upstream::note_status(answer.status, exchange);
    // Frames may stand right behind the header.
    client.read_timeout = None;
    let first = match client.read_body_bytes().now_or_never() {
        None => Bytes::new(),
        Some(read) => read.map_err(|error| error.into_up())?.unwrap_or_default(),
    };
    let mut head = answer;
    response::strip(&mut head);
    response::decorate(&mut head, exchange)?;
    let idle = exchange.attempt.pool.as_ref().map(|pool| pool.settings.timeout.idle.0);
    let stream = take(session, head).await?;
    let tunnel = Tunnel::new(stream, client.into_inner());
    // What is dropped from here on is a socket that was open.
    exchange.lasts = Some(lasts);
    exchange.tunnel = Some(tunnel.run(first, idle.unwrap_or(Duration::MAX), &cut).await);
    Ok(())
}

async fn refuse(session: &mut Session, exchange: &mut Exchange, fault: Fault) -> Result<()> {
    let denial = match fault {
        Fault::Request(detail) => failure::refuse(StatusCode::BAD_REQUEST, "websocket-invalid", detail),
        Fault::Version => {
            // RFC 6455 §4.4, RFC 9110 §15.5.22.
            let said = [
                (header::SEC_WEBSOCKET_VERSION, handshake::VERSION),
                (header::UPGRADE, "websocket"),
            ];
            let edits = HeaderEdits {
                set: said.map(|(name, value)| (name, HeaderValue::from_static(value))).into(),
                ..HeaderEdits::default()
            };
            if let Some(decision) = &mut exchange.decision {
                decision.acts.push(Act::ResponseHeaders(Arc::new(edits)));
            }
            let detail = "version 13 of the protocol is spoken here";
            failure::refuse(StatusCode::UPGRADE_REQUIRED, "websocket-version", detail)
        }
    };
    reply::refuse(session, exchange, denial).await
}

/// Hands the handshake to an endpoint, and reads what it answers.
async fn ask(
    live: &Arc<Live>,
    session: &mut Session,
    exchange: &mut Exchange,
    cut: &Cut,
) -> Result<(Http1, ResponseHeader)> {
    loop {
        let peer = upstream::peer(session, exchange)?;
        let mut client = match live.caller.dial(&peer).await {
            Ok(client) => client,
            Err(error) => {
                let error = upstream::failed_to_connect(exchange, error.into_up());
                match error.retry() {
                    true => continue,
                    false => return Err(error),
                }
            }
        };
        let mut request = session.req_header().clone();
        for name in ["te", "trailer", "keep-alive", "proxy-connection", "proxy-authorization"] {
            request.remove_header(name);
        }
        upstream::write_request(session, &mut request, exchange)?;
        request.insert_header(header::CONNECTION, "Upgrade")?;
        request.insert_header(header::UPGRADE, "websocket")?;
        let sent = client.write_request_header(Box::new(request)).await;
        sent.map_err(|error| error.into_up())?;
        match read_answer(session, exchange, &mut client, cut).await {
            Ok(answer) => return Ok((client, answer)),
            Err(error) if error.retry() => {}
            Err(error) => return Err(error),
        }
    }
}

/// The answer, interim ones left out, unless the client leaves before or the exchange has to end.
async fn read_answer(
    session: &mut Session,
    exchange: &mut Exchange,
    client: &mut Http1,
    cut: &Cut,
) -> Result<ResponseHeader> {
    let pool = exchange.attempt.pool.as_ref();
    let patience = pool.map(|pool| pool.settings.timeout.response.0);
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    // One deadline holds for all of the header, and not for each piece of it.
    client.read_timeout = None;
    loop {
        let answer = tokio::select! {
            answer = while_there(session, read_header(client, deadline)) => answer?,
            _ = cut.told() => {
                let error = Error::explain(ErrorType::ConnectionClosed, "a socket that has to end before it is open");
                return Err(error.into_down());
            }
        };
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            upstream::read_response(session, &answer, exchange)?;
        } else if let Err(fault) = wellformed::check_fields(&answer, exchange.attempt.interim) {
            exchange.failure = Some(failure::broken());
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, fault).into_up());
        }
        if !answer.status.is_informational() || answer.status == StatusCode::SWITCHING_PROTOCOLS {
            client.read_timeout = patience;
            return Ok(answer);
        }
    }
}

/// The header of the next answer, interim or not.
async fn read_header(client: &mut Http1, deadline: Option<Instant>) -> Result<ResponseHeader> {
    let reading = client.read_response();
    let read = match deadline {
        Some(deadline) => timeout_at(deadline, reading)
            .await
            .unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, "while reading the header of an answer")),
        None => reading.await,
    };
    read.map_err(|error| error.into_up())?;
    let answer = client
        .resp_header()
        .ok_or_else(|| Error::new(ErrorType::InternalError))?;
    Ok(answer.clone())
}

/// What comes of an endpoint, unless the client leaves before.
async fn while_there<T>(session: &mut Session, asked: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        asked = asked => asked,
        // What it sends early is kept for the endpoint.
        left = session.as_downstream_mut().read_body_or_idle(true) => {
            let left = left.err().unwrap_or_else(|| Error::explain(ErrorType::ConnectionClosed, "the client left"));
            Err(left.into_down())
        }
    }
}

/// Passes an answer on that opens no socket.
async fn pass_on(
    session: &mut Session,
    exchange: &mut Exchange,
    mut client: Http1,
    mut head: ResponseHeader,
) -> Result<()> {
    let has_body = !client.is_body_done();
    let is_framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    if has_body && !is_framed.iter().any(|name| head.headers.contains_key(name)) {
        head.set_version(Version::HTTP_11);
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    if lasting::is_stream(&head.headers) {
        client.read_timeout = exchange.attempt.pool.as_ref().map(|pool| pool.settings.timeout.idle.0);
    }
    response::filter(session, &mut head, exchange).await?;
    session.write_response_header(Box::new(head), !has_body).await?;
    loop {
        let reading = async { client.read_body_bytes().await.map_err(|error| error.into_up()) };
        let mut body = while_there(session, reading).await?;
        let end = body.is_none();
        lasting::notice_length(session, exchange, end)?;
        response::body(&mut body, end, exchange)?;
        exchange.body.sent += body.as_ref().map_or(0, |body| body.len() as u64);
        // Of an answer that is held back, nothing was written yet.
        if response::written(session).is_some() && (end || body.is_some()) {
            session.write_response_body(body, end).await?;
        }
        if end {
            return Ok(());
        }
    }
}

/// Answers 101 and takes the client's connection out of the session. What stays knows the request and the answer, for those
/// who come after, and reaches nobody.
async fn take(session: &mut Session, head: ResponseHeader) -> Result<Stream> {
    let request = session.req_header().clone();
    session.write_response_header(Box::new(head.clone()), false).await?;
    let mut left = ServerSession::new_http1(Box::new(Cursor::new(Vec::new())));
    left.set_pipelined_prefix(BytesMut::from(&b"GET / HTTP/1.1\r\nHost: -\r\n\r\n"[..]));
    left.read_request().await?;
    *left.req_header_mut() = request;
    left.write_response_header(Box::new(head)).await?;
    left.set_keepalive(None);
    let taken = match std::mem::replace(session.as_downstream_mut(), left) {
        ServerSession::H1(taken) => unbound(taken.into_inner()),
        _ => None,
    };
    taken.ok_or_else(|| Error::explain(ErrorType::InternalError, "no connection to carry a socket"))
}

/// Two connections that are one.
struct Tunnel {
    from_client: ReadHalf<Stream>,
    to_client: WriteHalf<Stream>,
    from_upstream: ReadHalf<Stream>,
    to_upstream: WriteHalf<Stream>,
}

/// What has moved so far.
struct Traffic {
    received: u64,
    sent: u64,
    last: Instant,
    frames: Frames,
}

impl Tunnel {
    fn new(client: Stream, upstream: Stream) -> Self {
        let (from_client, to_client) = tokio::io::split(client);
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        Self {
            from_client,
            to_client,
            from_upstream,
            to_upstream,
        }
    }

    /// Carries bytes until one side ends, nothing moves for so long, or it has to end; `first` are the endpoint's first.
    async fn run(mut self, first: Bytes, idle: Duration, cut: &Cut) -> Tunnelled {
        let traffic = Mutex::new(Traffic {
            received: 0,
            sent: 0,
            last: Instant::now(),
            frames: Frames::default(),
        });
        let ended = tokio::select! {
            ended = cut.told() => ended,
            () = up(&mut self.from_client, &mut self.to_upstream, &traffic) => EndedBy::Client.into(),
            by = down(first, &mut self.from_upstream, &mut self.to_client, &traffic) => by.into(),
            () = stillness(&traffic, idle) => EndedBy::Idle.into(),
        };
        let traffic = traffic.into_inner();
        if let Some(frame) = farewell(&ended).filter(|_| traffic.frames.may_add()) {
            self.say_farewell(&frame).await;
        }
        let ends = async { tokio::join!(self.to_client.shutdown(), self.to_upstream.shutdown()) };
        let _ = timeout(FAREWELL, ends).await;
        Tunnelled {
            received: traffic.received,
            sent: traffic.sent,
            ended,
        }
    }

    /// Tells the client of the end, and waits for it to hang up (RFC 6455 §7.1.1).
    async fn say_farewell(&mut self, frame: &[u8]) {
        let farewell = async {
            self.to_client.write_all(frame).await?;
            self.to_client.flush().await?;
            let mut ignored = BytesMut::new();
            while read_some(&mut self.from_client, &mut ignored).await? > 0 {
                ignored.clear();
            }
            io::Result::Ok(())
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

/// The frame that tells a client why the gate ends its socket.
fn farewell(ended: &Ended) -> Option<Vec<u8>> {
    let (status, why) = match ended.by {
        EndedBy::Client | EndedBy::Upstream => return None,
        EndedBy::Idle | EndedBy::Shutdown => (GOING_AWAY, ended.by.word()),
        EndedBy::Expiry => (POLICY_VIOLATION, "expired"),
        EndedBy::Refusal => (POLICY_VIOLATION, ended.code.as_deref().unwrap_or("not-allowed")),
    };
    Some(frames::close(status, why))
}

/// Carries what the client sends, until it ends.
async fn up(client: &mut ReadHalf<Stream>, upstream: &mut WriteHalf<Stream>, traffic: &Mutex<Traffic>) {
    let carried = async {
        loop {
            // No buffer is held while nothing comes.
            let mut piece = BytesMut::new();
            if read_some(client, &mut piece).await? == 0 {
                return io::Result::Ok(());
            }
            upstream.write_all(&piece).await?;
            upstream.flush().await?;
            let mut traffic = traffic.lock();
            traffic.received += piece.len() as u64;
            traffic.last = Instant::now();
        }
    };
    let _ = carried.await;
}

/// Carries what the endpoint sends, until it ends or the client takes no more.
async fn down(
    first: Bytes,
    upstream: &mut ReadHalf<Stream>,
    client: &mut WriteHalf<Stream>,
    traffic: &Mutex<Traffic>,
) -> EndedBy {
    let mut piece = BytesMut::from(first);
    loop {
        while piece.has_remaining() {
            let Ok(written @ 1..) = client.write(&piece).await else {
                return EndedBy::Client;
            };
            let mut traffic = traffic.lock();
            traffic.frames.pass(piece.get(..written).unwrap_or_default());
            traffic.sent += written as u64;
            traffic.last = Instant::now();
            piece.advance(written);
        }
        if client.flush().await.is_err() {
            return EndedBy::Client;
        }
        piece = BytesMut::new();
        match read_some(upstream, &mut piece).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return EndedBy::Upstream,
        }
    }
}

/// Returns once nothing has moved for so long.
async fn stillness(traffic: &Mutex<Traffic>, idle: Duration) {
    loop {
        let last = traffic.lock().last;
        let Some(end) = last.checked_add(idle) else {
            return std::future::pending().await;
        };
        sleep_until(end).await;
        if traffic.lock().last == last {
            return;
        }
    }
}

/// Appends the next bytes.
async fn read_some(from: &mut (impl AsyncRead + Unpin), to: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|context| {
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut *from).poll_read(context, &mut piece))?;
        to.extend_from_slice(piece.filled());
        std::task::Poll::Ready(Ok(piece.filled().len()))
    })
    .await
}
