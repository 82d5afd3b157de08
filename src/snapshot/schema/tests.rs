use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;

use super::*;
use crate::conf::{Load, Node};
use crate::snapshot::{Occasion, compile};

const EVERY_KEY: &str = include_str!("every-key.yaml");
/// Keys that stand instead of others.
const INSTEAD: &str = "
listen: [{ address: 127.0.0.1:8080 }]
trusted_proxies: { from: [10.0.0.10/32], proxy_protocol: required }
routes: { a: { match: GET /a, auth: none, reply: { status: 200 } } }
";

/// A key that is near to none.
const STRANGE: &str = "qqqqqqqqqqqqqqqq";

/// Configurations that `check` accepts.
fn configurations() -> Vec<Json> {
    let texts = [
        EVERY_KEY,
        INSTEAD,
        include_str!("../../../conf/bank.yaml"),
        include_str!("../../../conf/shop.yaml"),
    ];
    texts.into_iter().map(json).collect()
}

/// What a text holds; numbers and booleans are told from text as YAML 1.2 does.
fn json(text: &str) -> Json {
    let load = Load::new();
    let node = load.text("conf/t.yaml", text).expect(text);
    serde_json::from_str(&node.to_json()).unwrap()
}

/// What is said of a configuration, each with its path: first the errors alone.
fn errors(configuration: &Json) -> Vec<(String, String)> {
    let load = Load::new();
    let occasion = Occasion {
        now: "2026-09-01T00:00:00Z".parse().unwrap(),
        at_start: false,
    };
    // JSON is YAML. Holidays are found beside the configurations.
    let document: Option<Node> = load.text("conf/t.yaml", &configuration.to_string());
    if let Some(document) = &document {
        compile(document, occasion, &load);
    }
    let findings = load.into_findings(document.as_ref()).into_iter();
    let errors = findings.filter(|finding| finding.severity == crate::conf::Severity::Error);
    errors.map(|finding| (finding.path, finding.message)).collect()
}

fn validator(schema: &Json) -> Validator {
    jsonschema::draft7::new(schema).unwrap()
}

/// The schema with `part` as its root.
fn rooted(whole: &Json, part: &Json) -> Validator {
    validator(&serde_json::json!({ "definitions": whole["definitions"], "allOf": [part] }))
}

fn faults(validator: &Validator, value: &Json) -> Vec<String> {
    let fault = |error: jsonschema::ValidationError<'_>| format!("{}: {error}", error.instance_path());
    validator.iter_errors(value).map(fault).collect()
}

#[test]
fn is_committed_as_the_command_prints_it() {
    let printed = format!("{:#}\n", schema());
    let committed = include_str!("../../../conf/gwanmun.schema.json");
    assert!(
        committed == printed,
        "refresh it: cargo run -- schema > conf/gwanmun.schema.json"
    );
}

#[test]
fn is_a_schema() {
    let schema = schema();
    assert_eq!(
        jsonschema::draft7::meta::validate(&schema).map_err(|error| error.to_string()),
        Ok(())
    );
    let text = schema.to_string();
    assert!(!text.contains("[`"), "links of doc comments lead nowhere here");
}

