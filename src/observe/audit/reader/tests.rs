use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::Value;

use super::super::chain::LineHash;
use super::super::format::{Entry, write_line};
use super::*;
use crate::engine::{Extent, Record, Revocation, Whom};
use crate::observe::samples::{instant, records, transfer};

fn line(record: &Record) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write_line(&mut out, 7, Some(&LineHash::of(b"x")), &Entry::Request(record));
    out.split_off(b"before".len())
}

fn read(line: &[u8]) -> Recorded {
    match read_line(line) {
        Ok(Line::Request(recorded)) => *recorded,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(line)),
    }
}

#[test]
fn writes_the_documented_schema() {
    let mut record = transfer();
    record.rehearsal = true;
    let written = String::from_utf8(line(&record)).unwrap();
    let expected = concat!(
        r#"{"v":1,"n":7,"prev":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","#,
        r#""id":"0b0c6f4e9a5d4b7f8f1e2d3c4b5a6978","at":"2026-11-24T03:00:00.123456789Z","#,
        r#""config":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","route":"transfer","#,
        r#""method":"POST","host":"bank.example","template":"/transfers/{account}/{rest...}","#,
        r#""params":{"account":"a%2F1","rest":"b/c"},"headers":{"x-client":["ios"]},"#,
        r#""query":{"dry run":["1","a&b=c"]},"credential":"bearer","address":"192.0.2.7","client":"ios","#,
        r#""principal":{"authenticator":"customer","issuer":"https://id.bank.example","sub":"u-1029","#,
        r#""scopes":["transfer:write","accounts:read"],"roles":["customer"],"acr":"otp","#,
        r#""auth_time":"2026-11-24T02:58:00Z","exp":"2026-11-24T03:10:00Z","jti":"7d1c","#,
        r#""claims":{"tier":"gold","address.country":"KR"}},"decision":{"effect":"allow"},"#,
        r#""shadow":["night-shadow"],"answers":[{"rule":"flood","limit":{"admitted":true,"remaining":999,"#,
        r#""reset_ns":1049999999,"retry_after_ns":0}},{"rule":"customer","principal":true},"#,
        r#"{"rule":"per-customer","limit":{"admitted":true,"remaining":39,"reset_ns":1049999999,"retry_after_ns":0}}],"#,
        r#""status":201,"duration_ms":4.207,"request_bytes":312,"response_bytes":128,"#,
        r#""upstream":{"name":"transfers","endpoint":"127.0.0.1:7003","status":201,"ms":3.950,"tries":1},"#,
        r#""rehearsal":true}"#,
    );
    assert_eq!(written, expected);
}

#[test]
fn puts_path_and_query_together_again() {
    let recorded = read(&line(&transfer()));
    assert_eq!(recorded.path, "/transfers/a%2F1/b/c");
    let view = recorded.view();
    let values: Option<Vec<Cow<'_, str>>> = view.query_sent("dry run").collect();
    assert_eq!(values.unwrap(), ["1", "a&b=c"]);
    assert_eq!(view.header(&HeaderName::from_static("x-client")), Some("ios"));
    let claims = &recorded.principal.as_ref().unwrap();
    assert_eq!(claims.claim("address.country"), Some(&Value::from("KR")));
    assert_eq!(claims.claim("email"), None);
}

#[test]
fn says_what_came_as_credential_and_shows_none() {
    for word in [
        "absent",
        "bearer",
        "header",
        "cookie",
        "query",
        "repeated",
        "unreadable",
    ] {
        let mut record = transfer();
        record.request.credential = word;
        let recorded = read(&line(&record));
        assert_eq!(Headers::credential(&recorded), Some(word));
        assert_eq!(recorded.first(&http::header::AUTHORIZATION), None);
    }
}

#[test]
fn writes_499_for_a_client_that_left() {
    let mut record = transfer();
    record.status = 0;
    assert_eq!(read(&line(&record)).status, 499);
}

