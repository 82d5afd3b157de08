//! Black-box tests: the real gateway as a child process, on sockets, against real peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;
