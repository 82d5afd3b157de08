//! One request and its answer: a stream (RFC 9113 §5), as Pingora's proxy uses it.
//!
//! Each body has its pace, as in HTTP/1. What a client's fault comes to is told by the kind of the error: `ReadTimedout` for
//! a body that dawdles, `ConnectionClosed` for a client that has left, `ReadError` with [`io::ErrorKind::InvalidData`] for a
//! body that is none. Where an endpoint's answer is overdue, whoever reads is told that the client has left.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::body_buffer::FixedBuffer;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::http::v1::client::http_req_header_to_wire;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{BError, Error, ErrorType, Result};
use tokio::time::{Instant, timeout};

use super::super::framing::is_bodyless;
use super::super::pace::{Pace, Watch};
use super::Bounds;
use super::gauge::{End, Gauge};
use crate::engine::may_trail;
use crate::live::{is_call, is_header_overdue, is_stream};

/// What is kept of a body for another try; as in Pingora's other sessions.
const KEPT: usize = 64 << 10;

type Messages = Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

pub(super) struct Stream {
    request: RequestHeader,
    body: RecvStream,
    /// No more of the body comes.
    is_done: bool,
    read: usize,
    /// What was read so far, where it may have to be sent again.
    kept: Option<FixedBuffer>,
    reading: Watch,
    reply: SendResponse<Bytes>,
    written: Option<Box<ResponseHeader>>,
    answer: Option<SendStream<Bytes>>,
    /// The last of the answer was given to `h2`.
    is_ended: bool,
    /// And has gone to the client.
    is_gone: bool,
    sent: usize,
    taking: Pace,
    writing: Watch,
    /// Where there is no room: what the client had taken when that began.
    waiting: Option<u64>,
    /// What it took of all answers in the waits before.
    meanwhile: u64,
    gauge: Arc<Gauge>,
    /// Its number on the connection.
    number: u32,
    drain: Option<Duration>,
    digest: Arc<Digest>,
}

impl Stream {
    pub fn new(
        request: Parts,
        body: RecvStream,
        reply: SendResponse<Bytes>,
        digest: Arc<Digest>,
        bounds: &Bounds,
        gauge: Arc<Gauge>,
    ) -> Self {
        let number = reply.stream_id().into();
        gauge.enter(number);
        Self {
            request: request.into(),
            body,
            is_done: false,
            read: 0,
            kept: None,
            reading: Watch::new(bounds.sending, Some(Instant::now() + bounds.request_deadline)),
            reply,
            written: None,
            answer: None,
            is_ended: false,
            is_gone: false,
            sent: 0,
            taking: bounds.taking,
            writing: Watch::new(bounds.taking, None),
            waiting: None,
            meanwhile: 0,
            gauge,
            number,
            drain: None,
            digest,
        }
    }

