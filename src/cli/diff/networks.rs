//! Addresses that lie in networks in every way there is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::axes::{Choice, once};

/// One address for each way to lie inside and outside the conditions' networks. Networks nest or are disjoint, so that the
/// first address of each, the ones beside it and the last one come by every way there is.
pub(super) fn addresses(conditions: &[&Vec<IpNet>], elsewhere: IpAddr) -> Vec<Choice> {
    let mut found: Vec<(Vec<bool>, IpAddr, Vec<IpNet>)> = Vec::new();
    let inside = |address: &IpAddr| -> Vec<bool> {
        let holds = |networks: &&Vec<IpNet>| networks.iter().any(|network| network.contains(address));
        conditions.iter().map(holds).collect()
    };
    let mut networks: Vec<IpNet> = once(conditions.iter().flat_map(|networks| networks.iter()));
    networks.sort_by_key(|network| std::cmp::Reverse(network.prefix_len()));
    let ends = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        elsewhere,
    ];
    let around = networks.iter().flat_map(|network| {
        let (first, last) = (network.network(), network.broadcast());
        [Some(first), Some(last), beside(first, false), beside(last, true)]
            .into_iter()
            .flatten()
    });
    for address in [elsewhere].into_iter().chain(around).chain(ends) {
        let signature = inside(&address);
        let most_specific = networks.iter().find(|network| network.contains(&address)).copied();
        match found.iter_mut().find(|(known, ..)| *known == signature) {
            Some((_, _, named)) => {
                named.extend(most_specific.filter(|network| !named.contains(network)));
            }
            None => found.push((signature, address, most_specific.into_iter().collect())),
        }
    }
    // What lies outside of all is called so, whichever networks it lies between.
    let words = |network: &IpNet, signature: &Vec<bool>| {
        let inner = networks
            .iter()
            .filter(|inner| *inner != network && network.contains(*inner));
        let apart = inner.filter(|inner| inside(&inner.network()) != *signature);
        let apart: Vec<String> = apart.map(ToString::to_string).collect();
        match apart.is_empty() {
            true => network.to_string(),
            false => format!("{network} without {}", apart.join(", ")),
        }
    };
    let choice = |(signature, address, named): &(Vec<bool>, IpAddr, Vec<IpNet>)| {
        let named = named.iter().filter(|_| signature.contains(&true));
        Choice::Address(*address, named.map(|network| words(network, signature)).collect())
    };
    found.iter().map(choice).collect()
}

/// The address before or after this one.
fn beside(address: IpAddr, after: bool) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let bits = u32::from(address);
            let bits = if after {
                bits.checked_add(1)
            } else {
                bits.checked_sub(1)
            };
            bits.map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            let bits = if after {
                bits.checked_add(1)
            } else {
                bits.checked_sub(1)
            };
            bits.map(|bits| IpAddr::V6(bits.into()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_lie_in_networks_comes_up_once() {
        let networks = |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        let one = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        let two = networks(&["10.0.0.0/9", "10.255.0.0/16", "0.0.0.0/0"]);
        let three = networks(&["10.255.255.255/32", "::/0"]);
        let conditions = [&one, &two, &three];
        let mut seen = Vec::new();
        for choice in addresses(&conditions, elsewhere) {
            let Choice::Address(address, _) = choice else { continue };
            let signature = conditions.map(|networks| networks.iter().any(|network| network.contains(&address)));
            assert!(!seen.contains(&signature));
            seen.push(signature);
        }
        // Whatever address is asked about, one like it was tried.
        let bits = (0_u32..1 << 16).map(|at| at.wrapping_mul(2_654_435_761));
        let asked = bits.map(|bits| IpAddr::V4(bits.into()));
        let near = [
            "10.255.255.255",
            "10.0.0.0",
            "10.127.255.255",
            "10.128.0.0",
            "11.0.0.0",
            "::1",
            "2001:db8::7",
        ];
        for address in asked.chain(near.map(|text| text.parse().unwrap())) {
            let signature = conditions.map(|networks| networks.iter().any(|network| network.contains(&address)));
            assert!(seen.contains(&signature), "{address}");
        }
    }
}
