//! Cutting one JSON text: members dropped, kept, renamed; all else byte for byte, white space between tokens aside.
//!
//! The text is walked once and written as it is read; nothing but the names of the objects on the way is held.

use super::plan::MAX_BODY;
use crate::engine::ReshapeFailure;
use crate::engine::json::{self, JsonError, Names, Token, Tokens};

/// What happens to a member and to those below it; the tree of all paths of a shape.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The members that some path names.
    pub(super) members: Vec<(Box<str>, Self)>,
    /// Left out with all below it.
    pub(super) dropped: bool,
    /// Whether `keep` names it.
    pub(super) keep: Keep,
    /// Its new name.
    pub(super) rename: Option<NewName>,
}

/// What `keep` says of a member. At the root: `Whole` where the shape has no `keep`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Neither it nor anything below it.
    #[default]
    No,
    /// Something below it.
    Below,
    /// It with all below it.
    Whole,
}

/// A new name, plain and as JSON.
#[derive(Debug)]
pub(super) struct NewName {
    pub(super) plain: Box<str>,
    pub(super) quoted: Box<str>,
}

impl Step {
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        self.members
            .iter()
            .find(|(known, _)| **known == *name)
            .map(|(_, step)| step)
    }

    /// The step of `name`, made where there is none.
    pub(super) fn member_mut(&mut self, name: &str) -> Option<&mut Self> {
        let at = match self.members.iter().position(|(known, _)| **known == *name) {
            Some(at) => at,
            None => {
                self.members.push((Box::from(name), Self::default()));
                self.members.len() - 1
            }
        };
        self.members.get_mut(at).map(|(_, step)| step)
    }
}

/// The body as `root` has it.
pub(super) fn cut(body: &[u8], root: &Step) -> Result<String, ReshapeFailure> {
    let text = json::syntax(body)?;
    let mut tokens = Tokens::new(text);
    let first = next(&mut tokens)?;
    let mut out = String::with_capacity(text.len());
    if root.keep == Keep::Below && matches!(first, Token::Scalar(_)) {
        // Nothing of a lone scalar is kept, and nothing at all would not be JSON.
        json::skip(&mut tokens, first, 0)?;
        out.push_str("null");
    } else {
        write(&mut tokens, first, &mut out, Some(root), root.keep == Keep::Whole, 0)?;
    }
    Ok(out)
}

impl From<JsonError> for ReshapeFailure {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Unreadable => Self::Unreadable,
            JsonError::TooDeep => Self::TooLarge,
        }
    }
}

fn next<'t>(tokens: &mut Tokens<'t>) -> Result<Token<'t>, ReshapeFailure> {
    tokens.next().ok_or(ReshapeFailure::Unreadable)
}

/// Writes the value that begins with `first`. `whole`: `keep` lets all of it through; else it is a container in which
/// only what `step` keeps stays. `depth` counts the containers around it.
fn write<'t>(
    tokens: &mut Tokens<'t>,
    first: Token<'t>,
    out: &mut String,
    step: Option<&Step>,
    whole: bool,
    depth: usize,
) -> Result<(), ReshapeFailure> {
    match first {
        Token::Scalar(text) => {
            json::check_scalar(text)?;
            push(out, text)
        }
        Token::ArrayStart => {
            json::enter(depth)?;
            write_array(tokens, out, step, whole, depth)
        }
        Token::ObjectStart => {
            json::enter(depth)?;
            write_object(tokens, out, step, whole, depth)
        }
        Token::ArrayEnd | Token::ObjectEnd | Token::Key(_) => Err(ReshapeFailure::Unreadable),
    }
}

/// Arrays are transparent: a path goes on in each item.
fn write_array<'t>(
    tokens: &mut Tokens<'t>,
    out: &mut String,
    step: Option<&Step>,
    whole: bool,
    depth: usize,
) -> Result<(), ReshapeFailure> {
    push(out, "[")?;
    let mut separator = "";
    loop {
        match next(tokens)? {
            Token::ArrayEnd => return push(out, "]"),
            scalar @ Token::Scalar(_) if !whole => json::skip(tokens, scalar, depth + 1)?,
            item => {
                push(out, separator)?;
                separator = ",";
                write(tokens, item, out, step, whole, depth + 1)?;
            }
        }
    }
}

fn write_object<'t>(
    tokens: &mut Tokens<'t>,
    out: &mut String,
    step: Option<&Step>,
    whole: bool,
    depth: usize,
) -> Result<(), ReshapeFailure> {
    push(out, "{")?;
    let mut separator = "";
    let mut names = Names::default();
    // Only members that get a new name can make two names meet.
    let renames = step.is_some_and(|step| step.members.iter().any(|(_, member)| member.rename.is_some()));
    let mut written = Names::default();
    loop {
        let key = match next(tokens)? {
            Token::ObjectEnd => return push(out, "}"),
            Token::Key(key) => key,
            _ => return Err(ReshapeFailure::Unreadable),
        };
        let name = json::decode(key)?;
        let value = next(tokens)?;
        let below = step.and_then(|step| step.member(&name));
        let keep = match below {
            Some(below) if below.dropped => Keep::No,
            _ if whole => Keep::Whole,
            Some(below) => below.keep,
            None => Keep::No,
        };
        let stays = match keep {
            Keep::No => false,
            Keep::Below => !matches!(value, Token::Scalar(_)),
            Keep::Whole => true,
        };
        if stays {
            let renamed = below.and_then(|below| below.rename.as_ref());
            push(out, separator)?;
            separator = ",";
            push(out, renamed.map_or(key, |renamed| &renamed.quoted))?;
            push(out, ":")?;
            if renames {
                let plain = renamed.map_or_else(|| name.clone(), |renamed| renamed.plain.to_string().into());
                if !written.insert(plain) {
                    return Err(ReshapeFailure::Collision);
                }
            }
            write(tokens, value, out, below, keep == Keep::Whole, depth + 1)?;
        } else {
            json::skip(tokens, value, depth + 1)?;
        }
        if !names.insert(name) {
            return Err(ReshapeFailure::Unreadable);
        }
    }
}

fn push(out: &mut String, text: &str) -> Result<(), ReshapeFailure> {
    if out.len() + text.len() > MAX_BODY {
        return Err(ReshapeFailure::TooLarge);
    }
    out.push_str(text);
    Ok(())
}
