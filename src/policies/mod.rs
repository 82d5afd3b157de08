//! The policies: one file or folder each, and its line in [`KINDS`].

pub mod access;
pub mod clients;
pub mod authn;
pub mod rate_limit;
pub mod cache;
pub mod compress;
pub mod cors;
pub mod shape;

use std::sync::Arc;

use http::HeaderName;

use crate::conf::{Load, Node, Place, Value};
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
    /// The policies that `policies:` may name.
    pub policies: &'a access::Policies,
}

/// Every kind of policy, in the order in which those of one stage are judged, else sorted by name.
pub const KINDS: &[Kind] = &[
    // Scopes are judged before policies.
    access::SCOPES,
    access::POLICIES,
];
    /// The authenticators.
    pub authenticators: &'a authn::Authenticators,
}

/// Every kind of policy, sorted by name.
pub const KINDS: &[Kind] = &[authn::KIND];
    /// The limits of the configuration.
    pub limits: &'a rate_limit::Limits,
}

/// Every kind of policy, sorted by name.
pub const KINDS: &[Kind] = &[rate_limit::KIND];
    /// The names of the clients, in the order of their indices.
    pub client_names: &'a [Arc<str>],
    /// The headers that tell clients apart.
    pub client_headers: &'a [HeaderName],
    /// What `shape:` may name.
    pub shapes: &'a shape::Shapes,
}

impl<'a> Scope<'a> {
    /// A scope without auth and clients.
    #[cfg(test)]
    pub fn plain(load: &'a Load, shapes: &'a shape::Shapes) -> Self {
        Self {
            load,
            route: Arc::from("route"),
            has_auth: false,
            client_names: &[],
            client_headers: &[],
            shapes,
        }
    }

    /// Whether a single value is turned off.
    pub fn is_off(&self, node: &Node) -> bool {
        matches!(&node.value, Value::Scalar { text, .. } if text == "off")
    }
}

/// Every kind of policy, sorted by name.
pub const KINDS: &[Kind] = &[cache::KIND, compress::KIND, cors::KIND, shape::KIND];
