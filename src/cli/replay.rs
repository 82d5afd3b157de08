//! Recorded requests decided again: does the record suffice to come to the same decision?

use std::path::Path;

use futures::FutureExt;
use jiff::Timestamp;

use crate::engine::Effected;
use crate::observe::audit::reader::{Line, Recorded, read_line};
use crate::snapshot::{self, Judged, Occasion, Snapshot, judge};

/// Refusals of requests that could not be read: nothing was decided about them.
const UNDECIDED: [&str; 4] = ["path-invalid", "request-invalid", "header-too-large", "uri-too-long"];

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
        Ok(difference(recorded, &judged))
    }
}

fn decided(record_line: &str) -> Result<Option<Box<Recorded>>, String> {
    match read_line(record_line.as_bytes()).map_err(|error| error.to_string())? {
        Line::Request(recorded) => {
            let decision = &recorded.decision;
            let code = decision.code.as_deref();
            let is_undecided = decision.rule.is_none() && code.is_some_and(|code| UNDECIDED.contains(&code));
            Ok(Some(recorded).filter(|_| !is_undecided))
        }
        Line::Dropped { .. } | Line::Torn { .. } | Line::Alert { .. } => Ok(None),
    }
}

fn difference(recorded: &Recorded, judged: &Judged<'_>) -> Option<String> {
    let then = &recorded.decision;
    let Effected {
        effect,
        status,
        code,
        rule,
        reopens_at,
    } = judged.effected();
    let mut found = Vec::new();
    let mut compare = |what: &str, then: Option<String>, now: Option<String>| {
        if then != now {
            let shown = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
            found.push(format!("{what}: {} then, {} now", shown(then), shown(now)));
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
    (!found.is_empty()).then(|| format!("record {}: {}", recorded.n, found.join("; ")))
}

fn text(value: &Option<impl ToString>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}
