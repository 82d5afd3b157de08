//! Where a token may stand, and where it never goes.

use serde_json::json;

use crate::support::{Gateway, Issuer, Reply, Upstream, fill, refused_start};

const ANYWHERE: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
authenticators:
  customer:
    jwt:
      issuer: $issuer
      audience: mobile-bank
      algorithms: ES256
      jwks: discover
      from: { header: x-token, cookie: token, query: access_token }
routes:
  kept:
    match: GET,POST /kept
    auth: customer
    forward: { x-user: principal.sub }
    upstream: origin
  dropped:
    match: GET /dropped
    auth: customer
    forward: { x-user: principal.sub, authorization: drop }
    upstream: origin
  perhaps: { match: GET /perhaps, auth: [customer, none], upstream: origin }
  open: { match: GET /open, auth: none, upstream: origin }
  stored:
    match: GET /stored
    auth: customer
    cache: { ttl: 1h, share: principal }
    forward: { authorization: drop }
    upstream: origin
  parts:
    match: GET /parts
    auth: customer
    aggregate:
      whole: { get: 'origin:/part?said={query.said}', required: true }
";

/// An upstream that answers everything it was sent.
fn mirror() -> Upstream {
    Upstream::http1(|seen| Reply::json(&json!({"target": seen.target, "headers": format!("{:?}", seen.headers)})))
}

fn start(upstream: &Upstream, issuer: &Issuer) -> Gateway {
    Gateway::start(&fill(
        ANYWHERE,
        &[("upstream", &upstream.address()), ("issuer", &issuer.url())],
    ))
}

fn token(issuer: &Issuer, sub: &str) -> String {
    issuer.token_with(&json!({"typ": "JWT"}), &json!({"sub": sub}))
}

#[test]
fn takes_the_token_from_where_it_is_told_to_and_passes_it_on_as_authorization() {
    let (upstream, issuer) = (mirror(), Issuer::new());
    let gateway = start(&upstream, &issuer);
    let token = token(&issuer, "u1");
    let cookie = format!("a=1; token={token}; b=2");
    for path in ["/kept", "/dropped"] {
        let sent = [
            gateway.get(&format!("{path}?x=1")).header("x-token", &token),
            gateway.get(&format!("{path}?x=1")).header("cookie", &cookie),
            gateway.get(&format!("{path}?access_token={token}&x=1")),
            gateway.get(&format!("{path}?x=1&%61ccess_token={token}")),
            // A browser sends its cookie beside whatever a page puts into a header.
            gateway
                .get(&format!("{path}?x=1"))
                .header("x-token", &token)
                .header("cookie", "token=stale; a=1; b=2"),
        ];
        for request in sent {
            // A cache on the way knows nothing of a credential that is not in Authorization.
            let response = request.send();
            assert_eq!(response.expect(200).list("cache-control"), ["private"]);
            let seen = upstream.last();
            assert_eq!(seen.target, format!("{path}?x=1"));
            assert_eq!(seen.header("x-user"), Some("u1"));
            assert_eq!(seen.header("x-token"), None);
            assert!(matches!(seen.header("cookie"), None | Some("a=1; b=2")), "{seen:?}");
            let expected = (path == "/kept").then(|| format!("Bearer {token}"));
            assert_eq!(seen.header("authorization"), expected.as_deref());
        }
    }
    // A cookie with nothing else in it leaves no empty line.
    gateway
        .get("/kept")
        .header("cookie", &format!("token={token}"))
        .send()
        .expect(200);
    assert_eq!(
        (upstream.last().headers("cookie").len(), &*upstream.last().target),
        (0, "/kept")
    );
    gateway
        .get(&format!("/dropped?access_token={token}"))
        .send()
        .expect(200);
    assert_eq!(upstream.last().target, "/dropped");
    let bytes: Vec<String> = gateway.stop().iter().map(ToString::to_string).collect();
    assert!(
        bytes.iter().all(|record| !record.contains("eyJ")),
        "a token in a record"
    );
}

