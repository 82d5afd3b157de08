//! Doors to the outside as small types: a clock, an HTTP client for side calls, a folder for state.

mod client;
mod clock;
mod state;
mod state_log;

pub use client::{Bounds, Client, ClientError, PlainHttp, Response};
pub use clock::Clock;
pub use state::{StateFailure, StateFolder, read_state};
pub use state_log::{LogRead, StateLog, read_state_log};
