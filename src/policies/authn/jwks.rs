//! The keys of one authenticator, kept fresh (OpenID Connect Discovery 1.0 §4, RFC 7517).
//!
//! One background task per issuer does all fetching: ahead of expiry by cache headers, and when a token names a key that is
//! not there, at most once per [`Timing::cooldown`] however many such tokens come. Those tokens wait for the one fetch. While
//! the issuer is away the last good keys stay; where it was away from the start, those that an earlier gateway copied do.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use http::{HeaderMap, header};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::copies::KeyCopies;
use super::discovery::{self, FetchFailure};
use super::keys::{KeySet, MAX_SET, SetUnusable};
use super::settings::{JwtAuthenticator, KeysFrom};
use crate::io::Client;

/// When keys are fetched, and how long anybody waits for them.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// For one request to the issuer.
    pub deadline: Duration,
    /// The longest a token waits for keys.
    pub patience: Duration,
    /// From the start of one fetch that a token caused to the start of the next.
    pub cooldown: Duration,
    /// Before the first new try after a failure; doubles up to the cooldown.
    pub retry: Duration,
    /// The shortest and the longest time between refreshes, whatever the issuer says.
    pub refresh: (Duration, Duration),
    /// How long keys are good where the issuer does not say.
    pub lifetime: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            cooldown: Duration::from_secs(10),
            retry: Duration::from_secs(1),
            refresh: (Duration::from_secs(60), Duration::from_secs(24 * 3600)),
            lifetime: Duration::from_secs(15 * 60),
        }
    }
}

impl Timing {
    /// How long to wait where keys are fresh for `lifetime`: ahead of its end, so that a slow answer does not make them stale.
    fn until_refresh(&self, lifetime: Option<Duration>) -> Duration {
        let lifetime = lifetime.unwrap_or(self.lifetime);
        let (least, most) = self.refresh;
        (lifetime - lifetime / 5).clamp(least, most)
    }
}

/// Where the keys of an issuer's tokens are now. Authenticators that take the same keys from the same place share one, so
/// that the issuer is asked once, and keys outlive a reload that changes something else.
#[derive(Debug)]
pub(super) struct KeySource {
    shared: Arc<Shared>,
    /// Started by the first need of it, as it must run on a runtime; ends with the source.
    task: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    issuer: Arc<str>,
    from: KeysFrom,
    client: Arc<Client>,
    timing: Timing,
    copies: Arc<KeyCopies>,
    current: ArcSwapOption<KeySet>,
    progress: watch::Sender<Progress>,
    nudge: Notify,
}

/// How fetching goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub started: u64,
    pub finished: u64,
    pub failures: u64,
    /// Why the last fetch failed.
    pub failing: Option<Arc<str>>,
    /// When the last fetch began that a token asked for. Those ahead of expiry do not count: a key may be new just after.
    last_asked: Option<Instant>,
    pub fetched: Option<Instant>,
}

/// What became of asking for newer keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newer {
    /// There are other keys now.
    Yes,
    /// There are none.
    No,
    /// Nobody could say.
    Unavailable,
}

impl KeySource {
    pub fn new(authenticator: &JwtAuthenticator, client: Arc<Client>, timing: Timing, copies: Arc<KeyCopies>) -> Self {
        let mut progress = Progress::default();
        let current = match &authenticator.keys {
            KeysFrom::Fixed(set) => Some(set.clone()),
            from => copied_from(from).and_then(|from| {
                let copy = copies.find(&authenticator.issuer, from)?;
                let copy = Some(copy).filter(|copy| !copy.keys.keys.is_empty())?;
                progress.fetched = Instant::now().checked_sub(copy.age);
                Some(Arc::new(copy.keys))
            }),
        };
        let shared = Shared {
            issuer: authenticator.issuer.clone(),
            from: authenticator.keys.clone(),
            client,
            timing,
            copies,
            current: ArcSwapOption::new(current),
            progress: watch::Sender::new(progress),
            nudge: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            task: OnceLock::new(),
        }
    }

    /// Whether the authenticator's keys are these.
    pub fn serves(&self, authenticator: &JwtAuthenticator) -> bool {
        self.shared.issuer == authenticator.issuer && self.shared.from == authenticator.keys
    }

    /// Begins fetching, where there is anything to fetch. Needs a tokio runtime, on which it stays.
    pub fn start(&self) {
        if self.is_remote() {
            self.task
                .get_or_init(|| tokio::spawn(refresh(self.shared.clone())).abort_handle());
        }
    }

    /// Whether its keys are fetched.
    pub fn is_remote(&self) -> bool {
        self.shared.is_remote()
    }

