//! `forward`: what the upstream learns of the caller, in headers of the gateway's own.
//!
//! ```yaml
//! forward: { x-user: principal.sub, x-scopes: principal.scopes, x-email: claims.email, authorization: drop }
//! ```
//!
//! Every header named in any `forward:` of the file is stripped from every request first, so that no caller can spell
//! one, and so is what servers take for a proxy's word on who calls or from where (`x-forwarded-user`, `remote-user`,
//! `client-cert`, …; all of them in `engine/hearsay.rs`), named or not. Lists are joined by a space. What is absent is left
//! out; what cannot stand in a header as it is, is 403 `caller-untellable`, as an upstream must not take the caller for one
//! without it, or for another: a control character, a space before or after the value, which readers take away (RFC 9110 §5.5),
//! a space within a role, which would be two. `authorization` is `keep` (the default of routes with `auth`), `drop` (of routes
//! without), or `passport`: a token of the gateway's own instead of the caller's ([`passport`]).

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value as Json};

use super::{Draft, Inherit, Kind, Scope, passport};
use crate::conf::{Entry, Node, Place, Schema, Schemas, TOKEN, Value, nearest};
use crate::engine::{
    Act, Answer, Denial, DenialKind, Facts, Forwarded, Granted, HeaderEdits, Policy, Principal, Stage, Verdict, Why,
};

/// `forward` on a route or in `defaults`.
pub const KIND: Kind = Kind {
    name: "forward",
    inherit: Inherit::Single,
    compile,
    schema,
};

/// `authorization`, as JSON Schema has no patterns without case.
const ANY_CASE: &str = "^[Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Aa][Tt][Ii][Oo][Nn]$";

/// Headers that frame or route the message, or that the gateway writes itself.
pub(super) const RESERVED: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
];

/// The headers that a `forward:` value names, without reporting what is wrong with it.
pub fn names(node: &Node) -> Vec<HeaderName> {
    let Value::Map(entries) = &node.value else {
        return Vec::new();
    };
    let names = entries.iter().filter_map(|entry| entry.key.parse().ok());
    names.filter(|name| *name != header::AUTHORIZATION).collect()
}

/// Whether the value tells the upstream anything of the caller.
pub fn tells(node: &Node) -> bool {
    !names(node).is_empty() || says(node, "passport")
}

/// Whether the value says in so many words that the upstream sees the caller's credential.
pub fn keeps(node: &Node) -> bool {
    says(node, "keep")
}

fn says(node: &Node, word: &str) -> bool {
    let Value::Map(entries) = &node.value else {
        return false;
    };
    let is_word = |value: &Value| matches!(value, Value::Scalar { text, .. } if text == word);
    let says = |entry: &Entry| entry.key.eq_ignore_ascii_case("authorization") && is_word(&entry.value.value);
    entries.iter().any(says)
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let draft = |policy: Arc<dyn Policy>| Draft {
        name: Arc::from("forward"),
        stage: Stage::Shape,
        shadow: false,
        place: node.place.clone(),
        policy,
    };
    if scope.is_off(node) {
        return Vec::new();
    }
    let Some(entries) = node.entries(scope.load) else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    let mut drafts = Vec::new();
    for entry in entries {
        let Ok(name) = entry.key.parse::<HeaderName>() else {
            scope
                .load
                .error(&entry.key_place, format!("`{}` is not a header name", entry.key));
            continue;
        };
        let Some(text) = entry.value.text("what to forward, such as `principal.sub`", scope.load) else {
            continue;
        };
        if name == header::AUTHORIZATION {
            if let Some(forwarded) = authorization(text, &entry.value.place, scope) {
                drafts.push(draft(Arc::new(forwarded)));
            }
            continue;
        }
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("gwanmun-") {
            scope
                .load
                .error(&entry.key_place, format!("`{name}` is written by the gateway itself"));
            continue;
        }
        if !scope.has_auth {
            scope.load.error(
                &entry.value.place,
                "there is no caller to tell of: the route has `auth: none`",
            );
            continue;
        }
        match source(text) {
            Ok(source) => headers.push((name, source)),
            Err(message) => scope.load.error(&entry.value.place, message),
        }
    }
    if !headers.is_empty() {
        drafts.push(draft(Arc::new(Forward(headers))));
    }
    drafts
}

