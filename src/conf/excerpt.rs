//! The line a finding is about, ready to be shown in a terminal.

use unicode_width::UnicodeWidthChar;

use super::Place;

/// So many bytes of a line are looked at to either side of the place.
const REACH: usize = 2048;
/// So many columns are shown before the place, and in all.
const MAX_BEFORE: usize = 60;
const MAX_COLUMNS: usize = 120;
/// A tab is shown as so many blanks.
const TAB: &str = "    ";
/// Keys whose value may be a secret that somebody wrote where it does not belong.
const SECRETIVE: [&str; 4] = ["secret", "token", "password", "passphrase"];

/// A line with what lies under a place. Secrets, control characters and what would turn the direction of text are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The line's number, counted from 1.
    pub line: u32,
    /// The line, or the part of it around the place.
    pub text: String,
    /// The columns before the place.
    pub before: usize,
    /// The columns to underline, at least 1; those up to the end of the line where the place goes on below it.
    pub width: usize,
}

impl Excerpt {
    /// `None` where a whole file is meant.
    pub fn of(place: &Place) -> Option<Self> {
        let text = &place.source.text;
        if place.end == 0 {
            return None;
        }
        let start = text.floor_char_boundary(place.start.min(text.len()));
        let from = text.floor_char_boundary(start.saturating_sub(REACH));
        let to = text.floor_char_boundary((start + REACH).min(text.len()));
        let (head, tail) = (text.get(from..start)?, text.get(start..to)?);
        let head = head.rsplit('\n').next().unwrap_or("");
        let tail = tail.split('\n').next().unwrap_or("").trim_end();
        let mut cells = Vec::with_capacity(head.len() + tail.len());
        let line_start = start - head.len();
        let hidden = secretive_values(&format!("{head}{tail}"));
        for (at, character) in head
            .char_indices()
            .chain(tail.char_indices().map(|(at, c)| (head.len() + at, c)))
        {
            let conceal = place.source.conceals(line_start + at) || hidden.iter().any(|range| range.contains(&at));
            cells.push((line_start + at, if conceal { '*' } else { character }));
        }
        Some(Self::lay_out(place, start, &cells))
    }

    fn lay_out(place: &Place, start: usize, cells: &[(usize, char)]) -> Self {
        let columns = |cells: &[(usize, char)]| cells.iter().map(|(_, c)| shown(*c).1).sum::<usize>();
        let (before, after) = cells.split_at(cells.iter().take_while(|(at, _)| *at < start).count());
        let mut skipped = 0;
        while columns(before.get(skipped..).unwrap_or_default()) > MAX_BEFORE {
            skipped += 1;
        }
        let mut excerpt = Self {
            line: place.line,
            text: String::new(),
            before: 0,
            width: 0,
        };
        let mut total = 0;
        if skipped > 0 {
            excerpt.text.push('…');
            total = 1;
        }
        let before = before.get(skipped..).unwrap_or_default();
        excerpt.before = total + columns(before);
        for (at, character) in before.iter().chain(after) {
            let (text, width) = shown(*character);
            if total + width > MAX_COLUMNS {
                excerpt.text.push('…');
                break;
            }
            excerpt.text.push_str(&text);
            total += width;
            if (start..place.end).contains(at) {
                excerpt.width += width;
            }
        }
        excerpt.width = excerpt.width.max(1);
        excerpt
    }
}

/// How a character is shown, and in how many columns.
fn shown(character: char) -> (String, usize) {
    match character {
        '\t' => (TAB.to_owned(), TAB.len()),
        _ if is_unprintable(character) => ('\u{fffd}'.to_string(), 1),
        _ => (character.to_string(), character.width().unwrap_or(0)),
    }
}

