use super::*;
use crate::observe::audit::chain::verify_chain;
use crate::observe::samples::{instant, transfer};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("logs/a/audit.jsonl")
    }

    /// A log with so many records, closed again.
    fn with_records(count: usize) -> Self {
        let folder = Self::new();
        let mut log = folder.open();
        for _ in 0..count {
            log.append(&Entry::Request(&transfer()));
        }
        log.flush().unwrap();
        folder
    }

    fn open(&self) -> LogFile {
        LogFile::open(&self.log(), now()).unwrap()
    }

    fn append_raw(&self, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(self.log()).unwrap();
        file.write_all(bytes).unwrap();
    }
}

fn now() -> Timestamp {
    instant("2026-11-24T03:00:00.5Z")
}

fn lines(path: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(path).unwrap();
    assert!(text.is_empty() || text.ends_with(b"\n"));
    text.split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").unwrap().to_vec())
        .collect()
}

/// Verifies the chain and says what kinds of lines there are.
fn kinds(path: &Path) -> Vec<String> {
    let lines = lines(path);
    verify_chain(lines.iter().map(Vec::as_slice)).unwrap();
    let kind = |line: &Vec<u8>| match Head::read(line) {
        Some(head) => head.kind.unwrap_or_else(|| "request".into()),
        None => "?".into(),
    };
    lines.iter().map(kind).collect()
}

#[test]
fn makes_private_files_in_private_folders() {
    let folder = Folder::with_records(1);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&folder.log()), 0o600);
    assert_eq!(mode(folder.log().parent().unwrap()), 0o700);
    fs::set_permissions(folder.log(), Permissions::from_mode(0o644)).unwrap();
    drop(folder.open());
    assert_eq!(mode(&folder.log()), 0o600);
}

#[test]
fn goes_on_with_number_and_hash_after_a_restart() {
    let folder = Folder::with_records(2);
    for _ in 0..2 {
        let mut log = folder.open();
        log.append(&Entry::Request(&transfer()));
        log.flush().unwrap();
    }
    assert_eq!(kinds(&folder.log()), ["request"; 4]);
}

#[test]
fn seals_a_torn_last_line() {
    for torn in [
        &b"{\"v\":1,\"n\":3,\"prev"[..],
        b"x",
        b"\0\0\0\0",
        b"{\"v\":1,\"n\":3}x\nyy",
    ] {
        let folder = Folder::with_records(2);
        folder.append_raw(torn);
        let mut log = folder.open();
        log.append(&Entry::Request(&transfer()));
        log.flush().unwrap();
        let mut expected = vec!["request", "request"];
        expected.extend(torn.split(|byte| *byte == b'\n').map(|_| "?"));
        expected.extend(["torn", "request"]);
        assert_eq!(kinds(&folder.log()), expected);
        // What was torn cannot be changed unseen, nor can the record before it.
        let good = fs::read(folder.log()).unwrap();
        let last = verify_chain(lines(&folder.log()).iter().map(Vec::as_slice))
            .unwrap()
            .last;
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let broken = bad.split(|byte| *byte == b'\n').collect::<Vec<_>>();
            let chain = verify_chain(broken[..broken.len() - 1].iter().copied());
            assert!(!chain.is_ok_and(|chain| chain.last == last), "byte {at}");
        }
    }
}

#[test]
fn completes_a_whole_line_that_lacks_its_line_feed() {
    let folder = Folder::with_records(2);
    let text = fs::read(folder.log()).unwrap();
    fs::write(folder.log(), text.strip_suffix(b"\n").unwrap()).unwrap();
    let mut log = folder.open();
    log.append(&Entry::Request(&transfer()));
    log.flush().unwrap();
    assert_eq!(kinds(&folder.log()), ["request"; 3]);
}

#[test]
fn seals_a_first_line_that_was_torn() {
    let folder = Folder::with_records(0);
    folder.append_raw(b"{\"v\":1,\"n\":1,\"id\":\"a");
    drop(folder.open());
    assert_eq!(kinds(&folder.log()), ["?", "torn"]);
}

#[test]
fn leaves_other_files_alone() {
    for other in [&b"root:x:0:0\n"[..], b"text", b"{\"a\":1}\n{\"b\":2}\n", b"\n"] {
        let folder = Folder::with_records(0);
        folder.append_raw(other);
        assert!(matches!(
            LogFile::open(&folder.log(), now()),
            Err(OpenFailure::NotALog(_))
        ));
        assert_eq!(fs::read(folder.log()).unwrap(), other);
    }
    let folder = Folder::new();
    fs::create_dir_all(folder.log()).unwrap();
    assert!(LogFile::open(&folder.log(), now()).is_err());
    assert!(matches!(
        LogFile::open(Path::new("/dev/null"), now()),
        Err(OpenFailure::NotAFile(_))
    ));
}

