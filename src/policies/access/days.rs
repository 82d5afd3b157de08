//! Which days a window opens on: `daily`, `holidays`, a weekday, a range of weekdays that may wrap (`fri-mon`), the `1st` to
//! `5th` or `last` weekday of a month (`3rd sun`), a date, or a list of these.

use jiff::civil::Date;

use super::civil;
use super::holidays::Holidays;
use crate::conf::{Describe, Load, Node, Place, Read, Schema, Schemas, Value, nearest};
use crate::engine::Truth;

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const ORDINALS: [&str; 6] = ["1st", "2nd", "3rd", "4th", "5th", "last"];
const LAST: u8 = 5;
/// In days.
const QUARTER: usize = 92;

/// A set of days.
#[derive(Debug, Clone, Default)]
pub(super) struct Days {
    /// One bit for each weekday, Monday first.
    weekdays: u8,
    /// For each weekday one bit for each of [`ORDINALS`].
    ordinals: [u8; 7],
    dates: Vec<Date>,
    /// Where `holidays` is written, if it is.
    holidays: Option<Place>,
}

impl Days {
    /// Whether `date` is one of the days. Unknown where only `holidays` could say, and does not reach that far.
    pub fn include(&self, date: Date, holidays: Option<&Holidays>) -> Truth {
        if self.include_for_sure(date) {
            return Truth::True;
        }
        match (&self.holidays, holidays) {
            (Some(_), Some(holidays)) => holidays.include(date),
            _ => Truth::False,
        }
    }

    fn include_for_sure(&self, date: Date) -> bool {
        let weekday = date.weekday().to_monday_zero_offset();
        if self.weekdays & bit(weekday) != 0 || self.dates.binary_search(&date).is_ok() {
            return true;
        }
        let ordinals = usize::try_from(weekday).ok().and_then(|at| self.ordinals.get(at));
        let Some(ordinals) = ordinals.copied().filter(|ordinals| *ordinals != 0) else {
            return false;
        };
        let is_last = date.day() + 7 > date.days_in_month();
        ordinals & bit((date.day() - 1) / 7) != 0 || is_last && ordinals & (1 << LAST) != 0
    }

    /// Where `holidays` is written, if it is.
    pub fn names_holidays(&self) -> Option<&Place> {
        self.holidays.as_ref()
    }

    /// The last date that is written out.
    pub fn last_date(&self) -> Option<Date> {
        self.dates.last().copied()
    }

    /// Adds the dates that are written out, and within a quarter of a year from `from` those that ordinals name: each comes up
    /// by then, but for a `5th`.
    pub fn add_special(&self, from: Date, until: Date, days: &mut Vec<Date>) {
        days.extend_from_slice(&self.dates);
        if self.ordinals.iter().all(|ordinals| *ordinals == 0) {
            return;
        }
        let ordinals = Self {
            ordinals: self.ordinals,
            ..Self::default()
        };
        let coming = std::iter::successors(Some(from), |day| day.tomorrow().ok()).take(QUARTER);
        days.extend(coming.filter(|day| *day <= until && ordinals.include_for_sure(*day)));
    }

    fn add(&mut self, text: &str, place: &Place) -> Result<(), String> {
        match text {
            "daily" => self.weekdays = 0x7f,
            "holidays" => self.holidays = Some(place.clone()),
            _ if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(' ') => {
                self.dates.push(civil::date(text)?);
            }
            _ => self.add_weekdays(text)?,
        }
        Ok(())
    }

    fn add_weekdays(&mut self, text: &str) -> Result<(), String> {
        if let Some((ordinal, day)) = text.split_once(' ') {
            let day = weekday(day)?;
            let Some(ordinal) = ORDINALS.iter().position(|known| *known == ordinal) else {
                return Err(format!("does not begin with one of {}", listed(&ORDINALS)));
            };
            if let Some(ordinals) = self.ordinals.get_mut(usize::from(day)) {
                *ordinals |= 1 << ordinal;
            }
            return Ok(());
        }
        let Some((from, to)) = text.split_once('-') else {
            self.weekdays |= 1 << weekday(text)?;
            return Ok(());
        };
        let (from, to) = (weekday(from)?, weekday(to)?);
        if from == to {
            return Err("begins and ends on the same day; write the day alone, or `daily`".into());
        }
        let mut day = from;
        self.weekdays |= 1 << to;
        while day != to {
            self.weekdays |= 1 << day;
            day = (day + 1) % 7;
        }
        Ok(())
    }
}

