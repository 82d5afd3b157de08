//! A client of HTTP/2 that sends any frame, right or wrong, and reads what comes back frame by frame (RFC 9113 §4).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{WATCHDOG, runtime};

/// Between two pieces of what comes slowly.
const PAUSE: Duration = Duration::from_millis(20);

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A frame as it goes on the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields, each as a literal that is not indexed (RFC 7541 §6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let bytes: Vec<(&[u8], &[u8])> = fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    raw_fields(&bytes)
}

pub fn raw_fields(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// RFC 7541 §5.1, in seven bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else {
        return block.push(value as u8);
    };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The fields of a request that has nothing else.
pub fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "gate.example"),
        (":path", path),
    ]
}

/// What came back on one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0 where there is none.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub interim: Vec<u16>,
    pub trailers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub is_whole: bool,
    pub reset: Option<u32>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

pub struct Http2 {
    stream: Box<dyn Bytes>,
    unread: Vec<u8>,
    decoder: fluke_hpack::Decoder<'static>,
    answers: HashMap<u32, Answer>,
    /// Since they were looked at last, what was neither of a stream nor an acknowledgement.
    pub others: Vec<Frame>,
    /// The header block that is still going on.
    block: Vec<u8>,
    is_closed: bool,
}

impl Http2 {
    /// Speaks HTTP/2 without TLS, by prior knowledge, with no settings of its own.
    pub fn plain(to: SocketAddr) -> Self {
        let mut client = Self::silent(to);
        client.send(PREFACE);
        client.send(&frame(SETTINGS, 0, 0, &[]));
        client
    }

    /// The same with windows that are open as far as they go, and nearly no room for what comes before it is read.
    pub fn open_wide(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 << 10).expect("a small buffer");
        let stream = runtime().block_on(socket.connect(to)).expect("a connection");
        let mut client = Self::on(Box::new(stream));
        client.send(PREFACE);
        client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
        client.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]));
        client
    }

    /// A connection on which nothing was said yet.
    pub fn silent(to: SocketAddr) -> Self {
        let stream = runtime().block_on(TcpStream::connect(to)).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self::on(Box::new(stream))
    }

    pub fn encrypted(stream: TlsStream<TcpStream>) -> Self {
        let mut client = Self::on(Box::new(stream));
        client.send(PREFACE);
        client.send(&frame(SETTINGS, 0, 0, &[]));
        client
    }

    fn on(stream: Box<dyn Bytes>) -> Self {
        Self {
            stream,
            unread: Vec::new(),
            decoder: fluke_hpack::Decoder::new(),
            answers: HashMap::new(),
            others: Vec::new(),
            block: Vec::new(),
            is_closed: false,
        }
    }

    /// Sends bytes; whether the other side still took them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let sent = runtime().block_on(async { timeout(WATCHDOG, sent).await });
        sent.expect("bytes are taken, or the connection is closed").is_ok()
    }

    /// A request without a body.
    pub fn ask(&mut self, stream: u32, named: &[(&str, &str)]) -> bool {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(named)))
    }

    /// The beginning of a request with a body.
    pub fn open(&mut self, stream: u32, named: &[(&str, &str)]) -> bool {
        self.send(&frame(HEADERS, END_HEADERS, stream, &fields(named)))
    }

    /// The next frame; `None` where the connection was closed.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let mut piece = [0; 16 << 10];
            let read = runtime().block_on(async { timeout(WATCHDOG, self.stream.read(&mut piece)).await });
            match read.expect("a frame, or the end of the connection") {
                Ok(count @ 1..) => self.unread.extend_from_slice(&piece[..count]),
                _ => {
                    self.is_closed = true;
                    return None;
                }
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.unread.first_chunk::<9>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if self.unread.len() < 9 + length {
            return None;
        }
        let payload = self.unread.drain(..9 + length).skip(9).collect();
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// Reads one frame, and keeps what it says; false where the connection was closed.
    fn advance(&mut self) -> bool {
        let frame = self.next();
        if let Some(frame) = frame {
            self.keep(frame);
        }
        !self.is_closed
    }

    fn keep(&mut self, frame: Frame) {
        let answer = self.answers.entry(frame.stream).or_default();
        match frame.kind {
            HEADERS | CONTINUATION => {
                self.block.extend_from_slice(&frame.payload);
                if frame.flags & END_HEADERS != 0 {
                    let block = std::mem::take(&mut self.block);
                    let decoded = self.decoder.decode(&block).expect("fields");
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let mut named: Vec<_> = decoded.iter().map(|(name, value)| (text(name), text(value))).collect();
                    match named.iter().position(|(name, _)| name == ":status") {
                        None => answer.trailers = named,
                        Some(at) => {
                            let status = named.remove(at).1.parse().expect("a status");
                            match status {
                                100..200 => answer.interim.push(status),
                                _ => (answer.status, answer.headers) = (status, named),
                            }
                        }
                    }
                }
                answer.is_whole |= frame.flags & END_STREAM != 0;
            }
            DATA => {
                answer.body.extend_from_slice(&frame.payload);
                answer.is_whole |= frame.flags & END_STREAM != 0;
            }
            RST_STREAM => answer.reset = Some(code(&frame.payload)),
            SETTINGS if frame.flags & ACK == 0 => {
                self.send(&super::http2::frame(SETTINGS, ACK, 0, &[]));
            }
            SETTINGS => {}
            _ => self.others.push(frame),
        }
    }

    /// Sends the same bytes again and again, for as long as they are taken and no frame comes back.
    pub fn drip(&mut self, bytes: &[u8]) {
        let begun = std::time::Instant::now();
        while begun.elapsed() < WATCHDOG && self.send(bytes) {
            let mut piece = [0; 16 << 10];
            let read = runtime().block_on(async { timeout(PAUSE, self.stream.read(&mut piece)).await });
            let count = read.map_or(0, |read| read.unwrap_or_default());
            self.unread.extend_from_slice(&piece[..count]);
            while let Some(frame) = self.take() {
                let says_something = frame.kind != SETTINGS && frame.kind != WINDOW_UPDATE;
                self.keep(frame);
                if says_something {
                    return;
                }
            }
        }
    }

    /// What has come on that stream so far.
    pub fn so_far(&self, stream: u32) -> Answer {
        self.answers.get(&stream).cloned().unwrap_or_default()
    }

    /// What comes on that stream, once it is whole, the stream was reset, or the connection closed.
    pub fn answer(&mut self, stream: u32) -> Answer {
        loop {
            let known = self.answers.get(&stream);
            if let Some(done) = known.filter(|answer| answer.is_whole || answer.reset.is_some()) {
                return done.clone();
            }
            if !self.advance() {
                return self.answers.get(&stream).cloned().unwrap_or_default();
            }
        }
    }

    /// A request without a body, and its answer.
    pub fn exchange(&mut self, stream: u32, named: &[(&str, &str)]) -> Answer {
        self.ask(stream, named);
        self.answer(stream)
    }

    /// Reads until the connection is closed; with what error, where one was told.
    pub fn end(&mut self) -> Option<u32> {
        while self.advance() {}
        let last = self.others.iter().rfind(|frame| frame.kind == GOAWAY)?;
        Some(code(&last.payload[4..]))
    }
}

fn code(payload: &[u8]) -> u32 {
    payload
        .first_chunk::<4>()
        .map_or(u32::MAX, |code| u32::from_be_bytes(*code))
}
