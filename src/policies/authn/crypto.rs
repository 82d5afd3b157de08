//! JWS signatures over `ring`, and the same as a provider for the `jsonwebtoken` crate.
//!
//! `jsonwebtoken` panics at its first token unless a provider was installed: call [`install`] before using it.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result, new_error};
use jsonwebtoken::jwk::{EllipticCurve, ThumbprintHash};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{digest, hmac};

/// Makes `jsonwebtoken` use `ring`. Calling it again does nothing.
pub fn install() {
    // An error means that a provider is there already, and this is the only one in the program.
    let _ = PROVIDER.install_default();
}

pub(super) static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: new_signer,
    verifier_factory: new_verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: rsa_components,
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: ec_components,
        ed_pub_components_from_private_key: ed_component,
        compute_digest,
    },
};

/// Whether `signature` is `key`'s over `message`. False as well where the key is not one for the algorithm.
pub(super) fn verifies(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signature: &[u8]) -> bool {
    if key.family() != algorithm.family() {
        return false;
    }
    match algorithm.family() {
        AlgorithmFamily::Hmac => hmac_algorithm(algorithm)
            .zip(key.try_get_as_bytes().ok())
            .is_some_and(|(hash, secret)| hmac::verify(&hmac::Key::new(hash, secret), message, signature).is_ok()),
        AlgorithmFamily::Rsa => rsa_parameters(algorithm).is_some_and(|parameters| match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => RsaPublicKeyComponents { n, e }
                .verify(parameters, message, signature)
                .is_ok(),
            DecodingKeyKind::SecretOrDer(der) => UnparsedPublicKey::new(parameters, der)
                .verify(message, signature)
                .is_ok(),
        }),
        AlgorithmFamily::Ec | AlgorithmFamily::Ed => {
            let curve: &'static dyn VerificationAlgorithm = match algorithm {
                Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
                Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
                _ => &signature::ED25519,
            };
            key.try_get_as_bytes()
                .is_ok_and(|point| UnparsedPublicKey::new(curve, point).verify(message, signature).is_ok())
        }
    }
}

fn hmac_algorithm(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_SHA512),
        _ => None,
    }
}

fn ecdsa_signing(algorithm: Algorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => None,
    }
}

fn unsupported() -> Error {
    new_error(ErrorKind::UnsupportedAlgorithm)
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

fn new_verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidKeyFormat));
    }
    Ok(Box::new(RingVerifier {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

impl ::signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), ::signature::Error> {
        if verifies(self.algorithm, &self.key, message, signature) {
            return Ok(());
        }
        Err(::signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct RingSigner {
    algorithm: Algorithm,
    key: SigningKey,
}

enum SigningKey {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

fn new_signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidKeyFormat));
    }
    let bytes = key.as_bytes();
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac => SigningKey::Hmac(hmac::Key::new(
            hmac_algorithm(*algorithm).ok_or_else(unsupported)?,
            bytes,
        )),
        AlgorithmFamily::Rsa => SigningKey::Rsa(rsa_pair(bytes)?, rsa_encoding(*algorithm).ok_or_else(unsupported)?),
        AlgorithmFamily::Ec => SigningKey::Ec(ec_pair(bytes, *algorithm)?),
        AlgorithmFamily::Ed => SigningKey::Ed(ed_pair(bytes)?),
    };
    Ok(Box::new(RingSigner {
        algorithm: *algorithm,
        key,
    }))
}

impl ::signature::Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, ::signature::Error> {
        let failed = |_| ::signature::Error::new();
        match &self.key {
            SigningKey::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            SigningKey::Rsa(pair, encoding) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signed)
                    .map_err(failed)?;
                Ok(signed)
            }
            SigningKey::Ec(pair) => {
                let signed = pair.sign(&SystemRandom::new(), message).map_err(failed)?;
                Ok(signed.as_ref().to_vec())
            }
            SigningKey::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// PKCS#1 or PKCS#8.
