//! `if:` of a policy's block — a condition in CEL, the [Common Expression Language](https://cel.dev).
//!
//! ```yaml
//! policies:
//!   own-customer: { require: { if: 'claims.sub == path.customer' } }
//!   own-account:  { require: { if: 'claims.accounts.exists(a, a.id == path.account && "owner" in a.roles)' } }
//!   within-limit: { require: { if: 'has(claims.limit) && int(query.amount) <= claims.limit' } }
//!   at-night:     { deny: { if: 'now.getHours() >= 22 || now - timestamp(claims.auth_time) > duration("5m")' } }
//!   device:       { deny: { if: '!inNetwork(ip, "10.0.0.0/8") && !request.headers["x-id"].matches("^[0-9a-f]{16}$")' } }
//! ```
//!
//! | variable | |
//! |---|---|
//! | `request.method`, `.host`, `.path` | normalised; HEAD reads as `GET`, as in `methods:` |
//! | `request.headers["name"]` | not those that carry credentials |
//! | `claims.name`, `claims.a.b`, `claims["a b"]` | by path, as in `claims:`; `null` counts as absent |
//! | `path.name` | a parameter of the route's path, decoded |
//! | `query.name` | a query parameter, decoded |
//! | `ip` | the caller's address; `inNetwork(ip, "10.0.0.0/8")` |
//! | `client` | the client's name |
//! | `now` | the instant of the request, on the clocks of the policy's `calendar:` |
//!
//! Claims, parameters and headers are named by literals, because a record keeps what was read and nothing else; `has(…)`
//! and `"name" in …` ask whether they are there. Functions: `size`, `contains`, `startsWith`, `endsWith`, `matches` (a
//! literal pattern), `int`, `string`, `timestamp`, `duration`, `has`, `all`, `exists`, `exists_one`, `map`, `filter`, and
//! of `now` `getFullYear`, `getMonth` (from 0), `getDate` (from 1), `getDayOfMonth` (from 0), `getDayOfWeek` (Sunday is 0),
//! `getDayOfYear` (from 0), `getHours`, `getMinutes`, `getSeconds`, `getMilliseconds`.
//!
//! An expression that cannot be computed is *unknown*: something it needs is absent, repeated or unreadable, has another
//! type than is needed, or is beyond a bound (lists of more than 100 items, numbers that floating point does not hold
//! exactly). As in all of CEL, `x || true` is true and `x && false` false whatever `x` is.
//!
//! Everything that can be known before there is a request is an error of the configuration: names and functions that do
//! not exist, values that can never be equal, a result that is neither true nor false, a text of more than 1 KiB, nesting
//! beyond 24 levels, more than two loops inside one another.

mod calls;
mod check;
mod functions;
mod kinds;
mod names;
mod operators;
mod strangers;
mod variable;

use std::ops::Range;
use std::thread;

use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, IdedExpr, Value};
use http::HeaderName;
use jiff::tz::TimeZone;

use self::check::{Checked, check};
use self::functions::{BOUNDED, JUDGING, parsing};
use self::variable::{MAX_ITEMS, Variable};
use super::calendar::Clock;
use super::condition::{Bounds, Names};
use crate::conf::{Describe, Node, Place, Schema, Schemas};
use crate::engine::{Facts, Truth};
use crate::policies::clients::Clients;

/// Longer texts are refused, in bytes.
const MAX_TEXT: usize = 1024;
/// What a text of that length may need while it is parsed, in bytes: a development build takes up to 32 MiB.
const STACK: usize = 64 << 20;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    text: Box<str>,
    root: IdedExpr,
    variables: Vec<Variable>,
    params: Vec<(Box<str>, Place)>,
    /// The clients it names.
    clients: Vec<String>,
}

impl Describe for Expression {
    fn schema(_: &mut Schemas) -> Schema {
        let text = Schema::scalar_like(r"\S").with("maxLength", MAX_TEXT);
        text.examples([
            "claims.sub == path.customer",
            "has(claims.limit) && int(query.amount) <= claims.limit",
        ])
    }
}

/// Something wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mistake {
    /// The bytes of its text that are meant.
    at: Range<usize>,
    message: String,
}

