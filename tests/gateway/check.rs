//! What `check` says, to the letter: each file and directory in `broken/` beside what is said of it.
//!
//! `GWANMUN_EXPECTED=write cargo test --test gateway check::` writes anew what is expected; the difference is to be read.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A Tuesday.
const AT: &str = "2026-11-24T12:00:00+09:00";
const GOOD: &str =
    "listen:\n  - address: 127.0.0.1:8080\nroutes:\n  a: { match: GET /a, auth: none, reply: { status: 200 } }\n";

fn broken() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/broken")
}

/// What `check` says of a file of the folder, named as seen from there.
fn check(folder: &Path, name: &OsStr, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command
        .current_dir(folder)
        .args(["check", "--at", AT])
        .args(more)
        .arg(name);
    command.output().expect("the gateway's binary runs")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// What is said of a configuration in a folder of its own.
fn said_of(bytes: &[u8]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.yaml"), bytes).unwrap();
    let output = check(folder.path(), OsStr::new("t.yaml"), &[]);
    (output.status.code(), said(&output))
}

#[test]
fn says_of_every_broken_file_what_is_expected() {
    let folder = broken();
    let writes = std::env::var_os("GWANMUN_EXPECTED").is_some_and(|value| value == "write");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "yaml" || end == "d"));
    names.sort();
    assert!(names.len() >= 25, "{} files", names.len());
    let mut wrong = String::new();
    for path in names {
        let name = path.file_name().unwrap();
        let output = check(&folder, name, &[]);
        let found = said(&output);
        let file = path.with_extension("expected");
        if writes {
            std::fs::write(&file, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let has_errors = !expected.contains(": 0 errors, ");
        if found != expected || output.status.code() != Some(i32::from(has_errors)) {
            let _ = writeln!(
                wrong,
                "--- {}: {:?}, expected\n{expected}+++ found\n{found}",
                name.display(),
                output.status
            );
        }
        for line in found.lines() {
            assert!(!line.contains("/tests/gateway/"), "a path of this machine: {line}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn finds_nine_mistakes_and_no_tenth() {
    let expected = std::fs::read_to_string(broken().join("nine-mistakes.expected")).unwrap();
    assert!(
        expected.ends_with("nine-mistakes.yaml: 9 errors, 0 warnings\n"),
        "{expected}"
    );
    for line in 1..=9 {
        let text = std::fs::read_to_string(broken().join("nine-mistakes.yaml")).unwrap();
        let at = text
            .lines()
            .position(|text| text.contains(&format!("# {line}:")))
            .unwrap()
            + 1;
        // The ninth is about the route as a whole.
        let at = if line == 9 { at - 2 } else { at };
        assert!(expected.contains(&format!("nine-mistakes.yaml:{at}:")), "line {at}");
    }
}

#[test]
fn says_the_same_as_json() {
    let output = check(&broken(), OsStr::new("twice.yaml"), &["--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["errors"], &told["warnings"]), (&3.into(), &0.into()));
    let first = &told["findings"][0];
    assert_eq!(
        *first,
        serde_json::json!({
            "severity": "error", "file": "twice.yaml", "line": 4, "column": 35, "path": "limits.flood",
            "message": "`key` stands here a second time",
            "notes": [{ "file": "twice.yaml", "line": 4, "column": 12, "message": "first here" }],
        })
    );
}

#[test]
fn refuses_quickly_what_is_too_much() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let ten = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{ten}]");
    }
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..2000 {
        let _ = writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1);
    }
    let large = format!("{GOOD}{}", "# nothing\n".repeat(5 << 20));
    let deep = 10_000;
    for (text, code, part) in [
        (bomb, 1, "aliases counted"),
        (chain, 1, "nested deeper than 64 levels"),
        (large, 2, "is larger than 32 MiB"),
        (format!("a: {}{}", "[".repeat(deep), "]".repeat(deep)), 1, "t.yaml:1:"),
        (
            format!("a:\n  {}x\n", "- ".repeat(deep)),
            1,
            "nested deeper than 64 levels",
        ),
        (
            format!("a: {}1{}", "{a: ".repeat(deep), "}".repeat(deep)),
            1,
            "nested deeper",
        ),
        (format!("{}x\n", "? ".repeat(deep)), 1, "t.yaml:1:"),
    ] {
        let began = Instant::now();
        let (status, said) = said_of(text.as_bytes());
        let start = &text[..text.len().min(40)];
        assert!(
            status == Some(code) && said.contains(part),
            "{start}: {status:?}: {said}"
        );
        assert!(said.len() < 2000, "{start}: {} bytes", said.len());
        // Far more than it takes, and far less than the work that is refused.
        assert!(began.elapsed() < Duration::from_secs(20), "{start}");
    }
}

#[test]
fn finds_everything_in_a_file_full_of_mistakes() {
    let mut text = GOOD.to_owned();
    for at in 0..5000 {
        let _ = writeln!(
            text,
            "  r{at}: {{ match: GET /r{at}, auth: none, upstream: u{at}, limits: [x{at}] }}"
        );
    }
    let (status, said) = said_of(text.as_bytes());
    assert_eq!(status, Some(1));
    assert!(
        said.contains("9000 more findings are not shown"),
        "{}",
        &said[said.len() - 300..]
    );
}

#[test]
fn warnings_crowd_no_error_out() {
    let mut text = GOOD.to_owned();
    let mut policies = String::from("policies:\n");
    for at in 0..1200 {
        let _ = writeln!(policies, "  p{at}: {{ deny: {{ methods: GET }} }}");
    }
    let _ = writeln!(text, "  x: {{ match: GET /x, auth: none, upstream: gone }}");
    let _ = writeln!(text, "  y: {{ match: GET /y, auth: none, upstream: away }}");
    let (status, said) = said_of(format!("{policies}{text}").as_bytes());
    assert_eq!(status, Some(1));
    for part in [
        "unknown upstream `gone`",
        "unknown upstream `away`",
        "more findings are not shown",
        "2 errors, 999 warnings",
    ] {
        assert!(said.contains(part), "{part}: {}", &said[said.len() - 600..]);
    }
}

#[test]
fn warns_of_secrets_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let jwt = "jwt: { issuer: https://id.example, audience: bank, algorithms: HS256, secret: '${file:key}' }";
    let text = format!(
        "{GOOD}  b: {{ match: GET /b, auth: x, reply: {{ status: 200 }} }}\nauthenticators: {{ x: {{ {jwt} }} }}\n"
    );
    std::fs::write(folder.path().join("t.yaml"), text).unwrap();
    let warned = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = check(folder.path(), OsStr::new("t.yaml"), &[]);
        assert_eq!(output.status.code(), Some(0));
        said(&output)
    };
    assert_eq!(warned(0o640), "t.yaml: 0 errors, 0 warnings\n");
    let warned = warned(0o644);
    assert!(
        warned.starts_with("t.yaml:6:") && warned.contains("`key` can be read by everybody"),
        "{warned}"
    );
    assert!(!warned.contains("0123456789"), "{warned}");
}

