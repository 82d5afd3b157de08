//! Doors to the outside as small types: a clock, an HTTP client for side calls, a folder for state.

mod client;
mod clock;
mod state;

pub use client::{Bounds, Client, ClientError, PlainHttp, Response};
pub use clock::Clock;
pub use state::{StateFailure, StateFolder, read_state};
