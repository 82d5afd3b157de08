//! A window: when it is open, when that changes next, and why.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::civil::{self, Edge, Hours, Moment};
use super::days::Days;
use super::holidays::Holidays;
use super::intervals::Intervals;
use crate::engine::Truth;

const DAY: i64 = 86_400;

/// A named window of a calendar; cheap to clone.
#[derive(Debug, Clone)]
pub struct WindowRef(Arc<Window>);

struct Window {
    name: Arc<str>,
    schedule: Schedule,
    intervals: Intervals,
}

/// By its name, as what it stands for may be long.
impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A stretch of time in which a window is open, or in which nobody can say whether it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Its first instant.
    pub opens: Timestamp,
    /// The first instant after it; `None` where it never ends.
    pub closes: Option<Timestamp>,
    /// True or unknown.
    pub state: Truth,
}

impl WindowRef {
    /// Compiles `schedule` to intervals around `now`; instants far from there are judged too, only slower.
    pub(super) fn new(name: &str, schedule: Schedule, now: Timestamp) -> Self {
        let intervals = Intervals::around(&schedule, civil::second(now));
        Self(Arc::new(Window {
            name: name.into(),
            schedule,
            intervals,
        }))
    }

    /// `calendar.window`.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The zone of its calendar.
    pub fn zone(&self) -> &TimeZone {
        &self.0.schedule.zone
    }

    /// Whether the window is open; unknown where its holidays are.
    pub fn state(&self, at: Timestamp) -> Truth {
        let second = civil::second(at);
        match self.0.intervals.state(second) {
            Some(state) => state,
            None => self.0.schedule.state(second),
        }
    }

    /// The next instant after `at` at which the state is another; `None` where it stays as it is for good.
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        let second = civil::second(at);
        let next = match self.0.intervals.next_change(second) {
            Some(next) => next,
            None => self.0.schedule.next_change(second),
        };
        Timestamp::from_second(next?).ok()
    }

    /// The stretches in which the window is not closed, overlapping and touching ones merged, beginning with the one that
    /// holds `from` (cut there).
    pub fn openings(&self, from: Timestamp) -> impl Iterator<Item = Opening> + '_ {
        let mut next = Some(from);
        std::iter::from_fn(move || {
            loop {
                let opens = next?;
                let state = self.state(opens);
                next = self.next_change(opens);
                if state != Truth::False {
                    return Some(Opening {
                        opens,
                        closes: next,
                        state,
                    });
                }
            }
        })
    }

    /// Days from `from` to `until` on which the window may be otherwise than its weekdays say: those it names by date or by
    /// their place in the month, the ends of its spans, its holidays, and the first days on which those are not known.
    pub fn special_days(&self, from: Date, until: Date) -> Vec<Date> {
        let schedule = &self.0.schedule;
        let mut days: Vec<Date> = schedule.spans.iter().flat_map(Span::days).collect();
        let mut holidays = None;
        for recurring in &schedule.recurring {
            for named in [Some(&recurring.days), recurring.except.as_ref()].into_iter().flatten() {
                named.add_special(from, until, &mut days);
                holidays = holidays.or(named.names_holidays().and(schedule.holidays.as_ref()));
            }
        }
        days.extend(holidays.iter().flat_map(|holidays| holidays.days()));
        days.retain(|day| (from..=until).contains(day));
        days.sort_unstable();
        days.dedup();
        days
    }

    /// Why the window is open or closed at `at`, and until when.
    pub fn describe(&self, at: Timestamp) -> String {
        let schedule = &self.0.schedule;
        let second = civil::second(at);
        let next = self.next_change(at);
        let shown = next.map(|next| civil::show(next, &schedule.zone));
        match (self.state(at), shown) {
            (Truth::True, until) => {
                let mut why = schedule.covering(second).join(", ");
                if let Some(until) = until {
                    why.push_str(&format!(", until {until}"));
                }
                why
            }
            (Truth::Unknown, _) => match &schedule.holidays {
                Some(holidays) => format!("holidays are known through {}", holidays.through),
                None => "holidays are not known".into(),
            },
            (Truth::False, opens) => {
                let mut why = match schedule.exempting(second) {
                    Some(holiday) => format!("not on {holiday}, "),
                    None => String::new(),
                };
                why.push_str(&match (opens, next.map(|next| self.state(next))) {
                    (None, _) => "does not open again".to_owned(),
                    (Some(opens), Some(Truth::True)) => format!("opens {opens}"),
                    (Some(opens), _) => format!("not known from {opens} on"),
                });
                why
            }
        }
    }
}

