//! Running a program within bounds: every value that any of its terms gives is a step, a long text is several.
//!
//! Steps bound the time. What a program holds in memory is bounded by the texts it makes, in bytes, and by the lists it makes,
//! which are steps in number. Texts that are passed on, cut or taken from a list are shared and cost no memory.
//!
//! Both are counted by calls put into the program when it is compiled. What they raise where the bound is reached is no
//! error, so that no `try`, `?` or `//` goes on after it.

use std::cell::Cell;
use std::ops::{Div, Mul, Rem, Sub};
use std::time::{Duration, Instant};

use jaq_core::box_iter::box_once;
use jaq_core::data::{DataT, HasLut};
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::native::{Fun, bome, v};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};
use jaq_core::{Bind, Cv, Error, Exn, Lut, Native, ValR, ValX};
use jaq_json::{Num, Val};

use super::super::plan::MAX_BODY;
use super::value;

/// So many steps a program may take.
pub(super) const STEPS: u64 = 3_000_000;
/// So many bytes of text it may make, those included that it does not keep.
pub(super) const TEXT: u64 = 64 << 20;
/// And so much time, whatever its steps cost. They take well under a second; a busy machine is given more.
pub(super) const TIME: Duration = Duration::from_secs(10);
/// A list or object of more is given up.
const MAX_MEMBERS: usize = 1 << 20;
/// A value of more values, one in the other, is given up, however few of them are held in memory.
const MAX_VALUES: u64 = 2_000_000;
/// So many bytes of a text are one value more where it is one of others.
const BYTES_PER_VALUE: usize = 32;
/// So many bytes of a text that is passed on are one step more: it may be compared.
const BYTES_PER_STEP: usize = 256;
/// What a piece of a text takes, in bytes, though the text is shared.
const PIECE: usize = 64;
/// Whole numbers of more bits are given up.
const MAX_BITS: u64 = 1024;

const STEP: &str = "gwanmun_step";
const WEIGH: &str = "gwanmun_weigh";
const MADE: &str = "gwanmun_made";
const TOLD: &str = "gwanmun_told";
/// The variable that stands for what is added in place.
const ADDED: &str = "$gwanmun_added";
const ONE: &str = "gwanmun_one";
const TO_NUMBER: &str = "tonumber";
const SPLIT: &str = "split";
const TO_JSON: &str = "tojson";
/// Functions without a definition that make a list or a text.
const MAKERS: [&str; 10] = [
    "ascii_downcase",
    "ascii_upcase",
    "group_by",
    "key_values",
    "keys_unsorted",
    "reverse",
    "sort",
    "sort_by",
    SPLIT,
    TO_JSON,
];

/// The values of a program and what is known while it runs.
pub(super) struct Values;

impl DataT for Values {
    type V<'a> = Val;
    type Data<'a> = Running<'a>;
}

/// One run.
#[derive(Clone)]
pub(super) struct Running<'a> {
    pub lut: &'a Lut<Values>,
    /// The steps left.
    pub left: &'a Cell<u64>,
    /// The bytes of text left.
    pub text: &'a Cell<u64>,
    pub until: Instant,
}

impl<'a> HasLut<'a, Values> for Running<'a> {
    fn lut(&self) -> &'a Lut<Values> {
        self.lut
    }
}

