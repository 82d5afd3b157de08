//! What the gate refuses, in one table: each row with its status and code, and never a byte of it at the upstream.

use serde_json::{Value, json};

use crate::support::{Connection, Gateway, Issuer, Key, Reply, Request, Upstream, fill};

const NOON: &str = "2026-11-24T12:00:00+09:00";

const HOLIDAYS: &str = "
through: 2028-12-31
dates:
  2026-09-24: Chuseok
  2026-09-25: Chuseok
  2026-09-26: Chuseok
";

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
calendars:
  seoul:
    timezone: Asia/Seoul
    holidays: holidays.yaml
    windows:
      night:   [{ days: daily, hours: 23:30-05:00 }]
      trading: [{ days: mon-fri, hours: 09:00-15:30, except: holidays }]
      upkeep:  [{ days: 3rd sun, hours: 00:00-06:00 }]
policies:
  no-night-transfer:
    deny:   { during: seoul.night }
    unless: { roles: [treasury] }
    reply:
      code: TRANSFER_CLOSED
      message: { ko: 심야 시간에는 송금할 수 없습니다, en: Transfers are closed at night }
  trading-hours:
    require: { during: seoul.trading }
    reply:
      code: MARKET_CLOSED
      message: { ko: 장이 열려 있지 않습니다, en: The market is closed }
  not-during-upkeep:
    deny: { during: seoul.upkeep }
    reply:
      code: UPKEEP
      message: { ko: 정기 점검 중입니다, en: We are doing maintenance }
  staff-only:
    require: { roles: [teller, treasury] }
limits:
  once: { key: principal.sub, rate: 1/m, burst: 1 }
defaults:
  policies: [not-during-upkeep]
routes:
  transfers:
    match: GET /transfers
    auth: customer
    scopes: [transfer:read]
    upstream: bank
  transfer:
    match: POST /transfers
    auth: customer
    scopes: [transfer:write]
    policies: [no-night-transfer]
    forward: { x-user: principal.sub }
    body: { max: 1KiB }
    upstream: bank
  order:
    match: POST /orders
    auth: customer
    policies: [trading-hours]
    upstream: bank
  ticket:
    match: GET /support/tickets/{ticket}
    auth: customer
    policies: [staff-only]
    upstream: bank
  statement:
    match: GET /statement
    auth: customer
    limits: [once]
    upstream: bank
  news:
    match: GET /news
    auth: none
    upstream: bank
";

struct Row {
    what: &'static str,
    method: String,
    bytes: Vec<u8>,
    statuses: Vec<u16>,
    codes: Vec<&'static str>,
    /// A header the answer must carry, and what must stand in it.
    header: Option<(&'static str, &'static str)>,
}

impl Row {
    fn header(mut self, name: &'static str, part: &'static str) -> Self {
        self.header = Some((name, part));
        self
    }
}

/// Where several codes or statuses are right, they are separated by `|`.
fn row(what: &'static str, request: Request, statuses: &str, codes: &'static str) -> Row {
    let bytes = request.bytes();
    raw(what, bytes, statuses, codes)
}

fn raw(what: &'static str, bytes: impl Into<Vec<u8>>, statuses: &str, codes: &'static str) -> Row {
    let bytes = bytes.into();
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    Row {
        what,
        method: String::from_utf8_lossy(method).into_owned(),
        bytes,
        statuses: statuses
            .split('|')
            .map(|status| status.parse().expect("a status"))
            .collect(),
        codes: codes.split('|').collect(),
        header: None,
    }
}

