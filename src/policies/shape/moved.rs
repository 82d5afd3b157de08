//! Moving members and adding those that are missing.
//!
//! Done on a text that is known to be good. Only what lies on the way is taken apart; all else stays a piece of the text.

use std::borrow::Cow;

use super::plan::{MAX_BODY, quoted};
use super::settings::Path;
use crate::engine::ReshapeFailure;
use crate::engine::json::{self, Token, Tokens};

/// A member that gets another place.
#[derive(Debug)]
pub(super) struct Move {
    /// The objects in which it moves: the way that both paths share, arrays walked.
    within: Box<[Box<str>]>,
    from: Box<[Box<str>]>,
    to: Box<[Box<str>]>,
}

impl Move {
    /// A move between two places; the error is the rest of a sentence.
    pub fn new(from: &Path, to: &Path) -> Result<Self, &'static str> {
        let pairs = from.names().iter().zip(to.names());
        let shared = pairs.take_while(|(one, other)| one == other).count();
        let (within, from) = from.names().split_at_checked(shared).unwrap_or_default();
        let (_, to) = to.names().split_at_checked(shared).unwrap_or_default();
        match (from.is_empty(), to.is_empty()) {
            (true, true) => Err("moves a member to where it is"),
            (true, false) => Err("moves a member into itself"),
            (false, true) => Err("moves a member onto the one it stands in"),
            (false, false) => Ok(Self {
                within: within.into(),
                from: from.into(),
                to: to.into(),
            }),
        }
    }
}

/// A member that is added where it is missing.
#[derive(Debug)]
pub(super) struct Added {
    within: Box<[Box<str>]>,
    name: Box<str>,
    value: Box<str>,
}

impl Added {
    /// The last name of `path` in the objects above it; `value` is JSON.
    pub fn new(path: &Path, value: &str) -> Option<Self> {
        let (name, within) = path.names().split_last()?;
        Some(Self {
            within: within.into(),
            name: name.clone(),
            value: value.into(),
        })
    }
}

/// Moves first, then adds.
pub(super) fn rearrange(text: &str, moves: &[Move], defaults: &[Added]) -> Result<String, ReshapeFailure> {
    let mut root = Tree::Text(text);
    for found in moves {
        root.each(&found.within, &mut |members| match take(members, &found.from)? {
            Some(value) => put(members, &found.to, value),
            None => Ok(()),
        })?;
    }
    for default in defaults {
        root.each(&default.within, &mut |members| {
            if !members.iter().any(|member| *member.name == *default.name) {
                members.push(Member::new(&default.name, Tree::Text(&default.value)));
            }
            Ok(())
        })?;
    }
    let mut out = String::with_capacity(text.len());
    root.write(&mut out)?;
    Ok(out)
}

/// Sets each member, in every item of lists on the way; one without a value goes. Objects on the way are made.
pub(super) fn assign(text: &str, values: &[(Path, Option<String>)]) -> Result<String, ReshapeFailure> {
    let mut root = Tree::Text(text);
    for (path, value) in values {
        root.set(path.names(), value.as_deref())?;
    }
    let mut out = String::with_capacity(text.len());
    root.write(&mut out)?;
    Ok(out)
}

