//! `compress`: sends bodies as zstd, brotli or gzip to clients that accept it.
//!
//! ```yaml
//! compress: { min_size: 1KiB }      # `off` turns off
//! ```
//!
//! Which coding is taken is in [`accept`], which answers are left alone in [`is_worthwhile`].

pub mod accept;
pub mod decode;
pub mod encode;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::conf::{ByteSize, Describe, Node, Read};
use crate::engine::{Act, Answer, CompressRule, Facts, Head, Policy, Stage, Verdict};
use crate::policies::{Draft, Inherit, Kind, Scope};

use self::accept::{Coding, choose_coding};

/// The kind.
pub const KIND: Kind = Kind {
    name: "compress",
    inherit: Inherit::Single,
    compile,
    schema: Compress::schema,
};

crate::settings! {
    /// Sends bodies as zstd, brotli or gzip to clients that accept it.
    struct Compress {
        /// Smaller bodies go as they are.
        min_size: ByteSize = ByteSize(1 << 10),
    }
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    if scope.is_off(node) {
        return Vec::new();
    }
    let Some(settings) = Compress::read(node, scope.load) else {
        return Vec::new();
    };
    let rule = CompressRule {
        min_size: settings.min_size.0,
    };
    vec![Draft {
        name: Arc::from(KIND.name),
        stage: Stage::Shape,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(Compresses(Arc::new(rule))),
    }]
}

#[derive(Debug)]
struct Compresses(Arc<CompressRule>);

impl Policy for Compresses {
    fn judge(&self, _: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        Verdict::add(Act::Compress(self.0.clone()))
    }
}

/// Chooses the coding that the body of an answer is sent in, and says so in its head; `None` where it goes as it is, as it does
/// to HEAD. `accepted` gives all lines of `Accept-Encoding`, joined by `,`.
pub fn negotiate<H: Head>(
    rule: &CompressRule,
    method: &Method,
    accepted: impl FnOnce() -> Option<String>,
    head: &mut H,
) -> Result<Option<Coding>, H::Fault> {
    if !is_worthwhile(rule, head.status(), head.headers()) {
        return Ok(None);
    }
    let varies = head.headers().get_all(header::VARY).iter();
    let named = varies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("accept-encoding"));
    if !named {
        head.append(header::VARY, HeaderValue::from_static("Accept-Encoding"))?;
    }
    let Some(coding) = choose_coding(accepted().as_deref(), &Coding::ALL) else {
        return Ok(None);
    };
    head.remove(&header::CONTENT_LENGTH);
    if method == Method::HEAD {
        weaken(head)?;
        return Ok(None);
    }
    head.set(header::CONTENT_ENCODING, HeaderValue::from_static(coding.token()))?;
    head.remove(&header::ACCEPT_RANGES);
    weaken(head)?;
    Ok(Some(coding))
}

/// A changed body is no longer byte for byte what a strong validator promises.
pub fn weaken<H: Head>(head: &mut H) -> Result<(), H::Fault> {
    let Some(tag) = head.headers().get(header::ETAG) else {
        return Ok(());
    };
    match tag.to_str() {
        Ok(tag) if tag.starts_with("W/") => Ok(()),
        Ok(tag) => match HeaderValue::try_from(format!("W/{tag}")) {
            Ok(weak) => head.set(header::ETAG, weak),
            Err(_) => Ok(()),
        },
        Err(_) => {
            head.remove(&header::ETAG);
            Ok(())
        }
    }
}

/// Whether an answer would gain from compression. False for what is encoded already, for parts of a body (a coding changes
/// what a range means), for `no-transform` (RFC 9110 §7.7), for streams that an encoder would hold back, for media that
/// are compressed in themselves, and for bodies known to be smaller than the rule says.
pub fn is_worthwhile(rule: &CompressRule, status: StatusCode, headers: &HeaderMap) -> bool {
    let bodyless = status.is_informational()
        || matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT
        );
    if bodyless || headers.contains_key(header::CONTENT_RANGE) || headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let directives = headers.get_all(header::CACHE_CONTROL).iter();
    let no_transform = directives
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"));
    if no_transform {
        return false;
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if length
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| length < rule.min_size)
    {
        return false;
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(is_compressible)
}

/// Text in any disguise. A closed list: what is not known to shrink is left alone.
fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/event-stream" => false,
        "application/json"
        | "application/javascript"
        | "application/ecmascript"
        | "application/x-javascript"
        | "application/xml"
        | "application/wasm"
        | "application/manifest+json"
        | "application/graphql"
        | "application/x-www-form-urlencoded"
        | "application/vnd.ms-fontobject"
        | "font/ttf"
        | "font/otf"
        | "image/svg+xml"
        | "image/bmp"
        | "image/x-icon"
        | "image/vnd.microsoft.icon" => true,
        essence => {
            let grpc = essence.starts_with("application/grpc");
            let text = essence.starts_with("text/") || essence.ends_with("+json") || essence.ends_with("+xml");
            text && !grpc
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn worthwhile(status: u16, headers: &[(&str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, value.parse().unwrap());
        }
        let rule = CompressRule { min_size: 100 };
        is_worthwhile(&rule, StatusCode::from_u16(status).unwrap(), &map)
    }

    #[test]
    fn compresses_text_of_known_and_unknown_length() {
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(worthwhile(200, &[json]));
        assert!(worthwhile(200, &[json, ("content-length", "100")]));
        assert!(worthwhile(404, &[("content-type", "application/problem+json")]));
        assert!(worthwhile(200, &[("content-type", "Text/HTML")]));
        assert!(worthwhile(200, &[("content-type", "image/svg+xml")]));
    }

    #[test]
    fn leaves_alone_what_must_not_or_need_not_be_compressed() {
        let json = ("content-type", "application/json");
        assert!(!worthwhile(206, &[json]));
        assert!(!worthwhile(204, &[json]));
        assert!(!worthwhile(304, &[json]));
        assert!(!worthwhile(200, &[json, ("content-range", "bytes 0-1/2")]));
        assert!(!worthwhile(200, &[json, ("content-encoding", "br")]));
        assert!(!worthwhile(200, &[json, ("content-length", "99")]));
        assert!(!worthwhile(
            200,
            &[
                json,
                ("cache-control", "public"),
                ("cache-control", "max-age=1, No-Transform")
            ]
        ));
        assert!(!worthwhile(200, &[]));
        for kind in [
            "text/event-stream",
            "application/grpc",
            "application/grpc+json",
            "application/grpc-web+proto",
            "image/png",
            "application/zip",
            "application/octet-stream",
            "video/mp4",
            "application/pdf",
        ] {
            assert!(!worthwhile(200, &[("content-type", kind)]), "{kind}");
        }
    }
}
