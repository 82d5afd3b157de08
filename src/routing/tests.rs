#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::cmp::Ordering;

use http::{HeaderName, Method};
use proptest::prelude::*;

use super::*;
use crate::conf::Read;
use crate::engine::NoHeaders;

struct Lines(Vec<(&'static str, &'static str)>);

impl Headers for Lines {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(known, _)| name == known)
            .map(|(_, value)| value.as_bytes())
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.iter().filter(|(known, _)| name == known).count() > 1
    }
}

fn build(matches: &[&str]) -> (Router<usize>, Vec<String>) {
    let load = Load::new();
    let text: String = matches.iter().map(|one| format!("- {one}\n")).collect();
    let node = load.text("t.yaml", &text).unwrap();
    let items = node.items(&load).unwrap().iter().enumerate();
    let routes = items
        .map(|(index, item)| (Match::read(item, &load).unwrap(), index))
        .collect();
    let router = Router::new(routes, &load);
    (
        router,
        load.into_findings(None).iter().map(ToString::to_string).collect(),
    )
}

fn sound(matches: &[&str]) -> Router<usize> {
    let (router, findings) = build(matches);
    assert!(findings.is_empty(), "{findings:?}");
    router
}

fn find(router: &Router<usize>, request: &str, host: &str, headers: &[(&'static str, &'static str)]) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    match router.find(&method.parse().unwrap(), host, path, &Lines(headers.to_vec())) {
        Found::Route(route, params) => {
            let params: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{route} {}", params.join(" ")).trim_end().to_owned()
        }
        Found::MethodNotAllowed(allow) => format!("405 {allow}"),
        Found::NotFound => "404".to_owned(),
    }
}

#[test]
fn prefers_literal_to_parameter_to_rest_from_the_left() {
    let router = sound(&[
        "GET /a/{x}/c",
        "GET /a/b/{y}",
        "GET /{rest...}",
        "GET /a/{x}/{rest...}",
        "GET /",
    ]);
    for (request, found) in [
        ("GET /a/b/c", "1 y=c"),
        ("GET /a/z/c", "0 x=z"),
        ("GET /a/z/d", "3 x=z rest=d"),
        ("GET /a/b/", "3 x=b rest="),
        ("GET /a/b", "2 rest=a/b"),
        ("GET /a", "2 rest=a"),
        ("GET /", "4"),
    ] {
        assert_eq!(find(&router, request, "h", &[]), found, "{request}");
    }
}

#[test]
fn takes_a_trailing_slash_for_another_path() {
    let router = sound(&["GET /a", "GET /b/", "GET /c/{x}", "GET /d/{rest...}"]);
    for (request, found) in [
        ("GET /a/", "404"),
        ("GET /b", "404"),
        ("GET /b/", "1"),
        ("GET /c/", "404"),
        ("GET /c/1/", "404"),
        ("GET /d", "404"),
        ("GET /d/", "3 rest="),
        ("GET /d/e/", "3 rest=e/"),
    ] {
        assert_eq!(find(&router, request, "h", &[]), found, "{request}");
    }
}

#[test]
fn falls_back_to_less_specific_routes_that_match() {
    let router = sound(&[
        "POST /a/b",
        "GET /a/{x}",
        "{ path: /a/c, methods: GET, headers: { x-v: '2' } }",
        "{ path: /a/d, methods: GET, host: d.example }",
        "DELETE /{rest...}",
    ]);
    assert_eq!(find(&router, "GET /a/b", "h", &[]), "1 x=b");
    assert_eq!(find(&router, "GET /a/c", "h", &[]), "1 x=c");
    assert_eq!(find(&router, "GET /a/c", "h", &[("x-v", "2")]), "2");
    assert_eq!(find(&router, "GET /a/d", "h", &[]), "1 x=d");
    assert_eq!(find(&router, "GET /a/d", "d.example", &[]), "3");
    assert_eq!(find(&router, "DELETE /a/b", "h", &[]), "4 rest=a/b");
    assert_eq!(find(&router, "PUT /a/b", "h", &[]), "405 DELETE, GET, HEAD, POST");
    assert_eq!(find(&router, "PUT /z", "h", &[]), "405 DELETE");
}

