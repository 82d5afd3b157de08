//! Callers who are known, and may not.

use serde_json::json;

use super::{Row, row};
use crate::support::{Gateway, Issuer};

pub fn rows(gateway: &Gateway, issuer: &Issuer) -> Vec<Row> {
    let reader = issuer.token(&json!({"scope": "transfer:read"}));
    let writer = issuer.token(&json!({"scope": "transfer:write"}));
    let almost = issuer.token(&json!({"scope": "transfer:readers transfer"}));
    let tellers = issuer.token(&json!({"roles": ["tellers"]}));
    let read = |what, token: &str| row(what, gateway.get("/transfers").bearer(token), "403", "scope-missing");
    let ticket = |what, token: &str| row(what, gateway.get("/support/tickets/7").bearer(token), "403", "denied");
    let transfer = |what, instant, wait| {
        let request = gateway.post("/transfers").bearer(&writer).at(instant);
        row(what, request, "403", "TRANSFER_CLOSED").header("retry-after", wait)
    };
    let order = |what, instant, wait| {
        let request = gateway.post("/orders").bearer(&reader).at(instant);
        row(what, request, "403", "MARKET_CLOSED").header("retry-after", wait)
    };
    let upkeep = gateway.get("/news").at("2026-11-15T01:00:00+09:00");
    // Nobody knows when the market opens after the last day of the list.
    let unknown = gateway.post("/orders").bearer(&reader).at("2029-01-03T10:00:00+09:00");
    vec![
        read("a scope missing", &writer),
        read("a scope that only begins alike", &almost),
        transfer("a transfer at night", "2026-11-24T23:45:00+09:00", "18900"),
        transfer(
            "a transfer at the first instant of the night",
            "2026-11-24T23:30:00+09:00",
            "19800",
        ),
        transfer(
            "a transfer in the last second of the night",
            "2026-11-25T04:59:59+09:00",
            "1",
        ),
        order("an order on a holiday", "2026-09-25T10:00:00+09:00", "255600"),
        order("an order on a Saturday", "2026-11-28T10:00:00+09:00", "169200"),
        order("an order at the end of trading", "2026-11-24T15:30:00+09:00", "63000"),
        row("an order beyond the list of holidays", unknown, "403", "MARKET_CLOSED"),
        row("anything during upkeep", upkeep, "403", "UPKEEP").header("retry-after", "18000"),
        ticket("a ticket without a role", &reader),
        ticket("a ticket in another role", &tellers),
    ]
}
