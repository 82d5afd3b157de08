//! Carrying out an aggregate: its parts are called, the merged answer is cut and written.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::Result;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::{Exchange, reply, request, trace};
use crate::engine::{About, Denial, DenialKind, Forwarded, Params, Reply, RequestView, ReshapeFailure};
use crate::live::{Calling, Live};
use crate::snapshot::Route;
use crate::targets::Aggregate;
use crate::targets::aggregate::PARTIAL;
use crate::upstreams::Whom;

/// Answers with the aggregate of `route`.
pub(super) async fn answer(
    live: &Live,
    session: &mut Session,
    exchange: &mut Exchange,
    route: &Route,
    aggregate: &Aggregate,
) -> Result<()> {
    let deadline = Instant::from_std(exchange.began + route.deadline);
    let Some(recorded) = &exchange.recorded else {
        return Ok(());
    };
    let principal = exchange
        .decision
        .as_ref()
        .and_then(|decision| decision.principal.clone());
    let inputs = {
        let header = session.req_header();
        let names: Vec<_> = recorded.params.iter().map(|(name, _)| name.clone()).collect();
        let params = Params {
            names: &names,
            values: recorded.params.iter().map(|(_, value)| value.as_str()).collect(),
        };
        let view = request::View(&header.headers);
        let query = header.uri.query().unwrap_or("");
        let view = RequestView {
            method: &header.method,
            host: &recorded.host,
            path: "",
            query,
            headers: &view,
        };
        aggregate.inputs(principal.as_deref(), &view, &params)
    };
    let generation = exchange.generation.clone();
    let without = exchange.without();
    let sent = &session.req_header().headers;
    let holder = exchange.passport_holder().cloned();
    let calling = Calling {
        generation: &generation,
        caller: &live.caller,
        headers: told(session, exchange),
        passport: holder.as_ref().map(|holder| (holder, exchange.at)),
        without: &without,
        whom: Whom {
            principal: principal.as_deref(),
            address: recorded.address,
            header: &|name| sent.get(name).map(HeaderValue::as_bytes),
        },
    };
    let done = aggregate.run(inputs, &calling, deadline).await;
    let partial = done.partial_header();
    exchange.parts = done.parts;
    let body = match done.body {
        Ok(body) => body,
        Err(failure) => {
            log::info!(
                "{}: part `{}` failed: {}",
                exchange.summary(),
                failure.part,
                failure.reason.word()
            );
            let detail = "a service behind the gate did not answer as needed";
            let denial = Denial::new(DenialKind::Refuse, failure.status, failure.code, detail);
            return reply::refuse(session, exchange, denial).await;
        }
    };
    let mut headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static(if partial.is_some() {
                "no-store"
            } else {
                "private, no-cache"
            }),
        ),
    ];
    headers.extend(partial.map(|value| (PARTIAL, value)));
    let body = match cut(exchange, body, &mut headers) {
        Ok(body) => body,
        Err(_) => {
            let detail = "a service behind the gate answered what cannot be read";
            let denial = Denial::new(
                DenialKind::Refuse,
                StatusCode::BAD_GATEWAY,
                "upstream-unreadable",
                detail,
            );
            return reply::refuse(session, exchange, denial).await;
        }
    };
    reply::write(
        session,
        exchange,
        Reply {
            status: StatusCode::OK,
            headers,
            body,
        },
    )
    .await
}

fn cut(
    exchange: &Exchange,
    body: Bytes,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
) -> std::result::Result<Bytes, ReshapeFailure> {
    let Some(reshape) = exchange.reshape() else {
        return Ok(body);
    };
    headers.extend(
        reshape
            .varies_on()
            .iter()
            .map(|name| (header::VARY, HeaderValue::from_name(name.clone()))),
    );
    let about = About {
        request_id: &exchange.id,
        partial: &[],
    };
    match reshape.reshape(&body, &about) {
        Err(_) if reshape.passes_uncut() => Ok(body),
        cut => cut,
    }
}

/// What a part carries of the request: what `forward` says, the language, the trace and the request id; nothing else of the
/// client.
fn told(session: &Session, exchange: &Exchange) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<_> = exchange.told().cloned().collect();
    let request = &session.req_header().headers;
    if let Some(language) = request.get(header::ACCEPT_LANGUAGE) {
        headers.push((header::ACCEPT_LANGUAGE, language.clone()));
    }
    let keeps = exchange.authorization() == Forwarded::Credential;
    if let (true, Some(authorization)) = (keeps, request.get(header::AUTHORIZATION)) {
        headers.push((header::AUTHORIZATION, authorization.clone()));
    }
    headers.extend(trace::told(request, &exchange.id));
    if let Ok(id) = HeaderValue::from_str(&exchange.id) {
        headers.push((HeaderName::from_static("x-request-id"), id));
    }
    headers
}
