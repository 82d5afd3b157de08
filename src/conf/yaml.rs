//! The only caller of the YAML parser: events → [`Node`]s, strictly.
//!
//! Refused with a place: duplicate keys, keys that are not plain text, merge keys, tags, several documents, aliases that
//! would expand without bound, nesting beyond 64. Scalars stay text: what `yes`, `010` or `23:30` mean is decided by the
//! type that reads them, never guessed.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span, options};

use super::{Entry, Load, Node, Place, Source, Value};

const MAX_DEPTH: usize = 64;
/// Nodes after aliases are expanded; ten thousand routes come to about a tenth of it.
const MAX_NODES: usize = 1_000_000;

/// Builds the tree of the one document in `source`; an empty file is an empty map.
pub(super) fn parse(source: &Arc<Source>, load: &Load) -> Option<Node> {
    let mut builder = Builder {
        source,
        load,
        anchors: HashMap::new(),
        nodes: 0,
        failed: false,
    };
    let options = options! { emit_comments: false };
    let mut events = Parser::new_from_str_with_options(&source.text, options);
    let mut document = None;
    loop {
        match events.next() {
            None => break,
            Some(Err(error)) => {
                let marker = error.marker();
                let start = marker.byte_offset().unwrap_or(0).min(source.text.len());
                let place = Place {
                    source: source.clone(),
                    line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
                    column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
                    start,
                    end: start,
                };
                load.error(&place, format!("not valid YAML: {}", error.info()));
                return None;
            }
            Some(Ok((Event::StreamStart | Event::StreamEnd | Event::DocumentEnd, _))) => {}
            Some(Ok((Event::DocumentStart(..), span))) => {
                if document.is_some() {
                    load.error(
                        &builder.place(&span),
                        "a second document: one file holds one configuration",
                    );
                    return None;
                }
            }
            Some(Ok((event, span))) => {
                let node = builder.node(event, &span, &mut events, 0)?;
                document.get_or_insert(node);
            }
        }
    }
    if builder.failed {
        return None;
    }
    Some(document.unwrap_or_else(|| Node {
        place: Place::start_of(source),
        value: Value::Map(Vec::new()),
    }))
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    load: &'a Load,
    /// Finished anchored nodes with their size; `None` while still being built, so that a self-alias is seen.
    anchors: HashMap<usize, Option<(Node, usize)>>,
    nodes: usize,
    failed: bool,
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

impl Builder<'_> {
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
    fn fail<T>(&mut self, place: &Place, message: impl Into<String>) -> Option<T> {
        self.load.error(place, message);
        None
    }

    /// An error after which building goes on, so that later ones are found too.
    fn complain(&mut self, place: &Place, message: impl Into<String>) {
        self.load.error(place, message);
        self.failed = true;
    }

    fn next<'e>(&mut self, events: &mut Events<'e>) -> Option<(Event<'e>, Span)> {
        match events.next()? {
            Ok(next) => Some(next),
            Err(error) => {
                let marker = error.marker();
                let start = marker.byte_offset().unwrap_or(0).min(self.source.text.len());
                let place = Place {
                    source: self.source.clone(),
                    line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
                    column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
                    start,
                    end: start,
                };
                self.fail(&place, format!("not valid YAML: {}", error.info()))
            }
        }
    }

    fn node(&mut self, event: Event<'_>, span: &Span, events: &mut Events<'_>, depth: usize) -> Option<Node> {
        let mut place = self.place(span);
        if depth > MAX_DEPTH {
            return self.fail(&place, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.fail(&place, format!("more than {MAX_NODES} values, aliases counted"));
        }
        let before = self.nodes;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    self.complain(&place, "tags are not used in a configuration");
                }
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
                if tag.is_some() {
                    self.complain(&place, "tags are not used in a configuration");
                }
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
                if tag.is_some() {
                    self.complain(&place, "tags are not used in a configuration");
                }
                self.open(anchor);
                let mut entries: Vec<Entry> = Vec::new();
                let mut seen: HashMap<String, Place> = HashMap::new();
                loop {
                    let (event, span) = self.next(events)?;
                    if matches!(event, Event::MappingEnd) {
                        place.end = self.place(&span).end.max(place.end);
                        break;
                    }
                    let key_place = self.place(&span);
                    let Event::Scalar(key, _, _, _) = event else {
                        return self.fail(&key_place, "a key must be plain text");
                    };
                    let key = key.into_owned();
                    let (event, span) = self.next(events)?;
                    let value = self.node(event, &span, events, depth + 1)?;
                    if key == "<<" {
                        self.complain(&key_place, "merge keys (`<<`) are not used; write the keys out");
                        continue;
                    }
                    if let Some(first) = seen.get(&key) {
                        self.load.error_with(
                            &key_place,
                            format!("`{key}` stands here a second time"),
                            first,
                            "first here",
                        );
                        self.failed = true;
                        continue;
                    }
                    seen.insert(key.clone(), key_place.clone());
                    place.end = place.end.max(value.place.end);
                    entries.push(Entry { key, key_place, value });
                }
                (Value::Map(entries), anchor)
            }
            Event::Alias(anchor) => {
                return match self.anchors.get(&anchor) {
                    Some(Some((node, size))) => {
                        let node = node.clone();
                        self.nodes += size;
                        if self.nodes > MAX_NODES {
                            return self.fail(&place, format!("more than {MAX_NODES} values, aliases counted"));
                        }
                        Some(node)
                    }
                    _ => self.fail(&place, "an alias inside the value it stands for"),
                };
            }
            _ => return self.fail(&place, "not expected here"),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors
                .insert(anchor, Some((node.clone(), self.nodes - before + 1)));
        }
        Some(node)
    }

    fn open(&mut self, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

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
