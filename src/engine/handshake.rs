//! What client and gateway have shown each other when their connection was made.

use std::collections::HashMap;
use std::sync::Arc;

use super::ClientCertificate;

/// What a handshake came to.
#[derive(Debug, Clone, Default)]
pub struct Handshake {
    /// The certificate that the client has shown.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The name that the client has asked for (RFC 6066 §3).
    pub name: Option<Box<str>>,
    /// For which hosts the listener's certificates are.
    pub hosts: Arc<Hosts>,
}

impl Handshake {
    /// Whether a request for the host belongs on another connection: the certificate that was shown on this one is not for it,
    /// and another of the listener's is. A host that none is for may come by any.
    pub fn misses(&self, host: &str) -> bool {
        let shown = self.hosts.find(self.name.as_deref());
        let mut fitting = self.hosts.fitting(host).peekable();
        fitting.peek().is_some() && fitting.all(|one| !shown.contains(&one))
    }
}

/// For which hosts each of a listener's certificates is, by its index.
#[derive(Debug, Default)]
pub struct Hosts(HashMap<Box<str>, Vec<usize>>);

impl Hosts {
    /// By the names of each certificate, in lower case, some with a leading `*.`.
    pub fn new<'a>(certificates: impl IntoIterator<Item = &'a [Box<str>]>) -> Self {
        let mut named: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (at, names) in certificates.into_iter().enumerate() {
            for name in names {
                named.entry(name.clone()).or_default().push(at);
            }
        }
        Self(named)
    }

    /// Those to choose among for a client: those that name what it asks for, else those with a wildcard for its first label
    /// (RFC 9525 §6.3), else the first of all.
    pub fn find(&self, name: Option<&str>) -> &[usize] {
        const FIRST: &[usize] = &[0];
        let Some(name) = name.map(str::to_ascii_lowercase) else {
            return FIRST;
        };
        let named = self.0.get(name.as_str()).or_else(|| self.wildcards(&name));
        named.map_or(FIRST, Vec::as_slice)
    }

    /// Those that are for a host in lower case.
    fn fitting(&self, host: &str) -> impl Iterator<Item = usize> {
        let named = self.0.get(host).into_iter().chain(self.wildcards(host));
        named.flatten().copied()
    }

    fn wildcards(&self, name: &str) -> Option<&Vec<usize>> {
        let (_, parent) = name.split_once('.')?;
        self.0.get(format!("*.{parent}").as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_what_another_certificate_is_for() {
        let names: [Vec<Box<str>>; 3] = [
            vec!["bank.example".into(), "www.bank.example".into()],
            vec!["*.shop.example".into()],
            vec!["pay.shop.example".into(), "bank.example".into()],
        ];
        let hosts = Arc::new(Hosts::new(names.iter().map(Vec::as_slice)));
        let misses = |name: Option<&str>, host: &str| {
            let handshake = Handshake {
                name: name.map(Into::into),
                hosts: hosts.clone(),
                ..Handshake::default()
            };
            handshake.misses(host)
        };
        for (name, host) in [
            (Some("www.bank.example"), "www.bank.example"),
            (Some("www.bank.example"), "bank.example"),
            (Some("BANK.example"), "www.bank.example"),
            (Some("a.shop.example"), "b.shop.example"),
            (Some("pay.shop.example"), "bank.example"),
            (None, "bank.example"),
            (Some("nobody.example"), "bank.example"),
            // Which none is for.
            (Some("bank.example"), "nobody.example"),
            (Some("bank.example"), "a.b.shop.example"),
            (None, "127.0.0.1"),
        ] {
            assert!(!misses(name, host), "{name:?} {host}");
        }
        for (name, host) in [
            (Some("bank.example"), "a.shop.example"),
            (Some("a.shop.example"), "bank.example"),
            (Some("pay.shop.example"), "a.shop.example"),
            (Some("www.bank.example"), "pay.shop.example"),
            (None, "a.shop.example"),
            (Some("nobody.example"), "a.shop.example"),
        ] {
            assert!(misses(name, host), "{name:?} {host}");
        }
    }
}
