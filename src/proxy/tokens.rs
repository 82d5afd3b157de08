//! Tokens that did not come in `Authorization`: they go on there, where the route keeps that, and nowhere else. The answer is
//! `private`: caches between the caller and here know only `Authorization` for a credential (RFC 9111 §3.5, RFC 6750 §2.3).

use std::borrow::Cow;

use http::{HeaderValue, Method, Uri, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::{Exchange, request};
use crate::engine::RequestView;
use crate::policies::authn::{Credential, Source, without_cookies, without_parameters};
use crate::snapshot::{Route, Snapshot, private};

/// Takes them from a request that was decided, before anything is looked up, logged or sent on by what it carries.
pub(super) fn take_away(session: &mut Session, exchange: &mut Exchange, route: &Route) -> Result<()> {
    let generation = exchange.generation.clone();
    let snapshot = &generation.snapshot;
    let has_query = |source: &Source| matches!(source, Source::Query(_));
    let is_plain = snapshot.token_headers.is_empty() && snapshot.token_cookies.is_empty();
    if is_plain && !route.token_sources.iter().any(has_query) {
        return Ok(());
    }
    let request = session.req_header_mut();
    let token = elsewhere(request, route);
    take_headers(request, snapshot)?;
    take_parameters(request, exchange, route)?;
    let Some(token) = token else { return Ok(()) };
    if exchange.keeps_authorization() {
        request.insert_header(header::AUTHORIZATION, token)?;
    }
    if let Some(decision) = &mut exchange.decision {
        decision.acts.push(private());
    }
    Ok(())
}

/// The token as the upstream is to see it, where it stood anywhere but in `Authorization`.
fn elsewhere(request: &RequestHeader, route: &Route) -> Option<HeaderValue> {
    let headers = request::View(&request.headers);
    let view = RequestView {
        method: &Method::GET,
        host: "",
        path: "",
        query: request.uri.query().unwrap_or(""),
        headers: &headers,
    };
    let Credential::Token { token, source } = Credential::of(&view, &route.token_sources) else {
        return None;
    };
    if route.token_sources.get(source) == Some(&Source::Authorization) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
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
    let names: Vec<&str> = route
        .token_sources
        .iter()
        .filter_map(|source| match source {
            Source::Query(name) => Some(&**name),
            _ => None,
        })
        .collect();
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
