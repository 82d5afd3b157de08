//! The JSON Schema of a configuration, and of the files of holidays that it names.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::conf::{Describe, Json, Key, Named, Schema, Schemas};
use crate::observe::anomaly::AnomalySettings;
use crate::observe::audit::AuditSettings;
use crate::policies::access::{Calendars, Holidays, Policies, When};
use crate::policies::authn::Authenticators;
use crate::policies::clients::Clients;
use crate::policies::passport::PassportSettings;
use crate::policies::rate_limit::Limits;
use crate::policies::shape::Shapes;
use crate::policies::{Inherit, KINDS};
use crate::routing::Match;
use crate::targets::aggregate::{self, Aggregate};
use crate::targets::fixed;
use crate::upstreams::UpstreamSettings;

use super::listen::ListenSettings;
use super::own_tests::Tests;
use super::routes::{PASSPORT_KEYS, TARGETS};
use super::{AdminSettings, BoundsSettings, StatePath, TrustedProxies};

mod elsewhere;

pub(super) use elsewhere::point_out;

/// The schema as one document.
pub fn schema() -> Json {
    let mut schemas = Schemas::default();
    let configuration = Configuration::schema(&mut schemas);
    let holidays = Holidays::schema(&mut schemas);
    // One schema serves both files, so that either may name it.
    let is_holidays = Schema::anything()
        .with("type", "object")
        .with("required", vec![Json::from("through")]);
    let root = Schema::anything()
        .with("if", is_holidays)
        .with("then", holidays)
        .with("else", configuration);
    schemas.into_document(root)
}

/// A whole configuration; read by [`compile`](super::compile).
enum Configuration {}

impl Describe for Configuration {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Configuration", |schemas| {
            let keys = [
                Key::new::<Vec<ListenSettings>>(
                    schemas,
                    "listen",
                    "The addresses that requests are accepted on, at least one.",
                )
                .required(true),
                Key::new::<AdminSettings>(schemas, "admin", "The admin listener: metrics, health, and for those who hold its token the admin API."),
                Key::new::<NonZeroUsize>(
                    schemas,
                    "threads",
                    "Worker threads; the number of cores where nothing is said.",
                ),
                Key::new::<BoundsSettings>(
                    schemas,
                    "bounds",
                    "What one client may cost before anything is known of it.",
                ),
                Key::new::<TrustedProxies>(
                    schemas,
                    "trusted_proxies",
                    "Whose word on the caller's address is believed.",
                ),
                Key::new::<Named<UpstreamSettings>>(schemas, "upstreams", "The services behind the gate, by name."),
                Key::new::<Authenticators>(schemas, "authenticators", "The ways to learn who calls, by name."),
                Key::new::<PassportSettings>(
                    schemas,
                    "passport",
                    "The gateway's own tokens, which upstreams are shown instead of the caller's.",
                ),
                Key::new::<Clients>(
                    schemas,
                    "clients",
                    "The kinds of application that call, by name. The first match wins.",
                ),
                Key::new::<Calendars>(schemas, "calendars", "Time zones with holidays and windows, by name."),
                Key::new::<Policies>(schemas, "policies", "Checks that routes apply, by name."),
                Key::new::<Limits>(schemas, "limits", "How many requests a key may make, by name."),
                Key::new::<Shapes>(schemas, "shapes", "How JSON answers are cut, by name."),
                Key::new::<Defaults>(
                    schemas,
                    "defaults",
                    "What holds for every route that does not say otherwise.",
                ),
                Key::new::<Named<Route>>(
                    schemas,
                    "routes",
                    "What is let through, to whom, and who answers, by name.",
                ),
                Key::new::<StatePath>(
                    schemas,
                    "state",
                    "The folder of what outlives the process, such as freezes; `$STATE_DIRECTORY` where nothing is said.",
                ),
                Key::new::<AuditSettings>(schemas, "audit", "The audit log: one JSON line per finished request."),
                Key::new::<Named<AnomalySettings>>(schemas, "anomalies", "Detectors of attacks, by name."),
                Key::new::<Tests>(
                    schemas,
                    "tests",
                    "Requests with what is to become of them; `check` tries them, and so does every reload before it is taken.",
                ),
            ];
            Schema::map(keys).about("A configuration of Gwanmun.")
        })
    }
}

/// What `defaults` may hold.
enum Defaults {}

impl Describe for Defaults {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Defaults", |schemas| {
            let inherited = KINDS.iter().filter(|kind| kind.inherit != Inherit::Never);
            Schema::map(inherited.map(|kind| Key::made(kind.name, kind.described(schemas))))
        })
    }
}

/// An answer that stands in the configuration, or the one that the gateway knows.
fn reply(schemas: &mut Schemas) -> Schema {
    let own = fixed::reply_schema(schemas);
    let about = schemas.description(&own);
    let keys = Schema::just(PASSPORT_KEYS).about("The public keys of passports, as a JWK Set.");
    Schema::any_of([own, keys]).about(&about)
}

/// One route; read by [`Compiler`](super::routes::Compiler).
enum Route {}

impl Describe for Route {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Route", |schemas| {
            let own = [
                Key::new::<Match>(
                    schemas,
                    "match",
                    "Which requests it is for: `GET,POST /path`, or `host`, `path`, `methods` and `headers`.",
                )
                .required(true),
                Key::new::<String>(schemas, "upstream", "The upstream that answers, by name."),
                Key::new::<Aggregate>(
                    schemas,
                    "aggregate",
                    "One JSON answer made from several upstream calls, its parts, by name.",
                ),
                Key::made("reply", reply(schemas)),
                Key::made("redirect", fixed::redirect_schema(schemas)),
                Key::new::<Duration>(
                    schemas,
                    "deadline",
                    "When an aggregate must be done; `10s` where nothing is said.",
                ),
                Key::new::<Vec<String>>(schemas, "without", "Names of `defaults` that do not hold here."),
            ];
            let condition = When::schema(schemas);
            schemas.refine::<aggregate::When>(|_| condition);
            let kinds = KINDS
                .iter()
                .map(|kind| Key::made(kind.name, kind.described(schemas)).required(kind.name == "auth"));
            Schema::map(own.into_iter().chain(kinds))
                .with_one_of(&TARGETS)
                .with("dependencies", serde_json::json!({ "deadline": ["aggregate"] }))
                .about("A route: what it matches, who may call, what is checked, and who answers.")
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
