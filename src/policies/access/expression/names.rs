//! Variables with literal names behind them, which alone can be read: a record has to keep what was read, and no more.

use std::net::IpAddr;
use std::ops::Range;

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators};
use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};

use super::check::{Checker, Part};
use super::variable::Variable;
use crate::conf::parse_method;
use crate::engine::never_read;
use crate::policies::access::calendar::did_you_mean;

/// The variables an expression may name.
pub(super) const VARIABLES: [&str; 7] = ["request", "claims", "path", "query", "ip", "client", "now"];
/// The members of `request`.
const MEMBERS: [&str; 4] = ["method", "host", "path", "headers"];
/// Longer names are slips.
const MAX_NAME: usize = 256;

impl Checker<'_> {
    /// `claims.address.city`, `request.headers["x-a"]`, `has(query.a)`, `"x-a" in request.headers`: becomes a number. `None`
    /// for anything else.
    pub fn named(&mut self, expr: &mut IdedExpr, at: &Range<usize>) -> Option<Part> {
        let Spelled { root, names, is_test } = spelled(&expr.expr)?;
        if self.is_bound(root) || !VARIABLES.contains(&root) {
            return None;
        }
        let part = match self.variable(root, &names, is_test, at) {
            Ok(variable) => {
                let kinds = variable.kinds();
                expr.expr = self.numbered(variable);
                Part::of(kinds)
            }
            Err(message) => {
                self.complain(at, message);
                Part::broken()
            }
        };
        Some(part)
    }

    fn variable(&mut self, root: &str, names: &[&str], is_test: bool, at: &Range<usize>) -> Result<Variable, String> {
        let whole = |whole: &str, example: &str| {
            Err(format!(
                "`{whole}` is no value of its own: write out what of it is meant, as in `{example}`"
            ))
        };
        if names.iter().any(|name| name.is_empty() || name.len() > MAX_NAME) {
            return Err("a name must have 1 to 256 bytes".into());
        }
        match (root, names) {
            ("claims", []) => whole("claims", "claims.sub"),
            ("claims", names) => {
                let path = names.join(".").into();
                Ok(match is_test {
                    true => Variable::HasClaim(path),
                    false => Variable::Claim(path),
                })
            }
            ("query", []) => whole("query", "query.name"),
            ("query", [name]) if is_test => Ok(Variable::HasQuery((*name).into())),
            ("query", [name]) => Ok(Variable::Query((*name).into())),
            ("path", []) => whole("path", "path.customer"),
            ("path", [name]) if is_test => Ok(Variable::HasParam((*name).into())),
            ("path", [name]) => {
                let name: Box<str> = (*name).into();
                self.params.push((name.clone(), at.clone()));
                Ok(Variable::Param(name))
            }
            ("request", []) => whole("request", "request.method"),
            ("request", ["headers"]) => whole("request.headers", "request.headers[\"x-name\"]"),
            ("request", ["headers", name]) => header(name, is_test),
            ("request", [name, ..]) if !MEMBERS.contains(name) => {
                let hint = did_you_mean(name, MEMBERS.into_iter());
                Err(format!("`request` has no `{name}`{hint}"))
            }
            ("request", [name]) if is_test => Err(format!("`request.{name}` is always there")),
            ("request", ["method"]) => Ok(Variable::Method),
            ("request", ["host"]) => Ok(Variable::Host),
            ("request", ["path"]) => Ok(Variable::Path),
            ("ip", []) => Ok(Variable::Address),
            ("client", []) => Ok(Variable::Client),
            ("now", []) => {
                self.now.get_or_insert_with(|| at.clone());
                Ok(Variable::Now(self.zone.clone()))
            }
            (root, names) => {
                let name = names.last().copied().unwrap_or_default();
                let before = names.iter().take(names.len().saturating_sub(1));
                let of: String = before.map(|name| format!(".{name}")).collect();
                Err(format!("`{root}{of}` is a single value and has no `{name}`"))
            }
        }
    }

    /// Some variables have a spelling of their own: a literal that is none can never equal them. `sole` where it is the only
    /// one they are compared with.
    pub fn spelling(&mut self, variable: &IdedExpr, literal: &IdedExpr, sole: bool) {
        let Expr::Literal(LiteralValue::String(written)) = &literal.expr else {
            return;
        };
        let written = written.inner();
        let found = match self.variable_at(&variable.expr) {
            Some(Variable::Method) => method(written, sole),
            Some(Variable::Address) => address(written),
            Some(Variable::Host) if written.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Err(format!("`{written}` never equals a host: they are in lower case here"))
            }
            Some(Variable::Client) if self.clients.get(written).is_some() => {
                self.named_clients.push(written.to_owned());
                Ok(())
            }
            Some(Variable::Client) if !self.clients.is_broken(written) => {
                let hint = did_you_mean(written, self.clients.names().map(|known| &**known));
                Err(format!("unknown client `{written}`{hint}"))
            }
            _ => Ok(()),
        };
        if let Err(message) = found {
            let at = self.range(literal);
            self.complain(&at, message);
        }
    }
}

