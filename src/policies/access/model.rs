//! Windows against a slow model: look at the clock minute by minute, and believe nothing but what it shows.
//!
//! `GWANMUN_CALENDAR_CASES` sets how many cases of two weeks are tried, and one in fifty of them over years.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::{Calendars, WindowRef};
use crate::conf::{Load, Named, Read};
use crate::engine::Truth;

const ZONES: [&str; 13] = [
    "Asia/Seoul",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe", // half an hour
    "America/Sao_Paulo",   // at midnight, until 2019
    "Africa/Cairo",        // at midnight, with a pause
    "Pacific/Apia",        // skipped a day in 2011
    "Pacific/Kwajalein",   // skipped a day in 1993
    "America/St_Johns",    // a minute past midnight, until 2011
    "America/Havana",      // midnight comes twice
    "Africa/Casablanca",   // twice a year around Ramadan
    "Antarctica/Troll",    // two hours
    "Asia/Kathmandu",      // a quarter of an hour, once
];
/// Zones that are gone through year by year.
const YEARLY: [&str; 6] = [
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Seoul",
    "Africa/Casablanca",
];
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const ORDINALS: [&str; 5] = ["1st", "2nd", "3rd", "4th", "5th"];

#[derive(Debug, Clone)]
enum Day {
    Daily,
    Holidays,
    Weekday(usize),
    Range(usize, usize),
    Ordinal(usize, usize),
    Last(usize),
    /// So many days after the middle.
    Date(i64),
}

#[derive(Debug, Clone)]
struct Recurring {
    days: Vec<Day>,
    /// Minutes of the day; the end may be 24:00.
    hours: Option<(i64, i64)>,
    except: Vec<Day>,
}

#[derive(Debug, Clone)]
enum Entry {
    Recurring(Recurring),
    /// Minutes after the midnight of the middle.
    Span(i64, i64),
}

#[derive(Debug, Clone)]
struct Case {
    zone: usize,
    near: i64,
    at_transition: bool,
    entries: Vec<Entry>,
    holidays: Vec<i64>,
    through: i64,
    /// How far from the middle the calendar is compiled: inside its table or outside of it.
    compiled_days_before: i64,
}

fn day() -> impl Strategy<Value = Day> {
    prop_oneof![
        2 => Just(Day::Daily),
        2 => Just(Day::Holidays),
        2 => (0..7_usize).prop_map(Day::Weekday),
        2 => (0..7_usize, 1..7_usize).prop_map(|(from, more)| Day::Range(from, (from + more) % 7)),
        1 => (0..5_usize, 0..7_usize).prop_map(|(ordinal, day)| Day::Ordinal(ordinal, day)),
        1 => (0..7_usize).prop_map(Day::Last),
        1 => (-4..4_i64).prop_map(Day::Date),
    ]
}

