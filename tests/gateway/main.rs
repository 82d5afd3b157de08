//! Black-box tests: the real gateway as a child process, on sockets, against real peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails by panicking"
)]

mod admin;
mod aggregates;
mod agreement;
mod anomalies;
mod api_keys;
mod cache;
mod calendar;
mod check;
mod client_certificates;
mod compress;
mod cors;
mod credentials;
mod diff;
mod examples;
mod explain;
mod expressions;
mod freezes;
mod front;
mod grpc;
mod hostile;
mod introspection;
mod jwt;
mod lasting;
mod layout;
mod limits;
mod messages;
mod own_tests;
mod passports;
mod policies;
mod provider;
mod records;
mod refusals;
mod reload;
mod revocations;
mod rotation;
mod routing;
mod schema;
mod shapes;
mod sockets;
mod step_up;
mod support;
mod systemd;
mod tls;
mod tokens;
mod transforms;
mod upstream_tls;
mod upstreams;
mod withheld;
