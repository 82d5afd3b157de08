//! Parts as written, and reading them.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::references::{self, Piece, RESERVED, Slot, Source};
use super::template::{self, Body, Template};
use super::{AggregateScope, Destination, KeepRule, Part, Spread};
use crate::conf::{Describe, Fields, Json, Key, Load, Node, Place, Read, Schema, Schemas, Spanned, Value, nearest};
use crate::engine::json;
use crate::engine::select::{self, Step};
use crate::targets::UpstreamIndex;
use crate::upstreams::{Attempts, RetryAfter, RetrySettings};

crate::settings! {
    /// One call, whose answer becomes a member of the whole. It has either `get` or `post`.
    pub(super) struct PartSettings {
        /// `upstream:/path?query`, or a path of this gateway's own, with references: `{principal.sub}`, `{path.x}`, `{query.x}`,
        /// `{header.x}`, or a value of another part such as `{balance.account_id}` or `{orders.items[*].id}`.
        pub get: Option<Spanned<String>> as Option<Target>,
        /// As `get`, for services that are asked by POST.
        pub post: Option<Spanned<String>> as Option<Target>,
        /// What is posted: any JSON, with references in its texts.
        pub body: Option<Node>,
        /// An array of another part, such as `orders.items`: one call is made for each item, which `{each}` and `{each.x}` refer
        /// to, and the answers become an array.
        pub each: Option<Spanned<String>> as Option<PartPath>,
        /// The part is asked for only where these conditions hold.
        pub when: Option<Node> as Option<When>,
        /// Whether the whole fails with it.
        pub required: bool = false,
        /// What stands in its place where it fails: any JSON; `null` where nothing is said.
        pub default: Option<Node>,
        /// For its whole answer.
        pub timeout: Option<Spanned<Duration>>,
        /// Statuses that say that there is nothing: such a part is its `default` and has not failed; a required one makes the
        /// whole answer with that status.
        pub pass_status: Vec<Spanned<PassStatus>> = Vec::new(),
        /// When to try again, in place of what the upstream says.
        pub retry: Option<PartRetry>,
        /// How long its answers are kept: for the same caller, unless `share: public` is written.
        pub cache: Option<Spanned<PartCache>>,
        /// The member of its answer that stands for the whole of it, such as `data.items`.
        pub pick: Option<Spanned<String>> as Option<PartPath>,
        /// Its members stand beside those of other parts: `true` for all, or a list of them. The names of its `default`, or those
        /// listed, are its own.
        pub spread: Spread = Spread::No,
        /// The object of the answer that it stands in.
        pub group: Option<Spanned<String>> as Option<Group>,
        /// The headers of its answer that the whole carries, too, where the part has not failed and its status is not in
        /// `pass_status`.
        pub headers: Vec<Spanned<HeaderName>> = Vec::new(),
    }
}

crate::settings! {
    /// When a part is tried again, on another endpoint while there is one.
    pub(super) struct PartRetry {
        /// Extra tries, at most 5.
        pub attempts: Attempts = Attempts(1),
        /// After what: `connect`, or a status from 500 to 599, which repeats a `get` alone.
        pub after: Vec<RetryAfter> = vec![RetryAfter::Connect],
    }
}

/// What `get` and `post` look like.
pub(super) enum Target {}

impl Describe for Target {
    fn schema(_: &mut Schemas) -> Schema {
        let examples = ["accounts:/customers/{principal.sub}/balance", "/products/{path.id}"];
        Schema::text(r"^([^:/][^:]*:)?/[\s\S]*$").examples(examples)
    }
}

/// The way to a value.
pub(super) enum PartPath {}

impl Describe for PartPath {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar().examples(["orders.items", "data.items"])
    }
}

/// The name of an object.
pub(super) enum Group {}

impl Describe for Group {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like("^[A-Za-z0-9_-]{1,64}$")
    }
}