    /// The keys there are.
    pub fn current(&self) -> arc_swap::Guard<Option<Arc<KeySet>>> {
        self.shared.current.load()
    }

    /// The keys there are, after the first fetch: a copy is good only where that failed, or takes too long.
    pub async fn first(&self) -> Option<Arc<KeySet>> {
        let current = || self.shared.current.load_full();
        let is_settled = !self.is_remote() || self.shared.progress.borrow().finished > 0;
        if is_settled && let Some(keys) = current() {
            return Some(keys);
        }
        if self.is_remote() {
            self.attempt().await;
        }
        current()
    }

    /// Asks for other keys than `seen`, which did not verify a token.
    pub async fn newer(&self, seen: &Arc<KeySet>) -> Newer {
        if !self.is_remote() {
            return Newer::No;
        }
        let other = || {
            let current = self.shared.current.load();
            current.as_ref().is_some_and(|current| !Arc::ptr_eq(current, seen))
        };
        if other() {
            return Newer::Yes;
        }
        let answered = self.attempt().await;
        match (other(), answered) {
            (true, _) => Newer::Yes,
            (false, true) if self.shared.progress.borrow().failing.is_none() => Newer::No,
            (false, _) => Newer::Unavailable,
        }
    }

    /// Waits for the fetch that is under way, or for a new one if it is time for it. False where that took too long.
    async fn attempt(&self) -> bool {
        self.start();
        let mut progress = self.shared.progress.subscribe();
        let seen = progress.borrow().clone();
        if !seen.is_under_way() {
            if !self.shared.may_fetch(&seen) {
                return true;
            }
            self.shared.nudge.notify_one();
        }
        let done = progress.wait_for(|now| now.finished > seen.finished);
        tokio::time::timeout(self.shared.timing.patience, done).await.is_ok()
    }

    pub fn progress(&self) -> Progress {
        self.shared.progress.borrow().clone()
    }
}

impl Drop for KeySource {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Progress {
    fn is_under_way(&self) -> bool {
        self.started > self.finished
    }
}

/// Fetches for ever.
async fn refresh(shared: Arc<Shared>) {
    let mut retry = shared.timing.retry;
    let mut asked = false;
    loop {
        let wait = match shared.fetch(asked).await {
            Some(wait) => {
                retry = shared.timing.retry;
                wait
            }
            None => {
                let wait = retry;
                retry = (retry * 2).min(shared.timing.cooldown);
                wait
            }
        };
        let due = Instant::now() + wait;
        asked = loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => break false,
                // A nudge may be left from before the fetch that it asked for.
                () = shared.nudge.notified() => {
                    let progress = shared.progress.borrow().clone();
                    if shared.may_fetch(&progress) {
                        break true;
                    }
                }
            }
        };
    }
}

impl Shared {
    fn is_remote(&self) -> bool {
        matches!(self.from, KeysFrom::Discover | KeysFrom::Url(_))
    }

    fn may_fetch(&self, progress: &Progress) -> bool {
        progress
            .last_asked
            .is_none_or(|asked| asked.elapsed() >= self.timing.cooldown)
    }

    /// One fetch. The time until the next, or `None` where it failed.
    async fn fetch(&self, asked: bool) -> Option<Duration> {
        self.progress.send_modify(|progress| {
            progress.started += 1;
            if asked {
                progress.last_asked = Some(Instant::now());
            }
        });
        // Whatever a stranger's bytes may break on the way, refreshing goes on.
        let fetched = AssertUnwindSafe(self.fetch_keys()).catch_unwind().await;
        let fetched = fetched.unwrap_or(Err(Failure::Panicked));
        let wait = match &fetched {
            Ok(Fetched { set, lifetime, .. }) => {
                if set.skipped > 0 {
                    let issuer = &self.issuer;
                    log::debug!("issuer `{issuer}`: {} keys of the set cannot be used", set.skipped);
                }
                self.current.store(Some(set.clone()));
                Some(self.timing.until_refresh(*lifetime))
            }
            Err(failure) => {
                log::warn!("issuer `{}`: no new keys: {failure}", self.issuer);
                None
            }
        };
        // Whoever asked for a fetch before this one was seen to begin is served by it.
        let _ = self.nudge.notified().now_or_never();
        self.progress.send_modify(|progress| {
            progress.finished += 1;
            match &fetched {
                Ok(_) => {
                    progress.fetched = Some(Instant::now());
                    progress.failing = None;
                }
                Err(failure) => {
                    progress.failures += 1;
                    progress.failing = Some(failure.to_string().into());
                }
            }
        });
        if let Ok(fetched) = fetched {
            self.keep(fetched.body).await;
        }
        wait
    }

