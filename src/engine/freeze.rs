//! Freezes: routes and upstreams that an operator has closed for a while, whatever the rules say.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of thing is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freezable {
    /// A route.
    Route,
    /// An upstream, with every route and part that would call it.
    Upstream,
}

impl Freezable {
    /// Both, routes first.
    pub const ALL: [Self; 2] = [Self::Route, Self::Upstream];

    /// The word in records, metrics and the admin API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Upstream => "upstream",
        }
    }
}

/// One thing that is frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// A route or an upstream.
    pub kind: Freezable,
    /// Its name.
    pub name: Arc<str>,
    /// The first instant after it; `None` where only a thaw ends it.
    pub until: Option<Timestamp>,
    /// Why, for operators; clients are not told. May be empty.
    pub reason: Arc<str>,
}

impl Freeze {
    /// Whether it has not ended at `at`. When it began does not matter: a clock that is set back must not lift it.
    pub fn is_in_force(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| at < until)
    }
}

/// An operator froze or thawed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeChange {
    /// When.
    pub at: Timestamp,
    /// From where.
    pub address: IpAddr,
    /// What; of a thaw, the freeze that it ended.
    pub freeze: Freeze,
    /// Whether it was thawed.
    pub is_thaw: bool,
}