fn rsa_pair(der: &[u8]) -> Result<RsaKeyPair> {
    RsaKeyPair::from_der(der)
        .or_else(|_| RsaKeyPair::from_pkcs8(der))
        .map_err(|error| new_error(ErrorKind::InvalidRsaKey(error.to_string())))
}

fn ec_pair(pkcs8: &[u8], algorithm: Algorithm) -> Result<EcdsaKeyPair> {
    let curve = ecdsa_signing(algorithm).ok_or_else(unsupported)?;
    EcdsaKeyPair::from_pkcs8(curve, pkcs8, &SystemRandom::new()).map_err(|_| new_error(ErrorKind::InvalidEcdsaKey))
}

/// With or without the public key that version 2 of PKCS#8 carries.
fn ed_pair(pkcs8: &[u8]) -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| new_error(ErrorKind::InvalidEddsaKey))
}

fn rsa_components(private: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let components = RsaPublicKeyComponents::<Vec<u8>>::from(rsa_pair(private)?.public());
    Ok((components.n, components.e))
}

fn ec_components(private: &[u8], algorithm: Algorithm) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>)> {
    let pair = ec_pair(private, algorithm)?;
    let curve = match algorithm {
        Algorithm::ES256 => EllipticCurve::P256,
        _ => EllipticCurve::P384,
    };
    // Uncompressed: 4, then x and y of equal length.
    let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len() / 2);
    Ok((curve, x.to_vec(), y.to_vec()))
}

fn ed_component(private: &[u8], curve: &EllipticCurve) -> Result<Vec<u8>> {
    match curve {
        EllipticCurve::Ed25519 => Ok(ed_pair(private)?.public_key().as_ref().to_vec()),
        _ => Err(unsupported()),
    }
}

fn compute_digest(data: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &digest::SHA256,
        ThumbprintHash::SHA384 => &digest::SHA384,
        ThumbprintHash::SHA512 => &digest::SHA512,
        _ => return Err(unsupported()),
    };
    Ok(digest::digest(algorithm, data).as_ref().to_vec())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jsonwebtoken::{Header, Validation};
    use ring::signature::Ed25519KeyPair;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn serves_the_jsonwebtoken_crate() {
        install();
        install();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let (signing, header) = (EncodingKey::from_ed_der(pkcs8.as_ref()), Header::new(Algorithm::EdDSA));
        let token = jsonwebtoken::encode(&header, &json!({"exp": 4_000_000_000_u64}), &signing).unwrap();
        let public = ed_component(pkcs8.as_ref(), &EllipticCurve::Ed25519).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        let decode = |validation: &Validation| {
            jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_ed_der(&public), validation).is_ok()
        };
        assert!(decode(&validation));
        validation.algorithms = vec![Algorithm::ES256];
        assert!(!decode(&validation));
    }

    #[test]
    fn refuses_keys_of_another_family() {
        let secret = DecodingKey::from_secret(&[1; 32]);
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert!(new_verifier(&algorithm, &secret).is_err() && !verifies(algorithm, &secret, b"", b""));
            assert!(new_signer(&algorithm, &EncodingKey::from_secret(&[1; 32])).is_err());
        }
        assert!(new_signer(&Algorithm::EdDSA, &EncodingKey::from_ed_der(b"not a key")).is_err());
        assert!(new_signer(&Algorithm::ES384, &EncodingKey::from_ec_der(b"")).is_err());
        assert!(new_signer(&Algorithm::RS256, &EncodingKey::from_rsa_der(b"")).is_err());
    }

    #[test]
    fn names_the_public_part_of_a_private_key() {
        let ec =
            EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let (curve, x, y) = ec_components(ec.as_ref(), Algorithm::ES256).unwrap();
        assert_eq!((curve, x.len(), y.len()), (EllipticCurve::P256, 32, 32));
        assert!(ec_components(ec.as_ref(), Algorithm::ES384).is_err());
        assert_eq!(compute_digest(b"", ThumbprintHash::SHA384).unwrap().len(), 48);
    }
}
