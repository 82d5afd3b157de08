//! Encryption on a listener: the handshake, by settings that may change while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::TlsStream;
use rustls::ServerConfig;

/// How clients come in by a listener.
#[derive(Clone)]
pub enum Entrance {
    /// Unencrypted.
    Plain {
        /// Whether a client may begin with the preface of HTTP/2 (RFC 9113 §3.3).
        http2: bool,
    },
    /// By a handshake, in which the version of HTTP is agreed on.
    Tls(Arc<TlsDoor>),
}

/// Shakes hands with clients.
pub struct TlsDoor(ArcSwap<Acceptor>);

impl TlsDoor {
    /// A door by these settings.
    pub fn new(config: Arc<ServerConfig>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Acceptor::from_server_config(config))))
    }

    /// From now on by others; connections that are open stay as they are.
    pub fn renew(&self, config: Arc<ServerConfig>) {
        self.0.store(Arc::new(Acceptor::from_server_config(config)));
    }

    /// `None` where client and gateway do not come together; the client has been told why.
    pub(super) async fn shake_hands(&self, stream: L4Stream) -> Option<TlsStream<L4Stream>> {
        let acceptor = self.0.load_full();
        match super::shown::shake_hands(&acceptor, stream).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                log::debug!("no TLS: {error}");
                None
            }
        }
    }
}
