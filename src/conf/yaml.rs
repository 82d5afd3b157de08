//! The only caller of the YAML parser: events → [`Node`]s, strictly.
//!
//! Refused with a place: duplicate keys, keys that are not plain text, merge keys, tags, several documents, aliases that
//! would expand without bound, nesting beyond 64. Scalars stay text: what `yes`, `010` or `23:30` mean is decided by the
//! type that reads them, never guessed. What is refused is read all the same where it is clear what was meant, so that
//! the mistakes after it are found too.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag, options};

use super::{Entry, Load, Node, Place, Source, Value};

const MAX_DEPTH: usize = 64;
/// So many keys are compared one by one.
const FEW_KEYS: usize = 16;
/// Nodes after aliases are expanded; ten thousand routes come to about a tenth of it.
const MAX_NODES: usize = 1_000_000;
/// As many, where they come one after the other; a hundred thousand API keys come to about a tenth of it.
const MAX_LISTED_NODES: usize = 10_000_000;

/// Builds the tree of the one document in `source`; an empty file is an empty map. `None` where there is no telling what was meant; that is then reported,
/// and so is everything else that is refused.
pub(super) fn parse(source: &Arc<Source>, load: &Load) -> Option<Node> {
    let mut builder = Builder::new(source, load, MAX_NODES);
    let mut events = events(source);
    let mut document: Option<Node> = None;
    while let Some(event) = events.next() {
        match event {
            Err(error) => return builder.broken(&error),
            Ok((Event::StreamStart | Event::StreamEnd | Event::DocumentEnd, _)) => {}
            Ok((Event::DocumentStart(..), span)) => {
                if let Some(first) = &document {
                    load.error_with(
                        &builder.place(&span),
                        "a second document: one file holds one configuration",
                        &first.place,
                        "the first begins here",
                    );
                    return None;
                }
            }
            Ok((event, span)) => {
                let node = builder.node(event, &span, &mut events, 0)?;
                document.get_or_insert(node);
            }
        }
    }
    Some(document.unwrap_or_else(|| Node {
        place: Place::start_of(source),
        value: Value::Map(Vec::new()),
    }))
}

/// Hands over the items of the one list in `source`, one at a time, so that of a long one no tree is built. `None` where it
/// is no list, or there is no telling what was meant; that is then reported.
pub(super) fn items(source: &Arc<Source>, load: &Load, mut each: impl FnMut(&Node)) -> Option<()> {
    let mut builder = Builder::new(source, load, MAX_LISTED_NODES);
    let mut events = events(source);
    let mut is_read = false;
    loop {
        let (event, span) = match events.next() {
            Some(Ok(next)) => next,
            Some(Err(error)) => return builder.broken(&error),
            None => break,
        };
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::SequenceStart(_, _, tag) if !is_read => {
                is_read = true;
                builder.refuse_tag(tag.as_deref(), &builder.place(&span));
                loop {
                    match builder.next(&mut events)? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => each(&builder.node(event, &span, &mut events, 1)?),
                    }
                }
            }
            _ => return builder.fail(&builder.place(&span), "one list is expected here, and nothing else"),
        }
    }
    match is_read {
        true => Some(()),
        false => builder.fail(
            &Place::start_of(source),
            "there is no list in this file; an empty one is written `[]`",
        ),
    }
}

fn events(source: &Source) -> Events<'_> {
    Parser::new_from_str_with_options(&source.text, options! { emit_comments: false })
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    load: &'a Load,
    /// Finished anchored nodes; `None` while still being built, so that a self-alias is seen.
    anchors: HashMap<usize, Option<Anchored>>,
    nodes: usize,
    max_nodes: usize,
    in_refused_key: bool,
}

struct Anchored {
    node: Node,
    /// How many nodes it has.
    size: usize,
    /// How many levels.
    height: usize,
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

impl<'a> Builder<'a> {
    fn new(source: &'a Arc<Source>, load: &'a Load, max_nodes: usize) -> Self {
        Self {
            source,
            load,
            anchors: HashMap::new(),
            nodes: 0,
            max_nodes,
            in_refused_key: false,
        }
    }

    fn place(&self, span: &Span) -> Place {
        let range = span.byte_range().unwrap_or(0..0);
        Place {
            source: self.source.clone(),
            line: u32::try_from(span.start.line()).unwrap_or(u32::MAX),
            column: u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX),
            start: range.start,
            end: range.end,
        }
    }

    /// A fatal error: the tree cannot be built.
    fn fail<T>(&self, place: &Place, message: impl Into<String>) -> Option<T> {
        self.load.error(place, message);
        None
    }

