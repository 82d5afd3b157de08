//! What is wrong with an expression, and where in it.

use super::*;

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
        (
            "request.headers['X-Forwarded-Proto'] == 'https'",
            "`x-forwarded-proto` is taken from every request, as any caller could have written it",
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
