use std::fs;

use super::super::{LogPath, Rotation, RotationSize};
use super::*;
use crate::observe::anomaly::Suspect;
use crate::observe::audit::{Line, read_line, verify_chain};
use crate::observe::samples::{instant, transfer};

/// Long enough for any machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(folder: &tempfile::TempDir, size: Option<u64>) -> AuditSettings {
    AuditSettings {
        file: LogPath(folder.path().join("audit.jsonl")),
        rotate: size.map(|size| Rotation {
            size: RotationSize(size),
        }),
    }
}

fn now() -> Timestamp {
    instant("2026-11-24T03:00:00Z")
}

fn record(at: &str) -> Arc<Record> {
    let mut record = transfer();
    record.at = instant(at);
    Arc::new(record)
}

fn lines(path: &std::path::Path) -> Vec<Line> {
    let text = fs::read(path).unwrap();
    let lines: Vec<&[u8]> = text
        .strip_suffix(b"\n")
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .collect();
    verify_chain(lines.iter().copied()).unwrap();
    lines.into_iter().map(|line| read_line(line).unwrap()).collect()
}

#[test]
fn has_everything_on_disk_once_closed() {
    let folder = tempfile::tempdir().unwrap();
    let counts = Arc::new(Counts::default());
    let audit = Audit::open(&settings(&folder, None), now(), counts.clone()).unwrap();
    for _ in 0..100 {
        audit.record(&record("2026-11-24T03:00:00Z"));
    }
    assert!(audit.close(PATIENCE));
    assert_eq!(lines(&folder.path().join("audit.jsonl")).len(), 100);
    assert_eq!(counts.records.load(Ordering::Relaxed), 100);
    // Too late: lost, and counted.
    audit.record(&record("2026-11-24T03:00:00Z"));
    assert_eq!(counts.dropped.load(Ordering::Relaxed), 1);
    assert!(!audit.close(PATIENCE));
}

#[test]
fn records_what_it_had_to_drop() {
    let folder = tempfile::tempdir().unwrap();
    let counts = Arc::new(Counts::default());
    let (audit, writer) = Audit::prepare(&settings(&folder, None), now(), counts.clone(), 2).unwrap();
    for second in [1, 2, 9, 5, 7] {
        audit.record(&record(&format!("2026-11-24T03:00:0{second}Z")));
    }
    let thread = thread::spawn(move || writer.run());
    assert!(audit.close(PATIENCE));
    thread.join().unwrap();
    let lines = lines(&folder.path().join("audit.jsonl"));
    let [Line::Request(_), Line::Request(_), Line::Dropped { count: 3, from, to }] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(
        (*from, *to),
        (instant("2026-11-24T03:00:05Z"), instant("2026-11-24T03:00:09Z"))
    );
    assert_eq!(counts.dropped.load(Ordering::Relaxed), 3);
}

#[test]
fn rotates_by_size_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder, Some(4096));
    let audit = Audit::open(&settings, now(), Arc::default()).unwrap();
    for _ in 0..40 {
        audit.record(&record("2026-11-24T03:00:00Z"));
    }
    assert!(audit.close(PATIENCE));
    let mut total = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let size = fs::metadata(&path).unwrap().len();
        assert!(size < 4096 + 2048, "{path:?} has {size} bytes");
        if size > 0 {
            total += lines(&path).len();
        }
    }
    assert_eq!(total, 40);
}

#[test]
fn writes_alerts_between_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::open(&settings(&folder, None), now(), Arc::default()).unwrap();
    audit.alert(Arc::new(Alert {
        at: now(),
        detector: "credential-stuffing".into(),
        suspect: Suspect::Address("2001:db8::1".parse().unwrap()),
        status: 401,
        distinct: 21,
        within: Duration::from_secs(60),
    }));
    assert!(audit.close(PATIENCE));
    let lines = lines(&folder.path().join("audit.jsonl"));
    assert!(matches!(lines.as_slice(), [Line::Alert { detector, .. }] if detector == "credential-stuffing"));
}

#[test]
fn begins_a_new_file_when_asked_to_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, writer) = Audit::prepare(&settings(&folder, None), now(), Arc::default(), 8).unwrap();
    let aside = folder.path().join("aside");
    audit.record(&record("2026-11-24T03:00:00Z"));
    fs::rename(folder.path().join("audit.jsonl"), &aside).unwrap();
    audit.reopen();
    let thread = thread::spawn(move || writer.run());
    assert!(audit.close(PATIENCE));
    thread.join().unwrap();
    assert_eq!(lines(&aside).len(), 1);
    assert!(folder.path().join("audit.jsonl").exists());
}

#[test]
fn ends_when_the_handle_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, writer) = Audit::prepare(&settings(&folder, None), now(), Arc::default(), 8).unwrap();
    audit.record(&record("2026-11-24T03:00:00Z"));
    drop(audit);
    writer.run();
    assert_eq!(lines(&folder.path().join("audit.jsonl")).len(), 1);
}

#[test]
fn takes_over_a_changed_rotation_but_not_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, mut writer) = Audit::prepare(&settings(&folder, None), now(), Arc::default(), 8).unwrap();
    assert!(audit.adopts(&settings(&folder, Some(4096))));
    assert!(!writer.must_rotate());
    for _ in 0..8 {
        writer.file.append(&Entry::Request(&transfer()));
    }
    assert!(writer.must_rotate());
    let other = tempfile::tempdir().unwrap();
    assert!(!audit.adopts(&settings(&other, None)));
}

#[test]
fn goes_on_in_the_old_file_while_none_can_be_begun() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let settings = AuditSettings {
        file: LogPath(logs.join("audit.jsonl")),
        rotate: Some(Rotation {
            size: RotationSize(4096),
        }),
    };
    let counts = Arc::new(Counts::default());
    let (audit, mut writer) = Audit::prepare(&settings, now(), counts.clone(), 8).unwrap();
    let away = folder.path().join("away");
    fs::rename(&logs, &away).unwrap();
    fs::write(&logs, "in the way").unwrap();
    for _ in 0..8 {
        audit.record(&record("2026-11-24T03:00:00Z"));
    }
    writer.batch(None);
    assert_eq!(lines(&away.join("audit.jsonl")).len(), 8);
    assert!(counts.write_failures.load(Ordering::Relaxed) > 0);
    fs::remove_file(&logs).unwrap();
    fs::rename(&away, &logs).unwrap();
    writer.open_after = None;
    audit.record(&record("2026-11-24T03:00:00Z"));
    writer.batch(None);
    assert_eq!(lines(&logs.join("audit.jsonl.20261124T030000Z-0")).len(), 9);
    assert_eq!(
        (
            counts.records.load(Ordering::Relaxed),
            counts.dropped.load(Ordering::Relaxed)
        ),
        (9, 0)
    );
}
