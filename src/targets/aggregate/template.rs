//! `upstream:/path?query` with references, and filling them in; bodies of `post` parts.

use std::fmt::Write;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::references::{self, Piece, Slot, Source, Values};
use crate::conf::{Node, Value};

/// Everything but the unreserved characters of RFC 3986 §2.3: no value can end a segment, a parameter or a line.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Longer targets are refused by many servers; a part that would have one is skipped.
const MAX_TARGET: usize = 8 << 10;
/// A part whose body would be larger is skipped.
const MAX_BODY: usize = 1 << 20;

/// A `get` or `post` as written, taken apart.
#[derive(Debug)]
pub(super) struct Parsed<'t> {
    /// `None` for a path of the gateway's own.
    pub(super) upstream: Option<&'t str>,
    pub(super) pieces: Vec<Piece>,
}

/// Takes a `get` apart; each error is a sentence. What comes back beside errors is good for finding more of them only.
pub(super) fn parse<'t>(text: &'t str, parts: &[&str]) -> (Option<Parsed<'t>>, Vec<String>) {
    let taken = match text.starts_with('/') {
        true => Some((None, text)),
        false => text
            .split_once(':')
            .filter(|(upstream, target)| !upstream.is_empty() && target.starts_with('/'))
            .map(|(upstream, target)| (Some(upstream), target)),
    };
    let Some((upstream, target)) = taken else {
        return (
            None,
            vec![format!("`{text}` is not `upstream:/path`, nor a path of a route")],
        );
    };
    let mut errors = Vec::new();
    let pieces = references::parse(target, parts, &mut errors);
    check_shape(text, &pieces, &mut errors);
    (Some(Parsed { upstream, pieces }), errors)
}

fn check_shape(text: &str, pieces: &[Piece], errors: &mut Vec<String>) {
    let shape = sample(pieces);
    if let Some(bad) = shape
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '#' | '\\' | '}' | '"' | '<' | '>'))
    {
        errors.push(format!(
            "`{text}`: {bad:?} cannot stand in a path; write it percent-encoded"
        ));
    }
    let path = shape.split('?').next().unwrap_or("");
    if path.split('/').any(is_dots) {
        errors.push(format!(
            "`{text}`: `.` and `..` are resolved by servers; write the path they lead to"
        ));
    }
}

/// The target with a harmless value for every reference.
pub(super) fn sample(pieces: &[Piece]) -> String {
    let one = |piece: &Piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Reference(_) => "x".to_owned(),
    };
    pieces.iter().map(one).collect()
}

/// A target with its references.
#[derive(Debug)]
pub(super) struct Template(Box<[Slot]>);

impl Template {
    pub(super) fn new(slots: Vec<Slot>) -> Self {
        Self(slots.into())
    }

    /// The target with all values in it, those of an array joined by commas; `None` where one is missing, or would change which
    /// path is meant.
    pub(super) fn fill(&self, values: &Values<'_>) -> Option<String> {
        let mut target = String::new();
        for slot in &self.0 {
            if let Slot::Literal(text) = slot {
                target.push_str(text);
                continue;
            }
            let in_path = !target.contains('?');
            for (at, value) in values.texts(slot)?.iter().enumerate() {
                if in_path && (value.is_empty() || **value == *b"." || **value == *b"..") {
                    return None;
                }
                let separator = if at == 0 { "" } else { "," };
                write!(target, "{separator}{}", percent_encode(value, ENCODED)).ok()?;
                if target.len() > MAX_TARGET {
                    return None;
                }
            }
        }
        // Two harmless values side by side may still spell dots.
        let path = target.split('?').next().unwrap_or("");
        (!path.split('/').any(is_dots)).then_some(target)
    }
}

/// Whether a segment is one that servers resolve, however it is encoded.
fn is_dots(segment: &str) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    while !rest.is_empty() {
        let after = ["%2e", "%2E", "."].into_iter().find_map(|dot| rest.strip_prefix(dot));
        match after {
            Some(after) => rest = after,
            None => return false,
        }
        dots += 1;
    }
    matches!(dots, 1 | 2)
}

/// A JSON body with references: a text that is nothing but one stands for the value as it is, in a longer text it is spelled out.
#[derive(Debug)]
pub(super) struct Body(Box<[Stretch]>);

#[derive(Debug)]
enum Stretch {
    /// JSON as it stands.
    Json(String),
    /// A value.
    Value(Slot),
    /// A text put together.
    Text(Box<[Slot]>),
}

impl Body {
    /// Reads a body; `resolve` numbers references and finds what is wrong with them.
    pub(super) fn compile(
        node: &Node,
        parts: &[&str],
        errors: &mut Vec<String>,
        resolve: &mut dyn FnMut(Piece, &mut Vec<String>) -> Slot,
    ) -> Self {
        let mut stretches = Vec::new();
        read_body(node, parts, errors, resolve, &mut stretches);
        Self(stretches.into())
    }

    /// The body with all values in it; `None` where one is missing.
    pub(super) fn fill(&self, values: &Values<'_>) -> Option<Bytes> {
        let mut body = String::new();
        for stretch in &self.0 {
            match stretch {
                Stretch::Json(text) => body.push_str(text),
                Stretch::Value(slot) => body.push_str(&values.json(slot)?),
                Stretch::Text(slots) => {
                    let mut text = Vec::new();
                    for slot in slots {
                        text.extend_from_slice(&values.texts(slot)?.join(&b","[..]));
                    }
                    let text = String::from_utf8(text).ok()?;
                    body.push_str(&serde_json::Value::from(text).to_string());
                }
            }
            if body.len() > MAX_BODY {
                return None;
            }
        }
        Some(body.into())
    }
}

fn read_body(
    node: &Node,
    parts: &[&str],
    errors: &mut Vec<String>,
    resolve: &mut dyn FnMut(Piece, &mut Vec<String>) -> Slot,
    out: &mut Vec<Stretch>,
) {
    let push = |out: &mut Vec<Stretch>, text: &str| match out.last_mut() {
        Some(Stretch::Json(json)) => json.push_str(text),
        _ => out.push(Stretch::Json(text.to_owned())),
    };
    match &node.value {
        Value::Scalar { text, .. } if text.contains('{') => {
            let mut pieces = references::parse(text, parts, errors);
            match (pieces.pop(), pieces.is_empty()) {
                (Some(only @ Piece::Reference(_)), true) => out.push(Stretch::Value(resolve(only, errors))),
                (Some(last), _) => {
                    let slots = pieces.into_iter().chain([last]).map(|piece| resolve(piece, errors));
                    out.push(Stretch::Text(slots.collect()));
                }
                (None, _) => {}
            }
        }
        Value::Null | Value::Scalar { .. } => push(out, &node.to_json()),
        Value::List(items) => {
            push(out, "[");
            for (at, item) in items.iter().enumerate() {
                push(out, if at == 0 { "" } else { "," });
                read_body(item, parts, errors, resolve, out);
            }
            push(out, "]");
        }
        Value::Map(entries) => {
            push(out, "{");
            for (at, entry) in entries.iter().enumerate() {
                let name = serde_json::Value::from(entry.key.as_str());
                push(out, &format!("{}{name}:", if at == 0 { "" } else { "," }));
                read_body(&entry.value, parts, errors, resolve, out);
            }
            push(out, "}");
        }
    }
}

/// The parts that slots refer to, each once.
pub(super) fn needs(source: &Source, needs: &mut Vec<usize>) {
    if let Source::Part { part, .. } = source
        && !needs.contains(part)
    {
        needs.push(*part);
    }
}
