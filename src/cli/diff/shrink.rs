//! Leaving values out where there are too many combinations: those first that stand the same in both configurations.

use super::axes::{About, Axis, Choice};
use crate::engine::Mentions;

/// So many combinations are tried of the requests of one route.
const MAX_CELLS: usize = 20_000;

/// Leaves values out until there are few enough combinations, and says which. `fresh` is what those rules look at that are
/// not the same on both sides: what one side alone names of it is left out last.
pub(super) fn shrink(axes: &mut [Axis], fresh: &[Mentions; 2], cut: &mut Vec<String>) {
    let mut plans: Vec<Plan> = axes.iter().map(|axis| Plan::new(axis, fresh)).collect();
    let count = |plans: &[Plan]| plans.iter().fold(1_usize, |all, plan| all.saturating_mul(plan.kept));
    if count(&plans) <= MAX_CELLS {
        return;
    }
    while count(&plans) > MAX_CELLS {
        let Some(plan) = plans.iter_mut().max_by_key(|plan| (plan.stage(), plan.kept)) else {
            break;
        };
        let least = match plan.stage() {
            Stage::Done => break,
            Stage::Last => 1,
            Stage::Scarce => 2,
            Stage::Fresh | Stage::Same => plan.first,
        };
        plan.kept = plan.kept.div_ceil(2).max(least);
    }
    for (axis, plan) in axes.iter_mut().zip(plans) {
        let whole = axis.choices.len();
        if plan.kept == whole {
            continue;
        }
        let kept: Vec<usize> = plan.order.into_iter().take(plan.kept).collect();
        let mut at = 0..;
        axis.choices.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
        cut.push(format!("tried {} of {whole} {}", axis.choices.len(), axis.name()));
    }
}

/// What to keep of an axis.
struct Plan {
    /// Its values, the more telling ones first.
    order: Vec<usize>,
    /// So many of them tell more than the others.
    first: usize,
    kept: usize,
    is_fresh: bool,
    is_last: bool,
}

/// When values of an axis are left out: the greatest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Done,
    Last,
    Scarce,
    Fresh,
    Same,
}

impl Plan {
    fn new(axis: &Axis, [now, next]: &[Mentions; 2]) -> Self {
        let (before, after) = (named(now, &axis.about), named(next, &axis.about));
        let differs = |key: &String| before.contains(key) != after.contains(key);
        let end = axis.choices.len().saturating_sub(1);
        // The first ones and the last stand for the others, and so does what is not named and what is not there.
        let tells = |(at, choice): &(usize, &Choice)| {
            let unnamed = matches!(
                choice,
                Choice::Text(None | Some(None)) | Choice::Claim(None | Some((_, None)))
            );
            *at < 2 || *at == end || unnamed || keys(choice).iter().any(differs)
        };
        let (telling, others): (Vec<_>, Vec<_>) = axis.choices.iter().enumerate().partition(tells);
        let first = telling.len();
        Self {
            order: telling.into_iter().chain(others).map(|(at, _)| at).collect(),
            first,
            kept: axis.choices.len(),
            is_fresh: !(before.is_empty() && after.is_empty()),
            is_last: matches!(axis.about, About::Request | About::Caller | About::Time),
        }
    }

    fn stage(&self) -> Stage {
        match () {
            () if !self.is_last && !self.is_fresh && self.kept > self.first => Stage::Same,
            () if !self.is_last && self.kept > self.first => Stage::Fresh,
            () if !self.is_last && self.kept > 2 => Stage::Scarce,
            () if self.kept > 1 => Stage::Last,
            () => Stage::Done,
        }
    }
}

/// What is named there of the values of an axis.
fn named(mentions: &Mentions, about: &About) -> Vec<String> {
    match about {
        About::Request | About::Caller | About::Time => Vec::new(),
        About::Client => mentions.clients.clone(),
        About::Address => mentions.networks.iter().flatten().map(ToString::to_string).collect(),
        About::Header(name) => listed(&mentions.headers, name),
        About::Query(name) => listed(&mentions.query, name),
        About::Claim(path) => {
            let tests = mentions.claims.iter().filter(|(known, _)| known == path);
            let of = |(known, values): &(String, Vec<serde_json::Value>)| -> Vec<String> {
                [known.clone()]
                    .into_iter()
                    .chain(values.iter().map(ToString::to_string))
                    .collect()
            };
            tests.flat_map(of).collect()
        }
        About::Login => mentions.login_ages.iter().map(|age| format!("{age:?}")).collect(),
        About::Scopes => mentions
            .scopes
            .iter()
            .chain(mentions.required_scopes.iter().flatten())
            .cloned()
            .collect(),
        About::Roles => mentions.roles.clone(),
    }
}

fn listed<N: PartialEq>(all: &[(N, Vec<String>)], name: &N) -> Vec<String> {
    let of_name = all.iter().filter(|(known, _)| known == name);
    of_name.flat_map(|(_, values)| values).cloned().collect()
}

/// What it is named by.
fn keys(choice: &Choice) -> Vec<String> {
    match choice {
        Choice::Client(name, _) => vec![name.clone()],
        // The network stands first: `10.0.0.0/8 without 10.9.0.0/16`.
        Choice::Address(_, networks) => networks
            .iter()
            .filter_map(|words| words.split(' ').next())
            .map(str::to_owned)
            .collect(),
        Choice::Text(Some(Some(text))) => vec![text.clone()],
        Choice::Claim(Some((value, Some(_)))) => vec![value.to_string()],
        Choice::Login(Some(age), _) => vec![format!("{age:?}")],
        Choice::Names(names) => names.clone(),
        _ => Vec::new(),
    }
}
