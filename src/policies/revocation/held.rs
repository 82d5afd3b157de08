//! The revocations in memory, and which of them hits a caller.
//!
//! Names stand in a table of their own for each authenticator and issuer, so that none can spell another's. Whoever looks
//! waits for nobody but a writer of the same shard; where nothing is revoked, a look is one atomic load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::marks::{EVER, Lifetimes, Marks, NEVER, end, instant};
use super::names::{Names, Size};
use super::wide::{Wide, put};
use crate::engine::{Extent, Principal, Reach, Revoked, Whom, is_token_of};

/// Revocations at most; some 120 MB where subjects are UUIDs.
pub const MAX_ENTRIES: usize = 1 << 20;
/// Bytes of all names at most.
const MAX_TEXT: usize = 256 << 20;
/// Pairs of authenticator and issuer at most, and authenticators and issuers that are marked as a whole.
const MAX_WIDE: usize = 1024;
/// Revocations.
#[derive(Debug, Default)]
pub struct Held {
    /// Marks of all kinds; where there are none nothing else is looked at.
    count: AtomicUsize,
    spaces: ArcSwap<Vec<Arc<Space>>>,
    /// Subjects, whoever vouches for them.
    anywhere: Names,
    wide: ArcSwap<Wide>,
}

/// The names of one authenticator and issuer.
#[derive(Debug)]
struct Space {
    authenticator: Arc<str>,
    issuer: Arc<str>,
    subjects: Names,
    tokens: Names,
}

/// Why nothing more can be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fullness {
    /// Too many revocations.
    #[error("{MAX_ENTRIES} are held, and each may still hit a token")]
    Entries,
    /// Too many bytes of names.
    #[error("{} MiB of names are held, and each may still hit a token", MAX_TEXT >> 20)]
    Text,
    /// Too many authenticators, or issuers.
    #[error("{MAX_WIDE} authenticators or issuers have some")]
    Wide,
}

/// How much is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How many revocations of each kind.
    pub counts: [(Reach, usize); 6],
    /// How many authenticators have an instant before which something forgotten was revoked.
    pub floors: usize,
    /// Bytes of memory that all takes.
    pub memory: usize,
}

impl Figures {
    /// All revocations.
    pub fn total(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

/// One thing that is held, for those who write it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A revocation, or several of the same.
    Marked(Whom, Marks),
    /// A floor: of an authenticator, or of all.
    Floor(Option<Arc<str>>, i64),
}

impl Held {
    /// Every token of everybody is revoked.
    pub fn of_everybody() -> Self {
        let held = Self::default();
        held.set(
            &Whom::Everybody,
            Marks {
                until: EVER,
                ..Marks::NONE
            },
        );
        held
    }

    /// What hits the caller at `now`: the narrowest, if anything does.
    pub fn hit(&self, who: &Principal, now: Timestamp) -> Option<Revoked> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        // Marks are whole seconds: nothing lies between.
        let now = now.as_second();
        let of = |reach, marks: Marks| {
            let extent = match marks {
                Marks { until, .. } if now < until => Extent::Every { until: end(until) },
                Marks { before, .. } if before != NEVER && reach != Reach::Token => {
                    if who.issued().is_some_and(|issued| issued >= before) {
                        return None;
                    }
                    Extent::IssuedBefore(instant(before))
                }
                _ => return None,
            };
            Some(Revoked { reach, extent })
        };
        let spaces = self.spaces.load();
        let space = spaces.iter().find(|space| space.is(&who.authenticator, &who.issuer));
        let token = who.token_id.as_deref().and_then(|id| {
            let mut of_issuer = spaces
                .iter()
                .filter(|space| is_token_of(who, &space.authenticator, &space.issuer));
            of_issuer.find_map(|space| of(Reach::Token, space.tokens.get(id)))
        });
        let identity = || of(Reach::Identity, space?.subjects.get(&who.subject));
        let own = token.or_else(identity);
        own.or_else(|| of(Reach::Subject, self.anywhere.get(&who.subject)))
            .or_else(|| self.wide.load().hit(who, of))
    }

