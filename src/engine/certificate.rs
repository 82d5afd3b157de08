//! The certificate that a client proved itself by when its connection was made.

use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use super::distinguished;

/// A certificate whose holder took part in the handshake. Only a handshake makes one: no header can say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// As it was shown, the client's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its own SHA-256 in base64url, as `x5t#S256` has it (RFC 8705 §3.1).
    pub thumbprint: Arc<str>,
    /// What it says; `None` where that cannot be read as one thing alone. It was shown all the same, and proves nobody.
    pub said: Option<Said>,
    /// The last instants at which each of the chain is good, as far as they can be read.
    ends: Vec<Timestamp>,
}

/// What a certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whose it is, as RFC 4514 writes it.
    pub subject: Box<str>,
    /// Who signed it, as RFC 4514 writes it.
    pub issuer: Box<str>,
    /// In hexadecimal.
    pub serial: Box<str>,
    /// The DNS names it is for, in lower case.
    pub dns: Vec<Box<str>>,
    /// The URIs it is for, such as SPIFFE ids.
    pub uris: Vec<Box<str>>,
    /// The addresses of mail it is for.
    pub emails: Vec<Box<str>>,
    /// From when it is good.
    pub begins: Timestamp,
    /// The last instant at which it is good.
    pub ends: Timestamp,
}

impl ClientCertificate {
    /// Reads the chain that a handshake has verified; `None` where there is no certificate.
    pub fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let shown = chain.first()?;
        let end = |certificate| Some(instant(parse(certificate)?.validity().not_after));
        let ends: Vec<Timestamp> = chain.iter().filter_map(end).collect();
        Some(Self {
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, shown)).into(),
            said: Said::read(shown).filter(|_| ends.len() == chain.len()),
            ends,
            chain: chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
        })
    }

    /// From an instant on, how long all of the chain stays as good as it is then: the last second before one more of it has run
    /// out. Which of it counts the verification says, as clients show more than is needed. `None` where nobody can tell.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let ahead = |end: &Timestamp| end.as_second() >= now.as_second();
        let ends = (self.ends.len() == self.chain.len()).then_some(&self.ends)?;
        ends.iter().copied().filter(ahead).min()
    }
}

impl Said {
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let own = parse(certificate)?;
        let (mut dns, mut uris, mut emails) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(names) = own.subject_alternative_name().ok()? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase().into()),
                    GeneralName::URI(uri) => uris.push((*uri).into()),
                    GeneralName::RFC822Name(address) => emails.push((*address).into()),
                    _ => {}
                }
            }
        }
        Some(Self {
            subject: distinguished::name(own.subject())?.into(),
            issuer: distinguished::name(own.issuer())?.into(),
            serial: hexadecimal(own.raw_serial()).into(),
            dns,
            uris,
            emails,
            begins: instant(own.validity().not_before),
            ends: instant(own.validity().not_after),
        })
    }
}

fn parse<'c>(certificate: &'c CertificateDer<'_>) -> Option<X509Certificate<'c>> {
    let (rest, read) = X509Certificate::from_der(certificate).ok()?;
    rest.is_empty().then_some(read)
}

/// Instants beyond what can be written are as far as can be: the last of the year 9999 stands for no end (RFC 5280 §4.1.2.5).
fn instant(time: ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    let beyond = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(beyond)
}

/// As `openssl x509 -serial` prints it.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}
