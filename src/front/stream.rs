//! A client's connection: small writes are put together, and what comes early is kept for later.
//!
//! Pingora writes the header and the body of an answer one after the other and buffers only on its own listeners; on ours
//! each would be a packet and a system call. What is held leaves when it is flushed, when more follows than it may hold
//! (then both go in one call), or when the connection is read: whoever waits for the client has nothing left to say. The
//! buffer exists only while something is held, so that an idle connection does not pay for it.
//!
//! A client may send its next request before it has the answer (RFC 9112 §9.3.2). Pingora listens to the client while it
//! waits for the upstream, and takes early bytes for a fault that ends the connection without an answer. It is told of
//! nothing but this request's own bytes, and of the client's leaving. Chunks come to it in their one form; a body that has
//! none is an error of [`io::ErrorKind::InvalidData`], a client that dawdles one of [`io::ErrorKind::TimedOut`]; where it is the
//! endpoint that dawdles with its header, reading fails, too ([`is_header_overdue`]). A connection that ends while its client is
//! still sending is closed once that has been heard out, for a while.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use futures::FutureExt;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::chunks::Chunks;
use super::kernel;
use super::pace::{Pace, Watch};
use super::transport::{Transport, read_some};
use crate::live::is_header_overdue;

/// A header and a small body; larger bodies are not copied.
const HELD: usize = 4096;
/// Early bytes kept; beyond these the client waits.
const EARLY: usize = 64 << 10;
/// A client that is still sending when its connection ends is heard out for so long: a reset would take the answer away from it,
/// too (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// What is still to come of the request being answered.
#[derive(Debug)]
pub(super) enum Awaited {
    /// All that comes.
    All,
    /// So many bytes.
    Bytes(usize),
    /// The rest of a chunked body.
    Chunks(Box<Chunks>),
}

#[derive(Debug)]
pub(super) struct Downstream {
    inner: Transport,
    /// Written, and not yet sent.
    held: BytesMut,
    awaited: Awaited,
    /// Chunks in their one form, or bytes of another protocol, that nobody has read yet.
    ready: BytesMut,
    /// What came beyond the awaited.
    early: BytesMut,
    reading: Option<Watch>,
    writing: Option<Watch>,
    /// How long a client that is still sending is listened to, once it has all of its answer.
    hearing_out: Option<Pin<Box<Sleep>>>,
}

impl Downstream {
    pub fn new(inner: Transport) -> Self {
        Self {
            inner,
            held: BytesMut::new(),
            awaited: Awaited::All,
            ready: BytesMut::new(),
            early: BytesMut::new(),
            reading: None,
            writing: None,
            hearing_out: None,
        }
    }

    /// From now on only what is `awaited` is read; what comes beyond is kept. It has to have come by `until`.
    pub fn await_only(&mut self, awaited: Awaited, sending: Pace, taking: Pace, until: tokio::time::Instant) {
        self.reading = (!matches!(awaited, Awaited::Bytes(0))).then(|| Watch::new(sending, Some(until)));
        self.writing = Some(Watch::new(taking, None));
        self.awaited = awaited;
    }

    /// Bytes that came early: read before all else once everything is.
    pub fn keep(&mut self, early: BytesMut) {
        self.early.unsplit(early);
    }

    /// From now on all that comes is read, once what was kept has been taken from here.
    pub fn take_early(&mut self) -> BytesMut {
        self.awaited = Awaited::All;
        (self.reading, self.writing) = (None, None);
        self.ready = BytesMut::new();
        std::mem::take(&mut self.early)
    }

    /// Appends the next bytes; holds no buffer while there are none.
    pub async fn read_first(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        read_some(self, buffer).await
    }

