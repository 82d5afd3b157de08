//! Reloads under load: the configuration is rewritten ten times a second between two versions while requests come in at a
//! steady rate over keep-alive connections. No request may fail, none be answered by a mixture of the two, and memory must
//! not grow with the number of reloads.
//!
//! The versions differ in places that meet in one answer: what a page may read (`defaults`) goes with the reply of the route,
//! the code of a policy, or the upstream, which has another place in the list of upstreams in each version.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::INTERRUPTED;
use crate::machine::{self, Cores};
use crate::process::Process;
use crate::workplace::{Workplace, free_address};

pub const HELP: &str = "\
Rewrites the gateway's configuration again and again while it serves.

Usage: gwanmun-bench soak [--seconds N] [--rate N] [--every MS] [--reloads N] [--gwanmun PATH]

  --seconds  how long at least (60)
  --rate     requests per second, over eight keep-alive connections (500)
  --every    milliseconds between two versions (100)
  --reloads  how many at least; resident memory is compared with that after 20 (1000)
  --gwanmun  the release binary (target/release/gwanmun)

Example: gwanmun-bench soak --seconds 10 --reloads 100 --gwanmun target/debug/gwanmun
";

const WORKERS: u64 = 8;
const FIRST: u64 = 20;
/// The memory after all reloads, over that after the first twenty.
const MAX_GROWTH: f64 = 1.2;
const PATHS: [&str; 3] = ["/version", "/closed", "/behind"];
const PATIENCE: Duration = Duration::from_secs(5);

struct Options {
    seconds: u64,
    rate: u64,
    every: Duration,
    reloads: u64,
    gwanmun: PathBuf,
}

/// What came of the requests.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    mixed: AtomicU64,
    /// In microseconds.
    slowest: AtomicU64,
    done: AtomicBool,
}

/// Runs with these arguments, those after `soak`.
pub fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = Options::read(arguments)? else {
        print!("{HELP}");
        return Ok(());
    };
    let program = options.gwanmun.canonicalize();
    let program = program.with_context(|| format!("no {}", options.gwanmun.display()))?;
    let place = Workplace::new()?;
    let (listen, admin) = (free_address()?, free_address()?);
    let versions = [version("a", listen, admin)?, version("b", listen, admin)?];
    let [first, _] = &versions;
    let file = place.write("soak.yaml", first, &[])?;
    let cores = Cores::of_this_process()?;
    let arguments = ["run", "-c", &file.display().to_string()];
    let mut gateway = Process::start("soak", &cores.peer, &program, &arguments, &place)?;
    gateway.wait_until(|| reloads(admin).map(drop))?;

    let tally = Tally::default();
    let (memory, elapsed, counts) = thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (tally, options) = (&tally, &options);
            scope.spawn(move || tally.load(worker, listen, options));
        }
        let _done = SetWhenDropped(&tally.done);
        change(&versions, &place, admin, &gateway, &options)
    })?;
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let growth = memory.last as f64 / memory.first.max(1) as f64;
    println!("{}\n", machine::description()?);
    println!("| what | |\n|---|--:|");
    println!("| time | {:.0} s |", elapsed.as_secs_f64());
    println!("| reloads taken, refused | {}, {} |", counts.0, counts.1);
    println!("| requests | {} |", count(&tally.answered) + count(&tally.failed));
    println!("| failed | {} |", count(&tally.failed));
    println!("| answered by a mixture | {} |", count(&tally.mixed));
    println!("| slowest answer | {:.1} ms |", count(&tally.slowest) as f64 / 1000.0);
    println!("| resident memory after {FIRST} reloads | {} KiB |", memory.first);
    println!("| resident memory after {} reloads | {} KiB |", counts.0, memory.last);
    println!("| growth | {growth:.2}× |");
    ensure!(count(&tally.failed) == 0, "requests failed");
    ensure!(count(&tally.mixed) == 0, "requests were answered by a mixture");
    ensure!(counts.1 == 0, "reloads were refused");
    ensure!(
        growth <= MAX_GROWTH,
        "memory grows with reloads: {growth:.2}× and not at most {MAX_GROWTH}×"
    );
    Ok(())
}

