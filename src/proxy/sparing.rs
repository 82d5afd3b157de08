//! Limits of inner routes: each is charged once for a request from outside, on however many routes it stands.

use std::sync::Arc;

use crate::engine::{Answer, Answers, Decision, LimitAnswer, Lookup, Question};
use crate::live::Asking;

/// The limits that a decision asked, by name.
pub(super) fn limits<'d>(decision: &'d Decision, names: &'d [Arc<str>]) -> impl Iterator<Item = Arc<str>> + use<'d> {
    let asked = decision
        .answers
        .iter()
        .filter(|(_, answer)| matches!(answer, Answer::Limit(_)));
    asked.filter_map(|(rule, _)| names.get(usize::from(*rule)).cloned())
}

/// Asks everything but limits that were asked before.
pub(super) struct Sparing<'a> {
    pub asking: Asking<'a>,
    /// Their names.
    pub asked: &'a [Arc<str>],
}

impl Lookup for Sparing<'_> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        const SPARED: Answer = Answer::Limit(LimitAnswer {
            admitted: true,
            remaining: u32::MAX,
            reset: std::time::Duration::ZERO,
            retry_after: std::time::Duration::ZERO,
        });
        let limits = &self.asking.generation.snapshot.defined.limits;
        let is_spared = |question: &Question<'_>| match question {
            Question::Limit { limit, .. } => limits
                .by_id(*limit)
                .is_some_and(|limit| self.asked.contains(&limit.name)),
            _ => false,
        };
        let left: Vec<_> = asked
            .iter()
            .filter(|(_, question)| !is_spared(question))
            .cloned()
            .collect();
        let mut answers = self.asking.answer(&left).await.into_iter();
        let answer = |(_, question): &(u16, Question<'_>)| match is_spared(question) {
            true => Some(SPARED),
            false => answers.next(),
        };
        asked.iter().map_while(answer).collect()
    }
}