fn tokens(gateway: &Gateway, issuer: &Issuer) -> Vec<Row> {
    let read = |token: &str| gateway.get("/transfers").bearer(token);
    let with = |claims: Value| read(&issuer.token(&claims));
    let headed = |header: Value| read(&issuer.token_with(&header, &json!({})));
    let good = issuer.token(&json!({"scope": "transfer:read"}));
    let payload = issuer.claims(&json!({"scope": "transfer:read"})).to_string();
    let key = issuer.key();
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": key.id});
    let other = Key::es256(&key.id);
    let stranger = Key::es256("stranger");
    let confused = Key::hs256(&key.id, &key.public_bytes());
    let [first, second, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("a compact token")
    };
    let mut flipped: Vec<char> = signature.chars().collect();
    flipped[0] = if flipped[0] == 'A' { 'B' } else { 'A' };
    let flipped: String = flipped.into_iter().collect();
    vec![
        row("no token", gateway.get("/transfers"), "401", "token-missing").header("www-authenticate", "Bearer"),
        row(
            "a token in the query",
            gateway.get(&format!("/transfers?access_token={good}")),
            "401",
            "token-missing",
        ),
        row(
            "a token in the body's place",
            gateway.get("/transfers").header("x-authorization", &good),
            "401",
            "token-missing",
        ),
        row(
            "two parts",
            read(&format!("{first}.{second}")),
            "401",
            "token-malformed",
        ),
        row("four parts", read(&format!("{good}.x")), "401", "token-malformed"),
        row(
            "not base64",
            read(&format!("{first}.§§.{signature}")),
            "401",
            "token-malformed|credential-unreadable",
        ),
        row(
            "padded base64",
            read(&format!("{first}==.{second}.{signature}")),
            "401",
            "token-malformed",
        ),
        row(
            "a header that is not JSON",
            read(&format!("bm9wZQ.{second}.{signature}")),
            "401",
            "token-malformed",
        ),
        row(
            "signed nonsense",
            read(&key.sign(&header, "nonsense")),
            "401",
            "token-malformed|token-claims",
        ),
        row(
            "claims as a list",
            read(&key.sign(&header, "[1]")),
            "401",
            "token-malformed|token-claims",
        ),
        row(
            "a flipped signature",
            read(&format!("{first}.{second}.{flipped}")),
            "401",
            "token-signature",
        )
        .header("www-authenticate", "invalid_token"),
        row(
            "no signature",
            read(&format!("{first}.{second}.")),
            "401",
            "token-signature|token-malformed",
        ),
        row(
            "other claims under the signature",
            {
                let forged = issuer.token(&json!({"scope": "transfer:read", "sub": "u2"}));
                let forged = forged.split('.').nth(1).unwrap_or_default().to_owned();
                read(&format!("{first}.{forged}.{signature}"))
            },
            "401",
            "token-signature",
        ),
        row(
            "another key under the same id",
            read(&issuer.token_by(&other, &json!({}), &json!({}))),
            "401",
            "token-signature",
        ),
        row(
            "an unknown key id",
            read(&issuer.token_by(&stranger, &json!({}), &json!({}))),
            "401",
            "token-key-unknown",
        ),
        row(
            "a key in the header",
            {
                let header = json!({"jwk": stranger.jwk()});
                read(&issuer.token_by(&stranger, &header, &json!({})))
            },
            "401",
            "token-key-unknown",
        ),
        row(
            "algorithm none",
            {
                let token = key.sign(&json!({"alg": "none", "typ": "at+jwt"}), &payload);
                let (unsigned, _) = token.rsplit_once('.').unwrap_or_default();
                read(&format!("{unsigned}."))
            },
            "401",
            "token-algorithm|token-malformed",
        ),
        row(
            "the public key as shared secret",
            read(&issuer.token_by(&confused, &json!({}), &json!({}))),
            "401",
            "token-algorithm",
        ),
        row(
            "an algorithm not listed",
            headed(json!({"alg": "ES384"})),
            "401",
            "token-algorithm",
        ),
        row(
            "an algorithm nobody knows",
            headed(json!({"alg": "XX256"})),
            "401",
            "token-algorithm|token-malformed",
        ),
        row(
            "a critical extension",
            headed(json!({"crit": ["exp2"], "exp2": 1})),
            "401",
            "token-crit",
        ),
        row("another type", headed(json!({"typ": "JWT"})), "401", "token-type"),
        row("no type", headed(json!({"typ": null})), "401", "token-type"),
        row("expired", with(json!({"exp": 1_700_000_000})), "401", "token-expired"),
        row(
            "not yet valid",
            with(json!({"nbf": 1_900_000_000})),
            "401",
            "token-not-yet-valid",
        ),
        row("no expiry", with(json!({"exp": null})), "401", "token-claims"),
        row(
            "expiry as text",
            with(json!({"exp": "2051222400"})),
            "401",
            "token-claims",
        ),
        row(
            "another issuer",
            with(json!({"iss": "https://id.bank.example"})),
            "401",
            "token-issuer",
        ),
        row(
            "no issuer",
            with(json!({"iss": null})),
            "401",
            "token-claims|token-issuer",
        ),
        row(
            "issuers as a list",
            with(json!({"iss": [issuer.url()]})),
            "401",
            "token-claims|token-issuer",
        ),
        row(
            "another audience",
            with(json!({"aud": ["other-bank"]})),
            "401",
            "token-audience",
        ),
        row("no audience", with(json!({"aud": null})), "401", "token-claims"),
        row("a number as subject", with(json!({"sub": 5})), "401", "token-claims"),
        row(
            "two credentials",
            read(&good).header("authorization", "Bearer x"),
            "401",
            "credential-unreadable",
        ),
        row(
            "a password",
            gateway.get("/transfers").header("authorization", "Basic dTpw"),
            "401",
            "credential-unreadable",
        ),
        row(
            "a scheme without a token",
            gateway.get("/transfers").header("authorization", "Bearer"),
            "401",
            "credential-unreadable|token-malformed",
        ),
    ]
}

