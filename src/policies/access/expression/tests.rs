#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::conf::{Load, Named, Read};
use crate::engine::{Client, Headers, Params, Principal, RequestView};
use crate::policies::access::Calendars;
use Truth::{False, True, Unknown};

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
                scopes: Vec::new(),
                roles: Vec::new(),
                claims,
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

#[test]
fn points_at_names_that_do_not_exist() {
    for (text, expected) in [
        (
            "clams.sub == 'x'",
            "e.yaml:1:6: unknown variable `clams`, did you mean `claims`?",
        ),
        (
            "ip == '10.0.0.1' && claims.sub == pth.customer",
            "e.yaml:1:42: unknown variable `pth`, did you mean `path`?",
        ),
        (
            "request.methd == 'GET'",
            "e.yaml:1:6: `request` has no `methd`, did you mean `method`?",
        ),
        (
            "x.y == 1",
            "e.yaml:1:6: unknown variable `x`, expected one of `request`, `claims`, `path`, `query`, `ip`, `client`, `now`",
        ),
        (
            "claims.sub.startWith('x')",
            "e.yaml:1:17: unknown function `startWith`, did you mean `startsWith`?",
        ),
        (
            "math.least(1, 2) == 1",
            "e.yaml:1:11: unknown function `least`, expected one of `size`, `contains`",
        ),
        (
            "claims.l.exists(item, itm == 1)",
            "e.yaml:1:28: unknown variable `itm`, did you mean `item`?",
        ),
        ("client == 'ipad'", "e.yaml:1:16: unknown client `ipad`"),
        (
            "client in ['web', 'ois']",
            "e.yaml:1:26: unknown client `ois`, did you mean `ios`?",
        ),
        (
            "string == 'x'",
            "e.yaml:1:6: unknown variable `string`, expected one of",
        ),
        (
            "now.getHours('Asia/Seoul') == 1",
            "e.yaml:1:10: `getHours` is written `now.getHours()`",
        ),
        (
            "timestamp('2026-01-01T00:00:00Z').getHours() == 1",
            "only `now` stands on a clock: write `now.getHours()`",
        ),
        (
            "timestamp('tomorrow') > now",
            "e.yaml:1:16: `tomorrow` is not an instant such as",
        ),
        (
            "now - now > duration('5 parsecs')",
            "e.yaml:1:27: `5 parsecs` is not a duration such as `5m`",
        ),
        (
            "now - now > duration(claims.d)",
            "e.yaml:1:27: `duration` must be written out",
        ),
        (
            "inNetwork(ip, '10.0.0.1/8')",
            "e.yaml:1:20: `10.0.0.1/8` has bits outside its mask; write `10.0.0.0/8`",
        ),
        (
            "inNetwork(ip, '::ffff:10.0.0.0/104')",
            "is an IPv4 network; write `10.0.0.0/8`",
        ),
        ("inNetwork(ip, claims.net)", "a network must be written out"),
        ("inNetwork(query.ip, '10.0.0.0/8')", "`inNetwork` looks at `ip` alone"),
        (
            "claims.a.matches(claims.b)",
            "e.yaml:1:23: a pattern must be written out",
        ),
        (
            "claims.a.matches('(')",
            "e.yaml:1:23: `(` is not a pattern: unclosed group",
        ),
        ("claims.a.matches('(\\\\w{200}){200}')", "is too large a pattern"),
        (
            "request.headers['Authorization'] == 'x'",
            "e.yaml:1:6: `authorization` carries credentials and cannot be read",
        ),
        (
            "'cookie' in request.headers",
            "`cookie` carries credentials and cannot be read",
        ),
        (
            "has(request.headers.cookie)",
            "`cookie` carries credentials and cannot be read",
        ),
        ("request.headers['a b'] == 'x'", "`a b` is not a header name"),
        (
            "request.headers[query.h] == 'x'",
            "`request.headers` is no value of its own",
        ),
        (
            "request.method.a == 'x'",
            "`request.method` is a single value and has no `a`",
        ),
        ("ip.a == 'x'", "`ip` is a single value and has no `a`"),
        ("query.a.b == 'x'", "`query.a` is a single value and has no `b`"),
        ("has(request.path)", "`request.path` is always there"),
        ("claims.l.exists(claims, true)", "`claims` has a meaning here"),
        ("claims.l.exists(1, true)", "e.yaml:1:22: not an expression"),
        ("claims.l.all(x)", "`all` is written `list.all(item, condition)`"),
        ("has(claims)", "invalid argument to has() macro"),
    ] {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(expected), "{text}: {found:?}");
    }
}