/// Conditions, which are another room's: whoever makes the schema says what they look like.
#[derive(Debug)]
pub enum When {}

impl Describe for When {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("When", |_| Schema::anything())
    }
}

/// A status from 400 to 599.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassStatus(pub StatusCode);

impl Describe for PassStatus {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::whole(400, 599)
    }

    fn written(&self) -> Option<Json> {
        Some(self.0.as_u16().into())
    }
}

impl Read for PassStatus {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a status from 400 to 599", load, |text| {
            match text.parse::<StatusCode>() {
                Ok(status) if status.is_client_error() || status.is_server_error() => Ok(Self(status)),
                _ => Err("is not a status from 400 to 599".into()),
            }
        })
    }
}

/// `10s`, or `{ ttl: 10s, share: public }`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartCache(KeepRule);

crate::words! {
    /// Who is given a part's kept answer.
    enum Sharing {
        /// The same caller.
        Principal = "principal",
        /// Everybody: the call carries nothing of the caller.
        Public = "public",
    }
}

impl Describe for PartCache {
    fn schema(schemas: &mut Schemas) -> Schema {
        let ttl = Duration::schema(schemas);
        let long = Schema::map([
            Key::made("ttl", ttl.clone().about("How long.")).required(true),
            Key::new::<Sharing>(schemas, "share", "Who is given it."),
        ]);
        Schema::any_of([ttl, long])
    }
}

impl Read for PartCache {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let (ttl, share) = match &node.value {
            Value::Map(_) => {
                let mut fields = Fields::of(node, load)?;
                let ttl = fields.take::<Spanned<Duration>>("ttl", None);
                let share = fields.take::<Sharing>("share", Some(|| Sharing::Principal));
                fields.finish();
                (ttl?, share?)
            }
            _ => (Spanned::<Duration>::read(node, load)?, Sharing::Principal),
        };
        if ttl.value.is_zero() {
            load.error(&ttl.place, "a time above 0 is needed");
        }
        Some(Self(KeepRule {
            ttl: ttl.value,
            public: share == Sharing::Public,
        }))
    }
}

impl Describe for Spread {
    fn schema(_: &mut Schemas) -> Schema {
        let flag = Schema::anything().with("enum", serde_json::json!([true, false, "true", "false"]));
        Schema::any_of([flag, Schema::list(Schema::scalar(), 1)])
    }

    fn written(&self) -> Option<Json> {
        matches!(self, Self::No).then(|| false.into())
    }
}

impl Read for Spread {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        match &node.value {
            Value::List(_) => {
                let names = Vec::<String>::read(node, load)?;
                if names.is_empty() {
                    load.error(&node.place, "no member is named: write `true` for all");
                }
                Some(Self::Some(names.into_iter().map(Box::from).collect()))
            }
            _ => bool::read(node, load).map(|all| if all { Self::All } else { Self::No }),
        }
    }
}

