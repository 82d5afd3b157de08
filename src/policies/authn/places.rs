//! `from:` as written: where callers put their token, or their key.

use http::{HeaderName, header};

use super::super::forward::RESERVED;
use super::credential::Source;
use crate::conf::{Describe, Load, Node, Place, Read, Schema, Schemas, Spanned};

crate::settings! {
    /// Where callers put their token; a request brings it in one of these places.
    pub struct FromSettings {
        /// A header: `authorization`, or another that holds nothing but the token.
        pub header: Option<Spanned<String>>,
        /// The name of a cookie.
        pub cookie: Option<Spanned<String>>,
        /// The name of a query parameter.
        pub query: Option<Spanned<String>>,
    }
}

/// [`FromSettings`], of which at least one is said.
#[derive(Debug, Clone)]
pub struct TokenPlaces(pub FromSettings);

crate::settings! {
    /// Where callers put their API key; a request brings it in one of these places.
    pub struct KeyFromSettings {
        /// A header that holds nothing but the key.
        pub header: Option<Spanned<String>>,
        /// The name of a query parameter.
        pub query: Option<Spanned<String>>,
    }
}

/// [`KeyFromSettings`], of which at least one is said.
#[derive(Debug, Clone)]
pub struct KeyPlaces(pub KeyFromSettings);

impl Describe for TokenPlaces {
    fn schema(schemas: &mut Schemas) -> Schema {
        let places = FromSettings::schema(schemas);
        schemas.refine::<FromSettings>(|from| from.with("minProperties", 1));
        places
    }
}

impl Read for TokenPlaces {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let from = FromSettings::read(node, load)?;
        let is_silent = from.header.is_none() && from.cookie.is_none() && from.query.is_none();
        // A misspelt key was reported already.
        let is_known = |key: &str| ["header", "cookie", "query"].contains(&key);
        if is_silent && node.entries(load)?.iter().all(|entry| is_known(&entry.key)) {
            load.error(&node.place, "say where tokens stand: `header`, `cookie` or `query`");
        }
        Some(Self(from))
    }
}

impl TokenPlaces {
    /// The places, each with where it is named.
    pub fn compile(&self, load: &Load) -> Vec<(Source, Place)> {
        let FromSettings { header, cookie, query } = &self.0;
        let header = header.iter().filter_map(|written| {
            let source = match written.value.parse::<HeaderName>() {
                Ok(name) if name == header::AUTHORIZATION => Some(Source::Authorization),
                Ok(name) if is_free(&name) => Some(Source::Header(name)),
                _ => None,
            };
            let wrong = || format!("`{}` is no header that a caller could put a token in", written.value);
            checked(source, wrong, &written.place, load)
        });
        // RFC 6265 §4.1.1.
        let cookie = cookie
            .iter()
            .filter_map(|written| named(written, Source::Cookie, "!#$%&'*+-.^_`|~", load));
        let query = query
            .iter()
            .filter_map(|written| named(written, Source::Query, PARAMETER, load));
        header.chain(cookie).chain(query).collect()
    }
}

impl Describe for KeyPlaces {
    fn schema(schemas: &mut Schemas) -> Schema {
        let places = KeyFromSettings::schema(schemas);
        schemas.refine::<KeyFromSettings>(|from| from.with("minProperties", 1));
        places
    }
}

impl Read for KeyPlaces {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let from = KeyFromSettings::read(node, load)?;
        let is_silent = from.header.is_none() && from.query.is_none();
        // A misspelt key was reported already.
        let is_known = |key: &str| ["header", "query"].contains(&key);
        if is_silent && node.entries(load)?.iter().all(|entry| is_known(&entry.key)) {
            load.error(&node.place, "say where keys stand: `header` or `query`");
        }
        Some(Self(from))
    }
}

impl KeyPlaces {
    /// The places, each with where it is named.
    pub fn compile(&self, load: &Load) -> Vec<(Source, Place)> {
        let KeyFromSettings { header, query } = &self.0;
        let header = header.iter().filter_map(|written| {
            let name = written.value.parse::<HeaderName>().ok();
            let source = name.filter(|name| *name != header::AUTHORIZATION && is_free(name));
            let wrong = || format!("`{}` is no header that a caller could put a key in", written.value);
            checked(source.map(Source::KeyHeader), wrong, &written.place, load)
        });
        let query = query
            .iter()
            .filter_map(|written| named(written, Source::KeyQuery, PARAMETER, load));
        header.chain(query).collect()
    }
}

/// The letters of a parameter's name besides letters and digits (RFC 3986 §2.3).
const PARAMETER: &str = "-._~";

fn named(
    written: &Spanned<String>,
    source: fn(Box<str>) -> Source,
    letters: &str,
    load: &Load,
) -> Option<(Source, Place)> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letters.contains(letter);
    let is_name = !written.value.is_empty() && written.value.chars().all(is_letter);
    let source = is_name.then(|| source(written.value.as_str().into()));
    let wrong = || format!("`{}` is not a name that needs no encoding", written.value);
    checked(source, wrong, &written.place, load)
}

fn checked<T>(made: Option<T>, wrong: impl Fn() -> String, place: &Place, load: &Load) -> Option<(T, Place)> {
    if made.is_none() {
        load.error(place, wrong());
    }
    Some((made?, place.clone()))
}

/// Whether a header means nothing else and reaches the gate's rules.
fn is_free(name: &HeaderName) -> bool {
    let taken = [header::COOKIE, header::PROXY_AUTHORIZATION, header::ORIGIN];
    let name_text = name.as_str();
    let is_ours = RESERVED.contains(&name_text) || ["gwanmun-", "sec-"].iter().any(|own| name_text.starts_with(own));
    !is_ours && !taken.contains(name) && !name_text.contains('_')
}
