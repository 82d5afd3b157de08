//! The names that a configuration defines for itself, and which of them it refers to.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

/// Names by their kind (`limit`, `window`, …). A name is declared when it is written, whatever is wrong with what it stands
/// for: whoever refers to it makes no second mistake.
#[derive(Debug, Default)]
pub struct Names {
    declared: RefCell<BTreeMap<&'static str, Declared>>,
    referred: RefCell<HashSet<(&'static str, String)>>,
}

#[derive(Debug, Default)]
struct Declared {
    names: Vec<String>,
    /// The names cannot be read, so that any may be meant.
    any: bool,
}

impl Names {
    /// A name is defined.
    pub fn declare(&self, kind: &'static str, name: &str) {
        self.declared
            .borrow_mut()
            .entry(kind)
            .or_default()
            .names
            .push(name.to_owned());
    }

    /// Names of that kind are defined where they cannot be read.
    pub fn declare_any(&self, kind: &'static str) {
        self.declared.borrow_mut().entry(kind).or_default().any = true;
    }

    /// Whether the name is defined, or may be.
    pub fn is_declared(&self, kind: &'static str, name: &str) -> bool {
        let declared = self.declared.borrow();
        declared
            .get(kind)
            .is_some_and(|of_kind| of_kind.any || of_kind.names.iter().any(|known| known == name))
    }

    /// The defined names of that kind, in the order they were declared.
    pub fn declared(&self, kind: &'static str) -> Vec<String> {
        self.declared
            .borrow()
            .get(kind)
            .map_or_else(Vec::new, |of_kind| of_kind.names.clone())
    }

    /// Something refers to the name.
    pub fn refer(&self, kind: &'static str, name: &str) {
        self.referred.borrow_mut().insert((kind, name.to_owned()));
    }

    /// Whether anything refers to the name.
    pub fn is_referred(&self, kind: &'static str, name: &str) -> bool {
        self.referred.borrow().contains(&(kind, name.to_owned()))
    }
}