impl Expression {
    /// Compiles the expression that stands at `node`; mistakes are reported where in it they stand.
    pub fn compile(node: &Node, names: Names<'_>) -> Option<Self> {
        let load = names.load;
        let text = node.text("an expression such as `claims.sub == path.customer`", load)?;
        let zone = match names.clock {
            Clock::Zone(zone) => zone,
            Clock::Several | Clock::Broken => &TimeZone::UTC,
        };
        let checked = match compile(text, names.clients, zone) {
            Ok(checked) => checked,
            Err(mistakes) => {
                for mistake in mistakes {
                    load.error(&node.part(mistake.at), mistake.message);
                }
                return None;
            }
        };
        if let (Some(at), Clock::Several) = (&checked.now, names.clock) {
            let message = "`now` stands on a calendar's clocks: say which with the policy's `calendar:`";
            load.error(&node.part(at.clone()), message);
            return None;
        }
        for client in &checked.named_clients {
            load.names.refer("client", client);
        }
        let mut params: Vec<(Box<str>, Place)> = Vec::new();
        for (name, at) in checked.params {
            let is_tested = |variable: &Variable| matches!(variable, Variable::HasParam(tested) if *tested == name);
            if !checked.variables.iter().any(is_tested) && !params.iter().any(|(known, _)| *known == name) {
                params.push((name, node.part(at)));
            }
        }
        Some(Self {
            text: text.into(),
            root: checked.root,
            variables: checked.variables,
            params,
            clients: checked.named_clients,
        })
    }

    /// Whether the expression holds; unknown where it cannot be computed.
    pub fn judge(&self, facts: &Facts<'_>) -> Truth {
        self.evaluate(facts, true).map_or(Truth::Unknown, Truth::from)
    }

    /// What can come out for this request, whoever sends it.
    pub fn for_anyone(&self, facts: &Facts<'_>) -> Bounds {
        match self.evaluate(facts, false) {
            Ok(truth) => Bounds::exactly(truth.into()),
            Err(_) if self.is_about_caller() => Bounds::ANY,
            Err(_) => Bounds::exactly(Truth::Unknown),
        }
    }

    /// What comes out of an expression that reads nothing of the request.
    pub fn constant(&self) -> Option<Truth> {
        let is_constant = self.variables.iter().all(Variable::is_constant);
        let truth = || self.run(&Fixed(&self.variables)).map_or(Truth::Unknown, Truth::from);
        is_constant.then(truth)
    }

    /// Whether it reads claims.
    pub fn is_about_caller(&self) -> bool {
        self.variables.iter().any(Variable::is_about_caller)
    }

    /// Whether it reads `now`.
    pub fn reads_now(&self) -> bool {
        let is_now = |variable: &Variable| matches!(variable, Variable::Now(_));
        self.variables.iter().any(is_now)
    }

    /// Whether it reads where the caller calls from.
    pub fn reads_address(&self) -> bool {
        let is_address = |variable: &Variable| matches!(variable, Variable::Address | Variable::InNetwork(_));
        self.variables.iter().any(is_address)
    }

    /// On whose clocks it reads `now`.
    pub fn clocks(&self) -> impl Iterator<Item = &TimeZone> {
        self.variables.iter().filter_map(|variable| match variable {
            Variable::Now(zone) => Some(zone),
            _ => None,
        })
    }

    /// The clients it names.
    pub fn clients(&self) -> &[String] {
        &self.clients
    }

    /// The headers it reads.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.variables.iter().filter_map(|variable| match variable {
            Variable::Header(name) | Variable::HasHeader(name) => Some(name),
            _ => None,
        })
    }

    /// The query parameters it reads.
    pub fn query(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().filter_map(|variable| match variable {
            Variable::Query(name) | Variable::HasQuery(name) => Some(&**name),
            _ => None,
        })
    }

    /// The claims it reads, by path.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().filter_map(|variable| match variable {
            Variable::Claim(path) | Variable::HasClaim(path) => Some(&**path),
            _ => None,
        })
    }

    /// The parameters that a path must have for the expression to be of use, each with where it is read.
    pub fn params(&self) -> &[(Box<str>, Place)] {
        &self.params
    }

    /// As it is written, on one line.
    pub fn words(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Why nothing came out, without a value of the request: those may be private.
    pub fn why(&self, facts: &Facts<'_>) -> Option<String> {
        Some(match self.evaluate(facts, true).err()? {
            Failure::NoTruth => "neither true nor false came out".into(),
            Failure::Error(error) => self.reason(&error, facts),
        })
    }

    fn evaluate(&self, facts: &Facts<'_>, with_caller: bool) -> Result<bool, Failure> {
        self.run(&Reading {
            variables: &self.variables,
            facts,
            with_caller,
        })
    }

    fn run(&self, variables: &dyn VariableResolver) -> Result<bool, Failure> {
        let mut context = Context::with_env(JUDGING.clone());
        context.set_variable_resolver(variables);
        match context.resolve(&self.root) {
            Ok(Value::Bool(truth)) => Ok(truth),
            Ok(_) => Err(Failure::NoTruth),
            Err(error) => Err(Failure::Error(error)),
        }
    }

    fn reason(&self, error: &ExecutionError, facts: &Facts<'_>) -> String {
        // Of a value that an error carries nothing but its type may be told.
        match error {
            ExecutionError::UndeclaredReference(name) => match number(name).and_then(|at| self.variables.get(at)) {
                Some(variable) => variable.absence(facts),
                None => "something has no value".into(),
            },
            ExecutionError::NoSuchKey(key) if self.text.contains(&***key) => format!("no such key: {key}"),
            ExecutionError::NoSuchKey(_) => "no such key".into(),
            ExecutionError::NoSuchOverload(overload) => {
                let name = overload.function().trim_matches(['_', '@']);
                format!("`{name}` does not take {}", overload.argument_types().join(" and "))
            }
            ExecutionError::FunctionError { function, .. } if function == BOUNDED => {
                format!("a list has more than {MAX_ITEMS} items")
            }
            ExecutionError::FunctionError { function, .. } => format!("`{function}` cannot read its argument"),
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero".into(),
            ExecutionError::Overflow(..) => "a number or an instant beyond its bounds".into(),
            ExecutionError::IndexOutOfBounds(_) => "a list has fewer items".into(),
            _ => "a value is of another type than is needed".into(),
        }
    }
}

