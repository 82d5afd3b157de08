//! The differences, for people and for programs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::compare::{Change, Line};
use super::others::Others;
use super::sides::{Answered, Refusal};
use crate::engine::rfc3339;
use crate::rehearse::Paint;

/// So many routes are named in one line.
const SHOWN: usize = 4;

/// Everything that was found.
#[derive(Debug)]
pub(super) struct Report {
    pub lines: Vec<Line>,
    pub others: Others,
    pub renamed: Vec<(Arc<str>, Arc<str>)>,
    pub cut: Vec<String>,
}

impl Report {
    /// Whether something refused is allowed now.
    pub fn opens(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.change, Change::Opened(_)))
    }

    /// Whether something allowed is refused now.
    pub fn closes(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.change, Change::Closed(_)))
    }

    /// Whether anything changed.
    pub fn is_change(&self) -> bool {
        !self.lines.is_empty() || self.others.is_change()
    }

    /// Whether all was tried that may turn a decision.
    pub fn is_complete(&self) -> bool {
        self.cut.is_empty()
    }

    /// For people.
    pub fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        let mut section = |title: String, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&title);
                lines.iter().for_each(|line| text.push_str(&format!("\n  {line}")));
                text.push('\n');
            }
        };
        let of = |want: fn(&Change) -> bool| self.grouped(want);
        section(paint.red("closed"), of(|change| matches!(change, Change::Closed(_))));
        section(paint.green("opened"), of(|change| matches!(change, Change::Opened(_))));
        section(
            paint.yellow("refused in another way"),
            of(|change| matches!(change, Change::Refused(..))),
        );
        section(
            paint.yellow("answered by another"),
            of(|change| matches!(change, Change::Answered(..))),
        );
        section(paint.yellow("limits"), self.others.limits.clone());
        section(paint.yellow("handled in another way"), self.others.handling.clone());
        let renamed = self.renamed.iter().map(|(from, to)| format!("`{from}` → `{to}`"));
        section("taken by another route".to_owned(), renamed.collect());
        section(
            paint.yellow("changed, but not compared"),
            self.others.changed_unseen.clone(),
        );
        section(
            "not compared, as these rules cannot be tried in every way".to_owned(),
            self.others.unseen.clone(),
        );
        section(paint.yellow("not all was tried"), self.cut.clone());
        if !self.is_change() {
            let found = if self.is_complete() {
                ""
            } else {
                " among what was tried"
            };
            text.push_str(&format!("no change{found}\n"));
        }
        text
    }

    /// Lines that differ in nothing but the route become one.
    fn grouped(&self, want: fn(&Change) -> bool) -> Vec<String> {
        let mut groups: Vec<(&Line, Vec<String>)> = Vec::new();
        for line in self.lines.iter().filter(|line| want(&line.change)) {
            let alike = |(known, _): &&mut (&Line, Vec<String>)| {
                (&known.change, &known.who, &known.when) == (&line.change, &line.who, &line.when)
                    && (&known.zone, &known.left_out) == (&line.zone, &line.left_out)
            };
            let routes = line
                .requests
                .iter()
                .map(|request| format!("{request} ({})", line.route));
            match groups.iter_mut().find(alike) {
                Some((_, known)) => known.extend(routes),
                None => groups.push((line, routes.collect())),
            }
        }
        let words = |(line, routes): (&Line, Vec<String>)| {
            let shown: Vec<&str> = routes.iter().take(SHOWN).map(String::as_str).collect();
            let shown = shown.join(", ");
            let more = match routes.len().saturating_sub(SHOWN) {
                0 => String::new(),
                rest => format!(" and {rest} more"),
            };
            let when = match line.when.as_str() {
                "" => String::new(),
                when => format!(", {when} ({})", line.zone.iana_name().unwrap_or("UTC")),
            };
            let left_out: Vec<String> = line.left_out.iter().map(|rule| format!("`{rule}`")).collect();
            let as_far = match (left_out.as_slice(), &line.change) {
                ([], _) | (_, Change::Refused(..)) => String::new(),
                ([rule], _) => format!(", as far as {rule} lets them"),
                (rules, _) => format!(", as far as {} let them", rules.join(", ")),
            };
            format!("{shown}{more}: {} for {}{when}{as_far}", line.change.words(), line.who)
        };
        groups.into_iter().map(words).collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let changes: Vec<Value> = self.lines.iter().map(told).collect();
        let renamed: Vec<Value> = self
            .renamed
            .iter()
            .map(|(from, to)| json!({ "from": &**from, "to": &**to }))
            .collect();
        json!({
            "opens": self.opens(),
            "closes": self.closes(),
            "changed": self.is_change(),
            "complete": self.is_complete(),
            "changes": changes,
            "limits": self.others.limits,
            "handling": self.others.handling,
            "renamed": renamed,
            "changed_not_compared": self.others.changed_unseen,
            "not_compared": self.others.unseen,
            "not_tried": self.cut,
        })
    }
}

fn told(line: &Line) -> Value {
    let (kind, before, after) = match &line.change {
        Change::Closed(after) => ("closed", allowed(None), refused(after)),
        Change::Opened(before) => ("opened", refused(before), allowed(None)),
        Change::Refused(before, after) => ("refused", refused(before), refused(after)),
        Change::Answered(before, after) => ("answered", allowed(Some(before)), allowed(Some(after))),
    };
    let time = |at| rfc3339(at, &line.zone);
    let pieces: Vec<Value> = line
        .pieces
        .iter()
        .map(|(from, to)| json!({ "from": time(*from), "to": time(*to) }))
        .collect();
    json!({
        "kind": kind,
        "route": &*line.route,
        "requests": line.requests,
        "who": line.who,
        "when": line.when,
        "times": pieces,
        "before": before,
        "after": after,
        "as_far_as": line.left_out.iter().map(|rule| &**rule).collect::<Vec<&str>>(),
    })
}

fn allowed(answered: Option<&Answered>) -> Value {
    match answered {
        None => json!({ "effect": "allow" }),
        Some(answered) => json!({ "effect": "allow", "by": &*answered.by }),
    }
}

fn refused(refusal: &Refusal) -> Value {
    json!({
        "effect": refusal.effect,
        "status": refusal.status,
        "code": &*refusal.code,
        "policy": refusal.policy.as_deref(),
    })
}
