//! The proxies that are compared, and the upstream they share.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::machine::Cores;
use crate::process::Process;
use crate::scenarios::Scenario;
use crate::workplace::{Workplace, free_address};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Bare,
    /// Pingora asking three parts by subrequests.
    Subrequests,
    /// Pingora asking three parts by a client of its own.
    Connector,
    /// The gateway on its plain route, beside which those that do more stand.
    Plain,
    Gwanmun,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Nginx,
        Self::Bare,
        Self::Subrequests,
        Self::Connector,
        Self::Plain,
        Self::Gwanmun,
    ];

    /// What this peer is asked in a scenario; `None` where it has no part in it.
    pub fn asked(self, scenario: Scenario) -> Option<Scenario> {
        match (self, scenario) {
            (Self::Plain, Scenario::Jwt | Scenario::Aggregate) => Some(Scenario::Plain),
            (Self::Plain, Scenario::Plain | Scenario::Transfer) => None,
            (Self::Subrequests | Self::Connector, _) if scenario != Scenario::Aggregate => None,
            _ => Some(scenario),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nginx => "nginx",
            Self::Bare => "bare",
            Self::Subrequests => "subrequests",
            Self::Connector => "connector",
            Self::Plain => "gwanmun-plain",
            Self::Gwanmun => "gwanmun",
        })
    }
}

/// nginx, answering everything with the same 1 KiB.
pub struct Upstream {
    address: SocketAddr,
    _process: Process,
}

impl Upstream {
    pub fn start(place: &Workplace, cores: &Cores) -> anyhow::Result<Self> {
        let address = free_address()?;
        let values = [("@UPSTREAM@", address.to_string()), ("@BODY@", body())];
        let mut process = start_nginx(
            "upstream",
            include_str!("../conf/upstream.nginx"),
            &values,
            &cores.load,
            place,
        )?;
        let request = Scenario::Plain.request(place)?;
        process
            .wait_until(|| expect(address, &request, 200).map(drop))
            .context("the upstream")?;
        Ok(Self {
            address,
            _process: process,
        })
    }
}

/// A proxy under test.
pub struct Peer {
    pub kind: Kind,
    pub address: SocketAddr,
    process: Process,
}

impl Peer {
    /// Starts the peer for `scenario` and waits until it answers.
    pub fn start(
        kind: Kind,
        scenario: Scenario,
        gwanmun: &Path,
        place: &Workplace,
        cores: &Cores,
        upstream: &Upstream,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let name = format!("{scenario}-{kind}");
        let (listen, target) = (address.to_string(), upstream.address.to_string());
        let mut process = match kind {
            Kind::Nginx => {
                let values = [("@LISTEN@", listen), ("@UPSTREAM@", target)];
                start_nginx(&name, include_str!("../conf/proxy.nginx"), &values, &cores.peer, place)?
            }
            Kind::Bare => {
                let program = std::env::current_exe()?.with_file_name("bare-pingora");
                Process::start(&name, &cores.peer, &program, &[&listen, &target], place)?
            }
            Kind::Subrequests | Kind::Connector => {
                let program = std::env::current_exe()?.with_file_name("inside-pingora");
                let way = kind.to_string();
                Process::start(&name, &cores.peer, &program, &[&way, &listen, &target], place)?
            }
            Kind::Plain | Kind::Gwanmun => {
                let program = gwanmun
                    .canonicalize()
                    .with_context(|| format!("no {}", gwanmun.display()))?;
                let (template, values) = scenario.configuration(address, free_address()?, upstream.address)?;
                let file = write(&format!("{name}.yaml"), template, &values, place)?;
                let arguments = ["run", "-c", &file.display().to_string()];
                Process::start(&name, &cores.peer, &program, &arguments, place)?
            }
        };
        let request = scenario.request(place)?;
        process
            .wait_until(|| expect(address, &request, 200).map(drop))
            .with_context(|| name)?;
        Ok(Self { kind, address, process })
    }

    /// Fails unless the peer hands on the upstream's answer and, where it is the gateway, does what the scenario is about.
    pub fn check(&self, scenario: Scenario, place: &Workplace) -> anyhow::Result<()> {
        let answer = expect(self.address, &scenario.request(place)?, 200)?;
        ensure!(
            answer.contains(&body()),
            "{scenario}: {} does not hand on the upstream's answer:\n{answer}",
            self.kind
        );
        if let (Kind::Gwanmun, Some((request, status))) = (self.kind, scenario.refused()) {
            expect(self.address, &request, status)
                .with_context(|| format!("{scenario}: {} does not refuse", self.kind))?;
        }
        Ok(())
    }

    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.process.cpu()
    }

    /// What a reader of the figures has to know besides: how many audit lines the gateway wrote.
    pub fn afterword(&self, scenario: Scenario, place: &Workplace) -> anyhow::Result<Option<String>> {
        if self.kind != Kind::Gwanmun || !scenario.is_audited() {
            return Ok(None);
        }
        let mut lines = 0;
        for entry in fs::read_dir(place.path())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("audit.jsonl") {
                lines += count_lines(&entry.path())?;
            }
        }
        Ok(Some(format!("Audit records of {scenario} in the file: {lines}.")))
    }
}

fn start_nginx(
    name: &str,
    template: &str,
    values: &[(&str, String)],
    cores: &str,
    place: &Workplace,
) -> anyhow::Result<Process> {
    let file = write(&format!("{name}.conf"), template, values, place)?;
    let (file, prefix) = (file.display().to_string(), place.path().display().to_string());
    let log = format!("{name}.error.log");
    Process::start(
        name,
        cores,
        Path::new("nginx"),
        &["-p", &prefix, "-c", &file, "-e", &log],
        place,
    )
}

fn write(name: &str, template: &str, values: &[(&str, String)], place: &Workplace) -> anyhow::Result<PathBuf> {
    let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    place.write(name, template, &values)
}

/// The upstream's answer: a JSON object of 1 KiB.
fn body() -> String {
    format!(r#"{{"filler":"{}"}}"#, "x".repeat(1011))
}

/// Sends one request and returns the answer, as text, if it has `status`.
fn expect(address: SocketAddr, request: &str, status: u16) -> anyhow::Result<String> {
    let wait = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, wait)?;
    stream.set_read_timeout(Some(wait))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if answer.split(' ').nth(1) != Some(&status.to_string()) {
        bail!("expected status {status}, got:\n{answer}");
    }
    Ok(answer)
}

fn count_lines(path: &Path) -> anyhow::Result<usize> {
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(lines);
        }
        lines += buffer.iter().take(read).filter(|byte| **byte == b'\n').count();
    }
}
