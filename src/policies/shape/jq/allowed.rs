//! What may be written in a program.
//!
//! Left out is whatever loops by itself (`def`, `reduce`, `foreach`, `range`, `limit`, `recurse`, `..`, `while`, `until`,
//! `repeat`), takes more time than its input is long (`contains`, `indices`), leaves the program (`halt`, `input`, `env`,
//! `now`, `debug`, modules) or changes the order of members (`del`). `-`, `*`, `/` and `%` are for numbers.

use std::ops::Range;

use jaq_core::load::lex::{Lexer, StrPart};
use jaq_core::load::parse::{BinaryOp, Def, Parser, Pattern, Term};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};

use super::Fault;
use crate::conf::nearest;

/// Deeper brackets are refused: they are read by recursion.
const MAX_BRACKETS: usize = 64;

/// The functions of a program, each with how many arguments it takes.
pub(super) const FUNCTIONS: &[(&str, usize)] = &[
    ("abs", 0),
    ("add", 0),
    ("add", 1),
    ("all", 0),
    ("all", 1),
    ("all", 2),
    ("any", 0),
    ("any", 1),
    ("any", 2),
    ("arrays", 0),
    ("ascii_downcase", 0),
    ("ascii_upcase", 0),
    ("booleans", 0),
    ("ceil", 0),
    ("empty", 0),
    ("endswith", 1),
    ("error", 0),
    ("error", 1),
    ("false", 0),
    ("first", 0),
    ("first", 1),
    ("floor", 0),
    ("from_entries", 0),
    ("group_by", 1),
    ("has", 1),
    ("isempty", 1),
    ("iterables", 0),
    ("join", 1),
    ("keys", 0),
    ("keys_unsorted", 0),
    ("last", 0),
    ("last", 1),
    ("length", 0),
    ("ltrimstr", 1),
    ("map", 1),
    ("map_values", 1),
    ("max", 0),
    ("max_by", 1),
    ("min", 0),
    ("min_by", 1),
    ("not", 0),
    ("nth", 1),
    ("null", 0),
    ("nulls", 0),
    ("numbers", 0),
    ("objects", 0),
    ("reverse", 0),
    ("round", 0),
    ("rtrimstr", 1),
    ("scalars", 0),
    ("select", 1),
    ("sort", 0),
    ("sort_by", 1),
    ("split", 1),
    ("startswith", 1),
    ("strings", 0),
    ("to_entries", 0),
    ("tojson", 0),
    ("tonumber", 0),
    ("tostring", 0),
    ("trim", 0),
    ("true", 0),
    ("type", 0),
    ("unique", 0),
    ("unique_by", 1),
    ("values", 0),
    ("with_entries", 1),
];

/// What these need besides, which programs do not call.
const NEEDED: &[(&str, usize)] = &[
    ("isarray", 0),
    ("isboolean", 0),
    ("isnumber", 0),
    ("isobject", 0),
    ("isstring", 0),
    ("@text", 0),
    ("@json", 0),
];

/// The formats of strings.
const FORMATS: [&str; 2] = ["@text", "@json"];

/// The definitions of functions that are not native; in the place of two there are bounded ones.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let is_known = |definition: &Def<&str>| {
        let is = |(name, arguments): &(&str, usize)| *name == definition.name && *arguments == definition.args.len();
        FUNCTIONS.iter().chain(NEEDED).any(is) && !matches!(definition.name, "tonumber" | "split")
    };
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    all.filter(is_known)
}

/// Reads a program and judges it.
pub(super) fn parse(text: &str) -> Result<Term<&str>, Vec<Fault>> {
    let fault = |at: Range<usize>, message: String| Fault { at, message };
    let rest = |part: &str| span(text, part);
    if deepest(text) > MAX_BRACKETS {
        let message = format!("brackets deeper than {MAX_BRACKETS} levels");
        return Err(vec![fault(0..text.len(), message)]);
    }
    let tokens = Lexer::new(text).lex().map_err(|errors| {
        let errors = errors.into_iter();
        let faults = errors.map(|(wanted, found)| {
            let start = rest(found).start;
            let length = found.chars().next().map_or(0, char::len_utf8);
            fault(start..start + length, format!("expected {} here", wanted.as_str()))
        });
        faults.collect::<Vec<_>>()
    })?;
    let term = Parser::new(&tokens).parse(Parser::term).map_err(|errors| {
        let errors = errors.into_iter();
        let faults = errors.map(|(wanted, found)| {
            let at = found.map_or(text.len()..text.len(), |token| rest(token.0));
            let here = match found {
                Some(token) => format!("`{}` where {} is expected", token.0, wanted.as_str()),
                None => format!("the program ends where {} is expected", wanted.as_str()),
            };
            fault(at, here)
        });
        faults.collect::<Vec<_>>()
    })?;
    let mut judge = Judge {
        text,
        faults: Vec::new(),
    };
    judge.term(&term);
    if judge.faults.is_empty() {
        Ok(term)
    } else {
        Err(judge.faults)
    }
}

