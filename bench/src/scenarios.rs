//! What is asked of the peers.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::tokens::Issuer;
use crate::workplace::Workplace;

/// The web application's origin, as the configuration of the transfer allows it.
pub const ORIGIN: &str = "https://bank.example";
pub const TRANSFER: &str = r#"{"from":"110-234-567890","to":"220-345-678901","amount":150000,"currency":"KRW"}"#;

const TOKENS: &str = "tokens.txt";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// `GET /plain`, nothing asked of the caller.
    Plain,
    /// The same with a token that is verified, of 2 000 in turn.
    Jwt,
    /// `POST /transfers` of the bank, by 256 customers in turn.
    Transfer,
    /// `GET /aggregate`, one answer made from three. To be set beside [`Plain`](Self::Plain) of the same peer: others only
    /// forward.
    Aggregate,
}

impl Scenario {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Jwt, Self::Transfer, Self::Aggregate];

    /// Leaves in the workplace what the configuration and the load need.
    pub fn prepare(self, place: &Workplace) -> anyhow::Result<()> {
        let callers = match self {
            Self::Plain | Self::Aggregate => return Ok(()),
            Self::Jwt => 2_000,
            Self::Transfer => 256,
        };
        let issuer = Issuer::new()?;
        place.write("jwks.json", &issuer.key_set()?, &[])?;
        let tokens = (0..callers)
            .map(|number| issuer.token(number))
            .collect::<anyhow::Result<Vec<_>>>()?;
        place.write(TOKENS, &format!("{}\n", tokens.join("\n")), &[])?;
        Ok(())
    }

    /// The gateway's configuration for this scenario.
    pub fn configuration(
        self,
        listen: SocketAddr,
        admin: SocketAddr,
        upstream: SocketAddr,
    ) -> anyhow::Result<(&'static str, [(&'static str, String); 4])> {
        let template = match self {
            Self::Plain => include_str!("../conf/plain.yaml"),
            Self::Jwt => include_str!("../conf/jwt.yaml"),
            Self::Transfer => include_str!("../conf/transfer.yaml"),
            Self::Aggregate => include_str!("../conf/aggregate.yaml"),
        };
        let values = [
            ("@LISTEN@", listen.to_string()),
            ("@ADMIN@", admin.to_string()),
            ("@UPSTREAM@", upstream.to_string()),
            ("@NIGHT@", hours_far_from_now()?),
        ];
        Ok((template, values))
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::Plain | Self::Jwt => "/plain",
            Self::Transfer => "/transfers",
            Self::Aggregate => "/aggregate",
        }
    }

    /// What `load.lua` reads from its environment.
    pub fn load_environment(self, place: &Workplace) -> Vec<(&'static str, String)> {
        match self {
            Self::Plain => Vec::new(),
            // More than there are connections, so that no two requests at a time are the same.
            Self::Aggregate => vec![("VARIED", "4096".to_owned())],
            Self::Jwt => vec![("TOKENS", place.file(TOKENS).display().to_string())],
            Self::Transfer => vec![
                ("TOKENS", place.file(TOKENS).display().to_string()),
                ("ORIGIN", ORIGIN.to_owned()),
                ("BODY", TRANSFER.to_owned()),
            ],
        }
    }

    /// One request as bytes, its connection closed after the answer; with the first customer's token where one is due.
    pub fn request(self, place: &Workplace) -> anyhow::Result<String> {
        match self {
            Self::Plain | Self::Aggregate => {
                let path = self.path();
                Ok(format!(
                    "GET {path}?n=0 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
                ))
            }
            Self::Jwt => Ok(get(&first_token(place)?)),
            Self::Transfer => Ok(transfer(&first_token(place)?)),
        }
    }

    /// A request the gateway has to refuse in this scenario, and with what: proof that the chain is in the way.
    pub fn refused(self) -> Option<(String, u16)> {
        match self {
            Self::Plain | Self::Aggregate => None,
            Self::Jwt => Some((get("e30.e30.e30"), 401)),
            Self::Transfer => Some((transfer("e30.e30.e30"), 401)),
        }
    }

    /// Whether every request leaves a line in `audit.jsonl`.
    pub fn is_audited(self) -> bool {
        self == Self::Transfer
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Jwt => "jwt",
            Self::Transfer => "transfer",
            Self::Aggregate => "aggregate",
        })
    }
}

fn first_token(place: &Workplace) -> anyhow::Result<String> {
    let tokens = fs::read_to_string(place.file(TOKENS))?;
    Ok(tokens.lines().next().context("no tokens")?.to_owned())
}

fn get(token: &str) -> String {
    format!("GET /plain HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n")
}

fn transfer(token: &str) -> String {
    format!(
        "POST /transfers HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: \
         application/json\r\nOrigin: {ORIGIN}\r\nX-Client: android\r\nContent-Length: {}\r\n\r\n{TRANSFER}",
        TRANSFER.len()
    )
}

/// A window of five and a half hours, like the bank's night, that begins more than nine hours from now in Seoul: the
/// policy is judged all the time and never refuses.
fn hours_far_from_now() -> anyhow::Result<String> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let hour_in_seoul = seconds / 3600 + 9;
    Ok(format!(
        "{:02}:30-{:02}:00",
        (hour_in_seoul + 10) % 24,
        (hour_in_seoul + 16) % 24
    ))
}
