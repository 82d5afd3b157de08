//! `bounds`: what one client may cost before anything is known of it.
//!
//! ```yaml
//! bounds:
//!   connections: { open: 20000, per_address: 10000, requests: 10000, idle: 60s }
//!   header:      { size: 64KiB, lines: 128, target: 8KiB, within: 10s }   # 431, 414, 408
//!   body:        { within: 5m, per_second: 512B, grace: 20s }             # 408
//!   answer:      { per_second: 512B, grace: 20s }                         # the connection is closed
//! ```
//!
//! These are the values where nothing is said. How large a body may be is said by a route's `body: { max: … }` or that of
//! `defaults`, with and without `Content-Length`. `per_address` counts IPv6 by /64, and not the connections of
//! `trusted_proxies` that name callers in a header. `grace` and `per_second` count the time that the gateway waits for the
//! client: whoever is further behind than `grace` is cut off, however many single bytes come. Of an answer counts what the client
//! has acknowledged, not what the kernel keeps for it.
//!
//! In HTTP/2 they count for each request, of which a connection has 100 under way at most; many answers on a slow connection
//! wait for one another, and none is too slow while the client takes as much of all of them as it would have to of one.
//! After `requests` a connection is told to end (GOAWAY). One that floods is ended at once (ENHANCE_YOUR_CALM), and counted in
//! `gwanmun_connections_cut_total`: by `frames` that ask for nothing, by `resets` of what it has asked for, by `malformed`
//! requests, or by a frame or header that is `slow` to come to its end, for which it has as long as `header.within`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::conf::{ByteSize, Describe, Json, Load, Node, Read, Schema, Schemas};
use crate::upstreams::Patience;

/// What one client may cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BoundsSettings {
    /// How many connections there may be, and for how long.
    pub connections: ConnectionBounds,
    /// What a request header may be.
    pub header: HeaderBounds,
    /// How slowly a request may come.
    pub body: BodyBounds,
    /// How slowly an answer may be taken.
    pub answer: AnswerBounds,
}

crate::settings! {
    /// What one client may cost before anything is known of it.
    struct BoundsAsWritten {
        /// How many connections there may be, and for how long.
        connections: ConnectionBounds = ConnectionBounds::default(),
        /// What a request header may be.
        header: HeaderBounds = HeaderBounds::default(),
        /// How slowly a request may come.
        body: BodyBounds = BodyBounds::default(),
        /// How slowly an answer may be taken.
        answer: AnswerBounds = AnswerBounds::default(),
    }
}

crate::settings! {
    /// How many connections there may be, and for how long.
    #[derive(PartialEq, Eq)]
    pub struct ConnectionBounds {
        /// Open at one time, in all; more are closed at once.
        pub open: NonZeroU32 = count(20_000),
        /// Of these, from one address; IPv6 counts by /64.
        pub per_address: NonZeroU32 = count(10_000),
        /// Requests on one connection; then it is closed.
        pub requests: NonZeroU32 = count(10_000),
        /// How long a connection may wait for its next request.
        pub idle: Patience = seconds(60),
    }
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self {
            open: count(20_000),
            per_address: count(10_000),
            requests: count(10_000),
            idle: seconds(60),
        }
    }
}

crate::settings! {
    /// What a request header may be.
    #[derive(PartialEq, Eq)]
    pub struct HeaderBounds {
        /// The request line and all fields; from 1KiB to 1000KiB. More is answered 431.
        pub size: HeaderSize = HeaderSize(ByteSize(64 << 10)),
        /// The fields, at most 256. More are answered 431.
        pub lines: Lines = Lines(count(128)),
        /// The target: path and query. A longer one is answered 414.
        pub target: ByteSize = ByteSize(8 << 10),
        /// From its first byte to its last. A slower one is answered 408.
        pub within: Patience = seconds(10),
    }
}

impl Default for HeaderBounds {
    fn default() -> Self {
        Self {
            size: HeaderSize(ByteSize(64 << 10)),
            lines: Lines(count(128)),
            target: ByteSize(8 << 10),
            within: seconds(10),
        }
    }
}

crate::settings! {
    /// How slowly a request may come.
    #[derive(PartialEq, Eq)]
    pub struct BodyBounds {
        /// The whole request, from its first byte to the last of its body. A slower one is answered 408.
        pub within: Patience = seconds(300),
        /// The least that has to come in each second of waiting for it.
        pub per_second: PerSecond = PerSecond(ByteSize(512)),
        /// How far behind that it may be.
        pub grace: Patience = seconds(20),
    }
}

impl Default for BodyBounds {
    fn default() -> Self {
        Self {
            within: seconds(300),
            per_second: PerSecond(ByteSize(512)),
            grace: seconds(20),
        }
    }
}

