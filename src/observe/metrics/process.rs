//! What Linux says of this process, under the names that Prometheus' own clients use.

use std::fs;

use prometheus::{Counter, IntGauge, Registry};

/// Ticks in a second of `/proc/self/stat`: a constant of Linux' interface on all architectures in use.
const USER_HZ: f64 = 100.0;

pub(super) struct Process {
    cpu: Counter,
    memory: IntGauge,
    files: IntGauge,
}

impl Process {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let process = Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "CPU time used by the process, user and system.",
            )?,
            memory: IntGauge::new(
                "process_resident_memory_bytes",
                "Memory of the process that is resident.",
            )?,
            files: IntGauge::new("process_open_fds", "Open file descriptors.")?,
        };
        registry.register(Box::new(process.cpu.clone()))?;
        registry.register(Box::new(process.memory.clone()))?;
        registry.register(Box::new(process.files.clone()))?;
        Ok(process)
    }

    /// Reads `/proc`; what cannot be read keeps its last value.
    pub(super) fn update(&mut self) {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        if let Some(seconds) = read("stat").as_deref().and_then(cpu_seconds) {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
        if let Some(bytes) = read("status").as_deref().and_then(resident_bytes) {
            self.memory.set(bytes);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // The folder being read is one of them.
            self.files.set(i64::try_from(files.count()).unwrap_or(i64::MAX) - 1);
        }
    }
}

/// Fields 14 and 15 of `proc_pid_stat(5)`; the name in field 2 may hold anything, so they are counted from its end.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / USER_HZ)
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 9 0 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!((cpu_seconds("7 (a"), resident_bytes("VmRSS: x kB")), (None, None));
    }
}
