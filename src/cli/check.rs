//! `gwanmun check`: everything that is wrong with a configuration, in one run.
//!
//! Each finding is a line `file:line:column: message (at `path`)`, then the line it is about with a mark under what is meant,
//! and so every other place that matters. With `--json` it is
//! `{errors, warnings, findings: [{severity, file, line, column, path, message, notes: [{file, line, column, message}]}]}`,
//! `severity` being `error` or `warning`, lines and columns counted from 1, columns in characters.
//!
//! Where nothing is wrong with the configuration its own `tests:` are tried. A failing one is an error, shown with the
//! explanation of what came out; in JSON it has the members `expected`, `got` and `explanation`, and `tests: {tried, failed}`
//! stands beside `errors`.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use super::explain::{Instant, instant};
use super::{NO, tell};
use crate::conf::{Finding, Severity};
use crate::rehearse::{Explanation, Paint, failures, show_findings};
use crate::snapshot::{self, Occasion, Snapshot};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gwanmun check conf/bank.yaml --at 2028-11-30T00:00+09:00")]
pub(super) struct Arguments {
    /// The configuration: a file, or a directory whose `*.yaml` and `*.yml` come together
    file: PathBuf,
    /// The instant that "past", "soon" and "never" are said of, in RFC 3339; otherwise now
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Instant>,
    /// Print `{errors, warnings, tests: {tried, failed}, findings: [{severity, file, line, column, path, message, notes: [{file,
    /// line, column, message}]}]}`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let occasion = Occasion {
        now: arguments.at.map_or_else(Timestamp::now, |at| at.at),
        at_start: false,
    };
    let (snapshot, findings) = snapshot::load(&arguments.file, occasion);
    // What stands nowhere is about the file as a whole: it could not be read.
    if let Some(unreadable) = findings.iter().find(|finding| finding.place.is_none()) {
        anyhow::bail!("{unreadable}");
    }
    let tests = snapshot.as_ref().map(Tried::of).unwrap_or_default();
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let errors = count(Severity::Error) + tests.failed.len();
    let warnings = count(Severity::Warning);
    if arguments.json {
        let findings = findings.iter().map(told).chain(tests.failed.iter().map(told_failed));
        let whole = json!({
            "errors": errors,
            "warnings": warnings,
            "tests": { "tried": tests.count, "failed": tests.failed.len() },
            "findings": findings.collect::<Vec<_>>(),
        });
        tell(&format!("{whole:#}\n"))?;
    } else {
        let file = arguments.file.display().to_string();
        tell(&report(&file, &findings, &tests, Paint::for_stdout()))?;
    }
    Ok(if errors > 0 { NO } else { 0 }.into())
}

/// Of so many failing tests it is explained why; of the others only said what came out.
const MAX_EXPLAINED: usize = 50;

/// The tests of a configuration that could be tried.
#[derive(Debug, Default)]
struct Tried {
    count: usize,
    failed: Vec<Failed>,
}

#[derive(Debug)]
struct Failed {
    finding: Finding,
    expected: String,
    got: String,
    explanation: Option<Explanation>,
}

impl Tried {
    fn of(snapshot: &Snapshot) -> Self {
        let failures = failures(snapshot).into_iter().enumerate();
        let failed = failures.map(|(at, failure)| Failed {
            finding: failure.finding(),
            expected: failure.test.expect.to_string(),
            explanation: (at < MAX_EXPLAINED).then(|| failure.explain(snapshot)).flatten(),
            got: failure.got,
        });
        Self {
            count: snapshot.tests.len(),
            failed: failed.collect(),
        }
    }
}

fn report(file: &str, findings: &[Finding], tests: &Tried, paint: Paint) -> String {
    let mut text = show_findings(findings, paint);
    for failed in &tests.failed {
        text.push_str(&show_findings(std::slice::from_ref(&failed.finding), paint));
        if let Some(explanation) = &failed.explanation {
            for line in explanation.text(paint).trim_end().lines() {
                text.push_str(format!("  {line}").trim_end());
                text.push('\n');
            }
        }
    }
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let failed = tests.failed.len();
    text.push_str(&format!(
        "{file}: {}, {}{}\n",
        many(count(Severity::Error) + failed, "error"),
        many(count(Severity::Warning), "warning"),
        match (tests.count, failed) {
            (0, _) => String::new(),
            (count, 0) => format!(", {} passed", many(count, "test")),
            (count, failed) => format!(", {failed} of {} failed", many(count, "test")),
        }
    ));
    text
}

fn told_failed(failed: &Failed) -> serde_json::Value {
    let mut told = told(&failed.finding);
    if let Some(members) = told.as_object_mut() {
        let explanation = failed.explanation.as_ref().map(Explanation::json);
        members.insert("expected".to_owned(), failed.expected.as_str().into());
        members.insert("got".to_owned(), failed.got.as_str().into());
        members.insert("explanation".to_owned(), explanation.into());
    }
    told
}

fn told(finding: &Finding) -> serde_json::Value {
    let at = |place: &crate::conf::Place| {
        json!({
            "file": place.source.path.display().to_string(), "line": place.line, "column": place.column,
        })
    };
    let mut told = finding.place.as_ref().map_or_else(|| json!({}), at);
    let notes: Vec<_> = finding
        .notes
        .iter()
        .map(|(place, note)| {
            let mut told = at(place);
            if let Some(members) = told.as_object_mut() {
                members.insert("message".to_owned(), note.as_str().into());
            }
            told
        })
        .collect();
    if let Some(members) = told.as_object_mut() {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        members.insert("severity".to_owned(), severity.into());
        members.insert("message".to_owned(), finding.message.as_str().into());
        members.insert("path".to_owned(), finding.path.as_str().into());
        members.insert("notes".to_owned(), notes.into());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Load;

    #[test]
    fn ends_with_the_count() {
        let load = Load::new();
        let plain = Paint::plain();
        if let Some(node) = load.text("t.yaml", "a: 1\n") {
            load.error(&node.place, "one");
        }
        let findings = load.into_findings(None);
        assert_eq!(
            report("t.yaml", &findings, &Tried::default(), plain),
            "t.yaml:1:1: one\n 1 | a: 1\n   | ^^^^\nt.yaml: 1 error, 0 warnings\n"
        );
        let none = report("t.yaml", &[], &Tried::default(), plain);
        assert_eq!(none, "t.yaml: 0 errors, 0 warnings\n");
        let one = Tried {
            count: 1,
            failed: Vec::new(),
        };
        let passed = report("t.yaml", &[], &one, plain);
        assert_eq!(passed, "t.yaml: 0 errors, 0 warnings, 1 test passed\n");
        let told: Vec<_> = findings.iter().map(told).collect();
        let expected = json!({
            "severity": "error", "file": "t.yaml", "line": 1, "column": 1, "path": "", "message": "one", "notes": [],
        });
        assert_eq!(told, [expected]);
    }
}
