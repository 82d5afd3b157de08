//! Marks by name: exact, and in shards, so that a table that grows holds up few of those who look.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use parking_lot::RwLock;

use super::marks::Marks;

const SHARDS: usize = 64;

/// Names with their marks.
pub(super) struct Names {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    marks: HashMap<Box<str>, Marks, RandomState>,
    /// Bytes of the names.
    text: usize,
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Names.
    pub names: usize,
    /// Bytes of the names.
    pub text: usize,
    /// Bytes of memory that all takes, near enough.
    pub memory: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::default(),
        }
    }
}

impl Names {
    /// What is marked under a name.
    pub fn get(&self, name: &str) -> Marks {
        let found = self.shard(name).and_then(|shard| shard.read().marks.get(name).copied());
        found.unwrap_or(Marks::NONE)
    }

    /// Puts marks in place of those of a name, and returns those; [`Marks::NONE`] takes it out.
    pub fn set(&self, name: &str, marks: Marks) -> Marks {
        let Some(shard) = self.shard(name) else {
            return Marks::NONE;
        };
        let mut shard = shard.write();
        let before = if marks.is_none() {
            let taken = shard.marks.remove(name);
            shard.text -= taken.map_or(0, |_| name.len());
            taken
        } else {
            let put = shard.marks.insert(name.into(), marks);
            shard.text += put.map_or(name.len(), |_| 0);
            put
        };
        before.unwrap_or(Marks::NONE)
    }

    /// Shows every name with its marks, in no order.
    pub fn each<E>(&self, mut show: impl FnMut(&str, Marks) -> Result<(), E>) -> Result<(), E> {
        for shard in &self.shards {
            for (name, marks) in &shard.read().marks {
                show(name, *marks)?;
            }
        }
        Ok(())
    }

    /// Keeps of each name what `living` leaves of its marks, and says how many were taken out whole.
    pub fn retain(&self, living: impl Fn(Marks) -> Marks) -> usize {
        let mut taken = 0;
        for shard in &self.shards {
            let mut shard = shard.write();
            let Shard { marks, text } = &mut *shard;
            let before = marks.len();
            marks.retain(|name, marks| {
                *marks = living(*marks);
                *text -= if marks.is_none() { name.len() } else { 0 };
                !marks.is_none()
            });
            taken += before - marks.len();
            if marks.len() < before / 2 {
                marks.shrink_to_fit();
            }
        }
        taken
    }

    /// How much there is.
    pub fn size(&self) -> Size {
        let mut size = Size {
            memory: SHARDS * size_of::<RwLock<Shard>>(),
            ..Size::default()
        };
        for shard in &self.shards {
            let shard = shard.read();
            size.names += shard.marks.len();
            size.text += shard.text;
            // The standard table: a power of two of buckets, at most seven eighths of them full, a byte for each besides.
            let buckets = match shard.marks.capacity() {
                0 => 0,
                capacity => (capacity * 8 / 7).next_power_of_two(),
            };
            size.memory += buckets * (size_of::<(Box<str>, Marks)>() + 1);
        }
        // Allocators give out eight bytes at a time, or sixteen.
        size.memory += size.text + 8 * size.names;
        size
    }

    fn shard(&self, name: &str) -> Option<&RwLock<Shard>> {
        // Neither the bits that choose a bucket nor those that a bucket is known by.
        let hash = self.hasher.hash_one(name) >> 32;
        self.shards.get(usize::try_from(hash).ok()? % SHARDS)
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Names({:?})", self.size())
    }
}
