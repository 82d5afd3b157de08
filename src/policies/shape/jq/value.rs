//! JSON text to the values of a program and back. A number stays the text it was until it is computed with.

use jaq_json::{Map, Num, Val};

use crate::engine::ReshapeFailure;
use crate::engine::json::{self, Token, Tokens};

/// Deeper values are not written; programs may nest what they get.
const MAX_DEPTH: usize = 128;

/// The value of a text that is known to be good.
pub(super) fn read(text: &str) -> Result<Val, ReshapeFailure> {
    let mut tokens = Tokens::new(text);
    let first = tokens.next().ok_or(ReshapeFailure::Unreadable)?;
    value(&mut tokens, first, 0)
}

fn value<'t>(tokens: &mut Tokens<'t>, first: Token<'t>, depth: usize) -> Result<Val, ReshapeFailure> {
    let unreadable = ReshapeFailure::Unreadable;
    match first {
        Token::Scalar("null") => Ok(Val::Null),
        Token::Scalar("true") => Ok(Val::Bool(true)),
        Token::Scalar("false") => Ok(Val::Bool(false)),
        Token::Scalar(text) if text.starts_with('"') => Ok(Val::utf8_str(json::decode(text)?.into_owned())),
        Token::Scalar(text) => number(text).ok_or(unreadable),
        Token::ArrayStart => {
            json::enter(depth)?;
            let mut items = Vec::new();
            loop {
                match tokens.next().ok_or(unreadable)? {
                    Token::ArrayEnd => return Ok(items.into_iter().collect()),
                    item => items.push(value(tokens, item, depth + 1)?),
                }
            }
        }
        Token::ObjectStart => {
            json::enter(depth)?;
            let mut members = Map::default();
            loop {
                match tokens.next().ok_or(unreadable)? {
                    Token::ObjectEnd => return Ok(Val::obj(members)),
                    Token::Key(key) => {
                        let name = Val::utf8_str(json::decode(key)?.into_owned());
                        let first = tokens.next().ok_or(unreadable)?;
                        members.insert(name, value(tokens, first, depth + 1)?);
                    }
                    _ => return Err(unreadable),
                }
            }
        }
        Token::ArrayEnd | Token::ObjectEnd | Token::Key(_) => Err(unreadable),
    }
}

/// A number as JSON has it; `None` for any other text.
pub(super) fn number(text: &str) -> Option<Val> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let text = text.trim_end();
    if !is_number || json::syntax(text.as_bytes()).is_err() {
        return None;
    }
    let small = text.parse::<isize>().ok().filter(|_| text != "-0");
    Some(Val::Num(match small {
        Some(small) => Num::Int(small),
        None => Num::Dec(text.to_owned().into()),
    }))
}

/// The text of a value, of at most `most` bytes.
pub(super) fn write(value: &Val, most: usize) -> Result<String, ReshapeFailure> {
    let mut out = String::new();
    push(value, &mut out, most, 0)?;
    Ok(out)
}

fn push(value: &Val, out: &mut String, most: usize, depth: usize) -> Result<(), ReshapeFailure> {
    if depth > MAX_DEPTH {
        return Err(ReshapeFailure::TooLarge);
    }
    match value {
        Val::Null => out.push_str("null"),
        Val::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Val::Num(Num::Int(whole)) => out.push_str(&whole.to_string()),
        Val::Num(Num::BigInt(whole)) => out.push_str(&whole.to_string()),
        Val::Num(Num::Dec(text)) => out.push_str(text),
        Val::Num(Num::Float(float)) => out.push_str(&written(*float)?),
        Val::TStr(text) => text_to(text, out)?,
        Val::BStr(_) => return Err(ReshapeFailure::Program),
        Val::Arr(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push(item, out, most, depth + 1)?;
            }
            out.push(']');
        }
        Val::Obj(members) => {
            out.push('{');
            for (at, (name, member)) in members.iter().enumerate() {
                let Val::TStr(name) = name else {
                    return Err(ReshapeFailure::Program);
                };
                if at > 0 {
                    out.push(',');
                }
                text_to(name, out)?;
                out.push(':');
                push(member, out, most, depth + 1)?;
            }
            out.push('}');
        }
    }
    if out.len() > most {
        return Err(ReshapeFailure::TooLarge);
    }
    Ok(())
}

fn text_to(bytes: &[u8], out: &mut String) -> Result<(), ReshapeFailure> {
    // A cut through a character leaves what is no text.
    let text = std::str::from_utf8(bytes).map_err(|_| ReshapeFailure::Program)?;
    out.push_str(&serde_json::Value::from(text).to_string());
    Ok(())
}

/// What came of computing: a whole number as such, and nothing that JSON cannot say.
fn written(float: f64) -> Result<String, ReshapeFailure> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() < EXACT {
        return Ok(format!("{float:.0}"));
    }
    let number = serde_json::Number::from_f64(float).ok_or(ReshapeFailure::Program)?;
    Ok(number.to_string())
}