    fn poll_inner_read(&mut self, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buf);
        let Some(watch) = &mut self.reading else {
            return read;
        };
        match read {
            Poll::Ready(read) => {
                watch.moved(buf.filled().len() - before);
                Poll::Ready(read)
            }
            Poll::Pending => watch.poll_wait(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// What a try to write came to, watched over.
    fn watched(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(reading) = &mut self.reading {
            // Nobody waits for what the client sends as long as this waits.
            reading.pause();
        }
        let Some(watch) = &mut self.writing else {
            return written;
        };
        match written {
            Poll::Ready(written) => {
                watch.moved(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending => {
                let socket = self.inner.id();
                ready!(watch.poll_taken(kernel::acknowledged(socket), context));
                kernel::drop_untaken(socket);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Passes chunks on in their one form.
    fn poll_chunks(&mut self, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.ready.is_empty() {
                self.give_ready(buf);
                return Poll::Ready(Ok(()));
            }
            let Awaited::Chunks(chunks) = &self.awaited else {
                return Poll::Pending;
            };
            if chunks.is_done() {
                self.awaited = Awaited::Bytes(0);
                return self.poll_early(context);
            }
            let mut piece = [MaybeUninit::uninit(); 16 << 10];
            let mut piece = ReadBuf::uninit(&mut piece);
            ready!(self.poll_inner_read(context, &mut piece))?;
            let read = piece.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let Awaited::Chunks(chunks) = &mut self.awaited else {
                return Poll::Pending;
            };
            let own = chunks
                .read(read, &mut self.ready)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "malformed chunks"))?;
            self.early.extend_from_slice(read.get(own..).unwrap_or_default());
        }
    }

    fn give_ready(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.ready.len().min(buf.remaining());
        buf.put_slice(&self.ready.split_to(length));
    }

    /// Never ready but for an end or a fault.
    fn poll_early(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.early.len() < EARLY {
            let mut piece = [MaybeUninit::uninit(); 4096];
            let mut piece = ReadBuf::uninit(&mut piece);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.early.extend_from_slice(piece.filled());
        }
        Poll::Pending
    }

    /// Whether more of the request is to come.
    fn is_sent_to(&self) -> bool {
        match &self.awaited {
            Awaited::All | Awaited::Bytes(0) => false,
            Awaited::Bytes(_) => true,
            Awaited::Chunks(chunks) => !chunks.is_done(),
        }
    }

    /// Reads what is left of the request, for nobody. Ready once all of it has come, or enough time was left for it.
    fn poll_heard_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.hearing_out.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if patience.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let mut piece = [MaybeUninit::uninit(); 4096];
            let mut piece = ReadBuf::uninit(&mut piece);
            let read = ready!(Pin::new(&mut self.inner).poll_read(context, &mut piece));
            let piece = piece.filled();
            if read.is_err() || piece.is_empty() {
                return Poll::Ready(());
            }
            match &mut self.awaited {
                Awaited::Bytes(left) => *left = left.saturating_sub(piece.len()),
                Awaited::Chunks(chunks) => {
                    let read = chunks.read(piece, &mut self.ready);
                    self.ready.clear();
                    if read.is_err() {
                        return Poll::Ready(());
                    }
                }
                Awaited::All => {}
            }
            if !self.is_sent_to() {
                return Poll::Ready(());
            }
        }
    }

    /// Ready once nothing is held.
    fn poll_release(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = Pin::new(&mut self.inner).poll_write(context, &self.held);
            let written = ready!(self.watched(written, context))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// Gives a client's connection to another protocol than HTTP: from now on all that comes is read, what came early first, and no
/// request's deadline holds. Whoever takes nothing is still given up.
///
/// `None` where it is no connection of the front.
pub fn unbound(stream: Stream) -> Option<Stream> {
    let mut downstream = stream.into_any().downcast::<Downstream>().ok()?;
    downstream.ready = std::mem::take(&mut downstream.early);
    downstream.awaited = Awaited::All;
    downstream.reading = None;
    Some(downstream)
}

impl Drop for Downstream {
    fn drop(&mut self) {
        // An answer that broke off: what there is of it goes out where that needs no waiting.
        let _ = self.flush().now_or_never();
    }
}

impl AsyncRead for Downstream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            // A client that does not take what it is sent may still be read from; what is wrong shows on the next write.
            let _ = self.poll_release(context);
        }
        if is_header_overdue() {
            return Poll::Ready(Err(io::Error::other("the answer is overdue")));
        }
        let this = &mut *self;
        match this.awaited {
            Awaited::All if !this.ready.is_empty() => {
                this.give_ready(buf);
                Poll::Ready(Ok(()))
            }
            Awaited::All => this.poll_inner_read(context, buf),
            Awaited::Bytes(0) => this.poll_early(context),
            Awaited::Bytes(awaited) => {
                let room = buf.remaining().min(awaited);
                let mut own = ReadBuf::new(buf.initialize_unfilled_to(room));
                ready!(this.poll_inner_read(context, &mut own))?;
                let read = own.filled().len();
                this.awaited = Awaited::Bytes(awaited.saturating_sub(read));
                buf.advance(read);
                Poll::Ready(Ok(()))
            }
            Awaited::Chunks(_) => this.poll_chunks(context, buf),
        }
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.held.len() + bytes.len() <= HELD {
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !this.held.is_empty() {
            let both = [IoSlice::new(&this.held), IoSlice::new(bytes)];
            let written = Pin::new(&mut this.inner).poll_write_vectored(context, &both);
            let written = ready!(this.watched(written, context))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_these = written.saturating_sub(this.held.len());
            this.held.advance(written.min(this.held.len()));
            if of_these > 0 {
                this.held = BytesMut::new();
                return Poll::Ready(Ok(of_these));
            }
        }
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.watched(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(context))?;
        // With TLS, what was written may wait here.
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.watched(flushed.map_ok(|()| 0), context).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hearing_out.is_none() {
            ready!(self.poll_release(context))?;
            let shut = Pin::new(&mut self.inner).poll_shutdown(context);
            ready!(self.watched(shut.map_ok(|()| 0), context))?;
        }
        match self.is_sent_to() {
            true => self.poll_heard_out(context).map(Ok),
            false => Poll::Ready(Ok(())),
        }
    }
}

#[async_trait]
impl Shutdown for Downstream {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            log::debug!("a connection did not end well: {error}");
        }
    }
}

