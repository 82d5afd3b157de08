//! The admin listener: `/metrics` for Prometheus, `/healthz`, `/readyz`, and the admin API for those who hold its token.
//!
//! ```yaml
//! admin:
//!   address: 127.0.0.1:9900
//!   token: ${env:GWANMUN_ADMIN_TOKEN}     # at least 32 characters; without it the API is closed
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | what runs: version, configuration, reloads, freezes, how much is revoked |
//! | `GET /freezes` | `{freezes: [{kind, name, until, reason, since, by}]}` |
//! | `PUT /freezes/{name}`, or `POST` | `{until, for, reason}`, all optional → `{frozen: [...]}` |
//! | `DELETE /freezes/{name}` | `{thawed: [...]}` |
//! | `GET /revocations` | `{revocations: {held, most, memory_bytes, token, identity, …}}`: how many, and what they take |
//! | `POST /revocations` | whom, and `{issued_before, until, for, expires, reason}`, all optional → `{revoked: [...]}` |
//! | `DELETE /revocations?…` | whom, in the query → `{lifted: [...]}` |
//!
//! `until` is RFC 3339, or `HH:MM` in the zone of the calendars; `for` is a duration. A name that is a route's and an
//! upstream's means both, unless `?kind=route` or `?kind=upstream` says which. Bodies are at most 16 KiB.
//!
//! Whom a revocation means: `subject` with `authenticator` and `issuer`, or `anywhere: true`; `jti` with `authenticator` and
//! `issuer`, and best with `expires`, the token's `exp`; or, `issued_before` an instant (`now`), all of an `authenticator`,
//! of an `issuer`, or `everybody: true`. The authenticator may be left out where there is one, the issuer where the
//! authenticator has one. `until` and `for` are for a `subject` that is shut out whenever its tokens were issued.
//!
//! Errors are problem+json: 401 `token-missing`, `token-invalid`; 404 `name-unknown`, `not-frozen`, `not-revoked`; 409
//! `state-missing`; 400 `body-unreadable`; 413 `body-too-large`; 422 `until-invalid`, `reason-invalid`, `kind-invalid`,
//! `whom-invalid`, `issued-before-invalid`, `expires-invalid`; 500 `state-failed`; 507 `revocations-full`.
//! `Host` must be the address or `localhost`: a web page that rebinds its name to this machine is told 421.

mod freezes;
mod revocations;
mod status;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::Value;

use crate::engine::{Denial, DenialKind, Reply, problem};
use crate::live::Live;
use crate::observe::metrics::{EndpointFigures, IntrospectionFigures, KeyFigures, Metrics, UpstreamFigures};
use crate::observe::{Connections, Reloads};
use crate::snapshot::AdminToken;

/// Bytes of a request's body.
const MAX_BODY: usize = 16 << 10;
/// For a whole body to arrive, or to be thrown away.
const BODY: Duration = Duration::from_secs(5);
/// An operator's client that stops reading for so long is given up.
const WRITE: Duration = Duration::from_secs(10);

/// The pages of the admin listener.
pub struct Admin {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    reloads: Arc<Reloads>,
    /// Accepted besides the token of the configuration.
    token: Option<AdminToken>,
    connections: Box<dyn Fn() -> Connections + Send + Sync>,
}

