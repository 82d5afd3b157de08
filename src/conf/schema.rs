//! What may be written, as JSON Schema (draft-07, the newest that editors understand everywhere).
//!
//! Every type that is [read](super::Read) describes itself: [`settings!`](crate::settings) and [`words!`](crate::words) do
//! it from the declaration, readers written by hand do it beside the reader. A schema never refuses what the reader accepts;
//! names, clashes and files are for `check` alone.
//!
//! Scalars are text until a type reads them, so a number may stand in quotes, and a text may look like a number.

use std::any::TypeId;

use serde_json::{Map, Value as Json, json};

/// Alternatives of lists of alternatives go no deeper.
const MAX_DEPTH: usize = 8;

/// A type that can say what may be written for it.
pub trait Describe {
    /// The schema of its value.
    fn schema(schemas: &mut Schemas) -> Schema;

    /// This value as one would write it; `None` where that says nothing.
    fn written(&self) -> Option<Json> {
        None
    }
}

/// One schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schema(Map<String, Json>);

/// The schemas that others refer to by name.
#[derive(Debug, Default)]
pub struct Schemas {
    named: Vec<(TypeId, String, Schema)>,
}

/// One key of a map.
pub struct Key {
    name: &'static str,
    schema: Schema,
    required: bool,
    default: Option<Json>,
}

impl Schemas {
    /// A reference to the schema of `T`, which is made when it is first asked for. Editors show the name: `Settings` at its
    /// end is left out, and a second type of that name gets a number.
    pub fn named<T: 'static>(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Schema) -> Schema {
        let id = TypeId::of::<T>();
        let known = self.named.iter().find(|(known, ..)| *known == id);
        let name = match known {
            Some((_, name, _)) => name.clone(),
            None => {
                let name = name.trim_end_matches("Settings");
                let is_taken = |name: &str| self.named.iter().any(|(_, known, _)| known == name);
                let numbered = (2..).map(|number| format!("{name}{number}"));
                let mut free = std::iter::once(name.to_owned()).chain(numbered);
                let name = free.find(|name| !is_taken(name)).unwrap_or_default();
                // Named before it is made, so that it may refer to itself.
                self.named.push((id, name.clone(), Schema::default()));
                let schema = make(self);
                self.refine::<T>(|_| schema);
                name
            }
        };
        Schema::default().with("$ref", reference(&name))
    }

    /// Adds to the schema of `T`, where it has been asked for.
    pub fn refine<T: 'static>(&mut self, add: impl FnOnce(Schema) -> Schema) {
        let id = TypeId::of::<T>();
        if let Some((_, _, schema)) = self.named.iter_mut().find(|(known, ..)| *known == id) {
            *schema = add(std::mem::take(schema));
        }
    }

    /// What an editor shows for the schema, or for the one it refers to.
    pub fn description(&self, schema: &Schema) -> String {
        let text = |schema: &Schema| schema.0.get("description")?.as_str().map(str::to_owned);
        let refers_to = schema.0.get("$ref").and_then(Json::as_str);
        let of_named = || {
            let (_, _, schema) = self
                .named
                .iter()
                .find(|(_, name, _)| refers_to == Some(&reference(name)))?;
            text(schema)
        };
        text(schema).or_else(of_named).unwrap_or_default()
    }

    /// The keys of a map whose values, or items of these, are maps that have `key`.
    pub fn holders(&self, map: &Schema, key: &str) -> Vec<String> {
        let map = self.resolved(&map.0);
        let Some(Json::Object(properties)) = map.get("properties") else {
            return Vec::new();
        };
        let holds = |(_, value): &(&String, &Json)| self.has_key(value, key, MAX_DEPTH);
        properties.iter().filter(holds).map(|(name, _)| name.clone()).collect()
    }

    fn has_key(&self, value: &Json, key: &str, depth: usize) -> bool {
        let (Json::Object(keywords), Some(depth)) = (value, depth.checked_sub(1)) else {
            return false;
        };
        let keywords = self.resolved(keywords);
        let is_listed = |keyword: &str| keywords.get(keyword).is_some_and(|item| self.has_key(item, key, depth));
        keywords.get("properties").is_some_and(|keys| keys.get(key).is_some())
            || is_listed("items")
            || matches!(keywords.get("anyOf"), Some(Json::Array(any)) if any.iter().any(|one| self.has_key(one, key, depth)))
    }

    /// The keywords of the schema that these refer to, or these.
    fn resolved<'s>(&'s self, keywords: &'s Map<String, Json>) -> &'s Map<String, Json> {
        let refers_to = keywords.get("$ref").and_then(Json::as_str);
        let mut named = self.named.iter();
        let found = named.find(|(_, name, _)| refers_to == Some(&reference(name)));
        found.map_or(keywords, |(_, _, schema)| &schema.0)
    }

    /// A whole document: `root` with everything it refers to.
    pub fn into_document(self, root: Schema) -> Json {
        let definitions = self.named.into_iter().map(|(_, name, schema)| (name, schema.into()));
        let mut document = root.0;
        document.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        document.insert("definitions".to_owned(), Json::Object(definitions.collect()));
        Json::Object(document)
    }
}