    fn has_all(&self) -> bool {
        self.is_done || self.body.is_end_stream()
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if self.is_done {
            return Poll::Ready(Ok(None));
        }
        if is_header_overdue() {
            return Poll::Ready(Err(overdue()));
        }
        let data = loop {
            match self.body.poll_data(context) {
                // An empty one says at most that the body ends. As a piece of it, it would be an end of its own in HTTP/1.
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                data => break data,
            }
        };
        match data {
            Poll::Ready(Some(Ok(data))) => {
                self.read += data.len();
                self.reading.moved(data.len());
                if let Some(kept) = &mut self.kept {
                    kept.write_to_buffer(&data);
                }
                let _ = self.body.flow_control().release_capacity(data.len());
                Poll::Ready(Ok(Some(data)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(broken(error))),
            Poll::Ready(None) => {
                let trailers = ready!(self.body.poll_trailers(context)).map_err(broken)?;
                self.is_done = true;
                // As in HTTP/1, none is handed on.
                if trailers.is_some_and(|trailers| trailers.keys().any(|name| !may_trail(name.as_str()))) {
                    let invalid = io::Error::new(io::ErrorKind::InvalidData, "what no trailer may be");
                    return Poll::Ready(Err(none(invalid)));
                }
                Poll::Ready(Ok(None))
            }
            Poll::Pending if self.is_conversation() => Poll::Pending,
            Poll::Pending => {
                ready!(self.reading.poll_wait(context));
                Poll::Ready(Error::e_explain(ErrorType::ReadTimedout, "a body that dawdles"))
            }
        }
    }

    /// Whether the client sends and takes messages as they come: who is silent waits for the other.
    fn is_conversation(&self) -> bool {
        !self.is_ended
            && match &self.written {
                Some(head) => is_stream(&head.headers),
                None => is_call(),
            }
    }

    /// Ready once the client wants no answer any more, or there will be none.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<BError> {
        if is_header_overdue() {
            return Poll::Ready(overdue());
        }
        let reset = match &mut self.answer {
            Some(answer) => answer.poll_reset(context),
            None => self.reply.poll_reset(context),
        };
        reset.map(|reset| match reset {
            Ok(reason) => gone(format!("the client ended the stream: {reason}")),
            Err(error) => broken(error),
        })
    }

    /// Waits for room for so many bytes; there may be less.
    fn poll_room(&mut self, wanted: usize, context: &mut Context<'_>) -> Poll<Result<usize>> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Error::e_explain(ErrorType::InternalError, "a body before its header"));
        };
        let room = loop {
            if self.gauge.poll_room(wanted, context).is_pending() {
                break None;
            }
            answer.reserve_capacity(wanted);
            let open = match answer.capacity() {
                0 => match answer.poll_capacity(context) {
                    Poll::Ready(Some(Ok(open))) => open,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(unsent(error))),
                    Poll::Ready(None) => return Poll::Ready(Err(gone("the stream has ended".to_owned()))),
                    Poll::Pending => break None,
                },
                open => open,
            };
            match self.gauge.hold(self.number, open.min(wanted)) {
                0 => {}
                room => break Some(room),
            }
        };
        let Some(room) = room else {
            ready!(self.poll_no_room(context));
            return Poll::Ready(Err(unsent(io::Error::from(io::ErrorKind::TimedOut))));
        };
        if let Some(before) = self.waiting.take() {
            self.meanwhile += self.gauge.taken().saturating_sub(before);
        }
        self.writing.moved(room);
        Poll::Ready(Ok(room))
    }

    /// Ready once the client has taken too little for too long. Many answers on a slow connection wait for one another: none is
    /// too slow while the client takes as much of all of them as it would have to of one, and would take more of this one.
    fn poll_no_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let before = *self.waiting.get_or_insert_with(|| self.gauge.taken());
        ready!(self.writing.poll_wait(context));
        let taken = self.meanwhile + self.gauge.taken().saturating_sub(before);
        let is_enough = taken >= self.writing.waited().as_secs().max(1).saturating_mul(self.taking.rate);
        if !is_enough || !self.gauge.is_open(self.number) {
            return Poll::Ready(());
        }
        self.writing = Watch::new(self.taking, None);
        (self.waiting, self.meanwhile) = (Some(self.gauge.taken()), 0);
        self.writing.poll_wait(context)
    }

    /// Ready once the last of the answer has gone to the client: only then is the request over, on its connection and in its
    /// record.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.gauge.poll_end(self.number, context) {
            Poll::Ready(End::Sent) => {
                self.is_gone = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(End::Reset) => Poll::Ready(Err(gone("the answer was given up".to_owned()))),
            Poll::Pending => {
                ready!(self.poll_no_room(context));
                self.reply.send_reset(Reason::CANCEL);
                Poll::Ready(Err(unsent(io::Error::from(io::ErrorKind::TimedOut))))
            }
        }
    }

    /// Waits for the end of the answer, once it was given to `h2`.
    async fn gone(&mut self) -> Result<()> {
        match self.is_ended && !self.is_gone {
            true => poll_fn(|context| self.poll_gone(context)).await,
            false => Ok(()),
        }
    }

    async fn write(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        while !data.is_empty() {
            let room = poll_fn(|context| self.poll_room(data.len(), context)).await?;
            let piece = data.split_to(room);
            self.sent += piece.len();
            self.send(piece, end && data.is_empty())?;
        }
        match end && !self.is_ended {
            true => self.send(Bytes::new(), true),
            false => Ok(()),
        }
    }

    fn send(&mut self, piece: Bytes, end: bool) -> Result<()> {
        if let Some(answer) = &mut self.answer {
            if let Err(error) = answer.send_data(piece, end) {
                self.gauge.ended(self.number, End::Reset);
                return Err(unsent(error));
            }
            self.is_ended |= end;
        }
        Ok(())
    }

    fn respond(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if head.status.is_informational() {
            return self.inform(&head);
        }
        if self.written.is_some() || self.is_ended {
            return Ok(());
        }
        head.insert_header(header::DATE, get_cached_date())?;
        for name in OF_THE_CONNECTION {
            head.remove_header(&name);
        }
        // An upstream in HTTP/2 can have a body follow whatever it likes.
        let end = end || is_bodyless(&self.request.method, head.status);
        let answer = http::Response::from_parts(head.as_owned_parts(), ());
        self.answer = Some(self.reply.send_response(answer, end).map_err(unsent)?);
        self.written = Some(head);
        self.is_ended = end;
        Ok(())
    }

    /// An interim answer. One that says nothing is not sent, and no other protocol is spoken on a stream.
    fn inform(&mut self, head: &ResponseHeader) -> Result<()> {
        let says_something = head.status == StatusCode::CONTINUE || !head.headers.is_empty();
        if !says_something || head.status == StatusCode::SWITCHING_PROTOCOLS || self.written.is_some() {
            return Ok(());
        }
        let mut interim = http::Response::from_parts(head.as_owned_parts(), ());
        for name in OF_THE_CONNECTION {
            interim.headers_mut().remove(name);
        }
        self.reply.send_informational(interim).map_err(unsent)
    }

    fn finish_answer(&mut self) -> Result<()> {
        match self.answer.is_some() && !self.is_ended {
            true => self.send(Bytes::new(), true),
            false => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.gauge.leave(self.number);
    }
}