#[test]
fn refuses_what_can_never_be() {
    for (text, expected) in [
        ("claims.sub == 5", "e.yaml:1:6: a text never equals a number"),
        ("5 != claims.sub", "a number never equals a text"),
        ("claims.exp == 'x'", "a number never equals a text"),
        ("claims.auth_time > now", "a number has no order with an instant"),
        ("claims.any == now", "never equals an instant"),
        ("request.method == 5", "a text never equals a number"),
        ("ip == 3", "a text never equals a number"),
        ("path.x == 5", "a text never equals a number"),
        ("query.x > 3", "a text has no order with a number"),
        ("request.headers['x'] == true", "a text never equals `true` or `false`"),
        ("claims.amr == 'otp'", "a list never equals a text"),
        ("5 in claims.roles", "a number is never in a list of a text"),
        ("query.x in [1, 2]", "a text is never in a list of a number"),
        ("query.x in 'abc'", "`in` needs a list on its right, found a text"),
        ("has(claims.x) == 'yes'", "`true` or `false` never equals a text"),
        (
            "claims.sub",
            "e.yaml:1:6: a condition is `true` or `false`, and this is a text",
        ),
        ("now", "a condition is `true` or `false`, and this is an instant"),
        ("1 + 1", "a condition is `true` or `false`, and this is a number"),
        ("claims.sub && true", "`&&` needs `true` or `false`, found a text"),
        ("!claims.exp", "`!` needs `true` or `false`, found a number"),
        (
            "claims.sub ? true : false",
            "`? :` needs `true` or `false`, found a text",
        ),
        ("claims.sub + 1 == 2", "`+` cannot be applied to a text and a number"),
        ("claims.exp / 0 == 2", "a division by zero"),
        ("-claims.sub == 2", "`-` cannot be applied to a text"),
        (
            "query.x.all(c, c == 'a')",
            "only lists can be looped over, found a text",
        ),
        ("claims.amr.exists(m, m == 5)", "a text never equals a number"),
        ("claims.amr[0] == 5", "a text never equals a number"),
        ("query.x[0] == 'a'", "a text has no items by a number"),
        (
            "size(claims.exp) == 1",
            "`size` takes a text, a list or a map, found a number",
        ),
        (
            "claims.exp.startsWith('1')",
            "`startsWith` takes a text, found a number",
        ),
        ("claims.x == null", "a claim that is `null` counts as absent"),
        ("claims.x == b'a'", "nothing here is made of bytes"),
        ("claims.x == {'a': 1}", "maps and messages cannot be written here"),
        ("claims.x == Foo{a: 1}", "maps and messages cannot be written here"),
        ("claims.x < 1e300", "a number too large to be compared exactly"),
        (
            "request.method == 'get'",
            "`get` is not a method: capital letters such as `GET`",
        ),
        ("request.method == 'HEAD'", "HEAD reads as `GET` here"),
        (
            "ip == '10.0.0.0/8'",
            "for a network write `inNetwork(ip, \"10.0.0.0/8\")`",
        ),
        ("ip == '2001:DB8::1'", "it is written `2001:db8::1` here"),
        ("request.host == 'Bank.example'", "they are in lower case here"),
        ("size(claims) == 0", "`claims` is no value of its own"),
        ("claims.exists(c, c == 'sub')", "`claims` is no value of its own"),
        ("query == query", "`query` is no value of its own"),
        ("claims[query.c] == 'x'", "`claims` is no value of its own"),
        ("claims[''] == 'x'", "a name must have 1 to 256 bytes"),
        ("claims.?x == 'x'", "unsupported syntax"),
        ("a &&", "e.yaml:1:10: not an expression: mismatched input the end"),
        ("claims.sub = 'x'", "not an expression"),
        ("   ", "an empty expression"),
    ] {
        let found = mistakes(text);
        assert!(!found.is_empty() && found[0].contains(expected), "{text}: {found:?}");
    }
    assert_eq!(mistakes("query == query").len(), 2);
    assert_eq!(mistakes("clams.a == 1 && claims.sub == 5 && foo(ip)").len(), 3);
}

#[test]
fn bounds_length_depth_and_work() {
    let long = format!("claims.sub == '{}'", "x".repeat(1024));
    assert!(mistakes(&long)[0].contains("an expression of 1040 bytes: at most 1024"));
    assert_eq!(mistakes(&format!("claims.sub == '{}'", "x".repeat(1008))), [""; 0]);
    let chain = |count: usize| format!("{}1 == 1", "1 + ".repeat(count));
    assert!(mistakes(&chain(30))[0].contains("nested deeper than 24 levels"));
    assert_eq!(mistakes(&chain(20)), [""; 0]);
    let three = "claims.a.all(x, x.b.all(y, y.c.all(z, z == 1)))";
    assert!(
        mistakes(three)
            .concat()
            .contains("a loop inside a loop inside a loop: at most 2")
    );
    assert_eq!(mistakes("claims.a.all(x, x.b.all(y, y.c == 1))"), [""; 0]);
    let heavy = "claims.a.all(x, claims.b.all(y, x + y + x + y + x + y + x + y == x + y + x))";
    assert!(mistakes(heavy)[0].contains("too much work"));
    let many = format!("[{}].exists(x, x == 1)", vec!["1"; 200].join(","));
    assert!(mistakes(&many)[0].contains("at most 100 items"));
    let asked = Asked::with(json!({"long": vec![1; 101], "fits": vec![1; 100], "nested": [vec![1; 101]]}));
    assert_eq!(asked.judge("claims.long.exists(x, x == 1)"), Unknown);
    assert_eq!(asked.judge("claims.fits.exists(x, x == 1)"), True);
    assert_eq!(asked.judge("claims.nested[0].exists(x, x == 1)"), Unknown);
    assert_eq!(asked.judge("(claims.fits + claims.fits).exists(x, x == 1)"), Unknown);
    let why = asked.why("(claims.fits + claims.fits).exists(x, x == 1)");
    assert_eq!(why, "a list has more than 100 items");
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(Asked::with(json!({"deep": deep})).judge("claims.deep == [1]"), Unknown);
    let wide = json!({"wide": vec![vec![0; 100]; 100]});
    assert_eq!(Asked::with(wide).judge("size(claims.wide) == 100"), Unknown);
}

