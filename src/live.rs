//! All that outlives a request and a reload: counters, key sets, health, connections from inside, the store of answers.
//!
//! A [`Generation`] is a snapshot with the live state bound to its indices. A request pins one and sees no other; what two
//! snapshots have in common is carried over.

mod alarm;
mod ends;
mod lasting;
mod waking;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use smallvec::SmallVec;

use crate::engine::{Answer, Answers, LimitKey, Lookup, Observer, Question};
use crate::io::{Client, Clock};
use crate::policies::authn::{KeyCopies, Timing, UNAVAILABLE, Verifiers};
use crate::policies::cache::store::{DEFAULT_CAPACITY, Store};
pub use crate::policies::freeze::FreezeFailure;
use crate::policies::freeze::Freezes;
use crate::policies::passport::Passports;
use crate::policies::rate_limit::{LimitTable, LimitTables, check};
use crate::policies::revocation::Lifetimes;
pub use crate::policies::revocation::{
    MAX_ENTRIES as MAX_REVOCATIONS, RevocationFailure, Revocations, SKEW as REVOCATION_SKEW,
};
use crate::snapshot::Snapshot;
use crate::targets::UpstreamIndex;
use crate::upstreams::{Caller, Flights, Kept, Pool};

pub use alarm::Alarm;
pub use ends::{Deadline, begin_call, is_call, is_header_overdue, note_piece, owe_answer, settle_answer, until_cut};
pub use lasting::{Cut, Lasting, Lasts, Standing, is_stream, watch_over};
pub use waking::{park, unpark};

/// A filler that takes longer than this no longer holds the others up.
const FILL: Duration = Duration::from_secs(10);

/// The process's live state.
pub struct Live {
    /// The wall clock.
    pub clock: Clock,
    /// Requests from inside.
    pub caller: Arc<Caller>,
    /// Stored answers.
    pub cache: &'static Store,
    /// Requests from inside that are under way.
    pub flights: Flights,
    /// Answers to them that are kept.
    pub kept: Kept,
    /// One fill per key.
    pub cache_lock: &'static CacheKeyLockImpl,
    /// What operators have frozen.
    pub freezes: Freezes,
    /// What operators have revoked.
    pub revocations: Revocations,
    /// Exchanges that are open as long as they like.
    pub lasting: Arc<Lasting>,
    client: Arc<Client>,
    key_copies: Arc<KeyCopies>,
    began: Instant,
    current: ArcSwap<Generation>,
    in_flight: AtomicUsize,
    is_leaving: AtomicBool,
}

/// A snapshot with the live state of its authenticators, limits and upstreams, by their indices.
pub struct Generation {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Who is told about finished requests.
    pub observer: Arc<dyn Observer>,
    /// The live authenticators.
    pub verifiers: Verifiers,
    /// The live limits.
    pub limits: LimitTables,
    /// The live upstreams.
    pub pools: Vec<Arc<Pool>>,
    /// What upstreams are shown instead of the caller's credential, where the configuration has a key for it.
    pub passports: Option<Arc<Passports>>,
}

/// Side doors that generations share; made once.
pub struct Doors {
    clock: Clock,
    caller: Arc<Caller>,
    client: Arc<Client>,
    freezes: Freezes,
    revocations: Revocations,
    key_copies: Arc<KeyCopies>,
}

impl Doors {
    /// Opens them; inside a runtime.
    pub fn open(clock: Clock, freezes: Freezes, revocations: Revocations, key_copies: KeyCopies) -> Self {
        Self {
            clock,
            freezes,
            revocations,
            caller: Arc::new(Caller::default()),
            client: Arc::new(Client::new()),
            key_copies: Arc::new(key_copies),
        }
    }
}

impl Live {
    /// The live state of a first snapshot; inside a runtime. Once per process: the store of answers is never given back.
    pub fn new(doors: Doors, snapshot: Arc<Snapshot>, observer: Arc<dyn Observer>) -> Self {
        let Doors {
            clock,
            caller,
            client,
            freezes,
            revocations,
            key_copies,
        } = doors;
        let generation = Generation::new(snapshot, observer, None, &client, &key_copies);
        let lock: Box<CacheKeyLockImpl> = CacheLock::new_boxed(FILL);
        Self {
            clock,
            caller,
            cache: Store::leak(DEFAULT_CAPACITY),
            cache_lock: Box::leak(lock),
            flights: Flights::default(),
            kept: Kept::default(),
            freezes,
            revocations,
            lasting: Arc::default(),
            client,
            key_copies,
            began: Instant::now(),
            current: ArcSwap::from_pointee(generation),
            in_flight: AtomicUsize::new(0),
            is_leaving: AtomicBool::new(false),
        }
    }

    /// The generation that new requests are decided under.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Puts a snapshot in force; state that it shares with the one before is carried over.
    pub fn swap(&self, snapshot: Arc<Snapshot>, observer: Arc<dyn Observer>) -> Arc<Generation> {
        let before = self.current();
        let (client, copies) = (&self.client, &self.key_copies);
        let generation = Arc::new(Generation::new(snapshot, observer, Some(&before), client, copies));
        self.current.store(generation.clone());
        self.lasting.judge_again();
        generation
    }

