//! Nodes, and how settings are read from them.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use super::{Describe, Json, Load, Place, Schema, Schemas, units};

/// A value of the configuration with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// What stands there.
    pub value: Value,
}

/// What a [`Node`] holds. Scalars are text until a type reads them.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing (`key:` alone, `~`, `null`).
    Null,
    /// Text; `plain` when it stood without quotes.
    Scalar {
        /// The text after escapes.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file.
    Map(Vec<Entry>),
}

/// One `key: value` of a map.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// What kind of value stands here, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The text of a scalar, or an error naming what was `wanted`.
    pub fn text(&self, wanted: &str, load: &Load) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => {
                load.error(&self.place, format!("expected {wanted}, found {}", self.kind()));
                None
            }
        }
    }

    /// Reads a scalar with `parse`, whose error is the rest of a sentence (`is not …`).
    pub fn parse<T>(&self, wanted: &str, load: &Load, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(wanted, load)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                load.error(&self.place, format!("`{text}` {error}"));
                None
            }
        }
    }

    /// The entries of a map, or an error.
    pub fn entries(&self, load: &Load) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => {
                load.error(&self.place, format!("expected a map, found {}", self.kind()));
                None
            }
        }
    }

    /// The items of a list, or an error.
    pub fn items(&self, load: &Load) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => {
                load.error(&self.place, format!("expected a list, found {}", self.kind()));
                None
            }
        }
    }

    /// The value of `key`, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The node as JSON: plain numbers, `true`, `false` become such, all else strings. Digits are kept as written.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        match &self.value {
            Value::Null => out.push_str("null"),
            Value::Scalar { text, plain } => {
                // `RawValue` accepts exactly JSON's own spelling of numbers and literals.
                let literal = *plain
                    && !text.starts_with(['"', '[', '{'])
                    && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
                if literal {
                    out.push_str(text);
                } else {
                    out.push_str(&quote(text));
                }
            }
            Value::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                out.push('{');
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&quote(&entry.key));
                    out.push(':');
                    entry.value.write_json(out);
                }
                out.push('}');
            }
        }
    }
}

/// A type that can be read from a node. `None` means that an error was reported.
pub trait Read: Describe + Sized {
    /// Reads the value; every problem goes to `load`.
    fn read(node: &Node, load: &Load) -> Option<Self>;

    /// The value of an absent key, if the key may be absent.
    fn absent() -> Option<Self> {
        None
    }
}

/// A map being read key by key; what is left at the end is unknown.
#[derive(Debug)]
pub struct Fields<'a> {
    node: &'a Node,
    entries: &'a [Entry],
    load: &'a Load,
    known: Vec<&'a str>,
    missing: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    /// Starts reading a map.
    pub fn of(node: &'a Node, load: &'a Load) -> Option<Self> {
        Some(Self {
            node,
            entries: node.entries(load)?,
            load,
            known: Vec::new(),
            missing: Vec::new(),
        })
    }

    /// The node of `key`, if it is there; marks the key as known.
    pub fn node(&mut self, key: &'a str) -> Option<&'a Node> {
        self.known.push(key);
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// Reads `key`; where it is absent, `default` or the type's own value for absence, else an error.
    pub fn take<T: Read>(&mut self, key: &'a str, default: Option<fn() -> T>) -> Option<T> {
        match self.node(key) {
            Some(node) => T::read(node, self.load),
            None => default.map(|default| default()).or_else(T::absent).or_else(|| {
                self.missing.push(key);
                None
            }),
        }
    }

    /// Reports every key that nobody asked for, and every missing one of which no unknown key is a misspelling.
    pub fn finish(mut self) {
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            self.load.unknown_key(entry, &self.known);
            let meant = nearest(&entry.key, self.known.iter().copied());
            self.missing.retain(|missing| Some(*missing) != meant);
        }
        for missing in &self.missing {
            self.load.error(&self.node.place, format!("missing `{missing}`"));
        }
    }
}

/// `unknown key …` with the nearest spelling, or all of them where they are few.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("unknown {what} `{word}`, did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown {what} `{word}`"),
        None => {
            let known: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
            format!("unknown {what} `{word}`, expected one of {}", known.join(", "))
        }
    }
}