fn method(written: &str, sole: bool) -> Result<(), String> {
    parse_method(written).map_err(|error| format!("`{written}` {error}"))?;
    match sole && written == "HEAD" {
        true => Err("HEAD reads as `GET` here, as a rule on GET holds for both".into()),
        false => Ok(()),
    }
}

fn address(written: &str) -> Result<(), String> {
    let Ok(address) = written.parse::<IpAddr>() else {
        return Err(format!(
            "`{written}` is not an address; for a network write `inNetwork(ip, \"10.0.0.0/8\")`"
        ));
    };
    let spelled = address.to_canonical().to_string();
    match spelled == written {
        true => Ok(()),
        false => Err(format!(
            "`{written}` never equals an address: it is written `{spelled}` here"
        )),
    }
}

fn header(name: &str, is_test: bool) -> Result<Variable, String> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(format!("`{name}` is not a header name"));
    };
    // What expressions read is kept in records, and a record keeps no credential.
    if [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(&header) {
        return Err(format!("`{header}` carries credentials and cannot be read"));
    }
    if let Some(fault) = never_read(&header) {
        return Err(format!("`{header}` {fault}"));
    }
    Ok(match is_test {
        true => Variable::HasHeader(header),
        false => Variable::Header(header),
    })
}

/// A variable with literal names behind it, as it is written.
struct Spelled<'e> {
    root: &'e str,
    names: Vec<&'e str>,
    /// Whether it is asked for presence only.
    is_test: bool,
}

fn spelled(expr: &Expr) -> Option<Spelled<'_>> {
    let test = |inner, name| {
        let (root, mut names) = chain(inner)?;
        names.push(name);
        Some(Spelled {
            root,
            names,
            is_test: true,
        })
    };
    match expr {
        Expr::Select(select) if select.test => test(&select.operand.expr, &*select.field),
        Expr::Call(call) if call.func_name == operators::IN => {
            let [name, map] = call.args.as_slice() else {
                return None;
            };
            let is_map = matches!(
                (chain(&map.expr)?.0, chain(&map.expr)?.1.as_slice()),
                ("claims" | "query" | "path", []) | ("request", ["headers"])
            );
            match &name.expr {
                Expr::Literal(LiteralValue::String(name)) if is_map => test(&map.expr, name.inner()),
                _ => None,
            }
        }
        expr => chain(expr).map(|(root, names)| Spelled {
            root,
            names,
            is_test: false,
        }),
    }
}

/// `a.b["c"]` as `a` and `b`, `c`.
fn chain(mut expr: &Expr) -> Option<(&str, Vec<&str>)> {
    let mut names = Vec::new();
    loop {
        expr = match expr {
            Expr::Ident(root) => {
                names.reverse();
                return Some((root, names));
            }
            Expr::Select(select) if !select.test => {
                names.push(select.field.as_str());
                &select.operand.expr
            }
            Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => {
                let [of, name] = call.args.as_slice() else {
                    return None;
                };
                let Expr::Literal(LiteralValue::String(name)) = &name.expr else {
                    return None;
                };
                names.push(name.inner());
                &of.expr
            }
            _ => return None,
        };
    }
}
