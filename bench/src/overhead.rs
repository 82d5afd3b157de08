//! What an aggregate adds to the slowest of its parts: one caller asks again and again for a page of three parts, whose
//! services take 20, 40 and 60 ms. From each answer's time is taken what the slowest service itself measured, from the
//! request it had read to the answer it wrote. Beside it stands the same of the slowest service asked without anything
//! between: what the machine takes to wake those who wait.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::INTERRUPTED;
use crate::machine::{self, Cores};
use crate::process::Process;
use crate::workplace::{Workplace, free_address};

pub const HELP: &str = "\
Measures what an aggregate of three parts adds to the slowest of them.

Usage: gwanmun-bench overhead [--calls N] [--gwanmun PATH]

  --calls    how many, one after the other (200)
  --gwanmun  the release binary (target/release/gwanmun)

Example: gwanmun-bench overhead --calls 1000
";

const DELAYS: [u64; 3] = [20, 40, 60];
const SLOWEST: Duration = Duration::from_millis(60);
/// What the median should not exceed.
const MOST: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs with these arguments, those after `overhead`.
pub fn run(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let (mut calls, mut gwanmun) = (200_usize, PathBuf::from("target/release/gwanmun"));
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            print!("{HELP}");
            return Ok(());
        }
        let value = arguments.next().with_context(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--calls" => {
                calls = value
                    .parse()
                    .with_context(|| format!("`{name} {value}`: not a number"))?
            }
            "--gwanmun" => gwanmun = PathBuf::from(value),
            _ => bail!("unknown option `{name}`\n\n{HELP}"),
        }
    }
    ensure!(calls > 0, "nothing to measure");
    let program = gwanmun.canonicalize();
    let program = program.with_context(|| format!("no {}", gwanmun.display()))?;
    let (place, cores) = (Workplace::new()?, Cores::of_this_process()?);
    let slowest = Arc::new(AtomicU64::new(0));
    let services = DELAYS
        .iter()
        .map(|delay| service(*delay, &slowest))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (listen, admin) = (free_address()?, free_address()?);
    let file = place.write("overhead.yaml", &configuration(listen, admin, &services), &[])?;
    let arguments = ["run", "-c", &file.display().to_string()];
    let mut gateway = Process::start("overhead", &cores.peer, &program, &arguments, &place)?;
    gateway.wait_until(|| {
        TcpStream::connect_timeout(&listen, PATIENCE)
            .map(drop)
            .map_err(Into::into)
    })?;

    let through = added(listen, calls, &slowest)?;
    let direct = added(*services.last().context("no service")?, calls, &slowest)?;
    println!("{}\n", machine::description()?);
    println!(
        "| added to the slowest of three parts, over {calls} calls | by the gateway | asked directly |\n|---|--:|--:|"
    );
    for (name, share) in [("median", 50), ("p90", 90), ("p99", 99), ("most", 100)] {
        let millis = |all: &[Duration]| at(all, share).as_secs_f64() * 1e3;
        println!("| {name} | {:.3} ms | {:.3} ms |", millis(&through), millis(&direct));
    }
    let verdict = if at(&through, 50) <= MOST { "within" } else { "above" };
    println!("\nThe median is {verdict} {} ms.", MOST.as_secs_f64() * 1e3);
    Ok(())
}

fn at(sorted: &[Duration], share: usize) -> Duration {
    sorted
        .get((sorted.len() - 1) * share / 100)
        .copied()
        .unwrap_or_default()
}

/// Asks `address` so often, and says what each call took beyond what the slowest service measured; least first.
fn added(address: SocketAddr, calls: usize, slowest: &AtomicU64) -> anyhow::Result<Vec<Duration>> {
    let mut caller = Caller::open(address)?;
    // The first ones make the connections.
    for _ in 0..5 {
        caller.ask()?;
    }
    let mut added = Vec::with_capacity(calls);
    for _ in 0..calls {
        slowest.store(0, Ordering::SeqCst);
        let began = Instant::now();
        caller.ask()?;
        let took = began.elapsed();
        // The slowest notes what it measured after it has answered.
        let mut itself = Duration::ZERO;
        while itself < SLOWEST {
            thread::yield_now();
            itself = Duration::from_nanos(slowest.load(Ordering::SeqCst));
        }
        added.push(took.saturating_sub(itself));
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    }
    added.sort_unstable();
    Ok(added)
}

fn configuration(listen: SocketAddr, admin: SocketAddr, services: &[SocketAddr]) -> String {
    let mut upstreams = String::new();
    let mut parts = String::new();
    for (number, address) in services.iter().enumerate() {
        upstreams.push_str(&format!("  s{number}: {{ endpoints: [{address}] }}\n"));
        parts.push_str(&format!("      p{number}: {{ get: 's{number}:/', required: true }}\n"));
    }
    format!(
        "listen: [{{ address: {listen} }}]\nadmin: {{ address: {admin} }}\nupstreams:\n{upstreams}routes:\n  page:\n    \
         match: GET /page\n    auth: none\n    aggregate:\n{parts}"
    )
}

/// A service that takes so many milliseconds, and keeps the longest time in nanoseconds.
fn service(delay: u64, slowest: &Arc<AtomicU64>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let slowest = Arc::clone(slowest);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let slowest = Arc::clone(&slowest);
            // The gateway going away ends it.
            thread::spawn(move || serve(stream, Duration::from_millis(delay), &slowest));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream, delay: Duration, slowest: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let began = Instant::now();
        thread::sleep(delay);
        let body = r#"{"a":1}"#;
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json";
        // In one piece: several would be several packets.
        writer.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())?;
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        slowest.fetch_max(took, Ordering::SeqCst);
    }
}

/// One connection to the gateway.
struct Caller(BufReader<TcpStream>);

impl Caller {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks for the page and reads the whole answer.
    fn ask(&mut self) -> anyhow::Result<()> {
        let request = b"GET /page HTTP/1.1\r\nHost: bench\r\n\r\n";
        self.0.get_mut().write_all(request)?;
        let (mut status, mut length) = (String::new(), None);
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "the gateway hung up");
            let line = line.trim_end().to_ascii_lowercase();
            if status.is_empty() {
                status = line;
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>()?);
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length.context("an answer without a length")?];
        self.0.read_exact(&mut body)?;
        ensure!(status.starts_with("http/1.1 200"), "answered {status}");
        Ok(())
    }
}
