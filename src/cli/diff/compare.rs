//! Trying every combination on both sides, and what comes out otherwise.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::axes::{self, About, Axis, Choice};
use super::boxes::{Cell, Found, Grid, Spanned, advance};
use super::shrink::shrink;
use super::sides::{self, Answered, Outcome, Refusal, Side, Token};
use super::times::{Period, Piece, Times};
use super::units::{Unit, Variant};
use super::words;
use crate::engine::Mentions;
use crate::policies::access::WindowRef;

/// So many combinations are tried of all requests.
const MAX_TOTAL: usize = 4_000_000;
/// So many lines are kept of one change of one route.
const MAX_LINES: usize = 12;

/// How an outcome changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Change {
    /// What was allowed is refused.
    Closed(Refusal),
    /// What was refused is allowed.
    Opened(Refusal),
    /// It is refused otherwise.
    Refused(Refusal, Refusal),
    /// It is allowed, and answered by somebody else.
    Answered(Answered, Answered),
}

/// What becomes of the requests of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Class {
    /// They are refused as before.
    Idle(Refusal),
    /// They are allowed and answered as before.
    Same,
    Changed(Change),
}

/// One change, for whom and when.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub change: Change,
    /// The route, by its name in the second configuration where it is there.
    pub route: Arc<str>,
    pub requests: Vec<String>,
    pub who: String,
    /// Empty for always.
    pub when: String,
    /// Empty for always.
    pub pieces: Vec<Piece>,
    pub zone: TimeZone,
    /// Rules that were left out, which may refuse some of them.
    pub left_out: Vec<Arc<str>>,
}

/// Compares routes, one after the other.
pub(super) struct Comparer<'a> {
    pub sides: [Side<'a>; 2],
    period: Period,
    zone: TimeZone,
    known_times: HashMap<Vec<Arc<str>>, Arc<Times>>,
    /// Whether callers and clients are told in the same way.
    is_told_alike: bool,
    tried: usize,
    pub lines: Vec<Line>,
    /// Requests that another route takes, with both names.
    pub renamed: Vec<(Arc<str>, Arc<str>)>,
    /// What was not tried.
    pub cut: Vec<String>,
}

