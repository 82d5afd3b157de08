//! What the measurement runs on.

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};

/// Cores by their numbers, written as `taskset` reads them.
pub struct Cores {
    /// One core: the peer under test.
    pub peer: String,
    /// All others: wrk and the upstream.
    pub load: String,
}

impl Cores {
    /// The first core this process may use for the peer, the rest for the load.
    pub fn of_this_process() -> anyhow::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let allowed = field(&status, "Cpus_allowed_list").context("no Cpus_allowed_list in /proc/self/status")?;
        let mut cores = Vec::new();
        for range in allowed.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            cores.extend(first.parse::<u32>()?..=last.parse::<u32>()?);
        }
        let mut cores = cores.iter().map(u32::to_string);
        let peer = cores.next().unwrap_or_default();
        let load = cores.collect::<Vec<_>>().join(",");
        ensure!(
            !load.is_empty(),
            "two cores are needed: one for the peer, one for the load"
        );
        Ok(Self { peer, load })
    }
}

/// One sentence: day, processor, kernel, versions of the tools.
pub fn description() -> anyhow::Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = field(&cpuinfo, "model name").unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism()?;
    let day = first_line(Command::new("date").args(["-u", "+%F"]))?;
    let kernel = first_line(Command::new("uname").args(["-sr"]))?;
    let nginx = first_line(Command::new("nginx").arg("-v"))?;
    let nginx = nginx.trim_start_matches("nginx version: ");
    Ok(format!(
        "{day}, {model}, {cores} cores, {kernel}, {nginx}, Pingora 0.9.1."
    ))
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// The first line a command prints, wherever it prints it.
fn first_line(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned())
}
