//! Requests, callers and instants by the throw of dice: mostly what the routes ask for, near the instants at which windows
//! open and close.

use jiff::civil::{Date, Time, date, time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Map, Value, json};

/// A request, who sends it, and when.
#[derive(Debug, Clone)]
pub struct Case {
    pub method: &'static str,
    pub host: &'static str,
    /// The path, and the query with its `?` where there is one.
    pub target: String,
    pub headers: Vec<(&'static str, &'static str)>,
    /// The kind of application, by its name.
    pub client: Option<&'static str>,
    /// The caller's address; this machine's where nothing is said.
    pub ip: Option<&'static str>,
    /// RFC 3339.
    pub at: String,
    pub instant: Timestamp,
    pub caller: Option<Caller>,
}

/// Who calls, and by whose word.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The authenticator.
    pub by: &'static str,
    pub claims: Map<String, Value>,
}

/// Dice that fall alike for the same seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        let at = self.below(among.len() as u64) as usize;
        among[at].clone()
    }
}

/// What may be asked of each route: methods that fit, targets, and who may call.
const ROUTES: [Route; 17] = [
    route(
        &["GET", "HEAD"],
        &[
            "/customers/u1/balance",
            "/customers/u%31/balance",
            "/customers/u2/balance",
        ],
        &["customer"],
    ),
    route(
        &["GET"],
        &["/customers/u1/accounts/a1", "/customers/u2/accounts/a%31"],
        &["customer", "staff"],
    ),
    route(
        &["POST"],
        &[
            "/transfers?amount=50",
            "/transfers?amount=100",
            "/transfers?amount=1e3",
            "/transfers?amount=5&amount=6",
            "//transfers?amount=%37",
            "/transfers",
        ],
        &["customer"],
    ),
    route(
        &["GET", "HEAD"],
        &["/transfers", "/transfers?page=2"],
        &["customer", "staff"],
    ),
    route(&["POST"], &["/orders"], &["customer", "partner"]),
    route(
        &["GET", "PUT"],
        &["/orders", "/orders?dry_run=true"],
        &["customer", "partner", "none"],
    ),
    route(
        &["GET", "POST", "PUT"],
        &[
            "/notes",
            "/notes?dry_run=true",
            "/notes?dry%5Frun=tr%75e",
            "/notes?dry_run=false&dry_run=true",
            "/notes?dry_run=false",
            "/notes?dry_run=%FFtrue",
            "/notes?dry_run=true&dry_run=%FF",
        ],
        &["none"],
    ),
    route(&["GET"], &["/tickets/7"], &["staff"]),
    route(&["GET"], &["/audit"], &["staff", "none"]),
    route(&["POST"], &["/minors"], &["customer"]),
    route(&["GET", "HEAD"], &["/app", "/%61pp"], &["customer", "none"]),
    route(&["GET"], &["/app"], &["customer", "partner"]),
    route(&["GET"], &["/devices/a/b", "/devices/a%20b"], &["none"]),
    route(&["GET", "PATCH", "OPTIONS"], &["/eve"], &["partner", "none"]),
    route(&["GET"], &["/market"], &["none"]),
    route(&["GET"], &["/closed"], &["customer", "none"]),
    route(&["GET"], &["/old", "/nowhere", "/closed/", "/customers"], &["none"]),
];

#[derive(Clone, Copy)]
struct Route {
    methods: &'static [&'static str],
    targets: &'static [&'static str],
    auth: &'static [&'static str],
}

