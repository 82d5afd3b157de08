//! Where a key belongs that was written where nobody knows it: the schema knows all places of every key.

use crate::conf::{Finding, Json};

/// Of more places only those in the section of the mistake are meant.
const FEW: usize = 2;
/// More are no help.
const MAX_PLACES: usize = 4;
/// Stands for a name that the user chooses.
const NAME: &str = "NAME";

/// Has findings about keys that are unknown where they stand say where they belong, as far as there are few such places.
pub(in crate::snapshot) fn point_out(findings: &mut [Finding]) {
    let mut schema = None;
    for finding in findings {
        let Some(key) = &finding.stray else { continue };
        let document = schema.get_or_insert_with(super::schema);
        let own = finding.path.split(['.', '[']).next().unwrap_or_default();
        let places = places(document, key, own);
        if !places.is_empty() {
            finding.message = format!("unknown key `{key}`, which belongs {}", places.join(" or "));
        }
    }
}

/// Where the key may stand, in words: all places where they are few, else those in the section `own`.
fn places(schema: &Json, key: &str, own: &str) -> Vec<String> {
    let mut search = Search {
        schema,
        key,
        path: Vec::new(),
        within: Vec::new(),
        found: Vec::new(),
    };
    search.look_into("Configuration");
    let section = |path: &Vec<String>| path.first().cloned().unwrap_or_default();
    let mut found = search.found;
    // What tests assume of a request is meant by nobody who writes something else.
    found.retain(|path| section(path) != "tests" || own == "tests");
    // What is written in `defaults` is meant for routes.
    let is_default = own == "defaults";
    if found.len() > FEW || is_default {
        found.retain(|path| section(path) == own || is_default && section(path) == "routes");
    }
    if found.len() > MAX_PLACES {
        return Vec::new();
    }
    let words = |path: &Vec<String>| match path.is_empty() {
        true => "at the top of the file".to_owned(),
        false => format!("in `{}`", path.join(".")),
    };
    found.iter().map(words).collect()
}

struct Search<'s> {
    schema: &'s Json,
    key: &'s str,
    /// The keys on the way.
    path: Vec<String>,
    /// The named schemas on the way, none of which is looked into again.
    within: Vec<&'s str>,
    found: Vec<Vec<String>>,
}

impl<'s> Search<'s> {
    fn look_into(&mut self, name: &'s str) {
        let named = self.schema.get("definitions").and_then(|all| all.get(name));
        if let Some(named) = named.filter(|_| !self.within.contains(&name)) {
            self.within.push(name);
            self.look(named);
            self.within.pop();
        }
    }

    fn look(&mut self, at: &'s Json) {
        let Json::Object(keywords) = at else { return };
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref", Json::String(name)) => self.look_into(name.rsplit('/').next().unwrap_or_default()),
                ("properties", Json::Object(keys)) => {
                    if keys.contains_key(self.key) && !self.found.contains(&self.path) {
                        self.found.push(self.path.clone());
                    }
                    for (key, value) in keys {
                        self.below(key, value);
                    }
                }
                ("additionalProperties", value) => self.below(NAME, value),
                ("items", value) => self.look(value),
                ("anyOf", Json::Array(several)) => several.iter().for_each(|one| self.look(one)),
                _ => {}
            }
        }
    }

    fn below(&mut self, key: &str, value: &'s Json) {
        self.path.push(key.to_owned());
        self.look(value);
        self.path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_a_key_belongs() {
        let schema = super::super::schema();
        let of = |key: &str, own: &str| places(&schema, key, own).join(" or ");
        for (key, own, expected) in [
            ("auth", "defaults", "in `routes.NAME`"),
            (
                "cache",
                "defaults",
                "in `routes.NAME` or in `routes.NAME.aggregate.NAME`",
            ),
            ("cors", "", "in `defaults` or in `routes.NAME`"),
            ("defaults", "routes", "at the top of the file or in `shapes.NAME`"),
            ("unless", "policies", "in `policies.NAME`"),
            // It may stand in many places, and in one of this section.
            ("status", "policies", "in `policies.NAME.reply`"),
            ("exhausted", "routes", ""),
            ("nowhere", "routes", ""),
        ] {
            assert_eq!(of(key, own), expected, "{key} in {own}");
        }
    }
}
