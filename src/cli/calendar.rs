//! `gwanmun calendar`: when each window opens and closes, on the clock of its calendar's zone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};

use super::{explain, tell};
use crate::engine::{Truth, rfc3339};
use crate::policies::access::{Calendar, Opening, WindowRef, midnight};

/// Tables are broken into several before they grow wider, in characters.
const MAX_WIDTH: usize = 110;
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --json: a list of {calendar, window, opens, closes}, in RFC 3339 with the offset of the calendar's zone. \
                  Overlapping hours are merged, and all are cut to the asked days. Hours in which nobody can say whether the \
                  window is open, as its holidays are not known that far, have `unknown: true` besides.\n\n\
                  Example:\n  gwanmun calendar conf/bank.yaml --from 2026-09-23 --days 7"
)]
pub(super) struct Arguments {
    /// The configuration
    file: PathBuf,
    /// The first day, in the zone of each calendar; otherwise today
    #[arg(long, value_name = "DATE", value_parser = day)]
    from: Option<Date>,
    /// How many days
    #[arg(long, value_name = "COUNT", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    /// Only this calendar
    #[arg(long, value_name = "NAME")]
    calendar: Option<String>,
    /// Print a list of `{calendar, window, opens, closes}`
    #[arg(long)]
    json: bool,
}

