//! The certificate that a client shows: read once, and kept with its connection.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::server::handshake_with_callback;
use pingora::protocols::tls::{TlsRef, TlsStream};

use crate::engine::ClientCertificate;

/// Shakes hands; a certificate that was shown, and that the settings have verified, stands in the connection's digest then.
pub(super) async fn shake_hands(acceptor: &Acceptor, stream: L4Stream) -> pingora::Result<TlsStream<L4Stream>> {
    handshake_with_callback(acceptor, stream, &Shown).await
}

struct Shown;

#[async_trait]
impl TlsAccept for Shown {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        let certificate = ClientCertificate::read(tls.peer_cert_chain_der()?)?;
        Some(Arc::new(Arc::new(certificate)))
    }
}
