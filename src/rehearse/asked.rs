//! The request that is asked about, read as the gateway reads one from the wire.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::conf::{Load, Read};
use crate::engine::{Headers, RequestView};
use crate::policies::freeze::Held;
use crate::policies::revocation;
use crate::routing::{normalise_host, normalise_path};
use crate::snapshot::Snapshot;

/// A request, with what is assumed about it.
#[derive(Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The host, normalised.
    pub host: String,
    /// The path, normalised.
    pub path: String,
    /// The query, as written.
    pub query: String,
    /// The headers.
    pub headers: Sent,
    /// Where it comes from.
    pub address: IpAddr,
    /// When.
    pub at: Timestamp,
    /// What the caller can prove; nothing for an anonymous one.
    pub claims: Option<Map<String, Value>>,
    /// What operators have frozen; nothing unless said.
    pub frozen: Held,
    /// What they have revoked; nothing unless said.
    pub revoked: Arc<revocation::Held>,
}

/// Headers that somebody wrote, and whether a credential is assumed beside them.
#[derive(Debug, Default)]
pub struct Sent(HeaderMap, bool);

impl Headers for Sent {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.get_all(name).iter().nth(1).is_some()
    }

    fn all(&self, name: &HeaderName) -> SmallVec<[&[u8]; 2]> {
        self.0.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }

    fn credential(&self) -> Option<&'static str> {
        self.1.then_some("bearer")
    }
}

impl Asked {
    /// Reads `POST /transfers` or `GET https://bank.example/cards?page=2`.
    pub fn new(request: &str, address: IpAddr, at: Timestamp) -> anyhow::Result<Self> {
        let wanted = || anyhow!("`{request}` is not a request such as `POST /transfers`");
        let (method, target) = request.trim().split_once(' ').ok_or_else(wanted)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| wanted())?;
        let target = target.trim();
        let (authority, target) = match target.split_once("://") {
            Some((scheme, rest)) if ["http", "https"].contains(&scheme) => {
                let (authority, _) = rest.split_once(['/', '?']).unwrap_or((rest, ""));
                let target = rest.strip_prefix(authority).unwrap_or_default();
                (authority, target)
            }
            _ => ("localhost", target),
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = match path {
            "" if authority != "localhost" => "/",
            path => path,
        };
        let path =
            normalise_path(path.as_bytes()).map_err(|fault| anyhow!("`{path}` would be answered 400: {fault}"))?;
        let mut asked = Self {
            method,
            host: String::new(),
            path: path.into_owned(),
            query: query.to_owned(),
            headers: Sent::default(),
            address,
            at,
            claims: None,
            frozen: Held::default(),
            revoked: Arc::default(),
        };
        asked.set_host(authority)?;
        Ok(asked)
    }

