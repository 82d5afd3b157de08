//! Who the caller proved to be.

use std::sync::Arc;

use compact_str::CompactString;
use jiff::Timestamp;
use serde_json::Value;
use smallvec::SmallVec;

use super::claims::Claims;

/// Scopes or roles by their names; a few short ones take no memory of their own.
pub type Granted = SmallVec<[CompactString; 3]>;

/// A verified caller. Its identity is (authenticator, issuer, subject), never the subject alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// The authenticator that verified the caller, by its name in the configuration.
    pub authenticator: Arc<str>,
    /// Who vouches: the token's issuer, or a tag of the authenticator's own (`api-key:NAME`) for kinds without one.
    pub issuer: Arc<str>,
    /// The subject as the issuer spells it.
    pub subject: CompactString,
    /// Granted scopes.
    pub scopes: Granted,
    /// Roles, from the claim that the authenticator names.
    pub roles: Granted,
    /// All claims of the credential. Those of a token keep the token in memory, its signature included.
    pub claims: Claims,
    /// When the caller last proved itself to the issuer.
    pub auth_time: Option<Timestamp>,
    /// The authentication context the issuer asserts.
    pub acr: Option<CompactString>,
    /// When the credential ends, leeway not counted.
    pub expires: Option<Timestamp>,
    /// The credential's own identifier: a token's `jti`, what is shown of an API key.
    pub token_id: Option<CompactString>,
    /// (authenticator, issuer, subject), each framed by its length, so that no subject can spell another's.
    pub identity: Box<[u8]>,
}

const _: () = assert!(
    size_of::<Principal>() <= 400,
    "it takes more than `Principal::SIZE` says"
);

impl Principal {
    /// What one takes that is remembered: with its identity and its place, without its claims and what is granted. In bytes.
    pub const SIZE: usize = 768;

    /// What is granted takes so many bytes more.
    pub fn granted_size(&self) -> usize {
        let size = |names: &Granted| if names.spilled() { size_of_val(&**names) } else { 0 };
        size(&self.scopes) + size(&self.roles)
    }

    /// The framed identity of the three parts.
    pub fn frame(authenticator: &str, issuer: &str, subject: &str) -> Box<[u8]> {
        let mut framed = Vec::with_capacity(24 + authenticator.len() + issuer.len() + subject.len());
        for part in [authenticator, issuer, subject] {
            framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            framed.extend_from_slice(part.as_bytes());
        }
        framed.into_boxed_slice()
    }

    /// Whether the scope was granted.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| held == scope)
    }

    /// Whether the role is held.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }

    /// When the credential was issued (`iat`), in seconds since 1970, a fraction cut off; `None` where it does not say.
    pub fn issued(&self) -> Option<i64> {
        let number = self.claims.get("iat")?.as_number()?;
        // Saturates, which is as far as time goes.
        number.as_i64().or_else(|| Some(number.as_f64()?.floor() as i64))
    }

    /// A claim by its path (`address.country`): the exact name first, then member by member, shorter names first.
    pub fn claim(&self, path: &str) -> Option<&Value> {
        self.claims.at(path)
    }
}
