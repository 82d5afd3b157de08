//! From a request that was read to its decision, and the first thing done about it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use jiff::Timestamp;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use ring::rand::{SecureRandom, SystemRandom};
use smallvec::SmallVec;

use super::{Exchange, aggregate, reply, rewrite, shape, tokens, tunnel};
use crate::engine::{ClientCertificate, Denial, DenialKind, Effect, Handshake, Headers, RecordedRequest, RequestView};
use crate::live::{Asking, Live};
use crate::policies::authn::{Credential, Source};
use crate::policies::websocket::handshake;
use crate::routing::{normalise_host, normalise_path};
use crate::snapshot::{Snapshot, TrustedProxies, judge};
use crate::targets::Target;

/// For each piece of a request body.
const READ: Duration = Duration::from_secs(30);
/// The header of a rehearsal that names the instant of one request.
const AT: HeaderName = HeaderName::from_static("gwanmun-at");

/// Request ids: unique per process and not guessable from one another.
pub struct RequestIds {
    process: u64,
    key: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids of this process.
    pub fn new() -> Result<Self, ring::error::Unspecified> {
        let mut seed = [0; 16];
        SystemRandom::new().fill(&mut seed)?;
        let [process, key] = [
            u128::from_le_bytes(seed) as u64,
            (u128::from_le_bytes(seed) >> 64) as u64,
        ];
        Ok(Self {
            process,
            key,
            next: AtomicU64::new(0),
        })
    }

    /// The next one: 32 hexadecimal digits.
    pub fn next(&self) -> Arc<str> {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        // A bijection (the finaliser of SplitMix64): no two counts meet.
        let mut mixed = count ^ self.key;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bytes = (u128::from(self.process) << 64 | u128::from(mixed)).to_be_bytes();
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Arc::from(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

/// A hexadecimal digit of a number below sixteen.
fn digit(value: u8) -> u8 {
    value + if value < 10 { b'0' } else { b'a' - 10 }
}

/// Pingora's header map as the engine sees it, with the certificate of the connection that it came by.
pub(super) struct View<'a>(pub &'a HeaderMap, pub Option<&'a Arc<ClientCertificate>>);

impl Headers for View<'_> {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.get_all(name).iter().nth(1).is_some()
    }

    fn all(&self, name: &HeaderName) -> SmallVec<[&[u8]; 2]> {
        self.0.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }

    fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.1
    }
}

/// What the handshake came to, where there was one.
fn handshake_of(session: &Session) -> Option<&Handshake> {
    session.digest()?.ssl_digest.as_ref()?.extension.get()
}

/// The certificate that the client has shown when it connected.
pub(super) fn certificate(session: &Session) -> Option<&Arc<ClientCertificate>> {
    handshake_of(session)?.certificate.as_ref()
}

/// Decides, and answers what is answered here. True where an answer was written.
pub(super) async fn filter(live: &Arc<Live>, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
    session.as_downstream_mut().set_read_timeout(Some(READ));
    if session.req_header().version == Version::HTTP_10 {
        // It knows no interim answers (RFC 9110 §15.2).
        session.as_downstream_mut().set_ignore_info_resp(true);
    }
    if session.as_downstream().get_keepalive_reuses_remaining() == Some(0) {
        session.set_keepalive(None);
    }
    let trusted = exchange.generation.snapshot.trusted_proxies.as_ref();
    let is_proxied = trusted.is_some_and(|trusted| trusted.trusts(&peer(session)));
    clean(session.req_header_mut(), exchange, is_proxied);
    // A panic would close the connection without an answer and without a record.
    let served = AssertUnwindSafe(serve(live, session, exchange)).catch_unwind().await;
    served.unwrap_or_else(|_| {
        exchange.failure = Some(internal());
        Err(Error::explain(ErrorType::InternalError, "a panic while deciding"))
    })
}

/// Takes away what no rule and no upstream may read from a caller; with it what `Connection` names as being for this
/// connection alone (RFC 9110 §7.6.1), so that nothing is judged by what is not sent on.
fn clean(request: &mut pingora::http::RequestHeader, exchange: &Exchange, is_proxied: bool) {
    for name in nominated(&request.headers) {
        request.remove_header(&name);
    }
    for name in exchange.generation.snapshot.forbidden(&request.headers, is_proxied) {
        request.remove_header(&name);
    }
    if request.version != Version::HTTP_11 {
        // RFC 9110 §7.8: of an older client it means nothing.
        request.remove_header(&header::UPGRADE);
    }
    if request.version == Version::HTTP_10 {
        // RFC 9110 §10.1.1, likewise.
        request.remove_header(&header::EXPECT);
    }
    // Pingora keeps every name a second time, as the client spelt it, copies that for the upstream and writes each header we
    // add to both: 2 µs of a request. A name means the same in any spelling (RFC 9110 §5.1).
    if request.has_case() && request.raw_path_is_utf8() {
        edit(request, |_| {});
    }
}

