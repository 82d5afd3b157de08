//! `reply` and `redirect`: answers that stand in the configuration.
//!
//! ```yaml
//! reply:    { status: 200, json: { service: bank, open: true }, headers: { cache-control: max-age=60 } }
//! reply:    { status: 403, text: Not here. }
//! redirect: { status: 308, to: /orders }          # a path of this host, or an https:// or http:// URL
//! ```
//!
//! Header values are those of [`http::HeaderValue`], which has no place for a line break.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};

use crate::conf::{Describe, Load, Named, Node, Read, Schema, Schemas, Spanned};
use crate::engine::Reply;

crate::settings! {
    /// An answer that stands in the configuration.
    struct ReplySettings {
        /// The status; 200 where it is left out.
        status: Option<StatusCode>,
        /// The body as JSON; digits stay as written.
        json: Option<Node>,
        /// The body as plain text, instead of `json`.
        text: Option<Spanned<String>>,
        /// Headers of the answer.
        headers: Named<HeaderValue>,
    }
}

crate::settings! {
    /// A redirect to another address.
    struct RedirectSettings {
        /// 301, 302, 303, 307 or 308, which keeps method and body; 308 where it is left out.
        status: Option<Spanned<StatusCode>>,
        /// A path of this host, or an `https://` or `http://` URL.
        to: Spanned<String>,
    }
}

/// Framing and connection are the server's own.
const RESERVED: [HeaderName; 9] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::DATE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
];

/// The schema of `reply:`.
pub fn reply_schema(schemas: &mut Schemas) -> Schema {
    ReplySettings::schema(schemas)
}

/// The schema of `redirect:`.
pub fn redirect_schema(schemas: &mut Schemas) -> Schema {
    RedirectSettings::schema(schemas)
}

/// Reads `reply:`; the status is 200 unless said.
pub fn reply(node: &Node, load: &Load) -> Option<Reply> {
    let settings = ReplySettings::read(node, load)?;
    let status = settings.status.unwrap_or(StatusCode::OK);
    let (kind, body) = match (&settings.json, &settings.text) {
        (Some(json), Some(_)) => {
            load.error(&json.place, "`json` and `text` in one reply; it has one body");
            return None;
        }
        (Some(json), None) => (Some("application/json"), Bytes::from(json.to_json())),
        (None, Some(text)) => (Some("text/plain; charset=utf-8"), Bytes::from(text.value.clone())),
        (None, None) => (None, Bytes::new()),
    };
    if kind.is_some() && matches!(status.as_u16(), 204 | 205 | 304) {
        load.error(
            &node.place,
            format!("an answer with status {} has no body", status.as_u16()),
        );
        return None;
    }
    let mut headers = Vec::new();
    for (name, value) in &settings.headers.0 {
        match HeaderName::from_bytes(name.value.as_bytes()) {
            Ok(reserved) if RESERVED.contains(&reserved) => {
                load.error(&name.place, format!("`{reserved}` is set by the gateway alone"));
            }
            Ok(header) => headers.push((header, value.clone())),
            Err(_) => load.error(&name.place, format!("`{}` is not a header name", name.value)),
        }
    }
    if let Some(kind) = kind
        && !headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE)
    {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static(kind)));
    }
    Some(Reply { status, headers, body })
}

/// Reads `redirect:`; the status is 308 unless said, which keeps method and body.
pub fn redirect(node: &Node, load: &Load) -> Option<Reply> {
    let settings = RedirectSettings::read(node, load)?;
    let location = match location(&settings.to.value) {
        Ok(location) => Some(location),
        Err(error) => {
            load.error(&settings.to.place, format!("`{}` {error}", settings.to.value));
            None
        }
    };
    let status = match &settings.status {
        Some(status) if !matches!(status.value.as_u16(), 301 | 302 | 303 | 307 | 308) => {
            let message = format!("{} is no redirect: 301, 302, 303, 307 or 308", status.value.as_u16());
            load.error(&status.place, message);
            return None;
        }
        Some(status) => status.value,
        None => StatusCode::PERMANENT_REDIRECT,
    };
    Some(Reply {
        status,
        headers: vec![(header::LOCATION, location?)],
        body: Bytes::new(),
    })
}

fn location(text: &str) -> Result<HeaderValue, &'static str> {
    const WANTED: &str = "is neither a path such as `/orders` nor an `https://` or `http://` URL";
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters that a URL needs percent-encoded");
    }
    // Browsers read `//host` and `/\host` as another host.
    if text.starts_with("//") || text.contains('\\') {
        return Err(WANTED);
    }
    let without_fragment = text.split('#').next().unwrap_or("");
    let uri: Uri = without_fragment.parse().map_err(|_| WANTED)?;
    let absolute =
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    if !text.starts_with('/') && !absolute {
        return Err(WANTED);
    }
    HeaderValue::from_str(text).map_err(|_| WANTED)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str, read: fn(&Node, &Load) -> Option<Reply>) -> Result<Reply, String> {
        let load = Load::new();
        let node = load.text("t.yaml", text).unwrap();
        let reply = read(&node, &load).filter(|_| !load.has_errors());
        reply.ok_or_else(|| load.into_findings(None).first().unwrap().to_string())
    }

    fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
        let found = reply.headers.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.to_str().ok())
    }

    #[test]
    fn replies_with_json_digit_for_digit() {
        let answer = read("{ json: { n: 90071992547409931.10, s: 'x', t: true } }", reply).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, r#"{"n":90071992547409931.10,"s":"x","t":true}"#);
        assert_eq!(header(&answer, "content-type"), Some("application/json"));
    }

    #[test]
    fn replies_with_text_and_headers() {
        let text = "status: 403\ntext: Nö.\nheaders: { x-why: because, content-type: text/html }";
        let answer = read(text, reply).unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body), (403, "Nö.".as_bytes()));
        assert_eq!(header(&answer, "content-type"), Some("text/html"));
        assert_eq!(header(&answer, "x-why"), Some("because"));
    }

    #[test]
    fn refuses_replies_that_contradict_themselves() {
        assert!(read("{ json: 1, text: x }", reply).unwrap_err().contains("one body"));
        assert!(
            read("{ status: 204, text: x }", reply)
                .unwrap_err()
                .contains("has no body")
        );
        assert!(
            read("headers: { content-length: 5 }", reply)
                .unwrap_err()
                .starts_with("t.yaml:1:12")
        );
        assert!(read("headers: { x: \"a\\r\\nset-cookie: b\" }", reply).is_err());
        assert!(read("{ status: 100 }", reply).is_err());
    }

    #[test]
    fn redirects_to_paths_and_urls_only() {
        let answer = read("{ to: /orders?a=b#c }", redirect).unwrap();
        assert_eq!(
            (answer.status.as_u16(), header(&answer, "location")),
            (308, Some("/orders?a=b#c"))
        );
        assert_eq!(
            read("{ status: 302, to: 'https://x.example/y' }", redirect)
                .unwrap()
                .status,
            302
        );
        for bad in [
            "//evil.example",
            "/\\evil",
            "javascript:alert(1)",
            "orders",
            "https://",
            "'/a b'",
            "'/ä'",
            "\"/a\\r\\nx: y\"",
        ] {
            assert!(read(&format!("{{ to: {bad} }}"), redirect).is_err(), "{bad}");
        }
        assert!(
            read("{ status: 200, to: /x }", redirect)
                .unwrap_err()
                .contains("is no redirect")
        );
    }
}
