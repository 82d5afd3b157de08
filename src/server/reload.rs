//! Putting a changed configuration in force: all of it, or nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::files::Files;
use super::tls::Doors;
use super::watchers::Watchers;
use super::{failing_tests, has_errors};
use crate::conf::Finding;
use crate::live::Live;
use crate::snapshot::{self, Occasion, Snapshot};

/// Changes come in bursts: a reload waits for the end of one.
const SETTLE: Duration = Duration::from_millis(50);

/// Tells when a file of the configuration changed, and reloads.
pub(super) struct Reloads {
    config: PathBuf,
    files: Files,
    doors: Doors,
    /// Sets what stands before the proxy up anew.
    front: Box<dyn Fn(&Snapshot) + Send + Sync>,
}

impl Reloads {
    pub fn watch(
        config: PathBuf,
        snapshot: &Snapshot,
        doors: Doors,
        front: Box<dyn Fn(&Snapshot) + Send + Sync>,
    ) -> Result<Self, String> {
        let mut files = Files::watch()?;
        files.follow(&config, &snapshot.files);
        Ok(Self {
            config,
            files,
            doors,
            front,
        })
    }

    /// Returns when something changed and has come to rest.
    pub async fn changed(&mut self) {
        self.files.changed().await;
        tokio::time::sleep(SETTLE).await;
        self.files.forget();
    }

    /// Reads the configuration again. `asked`: somebody wants to know how it went, even where nothing changed.
    pub fn reload(&mut self, live: &Arc<Live>, watchers: &Watchers, asked: bool) {
        let before = live.current().snapshot.clone();
        // Nothing is frozen between the look at what is and the swap.
        let _turn = live.freezes.turn();
        let occasion = Occasion {
            now: live.clock.now(),
            at_start: false,
        };
        let attempt = snapshot::attempt(&self.config, occasion);
        // What is in force already is not tested anew, unless somebody wants to know.
        let is_news = |snapshot: &Snapshot| asked || !snapshot.is_made_as(&before);
        match next(attempt.snapshot, &attempt.findings, live, &before, is_news) {
            Ok(snapshot) if snapshot.is_made_as(&before) && !asked => self.files.follow(&self.config, &attempt.files),
            Ok(snapshot) => match self.follow(&snapshot, live, watchers) {
                Ok(()) => {
                    let snapshot = Arc::new(snapshot);
                    self.files.follow(&self.config, &attempt.files);
                    live.swap(snapshot.clone(), watchers.observer(&snapshot));
                    watchers.watch_health(live);
                    watchers.count_reload(live.clock.now(), &[]);
                    watchers.count_failing_tests(0);
                    log::info!("configuration {} is in force", short(&snapshot.id));
                }
                Err(error) => {
                    self.files.follow_also(&self.config, &attempt.files);
                    refuse(live, watchers, &before, &[error]);
                }
            },
            Err(errors) => {
                self.files.follow_also(&self.config, &attempt.files);
                refuse(live, watchers, &before, &errors);
            }
        }
    }

    /// Has listeners and observers follow a new configuration: all of them, or none.
    fn follow(&self, snapshot: &Snapshot, live: &Live, watchers: &Watchers) -> Result<(), String> {
        let prepared = self.doors.prepare(snapshot)?;
        watchers.follow(snapshot, live.clock.now())?;
        self.doors.follow(prepared);
        (self.front)(snapshot);
        Ok(())
    }
}

/// The next snapshot, or every reason why there is none.
fn next(
    snapshot: Option<Snapshot>,
    findings: &[Finding],
    live: &Live,
    before: &Snapshot,
    is_news: impl Fn(&Snapshot) -> bool,
) -> Result<Snapshot, Vec<String>> {
    let Some(snapshot) = snapshot.filter(|_| !has_errors(findings)) else {
        return Err(findings.iter().map(ToString::to_string).collect());
    };
    let mut errors = Vec::new();
    for (place, message) in snapshot.unfetched_secrets() {
        errors.push(format!("{place}: {message}"));
    }
    // Certificates and keys are followed.
    let listeners = |snapshot: &Snapshot| -> Vec<(SocketAddr, bool, bool)> {
        let all = snapshot.listen.iter();
        all.map(|listen| (listen.address, listen.tls.is_some(), listen.http2))
            .collect()
    };
    let admin = |snapshot: &Snapshot| snapshot.admin.as_ref().map(|admin| admin.address);
    for (what, changed) in [
        ("listen", listeners(&snapshot) != listeners(before)),
        ("admin", admin(&snapshot) != admin(before)),
        ("threads", snapshot.threads != before.threads),
        ("state", snapshot.state != before.state),
    ] {
        if changed {
            errors.push(format!("`{what}` changes only with a restart"));
        }
    }
    errors.extend(dropped(live, before, &snapshot));
    if is_news(&snapshot) {
        errors.extend(failing_tests(&snapshot).1);
    }
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
