//! `listen`: where requests are accepted, and how connections are encrypted there.
//!
//! ```yaml
//! listen:
//!   - address: 0.0.0.0:8080
//!     http2: false                                # true where nothing is said
//!   - address: 0.0.0.0:8443
//!     tls:
//!       certificate: certs/bank.pem               # the chain, the server's own certificate first
//!       key: certs/bank.key
//!       also: [{ certificate: certs/shop.pem, key: certs/shop.key }]
//!       min_version: tls1.3                       # tls1.2 where nothing is said
//!       clients: { authorities: certs/partners-ca.pem, required: true }
//! ```
//!
//! HTTP/2 is spoken besides HTTP/1.1 unless `http2: false` says otherwise: with TLS, where `tls` says it, as agreed on in the
//! handshake (ALPN); without, with a client that begins with its preface (RFC 9113 §3.3: `curl --http2-prior-knowledge`, gRPC
//! in the clear). Nobody is asked to change over: `Upgrade: h2c` is not listened to.
//!
//! Which certificate is shown is chosen by the name that the client asks for (SNI, RFC 6066 §3): one that names it, then one
//! with a fitting wildcard, else the first; of several for one name the first whose kind of key the client knows. A request for a
//! host that this one is not for, and another of the listener's is, belongs on a connection of its own: 421 `misdirected`
//! (RFC 9110 §15.5.20). A host that none of them is for may come by any.
//!
//! Certificates and keys are read again when their files change; connections that are open keep theirs. A certificate that has
//! run out, or will within 14 days, is a warning: a restart must not take the gate down. A connection is closed before the next
//! request once the certificate that its client came in by has run out, also where a ticket stands for that.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use rustls::SupportedCipherSuite;
use rustls::crypto::{self, CryptoProvider};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{GeneralName, X509Certificate};

use crate::conf::{Certificates, Describe, Json, Load, Node, Place, PrivateKey, Read, Schema, Schemas, Spanned, Value};

/// An address that requests are accepted on.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address with its port.
    pub address: SocketAddr,
    /// Whether a client may begin with the preface of HTTP/2, where connections are not encrypted.
    pub http2: bool,
    /// How connections are encrypted; `None` where they are not.
    pub tls: Option<Arc<ListenTls>>,
}

/// TLS on one listener.
#[derive(Debug)]
pub struct ListenTls {
    /// The first is for clients that ask for no name, or for one that no certificate has.
    pub certificates: Vec<NamedCertificate>,
    /// Whether TLS 1.2 is spoken besides 1.3.
    pub has_tls12: bool,
    /// The cipher suites, best first.
    pub suites: Vec<SupportedCipherSuite>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Who may connect.
    pub clients: Option<ClientCertificates>,
}

/// A certificate with its key, and the names that it is for.
#[derive(Debug, Clone)]
pub struct NamedCertificate {
    /// The chain and its key.
    pub certified: Arc<CertifiedKey>,
    /// DNS names in lower case, some with a leading `*.`.
    pub names: Vec<Box<str>>,
}

/// Which certificates of clients are good.
#[derive(Debug, Clone)]
pub struct ClientCertificates {
    /// Judges them.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// A text that is the same for settings that judge alike.
    pub fingerprint: Arc<str>,
}

/// Reports addresses that two listeners, or a listener and the admin, would both take.
pub(super) fn check_addresses(document: &Node, load: &Load) {
    let listeners = match document.get("listen").map(|node| &node.value) {
        Some(Value::List(listeners)) => listeners.as_slice(),
        _ => &[],
    };
    let written = listeners.iter().chain(document.get("admin"));
    let mut known: Vec<(SocketAddr, &Node)> = Vec::new();
    for node in written.filter_map(|node| node.get("address")) {
        let Value::Scalar { text, .. } = &node.value else {
            continue;
        };
        // Port 0 is another one each time.
        let Some(address) = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0) else {
            continue;
        };
        if let Some((other, first)) = known.iter().find(|(other, _)| share(*other, address)) {
            let message = format!("`{address}` is taken by `{other}` already");
            load.error_with(&node.place, message, &first.place, "which stands here");
        }
        known.push((address, node));
    }
}

/// Whether a connection could be meant for both.
fn share(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (one.ip() == other.ip() || is_any)
}

crate::settings! {
    /// An address that requests are accepted on.
    pub(super) struct ListenSettings {
        /// The address with its port; port 0 lets the system choose.
        pub(super) address: SocketAddr,
        /// Whether HTTP/2 is spoken besides HTTP/1.1 without TLS, with clients that begin with its preface; true where nothing is said.
        http2: Option<Spanned<bool>>,
        /// Encrypts connections; without it they are plain.
        tls: Option<TlsSettings>,
    }
}

crate::settings! {
    /// How connections are encrypted.
    struct TlsSettings {
        /// The chain of certificates, the server's own first.
        certificate: Certificates,
        /// The key of the server's own certificate.
        key: PrivateKey,
        /// Certificates for other names; which one is shown depends on the name that the client asks for.
        also: Vec<PairSettings> = Vec::new(),
        /// The oldest version spoken.
        min_version: Version = Version::Tls12,
        /// The cipher suites, best first; without it all that are sound.
        suites: Option<Vec<Spanned<Suite>>>,
        /// Whether HTTP/2 is offered besides HTTP/1.1.
        http2: bool = true,
        /// Asks clients for certificates.
        clients: Option<ClientSettings>,
    }
}

crate::settings! {
    /// A certificate and its key.
    struct PairSettings {
        /// The chain of certificates, the server's own first.
        certificate: Certificates,
        /// The key of the server's own certificate.
        key: PrivateKey,
    }
}

