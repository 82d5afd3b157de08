//! One request under one configuration, judged now and later.

use std::net::IpAddr;

use anyhow::Context;
use futures::FutureExt;
use http::HeaderMap;
use jiff::Timestamp;

use super::{Explanation, next, telling};
use crate::engine::{Facts, Lookup, Params, RequestView};
use crate::snapshot::{Asked, Asker, Judged, Snapshot, judge_later, judge_later_alone};

/// As long as the ids of requests are.
const UNKNOWN_ID: &str = "00000000000000000000000000000000";

/// A request to be explained.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The request as the engine sees it.
    pub request: RequestView<'a>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Where it comes from.
    pub address: IpAddr,
    /// When.
    pub at: Timestamp,
    /// Its id; zeros where it has none.
    pub id: &'a str,
    /// Whether what limits say is assumed.
    pub is_assumed: bool,
}

impl<'a> Case<'a> {
    /// A request that was [settled](Asked::settle).
    pub fn of(snapshot: &'a Snapshot, settled: &'a Asked) -> Self {
        Self {
            snapshot,
            request: settled.view(),
            headers: settled.headers.map(),
            address: settled.address,
            at: settled.at,
            id: UNKNOWN_ID,
            is_assumed: true,
        }
    }

    /// Decides and says why; `lookup` must answer at once.
    pub fn explain(&self, lookup: &impl Lookup) -> anyhow::Result<Explanation> {
        let judged = self.judged(self.at, lookup)?;
        let next = next::search(self, &judged, lookup)?;
        Ok(telling::tell(self, &judged, next))
    }

    /// The decision with windows and freezes as they are at `window_at`.
    pub fn judged(&self, window_at: Timestamp, lookup: &impl Lookup) -> anyhow::Result<Judged<'a>> {
        let judged = judge_later(self.snapshot, self.request, self.address, self.at, window_at, lookup);
        // An assumption is at hand: there is nothing to wait for.
        judged.now_or_never().context("an assumption was waited for")
    }

    /// The same, without looking for the instant at which a refusal ends.
    pub(super) fn judged_alone(&self, window_at: Timestamp, lookup: &impl Lookup) -> anyhow::Result<Judged<'a>> {
        let judged = judge_later_alone(self.snapshot, self.request, self.address, self.at, window_at, lookup);
        judged.now_or_never().context("an assumption was waited for")
    }

    /// What was known when that was decided.
    pub(super) fn facts<'f>(&'f self, judged: &'f Judged<'_>, window_at: Timestamp) -> Facts<'f> {
        Facts {
            now: self.at,
            window_at,
            address: self.address,
            client: judged.client,
            request: self.request,
            params: Params {
                names: judged.params.names,
                values: judged.params.values.iter().copied().collect(),
            },
            principal: judged.decision.principal.clone(),
        }
    }

    /// What the caller says of the answers it can take.
    pub(super) fn asker(&self) -> Asker<'a> {
        Asker {
            method: self.request.method,
            headers: self.headers,
            takes_trailers: true,
        }
    }
}
