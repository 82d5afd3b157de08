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
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::civil::{self, Hours, Moment};
use super::days::Days;
use super::holidays::Holidays;
use super::window::{Recurring, Schedule, Span, WindowRef};
use crate::conf::{Describe, Load, Named, Node, Place, Read, Schema, Schemas, Spanned, nearest};

static UTC: TimeZone = TimeZone::UTC;
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

/// One calendar.
#[derive(Debug)]
pub struct Calendar {
    name: String,
    /// `None` where it is not known for a mistake.
    zone: Option<TimeZone>,
    windows: Vec<WindowRef>,
    holidays: Option<Arc<Holidays>>,
    /// Windows that could not be compiled; a reference to one is no second mistake.
    broken: Vec<String>,
    /// Whether the windows themselves are missing for such a reason.
    is_broken: bool,
}

impl Calendar {
    fn clock(&self) -> Clock<'_> {
        self.zone.as_ref().map_or(Clock::Broken, Clock::Zone)
    }
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

    /// The clocks of the calendar that is `named`, else of the only one there is, else those of UTC.
    pub(super) fn clock(&self, named: Option<&Spanned<String>>, load: &Load) -> Clock<'_> {
        let Some(named) = named else {
            return match self.calendars.as_slice() {
                [] => Clock::Zone(&UTC),
                [only] => only.clock(),
                _ => Clock::Several,
            };
        };
        load.names.refer("calendar", &named.value);
        match self.calendars.iter().find(|calendar| calendar.name == named.value) {
            Some(calendar) => calendar.clock(),
            None => {
                let known = self.calendars.iter().map(|calendar| calendar.name.as_str());
                load.unknown_name("calendar", &named.value, &named.place, known);
                Clock::Broken
            }
        }
    }

    /// Notes that the only calendar there is is used.
    pub(super) fn refer_to_only(&self, load: &Load) {
        if let [only] = self.calendars.as_slice() {
            load.names.refer("calendar", &only.name);
        }
    }

    /// The window that `calendar.window` at `place` names.
    pub fn window(&self, name: &str, place: &Place, load: &Load) -> Option<WindowRef> {
        let Some((of, window)) = name.split_once('.') else {
            let suffix = |known: &&WindowRef| known.name().rsplit('.').next() == Some(name);
            let meant = self.windows().find(suffix);
            if let Some(meant) = meant {
                load.names.refer("window", meant.name());
            }
            let hint = meant.map(|known| format!(", did you mean `{}`?", known.name()));
            let hint = hint.unwrap_or_else(|| ": write `calendar.window`".into());
            load.error(place, format!("`{name}` is not a window{hint}"));
            return None;
        };
        load.names.refer("calendar", of);
        load.names.refer("window", name);
        let Some(calendar) = self.calendars.iter().find(|calendar| calendar.name == of) else {
            let known = self.calendars.iter().map(|calendar| calendar.name.as_str());
            load.unknown_name("calendar", of, place, known);
            return None;
        };
        let found = calendar.windows.iter().find(|known| **known.name() == *name);
        let is_broken = || calendar.is_broken || calendar.broken.iter().any(|broken| broken == window);
        if found.is_none() && !is_broken() && !load.names.is_declared("window", name) {
            let known = calendar
                .windows
                .iter()
                .filter_map(|known| known.name().rsplit('.').next());
            let meant = nearest(window, known.chain(calendar.broken.iter().map(String::as_str)));
            if let Some(meant) = meant {
                load.names.refer("window", &format!("{of}.{meant}"));
            }
            let hint = meant.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            load.error_about(
                "window",
                name,
                place,
                format!("calendar `{of}` has no window `{window}`{hint}"),
            );
        }
        found.cloned()
    }

    /// The calendars, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Calendar> {
        self.calendars.iter()
    }

    /// All windows, in the order of the file.
    pub fn windows(&self) -> impl Iterator<Item = &WindowRef> {
        self.calendars.iter().flat_map(|calendar| &calendar.windows)
    }

    /// The zone that all calendars have; `None` where there is no calendar, or there are several zones.
    pub fn zone(&self) -> Option<&TimeZone> {
        let zone = self.calendars.first()?.zone.as_ref()?;
        self.calendars
            .iter()
            .all(|calendar| calendar.zone.as_ref() == Some(zone))
            .then_some(zone)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.calendars.is_empty()
    }

    /// The calendars that have holidays, each with the last day they are known for.
    pub fn holidays_through(&self) -> impl Iterator<Item = (&str, Date)> {
        self.calendars
            .iter()
            .filter_map(|calendar| Some((calendar.name.as_str(), calendar.holidays_through()?)))
    }
}

