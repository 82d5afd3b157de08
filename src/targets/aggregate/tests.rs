#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderName, Method, StatusCode};
use smallvec::smallvec;
use tokio::sync::{Barrier, Notify};
use tokio::time::Instant;

use super::*;
use crate::engine::{Headers, Params, Principal, RequestView};
use crate::targets::Call;
use crate::upstreams::{CallError, Called};

const UPSTREAMS: [&str; 3] = ["accounts", "transfers", "invest"];

fn compile(text: &str) -> Result<Aggregate, Vec<String>> {
    compile_with(text, true)
}

fn compile_with(text: &str, has_auth: bool) -> Result<Aggregate, Vec<String>> {
    let load = Load::new();
    let node = load.text("t.yaml", text).unwrap();
    let aggregate = Aggregate::compile(
        &node,
        &AggregateScope {
            load: &load,
            upstreams: &UPSTREAMS.map(Arc::from),
            params: Some(&[Arc::from("id"), Arc::from("rest")]),
            has_auth,
        },
    );
    match aggregate.filter(|_| !load.has_errors()) {
        Some(aggregate) => Ok(aggregate),
        None => Err(load.into_findings(None).iter().map(ToString::to_string).collect()),
    }
}

fn complaint(text: &str) -> String {
    compile(text).unwrap_err().join("\n")
}

/// What a service does when it is called.
#[derive(Clone)]
enum Does {
    Answer(u16, &'static str, &'static str),
    Fail(CallError),
    Hang,
    /// Answers once all others at the barrier are under way too.
    Meet(Arc<Barrier>, &'static str),
}

fn json(body: &'static str) -> Does {
    Does::Answer(200, "application/json", body)
}

/// Services by `upstream:target`; remembers what was called, and how many calls were dropped before they ended.
struct Services {
    answers: Vec<(&'static str, Does)>,
    called: Mutex<Vec<String>>,
    dropped: AtomicUsize,
    drops: Notify,
}

struct CountsDrop<'a>(&'a Services, bool);

impl Drop for CountsDrop<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
            self.0.drops.notify_one();
        }
    }
}

impl Call for Services {
    fn get(
        &self,
        upstream: UpstreamIndex,
        target: String,
        max_body: usize,
    ) -> impl Future<Output = Result<Called, CallError>> + Send {
        assert_eq!(max_body, MAX_PART);
        let name = format!("{}:{target}", UPSTREAMS[usize::from(upstream.0)]);
        let does = self
            .answers
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, does)| does.clone());
        self.called.lock().unwrap().push(name.clone());
        let counts = CountsDrop(self, false);
        async move {
            let mut counts = counts;
            let answer = match does.unwrap_or_else(|| panic!("nobody expects {name}")) {
                Does::Answer(status, kind, body) => Ok((status, kind, body)),
                Does::Fail(error) => Err(error),
                Does::Hang => std::future::pending().await,
                Does::Meet(barrier, body) => {
                    barrier.wait().await;
                    Ok((200, "application/json", body))
                }
            };
            counts.1 = true;
            answer.map(|(status, kind, body)| Called {
                status: StatusCode::from_u16(status).unwrap(),
                content_type: Some(kind.to_owned()),
                body: body.into(),
            })
        }
    }
}

