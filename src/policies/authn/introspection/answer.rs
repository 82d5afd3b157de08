//! What an introspection endpoint answered (RFC 7662 §2.2), and whom that proves at an instant. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::IntrospectionAuthenticator;
use crate::engine::{CredentialRefusal, Principal, claims};
use crate::policies::authn::bound;
use crate::policies::authn::claimed::{Round, instant};

/// How far clocks may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// What an answer says, whenever it is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answered {
    /// The token is this caller's, within these instants.
    Active {
        principal: Arc<Principal>,
        /// `nbf`.
        from: Timestamp,
        /// `exp`, at which the token ends.
        until: Timestamp,
    },
    /// It proves nobody, at no time.
    Refused(&'static str),
}

/// The answer is none to what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("the answer is not a JSON object whose members are unique")]
    NotJson,
    #[error("the answer does not say whether the token is `active`, true or false")]
    NotSaid,
}

impl Answered {
    /// Reads the body of an answer.
    pub fn read(body: &[u8], authenticator: &IntrospectionAuthenticator) -> Result<Self, NoAnswer> {
        let mut members = claims::object(body).ok_or(NoAnswer::NotJson)?;
        match members.remove("active") {
            Some(Value::Bool(true)) => Ok(Self::of(members, authenticator).unwrap_or_else(Self::Refused)),
            Some(Value::Bool(false)) => Ok(Self::Refused("token-inactive")),
            // `"true"` and 1 are true for many readers, and for the next one false.
            _ => Err(NoAnswer::NotSaid),
        }
    }

    fn of(claims: Map<String, Value>, authenticator: &IntrospectionAuthenticator) -> Result<Self, &'static str> {
        let issuer = authenticator.expected_issuer.as_deref();
        if let (Some(expected), Some(said)) = (issuer, claims.get("iss"))
            && said.as_str() != Some(expected)
        {
            return Err("token-issuer");
        }
        if let Some(wanted) = &authenticator.audience {
            let listed = |said: &str| wanted.iter().any(|audience| audience == said);
            let heard = match claims.get("aud") {
                Some(Value::String(audience)) => listed(audience),
                Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(listed),
                _ => false,
            };
            if !heard {
                return Err("token-audience");
            }
        }
        // A token bound to a key (RFC 9449 §6.2) is no proof without it, and nobody here could tell; a refresh token is for
        // its issuer alone.
        let is_bearer = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if claims.get("token_type").is_some_and(|kind| !is_bearer(kind)) {
            return Err("token-type");
        }
        bound::to(claims.get("cnf"))?;
        for name in ["exp", "nbf", "iat"] {
            if claims.get(name).is_some_and(|claim| !claim.is_number()) {
                return Err("token-claims");
            }
        }
        let dated = |name, round| claims.get(name).and_then(|claim| instant(claim, round));
        let from = dated("nbf", Round::Up).unwrap_or(Timestamp::MIN);
        let until = dated("exp", Round::Down).unwrap_or(Timestamp::MAX);
        let principal = authenticator.claimed().principal(claims).ok_or("token-claims")?;
        Ok(Self::Active {
            principal: Arc::new(principal),
            from,
            until,
        })
    }

    /// Whom it proves at an instant.
    pub fn judge(&self, now: Timestamp) -> Result<Arc<Principal>, CredentialRefusal> {
        match self {
            Self::Refused(code) => Err(refusal(code)),
            Self::Active { from, .. } if now < from.checked_sub(LEEWAY).unwrap_or(Timestamp::MIN) => {
                Err(refusal("token-not-yet-valid"))
            }
            Self::Active { until, .. } if now >= until.checked_add(LEEWAY).unwrap_or(Timestamp::MAX) => {
                Err(refusal("token-expired"))
            }
            Self::Active { principal, .. } => Ok(principal.clone()),
        }
    }

    /// Whether it may be believed at an instant without asking again: the end of a token has no leeway then.
    pub fn stands(&self, now: Timestamp) -> bool {
        match self {
            Self::Active { from, until, .. } => *from <= now && now < *until,
            Self::Refused(_) => true,
        }
    }
}