/// When a window is open, as written.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The zone of all wall-clock times.
    pub zone: TimeZone,
    /// The calendar's holidays.
    pub holidays: Option<Arc<Holidays>>,
    /// What recurs.
    pub recurring: Vec<Recurring>,
    /// What happens once.
    pub spans: Vec<Span>,
}

/// Hours on certain days. They belong to the day they begin on.
#[derive(Debug)]
pub(super) struct Recurring {
    /// The days.
    pub days: Days,
    /// The hours that begin on them.
    pub hours: Hours,
    /// Days taken out.
    pub except: Option<Days>,
}

/// From one wall-clock instant to another, the end excluded.
#[derive(Debug)]
pub(super) struct Span {
    from: Moment,
    to: Moment,
    opens: i64,
    closes: i64,
}

impl Span {
    /// The span on the clock of `zone`.
    pub fn new(from: Moment, to: Moment, zone: &TimeZone) -> Self {
        Self {
            opens: civil::instant(zone, from.0, Edge::Start),
            closes: civil::instant(zone, to.0, Edge::End),
            from,
            to,
        }
    }

    fn days(&self) -> [Date; 2] {
        [self.from.0.date(), self.to.0.date()]
    }
}

impl Recurring {
    fn begins_on(&self, date: Date, holidays: Option<&Holidays>) -> Truth {
        let days = self.days.include(date, holidays);
        match &self.except {
            Some(except) if days != Truth::False => days.and(!except.include(date, holidays)),
            _ => days,
        }
    }
}

impl Schedule {
    /// The state at `second`, computed from the days around it.
    pub fn state(&self, second: i64) -> Truth {
        let changes = self.changes(second, second.saturating_add(1));
        changes.first().map_or(Truth::False, |(_, state)| *state)
    }

    /// The next change after `second`, searched day by day.
    pub fn next_change(&self, second: i64) -> Option<i64> {
        // Every combination of weekday and ordinal comes up within 400 days; once all that is dated lies behind, a
        // schedule that did not change for so long never will.
        const SETTLES: i64 = 400 * DAY;
        const STEP: i64 = 32 * DAY;
        let mut state = None;
        let mut from = second;
        let horizon = second.max(self.last_dated()).saturating_add(SETTLES);
        while from < horizon {
            let to = from.saturating_add(STEP);
            for (at, next) in self.changes(from, to) {
                if *state.get_or_insert(next) != next {
                    return Some(at);
                }
            }
            from = to;
        }
        None
    }

    /// The state at `from`, then every change before `to`.
    pub fn changes(&self, from: i64, to: i64) -> Vec<(i64, Truth)> {
        let mut edges: Vec<(i64, Truth, i32)> = Vec::new();
        self.visit(from, to, |opens, closes, truth| {
            edges.push((opens.max(from), truth, 1));
            edges.push((closes, truth, -1));
        });
        edges.sort_unstable_by_key(|(at, ..)| *at);
        let (mut open, mut unknown) = (0, 0);
        let mut changes = vec![(from, Truth::False)];
        for together in edges.chunk_by(|a, b| a.0 == b.0) {
            let mut at = from;
            for (edge, truth, step) in together {
                at = *edge;
                *if *truth == Truth::True { &mut open } else { &mut unknown } += step;
            }
            if at >= to {
                break;
            }
            let state = match (open, unknown) {
                (0, 0) => Truth::False,
                (0, _) => Truth::Unknown,
                _ => Truth::True,
            };
            match changes.last_mut() {
                Some((last, before)) if *last == at => *before = state,
                Some((_, before)) if *before == state => {}
                _ => changes.push((at, state)),
            }
        }
        changes
    }

