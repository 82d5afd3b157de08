//! HTTP for the sample services, on Pingora's `ServeHttp`: a request read whole, a JSON reply written whole.
//!
//! Bodies are read up to [`MAX_BODY`], beyond it the answer is 413. Every service answers `/healthz`.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, EXPECT, IF_NONE_MATCH};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use pingora::apps::ServerApp;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::{Fds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};

/// The largest request body a service reads, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// What exceeds [`MAX_BODY`] is read and forgotten up to here: closing on unread bytes resets the connection, and the
/// 413 would often be lost.
const MAX_DISCARDED: usize = 1024 * 1024;

const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The methods that matter here. HEAD counts as GET, its body is left out on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Other,
}

/// A request, read whole.
pub(super) struct Request {
    pub(super) verb: Verb,
    /// Percent-decoded segments, without the leading slash.
    path: Vec<String>,
    /// Percent-decoded pairs, in order.
    query: Vec<(String, String)>,
    /// Who asks, as the gateway says in `x-user`.
    user: Option<String>,
    if_none_match: Option<String>,
    body: Bytes,
}

impl Request {
    pub(super) fn path(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The first query parameter of that name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A count from the query: `default` where absent, 400 where it is no number from 1 to `max`.
    pub(super) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Reply> {
        let Some(text) = self.parameter(name) else {
            return Ok(default);
        };
        let count = text.parse().ok().filter(|count| (1..=max).contains(count));
        count.ok_or_else(|| Reply::bad_request(&format!("`{name}` is a number from 1 to {max}")))
    }

    /// Who asks, or 401: these services know callers by what the gateway forwards and nothing else.
    pub(super) fn user(&self) -> Result<&str, Reply> {
        self.user.as_deref().ok_or_else(|| {
            Reply::problem(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "`x-user` does not say who asks",
            )
        })
    }

    /// The body read as JSON, or 400.
    pub(super) fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Reply> {
        serde_json::from_slice(&self.body).map_err(|error| Reply::bad_request(&error.to_string()))
    }
}

/// An answer, JSON but for [`Reply::text`]. It may not be stored, unless [`Reply::cached`] says otherwise.
pub(super) struct Reply {
    status: StatusCode,
    body: Vec<u8>,
    content_type: &'static str,
    cache_control: &'static str,
    allow: Option<&'static str>,
    etag: Option<String>,
}

impl Reply {
    pub(super) fn ok(body: &impl Serialize) -> Self {
        Reply::new(StatusCode::OK, body)
    }

    /// A plain text, for shells.
    pub(super) fn text(text: &str) -> Self {
        Reply {
            body: text.as_bytes().to_vec(),
            content_type: "text/plain",
            ..Reply::ok(&())
        }
    }

    pub(super) fn created(body: &impl Serialize) -> Self {
        Reply::new(StatusCode::CREATED, body)
    }

    pub(super) fn not_found() -> Self {
        Reply::problem(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
    }

    pub(super) fn not_allowed(allow: &'static str) -> Self {
        let reply = Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "see `allow`");
        Reply {
            allow: Some(allow),
            ..reply
        }
    }

