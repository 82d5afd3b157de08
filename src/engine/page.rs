//! A refusal as a page, for browsers that ask for one: what [`problem`](super::problem) says, in HTML.
//!
//! It loads nothing, runs nothing and is kept nowhere; whatever stands in it is escaped.

use http::{HeaderValue, header};
use jiff::Timestamp;

use super::{Denial, Reply, problem, rfc3339};

/// Whether `Accept` (all its lines joined by `,`) names HTML, and wants it no less than anything and more than JSON
/// (RFC 9110 §12.5.1). Tools that accept everything get JSON.
pub fn wants_page(accept: Option<&str>) -> bool {
    let Some(accept) = accept else { return false };
    let (mut html, mut json, mut any) = (0, 0, 0);
    for member in accept.split(',').take(64) {
        let mut parameters = member.split(';');
        let kind = parameters.next().unwrap_or_default().trim();
        let weight = parameters.find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
        });
        let weight = weight.unwrap_or(1000);
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        match () {
            () if is("text/html") || is("application/xhtml+xml") => html = weight.max(html),
            () if is("application/problem+json") || is("application/json") => json = weight.max(json),
            () if is("*/*") || is("application/*") => any = weight.max(any),
            () => {}
        }
    }
    html > 0 && html > json && html >= any
}

/// `0`, `0.5`, `1.000`; nothing else weighs anything.
fn thousandths(text: &str) -> u32 {
    let weight: Option<f32> = text.parse().ok();
    let weight = weight.filter(|weight| (0.0..=1.0).contains(weight) && text.len() <= 5);
    weight.map_or(0, |weight| (weight * 1000.0) as u32)
}

/// The refusal as a page; all but the body is as [`problem`](super::problem()) has it.
pub fn page(denial: &Denial, request_id: &str, now: Timestamp, language: usize) -> Reply {
    let mut reply = problem(denial, request_id, now, language);
    let messages = denial.messages.as_ref();
    let message = messages.and_then(|messages| messages.0.get(language).or(messages.0.first()));
    let detail = message.map_or(&*denial.detail, |(_, text)| text.as_str());
    let title = denial.status.canonical_reason().unwrap_or("Refused");
    let status = denial.status.as_u16();
    let reopens_at = denial.reopens_at.as_ref().map(|(at, zone)| rfc3339(*at, zone));
    let mut body = format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{status} {title}</title><h1>{title}</h1><p>{}</p>",
        escaped(detail)
    );
    let lines = [
        ("reopens_at", reopens_at.as_deref().unwrap_or_default()),
        ("code", &denial.code),
        ("request_id", request_id),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        body.push_str(&format!("<p>{name} <code>{}</code></p>", escaped(value)));
    }
    body.push('\n');
    reply.body = body.into();
    for (name, value) in &mut reply.headers {
        if *name == header::CONTENT_TYPE {
            *value = HeaderValue::from_static("text/html; charset=utf-8");
        }
    }
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    reply.headers.push((header::CONTENT_SECURITY_POLICY, policy));
    reply
        .headers
        .push((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    reply
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::engine::DenialKind;

    #[test]
    fn knows_browsers_from_tools() {
        for browser in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "TEXT/HTML",
            "text/html;q=0.9, application/json;q=0.8",
            "text/html, */*",
        ] {
            assert!(wants_page(Some(browser)), "{browser}");
        }
        for tool in [
            "*/*",
            "",
            "application/json",
            "application/json, text/html",
            "application/json, text/plain, */*",
            "text/html;q=0",
            "text/html;q=0.5, */*",
            "text/html;q=x",
            "text/html;q=0.8, application/problem+json",
            "text/*",
        ] {
            assert!(!wants_page(Some(tool)), "{tool}");
        }
        assert!(!wants_page(None));
    }

    #[test]
    fn escapes_what_it_shows() {
        let mut denial = Denial::new(DenialKind::Refuse, StatusCode::FORBIDDEN, "a>b", "\"x\" & 'y' <script>");
        denial.retry_after = Some(std::time::Duration::from_secs(5));
        let page = page(&denial, "<i>", Timestamp::UNIX_EPOCH, 0);
        let body = String::from_utf8_lossy(&page.body).into_owned();
        assert!(body.contains("<title>403 Forbidden</title>"), "{body}");
        assert!(body.contains("&quot;x&quot; &amp; &#39;y&#39; &lt;script&gt;") && body.contains("a&gt;b"));
        assert!(!body.contains("<script") && !body.contains("<i>") && body.len() < 1000);
        let header = |name: http::HeaderName| {
            let found = page.headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_str().unwrap_or_default())
        };
        assert_eq!(header(header::CONTENT_TYPE), Some("text/html; charset=utf-8"));
        assert_eq!(
            (header(header::CACHE_CONTROL), header(header::RETRY_AFTER)),
            (Some("no-store"), Some("5"))
        );
    }
}
