//! What issuers say of themselves (OpenID Connect Discovery 1.0 §4, RFC 8414 §3), and how anything of theirs is fetched.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::settings::{is_callable, is_loopback_url};
use crate::engine::claims;
use crate::io::{Bounds, Client, ClientError, PlainHttp};

/// Documents that are larger are none.
const MAX_DOCUMENT: usize = 256 << 10;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchFailure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the issuer answered {0}")]
    Status(u16),
    #[error("the discovery document is not one")]
    NotADocument,
    #[error("the discovery document is of another issuer")]
    OtherIssuer,
    #[error(
        "the discovery document names a `{0}` that is not called: https, or http on the loopback of a loopback issuer"
    )]
    NotCallable(String),
}

/// What an issuer may be called by: no redirects, nowhere but where its URL says.
pub(super) fn bounds(deadline: Duration, max_body: usize) -> Bounds {
    Bounds {
        deadline,
        max_body,
        plain_http: PlainHttp::Loopback,
        link_local: false,
    }
}

/// The headers and body at a URL, where its status is 200.
pub(super) async fn fetch(client: &Client, url: &str, bounds: Bounds) -> Result<(HeaderMap, Bytes), FetchFailure> {
    let response = client.get(url, bounds).await?;
    if response.status != StatusCode::OK {
        return Err(FetchFailure::Status(response.status.as_u16()));
    }
    Ok((response.headers, response.body))
}

/// The URL that the issuer's own document has under `member`, such as `jwks_uri`.
pub(super) async fn url(
    client: &Client,
    issuer: &str,
    member: &str,
    deadline: Duration,
) -> Result<String, FetchFailure> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let document = format!("{base}/.well-known/openid-configuration");
    let (_, body) = fetch(client, &document, bounds(deadline, MAX_DOCUMENT)).await?;
    let document = claims::object(&body).ok_or(FetchFailure::NotADocument)?;
    let text = |name: &str| document.get(name).and_then(|value| value.as_str());
    // Otherwise one issuer could vouch for another's tokens.
    if text("issuer") != Some(issuer) {
        return Err(FetchFailure::OtherIssuer);
    }
    let url = text(member).ok_or(FetchFailure::NotADocument)?;
    let plain = !url.starts_with("https://");
    if !is_callable(url) || (plain && !is_loopback_url(issuer)) {
        return Err(FetchFailure::NotCallable(member.to_owned()));
    }
    Ok(url.to_owned())
}