/// A request to the admin API.
struct Asked {
    method: Method,
    /// What stands after `/freezes/`; nothing in `/freezes`.
    name: Option<String>,
    query: String,
    body: Vec<u8>,
    /// From where.
    address: IpAddr,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Admin {
    /// The pages of one gateway. `token` opens the API besides the configuration's own; `connections` tells how many are
    /// open.
    pub fn new(
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        reloads: Arc<Reloads>,
        token: Option<AdminToken>,
        connections: Box<dyn Fn() -> Connections + Send + Sync>,
    ) -> Self {
        Self {
            live,
            metrics,
            reloads,
            token,
            connections,
        }
    }

    async fn answer(&self, session: &mut ServerSession) -> Result<Reply, Problem> {
        let request = session.req_header();
        let host = request.headers.get(header::HOST);
        if !is_local(host.and_then(|host| host.to_str().ok()).unwrap_or_default()) {
            let detail = "this is not the host you are looking for";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host-unknown", detail));
        }
        let path = request.uri.path().to_owned();
        let name = path.strip_prefix("/freezes/").filter(|name| !name.is_empty());
        let allowed: &[Method] = match path.as_str() {
            "/healthz" | "/readyz" | "/metrics" | "/status" | "/freezes" => &[Method::GET, Method::HEAD],
            "/revocations" => &[Method::GET, Method::HEAD, Method::POST, Method::DELETE],
            _ if name.is_some() => &[Method::PUT, Method::POST, Method::DELETE],
            _ => return Err(Problem::new(StatusCode::NOT_FOUND, "page-unknown", "no such page")),
        };
        let is_open = matches!(path.as_str(), "/healthz" | "/readyz" | "/metrics");
        if !is_open {
            self.check_token(&request.headers)?;
        }
        if !allowed.contains(&request.method) {
            let listed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
            let detail = format!("{} only", listed.join(", "));
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
            return Err(problem.with(header::ALLOW, &listed.join(", ")));
        }
        match path.as_str() {
            "/healthz" => Ok(page(StatusCode::OK, TEXT, "ok\n".into())),
            "/readyz" => Ok(self.readiness()),
            "/metrics" => self.metrics(),
            "/status" => Ok(json(&self.status())),
            _ => {
                let asked = Asked {
                    method: request.method.clone(),
                    name: name.map(str::to_owned),
                    query: request.uri.query().unwrap_or_default().to_owned(),
                    address: peer(session),
                    body: read_body(session).await?,
                };
                let told = match path.as_str() {
                    "/revocations" => self.revocations(asked).await,
                    _ => self.freezes(asked).await,
                };
                told.map(|told| json(&told))
            }
        }
    }

    /// RFC 6750: the whole value is compared, in a time that tells nothing of it.
    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let refused = |code, detail: &str| {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, code, detail);
            problem.with(header::WWW_AUTHENTICATE, "Bearer realm=\"gwanmun admin\"")
        };
        let generation = self.live.current();
        let configured = generation
            .snapshot
            .admin
            .as_ref()
            .and_then(|admin| admin.token.as_ref());
        if configured.is_none() && self.token.is_none() {
            let detail = "the admin API is closed: the configuration names no `admin.token`";
            return Err(refused("token-missing", detail));
        }
        let mut sent = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (sent.next(), sent.next()) else {
            return Err(refused(
                "token-missing",
                "this needs the token of the admin API, as a bearer token",
            ));
        };
        let (scheme, token) = value.as_bytes().split_at_checked(7).unwrap_or_default();
        let is_good = |known: &AdminToken| known.is(token);
        if scheme.eq_ignore_ascii_case(b"Bearer ") && configured.into_iter().chain(&self.token).any(is_good) {
            return Ok(());
        }
        Err(refused("token-invalid", "this is not the token of the admin API"))
    }

    fn metrics(&self) -> Result<Reply, Problem> {
        let (snapshot, held) = (self.live.current().snapshot.clone(), self.live.freezes.held());
        let frozen = held.in_force(self.live.clock.now());
        let shown = frozen.iter().map(|held| &held.freeze).map(|freeze| {
            let is_known = snapshot.has(freeze.kind, &freeze.name);
            (freeze.kind.word(), &*freeze.name, is_known)
        });
        self.metrics.show_freezes(shown);
        let revoked = self.live.revocations.figures();
        let counts = revoked.counts.iter().map(|(whom, count)| (whom.word(), *count));
        self.metrics.show_revocations(counts, revoked.memory);
        self.metrics.show_keys(&self.keys());
        self.metrics.show_upstreams(&self.upstreams());
        self.show_authenticators();
        self.metrics.show_part_calls(self.live.flights.waiting());
        let connections = (self.connections)();
        self.metrics.show_connections(&connections);
        match self.metrics.render(self.live.in_flight(), connections.open) {
            Ok(text) => Ok(page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)),
            Err(error) => {
                log::error!("cannot render the metrics: {error}");
                let detail = "the metrics cannot be rendered";
                Err(Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "metrics-failed",
                    detail,
                ))
            }
        }
    }

    /// Those that fetch no keys.
    fn show_authenticators(&self) {
        let generation = self.live.current();
        let api_keys = generation.verifiers.api_keys();
        self.metrics
            .show_api_keys(api_keys.map(|(name, count)| (&**name, count)));
        let introspectors = generation.verifiers.introspectors();
        self.metrics.show_introspection(introspectors.map(|introspector| {
            let status = introspector.status();
            IntrospectionFigures {
                authenticator: status.authenticator,
                asked: (status.asked, status.failures),
                age: status.age,
                remembered: status.remembered,
            }
        }));
    }

    fn keys(&self) -> Vec<KeyFigures> {
        let generation = self.live.current();
        let statuses = generation.verifiers.iter().map(|verifier| verifier.status());
        statuses
            .map(|status| KeyFigures {
                authenticator: status.authenticator,
                keys: status.keys.unwrap_or(0),
                age: status.age,
                fetches: status.is_fetched.then_some((status.fetches, status.failures)),
                remembered: status.remembered,
            })
            .collect()
    }

    fn upstreams(&self) -> Vec<UpstreamFigures> {
        let generation = self.live.current();
        let figures = generation.pools.iter().map(|pool| {
            let endpoints = pool.endpoints.iter().map(|endpoint| {
                let breaker = pool.settings.breaker.is_some().then(|| endpoint.breaker());
                EndpointFigures {
                    label: endpoint.label.clone(),
                    in_flight: endpoint.in_flight(),
                    breaker: breaker.map(|breaker| (breaker.is_open, breaker.opened)),
                }
            });
            let retries = pool.retried();
            UpstreamFigures {
                name: pool.name.clone(),
                retries: retries.made,
                retries_refused: retries.refused,
                endpoints: endpoints.collect(),
            }
        });
        figures.collect()
    }

    /// Ready when every authenticator has had keys: until then callers with a token are told 503.
    fn readiness(&self) -> Reply {
        let mut missing = String::new();
        for verifier in self.live.current().verifiers.iter() {
            let status = verifier.status();
            if status.keys.is_none() {
                let why = status.failing.as_deref().unwrap_or("not fetched yet");
                missing.push_str(&format!("authenticator {}: no keys: {why}\n", status.authenticator));
            }
        }
        match missing.is_empty() {
            true => page(StatusCode::OK, TEXT, "ready\n".into()),
            false => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, missing),
        }
    }
}

