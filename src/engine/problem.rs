//! How a [`Denial`] is told to the caller: RFC 9457 `application/problem+json`.
//!
//! One function writes every refusal, so that status, headers and body agree. Nothing of an upstream's error is in it.

use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde_json::Value;

use super::{Denial, Reply};

/// The refusal as an answer. `language` is the index of the chosen message where the denial has messages.
pub fn problem(denial: &Denial, request_id: &str, now: Timestamp, language: usize) -> Reply {
    let message = denial
        .messages
        .as_ref()
        .and_then(|messages| messages.0.get(language).or(messages.0.first()));
    let detail = message.map_or(&*denial.detail, |(_, text)| text.as_str());
    let title = denial.status.canonical_reason().unwrap_or("Refused");
    let reopens_at = denial.reopens_at.as_ref().map(|(at, zone)| rfc3339(*at, zone));
    let retry_after = retry_after(denial, now);

    let mut body = String::with_capacity(256);
    body.push_str(r#"{"type":"about:blank","title":"#);
    push_string(&mut body, title);
    body.push_str(r#","status":"#);
    body.push_str(denial.status.as_str());
    for (name, value) in [("detail", detail), ("code", &*denial.code), ("request_id", request_id)] {
        if !value.is_empty() {
            body.push_str(",\"");
            body.push_str(name);
            body.push_str("\":");
            push_string(&mut body, value);
        }
    }
    if let Some(at) = &reopens_at {
        body.push_str(r#","reopens_at":"#);
        push_string(&mut body, at);
    }
    if let Some(seconds) = retry_after {
        body.push_str(r#","retry_after":"#);
        body.push_str(&seconds.to_string());
    }
    body.push('}');

    let mut headers: Vec<(HeaderName, HeaderValue)> = vec![
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if let Some(seconds) = retry_after {
        headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    if let Some(challenge) = &denial.challenge {
        headers.push((header::WWW_AUTHENTICATE, challenge.clone()));
    }
    if let Some((language, _)) = message {
        if let Ok(value) = HeaderValue::from_str(language)
            && !language.is_empty()
        {
            headers.push((header::CONTENT_LANGUAGE, value));
        }
        headers.push((header::VARY, HeaderValue::from_static("Accept-Language")));
    }
    Reply {
        status: denial.status,
        headers,
        body: body.into(),
    }
}

/// Whole seconds until it is worth coming back, rounded up: the later of the denial's own wait and `reopens_at`.
pub fn retry_after(denial: &Denial, now: Timestamp) -> Option<u64> {
    let until = denial.reopens_at.as_ref().map(|(at, _)| {
        let nanos = at.as_nanosecond().saturating_sub(now.as_nanosecond());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    });
    let wait = denial.retry_after.max(until)?;
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// RFC 3339 with seconds, in the offset that `zone` has at that instant.
pub fn rfc3339(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.display_with_offset(zone.to_offset(at)).to_string()
}

fn push_string(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::engine::{DenialKind, Messages};

    #[test]
    fn tells_when_it_reopens_in_the_zone_of_the_calendar() {
        let now: Timestamp = "2026-09-25T23:45:00.5+09:00".parse().unwrap();
        let at: Timestamp = "2026-09-26T05:00:00+09:00".parse().unwrap();
        let mut denial = Denial::new(DenialKind::Refuse, StatusCode::FORBIDDEN, "TRANSFER_CLOSED", "x");
        denial.reopens_at = Some((at, TimeZone::get("Asia/Seoul").unwrap()));
        let messages = vec![
            ("ko".to_owned(), "밤 \"닫힘\"".to_owned()),
            ("en".to_owned(), "closed".to_owned()),
        ];
        denial.messages = Some(Arc::new(Messages(messages)));
        let reply = problem(&denial, "r1", now, 0);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["reopens_at"], "2026-09-26T05:00:00+09:00");
        assert_eq!(
            (&body["retry_after"], &body["status"]),
            (&Value::from(18900), &Value::from(403))
        );
        assert_eq!(
            (&body["detail"], &body["code"]),
            (&Value::from("밤 \"닫힘\""), &Value::from("TRANSFER_CLOSED"))
        );
        let header = |name: HeaderName| {
            reply
                .headers
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        assert_eq!(header(header::RETRY_AFTER).unwrap(), "18900");
        assert_eq!(header(header::CONTENT_LANGUAGE).unwrap(), "ko");
    }

    #[test]
    fn rounds_waits_up_and_leaves_absent_things_out() {
        let mut denial = Denial::new(
            DenialKind::Throttle,
            StatusCode::TOO_MANY_REQUESTS,
            "limit-exceeded",
            "",
        );
        denial.retry_after = Some(Duration::from_millis(1));
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(retry_after(&denial, now), Some(1));
        let body = problem(&denial, "", now, 0).body;
        assert!(!String::from_utf8_lossy(&body).contains("reopens_at"));
    }
}
