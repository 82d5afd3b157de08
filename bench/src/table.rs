//! Samples in, Markdown out.

use std::fmt;
use std::time::Duration;

use crate::load::Outcome;
use crate::peers::Kind;
use crate::scenarios::Scenario;

/// One peer's turn in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    requests_per_second: f64,
    cpu_micros_per_request: f64,
    /// Share of its core that the peer used; well below 1 the load was the bottleneck, not the peer.
    busy: f64,
    median_millis: f64,
    p99_millis: f64,
}

impl Sample {
    #[allow(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
    pub fn new(outcome: &Outcome, cpu: Duration) -> Self {
        let (requests, seconds) = (outcome.requests as f64, outcome.duration.as_secs_f64());
        Self {
            requests_per_second: requests / seconds,
            cpu_micros_per_request: cpu.as_secs_f64() * 1e6 / requests,
            busy: cpu.as_secs_f64() / seconds,
            median_millis: outcome.median.as_secs_f64() * 1e3,
            p99_millis: outcome.p99.as_secs_f64() * 1e3,
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} requests/s, {:.1} µs each",
            self.requests_per_second, self.cpu_micros_per_request
        )
    }
}

/// Written as one Markdown table: medians over the rounds, and ratios as the median of each round's own ratio.
#[derive(Default)]
pub struct Table {
    /// In the order they came: rounds of one peer and scenario count up together.
    samples: Vec<(Scenario, Kind, Sample)>,
    notes: Vec<String>,
}

impl Table {
    pub fn add(&mut self, scenario: Scenario, kind: Kind, sample: Sample) {
        self.samples.push((scenario, kind, sample));
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn of(&self, scenario: Scenario, kind: Kind) -> Vec<Sample> {
        let own = self.samples.iter().filter(|(s, k, _)| *s == scenario && *k == kind);
        own.map(|(_, _, sample)| *sample).collect()
    }

    /// How many times the CPU of `base` a request costs.
    fn ratio(&self, own: &[Sample], scenario: Scenario, base: Kind) -> String {
        let base = self.of(scenario, base);
        let pairs = own.iter().zip(&base);
        let ratios = pairs.map(|(own, base)| own.cpu_micros_per_request / base.cpu_micros_per_request);
        median(ratios).map_or("–".to_owned(), |ratio| format!("{ratio:.2}×"))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| scenario | peer | requests/s | CPU per request, µs (range) | core busy | latency p50, p99 | CPU ÷ bare Pingora | CPU ÷ nginx | CPU ÷ own plain route |"
        )?;
        writeln!(f, "|---|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for scenario in Scenario::ALL {
            for kind in Kind::ALL {
                let own = self.of(scenario, kind);
                let of = |field: fn(&Sample) -> f64| median(own.iter().map(field)).unwrap_or_default();
                let cpu = |sample: &Sample| sample.cpu_micros_per_request;
                let least = own.iter().map(cpu).fold(f64::INFINITY, f64::min);
                let most = own.iter().map(cpu).fold(0.0, f64::max);
                if own.is_empty() {
                    continue;
                }
                writeln!(
                    f,
                    "| {scenario} | {kind} | {:.0} | {:.1} ({least:.1}–{most:.1}) | {:.0} % | {:.1} ms, {:.1} ms | {} | {} | {} |",
                    of(|sample| sample.requests_per_second),
                    of(cpu),
                    of(|sample| sample.busy) * 100.0,
                    of(|sample| sample.median_millis),
                    of(|sample| sample.p99_millis),
                    self.ratio(&own, scenario, Kind::Bare),
                    self.ratio(&own, scenario, Kind::Nginx),
                    match kind {
                        Kind::Gwanmun => self.ratio(&own, scenario, Kind::Plain),
                        _ => "–".to_owned(),
                    },
                )?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(lower.midpoint(upper))
}