fn authorization(text: &str, place: &Place, scope: &Scope<'_>) -> Option<Authorization> {
    let forwarded = match text {
        "keep" => Forwarded::Credential,
        "drop" => Forwarded::Nothing,
        "passport" => Forwarded::Passport,
        _ => {
            let message = format!("`{text}` is neither `keep` nor `drop` nor `passport`");
            scope.load.error(place, message);
            return None;
        }
    };
    let mut passport = None;
    if forwarded == Forwarded::Passport {
        passport::refer(scope.load);
        if !scope.has_auth {
            let message = "nobody is known here who could have a passport: the route has `auth: none`";
            scope.load.error(place, message);
        } else if !passport::is_there(scope.load) {
            let message = "there is no `passport:` that says by which key they are signed";
            scope.load.error(place, message);
        }
        passport = scope.defined.passport.as_ref().map(|passport| passport.words().into());
    }
    Some(Authorization { forwarded, passport })
}

fn schema(_: &mut Schemas) -> Schema {
    let fact = Schema::text(r"^(principal\.(sub|issuer|scopes|roles|acr)|client|claims\.[\s\S]+)$").examples([
        "principal.sub",
        "principal.issuer",
        "principal.scopes",
        "principal.roles",
        "principal.acr",
        "client",
        "claims.NAME",
    ]);
    let authorization = Schema::words(&[
        (
            "keep",
            "The upstream sees the credential: the default of routes with `auth`.",
        ),
        ("drop", "It does not: the default of routes without."),
        (
            "passport",
            "It sees a token of the gateway's own instead, as `passport:` says.",
        ),
    ])
    .about("What the upstream gets as `Authorization`.");
    // Header names are read in any case; only the usual one is offered.
    let any_case = Map::from_iter([(ANY_CASE.to_owned(), authorization.clone().into())]);
    Schema::map_of(&format!("^{TOKEN}$"), fact, 0)
        .with("properties", Map::from_iter([("authorization".to_owned(), authorization.into())]))
        .with("patternProperties", any_case)
        .about(
            "What the upstream learns of the caller: headers of the gateway's own, each with a fact such as `principal.sub`. \
             They are stripped from every request first.",
        )
}

/// The fact that a word names; the error is a sentence.
pub(super) fn source(text: &str) -> Result<Source, String> {
    const FIXED: [(&str, Source); 6] = [
        ("principal.sub", Source::Subject),
        ("principal.issuer", Source::Issuer),
        ("principal.scopes", Source::Scopes),
        ("principal.roles", Source::Roles),
        ("principal.acr", Source::Acr),
        ("client", Source::Client),
    ];
    if let Some((_, source)) = FIXED.iter().find(|(word, _)| *word == text) {
        return Ok(source.clone());
    }
    match text.strip_prefix("claims.") {
        Some(path) if !path.is_empty() => Ok(Source::Claim(path.to_owned())),
        _ => Err(
            match nearest(text, FIXED.iter().map(|(word, _)| *word).chain(["claims.NAME"])) {
                Some(near) => format!("unknown fact `{text}`, did you mean `{near}`?"),
                None => format!(
                    "unknown fact `{text}`: `principal.sub`, `.issuer`, `.scopes`, `.roles`, `.acr`, `client` or `claims.NAME`"
                ),
            },
        ),
    }
}

/// What may be told of a request and its caller.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Subject,
    Issuer,
    Scopes,
    Roles,
    Acr,
    Client,
    Claim(String),
}

/// What would reach its reader as something else.
#[derive(Debug)]
pub(super) struct Untellable;

impl Source {
    /// What stands in its header; an error where it cannot.
    fn value(&self, facts: &Facts<'_>) -> Option<Result<HeaderValue, Untellable>> {
        Some(self.text(facts)?.and_then(|text| header_value(&text)))
    }