crate::settings! {
    /// How slowly an answer may be taken.
    #[derive(PartialEq, Eq)]
    pub struct AnswerBounds {
        /// The least that has to be taken in each second of waiting for that.
        pub per_second: PerSecond = PerSecond(ByteSize(512)),
        /// How far behind that a client may be.
        pub grace: Patience = seconds(20),
    }
}

impl Default for AnswerBounds {
    fn default() -> Self {
        Self {
            per_second: PerSecond(ByteSize(512)),
            grace: seconds(20),
        }
    }
}

/// Declares a setting that is another within bounds; the message says which.
macro_rules! within {
    ($(#[$about:meta])* $name:ident($inner:ty), $is_within:expr, $message:literal) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl Describe for $name {
            fn schema(schemas: &mut Schemas) -> Schema {
                <$inner>::schema(schemas)
            }

            fn written(&self) -> Option<Json> {
                self.0.written()
            }
        }

        impl Read for $name {
            fn read(node: &Node, load: &Load) -> Option<Self> {
                let read = <$inner>::read(node, load)?;
                let is_within: fn($inner) -> bool = $is_within;
                if !is_within(read) {
                    load.error(&node.place, $message);
                }
                Some(Self(read))
            }
        }
    };
}

within!(
    /// What Pingora can read, and what a browser's own header needs.
    HeaderSize(ByteSize),
    |size| (1 << 10..=1000 << 10).contains(&size.0),
    "a header is bounded from `1KiB` to `1000KiB`"
);
within!(
    /// What Pingora can read.
    Lines(NonZeroU32),
    |lines| lines.get() <= 256,
    "at most 256 header lines can be read"
);
within!(
    /// A rate above 0.
    PerSecond(ByteSize),
    |size| size.0 > 0,
    "a size above 0 is needed"
);

const fn count(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    }
}

const fn seconds(number: u64) -> Patience {
    Patience(Duration::from_secs(number))
}

impl Describe for BoundsSettings {
    fn schema(schemas: &mut Schemas) -> Schema {
        BoundsAsWritten::schema(schemas)
    }
}

impl Read for BoundsSettings {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let BoundsAsWritten {
            connections,
            header,
            body,
            answer,
        } = BoundsAsWritten::read(node, load)?;
        if !(64..=header.size.0.0).contains(&header.target.0) {
            let section = node.get("header").unwrap_or(node);
            let place = &section.get("target").unwrap_or(section).place;
            load.error(place, "the target is bounded from `64B` to the size of the header");
        }
        Some(Self {
            connections,
            header,
            body,
            answer,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<BoundsSettings, Vec<String>> {
        let load = Load::new();
        let node = load.text("t.yaml", yaml).unwrap();
        let read = BoundsSettings::read(&node, &load);
        let findings = load.into_findings(Some(&node));
        match findings.is_empty() {
            true => Ok(read.unwrap()),
            false => Err(findings.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_example_says_what_holds_where_nothing_is_said() {
        let example: String = include_str!("bounds.rs")
            .lines()
            .skip_while(|line| !line.contains("bounds:\n") && !line.ends_with("bounds:"))
            .skip(1)
            .take(4)
            .map(|line| line.trim_start_matches("//!").split('#').next().unwrap().to_owned() + "\n")
            .collect();
        assert!(example.contains("per_address"), "{example}");
        assert_eq!(read(&example), Ok(BoundsSettings::default()));
        assert_eq!(read("{}"), Ok(BoundsSettings::default()));
        let some = read("{ header: { lines: 20 }, body: { grace: 5s } }").unwrap();
        assert_eq!(some.header.lines, Lines(count(20)));
        assert_eq!(
            (some.header.size, some.body.grace),
            (HeaderSize(ByteSize(64 << 10)), seconds(5))
        );
    }

    #[test]
    fn points_at_bounds_that_cannot_be_kept() {
        let yaml = "header: { size: 2MiB, lines: 300 }\nbody: { per_second: 0B, grace: 0s }\nconnections: { open: 0, idle: 5 }\n";
        let found = read(yaml).unwrap_err();
        let at = |place: &str| found.iter().any(|line| line.starts_with(&format!("t.yaml:{place}: ")));
        for place in ["1:17", "1:30", "2:21", "2:32", "3:22", "3:31"] {
            assert!(at(place), "{place}: {found:#?}");
        }
        let found = read("header: { size: 1KiB, target: 2KiB }").unwrap_err();
        assert_eq!(
            found,
            ["t.yaml:1:31: the target is bounded from `64B` to the size of the header (at `header.target`)"]
        );
    }
}
