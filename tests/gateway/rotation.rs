//! An issuer that goes from key to key while its callers go on, without and with a flood of tokens that name keys which do not
//! exist. Nothing here rests on time but the bound on fetches, which a slow machine only makes easier to keep.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Gateway, Issuer, Key, Reply, Upstream, eventually, guarded};

/// A fetch of keys that tokens cause comes no sooner than this after the one before.
const COOLDOWN: Duration = Duration::from_secs(10);

const WHO: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  who: { match: GET /who, auth: customer, upstream: origin }
";

/// Issuer, gateway, and callers who come with tokens by the key that is in use.
struct Rotation {
    issuer: Issuer,
    keys: Vec<Key>,
    gateway: Gateway,
    /// The key in use, and how many callers were let in.
    used: AtomicUsize,
    served: AtomicUsize,
    forged: AtomicUsize,
    done: AtomicBool,
    _upstream: Upstream,
}

impl Rotation {
    fn begin() -> Self {
        let (issuer, upstream) = (Issuer::new(), Upstream::http1(|_| Reply::text("in")));
        let keys: Vec<Key> = (0..3).map(|number| Key::es256(&format!("k{number}"))).collect();
        issuer.publish(vec![keys[0].jwk()]);
        Self {
            gateway: Gateway::start(&guarded(WHO, &upstream, &issuer)),
            issuer,
            keys,
            used: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            forged: AtomicUsize::new(0),
            done: AtomicBool::new(false),
            _upstream: upstream,
        }
    }

    /// Publishes a key beside the one in use.
    fn publish(&self, number: usize) {
        self.issuer
            .publish(vec![self.keys[number - 1].jwk(), self.keys[number].jwk()]);
    }

    /// Comes with one new token after the other until it is done; each has to be let in.
    fn call(&self) {
        while !self.done.load(Ordering::Relaxed) {
            let key = &self.keys[self.used.load(Ordering::Relaxed)];
            let caller = self.served.fetch_add(1, Ordering::Relaxed);
            let token = self
                .issuer
                .token_by(key, &json!({}), &json!({"sub": format!("u{caller}")}));
            let response = self.gateway.get("/who").bearer(&token).send();
            if response.status != 200 {
                self.done.store(true, Ordering::Relaxed);
                panic!("caller {caller} by {}: {}", key.id, response.text());
            }
            // Some two hundred a second from all of them.
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Comes with tokens by keys that do not exist, each under another name.
    fn flood(&self, who: usize) {
        let stranger = Key::eddsa("stranger");
        while !self.done.load(Ordering::Relaxed) {
            let number = self.forged.fetch_add(1, Ordering::Relaxed);
            let header = json!({"kid": format!("x{who}-{number}"), "alg": "ES256"});
            let token = self.issuer.token_by(&stranger, &header, &json!({}));
            let response = self.gateway.get("/who").bearer(&token).send();
            response.expect_problem(401, "token-key-unknown");
        }
    }

    /// Waits until so many more were let in.
    fn serve(&self, more: usize) {
        let from = self.served.load(Ordering::Relaxed);
        eventually("callers go on", || {
            let is_over = self.done.load(Ordering::Relaxed);
            (is_over || self.served.load(Ordering::Relaxed) >= from + more).then_some(())
        });
    }

    /// Fetches so far, which never exceed one for the start and one for each time that tokens may cause one.
    fn fetches(&self, began: Instant) -> usize {
        let fetches = self.issuer.key_fetches();
        let most = 2 + began.elapsed().as_secs() / COOLDOWN.as_secs();
        assert!(fetches as u64 <= most, "{fetches} fetches, at most {most}");
        fetches
    }
}

/// Ends the threads also where the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn keys_that_are_used_as_soon_as_they_are_published_refuse_nobody() {
    let rotation = Rotation::begin();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let _end = End(&rotation.done);
        for _ in 0..4 {
            scope.spawn(|| rotation.call());
        }
        for number in 1..rotation.keys.len() {
            // Rotations at least 15 s apart.
            rotation.serve(50);
            std::thread::sleep(COOLDOWN * 3 / 2);
            rotation.publish(number);
            rotation.used.store(number, Ordering::Relaxed);
        }
        rotation.serve(50);
        assert!(rotation.fetches(began) >= rotation.keys.len());
    });
}

#[test]
fn a_flood_of_forged_names_hides_no_key_that_was_published_ahead() {
    let rotation = Rotation::begin();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let _end = End(&rotation.done);
        let rotation = &rotation;
        for who in 0..2 {
            scope.spawn(move || rotation.call());
            scope.spawn(move || rotation.flood(who));
        }
        for number in 1..rotation.keys.len() {
            rotation.serve(50);
            rotation.publish(number);
            // The next fetch that the flood may cause brings the key, used or not.
            let before = rotation.issuer.key_fetches();
            eventually("a fetch after the key was published", || {
                let is_over = rotation.done.load(Ordering::Relaxed);
                (is_over || rotation.fetches(began) > before).then_some(())
            });
            rotation.used.store(number, Ordering::Relaxed);
        }
        rotation.serve(50);
        rotation.fetches(began);
        assert!(rotation.forged.load(Ordering::Relaxed) > 50);
    });
}
