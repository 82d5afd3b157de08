//! `ctl revoke`, `unrevoke` and `revocations`: what they say to the gateway, and what they tell of its answer.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::text;

/// An order to revoke.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    whom: Whom,
    /// Only tokens issued before then on their issuer's clock, RFC 3339 or `now`, and those that do not say when they were
    #[arg(long, value_name = "INSTANT")]
    issued_before: Option<String>,
    /// When a caller is let in again: RFC 3339, or HH:MM in the zone of the gateway's calendars
    #[arg(long, value_name = "INSTANT", conflicts_with = "lasts")]
    until: Option<String>,
    /// How long a caller is kept out, such as `24h`
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    /// When the token of --jti ends, its `exp` or RFC 3339: the revocation is forgotten then
    #[arg(long, value_name = "INSTANT")]
    expires: Option<String>,
    /// Why, for the records; clients are not told
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl Revoke {
    /// What is sent.
    pub fn body(&self) -> String {
        let said = [
            ("issued_before", self.issued_before.as_deref()),
            ("until", self.until.as_deref()),
            ("for", self.lasts.as_deref()),
            ("expires", self.expires.as_deref()),
            ("reason", Some(self.reason.as_str())),
        ];
        let said = said.into_iter();
        let mut members = self.whom.members();
        members.extend(said.filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        Value::Object(members).to_string()
    }
}

/// Whose tokens.
#[derive(Debug, clap::Args)]
pub(super) struct Whom {
    /// A caller, by its subject
    #[arg(long, value_name = "SUB", conflicts_with = "jti")]
    subject: Option<String>,
    /// One token, by its identifier
    #[arg(long, value_name = "ID")]
    jti: Option<String>,
    /// Who verifies it; may be left out where there is one authenticator
    #[arg(long, value_name = "NAME")]
    authenticator: Option<String>,
    /// Who issued it; goes without saying where the authenticator has one issuer
    #[arg(long, value_name = "ISS")]
    issuer: Option<String>,
    /// The subject whoever vouches for it
    #[arg(long, requires = "subject", conflicts_with_all = ["authenticator", "issuer"])]
    anywhere: bool,
    /// All of all authenticators
    #[arg(long, conflicts_with_all = ["subject", "jti", "authenticator", "issuer"])]
    everybody: bool,
}

impl Whom {
    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let names = [
            ("subject", &self.subject),
            ("jti", &self.jti),
            ("authenticator", &self.authenticator),
            ("issuer", &self.issuer),
        ];
        let names = names.into_iter();
        names.filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    fn flags(&self) -> impl Iterator<Item = &'static str> {
        let flags = [("anywhere", self.anywhere), ("everybody", self.everybody)];
        flags.into_iter().filter_map(|(name, is_set)| is_set.then_some(name))
    }

    fn members(&self) -> Map<String, Value> {
        let names = self.names().map(|(name, value)| (name.to_owned(), value.into()));
        let flags = self.flags().map(|flag| (flag.to_owned(), true.into()));
        names.chain(flags).collect()
    }

    /// Where it is lifted.
    pub fn target(&self) -> String {
        let encoded = |(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        let flags = self.flags().map(|flag| format!("{flag}=true"));
        let pairs: Vec<String> = self.names().map(encoded).chain(flags).collect();
        format!("/revocations?{}", pairs.join("&"))
    }
}

/// How much is revoked, for people.
pub(super) fn figures(figures: &Value) -> String {
    let count = |name: &str| figures.get(name).and_then(Value::as_u64).filter(|count| *count > 0);
    let kinds = [
        ("identity", "callers"),
        ("subject", "subjects anywhere"),
        ("token", "tokens"),
        ("authenticator", "authenticators up to an instant"),
        ("issuer", "issuers up to an instant"),
        ("everybody", "everybody up to an instant"),
        ("floors", "left over from what is forgotten"),
    ];
    let kinds = kinds.into_iter();
    let held: Vec<String> = kinds
        .filter_map(|(name, plural)| Some(format!("{} {plural}", count(name)?)))
        .collect();
    let held = match held.is_empty() {
        true => "nothing".to_owned(),
        false => held.join(", "),
    };
    let memory = figures.get("memory_bytes").and_then(Value::as_u64).unwrap_or_default();
    format!(
        "{held}; {} of {} at most, {} KiB of memory",
        text(figures, "held"),
        text(figures, "most"),
        memory.div_ceil(1024)
    )
}

/// One revocation, for people.
pub(super) fn told(revocation: &Value) -> String {
    let of = |name: &str| text(revocation, name);
    let whose = match of("whom").as_str() {
        "identity" => format!("`{}` of `{}` ({})", of("subject"), of("authenticator"), of("issuer")),
        "subject" => format!("`{}`, whoever vouches for it", of("subject")),
        "token" => format!("token `{}` of `{}` ({})", of("jti"), of("authenticator"), of("issuer")),
        "authenticator" => format!("everything of `{}`", of("authenticator")),
        "issuer" => format!("everything of the issuer `{}`", of("issuer")),
        _ => "everything".to_owned(),
    };
    match (revocation.get("issued_before"), revocation.get("until")) {
        (Some(Value::String(_)), _) => format!("{whose}, issued before {}", of("issued_before")),
        (_, Some(Value::String(_))) => format!("{whose} until {}", of("until")),
        _ => format!("{whose} until it is lifted"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_whom_it_means() {
        let whom = Whom {
            subject: Some("a&b=c d+\u{e9}".to_owned()),
            jti: None,
            authenticator: Some("customer".to_owned()),
            issuer: None,
            anywhere: true,
            everybody: false,
        };
        assert_eq!(
            whom.target(),
            "/revocations?subject=a%26b%3Dc%20d%2B%C3%A9&authenticator=customer&anywhere=true"
        );
        let members = json!({"subject": "a&b=c d+\u{e9}", "authenticator": "customer", "anywhere": true});
        assert_eq!(Value::Object(whom.members()), members);
    }

    #[test]
    fn tells_people_what_is_revoked() {
        let one = |revocation: Value| told(&revocation);
        assert_eq!(
            one(json!({"whom": "identity", "subject": "u\u{1b}1", "authenticator": "a", "issuer": "i", "until": "x"})),
            "`u1` of `a` (i) until x"
        );
        assert_eq!(
            one(json!({"whom": "subject", "subject": "u1", "until": null})),
            "`u1`, whoever vouches for it until it is lifted"
        );
        assert_eq!(
            one(json!({"whom": "issuer", "issuer": "i", "issued_before": "x"})),
            "everything of the issuer `i`, issued before x"
        );
        let all = json!({"held": 3, "most": 9, "memory_bytes": 1025, "token": 1, "identity": 2, "floors": 1});
        assert_eq!(
            figures(&all),
            "2 callers, 1 tokens, 1 left over from what is forgotten; 3 of 9 at most, 2 KiB of memory"
        );
        // Another version may know less.
        assert!(figures(&json!({})).starts_with("nothing; "));
    }
}
