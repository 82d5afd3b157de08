//! A file of the state folder that grows by whole lines, for what is too much to be written anew at every change.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::state::{StateFailure, StateFolder, failure, open_state};

/// No log of ours is as large.
const MAX_LOG: u64 = 4 << 30;
/// Nor is a line of one.
const MAX_LINE: u64 = 1 << 20;

/// A log that is open for more lines.
#[derive(Debug)]
pub struct StateLog {
    path: PathBuf,
    /// `None` where nothing is written.
    file: Option<File>,
    length: u64,
    /// Half a line may stand at the end.
    is_broken: bool,
}

impl StateFolder {
    /// Opens a log that is there, for more lines.
    pub fn append_to(&self, name: &str) -> Result<StateLog, StateFailure> {
        let path = self.path().join(name);
        if self.is_only_read() {
            return Ok(StateLog {
                path,
                file: None,
                length: 0,
                is_broken: false,
            });
        }
        let opened = OpenOptions::new().append(true).open(&path);
        let file = opened.map_err(|cause| failure("open", &path, cause))?;
        let about = file.metadata().map_err(|cause| failure("open", &path, cause))?;
        Ok(StateLog {
            length: about.len(),
            path,
            file: Some(file),
            is_broken: false,
        })
    }
}

impl StateLog {
    /// Appends whole lines; on disk when this returns. After an error none of them stands.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), StateFailure> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        match written {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(cause) => {
                self.is_broken = file.set_len(self.length).is_err();
                Err(failure("write", &self.path, cause))
            }
        }
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether what an append left behind could not be taken back: the file has to be written anew.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }
}

/// What was read of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRead {
    /// How many whole lines there are.
    pub lines: usize,
    /// Whether a crash left half a line behind them, which was never said to be kept.
    pub is_torn: bool,
}

/// Hands out the whole lines of a log, each with its number, without its line feed; `None` where there is no such file.
/// Whoever uses the folder may append meanwhile.
pub fn read_state_log<E: From<StateFailure>>(
    folder: &Path,
    name: &str,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<Option<LogRead>, E> {
    let path = folder.join(name);
    let Some(file) = open_state(&path, MAX_LOG)? else {
        return Ok(None);
    };
    let mut reader = BufReader::with_capacity(1 << 16, file.take(MAX_LOG));
    let (mut line, mut lines) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let length = read.map_err(|cause| failure("read", &path, cause))?;
        match line.split_last() {
            Some((b'\n', whole)) => {
                lines += 1;
                each(lines, whole)?;
            }
            Some(_) if length as u64 == MAX_LINE => return Err(StateFailure::NotAFile(path).into()),
            half => {
                return Ok(Some(LogRead {
                    lines,
                    is_torn: half.is_some(),
                }));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn lines(folder: &Path) -> Option<(Vec<String>, bool)> {
        let mut all = Vec::new();
        let read = read_state_log(folder, "x", |number, line| {
            assert_eq!(number, all.len() + 1);
            all.push(String::from_utf8(line.to_vec()).unwrap());
            Ok::<_, StateFailure>(())
        });
        read.unwrap().map(|read| {
            assert_eq!(read.lines, all.len());
            (all, read.is_torn)
        })
    }

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn grows_by_whole_lines() {
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(&parent.path().join("state")).unwrap();
        assert!(lines(folder.path()).is_none() && folder.append_to("x").is_err());
        folder.write("x", b"one\n").unwrap();
        let mut log = folder.append_to("x").unwrap();
        log.append(b"two\nthree\n").unwrap();
        assert_eq!(lines(folder.path()), Some((owned(&["one", "two", "three"]), false)));
        let mode = std::fs::metadata(folder.path().join("x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn leaves_out_what_was_never_finished() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("x"), "one\n\nhal").unwrap();
        assert_eq!(lines(parent.path()), Some((owned(&["one", ""]), true)));
        std::fs::write(parent.path().join("x"), "").unwrap();
        assert_eq!(lines(parent.path()), Some((Vec::new(), false)));
    }

    #[test]
    fn takes_back_what_could_not_be_written_whole() {
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(&parent.path().join("state")).unwrap();
        folder.write("x", b"one\n").unwrap();
        let mut log = folder.append_to("x").unwrap();
        // A device that is always full stands in for the disk, and cannot be cut either.
        log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(log.append(b"two\n").is_err() && log.is_broken());
        assert_eq!(lines(folder.path()), Some((owned(&["one"]), false)));
    }

    #[test]
    fn reads_no_line_without_end() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("x"), vec![b'x'; (MAX_LINE + 1) as usize]).unwrap();
        let read = read_state_log(parent.path(), "x", |_, _| Ok::<_, StateFailure>(()));
        assert!(matches!(read, Err(StateFailure::NotAFile(_))));
        let stopped = read_state_log(Path::new("/dev"), "zero", |_, _| Ok::<_, StateFailure>(()));
        assert!(matches!(stopped, Err(StateFailure::NotAFile(_))));
    }
}
