//! `client_certificate:` — callers known by the certificate that their connection was made with.
//!
//! ```yaml
//! listen:
//!   - address: 0.0.0.0:8443
//!     tls: { certificate: certs/bank.pem, key: certs/bank.key, clients: { authorities: certs/partners-ca.pem, required: false } }
//! authenticators:
//!   partners:
//!     client_certificate:
//!       authorities: certs/partners-ca.pem    # who signs the callers' certificates
//!       subject: uri                          # which of its names says who calls: dn (unless said), dns, uri or email
//!       callers:                              # who may; everybody with a good certificate where nothing is said
//!         - { subject: 'spiffe://acme.example/orders', roles: [partner], scopes: [order:read] }
//! routes:
//!   orders: { match: GET /orders, auth: partners, upstream: accounts }
//! ```
//!
//! A listener with `tls: clients:` says who may come in, and an authenticator who is believed: the certificate has to be signed
//! by its own `authorities`, whichever listener it came by. It comes from the handshake alone, never from a header, and is
//! looked at for every request. A connection whose certificate has run out since its handshake, or since the one that it was
//! resumed from, is closed before the next request, as a new handshake would fail.
//!
//! 401 `certificate-missing` where nothing but a certificate would do and none was shown; 401 `certificate-untrusted`,
//! `certificate-expired` and `certificate-not-yet-valid`; 401 `certificate-unknown` for one that is none of the `callers`, or has
//! no name of the kind, or more than one that could be meant; 401 `certificate-unreadable` for one that was shown and cannot be
//! read. The challenge is `ClientCertificate`. A browser shows its certificate whoever makes it send a request, so that proves
//! nothing for an unsafe one from another site: 403 `cross-site`.
//!
//! The name becomes the claim `sub`, `roles` and `scopes` the claims `roles` and `scope`. `jti` is the certificate's thumbprint
//! (`x5t#S256`), under which it is recorded and can be revoked alone; `iat` and `exp` are when it is good. Further claims:
//! `cert.subject`, `cert.issuer` (RFC 4514, as `openssl x509 -nameopt RFC2253` prints them), `cert.serial` (hexadecimal) and
//! `cert.sans`, a list of `DNS:…`, `URI:…` and `email:…`. Sources: RFC 5280, RFC 4514, RFC 8705 §3.1.

mod settings;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quick_cache::sync::Cache;
use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use serde_json::{Map, Value, json};

pub use self::settings::{ClientCertificateSettings, NameKind};
use super::claimed::{Claimed, is_subject};
use super::credential::Source;
use crate::engine::{ClientCertificate, CredentialRefusal, Principal, Said};

/// Certificates that were verified are remembered, so many of an authenticator.
const REMEMBERED: usize = 4_096;
const SOURCES: [Source; 1] = [Source::Certificate];

/// Who calls by which certificate.
pub struct CertificateAuthenticator {
    name: Arc<str>,
    /// A tag of its own: its authorities vouch for nobody else.
    issuer: Arc<str>,
    authorities: Vec<CertificateDer<'static>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    kind: NameKind,
    /// `None` where every good certificate will do.
    callers: Option<HashMap<Box<str>, Rights>>,
    proved: Cache<Arc<str>, Proved>,
}

/// What a caller may.
#[derive(Debug, Clone, Default, PartialEq)]
struct Rights {
    roles: Vec<Box<str>>,
    scopes: Vec<Box<str>>,
}

/// A certificate that was verified, and holds until one more of its chain ends.
#[derive(Debug, Clone)]
struct Proved {
    principal: Arc<Principal>,
    from: Timestamp,
    until: Timestamp,
}

impl fmt::Debug for CertificateAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client certificates of `{}`", self.name)
    }
}

impl PartialEq for CertificateAuthenticator {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.authorities == other.authorities
            && self.kind == other.kind
            && self.callers == other.callers
    }
}

impl CertificateAuthenticator {
    /// Where its credentials stand: in no header.
    pub(super) fn sources(&self) -> &[Source] {
        &SOURCES
    }

