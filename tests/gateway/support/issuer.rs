//! An identity provider: signs whatever a test wants signed, and serves discovery and keys like a real one.

use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use rsa::sha2::{Sha256, Sha384, Sha512};
use rsa::signature::{RandomizedSigner, SignatureEncoding, Signer};
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::{Map, Value, json};

use super::{Reply, Seen, Upstream};

/// The audience every token is for unless its claims say otherwise.
pub const AUDIENCE: &str = "mobile-bank";

/// A signing key with its identifier.
pub struct Key {
    pub id: String,
    secret: Secret,
}

enum Secret {
    /// Of the algorithm, on its curve.
    Ec(&'static str, EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    /// The process's one RSA key, which is slow to make, for an algorithm.
    Rsa(&'static str),
    Hmac(&'static str, Vec<u8>),
}

impl Key {
    pub fn es256(id: &str) -> Self {
        Self::of("ES256", id)
    }

    pub fn eddsa(id: &str) -> Self {
        Self::of("EdDSA", id)
    }

    pub fn rs256(id: &str) -> Self {
        Self::of("RS256", id)
    }

    pub fn ps256(id: &str) -> Self {
        Self::of("PS256", id)
    }

    pub fn hs256(id: &str, secret: &[u8]) -> Self {
        Self::hmac("HS256", id, secret)
    }

    /// A shared secret for one of the HS algorithms.
    pub fn hmac(algorithm: &'static str, id: &str, secret: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            secret: Secret::Hmac(algorithm, secret.to_vec()),
        }
    }

    /// A key for any other algorithm.
    pub fn of(algorithm: &'static str, id: &str) -> Self {
        let ec = |signing: &'static EcdsaSigningAlgorithm| {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(signing, &random).expect("a key");
            let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &random);
            Secret::Ec(algorithm, pair.expect("the key just made"))
        };
        let secret = match algorithm {
            "ES256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => {
                let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
                Secret::EdDsa(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key just made"))
            }
            _ => Secret::Rsa(algorithm),
        };
        Self {
            id: id.to_owned(),
            secret,
        }
    }

    pub fn algorithm(&self) -> &'static str {
        match &self.secret {
            Secret::EdDsa(_) => "EdDSA",
            Secret::Ec(algorithm, _) | Secret::Rsa(algorithm) | Secret::Hmac(algorithm, _) => algorithm,
        }
    }

    /// The public half as JWK; a shared secret is published by nobody.
    pub fn jwk(&self) -> Value {
        let (id, algorithm) = (&self.id, self.algorithm());
        match &self.secret {
            Secret::Ec(_, pair) => {
                // Uncompressed point: a tag byte, then both coordinates.
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "kid": id, "alg": algorithm, "use": "sig", "x": encode(x), "y": encode(y)})
            }
            Secret::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "alg": algorithm, "use": "sig", "x": encode(pair.public_key())})
            }
            Secret::Rsa(_) => {
                let (n, e) = (rsa_key().n().to_bytes_be(), rsa_key().e().to_bytes_be());
                json!({"kty": "RSA", "kid": id, "alg": algorithm, "use": "sig", "n": encode(n), "e": encode(e)})
            }
            Secret::Hmac(..) => panic!("a shared secret is not published"),
        }
    }

    /// The bytes of the public half, which an attacker knows too.
    pub fn public_bytes(&self) -> Vec<u8> {
        self.jwk().to_string().into_bytes()
    }

    /// A compact JWS over exactly this header and this payload.
    pub fn sign(&self, header: &Value, payload: &str) -> String {
        self.sign_text(header.to_string(), payload)
    }

    /// A compact JWS over exactly these bytes, JSON or not.
    pub fn sign_text(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// The signature over any message.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Ec(_, pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).expect("a signature");
                signature.as_ref().to_vec()
            }
            Secret::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Secret::Rsa(algorithm) => rsa_signature(algorithm, message),
            Secret::Hmac(algorithm, secret) => {
                let algorithm = match *algorithm {
                    "HS256" => ring::hmac::HMAC_SHA256,
                    "HS384" => ring::hmac::HMAC_SHA384,
                    _ => ring::hmac::HMAC_SHA512,
                };
                let key = ring::hmac::Key::new(algorithm, secret);
                ring::hmac::sign(&key, message).as_ref().to_vec()
            }
        }
    }
}

fn rsa_signature(algorithm: &str, message: &[u8]) -> Vec<u8> {
    use rsa::pkcs1v15::SigningKey as Pkcs1;
    use rsa::pss::SigningKey as Pss;
    let (key, mut random) = (rsa_key().clone(), rsa::rand_core::OsRng);
    match algorithm {
        "RS256" => Pkcs1::<Sha256>::new(key).sign(message).to_vec(),
        "RS384" => Pkcs1::<Sha384>::new(key).sign(message).to_vec(),
        "RS512" => Pkcs1::<Sha512>::new(key).sign(message).to_vec(),
        "PS256" => Pss::<Sha256>::new(key).sign_with_rng(&mut random, message).to_vec(),
        "PS384" => Pss::<Sha384>::new(key).sign_with_rng(&mut random, message).to_vec(),
        "PS512" => Pss::<Sha512>::new(key).sign_with_rng(&mut random, message).to_vec(),
        other => panic!("nobody signs with {other}"),
    }
}