/// Texts of a kilobyte that nest as deep as they can, whatever comes of them.
fn deepest() -> Vec<String> {
    let fill = |piece: &str, tail: &str| {
        let mut text = piece.repeat((1024 - tail.len()) / piece.len());
        text.push_str(tail);
        text
    };
    let shapes = [
        ("1+", "1==1"),
        ("a==", "a"),
        ("!", "true"),
        ("-", "1==1"),
        ("(", ""),
        ("[", ""),
        ("f(", ""),
        ("{1:", ""),
        ("a.all(x,", ""),
        ("a?b:", "b"),
        ("a&&", "a"),
        ("claims.", "a"),
        ("'", ""),
        (".", ""),
        ("a[0]", ""),
        ("claims.a.map(x,", "x"),
        ("true?true:", "true"),
        ("!(", ""),
        ("size(", ""),
        ("-(", ""),
        ("\u{0}", ""),
    ];
    let mut texts: Vec<String> = shapes.into_iter().map(|(piece, tail)| fill(piece, tail)).collect();
    texts.push(format!("claims{}", ".a".repeat(500)));
    texts.push(format!("claims.a{} == 1", "[0]".repeat(330)));
    texts.push(format!("{}true{}", "(".repeat(500), ")".repeat(500)));
    texts.push(format!("claims{} == 1", ".f()".repeat(250)));
    // As deep as is allowed.
    texts.push(format!("{}claims.a{} == 1", "-(".repeat(18), ")".repeat(18)));
    texts.push(format!("{}1 == 1", "1 + ".repeat(21)));
    texts
}

#[test]
fn survives_the_deepest_text_on_the_stack_of_a_worker() {
    let worker = thread::Builder::new().stack_size(2 << 20);
    let judged = worker.spawn(|| {
        let mut judged = 0;
        for text in deepest() {
            if let Ok(checked) = compile(&text, &Clients::default(), &TimeZone::UTC) {
                let expression = Expression {
                    text: text.into(),
                    root: checked.root,
                    variables: checked.variables,
                    params: Vec::new(),
                };
                Asked::plain().facts(|facts| expression.judge(facts));
                judged += 1;
            }
        }
        judged
    });
    assert!(judged.unwrap().join().unwrap() >= 4);
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(|number| serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number)),
        "[a-c0-9]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// Expressions of the grammar, most of which make sense for some claims.
fn any_expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("claims.a".to_owned()),
        Just("claims.b.c".to_owned()),
        Just("query.a".to_owned()),
        Just("path.customer".to_owned()),
        Just("now".to_owned()),
        Just("ip".to_owned()),
        Just("has(claims.a)".to_owned()),
        Just("['a', claims.c]".to_owned()),
        Just("duration('1h')".to_owned()),
        (-3..3_i32).prop_map(|number| number.to_string()),
        Just("0.5".to_owned()),
        Just("'a'".to_owned()),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = ["==", "!=", "<", ">=", "&&", "||", "in", "+", "-", "*", "/", "%"];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone())
                .prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
            inner.clone().prop_map(|inner| format!("!{inner}")),
            inner.clone().prop_map(|inner| format!("size({inner})")),
            inner
                .clone()
                .prop_map(|inner| format!("string({inner}).startsWith('a')")),
            inner.clone().prop_map(|inner| format!("int({inner})")),
            (inner.clone(), inner.clone()).prop_map(|(list, body)| format!("{list}.exists(x, x == {body})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn judges_whatever_compiles_the_same_every_time(text in any_expression(), claims in any_json()) {
        let checked = compile(&text, &Clients::default(), &TimeZone::UTC);
        if let Ok(checked) = checked {
            let expression = Expression {
                text: text.into(),
                root: checked.root,
                variables: checked.variables,
                params: Vec::new(),
            };
            let asked = Asked::with(json!({"a": claims, "b": {"c": claims}, "c": "a"}));
            let judged = asked.facts(|facts| (expression.judge(facts), expression.judge(facts), expression.why(facts)));
            prop_assert_eq!(judged.0, judged.1);
            prop_assert_eq!(judged.0 == Unknown, judged.2.is_some());
        }
    }

    #[test]
    fn reads_any_text_without_a_panic(text in "\\PC{0,80}") {
        let _ = compile(&text, &Clients::default(), &TimeZone::UTC);
    }
}
