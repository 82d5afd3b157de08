//! Refusals and failures as pages for browsers, and as problem+json for everybody else.

use crate::support::{Gateway, RefusingPort, Response, Upstream, fill};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

const PAGES: &str = "
upstreams:
  broken:  { endpoints: [$broken] }
  refused: { endpoints: [$refused] }
policies:
  never:
    deny: { methods: [GET] }
    reply: { code: NEVER, message: { ko: '<b>안 됩니다</b>', en: 'Not <b>now</b> & never' } }
routes:
  broken:  { match: GET /broken, auth: none, upstream: broken }
  refused: { match: GET /refused, auth: none, upstream: refused }
  never:   { match: GET /never, auth: none, policies: [never], reply: { status: 200 } }
";

#[track_caller]
fn expect_page(response: &Response, status: u16, code: &str) {
    response.expect(status);
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert!(
        response
            .header("content-security-policy")
            .is_some_and(|policy| policy.contains("default-src 'none'"))
    );
    let id = response.header("x-request-id").expect("an id");
    let text = response.text();
    assert!(text.contains(code) && text.contains(id) && text.len() < 1500, "{text}");
}

#[test]
fn browsers_get_pages_and_tools_get_json() {
    let broken =
        Upstream::raw(b"HTTP/1.1 200 OK\r\nX-Secret: db-7.internal\r\nContent-Length: oops\r\n\r\nstack trace");
    let refusing = RefusingPort::new();
    let gateway = Gateway::start(&fill(
        PAGES,
        &[("broken", &broken.address()), ("refused", &refusing.address())],
    ));
    for (target, status, code) in [
        ("/broken", 502, "upstream-broken"),
        ("/refused", 502, "upstream-unreachable"),
        ("/never", 403, "NEVER"),
        ("/nowhere", 404, "route-not-found"),
    ] {
        let page = gateway.get(target).header("accept", BROWSER).send();
        expect_page(&page, status, code);
        for tool in ["*/*", "application/json", "application/json, text/html;q=0.5"] {
            gateway
                .get(target)
                .header("accept", tool)
                .send()
                .expect_problem(status, code);
        }
        let plain = gateway.get(target).send();
        plain.expect_problem(status, code);
        for response in [&page, &plain] {
            let all = format!("{:?} {}", response.headers, response.text());
            for word in ["secret", "internal", "oops", "stack trace", "127.0.0.1", "Pingora"] {
                assert!(!all.to_lowercase().contains(&word.to_lowercase()), "{word}: {all}");
            }
        }
    }
    let text = gateway
        .get("/never")
        .header("accept", BROWSER)
        .header("accept-language", "en")
        .send()
        .text();
    assert!(
        text.contains("Not &lt;b&gt;now&lt;/b&gt; &amp; never") && !text.contains("<b>"),
        "{text}"
    );
    let korean = gateway
        .get("/never")
        .header("accept", BROWSER)
        .header("accept-language", "ko")
        .send();
    assert_eq!(korean.header("content-language"), Some("ko"));
    assert!(korean.text().contains("안 됩니다"));
}