impl Calendar {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone of all its wall-clock times; UTC where it could not be read.
    pub fn zone(&self) -> &TimeZone {
        self.zone.as_ref().unwrap_or(&UTC)
    }

    /// Its windows, in the order of the file.
    pub fn windows(&self) -> &[WindowRef] {
        &self.windows
    }

    /// What the holiday on `date` is called.
    pub fn holiday(&self, date: Date) -> Option<&str> {
        self.holidays.as_ref()?.name(date)
    }

    /// The last day its holidays are known for, where it has any.
    pub fn holidays_through(&self) -> Option<Date> {
        self.holidays.as_ref().map(|holidays| holidays.through)
    }
}

/// On whose clocks `now` stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock<'a> {
    /// Those of this zone.
    Zone(&'a TimeZone),
    /// Nobody says, and there are several calendars.
    Several,
    /// It is not known for a mistake that was reported.
    Broken,
}

/// `, did you mean …?`, where there is something near.
pub(super) fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!(", did you mean `{near}`?"))
}

/// What there is of a calendar's holidays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holiday {
    Unnamed,
    /// There are mistakes in them, which are reported: what depends on them makes no second one.
    Broken,
    Known,
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
            zone: None,
            windows: Vec::new(),
            holidays: None,
            broken: Vec::new(),
            is_broken: true,
        };
        let settings = CalendarSettings::read(node, self.load);
        let zone = settings.as_ref().and_then(|settings| self.zone(&settings.timezone));
        if let Some(file) = settings.as_ref().and_then(|settings| settings.holidays.as_ref()) {
            calendar.holidays = self.holidays(file, zone.as_ref().unwrap_or(&TimeZone::UTC));
        }
        let named = match (&settings, &calendar.holidays) {
            (Some(settings), _) if settings.holidays.is_none() => Holiday::Unnamed,
            (_, Some(_)) => Holiday::Known,
            (_, None) => Holiday::Broken,
        };
        // The windows of a calendar that cannot be read are read nevertheless, for the mistakes in them.
        let windows = settings.map(|settings| settings.windows).or_else(|| {
            let windows = node.get("windows")?;
            Named::read(windows, &Load::new())
        });
        calendar.is_broken = zone.is_none();
        calendar.zone = zone.clone();
        let zone = zone.unwrap_or(TimeZone::UTC);
        for (window, node) in &windows.unwrap_or_default().0 {
            let schedule = Schedule {
                zone: zone.clone(),
                holidays: calendar.holidays.clone(),
                recurring: Vec::new(),
                spans: Vec::new(),
            };
            match self.schedule(schedule, named, node) {
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
        // The data that is built in, whatever the machine has: one configuration means the same everywhere.
        let zones = TimeZoneDatabase::bundled();
        match zones.get(&name.value) {
            Ok(zone) if !zone.is_unknown() => Some(zone),
            _ => {
                let known: Vec<String> = zones.available().map(|known| known.to_string()).collect();
                // Short forms resemble each other and mean something else.
                let hint = match name.value.contains('/') {
                    true => did_you_mean(&name.value, known.iter().map(String::as_str)),
                    false => ": zones are named like `Asia/Seoul`, and `UTC`".to_owned(),
                };
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
            let days = if days == 1 {
                "1 day".to_owned()
            } else {
                format!("{days} days")
            };
            let message = format!("the holidays are known through {through} only, which is {days} from now");
            self.load.warn(place, message);
        }
    }

    fn schedule(&self, mut schedule: Schedule, named: Holiday, node: &Node) -> Option<Schedule> {
        let mut good = true;
        for item in node.items(self.load)? {
            let read = if item.get("from").is_some() || item.get("to").is_some() {
                self.span(item, &schedule.zone).map(|span| schedule.spans.push(span))
            } else {
                self.recurring(item, named)
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

    fn recurring(&self, node: &Node, named: Holiday) -> Option<Recurring> {
        let RecurringSettings { days, hours, except } = RecurringSettings::read(node, self.load)?;
        let mut good = true;
        for place in [Some(&days), except.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(Days::names_holidays)
        {
            if named == Holiday::Unnamed {
                self.load.error(place, "the calendar names no file of `holidays`");
            }
            good &= named == Holiday::Known;
        }
        good.then_some(Recurring { days, hours, except })
    }
}