/// What the process's one RSA key makes of a digest under any scheme, also one that no JWS may use.
pub fn rsa_signature_under(scheme: impl rsa::traits::SignatureScheme, digest: &[u8]) -> Vec<u8> {
    let signed = rsa_key().sign_with_rng(&mut rsa::rand_core::OsRng, scheme, digest);
    signed.expect("a signature")
}

/// The public half of the process's one RSA key.
pub fn rsa_public_key() -> RsaPublicKey {
    rsa_key().to_public_key()
}

fn rsa_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("an RSA key"))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A provider on a port of its own, publishing one ES256 key unless told otherwise.
pub struct Issuer {
    server: Upstream,
    key: Key,
    published: Arc<Mutex<Vec<Value>>>,
}

impl Issuer {
    pub fn new() -> Self {
        Self::signing_with(Key::es256("key-1"))
    }

    /// A provider that signs with this key and publishes it.
    pub fn signing_with(key: Key) -> Self {
        let published = Arc::new(Mutex::new(vec![key.jwk()]));
        let keys = Arc::clone(&published);
        let server = Upstream::http1(move |seen| serve(seen, &keys));
        Self { server, key, published }
    }

    /// The issuer identifier, which is where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The configuration's authenticator `customer`, for this issuer and its one kind of key.
    pub fn authenticator(&self) -> String {
        format!(
            "authenticators:
  customer:
    jwt:
      issuer: {}
      audience: [{AUDIENCE}]
      algorithms: [{}]
      jwks: discover
      typ: at+jwt
",
            self.url(),
            self.key.algorithm()
        )
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Publishes these members instead of what is published now.
    pub fn publish(&self, keys: Vec<Value>) {
        *self.published.lock().expect("no panic while publishing") = keys;
    }

    /// From now on answers with a failure where keys are asked for.
    pub fn go_away(&self) {
        self.server.answer_with(|_| Reply::status(503));
    }

    /// Answers whatever the test wants, as an issuer gone bad would.
    pub fn answer_with(&self, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.server.answer_with(answer);
    }

    /// Answers again as it did at first.
    pub fn come_back(&self) {
        let keys = Arc::clone(&self.published);
        self.server.answer_with(move |seen| serve(seen, &keys));
    }

    /// How often the keys were fetched.
    pub fn key_fetches(&self) -> usize {
        self.fetches("/jwks")
    }

    /// How often a path was fetched.
    pub fn fetches(&self, path: &str) -> usize {
        self.server.count_of(path)
    }

    /// The default claims, valid at any rehearsed instant from 2020 to 2035, with `changes` put over them; `null` takes a claim out.
    pub fn claims(&self, changes: &Value) -> Value {
        let mut claims = Map::new();
        claims.insert("iss".into(), json!(self.url()));
        claims.insert("aud".into(), json!(AUDIENCE));
        claims.insert("sub".into(), json!("u1"));
        claims.insert("iat".into(), json!(1_577_836_800));
        claims.insert("exp".into(), json!(2_051_222_400));
        for (name, value) in changes.as_object().expect("claims are an object") {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        Value::Object(claims)
    }

    /// A good access token but for what `changes` break.
    pub fn token(&self, changes: &Value) -> String {
        self.token_with(&json!({}), changes)
    }

    /// A token whose header is changed as well; `null` takes a member out.
    pub fn token_with(&self, header_changes: &Value, claim_changes: &Value) -> String {
        self.token_by(&self.key, header_changes, claim_changes)
    }

    /// A token of this issuer's claims, signed by any key.
    pub fn token_by(&self, key: &Key, header_changes: &Value, claim_changes: &Value) -> String {
        let mut header = json!({"alg": key.algorithm(), "typ": "at+jwt", "kid": key.id});
        for (name, value) in header_changes.as_object().expect("a header is an object") {
            let header = header.as_object_mut().expect("a header is an object");
            match value {
                Value::Null => header.remove(name),
                value => header.insert(name.clone(), value.clone()),
            };
        }
        key.sign(&header, &self.claims(claim_changes).to_string())
    }
}

fn serve(seen: &Seen, keys: &Mutex<Vec<Value>>) -> Reply {
    let issuer = format!("http://{}", seen.header("host").unwrap_or_default());
    match seen.path() {
        "/.well-known/openid-configuration" => Reply::json(&json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/jwks"),
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        })),
        "/jwks" => Reply::json(&json!({"keys": *keys.lock().expect("no panic while publishing")})),
        _ => Reply::status(404),
    }
}
