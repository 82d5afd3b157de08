//! Keys and tokens for the tests of this folder.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;

use super::settings::{AuthenticatorSettings, Authenticators, JwtAuthenticator};
use super::{crypto, keys::KeySet};
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
    authenticators.get("main").unwrap().1.clone()
}

pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}