fn rights(gateway: &Gateway, issuer: &Issuer) -> Vec<Row> {
    let reader = issuer.token(&json!({"scope": "transfer:read"}));
    let writer = issuer.token(&json!({"scope": "transfer:write"}));
    let order = |instant| gateway.post("/orders").bearer(&reader).at(instant);
    vec![
        row(
            "a scope missing",
            gateway.get("/transfers").bearer(&writer),
            "403",
            "scope-missing",
        ),
        row(
            "a scope that only begins alike",
            {
                gateway
                    .get("/transfers")
                    .bearer(&issuer.token(&json!({"scope": "transfer:readers"})))
            },
            "403",
            "scope-missing",
        ),
        row(
            "a transfer at night",
            gateway
                .post("/transfers")
                .bearer(&writer)
                .at("2026-11-24T23:45:00+09:00"),
            "403",
            "TRANSFER_CLOSED",
        )
        .header("retry-after", "18900"),
        row(
            "a transfer at the first instant of the night",
            {
                gateway
                    .post("/transfers")
                    .bearer(&writer)
                    .at("2026-11-24T23:30:00+09:00")
            },
            "403",
            "TRANSFER_CLOSED",
        )
        .header("retry-after", "19800"),
        row(
            "a transfer in the last second of the night",
            {
                gateway
                    .post("/transfers")
                    .bearer(&writer)
                    .at("2026-11-25T04:59:59+09:00")
            },
            "403",
            "TRANSFER_CLOSED",
        )
        .header("retry-after", "1"),
        row(
            "an order on a holiday",
            order("2026-09-25T10:00:00+09:00"),
            "403",
            "MARKET_CLOSED",
        )
        .header("retry-after", "255600"),
        row(
            "an order on a Saturday",
            order("2026-11-28T10:00:00+09:00"),
            "403",
            "MARKET_CLOSED",
        ),
        row(
            "an order at the end of trading",
            order("2026-11-24T15:30:00+09:00"),
            "403",
            "MARKET_CLOSED",
        ),
        row(
            "an order on a day no list of holidays reaches",
            order("2029-01-03T10:00:00+09:00"),
            "403",
            "MARKET_CLOSED",
        ),
        row(
            "anything during upkeep",
            gateway.get("/news").at("2026-11-15T01:00:00+09:00"),
            "403",
            "UPKEEP",
        ),
        row(
            "a ticket without a role",
            gateway.get("/support/tickets/7").bearer(&reader),
            "403",
            "denied",
        ),
        row(
            "a ticket in another role",
            {
                gateway
                    .get("/support/tickets/7")
                    .bearer(&issuer.token(&json!({"roles": ["tellers"]})))
            },
            "403",
            "denied",
        ),
    ]
}

