//! The curl lines to try, each with what it will answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::demo::{Running, Which};
use crate::engine::rfc3339;
use crate::rehearse::decide;
use crate::snapshot::{Asked, Snapshot};

/// One request to try.
struct Try {
    about: &'static str,
    user: Option<&'static str>,
    /// Whether the user logged in with a one-time code, though not used to.
    with_code: bool,
    method: &'static str,
    path: &'static str,
    client: Option<&'static str>,
    /// A JSON body, which makes curl POST.
    body: Option<&'static str>,
    /// Whether the answer depends on the hour, so that noon and night are told, too.
    by_hour: bool,
}

const PLAIN: Try = Try {
    about: "",
    user: None,
    with_code: false,
    method: "GET",
    path: "/",
    client: None,
    body: None,
    by_hour: false,
};

/// What the variable of a user ends in that holds the token of a login with a one-time code.
const WITH_CODE: &str = "_WITH_CODE";

const TRANSFER: &str = r#"{"to":1102002,"amount":50000}"#;

const BANK: [Try; 9] = [
    Try {
        about: "open to everybody, answered by the gateway itself",
        path: "/status",
        ..PLAIN
    },
    Try {
        about: "one balance, cut for a phone",
        user: Some("customer"),
        path: "/customers/u1001/balance",
        client: Some("ios"),
        ..PLAIN
    },
    Try {
        about: "somebody else's balance, which only staff may see",
        user: Some("customer"),
        path: "/customers/u1002/balance",
        ..PLAIN
    },
    Try {
        about: "a dashboard made from three services",
        user: Some("customer"),
        path: "/dashboard",
        ..PLAIN
    },
    Try {
        about: "a transfer, which is closed at night",
        user: Some("customer"),
        method: "POST",
        path: "/transfers",
        body: Some(TRANSFER),
        by_hour: true,
        ..PLAIN
    },
    Try {
        about: "the same by the treasury, which may at night",
        user: Some("treasury"),
        method: "POST",
        path: "/transfers",
        body: Some(TRANSFER),
        by_hour: true,
        ..PLAIN
    },
    Try {
        about: "the same by a teller who logged in without a one-time code, and is asked for a better login by day",
        user: Some("teller"),
        method: "POST",
        path: "/transfers",
        body: Some(TRANSFER),
        by_hour: true,
        ..PLAIN
    },
    Try {
        about: "the same by the teller who logged in again, with a code",
        user: Some("teller"),
        with_code: true,
        method: "POST",
        path: "/transfers",
        body: Some(TRANSFER),
        by_hour: true,
        ..PLAIN
    },
    Try {
        about: "a ticket, which only staff may read",
        user: Some("customer"),
        path: "/support/tickets/7",
        ..PLAIN
    },
];