impl<'a> Comparer<'a> {
    /// `zone` is that of times where no window is concerned.
    pub fn new(sides: [Side<'a>; 2], period: Period, zone: TimeZone) -> Self {
        let [now, next] = [sides[0].snapshot, sides[1].snapshot];
        Self {
            sides,
            period,
            zone,
            known_times: HashMap::new(),
            is_told_alike: sides::is_told_alike(now, next),
            tried: 0,
            lines: Vec::new(),
            renamed: Vec::new(),
            cut: Vec::new(),
        }
    }

    /// Compares what becomes of the requests of one route.
    pub fn compare(&mut self, unit: Unit) -> anyhow::Result<()> {
        if unit.variants.is_empty() {
            return Ok(());
        }
        let mut cut = Vec::new();
        let left_out = self.left_out(&unit.variants)?;
        let Some((axes, times)) = self.axes(unit.variants, &mut cut)? else {
            return Ok(());
        };
        if times.is_cut {
            cut.push("a window changes too often to look at all its changes".to_owned());
        }
        let said = cut.into_iter().map(|cut| format!("route `{}`: {cut}", unit.name));
        self.cut.extend(said);
        let sizes: Vec<usize> = axes.iter().map(|axis| axis.choices.len()).collect();
        let count = sizes.iter().product::<usize>();
        if self.tried + count > MAX_TOTAL {
            self.cut.push(format!(
                "route `{}`: not compared, as there were too many combinations",
                unit.name
            ));
            return Ok(());
        }
        self.tried += count;
        let mut classes: Vec<Class> = Vec::new();
        let mut names = HashMap::new();
        let cells = self.cells(&axes, &sizes, &mut classes, &mut names)?;
        let grid = Grid { sizes, cells };
        let class = |cell: u32| {
            usize::try_from(cell)
                .ok()
                .and_then(|at| classes.get(at))
                .unwrap_or(&Class::Same)
        };
        for (own, change) in (0..).zip(&classes) {
            let Class::Changed(change) = change else { continue };
            if change.goes_without_saying(&classes) {
                continue;
            }
            let among = change.among(&grid, class);
            let boxes = grid.boxes(&among, |cell| match (cell == own, class(cell)) {
                (true, _) => Cell::Wanted,
                (false, class) if change.is_free(class) => Cell::Free,
                _ => Cell::Not,
            });
            if let Some(rest) = boxes.len().checked_sub(MAX_LINES).filter(|rest| *rest > 0) {
                self.cut.push(format!(
                    "route `{}`: {rest} more combinations are {}",
                    unit.name,
                    change.words()
                ));
            }
            // Times are the last axis; those at which nothing is allowed make no difference.
            let on = among.last().map_or(&[][..], Vec::as_slice);
            let off = |state: &usize| !on.contains(state);
            let off: Vec<usize> = (0..times.states.len()).filter(off).collect();
            for Found { spanned, free } in boxes.iter().take(MAX_LINES) {
                let states = spanned.last().map_or(&[][..], Vec::as_slice);
                let request = spanned.first().and_then(|requests| requests.first());
                let route = request.and_then(|request| names.get(request)).unwrap_or(&unit.name);
                let free: Vec<usize> = free.iter().chain(&off).copied().collect();
                let (when, pieces) = times.say(states, &free);
                self.lines.push(Line {
                    change: change.clone(),
                    route: route.clone(),
                    requests: words::requests(&axes, spanned),
                    who: words::who(&axes, spanned, &among),
                    when,
                    pieces,
                    zone: times.zone.clone(),
                    left_out: left_out.clone(),
                });
            }
        }
        Ok(())
    }

    /// The rules that are left out where the requests go.
    fn left_out(&self, variants: &[Variant]) -> anyhow::Result<Vec<Arc<str>>> {
        let mut names = Vec::new();
        for variant in variants {
            let asked = variant.asked()?;
            let taken = self.sides.iter().filter_map(|side| side.taken(&asked));
            names.extend(taken.flat_map(|(_, known)| known.left_out()).cloned());
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What may vary about the requests, and the times; nothing where they come to the same rules on both sides, whoever sends
    /// them.
    fn axes(
        &mut self,
        variants: Vec<Variant>,
        cut: &mut Vec<String>,
    ) -> anyhow::Result<Option<(Vec<Axis>, Arc<Times>)>> {
        let mut mentions: Vec<&Mentions> = Vec::new();
        let mut tokens: Vec<Token> = Vec::new();
        let mut taken = Vec::with_capacity(variants.len());
        for variant in &variants {
            let mut asked = variant.asked()?;
            asked.hold(serde_json::Map::from_iter([("sub".to_owned(), "any".into())]))?;
            for side in &self.sides {
                for token in side.tokens(&asked) {
                    if !tokens.iter().any(|known| known.is_like(&token)) {
                        tokens.push(token);
                    }
                }
                let known = side.taken(&asked).map(|(_, known)| &known.mentions);
                if let Some(known) = known.filter(|known| !mentions.iter().any(|seen| std::ptr::eq(*seen, *known))) {
                    mentions.push(known);
                }
            }
            taken.push(self.sides.each_ref().map(|side| side.taken(&asked)));
        }
        let mut windows: Vec<Arc<str>> = mentions.iter().flat_map(|one| one.windows.iter().cloned()).collect();
        windows.sort();
        windows.dedup();
        let times = match self.known_times.get(&windows) {
            Some(known) => known.clone(),
            None => {
                let named = |side: &'_ Side<'a>| -> Vec<&'a WindowRef> {
                    let all = side.snapshot.calendars.windows();
                    all.filter(|window| windows.contains(window.name())).collect()
                };
                let found: Vec<&WindowRef> = self.sides.iter().rev().flat_map(named).collect();
                let times = Arc::new(Times::new(&found, &self.period, &self.zone));
                self.known_times.insert(windows, times.clone());
                times
            }
        };
        let differing = times.differing.as_slice();
        let mut is_same = self.is_told_alike;
        let mut fresh = [Mentions::default(), Mentions::default()];
        for pair in &taken {
            let [Some((_, was)), Some((_, is))] = pair else {
                is_same = false;
                continue;
            };
            is_same &= was.is_like(is, differing);
            let [before, after] = &mut fresh;
            was.apart(is, differing)
                .for_each(|rule| sides::add(before, rule.mentions.clone()));
            is.apart(was, differing)
                .for_each(|rule| sides::add(after, rule.mentions.clone()));
        }
        if is_same {
            let names = taken
                .iter()
                .filter_map(|[was, is]| Some(((*was)?.0.clone(), (*is)?.0.clone())));
            let moved: Vec<_> = names.filter(|(from, to)| from != to).collect();
            moved.into_iter().for_each(|pair| self.note_renamed(pair));
            return Ok(None);
        }
        let clients = [&self.sides[0].snapshot.clients, &self.sides[1].snapshot.clients];
        let mut axes = axes::axes(variants, tokens, &mentions, clients, cut);
        axes.push(Axis {
            about: About::Time,
            choices: times.instants().into_iter().map(Choice::Time).collect(),
        });
        shrink(&mut axes, &fresh, cut);
        Ok(Some((axes, times)))
    }

    /// The class of each cell, by its place in `classes`. The routes that requests take are added to `names`.
    fn cells(
        &mut self,
        axes: &[Axis],
        sizes: &[usize],
        classes: &mut Vec<Class>,
        names: &mut HashMap<usize, Arc<str>>,
    ) -> anyhow::Result<Vec<u32>> {
        let mut cells: Vec<u32> = Vec::with_capacity(sizes.iter().product());
        let mut known: HashMap<Class, u32> = HashMap::new();
        let mut at = vec![0_usize; sizes.len()];
        loop {
            let choices = || {
                axes.iter()
                    .zip(&at)
                    .filter_map(|(axis, at)| Some((&axis.about, axis.choices.get(*at)?)))
            };
            // Nobody knows what an anonymous caller holds.
            let is_anonymous = choices().any(|(_, choice)| matches!(choice, Choice::Anonymous));
            let without: Vec<usize> = axes
                .iter()
                .zip(&at)
                .map(|(axis, at)| {
                    if is_anonymous && axis.about.is_of_caller() {
                        0
                    } else {
                        *at
                    }
                })
                .collect();
            let class = if without != at {
                let index = without
                    .iter()
                    .zip(sizes)
                    .fold(0, |index, (value, size)| index * size + value);
                cells.get(index).copied().unwrap_or(0)
            } else {
                let (class, route) = self.cell(choices)?;
                // Requests are the first axis.
                if let (Some(request), Some(route)) = (at.first(), route) {
                    names.entry(*request).or_insert(route);
                }
                *known.entry(class).or_insert_with_key(|class| {
                    classes.push(class.clone());
                    u32::try_from(classes.len() - 1).unwrap_or(u32::MAX)
                })
            };
            cells.push(class);
            if !advance(&mut at, sizes) {
                return Ok(cells);
            }
        }
    }

    /// The class of one cell, and the route that its requests take: that of the second configuration, where there is one.
    fn cell<'c, I: Iterator<Item = (&'c About, &'c Choice)>>(
        &mut self,
        choices: impl Fn() -> I,
    ) -> anyhow::Result<(Class, Option<Arc<str>>)> {
        let token = choices().find_map(|(_, choice)| match choice {
            Choice::Token(token) => Some(token.clone()),
            _ => None,
        });
        let of = |side: &Side<'a>| {
            let mut asked = axes::asked(choices())?;
            asked.strip(side.snapshot);
            if token.as_ref().is_some_and(|token| !side.looks_for(&asked, token)) {
                asked.forget();
            }
            side.outcome(&asked, token.as_ref().map(|token| &*token.issuer))
        };
        let [now, next] = &self.sides;
        let ((from, before), (to, after)) = (of(now)?, of(next)?);
        if let (Some(from), Some(to)) = (&from, &to)
            && from != to
        {
            self.note_renamed((from.clone(), to.clone()));
        }
        let class = match (before, after) {
            (Outcome::Allowed(before), Outcome::Allowed(after)) if before == after => Class::Same,
            (Outcome::Refused(before), Outcome::Refused(after)) if before == after => Class::Idle(before),
            (Outcome::Allowed(before), Outcome::Allowed(after)) => Class::Changed(Change::Answered(before, after)),
            (Outcome::Refused(before), Outcome::Refused(after)) => Class::Changed(Change::Refused(before, after)),
            (Outcome::Allowed(_), Outcome::Refused(after)) => Class::Changed(Change::Closed(after)),
            (Outcome::Refused(before), Outcome::Allowed(_)) => Class::Changed(Change::Opened(before)),
        };
        Ok((class, to.or(from)))
    }

