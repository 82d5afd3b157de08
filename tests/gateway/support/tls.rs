//! Certificates made for a test, and a client that speaks TLS with them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{WATCHDOG, runtime};

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub struct Certificate {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("an authority's certificate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Gwanmun tests");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// One that this one vouches for.
    pub fn between(&self, more: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("an authority's certificate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "between");
        more(&mut params);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::signed_by(params, key, &self.0).expect("an authority"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.pem().as_bytes()).expect("a certificate");
        roots.add(root).expect("a root");
        roots
    }

    /// A server's certificate for these names.
    pub fn server(&self, names: &[&str]) -> Certificate {
        self.sign(names, |_| {})
    }

    /// A client's certificate whose subject is this common name.
    pub fn client(&self, name: &str) -> Certificate {
        self.sign(&[name], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    pub fn sign(&self, names: &[&str], more: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names for a certificate");
        more(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Certificate {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Certificate {
    /// One that nobody signed but itself.
    pub fn self_signed(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        (chain.expect("certificates"), key)
    }
}

/// What a server shakes hands with.
pub struct TlsServer {
    own: Certificate,
    clients: Option<RootCertStore>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl TlsServer {
    pub fn new(own: &Certificate) -> Self {
        Self {
            own: own.clone(),
            clients: None,
            versions: rustls::ALL_VERSIONS.to_vec(),
        }
    }

    /// Turns clients away that have no certificate of this authority.
    pub fn for_clients_of(mut self, authority: &Authority) -> Self {
        self.clients = Some(authority.roots());
        self
    }

    /// Speaks this version of TLS alone.
    pub fn speaking(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    pub(super) fn config(&self, protocol: &str) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .expect("versions");
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider);
                builder.with_client_cert_verifier(verifier.build().expect("roots"))
            }
        };
        let (chain, key) = self.own.read();
        let mut config = builder.with_single_cert(chain, key).expect("a certificate and its key");
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}

/// A client that trusts one authority.
#[derive(Clone)]
pub struct TlsClient {
    address: SocketAddr,
    roots: RootCertStore,
    config: ClientConfig,
}

impl TlsClient {
    pub fn new(address: SocketAddr, authority: &Authority, own: Option<&Certificate>) -> Self {
        let roots = authority.roots();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots.clone());
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let (chain, key) = own.read();
                builder
                    .with_client_auth_cert(chain, key)
                    .expect("a certificate and its key")
            }
        };
        Self { address, roots, config }
    }

    /// Offers these protocols by ALPN.
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Speaks this version of TLS alone.
    pub fn speaking(mut self, version: &'static SupportedProtocolVersion) -> Self {
        let protocols = std::mem::take(&mut self.config.alpn_protocols);
        let roots = self.roots.clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        self.config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.config.alpn_protocols = protocols;
        self
    }

    /// The connection after the handshake; an error is what either side found wrong.
    pub fn connect(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        runtime().block_on(self.open(name))
    }

    async fn open(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(self.config.clone()))
            .connect(name, tcp)
            .await
    }

    /// One request on a connection of its own: in HTTP/2 where that was agreed on.
    pub fn send(&self, name: &str, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, String> {
        runtime().block_on(async {
            let stream = self.open(name).await.map_err(|error| error.to_string())?;
            exchange(stream, request).await
        })
    }

    pub fn get(&self, name: &str, path: &str) -> Result<http::Response<Bytes>, String> {
        let request = http::Request::get(format!("https://{name}{path}")).body(Bytes::new());
        self.send(name, request.expect("a request"))
    }
}

/// Sends bytes on an open connection, and returns what comes until these last ones have, or the connection is at its end.
pub fn talk(stream: &mut TlsStream<TcpStream>, bytes: &[u8], last: &[u8]) -> Vec<u8> {
    let talk = async {
        let mut heard = Vec::new();
        if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
            return heard;
        }
        while !heard.windows(last.len()).any(|window| window == last) {
            match stream.read_buf(&mut heard).await {
                Ok(1..) => {}
                _ => break,
            }
        }
        heard
    };
    let talk = runtime().block_on(async { timeout(WATCHDOG, talk).await });
    talk.expect("an answer, or the end of the connection")
}

/// The name that the server's certificate goes by, one of those it is for.
pub fn names_shown(stream: &TlsStream<TcpStream>) -> String {
    let shown = stream.get_ref().1.peer_certificates().expect("a certificate");
    let (_, read) = x509_parser::parse_x509_certificate(&shown[0]).expect("a certificate");
    let names = read.subject_alternative_name().expect("names").expect("names");
    format!("{:?}", names.value.general_names)
}

async fn exchange(
    stream: TlsStream<TcpStream>,
    mut request: http::Request<Bytes>,
) -> Result<http::Response<Bytes>, String> {
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let failed = |error: hyper::Error| format!("{error:?}");
    let response = if is_h2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(failed)?;
        tokio::spawn(connection);
        sender.send_request(request.map(Full::new)).await.map_err(failed)?
    } else {
        let authority = request.uri().authority().expect("a host").to_string();
        let target = request.uri().path_and_query().expect("a path").to_string();
        request.headers_mut().insert("host", authority.parse().expect("a host"));
        *request.uri_mut() = target.parse().expect("a target");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        tokio::spawn(connection);
        sender.send_request(request.map(Full::new)).await.map_err(failed)?
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(failed)?.to_bytes();
    Ok(http::Response::from_parts(parts, body))
}
