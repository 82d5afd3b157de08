//! The bytes of a connection in HTTP/2, on their way to and from the `h2` crate.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::UniqueID;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::connections::Cut;
use super::super::kernel;
use super::super::pace::{Pace, Watch};
use super::super::transport::Transport;
use super::frames::Meter;
use super::gauge::Gauge;
use super::{Bounds, PREFACE};

/// A client that takes nothing of what it is sent is given up: then the answers of all its requests are. So is one that leaves
/// a frame or a header unfinished.
pub(super) struct Wire {
    transport: Transport,
    /// Read before the protocol was known.
    ahead: Bytes,
    taking: Pace,
    writing: Option<Watch>,
    header_deadline: Duration,
    /// The frame that is waited for, by its number.
    unfinished: Option<(u64, Pin<Box<Sleep>>)>,
    meter: Meter,
    gauge: Arc<Gauge>,
}

impl Wire {
    pub fn new(transport: Transport, ahead: Bytes, bounds: &Bounds, gauge: Arc<Gauge>) -> Self {
        Self {
            transport,
            ahead,
            taking: bounds.taking,
            writing: None,
            header_deadline: bounds.header_deadline,
            unfinished: None,
            meter: Meter::new(PREFACE.len(), Instant::now()),
            gauge,
        }
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.transport).poll_read(context, buf)
    }

    /// Nothing came. Ready once what has begun has taken too long.
    fn poll_unfinished(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(frame) = self.meter.unfinished() else {
            self.unfinished = None;
            return Poll::Pending;
        };
        let deadline = Instant::now() + self.header_deadline;
        let (number, timer) = self
            .unfinished
            .get_or_insert_with(|| (frame, Box::pin(sleep_until(deadline))));
        if *number != frame {
            *number = frame;
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context)
    }

    /// What a try to write these came to, counted, and watched over while the client makes the gateway wait.
    fn written<'a>(
        &mut self,
        slices: impl IntoIterator<Item = &'a [u8]>,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = written else {
            let socket = self.transport.id();
            let watch = self.writing.get_or_insert_with(|| Watch::new(self.taking, None));
            ready!(watch.poll_taken(kernel::acknowledged(socket), context));
            kernel::drop_untaken(socket);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        let mut left = *written.as_ref().unwrap_or(&0);
        if let Some(watch) = &mut self.writing {
            watch.moved(left);
        }
        let now = Instant::now();
        for slice in slices {
            let sent = left.min(slice.len());
            left -= sent;
            if let Some(flood) = self.meter.went(slice.get(..sent).unwrap_or_default(), now, &self.gauge) {
                self.gauge.stop(flood);
            }
        }
        Poll::Ready(written)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.gauge.over();
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.gauge.cut().is_some() {
            // Whoever drives the connection is about to end it.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = this.poll_bytes(context, buf);
        if read.is_pending() && this.poll_unfinished(context).is_ready() {
            this.gauge.stop(Cut::Slow);
        }
        let came = buf.filled().get(before..).unwrap_or_default();
        if let Some(flood) = this.meter.came(came, Instant::now(), &this.gauge) {
            this.gauge.stop(flood);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.written([bytes], written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.written(slices.iter().map(|slice| &**slice), written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.transport).poll_flush(context);
        let flushed = self.written([], flushed.map(|flushed| flushed.map(|()| 0)), context);
        if flushed.is_ready() {
            // The client has taken all: it is no longer waited for.
            self.writing = None;
        }
        flushed.map(|flushed| flushed.map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}
