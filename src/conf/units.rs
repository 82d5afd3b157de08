//! Durations, sizes, rates and instants: a number without its unit is an error, and so is an instant without its offset.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;

use super::{Describe, Json, Load, Node, Read, Schema, Schemas};

/// Splits `250ms` into its number and unit; `example` is a fraction in that unit and how it is written whole.
fn number<'t>(text: &'t str, example: &str) -> Result<(u64, &'t str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let number = number
        .parse()
        .map_err(|_| "does not start with a whole number".to_owned())?;
    if unit.starts_with(['.', ',']) {
        return Err(format!("has a fraction; write a whole number: {example}"));
    }
    Ok((number, unit))
}

/// `250ms`, `5s`, `1m`, `1h`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number(text, "`1500ms` for `1.5s`")?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("has no unit; write `{text}s` or `{text}ms`")),
        _ => return Err("is not a duration: the units are `ms`, `s`, `m`, `h`, `d`".into()),
    };
    // A century is far beyond any setting and keeps all later arithmetic on instants in range.
    match number.checked_mul(millis) {
        Some(millis) if millis <= 100 * 366 * 86_400_000 => Ok(Duration::from_millis(millis)),
        _ => Err("is longer than a hundred years".into()),
    }
}

/// In the largest unit that leaves no rest.
pub(super) fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ];
    let found = units
        .into_iter()
        .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    let (unit, name) = found.unwrap_or((1_000, "s"));
    format!("{}{name}", millis / unit)
}

/// A number of bytes: `1KiB`, `10MB`, `512B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Describe for ByteSize {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("ByteSize", |_| {
            Schema::text("^[0-9]+([kKMG]?B|[KMG]iB)$")
                .about("A size with its unit: `B`, `kB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB` or `GiB` (powers of 1024).")
                .examples(["1KiB", "10MiB"])
        })
    }

    fn written(&self) -> Option<Json> {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let found = units
            .into_iter()
            .find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit));
        let (unit, name) = found.unwrap_or((1, "B"));
        Some(format!("{}{name}", self.0 / unit).into())
    }
}

impl Read for ByteSize {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a size such as `1KiB`", load, |text| {
            let (number, unit) = number(text, "`1536KiB` for `1.5MiB`")?;
            let factor = match unit {
                "B" => 1,
                "kB" | "KB" => 1_000,
                "MB" => 1_000_000,
                "GB" => 1_000_000_000,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                "" => return Err(format!("has no unit; write `{text}B` or `{text}KiB`")),
                _ => return Err("is not a size: the units are `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`".into()),
            };
            number
                .checked_mul(factor)
                .map(ByteSize)
                .ok_or_else(|| "is too large".to_owned())
        })
    }
}

/// So many per period: `20/s`, `600/m`, `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time.
    pub period: Duration,
}

/// As one would write it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            3_600 => "h",
            60 => "m",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl Describe for Rate {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Rate", |_| {
            Schema::text("^[0-9]*[1-9][0-9]*/[smh]$")
                .about("So many per second, minute or hour.")
                .examples(["20/s", "600/m", "1000/h"])
        })
    }
}

impl Read for Rate {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a rate such as `20/s`", load, |text| {
            let (count, unit) = number(text, "`90/m` for `1.5/s`")?;
            let period = match unit {
                "/s" => 1,
                "/m" => 60,
                "/h" => 3_600,
                "" => return Err(format!("has no unit; write `{text}/s` or `{text}/m`")),
                _ => return Err("is not a rate: the units are `/s`, `/m`, `/h`".into()),
            };
            let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
            let count = count.ok_or_else(|| "is not a rate from 1 to 4294967295".to_owned())?;
            Ok(Rate {
                count,
                period: Duration::from_secs(period),
            })
        })
    }
}

/// A share of a whole: `20%`, from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl Percent {
    /// So much of a number, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        whole.saturating_mul(u64::from(self.0)) / 100
    }
}

/// As one would write it.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Describe for Percent {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Percent", |_| {
            Schema::text("^0*(100|[0-9]{1,2})%$")
                .about("A share of a whole, from `0%` to `100%`.")
                .examples(["20%", "50%"])
        })
    }

    fn written(&self) -> Option<Json> {
        Some(self.to_string().into())
    }
}

impl Read for Percent {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a share such as `20%`", load, |text| {
            let (number, unit) = number(text, "`20%` for `0.2`")?;
            match (unit, u8::try_from(number)) {
                ("%", Ok(share)) if share <= 100 => Ok(Self(share)),
                ("%", _) => Err("is more than the whole: a share is at most `100%`".into()),
                ("", _) => Err(format!("has no unit; write `{text}%`")),
                _ => Err("is not a share: whole numbers with `%`, such as `20%`".into()),
            }
        })
    }
}

/// An instant of RFC 3339, with the offset it was written in; seconds may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// The instant.
    pub at: Timestamp,
    /// The offset, in which it is shown.
    pub offset: Offset,
}

