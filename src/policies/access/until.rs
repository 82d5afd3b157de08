//! When something that an operator begins now is to end.

use jiff::Timestamp;

use super::calendar::Calendars;
use super::civil::{self, Edge};

impl Calendars {
    /// The instant after `now` that `text` names: RFC 3339, or `HH:MM` for the next time that the clocks of the calendars
    /// show it, if all are in one zone. Where they skip it, the first instant after. The error is the rest of a sentence.
    pub fn instant_after(&self, text: &str, now: Timestamp) -> Result<Timestamp, String> {
        if let Some(time) = civil::time(text) {
            let zone = self.zone().ok_or(match self.is_empty() {
                true => "is of no zone, as there is no calendar: write RFC 3339, such as `2026-11-25T06:00:00+09:00`",
                false => "is of no one zone, as the calendars have several: write RFC 3339, such as `2026-11-25T06:00:00+09:00`",
            })?;
            let (today, next_day) = (civil::date_at(zone, civil::second(now)), time.is_none());
            let mut days = vec![today];
            for _ in 0..2 {
                days.extend(days.last().and_then(|day| day.tomorrow().ok()));
            }
            // Where the clock shows it twice, both are such instants.
            let instants = days.into_iter().flat_map(|day| {
                let day = if next_day { day.tomorrow().unwrap_or(day) } else { day };
                let wall = day.to_datetime(time.unwrap_or_default());
                [Edge::Start, Edge::End].map(|edge| civil::instant(zone, wall, edge))
            });
            let later = instants
                .filter_map(|second| Timestamp::from_second(second).ok())
                .filter(|at| *at > now);
            return later.min().ok_or_else(|| "does not come again".to_owned());
        }
        let at: Timestamp = text.parse().map_err(|_| {
            "is not an instant: write `06:00`, or RFC 3339 such as `2026-11-25T06:00:00+09:00`".to_owned()
        })?;
        match at > now {
            true => Ok(at),
            false => Err(format!("is not in the future: it is {:.0} now", now)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::conf::{Load, Named, Node, Read};

    fn calendars(yaml: &str) -> Calendars {
        let load = Load::new();
        let node = load.text("t.yaml", yaml).unwrap();
        let named = Named::<Node>::read(&node, &load).unwrap();
        let calendars = Calendars::compile(&named, Timestamp::UNIX_EPOCH, true, &load);
        assert!(!load.has_errors());
        calendars
    }

    fn after(zone: &str, text: &str, now: &str) -> String {
        let calendars = calendars(&format!("c: {{ timezone: {zone}, windows: {{}} }}"));
        let at = calendars.instant_after(text, now.parse().unwrap()).unwrap();
        civil::show(at, calendars.zone().unwrap())
    }

    #[test]
    fn takes_the_next_time_that_clocks_show_it() {
        let seoul = |text, now| after("Asia/Seoul", text, now);
        assert_eq!(seoul("06:00", "2026-11-24T23:45+09:00"), "2026-11-25T06:00+09:00");
        assert_eq!(seoul("06:00", "2026-11-24T05:59:59+09:00"), "2026-11-24T06:00+09:00");
        assert_eq!(seoul("06:00", "2026-11-24T06:00+09:00"), "2026-11-25T06:00+09:00");
        assert_eq!(seoul("00:00", "2026-12-31T23:59+09:00"), "2027-01-01T00:00+09:00");
        assert_eq!(seoul("24:00", "2026-12-31T23:59+09:00"), "2027-01-01T00:00+09:00");
        assert_eq!(
            seoul("2026-11-25T00:00Z", "2026-11-24T06:00+09:00"),
            "2026-11-25T09:00+09:00"
        );
    }

    #[test]
    fn follows_clocks_that_are_changed() {
        let london = |text, now| after("Europe/London", text, now);
        // Shown twice: each is a next time.
        assert_eq!(london("01:30", "2026-10-25T01:15+01:00"), "2026-10-25T01:30+01:00");
        assert_eq!(london("01:30", "2026-10-25T01:45+01:00"), "2026-10-25T01:30+00:00");
        // Skipped: the first instant after.
        assert_eq!(london("01:30", "2027-03-28T00:30+00:00"), "2027-03-28T02:00+01:00");
        assert_eq!(london("01:30", "2027-03-28T02:00+01:00"), "2027-03-29T01:30+01:00");
    }

    #[test]
    fn refuses_what_names_no_instant_to_come() {
        let now = "2026-11-24T12:00Z".parse().unwrap();
        let one = calendars("c: { timezone: Asia/Seoul, windows: {} }");
        for text in [
            "",
            "6:00",
            "25:00",
            "06:60",
            "tomorrow",
            "2026-11-25",
            "2026-11-25T06:00",
            "06:00 ",
        ] {
            assert!(one.instant_after(text, now).is_err(), "{text}");
        }
        let past = one.instant_after("2026-11-24T12:00:00Z", now).unwrap_err();
        assert_eq!(past, "is not in the future: it is 2026-11-24T12:00:00Z now");
        let two = calendars("c: { timezone: Asia/Seoul, windows: {} }\nd: { timezone: UTC, windows: {} }");
        assert!(two.instant_after("06:00", now).unwrap_err().contains("several"));
        let same = calendars("c: { timezone: Asia/Seoul, windows: {} }\nd: { timezone: Asia/Seoul, windows: {} }");
        assert!(same.instant_after("06:00", now).is_ok());
        assert!(
            calendars("{}")
                .instant_after("06:00", now)
                .unwrap_err()
                .contains("no calendar")
        );
    }
}
