//! The strictest reader of HTTP/1.1 requests there is: whoever sends it anything but whole, unambiguous requests in one
//! spelling is told so. It shares no line with the gateway's own reader, nor with any library's.

/// One request as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let same = |(found, _): &&(String, Vec<u8>)| found.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| &**value).collect()
    }
}

/// What a connection held: whole requests, and whether another one had begun.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub requests: Vec<Message>,
    pub unfinished: bool,
}

/// Reads all bytes of a connection; an error is what is wrong with them.
pub fn read(mut bytes: &[u8]) -> Result<Read, String> {
    let mut read = Read::default();
    while !bytes.is_empty() {
        match message(bytes)? {
            Some((message, used)) => {
                read.requests.push(message);
                bytes = &bytes[used..];
            }
            None => {
                read.unfinished = true;
                break;
            }
        }
    }
    Ok(read)
}

/// The first request and its length; `None` where it is not whole.
pub fn message(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a header beyond UTF-8".to_owned());
    // A value may be beyond UTF-8, so lines are read as bytes; the request line may not.
    let mut lines = split(&bytes[..end]);
    let line = lines.remove(0);
    let line = std::str::from_utf8(line).map_err(|_| "a request line beyond UTF-8")?;
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("not a request line: {line:?} in {head:?}"));
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(format!("not a method: {method:?}"));
    }
    check_target(target)?;
    let mut headers = Vec::new();
    for line in lines {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or("a header line without a colon")?;
        let name = std::str::from_utf8(&line[..colon]).map_err(|_| "a name beyond UTF-8")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("not a name: {name:?}"));
        }
        let value = line[colon + 1..].trim_ascii();
        if value
            .iter()
            .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
        {
            return Err(format!("a control character in {name}: {value:?}"));
        }
        headers.push((name.to_ascii_lowercase(), value.to_vec()));
    }
    let mut message = Message {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body: Vec::new(),
    };
    if message.values("host").len() != 1 || message.values("host")[0].is_empty() {
        return Err(format!("not one host: {message:?}"));
    }
    for name in [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
        "via",
        "content-type",
    ] {
        if message.values(name).len() > 1 && name != "via" && name != "content-type" {
            return Err(format!("{name} twice: {message:?}"));
        }
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
    ] {
        if !message.values(name).is_empty() {
            return Err(format!("{name} concerns another connection: {message:?}"));
        }
    }
    let start = end + 4;
    let lengths: Vec<Vec<u8>> = message
        .values("content-length")
        .iter()
        .map(|value| value.to_vec())
        .collect();
    let codings: Vec<Vec<u8>> = message
        .values("transfer-encoding")
        .iter()
        .map(|value| value.to_vec())
        .collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Some((message, start))),
        ([length], []) => {
            if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                return Err(format!("not a length: {length:?}"));
            }
            let length: usize = String::from_utf8_lossy(length)
                .parse()
                .map_err(|_| "a length too large")?;
            match bytes.get(start..start + length) {
                None => Ok(None),
                Some(body) => {
                    message.body = body.to_vec();
                    Ok(Some((message, start + length)))
                }
            }
        }
        ([], [coding]) if coding == b"chunked" => match chunks(&bytes[start..])? {
            None => Ok(None),
            Some((body, used)) => {
                message.body = body;
                Ok(Some((message, start + used)))
            }
        },
        _ => Err(format!("not one framing: {message:?}")),
    }
}

fn check_target(target: &str) -> Result<(), String> {
    let path = target.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').collect();
    let is_fine = target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_graphic())
        && !target.contains(['#', '\\'])
        && !path.contains("//")
        && !segments.iter().any(|segment| matches!(*segment, "." | ".."));
    if is_fine {
        Ok(())
    } else {
        Err(format!("not a target: {target:?}"))
    }
}

fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
        lines.push(&bytes[..at]);
        bytes = &bytes[at + 2..];
    }
    lines.push(bytes);
    lines
}

/// The body of chunks without extensions and trailers, and its length on the wire.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = bytes[at..].windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let size = &bytes[at..at + end];
        if size.is_empty() || size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("not a chunk size: {:?}", String::from_utf8_lossy(size)));
        }
        let size = usize::from_str_radix(&String::from_utf8_lossy(size), 16).map_err(|error| error.to_string())?;
        at += end + 2;
        let Some(data) = bytes.get(at..at + size + 2) else {
            return Ok(None);
        };
        if !data.ends_with(b"\r\n") {
            return Err("a chunk that does not end where it says".to_owned());
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