#[test]
fn refuses_a_log_that_another_writer_has() {
    let folder = Folder::with_records(1);
    let log = folder.open();
    assert!(matches!(
        LogFile::open(&folder.log(), now()),
        Err(OpenFailure::InUse(_))
    ));
    drop(log);
    drop(folder.open());
}

#[test]
fn rotates_without_overwriting_and_links_the_files() {
    let folder = Folder::new();
    let taken = folder.log().with_file_name("audit.jsonl.20261124T030000Z-0");
    fs::create_dir_all(taken.parent().unwrap()).unwrap();
    fs::write(&taken, "taken").unwrap();
    let mut log = folder.open();
    for _ in 0..2 {
        log.append(&Entry::Request(&transfer()));
        log.flush().unwrap();
        log.rotate(now()).unwrap();
    }
    log.append(&Entry::Request(&transfer()));
    log.flush().unwrap();
    assert_eq!(fs::read(&taken).unwrap(), b"taken");
    let name = |count: u32| {
        folder
            .log()
            .with_file_name(format!("audit.jsonl.20261124T030000Z-{count}"))
    };
    let chain = |path: &Path| verify_chain(lines(path).iter().map(Vec::as_slice)).unwrap();
    let (first, second, third) = (chain(&name(1)), chain(&name(2)), chain(&folder.log()));
    assert_eq!((first.lines, second.lines, third.lines), (1, 1, 1));
    assert_eq!(second.before.as_deref(), first.last.as_ref().map(LineHash::as_str));
    assert_eq!(third.before.as_deref(), second.last.as_ref().map(LineHash::as_str));
    assert_eq!(fs::metadata(name(1)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn goes_on_where_it_is_when_rotation_fails() {
    let folder = Folder::with_records(1);
    let mut log = folder.open();
    let parent = folder.log().parent().unwrap().to_owned();
    let away = parent.with_file_name("away");
    // The folder is gone, so neither the old file nor a new one can be named in it.
    fs::rename(&parent, &away).unwrap();
    fs::write(&parent, "in the way").unwrap();
    assert!(log.rotate(now()).is_err());
    log.append(&Entry::Request(&transfer()));
    log.flush().unwrap();
    fs::remove_file(&parent).unwrap();
    fs::rename(&away, &parent).unwrap();
    assert_eq!(kinds(&folder.log()), ["request"; 2]);
}

#[test]
fn follows_a_renamed_file_when_reopened() {
    let folder = Folder::with_records(1);
    let mut log = folder.open();
    assert_eq!(log.reopen(now()).unwrap(), 0);
    let aside = folder.log().with_file_name("audit.jsonl.1");
    fs::rename(folder.log(), &aside).unwrap();
    log.append(&Entry::Request(&transfer()));
    log.flush().unwrap();
    log.reopen(now()).unwrap();
    log.append(&Entry::Request(&transfer()));
    log.flush().unwrap();
    assert_eq!((kinds(&aside).len(), kinds(&folder.log()).len()), (2, 1));
    let [old, new] = [&aside, &folder.log()].map(|path| verify_chain(lines(path).iter().map(Vec::as_slice)).unwrap());
    assert_eq!(new.before.as_deref(), old.last.as_ref().map(LineHash::as_str));
}

#[test]
fn keeps_what_the_disk_refuses_until_it_takes_it() {
    let folder = Folder::with_records(1);
    let mut log = folder.open();
    let good = std::mem::replace(&mut log.file, File::open(folder.log()).unwrap());
    log.append(&Entry::Request(&transfer()));
    log.append(&Entry::Request(&transfer()));
    assert!(log.flush().is_err() && log.flush().is_err());
    log.file = good;
    log.flush().unwrap();
    assert_eq!(kinds(&folder.log()), ["request"; 3]);
}

#[test]
fn counts_the_lines_that_a_lost_file_did_not_take() {
    let folder = Folder::with_records(1);
    let mut log = folder.open();
    log.append(&Entry::Request(&transfer()));
    log.append(&Entry::Request(&transfer()));
    log.append(&Entry::Request(&transfer()));
    // The disk took the first of the three and a part of the second.
    let first = log.waiting.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    log.file.write_all(&log.waiting[..first + 10]).unwrap();
    log.written = first + 10;
    let aside = folder.log().with_file_name("full");
    fs::rename(folder.log(), &aside).unwrap();
    assert_eq!(log.reopen(now()).unwrap(), 2);
    log.append(&Entry::Request(&transfer()));
    log.flush().unwrap();
    let whole: Vec<Vec<u8>> = fs::read(&aside)
        .unwrap()
        .split(|byte| *byte == b'\n')
        .take(2)
        .map(<[u8]>::to_vec)
        .collect();
    let old = verify_chain(whole.iter().map(Vec::as_slice)).unwrap();
    let new = verify_chain(lines(&folder.log()).iter().map(Vec::as_slice)).unwrap();
    assert_eq!(new.before.as_deref(), old.last.as_ref().map(LineHash::as_str));
}
