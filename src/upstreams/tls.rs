//! `tls` on an upstream: encrypted connections to endpoints that prove who they are.
//!
//! ```yaml
//! upstreams:
//!   accounts:
//!     endpoints: [10.0.0.1:8443, 10.0.0.2:8443]
//!     tls:
//!       server_name: accounts.internal            # what the endpoints' certificates have to be for
//!       authorities: certs/internal-ca.pem        # who signs them; the system's authorities where nothing is said
//!       certificate: certs/gate.pem               # shown to endpoints that ask who calls
//!       key: certs/gate.key
//! ```
//!
//! Every connection is verified: the chain, the name and the time; there is no word to turn that off. TLS 1.2 and 1.3 are
//! spoken, and of HTTP what `protocol` says, agreed on by ALPN (RFC 7301). Files are read again when they change; a connection
//! that was made by other settings carries no further request. Health checks and the parts of aggregates take the same way,
//! and say `server_name` as their `Host`.
//!
//! An endpoint that cannot be trusted is sent nothing: `502 upstream-unreachable`, for retries and the breaker a failed connect.
//! The record says why in `upstream.fault`: `certificate-expired`, `certificate-not-yet-valid`, `certificate-of-another`,
//! `certificate-untrusted`, `certificate-invalid`, `certificate-refused` (the gate's own, by the endpoint) or `handshake`.
//! Sources: RFC 5280, RFC 6066 §3, RFC 9525.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use pingora::ErrorType;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use ring::digest::{Context, SHA256};
use rustls::pki_types::{self, CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::conf::{Certificates, Describe, Json, Load, Node, Place, PrivateKey, Read, Schema, Schemas};

crate::settings! {
    /// How connections to the endpoints are encrypted. They are always verified.
    #[derive(PartialEq)]
    pub struct UpstreamTlsSettings {
        /// The name that the endpoints' certificates have to be for.
        pub server_name: ServerName,
        /// Who signs them; without it the authorities that the system trusts.
        pub authorities: Option<Certificates>,
        /// What is shown to endpoints that ask who calls: a chain of certificates, the gate's own first.
        pub certificate: Option<Certificates>,
        /// The key of that certificate.
        pub key: Option<PrivateKey>,
    }
}

/// A DNS name in lower case, or an address: what a certificate can be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName(pub String);

impl Describe for ServerName {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like("^[A-Za-z0-9:.-]{1,253}$").examples(["accounts.internal"])
    }

    fn written(&self) -> Option<Json> {
        self.0.written()
    }
}

impl Read for ServerName {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a name such as `accounts.internal`", load, |text| {
            // Pingora would ask for a name with `_` under another spelling.
            let is_plain = !text.contains('_') && !text.ends_with('.');
            match pki_types::ServerName::try_from(text) {
                Ok(_) if is_plain => Ok(Self(text.to_ascii_lowercase())),
                _ => Err("is no name that a certificate can be for".into()),
            }
        })
    }
}

/// How connections to the endpoints of one upstream are encrypted.
#[derive(Clone)]
pub struct UpstreamTls {
    server_name: String,
    authorities: Option<Arc<CaType>>,
    own: Option<Arc<CertKey>>,
    /// Stands for all of it where connections are kept: Pingora itself looks at neither authorities nor keys there.
    seal: u64,
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS to `{}`", self.server_name)
    }
}

impl UpstreamTlsSettings {
    /// Keys that cannot be read now are left to `unfetched`, each with its place.
    pub(super) fn compile(&self, now: Timestamp, load: &Load, unfetched: &mut Vec<(Place, String)>) -> UpstreamTls {
        let own = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => own(certificate, key, now, load, unfetched),
            (Some(certificate), None) => {
                load.error(&certificate.place, "a certificate is of no use without its `key`");
                None
            }
            (None, Some(key)) => {
                load.error(key.place(), "a key is of no use without its `certificate`");
                None
            }
            (None, None) => None,
        };
        let authorities = self.authorities.as_ref();
        UpstreamTls {
            authorities: authorities.and_then(|authorities| trusted(authorities, load)),
            own,
            seal: self.seal(),
            server_name: self.server_name.0.clone(),
        }
    }

    fn seal(&self) -> u64 {
        let mut hash = Context::new(&SHA256);
        for listed in [&self.authorities, &self.certificate] {
            let all = listed.as_ref().map_or(&[][..], |listed| &listed.all);
            hash.update(&(all.len() as u64).to_le_bytes());
            for certificate in all {
                hash.update(&(certificate.len() as u64).to_le_bytes());
                hash.update(certificate);
            }
        }
        let first = hash.finish().as_ref().first_chunk().copied();
        u64::from_le_bytes(first.unwrap_or_default())
    }
}

