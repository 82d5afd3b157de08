//! Several files become one configuration, and misspelt keys are read as they were meant.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use super::{Describe, Entry, Load, Node, Place, Schemas, Value, nearest};

/// The sections of a configuration, by what happens to them when several files have them. Of all others there is one.
#[derive(Debug, Clone, Copy)]
pub struct Sections<'a> {
    /// All of them.
    pub known: &'a [&'a str],
    /// Maps by name: they come together, and no name stands twice.
    pub named: &'a [&'a str],
    /// Lists: one goes on where the other ends.
    pub lists: &'a [&'a str],
}

/// Reports the keys of a map that are not `known`. One that is the misspelling of a missing key takes its place, so that the
/// mistakes below it are found too; the others are left out.
pub fn mend<'n>(node: &'n Node, known: &[&str], load: &Load) -> Cow<'n, Node> {
    mended(node, known, |_| Vec::new(), load)
}

/// As [`mend`], of a map that `T` is read from: a key that belongs one level deeper is no misspelling.
pub fn mend_as<'n, T: Describe>(node: &'n Node, known: &[&str], load: &Load) -> Cow<'n, Node> {
    let made = OnceCell::new();
    let holders = |key: &str| {
        let (schemas, map) = made.get_or_init(|| {
            let mut schemas = Schemas::default();
            let map = T::schema(&mut schemas);
            (schemas, map)
        });
        schemas.holders(map, key)
    };
    mended(node, known, holders, load)
}

/// `holders` tells the keys below which another key stands.
fn mended<'n>(node: &'n Node, known: &[&str], holders: impl Fn(&str) -> Vec<String>, load: &Load) -> Cow<'n, Node> {
    let Value::Map(entries) = &node.value else {
        return Cow::Borrowed(node);
    };
    let is_known = |entry: &Entry| known.contains(&entry.key.as_str());
    if entries.iter().all(is_known) {
        return Cow::Borrowed(node);
    }
    let mut mended: Vec<Entry> = entries.iter().filter(|entry| is_known(entry)).cloned().collect();
    for entry in entries.iter().filter(|entry| !is_known(entry)) {
        let Some(meant) = nearest(&entry.key, known.iter().copied()) else {
            load.unknown_key(entry, known);
            continue;
        };
        let holders = holders(&entry.key);
        if !holders.is_empty() {
            load.misplaced_key(entry, &holders);
            continue;
        }
        load.unknown_key(entry, known);
        if mended.iter().all(|entry| entry.key != meant) {
            mended.push(Entry {
                key: meant.to_owned(),
                ..entry.clone()
            });
        }
    }
    Cow::Owned(Node {
        place: node.place.clone(),
        value: Value::Map(mended),
    })
}

/// Puts the documents of several files together. What stands in two files and can stand in one only is an error with both
/// places; the first counts.
pub fn merge(documents: &[Node], sections: &Sections<'_>, load: &Load) -> Option<Node> {
    let first = documents.first()?;
    let mut merged: Vec<Entry> = Vec::new();
    let mut names: HashMap<(String, String), Place> = HashMap::new();
    for document in documents {
        let document = mend(document, sections.known, load).into_owned();
        if document.entries(load).is_none() {
            continue;
        }
        let Value::Map(entries) = document.value else { continue };
        for entry in entries {
            let is_named = sections.named.contains(&entry.key.as_str());
            let entry = if is_named {
                without_twice(entry, &mut names, load)
            } else {
                entry
            };
            match merged.iter_mut().find(|known| known.key == entry.key) {
                None => merged.push(entry),
                Some(known) => join(known, entry, sections, load),
            }
        }
    }
    Some(Node {
        place: first.place.clone(),
        value: Value::Map(merged),
    })
}

