//! Gwanmun (관문, "the gate"): an edge API gateway whose every decision can be explained, rehearsed and proved.
//!
//! The rooms and the direction of the data:
//!
//! ```text
//! YAML ─ conf ─▶ nodes with line:col ─ snapshot::compile ─▶ Snapshot        all or nothing, at start and on reload
//! request ─▶ Facts ─▶ engine::decide ─▶ Decision ─ proxy/ carries it out ─▶ Record ─▶ observers (audit, metrics, …)
//!                         ▲ asks / answers
//!                      Lookup: counts, tokens, sessions, scores             Live │ Assumed │ Recorded
//! ```

pub mod admin;
pub mod cli;
pub mod conf;
pub mod demo;
pub mod engine;
pub mod front;
pub mod io;
pub mod live;
pub mod observe;
pub mod policies;
pub mod proxy;
pub mod rehearse;
pub mod routing;
pub mod server;
pub mod snapshot;
pub mod targets;
pub mod upstreams;