fn refusal(code: &'static str) -> CredentialRefusal {
    let detail = match code {
        "token-inactive" => "The token is not active.",
        "token-expired" => "The token has expired.",
        "token-not-yet-valid" => "The token is not valid yet.",
        "token-issuer" => "The token is from an issuer that is not accepted here.",
        "token-audience" => "The token is meant for somebody else.",
        "token-type" => "The token is of a kind that is not accepted here.",
        _ => "The token lacks a required claim.",
    };
    CredentialRefusal {
        code,
        detail,
        claimed_sub: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::policies::authn::Authenticator;
    use crate::policies::authn::tests::kit::{compile, noon};

    fn authenticator(more: &str) -> Arc<IntrospectionAuthenticator> {
        let (all, _) = compile(&format!(
            "main: {{ introspection: {{ endpoint: https://id.example/i, client_id: a, client_secret: \"${{env:GWANMUN_TEST_NO_SUCH}}\", {more} }} }}"
        ));
        let Authenticator::Introspection(one) = all.get("main").unwrap().1 else {
            panic!()
        };
        one.clone()
    }

    /// Who calls, the code of a refusal, or that nothing was said.
    fn said(more: &str, body: &str) -> String {
        match Answered::read(body.as_bytes(), &authenticator(more)).map(|answered| answered.judge(noon())) {
            Ok(Ok(principal)) => principal.subject.to_string(),
            Ok(Err(refusal)) => refusal.code.to_owned(),
            Err(NoAnswer::NotJson) => "not JSON".into(),
            Err(NoAnswer::NotSaid) => "not said".into(),
        }
    }

    #[test]
    fn only_true_is_active() {
        for (body, expected) in [
            (r#"{"active":true,"sub":"u1"}"#, "u1"),
            (r#"{"active":false,"sub":"u1"}"#, "token-inactive"),
            (r#"{"active":false}"#, "token-inactive"),
            (r#"{"active":"true","sub":"u1"}"#, "not said"),
            (r#"{"active":"false","sub":"u1"}"#, "not said"),
            (r#"{"active":1,"sub":"u1"}"#, "not said"),
            (r#"{"active":null,"sub":"u1"}"#, "not said"),
            (r#"{"active":[true],"sub":"u1"}"#, "not said"),
            (r#"{"Active":true,"sub":"u1"}"#, "not said"),
            (r#"{"sub":"u1"}"#, "not said"),
            (r#"{"active":false,"active":true,"sub":"u1"}"#, "not JSON"),
            (r#"{"active":true,"sub":"u1","sub":"u2"}"#, "not JSON"),
            (r#"{"active":true,"sub":"u1"} x"#, "not JSON"),
            (r#"[{"active":true,"sub":"u1"}]"#, "not JSON"),
            ("true", "not JSON"),
            ("", "not JSON"),
        ] {
            assert_eq!(said("", body), expected, "{body}");
        }
    }

    #[test]
    fn looks_at_what_the_answer_says_of_the_token() {
        let issuer = "issuer: https://id.example,";
        let audience = "audience: [api, web],";
        for (more, claims, expected) in [
            (issuer, "", "u1"),
            (issuer, r#","iss":"https://id.example""#, "u1"),
            (issuer, r#","iss":"https://id.example/""#, "token-issuer"),
            (issuer, r#","iss":null"#, "token-issuer"),
            (issuer, r#","iss":["https://id.example"]"#, "token-issuer"),
            ("", r#","iss":"https://whoever.example""#, "u1"),
            (audience, "", "token-audience"),
            (audience, r#","aud":"api""#, "u1"),
            (audience, r#","aud":["x","web"]"#, "u1"),
            (audience, r#","aud":["x",5]"#, "token-audience"),
            (audience, r#","aud":"api web""#, "token-audience"),
            (audience, r#","aud":{"api":"api"}"#, "token-audience"),
            (audience, r#","aud":[]"#, "token-audience"),
            ("", r#","aud":"whatever""#, "u1"),
            ("", r#","token_type":"Bearer""#, "u1"),
            ("", r#","token_type":"bearer""#, "u1"),
            ("", r#","token_type":"DPoP""#, "token-type"),
            ("", r#","token_type":"refresh_token""#, "token-type"),
            ("", r#","token_type":5"#, "token-type"),
            ("", r#","cnf":{"jkt":"x"}"#, "token-type"),
            // Whether it comes by the right connection is looked at by whoever knows the connection.
            ("", r#","cnf":{"x5t#S256":"x"}"#, "u1"),
            ("", r#","cnf":{"x5t#S256":"x","jkt":"x"}"#, "token-type"),
            ("", r#","cnf":null"#, "token-type"),
            ("", r#","exp":"1795521600""#, "token-claims"),
            ("", r#","nbf":true"#, "token-claims"),
            ("", r#","iat":"x""#, "token-claims"),
        ] {
            let body = format!(r#"{{"active":true,"sub":"u1"{claims}}}"#);
            assert_eq!(said(more, &body), expected, "{body}");
        }
        for (more, body, expected) in [
            ("", r#"{"active":true}"#, "token-claims"),
            ("", r#"{"active":true,"client_id":"robot"}"#, "token-claims"),
            ("", r#"{"active":true,"sub":""}"#, "token-claims"),
            ("", r#"{"active":true,"sub":5}"#, "token-claims"),
            ("", "{\"active\":true,\"sub\":\"a\\nb\"}", "token-claims"),
            (
                "subject: client_id,",
                r#"{"active":true,"client_id":"robot","sub":"u1"}"#,
                "robot",
            ),
            ("subject: user.id,", r#"{"active":true,"user":{"id":"u7"}}"#, "u7"),
        ] {
            assert_eq!(said(more, body), expected, "{body}");
        }
    }

    #[test]
    fn a_token_is_good_within_its_time_and_half_a_minute_about_it() {
        let now = noon().as_second();
        let with = |name: &str, at: i64| said("", &format!(r#"{{"active":true,"sub":"u1","{name}":{at}}}"#));
        assert_eq!(with("exp", now + 1), "u1");
        assert_eq!(with("exp", now - 29), "u1");
        assert_eq!(with("exp", now - 30), "token-expired");
        assert_eq!(with("exp", i64::MIN), "token-expired");
        assert_eq!(with("nbf", now + 30), "u1");
        assert_eq!(with("nbf", now + 31), "token-not-yet-valid");
        assert_eq!(with("nbf", i64::MAX), "token-not-yet-valid");
        let body = format!(r#"{{"active":true,"sub":"u1","exp":{now},"nbf":{}}}"#, now - 60);
        let answered = Answered::read(body.as_bytes(), &authenticator("")).unwrap();
        let at = |seconds: i64| Timestamp::from_second(now + seconds).unwrap();
        assert!(answered.stands(at(-1)) && !answered.stands(at(0)) && !answered.stands(at(-61)));
    }

    #[test]
    fn maps_claims_as_it_is_told_to() {
        let body = r#"{"active":true,"sub":"u1","scope":"a b","realm":{"roles":["teller"]},"jti":"t1","acr":"otp","auth_time":5,"exp":1795600000}"#;
        let answered = Answered::read(body.as_bytes(), &authenticator("roles: realm.roles,")).unwrap();
        let principal = answered.judge(noon()).unwrap();
        assert_eq!(
            (&*principal.authenticator, &*principal.issuer),
            ("main", "introspection:main")
        );
        assert!(principal.has_scope("b") && principal.has_role("teller"));
        assert_eq!(
            (principal.token_id.as_deref(), principal.acr.as_deref()),
            (Some("t1"), Some("otp"))
        );
        assert_eq!(principal.expires.unwrap().as_second(), 1_795_600_000);
        assert!(principal.claim("active").is_none());
        let named = Answered::read(body.as_bytes(), &authenticator("issuer: https://id.example,")).unwrap();
        assert_eq!(&*named.judge(noon()).unwrap().issuer, "https://id.example");
    }
}
