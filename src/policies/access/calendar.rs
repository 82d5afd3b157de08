//! `calendars:` — a time zone, holidays, and named windows.
//!
//! ```yaml
//! calendars:
//!   seoul:
//!     timezone: Asia/Seoul
//!     holidays: holidays-kr.yaml                # relative to this file
//!     windows:
//!       night:   [{ days: daily, hours: 23:30-05:00 }]
//!       trading: [{ days: mon-fri, hours: 09:00-15:30, except: holidays }]
//!       upkeep:  [{ days: 3rd sun, hours: 00:00-06:00 }, { from: 2026-12-31T23:50, to: 2027-01-01T00:30 }]
//! ```
//!
//! Times are those of a clock on the wall in the zone. The end is excluded; hours that cross midnight belong to the day
//! they begin on; what overlaps is one. Where the clock jumps forward, a time it skips means the first instant after; where
//! it is set back, the first of two counts for a start and the second for an end. After the last day the holidays are known
//! for, an entry that names `holidays` is unknown during its hours on a day it might fall on.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::civil::{self, Hours, Moment};
use super::days::Days;
use super::holidays::Holidays;
use super::window::{Recurring, Schedule, Span, WindowRef};
use crate::conf::{Describe, Load, Named, Node, Place, Read, Schema, Schemas, Spanned, nearest};

/// Holidays that end sooner get a warning.
const RENEW_WITHIN_DAYS: i64 = 60;

crate::settings! {
    /// A time zone, holidays, and named windows.
    struct CalendarSettings {
        /// The zone whose wall clock counts, by its IANA name such as `Asia/Seoul`.
        timezone: Spanned<String>,
        /// The file of the holidays, relative to this one.
        holidays: Option<Spanned<String>>,
        /// When each window is open; conditions name one as `calendar.window`.
        windows: Named<Node> as Named<Vec<WindowEntry>>,
    }
}

crate::settings! {
    /// Hours of certain days.
    struct RecurringSettings {
        /// `daily`, `holidays`, a weekday, a range (`fri-mon`), `1st` to `5th` or `last` of a weekday, a date, or a list of these.
        days: Days,
        /// From when until when, the end excluded; past midnight they belong to the day they begin on. Left out, the whole day.
        hours: Hours = Hours::WHOLE_DAY,
        /// Days on which it stays closed.
        except: Option<Days>,
    }
}

crate::settings! {
    /// One span of time.
    struct SpanSettings {
        /// When it opens, by the clock of the calendar's zone: `2026-12-31T23:50`.
        from: Moment,
        /// When it closes.
        to: Spanned<Moment>,
    }
}

/// What stands in the list of a window.
enum WindowEntry {}

impl Describe for WindowEntry {
    fn schema(schemas: &mut Schemas) -> Schema {
        Schema::any_of([RecurringSettings::schema(schemas), SpanSettings::schema(schemas)])
    }
}

/// The calendars of a configuration.
#[derive(Debug, Default)]
pub struct Calendars {
    now: Timestamp,
    calendars: Vec<Calendar>,
}

impl Describe for Calendars {
    fn schema(schemas: &mut Schemas) -> Schema {
        Named::<CalendarSettings>::schema(schemas)
    }
}

#[derive(Debug)]
struct Calendar {
    name: String,
    /// UTC where it could not be read.
    zone: TimeZone,
    windows: Vec<WindowRef>,
    holidays: Option<Arc<Holidays>>,
    /// Windows that could not be compiled; a reference to one is no second mistake.
    broken: Vec<String>,
    /// Whether the windows themselves are missing for such a reason.
    is_broken: bool,
}

impl Calendars {
    /// Compiles `calendars:`. `now` is the instant that "past" and "soon" are said of. Holidays that have ended are an
    /// error, `at_start` only a warning: a restart never takes the gate down.
    pub fn compile(named: &Named<Node>, now: Timestamp, at_start: bool, load: &Load) -> Self {
        let mut compiler = Compiler {
            now,
            at_start,
            load,
            files: Vec::new(),
        };
        let calendars = named.0.iter().map(|(name, node)| compiler.calendar(&name.value, node));
        Self {
            now,
            calendars: calendars.collect(),
        }
    }

    /// The instant the calendars were compiled for.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The window that `calendar.window` at `place` names.
    pub fn window(&self, name: &str, place: &Place, load: &Load) -> Option<WindowRef> {
        let Some((of, window)) = name.split_once('.') else {
            let suffix = |known: &&WindowRef| known.name().rsplit('.').next() == Some(name);
            let hint = self
                .windows()
                .find(suffix)
                .map(|known| format!(", did you mean `{}`?", known.name()));
            let hint = hint.unwrap_or_else(|| ": write `calendar.window`".into());
            load.error(place, format!("`{name}` is not a window{hint}"));
            return None;
        };
        let Some(calendar) = self.calendars.iter().find(|calendar| calendar.name == of) else {
            let known = self.calendars.iter().map(|calendar| calendar.name.as_str());
            load.error(place, format!("unknown calendar `{of}`{}", did_you_mean(of, known)));
            return None;
        };
        let found = calendar.windows.iter().find(|known| **known.name() == *name);
        if found.is_none() && !calendar.is_broken && !calendar.broken.iter().any(|broken| broken == window) {
            let known = calendar
                .windows
                .iter()
                .filter_map(|known| known.name().rsplit('.').next());
            let hint = did_you_mean(window, known);
            load.error(place, format!("calendar `{of}` has no window `{window}`{hint}"));
        }
        found.cloned()
    }

    /// All windows, in the order of the file.
    pub fn windows(&self) -> impl Iterator<Item = &WindowRef> {
        self.calendars.iter().flat_map(|calendar| &calendar.windows)
    }

