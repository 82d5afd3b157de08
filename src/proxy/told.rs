//! The keys under which answers are shared and kept: who calls, and everything that an upstream was told of the caller.
//!
//! Who calls is not enough. Two tokens of one subject may hold different rights, and an upstream that sees a token, a passport or
//! a forwarded role may answer each otherwise, whatever its `Vary` says.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use super::Exchange;
use super::exchange::edits;
use crate::engine::{Forwarded, Principal};
use crate::live::Generation;
use crate::policies::authn::Source;
use crate::upstreams::Pool;

/// What differs from one request to the next without changing any answer.
const OF_THE_REQUEST: [&str; 3] = ["x-request-id", "traceparent", "tracestate"];

/// A key under way: pieces, each framed by its length, so that none can spell another.
#[derive(Debug, Clone, Default)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub fn piece(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        self.0.extend_from_slice(piece);
    }

    pub fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        if !OF_THE_REQUEST.contains(&name.as_str()) {
            self.piece(name.as_str().as_bytes());
            self.piece(value.as_bytes());
        }
    }

    /// What a passport for the upstream says. It is signed anew time and again: when, and by what name, is left out.
    pub fn passport(&mut self, holder: Option<&Arc<Principal>>, generation: &Generation, pool: &Pool, at: Timestamp) {
        let passports = generation.passports.as_ref();
        let said = holder
            .zip(passports)
            .map(|(holder, passports)| passports.said(holder, &pool.name, at));
        self.piece(said.as_deref().unwrap_or("").as_bytes());
    }

    /// In a length that does not grow with what went in, and without a credential in it.
    pub fn finish(self) -> Box<[u8]> {
        digest(&SHA256, &self.0).as_ref().into()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Whether answers that vary on the header are told apart by no key: it is another for each request, or each endpoint.
pub(super) fn is_unkeyed(name: &HeaderName) -> bool {
    *name == header::HOST || OF_THE_REQUEST.contains(&name.as_str())
}

/// Who calls and everything that the upstream of a proxied request is told of the caller, as part of a key; `sent` are its
/// headers with credentials put right for the upstream.
pub(super) fn of(exchange: &Exchange, principal: &Principal, sent: &HeaderMap) -> Box<[u8]> {
    let mut key = Key::default();
    key.piece(&principal.identity);
    for (name, value) in exchange.told() {
        key.header(name, value);
    }
    let mut credential = |name: &HeaderName| {
        for line in sent.get_all(name) {
            key.header(name, line);
        }
    };
    if exchange.authorization() == Forwarded::Credential {
        credential(&header::AUTHORIZATION);
    }
    for source in exchange.route.iter().flat_map(|route| &route.token_sources) {
        if let Source::KeyHeader(name) = source {
            credential(name);
        }
    }
    if let Some(pool) = &exchange.attempt.pool {
        key.passport(exchange.passport_holder(), &exchange.generation, pool, exchange.at);
    }
    if let Some(edits) = edits(exchange.acts()) {
        for (name, value) in &edits.headers.set {
            key.piece(name.as_str().as_bytes());
            key.piece(value.as_ref().map_or(b"", HeaderValue::as_bytes));
        }
        for (name, value) in &edits.query.set {
            key.piece(name.as_bytes());
            key.piece(value.as_deref().unwrap_or("").as_bytes());
        }
    }
    key.finish()
}
