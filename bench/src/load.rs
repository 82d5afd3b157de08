//! wrk, and what it says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::machine::Cores;
use crate::process::pinned;
use crate::scenarios::Scenario;
use crate::workplace::Workplace;

/// How to load a peer.
pub struct Load<'a> {
    pub scenario: Scenario,
    pub connections: u32,
    pub cores: &'a Cores,
    pub place: &'a Workplace,
}

/// What came of it.
pub struct Outcome {
    pub requests: u64,
    pub duration: Duration,
    /// Broken or silent connections, and answers that were no success.
    pub failed: u64,
    pub median: Duration,
    pub p99: Duration,
}

impl Load<'_> {
    pub fn run(&self, peer: SocketAddr, seconds: u64) -> anyhow::Result<Outcome> {
        let script = self.place.write("load.lua", include_str!("../conf/load.lua"), &[])?;
        let output = pinned(&self.cores.load, Path::new("wrk"))
            .args(["--threads", "1", "--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--script"])
            .arg(script)
            .arg(format!("http://{peer}{}", self.scenario.path()))
            .envs(self.scenario.load_environment(self.place))
            .output()
            .context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(outcome) = text.lines().find_map(read) else {
            bail!(
                "wrk ended with {}:\n{text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        };
        Ok(outcome)
    }
}

/// The line that `load.lua` prints at the end; its times are in microseconds.
fn read(line: &str) -> Option<Outcome> {
    let numbers = line.strip_prefix("RESULT ")?.split(' ').map(str::parse);
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
    let &[requests, duration, broken, refused, median, p99] = numbers.as_slice() else {
        return None;
    };
    Some(Outcome {
        requests,
        duration: Duration::from_micros(duration),
        failed: broken + refused,
        median: Duration::from_micros(median),
        p99: Duration::from_micros(p99),
    })
}
