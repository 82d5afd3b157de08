//! How many connections there are, and whose.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Why a connection was closed before a byte of HTTP was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// There are too many.
    Total,
    /// There are too many from its address.
    Address,
    /// What came was no PROXY header, or came from nobody who may send one.
    Proxy,
}

/// Why a connection in HTTP/2 is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Too many frames that ask for nothing.
    Frames,
    /// Too many requests that were taken back.
    Resets,
    /// Too many requests that are none, or what is no HTTP/2 at all.
    Malformed,
    /// A frame or a header that does not come to its end.
    Slow,
}

/// The open connections of one front, and those that were turned away.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    turned: [AtomicU64; 3],
    cut: [AtomicU64; 4],
}

impl Connections {
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Since the start, by reason.
    pub fn turned_away(&self) -> [(&'static str, u64); 3] {
        let [total, address, proxy] = &self.turned;
        [("total", total), ("address", address), ("proxy_protocol", proxy)]
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    pub fn turn_away(&self, why: Turned) {
        if let Some(count) = self.turned.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Connections in HTTP/2 that were ended for what came on them, since the start, by reason.
    pub fn cut_off(&self) -> [(&'static str, u64); 4] {
        let [frames, resets, malformed, slow] = &self.cut;
        [
            ("frames", frames),
            ("resets", resets),
            ("malformed", malformed),
            ("slow", slow),
        ]
        .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    pub fn cut(&self, why: Cut) {
        if let Some(count) = self.cut.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one more until what is returned is dropped; `None` where there are `most` already.
    pub fn enter(&self, most: usize) -> Option<Entered<'_>> {
        let entered = Entered(&self.open);
        if self.open.fetch_add(1, Ordering::Relaxed) < most {
            return Some(entered);
        }
        drop(entered);
        self.turn_away(Turned::Total);
        None
    }

    /// The same for those of one address.
    pub fn enter_from(&self, address: IpAddr, most: usize) -> Option<EnteredFrom<'_>> {
        let network = network(address);
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(network).or_default();
        if *count >= most {
            self.turn_away(Turned::Address);
            return None;
        }
        *count += 1;
        Some(EnteredFrom {
            connections: self,
            network,
        })
    }
}

/// Whoever has an IPv6 address has a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// A connection that counts.
pub(super) struct Entered<'a>(&'a AtomicUsize);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that counts among those of its address.
pub(super) struct EnteredFrom<'a> {
    connections: &'a Connections,
    network: IpAddr,
}

impl Drop for EnteredFrom<'_> {
    fn drop(&mut self) {
        let mut by_address = self.connections.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                by_address.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_those_of_an_address() {
        let connections = Connections::default();
        let first = connections.enter(2).unwrap();
        let _second = connections.enter(2).unwrap();
        assert!(connections.enter(2).is_none());
        drop(first);
        assert_eq!(connections.open(), 1);
        let of = |address: &str| connections.enter_from(address.parse().unwrap(), 1);
        let held = of("2001:db8::1").unwrap();
        assert!(of("2001:db8::ffff").is_none(), "the same /64");
        let others = (of("2001:db8:0:1::1"), of("192.0.2.1"));
        assert!(others.0.is_some() && others.1.is_some() && of("::ffff:192.0.2.1").is_none());
        drop(held);
        assert!(of("2001:db8::ffff").is_some());
        drop(others);
        assert!(connections.by_address.lock().is_empty());
        assert_eq!(
            connections.turned_away(),
            [("total", 1), ("address", 2), ("proxy_protocol", 0)]
        );
    }
}