/// Leaves out the names that another file has in the same section.
fn without_twice(mut entry: Entry, names: &mut HashMap<(String, String), Place>, load: &Load) -> Entry {
    if let Value::Map(of_section) = &mut entry.value.value {
        of_section.retain(|named| {
            let first = names
                .entry((entry.key.clone(), named.key.clone()))
                .or_insert_with(|| named.key_place.clone());
            let is_first = first.start == named.key_place.start && first.source.path == named.key_place.source.path;
            if !is_first {
                let message = format!("`{}` stands in `{}` a second time", named.key, entry.key);
                load.error_with(&named.key_place, message, first, "first here");
            }
            is_first
        });
    }
    entry
}

fn join(known: &mut Entry, more: Entry, sections: &Sections<'_>, load: &Load) {
    let is = |keys: &[&str]| keys.contains(&more.key.as_str());
    let (is_named, is_list) = (is(sections.named), is(sections.lists));
    match (&mut known.value.value, more.value.value) {
        (Value::Map(known), Value::Map(more)) if is_named => known.extend(more),
        (Value::List(known), Value::List(more)) if is_list => known.extend(more),
        (_, value) if is_named || is_list => {
            let is_wanted = matches!((&value, is_named), (Value::Map(_), true) | (Value::List(_), false));
            let value = Node {
                place: more.value.place,
                value,
            };
            // The one that is kept, if it is odd too, is reported by whoever reads the section.
            let odd = match is_wanted {
                true => std::mem::replace(&mut known.value, value),
                false => value,
            };
            let wanted = if is_named { "a map" } else { "a list" };
            load.error(&odd.place, format!("expected {wanted}, found {}", odd.kind()));
        }
        _ => {
            let message = format!(
                "`{}` stands in a second file; it is said once for all of them",
                more.key
            );
            load.error_with(&more.key_place, message, &known.key_place, "first here");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECTIONS: Sections<'_> = Sections {
        known: &["admin", "listen", "routes"],
        named: &["routes"],
        lists: &["listen"],
    };

    fn merged(files: &[&str]) -> (String, Vec<String>) {
        let load = Load::new();
        let documents = files.iter().zip(["a.yaml", "b.yaml", "c.yaml"]);
        let documents: Vec<Node> = documents.map(|(text, name)| load.text(name, text).unwrap()).collect();
        let merged = merge(&documents, &SECTIONS, &load).unwrap().to_json();
        let findings = load.into_findings(&documents);
        (merged, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn brings_names_and_lists_together() {
        let (whole, findings) = merged(&[
            "listen: [a]\nroutes: { x: 1 }",
            "routes: { y: 2 }\nlisten: [b]\nadmin: c",
        ]);
        assert_eq!(whole, r#"{"listen":["a","b"],"routes":{"x":1,"y":2},"admin":"c"}"#);
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn names_both_places_of_what_stands_twice() {
        let files = [
            "admin: a\nroutes: { x: 1 }",
            "routes: { x: 2, y: 2 }\nadmin: b",
            "routes: [c]\nlisten: d",
        ];
        let (whole, findings) = merged(&files);
        assert_eq!(whole, r#"{"admin":"a","routes":{"x":1,"y":2},"listen":"d"}"#);
        assert_eq!(
            findings,
            [
                "b.yaml:1:11: `x` stands in `routes` a second time (at `routes.x`)\n  a.yaml:2:11: first here",
                "b.yaml:2:1: `admin` stands in a second file; it is said once for all of them (at `admin`)\n  a.yaml:1:1: first here",
                "c.yaml:1:9: expected a map, found a list (at `routes`)",
            ]
        );
    }

    #[test]
    fn reads_misspelt_keys_as_they_were_meant() {
        let (whole, findings) = merged(&["rutes: { x: 1 }\nadmn: a", "routes: { y: 2 }\nadmin: b\nzzz: 1"]);
        assert_eq!(whole, r#"{"routes":{"x":1,"y":2},"admin":"a"}"#);
        assert_eq!(findings.len(), 4, "{findings:?}");
    }
}
