//! `upstream:/path?query` with references, and filling them in.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use http::{HeaderName, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::conf::nearest;

/// Everything but the unreserved characters of RFC 3986 §2.3: no value can end a segment, a parameter or a line.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Longer targets are refused by many servers; a part that would have one is skipped.
const MAX_TARGET: usize = 8 << 10;

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
    /// A member of another part's answer.
    Part { part: usize, path: Box<[Box<str>]> },
}

/// A piece as written.
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
        path: Box<[Box<str>]>,
    },
}

/// A `get` as written, taken apart.
#[derive(Debug)]
pub(super) struct Parsed<'t> {
    pub(super) upstream: &'t str,
    pub(super) pieces: Vec<Piece>,
}

/// Takes a `get` apart; each error is a sentence. What comes back beside errors is good for finding more of them only.
pub(super) fn parse<'t>(text: &'t str, parts: &[&str]) -> (Option<Parsed<'t>>, Vec<String>) {
    let taken = text.split_once(':');
    let Some((upstream, target)) = taken.filter(|(upstream, target)| !upstream.is_empty() && target.starts_with('/'))
    else {
        return (None, vec![format!("`{text}` is not `upstream:/path`")]);
    };
    let mut errors = Vec::new();
    let pieces = parse_target(text, target, parts, &mut errors);
    (Some(Parsed { upstream, pieces }), errors)
}

fn parse_target(text: &str, target: &str, parts: &[&str], errors: &mut Vec<String>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut shape = String::new();
    let mut rest = target;
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
        shape.push_str(literal);
        shape.push('x');
        rest = after;
    }
    push_literal(&mut pieces, rest);
    shape.push_str(rest);
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
    pieces
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &str) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.to_owned()));
    }
}

fn reference_to(text: &str, parts: &[&str]) -> Result<Source, String> {
    let (head, member) = text.split_once('.').unwrap_or((text, ""));
    if member.is_empty() {
        return Err(format!(
            "`{{{text}}}` is not a reference such as `{{principal.sub}}` or `{{balance.account_id}}`"
        ));
    }
    match head {
        "principal" if member == "sub" => Ok(Source::Principal),
        "principal" => Err(format!("unknown reference `{{{text}}}`, expected `{{principal.sub}}`")),
        "path" => Ok(Source::Path(Arc::from(member))),
        "query" => Ok(Source::Query(Arc::from(member))),
        "header" => match HeaderName::from_bytes(member.as_bytes()) {
            Ok(header::AUTHORIZATION | header::PROXY_AUTHORIZATION | header::COOKIE) => {
                Err(format!("`{{{text}}}` would write a credential into a URL"))
            }
            Ok(name) => Ok(Source::Header(name)),
            Err(_) => Err(format!("`{{{text}}}`: `{member}` is not a header name")),
        },
        part => {
            let Some(at) = parts.iter().position(|known| *known == part) else {
                let known = parts.iter().copied().chain(super::RESERVED);
                return Err(match nearest(part, known) {
                    Some(near) => format!("`{{{text}}}`: there is no part `{part}`, did you mean `{near}`?"),
                    None => format!("`{{{text}}}`: there is no part `{part}`"),
                });
            };
            let path: Box<[Box<str>]> = member.split('.').map(Box::from).collect();
            if path
                .iter()
                .any(|name| name.is_empty() || name.contains(['[', ']', '*']))
            {
                return Err(format!(
                    "`{{{text}}}` is not a reference to one value such as `{{balance.account_id}}`"
                ));
            }
            Ok(Source::Part { part: at, path })
        }
    }
}

/// Numbers the values from outside, so that each is looked up once.
pub(super) fn resolve(piece: Piece, inputs: &mut Vec<Source>) -> Slot {
    match piece {
        Piece::Literal(text) => Slot::Literal(text.into()),
        Piece::Reference(Source::Part { part, path }) => Slot::Part { part, path },
        Piece::Reference(source) => {
            let at = inputs.iter().position(|known| *known == source).unwrap_or_else(|| {
                inputs.push(source);
                inputs.len() - 1
            });
            Slot::Input(at)
        }
    }
}

/// A target with its references.
#[derive(Debug)]
pub(super) struct Template(Box<[Slot]>);

impl Template {
    pub(super) fn new(slots: Vec<Slot>) -> Self {
        Self(slots.into())
    }

    /// The target with all values in it; `None` where one is missing, or would change which path is meant.
    pub(super) fn fill<'v>(
        &self,
        input: impl Fn(usize) -> Option<&'v [u8]>,
        part: impl Fn(usize, &[Box<str>]) -> Option<Cow<'v, str>>,
    ) -> Option<String> {
        let mut target = String::new();
        for slot in &self.0 {
            let value = match slot {
                Slot::Literal(text) => {
                    target.push_str(text);
                    continue;
                }
                Slot::Input(at) => Cow::Borrowed(input(*at)?),
                Slot::Part { part: at, path } => match part(*at, path)? {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                },
            };
            let in_path = !target.contains('?');
            if in_path && (value.is_empty() || *value == *b"." || *value == *b"..") {
                return None;
            }
            write!(target, "{}", percent_encode(&value, ENCODED)).ok()?;
            if target.len() > MAX_TARGET {
                return None;
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