fn ways(gateway: &Gateway) -> Vec<Row> {
    let get = |target: &str| gateway.get(target);
    let invalid = "path-invalid|request-invalid";
    vec![
        row("no route", get("/nowhere"), "404", "route-not-found"),
        row("the root", get("/"), "404", "route-not-found"),
        row("a trailing slash", get("/news/"), "404", "route-not-found"),
        row("another case", get("/News"), "404", "route-not-found"),
        row(
            "a parameter left empty",
            get("/support/tickets/"),
            "404",
            "route-not-found",
        ),
        row(
            "another method",
            gateway.request("DELETE", "/transfers"),
            "405",
            "method-not-allowed",
        )
        .header("allow", "POST"),
        row(
            "a method nobody knows",
            gateway.request("BREW", "/news"),
            "405",
            "method-not-allowed",
        )
        .header("allow", "GET"),
        row(
            "OPTIONS that is no preflight",
            gateway.request("OPTIONS", "/news"),
            "405",
            "method-not-allowed",
        ),
        row("a dot segment", get("/a/../news"), "400", "path-invalid"),
        row("a single dot", get("/./news"), "400", "path-invalid"),
        row("a dot segment at the end", get("/news/.."), "400", "path-invalid"),
        row("an encoded dot segment", get("/a/%2e%2E/news"), "400", "path-invalid"),
        row("a half encoded dot segment", get("/a/.%2e/news"), "400", "path-invalid"),
        row("an encoded slash", get("/support%2ftickets/7"), "400", "path-invalid"),
        row(
            "an encoded backslash",
            get("/support%5Ctickets/7"),
            "400",
            "path-invalid",
        ),
        row("a backslash", get("/support\\tickets/7"), "400", invalid),
        row("an encoded NUL", get("/news%00"), "400", "path-invalid"),
        raw("a NUL", "GET /news\0 HTTP/1.1\r\nhost: a\r\n\r\n", "400", invalid),
        raw(
            "a byte beyond ASCII",
            b"GET /news\xff HTTP/1.1\r\nhost: a\r\n\r\n",
            "400",
            invalid,
        ),
        row("a broken escape", get("/news%2"), "400", invalid),
        row("an escape that is none", get("/news%zz"), "400", invalid),
        raw(
            "CONNECT",
            "CONNECT gate.example:443 HTTP/1.1\r\nhost: gate.example:443\r\n\r\n",
            "400|405",
            "method-not-allowed|request-invalid|path-invalid",
        ),
        raw("no host", "GET /news HTTP/1.1\r\n\r\n", "400", "request-invalid"),
        raw(
            "an empty host",
            "GET /news HTTP/1.1\r\nhost:\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "two hosts",
            "GET /news HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a host that is a path",
            "GET /news HTTP/1.1\r\nhost: a/b\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a target naming another host",
            "GET http://b/news HTTP/1.1\r\nhost: a\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a space in the target",
            "GET /news x HTTP/1.1\r\nhost: a\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a folded header",
            "GET /news HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a space before the colon",
            "GET /news HTTP/1.1\r\nhost: a\r\nx-a : 1\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a header without a colon",
            "GET /news HTTP/1.1\r\nhost: a\r\nx-a\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a NUL in a header",
            "GET /news HTTP/1.1\r\nhost: a\r\nx-a: 1\0\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "a length and a transfer coding",
            "POST /transfers HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "two lengths",
            "POST /transfers HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            "400",
            "request-invalid",
        ),
        raw(
            "a signed length",
            "POST /transfers HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
            "400",
            "request-invalid",
        ),
        raw(
            "a transfer coding nobody knows",
            "POST /transfers HTTP/1.1\r\nhost: a\r\ntransfer-encoding: cow\r\n\r\n",
            "400|501",
            "request-invalid",
        ),
        raw(
            "chunked not last",
            "POST /transfers HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "400|501",
            "request-invalid",
        ),
        raw(
            "another version",
            "GET /news HTTP/3.7\r\nhost: a\r\n\r\n",
            "400|505",
            "request-invalid",
        ),
    ]
}

