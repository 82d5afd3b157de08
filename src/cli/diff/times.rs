//! The time axis: between which instants no window of either configuration changes, and saying so in few words.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

use crate::engine::Truth;
use crate::policies::access::{WindowRef, midnight};

/// So many dates are written out.
const SHOWN: usize = 4;
/// Begins an exception of what stands before it.
const NOT_ON: &str = "not on ";
/// More changes of a window than that within the looked-at days are not looked at.
const MAX_CHANGES: usize = 20_000;

/// From, and until before.
pub(super) type Piece = (Timestamp, Timestamp);

/// The days that are looked at.
#[derive(Debug, Clone)]
pub(super) struct Period {
    pub first: Date,
    pub days: u16,
}

/// All instants that are looked at, those together at which every window is in the same state.
#[derive(Debug)]
pub(super) struct Times {
    pub zone: TimeZone,
    /// For each state of all windows the pieces of time it holds in, one day to each side of what is asked included.
    pub states: Vec<Vec<Piece>>,
    /// The asked days, then others on which something special happens.
    core: Vec<Piece>,
    horizon: Vec<Date>,
    /// Whether a window changes more often than could be looked at.
    pub is_cut: bool,
    /// Windows of which there are two of one name, not always open together.
    pub differing: Vec<Arc<str>>,
}

impl Times {
    /// The times at which something follows `windows`, which are those of both configurations.
    pub fn new(windows: &[&WindowRef], period: &Period, otherwise: &TimeZone) -> Self {
        let zone = windows.first().map_or(otherwise, |window| window.zone()).clone();
        let after = |date: Date, days: i32| date.saturating_add(Span::new().days(days));
        let end = after(period.first, i32::from(period.days));
        let horizon: Vec<Date> = (0..i32::from(period.days))
            .map(|day| after(period.first, day))
            .collect();
        let mut days = vec![(period.first, end)];
        // What begins on a day may reach into the next, and what ends on it may have begun on the one before.
        let special = windows.iter().flat_map(|window| window.special_days(end, Date::MAX));
        days.extend(special.map(|day| (day.yesterday().unwrap_or(day), after(day, 2))));
        let core = joined(
            days.iter()
                .map(|(from, to)| (midnight(&zone, *from), midnight(&zone, *to)))
                .collect(),
        );
        let wide = |(from, to): &Piece| {
            let day = 24.hours();
            (
                from.saturating_sub(day).unwrap_or(*from),
                to.saturating_add(day).unwrap_or(*to),
            )
        };
        let mut times = Self {
            zone,
            states: Vec::new(),
            horizon,
            is_cut: false,
            differing: Vec::new(),
            core,
        };
        let wide = joined(times.core.iter().map(wide).collect());
        let mut known: HashMap<Vec<Truth>, Vec<Piece>> = HashMap::new();
        let mut order = Vec::new();
        for (from, to) in wide {
            let mut edges: Vec<Timestamp> = vec![from];
            for window in windows {
                let changes = std::iter::successors(window.next_change(from), |at| window.next_change(*at));
                let before = edges.len();
                edges.extend(changes.take_while(|at| *at < to).take(MAX_CHANGES));
                times.is_cut |= edges.len() - before == MAX_CHANGES;
            }
            edges.sort_unstable();
            edges.dedup();
            let ends = edges.iter().skip(1).copied().chain([to]);
            for (from, to) in edges.iter().copied().zip(ends) {
                let state: Vec<Truth> = windows.iter().map(|window| window.state(from)).collect();
                let pieces = known.entry(state.clone()).or_insert_with(|| {
                    order.push(state);
                    Vec::new()
                });
                pieces.push((from, to));
            }
        }
        for (at, window) in windows.iter().enumerate() {
            let twins = windows
                .iter()
                .enumerate()
                .skip(at + 1)
                .filter(|(_, twin)| twin.name() == window.name());
            for (twin, _) in twins {
                if order.iter().any(|state| state.get(at) != state.get(twin)) {
                    times.differing.push(window.name().clone());
                }
            }
        }
        let mut states: Vec<Vec<Piece>> = order.iter().filter_map(|state| known.remove(state)).collect();
        states.retain(|pieces| pieces.iter().any(|piece| times.is_asked(piece)));
        times.states = states;
        times
    }

