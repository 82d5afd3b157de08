//! Signatures by the right key under a scheme that nearly is the right one.

use rsa::Pkcs1v15Sign;
use rsa::pss::Pss;
use rsa::sha2::{Digest, Sha256, Sha512};

use super::{Bench, Cases, SECRET, claims, encode};
use crate::support::{Key, rsa_signature_under};

/// What is hashed for a token of this algorithm's header, and what comes before the signature.
fn message(bench: &Bench, algorithm: &str) -> String {
    let header = format!(
        r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{}"}}"#,
        algorithm.to_lowercase()
    );
    format!("{}.{}", encode(header), encode(bench.claims(&[])))
}

/// RSA: the padding says which hash it was, and how much salt there is (RFC 8017 §8.1, §9.2; RFC 7518 §3.3, §3.5).
pub(super) fn paddings(bench: &Bench, cases: &mut Cases) {
    let message256 = message(bench, "RS256");
    let digest = Sha256::digest(&message256);
    // DigestInfo without its length octets being minded by anybody: only the very first is that of SHA-256.
    let good = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04,
        0x20,
    ];
    let without_null = [
        0x30, 0x2f, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x04, 0x20,
    ];
    let long_form = [&[0x30, 0x81][..], &good[1..]].concat();
    let sha512_256 = {
        let mut prefix = good;
        prefix[14] = 0x06;
        prefix
    };
    let sha3 = {
        let mut prefix = good;
        prefix[14] = 0x08;
        prefix
    };
    let by = |prefix: &[u8]| {
        let scheme = Pkcs1v15Sign {
            hash_len: Some(32),
            prefix: prefix.into(),
        };
        rsa_signature_under(scheme, &digest)
    };
    let token = |message: &str, signature: Vec<u8>| format!("{message}.{}", encode(signature));
    for (name, prefix) in [
        ("no DigestInfo", &[][..]),
        ("DigestInfo without NULL", &without_null),
        ("a length in the long form", &long_form),
        ("the name of SHA-512/256", &sha512_256),
        ("the name of SHA3-256", &sha3),
    ] {
        cases.token(
            "token-signature",
            format!("RS256 padding: {name}"),
            &token(&message256, by(prefix)),
        );
    }
    cases.token(
        "token-signature",
        "RS256 padding: that of PSS",
        &token(
            &message256,
            rsa_signature_under(Pss::new_with_salt::<Sha256>(32), &digest),
        ),
    );
    let message_pss = message(bench, "PS256");
    let digest = Sha256::digest(&message_pss);
    for salt in [0, 20, 31, 33, 64, 222] {
        cases.token(
            "token-signature",
            format!("PS256 salt of {salt}"),
            &token(
                &message_pss,
                rsa_signature_under(Pss::new_with_salt::<Sha256>(salt), &digest),
            ),
        );
    }
    cases.token(
        "token-signature",
        "PS256 with SHA-512",
        &token(
            &message_pss,
            rsa_signature_under(Pss::new_with_salt::<Sha512>(64), &Sha512::digest(&message_pss)),
        ),
    );
    cases.token(
        "token-signature",
        "PS256 padding: that of PKCS#1 v1.5",
        &token(
            &message_pss,
            rsa_signature_under(Pkcs1v15Sign::new::<Sha256>(), &digest),
        ),
    );
}

/// HMAC: the whole tag of the hash that the header names (RFC 7518 §3.2).
pub(super) fn tags(_: &Bench, cases: &mut Cases) {
    let payload = claims("\"https://machine.example\"", &[]);
    for (alg, signed_by) in [("HS256", "HS512"), ("HS512", "HS256"), ("HS384", "HS256")] {
        let signed_by = Key::hmac(signed_by, "m", SECRET.as_bytes());
        let token = signed_by.sign_text(format!(r#"{{"alg":"{alg}"}}"#), &payload);
        cases.token("token-signature", format!("{} as {alg}", signed_by.algorithm()), &token);
    }
    let message = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(&payload));
    let tag = Key::hs256("m", SECRET.as_bytes()).signature(message.as_bytes());
    let flipped: Vec<u8> = tag
        .iter()
        .enumerate()
        .map(|(at, byte)| byte ^ u8::from(at == 31))
        .collect();
    for (name, tag) in [
        ("empty", vec![]),
        ("half", tag[..16].to_vec()),
        ("a byte short", tag[..31].to_vec()),
        ("a byte long", [&tag[..], &[0]].concat()),
        ("doubled", [&tag[..], &tag].concat()),
        ("the last bit", flipped),
        ("zeros", vec![0; 32]),
        (
            "in hexadecimal",
            tag.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into_bytes(),
        ),
        (
            "over the payload alone",
            Key::hs256("m", SECRET.as_bytes()).signature(encode(&payload).as_bytes()),
        ),
        (
            "over the message and a dot",
            Key::hs256("m", SECRET.as_bytes()).signature(format!("{message}.").as_bytes()),
        ),
    ] {
        cases.token(
            "token-signature",
            format!("HS256 tag: {name}"),
            &format!("{message}.{}", encode(tag)),
        );
    }
}
