//! Tokens that are bound to a client certificate (`cnf` with `x5t#S256`, RFC 8705 §3.1): good only over a connection that was
//! made with it, 401 `token-bound` otherwise. One that is bound to anything else, such as a key by DPoP (`jkt`, RFC 9449 §6), is
//! no bearer token, and nobody here could check it: 401 `token-type`.

use serde_json::Value;

use crate::engine::{ClientCertificate, CredentialRefusal, Principal};

/// The thumbprint of the certificate that this `cnf` binds its token to, or the code of a refusal.
pub(super) fn to(cnf: Option<&Value>) -> Result<Option<&str>, &'static str> {
    match cnf {
        None => Ok(None),
        Some(Value::Object(ways)) if ways.len() == 1 => match ways.get("x5t#S256") {
            Some(Value::String(thumbprint)) => Ok(Some(thumbprint)),
            _ => Err("token-type"),
        },
        Some(_) => Err("token-type"),
    }
}

/// Whether the connection is one that the principal's token may come by.
pub(super) fn check(principal: &Principal, certificate: Option<&ClientCertificate>) -> Result<(), CredentialRefusal> {
    let code = match to(principal.claims.get("cnf")) {
        Ok(None) => return Ok(()),
        Ok(Some(thumbprint)) if certificate.is_some_and(|shown| *shown.thumbprint == *thumbprint) => return Ok(()),
        Ok(Some(_)) => "token-bound",
        Err(code) => code,
    };
    Err(CredentialRefusal {
        code,
        detail: match code {
            "token-bound" => "The token is bound to a client certificate, and the connection was made without it.",
            _ => "The token is of a kind that is not accepted here.",
        },
        claimed_sub: Some((*principal.subject).into()),
    })
}
