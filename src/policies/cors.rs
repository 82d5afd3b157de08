//! `cors`: lets pages of other origins read answers, and answers their preflights (Fetch Standard, *CORS protocol*).
//!
//! ```yaml
//! cors:
//!   origins: [https://shop.example, "http://localhost:3000"]    # exact: scheme, host, port; or `*` for a public API
//!   credentials: true                                           # cookies and client certificates; never with `*`
//!   headers: [authorization, content-type, x-client]            # request headers a page may set
//!   expose: [x-request-id]                                      # answer headers a page may read
//!   max_age: 10m                                                # how long a browser remembers a preflight
//! ```
//!
//! Methods are not listed: a preflight is routed by the method it asks about, so what the route matches is allowed.
//! Without `headers`, a listed origin may set the headers it asks for, being trusted by name; under `*` none but the
//! CORS-safelisted ones. Every answer says `Vary: Origin` (under `*` all origins get the same). What an upstream says
//! about origins is replaced. A preflight of an origin that is not listed is a 204 that allows nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use crate::conf::{Describe, Load, Node, OneOrMany, Read, Schema, Schemas, Spanned};
use crate::engine::{Act, Answer, Facts, HeaderEdits, Outcome, Policy, Reply, Stage, Verdict, Why};
use crate::policies::{Draft, Inherit, Kind, Scope};

/// The kind.
pub const KIND: Kind = Kind {
    name: "cors",
    inherit: Inherit::Single,
    compile,
    schema: Cors::schema,
};

/// A preflight that asks for more headers is not answered by echo.
const MAX_ASKED: usize = 64;

crate::settings! {
    /// Which pages of other origins may read answers.
    struct Cors {
        /// The origins, exactly (scheme, host, port), or `*` alone for a public API.
        origins: OneOrMany<Spanned<Origin>>,
        /// Whether cookies and client certificates may be sent; never with `*`.
        credentials: bool = false,
        /// The request headers a page may set; where it is left out, those a listed origin asks for.
        headers: Option<Vec<HeaderName>>,
        /// The answer headers a page may read.
        expose: Vec<HeaderName> = Vec::new(),
        /// For how long a browser remembers a preflight.
        max_age: Duration = Duration::from_secs(600),
    }
}

/// An origin as browsers spell it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Any,
    Exact(HeaderValue),
}