fn sizes(gateway: &Gateway, issuer: &Issuer) -> Vec<Row> {
    let writer = issuer.token(&json!({"scope": "transfer:write"}));
    let transfer = || gateway.post("/transfers").bearer(&writer);
    let many = (0..2000).fold(gateway.get("/news"), |request, n| {
        request.header(&format!("x-{n}"), "1")
    });
    let announced = transfer().header("content-length", "99999999").bytes();
    // What is announced is never sent: the `content-length: 0` the request would add goes.
    let announced = String::from_utf8(announced)
        .expect("text")
        .replace("content-length: 0\r\n", "");
    vec![
        row(
            "a header too large",
            gateway.get("/news").header("x-a", &"a".repeat(200_000)),
            "431",
            "header-too-large",
        ),
        row("too many headers", many, "431", "header-too-large"),
        row(
            "a target too long",
            gateway.get(&format!("/news?{}", "a".repeat(200_000))),
            "414",
            "uri-too-long",
        ),
        row(
            "a body too large",
            transfer().body("a".repeat(2000)),
            "413",
            "body-too-large",
        ),
        row(
            "a body one byte too large",
            transfer().body("a".repeat(1025)),
            "413",
            "body-too-large",
        ),
        raw("a body announced too large", announced, "413", "body-too-large"),
        row(
            "a body too large without its length",
            transfer().body("a".repeat(100_000)).chunked(),
            "413",
            "body-too-large",
        ),
    ]
}

#[test]
fn refuses_each_row_of_the_table_before_the_upstream_sees_it() {
    let upstream = Upstream::http1(|_| Reply::json(&json!({"came": "through"})));
    let issuer = Issuer::new();
    let yaml = fill(
        BANK,
        &[
            ("upstream", &upstream.address()),
            ("authenticators", &issuer.authenticator()),
        ],
    );
    let gateway = Gateway::with(&yaml)
        .file("holidays.yaml", HOLIDAYS)
        .rehearse_at(NOON)
        .start();

    let mut rows = tokens(&gateway, &issuer);
    rows.extend(rights(&gateway, &issuer));
    rows.extend(ways(&gateway));
    rows.extend(sizes(&gateway, &issuer));
    assert!(rows.len() >= 40, "{} rows", rows.len());
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            judge(row, &gateway, &upstream)
                .err()
                .map(|why| format!("{}: {why}", row.what))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );

    let good = issuer.token(&json!({"scope": "transfer:read transfer:write"}));
    gateway.get("/transfers").bearer(&good).send().expect(200);
    gateway
        .post("/transfers")
        .bearer(&good)
        .body("a".repeat(1024))
        .send()
        .expect(200);
    gateway.post("/orders").bearer(&good).send().expect(200);
    gateway.get("/news").send().expect(200);
    assert_eq!(upstream.count(), 4);
}

fn judge(row: &Row, gateway: &Gateway, upstream: &Upstream) -> Result<(), String> {
    let before = upstream.count();
    let mut connection = Connection::open(gateway.address());
    connection.send(&row.bytes);
    let response = connection
        .response_or_close(&row.method)
        .ok_or("closed without an answer")?;
    let why = |why: String| format!("{why}: {}", response.summary());
    response.problem(&row.statuses, &row.codes).map_err(why)?;
    if response.status == 401
        && !response
            .header("www-authenticate")
            .is_some_and(|value| value.starts_with("Bearer"))
    {
        return Err(why("no challenge".to_owned()));
    }
    if let Some((name, part)) = row.header
        && !response.header(name).is_some_and(|value| value.contains(part))
    {
        return Err(why(format!("no `{part}` in `{name}`")));
    }
    match upstream.count() - before {
        0 => Ok(()),
        seen => Err(format!("the upstream saw {seen} requests")),
    }
}