/// The nearest of `known` to `word`: at most a third of its letters differ, those not counted that differ in case alone.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let length = word.chars().count();
    let lower = word.to_lowercase();
    known
        .filter_map(|known| {
            let other = known.chars().count();
            let most = length.max(other).div_ceil(3).min(4);
            if length.abs_diff(other) > most {
                // Comparing letter by letter costs the product of the lengths.
                return None;
            }
            let distance = strsim::damerau_levenshtein(&lower, &known.to_lowercase());
            let in_case = || strsim::damerau_levenshtein(word, known);
            (distance <= most).then(|| ((distance, in_case()), known))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Reads one of a closed list of words; used by [`words!`](crate::words).
pub fn read_word<T: Copy>(node: &Node, load: &Load, words: &[(&str, T)]) -> Option<T> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let text = node.text(&format!("one of {}", known.join(", ")), load)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        load.error(&node.place, unknown("word", text, &known));
    }
    found
}

/// A value that remembers where it stood.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stood.
    pub place: Place,
}

impl<T: Describe> Describe for Spanned<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        T::schema(schemas)
    }

    fn written(&self) -> Option<Json> {
        self.value.written()
    }
}

impl<T: Read> Read for Spanned<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        Some(Self {
            value: T::read(node, load)?,
            place: node.place.clone(),
        })
    }
}

/// A map from names chosen by the user to `T`, in the order of the file. Absent means empty.
#[derive(Debug, Clone)]
pub struct Named<T>(pub Vec<(Spanned<String>, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0
            .iter()
            .find(|(known, _)| known.value == name)
            .map(|(_, value)| value)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.value.as_str())
    }
}

impl<T: Describe> Describe for Named<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::map_of("^[A-Za-z0-9_-]{1,64}$", T::schema(schemas), 0)
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let mut named = Vec::new();
        for entry in node.entries(load)? {
            let name = Spanned {
                value: entry.key.clone(),
                place: entry.key_place.clone(),
            };
            let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if entry.key.is_empty() || entry.key.len() > 64 || !entry.key.chars().all(letters) {
                load.error(
                    &entry.key_place,
                    format!("`{}` is not a name: letters, digits, `-`, `_`, at most 64", entry.key),
                );
                // For the mistakes in it.
                T::read(&entry.value, load);
                continue;
            }
            if let Some(value) = T::read(&entry.value, load) {
                named.push((name, value));
            }
        }
        Some(Self(named))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

/// `x` or `[x, y]`.
#[derive(Debug, Clone)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: Describe> Describe for OneOrMany<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::one_or_many(T::schema(schemas), 0)
    }
}

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::<T>::read(node, load).map(Self),
            _ => T::read(node, load).map(|one| Self(vec![one])),
        }
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::list(T::schema(schemas), 0)
    }

    fn written(&self) -> Option<Json> {
        self.iter()
            .map(T::written)
            .collect::<Option<Vec<Json>>>()
            .map(Json::Array)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let items = node.items(load)?;
        let read: Vec<T> = items.iter().filter_map(|item| T::read(item, load)).collect();
        (read.len() == items.len()).then_some(read)
    }
}

impl<T: Describe> Describe for Option<T> {
    fn schema(schemas: &mut Schemas) -> Schema {
        T::schema(schemas)
    }

    fn written(&self) -> Option<Json> {
        self.as_ref()?.written()
    }
}

impl<T: Read> Read for Option<T> {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        T::read(node, load).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl Describe for Node {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::anything()
    }
}

impl Read for Node {
    fn read(node: &Node, _: &Load) -> Option<Self> {
        Some(node.clone())
    }
}

impl Describe for String {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Text", |_| Schema::scalar())
    }

    fn written(&self) -> Option<Json> {
        Some(self.as_str().into())
    }
}

impl Read for String {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.text("a text", load).map(str::to_owned)
    }
}

impl Describe for bool {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::anything()
            .with("type", serde_json::json!(["boolean", "string"]))
            .with("pattern", "^(true|false)$")
    }

    fn written(&self) -> Option<Json> {
        Some((*self).into())
    }
}

impl Read for bool {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("`true` or `false`", load, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => {
                let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
                let hint = match (is(&["yes", "on", "true", "y"]), is(&["no", "off", "false", "n"])) {
                    (true, _) => "; write `true`",
                    (_, true) => "; write `false`",
                    _ => "",
                };
                Err(format!("is neither `true` nor `false`{hint}"))
            }
        })
    }
}