    /// The marks there are.
    pub(super) fn get(&self, whom: &Whom) -> Marks {
        let in_space = |authenticator: &str, issuer: &str, get: &dyn Fn(&Space) -> Marks| {
            let spaces = self.spaces.load();
            let mut spaces = spaces.iter();
            let space = spaces.find(|space| space.is(authenticator, issuer));
            space.map_or(Marks::NONE, |space| get(space))
        };
        let marked = |marks: Option<&Marks>| marks.copied().unwrap_or(Marks::NONE);
        match whom {
            Whom::Identity {
                authenticator,
                issuer,
                subject,
            } => in_space(authenticator, issuer, &|space| space.subjects.get(subject)),
            Whom::Token {
                authenticator,
                issuer,
                id,
            } => in_space(authenticator, issuer, &|space| space.tokens.get(id)),
            Whom::Subject(subject) => self.anywhere.get(subject),
            Whom::Authenticator(name) => marked(self.wide.load().authenticators.get(name)),
            Whom::Issuer(issuer) => marked(self.wide.load().issuers.get(issuer)),
            Whom::Everybody => self.wide.load().everybody,
        }
    }

    /// Whether there is room for marks on somebody; always where there are some already.
    pub(super) fn room_for(&self, whom: &Whom) -> Result<(), Fullness> {
        if !self.get(whom).is_none() {
            return Ok(());
        }
        let (spaces, wide) = (self.spaces.load(), self.wide.load());
        let text = match whom {
            Whom::Identity { subject, .. } | Whom::Subject(subject) => subject.len(),
            Whom::Token { id, .. } => id.len(),
            Whom::Authenticator(_) | Whom::Issuer(_) | Whom::Everybody => 0,
        };
        let is_crowded = match whom {
            Whom::Identity {
                authenticator, issuer, ..
            }
            | Whom::Token {
                authenticator, issuer, ..
            } => spaces.len() >= MAX_WIDE && !spaces.iter().any(|space| space.is(authenticator, issuer)),
            Whom::Authenticator(_) => wide.authenticators.len() >= MAX_WIDE,
            Whom::Issuer(_) => wide.issuers.len() >= MAX_WIDE,
            Whom::Subject(_) | Whom::Everybody => false,
        };
        match self.count.load(Ordering::Relaxed) >= MAX_ENTRIES {
            true => Err(Fullness::Entries),
            false if is_crowded => Err(Fullness::Wide),
            false if self.size().text + text > MAX_TEXT => Err(Fullness::Text),
            false => Ok(()),
        }
    }

    /// Puts marks in place of those there are; [`Marks::NONE`] takes them out. One at a time: whoever changes keeps others
    /// from it.
    pub(super) fn set(&self, whom: &Whom, marks: Marks) {
        let before = match whom {
            Whom::Identity {
                authenticator,
                issuer,
                subject,
            } => self.space(authenticator, issuer).subjects.set(subject, marks),
            Whom::Token {
                authenticator,
                issuer,
                id,
            } => self.space(authenticator, issuer).tokens.set(id, marks),
            Whom::Subject(subject) => self.anywhere.set(subject, marks),
            Whom::Authenticator(name) => self.change_wide(|wide| put(&mut wide.authenticators, name, marks)),
            Whom::Issuer(issuer) => self.change_wide(|wide| put(&mut wide.issuers, issuer, marks)),
            Whom::Everybody => self.change_wide(|wide| std::mem::replace(&mut wide.everybody, marks)),
        };
        match (before.is_none(), marks.is_none()) {
            (true, false) => self.count.fetch_add(1, Ordering::Release),
            (false, true) => self.count.fetch_sub(1, Ordering::Release),
            _ => return,
        };
    }

