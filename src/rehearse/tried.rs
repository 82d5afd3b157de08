//! Trying the tests that a configuration has.

use super::{Case, Explanation, assuming, explain, telling};
use crate::conf::{Finding, Severity};
use crate::snapshot::{Snapshot, Test};

/// A test that came out otherwise.
#[derive(Debug)]
pub struct Failure<'a> {
    /// The test.
    pub test: &'a Test,
    /// What came out: ``allow, answered by upstream `transfers` ``.
    pub got: String,
}

/// The tests of the configuration that fail, in the order of the file. Nothing but the configuration is looked at.
pub fn failures(snapshot: &Snapshot) -> Vec<Failure<'_>> {
    let tests = snapshot.tests.iter();
    tests
        .filter_map(|test| {
            let got = got_otherwise(snapshot, test)?;
            Some(Failure { test, got })
        })
        .collect()
}

/// What becomes of the request, where that is not what is expected.
fn got_otherwise(snapshot: &Snapshot, test: &Test) -> Option<String> {
    let mut settled = test.asked.clone();
    if let Err(fault) = settled.settle(snapshot) {
        return Some(format!("nothing: {fault}"));
    }
    match Case::of(snapshot, &settled).judged(settled.at, &assuming(snapshot, &settled)) {
        Ok(judged) if test.expect.is_met(&judged) => None,
        Ok(judged) => Some(telling::outcome(&telling::decision(snapshot, &judged))),
        Err(error) => Some(format!("nothing: {error}")),
    }
}

impl Failure<'_> {
    /// As something that was found wrong with the configuration.
    pub fn finding(&self) -> Finding {
        let test = self.test;
        let name = test.name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
        Finding {
            severity: Severity::Error,
            place: Some(test.place.clone()),
            message: format!("the test{name} fails: expected {}, got {}", test.expect, self.got),
            notes: Vec::new(),
            path: test.path.clone(),
            stray: None,
        }
    }

    /// Why that came out; nothing where the request cannot be asked about.
    pub fn explain(&self, snapshot: &Snapshot) -> Option<Explanation> {
        explain(snapshot, &self.test.asked).ok()
    }
}
