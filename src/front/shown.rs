//! The certificate that a client shows: read once, kept with its connection, and held to what it was let in by.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::Ssl;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::server::handshake_with_callback;
use pingora::protocols::tls::{TlsRef, TlsStream};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;

use crate::engine::{ClientCertificate, Handshake, Hosts};

/// Shakes hands; what that came to stands in the connection's digest then, with a certificate that the settings have verified.
pub(super) async fn shake_hands(
    acceptor: &Acceptor,
    hosts: &Arc<Hosts>,
    stream: L4Stream,
) -> pingora::Result<TlsStream<L4Stream>> {
    handshake_with_callback(acceptor, stream, &Reading(hosts.clone())).await
}

struct Reading(Arc<Hosts>);

#[async_trait]
impl TlsAccept for Reading {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        let certificate = tls.peer_cert_chain_der().and_then(ClientCertificate::read);
        Some(Arc::new(Handshake {
            certificate: certificate.map(Arc::new),
            name: tls.server_name().map(Into::into),
            hosts: self.0.clone(),
        }))
    }
}

/// What a connection was let in by. A handshake verifies that, but one that is resumed by a ticket takes the certificate from
/// there as it is, and an open connection knows no other handshake.
pub(super) struct Shown {
    certificate: Arc<ClientCertificate>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// The last second of which it is known.
    until: Timestamp,
}

impl Shown {
    /// What was shown on a new connection; `None` where nothing was.
    pub fn on(stream: &TlsStream<L4Stream>, verifier: Option<&Arc<dyn ClientCertVerifier>>) -> Option<Self> {
        let digest = stream.get_ssl_digest()?;
        let certificate = digest.extension.get::<Handshake>()?.certificate.clone()?;
        Some(Self {
            verifier: verifier?.clone(),
            // Some handshake has verified it, and nothing of it had run out then.
            until: certificate.until(Timestamp::MIN).unwrap_or(Timestamp::MIN),
            certificate,
        })
    }

    /// Whether a handshake at this instant would let the client in. Costs next to nothing but where something of the chain has
    /// run out since.
    pub fn is_good(&mut self, now: Timestamp) -> bool {
        if now.as_second() <= self.until.as_second() {
            return true;
        }
        let is_good = self.verify(now);
        self.until = self
            .certificate
            .until(now)
            .filter(|_| is_good)
            .unwrap_or(Timestamp::MIN);
        is_good
    }

    fn verify(&self, now: Timestamp) -> bool {
        let Some((own, others)) = self.certificate.chain.split_first() else {
            return false;
        };
        let Ok(seconds) = u64::try_from(now.as_second()) else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.verifier.verify_client_cert(own, others, now).is_ok()
    }
}

/// Whether a connection may go on: by what was shown on it, if anything was.
pub(super) fn is_good(shown: &mut Option<Box<Shown>>) -> bool {
    shown.as_mut().is_none_or(|shown| shown.is_good(Timestamp::now()))
}
