//! `expect:` — what is to become of a request, and whether it does.

use std::fmt;

use http::StatusCode;

use crate::conf::{Describe, Fields, Instant, Key, Load, Node, Read, Schema, Schemas, Spanned, Value};
use crate::snapshot::Judged;

/// What is to become of a request.
#[derive(Debug, Clone)]
pub enum Expect {
    /// It is not refused.
    Allow,
    /// It is answered so; what is left out may be anything.
    Told {
        /// The status, of a refusal or of an answer of the route's own.
        status: Option<StatusCode>,
        /// The rule that refuses.
        policy: Option<Spanned<String>>,
        /// The code of the refusal.
        code: Option<String>,
        /// When the refusal ends.
        reopens: Option<Reopens>,
    },
}

/// When a refusal is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reopens {
    /// Then.
    At(Instant),
    /// Not by the clock.
    Never,
}

impl Describe for Expect {
    fn schema(schemas: &mut Schemas) -> Schema {
        let allow = Schema::just("allow").about("The request is not refused.");
        let told = schemas.named::<Self>("Expected", |schemas| {
            let keys = [
                Key::new::<StatusCode>(
                    schemas,
                    "status",
                    "The status, of a refusal or of an answer of the route's own.",
                ),
                Key::new::<String>(
                    schemas,
                    "policy",
                    "The rule that refuses: a policy, a limit, `auth`, `scopes` or `freeze`.",
                ),
                Key::new::<String>(schemas, "code", "The code of the refusal."),
                Key::new::<Reopens>(schemas, "reopens", "When the refusal ends: an instant, or `never`."),
            ];
            Schema::map(keys)
                .with("minProperties", 1)
                .about("What is told; what is left out may be anything.")
        });
        Schema::any_of([allow, told])
    }
}

impl Read for Expect {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        const FORMS: &str = "`allow`, or what is told: `{ status: 403, policy: …, code: …, reopens: … }`";
        if let Value::Scalar { .. } = &node.value {
            return node.parse(FORMS, load, |text| match text {
                "allow" => Ok(Self::Allow),
                _ => Err(format!("is not expected: write {FORMS}")),
            });
        }
        let mut fields = Fields::of(node, load)?;
        let is_empty = node.entries(load)?.is_empty();
        if is_empty {
            load.error(&node.place, format!("nothing is expected: write {FORMS}"));
        }
        let status = fields.take("status", Some(|| None));
        let policy = fields.take("policy", Some(|| None));
        let code = fields.take("code", Some(|| None));
        let reopens = fields.take("reopens", Some(|| None));
        fields.finish();
        Some(Self::Told {
            status: status?,
            policy: policy?,
            code: code?,
            reopens: reopens?,
        })
        .filter(|_| !is_empty)
    }
}

impl Describe for Reopens {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::any_of([
            Instant::schema(schemas),
            Schema::just("never").about("No window opens it."),
        ])
    }
}

impl Read for Reopens {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse(
            "an instant such as `2026-09-26T05:00+09:00`, or `never`",
            load,
            |text| match text {
                "never" => Ok(Self::Never),
                text => Instant::parse(text)
                    .map(Self::At)
                    .map_err(|error| format!("{error}, nor `never`")),
            },
        )
    }
}

impl Expect {
    /// The rule that is to refuse.
    pub fn policy(&self) -> Option<&Spanned<String>> {
        match self {
            Self::Allow => None,
            Self::Told { policy, .. } => policy.as_ref(),
        }
    }

    /// Whether that has become of a request.
    pub fn is_met(&self, judged: &Judged<'_>) -> bool {
        let got = judged.effected();
        let is_refused = judged.is_refused();
        let Self::Told {
            status,
            policy,
            code,
            reopens,
        } = self
        else {
            return !is_refused;
        };
        let is_status = status.is_none_or(|status| judged.status() == Some(status));
        let is_policy = policy
            .as_ref()
            .is_none_or(|policy| got.rule.as_deref() == Some(policy.value.as_str()));
        let is_code = code.as_deref().is_none_or(|code| got.code.as_deref() == Some(code));
        let is_reopening = reopens.is_none_or(|reopens| match reopens {
            Reopens::At(instant) => got.reopens_at == Some(instant.at),
            Reopens::Never => is_refused && got.reopens_at.is_none(),
        });
        is_status && is_policy && is_code && is_reopening
    }
}

/// `403 TRANSFER_CLOSED by no-night-transfer until 2026-09-26T05:00:00+09:00`.
impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Told {
            status,
            policy,
            code,
            reopens,
        } = self
        else {
            return f.write_str("allow");
        };
        let words = [
            status.map(|status| status.as_str().to_owned()),
            code.clone(),
            policy.as_ref().map(|policy| format!("by {}", policy.value)),
            reopens.map(|reopens| match reopens {
                Reopens::At(instant) => format!("until {instant}"),
                Reopens::Never => "that no window ends".to_owned(),
            }),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}
