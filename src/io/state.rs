//! The folder that outlives the process: 0700, its files 0600, each written whole or not at all.
//!
//! A rehearsal only reads it: its clock shows another time, by which what is in force would be forgotten.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Held while a gateway uses the folder; it never goes away, so that nobody locks a file that is no longer there.
const LOCK: &str = "lock";
/// No file of ours is as large.
const MAX_FILE: u64 = 64 << 20;

/// Why state cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateFailure {
    /// The system says no.
    #[error("cannot {verb} `{}`: {cause}", path.display())]
    Io {
        /// What was tried: `open`, `read`, `write`.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file, a pipe, a device.
    #[error("the state folder `{}` is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Others could put files there.
    #[error("the state folder `{}` can be written by others: `chmod 700` it, or name one of its own", .0.display())]
    Shared(PathBuf),
    /// Two gateways would undo what the other does.
    #[error("the state folder `{}` is being used by another gateway", .0.display())]
    InUse(PathBuf),
    /// Not a file that a gateway wrote.
    #[error("`{}` is not a file, or larger than a gateway writes one", .0.display())]
    NotAFile(PathBuf),
}

/// A folder that this process alone writes, until it is dropped, or one that it only reads.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// `None` where nothing is written.
    lock: Option<File>,
}

impl StateFolder {
    /// Opens or makes the folder.
    pub fn open(path: &Path) -> Result<Self, StateFailure> {
        let failed = |cause| failure("open", path, cause);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let about = fs::metadata(path).map_err(failed)?;
        if !about.is_dir() {
            return Err(StateFailure::NotAFolder(path.to_owned()));
        }
        if about.mode() & 0o022 != 0 {
            return Err(StateFailure::Shared(path.to_owned()));
        }
        if about.mode() & 0o077 != 0 {
            // Files in it are 0600 all the same. A folder of other things, named by mistake, must stay open to its users.
            let is_ours = path.join(LOCK).exists() || fs::read_dir(path).map_err(failed)?.next().is_none();
            let tightened = is_ours && fs::set_permissions(path, Permissions::from_mode(0o700)).is_ok();
            if !tightened {
                log::warn!("the state folder `{}` can be read by others", path.display());
            }
        }
        let lock = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&lock).map_err(|cause| failure("open", &lock, cause))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateFailure::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => log::warn!("the state folder cannot be locked: {error}"),
        }
        Ok(Self {
            path: path.to_owned(),
            lock: Some(file),
        })
    }

    /// A folder that is read, and stays as it is: what is written goes nowhere, so that it is known to whoever wrote it alone.
    /// It need not be there, and a gateway may be using it.
    pub fn only_read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lock: None,
        }
    }

    /// Whether what is written goes nowhere.
    pub(super) fn is_only_read(&self) -> bool {
        self.lock.is_none()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file in place of the one of that name; on disk when this returns. After an error the old one stands.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateFailure> {
        self.write_with(name, |out| out.write_all(bytes))
    }

    /// As [`write`](Self::write), with what is written piece by piece.
    pub fn write_with(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), StateFailure> {
        if self.is_only_read() {
            return Ok(());
        }
        let (path, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let written = write_synced(&new, write).and_then(|()| fs::rename(&new, &path));
        written.map_err(|cause| failure("write", &path, cause))?;
        // The rename is on disk when the folder is. It has happened: what fails here does not undo it.
        if let Err(error) = File::open(&self.path).and_then(|folder| folder.sync_all()) {
            log::warn!("the state folder `{}` cannot be synced: {error}", self.path.display());
        }
        Ok(())
    }
}

fn write_synced(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    // What a crash left behind may have any mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.into_inner()?.sync_all()
}

/// A file of a state folder, whoever uses it; `None` where there is none.
pub fn read_state(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, StateFailure> {
    let path = folder.join(name);
    let Some(file) = open_state(&path, MAX_FILE)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE).read_to_end(&mut bytes);
    read.map_err(|cause| failure("read", &path, cause))?;
    Ok(Some(bytes))
}

/// A file of at most `most` bytes, open for reading; `None` where there is none.
pub(super) fn open_state(path: &Path, most: u64) -> Result<Option<File>, StateFailure> {
    let failed = |cause| failure("read", path, cause);
    // A pipe without a writer must not hold up the start.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() || about.len() > most {
        return Err(StateFailure::NotAFile(path.to_owned()));
    }
    Ok(Some(file))
}

pub(super) fn failure(verb: &'static str, path: &Path, cause: io::Error) -> StateFailure {
    StateFailure::Io {
        verb,
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn keeps_what_is_written_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/state");
        let folder = StateFolder::open(&path).unwrap();
        assert_eq!(read_state(&path, "x").unwrap(), None);
        // As a crash before the rename leaves it.
        fs::write(path.join("x.new"), "half").unwrap();
        folder.write("x", b"one").unwrap();
        folder.write("x", b"two").unwrap();
        assert_eq!(read_state(&path, "x").unwrap().unwrap(), b"two");
        assert_eq!((mode(&path), mode(&path.join("x"))), (0o700, 0o600));
        assert!(!path.join("x.new").exists());
    }

    #[test]
    fn leaves_the_old_file_where_the_new_one_cannot_be_written() {
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(&parent.path().join("state")).unwrap();
        folder.write("x", b"one").unwrap();
        // Something that cannot be removed as a file stands where the new one is prepared.
        fs::create_dir(folder.path().join("x.new")).unwrap();
        assert!(matches!(folder.write("x", b"two"), Err(StateFailure::Io { .. })));
        assert_eq!(read_state(folder.path(), "x").unwrap().unwrap(), b"one");
    }

    #[test]
    fn is_used_by_one_gateway_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let first = StateFolder::open(&path).unwrap();
        assert!(matches!(StateFolder::open(&path), Err(StateFailure::InUse(_))));
        drop(first);
        assert!(StateFolder::open(&path).is_ok());
    }

    #[test]
    fn leaves_a_folder_that_is_only_read_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        StateFolder::only_read(&path).write("x", b"one").unwrap();
        assert!(!path.exists());
        let used = StateFolder::open(&path).unwrap();
        used.write("x", b"one").unwrap();
        let read = StateFolder::only_read(&path);
        read.write("x", b"two").unwrap();
        read.append_to("x").unwrap().append(b"three\n").unwrap();
        read.append_to("y").unwrap().append(b"three\n").unwrap();
        assert_eq!(read_state(read.path(), "x").unwrap().unwrap(), b"one");
        assert!(!path.join("y").exists());
    }

    #[test]
    fn takes_no_folder_that_others_write() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let with = |bits| {
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            let opened = StateFolder::open(&path).map(|_| mode(&path));
            fs::remove_dir_all(&path).unwrap();
            opened
        };
        assert!(matches!(with(0o777), Err(StateFailure::Shared(_))));
        assert_eq!(with(0o755).unwrap(), 0o700);
        fs::write(&path, "").unwrap();
        assert!(StateFolder::open(&path).is_err());
    }

    #[test]
    fn reads_files_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("x")).unwrap();
        assert!(read_state(parent.path(), "x").is_err());
        assert!(matches!(
            read_state(Path::new("/dev"), "zero"),
            Err(StateFailure::NotAFile(_))
        ));
    }
}
