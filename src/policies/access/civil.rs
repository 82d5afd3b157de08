//! Wall-clock dates and times: how they are written, and which instants they mean.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::conf::{Describe, Load, Node, Read, Schema, Schemas};

/// Years a configuration may speak of. The bound keeps every search for the next change short.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=2199;

/// What a date and what a time look like.
pub(super) const DATE: &str = "(19[7-9]|2[01][0-9])[0-9]-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
const TIME: &str = "([01][0-9]|2[0-3]):[0-5][0-9]";

/// A date of the configuration: `2026-12-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(pub Date);

impl Describe for Day {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text(&format!("^{DATE}$"))
    }
}

impl Read for Day {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a date such as `2026-12-31`", load, |text| date(text).map(Self))
    }
}

/// A wall-clock instant of a span: `2026-12-31T23:50`, without an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub DateTime);

impl Describe for Moment {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text(&format!("^{DATE}T{TIME}$")).examples(["2026-12-31T23:50"])
    }
}

impl Read for Moment {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a date and time such as `2026-12-31T23:50`", load, |text| {
            moment(text).map(Self)
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.strftime("%Y-%m-%dT%H:%M").fmt(f)
    }
}

/// Part of every day: `23:30-05:00`, the end excluded. One whose end is not after its start ends on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hours {
    start: Time,
    end: Time,
    /// `24:00` is midnight of the next day, too.
    ends_next_day: bool,
}

impl Hours {
    /// From midnight to midnight.
    pub const WHOLE_DAY: Self = Self {
        start: Time::midnight(),
        end: Time::midnight(),
        ends_next_day: true,
    };

    /// The instants of the hours that begin on `day`, in seconds; the end is not after the start where a gap swallowed them.
    pub fn on(self, day: Date, zone: &TimeZone) -> (i64, i64) {
        let last = if self.ends_next_day {
            day.tomorrow().unwrap_or(day)
        } else {
            day
        };
        (
            instant(zone, day.to_datetime(self.start), Edge::Start),
            instant(zone, last.to_datetime(self.end), Edge::End),
        )
    }
}

impl Describe for Hours {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text(&format!("^{TIME}-({TIME}|24:00)$")).examples(["09:00-15:30", "23:30-05:00"])
    }
}

impl Read for Hours {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("hours such as `23:30-05:00`", load, hours)
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::WHOLE_DAY {
            return f.write_str("all day");
        }
        write!(f, "{}–", self.start.strftime("%H:%M"))?;
        if self.ends_next_day && self.end == Time::midnight() {
            return f.write_str("24:00");
        }
        write!(f, "{}", self.end.strftime("%H:%M"))
    }
}

/// Which end of a window a wall-clock time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Where the clock shows it twice, the first one.
    Start,
    /// Where the clock shows it twice, the second one.
    End,
}

/// The second at which the clock of `zone` shows `wall`. Where the clock skips it, the first one after the gap: not the
/// instant that RFC 5545 and most libraries give, which lies as far behind the gap as `wall` lies inside it.
pub(super) fn instant(zone: &TimeZone, wall: DateTime, edge: Edge) -> i64 {
    let offset = match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Fold { before, after } => match edge {
            Edge::Start => before,
            Edge::End => after,
        },
        AmbiguousOffset::Gap { before, after } => {
            let inside = after.to_timestamp(wall).ok();
            let jump = inside.and_then(|inside| zone.following(inside).find(|change| change.offset() == after));
            match jump {
                Some(jump) => return second(jump.timestamp()),
                None => before,
            }
        }
    };
    match offset.to_timestamp(wall) {
        Ok(at) => second(at),
        // Beyond the first and the last instant there is nothing to tell apart.
        Err(_) if wall.year() > 0 => i64::MAX,
        Err(_) => i64::MIN,
    }
}

/// The instant at which `date` begins on the clock of `zone`, or the first one after it where the clock skips that.
pub fn midnight(zone: &TimeZone, date: Date) -> Timestamp {
    let second = instant(zone, date.to_datetime(Time::midnight()), Edge::Start);
    let limit = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(second).unwrap_or(limit)
}