/// Headers of a part that say something about its own message, its own caller's connection, or what only the gate may say.
fn is_of_the_part_alone(name: &HeaderName) -> bool {
    const ALONE: [&str; 22] = [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "proxy-authenticate",
        "www-authenticate",
        "set-cookie",
        "cache-control",
        "expires",
        "pragma",
        "age",
        "etag",
        "last-modified",
        "vary",
        "date",
        "location",
        "retry-after",
        "accept-ranges",
        "x-request-id",
        "server",
    ];
    let name = name.as_str();
    let prefixes = ["content-", "gwanmun-", "access-control-", "ratelimit"];
    ALONE.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The part, as far as it can be read, and whether it has mistakes.
pub(super) fn compile_part(
    name: &Spanned<String>,
    settings: &PartSettings,
    names: &[&str],
    scope: &AggregateScope<'_>,
    inputs: &mut Vec<Source>,
) -> (Option<Part>, bool) {
    let load = scope.load;
    let (method, written) = match (&settings.get, &settings.post) {
        (Some(get), None) => ("GET", get),
        (None, Some(post)) => ("POST", post),
        (Some(_), Some(post)) => {
            load.error(&post.place, "a part has either `get` or `post`");
            return (None, true);
        }
        (None, None) => {
            load.error(&name.place, format!("part `{}` calls nobody: write `get:`", name.value));
            return (None, true);
        }
    };
    let place = &written.place;
    let (parsed, mut mistakes) = template::parse(&written.value, names);
    let Some(parsed) = parsed else {
        mistakes.into_iter().for_each(|mistake| load.error(place, mistake));
        return (None, true);
    };
    let mut is_sound = check(name, settings, load);
    let to = match parsed.upstream {
        Some(upstream) => {
            load.names.refer("upstream", upstream);
            let at = scope.upstreams.iter().position(|known| **known == *upstream);
            if at.is_none() {
                let known = scope.upstreams.iter().map(|known| &**known);
                load.unknown_name("upstream", upstream, place, known);
                is_sound = false;
            }
            Destination::Upstream(UpstreamIndex(
                at.and_then(|at| u16::try_from(at).ok()).unwrap_or_default(),
            ))
        }
        None => {
            if let Some(cache) = &settings.cache {
                let message = "a part that goes through a route is kept as that route's `cache` says";
                load.error(&cache.place, message);
                is_sound = false;
            }
            Destination::Route(template::sample(&parsed.pieces).into())
        }
    };
    let is_public = settings.cache.as_ref().is_some_and(|cache| cache.value.0.public);
    let mut needs = Vec::new();
    let mut resolve = |piece: Piece, mistakes: &mut Vec<String>| -> Slot {
        if let Piece::Reference(source) = &piece {
            template::needs(source, &mut needs);
            match source {
                Source::Principal if !scope.has_auth => {
                    mistakes.push("`{principal.sub}` needs `auth`: nobody is known here".to_owned());
                }
                Source::Principal if is_public => {
                    mistakes.push("an answer shared with everybody cannot depend on `{principal.sub}`".to_owned());
                }
                Source::Path(param) => {
                    let unknown_to = scope.params.filter(|params| !params.contains(param));
                    mistakes.extend(unknown_to.map(|params| unknown_param(param, params)));
                }
                Source::Each(_) if settings.each.is_none() => {
                    mistakes.push("`{each}` needs `each:`, the array it goes through".to_owned());
                }
                _ => {}
            }
        }
        references::resolve(piece, inputs)
    };
    let slots = parsed
        .pieces
        .into_iter()
        .map(|piece| resolve(piece, &mut mistakes))
        .collect();
    let template = Template::new(slots);
    let body = settings.body.as_ref().map(|node| {
        let mut found = Vec::new();
        let body = Body::compile(node, names, &mut found, &mut resolve);
        is_sound &= found.is_empty();
        found.into_iter().for_each(|mistake| load.error(&node.place, mistake));
        body
    });
    let each = settings.each.as_ref().and_then(|each| {
        let text = each.value.trim_start_matches('{').trim_end_matches('}');
        match references::part_of(text, names) {
            Ok((part, path)) => {
                if !needs.contains(&part) {
                    needs.push(part);
                }
                Some((part, path))
            }
            Err(mistake) => {
                load.error(&each.place, mistake);
                is_sound = false;
                None
            }
        }
    });
    is_sound &= mistakes.is_empty();
    mistakes.into_iter().for_each(|mistake| load.error(place, mistake));
    let when = settings.when.as_ref().map(|node| (scope.condition)(node));
    is_sound &= !matches!(when, Some(None));
    let part = Part {
        name: Arc::from(name.value.as_str()),
        place: place.clone(),
        written: format!("{method} {}", written.value).into(),
        to,
        template,
        body,
        is_post: settings.post.is_some(),
        each,
        when: when.flatten(),
        required: settings.required,
        default: settings.default.as_ref().map(|node| node.to_json().into()),
        timeout: settings.timeout.as_ref().map(|timeout| timeout.value),
        pass_status: settings.pass_status.iter().map(|status| status.value.0).collect(),
        retry: settings.retry.as_ref().map(|retry| {
            Arc::new(RetrySettings {
                attempts: retry.attempts,
                after: retry.after.clone(),
                budget: None,
            })
        }),
        keep: settings.cache.as_ref().map(|cache| cache.value.0),
        pick: settings
            .pick
            .as_ref()
            .and_then(|pick| select::steps(&pick.value))
            .unwrap_or_default(),
        spread: settings.spread.clone(),
        group: settings.group.as_ref().map(|group| Arc::from(group.value.as_str())),
        headers: settings.headers.iter().map(|name| name.value.clone()).collect(),
        needs: needs.into(),
        took: AtomicU32::new(0),
    };
    (Some(part), !is_sound)
}

/// What can be wrong with a part whatever it calls.
fn check(name: &Spanned<String>, settings: &PartSettings, load: &Load) -> bool {
    let mut is_sound = true;
    let mut error = |place: &Place, message: String| {
        load.error(place, message);
        is_sound = false;
    };
    if RESERVED.contains(&name.value.as_str()) {
        let message = format!("`{}` stands for something else in references", name.value);
        error(&name.place, message);
    }
    if let Some(timeout) = settings.timeout.as_ref().filter(|timeout| timeout.value.is_zero()) {
        error(&timeout.place, "a timeout above 0 is needed".into());
    }
    if let (true, Some(default)) = (settings.required, &settings.default) {
        error(&default.place, "a required part has no use for a `default`".into());
    }
    if let (None, Some(body)) = (&settings.post, &settings.body) {
        error(&body.place, "a `body` is sent by `post` alone".into());
    }
    if let (Some(post), Some(cache)) = (&settings.post, &settings.cache) {
        load.error_with(
            &cache.place,
            "what is posted is not kept",
            &post.place,
            "it is asked by POST",
        );
        is_sound = false;
    }
    let mut error = |place: &Place, message: String| {
        load.error(place, message);
        is_sound = false;
    };
    if let Some(pick) = &settings.pick {
        let steps = select::steps(&pick.value);
        if steps.is_none_or(|steps| steps.is_empty() || steps.contains(&Step::Each)) {
            let message = format!("`{}` is not the way to one member, such as `data.items`", pick.value);
            error(&pick.place, message);
        }
    }
    if let Some(group) = &settings.group {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if group.value.is_empty() || group.value.len() > 64 || !group.value.chars().all(letters) {
            let message = format!("`{}` is not a name: letters, digits, `-`, `_`, at most 64", group.value);
            error(&group.place, message);
        }
    }
    if let (true, Some(default)) = (settings.spread != Spread::No, &settings.default)
        && !matches!(default.value, Value::Map(_))
    {
        error(
            &default.place,
            "what is spread has members: its `default` is a map".into(),
        );
    }
    if let (true, Some(each)) = (settings.spread != Spread::No, &settings.each) {
        error(&each.place, "an array has no members to spread".into());
    }
    for name in &settings.headers {
        if is_of_the_part_alone(&name.value) {
            error(
                &name.place,
                format!("`{}` says something of the part's own answer", name.value),
            );
        }
        if settings.each.is_some() {
            error(&name.place, "with `each` there are many answers: whose header?".into());
        }
    }
    // Read again as JSON would be by whoever is given it.
    if let Some(default) = &settings.default
        && json::check(default.to_json().as_bytes()).is_err()
    {
        error(&default.place, "this is no JSON that everybody reads alike".into());
    }
    is_sound
}

fn unknown_param(param: &str, params: &[Arc<str>]) -> String {
    match nearest(param, params.iter().map(|known| &**known)) {
        Some(near) => format!("unknown path parameter `{param}`, did you mean `{near}`?"),
        None => format!("unknown path parameter `{param}`"),
    }
}
