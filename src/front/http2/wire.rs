//! The bytes of a connection in HTTP/2, on their way to and from the `h2` crate.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::pace::{Pace, Watch};
use super::super::transport::Transport;

/// A client that takes nothing of what it is sent is given up: then the answers of all its requests are.
pub(super) struct Wire {
    transport: Transport,
    /// Read before the protocol was known.
    ahead: Bytes,
    taking: Pace,
    writing: Option<Watch>,
}

impl Wire {
    pub fn new(transport: Transport, ahead: Bytes, taking: Pace) -> Self {
        Self {
            transport,
            ahead,
            taking,
            writing: None,
        }
    }

    /// What a try to write came to, watched over while the client makes the gateway wait.
    fn watched(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(written) => {
                if let (Some(watch), Ok(count)) = (&mut self.writing, &written) {
                    watch.moved(*count);
                }
                Poll::Ready(written)
            }
            Poll::Pending => {
                let watch = self.writing.get_or_insert_with(|| Watch::new(self.taking, None));
                watch.poll_wait(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.transport).poll_read(context, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.watched(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.watched(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.transport).poll_flush(context);
        let flushed = self.watched(flushed.map(|flushed| flushed.map(|()| 0)), context);
        if let Poll::Ready(Ok(_)) = flushed {
            // The client has taken all: it is no longer waited for.
            self.writing = None;
        }
        flushed.map(|flushed| flushed.map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}