#[test]
fn refuses_the_request_beyond_a_limit() {
    let upstream = Upstream::http1(|_| Reply::text("a statement"));
    let issuer = Issuer::new();
    let yaml = fill(
        BANK,
        &[
            ("upstream", &upstream.address()),
            ("authenticators", &issuer.authenticator()),
        ],
    );
    let gateway = Gateway::with(&yaml)
        .file("holidays.yaml", HOLIDAYS)
        .rehearse_at(NOON)
        .start();
    let ask = || gateway.get("/statement").bearer(&issuer.token(&json!({}))).send();
    ask().expect(200);
    let refused = ask();
    refused.expect_problem(429, "limit-exceeded");
    let wait: u32 = refused
        .header("retry-after")
        .and_then(|value| value.parse().ok())
        .expect("whole seconds to wait");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn refuses_a_flood_from_one_address_on_any_path() {
    let gateway = Gateway::start(
        "
limits:
  flood: { key: ip, rate: 2/s, approximate: true }
defaults:
  limits: [flood]
routes:
  status:
    match: GET /status
    auth: none
    reply: { status: 200, json: { open: true } }
",
    );
    let flood = |target: &str| {
        let refused = (0..2000)
            .map(|_| gateway.get(target).send())
            .find(|response| response.status == 429);
        let refused = refused.unwrap_or_else(|| panic!("no request to {target} was refused"));
        refused.expect_problem(429, "limit-exceeded");
        assert!(refused.header("retry-after").is_some(), "{}", refused.summary());
    };
    flood("/status");
    flood("/nowhere");
    gateway.get("/status").from("127.0.0.9").send().expect(200);
}

const OPEN: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
routes:
  transfer:
    match: POST /transfers
    auth: customer
    forward: { x-user: principal.sub }
    upstream: bank
  news:
    match: GET /news
    auth: none
    upstream: bank
";

/// Sends one good transfer with these headers on top, and returns what the upstream saw.
fn forged(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let reply = Reply::text("done")
        .header("gwanmun-partial", "forged")
        .header("gwanmun-rehearsal", "forged");
    let upstream = Upstream::http1(move |_| reply.clone());
    let issuer = Issuer::new();
    let gateway = Gateway::start(&fill(
        OPEN,
        &[
            ("upstream", &upstream.address()),
            ("authenticators", &issuer.authenticator()),
        ],
    ));
    let request = gateway.post("/transfers").bearer(&issuer.token(&json!({})));
    let response = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(name, value))
        .send();
    response.expect(200);
    assert!(
        response.headers.iter().all(|(name, _)| !name.starts_with("gwanmun-")),
        "{}",
        response.summary()
    );
    upstream.only().headers
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(found, _)| found == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

#[test]
fn tells_the_upstream_who_calls_whatever_the_caller_says() {
    let seen = forged(&[("x-user", "admin"), ("X-User", "root"), ("connection", "x-user")]);
    assert_eq!(values(&seen, "x-user"), ["u1"]);
}

#[test]
fn tells_the_upstream_where_the_caller_is_whatever_the_caller_says() {
    let seen = forged(&[
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.8"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
    ]);
    assert_eq!(values(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&seen, "x-forwarded-host"), ["gate.example"]);
    for (name, value) in &seen {
        assert!(
            !value.contains("203.0.113") && !value.contains("evil"),
            "{name}: {value}"
        );
    }
}

#[test]
fn keeps_its_own_headers_to_itself() {
    let seen = forged(&[
        ("gwanmun-at", "2026-11-24T23:45:00+09:00"),
        ("gwanmun-partial", "x"),
        ("Gwanmun-Anything", "x"),
    ]);
    assert!(seen.iter().all(|(name, _)| !name.starts_with("gwanmun-")), "{seen:?}");
}

#[test]
fn strips_identity_headers_on_routes_that_forward_none() {
    let upstream = Upstream::http1(|_| Reply::text("news"));
    let issuer = Issuer::new();
    let gateway = Gateway::start(&fill(
        OPEN,
        &[
            ("upstream", &upstream.address()),
            ("authenticators", &issuer.authenticator()),
        ],
    ));
    gateway.get("/news").header("x-user", "admin").send().expect(200);
    assert_eq!(upstream.only().header("x-user"), None);
}

#[test]
fn strips_hop_by_hop_headers() {
    let seen = forged(&[
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic dTpw"),
        ("keep-alive", "timeout=5"),
    ]);
    for name in ["x-hop", "proxy-authorization", "keep-alive"] {
        assert!(values(&seen, name).is_empty(), "{name} went through");
    }
}
