//! `errors`: whether a client sees the errors of the service behind the gate as it words them.
//!
//! ```yaml
//! errors: problem      # `pass` (the default) lets them through
//! ```
//!
//! With `problem` an answer of 400 and above becomes problem+json like the gate's own refusals: its status stays, and so do
//! `Allow`, `Retry-After` and `WWW-Authenticate`; nothing else of its header and nothing of its body. `code` is
//! `upstream-refused` (4xx) or `upstream-failed` (5xx).

use std::sync::Arc;

use super::{Draft, Inherit, Kind, Scope};
use crate::conf::{Describe, Node, Read};
use crate::engine::{Act, Answer, Facts, Policy, Stage, Verdict};

/// `errors` on a route or in `defaults`.
pub const KIND: Kind = Kind {
    name: "errors",
    inherit: Inherit::Single,
    compile,
    schema: Errors::schema,
};

crate::words! {
    /// Whether a client sees the errors of the service behind the gate as it words them.
    pub enum Errors {
        /// They go through as they are.
        Pass = "pass",
        /// Their status stays; all else is told as the gate tells its own refusals.
        Problem = "problem",
    }
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    if scope.is_off(node) || Errors::read(node, scope.load) != Some(Errors::Problem) {
        return Vec::new();
    }
    vec![Draft {
        name: Arc::from(KIND.name),
        stage: Stage::Shape,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(OwnErrors),
    }]
}

#[derive(Debug)]
struct OwnErrors;

impl Policy for OwnErrors {
    fn judge(&self, _: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        Verdict::add(Act::OwnErrors)
    }
}