impl Running<'_> {
    /// Whether so many more steps may be taken.
    fn spend(&self, steps: u64) -> bool {
        let Some(left) = self.left.get().checked_sub(steps) else {
            self.left.set(0);
            return false;
        };
        self.left.set(left);
        // Asking for the time costs as much as a step.
        steps < 2 && !left.is_multiple_of(16) || Instant::now() < self.until
    }

    /// Whether a text of so many more bytes may be made.
    fn spend_text(&self, bytes: u64) -> bool {
        let left = self.text.get().checked_sub(bytes);
        self.text.set(left.unwrap_or_default());
        left.is_some()
    }

    /// One step that came to `value`.
    fn step(&self, value: &Val) -> bool {
        let (fits, bytes) = match value {
            Val::TStr(text) | Val::BStr(text) => (text.len() <= MAX_BODY, text.len()),
            Val::Arr(items) => (items.len() <= MAX_MEMBERS, 0),
            Val::Obj(members) => (members.len() <= MAX_MEMBERS, 0),
            _ => (true, 0),
        };
        fits && self.spend(1 + (bytes / BYTES_PER_STEP) as u64)
    }

    /// One step that made `value` of others.
    fn weigh(&self, value: &Val) -> bool {
        let mut left = MAX_VALUES;
        self.step(value) && weight(value, &mut left) && self.spend((MAX_VALUES - left) / 4)
    }

    /// One step that made `value`, and where it is a text, the whole of it.
    fn made(&self, value: &Val) -> bool {
        let bytes = match value {
            Val::TStr(text) | Val::BStr(text) => text.len(),
            _ => 0,
        };
        self.weigh(value) && self.spend_text(bytes as u64)
    }

    /// A value that is about to be told as text. Few values may be a long one, so that it is measured before.
    fn told(&self, value: &Val) -> bool {
        let mut left = self.text.get();
        let fits = length(value, &mut left);
        self.text.set(if fits { left } else { 0 });
        fits
    }
}

fn weight(value: &Val, left: &mut u64) -> bool {
    let text = match value {
        Val::TStr(text) | Val::BStr(text) => text.len() / BYTES_PER_VALUE,
        _ => 0,
    };
    let Some(less) = left.checked_sub(1 + text as u64) else {
        return false;
    };
    *left = less;
    match value {
        Val::Arr(items) => items.iter().all(|item| weight(item, left)),
        Val::Obj(members) => members
            .iter()
            .all(|(name, member)| weight(name, left) && weight(member, left)),
        _ => true,
    }
}

/// Takes the bytes that the value has as text from those that are left.
fn length(value: &Val, left: &mut u64) -> bool {
    // Of a character that is escaped: `\u0000`.
    const ESCAPED: usize = 6;
    let own = match value {
        Val::TStr(text) | Val::BStr(text) => {
            let special = |byte: &&u8| byte.is_ascii_control() || matches!(byte, b'"' | b'\\');
            // Those of a text that is too long anyway are not looked for.
            let escaped = if text.len() > MAX_BODY {
                0
            } else {
                text.iter().filter(special).count()
            };
            text.len() + escaped * (ESCAPED - 1) + 2
        }
        Val::Num(Num::Dec(digits)) => digits.len(),
        // Whatever else a number is, it is not longer by far.
        _ => 8,
    };
    let Some(less) = left.checked_sub(own as u64) else {
        return false;
    };
    *left = less;
    match value {
        Val::Arr(items) => items.iter().all(|item| length(item, left)),
        Val::Obj(members) => members
            .iter()
            .all(|(name, member)| length(name, left) && length(member, left)),
        _ => true,
    }
}

/// Counts what passes, as a value, as a place, and as what is updated.
macro_rules! counting {
    ($how:ident) => {
        Native::new(|cv: Cv<'_, Values>| {
            let may = cv.0.data().$how(&cv.1);
            box_once(if may { Ok(cv.1) } else { Err(Exn::halt(1)) })
        })
        .with_paths(|cv| {
            let may = cv.0.data().$how(&cv.1.0);
            box_once(if may { Ok(cv.1) } else { Err(Exn::halt(1)) })
        })
        .with_update(|cv, update| match cv.0.data().$how(&cv.1) {
            true => update(cv.1),
            false => box_once(Err(Exn::halt(1))),
        })
    };
}

/// What a program may call without a definition, and what is put into it.
pub(super) fn functions() -> impl Iterator<Item = Fun<Values>> {
    let one = || [Bind::Fun(())].into();
    let own: [Fun<Values>; 11] = [
        (STEP, v(0), counting!(step)),
        (WEIGH, v(0), counting!(weigh)),
        (MADE, v(0), counting!(made)),
        (TOLD, v(0), counting!(told)),
        (ONE, one(), Native::new(|cv| box_once(first(cv)))),
        (TO_NUMBER, v(0), Native::new(|cv| bome(number(cv.1)))),
        (SPLIT, v(1), Native::new(|cv| box_once(split(cv)))),
        (name(Math::Sub), v(2), Native::new(|cv| bome(compute(cv, Sub::sub)))),
        (name(Math::Mul), v(2), Native::new(|cv| bome(compute(cv, Mul::mul)))),
        (name(Math::Div), v(2), Native::new(|cv| bome(compute(cv, Div::div)))),
        (name(Math::Rem), v(2), Native::new(|cv| bome(compute(cv, Rem::rem)))),
    ];
    jaq_core::funs()
        .chain(jaq_std::base_funs())
        .chain(jaq_json::funs())
        .chain(own)
}

