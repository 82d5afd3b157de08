//! `explain`, the tests that stand in a file, and the gateway that serves agree on what becomes of a request.
//!
//! `GWANMUN_AGREEMENT_SEED` throws other dice, `GWANMUN_AGREEMENT_CASES` more of them.

mod cases;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use gwanmun::engine::{Freezable, Freeze};
use gwanmun::policies::freeze::{Held, HeldFreeze};
use gwanmun::rehearse::explain;
use gwanmun::snapshot::{Asked, Occasion, Snapshot, load};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::cases::{Caller, Case, Dice};
use crate::support::{Connection, Gateway, Issuer, Key, Reply, Request, Response, Upstream, guarded};

const GATE: &str = include_str!("gate.yaml");
const HOLIDAYS: &str = "
through: 2027-06-30
dates:
  2026-05-05: Children's Day
  2026-09-24: Chuseok
  2026-09-25: Chuseok
  2026-09-26: Chuseok
  2026-12-25: Christmas
  2027-01-01: New Year
  2027-03-03: a bridge
";
/// Before every instant that is asked about.
const BEGIN: &str = "2026-01-05T00:00:00+09:00";
/// What an operator has frozen, and until when: a route, and an upstream.
const FROZEN: [(Freezable, &str, &str); 2] = [
    (Freezable::Route, "closed", "2027-03-03T00:30:00+09:00"),
    (Freezable::Upstream, "invest", "2026-09-28T12:00:00+09:00"),
];
const TOKEN: &str = "0123456789abcdef0123456789abcdef-not-a-secret";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-no-secret";
const SEED: u64 = 20_260_923;
const CASES: usize = 10_000;
/// So many tests stand in one file.
const OF_A_FILE: usize = 5000;
/// So many are explained by the command, too.
const SAMPLES: usize = 12;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    status: u16,
    /// The rule that refuses.
    policy: Option<String>,
    code: Option<String>,
    reopens: Option<Timestamp>,
    /// The same as text, which an answer without a body does not tell.
    reopens_at: Option<String>,
    /// What the caller is told to do: `retry-after`, `www-authenticate`, `allow`.
    advice: [Option<String>; 3],
    /// The shadow rules that would have refused what is allowed.
    shadow: Vec<String>,
}

const ADVICE: [&str; 3] = ["retry-after", "www-authenticate", "allow"];

/// A gateway on the configuration, and the configuration in a folder of its own.
struct Agreement {
    gateway: Gateway,
    folder: tempfile::TempDir,
    yaml: String,
    snapshot: Snapshot,
    issuer: Issuer,
    shared: Key,
    _upstream: Upstream,
}