crate::settings! {
    /// Which certificates of clients are good.
    struct ClientSettings {
        /// Who signs them.
        authorities: Certificates,
        /// Whether a client without one is turned away; otherwise it is a client like any other.
        required: bool = true,
    }
}

crate::words! {
    /// A version of TLS.
    enum Version {
        /// TLS 1.2 (RFC 5246).
        Tls12 = "tls1.2",
        /// TLS 1.3 (RFC 8446).
        Tls13 = "tls1.3",
    }
}

/// A cipher suite by the name of its registration, such as `TLS13_AES_128_GCM_SHA256`.
#[derive(Debug, Clone, Copy)]
struct Suite(SupportedCipherSuite);

fn suites() -> impl Iterator<Item = (String, SupportedCipherSuite)> {
    let named = |suite: &SupportedCipherSuite| suite.suite().as_str().map(|name| (name.to_owned(), *suite));
    crypto::ring::ALL_CIPHER_SUITES.iter().filter_map(named)
}

impl Describe for Suite {
    fn schema(_: &mut Schemas) -> Schema {
        let names: Vec<Json> = suites().map(|(name, _)| name.into()).collect();
        Schema::anything().with("enum", names)
    }
}

impl Read for Suite {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let name = node.text("a cipher suite", load)?;
        let found = suites().find(|(known, _)| known == name);
        if found.is_none() {
            let known: Vec<String> = suites().map(|(name, _)| name).collect();
            load.unknown_name("cipher suite", name, &node.place, known.iter().map(String::as_str));
        }
        found.map(|(_, suite)| Self(suite))
    }
}

impl ListenSettings {
    /// What is listened on. Keys that cannot be read now are left to `unfetched`, each with its place.
    pub(super) fn compile(self, now: Timestamp, load: &Load, unfetched: &mut Vec<(Place, String)>) -> Listen {
        if let (Some(written), Some(_)) = (&self.http2, &self.tls) {
            load.error(&written.place, "with `tls`, `http2` is said there");
        }
        let tls = self.tls.and_then(|tls| tls.compile(now, load, unfetched));
        Listen {
            address: self.address,
            http2: self.http2.is_none_or(|http2| http2.value),
            tls: tls.map(Arc::new),
        }
    }
}

impl TlsSettings {
    fn compile(self, now: Timestamp, load: &Load, unfetched: &mut Vec<(Place, String)>) -> Option<ListenTls> {
        let provider = Arc::new(crypto::ring::default_provider());
        let mut certificates: Vec<NamedCertificate> = Vec::new();
        let own = PairSettings {
            certificate: self.certificate,
            key: self.key,
        };
        for pair in [own].into_iter().chain(self.also) {
            certificates.extend(pair.compile(now, load, unfetched));
        }
        let has_tls12 = self.min_version == Version::Tls12;
        let suites = match &self.suites {
            None => provider.cipher_suites.clone(),
            Some(named) => {
                if !has_tls12 && let Some(old) = named.iter().find(|suite| suite.value.0.tls13().is_none()) {
                    let name = old.value.0.suite().as_str().unwrap_or_default();
                    load.error(
                        &old.place,
                        format!("`{name}` is a suite of TLS 1.2, which `min_version` leaves out"),
                    );
                }
                named.iter().map(|suite| suite.value.0).collect()
            }
        };
        if suites.iter().all(|suite| suite.tls13().is_none())
            && let Some(first) = self.suites.as_ref().and_then(|suites| suites.first())
        {
            load.error(&first.place, "at least one suite of TLS 1.3 is needed");
        }
        let clients = match self.clients {
            None => None,
            Some(clients) => Some(clients.compile(&provider, load)?),
        };
        // Without any certificate, for want of a key, no handshake succeeds; the listener must not be taken for a plain one.
        Some(ListenTls {
            certificates,
            has_tls12,
            suites,
            http2: self.http2,
            clients,
        })
    }
}

impl PairSettings {
    fn compile(&self, now: Timestamp, load: &Load, unfetched: &mut Vec<(Place, String)>) -> Option<NamedCertificate> {
        let names = self
            .certificate
            .own(now, load)
            .map(|own| names(&own, &self.certificate.place, load));
        let pair = self.key.pair(&self.certificate, load, unfetched)?;
        Some(NamedCertificate {
            certified: Arc::new(pair.certified),
            names: names?,
        })
    }
}

/// The names that a server's certificate is for.
fn names(certificate: &X509Certificate<'_>, place: &Place, load: &Load) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    if let Ok(Some(listed)) = certificate.subject_alternative_name() {
        for name in &listed.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase().into());
            }
        }
        if listed.value.general_names.is_empty() {
            load.warn(place, "the certificate is for no name at all");
        }
    } else {
        load.warn(
            place,
            "the certificate has no subject alternative names: clients will not accept it",
        );
    }
    names
}

impl ClientSettings {
    fn compile(&self, provider: &Arc<CryptoProvider>, load: &Load) -> Option<ClientCertificates> {
        let place = &self.authorities.place;
        let roots = self.authorities.roots(load)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = match self.required {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        match builder.build() {
            Ok(verifier) => Some(ClientCertificates {
                verifier,
                fingerprint: fingerprint(&self.authorities, self.required),
            }),
            Err(error) => {
                load.error(place, format!("clients cannot be judged by these: {error}"));
                None
            }
        }
    }
}

fn fingerprint(authorities: &Certificates, required: bool) -> Arc<str> {
    let mut hash = Context::new(&SHA256);
    for authority in &authorities.all {
        hash.update(&(authority.len() as u64).to_le_bytes());
        hash.update(authority);
    }
    format!("{required} {:?}", hash.finish()).into()
}