fn services(answers: Vec<(&'static str, Does)>) -> Services {
    Services {
        answers,
        called: Mutex::default(),
        dropped: AtomicUsize::new(0),
        drops: Notify::new(),
    }
}

struct OneHeader(&'static str);

impl Headers for OneHeader {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        (name == "x-tenant").then_some(self.0.as_bytes())
    }

    fn is_repeated(&self, _: &HeaderName) -> bool {
        false
    }
}

/// A request by `sub` to `/…/{id}/{rest...}`.
struct Asked {
    sub: &'static str,
    id: &'static str,
    query: &'static str,
    header: &'static str,
}

const ASKED: Asked = Asked {
    sub: "u1",
    id: "7",
    query: "q=a",
    header: "t",
};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

fn inputs(aggregate: &Aggregate, asked: &Asked) -> Inputs {
    let principal = Principal {
        authenticator: "a".into(),
        issuer: "i".into(),
        subject: asked.sub.into(),
        scopes: Vec::new(),
        roles: Vec::new(),
        claims: Default::default(),
        auth_time: None,
        acr: None,
        expires: None,
        token_id: None,
        identity: Principal::frame("a", "i", asked.sub),
    };
    let names = [Arc::from("id"), Arc::from("rest")];
    let request = RequestView {
        method: &Method::GET,
        host: "h",
        path: "/",
        query: asked.query,
        headers: &OneHeader(asked.header),
    };
    let params = Params {
        names: &names,
        values: smallvec![asked.id, "a/b"],
    };
    aggregate.inputs(Some(&principal), &request, &params)
}

fn run(text: &str, asked: &Asked, services: &Services) -> Aggregated {
    let aggregate = compile(text).unwrap();
    let deadline = Duration::from_secs(60);
    block_on(async {
        aggregate
            .run(inputs(&aggregate, asked), services, Instant::now() + deadline)
            .await
    })
}

fn body(aggregated: &Aggregated) -> &str {
    std::str::from_utf8(aggregated.body.as_ref().unwrap()).unwrap()
}

fn header(aggregated: &Aggregated) -> Option<String> {
    aggregated
        .partial_header()
        .map(|value| value.to_str().unwrap().to_owned())
}

const DASHBOARD: &str = "
balance:     { get: 'accounts:/customers/{principal.sub}/balance', required: true }
recent:      { get: 'transfers:/transfers?account={balance.account.id}&limit=5', default: [1.10] }
investments: { get: 'invest:/summary/{principal.sub}' }
";

#[test]
fn writes_the_parts_as_they_came_in_the_order_of_the_file() {
    let services = services(vec![
        (
            "accounts:/customers/u1/balance",
            json(r#" {"account":{"id":"A-1"},"n":90071992547409931.10} "#),
        ),
        ("transfers:/transfers?account=A-1&limit=5", json("[1e400,-0,1.0]")),
        ("invest:/summary/u1", Does::Answer(204, "text/plain", "")),
    ]);
    let done = run(DASHBOARD, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"balance":{"account":{"id":"A-1"},"n":90071992547409931.10},"recent":[1e400,-0,1.0],"investments":null}"#
    );
    assert_eq!((header(&done), done.parts.len()), (None, 3));
    assert!(done.parts.iter().all(|part| part.reason.is_none()));
}

#[test]
fn runs_parts_together_that_do_not_wait_for_each_other() {
    let barrier = Arc::new(Barrier::new(2));
    let services = services(vec![
        (
            "accounts:/customers/u1/balance",
            Does::Meet(barrier.clone(), r#"{"account":{"id":1}}"#),
        ),
        ("transfers:/transfers?account=1&limit=5", json("[]")),
        ("invest:/summary/u1", Does::Meet(barrier, "2")),
    ]);
    let done = run(DASHBOARD, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"balance":{"account":{"id":1}},"recent":[],"investments":2}"#
    );
}

#[test]
fn gives_defaults_and_names_what_is_missing() {
    let services = services(vec![
        ("accounts:/customers/u1/balance", json(r#"{"account":{"id":"x"}}"#)),
        (
            "transfers:/transfers?account=x&limit=5",
            Does::Answer(500, "application/json", "{}"),
        ),
        ("invest:/summary/u1", Does::Fail(CallError::Connect)),
    ]);
    let done = run(DASHBOARD, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"balance":{"account":{"id":"x"}},"recent":[1.10],"investments":null}"#
    );
    assert_eq!(
        header(&done).as_deref(),
        Some("recent;reason=status, investments;reason=unreachable")
    );
    assert_eq!(
        (done.parts[1].status, done.parts[1].reason),
        (Some(500), Some("status"))
    );
}

#[test]
fn quotes_names_that_are_no_tokens() {
    let services = services(vec![("invest:/x", Does::Fail(CallError::Broken))]);
    let done = run(
        "{ 2nd: { get: 'invest:/x' }, _a: { get: 'invest:/x' }, b-C_3: { get: 'invest:/x' } }",
        &ASKED,
        &services,
    );
    assert_eq!(
        header(&done).as_deref(),
        Some("\"2nd\";reason=unreadable, \"_a\";reason=unreadable, b-C_3;reason=unreadable")
    );
}

#[test]
fn fails_as_a_whole_with_a_required_part() {
    for (does, status, reason) in [
        (Does::Fail(CallError::Timeout), 504, Reason::Timeout),
        (Does::Fail(CallError::NoEndpoint), 502, Reason::Unreachable),
        (Does::Fail(CallError::TooLarge), 502, Reason::Unreadable),
        (Does::Answer(404, "application/json", "{}"), 502, Reason::Status),
        (Does::Answer(302, "application/json", "{}"), 502, Reason::Status),
        (Does::Answer(206, "application/json", "{}"), 502, Reason::Status),
        (Does::Answer(200, "text/html", "{}"), 502, Reason::Unreadable),
        (
            Does::Answer(200, "application/json", "{\"a\":1,\"a\":2}"),
            502,
            Reason::Unreadable,
        ),
        (Does::Answer(200, "application/json", ""), 502, Reason::Unreadable),
        (Does::Answer(205, "application/json", ""), 502, Reason::Unreadable),
    ] {
        // The other part never ends: the failure does not wait for it, and its call is dropped.
        let services = services(vec![
            ("accounts:/customers/u1/balance", does),
            ("invest:/summary/u1", Does::Hang),
        ]);
        let done = run(DASHBOARD, &ASKED, &services);
        let failure = done.body.unwrap_err();
        assert_eq!(
            (failure.status.as_u16(), failure.reason, &*failure.part),
            (status, reason, "balance")
        );
        assert_eq!(failure.code, "part-failed");
        assert_eq!(services.dropped.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn skips_a_part_whose_reference_is_not_there() {
    for balance in [
        r#"{"account":{}}"#,
        r#"{"account":{"id":null}}"#,
        r#"{"account":{"id":[1]}}"#,
        r#"{"account":{"id":{}}}"#,
        r#"{"account":[{"id":1}]}"#,
        "7",
    ] {
        let services = services(vec![
            ("accounts:/customers/u1/balance", json(balance)),
            ("invest:/summary/u1", json("1")),
        ]);
        let done = run(DASHBOARD, &ASKED, &services);
        assert_eq!(header(&done).as_deref(), Some("recent;reason=skipped"), "{balance}");
    }
    // A part that failed is not referred to, whatever its default says; required, its dependent fails the whole.
    let chain = "
a: { get: 'invest:/a', default: { id: 5 } }
b: { get: 'invest:/b/{a.id}' }
c: { get: 'invest:/c/{b.id}', required: true }";
    let services = services(vec![("invest:/a", Does::Answer(500, "", ""))]);
    let failure = run(chain, &ASKED, &services).body.unwrap_err();
    assert_eq!(
        (failure.status.as_u16(), &*failure.part, failure.reason),
        (502, "c", Reason::Skipped)
    );
}

#[test]
fn encodes_what_it_refers_to() {
    let text = "
a: { get: 'invest:/x/{path.id}/{path.rest}?q={query.q}&t={header.x-tenant}' }
b: { get: 'invest:/s/{a.v}' }";
    let asked = Asked {
        id: "%2e%2F%C3%A4",
        query: "q=1%262%0d%0a+3&r=x",
        header: "a/b?c#d e",
        ..ASKED
    };
    let services = services(vec![
        (
            "invest:/x/.%2F%C3%A4/a%2Fb?q=1%262%0D%0A%203&t=a%2Fb%3Fc%23d%20e",
            json(r#"{"v":"../\u0000x"}"#),
        ),
        ("invest:/s/..%2F%00x", json("true")),
    ]);
    assert_eq!(
        body(&run(text, &asked, &services)),
        r#"{"a":{"v":"../\u0000x"},"b":true}"#
    );
}

#[test]
fn never_lets_a_value_choose_another_path() {
    for sub in ["", ".", ".."] {
        let services = services(Vec::new());
        let done = run(
            "{ a: { get: 'invest:/x/{principal.sub}' } }",
            &Asked { sub, ..ASKED },
            &services,
        );
        assert_eq!(
            (body(&done), header(&done).as_deref()),
            (r#"{"a":null}"#, Some("a;reason=skipped"))
        );
    }
    for text in [
        "{ a: { get: 'invest:/x/.{principal.sub}' } }",
        "{ a: { get: 'invest:/x/{principal.sub}{principal.sub}/y' } }",
        "{ a: { get: 'invest:/x/%2E{principal.sub}?q' } }",
    ] {
        let done = run(text, &Asked { sub: ".", ..ASKED }, &services(Vec::new()));
        assert_eq!(header(&done).as_deref(), Some("a;reason=skipped"), "{text}");
    }
    // In a query they are values like any other; a parameter that is there twice is none.
    let services = services(vec![("invest:/x?a=..&b=", json("1"))]);
    let done = run(
        "{ a: { get: 'invest:/x?a={principal.sub}&b={query.q}' } }",
        &Asked {
            sub: "..",
            query: "q=",
            ..ASKED
        },
        &services,
    );
    assert_eq!(body(&done), r#"{"a":1}"#);
    let done = run(
        "{ a: { get: 'invest:/x?b={query.q}' } }",
        &Asked {
            query: "q=1&q=2",
            ..ASKED
        },
        &services,
    );
    assert_eq!(header(&done).as_deref(), Some("a;reason=skipped"));
}

#[test]
fn fetches_the_same_only_once() {
    let text = "
a: { get: 'invest:/x/{principal.sub}' }
b: { get: 'invest:/x/u1' }
c: { get: 'invest:/x/{a.id}' }
d: { get: 'transfers:/x/u1' }";
    let services = services(vec![
        ("invest:/x/u1", json(r#"{"id":"u1"}"#)),
        ("transfers:/x/u1", json("0")),
    ]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"a":{"id":"u1"},"b":{"id":"u1"},"c":{"id":"u1"},"d":0}"#
    );
    assert_eq!(*services.called.lock().unwrap(), ["invest:/x/u1", "transfers:/x/u1"]);
}

#[test]
fn gives_each_part_its_own_time_on_a_shared_call() {
    // `a` gives up first, then `c`, whose call is dropped; only then the call that `b` still waits for is answered.
    let barrier = Arc::new(Barrier::new(2));
    let text = "
a: { get: 'invest:/x', timeout: 1ms }
b: { get: 'invest:/x', timeout: 60s }
c: { get: 'accounts:/hangs', timeout: 5ms }";
    let services = services(vec![
        ("invest:/x", Does::Meet(barrier.clone(), "1")),
        ("accounts:/hangs", Does::Hang),
    ]);
    let aggregate = compile(text).unwrap();
    let done = block_on(async {
        let deadline = Instant::now() + Duration::from_secs(60);
        let meets = async {
            services.drops.notified().await;
            barrier.wait().await;
        };
        futures::join!(aggregate.run(inputs(&aggregate, &ASKED), &services, deadline), meets).0
    });
    assert_eq!(body(&done), r#"{"a":null,"b":1,"c":null}"#);
    assert_eq!(header(&done).as_deref(), Some("a;reason=timeout, c;reason=timeout"));
    assert_eq!(services.called.lock().unwrap().len(), 2);
}

#[test]
fn ends_at_the_deadline_with_what_is_there() {
    let services = services(vec![("invest:/a", Does::Hang), ("invest:/c", json("3"))]);
    let text = "{ a: { get: 'invest:/a' }, b: { get: 'invest:/b/{a.x}' }, c: { get: 'invest:/c' } }";
    let aggregate = compile(text).unwrap();
    let done = block_on(async {
        aggregate
            .run(inputs(&aggregate, &ASKED), &services, Instant::now())
            .await
    });
    assert_eq!(body(&done), r#"{"a":null,"b":null,"c":3}"#);
    assert_eq!(header(&done).as_deref(), Some("a;reason=timeout, b;reason=skipped"));
}

#[test]
fn bounds_all_bodies_together() {
    let large: &'static str = Box::leak(format!("\"{}\"", "x".repeat(MAX_PART - 2)).into_boxed_str());
    let services = services(vec![("invest:/x", json(large))]);
    let parts: Vec<String> = (0..9).map(|at| format!("p{at}: {{ get: 'invest:/x' }}")).collect();
    let done = run(&parts.join("\n"), &ASKED, &services);
    assert_eq!(header(&done).as_deref(), Some("p8;reason=unreadable"));
}

#[test]
fn can_run_on_any_worker() {
    fn is_send<T: Send>(_: &T) {}
    let aggregate = compile("{ a: { get: 'invest:/x' } }").unwrap();
    let services = services(Vec::new());
    let inputs = inputs(&aggregate, &ASKED);
    is_send(&aggregate.run(inputs, &services, Instant::now()));
}

#[test]
fn names_mistakes_with_their_places() {
    for (text, found) in [
        ("{}", "from 1 to 32 parts"),
        (
            "a: { get: 'invets:/x' }",
            "t.yaml:1:11: unknown upstream `invets`, did you mean `invest`?",
        ),
        (
            "a: { get: 'invest:/{path.idd}' }",
            "unknown path parameter `idd`, did you mean `id`?",
        ),
        ("a: { get: 'invest:/{principal.name}' }", "expected `{principal.sub}`"),
        (
            "a: { get: 'invest:/{header.cookie}' }",
            "would write a credential into a URL",
        ),
        ("a: { get: 'invest:/{sub}' }", "`{sub}` is not a reference"),
        ("a: { get: 'invest:/{}' }", "is not a reference"),
        ("a: { get: 'invest:/{b.x}' }", "there is no part `b`"),
        (
            "ab: { get: 'invest:/x' }\nc: { get: 'invest:/{aba.x}' }",
            "did you mean `ab`?",
        ),
        ("a: { get: 'invest:/{a.x}' }", "t.yaml:1:11: `a` refers to itself"),
        ("a: { get: 'invest:/{path.id' }", "without its `}`"),
        ("a: { get: 'invest:/x/../y' }", "`.` and `..`"),
        ("a: { get: 'invest:/x/%2e./y' }", "`.` and `..`"),
        ("a: { get: 'invest:x' }", "is not `upstream:/path`"),
        ("a: { get: /x }", "is not `upstream:/path`"),
        ("a: { get: 'invest:/x y' }", "percent-encoded"),
        ("a: { get: 'invest:/x#y' }", "percent-encoded"),
        ("a: { get: 'invest:/x', requird: true }", "did you mean `required`?"),
        ("a: { get: 'invest:/x', timeout: 0s }", "above 0"),
        (
            "a: { get: 'invest:/x', required: true, default: 1 }",
            "no use for a `default`",
        ),
        ("path: { get: 'invest:/x' }", "stands for something else"),
    ] {
        let complaint = complaint(text);
        assert!(complaint.contains(found), "{text}: {complaint}");
    }
    let text = "a: { get: 'invest:/x' }\nb: { get: 'invest:/{c.x}' }\nc: { get: 'invest:/{a.x}{b.x}' }";
    assert_eq!(
        complaint(text),
        "t.yaml:2:11: `b` waits for itself: its references go round in a circle\n  t.yaml:3:11: by way of `c`"
    );
    // Whoever waits for a circle is in none, and other mistakes hide no circle.
    let text = "d: { get: 'invest:/{b.x}' }\nb: { get: 'invest:/{c.x}' }\nc: { get: 'invest:/{b.x}/{path.idd}' }\n\
                e: { get: 'invets:/{e.x}/{path.no}' }";
    let found = compile(text).unwrap_err();
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[0].starts_with("t.yaml:2:11: `b` waits for itself"), "{found:?}");
    assert!(
        found.iter().any(|found| found.contains("`e` refers to itself")),
        "{found:?}"
    );
    let anonymous = compile_with("a: { get: 'invest:/{principal.sub}' }", false).unwrap_err();
    assert!(anonymous[0].contains("needs `auth`"));
}

#[test]
fn needs_what_its_required_parts_need() {
    let needed = |text: &str| {
        let needed = compile(text).unwrap().needed_upstreams();
        needed
            .iter()
            .map(|index| UPSTREAMS[usize::from(index.0)])
            .collect::<Vec<_>>()
    };
    let none = "{ a: { get: 'accounts:/a' }, b: { get: 'transfers:/b' } }";
    assert!(needed(none).is_empty());
    let chain =
        "{ c: { get: 'invest:/{b.x}', required: true }, b: { get: 'transfers:/{a.x}' }, a: { get: 'accounts:/a' } }";
    assert_eq!(needed(chain), ["accounts", "transfers", "invest"]);
    let back = "{ a: { get: 'accounts:/a', required: true }, b: { get: 'transfers:/{a.x}' } }";
    assert_eq!(needed(back), ["accounts"]);
}

#[test]
fn names_what_is_frozen_as_denied() {
    let text = "{ a: { get: 'accounts:/a' }, b: { get: 'transfers:/b', default: [] } }";
    let frozen = Does::Fail(CallError::Frozen);
    let services = services(vec![("accounts:/a", json("1")), ("transfers:/b", frozen)]);
    let done = run(text, &ASKED, &services);
    assert_eq!(body(&done), r#"{"a":1,"b":[]}"#);
    assert_eq!(header(&done).as_deref(), Some("b;reason=denied"));
}
