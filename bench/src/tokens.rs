//! The bank's customers: a key, its set as a file, and tokens that it signed.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

pub struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub fn new() -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("cannot make a key"))?;
        let key =
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).map_err(|_| anyhow!("cannot read the key"))?;
        Ok(Self { key, random })
    }

    /// The public key as a JWK set (RFC 7517, RFC 7518 §6.2.1).
    pub fn key_set(&self) -> anyhow::Result<String> {
        // SEC 1 uncompressed: 0x04, then 32 bytes of x, then 32 of y.
        let point = self.key.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .and_then(|point| point.split_at_checked(32))
            .context("not a P-256 point")?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Ok(format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"bench","x":"{x}","y":"{y}"}}]}}"#
        ))
    }

    /// An access token (RFC 9068) for customer `number`, good for two hours.
    pub fn token(&self, number: usize) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = r#"{"typ":"at+jwt","alg":"ES256","kid":"bench"}"#;
        let claims = format!(
            concat!(
                r#"{{"iss":"https://id.bank.example","aud":["mobile-bank"],"sub":"customer-{number}","client_id":"app","#,
                r#""scope":"transfer:read transfer:write","roles":["customer"],"jti":"{number}","iat":{now},"exp":{exp}}}"#
            ),
            number = number,
            now = now,
            exp = now + 7200
        );
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| anyhow!("cannot sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