/// JSON taken apart as far as was needed.
#[derive(Debug)]
enum Tree<'t> {
    /// Any value, not looked into.
    Text(&'t str),
    List(Vec<Tree<'t>>),
    Object(Vec<Member<'t>>),
}

#[derive(Debug)]
struct Member<'t> {
    name: Cow<'t, str>,
    /// The name as JSON, as it was written.
    quoted: Cow<'t, str>,
    value: Tree<'t>,
}

impl<'t> Member<'t> {
    fn new(name: &'t str, value: Tree<'t>) -> Self {
        Self {
            name: Cow::Borrowed(name),
            quoted: Cow::Owned(quoted(name).into()),
            value,
        }
    }
}

impl<'t> Tree<'t> {
    /// Takes a list or an object apart, one level.
    fn open(&mut self) -> Result<(), ReshapeFailure> {
        let Self::Text(text) = *self else { return Ok(()) };
        let mut tokens = Tokens::new(text);
        let unreadable = ReshapeFailure::Unreadable;
        match tokens.next() {
            Some(Token::ArrayStart) => {
                let mut items = Vec::new();
                while !tokens.ends() {
                    items.push(Self::Text(tokens.value().ok_or(unreadable)?));
                }
                *self = Self::List(items);
            }
            Some(Token::ObjectStart) => {
                let mut members = Vec::new();
                while !tokens.ends() {
                    let Some(Token::Key(key)) = tokens.next() else {
                        return Err(unreadable);
                    };
                    members.push(Member {
                        name: json::decode(key)?,
                        quoted: Cow::Borrowed(key),
                        value: Self::Text(tokens.value().ok_or(unreadable)?),
                    });
                }
                *self = Self::Object(members);
            }
            _ => {}
        }
        Ok(())
    }

    /// Changes every object at `path`; lists on the way are walked.
    fn each(
        &mut self,
        path: &[Box<str>],
        change: &mut impl FnMut(&mut Vec<Member<'t>>) -> Result<(), ReshapeFailure>,
    ) -> Result<(), ReshapeFailure> {
        self.open()?;
        match (self, path) {
            (Self::List(items), _) => items.iter_mut().try_for_each(|item| item.each(path, change)),
            (Self::Object(members), []) => change(members),
            (Self::Object(members), [first, rest @ ..]) => {
                let below = members.iter_mut().find(|member| *member.name == **first);
                below.map_or(Ok(()), |member| member.value.each(rest, change))
            }
            (Self::Text(_), _) => Ok(()),
        }
    }

    fn set(&mut self, path: &'t [Box<str>], value: Option<&'t str>) -> Result<(), ReshapeFailure> {
        self.open()?;
        let Some((first, rest)) = path.split_first() else {
            return Ok(());
        };
        let members = match self {
            Self::List(items) => return items.iter_mut().try_for_each(|item| item.set(path, value)),
            // Where there is no object, nothing can be set, and nothing has to go.
            Self::Text(_) if value.is_some() => return Err(ReshapeFailure::Collision),
            Self::Text(_) => return Ok(()),
            Self::Object(members) => members,
        };
        let known = members.iter().position(|member| *member.name == **first);
        match (known, rest, value) {
            (Some(at), [], None) => drop(members.remove(at)),
            (Some(at), _, _) => {
                let Some(member) = members.get_mut(at) else {
                    return Ok(());
                };
                match value.filter(|_| rest.is_empty()) {
                    Some(value) => member.value = Self::Text(value),
                    None => return member.value.set(rest, value),
                }
            }
            (None, [], Some(value)) => members.push(Member::new(first, Self::Text(value))),
            (None, rest, Some(_)) => {
                let mut below = Self::Object(Vec::new());
                below.set(rest, value)?;
                members.push(Member::new(first, below));
            }
            (None, _, None) => {}
        }
        Ok(())
    }

    fn write(&self, out: &mut String) -> Result<(), ReshapeFailure> {
        let mut separator = "";
        match self {
            Self::Text(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for item in items {
                    out.push_str(separator);
                    separator = ",";
                    item.write(out)?;
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for member in members {
                    out.push_str(separator);
                    separator = ",";
                    out.push_str(&member.quoted);
                    out.push(':');
                    member.value.write(out)?;
                }
                out.push('}');
            }
        }
        // A default in each item of a long list makes a body grow.
        if out.len() > MAX_BODY {
            return Err(ReshapeFailure::TooLarge);
        }
        Ok(())
    }
}

/// Takes the member at `path` out. A list on the way has many of it, which have no one place to go to.
fn take<'t>(members: &mut Vec<Member<'t>>, path: &[Box<str>]) -> Result<Option<Tree<'t>>, ReshapeFailure> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(None);
    };
    let Some(at) = members.iter().position(|member| *member.name == **first) else {
        return Ok(None);
    };
    if rest.is_empty() {
        return Ok(Some(members.remove(at).value));
    }
    let Some(member) = members.get_mut(at) else {
        return Ok(None);
    };
    member.value.open()?;
    match &mut member.value {
        Tree::Object(below) => take(below, rest),
        Tree::List(_) => Err(ReshapeFailure::Collision),
        Tree::Text(_) => Ok(None),
    }
}

/// Puts a value at `path`, making objects on the way. What is there already is not replaced.
fn put<'t>(members: &mut Vec<Member<'t>>, path: &'t [Box<str>], value: Tree<'t>) -> Result<(), ReshapeFailure> {
    let Some((first, rest)) = path.split_first() else {
        return Err(ReshapeFailure::Collision);
    };
    let known = members.iter_mut().find(|member| *member.name == **first);
    match (known, rest) {
        (Some(_), []) => Err(ReshapeFailure::Collision),
        (Some(member), rest) => {
            member.value.open()?;
            match &mut member.value {
                Tree::Object(below) => put(below, rest, value),
                _ => Err(ReshapeFailure::Collision),
            }
        }
        (None, []) => {
            members.push(Member::new(first, value));
            Ok(())
        }
        (None, rest) => {
            let mut below = Vec::new();
            put(&mut below, rest, value)?;
            members.push(Member::new(first, Tree::Object(below)));
            Ok(())
        }
    }
}