    /// Takes out all that is marked on somebody: on many at once, their floor too.
    pub(super) fn lift(&self, whom: &Whom) {
        self.set(whom, Marks::NONE);
        match whom {
            Whom::Authenticator(name) => self.set_floor(Some(name), NEVER),
            Whom::Everybody => self.set_floor(None, NEVER),
            _ => {}
        }
    }

    /// The floor of an authenticator, or of all; [`NEVER`] where there is none.
    pub(super) fn floor(&self, whom: &Whom) -> i64 {
        let wide = self.wide.load();
        match whom {
            Whom::Authenticator(name) => wide.floors.get(name).copied().unwrap_or(NEVER),
            Whom::Everybody => wide.floor,
            _ => NEVER,
        }
    }

    /// Sets the floor of an authenticator, or of all; [`NEVER`] takes it away.
    pub(super) fn set_floor(&self, authenticator: Option<&Arc<str>>, floor: i64) {
        let before = self.change_wide(|wide| match authenticator {
            None => std::mem::replace(&mut wide.floor, floor),
            Some(name) if floor == NEVER => wide.floors.remove(name).unwrap_or(NEVER),
            Some(name) => wide.floors.insert(name.clone(), floor).unwrap_or(NEVER),
        });
        match (before == NEVER, floor == NEVER) {
            (true, false) => self.count.fetch_add(1, Ordering::Release),
            (false, true) => self.count.fetch_sub(1, Ordering::Release),
            _ => return,
        };
    }

    /// Shows everything that is held.
    pub(super) fn each<E>(&self, mut show: impl FnMut(Item) -> Result<(), E>) -> Result<(), E> {
        let wide = self.wide.load_full();
        if !wide.everybody.is_none() {
            show(Item::Marked(Whom::Everybody, wide.everybody))?;
        }
        for (name, marks) in &wide.authenticators {
            show(Item::Marked(Whom::Authenticator(name.clone()), *marks))?;
        }
        for (issuer, marks) in &wide.issuers {
            show(Item::Marked(Whom::Issuer(issuer.clone()), *marks))?;
        }
        if wide.floor != NEVER {
            show(Item::Floor(None, wide.floor))?;
        }
        for (name, floor) in &wide.floors {
            show(Item::Floor(Some(name.clone()), *floor))?;
        }
        self.anywhere
            .each(|subject, marks| show(Item::Marked(Whom::Subject(subject.into()), marks)))?;
        for space in self.spaces.load_full().iter() {
            let (authenticator, issuer) = (&space.authenticator, &space.issuer);
            space.subjects.each(|subject, marks| {
                let whom = Whom::Identity {
                    authenticator: authenticator.clone(),
                    issuer: issuer.clone(),
                    subject: subject.into(),
                };
                show(Item::Marked(whom, marks))
            })?;
            space.tokens.each(|id, marks| {
                let whom = Whom::Token {
                    authenticator: authenticator.clone(),
                    issuer: issuer.clone(),
                    id: id.into(),
                };
                show(Item::Marked(whom, marks))
            })?;
        }
        Ok(())
    }

    /// The floors that [`forget`](Self::forget) needs before it may forget, where they are not there yet.
    ///
    /// What is revoked of tokens issued before an instant is forgotten once the last of them has ended. Were an authenticator
    /// told meanwhile to take tokens that live longer, one could be good again that was revoked. A token from before the
    /// floor, which by then was older than any that was taken, stays out for ever instead.
    pub(super) fn floors(&self, now: i64, lifetimes: &Lifetimes) -> Vec<(Option<Arc<str>>, i64)> {
        let wide = self.wide.load_full();
        let mut floors = Vec::new();
        let mut add = |authenticator: Option<&Arc<str>>, standing: i64, floor: i64| {
            if floor > standing {
                floors.push((authenticator.cloned(), floor));
            }
        };
        add(
            None,
            wide.floor,
            highest_outlived(&self.anywhere, now, lifetimes.longest()),
        );
        let mut spaces: BTreeMap<&Arc<str>, i64> = BTreeMap::new();
        let all = self.spaces.load_full();
        for space in all.iter() {
            let life = lifetimes.of(&space.authenticator);
            let highest = highest_outlived(&space.subjects, now, life).max(highest_outlived(&space.tokens, now, life));
            let floor = spaces.entry(&space.authenticator).or_insert(NEVER);
            *floor = highest.max(*floor);
        }
        for (authenticator, floor) in spaces {
            let standing = wide.floors.get(authenticator).copied().unwrap_or(NEVER);
            add(Some(authenticator), standing, floor);
        }
        floors
    }

