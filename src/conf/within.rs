//! The place of a part of a scalar: where in the file stands what stands at these bytes of its text?

use std::ops::Range;

use super::{Node, Place, Value};

impl Node {
    /// The place of the bytes `part` of a scalar's text: to the character for plain and quoted scalars on one line and for
    /// literal blocks (`|`); the whole scalar's for others.
    pub fn part(&self, part: Range<usize>) -> Place {
        let Value::Scalar { text, .. } = &self.value else {
            return self.place.clone();
        };
        self.exact(text, part).unwrap_or_else(|| self.place.clone())
    }

    fn exact(&self, text: &str, part: Range<usize>) -> Option<Place> {
        let file = &self.place.source.text;
        let raw = file.get(self.place.start..self.place.end)?;
        let written = written(raw, text)?;
        // Only what comes to the very text is understood.
        if !written.iter().map(|(_, character)| *character).eq(text.chars()) {
            return None;
        }
        let at = |byte: usize| {
            let index = text.char_indices().take_while(|(at, _)| *at < byte).count();
            match (written.get(index), written.last()) {
                (Some((at, _)), _) => *at,
                (None, Some((at, last))) => at + last.len_utf8(),
                (None, None) => 0,
            }
        };
        let (start, end) = (self.place.start + at(part.start), self.place.start + at(part.end));
        let before = file.get(self.place.start..start)?;
        let (line, column) = match before.rsplit_once('\n') {
            None => (self.place.line, self.place.column as usize + before.chars().count()),
            Some((lines, last)) => {
                let lines = lines.matches('\n').count() + 1;
                (self.place.line + u32::try_from(lines).ok()?, last.chars().count() + 1)
            }
        };
        Some(Place {
            source: self.place.source.clone(),
            line,
            column: u32::try_from(column).ok()?,
            start,
            end: end.max(start),
        })
    }
}

/// The characters of a scalar's text, each with the byte of `raw` it is written at.
fn written(raw: &str, text: &str) -> Option<Vec<(usize, char)>> {
    if raw.contains('\n') {
        return block(raw, text);
    }
    let quoted = |quote| raw.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(inner) = quoted('\'') {
        let mut characters = inner.char_indices();
        let mut written = Vec::with_capacity(inner.len());
        while let Some((at, character)) = characters.next() {
            if character == '\'' {
                characters.next();
            }
            written.push((at + 1, character));
        }
        return Some(written);
    }
    match quoted('"') {
        Some(inner) => double_quoted(inner),
        None => Some(raw.char_indices().collect()),
    }
}

/// YAML 1.2 §5.7.
fn double_quoted(inner: &str) -> Option<Vec<(usize, char)>> {
    let mut characters = inner.char_indices();
    let mut written = Vec::with_capacity(inner.len());
    while let Some((at, character)) = characters.next() {
        let meant = match character {
            '\\' => match characters.next()?.1 {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                '0' => '\0',
                digits @ ('x' | 'u' | 'U') => {
                    let count = match digits {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let hex: String = characters.by_ref().take(count).map(|(_, digit)| digit).collect();
                    char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
                }
                other => other,
            },
            other => other,
        };
        written.push((at + 1, meant));
    }
    Some(written)
}

/// A literal block, without its header: each line of the text stands at the end of one of the block, after spaces. Nothing
/// else on several lines has that form.
fn block(raw: &str, text: &str) -> Option<Vec<(usize, char)>> {
    let mut written = Vec::with_capacity(text.len());
    let mut at = 0;
    let mut lines = raw.split_inclusive('\n');
    for line in text.split_inclusive('\n') {
        let stands = lines.next().unwrap_or_default();
        let (bare, stands_bare) = (line.trim_end_matches('\n'), stands.trim_end_matches(['\n', '\r']));
        let indent = stands_bare.strip_suffix(bare)?;
        if indent.bytes().any(|byte| byte != b' ') {
            return None;
        }
        let start = at + indent.len();
        written.extend(
            bare.char_indices()
                .map(|(offset, character)| (start + offset, character)),
        );
        if line.ends_with('\n') {
            written.push((at + stands_bare.len(), '\n'));
        }
        at += stands.len();
    }
    Some(written)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::conf::Load;

    fn place(yaml: &str, part: &str) -> String {
        let load = Load::new();
        let node = load.text("t.yaml", yaml).unwrap();
        let node = node.get("a").unwrap().get("b").unwrap();
        let text = node.text("a text", &load).unwrap();
        let start = text.find(part).unwrap();
        let place = node.part(start..start + part.len());
        let source = &place.source.text;
        let stands = source.get(place.start..place.end).unwrap();
        format!("{}:{} {stands}", place.line, place.column)
    }

    #[test]
    fn finds_a_part_of_a_scalar_on_one_line() {
        assert_eq!(place("a:\n  b: x == who && y\n", "who"), "2:11 who");
        assert_eq!(place("a:\n  b: 'x == who'   # a\n", "who"), "2:12 who");
        assert_eq!(place("a: { b: '한글 == ''it'' || who' }\n", "who"), "1:26 who");
        assert_eq!(place("a: { b: \"\\\"\\u0041\\\" == who\" }\n", "who"), "1:24 who");
        assert_eq!(place("a: { b: \"x == who\" }\n", "x == who"), "1:10 x == who");
    }

    #[test]
    fn finds_a_part_of_a_literal_block() {
        assert_eq!(place("a:\n  b: |\n    x == 1\n\n    && who\n", "who"), "5:8 who");
        assert_eq!(place("a:\n  b: |-\n    x\n      && who\n", "who"), "4:10 who");
    }

    #[test]
    fn points_at_the_whole_of_a_folded_scalar() {
        assert!(place("a:\n  b: >\n    x ==\n    who\n", "who").starts_with("3:5 x =="));
        assert!(place("a:\n  b: x ==\n    who\n", "who").starts_with("2:6 x =="));
    }
}
