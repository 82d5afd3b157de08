//! Credentials that prove nothing.

use serde_json::{Value, json};

use super::{Row, row};
use crate::support::{Gateway, Issuer, Key};

pub fn rows(gateway: &Gateway, issuer: &Issuer) -> Vec<Row> {
    let bad = |what, token: &str, codes| row(what, gateway.get("/transfers").bearer(token), "401", codes);
    let claims = |what, changes: Value, codes| bad(what, &issuer.token(&changes), codes);
    let header = |what, changes: Value, codes| bad(what, &issuer.token_with(&changes, &json!({})), codes);
    let named = |what, name, value: &str, codes| row(what, gateway.get("/transfers").header(name, value), "401", codes);

    let key = issuer.key();
    let signed = |payload: &str| key.sign(&json!({"alg": "ES256", "typ": "at+jwt", "kid": key.id}), payload);
    let good = issuer.token(&json!({"scope": "transfer:read"}));
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("a compact token")
    };
    let unsigned = key.sign(&json!({"alg": "none"}), &issuer.claims(&json!({})).to_string());
    let unsigned = unsigned.rsplit_once('.').map(|(unsigned, _)| format!("{unsigned}."));
    let other_body = issuer.token(&json!({"scope": "transfer:read", "sub": "u2"}));
    let other_body = other_body.split('.').nth(1).unwrap_or_default();
    let by = |key: &Key, header: Value| issuer.token_by(key, &header, &json!({}));
    let impostor = Key::es256(&key.id);
    let stranger = Key::es256("stranger");
    let confused = Key::hs256(&key.id, &key.public_bytes());

    vec![
        row("no token", gateway.get("/transfers"), "401", "token-missing"),
        named("a token in another header", "x-authorization", &good, "token-missing"),
        row(
            "a token in the query",
            gateway.get(&format!("/transfers?access_token={good}")),
            "401",
            "token-missing",
        ),
        named("a password", "authorization", "Basic dTpw", "credential-unreadable"),
        named(
            "a scheme alone",
            "authorization",
            "Bearer",
            "credential-unreadable|token-malformed",
        ),
        named(
            "a token without a scheme",
            "authorization",
            &good,
            "credential-unreadable",
        ),
        row(
            "two credentials",
            gateway
                .get("/transfers")
                .bearer(&good)
                .header("authorization", "Bearer x"),
            "401",
            "credential-unreadable",
        ),
        bad("two parts", &format!("{head}.{body}"), "token-malformed"),
        bad("four parts", &format!("{good}.x"), "token-malformed"),
        bad(
            "not ASCII",
            &format!("{head}.§§.{signature}"),
            "token-malformed|credential-unreadable",
        ),
        bad(
            "not base64",
            &format!("{head}.!!.{signature}"),
            "token-malformed|credential-unreadable",
        ),
        bad(
            "padded base64",
            &format!("{head}==.{body}.{signature}"),
            "token-malformed",
        ),
        bad(
            "a header that is not JSON",
            &format!("bm9wZQ.{body}.{signature}"),
            "token-malformed",
        ),
        bad("signed nonsense", &signed("nonsense"), "token-malformed|token-claims"),
        bad("claims as a list", &signed("[1]"), "token-malformed|token-claims"),
        bad(
            "a flipped signature",
            &format!("{head}.{body}.{}", flipped(signature)),
            "token-signature",
        ),
        bad(
            "no signature",
            &format!("{head}.{body}."),
            "token-signature|token-malformed",
        ),
        bad(
            "half a signature",
            &format!("{head}.{body}.{}", &signature[..43]),
            "token-signature|token-malformed",
        ),
        bad(
            "other claims under the signature",
            &format!("{head}.{other_body}.{signature}"),
            "token-signature",
        ),
        bad(
            "another key under the same id",
            &by(&impostor, json!({})),
            "token-signature",
        ),
        bad("an unknown key id", &by(&stranger, json!({})), "token-key-unknown"),
        bad(
            "a key in the header",
            &by(&stranger, json!({"jwk": stranger.jwk()})),
            "token-key-unknown",
        ),
        bad(
            "the public key as shared secret",
            &by(&confused, json!({})),
            "token-algorithm",
        ),
        bad(
            "algorithm none",
            &unsigned.unwrap_or_default(),
            "token-algorithm|token-malformed",
        ),
        header("an algorithm not listed", json!({"alg": "ES384"}), "token-algorithm"),
        header(
            "an algorithm nobody knows",
            json!({"alg": "XX256"}),
            "token-algorithm|token-malformed",
        ),
        header("no algorithm", json!({"alg": null}), "token-algorithm|token-malformed"),
        header(
            "a critical extension",
            json!({"crit": ["exp2"], "exp2": 1}),
            "token-crit",
        ),
        header("another type", json!({"typ": "JWT"}), "token-type"),
        header("no type", json!({"typ": null}), "token-type"),
        claims("expired", json!({"exp": 1_700_000_000}), "token-expired"),
        claims("not yet valid", json!({"nbf": 1_900_000_000}), "token-not-yet-valid"),
        claims("no expiry", json!({"exp": null}), "token-claims"),
        claims("expiry as text", json!({"exp": "2051222400"}), "token-claims"),
        claims(
            "another issuer",
            json!({"iss": "https://id.bank.example"}),
            "token-issuer",
        ),
        claims(
            "the issuer with a slash",
            json!({"iss": format!("{}/", issuer.url())}),
            "token-issuer",
        ),
        claims("no issuer", json!({"iss": null}), "token-claims|token-issuer"),
        claims(
            "issuers as a list",
            json!({"iss": [issuer.url()]}),
            "token-claims|token-issuer",
        ),
        claims("another audience", json!({"aud": ["other-bank"]}), "token-audience"),
        claims("no audience", json!({"aud": null}), "token-claims"),
        claims(
            "an audience that begins alike",
            json!({"aud": "mobile-banking"}),
            "token-audience",
        ),
        claims("a number as subject", json!({"sub": 5}), "token-claims"),
    ]
}

/// Another signature: its first character is changed, since the last one may carry bits that mean nothing.
fn flipped(signature: &str) -> String {
    let other = if signature.starts_with('A') { "B" } else { "A" };
    format!("{other}{}", &signature[1..])
}