fn name(math: Math) -> &'static str {
    match math {
        Math::Add => "gwanmun_plus",
        Math::Sub => "gwanmun_minus",
        Math::Mul => "gwanmun_times",
        Math::Div => "gwanmun_over",
        Math::Rem => "gwanmun_modulo",
    }
}

/// The first value of an update. None at all would take a member out, and with that change the order of the others.
fn first(mut cv: Cv<'_, Values>) -> ValX<'_, Val> {
    let (filter, context) = cv.0.pop_fun();
    let first = filter.run((context, cv.1)).next();
    first.unwrap_or_else(|| Err(Error::str("an update gives no value").into()))
}

/// The number that a text says, digit for digit.
fn number(value: Val) -> ValR<Val> {
    match &value {
        Val::Num(_) => Ok(value),
        Val::TStr(text) => {
            let text = std::str::from_utf8(text).ok();
            let number = text.and_then(value::number);
            number.ok_or_else(|| Error::str("cannot parse as number"))
        }
        _ => Err(Error::str("cannot parse as number")),
    }
}

/// The pieces of a text between separators, or its characters.
fn split(mut cv: Cv<'_, Values>) -> ValX<'_, Val> {
    let separator = cv.0.pop_var();
    let (Val::TStr(text), Val::TStr(between)) = (&cv.1, &separator) else {
        return Err(Error::str("split input and separator must be strings").into());
    };
    let between = std::str::from_utf8(between).ok();
    let (Ok(text), Some(between)) = (std::str::from_utf8(text), between) else {
        return Err(Error::str("no text to split").into());
    };
    let pieces = text.matches(between).count() + 1;
    if pieces > MAX_MEMBERS || !cv.0.data().spend_text((pieces * PIECE) as u64) {
        return Err(Exn::halt(1));
    }
    Ok((cv.1 / separator)?)
}

/// Of numbers alone: with texts and lists these operators repeat, split and compare each with each.
fn compute(mut cv: Cv<'_, Values>, of: fn(Val, Val) -> ValR<Val>) -> ValR<Val> {
    let right = cv.0.pop_var();
    let left = cv.0.pop_var();
    let (Val::Num(_), Val::Num(_)) = (&left, &right) else {
        return Err(Error::str("no numbers to compute with"));
    };
    let result = of(left, right)?;
    match &result {
        Val::Num(Num::BigInt(whole)) if whole.bits() > MAX_BITS => Err(Error::str("too large a number")),
        _ => Ok(result),
    }
}

/// The definition with its steps counted.
pub(super) fn counted_definition(definition: Def<&str>) -> Def<&str> {
    Def {
        body: counted(definition.body),
        ..definition
    }
}

/// The term with its steps counted, and with operators that are bounded.
pub(super) fn counted<'t>(term: Term<&'t str>) -> Term<&'t str> {
    let boxed = |term: Box<Term<&'t str>>| Box::new(counted(*term));
    let all = |terms: Vec<Term<&'t str>>| terms.into_iter().map(counted).collect::<Vec<_>>();
    let (term, count) = match term {
        Term::Id | Term::Num(_) | Term::Var(_) | Term::Break(_) => return term,
        Term::Recurse => (term, STEP),
        Term::Str(format, parts) => {
            let parts = parts.into_iter().map(|part| match part {
                StrPart::Term(term) => StrPart::Term(then(counted(term), TOLD)),
                other => other,
            });
            let parts: Vec<_> = parts.collect();
            let is_plain = format.is_none() && !parts.iter().any(|part| matches!(part, StrPart::Term(_)));
            let term = Term::Str(format, parts);
            if is_plain {
                return term;
            }
            (term, MADE)
        }
        Term::Arr(inner) => (Term::Arr(inner.map(boxed)), WEIGH),
        Term::Obj(members) => {
            // A key by itself, `{id}` or `{$id}`, is told by what it is.
            let members = members.into_iter().map(|(key, value)| match (key, value) {
                (key, None) => (key, None),
                (key, Some(value)) => (counted(key), Some(counted(value))),
            });
            (Term::Obj(members.collect()), WEIGH)
        }
        Term::Neg(inner) => (Term::Neg(boxed(inner)), STEP),
        Term::TryCatch(inner, caught) => {
            // An error tells the values it is about.
            let caught = caught.map(|caught| Box::new(piped(call(MADE), counted(*caught))));
            (Term::TryCatch(boxed(inner), caught), STEP)
        }
        Term::IfThenElse(branches, otherwise) => {
            let branches = branches
                .into_iter()
                .map(|(condition, branch)| (counted(condition), counted(branch)));
            (Term::IfThenElse(branches.collect(), otherwise.map(boxed)), STEP)
        }
        Term::Label(name, inner) => (Term::Label(name, boxed(inner)), STEP),
        Term::Fold(word, of, pattern, rest) => {
            // What grows from one round to the next is one text, which is counted when it is whole.
            let rest = rest.into_iter().map(|term| match term {
                Term::BinOp(left, BinaryOp::Math(Math::Add), right) => {
                    then(Term::BinOp(boxed(left), BinaryOp::Math(Math::Add), boxed(right)), WEIGH)
                }
                other => counted(other),
            });
            (Term::Fold(word, boxed(of), pattern, rest.collect()), MADE)
        }
        Term::Def(definitions, inner) => {
            let definitions = definitions.into_iter().map(|definition| Def {
                body: counted(definition.body),
                ..definition
            });
            (Term::Def(definitions.collect(), boxed(inner)), STEP)
        }
        Term::Call(TO_JSON, arguments) => (piped(call(TOLD), Term::Call(TO_JSON, arguments)), MADE),
        Term::Call(name, arguments) => {
            let count = if MAKERS.contains(&name) { MADE } else { STEP };
            (Term::Call(name, all(arguments)), count)
        }
        Term::Path(of, Path(parts)) => {
            let is_cut = parts.iter().any(|(part, _)| matches!(part, Part::Range(..)));
            let parts = parts.into_iter().map(|(part, optional)| {
                let part = match part {
                    Part::Index(index) => Part::Index(counted(index)),
                    Part::Range(from, to) => Part::Range(from.map(counted), to.map(counted)),
                };
                (part, optional)
            });
            let count = if is_cut { WEIGH } else { STEP };
            (Term::Path(boxed(of), Path(parts.collect())), count)
        }
        Term::BinOp(left, operator, right) => {
            let (left, right) = (boxed(left), boxed(right));
            match operator {
                BinaryOp::Math(math) if !matches!(math, Math::Add) => {
                    (Term::Call(name(math), vec![*left, *right]), STEP)
                }
                BinaryOp::Math(_) => (Term::BinOp(left, operator, right), MADE),
                // As it is defined, so that each sum is counted.
                BinaryOp::UpdateMath(math) => {
                    let sum = Term::BinOp(Box::new(Term::Id), BinaryOp::Math(math), Box::new(Term::Var(ADDED)));
                    let one = Box::new(Term::Call(ONE, vec![counted(sum)]));
                    let update = Box::new(then(Term::BinOp(left, BinaryOp::Update, one), WEIGH));
                    (
                        Term::BinOp(right, BinaryOp::Pipe(Some(Pattern::Var(ADDED))), update),
                        STEP,
                    )
                }
                BinaryOp::Assign | BinaryOp::UpdateAlt => (Term::BinOp(left, operator, right), WEIGH),
                BinaryOp::Update => {
                    let one = Term::Call(ONE, vec![*right]);
                    (Term::BinOp(left, operator, Box::new(one)), WEIGH)
                }
                _ => (Term::BinOp(left, operator, right), STEP),
            }
        }
    };
    then(term, count)
}

fn then<'t>(term: Term<&'t str>, function: &'static str) -> Term<&'t str> {
    piped(term, call(function))
}

fn piped<'t>(left: Term<&'t str>, right: Term<&'t str>) -> Term<&'t str> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

fn call<'t>(function: &'static str) -> Term<&'t str> {
    Term::Call(function, Vec::new())
}
