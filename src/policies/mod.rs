//! The policies: one file or folder each, and its line in [`KINDS`].

pub mod access;
pub mod authn;
pub mod body;
pub mod cache;
pub mod clients;
pub mod compress;
pub mod cors;
pub mod errors;
pub mod forward;
pub mod freeze;
pub mod passport;
pub mod rate_limit;
pub mod revocation;
pub mod shape;
pub mod transform;
pub mod websocket;

use std::sync::Arc;

use http::HeaderName;

use crate::conf::{Load, Node, Place, Schema, Schemas, Value};
use crate::engine::{Policy, Stage};

/// What a route's key compiles to.
pub struct Kind {
    /// The route's YAML key.
    pub name: &'static str,
    /// How `defaults` and the route's own value come together.
    pub inherit: Inherit,
    /// Reads the merged value and makes the rules; problems go to the scope's `load`.
    pub compile: fn(&Node, &Scope<'_>) -> Vec<Draft>,
    /// Describes a route's own value; `off` is added where it is understood.
    pub schema: fn(&mut Schemas) -> Schema,
}

impl Kind {
    /// Describes what may be written on a route or in `defaults`.
    pub fn described(&self, schemas: &mut Schemas) -> Schema {
        let own = (self.schema)(schemas);
        if self.inherit != Inherit::Single {
            return own;
        }
        let about = schemas.description(&own);
        Schema::any_of([own, Schema::just("off").about("Turned off.")]).about(&about)
    }
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
    /// The parameters of the route's path; `None` where no path is known.
    pub params: Option<&'a [Arc<str>]>,
    /// The route's `cors`, its own or that of `defaults`.
    pub cors: Option<&'a Node>,
    /// What names in a route may refer to.
    pub defined: &'a Defined,
}

/// Everything the file defines by name for its routes.
#[derive(Default)]
pub struct Defined {
    /// The authenticators.
    pub authenticators: authn::Authenticators,
    /// What `authorization: passport` forwards.
    pub passport: Option<Arc<passport::Passport>>,
    /// The policies that `policies:` may name.
    pub policies: access::Policies,
    /// The limits.
    pub limits: rate_limit::Limits,
    /// What `shape:` may name.
    pub shapes: shape::Shapes,
    /// The names of the clients, in the order of their indices.
    pub client_names: Vec<Arc<str>>,
    /// The headers that tell clients apart.
    pub client_headers: Vec<HeaderName>,
}

impl<'a> Scope<'a> {
    /// A scope of a route that does not ask who calls.
    #[cfg(test)]
    pub fn plain(load: &'a Load, defined: &'a Defined) -> Self {
        Self {
            load,
            route: Arc::from("route"),
            has_auth: false,
            params: None,
            cors: None,
            defined,
        }
    }

    /// Whether a single value is turned off.
    pub fn is_off(&self, node: &Node) -> bool {
        matches!(&node.value, Value::Scalar { text, .. } if text == "off")
    }
}

/// Every kind of policy, in the order in which those of one stage are judged: scopes before policies, else by name.
pub const KINDS: &[Kind] = &[
    authn::KIND,
    body::KIND,
    cache::KIND,
    compress::KIND,
    cors::KIND,
    errors::KIND,
    forward::KIND,
    rate_limit::KIND,
    access::SCOPES,
    access::POLICIES,
    transform::KIND,
    shape::KIND,
    websocket::KIND,
];
