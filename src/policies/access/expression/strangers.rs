//! What an expression comes to where nobody knows who calls, whatever else the request is.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, operators};

use super::variable::Variable;
use super::{Expression, number};
use crate::engine::Truth;
use crate::policies::access::condition::Bounds;

impl Expression {
    /// What can come out for a caller who is not known: a claim has no value then, and neither has what is made of it.
    pub fn for_strangers(&self) -> Bounds {
        match (self.fails(&self.root), self.never_holds(&self.root)) {
            (true, _) => Bounds::exactly(Truth::Unknown),
            (false, true) => Bounds {
                most: Truth::Unknown,
                ..Bounds::ANY
            },
            (false, false) => Bounds::ANY,
        }
    }

    /// Whether it has no value for sure.
    fn fails(&self, part: &IdedExpr) -> bool {
        let fails = |part: &IdedExpr| self.fails(part);
        match &part.expr {
            Expr::Ident(name) => {
                let variable = number(name).and_then(|at| self.variables.get(at));
                matches!(variable, Some(Variable::Claim(_)))
            }
            Expr::Select(select) => !select.test && fails(&select.operand),
            Expr::Call(CallExpr {
                func_name,
                target,
                args,
                ..
            }) => match func_name.as_str() {
                // One side without a value leaves it to the other.
                operators::LOGICAL_AND | operators::LOGICAL_OR => args.iter().all(fails),
                operators::CONDITIONAL => args.first().is_some_and(fails),
                operators::EQUALS
                | operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
                | operators::LOGICAL_NOT
                | operators::NEGATE
                | operators::IN => target.as_deref().is_some_and(fails) || args.iter().any(fails),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether it is not true for sure.
    fn never_holds(&self, part: &IdedExpr) -> bool {
        let never = |part: &IdedExpr| self.never_holds(part);
        let by_parts = match &part.expr {
            Expr::Call(call) if call.func_name == operators::LOGICAL_AND => call.args.iter().any(never),
            Expr::Call(call) if call.func_name == operators::LOGICAL_OR => call.args.iter().all(never),
            Expr::Ident(name) => {
                let variable = number(name).and_then(|at| self.variables.get(at));
                matches!(variable, Some(Variable::HasClaim(_)))
            }
            _ => false,
        };
        by_parts || self.fails(part)
    }
}