impl Schema {
    /// Any value at all.
    pub fn anything() -> Self {
        Self::default()
    }

    /// One value, whatever it is. A boolean is said as what it is not: where it is a `type`, editors offer
    /// `true` and `false`.
    pub fn scalar() -> Self {
        let boolean = json!({ "not": { "type": ["array", "null", "number", "object", "string"] } });
        Self::default().with("anyOf", json!([{ "type": ["string", "number"] }, boolean]))
    }

    /// A text that matches, and is never a number.
    pub fn text(pattern: &str) -> Self {
        Self::default().with("type", "string").with("pattern", pattern)
    }

    /// A text that matches; numbers and booleans may be such texts.
    pub fn scalar_like(pattern: &str) -> Self {
        Self::scalar().with("pattern", pattern)
    }

    /// A whole number, also in quotes.
    pub fn whole(least: u64, most: u64) -> Self {
        let pattern = if least == 0 {
            r"^\+?[0-9]+$"
        } else {
            r"^\+?[0-9]*[1-9][0-9]*$"
        };
        Self::whole_or(pattern, least, most)
    }

    /// A whole number, or a text that matches.
    pub fn whole_or(pattern: &str, least: u64, most: u64) -> Self {
        Self::default()
            .with("type", json!(["integer", "string"]))
            .with("minimum", least)
            .with("maximum", most)
            .with("pattern", pattern)
    }

    /// Nothing but this.
    pub fn just(word: &str) -> Self {
        Self::default().with("const", word)
    }

    /// One of a closed list, each with what it means.
    pub fn words(words: &[(&str, &str)]) -> Self {
        let all = words.iter().map(|(word, _)| Json::from(*word)).collect::<Vec<_>>();
        let meanings = words
            .iter()
            .map(|(_, about)| Json::from(tidy(about)))
            .collect::<Vec<_>>();
        Self::default().with("enum", all).with("enumDescriptions", meanings)
    }

    /// A list of at least so many.
    pub fn list(item: Self, least: u64) -> Self {
        let list = Self::default().with("type", "array").with("items", item);
        if least == 0 { list } else { list.with("minItems", least) }
    }

    /// One of these.
    pub fn any_of(schemas: impl IntoIterator<Item = Self>) -> Self {
        let schemas: Vec<Json> = schemas.into_iter().map(Json::from).collect();
        Self::default().with("anyOf", schemas)
    }

    /// One, or a list of at least so many.
    pub fn one_or_many(one: Self, least: u64) -> Self {
        Self::any_of([one.clone(), Self::list(one, least)])
    }

    /// A map whose keys the user chooses, each matching `names`.
    pub fn map_of(names: &str, value: Self, least: u64) -> Self {
        let map = Self::default()
            .with("type", "object")
            .with("propertyNames", json!({ "pattern": names }))
            .with("additionalProperties", value);
        if least == 0 {
            map
        } else {
            map.with("minProperties", least)
        }
    }

    /// A map of these keys and no other.
    pub fn map(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for key in keys {
            let mut schema = key.schema;
            if let Some(default) = key.default {
                schema = schema.with("default", default);
            }
            properties.insert(key.name.to_owned(), schema.into());
            if key.required {
                required.push(Json::from(key.name));
            }
        }
        let map = Self::default()
            .with("type", "object")
            .with("properties", properties)
            .with("additionalProperties", false);
        if required.is_empty() {
            map
        } else {
            map.with("required", required)
        }
    }

    /// What an editor shows: Markdown, in the lines of a doc comment.
    pub fn about(self, about: &str) -> Self {
        self.with("description", tidy(about))
    }

    /// Values to pick from.
    pub fn examples<T: Into<Json>>(self, examples: impl IntoIterator<Item = T>) -> Self {
        let examples: Vec<Json> = examples.into_iter().map(Into::into).collect();
        self.with("examples", examples)
    }

    /// Exactly one of these keys has to be there.
    pub fn with_one_of(self, keys: &[&str]) -> Self {
        let each: Vec<Json> = keys.iter().map(|key| json!({ "required": [key] })).collect();
        self.with("oneOf", each)
    }