#[test]
fn says_405_only_where_nothing_but_the_method_fails() {
    let router = sound(&[
        "GET /a",
        "{ path: /a, methods: PUT, host: b.example }",
        "{ path: /a, methods: PATCH, headers: { x-v: '2' } }",
        "OPTIONS /o",
    ]);
    assert_eq!(find(&router, "POST /a", "h", &[]), "405 GET, HEAD");
    assert_eq!(
        find(&router, "POST /a", "b.example", &[("x-v", "2")]),
        "405 GET, HEAD, PATCH, PUT"
    );
    assert_eq!(find(&router, "OPTIONS /a", "h", &[]), "405 GET, HEAD");
    assert_eq!(find(&router, "OPTIONS /o", "h", &[]), "3");
    assert_eq!(find(&router, "GET /o", "h", &[]), "405 OPTIONS");
    assert_eq!(find(&router, "GET /b", "h", &[]), "404");
    assert_eq!(find(&router, "GET *", "h", &[]), "404");
}

#[test]
fn lets_head_follow_get_unless_it_has_a_route() {
    let router = sound(&["GET /a", "HEAD /a", "GET /b", "{ path: /b }", "{ path: /c }", "HEAD /d"]);
    assert_eq!(find(&router, "HEAD /a", "h", &[]), "1");
    assert_eq!(find(&router, "HEAD /b", "h", &[]), "2");
    assert_eq!(find(&router, "PURGE /b", "h", &[]), "3");
    assert_eq!(find(&router, "HEAD /c", "h", &[]), "4");
    assert_eq!(find(&router, "GET /d", "h", &[]), "405 HEAD");
}

#[test]
fn prefers_the_exact_host_then_the_longest_wildcard() {
    let router = sound(&[
        "{ path: /, host: a.b.example }",
        "{ path: /, host: '*.b.example' }",
        "{ path: /, host: '*.example' }",
        "{ path: / }",
    ]);
    for (host, found) in [
        ("a.b.example", "0"),
        ("x.b.example", "1"),
        ("x.y.b.example", "1"),
        ("b.example", "2"),
        ("xb.example", "2"),
        ("example", "3"),
        ("other", "3"),
        ("[::1]", "3"),
    ] {
        assert_eq!(find(&router, "GET /", host, &[]), found, "{host}");
    }
}

#[test]
fn prefers_more_header_conditions_and_ignores_repeated_headers() {
    let router = sound(&[
        "{ path: /, methods: GET }",
        "{ path: /, methods: GET, headers: { x-a: '1' } }",
        "{ path: /, methods: GET, headers: { x-a: '2' } }",
        "{ path: /, methods: GET, headers: { x-a: '1', x-b: [p, q] } }",
    ]);
    assert_eq!(find(&router, "GET /", "h", &[]), "0");
    assert_eq!(find(&router, "GET /", "h", &[("x-a", "1")]), "1");
    assert_eq!(find(&router, "GET /", "h", &[("x-a", "2"), ("x-b", "p")]), "2");
    assert_eq!(find(&router, "GET /", "h", &[("x-a", "1"), ("x-b", "q")]), "3");
    assert_eq!(find(&router, "GET /", "h", &[("x-a", "1"), ("x-a", "2")]), "0");
    let names: Vec<String> = router.headers_read().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["x-a", "x-b"]);
}

#[test]
fn reports_ties_with_both_places() {
    let (_, found) = build(&["GET,POST /a/{x}", "POST /a/{y}"]);
    assert_eq!(
        found,
        [
            "t.yaml:2:3: `/a/{y}` ties with another route: one request can match both equally\n  t.yaml:1:3: the other route"
        ]
    );
    for tied in [
        ["{ path: / }", "{ path: / }"],
        ["{ path: /, host: '*.a' }", "{ path: /, host: '*.a' }"],
        ["{ path: /, headers: { a: '1' } }", "{ path: /, headers: { b: '1' } }"],
        [
            "{ path: /, headers: { a: ['1', '2'] } }",
            "{ path: /, headers: { a: ['2', '3'] } }",
        ],
        ["GET /{a...}", "GET /{b...}"],
    ] {
        assert_eq!(build(&tied).1.len(), 1, "{tied:?}");
    }
    for apart in [
        ["GET /", "POST /"],
        ["GET /", "{ path: / }"],
        ["GET /", "HEAD /"],
        ["GET /{a}", "GET /b"],
        ["{ path: /, host: a.b }", "{ path: /, host: '*.b' }"],
        ["{ path: /, headers: { a: '1' } }", "{ path: /, headers: { a: '2' } }"],
        ["{ path: / }", "{ path: /, headers: { a: '2' } }"],
    ] {
        sound(&apart);
    }
}