fn own(
    certificate: &Certificates,
    key: &PrivateKey,
    now: Timestamp,
    load: &Load,
    unfetched: &mut Vec<(Place, String)>,
) -> Option<Arc<CertKey>> {
    certificate.own(now, load)?;
    let pair = key.pair(certificate, load, unfetched)?;
    let chain = readable(certificate, load)?;
    let der = pair.key.secret_der();
    // Pingora has to tell from the bytes which kind of key it is.
    if PrivateKeyDer::try_from(der).is_err() {
        load.error(key.place(), "the key cannot be used");
        return None;
    }
    Some(Arc::new(CertKey::new(chain, der.to_vec())))
}

/// The authorities, as far as rustls can build on them.
fn trusted(authorities: &Certificates, load: &Load) -> Option<Arc<CaType>> {
    authorities.roots(load)?;
    let wrapped = readable(authorities, load)?
        .into_iter()
        .map(|certificate| WrappedX509::new(certificate, parse_x509));
    Some(wrapped.collect())
}

/// What Pingora will parse once more, and panic over if it cannot.
fn readable(certificates: &Certificates, load: &Load) -> Option<Vec<Vec<u8>>> {
    let is_readable = |certificate: &CertificateDer<'_>| X509Certificate::from_der(certificate).is_ok();
    if !certificates.all.iter().all(is_readable) {
        load.error(&certificates.place, "one of the certificates cannot be read");
        return None;
    }
    Some(
        certificates
            .all
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    )
}

impl UpstreamTls {
    /// Has connections to `peer` encrypted.
    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        peer.options.ca.clone_from(&self.authorities);
        peer.client_cert_key.clone_from(&self.own);
        peer.group_key = self.seal;
    }

    /// The name that is asked for. Never empty: Pingora takes an empty one as leave not to verify.
    pub(super) fn server_name(&self) -> &str {
        &self.server_name
    }

    /// What requests from inside say as their `Host`.
    pub(super) fn authority(&self, port: u16) -> String {
        let name = match self.server_name.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.server_name.clone(),
        };
        if port == 443 { name } else { format!("{name}:{port}") }
    }
}

/// Why an endpoint and the gate do not trust each other, in a word; `None` where something else went wrong.
pub fn distrust(error: &pingora::Error) -> Option<&'static str> {
    // Pingora keeps of rustls' error its text alone; a refusal of our certificate may come with the first answer (RFC 8446 §4.4.2).
    let is_handshake = matches!(
        error.etype(),
        ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout | ErrorType::InvalidCert
    );
    if !is_handshake
        && !matches!(
            error.etype(),
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error
        )
    {
        return None;
    }
    let text = error.to_string();
    if let Some((_, alert)) = text.split_once("received fatal alert: ") {
        // The last says that a signature is none of the authority that is named, or of the key.
        const OURS: [&str; 3] = ["UnknownCA", "AccessDenied", "DecryptError"];
        let name = alert
            .split(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default();
        if name.contains("Certificate") || OURS.contains(&name) {
            return Some("certificate-refused");
        }
    }
    if !is_handshake {
        return None;
    }
    let Some((_, fault)) = text.split_once("invalid peer certificate: ") else {
        return Some("handshake");
    };
    let words = [
        ("certificate expired", "certificate-expired"),
        ("certificate not valid yet", "certificate-not-yet-valid"),
        ("certificate not valid for name", "certificate-of-another"),
        ("UnknownIssuer", "certificate-untrusted"),
        // An authority of the same name.
        ("BadSignature", "certificate-untrusted"),
    ];
    let known = words.into_iter().find(|(prefix, _)| fault.starts_with(prefix));
    Some(known.map_or("certificate-invalid", |(_, word)| word))
}
