//! References such as `{principal.sub}` and `{orders.items[*].product_id}`: what they name, and what stands there.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, header};
use smallvec::{SmallVec, smallvec};

use crate::conf::nearest;
use crate::engine::never_read;
use crate::engine::select::{Step, scalar, steps, value_at, values_at};

/// Names that stand for something else than parts.
pub(super) const RESERVED: [&str; 5] = ["principal", "path", "query", "header", "each"];

/// More values of one array are not joined.
const MAX_JOINED: usize = 1_000;

/// Where a referenced value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The caller's subject.
    Principal,
    /// A parameter of the route's path.
    Path(Arc<str>),
    /// A query parameter, where it stands there once.
    Query(Arc<str>),
    /// A request header, where it stands there once.
    Header(HeaderName),
    /// A value of another part's answer.
    Part { part: usize, path: Box<[Step]> },
    /// A value of the item that `each` has come to.
    Each(Box<[Step]>),
}

/// A piece of a text as written.
#[derive(Debug)]
pub(super) enum Piece {
    Literal(String),
    Reference(Source),
}

/// A piece as run.
#[derive(Debug)]
pub(super) enum Slot {
    Literal(Box<str>),
    /// A value from outside, by its index among the aggregate's inputs.
    Input(usize),
    Part {
        part: usize,
        path: Box<[Step]>,
    },
    Each(Box<[Step]>),
}

/// Takes a text apart; each error is a sentence. What comes back beside errors is good for finding more of them only.
pub(super) fn parse(text: &str, parts: &[&str], errors: &mut Vec<String>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let push_literal = |pieces: &mut Vec<Piece>, literal: &str| {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
    };
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once('{') {
        let Some((reference, after)) = after.split_once('}') else {
            errors.push(format!("`{text}`: a `{{` without its `}}`"));
            return pieces;
        };
        push_literal(&mut pieces, literal);
        match reference_to(reference, parts) {
            Ok(source) => pieces.push(Piece::Reference(source)),
            Err(error) => errors.push(error),
        }
        rest = after;
    }
    push_literal(&mut pieces, rest);
    pieces
}

fn reference_to(text: &str, parts: &[&str]) -> Result<Source, String> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (head, tail) = text.split_at_checked(end).unwrap_or((text, ""));
    if head == "each" {
        let path = steps(tail.strip_prefix('.').unwrap_or(tail)).filter(|_| tail != ".");
        return path
            .map(Source::Each)
            .ok_or_else(|| format!("`{{{text}}}` is not a reference such as `{{each}}` or `{{each.product_id}}`"));
    }
    let member = tail.strip_prefix('.').unwrap_or("");
    let no_reference =
        || format!("`{{{text}}}` is not a reference such as `{{principal.sub}}` or `{{balance.account_id}}`");
    if member.is_empty() && !tail.starts_with('[') {
        return Err(no_reference());
    }
    match head {
        "principal" if member == "sub" => Ok(Source::Principal),
        "principal" => Err(format!("unknown reference `{{{text}}}`, expected `{{principal.sub}}`")),
        "path" | "query" | "header" if member.is_empty() => Err(no_reference()),
        "path" => Ok(Source::Path(Arc::from(member))),
        "query" => Ok(Source::Query(Arc::from(member))),
        "header" => match HeaderName::from_bytes(member.as_bytes()) {
            Ok(header::AUTHORIZATION | header::PROXY_AUTHORIZATION | header::COOKIE) => {
                Err(format!("`{{{text}}}` would write a credential into a URL"))
            }
            Ok(name) => match never_read(&name) {
                Some(fault) => Err(format!("`{{{text}}}`: `{name}` {fault}")),
                None => Ok(Source::Header(name)),
            },
            Err(_) => Err(format!("`{{{text}}}`: `{member}` is not a header name")),
        },
        _ => {
            let part = part_of(text, parts)?;
            Ok(Source::Part {
                part: part.0,
                path: part.1,
            })
        }
    }
}

