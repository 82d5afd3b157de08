#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::*;
use crate::conf::{Load, Named, Read};
use crate::engine::{Client, Headers, Params, Principal, RequestView};
use crate::policies::access::Calendars;
use Truth::{False, True, Unknown};

mod hostile;
mod mistakes;
mod strangers;

fn names<'a>(load: &'a Load, calendars: &'a Calendars, clients: &'a Clients) -> Names<'a> {
    Names {
        load,
        calendars,
        clients,
        clock: calendars.clock(None, load),
    }
}

fn clients() -> Clients {
    let load = Load::new();
    let yaml = "{ ios: { header: { x-client: ios } }, web: { default: true } }";
    let node = load.text("c.yaml", yaml).unwrap();
    Clients::compile(&Named::read(&node, &load).unwrap(), &load)
}

/// What is wrong with an expression that stands, single-quoted, at column 5 of a file.
fn mistakes(text: &str) -> Vec<String> {
    let load = Load::new();
    let yaml = format!("if: '{}'\n", text.replace('\'', "''"));
    let node = load.text("e.yaml", &yaml).unwrap();
    let (calendars, clients) = (Calendars::default(), clients());
    let compiled = Expression::compile(node.get("if").unwrap(), names(&load, &calendars, &clients));
    let found: Vec<String> = load.into_findings(None).iter().map(ToString::to_string).collect();
    assert_eq!(compiled.is_none(), !found.is_empty(), "{text}: {found:?}");
    found
}

fn expression(text: &str) -> Expression {
    assert_eq!(mistakes(text), [""; 0], "{text}");
    let load = Load::new();
    let node = load.text("e.yaml", "if: x\n").unwrap();
    let mut node = node.get("if").unwrap().clone();
    node.value = crate::conf::Value::Scalar {
        text: text.to_owned(),
        plain: false,
    };
    let (calendars, clients) = (Calendars::default(), clients());
    Expression::compile(&node, names(&load, &calendars, &clients)).unwrap()
}

struct Lines(Vec<(&'static str, &'static [u8])>);

impl Headers for Lines {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        let found = self.0.iter().find(|(known, _)| *known == name.as_str());
        found.map(|(_, value)| *value)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.iter().filter(|(known, _)| *known == name.as_str()).count() > 1
    }
}

/// A request to `/customers/{customer}` by `c1`, unless a test says otherwise.
struct Asked {
    at: &'static str,
    method: Method,
    address: &'static str,
    param: &'static str,
    query: &'static str,
    headers: Lines,
    client: Client,
    claims: Option<Json>,
}

impl Asked {
    fn with(claims: Json) -> Self {
        Self {
            at: "2026-11-24T12:30:15.25Z",
            method: Method::GET,
            address: "192.0.2.1",
            param: "c1",
            query: "",
            headers: Lines(Vec::new()),
            client: Client {
                name: "web".into(),
                index: 1,
            },
            claims: Some(claims),
        }
    }

    fn plain() -> Self {
        Self::with(json!({"sub": "c1"}))
    }