#[test]
fn takes_one_token_and_no_two() {
    let (upstream, issuer) = (mirror(), Issuer::new());
    let gateway = start(&upstream, &issuer);
    let token = token(&issuer, "u1");
    let query = format!("access_token={token}");
    let cookie = format!("token={token}");
    let refused = |request: crate::support::Request, error: &str| {
        let response = request.send();
        response.expect_problem(401, "credential-unreadable");
        let challenge = format!("Bearer realm=\"gwanmun\", error=\"{error}\"");
        assert_eq!(response.header("www-authenticate"), Some(challenge.as_str()));
    };
    let unreadable = |request| refused(request, "invalid_token");
    let repeated = |request| refused(request, "invalid_request");
    for path in ["/kept", "/perhaps"] {
        let get = |query: &str| gateway.get(&format!("{path}?{query}"));
        repeated(get(&query).header("x-token", &token));
        repeated(get(&query).header("cookie", &cookie));
        repeated(get(&format!("{query}&{query}")));
        unreadable(get("access_token="));
        repeated(get("").header("cookie", &format!("{cookie}; {cookie}")));
        repeated(get("").header("cookie", &cookie).header("cookie", &cookie));
        repeated(get("").header("x-token", &token).header("x-token", &token));
        unreadable(get("").header("x-token", &format!("Bearer {token}")));
        // Not a place that these routes look at: what is said there is not passed over in silence.
        unreadable(get("").bearer(&token));
        unreadable(get("").header("x-token", &token).bearer(&token));
        get("")
            .header("x-token", "a.b.c")
            .send()
            .expect_problem(401, "token-malformed");
        get("")
            .header("cookie", "token=a.b.c")
            .send()
            .expect_problem(401, "token-malformed");
    }
    gateway.get("/kept").send().expect_problem(401, "token-missing");
    gateway
        .get("/perhaps")
        .header("cookie", "tokens=x; xtoken=y")
        .send()
        .expect(200);
    assert_eq!(upstream.count(), 1);
    let words: Vec<String> = gateway
        .stop()
        .iter()
        .map(|record| {
            record["request"]["credential"]
                .as_str()
                .or(record["credential"].as_str())
                .unwrap()
                .to_owned()
        })
        .collect();
    for word in ["repeated", "unreadable", "header", "cookie", "absent"] {
        assert!(words.iter().any(|found| found == word), "{word}: {words:?}");
    }
}

#[test]
fn shows_no_upstream_a_token_that_was_not_for_it() {
    let (upstream, issuer) = (mirror(), Issuer::new());
    let gateway = start(&upstream, &issuer);
    let token = token(&issuer, "u1");
    // The browser sends its cookie to the open route as well.
    let request = gateway
        .get("/open?access_token=mine")
        .header("cookie", &format!("a=1; token={token}"));
    request.header("x-token", &token).send().expect(200);
    let seen = upstream.last();
    assert_eq!(
        (
            seen.header("cookie"),
            seen.header("x-token"),
            seen.header("authorization")
        ),
        (Some("a=1"), None, None)
    );
    // Here the parameter is the application's own.
    assert_eq!(seen.target, "/open?access_token=mine");
    gateway
        .get(&format!("/parts?said=yes&access_token={token}"))
        .send()
        .expect(200);
    let seen = upstream.last();
    assert_eq!(seen.target, "/part?said=yes");
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {token}")));
}

