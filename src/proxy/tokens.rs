//! Credentials that did not come in `Authorization`. A token goes on there, where the route keeps that, and nowhere else; an API
//! key goes on in its own header, where the route says that it keeps it, and an `Authorization` beside it, which nobody looked
//! at, does not. The answer is `private`: caches between the caller and here know only `Authorization` for a credential
//! (RFC 9111 §3.5, RFC 6750 §2.3).

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Method, Uri, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::exchange::{authorization, says_keep};
use super::{Exchange, request};
use crate::engine::{Act, Forwarded, RequestView};
use crate::policies::authn::{Credential, Source, only_parameters, without_cookies, without_parameters};
use crate::snapshot::{Route, Snapshot, private};

/// Takes them from a request that was decided, before anything is looked up, logged or sent on by what it carries.
pub(super) fn take_away(session: &mut Session, exchange: &mut Exchange, route: &Route) -> Result<()> {
    let generation = exchange.generation.clone();
    let snapshot = &generation.snapshot;
    let has_query = |source: &Source| matches!(source, Source::Query(_) | Source::KeyQuery(_));
    let is_plain = snapshot.token_headers.is_empty() && snapshot.token_cookies.is_empty();
    let is_elsewhere = |source: &Source| has_query(source) || *source == Source::Certificate;
    if is_plain && !route.token_sources.iter().any(is_elsewhere) {
        return Ok(());
    }
    let certificate = request::certificate(session).cloned();
    let request = session.req_header_mut();
    let headers = request::View(&request.headers, certificate.as_ref());
    let brought = Brought::by(
        &RequestView {
            method: &Method::GET,
            host: "",
            path: "",
            query: request.uri.query().unwrap_or(""),
            headers: &headers,
        },
        route,
    );
    take_headers(request, snapshot)?;
    take_parameters(request, exchange, route)?;
    match brought {
        Brought::NothingElsewhere => return Ok(()),
        Brought::Token(token) => {
            if exchange.authorization() == Forwarded::Credential {
                request.insert_header(header::AUTHORIZATION, token)?;
            }
        }
        Brought::Key(key) => {
            request.remove_header(&header::AUTHORIZATION);
            if let Some((name, key)) = key.filter(|_| exchange.says_keep()) {
                request.insert_header(name, key)?;
            }
        }
        // Nor did anybody look at an `Authorization` beside it.
        Brought::Certificate => {
            request.remove_header(&header::AUTHORIZATION);
        }
    }
    if let Some(decision) = &mut exchange.decision {
        decision.acts.push(private());
    }
    Ok(())
}

/// What of a request that proves who calls is shown to the upstreams of `route`, which decided it with `acts`: the header it
/// goes in. For those who put a request together anew.
pub(super) fn shown(request: &RequestView<'_>, route: &Route, acts: &[Act]) -> Option<(HeaderName, HeaderValue)> {
    let is_kept = authorization(acts, route.keeps_authorization) == Forwarded::Credential;
    let value = match Brought::by(request, route) {
        Brought::NothingElsewhere => {
            let mut value = HeaderValue::from_bytes(request.headers.first(&header::AUTHORIZATION)?).ok()?;
            value.set_sensitive(true);
            value
        }
        Brought::Token(token) => token,
        Brought::Key(key) => return key.filter(|_| says_keep(acts)),
        Brought::Certificate => return None,
    };
    is_kept.then_some((header::AUTHORIZATION, value))
}

/// The parameters of a query by which the callers of `route` prove who they are, as they were sent.
pub(super) fn parameters(query: &str, route: &Route) -> String {
    only_parameters(query, &parameter_names(route))
}

fn parameter_names(route: &Route) -> Vec<&str> {
    let sources = route.token_sources.iter();
    let names = sources.filter_map(|source| match source {
        Source::Query(name) | Source::KeyQuery(name) => Some(&**name),
        _ => None,
    });
    names.collect()
}

/// What a request brought to prove who calls, as the upstream may see it.
enum Brought {
    /// Nothing but in `Authorization`.
    NothingElsewhere,
    /// A token, for `Authorization`.
    Token(HeaderValue),
    /// An API key, where it stood in a header of its own.
    Key(Option<(HeaderName, HeaderValue)>),
    /// Nothing: its connection was made with a certificate.
    Certificate,
}

impl Brought {
    fn by(view: &RequestView<'_>, route: &Route) -> Self {
        let (token, source) = match Credential::of(view, &route.token_sources) {
            Credential::Token { token, source } => (token, source),
            Credential::Certificate { .. } => return Self::Certificate,
            _ => return Self::NothingElsewhere,
        };
        let secret = |text: &str| {
            let mut value = HeaderValue::try_from(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        match route.token_sources.get(source) {
            Some(Source::KeyHeader(name)) => Self::Key(secret(token).map(|key| (name.clone(), key))),
            Some(Source::KeyQuery(_)) => Self::Key(None),
            Some(Source::Authorization) | None => Self::NothingElsewhere,
            Some(_) => secret(&format!("Bearer {token}")).map_or(Self::NothingElsewhere, Self::Token),
        }
    }
}

fn take_headers(request: &mut RequestHeader, snapshot: &Snapshot) -> Result<()> {
    for name in &snapshot.token_headers {
        request.remove_header(name);
    }
    if snapshot.token_cookies.is_empty() || !request.headers.contains_key(header::COOKIE) {
        return Ok(());
    }
    let names: Vec<&str> = snapshot.token_cookies.iter().map(|name| &**name).collect();
    let lines = request.headers.get_all(header::COOKIE).iter();
    let left: Vec<Vec<u8>> = lines
        .filter_map(|line| without_cookies(line.as_bytes(), &names).map(Cow::into_owned))
        .collect();
    request.remove_header(&header::COOKIE);
    for line in left {
        request.append_header(header::COOKIE, line)?;
    }
    Ok(())
}

fn take_parameters(request: &mut RequestHeader, exchange: &mut Exchange, route: &Route) -> Result<()> {
    let names = parameter_names(route);
    let Some(left) = request.uri.query().and_then(|query| without_parameters(query, &names)) else {
        return Ok(());
    };
    let with_query = |path: &str| match left.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{left}"),
    };
    if let Some(target) = &mut exchange.target {
        *target = with_query(target.split('?').next().unwrap_or_default());
    }
    let broken = |_| Error::explain(ErrorType::InternalError, "a target that is no URI");
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = Some(with_query(request.uri.path()).parse().map_err(broken)?);
    let uri =
        Uri::from_parts(parts).map_err(|_| Error::explain(ErrorType::InternalError, "a target that is no URI"))?;
    request.set_uri(uri);
    Ok(())
}
