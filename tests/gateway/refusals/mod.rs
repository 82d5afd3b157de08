//! What the gate refuses, in one table: each row with its status and code, and never a byte of it at the upstream.

mod forged;
mod requests;
mod rights;
mod sizes;
mod tokens;

use serde_json::json;

use crate::support::{Connection, Gateway, Issuer, Reply, Request, Upstream, guarded};

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

#[test]
fn refuses_each_row_of_the_table_before_the_upstream_sees_it() {
    let upstream = Upstream::http1(|_| Reply::json(&json!({"came": "through"})));
    let issuer = Issuer::new();
    let yaml = guarded(BANK, &upstream, &issuer);
    let gateway = Gateway::with(&yaml)
        .file("holidays.yaml", HOLIDAYS)
        .rehearse_at(NOON)
        .start();

    let mut rows = tokens::rows(&gateway, &issuer);
    rows.extend(rights::rows(&gateway, &issuer));
    rows.extend(requests::rows(&gateway));
    rows.extend(sizes::rows(&gateway, &issuer));
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
    if let Some((name, member)) = row.header
        && !response.list(name).contains(&member.to_ascii_lowercase())
    {
        return Err(why(format!("no `{member}` in `{name}`")));
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
    let yaml = guarded(BANK, &upstream, &issuer);
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

struct Row {
    what: &'static str,
    method: String,
    bytes: Vec<u8>,
    statuses: Vec<u16>,
    codes: Vec<&'static str>,
    /// A header the answer must carry, and what must be one of its values.
    header: Option<(&'static str, &'static str)>,
}

impl Row {
    fn header(mut self, name: &'static str, member: &'static str) -> Self {
        self.header = Some((name, member));
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
