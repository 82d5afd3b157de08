//! The policies: one file or folder each, and its line in [`KINDS`].

use std::sync::Arc;

use crate::conf::{Load, Node, Place};
use crate::engine::{Policy, Stage};

/// What a route's key compiles to.
pub struct Kind {
    /// The route's YAML key.
    pub name: &'static str,
    /// How `defaults` and the route's own value come together.
    pub inherit: Inherit,
    /// Reads the merged value and makes the rules; problems go to the scope's `load`.
    pub compile: fn(&Node, &Scope<'_>) -> Vec<Draft>,
}

/// How `defaults` and a route's own value come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherit {
    /// A list of names: the defaults' come first, the route's are added, `without:` takes out by name.
    List,
    /// A single value: the route's replaces the defaults'; `off` turns off.
    Single,
    /// Stands in routes only.
    Never,
}

/// A rule about to be put on a route.
#[derive(Debug)]
pub struct Draft {
    /// The name shown in trails, records and metrics.
    pub name: Arc<str>,
    /// When it is judged.
    pub stage: Stage,
    /// Judged and counted, not enforced.
    pub shadow: bool,
    /// Where its definition stands.
    pub place: Place,
    /// The check.
    pub policy: Arc<dyn Policy>,
}

/// What a policy may refer to while it is compiled; nothing is looked up by name on a request.
pub struct Scope<'a> {
    /// Where findings go.
    pub load: &'a Load,
    /// The name of the route.
    pub route: Arc<str>,
    /// Whether the route asks who calls, that is `auth` is not just `none`.
    pub has_auth: bool,
}

/// Every kind of policy, sorted by name.
pub const KINDS: &[Kind] = &[];