impl UniqueID for Downstream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Downstream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

#[async_trait]
impl Peek for Downstream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

impl GetTimingDigest for Downstream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for Downstream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Downstream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.set_socket_digest(digest);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Downstream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (Downstream::new(Transport::Plain(L4Stream::from(accepted))), client)
    }

    #[tokio::test]
    async fn sends_header_and_body_together_and_holds_nothing_afterwards() {
        let (mut stream, mut client) = pair().await;
        stream.write_all(b"header ").await.unwrap();
        stream.write_all(b"body").await.unwrap();
        assert_eq!(stream.held.len(), 11);
        stream.flush().await.unwrap();
        assert_eq!(stream.held.capacity(), 0);
        let mut buffer = [0; 64];
        assert_eq!(client.read(&mut buffer).await.unwrap(), 11);
    }

    #[tokio::test]
    async fn keeps_the_order_of_small_and_large_writes() {
        let (mut stream, mut client) = pair().await;
        let sizes = [1, HELD, 10, 3_000_000, 1, HELD + 1, 1095, HELD - 1, 2];
        let sent: Vec<Vec<u8>> = sizes.iter().zip(b'a'..).map(|(size, byte)| vec![byte; *size]).collect();
        let expected = sent.concat();
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        });
        for bytes in &sent {
            stream.write_all(bytes).await.unwrap();
        }
        AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        assert!(reading.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn sends_what_it_holds_before_it_waits_for_the_client() {
        let (mut stream, mut client) = pair().await;
        stream.write_all(b"go on").await.unwrap();
        let client = tokio::spawn(async move {
            let mut asked = [0; 5];
            client.read_exact(&mut asked).await.unwrap();
            client.write_all(b"done").await.unwrap();
        });
        let mut answered = [0; 4];
        stream.read_exact(&mut answered).await.unwrap();
        assert_eq!(&answered, b"done");
        client.await.unwrap();
    }

    const PACE: Pace = Pace {
        rate: 1,
        grace: Duration::from_secs(60),
    };

    fn await_only(stream: &mut Downstream, awaited: Awaited) {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        stream.await_only(awaited, PACE, PACE, until);
    }

    #[tokio::test]
    async fn passes_chunks_on_in_their_one_form() {
        let (mut stream, mut client) = pair().await;
        client
            .write_all(b"003;x\r\nabc\r\n0\r\nx: y\r\n\r\nnext")
            .await
            .unwrap();
        client.shutdown().await.unwrap();
        await_only(&mut stream, Awaited::Chunks(Box::new(Chunks::new())));
        let mut body = Vec::new();
        stream.read_to_end(&mut body).await.unwrap();
        assert_eq!(body, b"3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(&stream.take_early()[..], b"next");
    }

    #[tokio::test]
    async fn ends_chunks_that_are_none() {
        let (mut stream, mut client) = pair().await;
        client.write_all(b"3\nabc").await.unwrap();
        await_only(&mut stream, Awaited::Chunks(Box::new(Chunks::new())));
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_a_client_that_dawdles() {
        let (mut stream, mut client) = pair().await;
        client.write_all(b"a").await.unwrap();
        await_only(&mut stream, Awaited::Bytes(2));
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Now it is the client that takes nothing.
        await_only(&mut stream, Awaited::Bytes(0));
        let error = stream.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn gives_all_that_comes_to_another_protocol() {
        let (mut stream, mut client) = pair().await;
        await_only(&mut stream, Awaited::Bytes(0));
        stream.keep(BytesMut::from("early "));
        client.write_all(b"bytes").await.unwrap();
        client.shutdown().await.unwrap();
        let mut stream = unbound(Box::new(stream)).unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"early bytes");
    }

    #[tokio::test]
    async fn keeps_what_comes_early_and_tells_of_the_end() {
        let (mut stream, mut client) = pair().await;
        client.write_all(b"bodynext").await.unwrap();
        await_only(&mut stream, Awaited::Bytes(4));
        let mut body = [0; 16];
        let mut read = 0;
        while read < 4 {
            read += stream.read(&mut body[read..]).await.unwrap();
        }
        assert_eq!(&body[..read], b"body");
        client.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut body).await.unwrap(), 0);
        assert_eq!(&stream.take_early()[..], b"next");
    }

    #[tokio::test(start_paused = true)]
    async fn hears_out_who_is_still_sending_when_it_ends_and_no_longer() {
        static WHOLE: [u8; 300_000] = [b'x'; 300_000];
        let bytes = || Awaited::Bytes(WHOLE.len());
        let chunks = || Awaited::Chunks(Box::new(Chunks::new()));
        let chunked = [b"493e0\r\n", &WHOLE[..], b"\r\n0\r\n\r\n"].concat();
        // The whole of it, the whole and more, a part, and what is no chunk at all; the client never ends by itself.
        let cases: [(Awaited, &[u8], bool); 6] = [
            (bytes(), &WHOLE, true),
            (bytes(), &WHOLE[..200_000], false),
            (chunks(), &chunked, true),
            (chunks(), &chunked[..200_000], false),
            (chunks(), b"what?", true),
            (Awaited::Bytes(0), b"", true),
        ];
        for (awaited, sent, is_whole) in cases {
            let (mut downstream, mut client) = pair().await;
            await_only(&mut downstream, awaited);
            downstream.write_all(b"HTTP/1.1 413 \r\n\r\n").await.unwrap();
            let began = tokio::time::Instant::now();
            let told = async {
                client.write_all(sent).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                (answer, client)
            };
            let (ended, (answer, client)) = tokio::join!(AsyncWriteExt::shutdown(&mut downstream), told);
            ended.unwrap();
            assert_eq!(answer, "HTTP/1.1 413 \r\n\r\n");
            assert_eq!(began.elapsed() < LINGER, is_whole, "{} bytes", sent.len());
            drop(client);
        }
    }
}
