//! The admin listener: `/metrics` for Prometheus, `/healthz`, `/readyz`. Loopback only, as it asks for no credential.
//!
//! `Host` must be the address or `localhost`: a web page that rebinds its name to this machine is told 421.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::live::Live;
use crate::observe::metrics::{KeyFigures, Metrics};

/// The pages of the admin listener.
pub struct Admin {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    connections: Box<dyn Fn() -> usize + Send + Sync>,
}

impl Admin {
    /// The pages of one gateway; `connections` tells how many are open.
    pub fn new(live: Arc<Live>, metrics: Arc<Metrics>, connections: Box<dyn Fn() -> usize + Send + Sync>) -> Self {
        Self {
            live,
            metrics,
            connections,
        }
    }

    fn page(&self, method: &Method, host: &str, path: &str) -> (StatusCode, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !is_local(host) {
            return (
                StatusCode::MISDIRECTED_REQUEST,
                TEXT,
                "this is not the host you are looking for\n".into(),
            );
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".into());
        }
        match path {
            "/healthz" => (StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => self.readiness(),
            "/metrics" => match self.measured() {
                Ok(text) => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
                Err(error) => {
                    log::error!("cannot render the metrics: {error}");
                    (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        TEXT,
                        "the metrics cannot be rendered\n".into(),
                    )
                }
            },
            _ => (StatusCode::NOT_FOUND, TEXT, "no such page\n".into()),
        }
    }

    fn measured(&self) -> prometheus::Result<String> {
        let generation = self.live.current();
        let statuses = generation.verifiers.iter().map(|verifier| verifier.status());
        let keys: Vec<KeyFigures> = statuses
            .map(|status| KeyFigures {
                authenticator: status.authenticator,
                keys: status.keys.unwrap_or(0),
                age: status.age,
                fetches: status.is_fetched.then_some((status.fetches, status.failures)),
                remembered: status.remembered,
            })
            .collect();
        self.metrics.show_keys(&keys);
        self.metrics.render(self.live.in_flight(), (self.connections)())
    }

    /// Ready when every authenticator has had keys: until then callers with a token are told 503.
    fn readiness(&self) -> (StatusCode, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        let mut missing = String::new();
        for verifier in self.live.current().verifiers.iter() {
            let status = verifier.status();
            if status.keys.is_none() {
                let why = status.failing.as_deref().unwrap_or("not fetched yet");
                missing.push_str(&format!("authenticator {}: no keys: {why}\n", status.authenticator));
            }
        }
        match missing.is_empty() {
            true => (StatusCode::OK, TEXT, "ready\n".into()),
            false => (StatusCode::SERVICE_UNAVAILABLE, TEXT, missing),
        }
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let host = request
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let (status, content_type, body) = self.page(&request.method, host, request.uri.path());
        let body = if request.method == Method::HEAD {
            Vec::new()
        } else {
            body.into_bytes()
        };
        let response = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::CACHE_CONTROL, "no-store");
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