fn minute() -> impl Strategy<Value = i64> {
    prop_oneof![
        (0..9_i64).prop_map(|half| half * 30),
        0..1440_i64,
        Just(0_i64),
        Just(1430_i64),
        Just(1_i64)
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let end = prop_oneof![4 => minute(), 1 => Just(1440_i64)];
    let hours = (minute(), end).prop_filter("equal", |(start, end)| start != end);
    let days = prop::collection::vec(day(), 1..3);
    let recurring = (
        days,
        prop::option::weighted(0.9, hours),
        prop::collection::vec(day(), 0..2),
    );
    prop_oneof![
        5 => recurring.prop_map(|(days, hours, except)| Entry::Recurring(Recurring { days, hours, except })),
        1 => (-4000..4000_i64, 1..3000_i64).prop_map(|(from, length)| Entry::Span(from, from + length)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        0..ZONES.len(),
        157_766_400..2_051_222_400_i64, // 1975 to 2034
        prop::bool::weighted(0.8),
        prop::collection::vec(entry(), 1..4),
        prop::collection::vec(-6..6_i64, 0..4),
        prop_oneof![-3..3_i64, Just(100_i64)],
        prop_oneof![Just(0_i64), 0..3000_i64, -900..0_i64],
    )
        .prop_map(
            |(zone, near, at_transition, entries, holidays, through, compiled_days_before)| Case {
                zone,
                near,
                at_transition,
                entries,
                holidays,
                through,
                compiled_days_before,
            },
        )
}

/// The case as numbers and as YAML.
struct Model<'a> {
    case: &'a Case,
    middle: Date,
    /// What the clock shows at each minute.
    clock: Vec<(i64, DateTime)>,
    /// The first and the last minute at which it shows a time.
    shown: BTreeMap<DateTime, (usize, usize)>,
    /// Days to each side of the middle.
    days: i64,
}

impl<'a> Model<'a> {
    fn new(case: &'a Case, days: i64) -> Self {
        let zone = TimeZone::get(ZONES[case.zone]).unwrap();
        let near = Timestamp::from_second(case.near / 60 * 60).unwrap();
        let transition = zone.following(near).next().map(|transition| transition.timestamp());
        let middle = transition.filter(|_| case.at_transition).unwrap_or(near).as_second();
        let minutes = (-days * 1440..days * 1440).map(|minute| middle + minute * 60);
        let clock: Vec<(i64, DateTime)> = minutes
            .map(|second| (second, zone.to_datetime(Timestamp::from_second(second).unwrap())))
            .collect();
        let mut shown: BTreeMap<DateTime, (usize, usize)> = BTreeMap::new();
        for (index, (_, time)) in clock.iter().enumerate() {
            shown.entry(*time).or_insert((index, index)).1 = index;
        }
        Self {
            case,
            middle: clock[clock.len() / 2].1.date(),
            clock,
            shown,
            days,
        }
    }

    fn date(&self, days: i64) -> Date {
        self.middle.saturating_add(days.days())
    }

    fn moment(&self, minutes: i64) -> DateTime {
        self.middle
            .to_datetime(Default::default())
            .saturating_add(minutes.minutes())
    }

    fn holiday(&self, date: Date) -> Truth {
        if date > self.date(self.case.through) {
            return Truth::Unknown;
        }
        self.case.holidays.iter().any(|days| self.date(*days) == date).into()
    }

    fn includes(&self, days: &[Day], date: Date) -> Truth {
        let is = |weekday: usize| date.weekday() == Weekday::from_monday_zero_offset(weekday as i8).unwrap();
        let nth = (1..=date.day()).filter(|day| (date.day() - day) % 7 == 0).count();
        let one = |day: &Day| match day {
            Day::Daily => Truth::True,
            Day::Holidays => self.holiday(date),
            Day::Weekday(weekday) => is(*weekday).into(),
            Day::Range(from, to) => {
                let length = (to + 7 - from) % 7;
                (0..=length).any(|more| is((from + more) % 7)).into()
            }
            Day::Ordinal(ordinal, weekday) => (is(*weekday) && nth == ordinal + 1).into(),
            Day::Last(weekday) => (is(*weekday) && date.saturating_add(7.days()).month() != date.month()).into(),
            Day::Date(days) => (self.date(*days) == date).into(),
        };
        days.iter().map(one).fold(Truth::False, Truth::or)
    }

    /// The index of the minute at which `wall` is on the clock, or the first after it if it never is.
    fn find(&self, wall: DateTime, last: bool) -> usize {
        let found = match self.shown.get(&wall) {
            Some((first, latest)) => Some(if last { *latest } else { *first }),
            None => self.shown.range(wall..).next().map(|(_, (first, _))| *first),
        };
        found.unwrap_or(self.clock.len())
    }

    /// The state at every minute.
    fn states(&self) -> Vec<Truth> {
        let mut states = vec![Truth::False; self.clock.len()];
        let mut open = |from: DateTime, to: DateTime, truth: Truth| {
            let (from, to) = (self.find(from, false), self.find(to, true));
            for state in states.iter_mut().take(to).skip(from) {
                *state = state.or(truth);
            }
        };
        for entry in &self.case.entries {
            match entry {
                Entry::Span(from, to) => open(self.moment(*from), self.moment(*to), Truth::True),
                Entry::Recurring(recurring) => {
                    for days in -self.days - 2..self.days + 2 {
                        let date = self.date(days);
                        let on = self.includes(&recurring.days, date);
                        let on = on.and(!self.includes(&recurring.except, date));
                        let (start, mut end) = recurring.hours.unwrap_or((0, 1440));
                        if end < start {
                            end += 1440;
                        }
                        open(self.moment(days * 1440 + start), self.moment(days * 1440 + end), on);
                    }
                }
            }
        }
        states
    }

    fn day(&self, day: &Day) -> String {
        match day {
            Day::Daily => "daily".into(),
            Day::Holidays => "holidays".into(),
            Day::Weekday(day) => WEEKDAYS[*day].into(),
            Day::Range(from, to) => format!("{}-{}", WEEKDAYS[*from], WEEKDAYS[*to]),
            Day::Ordinal(ordinal, day) => format!("{} {}", ORDINALS[*ordinal], WEEKDAYS[*day]),
            Day::Last(day) => format!("last {}", WEEKDAYS[*day]),
            Day::Date(days) => self.date(*days).to_string(),
        }
    }

    fn yaml(&self, holidays: &std::path::Path) -> String {
        let days = |days: &[Day]| days.iter().map(|day| self.day(day)).collect::<Vec<_>>().join(", ");
        let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let mut entries = String::new();
        for entry in &self.case.entries {
            entries.push_str("        - ");
            entries.push_str(&match entry {
                Entry::Span(from, to) => {
                    let moment = |minutes: i64| self.moment(minutes).strftime("%Y-%m-%dT%H:%M").to_string();
                    format!("{{ from: {}, to: {} }}\n", moment(*from), moment(*to))
                }
                Entry::Recurring(recurring) => {
                    let hours = recurring.hours;
                    let hours = hours.map(|(start, end)| format!(", hours: {}-{}", clock(start), clock(end)));
                    let except = Some(&recurring.except).filter(|except| !except.is_empty());
                    let except = except.map(|except| format!(", except: [{}]", days(except)));
                    let (hours, except) = (hours.unwrap_or_default(), except.unwrap_or_default());
                    format!("{{ days: [{}]{hours}{except} }}\n", days(&recurring.days))
                }
            });
        }
        format!(
            "c:\n    timezone: {}\n    holidays: {}\n    windows:\n      w:\n{entries}",
            ZONES[self.case.zone],
            holidays.display()
        )
    }

    fn compile(&self) -> WindowRef {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holidays.yaml");
        let mut dates: Vec<String> = self
            .case
            .holidays
            .iter()
            .map(|days| self.date(*days).to_string())
            .collect();
        let through = self.date(self.case.through).to_string();
        dates.retain(|date| *date <= through);
        dates.sort();
        dates.dedup();
        let dates: String = dates.iter().map(|date| format!("{date}: x, ")).collect();
        std::fs::write(&path, format!("through: {through}\ndates: {{ {dates} }}\n")).unwrap();
        let load = Load::new();
        let node = load.text("t.yaml", &self.yaml(&path)).unwrap();
        let now = Timestamp::from_second(self.clock[self.clock.len() / 2].0).unwrap();
        let now = now - (self.case.compiled_days_before * 24).hours();
        let calendars = Calendars::compile(&Named::read(&node, &load).unwrap(), now, true, &load);
        let window = calendars.window("c.w", &node.place, &load);
        let findings = load.into_findings(None);
        window.unwrap_or_else(|| panic!("{findings:?}"))
    }

    fn check(&self) {
        let window = self.compile();
        let states = self.states();
        let inner = 3 * 1440..self.clock.len() - 3 * 1440;
        let at = |index: usize| Timestamp::from_second(self.clock[index].0).unwrap();
        // Every change the model sees, in order, and none besides.
        let mut index = inner.start;
        while index < inner.end {
            assert_eq!(window.state(at(index)), states[index], "at {}", self.clock[index].1);
            let same = states[index..inner.end]
                .iter()
                .take_while(|state| **state == states[index]);
            let next = index + same.count();
            let found = window.next_change(at(index));
            if next == inner.end {
                assert!(found.is_none_or(|found| found >= at(next)), "{found:?}");
                break;
            }
            assert_eq!(found, Some(at(next)), "after {}", self.clock[index].1);
            assert_eq!(window.next_change(at(next) - 1.nanoseconds()), Some(at(next)));
            assert_eq!(window.state(at(next) - 1.nanoseconds()), states[index]);
            index = next;
        }
        let openings: Vec<_> = window
            .openings(at(inner.start))
            .take_while(|opening| opening.opens < at(inner.end))
            .collect();
        for (index, state) in states.iter().enumerate().take(inner.end).skip(inner.start).step_by(37) {
            let at = at(index);
            let holds = |from: Timestamp, to: Option<Timestamp>| from <= at && to.is_none_or(|to| at < to);
            let opening = openings.iter().find(|opening| holds(opening.opens, opening.closes));
            assert_eq!(opening.map_or(Truth::False, |opening| opening.state), *state);
        }
    }
}

/// So many cases are tried unless the environment says otherwise.
fn cases(few: u32, share: u32) -> ProptestConfig {
    let asked = std::env::var("GWANMUN_CALENDAR_CASES")
        .ok()
        .and_then(|count| count.parse::<u32>().ok());
    ProptestConfig {
        cases: asked.map_or(few, |count| count.div_ceil(share)),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(200, 1))]

    #[test]
    fn windows_are_what_the_clock_on_the_wall_shows(case in case()) {
        Model::new(&case, 7).check();
    }
}

proptest! {
    #![proptest_config(cases(4, 50))]

    #[test]
    fn windows_are_so_for_more_than_a_year(case in case(), zone in 0..YEARLY.len()) {
        let zone = ZONES.iter().position(|known| *known == YEARLY[zone]).unwrap();
        Model::new(&Case { zone, ..case }, 200).check();
    }
}
