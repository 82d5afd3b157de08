//! `cache`: answers from memory what the origin lets a shared cache keep (RFC 9111).
//!
//! ```yaml
//! cache: { ttl: 30s, share: public }      # `ttl` speaks where the origin is silent; `{}` follows the origin alone
//! ```
//!
//! `share: public` serves everybody, and the request that fills the cache carries no credential. `share: principal` keeps
//! entries apart by identity and by everything that the upstream is told of the caller: what `forward` and `request` say, and
//! the token itself, unless `forward: { authorization: drop }`. It may keep `private` answers. On a route with `auth` the word
//! has to be written.
//!
//! [`storable`] says what may be kept and served, [`store`] keeps it.

mod changes;
pub mod storable;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::conf::{Describe, Node, Read, Spanned};
use crate::engine::{Act, Answer, CacheRule, Facts, Policy, Share, Stage, Verdict, Why};
use crate::policies::{Draft, Inherit, Kind, Scope};

/// The kind.
pub const KIND: Kind = Kind {
    name: "cache",
    inherit: Inherit::Never,
    compile,
    schema: Cache::schema,
};

crate::words! {
    /// Who may be served a stored answer, as written.
    pub enum ShareWord {
        /// Everybody; the request that fills the cache carries no credential.
        Public = "public",
        /// The same caller only, as the upstream is told of it.
        Principal = "principal",
    }
}

crate::settings! {
    /// Answers from memory what the origin lets a shared cache keep; `{}` follows the origin alone.
    struct Cache {
        /// For how long, where the origin is silent.
        ttl: Option<Duration>,
        /// Who is served a stored answer. Has to be written on a route with `auth`.
        share: Option<Spanned<ShareWord>>,
    }
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let Some(settings) = Cache::read(node, scope.load) else {
        return Vec::new();
    };
    let share = match &settings.share {
        None if scope.has_auth => {
            let message = "`share: principal` or `share: public` has to be written on a route with `auth`";
            scope.load.error(&node.place, message);
            return Vec::new();
        }
        Some(share) if share.value == ShareWord::Principal && !scope.has_auth => {
            let message = "`share: principal` needs `auth`: nobody is told apart here";
            scope.load.error(&share.place, message);
            return Vec::new();
        }
        Some(share) if share.value == ShareWord::Principal => Share::Principal,
        _ => Share::Public,
    };
    let rule = CacheRule {
        route: scope.route.clone(),
        ttl: settings.ttl,
        share,
    };
    vec![Draft {
        name: Arc::from(KIND.name),
        stage: Stage::Shape,
        shadow: false,
        place: node.place.clone(),
        policy: Arc::new(Caches(Arc::new(rule))),
    }]
}

#[derive(Debug)]
struct Caches(Arc<CacheRule>);

impl Policy for Caches {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let safe = matches!(*facts.request.method, Method::GET | Method::HEAD);
        let nobody = self.0.share == Share::Principal && facts.principal.is_none();
        if !safe || nobody {
            return Verdict::pass(Why::NotConcerned);
        }
        Verdict::add(Act::Cache(self.0.clone()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::conf::Load;
    use crate::policies::Defined;

    fn findings(text: &str, has_auth: bool) -> Vec<String> {
        let load = Load::new();
        let node = load.text("t.yaml", text).unwrap();
        let defined = Defined::default();
        let scope = Scope {
            has_auth,
            params: None,
            cors: None,
            ..Scope::plain(&load, &defined)
        };
        let drafts = compile(&node, &scope);
        assert!(!drafts.is_empty() || load.has_errors());
        load.into_findings(Some(&node))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn wants_the_sharing_written_where_callers_are_told_apart() {
        assert!(findings("{}", false).is_empty());
        assert!(findings("{ ttl: 5s, share: public }", false).is_empty());
        assert!(findings("{ ttl: 5s, share: public }", true).is_empty());
        assert!(findings("{ share: principal }", true).is_empty());
        assert!(findings("{ ttl: 5s }", true)[0].contains("has to be written"));
        assert_eq!(
            findings("ttl: 5s\nshare: principal", false),
            ["t.yaml:2:8: `share: principal` needs `auth`: nobody is told apart here (at `share`)"]
        );
        assert!(findings("{ tll: 5s }", false)[0].contains("did you mean `ttl`"));
    }
}