    /// Adds a keyword, or replaces it.
    pub fn with(mut self, keyword: &str, value: impl Into<Json>) -> Self {
        self.0.insert(keyword.to_owned(), value.into());
        self
    }
}

impl From<Schema> for Json {
    fn from(schema: Schema) -> Self {
        Self::Object(schema.0)
    }
}

impl Key {
    /// A key that may be left out, with what an editor shows for it.
    pub fn new<T: Describe>(schemas: &mut Schemas, name: &'static str, about: &str) -> Self {
        Self::made(name, T::schema(schemas).about(about))
    }

    /// A key that may be left out, of that schema.
    pub fn made(name: &'static str, schema: Schema) -> Self {
        Self {
            name,
            schema,
            required: false,
            default: None,
        }
    }

    /// Whether it may not be left out.
    pub fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// What it is where it is left out.
    pub fn default(mut self, default: Option<Json>) -> Self {
        self.default = default;
        self
    }
}

fn reference(name: &str) -> String {
    format!("#/definitions/{name}")
}

/// The lines of a doc comment as one paragraph for each run of lines.
fn tidy(about: &str) -> String {
    let paragraphs = about.trim().split("\n\n");
    let line_up = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let paragraphs: Vec<String> = paragraphs.map(line_up).filter(|text| !text.is_empty()).collect();
    paragraphs.join("\n\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::conf::{Named, Node, OneOrMany};

    crate::words! {
        /// How it is seen.
        enum Colour {
            /// Like blood.
            Red = "red",
            /// Like
            /// grass.
            Green = "green",
        }
    }

    crate::settings! {
        /// One sample.
        #[allow(dead_code)]
        struct Sample {
            /// Where.
            r#match: String,
            /// Which of them.
            ///
            /// Red is best.
            colour: Colour = Colour::Green,
            /// How long.
            wait: Option<std::time::Duration>,
            /// Others.
            others: Named<Colour>,
        }
    }

    crate::settings! {
        /// Around it.
        #[allow(dead_code)]
        struct Outer {
            /// Inside.
            inner: Sample = Sample { r#match: "/".to_owned(), colour: Colour::Red, wait: None, others: Named::default() },
            /// Read later.
            later: Option<Node> as Option<OneOrMany<Sample>>,
        }
    }

    #[test]
    fn comes_from_the_declaration() {
        let mut schemas = Schemas::default();
        let root = Outer::schema(&mut schemas);
        let document = schemas.into_document(root);
        assert_eq!(document["$ref"], "#/definitions/Outer");
        let sample = &document["definitions"]["Sample"];
        assert_eq!(sample["description"], "One sample.");
        assert_eq!(sample["required"], json!(["match"]));
        assert_eq!(sample["additionalProperties"], json!(false));
        assert_eq!(sample["properties"]["match"]["description"], "Where.");
        let colour = &sample["properties"]["colour"];
        assert_eq!(colour["$ref"], "#/definitions/Colour");
        assert_eq!(colour["default"], "green");
        assert_eq!(colour["description"], "Which of them.\n\nRed is best.");
        let words = &document["definitions"]["Colour"];
        assert_eq!(words["enum"], json!(["red", "green"]));
        assert_eq!(words["enumDescriptions"], json!(["Like blood.", "Like grass."]));
        let outer = &document["definitions"]["Outer"]["properties"];
        assert_eq!(outer["inner"]["default"], json!({ "match": "/", "colour": "red" }));
        assert_eq!(outer["later"]["anyOf"][1]["items"]["$ref"], "#/definitions/Sample");
        assert_eq!(document["definitions"]["Outer"].get("required"), None);
    }

    #[test]
    fn knows_what_holds_a_key() {
        let mut schemas = Schemas::default();
        let outer = Outer::schema(&mut schemas);
        assert_eq!(schemas.holders(&outer, "colour"), ["inner", "later"]);
        for not_below in ["inner", "red", "nowhere"] {
            assert!(schemas.holders(&outer, not_below).is_empty(), "{not_below}");
        }
    }

    #[test]
    fn tells_types_of_one_name_apart() {
        let mut schemas = Schemas::default();
        let first = schemas.named::<u8>("A", |_| Schema::anything());
        let second = schemas.named::<u16>("A", |_| Schema::just("x"));
        assert_eq!(first, schemas.named::<u8>("A", |_| Schema::just("y")));
        assert_eq!(Json::from(second), json!({ "$ref": "#/definitions/A2" }));
    }
}
