#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use smallvec::smallvec;
use tokio::sync::{Barrier, Notify};
use tokio::time::Instant;

use super::*;
use crate::engine::{Client, Facts, Headers, Params, Principal, RequestView};
use crate::targets::{Call, Wanted};
use crate::upstreams::{CallError, CallFailure, Called};

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
            condition: &condition,
        },
    );
    match aggregate.filter(|_| !load.has_errors()) {
        Some(aggregate) => Ok(aggregate),
        None => Err(load.into_findings(None).iter().map(ToString::to_string).collect()),
    }
}

/// Stands for conditions: `{ is: true }`.
fn condition(node: &Node) -> Option<Arc<dyn Holds>> {
    let is = node.get("is")?.to_json() == "true";
    Some(Arc::new(Is(is)))
}

#[derive(Debug)]
struct Is(bool);

impl Holds for Is {
    fn holds(&self, _: &Facts<'_>) -> bool {
        self.0
    }

    fn reads_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn reads_address(&self) -> bool {
        false
    }

    fn reads_time(&self) -> bool {
        false
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
    /// Of these, those that took too long.
    overdue: AtomicUsize,
    drops: Notify,
}

struct CountsDrop<'a>(&'a Services, bool, Arc<AtomicBool>);

impl Drop for CountsDrop<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
            let late = self.2.load(Ordering::SeqCst);
            self.0.overdue.fetch_add(usize::from(late), Ordering::SeqCst);
            self.0.drops.notify_one();
        }
    }
}

impl Call for Services {
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn call(
        &self,
        wanted: Wanted,
        overdue: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<Called, CallFailure>> + Send {
        assert_eq!(wanted.max_body, MAX_PART);
        let to = match &wanted.to {
            Destination::Upstream(upstream) => UPSTREAMS[usize::from(upstream.0)],
            Destination::Route(_) => "",
        };
        let posted = wanted.post.map(|body| format!(" {}", String::from_utf8_lossy(&body)));
        let name = format!("{to}:{}{}", wanted.target, posted.unwrap_or_default());
        let does = self
            .answers
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, does)| does.clone());
        self.called.lock().unwrap().push(name.clone());
        let counts = CountsDrop(self, false, overdue);
        async move {
            let mut counts = counts;
            let answer = match does.unwrap_or_else(|| panic!("nobody expects {name}")) {
                Does::Answer(status, kind, body) => Ok((status, kind, body)),
                Does::Fail(error) => Err(error.into()),
                Does::Hang => std::future::pending().await,
                Does::Meet(barrier, body) => {
                    barrier.wait().await;
                    Ok((200, "application/json", body))
                }
            };
            counts.1 = true;
            answer.map(|(status, kind, body)| Called {
                status: StatusCode::from_u16(status).unwrap(),
                headers: Arc::new(HeaderMap::from_iter([
                    (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
                    (HeaderName::from_static("x-of"), HeaderValue::try_from(to).unwrap()),
                ])),
                body: body.into(),
                kept: None,
                lacks: None,
                upstream: None,
            })
        }
    }
}

