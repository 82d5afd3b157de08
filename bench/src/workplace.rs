//! A folder for configurations and logs, gone when the measurement ends.

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

pub struct Workplace {
    folder: PathBuf,
}

impl Workplace {
    pub fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("gwanmun-bench-{}", std::process::id()));
        // Others may look but not write; nginx's workers, when started by root, run as another user.
        DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes `template` with each `@NAME@` replaced.
    pub fn write(&self, name: &str, template: &str, values: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
        let filled = values
            .iter()
            .fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
        let path = self.file(name);
        fs::write(&path, filled).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    pub fn log(&self, name: &str) -> anyhow::Result<File> {
        File::create(self.file(name)).context("cannot create a log file")
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// A loopback address that nobody listened on a moment ago.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}
