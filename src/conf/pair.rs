//! A certificate and its key, as both sides of TLS need them: looked at together, and what is wrong said where it is named.

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Certificates, KeyFault, Load, Place, PrivateKey};

/// A certificate that runs out within this time is worth a word.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A chain with the key of its first certificate, which is known to belong to it.
#[derive(Debug)]
pub struct Pair {
    /// What rustls takes.
    pub certified: CertifiedKey,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl Certificates {
    /// The first one. Reported are one that cannot be read, and one that has run out or will soon: a warning, as a restart must
    /// not take the gate down.
    pub fn own(&self, now: Timestamp, load: &Load) -> Option<X509Certificate<'_>> {
        let place = &self.place;
        let read = self.all.first().map(|own| X509Certificate::from_der(own));
        let Some(Ok((_, own))) = read else {
            load.error(place, "the first certificate cannot be read");
            return None;
        };
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let validity = own.validity();
        match (at(validity.not_before), at(validity.not_after)) {
            (Some(from), _) if now < from => load.warn(place, format!("the certificate is not good before {from}")),
            (_, Some(until)) if now > until => load.warn(place, format!("the certificate ran out at {until}")),
            (_, Some(until)) if until.duration_since(now) < SOON => {
                load.warn(place, format!("the certificate runs out at {until}"));
            }
            (Some(_), Some(_)) => {}
            _ => load.warn(place, "nobody can say when the certificate is good"),
        }
        Some(own)
    }

    /// All of them, as those who sign others. Reported is one that cannot be.
    pub fn roots(&self, load: &Load) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for authority in &self.all {
            if roots.add(authority.clone()).is_err() {
                load.error(&self.place, "one of the certificates cannot be an authority's");
                return None;
            }
        }
        Some(roots)
    }
}

impl PrivateKey {
    /// The key with the chain that it is for. Where it cannot be read now, that is a warning and left to `unfetched`.
    pub fn pair(&self, chain: &Certificates, load: &Load, unfetched: &mut Vec<(Place, String)>) -> Option<Pair> {
        let key = match self.fetch() {
            Ok(key) => key,
            Err(fault @ KeyFault::Missing(_)) => {
                load.warn(self.place(), fault.to_string());
                unfetched.push((self.place().clone(), fault.to_string()));
                return None;
            }
            Err(fault @ KeyFault::NoKey) => {
                load.error(self.place(), fault.to_string());
                return None;
            }
        };
        match CertifiedKey::from_der(chain.all.clone(), key.clone_key(), &ring::default_provider()) {
            Ok(certified) => Some(Pair { certified, key }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let message = "the key is not that of the certificate";
                load.error_with(self.place(), message, &chain.place, "which stands here");
                None
            }
            Err(error) => {
                load.error(self.place(), format!("the key cannot be used: {error}"));
                None
            }
        }
    }
}