macro_rules! read_by_parsing {
    ($($type:ty, $check:expr, $wanted:literal, $schema:expr, $written:expr;)*) => {$(
        impl Describe for $type {
            fn schema(_: &mut Schemas) -> Schema {
                $schema
            }

            fn written(&self) -> Option<Json> {
                let written: fn(&Self) -> Option<Json> = $written;
                written(self)
            }
        }

        impl Read for $type {
            fn read(node: &Node, load: &Load) -> Option<Self> {
                node.parse($wanted, load, |text| {
                    let check: fn(&str) -> Result<(), String> = $check;
                    check(text)?;
                    <$type>::from_str(text).map_err(|_| concat!("is not ", $wanted).to_owned())
                })
            }
        }
    )*};
}

/// Refuses what some readers of YAML take for another number than others do.
fn in_one_base(text: &str) -> Result<(), String> {
    match text.strip_prefix('0') {
        Some(rest) if !rest.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let bare = text.trim_start_matches('0');
            let bare = if bare.is_empty() { "0" } else { bare };
            Err(format!("may be read in base 8; write `{bare}`"))
        }
        _ if text.starts_with('+') => Err("is a number without need of its sign".into()),
        _ => Ok(()),
    }
}

/// RFC 9110 §5.6.2: `token`.
pub(crate) const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

read_by_parsing! {
    u16, in_one_base, "a whole number from 0 to 65535",
        Schema::whole(0, u16::MAX.into()), |number| Some((*number).into());
    u32, in_one_base, "a whole number", Schema::whole(0, u32::MAX.into()), |number| Some((*number).into());
    u64, in_one_base, "a whole number", Schema::whole(0, u64::MAX), |number| Some((*number).into());
    usize, in_one_base, "a whole number", Schema::whole(0, u64::MAX), |number| Some((*number).into());
    NonZeroU32, in_one_base, "a whole number above 0",
        Schema::whole(1, u32::MAX.into()), |number| Some(number.get().into());
    NonZeroUsize, in_one_base, "a whole number above 0",
        Schema::whole(1, u64::MAX), |number| Some(number.get().into());
    SocketAddr, |_| Ok(()), "an address with a port such as `127.0.0.1:8080`",
        Schema::text(r"^([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]+$"), |address| Some(address.to_string().into());
    IpAddr, |_| Ok(()), "an address such as `192.0.2.7`",
        Schema::text(r"^[0-9A-Fa-f:.]+$"), |address| Some(address.to_string().into());
    HeaderName, |_| Ok(()), "a header name",
        Schema::scalar_like(&format!("^{TOKEN}$")), |name| Some(name.as_str().into());
    HeaderValue, |_| Ok(()), "a header value", Schema::scalar_like(r"^[^\x00-\x08\x0A-\x1F\x7F]*$"), |_| None;
}

impl Describe for IpNet {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")
    }
}

impl Read for IpNet {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a network such as `10.0.0.0/8`", load, parse_network)
    }
}

/// A network, or an address as the network of itself.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
    let network = network.map_err(|_| "is not a network such as `10.0.0.0/8`".to_owned())?;
    if network.addr() != network.network() {
        return Err(format!("has bits outside its mask; write `{}`", network.trunc()));
    }
    Ok(network)
}

impl Describe for StatusCode {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::whole_or(r"^\+?0*[2-5][0-9][0-9]$", 200, 599)
    }
}

impl Read for StatusCode {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a status code", load, |text| {
            match text.parse::<u16>().map(Self::from_u16) {
                Ok(Ok(status)) if text.len() == 3 && (200..600).contains(&status.as_u16()) => Ok(status),
                _ => Err("is not a status code from 200 to 599".into()),
            }
        })
    }
}

impl Describe for Method {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text("^[A-Z]+$").examples(["GET", "POST", "PUT", "PATCH", "DELETE"])
    }
}

impl Read for Method {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a method", load, parse_method)
    }
}

/// A method in capital letters; anything else is more likely a slip than a custom method.
pub fn parse_method(text: &str) -> Result<Method, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err("is not a method: capital letters such as `GET`".into());
    }
    Method::from_str(text).map_err(|_| "is not a method".into())
}

impl Describe for Duration {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Duration", |_| {
            Schema::text("^[0-9]+(ms|s|m|h|d)$")
                .about("A time with its unit: `ms`, `s`, `m`, `h` or `d`.")
                .examples(["250ms", "5s", "1m"])
        })
    }

    fn written(&self) -> Option<Json> {
        Some(units::written(*self).into())
    }
}

impl Read for Duration {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a duration such as `5s`", load, units::duration)
    }
}
