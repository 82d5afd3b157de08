//! `WWW-Authenticate` of the scheme `Bearer`: what a caller is told of the credential that would do (RFC 6750 §3, RFC 9470 §3).
//!
//! | sent | status | `error` |
//! |---|---|---|
//! | no credential, or one of another scheme | 401 | none: the caller may not know yet that one is needed |
//! | more than one | 401 | `invalid_request` |
//! | one that does not prove anybody, whatever is wrong with it | 401 | `invalid_token` |
//! | one without a scope that is needed | 403 | `insufficient_scope`, with `scope`: all that are needed |
//! | one whose login is too weak or too old | 401 | `insufficient_user_authentication`, with `acr_values`, `max_age` |

use std::fmt::Write;

use http::HeaderValue;

/// Where credentials are asked for, as challenges name it.
pub const REALM: &str = "gwanmun";

/// A challenge being written.
#[derive(Debug)]
pub struct Bearer(String);

impl Bearer {
    /// One that says nothing but where a credential is needed.
    pub fn plain() -> Self {
        Self(format!("Bearer realm=\"{REALM}\""))
    }

    /// One that says what is wrong with the credential.
    pub fn error(code: &str) -> Self {
        Self::plain().with("error", code)
    }

    /// Adds a parameter; the value is quoted (RFC 9110 §5.6.4).
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.0, ", {name}=\"");
        for letter in value.chars() {
            if matches!(letter, '"' | '\\') {
                self.0.push('\\');
            }
            self.0.push(letter);
        }
        self.0.push('"');
        self
    }

    /// The value of the header. What cannot stand in one leaves the plain challenge, which always can.
    pub fn value(self) -> HeaderValue {
        HeaderValue::try_from(self.0)
            .or_else(|_| HeaderValue::try_from(Self::plain().0))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_challenges_as_the_rfcs_have_them() {
        assert_eq!(Bearer::plain().value(), "Bearer realm=\"gwanmun\"");
        assert_eq!(
            Bearer::error("insufficient_scope").with("scope", "a b:c").value(),
            "Bearer realm=\"gwanmun\", error=\"insufficient_scope\", scope=\"a b:c\""
        );
    }

    #[test]
    fn quotes_what_would_end_a_value() {
        assert_eq!(
            Bearer::plain().with("scope", r#"a", error="x\"#).value(),
            r#"Bearer realm="gwanmun", scope="a\", error=\"x\\""#
        );
        assert_eq!(Bearer::plain().with("scope", "a\r\nb").value(), Bearer::plain().value());
    }
}
