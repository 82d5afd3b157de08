//! The reading of requests: one way, before anything else is done with them.

mod bodies;
mod bounds;
mod clients;
mod faults;
mod forwarded;
mod http2;
mod http2_floods;
mod http2_table;
mod pages;
mod spellings;
mod table;

use crate::support::{Gateway, Recorder, fill};

const OPEN: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  all: { match: { path: '/{rest...}' }, auth: none, upstream: origin }
";

/// A gateway that lets everything through which it can read, to an upstream that keeps every byte.
struct Open {
    gateway: Gateway,
    recorder: Recorder,
}

impl Open {
    fn start() -> Self {
        let recorder = Recorder::start();
        Self {
            gateway: Gateway::start(&fill(OPEN, &[("upstream", &recorder.address())])),
            recorder,
        }
    }
}