#[test]
fn reports_a_rest_that_no_request_can_reach() {
    let (_, found) = build(&[
        "GET /x/{rest...}",
        "GET /x/",
        "GET,PUT /x/{a}",
        "{ path: '/x/{a}/{more...}' }",
    ]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("t.yaml:1:3: no request can reach `/x/{rest...}`"),
        "{found:?}"
    );
    assert!(found[0].contains("t.yaml:4:3: one of them"), "{found:?}");
    sound(&["GET,PUT /x/{rest...}", "GET /x/", "GET /x/{a}", "GET /x/{a}/{more...}"]);
    sound(&[
        "GET /x/{rest...}",
        "GET /x/",
        "{ path: '/x/{a}', host: a.b }",
        "GET /x/{a}/{more...}",
    ]);
}

#[test]
fn finds_any_of_ten_thousand_routes() {
    let matches: Vec<String> = (0..10_000).map(|n| format!("GET /service{n}/items/{{id}}")).collect();
    let matches: Vec<&str> = matches.iter().map(String::as_str).collect();
    let router = sound(&matches);
    for n in [0, 1, 4_999, 9_999] {
        assert_eq!(
            find(&router, &format!("GET /service{n}/items/7"), "h", &[]),
            format!("{n} id=7")
        );
    }
    assert!(matches!(
        router.find(&Method::GET, "h", "/service10000/items/7", &NoHeaders),
        Found::NotFound
    ));
}

/// The routes beside the one that is taken, each with what decided.
fn rivals(router: &Router<usize>, request: &str, host: &str, headers: &[(&'static str, &'static str)]) -> Vec<String> {
    let (method, path) = request.split_once(' ').unwrap();
    let (method, lines) = (method.parse().unwrap(), Lines(headers.to_vec()));
    let taken = match router.find(&method, host, path, &lines) {
        Found::Route(route, _) => Some(route),
        Found::MethodNotAllowed(_) | Found::NotFound => None,
    };
    let rivals = router.rivals(taken, &method, host, path, &lines);
    let told = rivals.iter().map(|rival| {
        let fits = if rival.fits { "fits" } else { "fails" };
        format!("{} {fits}, {}", rival.value, rival.because)
    });
    told.collect()
}

#[test]
fn says_what_decided_between_routes() {
    let router = sound(&[
        "GET /cards/new",
        "GET /cards/{card}",
        "{ path: '/cards/{card}', host: b.example }",
        "{ path: '/cards/{card}', host: '*.example' }",
        "{ path: '/cards/{card}', headers: { x-v: ['1', '2'] } }",
        "{ path: '/cards/{card}' }",
        "POST /{rest...}",
        "GET /other",
    ]);
    assert_eq!(
        rivals(&router, "GET /cards/new", "h", &[]),
        [
            "1 fits, segment 2: `new` comes before `{card}`",
            "5 fits, segment 2: `new` comes before `{card}`",
        ]
    );
    assert_eq!(
        rivals(&router, "HEAD /cards/7", "a.example", &[("x-v", "1")]),
        [
            "2 fails, it is for host `b.example`",
            "4 fits, host: hosts `*.example` comes before any host",
            "1 fits, host: hosts `*.example` comes before any host",
            "5 fits, host: hosts `*.example` comes before any host",
        ]
    );
    assert_eq!(
        rivals(&router, "HEAD /cards/7", "h", &[]),
        [
            "2 fails, it is for host `b.example`",
            "3 fails, it is for hosts `*.example`",
            "4 fails, it wants `x-v` to be `1` or `2`",
            "5 fits, method: `HEAD` after `GET` comes before any method",
        ]
    );
    assert_eq!(rivals(&router, "PUT /x", "h", &[]), ["6 fails, it takes POST"]);
    assert_eq!(rivals(&router, "GET /cards", "h", &[]), ["6 fails, it takes POST"]);
    assert!(rivals(&router, "GET *", "h", &[]).is_empty());
}

/// The same precedence, written as a linear scan over split strings.
mod naive {
    use super::*;

    /// Path, host, header conditions, method.
    type Rank = (Vec<u8>, usize, usize, u8);

    /// The kind of each segment (literal 0, parameter 1, rest 2), where the template matches.
    fn kinds(template: &[Segment], path: &[&str]) -> Option<Vec<u8>> {
        match (template.split_first(), path.split_first()) {
            (None, None) => Some(Vec::new()),
            (Some((Segment::Rest, _)), Some(_)) => Some(vec![2]),
            (Some((segment, template)), Some((part, path))) => {
                let kind = match segment {
                    Segment::Literal(text) => (&**text == *part).then_some(0)?,
                    _ => (!part.is_empty()).then_some(1)?,
                };
                let mut all = vec![kind];
                all.extend(kinds(template, path)?);
                Some(all)
            }
            _ => None,
        }
    }