impl Options {
    /// `None` where help was asked for.
    fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let mut options = Self {
            seconds: 60,
            rate: 500,
            every: Duration::from_millis(100),
            reloads: 1000,
            gwanmun: PathBuf::from("target/release/gwanmun"),
        };
        while let Some(name) = arguments.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let value = arguments.next().with_context(|| format!("`{name}` needs a value"))?;
            let number = || {
                value
                    .parse::<u64>()
                    .with_context(|| format!("`{name} {value}`: not a number"))
            };
            match name.as_str() {
                "--seconds" => options.seconds = number()?,
                "--rate" => options.rate = number()?,
                "--every" => options.every = Duration::from_millis(number()?),
                "--reloads" => options.reloads = number()?,
                "--gwanmun" => options.gwanmun = PathBuf::from(value),
                _ => bail!("unknown option `{name}`\n\n{HELP}"),
            }
        }
        ensure!(options.rate > 0 && options.reloads > FIRST, "nothing to measure");
        Ok(Some(options))
    }
}

/// The configuration `name`, with an upstream behind it that answers with that name.
fn version(name: &str, listen: SocketAddr, admin: SocketAddr) -> anyhow::Result<String> {
    let address = answer_with(name.to_owned())?;
    let mut upstreams = format!("  {name}: {{ endpoints: [{address}] }}");
    if name == "b" {
        // The one that counts is the second here.
        let before = format!("  first: {{ endpoints: [{}] }}\n", answer_with("first".to_owned())?);
        upstreams.insert_str(0, &before);
    }
    let template = include_str!("../conf/soak.yaml");
    let values = [
        ("@LISTEN@", listen.to_string()),
        ("@ADMIN@", admin.to_string()),
        ("@UPSTREAMS@", upstreams),
        ("@VERSION@", name.to_owned()),
    ];
    let filled = values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    Ok(filled)
}

