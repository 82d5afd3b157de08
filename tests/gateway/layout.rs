//! Which room may import which: the direction of the data, kept by reading the sources as text.

use std::path::{Path, PathBuf};

/// Each room with those it may import; rooms not listed may import any.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("conf", &[]),
    ("engine", &[]),
    ("io", &[]),
    ("routing", &["conf", "engine"]),
    // `io` only in files that answer questions: see below.
    ("policies", &["conf", "engine", "io"]),
    ("upstreams", &["conf", "engine", "io"]),
    ("targets", &["conf", "engine", "io", "upstreams"]),
    (
        "snapshot",
        // What observers are set to is part of a configuration.
        &[
            "conf",
            "engine",
            "routing",
            "policies",
            "upstreams",
            "targets",
            "observe",
        ],
    ),
    // A generation binds a snapshot to live state, and implements `Call` over the pools.
    (
        "live",
        &["engine", "io", "policies", "upstreams", "targets", "snapshot"],
    ),
    ("observe", &["conf", "engine", "io"]),
    ("front", &["conf", "engine", "live", "routing"]),
    // Of `policies` and `routing` the pure functions that Pingora's phases need: paths, stored answers, codings, fields.
    (
        "proxy",
        &[
            "engine",
            "snapshot",
            "live",
            "upstreams",
            "targets",
            "policies",
            "routing",
            // A socket takes the client's connection out of the front's bounds on requests.
            "front",
        ],
    ),
    (
        "rehearse",
        &["conf", "engine", "policies", "routing", "snapshot", "targets"],
    ),
    ("admin", &["conf", "engine", "snapshot", "live", "observe"]),
    ("demo", &[]),
];
const MAY_IMPORT_ANY: &[&str] = &["main", "lib", "cli", "server"];

#[test]
fn imports_follow_the_direction_of_the_data() {
    let mut wrong = Vec::new();
    for (file, room, text) in sources() {
        let allowed = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == room)
            .map(|(_, allowed)| *allowed);
        assert!(
            allowed.is_some() || MAY_IMPORT_ANY.contains(&room.as_str()),
            "`{room}` is no room of the table"
        );
        for import in imports(&text) {
            let known = MAY_IMPORT.iter().any(|(name, _)| *name == import) || MAY_IMPORT_ANY.contains(&import.as_str());
            if known && import != room && allowed.is_some_and(|allowed| !allowed.contains(&import.as_str())) {
                wrong.push(format!("{}: `{room}` imports `{import}`", file.display()));
            }
        }
        if text.contains("impl Policy for") && imports(&text).iter().any(|import| import == "io") {
            wrong.push(format!("{}: a policy decides without `io`", file.display()));
        }
        if matches!(room.as_str(), "conf" | "engine" | "routing") && text.contains("pingora") {
            wrong.push(format!("{}: `{room}` knows nothing of Pingora", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every source file with its room and its text, comments and tests left out.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let inside = path.strip_prefix(&root).unwrap();
                let room = inside.components().next().unwrap().as_os_str().to_string_lossy();
                let room = room.trim_end_matches(".rs").to_owned();
                found.push((inside.to_path_buf(), room, without_comments_and_tests(&path)));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn without_comments_and_tests(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    // Tests stand last, and may stand on other rooms.
    let text = text.split("\nmod tests {").next().unwrap_or_default();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The rooms named after `crate::`, alone or in a group.
fn imports(text: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = Vec::new();
    for after in text.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            found.push(word(after));
            continue;
        };
        let mut depth = 0;
        let mut member = true;
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => member = true,
                character if member && !character.is_whitespace() => {
                    found.push(word(&group[at..]));
                    member = false;
                }
                _ => {}
            }
        }
    }
    found
}