    fn host_rank(pattern: &HostPattern, host: &str) -> Option<usize> {
        match pattern {
            HostPattern::Any => Some(0),
            HostPattern::Under(suffix) => host.ends_with(&format!(".{suffix}")).then(|| suffix.split('.').count()),
            HostPattern::Exact(exact) => (**exact == *host).then_some(usize::MAX),
        }
    }

    fn compare(a: &Rank, b: &Rank) -> Ordering {
        b.0.cmp(&a.0)
            .then(a.1.cmp(&b.1))
            .then(a.2.cmp(&b.2))
            .then(a.3.cmp(&b.3))
    }

    pub(super) fn find(router: &Router<usize>, method: &Method, host: &str, path: &str, headers: &Lines) -> String {
        without(router, &[], method, host, path, headers)
    }

    /// The same, were some routes not there.
    pub(super) fn without(
        router: &Router<usize>,
        gone: &[usize],
        method: &Method,
        host: &str,
        path: &str,
        headers: &Lines,
    ) -> String {
        let parts: Vec<&str> = path.strip_prefix('/').unwrap().split('/').collect();
        let mut best: Option<(Rank, usize)> = None;
        let mut allow = Vec::new();
        for (matched, route) in router.iter().filter(|(_, route)| !gone.contains(route)) {
            let Some(kinds) = kinds(matched.path.segments(), &parts) else {
                continue;
            };
            let Some(host) = host_rank(&matched.host, host) else {
                continue;
            };
            if !matched.headers.iter().all(|condition| condition.holds(headers)) {
                continue;
            }
            if let Methods::Listed(listed) = &matched.methods {
                allow.extend(listed.iter().map(ToString::to_string));
            }
            let Some(fit) = matched.methods.fit(method) else {
                continue;
            };
            let rank = (kinds, host, matched.headers.len(), fit);
            if best
                .as_ref()
                .is_none_or(|(known, _)| compare(&rank, known) == Ordering::Greater)
            {
                best = Some((rank, *route));
            }
        }
        if let Some((_, route)) = best {
            return route.to_string();
        }
        if allow.contains(&"GET".to_owned()) {
            allow.push("HEAD".to_owned());
        }
        allow.sort();
        allow.dedup();
        if allow.is_empty() {
            "404".into()
        } else {
            format!("405 {}", allow.join(", "))
        }
    }
}

fn a_match() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => Just("a"), 3 => Just("b"), 2 => Just("{}")];
    let path = (proptest::collection::vec(segment, 0..4), 0..4u8);
    let host = proptest::option::of(prop_oneof![Just("h.x"), Just("a.h.x"), Just("*.x"), Just("*.h.x")]);
    let methods = proptest::option::of(prop_oneof![
        3 => Just("GET"), 1 => Just("HEAD"), 2 => Just("POST"), 1 => Just("GET, POST"), 1 => Just("OPTIONS"),
    ]);
    let headers = prop_oneof![
        4 => Just(""), 1 => Just("p: '1'"), 1 => Just("p: '2'"), 1 => Just("q: ['1', '2']"), 1 => Just("p: '1', q: '1'"),
    ];
    (path, host, methods, headers).prop_map(|((segments, tail), host, methods, headers)| {
        let mut path = String::new();
        for (index, segment) in segments.iter().enumerate() {
            path.push('/');
            path.push_str(&segment.replace("{}", &format!("{{p{index}}}")));
        }
        match tail {
            0 => path.push_str("/{rest...}"),
            1 => path.push('/'),
            _ if path.is_empty() => path.push('/'),
            _ => {}
        }
        let host = host.map(|host| format!(", host: '{host}'")).unwrap_or_default();
        let methods = methods
            .map(|methods| format!(", methods: [{methods}]"))
            .unwrap_or_default();
        format!("{{ path: '{path}'{host}{methods}, headers: {{ {headers} }} }}")
    })
}

fn a_request() -> impl Strategy<Value = (&'static str, &'static str, String, Vec<(&'static str, &'static str)>)> {
    let method =
        prop_oneof![3 => Just("GET"), 2 => Just("HEAD"), 2 => Just("POST"), 1 => Just("OPTIONS"), 1 => Just("PUT")];
    let host = prop_oneof![
        Just("h.x"),
        Just("a.h.x"),
        Just("b.h.x"),
        Just("y.x"),
        Just("x"),
        Just("other")
    ];
    let segment = prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = (proptest::collection::vec(segment, 0..5), any::<bool>()).prop_map(|(segments, slash)| {
        let end = if slash || segments.is_empty() { "/" } else { "" };
        format!(
            "{}{end}",
            segments.iter().map(|segment| format!("/{segment}")).collect::<String>()
        )
    });
    let line = (prop_oneof![Just("p"), Just("q")], prop_oneof![Just("1"), Just("2")]);
    (method, host, path, proptest::collection::vec(line, 0..3))
}