    /// Forgets what hits nothing any more, and says how much that was.
    pub(super) fn forget(&self, now: i64, lifetimes: &Lifetimes) -> usize {
        let longest = lifetimes.longest();
        let mut taken = self.anywhere.retain(|marks| marks.living(now, longest));
        for space in self.spaces.load_full().iter() {
            let life = lifetimes.of(&space.authenticator);
            taken += space.subjects.retain(|marks| marks.living(now, life));
            taken += space.tokens.retain(|marks| {
                // All that is marked is one token, whichever way it ends.
                let living = marks.living(now, life);
                let is_over = living.until == NEVER || living.before == NEVER;
                if is_over { Marks::NONE } else { living }
            });
        }
        self.count.fetch_sub(taken, Ordering::Release);
        taken
    }

    /// How many marks there are.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How much there is.
    pub fn figures(&self) -> Figures {
        let wide = self.wide.load();
        let (mut subjects, mut tokens) = (0, 0);
        for space in self.spaces.load().iter() {
            subjects += space.subjects.size().names;
            tokens += space.tokens.size().names;
        }
        Figures {
            counts: [
                (Reach::Token, tokens),
                (Reach::Identity, subjects),
                (Reach::Subject, self.anywhere.size().names),
                (Reach::Authenticator, wide.authenticators.len()),
                (Reach::Issuer, wide.issuers.len()),
                (Reach::Everybody, usize::from(!wide.everybody.is_none())),
            ],
            floors: wide.floors.len() + usize::from(wide.floor != NEVER),
            memory: self.size().memory,
        }
    }

    /// How much the names take.
    pub(super) fn size(&self) -> Size {
        let spaces = self.spaces.load();
        let tables = spaces.iter().flat_map(|space| [&space.subjects, &space.tokens]);
        tables.chain([&self.anywhere]).fold(Size::default(), |sum, names| {
            let size = names.size();
            Size {
                names: sum.names + size.names,
                text: sum.text + size.text,
                memory: sum.memory + size.memory,
            }
        })
    }

    fn space(&self, authenticator: &Arc<str>, issuer: &Arc<str>) -> Arc<Space> {
        let spaces = self.spaces.load_full();
        if let Some(known) = spaces.iter().find(|space| space.is(authenticator, issuer)) {
            return known.clone();
        }
        let space = Arc::new(Space {
            authenticator: authenticator.clone(),
            issuer: issuer.clone(),
            subjects: Names::default(),
            tokens: Names::default(),
        });
        let mut more = Vec::clone(&spaces);
        more.push(space.clone());
        self.spaces.store(Arc::new(more));
        space
    }

    fn change_wide<T>(&self, change: impl FnOnce(&mut Wide) -> T) -> T {
        let mut wide = Wide::clone(&self.wide.load());
        let done = change(&mut wide);
        self.wide.store(Arc::new(wide));
        done
    }
}

impl Space {
    fn is(&self, authenticator: &str, issuer: &str) -> bool {
        *self.authenticator == *authenticator && *self.issuer == *issuer
    }
}

/// The latest instant of those that [`Held::forget`] takes out because all tokens issued before are outlived.
fn highest_outlived(names: &Names, now: i64, life: Option<i64>) -> i64 {
    let mut highest = NEVER;
    if life.is_some() {
        let _ = names.each(|_, marks| {
            if marks.living(now, life).before == NEVER {
                highest = highest.max(marks.before);
            }
            Ok::<_, std::convert::Infallible>(())
        });
    }
    highest
}
