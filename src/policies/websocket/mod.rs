//! `websocket`: lets callers open sockets (RFC 6455) through a route.
//!
//! ```yaml
//! websocket: true      # without it an upgrade is not asked for on, and the request is one like any other
//! ```
//!
//! A browser opens sockets for any page, with the cookies of the one that is asked (RFC 6455 §10.2). So where a request names
//! its `Origin`, that is the host it asks, or one that the route's `cors` names; else `403 origin-not-allowed`. Of the host itself
//! either scheme will do, as TLS may have ended before the gate, unless `cors` names an origin of that host: then nothing but
//! what is named, scheme and all (RFC 6454 §5). `origins: '*'` counts where `auth` is `none` alone.
//!
//! What is no handshake is answered `400 websocket-invalid`, another version of it `426 websocket-version`; an upstream that
//! switches without having read the key, `502 upstream-broken`. An upstream's answer other than 101 goes to the caller as any.
//! A socket is judged again as long as it is open: what would refuse it by then closes it with 1008 and the code of the refusal.
//! Sockets are opened over HTTP/1.1; a socket in which nothing moves is closed after the upstream's `timeout.idle`.

pub mod frames;
pub mod handshake;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Draft, Inherit, Kind, Scope, cors};
use crate::conf::{Describe, Node, Read, Schema, Schemas};
use crate::engine::{Act, Answer, Denial, DenialKind, Facts, Policy, Stage, Verdict, Why};

/// `websocket` on a route.
pub const KIND: Kind = Kind {
    name: "websocket",
    inherit: Inherit::Never,
    compile,
    schema,
};

fn schema(schemas: &mut Schemas) -> Schema {
    bool::schema(schemas).about("Whether callers may open sockets (RFC 6455).")
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    if bool::read(node, scope.load) != Some(true) {
        return Vec::new();
    }
    let named = scope.cors.map(cors::origins).unwrap_or_default();
    vec![Draft {
        name: Arc::from(KIND.name),
        stage: Stage::Screen,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(WebSocket {
            any: named.any && !scope.has_auth,
            origins: named.exact,
        }),
    }]
}

#[derive(Debug)]
struct WebSocket {
    origins: Vec<HeaderValue>,
    any: bool,
}

impl WebSocket {
    fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        if self.any || self.origins.iter().any(|listed| listed == origin) {
            return true;
        }
        let is_own = |origin: &str| host.is_some_and(|host| is_of(origin, host));
        let names_own = self.origins.iter().any(|listed| listed.to_str().is_ok_and(is_own));
        is_own(origin) && !names_own
    }
}

/// Whether the origin, as browsers spell it, is that of the `Host`.
fn is_of(origin: &str, host: &str) -> bool {
    let (authority, own_port) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) => (authority, ":80"),
        _ => return false,
    };
    let plain = |text: &str| text.strip_suffix(own_port).unwrap_or(text).to_ascii_lowercase();
    !authority.is_empty() && plain(authority) == plain(host)
}

impl Policy for WebSocket {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let request = &facts.request;
        if request.headers.first(&header::UPGRADE).is_none() {
            return Verdict::pass(Why::NotConcerned);
        }
        let is_allowed = match request.headers.first(&header::ORIGIN) {
            // No browser leaves it out (RFC 6455 §4.1).
            None => true,
            Some(_) => request
                .header(&header::ORIGIN)
                .is_some_and(|origin| self.allows(origin, request.header(&header::HOST))),
        };
        if is_allowed {
            return Verdict::add(Act::WebSocket);
        }
        let detail = "pages of this origin may not open sockets here";
        let denial = Denial::new(DenialKind::Refuse, StatusCode::FORBIDDEN, "origin-not-allowed", detail);
        Verdict::deny(denial, Why::Lacking)
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        vec![header::HOST, header::ORIGIN, header::UPGRADE]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn compares_the_scheme_where_the_own_origin_is_named() {
        let named = |origins: &[&'static str]| WebSocket {
            origins: origins.iter().map(|origin| HeaderValue::from_static(origin)).collect(),
            any: false,
        };
        let (plain, encrypted) = ("http://bank.example", "https://bank.example");
        for (origins, origin, is_allowed) in [
            (&[][..], plain, true),
            (&[], encrypted, true),
            (&["https://app.example"], plain, true),
            (&["https://bank.example"], encrypted, true),
            (&["https://bank.example"], plain, false),
            (&["http://bank.example"], encrypted, false),
            (&["https://bank.example", "http://bank.example"], plain, true),
        ] {
            let allows = named(origins).allows(origin, Some("bank.example"));
            assert_eq!(allows, is_allowed, "{origins:?} {origin}");
        }
    }

    #[test]
    fn tells_the_own_origin_from_others() {
        for (origin, host, is_own) in [
            ("https://bank.example", "bank.example", true),
            ("https://bank.example", "Bank.Example:443", true),
            ("http://bank.example", "bank.example:80", true),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("https://[::1]:8443", "[::1]:8443", true),
            ("https://bank.example", "bank.example:80", false),
            ("https://bank.example:8443", "bank.example", false),
            ("https://bank.example", "bank.example:8443", false),
            ("https://bank.example.evil.example", "bank.example", false),
            ("https://evil-bank.example", "bank.example", false),
            ("https://evil.example/bank.example", "bank.example", false),
            ("ftp://bank.example", "bank.example", false),
            ("bank.example", "bank.example", false),
            ("https://", "", false),
            ("null", "bank.example", false),
        ] {
            assert_eq!(is_of(origin, host), is_own, "{origin} {host}");
        }
    }
}
