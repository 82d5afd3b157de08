//! A text with references to the request and its caller, and filling them in.

use std::sync::Arc;

use http::HeaderName;

use super::super::forward::{self, Source};
use super::settings::is_credential;
use crate::conf::{Node, nearest};
use crate::engine::{Facts, never_read};
use crate::policies::Scope;

/// A text taken apart.
#[derive(Debug, Default)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Literal(String),
    Fact(Source),
    Path(Arc<str>),
    Query(String),
    Header(HeaderName),
}

impl Template {
    /// Takes a text apart; what is wrong with it goes to the scope's `load`.
    pub fn compile(node: &Node, scope: &Scope<'_>) -> Option<Self> {
        let text = node.text("a value", scope.load)?;
        let complain = |part: &str, message: String| {
            let start = part.as_ptr() as usize - text.as_ptr() as usize;
            scope.load.error(&node.part(start..start + part.len()), message);
        };
        let mut pieces = Vec::new();
        let mut is_good = true;
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            let (literal, after) = rest.split_at_checked(end)?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            rest = after;
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                pieces.push(Piece::Literal(rest.chars().take(1).collect()));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some((reference, after)) = after.split_once('}') else {
                    complain(rest, "a `{` without its `}`; a brace itself is written `{{`".to_owned());
                    return None;
                };
                match piece(reference, scope) {
                    Ok(piece) => pieces.push(piece),
                    Err(message) => {
                        complain(reference, message);
                        is_good = false;
                    }
                }
                rest = after;
            } else if rest.starts_with('}') {
                complain(rest, "a `}` without its `{`; a brace itself is written `}}`".to_owned());
                return None;
            }
        }
        is_good.then_some(Self(pieces))
    }

    /// The text for this request; `None` where something it refers to is not there, or cannot be told.
    pub fn fill(&self, facts: &Facts<'_>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Fact(source) => text.push_str(&source.text(facts)?.ok()?),
                Piece::Path(name) => text.push_str(&facts.params.get(name)?),
                Piece::Query(name) => {
                    let mut values = facts.request.query_sent(name);
                    let (Some(Some(value)), None) = (values.next(), values.next()) else {
                        return None;
                    };
                    text.push_str(&value);
                }
                Piece::Header(name) => text.push_str(facts.request.header(name)?),
            }
        }
        Some(text)
    }

    /// The headers it reads.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Header(name) => Some(name),
            _ => None,
        })
    }

    /// The parameters of the query it reads.
    pub fn query(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Query(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The claims it reads.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Fact(Source::Claim(path)) => Some(path.as_str()),
            _ => None,
        })
    }
}

fn piece(reference: &str, scope: &Scope<'_>) -> Result<Piece, String> {
    let (head, name) = reference.split_once('.').unwrap_or((reference, ""));
    match (head, name) {
        ("path" | "query" | "header", "") => Err(format!("`{{{reference}}}` names nothing: `{{{head}.NAME}}`")),
        ("path", name) => {
            let Some(params) = scope.params else {
                return Ok(Piece::Path(Arc::from(name)));
            };
            match params.iter().find(|known| ***known == *name) {
                Some(known) => Ok(Piece::Path(known.clone())),
                None => Err(match nearest(name, params.iter().map(|known| &**known)) {
                    Some(near) => format!("the path has no parameter `{name}`, did you mean `{near}`?"),
                    None => format!("the path has no parameter `{name}`"),
                }),
            }
        }
        ("query", name) => Ok(Piece::Query(name.to_owned())),
        ("header", name) => match name.parse::<HeaderName>() {
            Ok(name) if is_credential(name.as_str()) => {
                Err(format!("`{name}` carries credentials, which go nowhere else"))
            }
            Ok(name) => match never_read(&name) {
                Some(fault) => Err(format!("`{name}` {fault}")),
                None => Ok(Piece::Header(name)),
            },
            Err(_) => Err(format!("`{name}` is not a header name")),
        },
        _ => {
            let source = forward::source(reference)?;
            if !scope.has_auth && !matches!(source, Source::Client) {
                return Err("there is no caller to tell of: the route has `auth: none`".to_owned());
            }
            Ok(Piece::Fact(source))
        }
    }
}
