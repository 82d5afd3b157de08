//! Sockets byte by byte: an endpoint and a client that know frames, and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::WATCHDOG;

/// The key of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// An endpoint that does with every connection, once the head of a request is there, what it was told to.
pub struct Endpoint {
    pub address: SocketAddr,
}

impl Endpoint {
    pub fn start(serve: impl Fn(Wire, String) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                std::thread::spawn(move || {
                    let mut wire = Wire::new(stream);
                    while let Some(head) = wire.head() {
                        if !head.starts_with("GET /live/") || header(&head, "upgrade").is_some() {
                            return serve(wire, head);
                        }
                        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
                    }
                });
            }
        });
        Self { address }
    }

    /// Sends every message back, and answers pings and the close as one has to.
    pub fn echo() -> Self {
        Self::start(|mut wire, head| wire.echo(&head))
    }
}

/// The answer that opens the socket a request asks for.
pub fn switch(head: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept(head)
    )
}

pub fn accept(head: &str) -> String {
    let key = header(head, "sec-websocket-key").expect("a key");
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    ))
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// One whole frame.
pub fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    let mask = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => frame.push(mask | length as u8),
        length @ 126..65_536 => {
            frame.push(mask | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        let key = [0x12, 0x34, 0x56, 0x78];
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend(payload);
    }
    frame
}

/// One end of a connection.
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(WATCHDOG)).expect("a read timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub fn open(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect(to).expect("a connection"))
    }

    /// Asks for a socket, with these lines besides, and reads the head of the answer.
    pub fn ask(to: SocketAddr, target: &str, lines: &str) -> (Self, String) {
        let mut wire = Self::open(to);
        wire.send(handshake(target, lines).as_bytes());
        let head = wire.head().expect("an answer");
        (wire, head)
    }

    /// Opens a socket.
    pub fn connect(to: SocketAddr, target: &str, lines: &str) -> Self {
        let (wire, head) = Self::ask(to, target, lines);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        wire
    }

    /// Opens the socket that was asked for, and sends every message back.
    pub fn echo(&mut self, head: &str) {
        self.send(switch(head).as_bytes());
        while let Some((opcode, payload)) = self.frame() {
            match opcode {
                8 => {
                    self.send(&frame(8, &payload, false));
                    return;
                }
                9 => self.send(&frame(10, &payload, false)),
                opcode => self.send(&frame(opcode, &payload, false)),
            };
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Another handle to send by, while this one reads.
    pub fn sender(&self) -> TcpStream {
        self.stream.try_clone().expect("another handle")
    }

    /// The head of the next message; `None` at the end.
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..at + 4).collect();
                return Some(String::from_utf8(head).expect("a head in UTF-8"));
            }
            self.read_more()?;
        }
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            self.read_more()?;
        }
        Some(self.unread.drain(..count).collect())
    }

    /// The next frame, unmasked; `None` at the end.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let start = self.take(2)?;
        let length = match start[1] & 127 {
            126 => u64::from(u16::from_be_bytes(self.take(2)?.try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8)?.try_into().unwrap()),
            short => u64::from(short),
        };
        let key = match start[1] & 128 {
            0 => vec![0; 4],
            _ => self.take(4)?,
        };
        let payload = self.take(length as usize)?;
        let plain = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
        Some((start[0] & 15, plain.collect()))
    }

    /// The status and the reason of the frame that closes, which has to be the next.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        let (opcode, payload) = self.frame().expect("a frame");
        assert_eq!(opcode, 8, "{payload:?}");
        let status = u16::from_be_bytes([payload[0], payload[1]]);
        (status, String::from_utf8(payload[2..].to_vec()).unwrap())
    }

    /// Everything until the end.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read_more().is_some() {}
        std::mem::take(&mut self.unread)
    }

    /// Whether nothing comes for a moment.
    pub fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let silent = self.unread.is_empty() && self.stream.peek(&mut byte).is_err();
        self.stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        silent
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Option<()> {
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => None,
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// A request for a socket, with these lines besides.
pub fn handshake(target: &str, lines: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: gate.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    )
}
