//! `when`: conditions under which a part of an aggregate is asked for. What is not known does not hold.

use std::sync::Arc;

use http::HeaderName;

use super::calendar::Calendars;
use super::condition::{Clause, Condition, Names};
use crate::conf::{Describe, Load, Node, Schema, Schemas};
use crate::engine::{Facts, Holds, Truth};
use crate::policies::clients::Clients;

/// Conditions of the vocabulary of policies.
#[derive(Debug)]
pub struct When {
    condition: Condition,
    reads: Vec<HeaderName>,
}

impl Describe for When {
    fn schema(schemas: &mut Schemas) -> Schema {
        Condition::schema(schemas)
    }
}

impl When {
    /// Reads a block; what is wrong with it goes to `load`.
    pub fn compile(node: &Node, calendars: &Calendars, clients: &Clients, load: &Load) -> Option<Arc<dyn Holds>> {
        let names = Names {
            load,
            calendars,
            clients,
            clock: calendars.clock(None, load),
        };
        let condition = Condition::compile(node, names)?;
        let read_by = |clause: &Clause| match clause {
            Clause::Header(name, _) => vec![name.clone()],
            Clause::If(expression) => expression.headers().cloned().collect(),
            Clause::Clients(_) => clients.headers().to_vec(),
            _ => Vec::new(),
        };
        let reads = condition.clauses().iter().flat_map(read_by).collect();
        Some(Arc::new(Self { condition, reads }))
    }
}

impl Holds for When {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.condition.judge(facts) == Truth::True
    }

    fn reads_headers(&self) -> &[HeaderName] {
        &self.reads
    }

    fn reads_address(&self) -> bool {
        self.condition.clauses().iter().any(|clause| match clause {
            Clause::Address(_) => true,
            Clause::If(expression) => expression.reads_address(),
            _ => false,
        })
    }

    fn reads_time(&self) -> bool {
        self.condition.clauses().iter().any(|clause| match clause {
            Clause::During(_) | Clause::Outside(_) => true,
            Clause::If(expression) => expression.reads_now(),
            _ => false,
        })
    }
}
