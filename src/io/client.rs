//! A small HTTP/1.1 client for side calls: key sets, discovery documents, the admin API of a gateway.
//!
//! Runs on Pingora's connector (the same TLS and pooling as for upstreams), and adds what a side call needs: one deadline for
//! everything, a bound on the body while it is read, names resolved without blocking, no redirects, and a word on which
//! addresses may be called at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

/// Idle connections kept, over all servers: side calls are few.
const POOL: usize = 32;
const IDLE: Duration = Duration::from_secs(30);
/// So many addresses of one name are tried.
const MAX_ADDRESSES: usize = 4;
/// A pooled connection may have been closed by the server just now; a `GET` is sent again so often.
const MAX_STALE: usize = 2;

/// What a call may cost and whom it may reach.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For everything: resolving, connecting, the last byte of the body.
    pub deadline: Duration,
    /// The most bytes of a body.
    pub max_body: usize,
    /// Whether `http:` is accepted.
    pub plain_http: PlainHttp,
    /// Whether link-local addresses (169.254.0.0/16, fe80::/10), where clouds serve credentials, may be called.
    pub link_local: bool,
}

/// Where a call may go without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// Nowhere.
    Never,
    /// To loopback addresses, judged after resolving.
    Loopback,
    /// Anywhere.
    Anywhere,
}

/// A whole response. Redirects are responses like any other.
#[derive(Debug, Clone)]
pub struct Response {
    /// The final status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, complete.
    pub body: Bytes,
}

/// Why there is no response. Fit for logs, not for clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an absolute `https:` or `http:` URL, or one with user information.
    #[error("not a URL that can be called")]
    Url,
    /// `http:` where that is not accepted.
    #[error("plain http is not accepted for `{0}`")]
    PlainHttp(String),
    /// The name has no address.
    #[error("cannot resolve `{host}`: {cause}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: std::io::Error,
    },
    /// All addresses are link-local, which is not accepted.
    #[error("`{0}` is a link-local address")]
    LinkLocal(String),
    /// No connection, or no TLS that can be trusted.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The exchange broke off, or was not HTTP/1.1.
    #[error("no whole response: {0}")]
    Exchange(String),
    /// The body is larger than the bound.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// No whole response in time.
    #[error("no whole response within {0:?}")]
    Deadline(Duration),
    /// The file of trusted roots cannot be read.
    #[error("cannot read the trusted roots: {0}")]
    Roots(std::io::Error),
}

/// A client with its own pool of connections. Needs a tokio runtime while calling.
pub struct Client {
    connector: Connector,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client that trusts the system's roots.
    pub fn new() -> Self {
        Self {
            connector: Connector::new(Some(ConnectorOptions::new(POOL))),
        }
    }

    /// A client that trusts the certificates of a PEM file and no others.
    pub fn trusting(roots: &Path) -> Result<Self, ClientError> {
        // The connector panics on a file that it cannot read.
        std::fs::File::open(roots).map_err(ClientError::Roots)?;
        let mut options = ConnectorOptions::new(POOL);
        options.ca_file = Some(roots.to_string_lossy().into_owned());
        Ok(Self {
            connector: Connector::new(Some(options)),
        })
    }

    /// Fetches `url`. Redirects are not followed.
    pub async fn get(&self, url: &str, bounds: Bounds) -> Result<Response, ClientError> {
        self.send(Method::GET, url, &[], Bytes::new(), bounds).await
    }