/// Reads `orders.items[*]`: a part and the way into its answer.
pub(super) fn part_of(text: &str, parts: &[&str]) -> Result<(usize, Box<[Step]>), String> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (head, tail) = text.split_at_checked(end).unwrap_or((text, ""));
    let Some(at) = parts.iter().position(|known| *known == head) else {
        let known = parts.iter().copied().chain(RESERVED);
        return Err(match nearest(head, known) {
            Some(near) => format!("`{{{text}}}`: there is no part `{head}`, did you mean `{near}`?"),
            None => format!("`{{{text}}}`: there is no part `{head}`"),
        });
    };
    match steps(tail.strip_prefix('.').unwrap_or(tail)).filter(|_| tail != ".") {
        Some(path) => Ok((at, path)),
        None => Err(format!(
            "`{{{text}}}` is not the way to a value such as `{{balance.account_id}}` or `{{orders.items[*].id}}`"
        )),
    }
}

/// Numbers the values from outside, so that each is looked up once.
pub(super) fn resolve(piece: Piece, inputs: &mut Vec<Source>) -> Slot {
    match piece {
        Piece::Literal(text) => Slot::Literal(text.into()),
        Piece::Reference(Source::Part { part, path }) => Slot::Part { part, path },
        Piece::Reference(Source::Each(path)) => Slot::Each(path),
        Piece::Reference(source) => {
            let at = inputs.iter().position(|known| *known == source).unwrap_or_else(|| {
                inputs.push(source);
                inputs.len() - 1
            });
            Slot::Input(at)
        }
    }
}

/// What references may name while an aggregate runs.
#[derive(Clone, Copy)]
pub(super) struct Values<'v> {
    /// From outside.
    pub inputs: &'v [Option<Box<[u8]>>],
    /// The answers of parts that are there.
    pub part: &'v dyn Fn(usize) -> Option<&'v str>,
    /// The item that `each` has come to.
    pub item: Option<&'v str>,
}

/// The values of one reference, as text.
pub(super) type Texts<'v> = SmallVec<[Cow<'v, [u8]>; 1]>;

impl<'v> Values<'v> {
    /// The scalars that a reference names: one, or those of an array; `None` where one is missing. Of an array, `null` and
    /// missing ones are left out, and nothing left is nothing there.
    pub fn texts<'t>(&self, slot: &'t Slot) -> Option<Texts<'t>>
    where
        'v: 't,
    {
        let (text, path) = match slot {
            Slot::Literal(text) => return Some(smallvec![Cow::Borrowed(text.as_bytes())]),
            Slot::Input(at) => return Some(smallvec![Cow::Borrowed(self.inputs.get(*at)?.as_deref()?)]),
            Slot::Part { part, path } => ((self.part)(*part)?, path),
            Slot::Each(path) => (self.item?, path),
        };
        let bytes = |text: Cow<'t, str>| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        if !path.contains(&Step::Each) {
            return Some(smallvec![bytes(scalar(value_at(text, path)?)?)]);
        }
        let mut values = values_at(text, path, MAX_JOINED)?;
        values.retain(|value| *value != "null");
        if values.is_empty() {
            return None;
        }
        values.into_iter().map(|value| scalar(value).map(bytes)).collect()
    }

    /// What a reference names as JSON, as it was written; `None` where it is not there.
    pub fn json<'t>(&self, slot: &'t Slot) -> Option<Cow<'t, str>>
    where
        'v: 't,
    {
        let quoted = |text: &str| Cow::Owned(serde_json::Value::from(text).to_string());
        let (text, path) = match slot {
            Slot::Literal(text) => return Some(quoted(text)),
            Slot::Input(at) => {
                let value = self.inputs.get(*at)?.as_deref()?;
                return std::str::from_utf8(value).ok().map(quoted);
            }
            Slot::Part { part, path } => ((self.part)(*part)?, path),
            Slot::Each(path) => (self.item?, path),
        };
        if path.contains(&Step::Each) {
            return Some(format!("[{}]", values_at(text, path, MAX_JOINED)?.join(",")).into());
        }
        value_at(text, path).map(Cow::Borrowed)
    }
}
