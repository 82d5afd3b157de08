//! A strict HTTP/1.1 client: what a lenient one would forgive, such as bytes after the body, fails the test here.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::WATCHDOG;

/// A request to send to an address on a connection of its own.
#[derive(Debug, Clone)]
#[must_use]
pub struct Request {
    to: SocketAddr,
    from: Option<IpAddr>,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

/// A request with a `Host` and nothing else.
pub fn request_to(to: SocketAddr, method: &str, target: &str) -> Request {
    Request {
        to,
        from: None,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: vec![("host".to_owned(), "gate.example".to_owned())],
        body: Vec::new(),
        chunked: false,
    }
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.headers[0].1 = host.to_owned();
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Rehearses the instant; only a gateway started with `--rehearse-at` listens to it.
    pub fn at(self, instant: &str) -> Self {
        self.header("gwanmun-at", instant)
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the body without saying its length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Calls from another of this machine's loopback addresses.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().expect("an address to call from"));
        self
    }

    /// The request as it goes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.chunked {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in self.body.chunks(1000) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            return bytes;
        }
        let may_carry_a_body = !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        if may_carry_a_body || !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub fn send(&self) -> Response {
        let mut connection = Connection::open_from(self.to, self.from);
        connection.send(&self.bytes());
        let response = connection.response_to(&self.method);
        assert!(connection.unread.is_empty(), "bytes beyond the body of {response:?}");
        response
    }
}

/// A connection for bytes of the test's own making.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    pub fn open(to: SocketAddr) -> Self {
        Self::open_from(to, None)
    }

    fn open_from(to: SocketAddr, from: Option<IpAddr>) -> Self {
        let stream = match from {
            None => TcpStream::connect(to).expect("the gateway accepts connections"),
            Some(from) => connect_from(to, from).expect("the gateway accepts connections from other addresses"),
        };
        stream.set_read_timeout(Some(WATCHDOG)).expect("a read timeout");
        stream.set_write_timeout(Some(WATCHDOG)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends bytes; whether the other side still took them. It may close early, and its answer is then still to be read.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Says that no more will be sent, and goes on listening.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The next answer; the method matters because an answer to HEAD has no body.
    pub fn response_to(&mut self, method: &str) -> Response {
        self.response_or_close(method)
            .expect("an answer, not a closed connection")
    }

    /// The next answer, or `None` where the connection was closed without one.
    pub fn response_or_close(&mut self, method: &str) -> Option<Response> {
        loop {
            let mut response = self.head()?;
            if (100..200).contains(&response.status) {
                continue;
            }
            let without_body = method == "HEAD" || matches!(response.status, 204 | 304);
            if !without_body {
                response.whole = self.body(&mut response).is_some();
            }
            return Some(response);
        }
    }

    /// Whether an answer or the end of the connection is there to be read, or comes within a fifth of a second.
    pub fn has_something_to_say(&mut self) -> bool {
        let mut byte = [0];
        self.stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a read timeout");
        let peeked = self.stream.peek(&mut byte);
        self.stream.set_read_timeout(Some(WATCHDOG)).expect("a read timeout");
        peeked.is_ok()
    }

    fn head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if !self.read_more() {
                assert!(
                    self.unread.is_empty(),
                    "closed within a head: {:?}",
                    String::from_utf8_lossy(&self.unread)
                );
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("a head in UTF-8");
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let headers = lines
            .map(|line| {
                assert!(
                    !line.contains(['\r', '\n', '\0']),
                    "a stray control character in {line:?}"
                );
                let (name, value) = line
                    .split_once(':')
                    .unwrap_or_else(|| panic!("not a header line: {line:?}"));
                assert!(
                    !name.is_empty() && !name.contains([' ', '\t']),
                    "not a header name: {name:?}"
                );
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Some(Response {
            status,
            headers,
            body: Vec::new(),
            whole: true,
        })
    }

    /// Reads the body into the response; `None` where it was cut off.
    fn body(&mut self, response: &mut Response) -> Option<()> {
        let length = response
            .header("content-length")
            .map(|text| text.parse::<usize>().expect("a length"));
        let coding = response.header("transfer-encoding").map(str::to_owned);
        match (length, coding.as_deref()) {
            (Some(_), Some(_)) => panic!("both a length and a transfer coding: {response:?}"),
            (Some(length), None) => self.take(length, &mut response.body),
            (None, Some("chunked")) => self.chunks(&mut response.body),
            (None, Some(other)) => panic!("an unknown transfer coding: {other}"),
            (None, None) => {
                while self.read_more() {}
                response.body.append(&mut self.unread);
                Some(())
            }
        }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(());
            }
            self.take(size, body)?;
            assert_eq!(self.line()?, "", "a chunk longer than it says");
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    /// Moves `length` bytes into `body`, or all there are where the connection ends before.
    fn take(&mut self, length: usize, body: &mut Vec<u8>) -> Option<()> {
        while self.unread.len() < length {
            if !self.read_more() {
                body.append(&mut self.unread);
                return None;
            }
        }
        body.extend(self.unread.drain(..length));
        Some(())
    }

    /// False at the end of the stream, however it ended.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                true
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the gateway hangs: nothing came within {WATCHDOG:?}")
            }
            Err(_) => false,
        }
    }
}

