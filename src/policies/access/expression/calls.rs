//! Calls of functions: the list of those there are, and what of their arguments is settled once.

use std::ops::Range;

use cel::common::ast::{CallExpr, Expr, LiteralValue};
use cel::{Context, IdedExpr, Value};
use ipnet::IpNet;

use super::check::{Checker, Part};
use super::functions::{FUNCTIONS, Function, JUDGING, MACROS, MATCHES, Pattern};
use super::kinds::Kinds;
use super::variable::Variable;
use crate::conf;
use crate::policies::access::condition::wrapped;

impl Checker<'_> {
    pub fn call(&mut self, call: CallExpr, at: &Range<usize>, depth: usize) -> (Expr, Part) {
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == call.func_name) else {
            return self.unknown_function(call, at, depth);
        };
        let is_method = call.target.is_some();
        let written = usize::from(is_method) + call.args.len();
        if written != function.takes.len() || is_method != function.is_method && !function.is_both {
            self.complain(at, format!("`{}` is written `{}`", function.name, function.usage));
            return (Expr::Call(call), Part::of(function.gives));
        }
        match (function.name, call.args.as_slice()) {
            ("inNetwork", [of, network]) => {
                let (of, network) = (of.clone(), network.clone());
                self.network(&of, &network)
            }
            ("duration", [written]) => {
                let written = written.clone();
                self.constant(call, &written, "a duration such as `5m`", Kinds::DURATION)
            }
            ("timestamp", [written]) if matches!(written.expr, Expr::Literal(LiteralValue::String(_))) => {
                let written = written.clone();
                let what = "an instant such as `2026-09-25T23:45:00+09:00`";
                self.constant(call, &written, what, Kinds::INSTANT)
            }
            ("matches", _) => self.matches(call, depth),
            _ => self.plain(call, function, depth),
        }
    }

    fn plain(&mut self, mut call: CallExpr, function: &Function, depth: usize) -> (Expr, Part) {
        let is_now = |target: &IdedExpr| matches!(&target.expr, Expr::Ident(name) if name == "now");
        let is_now = call.target.as_deref().is_some_and(is_now) && !self.is_bound("now");
        let mut parts = Vec::new();
        let target = call.target.as_deref_mut().into_iter();
        for (argument, takes) in target.chain(&mut call.args).zip(function.takes) {
            let at = self.range(argument);
            let part = self.expression(argument, depth + 1);
            if !part.kinds.may_be(*takes) {
                let (name, takes, found) = (function.name, takes.words(), part.kinds.words());
                self.complain(&at, format!("`{name}` takes {takes}, found {found}"));
            } else if function.name.starts_with("get") && !is_now && part.kinds.may_be(Kinds::INSTANT) {
                self.complain(
                    &at,
                    format!("only `now` stands on a clock: write `now.{}()`", function.name),
                );
            }
            parts.push(part);
        }
        (Expr::Call(call), Part::from(function.gives, &parts))
    }

    fn unknown_function(&mut self, mut call: CallExpr, at: &Range<usize>, depth: usize) -> (Expr, Part) {
        if let Some((name, usage)) = MACROS.iter().find(|(name, _)| *name == call.func_name) {
            self.complain(at, format!("`{name}` is written `{usage}`"));
            return (Expr::Call(call), Part::broken());
        }
        let known = FUNCTIONS.iter().map(|function| function.name);
        let known: Vec<&str> = known.chain(MACROS.iter().map(|(name, _)| *name)).collect();
        let part = self.unknown("function", &call.func_name, at, &known);
        // What stands before the dot may be meant as a part of the name, as in `math.least`.
        for argument in &mut call.args {
            self.expression(argument, depth + 1);
        }
        (Expr::Call(call), part)
    }

    fn network(&mut self, of: &IdedExpr, network: &IdedExpr) -> (Expr, Part) {
        if !matches!(&of.expr, Expr::Ident(name) if name == "ip") || self.is_bound("ip") {
            let at = self.range(of);
            self.complain(
                &at,
                "`inNetwork` looks at `ip` alone, as in `inNetwork(ip, \"10.0.0.0/8\")`",
            );
        }
        let at = self.range(network);
        let parsed = match &network.expr {
            Expr::Literal(LiteralValue::String(written)) => written_network(written.inner()),
            _ => Err("a network must be written out, as in `inNetwork(ip, \"10.0.0.0/8\")`".into()),
        };
        let expr = match parsed {
            Ok(network) => self.numbered(Variable::InNetwork(network)),
            Err(message) => {
                self.complain(&at, message);
                Expr::Unspecified
            }
        };
        (expr, Part::of(Kinds::TRUTH))
    }

    /// What is the same for every request becomes its value now.
    fn constant(&mut self, call: CallExpr, written: &IdedExpr, what: &str, kinds: Kinds) -> (Expr, Part) {
        let at = self.range(written);
        let Expr::Literal(LiteralValue::String(text)) = &written.expr else {
            self.complain(&at, format!("`{}` must be written out: {what}", call.func_name));
            return (Expr::Call(call), Part::of(kinds));
        };
        let call = IdedExpr {
            id: 0,
            expr: Expr::Call(call),
        };
        let context = Context::with_env(JUDGING.clone());
        let value = Value::resolve_val(&call, &context).map(|value| value.into_owned());
        match value {
            Ok(value) => (self.numbered(Variable::Constant(value)), Part::of(kinds)),
            Err(_) => {
                self.complain(&at, format!("`{}` is not {what}", text.inner()));
                (Expr::Unspecified, Part::of(kinds))
            }
        }
    }

    /// The crate would compile the pattern for every request.
    fn matches(&mut self, mut call: CallExpr, depth: usize) -> (Expr, Part) {
        let pattern = call.args.pop().unwrap_or_default();
        let mut text = call.target.take().map(|target| *target);
        let mut text = text.take().or_else(|| call.args.pop()).unwrap_or_default();
        let at = self.range(&text);
        let part = self.expression(&mut text, depth + 1);
        if !part.kinds.may_be(Kinds::TEXT) {
            self.complain(&at, format!("`matches` takes a text, found {}", part.kinds.words()));
        }
        let at = self.range(&pattern);
        let compiled = match &pattern.expr {
            Expr::Literal(LiteralValue::String(written)) => {
                Pattern::compile(written.inner()).map_err(|error| format!("`{}` {error}", written.inner()))
            }
            _ => Err("a pattern must be written out: it is compiled once, not for every request".into()),
        };
        let compiled = match compiled {
            Ok(pattern) => self.numbered(Variable::Pattern(pattern)),
            Err(message) => {
                self.complain(&at, message);
                Expr::Unspecified
            }
        };
        let pattern = IdedExpr {
            id: pattern.id,
            expr: compiled,
        };
        let call = CallExpr {
            func_name: MATCHES.into(),
            target: None,
            args: vec![text, pattern],
        };
        (Expr::Call(call), Part::from(Kinds::TRUTH, &[part]))
    }
}

fn written_network(written: &str) -> Result<IpNet, String> {
    let network = conf::parse_network(written).map_err(|error| format!("`{written}` {error}"))?;
    wrapped(&network).map_or(Ok(network), Err)
}
