//! The one walk over a parsed expression: names and functions against closed lists, kinds against each other, size and depth
//! against their bounds. On the way every variable is replaced by its number, which no expression can spell.

use std::mem;
use std::ops::Range;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, SourceInfo};
use jiff::tz::TimeZone;

use super::Mistake;
use super::kinds::Kinds;
use super::variable::{EXACT, Variable};
use crate::conf::nearest;
use crate::policies::clients::Clients;

/// Each level takes up to 45 KiB of stack in a development build, and a worker has 2 MiB.
const MAX_DEPTH: usize = 24;
/// So many parts of an expression, counted as often as loops run over them, take some milliseconds.
const MAX_STEPS: usize = 250_000;

/// An expression that was walked.
pub(super) struct Checked {
    pub root: IdedExpr,
    pub variables: Vec<Variable>,
    /// Path parameters whose value is read, and where.
    pub params: Vec<(Box<str>, Range<usize>)>,
    /// Where `now` is read first.
    pub now: Option<Range<usize>>,
    /// The clients that are named.
    pub named_clients: Vec<String>,
}

/// Walks `root`, which was parsed from `text`. `now` stands on the clocks of `zone`.
pub(super) fn check(
    mut root: IdedExpr,
    text: &str,
    info: &SourceInfo,
    clients: &Clients,
    zone: &TimeZone,
) -> Result<Checked, Vec<Mistake>> {
    let mut checker = Checker {
        text,
        info,
        clients,
        zone,
        variables: Vec::new(),
        params: Vec::new(),
        now: None,
        named_clients: Vec::new(),
        mistakes: Vec::new(),
        bound: Vec::new(),
        loops: 0,
        is_too_deep: false,
    };
    let at = checker.range(&root);
    let part = checker.expression(&mut root, 1);
    if !part.kinds.may_be(Kinds::TRUTH) {
        let words = part.kinds.words();
        checker.complain(&at, format!("a condition is `true` or `false`, and this is {words}"));
    }
    if part.steps > MAX_STEPS && checker.mistakes.is_empty() {
        checker.complain(&at, "too much work for one request: loops run too often over too much");
    }
    match checker.mistakes.is_empty() {
        true => Ok(Checked {
            root,
            variables: checker.variables,
            params: checker.params,
            now: checker.now,
            named_clients: checker.named_clients,
        }),
        false => Err(checker.mistakes),
    }
}

/// What is known of a part of the expression.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub kinds: Kinds,
    /// How many parts are judged for it at most.
    pub steps: usize,
}

impl Part {
    pub fn of(kinds: Kinds) -> Self {
        Self { kinds, steps: 1 }
    }

    /// Where something is wrong with it, nothing more is said about what it is part of.
    pub fn broken() -> Self {
        Self::of(Kinds::EVERYTHING)
    }

    /// Something made from these parts.
    pub fn from(kinds: Kinds, parts: &[Self]) -> Self {
        let steps = parts.iter().fold(1_usize, |all, part| all.saturating_add(part.steps));
        Self { kinds, steps }
    }
}

pub(super) struct Checker<'a> {
    pub text: &'a str,
    info: &'a SourceInfo,
    pub clients: &'a Clients,
    pub zone: &'a TimeZone,
    pub variables: Vec<Variable>,
    pub params: Vec<(Box<str>, Range<usize>)>,
    pub now: Option<Range<usize>>,
    pub named_clients: Vec<String>,
    mistakes: Vec<Mistake>,
    /// The names that loops around have given, innermost last.
    pub bound: Vec<(String, Kinds)>,
    /// How many loops are around.
    pub loops: usize,
    is_too_deep: bool,
}