impl Instant {
    const PATTERN: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$";

    /// Reads `2026-09-25T23:45+09:00`; the error is the rest of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let wanted = || "is not an instant such as `2026-09-25T23:45+09:00`".to_owned();
        let rest = shape.strip_prefix("0000-00-00T00:00").ok_or_else(wanted)?;
        let offset = match rest.strip_prefix(":00") {
            Some(rest) => match rest.strip_prefix(".0") {
                Some(fraction) => fraction.trim_start_matches('0'),
                None => rest,
            },
            None => rest,
        };
        match offset {
            "Z" | "+00:00" | "-00:00" => {}
            "" => return Err(format!("has no offset: write `{text}+09:00`, or `{text}Z` for UTC")),
            _ => return Err(wanted()),
        }
        let at = text.parse().map_err(|_| wanted())?;
        let written = Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset());
        Ok(Self {
            at,
            offset: written.unwrap_or(Offset::UTC),
        })
    }
}

/// In RFC 3339 with seconds.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.display_with_offset(self.offset).fmt(f)
    }
}

impl Describe for Instant {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Instant", |_| {
            Schema::text(Self::PATTERN)
                .about("An instant with its offset; seconds may be left out.")
                .examples(["2026-09-25T23:45+09:00"])
        })
    }
}

impl Read for Instant {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("an instant such as `2026-09-25T23:45+09:00`", load, Self::parse)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_only_with_their_unit() {
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        for bad in [
            "5",
            "",
            "s",
            "-5s",
            "1h30m",
            "5 s",
            "5S",
            "1.5s",
            "99999999999999999999s",
            "9999999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["250ms", "0s", "90s", "1m", "36h", "2d"] {
            assert_eq!(written(duration(text).unwrap()), text);
        }
        for (size, text) in [(1024, "1KiB"), (1500, "1500B"), (10 << 20, "10MiB"), (0, "0B")] {
            assert_eq!(ByteSize(size).written(), Some(text.into()));
        }
    }

    #[test]
    fn reads_sizes_and_rates_only_with_their_unit() {
        let read = |text: &str| {
            let load = Load::new();
            let node = load.text("t.yaml", &format!("[{text}]")).unwrap();
            let item = node.items(&load).unwrap().first().unwrap();
            (ByteSize::read(item, &load), Rate::read(item, &load))
        };
        assert_eq!(read("1KiB").0, Some(ByteSize(1024)));
        assert_eq!(read("10MB").0, Some(ByteSize(10_000_000)));
        assert_eq!(
            read("600/m").1,
            Some(Rate {
                count: NonZeroU32::new(600).unwrap(),
                period: Duration::from_secs(60)
            })
        );
        assert_eq!(read("10"), (None, None));
        assert_eq!(read("0/s"), (None, None));
        assert_eq!(read("18446744073709551615GiB"), (None, None));
    }

    #[test]
    fn reads_shares_only_with_their_unit() {
        let read = |text: &str| {
            let load = Load::new();
            let node = load.text("t.yaml", &format!("['{text}']")).unwrap();
            Percent::read(node.items(&load).unwrap().first().unwrap(), &load)
        };
        assert_eq!(read("20%"), Some(Percent(20)));
        assert_eq!(read("100%"), Some(Percent(100)));
        for bad in ["20", "0.2", "101%", "999%", "-1%", "20 %", "%", "12.5%"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Percent(20).of(19), 3);
        let load = Load::new();
        let node = load.text("t.yaml", "0.2").unwrap();
        Percent::read(&node, &load);
        let found: Vec<String> = load.into_findings(None).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["t.yaml:1:1: `0.2` has a fraction; write a whole number: `20%` for `0.2`"]
        );
    }

    #[test]
    fn reads_instants_only_with_their_offset() {
        let shown = |text: &str| Instant::parse(text).map(|instant| instant.to_string());
        for (text, found) in [
            ("2026-09-25T23:45+09:00", "2026-09-25T23:45:00+09:00"),
            ("2026-09-25T23:45:10.25-03:30", "2026-09-25T23:45:10.25-03:30"),
            ("2026-09-25T23:45:10Z", "2026-09-25T23:45:10+00:00"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(found), "{text}");
        }
        assert_eq!(
            shown("2026-09-25T23:45").unwrap_err(),
            "has no offset: write `2026-09-25T23:45+09:00`, or `2026-09-25T23:45Z` for UTC"
        );
        for wrong in [
            "",
            "23:45",
            "2026-09-25",
            "2026-09-25 23:45Z",
            "20260925T2345Z",
            "2026-13-25T23:45Z",
            "2026-09-25T23:45+9",
            "2026-09-25T23:45z",
            "2026-09-25T23:45+09:00[Asia/Seoul]",
            "2026-09-25T23Z",
            "2026-09-25T23:45:Z",
            "2026-09-25T23:45:00.Z",
            "2026-09-25T23:45+99:00",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