#[test]
fn says_what_every_key_is_for() {
    let schema = schema();
    let mut silent = Vec::new();
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            let own = property.get("description");
            let referred = property.get("$ref").and_then(Json::as_str);
            let referred = referred.and_then(|path| schema.pointer(path.trim_start_matches('#'))?.get("description"));
            let text = own.or(referred).and_then(Json::as_str).unwrap_or_default();
            if text.len() < 10 || !text.ends_with(['.', '`']) {
                silent.push(format!("{name}.{key}: {text:?}"));
            }
        }
        for meaning in definition["enumDescriptions"].as_array().into_iter().flatten() {
            if meaning.as_str().is_none_or(str::is_empty) {
                silent.push(name.clone());
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn accepts_the_configurations_and_the_holidays() {
    let validator = validator(&schema());
    for configuration in configurations() {
        assert_eq!(errors(&configuration), []);
        assert_eq!(faults(&validator, &configuration), [""; 0]);
    }
    let holidays = json(include_str!("../../../conf/holidays-kr.yaml"));
    assert_eq!(faults(&validator, &holidays), [""; 0]);
}

/// The YAML at the heads of modules: each top-level key with its value, duplicates included.
fn examples() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
                let mut inside = false;
                for line in head {
                    let line = line.strip_prefix(' ').unwrap_or(line);
                    if line.starts_with("```") {
                        inside = line == "```yaml";
                    } else if inside && line.starts_with(|first: char| first.is_ascii_alphabetic()) {
                        found.push((path.display().to_string(), format!("{line}\n")));
                    } else if let Some((_, text)) = found.last_mut().filter(|_| inside) {
                        text.push_str(&format!("{line}\n"));
                    }
                }
            }
        }
    }
    found
}

/// The schema for parts of a configuration: nothing has to be there.
fn loosened(schema: &Json) -> Json {
    match schema {
        Json::Object(members) => {
            let strict = ["required", "oneOf", "dependencies", "minProperties"];
            let kept = members
                .iter()
                .filter(|(key, value)| !strict.contains(&key.as_str()) || value.get("type").is_some());
            Json::Object(kept.map(|(key, value)| (key.clone(), loosened(value))).collect())
        }
        Json::Array(items) => items.iter().map(loosened).collect(),
        other => other.clone(),
    }
}

#[test]
fn accepts_the_examples_of_the_modules() {
    let schema = loosened(&schema());
    let mut by_key: BTreeMap<&str, Vec<Validator>> = BTreeMap::new();
    for definition in schema["definitions"].as_object().unwrap().values() {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            by_key.entry(key).or_default().push(rooted(&schema, property));
        }
    }
    let examples = examples();
    assert!(examples.len() > 30, "{}", examples.len());
    for (path, text) in examples {
        let example = json(&text);
        let (key, value) = example.as_object().unwrap().iter().next().unwrap();
        let validators = by_key.get(key.as_str()).unwrap_or_else(|| panic!("{path}: {text}"));
        let accepted = validators.iter().any(|validator| validator.is_valid(value));
        assert!(accepted, "{path}: {text}{:?}", faults(&validators[0], value));
    }
}

