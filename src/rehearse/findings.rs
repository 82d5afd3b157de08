//! Findings for people: each with its line and a mark under what is meant, and so every other place that matters.

use std::fmt::Write;

use super::Paint;
use crate::conf::{Excerpt, Finding, Place, Severity, one_line};

/// The findings one after the other. The first line of each is `file:line:column: message (at `path`)`, for editors to jump
/// to.
pub fn show_findings(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        let line = finding.headline();
        let painted = |text: &str| match finding.severity {
            Severity::Error => paint.red(text),
            Severity::Warning => paint.yellow(text),
        };
        let (place, message) = match &finding.place {
            Some(place) => line
                .split_at_checked(one_line(&place.to_string()).len())
                .unwrap_or(("", &line)),
            None => ("", line.as_str()),
        };
        text.push_str(&format!("{}{}\n", bold(place, paint), painted(message)));
        if let Some(place) = &finding.place {
            text.push_str(&excerpt(place, '^', &painted));
        }
        for (place, note) in &finding.notes {
            let place_text = one_line(&place.to_string());
            text.push_str(&format!("  {}: {}\n", bold(&place_text, paint), one_line(note)));
            text.push_str(&excerpt(place, '-', &|text| paint.bold(text)));
        }
    }
    text
}

fn bold(text: &str, paint: Paint) -> String {
    match text {
        "" => String::new(),
        text => paint.bold(text),
    }
}

fn excerpt(place: &Place, mark: char, painted: &dyn Fn(&str) -> String) -> String {
    let Some(excerpt) = Excerpt::of(place) else {
        return String::new();
    };
    let number = excerpt.line.to_string();
    let blank = " ".repeat(number.len());
    let mut text = String::new();
    let marks = mark.to_string().repeat(excerpt.width);
    let _ = writeln!(text, " {number} | {}", excerpt.text);
    let _ = writeln!(text, " {blank} | {}{}", " ".repeat(excerpt.before), painted(&marks));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::conf::Load;

    #[test]
    fn marks_what_is_meant_in_every_place() {
        let load = Load::new();
        let node = load.text("t.yaml", "a: { 심야: 1 }\nb: 2\n").unwrap();
        let (a, b) = (node.get("a").unwrap(), node.get("b").unwrap());
        load.error_with(&a.get("심야").unwrap().place, "one", &b.place, "and the other");
        load.warn(&Place::start_of(&node.place.source), "the whole");
        assert_eq!(
            show_findings(&load.into_findings(Some(&node)), Paint::plain()),
            "\
t.yaml:1:1: warning: the whole
t.yaml:1:10: one (at `a.심야`)
 1 | a: { 심야: 1 }
   |            ^
  t.yaml:2:4: and the other
 2 | b: 2
   |    -
"
        );
    }
}
