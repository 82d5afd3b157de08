//! `gwanmun diff`: what two configurations do otherwise, for whom and when.
//!
//! Decisions are compared, never text. For each route of either file the requests that its match takes are decided under
//! both, by the gateway's own code and from assumptions, in every combination of what the rules of the routes they take
//! mention: callers without a credential and with one of each issuer; sets of scopes and roles; values of claims, headers
//! and query parameters, with another one and none; logins as long ago as one may be, longer ago and nobody knows when; addresses inside and outside of networks; clients; and every state of
//! the windows in the asked days and around the days that some window names, its holidays included. What no rule mentions
//! cannot turn a decision. Requests that several matches take are tried where they go otherwise than all others. Where a
//! request comes to the same rules on both sides nothing is tried. Where there are too many combinations, those of values
//! that differ between the two come first, and what is left out is said: it never counts as no change. Limits count as open,
//! and are compared by their numbers; nothing counts as frozen.

mod axes;
mod boxes;
mod compare;
mod meets;
mod networks;
mod others;
mod report;
mod shrink;
mod sides;
#[cfg(test)]
mod tests;
mod times;
mod units;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use self::compare::Comparer;
use self::others::Others;
use self::report::Report;
use self::sides::Side;
use self::times::Period;
use super::calendar::day;
use super::{NO, explain, tell};
use crate::policies::access::midnight;
use crate::rehearse::Paint;
use crate::snapshot::Snapshot;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "`closed` is what is allowed now and will be refused, `opened` the reverse. A change is said of those for whom \
                  something may be allowed at all: who lacks what a route needs before and after is not counted among \
                  `everybody`, and who only has to log in again is. Rules that cannot be tried in every way, such as those with `if:`, are \
                  left out on both sides and listed as not compared; a change is then told as far as they let callers. \
                  Exit code 0: no change (as `--fail-on` narrows it); 1: a \
                  change, or not all could be tried; 2: wrong usage or unreadable input.\n\n\
                  With --json: {opens, closes, changed, complete, changes: [{kind: closed|opened|refused|answered, route, requests, who, \
                  when, times: [{from, to}], before, after, as_far_as: [rule]}], limits, handling, renamed: [{from, to}], changed_not_compared, \
                  not_compared, not_tried}. `before` and `after` are {effect: allow, by} or {effect: deny|challenge|throttle, \
                  status, code, policy}; `times` is empty for always, and names what was found in the asked days and around \
                  special ones.\n\n\
                  Example:\n  gwanmun diff conf/now.yaml conf/next.yaml --from 2026-09-23 --days 7"
)]
pub(super) struct Arguments {
    /// The configuration in force
    now: PathBuf,
    /// The one to come
    next: PathBuf,
    /// The first day that is looked at; otherwise today
    #[arg(long, value_name = "DATE", value_parser = day)]
    from: Option<Date>,
    /// How many days; days that a window names by date, and holidays, are looked at beyond these too
    #[arg(long, value_name = "COUNT", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    /// Which changes make the exit code 1
    #[arg(long, value_name = "KIND", value_enum, default_value_t = FailOn::Any)]
    fail_on: FailOn,
    /// Print the changes as JSON
    #[arg(long)]
    json: bool,
}

/// Which changes make the exit code 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// What was refused is allowed
    Opened,
    /// What was allowed is refused
    Closed,
    /// Any change
    Any,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let at = arguments
        .from
        .map_or_else(Timestamp::now, |from| midnight(&TimeZone::UTC, from));
    let now = explain::open(&arguments.now, at)?;
    let next = explain::open(&arguments.next, at)?;
    let report = compare(&now, &next, arguments.from, arguments.days);
    if arguments.json {
        tell(&format!("{:#}\n", report.json()))?;
    } else {
        tell(&report.text(Paint::for_stdout()))?;
    }
    let fails = match arguments.fail_on {
        FailOn::Opened => report.opens(),
        FailOn::Closed => report.closes(),
        FailOn::Any => report.is_change(),
    };
    // What was not tried may be a change of any kind.
    Ok(if fails || !report.is_complete() { NO } else { 0 }.into())
}

/// Compares two configurations over so many days, from the first one or from today on.
fn compare(now: &Snapshot, next: &Snapshot, first: Option<Date>, days: u16) -> Report {
    let mut calendars = next.calendars.iter().chain(now.calendars.iter());
    let zone = calendars
        .next()
        .map_or(TimeZone::UTC, |calendar| calendar.zone().clone());
    let today = || Timestamp::now().to_zoned_datetime(zone.clone()).date();
    let first = first.unwrap_or_else(today);
    let sides = [Side::new(now), Side::new(next)];
    let (units, is_cut) = units::units(&sides);
    let period = Period { first, days };
    let mut comparer = Comparer::new(sides, period.clone(), zone);
    if is_cut {
        let line = "routes overlap in more ways than are looked at";
        comparer.cut.push(line.to_owned());
    }
    for unit in units {
        let name = unit.name.clone();
        if let Err(error) = comparer.compare(unit) {
            comparer.cut.push(format!("route `{name}`: {error:#}"));
        }
    }
    Report {
        others: Others::find(&comparer.sides, &period),
        lines: comparer.lines,
        renamed: comparer.renamed,
        cut: comparer.cut,
    }
}