    /// An instant of each state, one of the asked ones.
    pub fn instants(&self) -> Vec<Timestamp> {
        let asked = |pieces: &Vec<Piece>| {
            let overlap = |piece: &Piece| {
                let core = self.core.iter().find(|core| overlaps(core, piece))?;
                Some(piece.0.max(core.0))
            };
            pieces.iter().find_map(overlap)
        };
        self.states.iter().filter_map(asked).collect()
    }

    /// When `states` hold, in words and in pieces; empty where that is always. Words may take the `free` states in, which make
    /// no difference, where that makes them simpler.
    pub fn say(&self, states: &[usize], free: &[usize]) -> (String, Vec<Piece>) {
        let exact = self.pieces(states);
        let both: Vec<usize> = states.iter().chain(free).copied().collect();
        let wide = self.pieces(&both);
        let covers = |core: &Piece| wide.iter().any(|piece| piece.0 <= core.0 && core.1 <= piece.1);
        if self.core.iter().all(covers) {
            return (String::new(), Vec::new());
        }
        let others: Vec<usize> = (0..self.states.len()).filter(|state| !both.contains(state)).collect();
        let tried = [
            ("", exact.as_slice()),
            ("", &wide),
            ("at all times but ", &self.pieces(&others)),
        ];
        let tried = tried.map(|(but, pieces)| (but, self.words(pieces)));
        let Some((but, words)) = tried.into_iter().min_by_key(|(_, words)| words.len()) else {
            return (String::new(), exact);
        };
        let mut text = but.to_owned();
        for (at, part) in words.iter().take(SHOWN).enumerate() {
            let joint = match (at, part.starts_with(NOT_ON)) {
                (0, _) => "",
                (_, true) => ", ",
                (_, false) => "; ",
            };
            text.push_str(&format!("{joint}{part}"));
        }
        if let Some(rest) = words.len().checked_sub(SHOWN).filter(|rest| *rest > 0) {
            text.push_str(&format!("; and at {rest} other times"));
        }
        (text, exact)
    }

    /// The pieces of time of some of the states, merged; those that have no part in what is asked are left out.
    fn pieces(&self, states: &[usize]) -> Vec<Piece> {
        let chosen = states.iter().filter_map(|state| self.states.get(*state)).flatten();
        let mut pieces = joined(chosen.copied().collect());
        pieces.retain(|piece| self.is_asked(piece));
        pieces
    }

    /// `daily 22:00–23:30`, `mon–fri 09:00–15:30`, or dates.
    fn words(&self, pieces: &[Piece]) -> Vec<String> {
        let mut hours: Vec<(Hours, Vec<Date>)> = Vec::new();
        let mut long = Vec::new();
        for piece in pieces {
            match Hours::of(piece, &self.zone) {
                Some((own, date)) => match hours.iter_mut().find(|(known, _)| *known == own) {
                    Some((_, dates)) => dates.push(date),
                    None => hours.push((own, vec![date])),
                },
                None => long.push(self.long(piece)),
            }
        }
        let mut words: Vec<String> = hours.iter().flat_map(|(own, dates)| self.regular(own, dates)).collect();
        words.extend(long);
        words
    }

