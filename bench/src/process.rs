//! A child process on chosen cores, ended with its owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::workplace::Workplace;

/// `/proc` counts in this unit on every Linux, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in the workplace, on `cores`; what it prints goes to the log `name`. It gets SIGTERM when this
    /// process ends, however that happens.
    pub fn start(
        name: &str,
        cores: &str,
        program: &Path,
        arguments: &[&str],
        place: &Workplace,
    ) -> anyhow::Result<Self> {
        let log = format!("{name}.log");
        let output = place.log(&log)?;
        let child = pinned(cores, program)
            .args(arguments)
            .current_dir(place.path())
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self {
            child,
            log: place.file(&log),
        })
    }

    /// Resident memory of the process, in KiB.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(number);
        value.context("no VmRSS")
    }

    /// CPU used so far, user and system, by the process and its children.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            // Processes of others come and go while one reads.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let Some((head, tail)) = stat.rsplit_once(')') else {
                continue;
            };
            let process = head.split(' ').next().and_then(number);
            let fields: Vec<&str> = tail.split_whitespace().collect();
            let at = |index: usize| fields.get(index).copied().and_then(number);
            // proc_pid_stat(5): after the name come state, ppid (fields 3, 4), utime and stime (14, 15).
            let (parent, user, system) = (at(1), at(11), at(12));
            let own = Some(u64::from(self.child.id()));
            if process == own || parent == own {
                ticks += user.zip(system).map_or(0, |(user, system)| user + system);
            }
        }
        Ok(TICK * u32::try_from(ticks)?)
    }

    /// Waits until `ready` or, with what the process printed, fails after ten seconds or with its end.
    pub fn wait_until(&mut self, ready: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let Err(error) = ready() else { return Ok(()) };
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let printed = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("not ready: {error:#}\n{printed}");
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    /// Asks first: killed at once, nginx would leave its workers behind.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = Command::new("sh")
            .args(["-c", "kill -TERM $0", &self.child.id().to_string()])
            .status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs `program` on `cores` and ends with this process. Both wrappers exec, so its id is the program's.
pub fn pinned(cores: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "taskset", "--cpu-list", cores])
        .arg(program);
    command
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}