    fn facts<T>(&self, then: impl FnOnce(&Facts<'_>) -> T) -> T {
        let principal = self.claims.clone().map(|claims| {
            let Json::Object(claims) = claims else { panic!() };
            Arc::new(Principal {
                authenticator: "a".into(),
                issuer: "i".into(),
                subject: "c1".into(),
                scopes: Default::default(),
                roles: Default::default(),
                claims: claims.into(),
                auth_time: None,
                acr: None,
                expires: None,
                token_id: None,
                identity: Principal::frame("a", "i", "c1"),
            })
        });
        let names = [Arc::from("customer")];
        let now: Timestamp = self.at.parse().unwrap();
        then(&Facts {
            now,
            window_at: now,
            address: self.address.parse().unwrap(),
            client: &self.client,
            request: RequestView {
                method: &self.method,
                host: "bank.example",
                path: "/customers/c1",
                query: self.query,
                headers: &self.headers,
            },
            params: Params {
                names: &names,
                values: [self.param].into_iter().collect(),
            },
            principal,
        })
    }

    fn judge(&self, text: &str) -> Truth {
        self.facts(|facts| expression(text).judge(facts))
    }

    fn why(&self, text: &str) -> String {
        let why = self.facts(|facts| expression(text).why(facts));
        why.unwrap_or_default()
    }
}

#[test]
fn compares_what_the_caller_proves_with_what_is_asked_for() {
    let own = "claims.sub == path.customer";
    assert_eq!(Asked::plain().judge(own), True);
    assert_eq!(Asked::with(json!({"sub": "c2"})).judge(own), False);
    assert_eq!(
        Asked {
            param: "c%31",
            ..Asked::plain()
        }
        .judge(own),
        True
    );
    assert_eq!(
        Asked {
            param: "%FF",
            ..Asked::plain()
        }
        .judge(own),
        Unknown
    );
    assert_eq!(
        Asked {
            claims: None,
            ..Asked::plain()
        }
        .judge(own),
        Unknown
    );
    assert_eq!(
        Asked {
            claims: None,
            ..Asked::plain()
        }
        .judge("has(claims.sub)"),
        False
    );
}

#[test]
fn reads_each_variable() {
    let asked = Asked {
        method: Method::HEAD,
        address: "::ffff:10.1.2.3",
        query: "a=1&b=x%20y&b=z&c=%FF&d=q+r",
        headers: Lines(vec![("x-a", b"v"), ("x-b", b"1"), ("x-b", b"2"), ("x-c", b"\xff")]),
        ..Asked::with(json!({
            "sub": "c1", "n": 5, "f": 0.5, "deep": {"er": {"x": true}}, "https://a.b/c": {"d": "e"}, "none": null,
            "list": ["a", "b"], "objects": [{"id": "c1", "roles": ["owner"]}, {"id": "c2", "roles": []}],
            "deep.er": "exact",
        }))
    };
    for (text, expected) in [
        ("request.method == 'GET'", True),
        (
            "request.host == 'bank.example' && request.path.startsWith('/customers/')",
            True,
        ),
        (
            "ip == '10.1.2.3' && inNetwork(ip, '10.0.0.0/8') && !inNetwork(ip, '10.0.0.0/16')",
            True,
        ),
        ("client == 'web' && client != 'ios' && client in ['web']", True),
        ("request.headers['x-a'] == 'v' && request.headers['X-A'] == 'v'", True),
        ("request.headers['x-b'] == '1'", Unknown),
        ("request.headers['x-c'] != 'v'", Unknown),
        ("request.headers['x-d'] != 'v'", Unknown),
        (
            "'x-b' in request.headers && !('x-d' in request.headers) && has(request.headers.host) == false",
            True,
        ),
        ("query.a == '1' && query['d'] == 'q r' && int(query.a) < 2", True),
        ("query.b == 'z'", Unknown),
        ("query.c == 'z'", Unknown),
        ("query.e == 'z'", Unknown),
        ("has(query.b) && has(query.c) && !has(query.e) && 'a' in query", True),
        ("has(path.customer) && !has(path.account)", True),
        (
            "claims.n == 5 && claims.n == 5.0 && claims.f < claims.n && claims.n in [4, 5]",
            True,
        ),
        ("claims.deep.er == 'exact' && has(claims.deep.er)", True),
        ("claims.deep['er'].x", True),
        ("claims['https://a.b/c'].d == 'e'", True),
        ("has(claims.none) || 'none' in claims", False),
        ("claims.none == 'x'", Unknown),
        (
            "'a' in claims.list && size(claims.list) == 2 && claims.list[1] == 'b' && claims.list == ['a', 'b']",
            True,
        ),
        ("claims.list[2] == 'b'", Unknown),
        (
            "claims.objects.exists(o, o.id == path.customer && 'owner' in o.roles)",
            True,
        ),
        ("claims.objects.all(o, has(o.id) && !has(o.name))", True),
        ("claims.objects.all(o, o.name == 'x')", Unknown),
        ("claims.objects.exists_one(o, o.id == 'c2')", True),
        (
            "size(claims.objects.filter(o, size(o.roles) > 0).map(o, o.id)) == 1",
            True,
        ),
        ("['x', 'y'].exists(x, claims.list.exists(y, x == y))", False),
        (
            "claims.sub.matches('^c[0-9]$') && matches(claims.sub, '1') && !claims.sub.matches('^[0-9]')",
            True,
        ),
        ("claims.n.matches('5')", Unknown),
        ("string(claims.n) == '5' && int('7') + claims.n == 12", True),
        ("claims.n ? true : false", Unknown),
        ("claims.list ? true : false", Unknown),
        ("claims.n", Unknown),
        ("claims.n > 'a' || true", True),
        ("!(claims.nobody == 'x')", Unknown),
        ("claims.nobody == 'x' && false", False),
        ("claims.n == 5 ? claims.sub == 'c1' : false", True),
    ] {
        assert_eq!(asked.judge(text), expected, "{text}: {}", asked.why(text));
    }
}

#[test]
fn tells_the_time_on_the_clocks_of_the_calendar() {
    let load = Load::new();
    let yaml = "{ seoul: { timezone: Asia/Seoul }, new-york: { timezone: America/New_York } }";
    let node = load.text("c.yaml", yaml).unwrap();
    let now: Timestamp = "2026-11-24T15:30:15.25Z".parse().unwrap();
    let calendars = Calendars::compile(&Named::read(&node, &load).unwrap(), now, false, &load);
    let clients = clients();
    let compile = |calendar: Option<&str>, text: &str| {
        let node = load.text("e.yaml", &format!("'{text}'")).unwrap();
        let named = calendar.map(|name| crate::conf::Spanned {
            value: name.to_owned(),
            place: node.place.clone(),
        });
        let clock = calendars.clock(named.as_ref(), &load);
        Expression::compile(
            &node,
            Names {
                clock,
                ..names(&load, &calendars, &clients)
            },
        )
    };
    let asked = Asked {
        at: "2026-11-24T15:30:15.25Z",
        ..Asked::plain()
    };
    let judge = |calendar, text| asked.facts(|facts| compile(Some(calendar), text).unwrap().judge(facts));
    // A getter without a zone answers in the instant's own offset.
    let seoul = "now.getHours() == 0 && now.getMinutes() == 30 && now.getSeconds() == 15 && now.getDate() == 25 \
                 && now.getMonth() == 10 && now.getFullYear() == 2026 && now.getDayOfWeek() == 3 \
                 && now.getMilliseconds() == 250 && now.getDayOfMonth() == 24 && now.getDayOfYear() == 328";
    assert_eq!(judge("seoul", seoul), True);
    assert_eq!(judge("new-york", "now.getHours() == 10 && now.getDate() == 24"), True);
    assert_eq!(judge("seoul", "now == timestamp(\"2026-11-24T15:30:15.25Z\")"), True);
    assert_eq!(judge("seoul", "now < timestamp(\"2026-11-25T00:30:16+09:00\")"), True);
    assert_eq!(judge("seoul", "now - duration(\"1h\") < timestamp(1795534215)"), True);
    assert_eq!(judge("seoul", "(now - timestamp(0)).getHours() > 400000"), True);
    assert!(compile(None, "now.getHours() == 0").is_none());
    assert!(compile(None, "claims.sub == \"c1\"").is_some());
    assert!(compile(Some("soul"), "now.getHours() == 0").is_some());
    let found: Vec<String> = load.into_findings(None).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "e.yaml:1:1: unknown calendar `soul`, did you mean `seoul`?",
            "e.yaml:1:2: `now` stands on a calendar's clocks: say which with the policy's `calendar:`",
        ]
    );
}