impl Describe for Origin {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text(r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^/*]+)$")
            .examples(["https://shop.example", "http://localhost:3000"])
    }
}

impl Read for Origin {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("an origin such as `https://shop.example`", load, |text| {
            if text == "*" {
                return Ok(Self::Any);
            }
            let value = HeaderValue::from_str(&normalise(text)?);
            value.map(Self::Exact).map_err(|_| "is not an origin".into())
        })
    }
}

/// Lower case and without the scheme's own port, which browsers leave out too.
fn normalise(text: &str) -> Result<String, String> {
    const WANTED: &str = "is not an origin such as `https://shop.example` or `http://localhost:3000`";
    if text == "null" {
        return Err("is the origin of any sandboxed page, and cannot be trusted".into());
    }
    let (scheme, authority) = text.split_once("://").ok_or(WANTED)?;
    let scheme_like = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(scheme_like) {
        return Err(WANTED.into());
    }
    if let Some(origin) = authority.strip_suffix('/') {
        return Err(format!("ends with a slash; write `{scheme}://{origin}`"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        }
    };
    if host.contains('*') {
        return Err("is not an origin: each one is written out".into());
    }
    if !is_host {
        return Err(WANTED.into());
    }
    let scheme = scheme.to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let port = match port {
        None => None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(WANTED)?),
    };
    Ok(match (scheme.as_str(), port) {
        (_, None) | ("https", Some(443)) | ("http", Some(80)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// The origins that `cors` names.
#[derive(Debug, Default)]
pub struct Origins {
    /// Each of them.
    pub exact: Vec<HeaderValue>,
    /// Whether it is all there are.
    pub any: bool,
}

/// Reads them alone; mistakes are reported where `cors` is compiled.
pub fn origins(node: &Node) -> Origins {
    let mut named = Origins::default();
    for origin in Cors::read(node, &Load::new())
        .into_iter()
        .flat_map(|cors| cors.origins.0)
    {
        match origin.value {
            Origin::Any => named.any = true,
            Origin::Exact(origin) => named.exact.push(origin),
        }
    }
    named
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    if scope.is_off(node) {
        return Vec::new();
    }
    let Some(settings) = Cors::read(node, scope.load) else {
        return Vec::new();
    };
    let Some(rule) = settings.compile(node, scope.load).map(Arc::new) else {
        return Vec::new();
    };
    let draft = |stage, policy| Draft {
        name: Arc::from(KIND.name),
        stage,
        shadow: false,
        place: node.place.clone(),
        policy,
    };
    vec![
        draft(Stage::Annotate, Arc::new(Annotates(rule.clone())) as Arc<dyn Policy>),
        draft(Stage::Preflight, Arc::new(Preflight(rule))),
    ]
}

impl Cors {
    fn compile(self, node: &Node, load: &Load) -> Option<Rule> {
        let origins = &self.origins.0;
        if origins.is_empty() {
            load.error(&node.place, "`origins` lists nobody; `cors: off` turns CORS off");
            return None;
        }
        let any = origins.iter().find(|origin| origin.value == Origin::Any);
        if let Some(any) = any {
            if self.credentials {
                load.error(
                    &any.place,
                    "`*` together with `credentials: true` would let every page act as the user",
                );
                return None;
            }
            if origins.len() > 1 {
                load.error(&any.place, "`*` stands alone: it lists every origin already");
                return None;
            }
        }
        for (at, origin) in origins.iter().enumerate() {
            let twice = origins.iter().take(at).find(|earlier| earlier.value == origin.value);
            if let Some(earlier) = twice {
                load.error_with(&origin.place, "an origin listed twice", &earlier.place, "first here");
            }
        }
        let list = |names: &[HeaderName]| {
            let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
            HeaderValue::from_str(&names.join(", "))
                .ok()
                .filter(|value| !value.is_empty())
        };
        let expose = list(&self.expose);
        let edits = |origin: Option<&HeaderValue>, vary: bool| {
            let mut edits = HeaderEdits {
                remove: vec![
                    header::ACCESS_CONTROL_ALLOW_ORIGIN,
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    header::ACCESS_CONTROL_EXPOSE_HEADERS,
                ],
                ..HeaderEdits::default()
            };
            if let Some(origin) = origin {
                edits.set.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
                if self.credentials {
                    let yes = HeaderValue::from_static("true");
                    edits.set.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes));
                }
                let expose = expose
                    .iter()
                    .map(|names| (header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone()));
                edits.set.extend(expose);
            }
            if vary {
                edits.append.push((header::VARY, HeaderValue::from_static("Origin")));
            }
            Arc::new(edits)
        };
        let exact = origins.iter().filter_map(|origin| match &origin.value {
            Origin::Exact(origin) => Some((origin.clone(), edits(Some(origin), true))),
            Origin::Any => None,
        });
        let others = match any {
            Some(_) => edits(Some(&HeaderValue::from_static("*")), false),
            None => edits(None, true),
        };
        Some(Rule {
            origins: exact.collect(),
            any: any.is_some(),
            others,
            headers: match &self.headers {
                Some(names) => AllowHeaders::Listed(list(names)),
                None if any.is_some() => AllowHeaders::Listed(None),
                None => AllowHeaders::Asked,
            },
            max_age: HeaderValue::from(self.max_age.as_secs()),
        })
    }
}

#[derive(Debug)]
struct Rule {
    origins: Vec<(HeaderValue, Arc<HeaderEdits>)>,
    any: bool,
    /// What is said to callers whose origin is not listed, or that have none.
    others: Arc<HeaderEdits>,
    headers: AllowHeaders,
    max_age: HeaderValue,
}

#[derive(Debug)]
enum AllowHeaders {
    Listed(Option<HeaderValue>),
    Asked,
}

impl Rule {
    fn edits(&self, facts: &Facts<'_>) -> &Arc<HeaderEdits> {
        let origin = facts.request.header(&header::ORIGIN);
        let listed = origin.and_then(|origin| self.origins.iter().find(|(listed, _)| listed == origin));
        listed.map_or(&self.others, |(_, edits)| edits)
    }

    fn lists(&self, origin: &str) -> bool {
        self.any || self.origins.iter().any(|(listed, _)| listed == origin)
    }
}

/// Adds what every answer carries.
#[derive(Debug)]
struct Annotates(Arc<Rule>);

impl Policy for Annotates {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        Verdict::add(Act::ResponseHeaders(self.0.edits(facts).clone()))
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        vec![header::ORIGIN]
    }
}

/// Answers preflights; the origin's own headers are those that [`Annotates`] adds to every answer.
#[derive(Debug)]
struct Preflight(Arc<Rule>);

impl Policy for Preflight {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let Some((origin, method)) = asked(facts) else {
            return Verdict::pass(Why::NotConcerned);
        };
        let vary = "Access-Control-Request-Method, Access-Control-Request-Headers";
        let mut headers = vec![(header::VARY, HeaderValue::from_static(vary))];
        let allowed = self.0.lists(origin);
        if allowed {
            headers.extend(method.map(|method| (header::ACCESS_CONTROL_ALLOW_METHODS, method)));
            let names = match &self.0.headers {
                AllowHeaders::Listed(names) => names.clone(),
                AllowHeaders::Asked => asked_headers(facts),
            };
            headers.extend(names.map(|names| (header::ACCESS_CONTROL_ALLOW_HEADERS, names)));
            headers.push((header::ACCESS_CONTROL_MAX_AGE, self.0.max_age.clone()));
        }
        Verdict {
            outcome: Outcome::Reply(Box::new(Reply {
                status: StatusCode::NO_CONTENT,
                headers,
                body: Bytes::new(),
            })),
            why: if allowed { Why::Held } else { Why::Lacking },
        }
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        vec![
            header::ORIGIN,
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_REQUEST_HEADERS,
        ]
    }
}

/// Origin and asked method of a preflight; the method is `None` where it is none.
fn asked<'a>(facts: &Facts<'a>) -> Option<(&'a str, Option<HeaderValue>)> {
    if facts.request.method != Method::OPTIONS {
        return None;
    }
    let origin = facts.request.header(&header::ORIGIN)?;
    let method = facts.request.header(&header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let method = Method::from_bytes(method.as_bytes()).ok();
    Some((
        origin,
        method.and_then(|method| HeaderValue::from_str(method.as_str()).ok()),
    ))
}

/// The asked headers, each a valid name, spelled anew.
fn asked_headers(facts: &Facts<'_>) -> Option<HeaderValue> {
    let asked = facts.request.header(&header::ACCESS_CONTROL_REQUEST_HEADERS)?;
    let names: Result<Vec<HeaderName>, _> = asked
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .take(MAX_ASKED + 1)
        .map(str::parse)
        .collect();
    let names = names
        .ok()
        .filter(|names| !names.is_empty() && names.len() <= MAX_ASKED)?;
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::engine::{Client, Headers, Params, RequestView};
    use crate::policies::Defined;

    struct Sent(Vec<(&'static str, &'static str)>);

    impl Headers for Sent {
        fn first(&self, name: &HeaderName) -> Option<&[u8]> {
            self.0
                .iter()
                .find(|(sent, _)| name == sent)
                .map(|(_, value)| value.as_bytes())
        }

        fn is_repeated(&self, name: &HeaderName) -> bool {
            self.0.iter().filter(|(sent, _)| name == sent).count() > 1
        }
    }

    fn drafts(text: &str) -> Result<Vec<Draft>, Vec<String>> {
        let load = Load::new();
        let node = load.text("t.yaml", text).unwrap();
        let defined = Defined::default();
        let drafts = compile(&node, &Scope::plain(&load, &defined));
        match load.has_errors() {
            false => Ok(drafts),
            true => Err(load.into_findings(None).iter().map(ToString::to_string).collect()),
        }
    }

    /// What the two rules say: the header edits, and the preflight's answer as status and lines.
    fn judge(
        text: &str,
        method: Method,
        sent: &[(&'static str, &'static str)],
    ) -> (Arc<HeaderEdits>, Option<(u16, Vec<String>)>) {
        let client = Client::unnamed();
        let facts = Facts {
            now: Timestamp::UNIX_EPOCH,
            window_at: Timestamp::UNIX_EPOCH,
            address: "192.0.2.1".parse().unwrap(),
            client: &client,
            request: RequestView {
                method: &method,
                host: "h",
                path: "/",
                query: "",
                headers: &Sent(sent.to_vec()),
            },
            params: Params::default(),
            principal: None,
        };
        let drafts = drafts(text).unwrap();
        assert_eq!((drafts[0].stage, drafts[1].stage), (Stage::Annotate, Stage::Preflight));
        let Outcome::Add(Act::ResponseHeaders(edits)) = drafts[0].policy.judge(&facts, None).outcome else {
            panic!()
        };
        let reply = match drafts[1].policy.judge(&facts, None).outcome {
            Outcome::Continue => None,
            Outcome::Reply(reply) => Some((reply.status.as_u16(), lines(&reply.headers))),
            other => panic!("{other:?}"),
        };
        (edits, reply)
    }

    fn lines(headers: &[(HeaderName, HeaderValue)]) -> Vec<String> {
        let line = |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        headers.iter().map(line).collect()
    }

    const SHOP: &str =
        "{ origins: [https://shop.example, 'http://LOCALHOST:3000'], credentials: true, expose: [x-request-id, etag] }";
    const VARY: &str = "vary: Access-Control-Request-Method, Access-Control-Request-Headers";

    #[test]
    fn names_the_listed_origin_and_nobody_else() {
        let (edits, reply) = judge(SHOP, Method::GET, &[("origin", "http://localhost:3000")]);
        assert_eq!(
            lines(&edits.set),
            [
                "access-control-allow-origin: http://localhost:3000",
                "access-control-allow-credentials: true",
                "access-control-expose-headers: x-request-id, etag"
            ]
        );
        assert_eq!((lines(&edits.append), reply), (vec!["vary: Origin".to_owned()], None));
        for sent in [
            &[][..],
            &[("origin", "https://shop.example.evil")],
            &[("origin", "https://SHOP.example")],
            &[("origin", "null")],
            &[("origin", "http://shop.example")],
            &[("origin", "https://shop.example:8443")],
            &[("origin", "https://shop.example"), ("origin", "https://evil.example")],
        ] {
            let (edits, _) = judge(SHOP, Method::GET, sent);
            assert!(edits.set.is_empty(), "{sent:?}");
            assert_eq!(lines(&edits.append), ["vary: Origin"]);
            assert!(edits.remove.contains(&header::ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }

    #[test]
    fn answers_preflights_of_listed_origins() {
        let sent = [
            ("origin", "https://shop.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "Authorization,x-client , "),
        ];
        let allowed = |headers: &[&str]| {
            let lines = [
                &[VARY, "access-control-allow-methods: PUT"],
                headers,
                &["access-control-max-age: 600"],
            ]
            .concat();
            Some((204, lines.into_iter().map(str::to_owned).collect()))
        };
        let (_, reply) = judge(SHOP, Method::OPTIONS, &sent);
        assert_eq!(
            reply,
            allowed(&["access-control-allow-headers: authorization, x-client"])
        );
        let listed = "{ origins: https://shop.example, headers: [Content-Type, x-client] }";
        let (_, reply) = judge(listed, Method::OPTIONS, &sent);
        assert_eq!(
            reply,
            allowed(&["access-control-allow-headers: content-type, x-client"])
        );
        // Anybody's page may call, but only with what every page may send anyway.
        let (edits, reply) = judge("{ origins: '*' }", Method::OPTIONS, &sent);
        assert_eq!(reply, allowed(&[]));
        assert_eq!(
            (lines(&edits.set), edits.append.len()),
            (vec!["access-control-allow-origin: *".to_owned()], 0)
        );
    }

    #[test]
    fn allows_strangers_nothing() {
        let sent = [
            ("origin", "https://evil.example"),
            ("access-control-request-method", "PUT"),
        ];
        let (edits, reply) = judge(SHOP, Method::OPTIONS, &sent);
        assert_eq!((edits.set.len(), reply), (0, Some((204, vec![VARY.to_owned()]))));
    }

    #[test]
    fn leaves_alone_what_is_no_preflight() {
        for (method, sent) in [
            (Method::OPTIONS, &[("origin", "https://shop.example")][..]),
            (Method::OPTIONS, &[("access-control-request-method", "PUT")]),
            (
                Method::GET,
                &[
                    ("origin", "https://shop.example"),
                    ("access-control-request-method", "PUT"),
                ],
            ),
        ] {
            assert_eq!(judge(SHOP, method, sent).1, None, "{sent:?}");
        }
    }

    #[test]
    fn echoes_no_header_names_that_are_none() {
        let names = (0..70).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(",");
        for asked in ["a b", "x-ok, (", Box::leak(names.into_boxed_str())] {
            let sent = [
                ("origin", "https://shop.example"),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", asked),
            ];
            let (_, reply) = judge(SHOP, Method::OPTIONS, &sent);
            assert!(
                !reply.unwrap().1.iter().any(|line| line.contains("allow-headers")),
                "{asked}"
            );
        }
    }

    #[test]
    fn spells_origins_as_browsers_do() {
        for (written, sent) in [
            ("https://Shop.Example:443", "https://shop.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(normalise(written).as_deref(), Ok(sent));
        }
        for bad in [
            "null",
            "shop.example",
            "https://",
            "https://a/",
            "https://a/b",
            "https://*.a",
            "https://a:x",
            "https://a:0",
            "https://ä.example",
            "://a",
            "https://[::1",
            "https://a b",
            "https://u@a",
        ] {
            assert!(normalise(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refuses_settings_that_open_the_door() {
        let complaint = |text| drafts(text).unwrap_err().join("\n");
        assert!(complaint("{ origins: '*', credentials: true }").starts_with("t.yaml:1:12: `*` together"));
        assert!(complaint("{ origins: ['*', https://a] }").contains("stands alone"));
        assert!(complaint("{ origins: [] }").contains("lists nobody"));
        assert!(complaint("{ origins: [https://a, 'https://a:443'] }").contains("listed twice"));
        assert!(complaint("{ origin: https://a }").contains("did you mean `origins`"));
        assert!(drafts("off").unwrap().is_empty());
    }
}