    pub(super) fn bad_request(detail: &str) -> Self {
        Reply::problem(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn problem(status: StatusCode, error: &str, detail: &str) -> Self {
        Reply::new(status, &json!({ "error": error, "detail": detail }))
    }

    /// Who may keep this for how long, as `Cache-Control`.
    pub(super) fn cached(self, cache_control: &'static str) -> Self {
        Reply { cache_control, ..self }
    }

    /// Adds an `ETag` made from the body; a request that already has that body gets 304 (RFC 9110 §13.1.2).
    pub(super) fn tagged(self, request: &Request) -> Self {
        let hash = digest(&SHA256, &self.body);
        let short: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let etag = format!("\"{short}\"");
        let known = request.if_none_match.as_deref().is_some_and(|list| {
            list.split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
        });
        let (status, body) = if known {
            (StatusCode::NOT_MODIFIED, Vec::new())
        } else {
            (self.status, self.body)
        };
        Reply {
            status,
            body,
            etag: Some(etag),
            ..self
        }
    }

    fn new(status: StatusCode, body: &impl Serialize) -> Self {
        let (status, body) = match serde_json::to_vec(body) {
            Ok(body) => (status, body),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
        };
        Reply {
            status,
            body,
            content_type: "application/json",
            cache_control: "no-store",
            allow: None,
            etag: None,
        }
    }
}

impl From<Result<Reply, Reply>> for Reply {
    /// Lets a service use `?` for refusals.
    fn from(result: Result<Reply, Reply>) -> Self {
        result.unwrap_or_else(|refusal| refusal)
    }
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// One service on one port.
pub(super) struct Site {
    /// `name/port`, so that one sees which endpoint the gateway has chosen.
    served_by: String,
    answer: Answer,
}

impl Site {
    pub(super) fn new(name: &str, port: u16, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Site {
            served_by: format!("{name}/{port}"),
            answer: Box::new(answer),
        }
    }

    /// Serves until `stopped` turns true. `alive` is held until listener and connections are closed.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        stopped: watch::Receiver<bool>,
        alive: mpsc::Sender<Infallible>,
    ) {
        // Pingora takes an open socket from this table, by the name under which it was added.
        let mut fds = Fds::new();
        fds.add(self.served_by.clone(), listener.into_raw_fd());
        let name = self.served_by.clone();
        let mut service = Service::new(
            name.clone(),
            Connections {
                site: Arc::new(self),
                _alive: alive.clone(),
            },
        );
        service.add_tcp(&name);
        service.start_service(Some(Arc::new(Mutex::new(fds))), stopped, 1).await;
        drop(service);
        drop(alive);
    }
}

/// Ends connections when the service stops; by itself Pingora waits for idle ones to run out.
struct Connections {
    site: Arc<Site>,
    _alive: mpsc::Sender<Infallible>,
}

#[async_trait]
impl ServerApp for Connections {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut stopped = shutdown.clone();
        tokio::select! {
            reusable = self.site.process_new(stream, shutdown) => reusable,
            _ = stopped.wait_for(|stop| *stop) => None,
        }
    }
}

#[async_trait]
impl ServeHttp for Site {
    async fn response(&self, http: &mut ServerSession) -> Response<Vec<u8>> {
        http.set_read_timeout(Some(READ_TIMEOUT));
        let reply = match read(http).await {
            Ok(request) => match request.path().as_slice() {
                ["healthz"] => Reply::ok(&json!({ "status": "ok" })),
                _ => (self.answer)(&request),
            },
            Err(refusal) => {
                // What is left of the body would be taken for the next request.
                http.set_keepalive(None);
                refusal
            }
        };
        self.respond(reply, http.req_header().method == http::Method::HEAD)
    }
}

impl Site {
    fn respond(&self, reply: Reply, head: bool) -> Response<Vec<u8>> {
        let length = reply.body.len();
        let mut response = Response::new(if head { Vec::new() } else { reply.body });
        *response.status_mut() = reply.status;
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        };
        set(CACHE_CONTROL, reply.cache_control);
        set(HeaderName::from_static("x-served-by"), &self.served_by);
        if reply.status != StatusCode::NOT_MODIFIED {
            set(CONTENT_TYPE, reply.content_type);
            set(CONTENT_LENGTH, itoa::Buffer::new().format(length));
        }
        if let Some(allow) = reply.allow {
            set(ALLOW, allow);
        }
        if let Some(etag) = &reply.etag {
            set(ETAG, etag);
        }
        response
    }
}

async fn read(http: &mut ServerSession) -> Result<Request, Reply> {
    let header = http.req_header();
    let text = |name: &str| {
        let value = header.headers.get(name)?;
        std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned)
    };
    let mut request = Request {
        verb: match header.method {
            http::Method::GET | http::Method::HEAD => Verb::Get,
            http::Method::POST => Verb::Post,
            _ => Verb::Other,
        },
        path: header.uri.path().split('/').skip(1).map(decoded).collect(),
        query: pairs(header.uri.query().unwrap_or_default()),
        user: text("x-user"),
        if_none_match: text(IF_NONE_MATCH.as_str()),
        body: Bytes::new(),
    };
    let announced = text(CONTENT_LENGTH.as_str())
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let waits = text(EXPECT.as_str()).is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"));
    if announced > MAX_DISCARDED || (waits && announced > MAX_BODY) {
        return Err(too_large());
    }
    if waits {
        http.write_continue_response().await.map_err(|_| unreadable())?;
    }
    let (mut body, mut length) = (Vec::new(), 0);
    while let Some(chunk) = http.read_request_body().await.map_err(|_| unreadable())? {
        length += chunk.len();
        if length <= MAX_BODY {
            body.extend_from_slice(&chunk);
        } else if length > MAX_DISCARDED {
            break;
        }
    }
    if length > MAX_BODY {
        return Err(too_large());
    }
    request.body = body.into();
    Ok(request)
}

fn too_large() -> Reply {
    Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body exceeds 64 KiB")
}

fn unreadable() -> Reply {
    Reply::bad_request("the body cannot be read")
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(name, value)| (decoded(name), decoded(&value.replace('+', " "))))
        .collect()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