const fn route(
    methods: &'static [&'static str],
    targets: &'static [&'static str],
    auth: &'static [&'static str],
) -> Route {
    Route { methods, targets, auth }
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"];

/// Dates on which something is otherwise: clocks are put forward and back, holidays, spans, the end of what is known.
const DATES: [Date; 25] = [
    date(2026, 3, 8),
    date(2026, 11, 1),
    date(2027, 3, 14),
    date(2027, 11, 7),
    date(2026, 4, 5),
    date(2026, 10, 4),
    date(2027, 4, 4),
    date(2027, 10, 3),
    date(2026, 9, 23),
    date(2026, 9, 24),
    date(2026, 9, 26),
    date(2026, 9, 27),
    date(2026, 9, 28),
    date(2026, 12, 25),
    date(2026, 12, 31),
    date(2027, 1, 1),
    date(2026, 7, 3),
    date(2026, 7, 31),
    date(2026, 11, 15),
    date(2027, 2, 21),
    date(2027, 6, 30),
    date(2027, 7, 1),
    date(2027, 7, 5),
    // Beyond the table that windows are compiled to.
    date(2028, 7, 3),
    date(2027, 3, 3),
];
/// The times at which windows begin and end, by zone.
const EDGES: [(&str, &[Time]); 3] = [
    (
        "Asia/Seoul",
        &[
            time(0, 0, 0, 0),
            time(0, 30, 0, 0),
            time(2, 0, 0, 0),
            time(5, 0, 0, 0),
            time(6, 0, 0, 0),
            time(9, 0, 0, 0),
            time(15, 30, 0, 0),
            time(22, 0, 0, 0),
            time(23, 30, 0, 0),
            time(23, 50, 0, 0),
        ],
    ),
    (
        "America/New_York",
        &[
            time(0, 0, 0, 0),
            time(1, 30, 0, 0),
            time(2, 0, 0, 0),
            time(3, 0, 0, 0),
            time(3, 30, 0, 0),
            time(9, 30, 0, 0),
            time(16, 0, 0, 0),
            time(22, 0, 0, 0),
        ],
    ),
    (
        "Australia/Lord_Howe",
        &[
            time(1, 30, 0, 0),
            time(1, 45, 0, 0),
            time(2, 0, 0, 0),
            time(2, 15, 0, 0),
            time(12, 0, 0, 0),
        ],
    ),
];

impl Case {
    /// The next throw.
    pub fn throw(dice: &mut Dice) -> Self {
        let route = dice.pick(&ROUTES);
        let mut method = dice.pick(route.methods);
        let target = dice.pick(route.targets).to_owned();
        let mut headers: Vec<(&str, &str)> = Vec::new();
        if dice.chance(5) {
            method = dice.pick(&METHODS);
        }
        if dice.chance(10) {
            headers.push(("origin", dice.pick(&["https://bank.example", "https://other.example"])));
            if dice.chance(50) {
                headers.push(("access-control-request-method", method));
                method = "OPTIONS";
            }
        }
        if dice.chance(35) {
            headers.push(("x-beta", dice.pick(&["on", "yes", "off", "ON"])));
        }
        if dice.chance(5) {
            headers.push(("x-beta", "on"));
        }
        if dice.chance(50) {
            headers.push(("x-id", dice.pick(&["00af", "00AF", "00aff", "beef"])));
        }
        let client = dice.chance(20).then(|| dice.pick(&["ios", "android", "web"]));
        if client.is_none() && dice.chance(50) {
            headers.push(("x-client", dice.pick(&["ios", "ipados", "android", "windows"])));
            if dice.chance(50) {
                headers.push(("x-build", dice.pick(&["beta", "stable"])));
            }
        }
        let ip = dice
            .chance(60)
            .then(|| dice.pick(&["10.1.2.3", "192.0.2.7", "2001:db8::7", "2001:db9::7", "::ffff:10.0.0.5"]));
        let instant = instant(dice);
        Self {
            method,
            host: dice.pick(&["gate.example", "gate.example", "api.bank.example", "bank.example"]),
            target,
            headers,
            client,
            ip,
            at: written(instant, dice),
            instant,
            caller: Caller::throw(route.auth, instant, dice),
        }
    }
}

/// Two thirds are next to an edge: the instant itself, the second before, or shortly after.
fn instant(dice: &mut Dice) -> Timestamp {
    let day = match dice.chance(60) {
        true => dice.pick(&DATES),
        false => date(2026, 1, 10) + (dice.below(750) as i64).days(),
    };
    let (zone, edges) = dice.pick(&EDGES);
    let at = match dice.chance(66) {
        true => dice.pick(edges),
        false => Time::midnight() + SignedDuration::from_secs(dice.below(86_400) as i64),
    };
    let zone = TimeZone::get(zone).expect("a zone of the database");
    let clock = zone.to_timestamp(day.to_datetime(at)).expect("an instant");
    let shift = match dice.below(6) {
        0 => -1000,
        1 => 1000,
        2 => 400,
        3 => -600,
        _ => 0,
    };
    clock + SignedDuration::from_millis(shift)
}

fn written(instant: Timestamp, dice: &mut Dice) -> String {
    let hours = dice.pick(&[9, 0, -4]);
    instant.display_with_offset(Offset::constant(hours)).to_string()
}

impl Caller {
    /// Mostly one of those who may call; nobody where that is `none`.
    fn throw(auth: &[&'static str], instant: Timestamp, dice: &mut Dice) -> Option<Self> {
        let by = match dice.chance(80) {
            true => dice.pick(auth),
            false => dice.pick(&["customer", "staff", "partner", "none"]),
        };
        if by == "none" {
            return None;
        }
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("sub", json!(dice.pick(&["u1", "u1", "u2", "a/1"])));
        let some = |all: &[&str], dice: &mut Dice| -> Vec<String> {
            let held = all.iter().filter(|_| dice.chance(65));
            held.map(|word| (*word).to_owned()).collect()
        };
        let scopes = some(&["transfer:write", "transfer:read", "audit:read", "audit:write"], dice);
        let roles = some(&["teller", "treasury", "ops", "customer"], dice);
        let list_or_words = |words: Vec<String>, dice: &mut Dice| match dice.chance(50) {
            true => json!(words),
            false => json!(words.join(" ")),
        };
        let (scopes, roles) = (list_or_words(scopes, dice), list_or_words(roles, dice));
        match by {
            "staff" => {
                put("scp", scopes);
                put("realm", json!({ "roles": roles }));
            }
            _ => {
                put("scope", scopes);
                put("roles", roles);
            }
        }
        for (name, values) in [
            (
                "tier",
                vec![
                    json!("gold"),
                    json!("silver"),
                    json!("child"),
                    json!(["gold", "old"]),
                    json!(7),
                ],
            ),
            (
                "account",
                vec![
                    json!({"age": 17}),
                    json!({"age": 18}),
                    json!({"age": 17.5}),
                    json!({"age": "x"}),
                    json!(5),
                ],
            ),
            (
                "amr",
                vec![json!("otp"), json!(["otp"]), json!(["pwd", "otp"]), json!([])],
            ),
            ("guardian", vec![Value::Null, json!("u9")]),
            ("limit", vec![json!(100), json!(99.5), json!("100"), json!(1000)]),
            (
                "accounts",
                vec![
                    json!([{ "id": "a1", "roles": ["owner"] }]),
                    json!([{ "id": "a2", "roles": [] }, { "id": "a1", "roles": ["reader", "owner"] }]),
                    json!([5]),
                    json!("a1"),
                ],
            ),
            ("acr", vec![json!("otp"), json!("hwk"), json!("pwd")]),
        ] {
            if dice.chance(75) {
                put(name, dice.pick(&values));
            }
        }
        if dice.chance(80) {
            let age = dice.pick(&[10, 240, 299, 300, 301, 1800, 1801, 36_000, -20, -60]);
            put("auth_time", json!(instant.as_second() - age));
        }
        Some(Self { by, claims })
    }
}