impl Describe for Days {
    fn schema(_: &mut Schemas) -> Schema {
        let (weekday, ordinal) = (WEEKDAYS.join("|"), ORDINALS.join("|"));
        let weekdays = format!("({weekday})(-({weekday}))?|({ordinal}) ({weekday})");
        let day = Schema::text(&format!("^(daily|holidays|{weekdays}|{})$", civil::DATE));
        Schema::one_or_many(
            day.examples(["daily", "mon-fri", "sat-sun", "holidays", "3rd sun", "last fri"]),
            1,
        )
    }
}

impl Read for Days {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let mut days = Self::default();
        let one = std::slice::from_ref(node);
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => one,
        };
        if items.is_empty() {
            load.error(&node.place, "an empty list: name at least one day");
            return None;
        }
        let mut good = true;
        for item in items {
            let added = item.parse("a day such as `mon-fri`", load, |text| days.add(text, &item.place));
            good &= added.is_some();
        }
        days.dates.sort_unstable();
        good.then_some(days)
    }
}

fn bit(at: i8) -> u8 {
    u32::try_from(at).ok().and_then(|at| 1_u8.checked_shl(at)).unwrap_or(0)
}

fn weekday(text: &str) -> Result<u8, String> {
    if let Some(at) = WEEKDAYS.iter().position(|known| *known == text) {
        return u8::try_from(at).map_err(|_| "is not a weekday".into());
    }
    let lower = text.to_ascii_lowercase();
    let prefix = lower.get(..3).filter(|_| lower.len() <= 9);
    let known = WEEKDAYS.iter().copied().chain(["daily", "holidays"]);
    let meant = WEEKDAYS.iter().copied().find(|known| Some(*known) == prefix);
    let whole = "`daily`, `holidays`, `mon`, `fri-mon`, `3rd sun`, `last fri` or `2026-12-31`";
    let misspelt = || nearest(prefix.filter(|_| lower.ends_with("day"))?, WEEKDAYS.iter().copied());
    Err(match meant.or_else(|| nearest(&lower, known)).or_else(misspelt) {
        Some(meant) => format!("is not a day: did you mean `{meant}`?"),
        None => format!("is not a day: days are written like {whole}"),
    })
}

fn listed(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Days>, Vec<String>) {
        let load = Load::new();
        let node = load.text("t.yaml", &format!("days: {text}\n")).unwrap();
        let days = Days::read(node.get("days").unwrap(), &load);
        (days, load.into_findings(None).iter().map(ToString::to_string).collect())
    }

    /// The days of November 2026, which begins on a Sunday.
    fn november(text: &str) -> Vec<i8> {
        let days = read(text).0.unwrap();
        let on = |day: &i8| days.include(Date::constant(2026, 11, *day), None) == Truth::True;
        (1..=30).filter(on).collect()
    }

    #[test]
    fn knows_weekdays_ranges_ordinals_and_dates() {
        assert_eq!(november("daily").len(), 30);
        assert_eq!(november("wed"), [4, 11, 18, 25]);
        assert_eq!(november("mon-wed"), [2, 3, 4, 9, 10, 11, 16, 17, 18, 23, 24, 25, 30]);
        assert_eq!(november("sat-mon"), [1, 2, 7, 8, 9, 14, 15, 16, 21, 22, 23, 28, 29, 30]);
        assert_eq!(november("3rd sun"), [15]);
        assert_eq!(november("5th sun"), [29]);
        assert_eq!(november("5th wed"), [0_i8; 0]);
        assert_eq!(november("last wed"), [25]);
        assert_eq!(november("[1st mon, last mon, 2026-11-11, 2025-11-12]"), [2, 11, 30]);
    }

    #[test]
    fn points_at_days_it_does_not_know() {
        assert_eq!(
            read("[mun, Monday, 6th sun, mon-mon, 2026-02-30, mon-fry, weekends, 3rd]").1,
            [
                "t.yaml:1:8: `mun` is not a day: did you mean `mon`?",
                "t.yaml:1:13: `Monday` is not a day: did you mean `mon`?",
                "t.yaml:1:21: `6th sun` does not begin with one of `1st`, `2nd`, `3rd`, `4th`, `5th`, `last`",
                "t.yaml:1:30: `mon-mon` begins and ends on the same day; write the day alone, or `daily`",
                "t.yaml:1:39: `2026-02-30` is no day of the calendar",
                "t.yaml:1:51: `mon-fry` is not a day: did you mean `fri`?",
                "t.yaml:1:60: `weekends` is not a day: days are written like `daily`, `holidays`, `mon`, `fri-mon`, `3rd sun`, \
                 `last fri` or `2026-12-31`",
                "t.yaml:1:70: `3rd` is not a date such as `2026-12-31`",
            ]
        );
        assert!(read("[]").1.first().unwrap().contains("empty list"));
        assert!(read("{a: b}").0.is_none());
    }
}