    /// Sends a request with further headers and a body, which may be empty. Redirects are not followed.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Response, ClientError> {
        let call = Call {
            method,
            headers: headers.to_vec(),
            body,
            ..Call::parse(url, bounds)?
        };
        tokio::time::timeout(bounds.deadline, self.run(&call))
            .await
            .unwrap_or(Err(ClientError::Deadline(bounds.deadline)))
    }

    async fn run(&self, call: &Call) -> Result<Response, ClientError> {
        let mut failed = ClientError::Connect("no address".into());
        for address in call.addresses().await? {
            let peer = call.peer(address);
            for _ in 0..=MAX_STALE {
                let (mut session, reused) = match self.connector.get_http_session(&peer).await {
                    Ok(connected) => connected,
                    Err(error) => {
                        failed = ClientError::Connect(error.to_string());
                        break;
                    }
                };
                match exchange(&mut session, call).await {
                    Ok(response) => {
                        self.connector.release_http_session(session, &peer, Some(IDLE)).await;
                        return Ok(response);
                    }
                    // Not one byte of an answer: the server had closed the connection.
                    Err(error) if reused && call.method == Method::GET && session.resp_header().is_none() => {
                        failed = error;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(failed)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

async fn exchange(session: &mut HttpSession, call: &Call) -> Result<Response, ClientError> {
    let broken = |error: Box<pingora::Error>| ClientError::Exchange(error.to_string());
    session
        .write_request_header(call.request().map_err(broken)?)
        .await
        .map_err(broken)?;
    if !call.body.is_empty() {
        session.write_body(&call.body).await.map_err(broken)?;
    }
    session.finish_body().await.map_err(broken)?;
    let (status, headers) = loop {
        session.read_response().await.map_err(broken)?;
        let header = session
            .resp_header()
            .ok_or_else(|| ClientError::Exchange("no header".into()))?;
        if header.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Exchange("an upgrade that nobody asked for".into()));
        }
        if !header.status.is_informational() {
            break (header.status, header.headers.clone());
        }
    };
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_body_bytes().await.map_err(broken)? {
        if body.len() + chunk.len() > call.bounds.max_body {
            return Err(ClientError::TooLarge(call.bounds.max_body));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status,
        headers,
        body: body.freeze(),
    })
}

/// One call, its URL taken apart.
struct Call {
    method: Method,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    tls: bool,
    /// Without brackets and trailing dot.
    host: String,
    port: u16,
    /// What `Host` says: as in the URL.
    authority: String,
    target: String,
    bounds: Bounds,
}

impl Call {
    fn parse(url: &str, bounds: Bounds) -> Result<Self, ClientError> {
        let uri: Uri = url.parse().map_err(|_| ClientError::Url)?;
        let authority = uri.authority().ok_or(ClientError::Url)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(ClientError::Url),
        };
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        // An empty name would turn certificate checks off.
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(ClientError::Url);
        }
        if !tls && bounds.plain_http == PlainHttp::Never {
            return Err(ClientError::PlainHttp(host.to_owned()));
        }
        Ok(Self {
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            bounds,
        })
    }

    /// The addresses that may be called, first choice first.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let mut found: Vec<SocketAddr> = match self.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, self.port)],
            Err(_) => tokio::net::lookup_host((self.host.as_str(), self.port))
                .await
                .map_err(|cause| ClientError::Resolve {
                    host: self.host.clone(),
                    cause,
                })?
                .collect(),
        };
        if !self.bounds.link_local {
            found.retain(|address| !is_link_local(address.ip()));
            if found.is_empty() {
                return Err(ClientError::LinkLocal(self.host.clone()));
            }
        }
        // The name said nothing about where it leads, so this is asked of the addresses.
        if !self.tls && self.bounds.plain_http == PlainHttp::Loopback {
            found.retain(|address| address.ip().to_canonical().is_loopback());
            if found.is_empty() {
                return Err(ClientError::PlainHttp(self.host.clone()));
            }
        }
        found.truncate(MAX_ADDRESSES);
        Ok(found)
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.tls, self.host.clone());
        // One address that does not answer must leave time for the next.
        peer.options.total_connection_timeout = Some(self.bounds.deadline / 2);
        peer
    }

    fn request(&self) -> Result<Box<RequestHeader>, Box<pingora::Error>> {
        let mut request = RequestHeader::build(self.method.as_str(), self.target.as_bytes(), Some(4))?;
        request.insert_header("host", &self.authority)?;
        request.insert_header("accept", "*/*")?;
        request.insert_header("user-agent", concat!("gwanmun/", env!("CARGO_PKG_VERSION")))?;
        if self.method != Method::GET {
            request.insert_header("content-length", self.body.len())?;
        }
        for (name, value) in &self.headers {
            request.insert_header(name.clone(), value.clone())?;
        }
        Ok(Box::new(request))
    }
}

/// Link-local, also when an IPv6 address spells an IPv4 one (mapped, or by the NAT64 prefix of RFC 6052).
fn is_link_local(address: IpAddr) -> bool {
    let v4 = |address: Ipv4Addr| address.is_link_local();
    match address.to_canonical() {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => address.is_unicast_link_local() || embedded(address).is_some_and(v4),
    }
}

fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let [[o1, o2], [o3, o4]] = [high.to_be_bytes(), low.to_be_bytes()];
    ([a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0]).then(|| Ipv4Addr::new(o1, o2, o3, o4))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        deadline: Duration::from_secs(30),
        max_body: 100,
        plain_http: PlainHttp::Loopback,
        link_local: false,
    };
    const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// Answers each request of each connection alike; `closes` after each answer, without having said so.
    async fn server(answer: &'static str, closes: bool) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a?b", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer, closes));
            }
        });
        (url, connections)
    }

    async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str, closes: bool) {
        let mut read = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            read.push(byte);
            if read.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8(std::mem::take(&mut read)).unwrap().to_lowercase();
                assert!(
                    head.starts_with("get /a?b http/1.1\r\n") && head.contains("\r\nhost: "),
                    "{head}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                if closes {
                    return;
                }
            }
        }
    }

    async fn got(answer: &'static str, closes: bool) -> Result<(u16, String), ClientError> {
        let (url, _) = server(answer, closes).await;
        let response = Client::new().get(&url, BOUNDS).await?;
        Ok((
            response.status.as_u16(),
            String::from_utf8(response.body.to_vec()).unwrap(),
        ))
    }

    #[tokio::test]
    async fn reads_whole_responses() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(got(chunked, false).await.unwrap(), (200, "abc".into()));
        assert_eq!(
            got("HTTP/1.1 200 OK\r\n\r\nuntil the end", true).await.unwrap(),
            (200, "until the end".into())
        );
        let early = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(got(early, false).await.unwrap(), (404, "no".into()));
        let elsewhere = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(got(elsewhere, false).await.unwrap(), (302, String::new()));
    }

    #[tokio::test]
    async fn takes_no_part_for_the_whole() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
        assert!(matches!(got(cut, true).await, Err(ClientError::Exchange(_))));
        let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
        assert!(matches!(got(cut, true).await, Err(ClientError::Exchange(_))));
        assert!(matches!(got("", true).await, Err(ClientError::Exchange(_))));
        assert!(matches!(
            got("SSH-2.0-x\r\n\r\n", false).await,
            Err(ClientError::Exchange(_))
        ));
        assert!(matches!(
            got("HTTP/1.1 101 Switching\r\n\r\n", false).await,
            Err(ClientError::Exchange(_))
        ));
    }

    #[tokio::test]
    async fn bounds_the_body_while_it_is_read() {
        // It says more than the bound, and sends little of it: nobody waits for the rest.
        let large = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789x";
        assert!(matches!(got(large, false).await, Err(ClientError::TooLarge(100))));
    }

    #[tokio::test]
    async fn gives_up_at_the_deadline() {
        let (url, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false).await;
        let bounds = Bounds {
            deadline: Duration::from_millis(20),
            ..BOUNDS
        };
        assert!(matches!(
            Client::new().get(&url, bounds).await,
            Err(ClientError::Deadline(_))
        ));
    }

    #[tokio::test]
    async fn uses_connections_again_and_survives_closed_ones() {
        let client = Client::new();
        let (url, connections) = server(EMPTY, false).await;
        for _ in 0..5 {
            client.get(&url, BOUNDS).await.unwrap();
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        let (url, connections) = server(EMPTY, true).await;
        for _ in 0..5 {
            client.get(&url, BOUNDS).await.unwrap();
        }
        assert_eq!(connections.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn calls_only_where_it_may() {
        let client = Client::new();
        let never = Bounds {
            plain_http: PlainHttp::Never,
            ..BOUNDS
        };
        let failed = async |url: &str, bounds: Bounds| client.get(url, bounds).await.unwrap_err().to_string();
        assert!(failed("http://127.0.0.1:1/", never).await.starts_with("plain http"));
        assert!(failed("http://192.0.2.1/", BOUNDS).await.starts_with("plain http"));
        assert!(
            failed("http://[::ffff:127.0.0.1]:1/", BOUNDS)
                .await
                .starts_with("cannot connect")
        );
        for host in [
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:169.254.1.1]",
            "[64:ff9b::169.254.169.254]",
        ] {
            assert!(
                failed(&format!("https://{host}/"), BOUNDS).await.contains("link-local"),
                "{host}"
            );
        }
        for url in [
            "",
            "/",
            "127.0.0.1",
            "ftp://a/",
            "https://",
            "https://a@b/",
            "https://:443/",
            "https://./",
            "http:// /",
        ] {
            assert_eq!(failed(url, BOUNDS).await, "not a URL that can be called", "{url}");
        }
    }

    #[tokio::test]
    async fn trusts_only_its_roots_and_the_name_in_the_url() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, EMPTY, true).await;
                }
            }
        });
        let trusting = Client::trusting(&roots).unwrap();
        let get = |client, host: &str| {
            let url = format!("https://{host}:{port}/a?b");
            async move { Client::get(client, &url, BOUNDS).await }
        };
        assert_eq!(get(&trusting, "localhost").await.unwrap().status, StatusCode::OK);
        assert!(matches!(
            get(&trusting, "127.0.0.1").await,
            Err(ClientError::Connect(_))
        ));
        assert!(matches!(
            get(&Client::new(), "localhost").await,
            Err(ClientError::Connect(_))
        ));
        assert!(matches!(
            Client::trusting(Path::new("/no/such/file")),
            Err(ClientError::Roots(_))
        ));
    }
}
