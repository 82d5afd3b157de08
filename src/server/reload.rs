//! Putting a changed configuration in force: all of it, or nothing.
//!
//! Directories are watched, not files: editors and mounted volumes replace a file by a rename, and a watch on it would die.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::has_errors;
use super::watchers::Watchers;
use crate::live::Live;
use crate::snapshot::{self, Occasion, Snapshot};

/// Changes come in bursts: a reload waits for the end of one.
const SETTLE: Duration = Duration::from_millis(50);

/// Tells when a file of the configuration changed, and reloads.
pub(super) struct Reloads {
    config: PathBuf,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    changes: mpsc::Receiver<()>,
}

impl Reloads {
    pub fn watch(config: PathBuf, snapshot: &Snapshot) -> Result<Self, String> {
        let (told, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and a reload reads.
            if event.map_or(true, |event| !event.kind.is_access()) {
                let _ = told.try_send(());
            }
        })
        .map_err(|error| format!("cannot watch the configuration: {error}"))?;
        let mut reloads = Self {
            config,
            watcher,
            watched: BTreeSet::new(),
            changes,
        };
        reloads.follow(snapshot);
        Ok(reloads)
    }

    /// Watches the directories of the files of `snapshot` besides those watched before, which a broken file may still name.
    fn follow(&mut self, snapshot: &Snapshot) {
        for file in &snapshot.files {
            let directory = match file.parent() {
                Some(parent) if parent != Path::new("") => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            if self.watched.contains(&directory) {
                continue;
            }
            match self.watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(directory);
                }
                Err(error) => log::warn!("cannot watch `{}`: {error}; SIGHUP reloads", directory.display()),
            }
        }
    }

    /// Returns when something changed and has come to rest.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(SETTLE).await;
        while self.changes.try_recv().is_ok() {}
    }

    /// Reads the configuration again. `asked`: somebody wants to know how it went, even where nothing changed.
    pub fn reload(&mut self, live: &Arc<Live>, watchers: &Watchers, asked: bool) {
        let before = live.current().snapshot.clone();
        // Nothing is frozen between the look at what is and the swap.
        let _turn = live.freezes.turn();
        match next(&self.config, live, &before) {
            Ok(snapshot) if snapshot.id == before.id && !asked => {}
            Ok(snapshot) => match watchers.follow(&snapshot, live.clock.now()) {
                Ok(()) => {
                    let snapshot = Arc::new(snapshot);
                    self.follow(&snapshot);
                    live.swap(snapshot.clone(), watchers.observer(&snapshot));
                    watchers.watch_health(live);
                    watchers.count_reload(live.clock.now(), &[]);
                    log::info!("configuration {} is in force", short(&snapshot.id));
                }
                Err(error) => refuse(live, watchers, &before, &[error]),
            },
            Err(errors) => refuse(live, watchers, &before, &errors),
        }
    }
}

/// The next snapshot, or every reason why there is none.
fn next(config: &Path, live: &Live, before: &Snapshot) -> Result<Snapshot, Vec<String>> {
    let (snapshot, findings) = snapshot::load(
        config,
        Occasion {
            now: live.clock.now(),
            at_start: false,
        },
    );
    let mut errors: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let Some(snapshot) = snapshot.filter(|_| !has_errors(&findings)) else {
        return Err(errors);
    };
    errors.clear();
    for (place, message) in snapshot.unfetched_secrets() {
        errors.push(format!("{place}: {message}"));
    }
    let admin = |snapshot: &Snapshot| snapshot.admin.as_ref().map(|admin| admin.address);
    for (what, changed) in [
        ("listen", snapshot.listen != before.listen),
        ("admin", admin(&snapshot) != admin(before)),
        ("threads", snapshot.threads != before.threads),
        ("state", snapshot.state != before.state),
    ] {
        if changed {
            errors.push(format!("`{what}` changes only with a restart"));
        }
    }
    errors.extend(dropped(live, before, &snapshot));
    if errors.is_empty() { Ok(snapshot) } else { Err(errors) }
}

/// What is frozen, and would be there no more. What a restart has dropped already is no news.
fn dropped(live: &Live, before: &Snapshot, next: &Snapshot) -> Vec<String> {
    let held = live.freezes.held();
    let frozen = held.in_force(live.clock.now()).into_iter().map(|held| &held.freeze);
    let lost = frozen.filter(|freeze| before.has(freeze.kind, &freeze.name) && !next.has(freeze.kind, &freeze.name));
    lost.map(|freeze| {
        let (kind, name) = (freeze.kind.word(), &freeze.name);
        format!("{kind} `{name}` is frozen, and the new configuration has none of that name: `gwanmun ctl thaw {name}` first")
    })
    .collect()
}

fn refuse(live: &Live, watchers: &Watchers, before: &Snapshot, errors: &[String]) {
    watchers.count_reload(live.clock.now(), errors);
    log::error!("the new configuration is refused; {} stays in force", short(&before.id));
    for error in errors {
        log::error!("{error}");
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