    /// How its claims become a principal.
    pub(super) fn claimed(&self) -> Claimed<'_> {
        Claimed {
            authenticator: &self.name,
            issuer: &self.issuer,
            subject: "sub",
            scopes: "scope",
            roles: "roles",
        }
    }

    /// Whom the certificate proves at an instant. Costs a look-up; the first time, the verification of its chain.
    pub fn prove(&self, certificate: &ClientCertificate, now: Timestamp) -> Result<Arc<Principal>, CredentialRefusal> {
        let Some(said) = &certificate.said else {
            return Err(refusal("certificate-unreadable", None));
        };
        if now < said.begins {
            return Err(refusal("certificate-not-yet-valid", None));
        }
        if now > said.ends {
            return Err(refusal("certificate-expired", None));
        }
        // Both ends: on a rehearsal clock time may stand anywhere.
        let within = |proved: &Proved| proved.from <= now && now <= proved.until;
        if let Some(proved) = self.proved.get(&certificate.thumbprint).filter(within) {
            return Ok(proved.principal);
        }
        self.verify(certificate, now).map_err(|code| refusal(code, None))?;
        let unknown = || refusal("certificate-unknown", Some(said.subject.clone()));
        let (subject, rights) = self.named(said).ok_or_else(unknown)?;
        let claims = claims(&certificate.thumbprint, said, subject, &rights);
        let principal = Arc::new(self.claimed().principal(claims).ok_or_else(unknown)?);
        let proved = Proved {
            principal: principal.clone(),
            from: now,
            until: certificate.until(now).unwrap_or(now),
        };
        self.proved.insert(certificate.thumbprint.clone(), proved);
        Ok(principal)
    }

    fn verify(&self, certificate: &ClientCertificate, now: Timestamp) -> Result<(), &'static str> {
        const UNTRUSTED: &str = "certificate-untrusted";
        let verifier = self.verifier.as_ref().ok_or(UNTRUSTED)?;
        let (own, others) = certificate.chain.split_first().ok_or(UNTRUSTED)?;
        let seconds = u64::try_from(now.as_second()).map_err(|_| UNTRUSTED)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        match verifier.verify_client_cert(own, others, now) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Err("certificate-expired"),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Err("certificate-not-yet-valid"),
            Err(_) => Err(UNTRUSTED),
        }
    }

    /// The one of its names that says who calls, and what that caller may. Which of several is meant nobody could say.
    fn named<'c>(&self, said: &'c Said) -> Option<(&'c str, Rights)> {
        let names: Vec<&str> = match self.kind {
            NameKind::Dn => vec![&said.subject],
            NameKind::Dns => said.dns.iter().map(|name| &**name).collect(),
            NameKind::Uri => said.uris.iter().map(|name| &**name).collect(),
            NameKind::Email => said.emails.iter().map(|name| &**name).collect(),
        };
        let mut meant = names.into_iter().filter_map(|name| match &self.callers {
            None => Some((name, Rights::default())),
            Some(callers) => callers.get(name).map(|rights| (name, rights.clone())),
        });
        match (meant.next(), meant.next()) {
            (Some((name, rights)), None) if is_subject(name) => Some((name, rights)),
            _ => None,
        }
    }
}

/// What a token would claim.
fn claims(thumbprint: &str, said: &Said, subject: &str, rights: &Rights) -> Map<String, Value> {
    let tagged = |tag: &'static str, names: &[Box<str>]| -> Vec<Value> {
        names.iter().map(|name| format!("{tag}:{name}").into()).collect()
    };
    let sans: Vec<Value> = [
        tagged("DNS", &said.dns),
        tagged("URI", &said.uris),
        tagged("email", &said.emails),
    ]
    .concat();
    let mut claims = Map::new();
    claims.insert("sub".into(), subject.into());
    claims.insert("jti".into(), thumbprint.into());
    claims.insert("iat".into(), said.begins.as_second().into());
    claims.insert("exp".into(), said.ends.as_second().into());
    if !rights.roles.is_empty() {
        let roles = rights.roles.iter().map(|role| Value::from(&**role));
        claims.insert("roles".into(), roles.collect::<Vec<_>>().into());
    }
    if !rights.scopes.is_empty() {
        claims.insert("scope".into(), rights.scopes.join(" ").into());
    }
    claims.insert(
        "cert".into(),
        json!({
            "subject": said.subject,
            "issuer": said.issuer,
            "serial": said.serial,
            "sans": sans,
        }),
    );
    claims
}

fn refusal(code: &'static str, claimed_sub: Option<Box<str>>) -> CredentialRefusal {
    let detail = match code {
        "certificate-expired" => "The client certificate has expired.",
        "certificate-not-yet-valid" => "The client certificate is not valid yet.",
        "certificate-unknown" => "The client certificate is not known here.",
        "certificate-unreadable" => "The client certificate cannot be read.",
        _ => "The client certificate is from an authority that is not accepted here.",
    };
    CredentialRefusal {
        code,
        detail,
        claimed_sub,
    }
}
