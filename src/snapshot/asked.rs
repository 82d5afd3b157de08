//! A request that is asked about, read as the gateway reads one from the wire, with what is assumed of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::{Route, Snapshot};
use crate::conf::{Load, Read};
use crate::engine::{AuthenticatorId, Headers, LimitId, RequestView};
use crate::policies::authn::{Credential, Source};
use crate::policies::clients::Clients;
use crate::policies::freeze::Held;
use crate::policies::revocation;
use crate::routing::{Found, normalise_host, normalise_path};

/// Stands where a token would.
const TOKEN: &str = "assumed";
const BEARER: HeaderValue = HeaderValue::from_static("Bearer assumed");
const AT: HeaderName = HeaderName::from_static("gwanmun-at");

/// A request, with what is assumed about it.
#[derive(Debug, Clone)]
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
    /// Who says so; the route's first authenticator unless said.
    pub via: Option<AuthenticatorId>,
    /// What operators have frozen; nothing unless said.
    pub frozen: Held,
    /// What they have revoked; nothing unless said.
    pub revoked: Arc<revocation::Held>,
    /// The limits without room; none unless said.
    pub exhausted: Vec<LimitId>,
}

/// Why something cannot be asked, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AskedFault(String);

fn fault<T>(message: impl Into<String>) -> Result<T, AskedFault> {
    Err(AskedFault(message.into()))
}

/// Headers that somebody wrote, and the word for a credential that is assumed beside them.
#[derive(Debug, Clone, Default)]
pub struct Sent(HeaderMap, Option<&'static str>);

impl Sent {
    /// As a map.
    pub fn map(&self) -> &HeaderMap {
        &self.0
    }
}

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
        self.1
    }
}

impl Asked {
    /// Reads `POST /transfers` or `GET https://bank.example/cards?page=2`.
    pub fn new(request: &str, address: IpAddr, at: Timestamp) -> Result<Self, AskedFault> {
        let wanted = || AskedFault(format!("`{request}` is not a request such as `POST /transfers`"));
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
        let path = normalise_path(path.as_bytes())
            .map_err(|fault| AskedFault(format!("`{path}` would be answered 400: {fault}")))?;
        let mut asked = Self {
            method,
            host: String::new(),
            path: path.into_owned(),
            query: query.to_owned(),
            headers: Sent::default(),
            address,
            at,
            claims: None,
            via: None,
            frozen: Held::default(),
            revoked: Arc::default(),
            exhausted: Vec::new(),
        };
        asked.set_host(authority)?;
        Ok(asked)
    }