/// Reads `2026-09-23`.
pub(super) fn day(text: &str) -> Result<Date, String> {
    let wrong = || "not a day such as `2026-09-23`".to_owned();
    let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date = plain.then(|| Date::strptime("%Y-%m-%d", text).ok()).flatten();
    let date = date.ok_or_else(wrong)?;
    match (1970..=2199).contains(&date.year()) {
        true => Ok(date),
        false => Err("not in the years 1970 to 2199".into()),
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let at = arguments.from.map_or(now, |from| midnight(&TimeZone::UTC, from));
    let snapshot = explain::open(&arguments.file, at)?;
    let calendars = snapshot.calendars.iter();
    let wanted = |calendar: &&Calendar| arguments.calendar.as_ref().is_none_or(|name| name == calendar.name());
    let calendars: Vec<&Calendar> = calendars.filter(wanted).collect();
    if let (Some(name), true) = (&arguments.calendar, calendars.is_empty()) {
        let known: Vec<&str> = snapshot.calendars.iter().map(Calendar::name).collect();
        bail!("there is no calendar `{name}`, only: {}", known.join(", "));
    }
    let days = calendars.iter().map(|calendar| {
        let today = now.to_zoned_datetime(calendar.zone().clone()).date();
        Days::new(calendar, arguments.from.unwrap_or(today), arguments.days)
    });
    if arguments.json {
        let listed: Vec<Value> = days.flat_map(|days| days.json()).collect();
        tell(&format!("{:#}\n", Value::Array(listed)))?;
    } else if calendars.is_empty() {
        tell(&format!("{}: no calendars\n", arguments.file.display()))?;
    } else {
        let tables: Vec<String> = days.map(|days| days.text()).collect();
        tell(&tables.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Some days of a calendar.
struct Days<'a> {
    calendar: &'a Calendar,
    /// The first day and the one after the last.
    dates: (Date, Date),
    from: Timestamp,
    to: Timestamp,
}

impl<'a> Days<'a> {
    fn new(calendar: &'a Calendar, first: Date, count: u16) -> Self {
        let end = first.saturating_add(i32::from(count).days());
        Self {
            calendar,
            dates: (first, end),
            from: midnight(calendar.zone(), first),
            to: midnight(calendar.zone(), end),
        }
    }

    /// The openings of a window that have a part in these days, cut at their beginning only.
    fn openings(&self, window: &'a WindowRef) -> impl Iterator<Item = Opening> + use<'_, 'a> {
        let openings = window.openings(self.from);
        openings.take_while(|opening| opening.opens < self.to)
    }

    fn short<'w>(&self, window: &'w WindowRef) -> &'w str {
        let own = window.name().strip_prefix(self.calendar.name());
        own.and_then(|own| own.strip_prefix('.')).unwrap_or(window.name())
    }

    fn json(&self) -> Vec<Value> {
        let zone = self.calendar.zone();
        let one = |window: &'a WindowRef, opening: Opening| {
            let closes = opening.closes.map_or(self.to, |closes| closes.min(self.to));
            let mut told = json!({
                "calendar": self.calendar.name(),
                "window": self.short(window),
                "opens": rfc3339(opening.opens, zone),
                "closes": rfc3339(closes, zone),
            });
            if let (Truth::Unknown, Some(members)) = (opening.state, told.as_object_mut()) {
                members.insert("unknown".to_owned(), true.into());
            }
            told
        };
        let windows = self.calendar.windows().iter();
        windows
            .flat_map(|window| self.openings(window).map(move |opening| one(window, opening)))
            .collect()
    }

    fn text(&self) -> String {
        let zone = self.calendar.zone();
        let name = zone.iana_name().unwrap_or("UTC");
        let mut text = format!("{} ({name})\n", self.calendar.name());
        let columns: Vec<Column> = self
            .calendar
            .windows()
            .iter()
            .map(|window| self.column(window))
            .collect();
        let days: Vec<Date> = std::iter::successors(Some(self.dates.0), |date| date.tomorrow().ok())
            .take_while(|date| *date < self.dates.1)
            .collect();
        let mut rest = columns.as_slice();
        loop {
            let mut width = 16;
            let fits = rest.iter().take_while(|column| {
                width += column.width + 2;
                width <= MAX_WIDTH
            });
            let count = fits.count().max(1).min(rest.len());
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            self.add_table(&mut text, &days, now);
            rest = later;
            if rest.is_empty() {
                break;
            }
            text.push('\n');
        }
        if columns.iter().any(|column| column.has_unknown)
            && let Some(through) = self.calendar.holidays_through()
        {
            text.push_str(&format!(
                "? not known, as the holidays are known through {through} only\n"
            ));
        }
        text
    }

    fn add_table(&self, text: &mut String, days: &[Date], columns: &[Column]) {
        let line = |first: &str, cells: &mut dyn Iterator<Item = &str>, last: &str| {
            let mut line = format!("  {first:<14}");
            for (cell, column) in cells.zip(columns) {
                let padding = column.width.saturating_sub(cell.chars().count());
                line.push_str(&format!("  {cell}{}", " ".repeat(padding)));
            }
            if !last.is_empty() {
                line.push_str(&format!("  {last}"));
            }
            format!("{}\n", line.trim_end())
        };
        text.push_str(&line("", &mut columns.iter().map(|column| column.name.as_str()), ""));
        for (at, date) in days.iter().enumerate() {
            let cells = columns
                .iter()
                .map(|column| column.cells.get(at).map_or("", String::as_str));
            let mut cells = cells.map(|cell| if cell.is_empty() { "-" } else { cell });
            text.push_str(&line(
                &date.strftime("%a %Y-%m-%d").to_string(),
                &mut cells,
                &self.notes(*date),
            ));
        }
    }

    /// The day's holiday, and whether the clocks are changed on it.
    fn notes(&self, date: Date) -> String {
        let zone = self.calendar.zone();
        let mut notes: Vec<String> = self.calendar.holiday(date).map(str::to_owned).into_iter().collect();
        let next = date.tomorrow().unwrap_or(date);
        let [before, after] = [date, next].map(|date| zone.to_offset(midnight(zone, date)));
        if before != after {
            notes.push(format!("the clock goes from UTC{before} to UTC{after}"));
        }
        notes.join(", ")
    }

    fn column(&self, window: &'a WindowRef) -> Column {
        let openings: Vec<Opening> = self.openings(window).collect();
        let mut column = Column {
            name: self.short(window).to_owned(),
            width: 0,
            cells: Vec::new(),
            has_unknown: openings.iter().any(|opening| opening.state == Truth::Unknown),
        };
        // What was open before the first day has no beginning here.
        let before = self.from - SignedDuration::from_secs(1);
        let began = |opening: &Opening| opening.opens > self.from || window.state(before) != opening.state;
        let mut date = self.dates.0;
        while date < self.dates.1 {
            let next = date.tomorrow().unwrap_or(self.dates.1);
            let zone = self.calendar.zone();
            let day = (midnight(zone, date), midnight(zone, next));
            let hours = openings
                .iter()
                .filter_map(|opening| hours(opening, began(opening), day, zone));
            column.cells.push(hours.collect::<Vec<_>>().join(", "));
            date = next;
        }
        let cells = column.cells.iter().chain([&column.name]);
        column.width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        column
    }
}