#[test]
fn never_shows_a_secret_that_stands_in_the_file() {
    let secret = "hunter2-hunter2-hunter2-hunter2-x";
    for line in [
        format!("    jwt: {{ secret: {secret}, algorithms: HS255 }}"),
        format!("    jwt: {{ secrt_token: \"{secret}\", algorithms: [HS255 }}"),
        format!("    jwt:\n      secret: \"{secret}\n      algorithms: HS256"),
        format!("    jwt:\n      secret: |\n        {secret}\n      algorithms: HS255"),
        format!("    jwt: {{ password: '{secret}' }}"),
    ] {
        let (status, said) = said_of(format!("{GOOD}authenticators:\n  x:\n{line}\n").as_bytes());
        assert_eq!(status, Some(1), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn reads_a_directory_as_one_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("conf.d");
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    std::fs::create_dir_all(directory.join("more")).unwrap();
    let found = || {
        let output = check(folder.path(), OsStr::new("conf.d"), &[]);
        (output.status.code(), said(&output))
    };
    assert_eq!(
        found(),
        (Some(2), "gwanmun: no `*.yaml` and no `*.yml` in `conf.d`\n".to_owned())
    );
    write("10-gate.yaml", "listen:\n  - address: 127.0.0.1:8080\n");
    write(
        "20-bank.yaml",
        "calendars:\n  seoul:\n    timezone: Asia/Seoul\n    holidays: holidays.yaml\n    windows: { off: [{ days: holidays }] }\n\
         routes:\n  a: { match: GET /a, auth: none, policies: [workdays], reply: { status: 200 } }\n",
    );
    write(
        "30-policies.yml",
        "policies: { workdays: { deny: { during: seoul.off } } }\n",
    );
    // Named by a calendar, so no part of its own; hidden, below, or called otherwise: none at all.
    write(
        "holidays.yaml",
        "through: 2028-12-31\ndates: { 2026-12-25: Christmas }\n",
    );
    for name in [".hidden.yaml", "more/deeper.yaml", "notes.txt", "bank.yaml~"] {
        write(name, "nonsense: true\n");
    }
    write("99-empty.yaml", "# nothing yet\n");
    assert_eq!(found(), (Some(0), "conf.d: 0 errors, 0 warnings\n".to_owned()));
    write("40-twice.yaml", "policies:\n  workdays: { deny: { methods: POST } }\n");
    let (status, said) = found();
    assert_eq!(status, Some(1));
    assert!(
        said.starts_with(
            "conf.d/40-twice.yaml:2:3: `workdays` stands in `policies` a second time (at `policies.workdays`)"
        ),
        "{said}"
    );
    assert!(said.contains("  conf.d/30-policies.yml:1:13: first here"), "{said}");
    // A broken file is one finding, and says nothing about what others may name in it.
    write("40-twice.yaml", "policies: [\n");
    let (status, said) = found();
    assert!(
        status == Some(1) && said.ends_with("conf.d: 1 error, 0 warnings\n"),
        "{said}"
    );
}
