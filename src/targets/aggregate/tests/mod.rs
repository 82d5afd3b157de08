#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod items;
mod merging;
mod parts;
mod settings;

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
        scopes: Default::default(),
        roles: Default::default(),
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
