//! Doors to the outside as small types: a clock, and an HTTP client for side calls.

mod client;
mod clock;

pub use client::{Bounds, Client, ClientError, PlainHttp, Response};
pub use clock::Clock;