    fn note_renamed(&mut self, pair: (Arc<str>, Arc<str>)) {
        if !self.renamed.contains(&pair) {
            self.renamed.push(pair);
        }
    }
}

impl Class {
    /// Whether something is allowed, before or after.
    fn allows(&self) -> bool {
        match self {
            Self::Idle(_) => false,
            Self::Same => true,
            Self::Changed(change) => !matches!(change, Change::Refused(..)),
        }
    }
}

impl Change {
    /// Where a route came or went, it refuses others than those whom that is told of. And what closes or opens does so, too,
    /// for those who have to log in again first.
    fn goes_without_saying(&self, classes: &[Class]) -> bool {
        let Self::Refused(before, after) = self else {
            return false;
        };
        let closes = |class: &Class| matches!(class, Class::Changed(Self::Closed(refusal)) if refusal == after);
        let opens = |class: &Class| matches!(class, Class::Changed(Self::Opened(refusal)) if refusal == before);
        let (closes, opens) = (classes.iter().any(closes), classes.iter().any(opens));
        let no_route = |refusal: &Refusal| refusal.policy.is_none();
        let may_log_in = |refusal: &Refusal| refusal.effect == "challenge";
        (no_route(before) || no_route(after)) && (closes || opens)
            || may_log_in(before) && closes
            || may_log_in(after) && opens
    }

