#![no_main]
//! Any text is an expression or a list of findings, and an expression judges any caller and any request, never with a panic.

use std::sync::{Arc, Once};

use gwanmun::conf::{Load, Node, Value};
use gwanmun::engine::{
    Answer, Answers, Client, Facts, Headers, Lookup, Params, Principal, Question, RequestView, decide,
};
use gwanmun::snapshot::{Occasion, Snapshot, compile};
use http::{HeaderName, Method};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::constant(1_795_500_000, 250_000_000);

const AROUND: &str = "
listen: [{ address: 127.0.0.1:0 }]
clients: { ios: { header: { x-client: ios } }, web: { default: true } }
calendars: { seoul: { timezone: Asia/Seoul } }
policies: { p: { deny: { if: HERE }, reply: { code: p } }, q: { require: { if: HERE } } }
routes: { r: { match: 'GET /a/{a}/{customer}', auth: none, policies: [p, q], reply: { status: 200, json: {} } } }
";

/// What the lines of an input stand for; those that are missing are empty.
struct Input<'a> {
    text: &'a str,
    claims: &'a [u8],
    query: &'a str,
    param: &'a str,
    header: &'a [u8],
    seconds: i64,
}

impl<'a> Input<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        let mut line = || lines.next().unwrap_or_default();
        let text = |line: &'a [u8]| std::str::from_utf8(line).unwrap_or_default();
        Self {
            text: text(line()),
            claims: line(),
            query: text(line()),
            param: text(line()),
            header: line(),
            seconds: text(line()).parse().unwrap_or_default(),
        }
    }
}

/// The parser panics on some texts; the gateway catches that, but libFuzzer's hook would end the process first.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    let input = Input::read(bytes);
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let load = Load::new();
    let Some(mut document) = load.text("fuzz.yaml", AROUND) else {
        panic!("the text around the expression is YAML");
    };
    put(&mut document, input.text);
    let occasion = Occasion {
        now: NOW,
        at_start: false,
    };
    let snapshot = compile(&document, occasion, &load).filter(|_| !load.has_errors());
    assert!(snapshot.is_some() || load.has_errors(), "refused without a word");
    if let Some(snapshot) = snapshot {
        judge(&snapshot, &input);
    }
    for finding in load.into_findings(Some(&document)) {
        assert!(!finding.to_string().is_empty());
    }
});

/// Puts the text in place of each `HERE`.
fn put(node: &mut Node, expression: &str) {
    match &mut node.value {
        Value::Scalar { text, .. } if text == "HERE" => *text = expression.to_owned(),
        Value::Scalar { .. } | Value::Null => {}
        Value::List(items) => items.iter_mut().for_each(|item| put(item, expression)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| put(&mut entry.value, expression)),
    }
}

fn judge(snapshot: &Snapshot, input: &Input<'_>) {
    let claims = gwanmun::engine::claims::object(input.claims);
    let principal = claims.map(|claims| {
        Arc::new(Principal {
            authenticator: "a".into(),
            issuer: "i".into(),
            subject: "s".into(),
            scopes: Default::default(),
            roles: Default::default(),
            claims: claims.into(),
            auth_time: None,
            acr: None,
            expires: None,
            token_id: None,
            identity: Principal::frame("a", "i", "s"),
        })
    });
    let now = Timestamp::from_second(input.seconds).unwrap_or(NOW);
    let client = Client {
        name: "web".into(),
        index: 1,
    };
    let names = ["a".into(), "customer".into()];
    let mut facts = Facts {
        now,
        window_at: now,
        address: [192, 0, 2, 1].into(),
        client: &client,
        request: RequestView {
            method: &Method::GET,
            host: "h",
            path: "/a/b/c",
            query: input.query,
            headers: &Every(input.header),
        },
        params: Params {
            names: &names,
            values: [input.param, "c"].into_iter().collect(),
        },
        principal,
    };
    let Some(route) = snapshot.route("r") else {
        panic!("a route without findings is there");
    };
    for rule in &route.rules {
        assert_eq!(rule.policy.describe(&facts, None), rule.policy.describe(&facts, None));
    }
    let deciding = std::pin::pin!(decide(&route.rules, &mut facts, &Unfrozen));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(deciding.poll(&mut context).is_ready());
}

struct Every<'a>(&'a [u8]);

impl Headers for Every<'_> {
    fn first(&self, _: &HeaderName) -> Option<&[u8]> {
        Some(self.0)
    }

    fn is_repeated(&self, _: &HeaderName) -> bool {
        false
    }
}

/// Nothing is frozen, and nothing else is asked.
struct Unfrozen;

impl Lookup for Unfrozen {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        asked.iter().map(|_| Answer::Freezes(Vec::new())).collect()
    }
}