const SHOP: [Try; 6] = [
    Try {
        about: "the catalogue, from the cache the second time",
        path: "/products",
        ..PLAIN
    },
    Try {
        about: "one product, as the web gets it",
        path: "/products/7",
        ..PLAIN
    },
    Try {
        about: "the same product, cut for a phone",
        path: "/products/7",
        client: Some("ios"),
        ..PLAIN
    },
    Try {
        about: "who I am",
        user: Some("shopper"),
        path: "/me",
        ..PLAIN
    },
    Try {
        about: "an order",
        user: Some("shopper"),
        method: "POST",
        path: "/orders",
        body: Some(r#"{"items":[{"product":7,"quantity":1}]}"#),
        ..PLAIN
    },
    Try {
        about: "a payment, which pauses while the day is settled",
        user: Some("shopper"),
        method: "POST",
        path: "/payments",
        body: Some(r#"{"order":1,"amount":10000}"#),
        by_hour: true,
        ..PLAIN
    },
];

/// What the lines are for.
pub(super) struct Scene<'a> {
    /// The sample.
    pub which: Which,
    /// Its configuration.
    pub snapshot: &'a Snapshot,
    /// Its users, and where they log in.
    pub services: &'a Running,
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// When it starts.
    pub now: Timestamp,
    /// Whether that is on a rehearsal clock.
    pub is_rehearsal: bool,
}

/// The lines: each request with what it answers when the gateway starts, and where the hour matters at noon and late at
/// night too, to somebody who logged in just before. On a rehearsal clock these are requests of their own.
pub(super) fn lines(scene: &Scene<'_>) -> anyhow::Result<String> {
    let tries = match scene.which {
        Which::Bank => BANK.as_slice(),
        Which::Shop => SHOP.as_slice(),
    };
    let (zone, night) = hours(scene.which)?;
    let now = scene.now;
    let mut text = String::new();
    for tried in tries {
        text.push_str(&format!("# {}\n# now: {}\n", tried.about, answers(tried, scene, now)?));
        let mut variants = String::new();
        if tried.by_hour {
            let today = zone.to_datetime(now).date();
            for (word, time) in [("at noon", Time::constant(12, 0, 0, 0)), ("at night", night)] {
                let at = zone.to_timestamp(today.to_datetime(time))?;
                let shown = rfc3339(at, &zone);
                let clock = shown.get(11..16).unwrap_or_default();
                text.push_str(&format!("# {word} ({clock}): {}\n", answers(tried, scene, at)?));
                if scene.is_rehearsal {
                    // In a query a plus is a space.
                    let encoded = shown.replace('+', "%2B");
                    let code = if tried.with_code { "acr_values=otp&" } else { "" };
                    let login = |user: &str| format!("$(curl -s '{}?{code}at={encoded}')", scene.services.login(user));
                    let curl = tried.curl(scene.address, login);
                    variants.push_str(&format!("{curl} -H 'Gwanmun-At: {shown}'\n"));
                }
            }
        }
        let with_code = if tried.with_code { WITH_CODE } else { "" };
        let curl = tried.curl(scene.address, |user| format!("${}{with_code}", variable(user)));
        text.push_str(&format!("{curl}\n{variants}\n"));
    }
    Ok(text)
}

/// How to log in again, where the sample asks for a recent login or a better one.
pub(super) fn logins(scene: &Scene<'_>) -> String {
    if scene.which == Which::Shop {
        return String::new();
    }
    let [customer, treasury, teller] =
        ["customer", "treasury", "teller"].map(|user| (variable(user), scene.services.login(user)));
    format!(
        "# A transfer asks for a login of the last five minutes, with a one-time code; log in again:\n\
         export {}=$(curl -s {})\nexport {}=$(curl -s {})\nexport {}{WITH_CODE}=$(curl -s '{}?acr_values=otp')\n\n",
        customer.0, customer.1, treasury.0, treasury.1, teller.0, teller.1
    )
}

/// The zone of the sample's calendar and the time late in the day at which something is closed.
fn hours(which: Which) -> anyhow::Result<(TimeZone, Time)> {
    let night = match which {
        Which::Bank => Time::constant(23, 45, 0, 0),
        Which::Shop => Time::constant(23, 55, 0, 0),
    };
    Ok((TimeZone::get("Asia/Seoul")?, night))
}

fn answers(tried: &Try, scene: &Scene<'_>, at: Timestamp) -> anyhow::Result<String> {
    let request = format!("{} {}", tried.method, tried.path);
    let mut asked = Asked::new(&request, IpAddr::V4(Ipv4Addr::LOCALHOST), at)?;
    if let Some(client) = tried.client {
        asked.come_from(client, &scene.snapshot.clients)?;
    }
    if let Some(name) = tried.user {
        let user = scene.services.users().iter().find(|user| user.name == name);
        let claims = user.map(|user| &user.claims).and_then(Value::as_object);
        let mut claims = claims.cloned().context("a sample user is missing")?;
        claims.insert("auth_time".to_owned(), at.as_second().into());
        if tried.with_code {
            claims.insert("acr".to_owned(), "otp".into());
        }
        asked.hold(claims)?;
    }
    let told = decide(scene.snapshot, &asked)?;
    Ok(match &told.target {
        Some(target) => format!("{} from {target}", tried.success()),
        None => told.in_short(),
    })
}

impl Try {
    /// What the sample services answer.
    fn success(&self) -> u16 {
        if self.method == "POST" { 201 } else { 200 }
    }

    /// `token` is how a shell comes by the token of a user.
    fn curl(&self, address: SocketAddr, token: impl Fn(&str) -> String) -> String {
        let mut line = "curl -is".to_owned();
        if let Some(user) = self.user {
            line.push_str(&format!(" -H \"Authorization: Bearer {}\"", token(user)));
        }
        if let Some(client) = self.client {
            line.push_str(&format!(" -H 'X-Client: {client}'"));
        }
        if let Some(body) = self.body {
            line.push_str(&format!(" -H 'Content-Type: application/json' -d '{body}'"));
        }
        line.push_str(&format!(" http://{address}{}", self.path));
        line
    }
}

/// The shell variable that holds a user's token.
pub(super) fn variable(user: &str) -> String {
    user.to_ascii_uppercase()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::cli::explain::open;
    use crate::demo::{Ports, start};

    fn told(which: Which, name: &str, now: &str, is_rehearsal: bool) -> String {
        let now: Timestamp = now.parse().unwrap();
        let conf = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
        let snapshot = open(&conf.join(name), now).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let services = start(which, &Ports::free(which), now).await.unwrap();
            let scene = Scene {
                which,
                snapshot: &snapshot,
                services: &services,
                address: "127.0.0.1:8080".parse().unwrap(),
                now,
                is_rehearsal,
            };
            let text = format!("{}{}", logins(&scene), lines(&scene).unwrap());
            services.stop().await;
            text
        })
    }

    #[test]
    fn tells_what_the_bank_answers_by_day_and_by_night() {
        let text = told(Which::Bank, "bank.yaml", "2026-11-24T10:00+09:00", false);
        let transfer = "# a transfer, which is closed at night\n# now: 201 from upstream `transfers`\n\
                        # at noon (12:00): 201 from upstream `transfers`\n\
                        # at night (23:45): 403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00\n\
                        curl -is -H \"Authorization: Bearer $CUSTOMER\" -H 'Content-Type: application/json' \
                        -d '{\"to\":1102002,\"amount\":50000}' http://127.0.0.1:8080/transfers\n";
        assert!(text.contains(transfer), "{text}");
        let treasury = "# at night (23:45): 201 from upstream `transfers`\n";
        assert!(text.contains(treasury) && !text.contains("Gwanmun-At"), "{text}");
        let curls: Vec<_> = text.lines().filter(|line| line.starts_with("curl ")).collect();
        assert_eq!(curls.len(), 9);
        assert!(text.contains("# now: 403 denied\n"), "{text}");
        let night = "# at night (23:45): 403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00\n";
        let teller = |answer: &str, token: &str| {
            format!(
                "# now: {answer}\n# at noon (12:00): {answer}\n{night}curl -is -H \"Authorization: Bearer ${token}\""
            )
        };
        assert!(text.contains(&teller("401 step-up-required", "TELLER")), "{text}");
        let with_code = teller("201 from upstream `transfers`", "TELLER_WITH_CODE");
        assert!(text.contains(&with_code), "{text}");
    }

    #[test]
    fn prints_a_login_for_whoever_needs_a_recent_one_and_takes_no_other_token_for_it() {
        let text = told(Which::Bank, "bank.yaml", "2026-11-24T10:00+09:00", false);
        let set: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .collect();
        let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["CUSTOMER", "TREASURY", "TELLER_WITH_CODE"]);
        assert!(set[2].1.ends_with("/login/teller?acr_values=otp')"), "{text}");
    }

    #[test]
    fn adds_requests_for_other_hours_to_a_rehearsal() {
        let text = told(Which::Shop, "shop.yaml", "2026-11-24T23:58+09:00", true);
        assert!(
            text.contains("# now: 403 SETTLEMENT until 2026-11-25T00:10:00+09:00\n"),
            "{text}"
        );
        assert!(text.contains(" -H 'Gwanmun-At: 2026-11-24T12:00:00+09:00'\n"), "{text}");
        assert!(
            text.contains("/login/shopper?at=2026-11-24T12:00:00%2B09:00')\""),
            "{text}"
        );
    }
}