/// RFC 9113 §8.2.2.
const OF_THE_CONNECTION: [HeaderName; 5] = [
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What a fault while reading means: the client has left, or what it sends is no body.
fn broken(error: h2::Error) -> BError {
    if error.is_library() && error.is_reset() {
        return none(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    gone(error.to_string())
}

fn overdue() -> BError {
    gone("the answer is overdue".to_owned())
}

fn none(invalid: io::Error) -> BError {
    Error::because(ErrorType::ReadError, "a body that is none", invalid).into_down()
}

fn gone(why: String) -> BError {
    Error::explain(ErrorType::ConnectionClosed, why).into_down()
}

fn unsent(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BError {
    Error::because(ErrorType::WriteError, "the answer cannot be sent", cause).into_down()
}

#[async_trait]
impl Session for Stream {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|context| self.poll_body(context)).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        let limit = self.drain;
        let drained = async {
            while self.read_body_bytes().await?.is_some() {}
            Ok(())
        };
        match limit {
            None => drained.await,
            Some(limit) => timeout(limit, drained)
                .await
                .unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, "a body that is not wanted")),
        }
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.respond(head, end)?;
        self.gone().await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.respond(Box::new(head.clone()), end)?;
        self.gone().await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write(data, end).await?;
        self.gone().await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if let Some(answer) = self.answer.as_mut().filter(|_| !self.is_ended) {
            answer.send_trailers(trailers).map_err(unsent)?;
            self.is_ended = true;
        }
        self.gone().await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_last = false;
        for task in tasks {
            is_last |= match task {
                HttpTask::Header(head, end) => {
                    self.respond(head, end)?;
                    end
                }
                HttpTask::Body(data, end) => {
                    self.write(data.unwrap_or_default(), false).await?;
                    end
                }
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "another protocol on a stream");
                }
                HttpTask::Trailer(trailers) => {
                    if let Some(trailers) = trailers {
                        self.write_trailers(*trailers).await?;
                    }
                    true
                }
                HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if is_last {
            self.finish_answer()?;
            self.gone().await?;
        }
        Ok(is_last)
    }

    /// Paces take the place of timeouts for each piece.
    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain
    }

    fn request_summary(&self) -> String {
        // Not the query, where secrets travel.
        format!("{} {}", self.request.method, self.request.uri.path())
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        if !self.is_ended {
            self.reply.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.has_all()
    }

    async fn finish(&mut self) -> Result<()> {
        self.finish_answer()?;
        self.gone().await
    }

    fn is_body_empty(&mut self) -> bool {
        let says_none = || {
            let length = self.request.headers.get(header::CONTENT_LENGTH);
            length.is_some_and(|length| length == HeaderValue::from_static("0"))
        };
        self.read == 0 && (self.has_all() || says_none())
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        match no_body_expected || self.has_all() {
            true => Err(poll_fn(|context| self.poll_left(context)).await),
            false => self.read_body_bytes().await,
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        http_req_header_to_wire(&self.request).unwrap_or_default().freeze()
    }

    fn enable_retry_buffering(&mut self) {
        self.kept.get_or_insert_with(|| FixedBuffer::new(KEPT));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.kept.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        let kept = self.kept.as_ref().filter(|kept| !kept.is_truncated())?;
        kept.get_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