#[test]
fn has_no_opinion_on_numbers_it_cannot_compare_exactly() {
    let huge = "{\"a\": 18446744073709551617, \"b\": 18446744073709551616, \"c\": 18446744073709551615, \"d\": 1e300, \
                \"e\": -9223372036854775808, \"f\": 9007199254740993, \"g\": 9007199254740993.0}";
    let asked = Asked::with(serde_json::from_str(huge).unwrap());
    for (text, expected) in [
        ("claims.a == claims.b", Unknown),
        ("claims.d > 5", Unknown),
        (
            "claims.c == 18446744073709551615u && claims.c > 5 && claims.c != -1",
            True,
        ),
        ("claims.c + 1u > 5u", Unknown),
        ("claims.e - 1 < 0", Unknown),
        ("-claims.e > 0", Unknown),
        ("claims.e / -1 > 0", Unknown),
        (
            "claims.e < 0 && claims.f == 9007199254740993 && claims.f != 9007199254740992",
            True,
        ),
        ("claims.g == 9007199254740993", Unknown),
        ("claims.f % (claims.f - claims.f) == 0", Unknown),
        ("claims.f / (claims.f - claims.f) == 0", Unknown),
    ] {
        assert_eq!(asked.judge(text), expected, "{text}");
    }
}

#[test]
fn says_why_nothing_came_out_without_a_value() {
    let asked = Asked {
        query: "a=secret&b=1&b=2&c=%FF",
        headers: Lines(vec![("x-b", b"1"), ("x-b", b"2")]),
        ..Asked::with(json!({"n": "secret", "list": vec![1; 101], "map": {"k": 1}, "deep": null}))
    };
    for (text, why) in [
        ("claims.sub == 'x'", "no such key: claims.sub"),
        ("claims.deep.er == 'x'", "no such key: claims.deep.er"),
        (
            "claims.list == [1]",
            "claims.list is too large to be judged, or a number too large to be exact",
        ),
        ("query.d == 'x'", "no such key: query.d"),
        ("query.b == 'x'", "query.b is sent 2 times"),
        ("query.c == 'x'", "query.c is unreadable"),
        ("int(query.a) == 1", "`int` cannot read its argument"),
        ("request.headers['x-a'] == 'x'", "no such key: request.headers.x-a"),
        (
            "request.headers['x-b'] == 'x'",
            "the header x-b is repeated or unreadable",
        ),
        ("claims.map[query.a] == 1", "no such key"),
        ("claims.map.exists(k, k > 1)", "`>` does not take string and int"),
        ("claims.n > 5", "`>` does not take string and int"),
        ("claims.n", "neither true nor false came out"),
        ("claims.n == 'secret'", ""),
    ] {
        assert_eq!(asked.why(text), why, "{text}");
    }
    let nobody = Asked {
        claims: None,
        ..Asked::plain()
    };
    assert_eq!(nobody.why("claims.sub == 'x'"), "the caller is not known");
}

#[test]
fn knows_exactly_what_it_reads() {
    let reading = expression(
        "claims.a.b == claims['c d'] && has(claims.e) && 'f' in claims && query.g == query['h'] && has(query.i) \
         && request.headers['X-J'] == 'x' && 'k' in request.headers && claims.l.exists(m, m.n == claims.o)",
    );
    assert_eq!(reading.claims().collect::<Vec<_>>(), ["a.b", "c d", "e", "f", "l", "o"]);
    assert_eq!(reading.query().collect::<Vec<_>>(), ["g", "h", "i"]);
    assert_eq!(reading.headers().collect::<Vec<_>>(), ["x-j", "k"]);
    assert!(reading.is_about_caller() && !reading.reads_now());
    let reading = expression("path.a == path.b && path.b == path.a && has(path.c) && path.c == 'x'");
    let params: Vec<&str> = reading.params().iter().map(|(name, _)| &**name).collect();
    assert_eq!(params, ["a", "b"]);
    assert_eq!(expression("1 + 1 == 2 && 'a'.matches('a')").constant(), Some(True));
    assert_eq!(expression("request.path == 'x'").constant(), None);
}