/// Why nothing came out.
enum Failure {
    /// A value came out that is neither true nor false.
    NoTruth,
    Error(ExecutionError),
}

/// The variables of one request, read when they are asked for.
struct Reading<'a, 'f> {
    variables: &'a [Variable],
    facts: &'a Facts<'f>,
    /// Without, what is about the caller has no value.
    with_caller: bool,
}

impl VariableResolver for Reading<'_, '_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let variable = self.variables.get(number(name)?)?;
        match self.with_caller || !variable.is_about_caller() {
            true => variable.value(self.facts),
            false => None,
        }
    }
}

/// What is the same for every request.
struct Fixed<'a>(&'a [Variable]);

impl VariableResolver for Fixed<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        self.0.get(number(name)?)?.constant()
    }
}

/// The number that a variable was replaced by.
fn number(name: &str) -> Option<usize> {
    name.strip_prefix('@')?.parse().ok()
}

/// Parses and checks on a thread of its own: the parser recurses as deep as the text has it, and panics on some texts. Neither
/// may reach the gateway.
fn compile(text: &str, clients: &Clients, zone: &TimeZone) -> Result<Checked, Vec<Mistake>> {
    let mistake = |message: String| {
        vec![Mistake {
            at: 0..text.len(),
            message,
        }]
    };
    if text.len() > MAX_TEXT {
        let message = format!("an expression of {} bytes: at most {MAX_TEXT}", text.len());
        return Err(mistake(message));
    }
    if text.trim().is_empty() {
        return Err(mistake("an empty expression".into()));
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("expression".into()).stack_size(STACK);
        let parse = || {
            let program = parsing().compile(text).map_err(|errors| syntax(text, &errors))?;
            check(program.expression().clone(), text, program.source_info(), clients, zone)
        };
        match thread.spawn_scoped(scope, parse) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(mistake("not an expression that can be read".into()))),
            Err(error) => Err(mistake(format!("no thread to read the expression on: {error}"))),
        }
    })
}

/// The first thing the parser has to say: what follows is mostly its consequence.
fn syntax(text: &str, errors: &cel::ParseErrors) -> Vec<Mistake> {
    let Some(error) = errors.errors.first() else {
        return Vec::new();
    };
    let (line, column) = error.pos;
    let (line, column) = (usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1));
    let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
    let line_start: usize = lines.map(str::len).sum();
    let start = (line_start + column.saturating_sub(1)).min(text.len());
    let message = match (halved(text, start), error.msg.split(" expecting ").next()) {
        _ if error.msg.contains("Recursion limit") => "nested too deeply".to_owned(),
        (Some((single, double)), _) => {
            format!("not an expression: `{single}` is none of its operators, write `{double}`")
        }
        (None, Some(said)) => {
            let said = said.trim_start_matches("Syntax error: ");
            format!("not an expression: {}", said.replace("'<EOF>'", "the end"))
        }
        (None, None) => "not an expression".to_owned(),
    };
    vec![Mistake {
        at: start..start,
        message,
    }]
}

/// The operator at `start` that other languages spell with one letter and CEL with two.
fn halved(text: &str, start: usize) -> Option<(&'static str, &'static str)> {
    let pairs = [("=", "=="), ("&", "&&"), ("|", "||")];
    let rest = text.get(start..)?;
    pairs
        .into_iter()
        .find(|(single, double)| rest.starts_with(single) && !rest.starts_with(double))
}

#[cfg(test)]
mod tests;
