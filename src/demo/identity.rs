//! The identity provider: discovery (OpenID Connect Discovery 1.0 §4), its key set (RFC 7517), and access tokens
//! (RFC 9068) signed with ES256 (RFC 7518 §3.4). There is no login page; whoever holds a token is its user, and whoever asks
//! for one gets it: `GET /login/customer?acr_values=otp` is a login, `at=` the instant that it is to have been.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::http::{Reply, Request, Verb};
use super::{User, Which};

const LIFETIME_SECONDS: i64 = 24 * 60 * 60;

/// An issuer with one signing key, made when it is and gone with it.
pub(super) struct Identity {
    issuer: String,
    which: Which,
    random: SystemRandom,
    key: EcdsaKeyPair,
    key_id: String,
    jwk: Value,
}

impl Identity {
    pub(super) fn new(issuer: &str, which: Which) -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
            .map_err(|_| Unspecified)?;
        // An uncompressed point: one byte 4, then both coordinates (SEC 1 §2.3.3).
        let point = key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at_checked(32).ok_or(Unspecified)?;
        let (x, y) = (encoded(x), encoded(y));
        // The thumbprint of RFC 7638: required members only, in this order, no spaces.
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let key_id = encoded(digest(&SHA256, thumbprint.as_bytes()).as_ref());
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256", "kid": key_id,
        });
        Ok(Identity {
            issuer: issuer.to_owned(),
            which,
            random,
            key,
            key_id,
            jwk,
        })
    }

    /// The three users of the bank or the shop, with tokens issued at `now`.
    pub(super) fn users(&self, now: Timestamp) -> Result<Vec<User>, Unspecified> {
        accounts(self.which)
            .into_iter()
            .map(|account| self.user(&account, now))
            .collect()
    }

    pub(super) fn answer(&self, request: &Request, now: Timestamp) -> Reply {
        if let ["login", name] = request.path().as_slice() {
            return match request.verb {
                Verb::Get => self.login(name, request, now).into(),
                _ => Reply::not_allowed("GET, HEAD"),
            };
        }
        let document = match request.path().as_slice() {
            [".well-known", "openid-configuration"] => json!({
                "issuer": self.issuer,
                "jwks_uri": format!("{}/jwks", self.issuer),
                "response_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "claims_supported": CLAIMS,
            }),
            ["jwks"] => json!({ "keys": [self.jwk] }),
            _ => return Reply::not_found(),
        };
        match request.verb {
            Verb::Get => Reply::ok(&document).cached("public, max-age=300"),
            _ => Reply::not_allowed("GET, HEAD"),
        }
    }

    /// A token of a login just now, as RFC 9470 §4 lets clients ask for one: in the first of the wanted contexts.
    fn login(&self, name: &str, request: &Request, now: Timestamp) -> Result<Reply, Reply> {
        let mut all = accounts(self.which).into_iter();
        let mut account = all.find(|account| account.name == name).ok_or_else(Reply::not_found)?;
        if let Some(wanted) = request.parameter("acr_values") {
            let known = ["otp", "pwd"]
                .into_iter()
                .find(|known| wanted.split(' ').next() == Some(known));
            account.acr = known.ok_or_else(|| Reply::bad_request("`acr_values` is `otp` or `pwd`"))?;
        }
        let at = match request.parameter("at") {
            Some(at) => at.parse().map_err(|_| Reply::bad_request("`at` is an instant"))?,
            None => now,
        };
        let broken = |_| Reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "no token can be made");
        Ok(Reply::text(&self.user(&account, at).map_err(broken)?.token))
    }

    fn user(&self, account: &Account, now: Timestamp) -> Result<User, Unspecified> {
        let mut jti = [0; 16];
        self.random.fill(&mut jti)?;
        let issued = now.as_second();
        let mut claims = json!({
            "iss": self.issuer,
            "aud": match self.which { Which::Bank => "mobile-bank", Which::Shop => "shop" },
            "sub": account.subject,
            "client_id": account.client,
            "roles": [account.role],
            "iat": issued,
            "exp": issued + LIFETIME_SECONDS,
            "auth_time": issued,
            "acr": account.acr,
            "jti": encoded(&jti),
        });
        // RFC 9068 §2.2.3: without scopes the claim is left out.
        if let (false, Some(claims)) = (account.scope.is_empty(), claims.as_object_mut()) {
            claims.insert("scope".to_owned(), account.scope.into());
        }
        let token = self.sign(&claims)?;
        Ok(User {
            name: account.name,
            about: account.about,
            claims,
            token,
        })
    }

    fn sign(&self, claims: &Value) -> Result<String, Unspecified> {
        let header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": self.key_id });
        let signed = format!(
            "{}.{}",
            encoded(header.to_string().as_bytes()),
            encoded(claims.to_string().as_bytes())
        );
        let signature = self.key.sign(&self.random, signed.as_bytes())?;
        Ok(format!("{signed}.{}", encoded(signature.as_ref())))
    }
}

const CLAIMS: [&str; 11] = [
    "iss",
    "aud",
    "sub",
    "client_id",
    "scope",
    "roles",
    "iat",
    "exp",
    "auth_time",
    "acr",
    "jti",
];

/// What the identity provider knows of a user.
struct Account {
    name: &'static str,
    about: &'static str,
    subject: &'static str,
    client: &'static str,
    role: &'static str,
    scope: &'static str,
    acr: &'static str,
}

fn accounts(which: Which) -> [Account; 3] {
    match which {
        Which::Bank => [
            Account {
                name: "customer",
                about: "a customer with the bank's app",
                subject: "u1001",
                client: "bank-app",
                role: "customer",
                scope: "transfer:read transfer:write invest:write",
                acr: "otp",
            },
            Account {
                name: "teller",
                about: "a teller at a branch, logged in with a password alone",
                subject: "t2001",
                client: "branch-desk",
                role: "teller",
                scope: "transfer:read transfer:write",
                acr: "pwd",
            },
            Account {
                name: "treasury",
                about: "a treasury officer, who may transfer at night",
                subject: "r3001",
                client: "treasury-desk",
                role: "treasury",
                scope: "transfer:read transfer:write",
                acr: "otp",
            },
        ],
        Which::Shop => [
            Account {
                name: "shopper",
                about: "a shopper with an account",
                subject: "u5001",
                client: "shop-app",
                role: "shopper",
                scope: "order:read order:write payment:write",
                acr: "pwd",
            },
            Account {
                name: "staff",
                about: "somebody of the staff, who may look at orders",
                subject: "s6001",
                client: "shop-office",
                role: "staff",
                scope: "order:read",
                acr: "otp",
            },
            Account {
                name: "guest",
                about: "a guest, whose token carries no scope",
                subject: "g7001",
                client: "shop-app",
                role: "guest",
                scope: "",
                acr: "pwd",
            },
        ],
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
