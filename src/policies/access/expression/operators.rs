//! Operators and loops.

use std::mem;
use std::ops::Range;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators};

use super::check::{Checker, Part};
use super::functions::BOUNDED;
use super::kinds::Kinds;
use super::names::VARIABLES;
use super::variable::MAX_ITEMS;

/// Loops inside one another.
const MAX_LOOPS: usize = 2;

impl Checker<'_> {
    pub fn operator(&mut self, mut call: CallExpr, at: &Range<usize>, depth: usize) -> (Expr, Part) {
        let places: Vec<Range<usize>> = call.args.iter().map(|argument| self.range(argument)).collect();
        let arguments = call.args.iter_mut();
        let parts: Vec<Part> = arguments.map(|argument| self.expression(argument, depth + 1)).collect();
        let kinds = match (call.func_name.as_str(), parts.as_slice(), call.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, parts, _) => {
                for (part, place) in parts.iter().zip(&places) {
                    self.want_truth(*part, place, sign(&call.func_name));
                }
                Kinds::TRUTH
            }
            (operators::NOT_STRICTLY_FALSE, _, _) => Kinds::TRUTH,
            (operators::CONDITIONAL, [condition, yes, no], _) => {
                if let Some(place) = places.first() {
                    self.want_truth(*condition, place, "? :");
                }
                yes.kinds.or(no.kinds)
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right], [a, b]) => {
                self.equality(at, (*left, a), (*right, b));
                Kinds::TRUTH
            }
            (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [a, b], _) => {
                if !a.kinds.may_be_ordered(b.kinds) {
                    let (a, b) = (a.kinds.words(), b.kinds.words());
                    self.complain(at, format!("{a} has no order with {b}"));
                }
                Kinds::TRUTH
            }
            (operators::IN, [left, right], [a, b]) => {
                self.membership(at, (*left, a), (*right, b));
                Kinds::TRUTH
            }
            (operators::NEGATE, [part], _) => part.kinds.negated().unwrap_or_else(|| {
                self.complain(at, format!("`-` cannot be applied to {}", part.kinds.words()));
                Kinds::EVERYTHING
            }),
            (operators::INDEX, [of, index], _) => self.index(&places, *of, *index),
            (name, [left, right], [_, divisor]) => {
                let sign = sign(name);
                let is_zero = matches!(&divisor.expr, Expr::Literal(LiteralValue::Int(zero)) if *zero.inner() == 0)
                    || matches!(&divisor.expr, Expr::Literal(LiteralValue::UInt(zero)) if *zero.inner() == 0);
                if is_zero && matches!(sign, "/" | "%") {
                    self.complain(at, "a division by zero");
                }
                let result = left.kinds.arithmetic(sign, right.kinds);
                result.unwrap_or_else(|| {
                    let (left, right) = (left.kinds.words(), right.kinds.words());
                    self.complain(at, format!("`{sign}` cannot be applied to {left} and {right}"));
                    Kinds::EVERYTHING
                })
            }
            (name, _, _) => {
                let message = format!("`{}` is not used here", sign(name));
                self.complain(at, message);
                Kinds::EVERYTHING
            }
        };
        (Expr::Call(call), Part::from(kinds, &parts))
    }

    fn want_truth(&mut self, part: Part, at: &Range<usize>, sign: &str) {
        if !part.kinds.may_be(Kinds::TRUTH) {
            let found = part.kinds.words();
            self.complain(at, format!("`{sign}` needs `true` or `false`, found {found}"));
        }
    }

    fn equality(&mut self, at: &Range<usize>, (left, a): (Part, &IdedExpr), (right, b): (Part, &IdedExpr)) {
        if left.kinds.may_equal(right.kinds) {
            self.spelling(a, b, true);
            self.spelling(b, a, true);
        } else {
            let (left, right) = (left.kinds.words(), right.kinds.words());
            self.complain(at, format!("{left} never equals {right}"));
        }
    }

    fn membership(&mut self, at: &Range<usize>, (left, a): (Part, &IdedExpr), (right, b): (Part, &IdedExpr)) {
        if !right.kinds.may_be(Kinds::WALKED) {
            let found = right.kinds.words();
            self.complain(at, format!("`in` needs a list on its right, found {found}"));
        } else if !left.kinds.may_be_in(right.kinds) {
            let (left, items) = (left.kinds.words(), right.kinds.items().words());
            self.complain(at, format!("{left} is never in a list of {items}"));
        } else if let Expr::List(list) = &b.expr {
            for literal in &list.elements {
                self.spelling(a, literal, list.elements.len() == 1);
            }
        }
    }

    fn index(&mut self, places: &[Range<usize>], of: Part, index: Part) -> Kinds {
        let by_number = of.kinds.may_be(Kinds::list_of(Kinds::NOTHING)) && index.kinds.may_be(Kinds::NUMBER);
        let by_name = of.kinds.may_be(Kinds::MAP) && index.kinds.may_be(Kinds::TEXT);
        match (by_number, by_name, places) {
            (false, false, [place, ..]) => {
                let (of, index) = (of.kinds.words(), index.kinds.words());
                self.complain(place, format!("{of} has no items by {index}"));
                Kinds::EVERYTHING
            }
            (true, false, _) => of.kinds.items(),
            _ => Kinds::JSON,
        }
    }

    /// `all`, `exists`, `exists_one`, `map` and `filter`.
    pub fn comprehension(&mut self, loops: &mut ComprehensionExpr, at: &Range<usize>, depth: usize) -> Part {
        let range_at = self.range(&loops.iter_range);
        let range = self.expression(&mut loops.iter_range, depth + 2);
        if !range.kinds.may_be(Kinds::WALKED) {
            let found = range.kinds.words();
            self.complain(&range_at, format!("only lists can be looped over, found {found}"));
        }
        if VARIABLES.contains(&loops.iter_var.as_str()) || self.is_bound(&loops.iter_var) {
            let message = format!("`{}` has a meaning here: call the item something else", loops.iter_var);
            self.complain(at, message);
        }
        if self.loops == MAX_LOOPS {
            self.complain(at, format!("a loop inside a loop inside a loop: at most {MAX_LOOPS}"));
        }
        let count = match &loops.iter_range.expr {
            Expr::List(list) => list.elements.len(),
            _ => MAX_ITEMS,
        };
        if count > MAX_ITEMS {
            self.complain(&range_at, format!("at most {MAX_ITEMS} items can be looped over"));
        }
        bound(&mut loops.iter_range);
        let init = self.expression(&mut loops.accu_init, depth + 1);
        let gathered = match init.kinds.may_be(Kinds::WALKED) {
            true => Kinds::list_of(Kinds::EVERYTHING),
            false => init.kinds,
        };
        self.bound.push((loops.accu_var.clone(), gathered));
        self.bound.push((loops.iter_var.clone(), range.kinds.items()));
        self.loops += 1;
        let condition = self.expression(&mut loops.loop_cond, depth + 1);
        let step = self.expression(&mut loops.loop_step, depth + 1);
        self.loops -= 1;
        self.bound.pop();
        let result = self.expression(&mut loops.result, depth + 1);
        self.bound.pop();
        let each = condition.steps.saturating_add(step.steps);
        Part {
            kinds: result.kinds,
            steps: Part::from(range.kinds, &[range, init, result])
                .steps
                .saturating_add(each.saturating_mul(count)),
        }
    }
}

/// What comes out of a claim is only known to be short once there is a request.
fn bound(range: &mut IdedExpr) {
    let id = range.id;
    let inner = mem::take(range);
    *range = IdedExpr {
        id,
        expr: Expr::Call(CallExpr {
            func_name: BOUNDED.into(),
            target: None,
            args: vec![inner],
        }),
    };
}

/// The sign of an operator as it is written: `_==_` is `==`.
fn sign(name: &str) -> &str {
    name.trim_matches(['_', '@'])
}