/// Whether a character would do something to a terminal or to the order of the text around it.
pub(super) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The bytes of the values that stand after secretive keys, but for references such as `${env:NAME}`.
fn secretive_values(line: &str) -> Vec<std::ops::Range<usize>> {
    let lower = line.to_ascii_lowercase();
    let mut found = Vec::new();
    for word in SECRETIVE {
        for (at, _) in lower.match_indices(word) {
            let after = at + word.len();
            let Some((key, value)) = line.get(after..).and_then(|rest| rest.split_once(':')) else {
                continue;
            };
            let is_key = key
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '"' | '\'' | ' '));
            let bare = value.trim_start();
            if !is_key || bare.is_empty() || bare.trim_start_matches(['"', '\'']).starts_with("${") {
                continue;
            }
            // A link such as `token:write` is no value of a key.
            if bare.len() == value.len() && !bare.starts_with(['"', '\'']) {
                continue;
            }
            let start = line.len() - bare.len();
            let length = match bare.chars().next() {
                Some(quote @ ('"' | '\'')) => bare.get(1..).and_then(|rest| rest.find(quote)).map(|end| end + 2),
                Some('{' | '[') => Some(0),
                _ => bare.find([',', '}']),
            };
            found.push(start..length.map_or(line.len(), |length| start + length));
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::conf::{Load, Node};

    /// The line, and under it the marks.
    fn picture(yaml: &str, pick: impl Fn(&Node) -> &Node) -> [String; 2] {
        let load = Load::new();
        let node = load.text("t.yaml", yaml).unwrap();
        let excerpt = Excerpt::of(&pick(&node).place).unwrap();
        let marks = format!("{}{}", " ".repeat(excerpt.before), "^".repeat(excerpt.width));
        [excerpt.text, marks]
    }

    #[test]
    fn counts_columns_as_a_terminal_shows_them() {
        assert_eq!(
            picture("a: { ko: 심야, b:\t5 }", |node| node
                .get("a")
                .unwrap()
                .get("b")
                .unwrap()),
            ["a: { ko: 심야, b:    5 }", "                     ^"]
        );
        assert_eq!(
            picture("a: [심야]", |node| node.get("a").unwrap()),
            ["a: [심야]", "   ^^^^^^"]
        );
    }

    #[test]
    fn shows_the_first_line_of_what_is_longer() {
        let [text, marks] = picture("a:\n  b: 1 \n  c: 2\n", |node| node.get("a").unwrap());
        assert_eq!((text.as_str(), marks.as_str()), ("  b: 1", "  ^^^^"));
    }

    #[test]
    fn cuts_long_lines_around_the_place() {
        let long = format!("a: [{}, here, {}]", "x".repeat(500), "y".repeat(500));
        let [text, marks] = picture(&long, |node| match &node.get("a").unwrap().value {
            crate::conf::Value::List(items) => items.get(1).unwrap(),
            _ => node,
        });
        assert!(text.starts_with('…') && text.ends_with('…'), "{text}");
        assert_eq!(
            text.chars().skip(marks.find('^').unwrap()).take(4).collect::<String>(),
            "here"
        );
        assert!(text.width() <= 121);
    }

    #[test]
    fn replaces_what_a_terminal_would_obey() {
        let load = Load::new();
        let node = load.text("t.yaml", "a: b\u{202e}c").unwrap();
        assert_eq!(Excerpt::of(&node.place).unwrap().text, "a: b\u{fffd}c");
    }

    #[test]
    fn hides_what_may_be_a_secret() {
        for (line, hidden) in [
            ("secret: hunter2", "secret: *******"),
            (
                "{ client_secret: \"hunter2\", a: 1 }",
                "{ client_secret: *********, a: 1 }",
            ),
            ("Token: hunter2 # mine", "Token: **************"),
            ("secret: ${env:NAME}", "secret: ${env:NAME}"),
            ("secret: \"${env:NAME}\"", "secret: \"${env:NAME}\""),
            ("scopes: [token:write]", "scopes: [token:write]"),
            ("secret: \"hunter2", "secret: ********"),
        ] {
            let mut shown: Vec<char> = line.chars().collect();
            for at in secretive_values(line).into_iter().flatten() {
                *shown.get_mut(at).unwrap() = '*';
            }
            assert_eq!(shown.into_iter().collect::<String>(), hidden);
        }
    }

    use unicode_width::UnicodeWidthStr;
}