    /// The values that the change is told apart among. Who has nothing to lose goes without saying, but not who gains.
    fn among<'c>(&self, grid: &Grid, class: impl Fn(u32) -> &'c Class) -> Spanned {
        let busy = |idle: fn(&Class) -> bool| grid.busy(|cell| idle(class(cell)));
        let mut among = match self {
            Self::Closed(_) | Self::Answered(..) => busy(|class| !class.allows()),
            Self::Refused(..) => return busy(|class| matches!(class, Class::Idle(_))),
            Self::Opened(_) => busy(|_| false),
        };
        if let (Some(times), Some(last)) = (busy(|class| !class.allows()).pop(), among.last_mut()) {
            *last = times;
        }
        among
    }

    /// Whether cells of that class may be told of together with this change, which says nothing wrong of them.
    fn is_free(&self, class: &Class) -> bool {
        match (self, class) {
            (Self::Closed(after), Class::Idle(refusal)) => refusal != after,
            (Self::Answered(..), Class::Idle(_)) => true,
            (Self::Closed(_) | Self::Answered(..), Class::Changed(Self::Refused(..))) => true,
            _ => false,
        }
    }

    /// `now denied 403 TRANSFER_CLOSED (no-night-transfer)`.
    pub fn words(&self) -> String {
        match self {
            Self::Closed(after) => format!("now {}", after.words()),
            Self::Opened(before) => format!("now allowed, was {}", before.words()),
            Self::Refused(before, after) => format!("now {}, was {}", after.words(), before.words()),
            Self::Answered(before, after) if before.by == after.by => format!("now answered by another {}", after.by),
            Self::Answered(before, after) => format!("now answered by {}, was {}", after.by, before.by),
        }
    }
}

impl Refusal {
    fn words(&self) -> String {
        let verb = match self.effect {
            "challenge" => "challenged",
            "throttle" => "throttled",
            _ => "denied",
        };
        let policy = self
            .policy
            .as_ref()
            .map(|policy| format!(" ({policy})"))
            .unwrap_or_default();
        format!("{verb} {} {}{policy}", self.status, self.code)
    }
}