/// Goes through a value together with the schemas it meets; `see` gets every map that has fixed keys, with its path.
fn walk<'a>(whole: &'a Json, schema: &'a Json, value: &Json, path: &str, see: &mut impl FnMut(&'a Json, &Json, &str)) {
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        let target = whole.pointer(reference.trim_start_matches('#')).unwrap();
        return walk(whole, target, value, path, see);
    }
    if schema.get("if").is_some() {
        let branch = if value.get("through").is_some() { "then" } else { "else" };
        return walk(whole, &schema[branch], value, path, see);
    }
    for branch in schema["anyOf"].as_array().into_iter().flatten() {
        if rooted(whole, branch).is_valid(value) {
            walk(whole, branch, value, path, see);
        }
    }
    if let Some(members) = value.as_object() {
        let properties = schema["properties"].as_object();
        if properties.is_some() {
            see(schema, value, path);
        }
        for (key, value) in members {
            let schema = properties
                .and_then(|known| known.get(key))
                .or(schema.get("additionalProperties"));
            if let Some(schema) = schema {
                walk(whole, schema, value, &format!("{path}/{}", key.replace('/', "~1")), see);
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(schema) = schema.get("items") {
            walk(whole, schema, item, &format!("{path}/{index}"), see);
        }
    }
}

/// `expected one of …` names all that the reader knows, so nothing can be in one and not in the other.
#[test]
fn knows_the_keys_that_the_readers_know() {
    let whole = schema();
    let strict = validator(&whole);
    let configuration = json(EVERY_KEY);
    let mut maps: Vec<(String, BTreeSet<String>)> = Vec::new();
    walk(&whole, &whole, &configuration, "", &mut |schema, _, path| {
        if schema["additionalProperties"] == Json::Bool(false) {
            let keys = schema["properties"].as_object().unwrap().keys().cloned();
            maps.push((path.to_owned(), keys.collect()));
        }
    });
    for (path, described) in maps {
        let mut changed = configuration.clone();
        let map = changed.pointer_mut(&path).unwrap().as_object_mut().unwrap();
        map.insert(STRANGE.to_owned(), Json::Null);
        let found = errors(&changed);
        let unknown = found
            .iter()
            .find_map(|(_, message)| message.strip_prefix(&format!("unknown key `{STRANGE}`")));
        let known = unknown.unwrap_or_else(|| panic!("at {path}: {found:?}"));
        let known = known.split('`').skip(1).step_by(2).map(str::to_owned);
        assert_eq!(known.collect::<BTreeSet<_>>(), described, "at {path}");
        assert!(!strict.is_valid(&changed), "at {path}");
    }
}

#[test]
fn is_tried_with_every_key() {
    let whole = schema();
    let mut left: BTreeSet<(usize, String)> = BTreeSet::new();
    let mut names = BTreeMap::new();
    for (name, definition) in whole["definitions"].as_object().unwrap() {
        for key in definition["properties"]
            .as_object()
            .into_iter()
            .flat_map(|keys| keys.keys())
        {
            let at = std::ptr::from_ref(definition).addr();
            names.insert(at, name);
            left.insert((at, key.clone()));
        }
    }
    let holidays = include_str!("../../../conf/holidays-kr.yaml");
    for value in [EVERY_KEY, INSTEAD, holidays].map(json) {
        walk(&whole, &whole, &value, "", &mut |schema, value, _| {
            for key in value.as_object().unwrap().keys() {
                left.remove(&(std::ptr::from_ref(schema).addr(), key.clone()));
            }
        });
    }
    let left: Vec<String> = left.iter().map(|(at, key)| format!("{}.{key}", names[at])).collect();
    assert!(left.is_empty(), "every-key.yaml lacks {left:?}");
}

#[test]
fn refuses_what_check_refuses_for_its_form() {
    let validator = validator(&schema());
    for (path, value) in [
        ("/lisen", r#"[{"address":"127.0.0.1:1"}]"#),
        ("/listen", "null"),
        ("/listen/0", r#"{"adress":"127.0.0.1:1"}"#),
        ("/upstreams/a/balance", r#""roundrobin""#),
        ("/upstreams/a/timeout/response", "2"),
        ("/upstreams/a/retry/after", r#"["conect"]"#),
        ("/authenticators/one/jwt/algorithms", r#"["none"]"#),
        ("/authenticators/one/jwt/secret", r#""hunter2hunter2hunter2hunter2""#),
        ("/calendars/seoul/windows/trading", r#"[{"days":"monday"}]"#),
        ("/calendars/seoul/windows/trading", r#"[{"days":"mon","hours":"9-15"}]"#),
        ("/policies/all/require", r#"{"roles":["a"]}"#),
        ("/policies/all/deny", "{}"),
        ("/policies/all/mode", r#""shadowed""#),
        ("/limits/flood/rate", r#""20""#),
        ("/limits/flood/key", r#""principal""#),
        ("/routes/everything/upsteam", r#""a""#),
        ("/routes/everything/reply", r#"{"status":200}"#),
        ("/routes/said", r#"{"match":"GET /x","reply":{}}"#),
        ("/routes/said", r#"{"match":"GET /x","auth":"none"}"#),
        ("/routes/said/match", r#""get /x""#),
        ("/routes/said/reply/status", "99"),
        ("/routes/whole/cache", r#"{"share":"everyone"}"#),
        (
            "/anomalies/stuffing/when",
            r#"{"status":401,"distinct":"path","over":20}"#,
        ),
    ] {
        let mut configuration = json(EVERY_KEY);
        let (parent, key) = path.rsplit_once('/').unwrap();
        let value = serde_json::from_str(value).unwrap();
        match configuration.pointer_mut(parent).unwrap() {
            Json::Object(members) => drop(members.insert(key.to_owned(), value)),
            other => other[key.parse::<usize>().unwrap()] = value,
        }
        assert_ne!(errors(&configuration), [], "{path}");
        assert!(!validator.is_valid(&configuration), "{path}");
    }
}

/// Every place inside a value.
fn places(value: &Json, path: &str, found: &mut Vec<String>) {
    let mut go = |key: &str, inner: &Json| {
        let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push(path.clone());
        places(inner, &path, found);
    };
    match value {
        Json::Object(members) => members.iter().for_each(|(key, inner)| go(key, inner)),
        Json::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, inner)| go(&at.to_string(), inner)),
        _ => {}
    }
}

/// What texts are changed by.
const LETTERS: &str = "0123456789abcdefxyzAMTZ .,:;-_+*/|\\'\"$%&#@!?~^`<>=()[]{}\n\té한";

/// Whatever is done to a configuration, the schema accepts it if `check` does, and refuses it if `check` finds a key or a
/// word unknown or missing.
#[test]
fn agrees_with_check_on_changed_configurations() {
    let validator = validator(&schema());
    let configurations = configurations();
    let words = r#"["off", "none", "", "5", "5s", "1KiB", "true", "connect", "a.b", "/x", "GET", "*", 5, 0, -1, 1.5, 502, true,
        false, null, [], {}, ["a"], {"a": "b"}, "20/s", "2026-12-31", "daily", "${env:X}", "\n", "한"]"#;
    let words: Vec<Json> = serde_json::from_str(words).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound as u64).unwrap()
    };
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..500 {
        let mut changed = configurations[below(configurations.len())].clone();
        let mut all = Vec::new();
        places(&changed, "", &mut all);
        let place = &all[below(all.len())];
        let other = changed.pointer(&all[below(all.len())]).unwrap().clone();
        let how = below(6);
        let (parent, key) = place.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        match (how, changed.pointer_mut(parent).unwrap()) {
            (0, Json::Object(members)) => drop(members.remove(&key)),
            (0, Json::Array(items)) => drop(items.remove(key.parse().unwrap())),
            (1, Json::Object(members)) => {
                let value = members.remove(&key).unwrap();
                members.insert(format!("{key}s"), value);
            }
            (4 | 5, _) => {
                let value = changed.pointer_mut(place).unwrap();
                let mut letters: Vec<char> = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
                    .chars()
                    .collect();
                let at = below(letters.len() + 1);
                let letter = LETTERS.chars().nth(below(LETTERS.chars().count())).unwrap();
                match letters.get_mut(at) {
                    Some(_) if how == 4 => drop(letters.remove(at)),
                    Some(known) if letter.is_ascii_uppercase() => *known = letter,
                    _ => letters.insert(at, letter),
                }
                // Maps and lists become text, too.
                *value = letters.into_iter().collect::<String>().into();
            }
            (2, _) => *changed.pointer_mut(place).unwrap() = other,
            _ => *changed.pointer_mut(place).unwrap() = words[below(words.len())].clone(),
        }
        let found = errors(&changed);
        let faults = faults(&validator, &changed);
        if found.is_empty() {
            assert!(faults.is_empty(), "{how} at {place}: {faults:#?}");
            accepted += 1;
        }
        let of_form = |message: &str| {
            ["unknown key", "unknown word", "missing `"]
                .iter()
                .any(|head| message.starts_with(head))
        };
        if found.iter().any(|(_, message)| of_form(message)) {
            assert!(!faults.is_empty(), "{how} at {place}: {found:#?}");
            refused += 1;
        }
    }
    assert!(accepted > 50 && refused > 50, "{accepted} accepted, {refused} refused");
}