    /// What is open at `second`, in words.
    fn covering(&self, second: i64) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |entry: String| {
            if !words.contains(&entry) {
                words.push(entry);
            }
        };
        for recurring in &self.recurring {
            let begins = |date| recurring.begins_on(date, self.holidays.as_deref());
            let hours = recurring.hours;
            self.visit_hours(hours, second, second.saturating_add(1), begins, |_, _, truth, _| {
                if truth == Truth::True {
                    add(hours.to_string());
                }
            });
        }
        for span in &self.spans {
            if (span.opens..span.closes).contains(&second) {
                add(format!("{}–{}", span.from, span.to));
            }
        }
        words
    }

    /// The holiday without which the window would be open at `second`.
    fn exempting(&self, second: i64) -> Option<&str> {
        let holidays = self.holidays.as_deref()?;
        let mut found = None;
        for recurring in &self.recurring {
            let except = recurring.except.as_ref();
            if except.and_then(Days::names_holidays).is_none() {
                continue;
            }
            let days = |date| recurring.days.include(date, Some(holidays));
            let until = second.saturating_add(1);
            self.visit_hours(recurring.hours, second, until, days, |_, _, truth, date| {
                if truth == Truth::True {
                    found = found.or(holidays.name(date));
                }
            });
        }
        found
    }

    /// Visits every stretch that may be open and has a part in `from..to`.
    fn visit(&self, from: i64, to: i64, mut each: impl FnMut(i64, i64, Truth)) {
        for span in &self.spans {
            if span.opens.max(from) < span.closes.min(to) {
                each(span.opens, span.closes, Truth::True);
            }
        }
        for recurring in &self.recurring {
            let begins = |date| recurring.begins_on(date, self.holidays.as_deref());
            self.visit_hours(recurring.hours, from, to, begins, |opens, closes, truth, _| {
                each(opens, closes, truth);
            });
        }
    }

    /// Visits `hours` on each day that they may begin on and of which they have a part in `from..to`.
    fn visit_hours(
        &self,
        hours: Hours,
        from: i64,
        to: i64,
        begins: impl Fn(Date) -> Truth,
        mut each: impl FnMut(i64, i64, Truth, Date),
    ) {
        // Hours reach into the next day, and a zone may skip or repeat a whole day: three days before and two after
        // hold every stretch that touches the range.
        let mut date = civil::date_at(&self.zone, from.saturating_sub(3 * DAY));
        let last = civil::date_at(&self.zone, to.saturating_add(2 * DAY));
        loop {
            let truth = begins(date);
            if truth != Truth::False {
                let (opens, closes) = hours.on(date, &self.zone);
                if opens.max(from) < closes.min(to) {
                    each(opens, closes, truth, date);
                }
            }
            match date.tomorrow() {
                Ok(next) if next <= last => date = next,
                _ => break,
            }
        }
    }

    /// A second by which all that is dated lies behind.
    fn last_dated(&self) -> i64 {
        let days = |recurring: &Recurring| {
            let except = recurring.except.as_ref();
            recurring.days.last_date().max(except.and_then(Days::last_date))
        };
        let dates = self.recurring.iter().filter_map(days);
        let through = self.holidays.iter().map(|holidays| holidays.through);
        let dates = dates.chain(through).map(|date| {
            let midnight = civil::instant(&self.zone, date.to_datetime(jiff::civil::Time::midnight()), Edge::End);
            midnight.saturating_add(3 * DAY)
        });
        let spans = self.spans.iter().map(|span| span.closes);
        dates.chain(spans).max().unwrap_or(i64::MIN)
    }
}