#[test]
fn refuses_what_no_gateway_writes() {
    let good = String::from_utf8(line(&transfer())).unwrap();
    read(good.as_bytes());
    for (from, to) in [
        (r#""v":1"#, r#""v":2"#),
        (r#""route":"#, r#""ruote":"#),
        (r#""status":201,"dur"#, r#""status":201,"status":201,"dur"#),
        (r#""status":201,"dur"#, r#""status":"201","dur"#),
        (r#""rest":"b/c""#, r#""account":"b/c""#),
        (r#","rest":"b/c""#, ""),
        (r#""credential":"bearer""#, r#""credential":"token""#),
        (r#""principal":true"#, r#""principal":false"#),
        (r#""principal":true"#, r#""refused":"Bad Code""#),
        (r#""principal":true"#, r#""principal":true,"unavailable":"x""#),
        (r#""address":"192.0.2.7""#, r#""address":"192.0.2.777""#),
        (r#""method":"POST""#, r#""method":"PO ST""#),
        (r#""template":"/tr"#, r#""path":"/x","template":"/tr"#),
        (r#""template":"/tr"#, r#""template":"tr"#),
        (r#""x-client":"#, r#""x client":"#),
        (r#""at":"2026-11-24T03:00:00.123456789Z""#, r#""at":"yesterday""#),
        (r#""config":"#, r#""kind":"other","config":"#),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(read_line(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn refuses_a_principal_that_was_not_recorded() {
    let mut record = transfer();
    record.principal = None;
    assert!(read_line(&line(&record)).is_err());
}

#[test]
fn answers_by_the_name_of_the_rule() {
    let recorded = read(&line(&transfer()));
    let rule = |name: &str| Rule {
        name: name.into(),
        kind: "test",
        stage: crate::engine::Stage::Limit,
        shadow: false,
        origin: "t:1:1".into(),
        policy: Arc::new(Silent),
    };
    let rules = [rule("other"), rule("per-customer")];
    let question = || Question::Limit {
        limit: crate::engine::LimitId(0),
        key: crate::engine::LimitKey::Text("k"),
    };
    let asked = [(0, question()), (1, question()), (9, question())];
    let answers = futures::executor::block_on(recorded.answering(&rules).answer(&asked));
    let unknown = Answer::Unavailable { code: "not-recorded" };
    assert_eq!((&answers[0], &answers[2]), (&unknown, &unknown));
    assert!(matches!(answers[1], Answer::Limit(limit) if limit.remaining == 39));
}

#[derive(Debug)]
struct Silent;

impl crate::engine::Policy for Silent {
    fn judge(&self, _: &crate::engine::Facts<'_>, _: Option<&Answer>) -> crate::engine::Verdict {
        crate::engine::Verdict::pass(crate::engine::Why::NotConcerned)
    }
}

fn written(entry: &Entry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_line(&mut out, 2, Some(&LineHash::of(b"x")), entry);
    out
}

#[test]
fn reads_the_other_kinds() {
    let at = instant("2026-11-24T03:00:00Z");
    let dropped = written(&Entry::Dropped {
        count: 3,
        from: at,
        to: at,
    });
    assert!(matches!(read_line(&dropped), Ok(Line::Dropped { count: 3, from, to }) if from == at && to == at));
    let torn = written(&Entry::Torn {
        at,
        lines: 1,
        after: Some(LineHash::of(b"x")),
    });
    assert!(matches!(read_line(&torn), Ok(Line::Torn { lines: 1, .. })));
    for (is_thaw, until) in [(false, Some(at)), (false, None), (true, None)] {
        let change = FreezeChange {
            at,
            address: "::1".parse().unwrap(),
            freeze: crate::engine::Freeze {
                kind: crate::engine::Freezable::Upstream,
                name: "transfers".into(),
                until,
                reason: if is_thaw { "" } else { "a \"wave\"" }.into(),
            },
            is_thaw,
        };
        let line = written(&Entry::Freeze(&change));
        assert!(
            matches!(read_line(&line), Ok(Line::Freeze(read)) if read == change),
            "{is_thaw}"
        );
        let doubled = String::from_utf8(line)
            .unwrap()
            .replace("\"upstream\"", "\"route\":\"x\",\"upstream\"");
        assert!(read_line(doubled.as_bytes()).is_err());
    }
}

#[test]
fn reads_what_was_revoked_and_lifted() {
    let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    let name = || Arc::<str>::from("a \"name\"");
    let identity = Whom::Identity {
        authenticator: name(),
        issuer: "i".into(),
        subject: "s".into(),
    };
    let token = Whom::Token {
        authenticator: name(),
        issuer: "i".into(),
        id: "t\n".into(),
    };
    for (whom, extent, is_lifted) in [
        (identity, Extent::Every { until: Some(at) }, false),
        (token, Extent::Every { until: None }, true),
        (Whom::Subject(name()), Extent::IssuedBefore(at), false),
        (Whom::Authenticator(name()), Extent::IssuedBefore(at), true),
        (Whom::Issuer(name()), Extent::IssuedBefore(at), false),
        (Whom::Everybody, Extent::IssuedBefore(at), false),
    ] {
        let change = RevocationChange {
            at,
            address: "::1".parse().unwrap(),
            revocation: Revocation { whom, extent },
            reason: if is_lifted { "" } else { "a \"theft\"" }.into(),
            is_lifted,
        };
        let line = written(&Entry::Revocation(&change));
        assert!(
            matches!(read_line(&line), Ok(Line::Revocation(read)) if read == change),
            "{change:?}"
        );
        let text = String::from_utf8(line).unwrap();
        let whom = change.revocation.whom.reach().word();
        let other = text.replace(&format!("\"whom\":\"{whom}\""), "\"whom\":\"nobody\"");
        assert!(read_line(other.as_bytes()).is_err());
        let unnamed = text.replace("\"address\"", "\"jti\":\"x\",\"address\"");
        assert!(read_line(unnamed.as_bytes()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reads_back_what_was_written(record in records()) {
        let line = line(&record);
        prop_assert!(!line.contains(&b'\n'));
        let recorded = read(&line);
        prop_assert_eq!(recorded.n, 7);
        prop_assert_eq!(recorded.at, record.at);
        prop_assert_eq!(recorded.id.as_str(), &*record.id);
        prop_assert_eq!(recorded.config.as_str(), &*record.config);
        prop_assert_eq!(recorded.route.as_deref(), record.route.as_deref());
        prop_assert_eq!(&recorded.method, &record.request.method);
        prop_assert_eq!(&recorded.host, &record.request.host);
        prop_assert_eq!(&recorded.headers, &record.request.headers);
        prop_assert_eq!(recorded.credential, record.request.credential);
        prop_assert_eq!(recorded.address, record.request.address);
        prop_assert_eq!(recorded.client.as_str(), &*record.request.client);
        for (name, values) in &record.request.query {
            let read: Vec<Option<Cow<'_, str>>> = recorded.view().query_sent(name).collect();
            let read: Vec<Option<&str>> = read.iter().map(Option::as_deref).collect();
            let kept: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
            prop_assert_eq!(read, kept);
        }
        let literal = record.request.path.clone().unwrap_or_default();
        let mut expected = literal;
        if let Some(template) = &record.request.template {
            expected = template.split("/{").next().unwrap_or_default().to_owned();
            for (_, value) in &record.request.params {
                expected.push('/');
                expected.push_str(value);
            }
        }
        prop_assert_eq!(&recorded.path, &expected);
        let kept = record.principal.as_deref().map(|who| {
            let mut claims = (*who.claims).clone();
            claims.retain(|name, _| record.request.claims.contains(name));
            Principal { claims: claims.into(), ..who.clone() }
        });
        prop_assert_eq!(recorded.principal.as_deref(), kept.as_ref());
        prop_assert_eq!(recorded.answers.len(), record.answers.len());
        for ((rule, answer), (read_rule, read)) in record.answers.iter().zip(&recorded.answers) {
            prop_assert_eq!(&**rule, read_rule.as_str());
            match (answer, read) {
                (Answer::Principal(_), Answer::Principal(read)) => {
                    prop_assert_eq!(Some(read), recorded.principal.as_ref());
                }
                (answer, read) => prop_assert_eq!(answer, read),
            }
        }
        prop_assert_eq!(recorded.decision.effect.as_str(), record.decision.effect);
        prop_assert_eq!(recorded.decision.status, record.decision.status);
        prop_assert_eq!(recorded.decision.code.as_deref(), record.decision.code.as_deref());
        prop_assert_eq!(recorded.decision.rule.as_deref(), record.decision.rule.as_deref());
        prop_assert_eq!(recorded.decision.reopens_at, record.decision.reopens_at);
        let shadow: Vec<&str> = record.would_deny().collect();
        prop_assert_eq!(&recorded.shadow, &shadow);
        prop_assert_eq!(recorded.rehearsal, record.rehearsal);
    }

    #[test]
    fn never_panics_on_a_spoilt_line(record in records(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut line = line(&record);
        let at = at.index(line.len());
        line[at] = byte;
        let _ = read_line(&line);
        line.truncate(at);
        prop_assert!(read_line(&line).is_err());
    }
}
