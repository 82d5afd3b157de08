//! The settings of the gateway itself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::conf::{Describe, Load, Node, Place, Read, Schema, Schemas, Secret, Spanned};

/// The admin listener: metrics, health, and for those who hold its token the admin API.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Its address: loopback, as it speaks no TLS.
    pub address: SocketAddr,
    /// What the admin API asks for; without one it is closed.
    pub token: Option<AdminToken>,
    /// Where the token is named, and why it could not be fetched.
    pub unfetched: Option<(Place, String)>,
}

crate::settings! {
    /// The admin listener: metrics, health, and for those who hold its token the admin API.
    struct AdminAsWritten {
        /// Its address: loopback, as it speaks no TLS.
        address: SocketAddr,
        /// What the admin API asks for, at least 32 characters; without a token it is closed.
        token: Option<Secret>,
    }
}

/// The token of the admin API. It is in no log, and wiped when dropped.
#[derive(Clone)]
pub struct AdminToken(Arc<Zeroizing<Vec<u8>>>);

impl AdminToken {
    /// A token of at least 32 visible ASCII characters. The error is the rest of a sentence, without the token.
    pub fn new(token: Zeroizing<Vec<u8>>) -> Result<Self, String> {
        const LEAST: usize = 32;
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err("cannot be sent in a header: it is to be visible ASCII without spaces".into());
        }
        if token.len() < LEAST {
            return Err(format!("is shorter than {LEAST} characters and can be guessed"));
        }
        Ok(Self(Arc::new(token)))
    }

    /// Whether `presented` is this token. How long that takes tells nothing of where they differ.
    pub fn is(&self, presented: &[u8]) -> bool {
        let digest = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes);
        let (held, presented) = (digest(&self.0), digest(presented));
        held.as_ref().ct_eq(presented.as_ref()).into()
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken")
    }
}

/// The path of the state folder, joined to the directory of the configuration file that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatePath(pub PathBuf);

impl Describe for StatePath {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[\s\S]+$")
    }
}

impl Read for StatePath {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("the path of a folder", load, |text| match text {
            "" => Err("is not the path of a folder".into()),
            _ => Ok(Self(node.place.directory().join(text))),
        })
    }
}

impl Describe for AdminSettings {
    fn schema(schemas: &mut Schemas) -> Schema {
        AdminAsWritten::schema(schemas)
    }
}

impl Read for AdminSettings {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let AdminAsWritten { address, token: secret } = AdminAsWritten::read(node, load)?;
        let (mut token, mut unfetched) = (None, None);
        if let Some(secret) = &secret {
            match secret.fetch() {
                Ok(bytes) => match AdminToken::new(bytes) {
                    Ok(fetched) => token = Some(fetched),
                    Err(error) => load.error(secret.place(), format!("the token {error}")),
                },
                Err(reason) => {
                    load.warn(secret.place(), reason.clone());
                    unfetched = Some((secret.place().clone(), reason));
                }
            }
        }
        if !address.ip().is_loopback() {
            load.error(
                &node.place,
                format!("the admin address `{address}` is not a loopback address"),
            );
            return None;
        }
        Some(Self {
            address,
            token,
            unfetched,
        })
    }
}

/// Whose word on the caller's address is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxies {
    from: Vec<IpNet>,
    /// `None` where they speak the PROXY protocol.
    header: Option<HeaderName>,
}

crate::settings! {
    /// Whose word on the caller's address is believed.
    struct TrustedAsWritten {
        /// The networks of the proxies in front of the gateway.
        from: Vec<Spanned<IpNet>>,
        /// The one header that is read, such as `x-forwarded-for`; its right-most address that is no proxy's counts.
        header: Option<HeaderName>,
        /// Says that the proxies forward bytes: every connection begins with a header of the PROXY protocol, version 1 or 2,
        /// and comes from one of them.
        proxy_protocol: Option<ProxyProtocol>,
    }
}

crate::words! {
    /// Whether connections begin with a header of the PROXY protocol.
    enum ProxyProtocol {
        /// Every one; others are closed.
        Required = "required",
    }
}

impl Describe for TrustedProxies {
    fn schema(schemas: &mut Schemas) -> Schema {
        TrustedAsWritten::schema(schemas)
    }
}

impl Read for TrustedProxies {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let TrustedAsWritten {
            from,
            header,
            proxy_protocol,
        } = TrustedAsWritten::read(node, load)?;
        if header.is_some() == proxy_protocol.is_some() {
            let message =
                "proxies name the caller in one `header`, or by `proxy_protocol: required`: one of the two is needed";
            load.error(&node.place, message);
        }
        for network in from.iter().filter(|network| network.value.prefix_len() == 0) {
            load.error(
                &network.place,
                "trusting every address lets every caller choose its own",
            );
        }
        let from = from.into_iter().map(|network| network.value).collect();
        Some(Self { from, header })
    }
}

impl TrustedProxies {
    /// The header that is read; `None` where they speak the PROXY protocol.
    pub fn header(&self) -> Option<&HeaderName> {
        self.header.as_ref()
    }

    /// Their networks.
    pub fn from(&self) -> &[IpNet] {
        &self.from
    }

    /// Whether this address belongs to a trusted proxy.
    pub fn trusts(&self, address: &IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(address))
    }

    /// The caller's address: of the listed ones the right-most that is not a trusted proxy's. `values` are the header's
    /// lines in order. `None` where the list has none, or an entry before it is not an address.
    pub fn caller<'v>(&self, values: impl DoubleEndedIterator<Item = &'v [u8]>) -> Option<IpAddr> {
        for value in values.rev() {
            let text = std::str::from_utf8(value).ok()?;
            for entry in text.rsplit(',') {
                let address = parse_address(entry.trim())?;
                if !self.trusts(&address) {
                    return Some(address);
                }
            }
        }
        None
    }
}

/// An address, with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .parse::<IpAddr>()
        .or_else(|_| text.trim_matches(['[', ']']).parse());
    let address = bare
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believes_the_rightmost_address_that_no_trusted_proxy_has() {
        let load = Load::new();
        let node = load
            .text("t.yaml", "{ from: [10.0.0.0/8], header: x-forwarded-for }")
            .unwrap();
        let trusted = TrustedProxies::read(&node, &load).unwrap();
        let caller = |values: &[&str]| trusted.caller(values.iter().map(|value| value.as_bytes()));
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(caller(&["6.6.6.6, 192.0.2.1, 10.0.0.2"]), ip("192.0.2.1"));
        assert_eq!(caller(&["6.6.6.6", "192.0.2.7:4711"]), ip("192.0.2.7"));
        assert_eq!(caller(&["[2001:db8::1]:443,10.1.1.1"]), ip("2001:db8::1"));
        assert_eq!(caller(&["192.0.2.1, unknown"]), None);
        assert_eq!(caller(&["10.0.0.1"]), None);
    }
}