impl Checker<'_> {
    /// Checks a part and puts numbers in place of its variables.
    pub fn expression(&mut self, expr: &mut IdedExpr, depth: usize) -> Part {
        let at = self.range(expr);
        if depth > MAX_DEPTH {
            if !mem::replace(&mut self.is_too_deep, true) {
                self.complain(&at, format!("nested deeper than {MAX_DEPTH} levels"));
            }
            return Part::broken();
        }
        if let Some(part) = self.named(expr, &at) {
            return part;
        }
        let own = self.own(expr);
        let (checked, part) = match mem::take(&mut expr.expr) {
            Expr::Literal(literal) => {
                let kinds = self.literal(&literal, &at);
                (Expr::Literal(literal), Part::of(kinds))
            }
            Expr::Ident(name) => {
                let bound = self.bound.iter().rev().find(|(bound, _)| *bound == name);
                let part = bound.map(|(_, kinds)| Part::of(*kinds));
                let part = part.unwrap_or_else(|| self.unknown("variable", &name, &at, &super::names::VARIABLES));
                (Expr::Ident(name), part)
            }
            Expr::Select(mut select) => {
                let part = self.member(&mut select, depth);
                (Expr::Select(select), part)
            }
            Expr::List(mut list) => {
                let elements = list.elements.iter_mut();
                let parts: Vec<Part> = elements.map(|element| self.expression(element, depth + 1)).collect();
                let kinds = parts.iter().fold(Kinds::list_of(Kinds::NOTHING), |all, part| {
                    all.or(Kinds::list_of(part.kinds))
                });
                (Expr::List(list), Part::from(kinds, &parts))
            }
            Expr::Call(call) if is_function(&call) => self.call(call, &own, depth),
            Expr::Call(call) => self.operator(call, &at, depth),
            Expr::Comprehension(mut comprehension) => {
                let part = self.comprehension(&mut comprehension, &at, depth);
                (Expr::Comprehension(comprehension), part)
            }
            other @ (Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified) => {
                self.complain(&at, "maps and messages cannot be written here");
                (other, Part::broken())
            }
        };
        expr.expr = checked;
        part
    }

    fn literal(&mut self, literal: &LiteralValue, at: &Range<usize>) -> Kinds {
        let message = match literal {
            LiteralValue::Boolean(_) => return Kinds::TRUTH,
            LiteralValue::Int(_) => return Kinds::INT,
            LiteralValue::UInt(_) => return Kinds::UINT,
            LiteralValue::String(_) => return Kinds::TEXT,
            LiteralValue::Double(number) if number.inner().abs() < EXACT => return Kinds::DOUBLE,
            LiteralValue::Double(_) => "a number too large to be compared exactly: 2^53 or more",
            LiteralValue::Null => "a claim that is `null` counts as absent: write `has(…)`",
            LiteralValue::Bytes(_) => "nothing here is made of bytes: write a text, without the `b`",
        };
        self.complain(at, message);
        Kinds::EVERYTHING
    }

    /// A member of a value that is no variable, such as the item of a loop.
    fn member(&mut self, select: &mut SelectExpr, depth: usize) -> Part {
        let at = self.range(&select.operand);
        let operand = self.expression(&mut select.operand, depth + 1);
        if !operand.kinds.may_be(Kinds::MAP) {
            let message = format!("{} has no member `{}`", operand.kinds.words(), select.field);
            self.complain(&at, message);
        }
        let kinds = if select.test { Kinds::TRUTH } else { Kinds::JSON };
        Part::from(kinds, &[operand])
    }

    /// The number that stands for a variable.
    pub fn numbered(&mut self, variable: Variable) -> Expr {
        self.variables.push(variable);
        Expr::Ident(format!("@{}", self.variables.len() - 1))
    }

    /// The variable whose number stands there.
    pub fn variable_at(&self, expr: &Expr) -> Option<&Variable> {
        match expr {
            Expr::Ident(name) => self.variables.get(super::number(name)?),
            _ => None,
        }
    }

    pub fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|(bound, _)| bound == name)
    }

    pub fn complain(&mut self, at: &Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            at: at.clone(),
            message: message.into(),
        });
    }

    pub fn unknown(&mut self, what: &str, name: &str, at: &Range<usize>, known: &[&str]) -> Part {
        let bound: Vec<&str> = self.bound.iter().map(|(bound, _)| bound.as_str()).collect();
        let bound = bound.iter().filter(|bound| !bound.starts_with('@'));
        let hint = match nearest(name, known.iter().chain(bound).copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                // What reads a clock is half the list, and nobody who means it is far off.
                let known = known.iter().filter(|known| !known.starts_with("get"));
                let known: Vec<String> = known.map(|known| format!("`{known}`")).collect();
                format!("expected one of {}", known.join(", "))
            }
        };
        self.complain(at, format!("unknown {what} `{name}`, {hint}"));
        Part::broken()
    }

    /// The bytes of a part's own sign or name.
    fn own(&self, expr: &IdedExpr) -> Range<usize> {
        let (start, stop) = self.info.offset_for(expr.id).unwrap_or_default();
        let (start, end) = (start as usize, stop as usize + 1);
        let own = match &expr.expr {
            // The parser says where the dot stands,
            Expr::Select(select) if !select.test => start..end + select.field.len(),
            // or the parenthesis.
            Expr::Call(call) if self.text.get(start..end) == Some("(") => {
                let name = self.text.get(..start).and_then(|before| before.rfind(&*call.func_name));
                name.unwrap_or(start)..start
            }
            _ => start..end,
        };
        own.start.min(self.text.len())..own.end.min(self.text.len())
    }

    /// The bytes from the beginning of a part to the end of its own sign or name.
    pub fn range(&self, expr: &IdedExpr) -> Range<usize> {
        let own = self.own(expr);
        let mut first = expr;
        loop {
            first = match &first.expr {
                Expr::Select(select) if !select.test => &select.operand,
                Expr::Comprehension(comprehension) => &comprehension.iter_range,
                Expr::Call(call) => match (&call.target, call.args.as_slice()) {
                    (Some(target), _) => target,
                    (None, [left, _, ..]) if !is_function(call) => left,
                    _ => break,
                },
                _ => break,
            };
        }
        let start = self.own(first).start.min(own.start);
        start..own.end.max(start)
    }
}

/// Functions have names, operators signs.
fn is_function(call: &CallExpr) -> bool {
    call.func_name.starts_with(char::is_alphabetic)
}
