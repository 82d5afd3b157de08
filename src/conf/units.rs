//! Durations, sizes and rates: a number without its unit is an error.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Load, Node, Read};

/// Splits `250ms` into its number and unit.
fn number(text: &str) -> Result<(u64, &str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let number = number
        .parse()
        .map_err(|_| "does not start with a whole number".to_owned())?;
    Ok((number, unit))
}

/// `250ms`, `5s`, `1m`, `1h`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number(text)?;
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

/// A number of bytes: `1KiB`, `10MB`, `512B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Read for ByteSize {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a size such as `1KiB`", load, |text| {
            let (number, unit) = number(text)?;
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

impl Read for Rate {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a rate such as `20/s`", load, |text| {
            let (count, unit) = number(text)?;
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
}