fn services(answers: Vec<(&'static str, Does)>) -> Services {
    Services {
        answers,
        called: Mutex::default(),
        dropped: AtomicUsize::new(0),
        overdue: AtomicUsize::new(0),
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
    let facts = Facts {
        now: jiff::Timestamp::UNIX_EPOCH,
        window_at: jiff::Timestamp::UNIX_EPOCH,
        address: [127, 0, 0, 1].into(),
        client: &Client::unnamed(),
        request,
        params,
        principal: Some(Arc::new(principal)),
    };
    aggregate.inputs(&facts)
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

fn lacking(aggregated: &Aggregated) -> Option<String> {
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
    assert_eq!((lacking(&done), done.parts.len()), (None, 3));
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
        lacking(&done).as_deref(),
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
        lacking(&done).as_deref(),
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
        assert_eq!(
            services.overdue.load(Ordering::SeqCst),
            0,
            "nobody waited for it too long"
        );
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
        assert_eq!(lacking(&done).as_deref(), Some("recent;reason=skipped"), "{balance}");
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
            (body(&done), lacking(&done).as_deref()),
            (r#"{"a":null}"#, Some("a;reason=skipped"))
        );
    }
    for text in [
        "{ a: { get: 'invest:/x/.{principal.sub}' } }",
        "{ a: { get: 'invest:/x/{principal.sub}{principal.sub}/y' } }",
        "{ a: { get: 'invest:/x/%2E{principal.sub}?q' } }",
    ] {
        let done = run(text, &Asked { sub: ".", ..ASKED }, &services(Vec::new()));
        assert_eq!(lacking(&done).as_deref(), Some("a;reason=skipped"), "{text}");
    }
    // In a query they are values like any other; a parameter that is there twice is none, readable or not.
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
    for query in ["q=1&q=2", "q=1&q=%FF", "q=%FF"] {
        let done = run(
            "{ a: { get: 'invest:/x?b={query.q}' } }",
            &Asked { query, ..ASKED },
            &services,
        );
        assert_eq!(lacking(&done).as_deref(), Some("a;reason=skipped"), "{query}");
    }
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
    assert_eq!(lacking(&done).as_deref(), Some("a;reason=timeout, c;reason=timeout"));
    assert_eq!(services.called.lock().unwrap().len(), 2);
    assert_eq!(services.overdue.load(Ordering::SeqCst), 1, "the hanging one alone");
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
    assert_eq!(lacking(&done).as_deref(), Some("a;reason=timeout, b;reason=skipped"));
}

#[test]
fn bounds_all_bodies_together() {
    let large: &'static str = Box::leak(format!("\"{}\"", "x".repeat(MAX_PART - 2)).into_boxed_str());
    let services = services(vec![("invest:/x", json(large))]);
    let parts: Vec<String> = (0..9).map(|at| format!("p{at}: {{ get: 'invest:/x' }}")).collect();
    let done = run(&parts.join("\n"), &ASKED, &services);
    assert_eq!(lacking(&done).as_deref(), Some("p8;reason=unreadable"));
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
        ("a: { get: x }", "is not `upstream:/path`"),
        ("a: { timeout: 1s }", "t.yaml:1:1: part `a` calls nobody"),
        ("a: { get: 'invest:/x', post: 'invest:/x' }", "either `get` or `post`"),
        ("a: { get: 'invest:/x', body: { a: 1 } }", "sent by `post` alone"),
        (
            "a: { post: 'invest:/x', body: { a: '{b.x}' } }",
            "t.yaml:1:31: `{b.x}`: there is no part `b`",
        ),
        ("a: { post: 'invest:/x', cache: 1s }", "what is posted is not kept"),
        ("a: { get: /x, cache: 1s }", "as that route's `cache` says"),
        ("a: { get: 'invest:/x', cache: 0s }", "a time above 0"),
        (
            "a: { get: 'invest:/{principal.sub}', cache: { ttl: 1s, share: public } }",
            "cannot depend on `{principal.sub}`",
        ),
        (
            "a: { get: 'invest:/x', cache: { ttl: 1s, share: pubic } }",
            "did you mean `public`?",
        ),
        ("a: { get: 'invest:/{each.x}' }", "`{each}` needs `each:`"),
        ("a: { get: 'invest:/x', each: b.items }", "there is no part `b`"),
        ("a: { get: 'invest:/x', each: a.items }", "`a` refers to itself"),
        (
            "a: { get: 'invest:/{b.x[0]}' }\nb: { get: 'invest:/x' }",
            "is not the way to a value",
        ),
        ("a: { get: 'invest:/x', pick: 'x[*]' }", "is not the way to one member"),
        ("a: { get: 'invest:/x', pick: '' }", "is not the way to one member"),
        ("a: { get: 'invest:/x', group: 'a b' }", "is not a name"),
        (
            "a: { get: 'invest:/x', spread: true, default: [] }",
            "its `default` is a map",
        ),
        ("a: { get: 'invest:/x', spread: [] }", "no member is named"),
        (
            "a: { get: 'invest:/x', pass_status: [200] }",
            "is not a status from 400 to 599",
        ),
        (
            "a: { get: 'invest:/x', headers: [set-cookie] }",
            "of the part's own answer",
        ),
        (
            "a: { get: 'invest:/x', headers: [content-type] }",
            "of the part's own answer",
        ),
        ("a: { get: 'invest:/x', retry: { attempts: 6 } }", "at most 5"),
        (
            "a: { get: 'invest:/x', retry: { budget: 20% } }",
            "unknown key `budget`",
        ),
        (
            "a: { get: 'invest:/x', group: b }\nb: { get: 'invest:/x' }",
            "t.yaml:2:1: two members would be called `b`\n  t.yaml:1:31: the other one",
        ),
        (
            "a: { get: 'invest:/x', spread: [b] }\nb: { get: 'invest:/x' }",
            "two members would be called `b`",
        ),
        (
            "a: { get: 'invest:/x', spread: true, default: { x: 1, b: 0 } }\nb: { get: 'invest:/x' }",
            "t.yaml:2:1: two members would be called `b`\n  t.yaml:1:55: the other one",
        ),
        (
            "a: { get: 'invest:/x', spread: true, default: { b: 0 } }\nb: { get: 'invest:/y', spread: true, default: { b: 1 } }",
            "t.yaml:2:49: two members would be called `b`\n  t.yaml:1:49: the other one",
        ),
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
    let frozen = Does::Fail(CallError::Denied);
    let services = services(vec![("accounts:/a", json("1")), ("transfers:/b", frozen)]);
    let done = run(text, &ASKED, &services);
    assert_eq!(body(&done), r#"{"a":1,"b":[]}"#);
    assert_eq!(lacking(&done).as_deref(), Some("b;reason=denied"));
}

#[test]
fn joins_the_values_of_an_array() {
    let orders = r#"{"items":[{"id":"a,b","n":1},{"id":7.0},{"x":1},{"id":null}],"none":[],"odd":[{"id":{}}]}"#;
    let text = "
orders: { get: 'accounts:/orders', required: true }
names:  { get: 'invest:/x?ids={orders.items[*].id}' }
along:  { get: 'invest:/x/{orders.items[*].id}/y' }
none:   { get: 'invest:/x?ids={orders.none[*].id}' }
odd:    { get: 'invest:/x?ids={orders.odd[*].id}' }
whole:  { get: 'invest:/x?ids={orders.items}' }";
    let services = services(vec![
        ("accounts:/orders", json(orders)),
        ("invest:/x?ids=a%2Cb,7.0", json("1")),
        ("invest:/x/a%2Cb,7.0/y", json("2")),
    ]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        lacking(&done).as_deref(),
        Some("none;reason=skipped, odd;reason=skipped, whole;reason=skipped")
    );
    assert!(body(&done).contains(r#""names":1,"along":2,"#), "{}", body(&done));
}

const EACH: &str = "
orders: { get: 'accounts:/orders' }
stock:  { get: 'invest:/stock/{each.id}', each: orders.items }
ids:    { get: 'invest:/stock/{each}', each: 'orders.items[*].id' }";

#[test]
fn calls_once_for_every_item_and_keeps_their_order() {
    let services = services(vec![
        (
            "accounts:/orders",
            json(r#"{"items":[{"id":2},{"id":1},{"id":2},{"id":null}]}"#),
        ),
        ("invest:/stock/1", json("1.0")),
        ("invest:/stock/2", json("2.0")),
        ("invest:/stock/null", json("0")),
    ]);
    let done = run(EACH, &ASKED, &services);
    assert_eq!(
        body(&done),
        r#"{"orders":{"items":[{"id":2},{"id":1},{"id":2},{"id":null}]},"stock":[2.0,1.0,2.0,null],"ids":[2.0,1.0,2.0,null]}"#
    );
    // An item that names nothing is missing, and said to be.
    assert_eq!(
        lacking(&done).as_deref(),
        Some("stock;reason=skipped, ids;reason=skipped")
    );
    assert_eq!(services.called.lock().unwrap().len(), 3, "the same is asked once");
}

#[test]
fn gives_null_for_items_that_fail_and_fails_where_they_are_required() {
    let answers = || {
        vec![
            ("accounts:/orders", json(r#"{"items":[{"id":1},{"id":2}]}"#)),
            ("invest:/stock/1", Does::Answer(500, "", "")),
            ("invest:/stock/2", json("2")),
        ]
    };
    let text = EACH.lines().take(3).collect::<Vec<_>>().join("\n");
    let done = run(&text, &ASKED, &services(answers()));
    assert_eq!(
        body(&done),
        r#"{"orders":{"items":[{"id":1},{"id":2}]},"stock":[null,2]}"#
    );
    assert_eq!(lacking(&done).as_deref(), Some("stock;reason=status"));
    let required = text.replace("each: orders.items", "each: orders.items, required: true");
    let failure = run(&required, &ASKED, &services(answers())).body.unwrap_err();
    assert_eq!((&*failure.part, failure.reason), ("stock", Reason::Status));
}

#[test]
fn bounds_how_many_items_are_asked_for_and_how_many_at_once() {
    let items = |count: usize| -> &'static str {
        let items: Vec<String> = (0..count).map(|id| id.to_string()).collect();
        Box::leak(format!("[{}]", items.join(",")).into_boxed_str())
    };
    let text = "all: { get: 'accounts:/all' }\none: { get: 'invest:/{each}', each: all }";
    let done = run(text, &ASKED, &services(vec![("accounts:/all", json(items(101)))]));
    assert_eq!(lacking(&done).as_deref(), Some("one;reason=unreadable"));
    let empty = run(text, &ASKED, &services(vec![("accounts:/all", json("[]"))]));
    assert_eq!((body(&empty), lacking(&empty)), (r#"{"all":[],"one":[]}"#, None));

    // Eight are under way; the ninth waits, and two other parts do not.
    let text = format!("{text}\nx: {{ get: 'transfers:/x' }}\ny: {{ get: 'transfers:/y/{{x.id}}' }}");
    let names: Vec<&'static str> = (0..20)
        .map(|id| -> &'static str { Box::leak(format!("invest:/{id}").into_boxed_str()) })
        .collect();
    let mut answers: Vec<_> = names.into_iter().map(|name| (name, Does::Hang)).collect();
    answers.push(("accounts:/all", json(items(20))));
    answers.push(("transfers:/x", json(r#"{"id":1}"#)));
    answers.push(("transfers:/y/1", json("1")));
    let services = services(answers);
    let aggregate = compile(&text).unwrap();
    let done = block_on(async {
        let deadline = Instant::now() + Duration::from_millis(50);
        aggregate.run(inputs(&aggregate, &ASKED), &services, deadline).await
    });
    assert_eq!(lacking(&done).as_deref(), Some("one;reason=timeout"));
    assert!(body(&done).ends_with(r#""y":1}"#), "{}", body(&done));
    let called = services.called.lock().unwrap();
    assert_eq!(
        called.iter().filter(|name| name.starts_with("invest")).count(),
        8,
        "{called:?}"
    );
    assert_eq!(services.dropped.load(Ordering::SeqCst), 8);
    assert_eq!(
        services.overdue.load(Ordering::SeqCst),
        0,
        "the whole was, no call of it"
    );
}

#[test]
fn posts_what_its_body_says() {
    let text = r#"
a: { get: 'accounts:/a' }
b: { post: 'invest:/b', body: { ids: '{a.items[*].id}', one: '{a.n}', of: '{principal.sub}', text: 'no {a.n} of {query.q}', limit: 5, all: [true, '{a.items}'] } }
c: { post: 'invest:/c' }
d: { post: 'invest:/d', body: '{a.missing}' }"#;
    let services = services(vec![
        (
            "accounts:/a",
            json(r#"{"items":[{"id":1.10},{"id":"\u00e4"}],"n":1e400}"#),
        ),
        (
            r#"invest:/b {"ids":[1.10,"\u00e4"],"one":1e400,"of":"u1","text":"no 1e400 of a","limit":5,"all":[true,[{"id":1.10},{"id":"\u00e4"}]]}"#,
            json("1"),
        ),
        ("invest:/c ", json("2")),
    ]);
    let done = run(text, &ASKED, &services);
    assert!(body(&done).ends_with(r#""b":1,"c":2,"d":null}"#), "{}", body(&done));
    assert_eq!(lacking(&done).as_deref(), Some("d;reason=skipped"));
}

#[test]
fn takes_a_listed_status_for_nothing_there() {
    let text = "
a: { get: 'invest:/a', pass_status: [404], default: [] }
b: { get: 'invest:/b', pass_status: [404] }
c: { get: 'invest:/c/{b.id}' }";
    let none = || Does::Answer(404, "text/html", "stack trace");
    let missing = services(vec![("invest:/a", none()), ("invest:/b", none())]);
    let done = run(text, &ASKED, &missing);
    assert_eq!(body(&done), r#"{"a":[],"b":null,"c":null}"#);
    assert_eq!(lacking(&done).as_deref(), Some("c;reason=skipped"));

    let required = "a: { get: 'invest:/a', pass_status: [404, 409], required: true }";
    for (status, whole) in [(404, 404), (409, 409), (410, 502), (500, 502)] {
        let services = services(vec![("invest:/a", Does::Answer(status, "application/json", "{}"))]);
        let failure = run(required, &ASKED, &services).body.unwrap_err();
        assert_eq!((failure.status.as_u16(), failure.reason), (whole, Reason::Status));
    }
}

#[test]
fn leaves_out_what_is_not_asked_for() {
    let text = "
a: { get: 'invest:/a', when: { is: false }, default: { id: 5 } }
b: { get: 'invest:/b/{a.id}', when: { is: true } }
c: { get: 'invest:/c', when: { is: false }, required: false }";
    let services = services(vec![("invest:/b/5", json("1"))]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        (body(&done), lacking(&done)),
        (r#"{"a":{"id":5},"b":1,"c":null}"#, None)
    );
}

#[test]
fn picks_groups_and_spreads() {
    let text = "
a: { get: 'invest:/a', pick: data.items }
b: { get: 'invest:/b', group: money }
c: { get: 'invest:/c', spread: [y, x] }
d: { get: 'invest:/d', spread: true, group: money }
e: { get: 'invest:/e', pick: data.missing }";
    let services = services(vec![
        ("invest:/a", json(r#"{"data":{"items":[1, 2]},"rest":0}"#)),
        ("invest:/b", json("1.10")),
        ("invest:/c", json(r#"{"x":1,"secret":2,"\u0079":-0}"#)),
        ("invest:/d", json(r#"{"p":{"q":1},"r":[]}"#)),
        ("invest:/e", json(r#"{"data":{}}"#)),
    ]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        (body(&done), lacking(&done)),
        (
            r#"{"a":[1, 2],"money":{"b":1.10,"p":{"q":1},"r":[]},"x":1,"\u0079":-0,"e":null}"#,
            None
        )
    );
}

#[test]
fn never_writes_a_name_twice() {
    let text = "
a: { get: 'invest:/a', spread: true, default: { q: 0 } }
b: { get: 'invest:/b', spread: true }
c: { get: 'invest:/c' }";
    let with = |a: &'static str, b: &'static str| {
        let services = services(vec![
            ("invest:/a", json(a)),
            ("invest:/b", json(b)),
            ("invest:/c", json("1")),
        ]);
        let done = run(text, &ASKED, &services);
        (body(&done).to_owned(), lacking(&done).unwrap_or_default())
    };
    assert_eq!(
        with(r#"{"x":1}"#, r#"{"y":2}"#),
        (r#"{"x":1,"y":2,"c":1}"#.into(), String::new())
    );
    let taken = (r#"{"q":0,"y":2,"c":1}"#.to_owned(), "a;reason=unreadable".to_owned());
    assert_eq!(with(r#"{"c":5}"#, r#"{"y":2}"#), taken);
    assert_eq!(with("[1]", r#"{"y":2}"#), taken);
    let second = (r#"{"x":1,"c":1}"#.to_owned(), "b;reason=unreadable".to_owned());
    assert_eq!(with(r#"{"x":1}"#, r#"{"\u0078":2}"#), second);
    assert_eq!(with(r#"{"x":1}"#, "null").1, "");
    // The names of a default are its part's own, whether it is there or stands by.
    let own = (r#"{"q":1,"y":2,"c":1}"#.to_owned(), String::new());
    assert_eq!(with(r#"{"q":1}"#, r#"{"y":2}"#), own);
    let both = (
        r#"{"q":0,"c":1}"#.to_owned(),
        "a;reason=unreadable, b;reason=unreadable".to_owned(),
    );
    assert_eq!(with("[1]", r#"{"q":2}"#), both);
    let stood_by = (r#"{"x":1,"c":1}"#.to_owned(), "b;reason=unreadable".to_owned());
    assert_eq!(with(r#"{"x":1}"#, r#"{"q":2}"#), stood_by);
    let grouped = text.replace("c' }", "c' }\nd: { get: 'invest:/b', spread: true, group: g }");
    let services_of = services(vec![
        ("invest:/a", json("7")),
        ("invest:/b", json(r#"{"q":2}"#)),
        ("invest:/c", json("1")),
    ]);
    let done = run(&grouped, &ASKED, &services_of);
    assert_eq!(body(&done), r#"{"q":0,"c":1,"g":{"q":2}}"#, "an object of its own");
    let required = "a: { get: 'invest:/a', spread: true, required: true }";
    let services = services(vec![("invest:/a", json("7"))]);
    assert_eq!(
        run(required, &ASKED, &services).body.unwrap_err().reason,
        Reason::Unreadable
    );
}

#[test]
fn carries_the_headers_that_are_chosen() {
    let text = "{ a: { get: 'invest:/a', headers: [x-of, x-none] }, b: { get: 'accounts:/b' } }";
    let services = services(vec![("invest:/a", json("1")), ("accounts:/b", json("2"))]);
    let done = run(text, &ASKED, &services);
    assert_eq!(
        done.headers,
        [(HeaderName::from_static("x-of"), HeaderValue::from_static("invest"))]
    );
    assert_eq!(done.freshness.len(), 2);
}

#[test]
fn carries_no_headers_of_what_is_not_there() {
    let text = "a: { get: 'invest:/a', headers: [x-of], default: 1, pass_status: [404] }";
    for (status, kind, body) in [
        (500, "application/json", "{}"),
        (404, "application/json", "{}"),
        (206, "application/json", "{}"),
        (304, "application/json", ""),
        (200, "text/html", "{}"),
    ] {
        let services = services(vec![("invest:/a", Does::Answer(status, kind, body))]);
        assert_eq!(run(text, &ASKED, &services).headers, [], "{status}");
    }
    let spread = "{ a: { get: 'invest:/a', headers: [x-of], spread: true }, b: { get: 'accounts:/b' } }";
    let services = services(vec![("invest:/a", json(r#"{"b":1}"#)), ("accounts:/b", json("2"))]);
    let done = run(spread, &ASKED, &services);
    assert_eq!((body(&done), &done.headers[..]), (r#"{"b":2}"#, &[][..]));
}

#[test]
fn takes_no_body_of_a_status_that_has_none() {
    for status in [204, 205] {
        let services = services(vec![(
            "invest:/a",
            Does::Answer(status, "application/json", r#"{"x":1}"#),
        )]);
        let done = run("a: { get: 'invest:/a' }", &ASKED, &services);
        assert_eq!((body(&done), lacking(&done)), (r#"{"a":null}"#, None), "{status}");
    }
}

#[test]
fn asks_routes_of_its_own_for_paths() {
    let text = "a: { get: '/products/{path.id}?x={query.q}' }";
    let services = services(vec![(":/products/7?x=a", json("1"))]);
    assert_eq!(body(&run(text, &ASKED, &services)), r#"{"a":1}"#);
    let aggregate = compile(text).unwrap();
    let inner: Vec<&str> = aggregate.inner().map(|inner| inner.sample).collect();
    assert_eq!(inner, ["/products/x?x=x"]);
    assert!(aggregate.upstreams().is_empty());
    let told: Vec<_> = aggregate.describe().collect();
    assert_eq!(told, [("a", "GET /products/{path.id}?x={query.q}".to_owned())]);
}

#[test]
fn begins_with_who_took_longest_last_time() {
    let answers = vec![
        ("invest:/a", json("1")),
        ("invest:/b", json("2")),
        ("invest:/c", json("3")),
    ];
    let text = "{ a: { get: 'invest:/a' }, b: { get: 'invest:/b' }, c: { get: 'invest:/c' } }";
    let aggregate = compile(text).unwrap();
    let order = || {
        let services = services(answers.clone());
        let deadline = Instant::now() + Duration::from_secs(60);
        block_on(aggregate.run(inputs(&aggregate, &ASKED), &services, deadline));
        services.called.into_inner().unwrap()
    };
    assert_eq!(order(), ["invest:/a", "invest:/b", "invest:/c"], "as they stand");
    for (part, seconds) in aggregate.parts.iter().zip([1, 3, 2]) {
        part.note(Duration::from_secs(seconds));
    }
    assert_eq!(order(), ["invest:/b", "invest:/c", "invest:/a"]);
}
