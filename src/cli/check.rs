//! `gwanmun check`: everything that is wrong with a configuration, in one run.
//!
//! Each finding is a line `file:line:column: message (at `path`)`, then the line it is about with a mark under what is meant,
//! and so every other place that matters. With `--json` it is
//! `{errors, warnings, findings: [{severity, file, line, column, path, message, notes: [{file, line, column, message}]}]}`,
//! `severity` being `error` or `warning`, lines and columns counted from 1, columns in characters.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use super::explain::{Instant, instant};
use super::{NO, tell};
use crate::conf::{Finding, Severity};
use crate::rehearse::{Paint, show_findings};
use crate::snapshot::{self, Occasion};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gwanmun check conf/bank.yaml --at 2028-11-30T00:00+09:00")]
pub(super) struct Arguments {
    /// The configuration: a file, or a directory whose `*.yaml` and `*.yml` come together
    file: PathBuf,
    /// The instant that "past", "soon" and "never" are said of, in RFC 3339; otherwise now
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Instant>,
    /// Print `{errors, warnings, findings: [{severity, file, line, column, path, message, notes: [{file, line, column,
    /// message}]}]}`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let occasion = Occasion {
        now: arguments.at.map_or_else(Timestamp::now, |at| at.at),
        at_start: false,
    };
    let (_, findings) = snapshot::load(&arguments.file, occasion);
    // What stands nowhere is about the file as a whole: it could not be read.
    if let Some(unreadable) = findings.iter().find(|finding| finding.place.is_none()) {
        anyhow::bail!("{unreadable}");
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if arguments.json {
        let findings: Vec<_> = findings.iter().map(told).collect();
        let whole = json!({ "errors": errors, "warnings": warnings, "findings": findings });
        tell(&format!("{whole:#}\n"))?;
    } else {
        let file = arguments.file.display().to_string();
        tell(&report(&file, &findings, errors, warnings, Paint::for_stdout()))?;
    }
    Ok(if errors > 0 { NO } else { 0 }.into())
}

fn report(file: &str, findings: &[Finding], errors: usize, warnings: usize, paint: Paint) -> String {
    let mut text = show_findings(findings, paint);
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    text.push_str(&format!(
        "{file}: {}, {}\n",
        many(errors, "error"),
        many(warnings, "warning")
    ));
    text
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
            report("t.yaml", &findings, 1, 0, plain),
            "t.yaml:1:1: one\n 1 | a: 1\n   | ^^^^\nt.yaml: 1 error, 0 warnings\n"
        );
        assert_eq!(report("t.yaml", &[], 0, 0, plain), "t.yaml: 0 errors, 0 warnings\n");
        let told: Vec<_> = findings.iter().map(told).collect();
        let expected = json!({
            "severity": "error", "file": "t.yaml", "line": 1, "column": 1, "path": "", "message": "one", "notes": [],
        });
        assert_eq!(told, [expected]);
    }
}