proptest! {
    #[test]
    fn equals_a_linear_scan(
        matches in proptest::collection::vec(a_match(), 1..40),
        requests in proptest::collection::vec(a_request(), 1..40),
    ) {
        // Routes that tie with one before them are left out, as a configuration with ties is refused.
        let mut kept: Vec<&str> = Vec::new();
        for one in &matches {
            kept.push(one);
            if build(&kept).1.iter().any(|finding| finding.contains("ties")) {
                kept.pop();
            }
        }
        let (router, findings) = build(&kept);
        let hidden: Vec<usize> = findings.iter().map(|finding| {
            let line = finding.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
            line.unwrap() - 1
        }).collect();
        for (method, host, path, headers) in &requests {
            let lines = Lines(headers.clone());
            let method: Method = method.parse().unwrap();
            let expected = naive::find(&router, &method, host, path, &lines);
            let found = match router.find(&method, host, path, &lines) {
                Found::Route(route, params) => {
                    prop_assert!(!hidden.contains(route), "unreachable yet reached: {route}");
                    let template = &router.routes[*route].matched.path;
                    let given = |name: &str| params.iter().find(|(known, _)| &***known == name).map(|(_, value)| value);
                    let expanded = template.expand(given);
                    prop_assert_eq!(expanded.as_deref(), Some(path.as_str()));
                    route.to_string()
                }
                Found::MethodNotAllowed(allow) => format!("405 {allow}"),
                Found::NotFound => "404".to_owned(),
            };
            prop_assert_eq!(&found, &expected, "{} {} {} {:?} in {:?}", method, host, path, headers, kept);
            // Without the routes that come before it, each that fits would be taken in turn.
            let taken = router.iter().map(|(_, route)| route).find(|route| route.to_string() == found);
            let rivals = router.rivals(taken, &method, host, path, &lines);
            let fitting: Vec<usize> = rivals.iter().filter(|rival| rival.fits).map(|rival| *rival.value).collect();
            let mut gone: Vec<usize> = taken.into_iter().copied().collect();
            for next in fitting {
                prop_assert_eq!(naive::without(&router, &gone, &method, host, path, &lines), next.to_string());
                gone.push(next);
            }
            let last = naive::without(&router, &gone, &method, host, path, &lines);
            prop_assert!(last == "404" || last.starts_with("405 "), "{}", last);
        }
    }
}

#[test]
fn tells_the_headers_that_decided() {
    let router = sound(&[
        "GET /x",
        "{ path: /x, methods: [GET], headers: { x-a: one } }",
        "{ path: /x, methods: [GET], headers: { x-a: one, x-b: two } }",
        "{ path: /x, methods: [POST], headers: { x-post: one } }",
        "{ path: /x, host: api.example, methods: [GET], headers: { x-host: one } }",
        "{ path: '/{name}', methods: [GET], headers: { x-name: one } }",
        "{ path: '/y', methods: [GET], headers: { x-y: one } }",
    ]);
    let by = |path: &str, host: &str, headers: &[(&'static str, &'static str)]| -> Vec<String> {
        let names = router.decided_by(&Method::GET, host, path, &Lines(headers.to_vec()));
        names.iter().map(ToString::to_string).collect()
    };
    assert_eq!(by("/x", "h", &[]), ["x-a", "x-b"]);
    assert_eq!(by("/x", "h", &[("x-a", "one")]), ["x-a", "x-b"]);
    assert_eq!(by("/x", "api.example", &[("x-host", "one")]), ["x-host"]);
    assert_eq!(by("/x", "api.example", &[]), ["x-a", "x-b", "x-host"]);
    assert_eq!(by("/y", "h", &[("x-y", "one")]), ["x-y"]);
    assert_eq!(by("/y", "h", &[]), ["x-name", "x-y"], "one failed before the other");
    assert_eq!(by("/z", "h", &[("x-name", "one")]), ["x-name"]);
    assert_eq!(by("/a/b", "h", &[]), [""; 0]);
    assert!(
        sound(&["GET /x"])
            .decided_by(&Method::GET, "h", "/x", &NoHeaders)
            .is_empty()
    );
}
