//! What a shape makes of an answer.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Case, assuming};
use crate::conf::one_line;
use crate::engine::{About, Act, Client, Facts, NoHeaders, Outcome, Params, RequestView, Reshape, Rule};
use crate::policies::shape;
use crate::snapshot::{Asked, Snapshot};

/// The shape that cuts the answer to a request, if one does. Whether the request is let through does not matter.
pub fn shape_of(snapshot: &Snapshot, asked: &Asked) -> anyhow::Result<Option<Arc<dyn Reshape>>> {
    let mut settled = asked.clone();
    settled.settle(snapshot)?;
    let case = Case::of(snapshot, &settled);
    let judged = case.judged(settled.at, &assuming(snapshot, &settled))?;
    let facts = case.facts(&judged, settled.at);
    Ok(judged.rules.iter().find_map(|rule| cutting(rule, &facts)))
}

/// The shapes that some route has for a client, each once.
pub fn shapes_for(snapshot: &Snapshot, client: &Client) -> Vec<Arc<dyn Reshape>> {
    let facts = Facts {
        now: jiff::Timestamp::UNIX_EPOCH,
        window_at: jiff::Timestamp::UNIX_EPOCH,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        client,
        request: RequestView {
            method: &http::Method::GET,
            host: "",
            path: "/",
            query: "",
            headers: &NoHeaders,
        },
        params: Params::default(),
        principal: None,
    };
    let mut found: Vec<Arc<dyn Reshape>> = Vec::new();
    let rules = snapshot.router.iter().flat_map(|(_, route)| &route.rules);
    for shape in rules.filter_map(|rule| cutting(rule, &facts)) {
        if !found.iter().any(|known| known.name() == shape.name()) {
            found.push(shape);
        }
    }
    found
}

fn cutting(rule: &Rule, facts: &Facts<'_>) -> Option<Arc<dyn Reshape>> {
    let is_shape = rule.kind == shape::KIND.name;
    match is_shape.then(|| rule.policy.judge(facts, None).outcome) {
        Some(Outcome::Add(Act::Reshape(shape))) => Some(shape),
        _ => None,
    }
}

/// An answer before and after.
#[derive(Debug)]
pub struct Made {
    shape: String,
    before: usize,
    /// The new body, or why there is none and whether the old one goes out.
    after: Result<String, (String, bool)>,
}

impl Made {
    /// What `shape` makes of `body`.
    pub fn of(shape: &dyn Reshape, body: &[u8]) -> Self {
        let about = About {
            request_id: "00000000000000000000000000000000",
            partial: &[],
        };
        let after = shape.reshape(body, &about);
        Self {
            shape: shape.name().to_owned(),
            before: body.len(),
            after: after
                .map(|body| String::from_utf8_lossy(&body).into_owned())
                .map_err(|failure| (failure.to_string(), shape.passes_uncut())),
        }
    }

    /// Whether the client gets 502 instead.
    pub fn is_refused(&self) -> bool {
        matches!(self.after, Err((_, false)))
    }

    /// For people: the new body, then how large it is.
    pub fn text(&self) -> String {
        let Self { shape, before, after } = self;
        match after {
            Ok(body) => {
                let size = body.len();
                let saved = match before.checked_sub(size) {
                    Some(saved) if *before > 0 => format!("{saved} saved ({} %)", saved * 100 / before),
                    _ => format!("{} more", size.saturating_sub(*before)),
                };
                // What an answer holds is not for a terminal to obey.
                format!(
                    "{}\n\nshape `{shape}`: {before} bytes become {size}, {saved}\n",
                    one_line(body)
                )
            }
            Err((why, true)) => format!("shape `{shape}`: it goes out as it is, {before} bytes: {why}\n"),
            Err((why, false)) => format!("shape `{shape}`: the client gets 502 upstream-unreadable: {why}\n"),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let size = self.after.as_ref().ok().map(String::len);
        let (why, passes) = match &self.after {
            Ok(_) => (None, None),
            Err((why, passes)) => (Some(why), Some(*passes)),
        };
        json!({
            "shape": self.shape, "bytes_before": self.before, "bytes_after": size,
            "bytes_saved": size.map(|size| self.before as i64 - size as i64),
            "body": self.after.as_ref().ok(), "why": why, "goes_out_uncut": passes,
        })
    }
}
