//! The command line.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use crate::peers::Kind;
use crate::scenarios::Scenario;

pub const HELP: &str = "\
Measures the gateway beside nginx and a bare Pingora proxy.

Usage: gwanmun-bench [--rounds N] [--seconds N] [--connections N] [--peers LIST] [--scenarios LIST] [--gwanmun PATH]

  --rounds       how often each peer is loaded in each scenario (5)
  --seconds      how long each time (4)
  --connections  keep-alive connections of wrk (64)
  --peers        of nginx,bare,subrequests,connector,gwanmun-plain,gwanmun (all); gwanmun-plain in jwt and aggregate, where it
                 is what to compare with, and a Pingora that asks three parts either way in aggregate
  --scenarios    of plain,jwt,transfer,aggregate (all)
  --gwanmun      the release binary (target/release/gwanmun)

`gwanmun-bench soak --help` tells of reloads under load, `hold --help` of clients that hold on, `overhead --help` of what an
aggregate adds to its slowest part.

Example: gwanmun-bench --rounds 9 --peers bare,gwanmun --scenarios transfer
";

pub struct Options {
    pub rounds: usize,
    pub seconds: u64,
    pub connections: u32,
    pub peers: Vec<Kind>,
    pub scenarios: Vec<Scenario>,
    pub gwanmun: PathBuf,
}

impl Options {
    /// `None` where help was asked for.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let mut options = Self {
            rounds: 5,
            seconds: 4,
            connections: 64,
            peers: Kind::ALL.to_vec(),
            scenarios: Scenario::ALL.to_vec(),
            gwanmun: PathBuf::from("target/release/gwanmun"),
        };
        while let Some(name) = arguments.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let value = arguments.next().with_context(|| format!("`{name}` needs a value"))?;
            let number = || {
                value
                    .parse::<u32>()
                    .with_context(|| format!("`{name} {value}`: not a number"))
            };
            match name.as_str() {
                "--rounds" => options.rounds = usize::try_from(number()?)?,
                "--seconds" => options.seconds = number()?.into(),
                "--connections" => options.connections = number()?,
                "--peers" => options.peers = list(&value, &Kind::ALL)?,
                "--scenarios" => options.scenarios = list(&value, &Scenario::ALL)?,
                "--gwanmun" => options.gwanmun = PathBuf::from(value),
                _ => bail!("unknown option `{name}`\n\n{HELP}"),
            }
        }
        ensure!(
            options.rounds > 0 && options.seconds > 0 && options.connections > 0,
            "nothing to measure"
        );
        Ok(Some(options))
    }
}

/// The members of `all` that `text` names, separated by commas.
fn list<T: Copy + std::fmt::Display>(text: &str, all: &[T]) -> anyhow::Result<Vec<T>> {
    text.split(',')
        .map(|word| {
            let found = all.iter().find(|known| known.to_string() == word);
            found.copied().with_context(|| format!("`{word}` is not known"))
        })
        .collect()
}