/// A window's column of the table.
struct Column {
    name: String,
    width: usize,
    cells: Vec<String>,
    has_unknown: bool,
}

/// What of an opening stands on the line of a day: `23:30–05:00` where it begins; one that lasts a day or longer stands on
/// each as `10:00–`, `all day`, `–12:00`.
fn hours(opening: &Opening, began: bool, (start, end): (Timestamp, Timestamp), zone: &TimeZone) -> Option<String> {
    let clock = |at: Timestamp| at.to_zoned_datetime(zone.clone()).strftime("%H:%M").to_string();
    let closes = opening.closes.unwrap_or(Timestamp::MAX);
    if opening.opens >= end || closes <= start {
        return None;
    }
    let begins = began && opening.opens >= start;
    let is_short = began && closes.duration_since(opening.opens) < DAY;
    let mut hours = match (begins, closes <= end) {
        (true, true) if opening.opens == start && closes == end => "all day".to_owned(),
        (true, true) if closes == end => format!("{}–24:00", clock(opening.opens)),
        (true, _) if is_short => format!("{}–{}", clock(opening.opens), clock(closes)),
        (true, _) if opening.opens == start => "all day".to_owned(),
        (true, _) => format!("{}–", clock(opening.opens)),
        // It stands on the line of the day before.
        (false, _) if is_short => return None,
        (false, true) if closes < end => format!("–{}", clock(closes)),
        (false, _) => "all day".to_owned(),
    };
    if opening.state == Truth::Unknown {
        hours.push('?');
    }
    Some(hours)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::conf::{Load, Named, Node, Read};
    use crate::policies::access::Calendars;
    use crate::snapshot::{self, Occasion};

    fn calendars(yaml: &str) -> Calendars {
        let load = Load::new();
        let document = load.text("t.yaml", yaml).unwrap();
        let named = Named::<Node>::read(&document, &load).unwrap();
        let calendars = Calendars::compile(&named, Timestamp::UNIX_EPOCH, true, &load);
        assert!(!load.has_errors(), "{:?}", load.into_findings(None));
        calendars
    }

    fn table(yaml: &str, first: &str, count: u16) -> String {
        let calendars = calendars(yaml);
        let days = |calendar| Days::new(calendar, day(first).unwrap(), count).text();
        calendars.iter().map(days).collect::<Vec<_>>().join("\n")
    }

    /// The Chuseok holidays of 2026 end on a Saturday, which moves none of them: Monday is a working day.
    #[test]
    fn shows_the_week_of_chuseok() {
        let now = "2026-09-23T00:00:00+09:00".parse().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml");
        let bank = snapshot::load(&file, Occasion { now, at_start: true }).0.unwrap();
        let seoul = bank.calendars.iter().next().unwrap();
        let days = Days::new(seoul, day("2026-09-23").unwrap(), 7);
        assert_eq!(
            days.text(),
            "seoul (Asia/Seoul)
                  night                trading      upkeep
  Wed 2026-09-23  –05:00, 23:30–05:00  09:00–15:30  -
  Thu 2026-09-24  23:30–05:00          -            -       추석 전날
  Fri 2026-09-25  23:30–05:00          -            -       추석
  Sat 2026-09-26  23:30–05:00          -            -       추석 다음 날
  Sun 2026-09-27  23:30–05:00          -            -
  Mon 2026-09-28  23:30–05:00          09:00–15:30  -
  Tue 2026-09-29  23:30–05:00          09:00–15:30  -
"
        );
        let opening = |window: &str, opens: &str, closes: &str| {
            let at = |day_and_time: &str| format!("2026-09-{day_and_time}:00+09:00");
            json!({ "calendar": "seoul", "window": window, "opens": at(opens), "closes": at(closes) })
        };
        let listed = days.json();
        let trading: Vec<&Value> = listed
            .iter()
            .filter(|one| one.get("window") == Some(&"trading".into()))
            .collect();
        let work = [23, 28, 29].map(|day| opening("trading", &format!("{day}T09:00"), &format!("{day}T15:30")));
        assert_eq!(trading, work.iter().collect::<Vec<_>>());
        // Cut to the asked days at both ends.
        let nights: Vec<&Value> = listed
            .iter()
            .filter(|one| one.get("window") == Some(&"night".into()))
            .collect();
        assert_eq!(nights.len(), 8);
        assert_eq!(nights.first().copied(), Some(&opening("night", "23T00:00", "23T05:00")));
        let last = json!({
            "calendar": "seoul", "window": "night", "opens": "2026-09-29T23:30:00+09:00", "closes": "2026-09-30T00:00:00+09:00",
        });
        assert_eq!(nights.last().copied(), Some(&last));
        assert_eq!(listed.len(), 11);
    }

    #[test]
    fn shows_what_lasts_for_days_where_the_clock_jumps_and_all_zones() {
        let windows = "{ long: [{ from: 2026-10-23T10:00, to: 2026-10-26T12:00 }], day: [{ days: sun }], late: [{ days: sat, \
                       hours: 18:00-24:00 }], always: [{ days: daily }], never: [{ days: 2020-01-01 }] }";
        let yaml = format!("a: {{ timezone: Europe/London, windows: {windows} }}\nb: {{ timezone: UTC }}\n");
        assert_eq!(
            table(&yaml, "2026-10-23", 4),
            "a (Europe/London)
                  long     day      late         always   never
  Fri 2026-10-23  10:00–   -        -            all day  -
  Sat 2026-10-24  all day  -        18:00–24:00  all day  -
  Sun 2026-10-25  all day  all day  -            all day  -      the clock goes from UTC+01 to UTC+00
  Mon 2026-10-26  –12:00   -        -            all day  -

b (UTC)

  Fri 2026-10-23
  Sat 2026-10-24
  Sun 2026-10-25
  Mon 2026-10-26
"
        );
    }

    #[test]
    fn says_what_is_not_known() {
        let holidays = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(holidays.path(), "through: 2026-12-31\ndates: { 2026-12-31: Eve }\n").unwrap();
        let path = holidays.path().display();
        let windows =
            "{ work: [{ days: mon-fri, hours: 09:00-17:00, except: holidays }, { days: fri, hours: 10:00-11:00 }] }";
        let yaml = format!("c: {{ timezone: UTC, holidays: {path}, windows: {windows} }}\n");
        assert_eq!(
            table(&yaml, "2026-12-30", 4),
            "c (UTC)
                  work
  Wed 2026-12-30  09:00–17:00
  Thu 2026-12-31  -                                        Eve
  Fri 2027-01-01  09:00–10:00?, 10:00–11:00, 11:00–17:00?
  Sat 2027-01-02  -
? not known, as the holidays are known through 2026-12-31 only
"
        );
        let calendars = calendars(&yaml);
        let listed = Days::new(calendars.iter().next().unwrap(), day("2027-01-01").unwrap(), 1).json();
        let unknown: Vec<Option<&Value>> = listed.iter().map(|one| one.get("unknown")).collect();
        assert_eq!(unknown, [Some(&true.into()), None, Some(&true.into())]);
    }

    #[test]
    fn many_windows_make_several_tables() {
        let windows: String = (0..12)
            .map(|at| format!("window-{at}: [{{ days: daily, hours: 01:00-02:0{} }}], ", at % 10))
            .collect();
        let told = table(
            &format!("c: {{ timezone: UTC, windows: {{ {windows} }} }}\n"),
            "2026-01-01",
            2,
        );
        assert!(told.lines().all(|line| line.chars().count() <= MAX_WIDTH), "{told}");
        assert_eq!(told.matches("Thu 2026-01-01").count(), 2, "{told}");
    }

    #[test]
    fn reads_days_strictly() {
        assert_eq!(day("2026-09-23"), Ok(Date::constant(2026, 9, 23)));
        for wrong in [
            "",
            "2026-9-23",
            "2026-09-31",
            "20260923",
            "2026-09-23T00:00",
            "-026-09-23",
            "1969-12-31",
            "2200-01-01",
        ] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
    }
}
