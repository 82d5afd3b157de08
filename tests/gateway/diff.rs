//! `gwanmun diff`, as it is called.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The bank has a rule that cannot be enumerated; the diff says so each time.
const NOT_COMPARED: &str = "not compared, as these rules cannot be tried in every way\n  `own-account` (require if claims.sub == path.customer, unless roles teller, \
                            treasury: 403 denied) on balance\n";

/// The bank, with something in it replaced.
fn bank(folder: &Path, name: &str, replaced: &[(&str, &str)]) {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut yaml = std::fs::read_to_string(conf.join("bank.yaml")).unwrap();
    for (old, new) in replaced {
        assert!(yaml.contains(old), "bank.yaml no longer says {old}");
        yaml = yaml.replace(old, new);
    }
    std::fs::copy(conf.join("holidays-kr.yaml"), folder.join("holidays-kr.yaml")).unwrap();
    std::fs::write(folder.join(name), yaml).unwrap();
}

fn diff(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command
        .current_dir(folder)
        .args(["diff", "now.yaml", "next.yaml", "--from", "2026-09-23"])
        .args(arguments);
    command.output().unwrap()
}

#[test]
fn whoever_closes_card_payments_on_sundays_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    bank(folder.path(), "now.yaml", &[]);
    let replaced = [
        (
            "      upkeep:  [",
            "      cards:   [{ days: sun, hours: 02:00-04:00 }]\n      upkeep:  [",
        ),
        (
            "  staff-only:\n",
            "  no-cards:\n    deny: { during: seoul.cards }\n    unless: { roles: [ops] }\n    reply: { code: CARDS_CLOSED }\n  staff-only:\n",
        ),
        ("match: GET /cards\n", "match: GET /cards\n    policies: [no-cards]\n"),
    ];
    bank(folder.path(), "next.yaml", &replaced);
    let told = diff(folder.path(), &[]);
    assert_eq!(
        String::from_utf8(told.stdout).unwrap(),
        format!(
            "closed\n  GET /cards (cards): now denied 403 CARDS_CLOSED (no-cards) for everybody but those with role ops, 02:00–04:00 on \
             Sun 2026-09-27 (Asia/Seoul)\n{NOT_COMPARED}"
        )
    );
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stderr));
    let code = |arguments: &[&str]| diff(folder.path(), arguments).status.code();
    assert_eq!(code(&["--fail-on", "opened"]), Some(0));
    assert_eq!(code(&["--fail-on", "closed"]), Some(1));
    let told = diff(folder.path(), &["--json", "--days", "12"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let changes = told["changes"].as_array().unwrap();
    assert_eq!((changes.len(), &changes[0]["kind"]), (1, &"closed".into()));
    assert_eq!(changes[0]["times"].as_array().unwrap().len(), 2);
    assert_eq!(changes[0]["times"][1]["from"], "2026-10-04T02:00:00+09:00");
}

#[test]
fn a_later_night_at_work_is_told_in_the_zone_of_the_calendar() {
    let folder = tempfile::tempdir().unwrap();
    bank(folder.path(), "now.yaml", &[]);
    bank(
        folder.path(),
        "next.yaml",
        &[
            ("hours: 23:30-05:00", "hours: 22:00-05:00"),
            ("rate: 20/s", "rate: 10/s"),
        ],
    );
    let told = diff(folder.path(), &[]);
    assert_eq!(
        String::from_utf8(told.stdout).unwrap(),
        format!(
            "closed\n  POST /transfers (transfer): now denied 403 TRANSFER_CLOSED (no-night-transfer) for everybody but those \
             with role treasury, daily 22:00–23:30 (Asia/Seoul)\n\
             limits\n  limit `per-customer`: 20/s by principal.sub, 40 at once → 10/s by principal.sub, 40 at once\n\
             {NOT_COMPARED}"
        )
    );
}

#[test]
fn nothing_new_is_no_change_and_what_cannot_be_read_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    bank(folder.path(), "now.yaml", &[]);
    bank(folder.path(), "next.yaml", &[("listen:", "# another text\nlisten:")]);
    let told = diff(folder.path(), &[]);
    assert_eq!(told.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(told.stdout).unwrap(),
        format!("{NOT_COMPARED}no change\n")
    );
    bank(folder.path(), "next.yaml", &[("deny:   {", "denny:   {")]);
    let told = diff(folder.path(), &[]);
    assert_eq!(told.status.code(), Some(2));
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(
        said.contains("next.yaml:") && said.contains("did you mean `deny`?"),
        "{said}"
    );
    std::fs::remove_file(folder.path().join("next.yaml")).unwrap();
    assert_eq!(diff(folder.path(), &[]).status.code(), Some(2));
}

#[test]
fn what_could_not_all_be_tried_is_not_taken_for_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let roles = "require: { roles: [teller, treasury] }";
    let many = |names: &str| format!("require: {{ roles: [{names}] }}");
    bank(folder.path(), "now.yaml", &[(roles, &many("a, b, c, d, e"))]);
    bank(folder.path(), "next.yaml", &[(roles, &many("e, d, c, b, a"))]);
    let told = diff(folder.path(), &[]);
    let said = String::from_utf8(told.stdout).unwrap();
    assert!(
        said.contains("not all was tried\n  route `ticket`: of 5 roles: tried "),
        "{said}"
    );
    assert!(said.ends_with("no change among what was tried\n"), "{said}");
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(diff(folder.path(), &["--fail-on", "opened"]).status.code(), Some(1));
    let told = diff(folder.path(), &["--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["changed"], &told["complete"]), (&false.into(), &false.into()));
    bank(folder.path(), "next.yaml", &[(roles, &many("a, b, c, d, e"))]);
    assert_eq!(diff(folder.path(), &[]).status.code(), Some(0));
}

#[test]
fn who_is_refused_at_night_anyway_loses_nothing_on_sundays() {
    let folder = tempfile::tempdir().unwrap();
    bank(folder.path(), "now.yaml", &[]);
    let replaced = [
        (
            "      upkeep:  [",
            "      early:   [{ days: sun, hours: 02:00-04:00 }]\n      upkeep:  [",
        ),
        (
            "  staff-only:\n",
            "  no-early:\n    deny: { during: seoul.early }\n    unless: { roles: [ops] }\n  staff-only:\n",
        ),
        (
            "policies: [no-night-transfer,",
            "policies: [no-night-transfer, no-early,",
        ),
    ];
    bank(folder.path(), "next.yaml", &replaced);
    let told = diff(folder.path(), &[]);
    assert_eq!(
        String::from_utf8(told.stdout).unwrap(),
        format!(
            "closed\n  POST /transfers (transfer): now denied 403 denied (no-early) for callers with role treasury but not ops, \
             02:00–04:00 on Sun 2026-09-27 (Asia/Seoul)\n{NOT_COMPARED}"
        )
    );
}
