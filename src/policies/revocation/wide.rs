//! Marks on many at once: an authenticator, an issuer, all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::marks::{Marks, NEVER, instant};
use crate::engine::{Extent, Principal, Reach, Revoked};

/// Marks on many at once; few.
#[derive(Debug, Clone)]
pub(super) struct Wide {
    pub everybody: Marks,
    pub authenticators: BTreeMap<Arc<str>, Marks>,
    pub issuers: BTreeMap<Arc<str>, Marks>,
    /// What is forgotten was about tokens issued before these instants; see [`Held::floors`](super::held::Held::floors).
    pub floor: i64,
    pub floors: BTreeMap<Arc<str>, i64>,
}

impl Default for Wide {
    fn default() -> Self {
        Self {
            everybody: Marks::NONE,
            authenticators: BTreeMap::new(),
            issuers: BTreeMap::new(),
            floor: NEVER,
            floors: BTreeMap::new(),
        }
    }
}

impl Wide {
    /// What hits the caller, of what `of` makes of marks.
    pub fn hit(&self, who: &Principal, of: impl Fn(Reach, Marks) -> Option<Revoked>) -> Option<Revoked> {
        let marked = |marks: Option<&Marks>| marks.copied().unwrap_or(Marks::NONE);
        of(
            Reach::Authenticator,
            marked(self.authenticators.get(&who.authenticator)),
        )
        .or_else(|| of(Reach::Issuer, marked(self.issuers.get(&who.issuer))))
        .or_else(|| of(Reach::Everybody, self.everybody))
        .or_else(|| {
            let own = self.floors.get(&who.authenticator).copied().unwrap_or(NEVER);
            let (reach, floor) = match own >= self.floor {
                true => (Reach::Authenticator, own),
                false => (Reach::Everybody, self.floor),
            };
            // What does not say when it was issued was not among what is forgotten.
            let is_earlier = floor != NEVER && who.issued().is_some_and(|issued| issued < floor);
            let extent = Extent::IssuedBefore(instant(floor));
            is_earlier.then_some(Revoked { reach, extent })
        })
    }
}

/// Puts marks in place of those of a name, and returns those; none take it out.
pub(super) fn put(all: &mut BTreeMap<Arc<str>, Marks>, name: &Arc<str>, marks: Marks) -> Marks {
    let before = match marks.is_none() {
        true => all.remove(name),
        false => all.insert(name.clone(), marks),
    };
    before.unwrap_or(Marks::NONE)
}