    fn regular(&self, hours: &Hours, dates: &[Date]) -> Vec<String> {
        let on = |want: fn(Weekday) -> bool| {
            let wanted = self.horizon.iter().filter(|date| want(date.weekday()));
            let mut all = wanted.clone().all(|date| dates.contains(date)) && wanted.count() > 1;
            all &= dates
                .iter()
                .filter(|date| self.horizon.contains(date))
                .all(|date| want(date.weekday()));
            all
        };
        let whole_weeks = self.horizon.len() >= 7;
        let is_weekend = |day| matches!(day, Weekday::Saturday | Weekday::Sunday);
        let (word, holds): (&str, fn(Weekday) -> bool) = if on(|_| true) {
            ("daily", |_| true)
        } else if whole_weeks && on(|day| !matches!(day, Weekday::Saturday | Weekday::Sunday)) {
            ("mon–fri", |day| !matches!(day, Weekday::Saturday | Weekday::Sunday))
        } else if whole_weeks && on(is_weekend) {
            ("sat–sun", |day| matches!(day, Weekday::Saturday | Weekday::Sunday))
        } else {
            return vec![format!("{hours} on {}", dated(dates))];
        };
        let mut words = vec![format!("{word} {hours}")];
        // Besides the asked days only some are looked at, those on which something special happens.
        let looked_at = self.core.iter().skip(1).flat_map(|core| self.days(core));
        let missing: Vec<Date> = looked_at
            .filter(|date| holds(date.weekday()) && !dates.contains(date))
            .collect();
        if !missing.is_empty() {
            words.push(format!("{NOT_ON}{}", dated(&missing)));
        }
        let odd: Vec<Date> = dates.iter().copied().filter(|date| !holds(date.weekday())).collect();
        if !odd.is_empty() {
            words.push(format!("{hours} on {}", dated(&odd)));
        }
        words
    }

    /// The days that lie wholly within a piece.
    fn days(&self, piece: &Piece) -> impl Iterator<Item = Date> {
        let first = piece.0.to_zoned_datetime(self.zone.clone()).date();
        let end = piece.1.to_zoned_datetime(self.zone.clone()).date();
        std::iter::successors(Some(first), |date| date.tomorrow().ok()).take_while(move |date| *date < end)
    }

    /// A piece of a day or more. What reaches the edge of what is looked at may go on beyond it.
    fn long(&self, (from, to): &Piece) -> String {
        let clock = |at: Timestamp, format: &str| at.to_zoned_datetime(self.zone.clone()).strftime(format).to_string();
        let core = self.core.iter().find(|core| overlaps(core, &(*from, *to)));
        let (first, end) = core.copied().unwrap_or((*from, *to));
        let begins = *from > first - 24.hours();
        let ends = *to < end + 24.hours();
        const INSTANT: &str = "%a %Y-%m-%d %H:%M";
        match (begins, ends) {
            (true, true) => format!("{} to {}", clock(*from, INSTANT), clock(*to, INSTANT)),
            (true, false) => format!("from {}", clock(*from, INSTANT)),
            (false, true) => format!("until {}", clock(*to, INSTANT)),
            (false, false) => {
                let last = end - 1.seconds();
                format!(
                    "from {} through {}",
                    clock(first, "%a %Y-%m-%d"),
                    clock(last, "%a %Y-%m-%d")
                )
            }
        }
    }

    fn is_asked(&self, piece: &Piece) -> bool {
        self.core.iter().any(|core| overlaps(core, piece))
    }
}

fn overlaps(one: &Piece, other: &Piece) -> bool {
    one.0.max(other.0) < one.1.min(other.1)
}

/// Sorted, and those that touch in one.
fn joined(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_unstable();
    let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
    for (from, to) in pieces {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// Less than a day of wall-clock time, by its beginning and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hours(String);

impl Hours {
    fn of((from, to): &Piece, zone: &TimeZone) -> Option<(Self, Date)> {
        let (from, to) = (from.to_zoned_datetime(zone.clone()), to.to_zoned_datetime(zone.clone()));
        let next = from.date().tomorrow().ok();
        let is_midnight = to.time() == jiff::civil::Time::midnight();
        let end = match () {
            () if to.date() == from.date() => to.strftime("%H:%M").to_string(),
            () if Some(to.date()) == next && is_midnight => "24:00".to_owned(),
            () if Some(to.date()) == next && to.time() <= from.time() => to.strftime("%H:%M").to_string(),
            () => return None,
        };
        Some((Self(format!("{}–{end}", from.strftime("%H:%M"))), from.date()))
    }
}

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_str() {
            "00:00–24:00" => f.write_str("all day"),
            hours => f.write_str(hours),
        }
    }
}

fn dated(dates: &[Date]) -> String {
    let shown: Vec<String> = dates
        .iter()
        .take(SHOWN)
        .map(|date| date.strftime("%a %Y-%m-%d").to_string())
        .collect();
    let rest = dates.len().saturating_sub(SHOWN);
    match rest {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}