/// Edits headers in their map, without the client's spelling of their names.
pub(super) fn edit(request: &mut pingora::http::RequestHeader, edit: impl FnOnce(&mut HeaderMap)) {
    let (placeholder, ()) = http::Request::new(()).into_parts();
    let mut parts: http::request::Parts = std::mem::replace(request, placeholder.into()).into();
    edit(&mut parts.headers);
    *request = parts.into();
}

/// What `Connection` names besides what concerns the connection itself.
pub(super) fn nominated(headers: &HeaderMap) -> SmallVec<[HeaderName; 2]> {
    const OWN: [&[u8]; 8] = [
        b"keep-alive",
        b"close",
        b"upgrade",
        b"te",
        b"http2-settings",
        b"transfer-encoding",
        b"content-length",
        b"host",
    ];
    let lines = headers.get_all(header::CONNECTION).iter();
    let options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let is_own = |option: &[u8]| OWN.iter().any(|own| option.eq_ignore_ascii_case(own));
    let others = options.map(<[u8]>::trim_ascii).filter(|option| !is_own(option));
    others
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

async fn serve(live: &Arc<Live>, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
    if let Err(denial) = decide(live, session, exchange).await {
        // What else such a client has sent is nothing to be read.
        session.set_keepalive(None);
        reply::refuse(session, exchange, *denial).await?;
        return Ok(true);
    }
    let effect = exchange.decision.as_ref().map(|decision| decision.effect.clone());
    match effect {
        Some(Effect::Deny(denial)) => {
            reply::refuse(session, exchange, *denial).await?;
            return Ok(true);
        }
        Some(Effect::Reply(answer)) => {
            reply::write(session, exchange, answer).await?;
            return Ok(true);
        }
        Some(Effect::Forward) => {}
        None => return Err(Error::new(ErrorType::InternalError)),
    }
    if content_length(session).is_some_and(|length| length > exchange.body_limit()) {
        reply::refuse(session, exchange, too_large()).await?;
        return Ok(true);
    }
    let Some(route) = exchange.route.clone() else {
        return Err(Error::new(ErrorType::InternalError));
    };
    // Rules of inner routes read the caller's credential where it stands.
    let sent = matches!(route.target, Target::Aggregate(_)).then(|| aggregate::Sent::by(session.req_header(), &route));
    tokens::take_away(session, exchange, &route)?;
    match &route.target {
        Target::Fixed(answer) => reply::write(session, exchange, answer.clone()).await?,
        Target::Aggregate(aggregate) => {
            aggregate::answer(live, session, exchange, &route, aggregate, sent.unwrap_or_default()).await?;
        }
        Target::Upstream(index) => {
            exchange.attempt.pool = exchange.generation.pool(*index).cloned();
            if let Some(denial) = rewrite::take_body(session, exchange).await? {
                reply::refuse(session, exchange, denial).await?;
                return Ok(true);
            }
            if handshake::is_asked(&session.req_header().headers) {
                if exchange.has_socket() {
                    // Rarely taken, and large: it would be a part of every request's future.
                    Box::pin(tunnel::open(live, session, exchange)).await?;
                    return Ok(true);
                }
                session.req_header_mut().remove_header(&header::UPGRADE);
            }
            shape::ask_whole(session, exchange)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the request once, and decides it; an error is what could not be read.
async fn decide(live: &Live, session: &Session, exchange: &mut Exchange) -> Result<(), Box<Denial>> {
    let generation = exchange.generation.clone();
    let snapshot = &generation.snapshot;
    let request = session.req_header();
    let headers = View(&request.headers, certificate(session));
    let peer = peer(session);
    let address = caller(snapshot.trusted_proxies.as_ref(), peer, &request.headers);
    exchange.forwarded_for = match address {
        Ok(address) if address != peer => HeaderValue::try_from(format!("{address}, {peer}")).ok(),
        _ => spelt(peer),
    };
    let mut recorded = RecordedRequest {
        method: request.method.clone(),
        host: String::new(),
        template: None,
        params: Vec::new(),
        path: None,
        headers: kept_headers(snapshot, &request.headers),
        query: Vec::new(),
        credential: "absent",
        address: *address.as_ref().unwrap_or(&peer),
        client: Arc::from(""),
        claims: snapshot.kept.claims.clone(),
    };
    let read = read_target(request);
    if let Ok((host, ..)) = &read {
        recorded.host = host.to_string();
    }
    let unreadable = |recorded: RecordedRequest, exchange: &mut Exchange, denial| {
        exchange.recorded = Some(recorded);
        Err(denial)
    };
    let (host, path, query) = match read {
        Ok(read) => read,
        Err(denial) => return unreadable(recorded, exchange, denial),
    };
    let address = match address {
        Ok(address) => address,
        Err(denial) => return unreadable(recorded, exchange, denial),
    };
    if handshake_of(session).is_some_and(|handshake| handshake.misses(&host)) {
        let detail = "this connection was made for another host";
        let status = StatusCode::MISDIRECTED_REQUEST;
        let denial = Denial::new(DenialKind::Refuse, status, "misdirected", detail);
        return unreadable(recorded, exchange, Box::new(denial));
    }
    let mut expected = request.headers.get_all(header::EXPECT).iter();
    if !expected.all(|what| what.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let detail = "no other expectation than `100-continue` can be met";
        let status = StatusCode::EXPECTATION_FAILED;
        let denial = Denial::new(DenialKind::Refuse, status, "expectation-failed", detail);
        return unreadable(recorded, exchange, Box::new(denial));
    }
    if exchange.rehearsal && request.headers.contains_key(&AT) {
        match instant(&headers) {
            Some(at) => exchange.at = at,
            None => {
                let detail = "Gwanmun-At is not an instant such as 2026-09-25T23:45:00+09:00";
                let denial = Denial::new(DenialKind::Refuse, StatusCode::BAD_REQUEST, "request-invalid", detail);
                return unreadable(recorded, exchange, Box::new(denial));
            }
        }
    }
    let view = RequestView {
        method: &request.method,
        host: &host,
        path: &path,
        query,
        headers: &headers,
    };
    for name in &snapshot.kept.query {
        let values = view.query_sent(name).map(|value| value.map(Cow::into_owned)).collect();
        recorded.query.push((name.clone(), values));
    }
    let asking = Asking {
        generation: &generation,
        freezes: &live.freezes,
        revocations: &live.revocations,
        now: exchange.at,
        monotonic: live.monotonic(),
    };
    // Where it is made, it stays: it is large.
    let judged = pin!(judge(snapshot, view, address, exchange.at, &asking)).await;
    recorded.client = judged.client.name.clone();
    let sources = judged.route.map_or(&[][..], |route| &route.token_sources);
    let sources = if sources.is_empty() {
        &[Source::Authorization]
    } else {
        sources
    };
    recorded.credential = Credential::of(&view, sources).word(sources);
    match judged.route {
        Some(route) => {
            recorded.template = Some(route.template.clone());
            recorded.params = judged
                .params
                .iter()
                .map(|(name, value)| (name.clone(), value.to_owned()))
                .collect();
        }
        None => recorded.path = Some(path.to_string()),
    }
    exchange.route = judged.route.cloned();
    exchange.rules = judged.rule_names.clone();
    exchange.decision = Some(judged.decision);
    exchange.recorded = Some(recorded);
    if request.uri.authority().is_some() || path != request.uri.path() {
        exchange.target = Some(match request.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_string(),
        });
    }
    Ok(())
}

type Target3<'a> = (Cow<'a, str>, Cow<'a, str>, &'a str);

/// Host, path and query, normalised.
fn read_target(request: &pingora::http::RequestHeader) -> Result<Target3<'_>, Box<Denial>> {
    let invalid = |code, detail: &str| Box::new(Denial::new(DenialKind::Refuse, StatusCode::BAD_REQUEST, code, detail));
    let authority = match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
            host.ok_or_else(|| invalid("request-invalid", "the request names no host"))?
        }
    };
    let host = normalise_host(authority).map_err(|fault| invalid("request-invalid", &fault.to_string()))?;
    let path = request.uri.path();
    let path = normalise_path(path.as_bytes()).map_err(|fault| invalid("path-invalid", &fault.to_string()))?;
    Ok((host, path, request.uri.query().unwrap_or("")))
}