/// Does what waits for the disk, or for others that change the same.
async fn blocking(work: impl FnOnce() -> Result<Value, Problem> + Send + 'static) -> Result<Value, Problem> {
    let failed = |_| {
        let detail = "this failed; see the log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn peer(session: &ServerSession) -> IpAddr {
    let address = session.client_addr().and_then(|address| address.as_inet());
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip().to_canonical())
}

/// The whole body, within the bounds on its size and its time.
async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, Problem> {
    let unreadable = || Problem::new(StatusCode::BAD_REQUEST, "body-unreadable", "the body broke off");
    let read = async {
        let mut body = Vec::new();
        while let Some(chunk) = session.read_request_body().await.map_err(|_| unreadable())? {
            if body.len() + chunk.len() > MAX_BODY {
                let detail = "a body has at most 16 KiB here";
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout(BODY, read)
        .await
        .unwrap_or_else(|_| Err(unreadable()))
}

/// A refusal of the admin API.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            header: None,
        }
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    fn reply(self) -> Reply {
        let denial = Denial::new(DenialKind::Refuse, self.status, self.code, &self.detail);
        let mut reply = problem(&denial, "", jiff::Timestamp::UNIX_EPOCH, 0);
        reply.headers.extend(self.header);
        reply
    }
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    Reply {
        status,
        headers: vec![
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ],
        body: body.into(),
    }
}

fn json(value: &Value) -> Reply {
    page(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        session.set_write_timeout(Some(WRITE));
        session.set_total_drain_timeout(Some(BODY));
        let reply = self.answer(session).await.unwrap_or_else(Problem::reply);
        // A connection closed over an unread body may be reset before the answer is read.
        let _ = read_body(session).await;
        let mut response = Response::builder()
            .status(reply.status)
            .header(header::CONTENT_LENGTH, reply.body.len())
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        for (name, value) in &reply.headers {
            response = response.header(name, value);
        }
        let body = match session.req_header().method == Method::HEAD {
            true => Vec::new(),
            false => reply.body.to_vec(),
        };
        response.body(body).unwrap_or_else(|_| Response::new(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn answers_only_to_names_of_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:9900",
            "127.0.0.1:9900",
            "127.0.0.1",
            "[::1]:9900",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "bank.example",
            "evil.example:9900",
            "10.0.0.1",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