fn connect_from(to: SocketAddr, from: IpAddr) -> std::io::Result<TcpStream> {
    let stream = super::runtime().block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        socket.connect(to).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// An answer, its headers in the order they came, names in lower case.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// False where the connection ended before the body did.
    pub whole: bool,
}

impl Response {
    /// The one value of a header; a header given twice fails the test.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers(name);
        assert!(values.len() < 2, "`{name}` stands twice: {values:?}");
        values.first().copied()
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The members of a comma-separated header, in lower case, however many lines it was given on.
    pub fn list(&self, name: &str) -> Vec<String> {
        let lines = self.headers(name);
        lines
            .iter()
            .flat_map(|line| line.split(','))
            .map(|member| member.trim().to_ascii_lowercase())
            .collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body in UTF-8")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.summary()))
    }

    /// Status, headers and the beginning of the body, for messages.
    pub fn summary(&self) -> String {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(500).collect();
        format!("{} {:?} {body}", self.status, self.headers)
    }

    #[track_caller]
    pub fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.summary());
        assert!(self.whole, "the body was cut off: {}", self.summary());
        self
    }

    /// Asserts a refusal in the one form all refusals have, and returns its problem document.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        match self.problem(&[status], &[code]) {
            Ok(problem) => problem,
            Err(why) => panic!("{why}: {}", self.summary()),
        }
    }

    /// The problem document, or what is wrong with it.
    pub fn problem(&self, statuses: &[u16], codes: &[&str]) -> Result<Value, String> {
        if !statuses.contains(&self.status) {
            return Err(format!("status {} instead of {statuses:?}", self.status));
        }
        if self.header("content-type") != Some("application/problem+json") {
            return Err(format!("content-type is {:?}", self.header("content-type")));
        }
        if self.header("cache-control") != Some("no-store") {
            return Err(format!("cache-control is {:?}", self.header("cache-control")));
        }
        let problem: Value = serde_json::from_slice(&self.body).map_err(|error| format!("not JSON: {error}"))?;
        let code = problem["code"].as_str().ok_or("no `code`")?;
        if !codes.contains(&code) {
            return Err(format!("code `{code}` instead of {codes:?}"));
        }
        if problem["status"].as_u64() != Some(u64::from(self.status)) {
            return Err(format!("`status` says {}", problem["status"]));
        }
        for member in ["type", "title", "request_id"] {
            if problem[member].as_str().is_none_or(str::is_empty) {
                return Err(format!("no `{member}`"));
            }
        }
        Ok(problem)
    }
}

/// The body with its content coding taken off.
pub fn decoded(response: &Response) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match response.header("content-encoding") {
        None => return response.body.clone(),
        Some("gzip") => flate2::read::GzDecoder::new(response.body.as_slice()).read_to_end(&mut plain),
        Some("br") => brotli::Decompressor::new(response.body.as_slice(), 4096).read_to_end(&mut plain),
        Some("zstd") => zstd::stream::read::Decoder::new(response.body.as_slice())
            .and_then(|mut decoder| decoder.read_to_end(&mut plain)),
        Some(other) => panic!("an unknown content coding: {other}"),
    };
    read.expect("a body in the coding it names");
    plain
}
