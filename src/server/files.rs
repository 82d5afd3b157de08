//! Tells when a file of the configuration changed.
//!
//! Directories are watched, not files: editors and mounted volumes replace a file by a rename, and a watch on it would die.
//! Where a link leads to a file, the directory of the link is watched too: a mounted volume changes all its files at once by
//! turning one link. And so is the directory above, in which a whole directory may be replaced.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::snapshot::is_part;

/// More links than the kernel follows.
const MAX_LINKS: usize = 40;

/// Watches the files of one configuration.
pub(super) struct Files {
    watcher: RecommendedWatcher,
    /// The watched directories by their real path, each with its device and inode: another may take its place.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    matters: Arc<Mutex<Matters>>,
    told: mpsc::Sender<()>,
    changes: mpsc::Receiver<()>,
}

/// What matters in which directory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Matters(BTreeMap<PathBuf, Names>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Names {
    names: BTreeSet<OsString>,
    /// Every file that is part of a configuration by its name.
    parts: bool,
}

impl Files {
    pub fn watch() -> Result<Self, String> {
        let (told, changes) = mpsc::channel(1);
        let matters = Arc::new(Mutex::new(Matters::default()));
        let (known, tell) = (matters.clone(), told.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // What cannot be known may have been anything.
            let changed = event.map_or(true, |event| {
                // Reading a file is an event too, and a reload reads.
                let is_change = !event.kind.is_access();
                event.need_rescan() || is_change && event.paths.iter().any(|path| known.lock().has(path))
            });
            if changed {
                let _ = tell.try_send(());
            }
        })
        .map_err(|error| format!("cannot watch the configuration: {error}"))?;
        Ok(Self {
            watcher,
            watched: BTreeMap::new(),
            matters,
            told,
            changes,
        })
    }

    /// Watches `config` and the `files` it names, and nothing else from now on.
    pub fn follow(&mut self, config: &Path, files: &[PathBuf]) {
        let matters = Matters::of(config, files);
        *self.matters.lock() = matters;
        if self.renew() {
            // Something may have changed after it was read and before it was watched.
            let _ = self.told.try_send(());
        }
    }

    /// As [`follow`](Self::follow), where the files could not be used: those from before are still watched, as a broken file
    /// may have named others.
    pub fn follow_also(&mut self, config: &Path, files: &[PathBuf]) {
        let more = Matters::of(config, files);
        self.matters.lock().add(more);
        self.renew();
    }

    /// Returns when something changed.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets what changed until now.
    pub fn forget(&mut self) {
        while self.changes.try_recv().is_ok() {}
    }

    /// Watches exactly the directories that matter; whether one was added to others.
    fn renew(&mut self) -> bool {
        let wanted: Vec<PathBuf> = self.matters.lock().0.keys().cloned().collect();
        let is_first = self.watched.is_empty();
        let mut added = false;
        self.watched.retain(|directory, identity| {
            let stays = wanted.contains(directory) && identity_of(directory) == Some(*identity);
            if !stays {
                // Of a directory that is gone, its watch is gone too.
                let _ = self.watcher.unwatch(directory);
            }
            stays
        });
        for directory in wanted {
            if self.watched.contains_key(&directory) {
                continue;
            }
            let Some(identity) = identity_of(&directory) else {
                continue;
            };
            match self.watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(directory, identity);
                    added = true;
                }
                Err(error) => log::warn!("cannot watch `{}`: {error}; SIGHUP reloads", directory.display()),
            }
        }
        added && !is_first
    }
}

impl Matters {
    fn of(config: &Path, files: &[PathBuf]) -> Self {
        let mut matters = Self::default();
        for path in files.iter().map(PathBuf::as_path).chain([config]) {
            for (directory, name) in ways_to(path) {
                matters.0.entry(directory).or_default().names.insert(name);
            }
        }
        if config.is_dir()
            && let Ok(directory) = config.canonicalize()
        {
            matters.0.entry(directory).or_default().parts = true;
        }
        matters
    }

    fn add(&mut self, more: Self) {
        for (directory, names) in more.0 {
            let known = self.0.entry(directory).or_default();
            known.parts |= names.parts;
            known.names.extend(names.names);
        }
    }

    fn has(&self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let names = self.0.get(directory);
        names.is_some_and(|names| names.names.contains(name) || names.parts && is_part(path))
    }
}

fn identity_of(directory: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(directory).ok()?;
    metadata.is_dir().then(|| (metadata.dev(), metadata.ino()))
}

/// The directories in which something leads to `path`, each with the name of it: every link on the way, the directory of the
/// file, and the file; where something is missing, that.
fn ways_to(path: &Path) -> Vec<(PathBuf, OsString)> {
    let Ok(absolute) = std::path::absolute(path) else {
        return Vec::new();
    };
    let mut ways = Vec::new();
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = steps(&absolute).collect();
    let mut links = 0;
    while let Some(step) = rest.pop_front() {
        if step == OsStr::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        match std::fs::symlink_metadata(&next) {
            Ok(metadata) if metadata.is_symlink() && links < MAX_LINKS => {
                links += 1;
                ways.push((at.clone(), step));
                let Ok(target) = std::fs::read_link(&next) else { break };
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for step in steps(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(step);
                }
            }
            Ok(_) => {
                if rest.len() <= 1 {
                    ways.push((at.clone(), step));
                }
                at = next;
            }
            Err(_) => {
                ways.push((at, step));
                break;
            }
        }
    }
    ways
}

fn steps(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// As a mounted volume is laid out: the file leads to a link that leads to the directory of the day.
    fn volume() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("..1")).unwrap();
        std::fs::write(root.join("..1/gate.yaml"), "").unwrap();
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/gate.yaml", root.join("gate.yaml")).unwrap();
        (folder, root)
    }

    #[test]
    fn finds_every_link_on_the_way() {
        let (_folder, root) = volume();
        let ways = ways_to(&root.join("gate.yaml"));
        let expected = [
            (root.clone(), "gate.yaml"),
            (root.clone(), "..data"),
            (root.clone(), "..1"),
            (root.join("..1"), "gate.yaml"),
        ];
        let expected: Vec<_> = expected
            .map(|(directory, name)| (directory, OsString::from(name)))
            .into();
        assert!(ways.ends_with(&expected), "{ways:?}");
        let missing = ways_to(&root.join("no/such/file"));
        assert!(missing.ends_with(&[(root, "no".into())]), "{missing:?}");
    }

    #[test]
    fn ends_in_a_circle_of_links() {
        let (_folder, root) = volume();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert!(ways_to(&root.join("a/x")).len() <= MAX_LINKS + 2);
    }

    #[test]
    fn cares_for_files_of_the_configuration_alone() {
        let (_folder, root) = volume();
        let one = Matters::of(&root.join("gate.yaml"), &[root.join("keys.json")]);
        for (name, matters) in [
            ("gate.yaml", true),
            ("..data", true),
            ("keys.json", true),
            ("audit.jsonl", false),
            ("other.yaml", false),
        ] {
            assert_eq!(one.has(&root.join(name)), matters, "{name}");
        }
        let all = Matters::of(&root, &[root.join("gate.yaml")]);
        for (name, matters) in [
            ("new.yml", true),
            ("..data", true),
            (".gate.yaml.swp", false),
            ("x.json", false),
        ] {
            assert_eq!(all.has(&root.join(name)), matters, "{name}");
        }
        let above = root.parent().unwrap();
        assert!(all.has(&root) && !all.has(&above.join("another")));
    }
}