    /// Adds a header line, `name: value`.
    pub fn add_header(&mut self, line: &str) -> anyhow::Result<()> {
        let wanted = || anyhow!("`{line}` is not a header such as `x-client: ios`");
        let (name, value) = line.split_once(':').ok_or_else(wanted)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wanted())?;
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| wanted())?;
        if name == header::AUTHORIZATION {
            bail!("no token can be verified here: say what it proves with `--as`");
        }
        if name == header::HOST {
            return self.set_host(value.to_str().map_err(|_| wanted())?);
        }
        self.headers.0.append(name, value);
        Ok(())
    }

    /// Takes away what the gate takes away before it decides.
    pub fn strip(&mut self, snapshot: &Snapshot) {
        for name in snapshot.forbidden(&self.headers.0) {
            self.headers.0.remove(name);
        }
    }

    /// Makes the caller hold `claims`. `auth_age` stands for an `auth_time` so long before the request.
    pub fn hold(&mut self, mut claims: Map<String, Value>) -> anyhow::Result<()> {
        if let Some(age) = claims.remove("auth_age") {
            if claims.contains_key("auth_time") {
                bail!("`auth_age` and `auth_time` say the same: keep one");
            }
            let age = age.as_str().and_then(duration);
            let age = age.context("`auth_age` is not a duration such as `1m`")?;
            let time = self.at.checked_sub(SignedDuration::try_from(age)?)?;
            claims.insert("auth_time".to_owned(), time.as_second().into());
        }
        if claims.get("sub").and_then(Value::as_str).is_none_or(str::is_empty) {
            bail!("the claims have no `sub`: no authenticator would accept them");
        }
        self.claims = Some(claims);
        self.headers.1 = true;
        Ok(())
    }

    /// Makes the request come from the client of that name, by the headers that tell it.
    pub fn come_from(&mut self, client: &str, snapshot: &Snapshot) -> anyhow::Result<()> {
        if snapshot.clients.get(client).is_none() {
            let known: Vec<&str> = snapshot.clients.names().map(|name| &**name).collect();
            bail!("there is no client `{client}`, only: {}", known.join(", "));
        }
        for (name, value) in snapshot.clients.headers_of(client) {
            self.headers.0.insert(name, HeaderValue::from_str(value)?);
        }
        let taken_for = &snapshot.clients.of(&self.view()).name;
        if **taken_for != *client {
            bail!("with these headers the caller is taken for `{taken_for}`, not for `{client}`");
        }
        Ok(())
    }

    /// The request as the engine sees it.
    pub fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
        }
    }

    fn set_host(&mut self, authority: &str) -> anyhow::Result<()> {
        let fault = |fault| anyhow!("`{authority}` would be answered 400: {fault}");
        self.host = normalise_host(authority).map_err(fault)?.into_owned();
        self.headers.0.insert(header::HOST, HeaderValue::from_str(authority)?);
        Ok(())
    }
}

/// Reads claims from the text of a YAML or JSON file.
pub fn read_claims(text: &str) -> anyhow::Result<Map<String, Value>> {
    // By way of a mapping, which refuses a claim that stands twice.
    let members: serde_yaml::Mapping = serde_yaml::from_str(text)?;
    match serde_json::to_value(members)? {
        Value::Object(claims) => Ok(claims),
        _ => bail!("the claims are not a map"),
    }
}

fn duration(text: &str) -> Option<Duration> {
    let load = Load::new();
    let node = load.text("auth_age", text)?;
    Duration::read(&node, &load)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn asked(request: &str) -> anyhow::Result<Asked> {
        Asked::new(request, IpAddr::from([127, 0, 0, 1]), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn reads_a_request_as_from_the_wire() {
        let read = |request: &str| {
            asked(request)
                .map(|asked| (asked.host, asked.path, asked.query))
                .unwrap()
        };
        let three = |host: &str, path: &str, query: &str| (host.to_owned(), path.to_owned(), query.to_owned());
        assert_eq!(read("GET //a/%7Eb?c=d"), three("localhost", "/a/~b", "c=d"));
        assert_eq!(read("GET https://Bank.Example:8443/a"), three("bank.example", "/a", ""));
        assert_eq!(read("GET https://bank.example?x=/"), three("bank.example", "/", "x=/"));
        for wrong in ["/a", "GET", "G(T /a", "GET a", "GET /a/../b", "GET http:///a"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_an_authentication_back_from_the_request() {
        let mut asked = asked("GET /a").unwrap();
        asked.hold(read_claims("{ sub: u1, auth_age: 1m }").unwrap()).unwrap();
        let claims = asked.claims.as_ref().unwrap();
        assert_eq!(claims.get("auth_time").unwrap(), &Value::from(-60));
        for wrong in [
            "{ sub: '' }",
            "{ sub: u1, auth_age: 5 }",
            "{ sub: u1, auth_age: 1m, auth_time: 1 }",
        ] {
            assert!(asked.hold(read_claims(wrong).unwrap()).is_err(), "{wrong}");
        }
        assert!(read_claims("a: 1\na: 2").is_err() && read_claims("[a]").is_err());
    }

    #[test]
    fn takes_no_token() {
        assert!(asked("GET /a").unwrap().add_header("Authorization: Bearer x").is_err());
    }
}
