#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;

use super::tests::{NOW, compile, compile_at};
use crate::engine::Truth;
use jiff::Timestamp;

const HOLIDAYS: &str = "through: 2027-12-31\ndates:\n  2026-09-24: 추석 연휴\n  2026-09-25: 추석\n  2027-01-01: 신정\n";

/// A calendar `c` in Seoul with these windows and holidays.
fn calendar(holidays: &str, windows: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(holidays.as_bytes()).unwrap();
    let path = file.path().display();
    let yaml = format!("calendars: {{ c: {{ timezone: Asia/Seoul, holidays: {path}, windows: {{ {windows} }} }} }}\n");
    (file, yaml)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The findings, with the name of the temporary file left out.
fn findings(file: &tempfile::NamedTempFile, found: &[String]) -> Vec<String> {
    let path = file.path().display().to_string();
    found.iter().map(|found| found.replace(&path, "h.yaml")).collect()
}

#[test]
fn holidays_are_left_out_by_the_day_a_window_starts_on() {
    let (_file, yaml) = calendar(
        HOLIDAYS,
        "late: [{ days: mon-fri, hours: 22:00-02:00, except: holidays }], free: [{ days: holidays }]",
    );
    let compiled = compile(&yaml);
    assert_eq!(compiled.findings, [""; 0]);
    let late = compiled.window("c.late");
    // Wednesday's hours reach into the holiday, the holiday's own are left out, and so are Friday's.
    assert_eq!(late.state(at("2026-09-24T01:00+09:00")), Truth::True);
    assert_eq!(late.state(at("2026-09-24T23:00+09:00")), Truth::False);
    assert_eq!(late.state(at("2026-09-26T01:00+09:00")), Truth::False);
    assert_eq!(
        late.next_change(at("2026-09-24T23:00+09:00")),
        Some(at("2026-09-28T22:00+09:00"))
    );
    assert_eq!(
        late.describe(at("2026-09-25T23:00+09:00")),
        "not on 추석, opens 2026-09-28T22:00+09:00"
    );
    assert_eq!(
        late.describe(at("2026-09-25T12:00+09:00")),
        "opens 2026-09-28T22:00+09:00"
    );
    let free: Vec<_> = compiled
        .window("c.free")
        .openings(at("2026-09-01T00:00+09:00"))
        .take(2)
        .collect();
    assert_eq!(
        (free[0].opens, free[0].closes, free[1].opens),
        (
            at("2026-09-24T00:00+09:00"),
            Some(at("2026-09-26T00:00+09:00")),
            at("2027-01-01T00:00+09:00")
        )
    );
}

#[test]
fn what_holidays_decide_is_unknown_after_their_last_day() {
    let (_file, yaml) = calendar(
        HOLIDAYS,
        "work: [{ days: mon-fri, hours: 09:00-18:00, except: holidays }], free: [{ days: [holidays, sun] }]",
    );
    let compiled = compile(&yaml);
    let (work, free) = (compiled.window("c.work"), compiled.window("c.free"));
    for (when, works, is_free) in [
        ("2027-12-31T10:00+09:00", Truth::True, Truth::False),
        ("2028-01-01T10:00+09:00", Truth::False, Truth::Unknown), // a Saturday
        ("2028-01-02T10:00+09:00", Truth::False, Truth::True),
        ("2028-01-03T10:00+09:00", Truth::Unknown, Truth::Unknown),
        ("2028-01-03T18:00+09:00", Truth::False, Truth::Unknown),
        // Far outside the table.
        ("2040-01-02T10:00+09:00", Truth::Unknown, Truth::Unknown),
        ("2040-01-02T20:00+09:00", Truth::False, Truth::Unknown),
    ] {
        assert_eq!((work.state(at(when)), free.state(at(when))), (works, is_free), "{when}");
    }
    assert_eq!(
        work.describe(at("2028-01-03T10:00+09:00")),
        "holidays are known through 2027-12-31"
    );
    assert_eq!(
        work.describe(at("2027-12-31T20:00+09:00")),
        "not known from 2028-01-03T09:00+09:00 on"
    );
    assert_eq!(compiled.calendars.holidays_through().next().unwrap().0, "c");
}

#[test]
fn ended_holidays_are_an_error_but_at_start() {
    let (file, yaml) = calendar(HOLIDAYS, "");
    let found = |now: &str, at_start: bool| findings(&file, &compile_at(&yaml, now, at_start).findings);
    assert_eq!(found(NOW, false), [""; 0]);
    assert_eq!(found("2027-10-31T12:00:00+09:00", false), [""; 0]);
    assert_eq!(
        found("2027-11-02T12:00:00+09:00", false),
        ["h.yaml:1:10: warning: the holidays are known through 2027-12-31 only, which is 59 days from now"]
    );
    // The year ends in Seoul first.
    assert_eq!(
        found("2027-12-31T15:00:00Z", false),
        ["h.yaml:1:10: the holidays are known through 2027-12-31 only, and today is 2028-01-01"]
    );
    assert_eq!(
        found("2027-12-31T15:00:00Z", true),
        [
            "h.yaml:1:10: warning: the holidays are known through 2027-12-31 only, and today is 2028-01-01; windows that name \
          holidays are unknown on days they might fall on"
        ]
    );
}

#[test]
fn a_window_that_never_changes_says_so() {
    let compiled = compile(
        "calendars: { c: { timezone: UTC, windows: { always: [{ days: daily }], halves: [{ days: daily, hours: 00:00-12:00 }, \
         { days: daily, hours: 12:00-24:00 }], never: [{ days: 5th fri, except: last fri }], rare: [{ days: 4th fri, \
         except: last fri }], far: [{ days: 2061-01-01 }], long: [{ from: 2026-01-01T00:00, to: 2199-12-31T00:00 }] } } }",
    );
    assert_eq!(compiled.findings, [""; 0]);
    let next = |window: &str, from: &str| compiled.window(window).next_change(at(from)).map(|at| at.to_string());
    for far in [NOW, "1980-01-01T00:00Z", "2150-01-01T00:00Z"] {
        assert_eq!(
            (next("c.always", far), next("c.halves", far), next("c.never", far)),
            (None, None, None)
        );
        assert!(next("c.rare", far).is_some());
    }
    assert_eq!(next("c.far", NOW).unwrap(), "2061-01-01T00:00:00Z");
    assert_eq!(next("c.far", "2061-01-01T00:00Z").unwrap(), "2061-01-02T00:00:00Z");
    assert_eq!(next("c.far", "2061-01-02T00:00Z"), None);
    assert_eq!(next("c.long", NOW).unwrap(), "2199-12-31T00:00:00Z");
    assert_eq!(compiled.window("c.never").describe(at(NOW)), "does not open again");
    assert_eq!(compiled.window("c.always").describe(at(NOW)), "all day");
    assert_eq!(
        compiled.window("c.long").describe(at(NOW)),
        "2026-01-01T00:00–2199-12-31T00:00, until 2199-12-31T00:00+00:00"
    );
    // The ends of time.
    for edge in [Timestamp::MIN, Timestamp::MAX] {
        assert_eq!(compiled.window("c.always").state(edge), Truth::True);
        let _ = compiled.window("c.rare").next_change(edge);
    }
}

#[test]
fn points_at_every_mistake_in_calendars() {
    let compiled = compile(
        "calendars:\n  a: { timezone: Asia/Soul, windows: { w: [{ days: daily }] } }\n  \
         b: { timezone: UTC, holidays: no-such-file.yaml }\n  \
         c:\n    timezone: UTC\n    windows:\n      \
         a: [{ days: daily, hours: 05:00-05:00 }]\n      \
         b: [{ days: munday }, { hours: 09:00-10:00 }]\n      \
         c: [{ days: mon, except: holidays }, { days: [holidays] }]\n      \
         d: [{ from: 2026-01-02T00:00, to: 2026-01-01T00:00 }]\n      \
         e: [{ from: 2026-01-02T00:00+09:00, to: 2026-01-03T00:00 }]\n      \
         f: [{ from: 2026-01-02T00:00, to: 2026-01-03T00:00, except: mon }]\n      \
         g: { days: daily }\n      \
         h: [{ days: daily, from: 2026-01-02T00:00 }]\n\
         policies: { p: { deny: { during: [a.w, c.a, c.h] } } }\n",
    );
    let directory = std::path::Path::new("").display().to_string();
    assert_eq!(
        compiled.findings,
        [
            "t.yaml:2:18: unknown time zone `Asia/Soul`, did you mean `Asia/Seoul`?".to_owned(),
            format!("t.yaml:3:33: cannot read `{directory}no-such-file.yaml`: No such file or directory (os error 2)"),
            "t.yaml:7:33: `05:00-05:00` start and end at the same time; leave `hours` out for the whole day".into(),
            "t.yaml:8:19: `munday` is not a day: did you mean `mon`?".into(),
            "t.yaml:8:29: missing `days`".into(),
            "t.yaml:9:32: the calendar names no file of `holidays`".into(),
            "t.yaml:9:53: the calendar names no file of `holidays`".into(),
            "t.yaml:10:41: `2026-01-01T00:00` is not after `2026-01-02T00:00`, where the span begins".into(),
            "t.yaml:11:19: `2026-01-02T00:00+09:00` has an offset; a span is in the calendar's zone".into(),
            "t.yaml:12:59: unknown key `except`, expected one of `from`, `to`".into(),
            "t.yaml:13:10: expected a list, found a map".into(),
            "t.yaml:14:11: missing `to`".into(),
            "t.yaml:14:13: unknown key `days`, expected one of `from`, `to`".into(),
        ]
    );
}

#[test]
fn points_at_every_mistake_in_a_file_of_holidays_once() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"through: 2026-12-31\ndates: { 2026-02-30: a, 2027-01-01: b, x: c, 2026-12-25: }\n")
        .unwrap();
    let path = file.path().display();
    let zone = format!("timezone: UTC, holidays: {path}");
    let compiled = compile(&format!(
        "calendars: {{ a: {{ {zone} }}, b: {{ {zone}, windows: {{ w: [{{ days: holidays }}] }} }} }}\n"
    ));
    assert_eq!(
        findings(&file, &compiled.findings),
        [
            "h.yaml:2:10: `2026-02-30` is no day of the calendar",
            "h.yaml:2:25: `2027-01-01` is later than `through`\n  h.yaml:1:10: the holidays are known through this day",
            "h.yaml:2:40: `x` is not a date such as `2026-12-31`",
            "h.yaml:2:56: expected a text, found nothing",
        ]
    );
}
