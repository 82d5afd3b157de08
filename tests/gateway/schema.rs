//! `gwanmun schema`, as editors and pipelines get it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn gwanmun(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_gwanmun"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
    output
}

#[test]
fn prints_what_stands_beside_the_configurations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let printed = String::from_utf8(gwanmun(&["schema"]).stdout).unwrap();
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        if name.ends_with(".yaml") {
            let modeline = text.lines().next().unwrap();
            let named = modeline.strip_prefix("# yaml-language-server: $schema=./").unwrap();
            let beside = entry.path().with_file_name(named);
            assert_eq!(std::fs::read_to_string(beside).unwrap(), printed, "{name}");
        }
    }
}

#[test]
fn says_how_editors_get_it() {
    let help = String::from_utf8(gwanmun(&["schema", "--help"]).stdout).unwrap();
    assert!(help.contains("gwanmun schema > conf/gwanmun.schema.json"), "{help}");
}