/// The second that `at` lies in; before 1970 too.
pub(super) fn second(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

/// The date that the clock of `zone` shows at `second`.
pub(super) fn date_at(zone: &TimeZone, second: i64) -> Date {
    let bounds = (Timestamp::MIN, Timestamp::MAX);
    let limit = if second < 0 { bounds.0 } else { bounds.1 };
    zone.to_datetime(Timestamp::from_second(second).unwrap_or(limit)).date()
}

/// `2026-11-25T05:00+09:00`: an instant as the clock of `zone` shows it.
pub(super) fn show(at: Timestamp, zone: &TimeZone) -> String {
    let seconds = if at.as_second() % 60 == 0 { "" } else { ":%S" };
    let format = format!("%Y-%m-%dT%H:%M{seconds}%:z");
    at.to_zoned_datetime(zone.clone()).strftime(&format).to_string()
}

/// Reads `2026-12-31`; the error is the rest of a sentence.
pub(super) fn date(text: &str) -> Result<Date, String> {
    let mut parts = text.split('-');
    let parts = (
        parts.next().and_then(|year| digits(year, 4)),
        parts.next().and_then(|month| digits(month, 2)),
        parts.next().and_then(|day| digits(day, 2)),
        parts.next(),
    );
    let (Some(year), Some(month), Some(day), None) = parts else {
        return Err("is not a date such as `2026-12-31`".into());
    };
    if !YEARS.contains(&year) {
        return Err(format!("is not in the years {} to {}", YEARS.start(), YEARS.end()));
    }
    let small = |number: i16| i8::try_from(number).unwrap_or(i8::MAX);
    Date::new(year, small(month), small(day)).map_err(|_| "is no day of the calendar".to_owned())
}

fn moment(text: &str) -> Result<DateTime, String> {
    let wrong = || "is not a date and time such as `2026-12-31T23:50`".to_owned();
    let (day, clock) = text.split_once('T').ok_or_else(wrong)?;
    if clock.contains(['+', '-', 'Z']) {
        return Err("has an offset; a span is in the calendar's zone".into());
    }
    let day = date(day)?;
    match time(clock).ok_or_else(wrong)? {
        Some(time) => Ok(day.to_datetime(time)),
        None => Err("ends at `24:00`; write `00:00` of the next day".into()),
    }
}

fn hours(text: &str) -> Result<Hours, String> {
    let wrong = || "are not hours such as `23:30-05:00`".to_owned();
    let (start, end) = text.split_once('-').ok_or_else(wrong)?;
    let (start, end) = (time(start).ok_or_else(wrong)?, time(end).ok_or_else(wrong)?);
    let start = start.ok_or_else(|| "start at `24:00`; write `00:00`".to_owned())?;
    let hours = Hours {
        start,
        end: end.unwrap_or(Time::midnight()),
        ends_next_day: end.is_none_or(|end| end <= start),
    };
    if end == Some(start) {
        return Err("start and end at the same time; leave `hours` out for the whole day".into());
    }
    Ok(hours)
}

/// Reads `23:30`; `Some(None)` is `24:00`, `None` no time.
pub(super) fn time(text: &str) -> Option<Option<Time>> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (digits(hour, 2)?, digits(minute, 2)?);
    if (hour, minute) == (24, 0) {
        return Some(None);
    }
    let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
    Time::new(hour, minute, 0, 0).ok().map(Some)
}

fn digits(text: &str, count: usize) -> Option<i16> {
    let whole = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| text.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(zone: &str, wall: &str, edge: Edge) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let second = instant(&zone, moment(wall).unwrap(), edge);
        show(Timestamp::from_second(second).unwrap(), &zone)
    }

    #[test]
    fn moves_a_skipped_time_to_the_first_instant_after_the_gap() {
        for edge in [Edge::Start, Edge::End] {
            assert_eq!(
                at("America/New_York", "2026-03-08T02:30", edge),
                "2026-03-08T03:00-04:00"
            );
            assert_eq!(
                at("America/New_York", "2026-03-08T02:00", edge),
                "2026-03-08T03:00-04:00"
            );
            assert_eq!(
                at("Australia/Lord_Howe", "2026-10-04T02:15", edge),
                "2026-10-04T02:30+11:00"
            );
            assert_eq!(at("Africa/Cairo", "2026-04-24T00:10", edge), "2026-04-24T01:00+03:00");
            // The whole day was skipped.
            assert_eq!(at("Pacific/Apia", "2011-12-30T09:00", edge), "2011-12-31T00:00+14:00");
        }
    }

    #[test]
    fn takes_the_first_of_two_for_a_start_and_the_second_for_an_end() {
        let zone = "Europe/London";
        assert_eq!(at(zone, "2026-10-25T01:30", Edge::Start), "2026-10-25T01:30+01:00");
        assert_eq!(at(zone, "2026-10-25T01:30", Edge::End), "2026-10-25T01:30+00:00");
        assert_eq!(at(zone, "2026-10-25T02:00", Edge::Start), "2026-10-25T02:00+00:00");
    }

    #[test]
    fn reads_hours_strictly() {
        assert_eq!(hours("23:30-05:00").unwrap().to_string(), "23:30–05:00");
        assert_eq!(hours("09:00-24:00").unwrap().to_string(), "09:00–24:00");
        assert_eq!(hours("23:30-00:00").unwrap().to_string(), "23:30–24:00");
        assert_eq!(hours("00:00-24:00").unwrap(), Hours::WHOLE_DAY);
        for bad in [
            "",
            "-",
            "9:00-15:30",
            "09:00",
            "09:00-9:30",
            "24:00-05:00",
            "05:00-05:00",
            "00:00-00:00",
            "09:60-10:00",
            "25:00-26:00",
            "09:00-24:01",
            "09:00 - 15:30",
            "09:00-15:30-16:00",
            "+9:00-10:00",
            "０9:00-10:00",
        ] {
            assert!(hours(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_dates_strictly() {
        assert_eq!(date("2028-02-29").unwrap().to_string(), "2028-02-29");
        for bad in [
            "2026-02-29",
            "2026-13-01",
            "26-01-01",
            "2026-1-1",
            "20260101",
            "2026-01-01-",
            "1969-12-31",
            "2200-01-01",
        ] {
            assert!(date(bad).is_err(), "{bad}");
        }
        for bad in [
            "2026-01-01",
            "2026-01-01T24:00",
            "2026-01-01T10:00+09:00",
            "2026-01-01T10:00Z",
            "2026-01-01 10:00",
        ] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rounds_down_before_1970_too() {
        assert_eq!(second("1969-12-31T23:59:59.5Z".parse().unwrap()), -1);
        assert_eq!(second("1970-01-01T00:00:00.5Z".parse().unwrap()), 0);
    }
}
