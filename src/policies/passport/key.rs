//! A key that signs passports, and its public half as JWK (RFC 7517, RFC 7518 §6.2, RFC 8037 §2).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;

use super::TYPE;
use crate::conf::Json;

/// A private key. Its secret is shown nowhere.
pub(super) struct PassportKey {
    /// The thumbprint (RFC 7638), by SHA-256.
    pub kid: Box<str>,
    /// The public half.
    pub jwk: Json,
    /// The header of what it signs, encoded.
    pub header: Box<str>,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl fmt::Debug for PassportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PassportKey({})", self.kid)
    }
}

impl PassportKey {
    /// Reads a private key in PKCS #8; `None` where it is of another kind.
    pub fn read(key: &PrivateKeyDer<'_>) -> Option<Self> {
        let PrivateKeyDer::Pkcs8(pkcs8) = key else { return None };
        let pkcs8 = pkcs8.secret_pkcs8_der();
        // With or without the public key that version 2 of PKCS #8 carries, and OpenSSL does not write.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            let x = encode(pair.public_key());
            let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
            let public = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
            return Some(Self::new(Pair::Ed25519(pair), "EdDSA", public, &thumbprint));
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()?;
        // Uncompressed: 4, then x and y of equal length.
        let point = pair.public_key().as_ref().get(1..)?;
        let (x, y) = point.split_at_checked(point.len() / 2)?;
        let (x, y) = (encode(x), encode(y));
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let public = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        Some(Self::new(Pair::P256(pair), "ES256", public, &thumbprint))
    }

    fn new(pair: Pair, algorithm: &str, mut jwk: Json, thumbprint: &str) -> Self {
        let kid = encode(digest(&SHA256, thumbprint.as_bytes()));
        if let Some(members) = jwk.as_object_mut() {
            members.insert("alg".into(), algorithm.into());
            members.insert("use".into(), "sig".into());
            members.insert("kid".into(), kid.as_str().into());
        }
        let header = json!({ "alg": algorithm, "typ": TYPE, "kid": kid });
        Self {
            kid: kid.into(),
            jwk,
            header: encode(header.to_string()).into(),
            pair,
        }
    }

    /// A compact JWS over this payload.
    pub fn sign(&self, payload: &str) -> Result<String, Unspecified> {
        let message = format!("{}.{}", self.header, encode(payload));
        let signature = match &self.pair {
            Pair::Ed25519(pair) => encode(pair.sign(message.as_bytes())),
            Pair::P256(pair) => encode(pair.sign(&SystemRandom::new(), message.as_bytes())?),
        };
        Ok(format!("{message}.{signature}"))
    }
}

/// As JWS spells bytes.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
