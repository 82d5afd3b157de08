//! The Pingora adapter: session → facts, decision → bytes. It enforces; it decides nothing.
//!
//! `impl ProxyHttp` is a table of contents; each phase is a function of a sibling file. The stored answers, the coding of
//! bodies and the reading of paths are pure functions of `policies/` and `routing/`, called here where Pingora needs them.

mod aggregate;
mod cache;
mod called;
mod exchange;
mod failure;
mod finish;
mod inside;
mod lasting;
mod reply;
mod request;
mod response;
mod rewrite;
mod shape;
mod sparing;
mod spending;
mod tokens;
mod told;
mod trace;
mod tunnel;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, Error, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::storage::HitHandler;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, RespCacheable};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::live::Live;

pub use exchange::Exchange;
pub use request::RequestIds;

/// The gate: every request of every listener goes through here.
pub struct Gate {
    live: Arc<Live>,
    ids: Arc<RequestIds>,
}

impl Gate {
    /// A gate over live state.
    pub fn new(live: Arc<Live>, ids: Arc<RequestIds>) -> Self {
        Self { live, ids }
    }
}

#[async_trait]
impl ProxyHttp for Gate {
    /// In a box: Pingora hands it from future to future, and each time 2 KiB would be copied.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        Exchange::new(&self.live, &self.ids)
    }

    /// None: Pingora would build its own for every request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<bool> {
        request::filter(&self.live, session, exchange).await
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        lasting::notice_length(session, exchange, end).map_err(|error| error.into_down())?;
        request::count_body(body, end, exchange)?;
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            // To an upstream in HTTP/1, Pingora would write it as the last chunk, and then the last chunk: what follows there
            // is another caller's.
            *body = None;
        }
        if end {
            let had_body = body.is_some() || exchange.body.received > 0;
            upstream::await_answer(had_body, exchange);
        }
        Ok(())
    }

    fn request_cache_filter(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<()> {
        cache::look_up(&self.live, session, exchange);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, exchange: &mut Self::CTX) -> Result<CacheKey> {
        cache::key(session, exchange)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _: &mut HitHandler,
        is_fresh: bool,
        exchange: &mut Self::CTX,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(cache::judge_hit(&self.live, session, meta, is_fresh, exchange))
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        exchange: &mut Self::CTX,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        cache::variance(meta, request, exchange)
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<bool> {
        cache::may_ask_origin(session, exchange).await
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        upstream::peer(session, exchange)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, exchange: &mut Self::CTX, error: BError) -> BError {
        upstream::failed_to_connect(exchange, error)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        upstream::write_request(session, request, exchange)?;
        if session.as_mut().is_body_empty() || session.as_mut().is_body_done() {
            // To an upstream in HTTP/2, Pingora sends no body that is empty, nor asks the filter of bodies.
            upstream::await_answer(false, exchange);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        cache::note_change(&self.live, session, response, exchange);
        upstream::read_response(session, response, exchange)
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<RespCacheable> {
        Ok(cache::judge_answer(&self.live, session, response, exchange))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        response::filter(session, response, exchange).await
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        lasting::notice_length(session, exchange, end)?;
        response::body(body, end, exchange)?;
        exchange.body.sent += body.as_ref().map_or(0, |body| body.len() as u64);
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        exchange: &mut Self::CTX,
    ) -> Result<Option<Bytes>> {
        response::trailers(trailers, exchange)
    }

    fn should_serve_stale(&self, _: &mut Session, exchange: &mut Self::CTX, error: Option<&Error>) -> bool {
        failure::may_serve_stale(error, exchange)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Self::CTX) -> FailToProxy {
        failure::answer(session, error, exchange).await
    }

    fn suppress_error_log(&self, _: &Session, exchange: &Self::CTX, error: &Error) -> bool {
        failure::is_quiet(exchange, error)
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Self::CTX, _: &Error, _: ProxyWarnLogContext) -> bool {
        // Retries are in the record; a broken endpoint must not fill the log.
        true
    }

    fn request_summary(&self, _: &Session, exchange: &Self::CTX) -> String {
        // Pingora's own would print the query, where secrets travel.
        exchange.summary()
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Self::CTX) {
        let released = match error {
            None => shape::release(session, exchange).await,
            Some(_) => Ok(()),
        };
        if released.is_err() {
            session.set_keepalive(None);
        }
        finish::record(
            session,
            error.or(released.as_ref().err().map(|error| &**error)),
            exchange,
        );
    }
}