/// The address at the other end of the connection.
fn peer(session: &Session) -> IpAddr {
    let address = session.client_addr().and_then(|address| address.as_inet());
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip().to_canonical())
}

/// The caller's address: the peer's, or what a trusted proxy says of it.
fn caller(trusted: Option<&TrustedProxies>, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Box<Denial>> {
    let Some(trusted) = trusted.filter(|trusted| trusted.trusts(&peer)) else {
        return Ok(peer);
    };
    // Where they speak the PROXY protocol, the peer is the caller already.
    let Some(name) = trusted.header().filter(|name| headers.contains_key(*name)) else {
        return Ok(peer);
    };
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    trusted.caller(values.into_iter()).ok_or_else(|| {
        let detail = "the proxy in front does not say where the request comes from";
        Box::new(Denial::new(
            DenialKind::Refuse,
            StatusCode::BAD_REQUEST,
            "request-invalid",
            detail,
        ))
    })
}

/// An address as a header; that of IPv4, which most are, without the formatting machinery.
fn spelt(address: IpAddr) -> Option<HeaderValue> {
    let IpAddr::V4(address) = address else {
        return HeaderValue::try_from(address.to_string()).ok();
    };
    let mut text: SmallVec<[u8; 16]> = SmallVec::new();
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
    HeaderValue::from_bytes(&text).ok()
}

fn instant(headers: &View<'_>) -> Option<Timestamp> {
    let value = headers.first(&AT).filter(|_| !headers.is_repeated(&AT))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Every header that something reads; an empty list says that it was looked for and is not there.
fn kept_headers(snapshot: &Snapshot, headers: &HeaderMap) -> Vec<(HeaderName, Vec<Option<String>>)> {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let lines = |name: &HeaderName| headers.get_all(name).iter().map(text).collect();
    snapshot
        .kept
        .headers
        .iter()
        .map(|name| (name.clone(), lines(name)))
        .collect()
}

pub(super) fn content_length(session: &Session) -> Option<u64> {
    session
        .req_header()
        .headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Counts the body on its way to the upstream; more than allowed is an error of the client's.
pub(super) fn count_body(body: &mut Option<Bytes>, end: bool, exchange: &mut Exchange) -> Result<()> {
    if rewrite::body(body, end, exchange) {
        return Ok(());
    }
    exchange.body.received += body.as_ref().map_or(0, |body| body.len() as u64);
    if exchange.body.received > exchange.body_limit() {
        exchange.failure = Some(too_large());
        // The client's fault: of any other Pingora waits for what an upstream in HTTP/2 has to say to half a request.
        let error = Error::explain(ErrorType::HTTPStatus(413), "the body is larger than allowed");
        return Err(error.into_down());
    }
    Ok(())
}

pub(super) fn too_large() -> Denial {
    let detail = "the request body is larger than allowed here";
    Denial::new(
        DenialKind::Refuse,
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        detail,
    )
}

pub(super) fn internal() -> Denial {
    Denial::new(
        DenialKind::Refuse,
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "something went wrong here",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_addresses_as_the_library_does() {
        for text in ["127.0.0.1", "0.0.0.0", "255.10.9.100", "2001:db8::1", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(spelt(address).unwrap(), address.to_string());
        }
    }

    #[test]
    fn forgets_how_names_were_spelt_and_nothing_else() {
        let mut request = pingora::http::RequestHeader::build("POST", b"/a?b=c", None).unwrap();
        request.append_header("X-Twice", "1").unwrap();
        request.append_header("x-twice", "2").unwrap();
        request.set_version(Version::HTTP_10);
        edit(&mut request, |headers| {
            headers.insert("x-added", HeaderValue::from_static("3"));
        });
        assert!(!request.has_case());
        assert_eq!(request.raw_path(), b"/a?b=c");
        assert_eq!((request.method.as_str(), request.version), ("POST", Version::HTTP_10));
        let twice: Vec<&HeaderValue> = request.headers.get_all("x-twice").iter().collect();
        assert_eq!(twice, ["1", "2"]);
        assert_eq!(request.headers["x-added"], "3");
    }

    #[test]
    fn ids_do_not_repeat_and_look_alike() {
        let ids = RequestIds::new().unwrap();
        let mut seen: Vec<Arc<str>> = (0..10_000).map(|_| ids.next()).collect();
        assert!(
            seen.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        );
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
    }
}