    /// The zone that all calendars have; `None` where there is no calendar, or there are several zones.
    pub fn zone(&self) -> Option<&TimeZone> {
        let zone = &self.calendars.first()?.zone;
        self.calendars
            .iter()
            .all(|calendar| calendar.zone == *zone)
            .then_some(zone)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.calendars.is_empty()
    }

    /// The calendars that have holidays, each with the last day they are known for.
    pub fn holidays_through(&self) -> impl Iterator<Item = (&str, Date)> {
        let through = |calendar: &Calendar| calendar.holidays.as_ref().map(|holidays| holidays.through);
        self.calendars
            .iter()
            .filter_map(move |calendar| Some((calendar.name.as_str(), through(calendar)?)))
    }
}

/// `, did you mean …?`, where there is something near.
pub(super) fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!(", did you mean `{near}`?"))
}

struct Compiler<'a> {
    now: Timestamp,
    at_start: bool,
    load: &'a Load,
    /// Holidays by their path, so that a file with mistakes reports them once.
    files: Vec<(std::path::PathBuf, Option<Arc<Holidays>>)>,
}

impl Compiler<'_> {
    fn calendar(&mut self, name: &str, node: &Node) -> Calendar {
        let mut calendar = Calendar {
            name: name.to_owned(),
            zone: TimeZone::UTC,
            windows: Vec::new(),
            holidays: None,
            broken: Vec::new(),
            is_broken: true,
        };
        let Some(settings) = CalendarSettings::read(node, self.load) else {
            return calendar;
        };
        let zone = self.zone(&settings.timezone);
        if let Some(file) = &settings.holidays {
            calendar.holidays = self.holidays(file, zone.as_ref().unwrap_or(&TimeZone::UTC));
        }
        // Without a zone the windows are read nevertheless, for the mistakes in them.
        calendar.is_broken = zone.is_none();
        let zone = zone.unwrap_or(TimeZone::UTC);
        calendar.zone = zone.clone();
        for (window, node) in &settings.windows.0 {
            let schedule = Schedule {
                zone: zone.clone(),
                holidays: calendar.holidays.clone(),
                recurring: Vec::new(),
                spans: Vec::new(),
            };
            match self.schedule(schedule, settings.holidays.is_some(), node) {
                Some(schedule) if !calendar.is_broken => {
                    let name = format!("{name}.{}", window.value);
                    calendar.windows.push(WindowRef::new(&name, schedule, self.now));
                }
                _ => calendar.broken.push(window.value.clone()),
            }
        }
        calendar
    }

    fn zone(&self, name: &Spanned<String>) -> Option<TimeZone> {
        match TimeZone::get(&name.value) {
            Ok(zone) if !zone.is_unknown() => Some(zone),
            _ => {
                let known: Vec<String> = jiff::tz::db().available().map(|known| known.to_string()).collect();
                let hint = did_you_mean(&name.value, known.iter().map(String::as_str));
                let message = format!("unknown time zone `{}`{hint}", name.value);
                self.load.error(&name.place, message);
                None
            }
        }
    }

    fn holidays(&mut self, file: &Spanned<String>, zone: &TimeZone) -> Option<Arc<Holidays>> {
        let path = file.place.directory().join(&file.value);
        if let Some((_, known)) = self.files.iter().find(|(known, _)| *known == path) {
            return known.clone();
        }
        let holidays = Holidays::load(file, self.load).map(Arc::new);
        if let Some(holidays) = &holidays {
            self.check_through(holidays, civil::date_at(zone, civil::second(self.now)));
        }
        self.files.push((path, holidays.clone()));
        holidays
    }

    fn check_through(&self, holidays: &Holidays, today: Date) {
        let (through, place) = (holidays.through, &holidays.through_place);
        let days = through.duration_since(today).as_hours() / 24;
        if days < 0 {
            let message = format!("the holidays are known through {through} only, and today is {today}");
            if self.at_start {
                let message = format!("{message}; windows that name holidays are unknown on days they might fall on");
                self.load.warn(place, message);
            } else {
                self.load.error(place, message);
            }
        } else if days <= RENEW_WITHIN_DAYS {
            let message = format!("the holidays are known through {through} only, which is {days} days from now");
            self.load.warn(place, message);
        }
    }

    fn schedule(&self, mut schedule: Schedule, has_holidays: bool, node: &Node) -> Option<Schedule> {
        let mut good = true;
        for item in node.items(self.load)? {
            let read = if item.get("from").is_some() || item.get("to").is_some() {
                self.span(item, &schedule.zone).map(|span| schedule.spans.push(span))
            } else {
                self.recurring(item, has_holidays)
                    .map(|recurring| schedule.recurring.push(recurring))
            };
            good &= read.is_some();
        }
        good.then_some(schedule)
    }

    fn span(&self, node: &Node, zone: &TimeZone) -> Option<Span> {
        let SpanSettings { from, to } = SpanSettings::read(node, self.load)?;
        if to.value <= from {
            let message = format!("`{}` is not after `{from}`, where the span begins", to.value);
            self.load.error(&to.place, message);
            return None;
        }
        Some(Span::new(from, to.value, zone))
    }

    fn recurring(&self, node: &Node, has_holidays: bool) -> Option<Recurring> {
        let RecurringSettings { days, hours, except } = RecurringSettings::read(node, self.load)?;
        let mut good = true;
        for place in [Some(&days), except.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(Days::names_holidays)
        {
            if !has_holidays {
                self.load.error(place, "the calendar names no file of `holidays`");
                good = false;
            }
        }
        good.then_some(Recurring { days, hours, except })
    }
}
