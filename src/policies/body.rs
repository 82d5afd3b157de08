//! `body`: refuses larger request bodies with `413 body-too-large`.
//!
//! ```yaml
//! body: { max: 64KiB }
//! ```
//!
//! Without it the bound is 10 MiB. All messages that a caller sends in one call of gRPC are one body; of sockets nothing is
//! counted.

use std::sync::Arc;

use super::{Draft, Inherit, Kind, Scope};
use crate::conf::{ByteSize, Describe, Node, Read};
use crate::engine::{Act, Answer, Facts, Policy, Stage, Verdict};

/// The bound of routes that name none, in bytes.
pub const DEFAULT_MAX: u64 = 10 << 20;

/// `body` on a route or in `defaults`.
pub const KIND: Kind = Kind {
    name: "body",
    inherit: Inherit::Single,
    compile,
    schema: Body::schema,
};

crate::settings! {
    /// What a request body may be; 10 MiB where nothing is said.
    struct Body {
        /// The largest that is let through; larger ones are answered 413.
        max: ByteSize,
    }
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let max = match scope.is_off(node) {
        true => Some(ByteSize(u64::MAX)),
        false => Body::read(node, scope.load).map(|body| body.max),
    };
    let draft = |ByteSize(max)| Draft {
        name: Arc::from("body"),
        stage: Stage::Shape,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(BodyLimit(max)),
    };
    max.map(draft).into_iter().collect()
}

#[derive(Debug)]
struct BodyLimit(u64);

impl Policy for BodyLimit {
    fn judge(&self, _: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        Verdict::add(Act::BodyLimit(self.0))
    }
}
