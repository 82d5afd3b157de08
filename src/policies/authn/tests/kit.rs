//! Keys and tokens for the tests of this folder.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::super::settings::JwtAuthenticator;
use super::super::{Authenticator, AuthenticatorSettings, Authenticators, crypto, keys::KeySet};
use crate::conf::{Load, Named, Read};

pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A private key and the members of its public JWK, without braces, `kid` and `alg`.
pub struct Signer {
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    pub public: String,
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub fn ec(algorithm: Algorithm) -> Self {
        let (curve, signing, length) = match algorithm {
            Algorithm::ES256 => ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING, 32),
            _ => ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING, 48),
        };
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new()).unwrap();
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let (_, x, y) =
            (crypto::PROVIDER.key_utils.ec_pub_components_from_private_key)(pkcs8.as_ref(), algorithm).unwrap();
        assert_eq!((x.len(), y.len()), (length, length));
        let public = format!(r#""kty":"EC","crv":"{curve}","x":"{}","y":"{}""#, b64(x), b64(y));
        Self { algorithm, key, public }
    }

    pub fn ed() -> Self {
        use ring::signature::KeyPair;
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        Self {
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(pkcs8.as_ref()),
            public: format!(
                r#""kty":"OKP","crv":"Ed25519","x":"{}""#,
                b64(pair.public_key().as_ref())
            ),
        }
    }

    /// An RSA key; made once for each size, as that takes a while.
    pub fn rsa(algorithm: Algorithm, bits: usize) -> Self {
        static MADE: [OnceLock<rsa::RsaPrivateKey>; 2] = [OnceLock::new(), OnceLock::new()];
        let make = || rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap();
        let private = MADE[usize::from(bits < 2048)].get_or_init(make);
        assert_eq!(private.size() * 8, bits);
        Self {
            algorithm,
            key: EncodingKey::from_rsa_der(private.to_pkcs1_der().unwrap().as_bytes()),
            public: format!(
                r#""kty":"RSA","n":"{}","e":"{}""#,
                b64(private.n().to_bytes_be()),
                b64(private.e().to_bytes_be())
            ),
        }
    }

    pub fn secret(algorithm: Algorithm, secret: &[u8]) -> Self {
        Self {
            algorithm,
            key: EncodingKey::from_secret(secret),
            public: format!(r#""kty":"oct","k":"{}""#, b64(secret)),
        }
    }

    /// The public key as JWK, `more` being further members (`"kid":"a",`).
    pub fn jwk(&self, more: &str) -> String {
        format!("{{{more}{}}}", self.public)
    }

    /// A signed token, header and payload being what is said, JSON or not.
    pub fn token(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        crypto::install();
        let message = format!("{}.{}", b64(header), b64(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// A token with the usual header, `kid` included.
    pub fn usual(&self, payload: &str) -> String {
        self.token(format!(r#"{{"alg":"{:?}","kid":"a"}}"#, self.algorithm), payload)
    }
}

/// A set of these JWKs.
pub fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

pub fn key_set(keys: &[String]) -> KeySet {
    KeySet::parse(set(keys).as_bytes()).unwrap()
}

/// The instant the tests are at.
pub fn noon() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// Good claims with these set instead or besides (`"sub":"u2"`); an empty value leaves the claim out.
pub fn claims(changes: &[(&str, &str)]) -> String {
    let now = noon().as_second();
    let mut all = vec![
        ("iss".to_owned(), r#""https://id.example""#.to_owned()),
        ("aud".to_owned(), r#""api""#.to_owned()),
        ("sub".to_owned(), r#""u1""#.to_owned()),
        ("exp".to_owned(), (now + 600).to_string()),
    ];
    for (name, value) in changes {
        all.retain(|(known, _)| known != name);
        if !value.is_empty() {
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    let members: Vec<String> = all.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// What `authenticators:` compiles to, and the findings.
pub fn compile(yaml: &str) -> (Authenticators, Vec<String>) {
    let load = Load::new();
    let node = load.text("t.yaml", yaml).unwrap();
    let settings = Named::<AuthenticatorSettings>::read(&node, &load).unwrap_or_default();
    let authenticators = Authenticators::compile(&settings, &load);
    let findings = load
        .into_findings(Some(&node))
        .iter()
        .map(ToString::to_string)
        .collect();
    (authenticators, findings)
}

/// A good authenticator named `main`: `keys` and further lines of `jwt:`.
pub fn authenticator(algorithms: &str, more: &str) -> Arc<JwtAuthenticator> {
    let yaml = format!(
        "main: {{ jwt: {{ issuer: https://id.example, audience: [api, web], algorithms: [{algorithms}], {more} }} }}"
    );
    let (authenticators, findings) = compile(&yaml);
    assert_eq!(findings, Vec::<String>::new());
    main_jwt(&authenticators)
}

/// The one named `main`.
pub fn main_jwt(authenticators: &Authenticators) -> Arc<JwtAuthenticator> {
    let Authenticator::Jwt(jwt) = authenticators.get("main").unwrap().1 else {
        panic!()
    };
    jwt.clone()
}

pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// An issuer on a socket: answers what it was told to, keeps a list of what it was asked, and can be made to wait.
pub struct Issuer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Mutex<HashMap<String, String>>,
    asked: watch::Sender<Vec<(String, Instant)>>,
    /// One permit for each answer, while held.
    gate: Semaphore,
}

const OPEN: usize = 1 << 20;

impl Issuer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            asked: watch::Sender::new(Vec::new()),
            gate: Semaphore::new(OPEN),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Self { address, shared }
    }

    /// One with a discovery document and these keys.
    pub async fn with_keys(keys: &[String]) -> Self {
        let issuer = Self::start().await;
        issuer.discoverable(&issuer.url(""), &issuer.url("/keys"));
        issuer.publish(keys);
        issuer
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn discoverable(&self, issuer: &str, jwks_uri: &str) {
        let document = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}"}}"#);
        self.answer("/.well-known/openid-configuration", &ok(&document, ""));
    }

    pub fn publish(&self, keys: &[String]) {
        self.answer("/keys", &ok(&set(keys), ""));
    }

    /// The whole response to a path; other paths get a 404.
    pub fn answer(&self, path: &str, response: &str) {
        self.shared.answers.lock().insert(path.to_owned(), response.to_owned());
    }

    /// From now on answers wait for [`Issuer::release`].
    pub fn hold(&self) {
        self.shared.gate.forget_permits(usize::MAX);
    }

    pub fn release(&self) {
        self.shared.gate.add_permits(OPEN);
    }

    /// The paths asked so far.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.shared.asked.borrow();
        asked.iter().map(|(path, _)| path.clone()).collect()
    }

    /// When the keys were asked for.
    pub fn key_instants(&self) -> Vec<Instant> {
        let asked = self.shared.asked.borrow();
        let keys = asked.iter().filter(|(path, _)| path == "/keys");
        keys.map(|(_, at)| *at).collect()
    }

    /// How often the keys were asked for.
    pub fn key_requests(&self) -> usize {
        self.asked().iter().filter(|path| *path == "/keys").count()
    }

    /// Waits until so many requests came.
    pub async fn saw(&self, requests: usize) {
        let mut asked = self.shared.asked.subscribe();
        asked.wait_for(|asked| asked.len() >= requests).await.unwrap();
    }
}

/// A 200 with a JSON body and further header lines, each with its line end.
pub fn ok(body: &str, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut read = Vec::new();
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(_) => return,
            }
        }
        let path = String::from_utf8_lossy(&read).split(' ').nth(1).unwrap().to_owned();
        read.clear();
        shared
            .asked
            .send_modify(|asked| asked.push((path.clone(), Instant::now())));
        shared.gate.acquire().await.unwrap().forget();
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
        let response = shared.answers.lock().get(&path).cloned().unwrap_or(missing);
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}
