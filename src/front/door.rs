//! Encryption on a listener: the handshake, by settings that may change while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::TlsStream;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;

use super::shown::{self, Shown};
use crate::engine::Hosts;

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

/// What a door shakes hands by.
#[derive(Clone)]
pub struct TlsSettings {
    /// All that the handshake needs.
    pub config: Arc<ServerConfig>,
    /// Judges clients' certificates, where any are asked for; the same that `config` has.
    pub verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// For which hosts the certificates are that `config` has.
    pub hosts: Arc<Hosts>,
}

/// Shakes hands with clients.
pub struct TlsDoor(ArcSwap<(Acceptor, TlsSettings)>);

impl TlsDoor {
    /// A door by these settings.
    pub fn new(settings: TlsSettings) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(with_acceptor(settings))))
    }

    /// From now on by others; connections that are open stay as they are.
    pub fn renew(&self, settings: TlsSettings) {
        self.0.store(Arc::new(with_acceptor(settings)));
    }

    /// The connection, with what the client has shown. `None` where client and gateway do not come together; the client has been
    /// told why, unless it was let in by a ticket and what that stands for has run out.
    pub(super) async fn shake_hands(&self, stream: L4Stream) -> Option<(TlsStream<L4Stream>, Option<Box<Shown>>)> {
        let standing = self.0.load_full();
        let (acceptor, settings) = &*standing;
        let stream = match shown::shake_hands(acceptor, &settings.hosts, stream).await {
            Ok(stream) => stream,
            Err(error) => {
                log::debug!("no TLS: {error}");
                return None;
            }
        };
        let mut shown = Shown::on(&stream, settings.verifier.as_ref()).map(Box::new);
        if !shown::is_good(&mut shown) {
            log::debug!("no TLS: a client certificate has run out that a ticket stands for");
            return None;
        }
        Some((stream, shown))
    }
}

fn with_acceptor(settings: TlsSettings) -> (Acceptor, TlsSettings) {
    (Acceptor::from_server_config(settings.config.clone()), settings)
}