    /// The fact in words; `None` where it is not known.
    pub(super) fn text<'a>(&self, facts: &'a Facts<'_>) -> Option<Result<Cow<'a, str>, Untellable>> {
        if let Self::Client = self {
            let name = Some(&*facts.client.name).filter(|name| !name.is_empty())?;
            return Some(Ok(Cow::Borrowed(name)));
        }
        let principal = facts.principal.as_deref()?;
        Some(Ok(match self {
            Self::Subject => Cow::Borrowed(&*principal.subject),
            Self::Issuer => Cow::Borrowed(&*principal.issuer),
            Self::Scopes => return Some(list(&principal.scopes)),
            Self::Roles => return Some(list(&principal.roles)),
            Self::Acr => Cow::Borrowed(principal.acr.as_deref()?),
            Self::Claim(path) => claim(principal, path)?.into(),
            Self::Client => return None,
        }))
    }
}

/// Items with a space between them, none of which may be taken for more or fewer than one.
fn list(items: &Granted) -> Result<Cow<'static, str>, Untellable> {
    let is_one = |item: &str| !item.is_empty() && !item.contains([' ', '\t']);
    match items.iter().all(|item| is_one(item)) {
        true => Ok(items.join(" ").into()),
        false => Err(Untellable),
    }
}

/// The value of a header that reads as this text: space around a value is none of it (RFC 9110 §5.5).
pub(super) fn header_value(text: &str) -> Result<HeaderValue, Untellable> {
    match text.trim_matches([' ', '\t']) == text {
        true => HeaderValue::from_str(text).map_err(|_| Untellable),
        false => Err(Untellable),
    }
}

fn claim(principal: &Principal, path: &str) -> Option<String> {
    match principal.claim(path)? {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

#[derive(Debug)]
struct Authorization {
    forwarded: Forwarded,
    /// What the passport is, in words.
    passport: Option<Box<str>>,
}

impl Policy for Authorization {
    fn judge(&self, _: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        Verdict::add(Act::Authorization(self.forwarded))
    }

    fn describe(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Vec<String> {
        let line = |passport: &str| match &facts.principal {
            Some(principal) => format!("authorization: a passport of `{}` {passport}", principal.subject),
            None => "authorization: nothing, as nobody is known who could have a passport".to_owned(),
        };
        self.passport.as_deref().map(line).into_iter().collect()
    }
}

/// The code of a refusal because of that.
const UNTELLABLE: &str = "caller-untellable";

#[derive(Debug)]
struct Forward(Vec<(HeaderName, Source)>);

impl Policy for Forward {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let said = self.0.iter().filter_map(|(name, source)| {
            let value = source.value(facts)?;
            Some(value.map(|value| (name.clone(), value)))
        });
        let Ok(set) = said.collect() else {
            let detail = "What is known of you cannot be told to the service behind the gate.";
            let denial = Denial::new(DenialKind::Refuse, StatusCode::FORBIDDEN, UNTELLABLE, detail);
            return Verdict::deny(denial, Why::Credential(UNTELLABLE));
        };
        let edits = HeaderEdits {
            set,
            ..HeaderEdits::default()
        };
        Verdict::add(Act::RequestHeaders(Arc::new(edits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Load;
    use crate::policies::Defined;

    #[test]
    fn points_at_facts_that_do_not_exist_and_headers_of_its_own() {
        let load = Load::new();
        let node = load
            .text(
                "t.yaml",
                "{ x-user: principal.sup, x-forwarded-for: principal.sub, authorization: no }",
            )
            .unwrap();
        let defined = Defined::default();
        let scope = Scope {
            has_auth: true,
            params: None,
            cors: None,
            ..Scope::plain(&load, &defined)
        };
        assert!(compile(&node, &scope).is_empty());
        let found: Vec<String> = load.into_findings(None).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "t.yaml:1:11: unknown fact `principal.sup`, did you mean `principal.sub`?",
                "t.yaml:1:26: `x-forwarded-for` is written by the gateway itself",
                "t.yaml:1:73: `no` is neither `keep` nor `drop` nor `passport`",
            ]
        );
    }
}
