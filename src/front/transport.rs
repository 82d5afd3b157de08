//! What carries a client's connection: TCP, or TLS on it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef, TlsStream};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Appends the next bytes; holds no buffer while there are none.
pub(super) async fn read_some(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|context| {
        let mut piece = [MaybeUninit::uninit(); 4096];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut piece))?;
        buffer.extend_from_slice(piece.filled());
        Poll::Ready(Ok(piece.filled().len()))
    })
    .await
}

/// Plain connections are the common ones: they are not boxed.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would cost every request another hop")]
pub(super) enum Transport {
    Plain(L4Stream),
    Tls(Box<TlsStream<L4Stream>>),
}

/// Does the same with either.
macro_rules! either {
    ($this:expr, $stream:ident => $done:expr) => {
        match $this {
            Self::Plain($stream) => $done,
            Self::Tls($stream) => $done,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

impl UniqueID for Transport {
    fn id(&self) -> UniqueIDType {
        either!(self, stream => stream.id())
    }
}

impl Ssl for Transport {
    fn get_ssl(&self) -> Option<&TlsRef> {
        either!(self, stream => stream.get_ssl())
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        either!(self, stream => stream.get_ssl_digest())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        either!(self, stream => stream.selected_alpn_proto())
    }
}

#[async_trait]
impl Peek for Transport {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        match self {
            Self::Plain(stream) => stream.try_peek(buf).await,
            Self::Tls(_) => Ok(false),
        }
    }
}

impl GetTimingDigest for Transport {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        either!(self, stream => stream.get_timing_digest())
    }

    fn get_read_pending_time(&self) -> Duration {
        either!(self, stream => stream.get_read_pending_time())
    }

    fn get_write_pending_time(&self) -> Duration {
        either!(self, stream => stream.get_write_pending_time())
    }
}

impl GetProxyDigest for Transport {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        either!(self, stream => stream.get_proxy_digest())
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        either!(self, stream => stream.set_proxy_digest(digest));
    }
}

impl GetSocketDigest for Transport {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        either!(self, stream => stream.get_socket_digest())
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        either!(self, stream => stream.set_socket_digest(digest));
    }
}