    /// Copies a set to disk. Nobody waits for it, and where it fails the keys are as good.
    async fn keep(&self, set: bytes::Bytes) {
        let Some(from) = copied_from(&self.from).filter(|_| self.copies.has_folder()) else {
            return;
        };
        let (copies, issuer, from) = (self.copies.clone(), self.issuer.clone(), from.to_owned());
        let kept = tokio::task::spawn_blocking(move || copies.keep(&issuer, &from, &set)).await;
        if let Ok(Err(failure)) = kept {
            log::warn!("issuer `{}`: no copy of its keys is kept: {failure}", self.issuer);
        }
    }

    async fn fetch_keys(&self) -> Result<Fetched, Failure> {
        let (client, deadline) = (&self.client, self.timing.deadline);
        let url = match &self.from {
            KeysFrom::Url(url) => url.to_string(),
            _ => discovery::url(client, &self.issuer, "jwks_uri", deadline).await?,
        };
        let (headers, body) = discovery::fetch(client, &url, discovery::bounds(deadline, MAX_SET)).await?;
        let set = KeySet::parse(&body)?;
        // An issuer whose keys are lost for a moment says so far more often than one that means nobody any more; that has
        // revocation. Envoy and others read it alike.
        if set.keys.is_empty() {
            return Err(Failure::NoKey);
        }
        Ok(Fetched {
            set: Arc::new(set),
            lifetime: lifetime(&headers),
            body,
        })
    }
}

/// What a fetch brought.
struct Fetched {
    set: Arc<KeySet>,
    /// How long it is fresh; `None` where the issuer does not say.
    lifetime: Option<Duration>,
    body: bytes::Bytes,
}

/// The name under which keys from there are copied; `None` where they need no copy.
fn copied_from(from: &KeysFrom) -> Option<&str> {
    match from {
        KeysFrom::Discover => Some("discover"),
        KeysFrom::Url(url) => Some(url),
        KeysFrom::Fixed(_) | KeysFrom::Missing => None,
    }
}

/// Why a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Fetch(#[from] FetchFailure),
    #[error(transparent)]
    Set(#[from] SetUnusable),
    #[error("the key set holds no key that can be used")]
    NoKey,
    #[error("reading the answer panicked")]
    Panicked,
}

/// How long a response is fresh (RFC 9111 §4.2.1); `None` where it does not say.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    let mut max_age = None;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" => max_age = max_age.or(value.trim().trim_matches('"').parse().ok()),
                _ => {}
            }
        }
    }
    if let Some(seconds) = max_age {
        let age = text(header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        return Some(Duration::from_secs(u64::saturating_sub(seconds, age)));
    }
    let date = |name| httpdate::parse_http_date(text(name)?).ok();
    let expires = headers.get(header::EXPIRES)?;
    // An unreadable date, `0` above all, means expired.
    Some(
        expires
            .to_str()
            .ok()
            .and_then(|expires| httpdate::parse_http_date(expires).ok())
            .zip(date(header::DATE))
            .and_then(|(expires, date)| expires.duration_since(date).ok())
            .unwrap_or_default(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(lines: &[(&str, &str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: header::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        lifetime(&headers).map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn reads_how_long_keys_are_fresh() {
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[("cache-control", "public, Max-Age=600")]), Some(600));
        assert_eq!(said(&[("cache-control", "max-age=\"600\""), ("age", "100")]), Some(500));
        assert_eq!(said(&[("cache-control", "max-age=60"), ("age", "100")]), Some(0));
        assert_eq!(
            said(&[("cache-control", "max-age=60"), ("cache-control", "no-cache")]),
            Some(0)
        );
        assert_eq!(
            said(&[("cache-control", "max-age=18446744073709551615")]),
            Some(u64::MAX)
        );
        assert_eq!(said(&[("cache-control", "max-age=-5")]), None);
        let date = ("date", "Tue, 24 Nov 2026 12:00:00 GMT");
        assert_eq!(said(&[date, ("expires", "Tue, 24 Nov 2026 12:05:00 GMT")]), Some(300));
        assert_eq!(said(&[date, ("expires", "Tue, 24 Nov 2026 11:00:00 GMT")]), Some(0));
        assert_eq!(said(&[date, ("expires", "0")]), Some(0));
    }

    #[test]
    fn refreshes_ahead_of_expiry_within_bounds() {
        let timing = Timing::default();
        let until = |seconds| timing.until_refresh(seconds).as_secs();
        assert_eq!(until(Some(Duration::from_secs(1000))), 800);
        assert_eq!(until(Some(Duration::ZERO)), 60);
        assert_eq!(until(Some(Duration::MAX)), 86_400);
        assert_eq!(until(None), 720);
    }
}