    /// How long the process has been serving.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Nanoseconds on the monotonic clock of limits.
    pub fn monotonic(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long revocations have to be kept; `None` on a rehearsed clock, which must not make anybody forget.
    pub fn lifetimes(&self) -> Option<Lifetimes> {
        let is_real = !self.clock.is_rehearsal();
        is_real.then(|| Lifetimes(self.current().snapshot.defined.authenticators.lifetimes()))
    }

    /// Forgets revocations that hit nothing any more. Blocks.
    pub fn forget_revocations(&self) {
        let forgotten = self
            .revocations
            .turn()
            .forget(self.clock.now(), self.lifetimes().as_ref());
        match forgotten {
            Ok(0) => {}
            Ok(count) => log::info!("{count} revocations hit nothing any more"),
            Err(error) => log::error!("revocations that hit nothing any more cannot be forgotten: {error}"),
        }
    }

    /// Requests being served.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// No connection serves on from now on: the end is near.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// Whether clients have to be told that their connections end (RFC 9112 §9.6).
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Returns once no more requests are served than that.
    pub async fn drained_to(&self, most: impl Fn(&Self) -> usize) {
        while self.in_flight() > most(self) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Counts a request until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.clone())
    }
}

/// A request being served.
pub struct InFlight(Arc<Live>);

impl InFlight {
    /// The state that it is counted in.
    pub fn live(&self) -> &Arc<Live> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Generation {
    fn new(
        snapshot: Arc<Snapshot>,
        observer: Arc<dyn Observer>,
        before: Option<&Self>,
        client: &Arc<Client>,
        key_copies: &Arc<KeyCopies>,
    ) -> Self {
        let known = |name: &str| before.and_then(|before| before.pools.iter().find(|pool| &*pool.name == name));
        let pools = snapshot.upstreams.iter().map(|upstream| match known(&upstream.name) {
            Some(pool) if pool.settings == upstream.settings => pool.clone(),
            known => Arc::new(Pool::new(upstream, known.map(|pool| &**pool))),
        });
        let no_limits = LimitTables::default();
        let limits = LimitTables::following(
            &snapshot.defined.limits,
            before.map_or(&no_limits, |before| &before.limits),
        );
        let authenticators = &snapshot.defined.authenticators;
        let verifiers = Verifiers::with_copies(
            authenticators,
            before.map(|before| &before.verifiers),
            client,
            Timing::default(),
            key_copies,
        );
        verifiers.start();
        let made = before.and_then(|before| before.passports.as_ref());
        let passport = snapshot.defined.passport.as_ref();
        Self {
            passports: passport.map(|passport| Passports::new(passport, made)),
            pools: pools.collect(),
            limits,
            verifiers,
            observer,
            snapshot,
        }
    }

    /// The live half of an upstream.
    pub fn pool(&self, index: UpstreamIndex) -> Option<&Arc<Pool>> {
        self.pools.get(usize::from(index.0))
    }
}

/// Answers the questions of one request from live state.
pub struct Asking<'a> {
    /// The generation the request pinned.
    pub generation: &'a Generation,
    /// What is frozen.
    pub freezes: &'a Freezes,
    /// What is revoked.
    pub revocations: &'a Revocations,
    /// The instant of the request.
    pub now: Timestamp,
    /// The instant limits are counted at, in nanoseconds ([`Live::monotonic`]).
    pub monotonic: u64,
}

impl Lookup for Asking<'_> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        let (mut answers, open) = self.answer_at_once(asked);
        if !open.is_empty() {
            // It is large, and would be a part of every request's future.
            Box::pin(self.verify(asked, &open, &mut answers)).await;
        }
        answers
    }
}

impl Asking<'_> {
    /// What can be said without waiting, in the order of the questions, and which of them are open: of tokens that have to be
    /// verified first. What stands in those places admits nobody.
    fn answer_at_once(&self, asked: &[(u16, Question<'_>)]) -> (Answers, SmallVec<[usize; 2]>) {
        let mut limits: SmallVec<[(&LimitTable, LimitKey<'_>); 4]> = SmallVec::new();
        for (_, question) in asked {
            if let Question::Limit { limit, key } = question
                && let Some(table) = self.generation.limits.get(*limit)
            {
                limits.push((table, key.clone()));
            }
        }
        let mut counted = check(&limits, self.monotonic).into_iter();
        let verifiers = &self.generation.verifiers;
        let (mut answers, mut open) = (Answers::new(), SmallVec::new());
        for (at, (_, question)) in asked.iter().enumerate() {
            answers.push(match question {
                Question::Token {
                    authenticators,
                    token,
                    certificate,
                } => {
                    let known = verifiers.answer_at_once(authenticators, token, *certificate, self.now);
                    known.unwrap_or_else(|| {
                        open.push(at);
                        UNAVAILABLE
                    })
                }
                Question::Certificate {
                    authenticators,
                    certificate,
                } => match verifiers.prove(authenticators, certificate, self.now) {
                    Some(Ok(principal)) => Answer::Principal(principal),
                    Some(Err(refusal)) => Answer::Refused(refusal),
                    None => UNAVAILABLE,
                },
                Question::Freezes { route, upstreams } => {
                    Answer::Freezes(self.freezes.held().concerning(route, upstreams, self.now))
                }
                Question::Revocation { principal } => Answer::Revoked(self.revocations.hit(principal, self.now)),
                Question::Limit { limit, .. } => {
                    match self.generation.limits.get(*limit).and_then(|_| counted.next()) {
                        Some(answer) => Answer::Limit(answer),
                        None => Answer::Unavailable {
                            code: "limits-unavailable",
                        },
                    }
                }
            });
        }
        (answers, open)
    }

    /// Answers the open questions.
    async fn verify(&self, asked: &[(u16, Question<'_>)], open: &[usize], answers: &mut Answers) {
        let verifiers = &self.generation.verifiers;
        for at in open {
            if let Some((
                _,
                Question::Token {
                    authenticators,
                    token,
                    certificate,
                },
            )) = asked.get(*at)
                && let Some(answer) = answers.get_mut(*at)
            {
                *answer = verifiers.answer(authenticators, token, *certificate, self.now).await;
            }
        }
    }
}
