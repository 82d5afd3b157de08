//! Peers from npm, of the versions that their lock files pin.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/peers");

/// The folder that a peer with its `scripts` is installed in, once for each lock file.
pub fn installed(peer: &str, scripts: &[&str]) -> PathBuf {
    let files = [&["package.json", "package-lock.json"], scripts].concat();
    let read = |name: &str| std::fs::read(Path::new(SOURCES).join(peer).join(name)).expect("a file of the peer");
    let all: Vec<u8> = files.iter().skip(1).flat_map(|name| read(name)).collect();
    let lock = ring::digest::digest(&ring::digest::SHA256, &all);
    let name: String = lock.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let peers = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = peers.join(format!("{peer}-{name}"));
    if folder.exists() {
        return folder;
    }
    let fresh = tempfile::tempdir_in(peers).expect("a folder to install into");
    for name in files {
        std::fs::write(fresh.path().join(name), read(name)).expect("a copy");
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(fresh.path())
        .output()
        .expect("npm runs; `make test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Another test may have been faster; theirs is as good.
    let _ = std::fs::rename(fresh.path(), &folder);
    folder
}
