//! Running a program within bounds: every value that any of its terms gives is a step.
//!
//! Steps are counted by calls put into the program when it is compiled. What they raise where the bound is reached is no
//! error, so that no `try`, `?` or `//` goes on after it.

use std::cell::Cell;
use std::ops::{Div, Mul, Rem, Sub};
use std::time::{Duration, Instant};

use jaq_core::box_iter::box_once;
use jaq_core::data::{DataT, HasLut};
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Term};
use jaq_core::native::{Fun, bome, v};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};
use jaq_core::{Bind, Cv, Error, Exn, Lut, Native, ValR, ValX};
use jaq_json::{Num, Val};

use super::super::plan::MAX_BODY;
use super::value;

/// So many steps a program may take.
pub(super) const STEPS: u64 = 3_000_000;
/// And so much time, whatever its steps cost. They take well under a second; a busy machine is given more.
pub(super) const TIME: Duration = Duration::from_secs(10);
/// A list or object of more is given up.
const MAX_MEMBERS: usize = 1 << 20;
/// A value of more values, one in the other, is given up, however few of them are held in memory.
const MAX_VALUES: u64 = 2_000_000;
/// Whole numbers of more bits are given up.
const MAX_BITS: u64 = 1024;

const STEP: &str = "gwanmun_step";
const WEIGH: &str = "gwanmun_weigh";
const ONE: &str = "gwanmun_one";
const TO_NUMBER: &str = "tonumber";

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
        !left.is_multiple_of(16) || Instant::now() < self.until
    }

    /// One step that came to `value`.
    fn step(&self, value: &Val) -> bool {
        let fits = match value {
            Val::TStr(text) | Val::BStr(text) => text.len() <= MAX_BODY,
            Val::Arr(items) => items.len() <= MAX_MEMBERS,
            Val::Obj(members) => members.len() <= MAX_MEMBERS,
            _ => true,
        };
        fits && self.spend(1)
    }

    /// One step that made `value` of others.
    fn weigh(&self, value: &Val) -> bool {
        let mut left = MAX_VALUES;
        self.step(value) && weight(value, &mut left) && self.spend((MAX_VALUES - left) / 4)
    }
}

fn weight(value: &Val, left: &mut u64) -> bool {
    let Some(less) = left.checked_sub(1) else {
        return false;
    };
    *left = less;
    match value {
        Val::Arr(items) => items.iter().all(|item| weight(item, left)),
        Val::Obj(members) => members.iter().all(|(_, member)| weight(member, left)),
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
    let own: [Fun<Values>; 8] = [
        (STEP, v(0), counting!(step)),
        (WEIGH, v(0), counting!(weigh)),
        (ONE, one(), Native::new(|cv| box_once(first(cv)))),
        (TO_NUMBER, v(0), Native::new(|cv| bome(number(cv.1)))),
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
                StrPart::Term(term) => StrPart::Term(counted(term)),
                other => other,
            });
            let parts: Vec<_> = parts.collect();
            let is_plain = format.is_none() && !parts.iter().any(|part| matches!(part, StrPart::Term(_)));
            let term = Term::Str(format, parts);
            if is_plain {
                return term;
            }
            (term, STEP)
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
        Term::TryCatch(inner, caught) => (Term::TryCatch(boxed(inner), caught.map(boxed)), STEP),
        Term::IfThenElse(branches, otherwise) => {
            let branches = branches
                .into_iter()
                .map(|(condition, branch)| (counted(condition), counted(branch)));
            (Term::IfThenElse(branches.collect(), otherwise.map(boxed)), STEP)
        }
        Term::Label(name, inner) => (Term::Label(name, boxed(inner)), STEP),
        Term::Fold(word, of, pattern, rest) => (Term::Fold(word, boxed(of), pattern, all(rest)), STEP),
        Term::Def(definitions, inner) => {
            let definitions = definitions.into_iter().map(|definition| Def {
                body: counted(definition.body),
                ..definition
            });
            (Term::Def(definitions.collect(), boxed(inner)), STEP)
        }
        Term::Call(name, arguments) => (Term::Call(name, all(arguments)), STEP),
        Term::Path(of, Path(parts)) => {
            let parts = parts.into_iter().map(|(part, optional)| {
                let part = match part {
                    Part::Index(index) => Part::Index(counted(index)),
                    Part::Range(from, to) => Part::Range(from.map(counted), to.map(counted)),
                };
                (part, optional)
            });
            (Term::Path(boxed(of), Path(parts.collect())), STEP)
        }
        Term::BinOp(left, operator, right) => {
            let (left, right) = (boxed(left), boxed(right));
            match operator {
                BinaryOp::Math(math) if !matches!(math, Math::Add) => {
                    (Term::Call(name(math), vec![*left, *right]), STEP)
                }
                BinaryOp::Math(_) | BinaryOp::Assign | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                    (Term::BinOp(left, operator, right), WEIGH)
                }
                BinaryOp::Update => {
                    let one = Term::Call(ONE, vec![*right]);
                    (Term::BinOp(left, operator, Box::new(one)), WEIGH)
                }
                _ => (Term::BinOp(left, operator, right), STEP),
            }
        }
    };
    let step = Term::Call(count, Vec::new());
    Term::BinOp(Box::new(term), BinaryOp::Pipe(None), Box::new(step))
}
