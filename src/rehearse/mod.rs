//! Deciding from assumptions, as `explain`, a file's own tests and the demo do: the gateway's own code decides, and only the
//! questions are answered otherwise. The caller is who one says, and no limit is reached.

mod assumed;
mod case;
mod findings;
mod made;
mod next;
mod paint;
mod telling;
mod told;
mod tried;

use std::sync::LazyLock;

use anyhow::bail;
use serde_json::{Map, Value};

use self::assumed::Closing;
use crate::snapshot::{Asked, Snapshot};

pub use assumed::{Assumed, Issued};
pub use case::Case;
pub use findings::show_findings;
pub use made::{Made, shape_of, shapes_for};
pub use paint::Paint;
pub use told::{
    Difference, Explanation, Next, ToldAnswer, ToldDecision, ToldLimit, ToldRecord, ToldRival, ToldRoute, ToldRule,
};
pub use tried::{Failure, failures};

/// Decides, and says no more than that.
pub fn decide(snapshot: &Snapshot, asked: &Asked) -> anyhow::Result<ToldDecision> {
    let mut settled = asked.clone();
    settled.settle(snapshot)?;
    let judged = Case::of(snapshot, &settled).judged(settled.at, &assuming(snapshot, &settled))?;
    Ok(telling::decision(snapshot, &judged))
}

/// Decides and says why.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> anyhow::Result<Explanation> {
    let mut settled = asked.clone();
    settled.settle(snapshot)?;
    Case::of(snapshot, &settled).explain(&assuming(snapshot, &settled))
}

/// Answers as `asked` assumes.
fn assuming<'a>(snapshot: &'a Snapshot, asked: &'a Asked) -> Closing<'a, Assumed<'a>> {
    static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    Closing {
        frozen: &asked.frozen,
        revoked: &asked.revoked,
        at: asked.at,
        others: Assumed {
            authenticators: &snapshot.defined.authenticators,
            claims: asked.claims.as_ref().unwrap_or(&NOTHING),
            token: asked.via.map_or(Issued::ForFirst, Issued::For),
            limits: &snapshot.defined.limits,
            exhausted: &asked.exhausted,
        },
    }
}

/// Reads claims from the text of a YAML or JSON file.
pub fn read_claims(text: &str) -> anyhow::Result<Map<String, Value>> {
    // By way of a mapping, which refuses a claim that stands twice.
    let members: serde_yaml::Mapping = serde_yaml::from_str(text)?;
    match serde_json::to_value(members)? {
        Value::Object(claims) => Ok(claims),
        _ => bail!("the claims are not a map"),
    }
}

#[cfg(test)]
mod tests;
