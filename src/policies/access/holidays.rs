//! The holidays of a country, from a file:
//!
//! ```yaml
//! through: 2028-12-31               # what comes later is not known
//! dates:
//!   2026-09-25: 추석
//! ```

use jiff::civil::Date;

use super::civil::{self, Day};
use crate::conf::{Describe, Load, Named, Place, Read, Schema, Schemas, Spanned};
use crate::engine::Truth;

crate::settings! {
    /// The holidays of a country.
    struct HolidaysSettings {
        /// The last day about which anything is known, such as `2028-12-31`.
        through: Spanned<Day>,
        /// What each holiday is called, by its date.
        dates: Named<String> as Dates,
    }
}

/// What stands under `dates`.
enum Dates {}

impl Describe for Dates {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::map_of(&format!("^{}$", civil::DATE), Schema::scalar(), 0)
    }
}

/// Known holidays, up to a day.
#[derive(Debug)]
pub struct Holidays {
    /// The last day about which anything is known.
    pub(super) through: Date,
    /// Where that is written.
    pub(super) through_place: Place,
    /// Sorted by date.
    dates: Vec<(Date, String)>,
}

impl Describe for Holidays {
    fn schema(schemas: &mut Schemas) -> Schema {
        HolidaysSettings::schema(schemas)
    }
}

impl Holidays {
    /// Reads the file named at `name`, relative to the file that names it.
    pub fn load(name: &Spanned<String>, load: &Load) -> Option<Self> {
        let document = load.named_document(&name.value, &name.place)?;
        let HolidaysSettings { through, dates } = HolidaysSettings::read(&document, load)?;
        let mut sorted = Vec::with_capacity(dates.0.len());
        let mut good = true;
        for (written, name) in dates.0 {
            match civil::date(&written.value) {
                Ok(date) if date > through.value.0 => {
                    let message = format!("`{}` is later than `through`", written.value);
                    load.error_with(
                        &written.place,
                        message,
                        &through.place,
                        "the holidays are known through this day",
                    );
                    good = false;
                }
                Ok(date) => sorted.push((date, name)),
                Err(error) => {
                    load.error(&written.place, format!("`{}` {error}", written.value));
                    good = false;
                }
            }
        }
        sorted.sort_unstable();
        good.then_some(Self {
            through: through.value.0,
            through_place: through.place,
            dates: sorted,
        })
    }

    /// Whether `date` is a holiday, as far as that is known.
    pub fn include(&self, date: Date) -> Truth {
        if date > self.through {
            return Truth::Unknown;
        }
        self.name(date).is_some().into()
    }

    /// The holidays, and the week in which they are not known any more.
    pub fn days(&self) -> impl Iterator<Item = Date> + '_ {
        let unknown = std::iter::successors(self.through.tomorrow().ok(), |day| day.tomorrow().ok());
        self.dates.iter().map(|(date, _)| *date).chain(unknown.take(7))
    }

    /// What the holiday on `date` is called.
    pub fn name(&self, date: Date) -> Option<&str> {
        let at = self.dates.binary_search_by_key(&date, |(date, _)| *date).ok()?;
        self.dates.get(at).map(|(_, name)| name.as_str())
    }
}
