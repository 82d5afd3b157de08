//! Recorded requests decided again: does the record suffice to come to the same decision?

use std::path::Path;

use futures::FutureExt;
use jiff::Timestamp;

use crate::engine::Effected;
use crate::observe::audit::reader::{Line, Recorded, RecordedDecision, read_line};
use crate::rehearse::Difference;
use crate::snapshot::{self, Judged, Occasion, Snapshot, judge};

/// Refusals of requests that could not be read, or belong on another connection: nothing was decided about them.
const UNDECIDED: [&str; 12] = [
    "expectation-failed",
    "misdirected",
    "path-invalid",
    "request-invalid",
    "header-too-large",
    "header-timeout",
    "uri-too-long",
    "connect-not-allowed",
    "method-not-supported",
    "coding-not-supported",
    "version-not-supported",
    // A panic on the way to the decision.
    "internal",
];

/// Decides records again under one configuration.
pub struct Replayer {
    snapshot: Snapshot,
}

/// Decides one line of an audit log again under the configuration in `yaml`. `None` where the decision is the same, or where
/// the line is none of a request that was decided; otherwise what differs, in words. The error says what cannot be read.
pub fn decide_again(yaml: &Path, record_line: &str) -> Result<Option<String>, String> {
    match decided(record_line)? {
        None => Ok(None),
        Some(recorded) => Replayer::load(yaml, recorded.at)?.compare(&recorded),
    }
}

impl Replayer {
    /// Loads the configuration in `yaml` as a gateway that starts at `at` would.
    pub fn load(yaml: &Path, at: Timestamp) -> Result<Self, String> {
        let occasion = Occasion {
            now: at,
            at_start: true,
        };
        let (snapshot, findings) = snapshot::load(yaml, occasion);
        let found = || findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        snapshot.map(|snapshot| Self { snapshot }).ok_or_else(found)
    }

    /// The hash of the configuration, which records carry.
    pub fn config(&self) -> &str {
        &self.snapshot.id
    }

    /// As [`decide_again`], under the loaded configuration.
    pub fn decide_again(&self, record_line: &str) -> Result<Option<String>, String> {
        match decided(record_line)? {
            None => Ok(None),
            Some(recorded) => self.compare(&recorded),
        }
    }

    fn compare(&self, recorded: &Recorded) -> Result<Option<String>, String> {
        let rules = self.snapshot.rules_for(&recorded.view());
        let lookup = recorded.answering(rules);
        let judged = judge(&self.snapshot, recorded.view(), recorded.address, recorded.at, &lookup);
        // What was answered then is at hand: there is nothing to wait for.
        let judged = judged.now_or_never().ok_or("a recorded answer was waited for")?;
        let found: Vec<String> = differences(recorded, &judged).iter().map(ToString::to_string).collect();
        Ok((!found.is_empty()).then(|| format!("record {}: {}", recorded.n, found.join("; "))))
    }
}

/// The request that a line records, if it is one of a request that was decided.
pub(super) fn decided(record_line: &str) -> Result<Option<Box<Recorded>>, String> {
    // Such a record may have no path that could be read back.
    if serde_json::from_str(record_line).is_ok_and(|glance: Glance| glance.is_undecided()) {
        return Ok(None);
    }
    match read_line(record_line.as_bytes()).map_err(|error| error.to_string())? {
        Line::Request(recorded) => Ok(Some(recorded)),
        Line::Dropped { .. } | Line::Torn { .. } | Line::Alert { .. } | Line::Freeze(_) | Line::Revocation(_) => {
            Ok(None)
        }
    }
}

/// As much of a record as tells whether anything was decided.
#[derive(serde::Deserialize)]
struct Glance {
    decision: RecordedDecision,
}

impl Glance {
    fn is_undecided(&self) -> bool {
        let code = self.decision.code.as_deref();
        self.decision.rule.is_none() && code.is_some_and(|code| UNDECIDED.contains(&code))
    }
}