    fn broken<T>(&self, error: &ScanError) -> Option<T> {
        let marker = error.marker();
        let start = marker.byte_offset().unwrap_or(0).min(self.source.text.len());
        let start = self.source.text.floor_char_boundary(start);
        let place = Place {
            source: self.source.clone(),
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
            start,
            end: (start + 1).min(self.source.text.len()),
        };
        self.fail(
            &place,
            format!("not valid YAML: {}{}", error.info(), self.hint(error, start)),
        )
    }

    /// What most often lies behind an error there.
    fn hint(&self, error: &ScanError, at: usize) -> &'static str {
        let text = &self.source.text;
        let line = text
            .get(..at)
            .and_then(|before| before.rsplit('\n').next())
            .unwrap_or("");
        let rest = text.get(at..).and_then(|after| after.split('\n').next()).unwrap_or("");
        let whole = format!("{line}{rest}");
        let indentation = whole.len() - whole.trim_start().len();
        if whole.get(..indentation).is_some_and(|blank| blank.contains('\t')) {
            return "; indent with spaces, not with tabs";
        }
        if rest.starts_with('\0') || text.get(at..).is_some_and(|after| after.starts_with('\0')) {
            return "; a NUL is no text";
        }
        if whole.contains("${") {
            return "; between braces a reference stands in quotes: `\"${env:NAME}\"`";
        }
        match error.info() {
            info if info.contains("expected ':'") => "; between a key and its value stand a colon and a blank",
            info if info.contains("mapping values are not allowed") => {
                "; a text with `: ` in it stands in quotes, and after a key stands `: `"
            }
            info if info.contains("unknown anchor") => "; a text that begins with `*` stands in quotes",
            info if info.contains("unexpected character") => "; a text that begins so stands in quotes",
            _ => "",
        }
    }

    fn next<'e>(&self, events: &mut Events<'e>) -> Option<(Event<'e>, Span)> {
        match events.next()? {
            Ok(next) => Some(next),
            Err(error) => self.broken(&error),
        }
    }

    fn refuse_tag(&self, tag: Option<&Tag>, place: &Place) {
        if tag.is_some() {
            self.load.error(place, "tags are not used in a configuration");
        }
    }

    /// Counts `more` nodes, if they are not too many.
    fn count(&mut self, more: usize, place: &Place) -> Option<()> {
        self.nodes += more;
        if self.nodes > self.max_nodes {
            return self.fail(place, format!("more than {} values, aliases counted", self.max_nodes));
        }
        Some(())
    }

    fn check_depth(&self, depth: usize, place: &Place) -> Option<()> {
        if depth > MAX_DEPTH {
            return self.fail(place, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        Some(())
    }

    fn node(&mut self, event: Event<'_>, span: &Span, events: &mut Events<'_>, depth: usize) -> Option<Node> {
        let mut place = self.place(span);
        self.check_depth(depth, &place)?;
        if let Event::Alias(anchor) = event {
            return self.alias(anchor, &place, depth);
        }
        self.count(1, &place)?;
        let before = self.nodes;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place);
                let plain = style == ScalarStyle::Plain;
                let value = if plain && matches!(&*text, "" | "~" | "null") {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into_owned(),
                        plain,
                    }
                };
                (value, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place);
                self.open(anchor);
                let mut items = Vec::new();
                loop {
                    match self.next(events)? {
                        (Event::SequenceEnd, end) => {
                            place.end = self.place(&end).end.max(place.end);
                            break;
                        }
                        (event, span) => items.push(self.node(event, &span, events, depth + 1)?),
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place);
                self.open(anchor);
                (Value::Map(self.entries(&mut place, events, depth)?), anchor)
            }
            _ => return self.fail(&place, "not expected here"),
        };
        let node = Node { place, value };
        if anchor != 0 {
            let anchored = Anchored {
                size: self.nodes - before + 1,
                height: height(&node),
                node: node.clone(),
            };
            self.anchors.insert(anchor, Some(anchored));
        }
        Some(node)
    }

    fn alias(&mut self, anchor: usize, place: &Place, depth: usize) -> Option<Node> {
        let Some(Some(anchored)) = self.anchors.get(&anchor) else {
            return self.fail(place, "an alias inside the value it stands for");
        };
        let (size, height) = (anchored.size, anchored.height);
        self.count(size, place)?;
        self.check_depth(depth + height, place)?;
        let found = self.anchors.get(&anchor)?.as_ref();
        found.map(|anchored| anchored.node.clone())
    }

    /// Reads a map to its end, where `place` then ends too.
    fn entries(&mut self, place: &mut Place, events: &mut Events<'_>, depth: usize) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next(events)?;
            if matches!(event, Event::MappingEnd) {
                place.end = self.place(&span).end.max(place.end);
                break;
            }
            let key_place = self.place(&span);
            let key = self.key(event, &span, events, depth)?;
            let (event, span) = self.next(events)?;
            let value = self.node(event, &span, events, depth + 1)?;
            if value.place.is_within(&Place {
                end: usize::MAX,
                ..place.clone()
            }) {
                place.end = place.end.max(value.place.end);
            }
            let Some(key) = key else { continue };
            if key == "<<" {
                self.load
                    .error(&key_place, "merge keys (`<<`) are not used; write the keys out");
                merged.extend(of_merge_key(value));
                continue;
            }
            let known = match entries.len() {
                // Most maps are small, and there may be a hundred thousand of them.
                ..=FEW_KEYS => entries.iter().position(|entry| entry.key == key),
                _ => {
                    let unlisted = entries.iter().enumerate().skip(seen.len());
                    seen.extend(unlisted.map(|(at, entry)| (entry.key.clone(), at)));
                    seen.get(&key).copied()
                }
            };
            let Some(first) = known.and_then(|at| entries.get_mut(at)) else {
                entries.push(Entry { key, key_place, value });
                continue;
            };
            let message = format!("`{key}` stands here a second time");
            self.load
                .error_with(&key_place, message, &first.key_place, "first here");
            // A section that was begun twice: what it names the second time is there all the same.
            if let (0, Value::Map(first), Value::Map(second)) = (depth, &mut first.value.value, value.value) {
                add_missing(first, second);
            }
        }
        add_missing(&mut entries, merged);
        Some(entries)
    }

    /// The key that begins with `event`; none where it is none, which is reported.
    fn key(&mut self, event: Event<'_>, span: &Span, events: &mut Events<'_>, depth: usize) -> Option<Option<String>> {
        let place = self.place(span);
        let Event::Scalar(key, style, anchor, tag) = event else {
            // Those inside of it are a part of the same mistake.
            if !std::mem::replace(&mut self.in_refused_key, true) {
                self.load.error(&place, "a key must be plain text");
                self.node(event, span, events, depth + 1)?;
                self.in_refused_key = false;
            } else {
                self.node(event, span, events, depth + 1)?;
            }
            return Some(None);
        };
        self.refuse_tag(tag.as_deref(), &place);
        if key.is_empty() && style == ScalarStyle::Plain {
            self.load.error(&place, "a key is missing before the `:`");
            return Some(None);
        }
        let key = key.into_owned();
        if anchor != 0 {
            let node = Node {
                place,
                value: Value::Scalar {
                    text: key.clone(),
                    plain: style == ScalarStyle::Plain,
                },
            };
            let (size, height) = (1, 0);
            self.anchors.insert(anchor, Some(Anchored { node, size, height }));
        }
        Some(Some(key))
    }

    fn open(&mut self, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
    }
}

