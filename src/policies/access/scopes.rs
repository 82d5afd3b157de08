//! `scopes:` of a route — the caller must hold all of them.
//!
//! ```yaml
//! scopes: [transfer:write, transfer:large]
//! ```
//!
//! Without a credential 401 `token-missing`, else 403 `scope-missing` with the challenge of RFC 6750 §3.1.

use http::StatusCode;

use super::reply;
use crate::conf::{Describe, Load, Node, Read, Schema, Schemas};
use crate::engine::{Answer, Bearer, Denial, DenialKind, Facts, Mentions, Policy, Stage, Verdict, Why};
use crate::policies::clients::Listed;
use crate::policies::{self, Draft, Inherit};

/// Scopes that a route requires.
pub const KIND: policies::Kind = policies::Kind {
    name: "scopes",
    inherit: Inherit::Never,
    compile,
    schema: |schemas| Listed::<Scope>::schema(schemas).about("The scopes a caller must hold, all of them."),
};

fn compile(node: &Node, scope: &policies::Scope<'_>) -> Vec<Draft> {
    let Some(Listed(required)) = Listed::<Scope>::read(node, scope.load) else {
        return Vec::new();
    };
    if !scope.has_auth {
        let message = "no caller can hold a scope here: the route has `auth: none`";
        scope.load.warn(&node.place, message);
    }
    vec![Draft {
        name: "scopes".into(),
        stage: Stage::Authorize,
        shadow: false,
        place: node.place.clone(),
        policy: std::sync::Arc::new(Scopes::new(required)),
    }]
}

/// A scope as RFC 6749 §3.3 spells it, so that it can stand in a quoted challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policies) struct Scope(pub Box<str>);

impl Describe for Scope {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[!#-\[\]-~]+$")
    }
}

impl Read for Scope {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a scope such as `transfer:write`", load, |text| {
            let letters = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
            match !text.is_empty() && text.bytes().all(letters) {
                true => Ok(Self(text.into())),
                false => Err("is not a scope: visible ASCII without spaces, quotes and backslashes".into()),
            }
        })
    }
}

#[derive(Debug)]
struct Scopes {
    required: Vec<Scope>,
    missing: Denial,
    anonymous: Denial,
}

impl Scopes {
    fn new(required: Vec<Scope>) -> Self {
        let mut missing = Denial::new(
            DenialKind::Refuse,
            StatusCode::FORBIDDEN,
            "scope-missing",
            "The credential lacks a scope that this request needs.",
        );
        let names: Vec<&str> = required.iter().map(|scope| &*scope.0).collect();
        let challenge = Bearer::error("insufficient_scope").with("scope", &names.join(" "));
        missing.challenge = Some(challenge.value());
        Self {
            missing,
            anonymous: reply::token_missing(),
            required,
        }
    }
}

impl Policy for Scopes {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let Some(principal) = &facts.principal else {
            return Verdict::deny(self.anonymous.clone(), Why::Lacking);
        };
        if self.required.iter().all(|scope| principal.has_scope(&scope.0)) {
            return Verdict::pass(Why::Held);
        }
        Verdict::deny(self.missing.clone(), Why::Lacking)
    }

    fn restricts_callers(&self) -> bool {
        true
    }

    fn describe(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Vec<String> {
        let line = |scope: &Scope| {
            let truth = match &facts.principal {
                None => "false (the caller is not known)",
                Some(principal) if principal.has_scope(&scope.0) => "true",
                Some(_) => "false",
            };
            format!("scope {}: {truth}", scope.0)
        };
        self.required.iter().map(line).collect()
    }

    fn mention(&self, mentions: &mut Mentions) {
        let names = self.required.iter().map(|scope| scope.0.to_string());
        mentions.required_scopes.push(names.collect());
    }
}