#[test]
fn tells_no_upstream_what_would_be_read_as_something_else() {
    const TOLD: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  told:
    match: GET /told
    auth: customer
    forward: { x-user: principal.sub, x-roles: principal.roles, x-branch: claims.branch }
    upstream: origin
  set:
    match: GET /set
    auth: customer
    request: { headers: { set: { x-who: '{principal.sub}', x-kinds: 'of {principal.roles}' } } }
    upstream: origin
";
    let issuer = Issuer::new();
    let upstream = Upstream::http1(|seen| {
        let told = ["x-user", "x-roles", "x-branch", "x-who", "x-kinds"].map(|name| seen.header(name));
        Reply::json(&json!(told))
    });
    let values: [(&str, &dyn std::fmt::Display); 2] = [
        ("upstream", &upstream.address()),
        ("authenticators", &issuer.authenticator()),
    ];
    let gateway = Gateway::start(&fill(TOLD, &values));
    let ask = |path: &str, claims: &serde_json::Value| gateway.get(path).bearer(&issuer.token(claims)).send();
    let good = json!({ "sub": "two words", "roles": ["teller", "staff"], "branch": "Jongno 1" });
    assert_eq!(
        ask("/told", &good).expect(200).json(),
        json!(["two words", "teller staff", "Jongno 1", null, null])
    );
    assert_eq!(
        ask("/set", &good).expect(200).json(),
        json!([null, null, null, "two words", "of teller staff"])
    );
    for odd in [
        json!({ "sub": " admin" }),
        json!({ "sub": "admin  " }),
        json!({ "sub": "u1", "roles": ["teller admin"] }),
        json!({ "sub": "u1", "roles": ["teller\tadmin"] }),
        json!({ "sub": "u1", "roles": ["", "admin"] }),
    ] {
        ask("/told", &odd).expect_problem(403, "caller-untellable");
    }
    assert_eq!(upstream.count(), 2);
    let odd = json!({ "sub": " admin", "roles": ["teller admin"] });
    assert_eq!(
        ask("/set", &odd).expect(200).json(),
        json!([null, null, null, null, null])
    );
}

#[test]
fn stores_answers_by_who_asks_and_not_by_the_token() {
    let (upstream, issuer) = (mirror(), Issuer::new());
    let gateway = start(&upstream, &issuer);
    let get = |token: &str| {
        gateway
            .get(&format!("/stored?a=1&access_token={token}&b=2"))
            .send()
            .expect(200)
            .text()
    };
    let body = get(&token(&issuer, "u1"));
    assert!(body.contains("/stored?a=1&b=2"), "{body}");
    // Another token of the same caller: ES256 signs with chance.
    assert_eq!(get(&token(&issuer, "u1")), body);
    gateway
        .get("/stored?a=1&b=2")
        .header("x-token", &token(&issuer, "u1"))
        .send()
        .expect(200);
    assert_eq!(upstream.count(), 1);
    get(&token(&issuer, "u2"));
    assert_eq!(upstream.count(), 2);
}

#[test]
fn believes_no_cookie_that_another_site_makes_a_browser_send() {
    let (upstream, issuer) = (mirror(), Issuer::new());
    let gateway = start(&upstream, &issuer);
    let token = token(&issuer, "u1");
    let cookie = format!("token={token}");
    let post = |name: &str, value: &str| {
        gateway
            .post("/kept")
            .header("cookie", &cookie)
            .header(name, value)
            .send()
    };
    post("sec-fetch-site", "cross-site").expect_problem(403, "cross-site");
    post("origin", "https://evil.example").expect_problem(403, "cross-site");
    post("origin", "null").expect_problem(403, "cross-site");
    post("sec-fetch-site", "same-origin").expect(200);
    post("origin", "https://gate.example").expect(200);
    let own = gateway.post("/kept").header("x-token", &token);
    own.header("sec-fetch-site", "cross-site").send().expect(200);
    let read = gateway.get("/kept").header("cookie", &cookie);
    read.header("sec-fetch-site", "cross-site").send().expect(200);
}

#[test]
fn refuses_places_that_mean_something_else() {
    let (upstream, issuer) = (mirror(), Issuer::new());
    let good = fill(
        ANYWHERE,
        &[("upstream", &upstream.address()), ("issuer", &issuer.url())],
    );
    let whole = format!("listen: [{{ address: 127.0.0.1:0 }}]\n{good}");
    for (from, to, expected) in [
        (
            "x-user: principal.sub",
            "x-token: principal.sub",
            "`x-token` is written by a `forward:`",
        ),
        (
            "match: GET /dropped",
            "match: { path: /dropped, methods: GET, headers: { x-token: x } }",
            "`x-token` is read by a rule",
        ),
    ] {
        let output = refused_start(&whole.replacen(from, to, 1), &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(expected), "{said}");
    }
}