    /// Adds a header line, `name: value`.
    pub fn add_header(&mut self, line: &str) -> Result<(), AskedFault> {
        let wanted = || AskedFault(format!("`{line}` is not a header such as `x-client: ios`"));
        let (name, value) = line.split_once(':').ok_or_else(wanted)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wanted())?;
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| wanted())?;
        if name == header::AUTHORIZATION {
            return fault("no token can be verified here: say what it proves by the claims of the caller");
        }
        if name == header::HOST {
            return self.set_host(value.to_str().map_err(|_| wanted())?);
        }
        self.headers.0.append(name, value);
        Ok(())
    }

    /// Takes away what the gate takes away before it decides.
    pub fn strip(&mut self, snapshot: &Snapshot) {
        for name in snapshot.forbidden(&self.headers.0, false) {
            self.headers.0.remove(name);
        }
    }

    /// Makes the caller hold `claims`. `auth_age` stands for an `auth_time` so long before the request.
    pub fn hold(&mut self, mut claims: Map<String, Value>) -> Result<(), AskedFault> {
        if let Some(age) = claims.remove("auth_age") {
            if claims.contains_key("auth_time") {
                return fault("`auth_age` and `auth_time` say the same: keep one");
            }
            let age = age.as_str().and_then(duration);
            let wanted = || AskedFault("`auth_age` is not a duration such as `1m`".to_owned());
            let age = SignedDuration::try_from(age.ok_or_else(wanted)?).map_err(|_| wanted())?;
            let time = self.at.checked_sub(age).map_err(|_| wanted())?;
            claims.insert("auth_time".to_owned(), time.as_second().into());
        }
        if claims.get("sub").and_then(Value::as_str).is_none_or(str::is_empty) {
            return fault("the claims have no `sub`: no authenticator would accept them");
        }
        self.claims = Some(claims);
        self.headers.1 = Some(Source::Authorization.word());
        Ok(())
    }

    /// Makes the caller one whom nobody knows.
    pub fn forget(&mut self) {
        self.claims = None;
        self.headers.1 = None;
    }

    /// Makes the request come from the client of that name, by the headers that tell it.
    pub fn come_from(&mut self, client: &str, clients: &Clients) -> Result<(), AskedFault> {
        if clients.get(client).is_none() {
            let known: Vec<&str> = clients.names().map(|name| &**name).collect();
            return fault(format!("there is no client `{client}`, only: {}", known.join(", ")));
        }
        for (name, value) in clients.headers_of(client) {
            let value = HeaderValue::from_str(value).map_err(|error| AskedFault(error.to_string()))?;
            self.headers.0.insert(name, value);
        }
        let taken_for = &clients.of(&self.view()).name;
        if **taken_for != *client {
            return fault(format!(
                "with these headers the caller is taken for `{taken_for}`, not for `{client}`"
            ));
        }
        Ok(())
    }

    /// Brings the request into the form in which it comes to a decision under `snapshot`: what the gate takes away is gone,
    /// and the token stands where an authenticator of its route looks for one.
    pub fn settle(&mut self, snapshot: &Snapshot) -> Result<(), AskedFault> {
        self.address = self.address.to_canonical();
        for name in [&header::CONTENT_LENGTH, &header::TRANSFER_ENCODING] {
            if self.headers.0.contains_key(name) {
                return fault(format!("`{name}` speaks of a body, and nothing here has one"));
            }
        }
        if self.headers.0.contains_key(AT) {
            return fault(format!(
                "`{AT}` is for the rehearsing gateway: say the instant beside the request"
            ));
        }
        if let Some(name) = snapshot
            .trusted_header()
            .filter(|name| self.headers.0.contains_key(*name))
        {
            return fault(format!("`{name}` is for proxies: say the address beside the request"));
        }
        self.strip(snapshot);
        let route = match snapshot
            .router
            .find(&self.method, &self.host, &self.path, &self.headers)
        {
            Found::Route(route, _) => Some(route.clone()),
            Found::MethodNotAllowed(_) | Found::NotFound => None,
        };
        let sources = route.as_deref().map_or(&[][..], |route: &Route| &route.token_sources);
        self.headers.1 = None;
        if let Credential::Token { source, .. } = Credential::of(&self.view(), sources) {
            let place = sources.get(source).map_or("a header", Source::word);
            return fault(format!(
                "there is a token in the request ({place}), which cannot be verified here: say what it proves by the claims of the caller"
            ));
        }
        if self.claims.is_none() {
            return Ok(());
        }
        let is_named = |(id, _): &(AuthenticatorId, _)| Some(*id) == self.via;
        let via = snapshot.defined.authenticators.iter().find(is_named);
        let source = match via {
            Some((_, authenticator)) => authenticator.sources().first().cloned(),
            None => sources.first().cloned(),
        };
        self.put_token(source.unwrap_or(Source::Authorization));
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

    fn put_token(&mut self, source: Source) {
        let headers = &mut self.headers.0;
        match source {
            Source::Authorization => {
                headers.insert(header::AUTHORIZATION, BEARER);
            }
            Source::Header(name) | Source::KeyHeader(name) => {
                headers.insert(name, HeaderValue::from_static(TOKEN));
            }
            Source::Cookie(name) => {
                if let Ok(value) = HeaderValue::try_from(format!("{name}={TOKEN}")) {
                    headers.append(header::COOKIE, value);
                }
            }
            Source::Query(name) | Source::KeyQuery(name) => {
                let and = if self.query.is_empty() { "" } else { "&" };
                self.query.push_str(&format!("{and}{name}={TOKEN}"));
            }
            // It stands in no header.
            Source::Certificate => self.headers.1 = Some(source.word()),
        }
    }

    fn set_host(&mut self, authority: &str) -> Result<(), AskedFault> {
        let wrong = |fault: &dyn std::fmt::Display| AskedFault(format!("`{authority}` would be answered 400: {fault}"));
        self.host = normalise_host(authority).map_err(|fault| wrong(&fault))?.into_owned();
        let value = HeaderValue::from_str(authority).map_err(|error| wrong(&error))?;
        self.headers.0.insert(header::HOST, value);
        Ok(())
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
    use serde_json::json;

    use super::*;
    use crate::snapshot::{Occasion, compile};

    fn asked(request: &str) -> Result<Asked, AskedFault> {
        Asked::new(request, IpAddr::from([127, 0, 0, 1]), Timestamp::UNIX_EPOCH)
    }

    fn held(claims: Value) -> Result<Asked, AskedFault> {
        let mut asked = asked("GET /a")?;
        asked.hold(claims.as_object().unwrap().clone())?;
        Ok(asked)
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
        let claims = held(json!({ "sub": "u1", "auth_age": "1m" })).unwrap().claims.unwrap();
        assert_eq!(claims.get("auth_time").unwrap(), &Value::from(-60));
        for wrong in [
            json!({ "sub": "" }),
            json!({ "sub": "u1", "auth_age": 5 }),
            json!({ "sub": "u1", "auth_age": "1m", "auth_time": 1 }),
        ] {
            assert!(held(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn takes_no_token() {
        assert!(asked("GET /a").unwrap().add_header("Authorization: Bearer x").is_err());
    }

    const YAML: &str = "\
listen: [{ address: 127.0.0.1:0 }]
trusted_proxies: { from: [10.0.0.0/8], header: x-forwarded-for }
authenticators:
  head: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover } }
  own: { jwt: { issuer: https://b.example, audience: x, algorithms: RS256, jwks: discover, from: { header: x-token } } }
  jar: { jwt: { issuer: https://c.example, audience: x, algorithms: RS256, jwks: discover, from: { cookie: t, query: t } } }
routes:
  a: { match: GET /a, auth: [own, head, jar], reply: { status: 200 } }
  b: { match: GET /b, auth: none, reply: { status: 200 } }
";

    fn snapshot() -> Snapshot {
        let load = Load::new();
        let document = load.text("t.yaml", YAML).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        compile(&document, Occasion { now, at_start: false }, &load).unwrap()
    }

    #[test]
    fn puts_the_token_where_its_authenticator_looks_for_it() {
        let snapshot = snapshot();
        let settled = |via: Option<&str>| {
            let mut asked = held(json!({ "sub": "u1" })).unwrap();
            let authenticators = &snapshot.defined.authenticators;
            asked.via = via.and_then(|name| authenticators.get(name)).map(|(id, _)| id);
            asked.settle(&snapshot).unwrap();
            let header = |name: &str| {
                asked
                    .headers
                    .map()
                    .get(name)
                    .map(|value| value.to_str().unwrap().to_owned())
            };
            (header("authorization"), header("x-token"), header("cookie"))
        };
        assert_eq!(settled(None), (None, Some("assumed".into()), None));
        assert_eq!(settled(Some("head")), (Some("Bearer assumed".into()), None, None));
        assert_eq!(settled(Some("jar")), (None, None, Some("t=assumed".into())));
    }

    #[test]
    fn refuses_what_stands_for_something_else() {
        let snapshot = snapshot();
        for (line, part) in [
            ("content-length: 5", "speaks of a body"),
            ("gwanmun-at: 2026-11-24T12:00Z", "say the instant"),
            ("x-forwarded-for: 192.0.2.1", "say the address"),
            ("x-token: abc", "cannot be verified here"),
            ("cookie: a=b; t=abc", "cannot be verified here"),
        ] {
            let mut asked = asked("GET /a").unwrap();
            asked.add_header(line).unwrap();
            let fault = asked.settle(&snapshot).unwrap_err().to_string();
            assert!(fault.contains(part), "{line}: {fault}");
        }
        assert!(asked("GET /a?t=abc").unwrap().settle(&snapshot).is_err());
        assert!(asked("GET /b?t=abc").unwrap().settle(&snapshot).is_ok());
    }
}