/// In what a decision differs from the recorded one.
pub(super) fn differences(recorded: &Recorded, judged: &Judged<'_>) -> Vec<Difference> {
    let then = &recorded.decision;
    let Effected {
        effect,
        status,
        code,
        rule,
        reopens_at,
    } = judged.effected();
    let mut found = Vec::new();
    let mut compare = |what, then: Option<String>, now: Option<String>| {
        if then != now {
            found.push(Difference { what, then, now });
        }
    };
    let route = judged.route.map(|route| route.name.to_string());
    let client = judged.client.name.to_string();
    compare("route", recorded.route.clone(), route);
    compare("client", Some(recorded.client.clone()), Some(client));
    compare("effect", Some(then.effect.clone()), Some(effect.to_owned()));
    compare("status", text(&then.status), text(&status));
    compare("code", then.code.clone(), text(&code));
    compare("rule", then.rule.clone(), text(&rule));
    compare("reopens_at", text(&then.reopens_at), text(&reopens_at));
    found
}

fn text(value: &Option<impl ToString>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bank() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml")
    }

    /// A transfer at night, refused by `decision`, a member without its braces.
    fn line(decision: &str) -> String {
        let limit = r#"{"admitted":true,"remaining":9,"reset_ns":0,"retry_after_ns":0}"#;
        format!(
            r#"{{"v":1,"n":7,"id":"a","at":"2026-11-24T14:45:00Z","config":"c","route":"transfer","method":"POST",
            "host":"bank.example","template":"/transfers","credential":"bearer","address":"192.0.2.7","client":"web",
            "principal":{{"authenticator":"customer","issuer":"http://127.0.0.1:9800","sub":"t2001",
            "scopes":["transfer:write"],"roles":["teller"],"claims":{{}}}},
            "decision":{{{decision}}},"answers":[{{"rule":"flood","limit":{limit}}},{{"rule":"auth","principal":true}}],
            "status":403,"duration_ms":1.5,"request_bytes":0,"response_bytes":0}}"#
        )
        .replace('\n', "")
    }

    const REFUSED: &str = r#""effect":"deny","status":403,"code":"TRANSFER_CLOSED","rule":"no-night-transfer","reopens_at":"2026-11-24T20:00:00Z""#;

    #[test]
    fn decides_as_it_was_decided() {
        assert_eq!(decide_again(&bank(), &line(REFUSED)), Ok(None));
    }

    #[test]
    fn says_what_differs() {
        let replayer = Replayer::load(&bank(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(replayer.config().len(), 64);
        let found = replayer.decide_again(&line(r#""effect":"allow""#)).unwrap().unwrap();
        assert_eq!(
            found,
            "record 7: effect: allow then, deny now; status: none then, 403 now; code: none then, TRANSFER_CLOSED now; \
             rule: none then, no-night-transfer now; reopens_at: none then, 2026-11-24T20:00:00Z now"
        );
        // Without the recorded answer nobody can say who called.
        let silent = line(REFUSED).replace(
            r#"{"rule":"auth","principal":true}"#,
            r#"{"rule":"x","principal":true}"#,
        );
        let found = replayer.decide_again(&silent).unwrap().unwrap();
        assert!(found.contains("not-recorded"), "{found}");
    }

    #[test]
    fn leaves_alone_what_was_not_decided() {
        let unread = line(r#""effect":"deny","status":400,"code":"path-invalid""#);
        assert_eq!(decide_again(&bank(), &unread), Ok(None));
        let nowhere = unread.replace(r#""template":"/transfers","#, "");
        assert_eq!(decide_again(&bank(), &nowhere), Ok(None));
        let dropped =
            r#"{"v":1,"n":1,"kind":"dropped","count":2,"from":"2026-11-24T14:45:00Z","to":"2026-11-24T14:45:01Z"}"#;
        assert_eq!(decide_again(&bank(), dropped), Ok(None));
        assert!(decide_again(&bank(), "{}").is_err());
        assert!(decide_again(Path::new("no such file"), &line(REFUSED)).is_err());
    }
}
