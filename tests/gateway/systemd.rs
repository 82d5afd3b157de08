//! The unit file is one that systemd accepts, and it keeps the service locked in.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::process::Command;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/gwanmun.service");
const INSTALLED: &str = "/usr/local/bin/gwanmun";

#[test]
fn systemd_accepts_the_unit() {
    run_on_unit(&["verify"]);
}

/// systemd's own score, from 0 (locked in) to 100 (free to do anything).
#[test]
fn systemd_rates_the_exposure_of_the_unit_below_twenty() {
    run_on_unit(&["security", "--offline=true", "--threshold=20", "--no-pager"]);
}

/// Runs `systemd-analyze` on a copy of the unit whose program is the built one, since `verify` wants it to exist.
fn run_on_unit(arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("gwanmun.service");
    let unit = fs::read_to_string(UNIT).unwrap();
    assert!(
        unit.contains(&format!("ExecStart={INSTALLED} run -c ")),
        "the unit does not start {INSTALLED}"
    );
    fs::write(&copy, unit.replace(INSTALLED, env!("CARGO_BIN_EXE_gwanmun"))).unwrap();

    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(&copy)
        .output()
        .expect("systemd-analyze is missing: `make test` installs Debian's `systemd`");
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{printed}");
    // `verify` succeeds in spite of warnings, for instance about keys it does not know.
    let complaints: Vec<_> = printed
        .lines()
        .filter(|line| line.contains("/gwanmun.service:"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