/// The levels below a node.
fn height(node: &Node) -> usize {
    let below = |nodes: &mut dyn Iterator<Item = &Node>| nodes.map(|node| height(node) + 1).max().unwrap_or(0);
    match &node.value {
        Value::Null | Value::Scalar { .. } => 0,
        Value::List(items) => below(&mut items.iter()),
        Value::Map(entries) => below(&mut entries.iter().map(|entry| &entry.value)),
    }
}

/// What a merge key brings in: a map, or a list of maps.
fn of_merge_key(value: Node) -> Vec<Entry> {
    match value.value {
        Value::Map(entries) => entries,
        Value::List(items) => items.into_iter().flat_map(of_merge_key).collect(),
        Value::Null | Value::Scalar { .. } => Vec::new(),
    }
}

fn add_missing(entries: &mut Vec<Entry>, more: Vec<Entry>) {
    let mut known: std::collections::HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    for entry in more {
        if known.insert(entry.key.clone()) {
            entries.push(entry);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn reads_on_where_it_is_clear_what_was_meant() {
        let load = Load::new();
        let text = "x: &x { a: 1, b: 2 }\ny: { <<: *x, b: 3 }\n? [k]\n: 1\n&k z: *k\nx: { c: 4, a: 9 }\n";
        let node = load.text("t.yaml", text).unwrap();
        assert_eq!(node.to_json(), r#"{"x":{"a":1,"b":2,"c":4},"y":{"b":3,"a":1},"z":"z"}"#);
        assert_eq!(load.into_findings(None).len(), 3);
    }

    /// The items of a list as JSON, and the findings.
    fn listed(text: &str) -> (Vec<String>, Vec<String>) {
        let load = Load::new();
        let source = Arc::new(Source::new("l.yaml".into(), text.to_owned()));
        let mut found = Vec::new();
        let read = items(&source, &load, |item| {
            found.push(format!("{} {}", item.place.line, item.to_json()))
        });
        assert!(read.is_some() || load.has_errors());
        let findings = load.into_findings(None).iter().map(ToString::to_string).collect();
        (found, findings)
    }

    #[test]
    fn reads_a_list_item_by_item() {
        let (found, findings) = listed("# keys\n- { a: 1 }\n- b\n- &x [c]\n- *x\n- { d: 1, d: 2 }\n");
        let expected = [r#"2 {"a":1}"#, r#"3 "b""#, r#"4 ["c"]"#, r#"4 ["c"]"#, r#"6 {"d":1}"#];
        assert_eq!(
            (found.as_slice(), findings.len()),
            (&expected.map(str::to_owned)[..], 1)
        );
        assert!(
            findings[0].starts_with("l.yaml:6:11: `d` stands here a second time"),
            "{findings:?}"
        );
        assert_eq!(listed("[]"), (vec![], vec![]));
        for (text, expected) in [
            ("", "l.yaml:1:1: there is no list in this file"),
            ("# nothing\n", "l.yaml:1:1: there is no list in this file"),
            ("a: 1", "l.yaml:1:1: one list is expected"),
            ("a", "l.yaml:1:1: one list is expected"),
            ("- a\n---\n- b\n", "l.yaml:3:1: one list is expected"),
            ("- a\n- [b\n", "l.yaml:2:3: not valid YAML"),
            ("- a\nb: c\n", "l.yaml:2:1: not valid YAML"),
        ] {
            let (_, findings) = listed(text);
            assert!(
                findings.len() == 1 && findings[0].starts_with(expected),
                "{text}: {findings:?}"
            );
        }
    }

    #[test]
    fn counts_the_levels_and_values_behind_aliases() {
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..70 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(
            findings(&chain)[0].starts_with("t.yaml:64:12: nested deeper"),
            "{:?}",
            findings(&chain)
        );
    }

    #[test]
    fn says_what_most_often_lies_behind_broken_yaml() {
        for (text, hint) in [
            ("a:\n\tb: 1\n", "not with tabs"),
            ("a: { s: ${env:X} }\n", "stands in quotes"),
            ("a: 1\nb\n", "a colon and a blank"),
            ("a: b: c\n", "a text with `: ` in it"),
            ("a: *.x\n", "begins with `*`"),
            ("a: @x\n", "begins so"),
            ("a: \0\n", "NUL"),
        ] {
            let found = findings(text);
            assert!(found.len() == 1 && found[0].contains(hint), "{text}: {found:?}");
        }
    }

    fn findings(text: &str) -> Vec<String> {
        let load = Load::new();
        let document = load.text("t.yaml", text);
        load.into_findings(document.as_ref())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn keeps_scalars_as_text_with_their_places() {
        let load = Load::new();
        let node = load.text("t.yaml", "a: yes\nb: [010, 23:30]\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!() };
        assert!(matches!(&entries[0].value.value, Value::Scalar { text, .. } if text == "yes"));
        let Value::List(items) = &entries[1].value.value else {
            panic!()
        };
        assert_eq!(items[1].place.to_string(), "t.yaml:2:10");
    }

    #[test]
    fn refuses_what_is_ambiguous_and_names_every_place() {
        let found = findings("a: 1\na: 2\nb: !x 3\n<<: {c: 1}\n");
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            found[0],
            "t.yaml:2:1: `a` stands here a second time\n  t.yaml:1:1: first here"
        );
    }

    #[test]
    fn bounds_aliases_nesting_and_documents() {
        assert!(findings("a: &a [*a]\n")[0].contains("inside the value"));
        assert!(findings(&format!("{}1{}", "[".repeat(70), "]".repeat(70)))[0].contains("nested deeper"));
        assert!(findings("a: 1\n---\nb: 1\n")[0].contains("second document"));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let one = format!("*a{}", level - 1);
            let ten = vec![one; 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{ten}]\n"));
        }
        assert!(findings(&bomb)[0].contains("aliases counted"));
    }

    #[test]
    fn points_at_broken_yaml() {
        assert!(findings("a: [1, 2\nb: 3\n")[0].starts_with("t.yaml:"));
        assert!(findings("a:\n\t- b\n")[0].contains("not valid YAML"));
    }
}