impl Agreement {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let issuer = Issuer::new();
        let yaml = guarded(GATE, &upstream, &issuer);
        let gateway = Gateway::with(&yaml)
            .file("holidays.yaml", HOLIDAYS)
            .environment("GWANMUN_ADMIN_TOKEN", TOKEN)
            .environment("AGREEMENT_SECRET", std::str::from_utf8(SECRET).unwrap())
            .rehearse_at(BEGIN)
            .start();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("holidays.yaml"), HOLIDAYS).unwrap();
        let file = folder.path().join("gate.yaml");
        std::fs::write(&file, &yaml).unwrap();
        let now = BEGIN.parse().unwrap();
        let snapshot = load(&file, Occasion { now, at_start: true }).0.unwrap();
        for (_, name, until) in FROZEN {
            let freeze = gateway.admin("PUT", &format!("/freezes/{name}")).bearer(TOKEN);
            freeze.body(json!({ "until": until }).to_string()).send().expect(200);
        }
        Self {
            gateway,
            folder,
            yaml,
            snapshot,
            issuer,
            shared: Key::hs256("shared", SECRET),
            _upstream: upstream,
        }
    }

    /// What the gateway answers; a second thread asks as well.
    fn live(&self, cases: &[Case]) -> Vec<Response> {
        let (first, second) = cases.split_at(cases.len() / 2);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| self.ask(second));
            let mut answers = self.ask(first);
            answers.extend(second.join().unwrap());
            answers
        })
    }

    fn ask(&self, cases: &[Case]) -> Vec<Response> {
        let mut connection: Option<Connection> = None;
        let mut answer = |case: &Case| {
            let mut open = connection.take().unwrap_or_else(|| self.gateway.connect());
            open.send(&self.request(case).bytes());
            let answer = open.response_to(case.method);
            connection = (answer.header("connection") != Some("close")).then_some(open);
            answer
        };
        cases.iter().map(&mut answer).collect()
    }

    fn request(&self, case: &Case) -> Request {
        let request = self.gateway.request(case.method, &case.target);
        let mut request = request.host(case.host).at(&case.at);
        let clients = &self.snapshot.clients;
        for (name, value) in case.client.into_iter().flat_map(|client| clients.headers_of(client)) {
            request = request.header(name.as_str(), value);
        }
        for (name, value) in &case.headers {
            request = request.header(name, value);
        }
        if let Some(ip) = case.ip {
            request = request.header("x-forwarded-for", ip);
        }
        match &case.caller {
            None => request,
            Some(caller) if caller.by == "partner" => request.header("x-token", &self.token(caller)),
            Some(caller) => request.bearer(&self.token(caller)),
        }
    }

    fn token(&self, caller: &Caller) -> String {
        let mut claims = Value::Object(caller.claims.clone());
        if caller.by == "customer" {
            // The changes of an issuer's claims take away what is `null`.
            let absent = claims["guardian"].is_null();
            return match absent {
                true => {
                    let mut all = self.issuer.claims(&claims);
                    all["guardian"] = Value::Null;
                    self.issuer.key().sign(&header(self.issuer.key()), &all.to_string())
                }
                false => self.issuer.token(&claims),
            };
        }
        claims["iss"] = json!(format!("https://{}.example", caller.by));
        let claims = self.issuer.claims(&claims);
        self.shared.sign(&header(&self.shared), &claims.to_string())
    }

    /// What `explain` says.
    fn explained(&self, case: &Case) -> Outcome {
        let told = explain(&self.snapshot, &self.asked(case)).unwrap();
        let reopens_at = told.decision.reopens_at.clone();
        let is_allowed = told.decision.effect == "allow";
        let would = told
            .rules
            .iter()
            .filter(|rule| rule.verdict == "would refuse" && is_allowed);
        Outcome {
            // Where a service answers, it says 200 here.
            status: told.answer.status.unwrap_or(200),
            policy: told.decision.policy.clone(),
            code: told.decision.code.clone(),
            reopens: reopens_at.as_ref().map(|at| at.parse().unwrap()),
            reopens_at,
            advice: ADVICE.map(|name| {
                told.answer
                    .headers
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.clone())
            }),
            shadow: would.map(|rule| rule.name.clone()).collect(),
        }
    }

    fn asked(&self, case: &Case) -> Asked {
        let ip = case
            .ip
            .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ip| ip.parse().unwrap());
        let mut asked = Asked::new(&case.line(), ip, case.instant).unwrap();
        for (name, value) in &case.headers {
            asked.add_header(&format!("{name}: {value}")).unwrap();
        }
        if let Some(client) = case.client {
            asked.come_from(client, &self.snapshot.clients).unwrap();
        }
        if let Some(caller) = &case.caller {
            asked.hold(caller.claims.clone()).unwrap();
            asked.via = Some(self.snapshot.defined.authenticators.get(caller.by).unwrap().0);
        }
        asked.frozen = frozen();
        asked
    }

    /// What the command says of the decision.
    fn commanded(&self, case: &Case) -> Value {
        let mut arguments = vec!["explain".to_owned(), "gate.yaml".to_owned(), case.line()];
        let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        add("--at", case.at.clone());
        for (name, value) in &case.headers {
            add("--header", format!("{name}: {value}"));
        }
        if let Some(client) = case.client {
            add("--client", client.to_owned());
        }
        if let Some(ip) = case.ip {
            add("--ip", ip.to_owned());
        }
        if let Some(caller) = &case.caller {
            std::fs::write(self.folder.path().join("claims.json"), json!(caller.claims).to_string()).unwrap();
            add("--as", "claims.json".to_owned());
            add("--via", caller.by.to_owned());
        }
        for (name, until) in case.frozen() {
            add("--frozen", format!("{name}={until}"));
        }
        arguments.extend(["--no-state".to_owned(), "--json".to_owned()]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = gwanmun(self.folder.path(), &arguments);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let decision = &told["decision"];
        // Where a service answers, nothing is said of its status.
        let status = decision["status"].as_u64().unwrap_or(200);
        json!({ "status": status, "policy": decision["policy"], "code": decision["code"], "reopens_at": decision["reopens_at"] })
    }

    /// The configuration with these cases as its tests, each expecting what the gateway answered.
    fn with_tests<'a>(&self, expected: impl Iterator<Item = (&'a Case, &'a Outcome)>) -> String {
        let mut text = format!("{}tests:\n", self.yaml);
        for (case, outcome) in expected {
            text.push_str(&format!("  - {}\n", case.test(outcome)));
        }
        text
    }

    /// What the command says of a configuration of that text.
    fn check(&self, name: &str, text: &str) -> Value {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        let output = gwanmun(self.folder.path(), &["check", name, "--at", BEGIN, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

/// The header of a token by that key.
fn header(key: &Key) -> Value {
    json!({ "alg": key.algorithm(), "typ": "at+jwt", "kid": key.id })
}

fn frozen() -> Held {
    let mut held = Held::default();
    for (kind, name, until) in FROZEN {
        held.insert(HeldFreeze {
            freeze: Arc::new(Freeze {
                kind,
                name: name.into(),
                until: Some(until.parse().unwrap()),
                reason: Arc::from(""),
            }),
            since: BEGIN.parse().unwrap(),
            by: IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
    }
    held
}

fn gwanmun(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command
        .current_dir(folder)
        .env("GWANMUN_ADMIN_TOKEN", TOKEN)
        .env("AGREEMENT_SECRET", std::str::from_utf8(SECRET).unwrap())
        .args(arguments);
    command.output().expect("the gateway's binary runs")
}

impl Case {
    /// The request as one writes it for `explain` and in tests.
    fn line(&self) -> String {
        format!("{} http://{}{}", self.method, self.host, self.target)
    }

    /// What is frozen still.
    fn frozen(&self) -> Vec<(&'static str, &'static str)> {
        let standing = FROZEN
            .iter()
            .filter(|(_, _, until)| self.instant < until.parse().unwrap());
        standing.map(|(_, name, until)| (*name, *until)).collect()
    }

    /// The test that stands in a file for it.
    fn test(&self, outcome: &Outcome) -> Value {
        let mut test = json!({ "at": self.at, "request": self.line(), "expect": outcome.expected() });
        let mut headers: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, value) in &self.headers {
            match headers.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(value),
                None => headers.push((name, vec![value])),
            }
        }
        let headers: HashMap<&str, Vec<&str>> = headers.into_iter().collect();
        if !headers.is_empty() {
            test["headers"] = json!(headers);
        }
        if let Some(client) = self.client {
            test["client"] = json!(client);
        }
        if let Some(ip) = self.ip {
            test["ip"] = json!(ip);
        }
        if let Some(caller) = &self.caller {
            test["as"] = Value::Object(caller.claims.clone());
            test["via"] = json!(caller.by);
        }
        let frozen: HashMap<&str, &str> = self.frozen().into_iter().collect();
        if !frozen.is_empty() {
            test["frozen"] = json!(frozen);
        }
        test
    }
}

impl Outcome {
    /// What the gateway answered; the rule stands in the record alone.
    fn of(answer: &Response, record: &Value) -> Self {
        let decision = &record["decision"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let code = text(&decision["code"]);
        let is_refused = code.is_some();
        let body = (is_refused && !answer.body.is_empty()).then(|| answer.json());
        if let Some(body) = &body {
            assert_eq!(text(&body["code"]), code, "{}", answer.summary());
        }
        assert_eq!(record["status"], answer.status, "{record}");
        Self {
            status: answer.status,
            policy: text(&decision["rule"]),
            code,
            reopens: text(&decision["reopens_at"]).map(|at| at.parse().unwrap()),
            reopens_at: body.and_then(|body| text(&body["reopens_at"])),
            advice: ADVICE.map(|name| answer.header(name).map(str::to_owned)),
            shadow: record["shadow"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(text)
                .collect(),
        }
    }

    /// As the command tells it.
    fn decision(&self) -> Value {
        json!({ "status": self.status, "policy": self.policy, "code": self.code, "reopens_at": self.reopens_at })
    }

    /// As a test expects it.
    fn expected(&self) -> Value {
        let Some(code) = &self.code else {
            return match self.status {
                // A service may have answered, which tests say nothing about.
                200 => json!("allow"),
                status => json!({ "status": status }),
            };
        };
        let mut expected = json!({ "status": self.status, "code": code, "reopens": "never" });
        if let Some(policy) = &self.policy {
            expected["policy"] = json!(policy);
        }
        if let Some(reopens) = self.reopens {
            expected["reopens"] = json!(reopens.to_string());
        }
        expected
    }
}

fn from_environment<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn explanations_tests_and_the_gateway_agree() {
    let seed = from_environment("GWANMUN_AGREEMENT_SEED", SEED);
    let count = from_environment("GWANMUN_AGREEMENT_CASES", CASES);
    let mut dice = Dice(seed);
    let cases: Vec<Case> = (0..count).map(|_| Case::throw(&mut dice)).collect();
    let agreement = Agreement::open();

    let answers = agreement.live(&cases);
    let explained: Vec<Outcome> = std::thread::scope(|scope| {
        let (first, second) = cases.split_at(count / 2);
        let second = scope.spawn(|| second.iter().map(|case| agreement.explained(case)).collect::<Vec<_>>());
        let mut all: Vec<Outcome> = first.iter().map(|case| agreement.explained(case)).collect();
        all.extend(second.join().unwrap());
        all
    });

    let records = agreement.gateway.records(count + FROZEN.len());
    let by_id: HashMap<&str, &Value> = records
        .iter()
        .filter_map(|record| Some((record["id"].as_str()?, record)))
        .collect();
    let mut outcomes = Vec::with_capacity(count);
    for (at, ((case, answer), explained)) in cases.iter().zip(&answers).zip(&explained).enumerate() {
        let record = by_id[answer.header("x-request-id").unwrap()];
        let mut live = Outcome::of(answer, record);
        if answer.body.is_empty() {
            live.reopens_at.clone_from(&explained.reopens_at);
        }
        assert_eq!(
            live, *explained,
            "case {at} of seed {seed}: live and explained differ: {case:#?}"
        );
        outcomes.push(live);
    }

    let expected: Vec<(&Case, &Outcome)> = cases.iter().zip(&outcomes).collect();
    for chunk in expected.chunks(OF_A_FILE) {
        let told = agreement.check("tests.yaml", &agreement.with_tests(chunk.iter().copied()));
        assert_eq!(
            (&told["errors"], &told["tests"]),
            (&json!(0), &json!({ "tried": chunk.len(), "failed": 0 })),
            "seed {seed}: {:#}",
            told["findings"]
        );
    }
    is_worth_comparing(&outcomes);

    let some: Vec<(&Case, &Outcome)> = expected.into_iter().step_by(count.div_ceil(SAMPLES)).collect();
    for (case, outcome) in &some {
        assert_eq!(agreement.commanded(case), outcome.decision(), "seed {seed}: {case:#?}");
    }
    // A test that expects something else than what the gateway answers fails, and no other does.
    let mut spoilt: Vec<(&Case, Outcome)> = some
        .into_iter()
        .map(|(case, outcome)| (case, outcome.clone()))
        .collect();
    let at = spoilt.len() / 2;
    spoilt[at].1.status = 418;
    spoilt[at].1.code = Some("TEAPOT".to_owned());
    let text = agreement.with_tests(spoilt.iter().map(|(case, outcome)| (*case, outcome)));
    let told = agreement.check("spoilt.yaml", &text);
    let failed = &told["tests"]["failed"];
    assert_eq!((&told["errors"], failed), (&json!(1), &json!(1)), "{told:#}");
    let mut findings = told["findings"].as_array().unwrap().iter();
    let failing = findings.find(|finding| finding["severity"] == "error").unwrap();
    assert_eq!(failing["path"], format!("tests[{at}]"));
}

/// That all agree says something only where there is something to agree on.
fn is_worth_comparing(outcomes: &[Outcome]) {
    let share = |is: &dyn Fn(&&Outcome) -> bool| outcomes.iter().filter(is).count() * 100 / outcomes.len();
    let mut policies: HashMap<&str, usize> = HashMap::new();
    for policy in outcomes.iter().filter_map(|outcome| outcome.policy.as_deref()) {
        *policies.entry(policy).or_default() += 1;
    }
    assert!(share(&|outcome| outcome.code.is_none()) >= 10, "{policies:?}");
    assert!(share(&|outcome| outcome.reopens.is_some()) >= 5, "{policies:?}");
    assert!(policies.len() >= 20, "{policies:?}");
}
