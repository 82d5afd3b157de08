//! The bank's services. Any customer and any account exists; what they hold follows from the id alone.

use std::num::NonZeroU32;

use jiff::civil::date;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::http::{Reply, Request, Verb};
use super::sample::{Amount, Draw, Hundredths, Ledger};

/// Account data belongs to one customer: no shared cache may keep it, and no other gives it away unasked.
const PRIVATE: &str = "private, no-cache";

/// `GET /customers/{id}/balance`
pub(super) fn accounts(request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["customers", customer, "balance"], Verb::Get) if !customer.is_empty() => {
            Reply::ok(&balance(customer)).cached(PRIVATE)
        }
        (["customers", _, "balance"], Verb::Post | Verb::Other) => Reply::not_allowed("GET, HEAD"),
        _ => Reply::not_found(),
    }
}

/// `GET /transfers?account=&limit=` (by default of the caller's own account), `POST /transfers`
pub(super) fn transfers(ledger: &Ledger, request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["transfers"], Verb::Get) => recent(ledger, request).into(),
        (["transfers"], Verb::Post) => transfer(ledger, request).into(),
        (["transfers"], Verb::Other) => Reply::not_allowed("GET, HEAD, POST"),
        _ => Reply::not_found(),
    }
}

/// `GET /summary/{customer}`, `POST /orders`
pub(super) fn invest(ledger: &Ledger, request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["summary", customer], Verb::Get) if !customer.is_empty() => Reply::ok(&summary(customer)).cached("private"),
        (["summary", _], Verb::Post | Verb::Other) => Reply::not_allowed("GET, HEAD"),
        (["orders"], Verb::Post) => order(ledger, request).into(),
        (["orders"], _) => Reply::not_allowed("POST"),
        _ => Reply::not_found(),
    }
}

/// `GET /cards` of the caller
pub(super) fn cards(request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["cards"], Verb::Get) => request
            .user()
            .map(|user| Reply::ok(&cards_of(user)).cached("private"))
            .into(),
        (["cards"], _) => Reply::not_allowed("GET, HEAD"),
        _ => Reply::not_found(),
    }
}

/// `GET /support/tickets/{id}`, ids being numbers from 1 to 99999
pub(super) fn support(ledger: &Ledger, request: &Request) -> Reply {
    match (request.path().as_slice(), request.verb) {
        (["support", "tickets", id], Verb::Get) => match id.parse() {
            Ok(number @ 1..=99_999) => Reply::ok(&ticket(ledger, number)).cached(PRIVATE),
            _ => Reply::not_found(),
        },
        (["support", "tickets", _], _) => Reply::not_allowed("GET, HEAD"),
        _ => Reply::not_found(),
    }
}

#[derive(Serialize)]
struct Balance<'a> {
    customer: &'a str,
    account_id: u64,
    available: Hundredths,
    currency: &'static str,
    opened: String,
    branch: &'static str,
}

fn balance(customer: &str) -> Balance<'_> {
    let mut draw = Draw::of("balance", customer);
    let days = draw.between(0, 2_500) as i64;
    let opened = date(2018, 1, 2).checked_add(jiff::SignedDuration::from_hours(24 * days));
    Balance {
        customer,
        account_id: account_of(customer),
        available: Hundredths::whole(draw.between(500, 45_000) * 1_000 + 500),
        currency: "KRW",
        opened: opened.unwrap_or(date(2018, 1, 2)).to_string(),
        branch: draw.pick(&["종로", "여의도", "강남역", "판교", "해운대", "전주한옥마을"]),
    }
}

/// Seventeen digits, more than a floating-point number holds.
fn account_of(customer: &str) -> u64 {
    11_000_000_000_000_000 + Draw::of("account", customer).between(1, 899_999_999_999_999)
}

#[derive(Serialize)]
struct Booking {
    transfer_id: u64,
    account: u64,
    direction: &'static str,
    amount: Hundredths,
    currency: &'static str,
    counterpart: &'static str,
    memo: &'static str,
    booked_at: String,
}

fn recent(ledger: &Ledger, request: &Request) -> Result<Reply, Reply> {
    let limit = request.count("limit", 20, 100)?;
    let account = match request.parameter("account") {
        Some(text) => text.parse().map_err(|_| Reply::bad_request("`account` is a number"))?,
        None => account_of(request.user().map_err(|_| Reply::bad_request("`account` is missing"))?),
    };
    let mut draw = Draw::of("transfers", &account.to_string());
    let mut hours = 0;
    let bookings: Vec<Booking> = (0..limit)
        .map(|_| {
            hours += draw.between(2, 40);
            let incoming = draw.between(1, 4) == 1;
            Booking {
                transfer_id: 20_250_000_000_000_000 + draw.between(1, 999_999_999_999),
                account,
                direction: if incoming { "in" } else { "out" },
                amount: Hundredths::whole(draw.between(3, 1_800) * 500),
                currency: "KRW",
                counterpart: draw.pick(&["김민지", "이서준", "박하은", "한강전력", "서울교통", "새벽장터"]),
                memo: draw.pick(&["월세", "점심", "관리비", "회비", "용돈", ""]),
                booked_at: ledger.hours_ago(hours),
            }
        })
        .collect();
    Ok(Reply::ok(&bookings).cached(PRIVATE))
}

