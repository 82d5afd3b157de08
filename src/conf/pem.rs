//! Certificates and private keys in PEM files (RFC 7468), named relative to the file that names them.

use std::fmt;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Describe, Load, Node, Place, Read, Schema, Schemas, Secret};

/// More certificates in one file are no chain.
const MAX_CERTIFICATES: usize = 256;

/// The certificates of a PEM file, in its order; at least one.
#[derive(Clone)]
pub struct Certificates {
    /// As DER.
    pub all: Vec<CertificateDer<'static>>,
    /// Where the file is named.
    pub place: Place,
}

/// The same certificates, wherever they are named.
impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Certificates {}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates named at {}", self.all.len(), self.place)
    }
}

impl Describe for Certificates {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Certificates", |_| {
            Schema::scalar_like(r"^[\s\S]+$")
                .about("The path of a PEM file with certificates.")
                .examples(["certs/bank.pem"])
        })
    }
}

impl Read for Certificates {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let name = node.text("the path of a PEM file with certificates", load)?;
        if name.is_empty() {
            load.error(&node.place, "the path of a PEM file with certificates is missing");
            return None;
        }
        let source = load.named_file(name, &node.place)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(source.text.as_bytes()).collect();
        let wrong = match read {
            Ok(all) if all.is_empty() => "has no certificate in it",
            Ok(all) if all.len() > MAX_CERTIFICATES => "has too many certificates in it",
            Ok(all) => {
                let place = node.place.clone();
                return Some(Self { all, place });
            }
            Err(_) => "has a certificate in it that is not PEM",
        };
        load.error(&node.place, format!("`{name}` {wrong}"));
        None
    }
}

/// A private key: the path of a PEM file, or `${env:NAME}` or `${file:PATH}`. Fetched when a snapshot is made; the same as
/// another where it is named alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateKey(Secret);

impl PrivateKey {
    /// Where it is named.
    pub fn place(&self) -> &Place {
        self.0.place()
    }

    /// The key. The error says what is missing or wrong, never what stands there.
    pub fn fetch(&self) -> Result<PrivateKeyDer<'static>, KeyFault> {
        self.0.private_key()
    }
}

impl Secret {
    /// The private key that it is, as PEM. The error says what is missing or wrong, never what stands there.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, KeyFault> {
        let bytes = self.fetch().map_err(KeyFault::Missing)?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| KeyFault::NoKey)
    }
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// It cannot be read now.
    #[error("{0}")]
    Missing(String),
    /// It is there, and is none.
    #[error("there is no private key as PEM (PKCS #8, PKCS #1 or SEC 1), or it is encrypted")]
    NoKey,
}

impl Describe for PrivateKey {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("PrivateKey", |_| {
            Schema::scalar_like(r"^[\s\S]+$")
                .about("The path of a PEM file with a private key, or `${env:NAME}` or `${file:PATH}`, in quotes.")
                .examples(["certs/bank.key", "${file:/run/credentials/key}"])
        })
    }
}

impl Read for PrivateKey {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        Secret::read_or_path(node, load).map(Self)
    }
}