/// An upstream that answers every request with `body`, for as long as this process runs.
fn answer_with(body: String) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let body = body.clone();
            thread::spawn(move || serve(stream, &body));
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream, body: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        read.extend(buffer.iter().take(length));
        if read.ends_with(b"\r\n\r\n") {
            read.clear();
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

struct Memory {
    first: u64,
    last: u64,
}

/// Writes one version after the other until it was long enough; how the memory went, how long it took, and the reloads taken
/// and refused.
fn change(
    versions: &[String; 2],
    place: &Workplace,
    admin: SocketAddr,
    gateway: &Process,
    options: &Options,
) -> anyhow::Result<(Memory, Duration, (u64, u64))> {
    let begin = Instant::now();
    let least = Duration::from_secs(options.seconds);
    // Reloads that are not counted as they are asked for end the run too.
    let most = least * 3 + options.every * u32::try_from(options.reloads).unwrap_or(u32::MAX) * 3;
    let mut first = None;
    for (turn, text) in (1..).zip(versions.iter().cycle().skip(1)) {
        let new = place.write("soak.new", text, &[])?;
        fs::rename(new, place.file("soak.yaml"))?;
        let due = begin + options.every * turn;
        sleep(due.saturating_duration_since(Instant::now()));
        let counts = reloads(admin)?;
        if counts.0 >= FIRST && first.is_none() {
            first = Some(gateway.memory()?);
        }
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        if begin.elapsed() >= least && counts.0 >= options.reloads {
            let first = first.context("no memory was read")?;
            let last = gateway.memory()?;
            return Ok((Memory { first, last }, begin.elapsed(), counts));
        }
        ensure!(begin.elapsed() < most, "only {} reloads in {most:?}", counts.0);
    }
    bail!("the versions ended")
}

/// The reloads taken and refused so far.
fn reloads(admin: SocketAddr) -> anyhow::Result<(u64, u64)> {
    let mut connection = Connection::open(admin)?;
    let answer = connection.ask(&format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n"))?;
    ensure!(answer.status == 200, "no metrics: {}", answer.status);
    let of = |result: &str| -> u64 {
        let name = format!("gwanmun_config_reloads_total{{result=\"{result}\"}} ");
        let mut lines = answer.body.lines();
        let value = lines
            .find_map(|line| line.strip_prefix(&name))
            .and_then(|value| value.parse().ok());
        value.unwrap_or_default()
    };
    Ok((of("ok"), of("failed")))
}

impl Tally {
    /// Asks at an even pace on one connection after the other.
    fn load(&self, worker: u64, listen: SocketAddr, options: &Options) {
        let pace =
            Duration::from_secs(1) * u32::try_from(WORKERS).unwrap_or(1) / u32::try_from(options.rate).unwrap_or(1);
        let begin = Instant::now() + pace * u32::try_from(worker).unwrap_or(0) / u32::try_from(WORKERS).unwrap_or(1);
        let mut connection = None;
        for (turn, path) in (0..).zip(
            PATHS
                .iter()
                .cycle()
                .skip(usize::try_from(worker).unwrap_or(0) % PATHS.len()),
        ) {
            sleep((begin + pace * turn).saturating_duration_since(Instant::now()));
            if self.done.load(Ordering::Relaxed) {
                return;
            }
            let asked = Instant::now();
            match ask(&mut connection, listen, path) {
                Ok(true) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
                Ok(false) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    self.mixed.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    eprintln!("{path}: {error:#}");
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    connection = None;
                }
            }
            let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.slowest.fetch_max(took, Ordering::Relaxed);
        }
    }
}

/// Whether the answer is that of one version.
fn ask(connection: &mut Option<Connection>, listen: SocketAddr, path: &str) -> anyhow::Result<bool> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(listen)?),
    };
    let answer = open.ask(&format!(
        "GET {path} HTTP/1.1\r\nHost: soak\r\nOrigin: https://bank.example\r\nX-Caller: soak\r\n\r\n"
    ))?;
    if answer.header("connection") == Some("close") {
        *connection = None;
    }
    let expected = if path == "/closed" { 403 } else { 200 };
    ensure!(answer.status == expected, "status {}: {}", answer.status, answer.body);
    let told = answer.header("access-control-expose-headers").unwrap_or_default();
    let version = told.strip_prefix("x-").context("nothing is exposed")?;
    Ok(match path {
        "/closed" => answer.body.contains(&format!("\"closed-{version}\"")),
        _ => answer.body == version,
    })
}

pub struct Connection(TcpStream);

pub struct Answer {
    pub status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

impl Connection {
    pub fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    pub fn ask(&mut self, request: &str) -> anyhow::Result<Answer> {
        self.0.write_all(request.as_bytes())?;
        let mut read = Vec::new();
        let head_end = loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(&mut read)?;
        };
        let body = read.split_off(head_end);
        let head = String::from_utf8_lossy(&read).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut answer = Answer {
            status: status.context("no status")?,
            head,
            body: String::new(),
        };
        let body = match answer.header("transfer-encoding") {
            Some(_) => self.chunked(body)?,
            None => {
                let length = answer.header("content-length").and_then(|length| length.parse().ok());
                self.exactly(body, length.context("no length")?)?
            }
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }

    fn more(&mut self, read: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        let length = self.0.read(&mut buffer)?;
        ensure!(length > 0, "closed before the whole answer");
        read.extend(buffer.iter().take(length));
        Ok(())
    }

    fn exactly(&mut self, mut body: Vec<u8>, length: usize) -> anyhow::Result<Vec<u8>> {
        while body.len() < length {
            self.more(&mut body)?;
        }
        ensure!(body.len() == length, "more than the answer");
        Ok(body)
    }

    fn chunked(&mut self, mut rest: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let Some(at) = rest.windows(2).position(|two| two == b"\r\n") else {
                self.more(&mut rest)?;
                continue;
            };
            let line: Vec<u8> = rest.iter().take(at).copied().collect();
            let length = usize::from_str_radix(std::str::from_utf8(&line)?, 16).context("no chunk")?;
            while rest.len() < at + 2 + length + 2 {
                self.more(&mut rest)?;
            }
            body.extend(rest.iter().skip(at + 2).take(length));
            rest.drain(..at + 2 + length + 2);
            if length == 0 {
                return Ok(body);
            }
        }
    }
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