/// The bytes of `whole` that `part` is, where it is one of it.
pub(super) fn span(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize);
    match start.map(|start| start..start + part.len()) {
        Some(range) if range.end <= whole.len() => range,
        _ => 0..whole.len(),
    }
}

fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

struct Judge<'t> {
    text: &'t str,
    faults: Vec<Fault>,
}

impl<'t> Judge<'t> {
    fn complain(&mut self, part: &str, message: String) {
        let at = span(self.text, part);
        self.faults.push(Fault { at, message });
    }

    fn refuse(&mut self, what: &str) {
        self.complain(self.text, format!("{what} may not stand in the program of a shape"));
    }

    fn term(&mut self, term: &Term<&'t str>) {
        match term {
            Term::Id | Term::Num(_) | Term::Var(_) => {}
            Term::Recurse => self.refuse("`..`"),
            Term::Label(..) | Term::Break(_) => self.refuse("`label`"),
            Term::Fold(word, ..) => self.complain(word, format!("`{word}` may not stand in the program of a shape")),
            Term::Def(definitions, _) => {
                let name = definitions.first().map_or(self.text, |definition| definition.name);
                self.complain(name, "`def` may not stand in the program of a shape".to_owned());
            }
            Term::Str(format, parts) => {
                if let Some(format) = format.filter(|format| !FORMATS.contains(format)) {
                    self.complain(format, format!("unknown format `{format}`: `@text` or `@json`"));
                }
                for part in parts {
                    if let StrPart::Term(term) = part {
                        self.term(term);
                    }
                }
            }
            Term::Arr(inner) => inner.iter().for_each(|inner| self.term(inner)),
            Term::Obj(members) => {
                for (key, value) in members {
                    self.term(key);
                    value.iter().for_each(|value| self.term(value));
                }
            }
            Term::Neg(inner) => self.term(inner),
            Term::TryCatch(inner, caught) => {
                self.term(inner);
                caught.iter().for_each(|caught| self.term(caught));
            }
            Term::IfThenElse(branches, otherwise) => {
                for (condition, branch) in branches {
                    self.term(condition);
                    self.term(branch);
                }
                otherwise.iter().for_each(|otherwise| self.term(otherwise));
            }
            Term::BinOp(left, operator, right) => {
                self.operator(operator);
                self.term(left);
                self.term(right);
            }
            Term::Call(name, arguments) => {
                self.call(name, arguments.len());
                arguments.iter().for_each(|argument| self.term(argument));
            }
            Term::Path(of, Path(parts)) => {
                self.term(of);
                for (part, _) in parts {
                    match part {
                        Part::Index(index) => self.term(index),
                        Part::Range(from, to) => from.iter().chain(to).for_each(|bound| self.term(bound)),
                    }
                }
            }
        }
    }

    fn operator(&mut self, operator: &BinaryOp<&'t str>) {
        match operator {
            BinaryOp::Pipe(Some(pattern)) => self.pattern(pattern),
            BinaryOp::UpdateMath(math) if !matches!(math, Math::Add) => {
                let sign = math.as_str();
                self.refuse(&format!("`{sign}=` (write `|= . {sign} …`)"));
            }
            _ => {}
        }
    }

    fn pattern(&mut self, pattern: &Pattern<&'t str>) {
        match pattern {
            Pattern::Var(_) => {}
            Pattern::Arr(items) => items.iter().for_each(|item| self.pattern(item)),
            Pattern::Obj(members) => {
                for (key, of) in members {
                    self.term(key);
                    self.pattern(of);
                }
            }
        }
    }

    fn call(&mut self, name: &'t str, arguments: usize) {
        if FUNCTIONS.contains(&(name, arguments)) {
            return;
        }
        let takes: Vec<String> = FUNCTIONS
            .iter()
            .filter(|(known, _)| *known == name)
            .map(|(_, arguments)| arguments.to_string())
            .collect();
        let message = if !takes.is_empty() {
            format!("`{name}` takes {} arguments, not {arguments}", takes.join(" or "))
        } else if name == "del" {
            "`del` may not stand in the program of a shape: it changes the order of members, the shape's `drop` does not"
                .to_owned()
        } else {
            match nearest(name, FUNCTIONS.iter().map(|(known, _)| *known)) {
                Some(near) => format!("unknown function `{name}`, did you mean `{near}`?"),
                None => format!("`{name}` is no function that the program of a shape may call"),
            }
        };
        self.complain(name, message);
    }
}