#[derive(Deserialize)]
struct TransferOrder {
    from: Option<u64>,
    to: u64,
    amount: Amount,
    memo: Option<String>,
}

#[derive(Serialize)]
struct TransferReceipt<'a> {
    transfer_id: u64,
    status: &'static str,
    from: u64,
    to: u64,
    amount: Amount,
    currency: &'static str,
    memo: Option<String>,
    user: &'a str,
    booked_at: String,
}

fn transfer(ledger: &Ledger, request: &Request) -> Result<Reply, Reply> {
    let user = request.user()?;
    let order: TransferOrder = request.json()?;
    Ok(Reply::created(&TransferReceipt {
        transfer_id: ledger.number(),
        status: "booked",
        from: order.from.unwrap_or_else(|| account_of(user)),
        to: order.to,
        amount: order.amount,
        currency: "KRW",
        memo: order.memo,
        user,
        booked_at: ledger.now(),
    }))
}

#[derive(Serialize)]
struct Summary<'a> {
    customer: &'a str,
    currency: &'static str,
    total: Hundredths,
    profit: Hundredths,
    holdings: Vec<Holding>,
}

#[derive(Serialize)]
struct Holding {
    symbol: String,
    name: &'static str,
    quantity: u64,
    price: Hundredths,
    value: Hundredths,
}

fn summary(customer: &str) -> Summary<'_> {
    let mut draw = Draw::of("summary", customer);
    let names = ["한빛전자", "다도해조선", "새벽바이오", "온누리채권 3년"];
    let holdings: Vec<Holding> = names
        .into_iter()
        .map(|name| {
            let (quantity, price) = (draw.between(1, 120), draw.between(40, 3_000) * 50);
            Holding {
                symbol: format!("{:06}", Draw::of("symbol", name).between(1_000, 399_999)),
                name,
                quantity,
                price: Hundredths::whole(price),
                value: Hundredths::whole(quantity * price),
            }
        })
        .collect();
    Summary {
        customer,
        currency: "KRW",
        total: Hundredths(holdings.iter().map(|holding| holding.value.0).sum()),
        profit: Hundredths(draw.between(0, 900_000_000) as i64 - 300_000_000),
        holdings,
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Buy,
    Sell,
}

#[derive(Deserialize)]
struct InvestOrder {
    symbol: String,
    side: Side,
    quantity: NonZeroU32,
    price: Option<Amount>,
}

#[derive(Serialize)]
struct InvestReceipt<'a> {
    order_id: u64,
    status: &'static str,
    symbol: String,
    side: Side,
    quantity: NonZeroU32,
    kind: &'static str,
    price: Option<Amount>,
    user: &'a str,
    accepted_at: String,
}

fn order(ledger: &Ledger, request: &Request) -> Result<Reply, Reply> {
    let user = request.user()?;
    let order: InvestOrder = request.json()?;
    Ok(Reply::created(&InvestReceipt {
        order_id: ledger.number(),
        status: "accepted",
        symbol: order.symbol,
        side: order.side,
        quantity: order.quantity,
        kind: if order.price.is_some() { "limit" } else { "market" },
        price: order.price,
        user,
        accepted_at: ledger.now(),
    }))
}

#[derive(Serialize)]
struct Card {
    card_id: u64,
    product: &'static str,
    number: String,
    limit: Hundredths,
    used: Hundredths,
    currency: &'static str,
    expires: String,
}

fn cards_of(user: &str) -> Vec<Card> {
    let mut draw = Draw::of("cards", user);
    ["체크카드", "신용카드 플러스"]
        .into_iter()
        .map(|product| Card {
            card_id: 90_071_992_547_400_000 + draw.between(0, 99_999),
            product,
            number: format!("**** **** **** {:04}", draw.between(0, 9_999)),
            limit: Hundredths::whole(draw.between(1, 20) * 500_000),
            used: Hundredths(draw.between(0, 49_999_999) as i64),
            currency: "KRW",
            expires: format!("{}-{:02}", draw.between(2028, 2031), draw.between(1, 12)),
        })
        .collect()
}

fn ticket(ledger: &Ledger, number: u32) -> serde_json::Value {
    let mut draw = Draw::of("ticket", &number.to_string());
    let hours = draw.between(20, 400);
    json!({
        "id": number,
        "customer": format!("u{}", draw.between(1_001, 1_999)),
        "subject": draw.pick(&["이체 한도를 올리고 싶습니다", "카드를 분실했습니다", "인증서가 만료되었습니다"]),
        "status": draw.pick(&["open", "waiting", "solved"]),
        "opened_at": ledger.hours_ago(hours),
        "messages": [
            { "from": "customer", "at": ledger.hours_ago(hours), "text": "확인 부탁드립니다." },
            { "from": "support", "at": ledger.hours_ago(hours - 3), "text": "담당자가 확인하고 있습니다." },
        ],
    })
}
