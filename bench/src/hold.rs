//! Connections that hold on and say nothing, and others that never end their header: what one costs in memory, and what a
//! client that behaves notices of them.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::INTERRUPTED;
use crate::machine::Cores;
use crate::process::Process;
use crate::soak::Connection;
use crate::workplace::{Workplace, free_address};

pub const HELP: &str = "\
Holds connections open that say nothing, or too little, beside a client at a steady rate.

Usage: gwanmun-bench hold [--seconds N] [--rate N] [--idle N] [--slow N] [--rounds N] [--gwanmun PATH]

  --seconds  how long each time (10)
  --rate     requests per second of the client, over eight keep-alive connections (500)
  --idle     connections that were answered once and then say nothing (5000)
  --slow     connections that send one byte of a header each second (500)
  --rounds   how often the client is measured with and without them, in turn (3)
  --gwanmun  the release binary (target/release/gwanmun)

Example: gwanmun-bench hold --idle 1000 --slow 100 --gwanmun target/release/gwanmun
";

const WORKERS: u32 = 8;
/// The client's p99 with all the others, over that without them.
const MAX_SLOWDOWN: f64 = 1.5;
/// Below that a p99 says more of the machine than of the gateway.
const FLOOR: Duration = Duration::from_millis(2);
/// Resident memory per idle connection.
const MAX_BYTES: u64 = 16 << 10;
const REQUEST: &str = "GET /held HTTP/1.1\r\nHost: hold\r\n\r\n";

struct Options {
    seconds: u32,
    rate: u32,
    idle: u32,
    slow: u32,
    rounds: u32,
    gwanmun: PathBuf,
}

/// Runs with these arguments, those after `hold`.
pub fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = Options::read(arguments)? else {
        print!("{HELP}");
        return Ok(());
    };
    let program = options.gwanmun.canonicalize();
    let program = program.with_context(|| format!("no {}", options.gwanmun.display()))?;
    let place = Workplace::new()?;
    let listen = free_address()?;
    let text = include_str!("../conf/hold.yaml").replace("@LISTEN@", &listen.to_string());
    let file = place.write("hold.yaml", &text, &[])?;
    let cores = Cores::of_this_process()?;
    let arguments = ["run", "-c", &file.display().to_string()];
    let mut gateway = Process::start("hold", &cores.peer, &program, &arguments, &place)?;
    gateway.wait_until(|| Connection::open(listen)?.ask(REQUEST).map(drop))?;

    // What the gateway sets up for the first ones is no connection's. They stay: what they would leave behind, others would use.
    let first = idle(listen, options.idle / 50 + 1)?;
    sleep(Duration::from_secs(1));
    let before = gateway.memory()?;
    let mut held = idle(listen, options.idle)?;
    sleep(Duration::from_secs(1));
    let after = gateway.memory()?;
    drop(first);
    let bytes = after.saturating_sub(before) * 1024 / u64::from(options.idle);

    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        held.clear();
        sleep(Duration::from_millis(500));
        alone.extend(client(listen, &options)?);
        held = idle(listen, options.idle)?;
        let done = AtomicBool::new(false);
        let measured = thread::scope(|scope| {
            scope.spawn(|| slowly(listen, options.slow, &done));
            let measured = client(listen, &options);
            done.store(true, Ordering::Relaxed);
            measured
        })?;
        beside.extend(measured);
    }
    let (alone, beside) = (p99(&mut alone)?, p99(&mut beside)?);
    let slowdown = beside.max(FLOOR).as_secs_f64() / alone.max(FLOOR).as_secs_f64();
    println!("| what | |\n|---|--:|");
    println!("| memory per idle connection, of {} | {bytes} B |", options.idle);
    println!("| p99 of a client alone | {:.2} ms |", alone.as_secs_f64() * 1000.0);
    println!(
        "| p99 beside {} idle and {} slow connections | {:.2} ms |",
        options.idle,
        options.slow,
        beside.as_secs_f64() * 1000.0
    );
    ensure!(
        bytes <= MAX_BYTES,
        "{bytes} bytes per idle connection and not at most {MAX_BYTES}"
    );
    ensure!(
        slowdown <= MAX_SLOWDOWN,
        "{slowdown:.2}× as slow beside them and not at most {MAX_SLOWDOWN}×"
    );
    Ok(())
}

impl Options {
    /// `None` where help was asked for.
    fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let mut options = Self {
            seconds: 10,
            rate: 500,
            idle: 5000,
            slow: 500,
            rounds: 3,
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
                "--seconds" => options.seconds = number()?,
                "--rate" => options.rate = number()?,
                "--idle" => options.idle = number()?,
                "--slow" => options.slow = number()?,
                "--rounds" => options.rounds = number()?,
                "--gwanmun" => options.gwanmun = PathBuf::from(value),
                _ => bail!("unknown option `{name}`\n\n{HELP}"),
            }
        }
        ensure!(
            options.rate > 0 && options.idle > 0 && options.rounds > 0 && options.seconds > 0,
            "nothing to measure"
        );
        Ok(Some(options))
    }
}

/// So many connections that were answered once.
fn idle(listen: SocketAddr, count: u32) -> anyhow::Result<Vec<Connection>> {
    let mut open = Vec::new();
    for at in 0..count {
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        let mut connection = Connection::open(listen)
            .with_context(|| format!("connection {at}: is `ulimit -n` above {count} and {count} again?"))?;
        ensure!(connection.ask(REQUEST)?.status == 200, "refused");
        open.push(connection);
    }
    Ok(open)
}

/// Keeps so many connections sending a byte each second until `done`; those that are cut off come again.
fn slowly(listen: SocketAddr, count: u32, done: &AtomicBool) {
    let open = || -> Option<TcpStream> {
        let mut stream = TcpStream::connect(listen).ok()?;
        stream.write_all(b"GET /held HTTP/1.1\r\nHost: hold\r\nX-Slow: ").ok()?;
        Some(stream)
    };
    let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| open()).collect();
    while !done.load(Ordering::Relaxed) {
        for stream in &mut streams {
            let is_sent = stream.as_mut().is_some_and(|stream| stream.write_all(b"x").is_ok());
            if !is_sent {
                *stream = open();
            }
        }
        sleep(Duration::from_secs(1));
    }
}

/// How long each answer took, at an even pace.
fn client(listen: SocketAddr, options: &Options) -> anyhow::Result<Vec<Duration>> {
    let pace = Duration::from_secs(1) * WORKERS / options.rate;
    let turns = options.rate * options.seconds / WORKERS;
    let work = |worker: u32| -> anyhow::Result<Vec<Duration>> {
        let mut connection = Connection::open(listen)?;
        let begin = Instant::now() + pace * worker / WORKERS;
        let mut took = Vec::new();
        for turn in 0..turns {
            let due = begin + pace * turn;
            sleep(due.saturating_duration_since(Instant::now()));
            ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
            ensure!(connection.ask(REQUEST)?.status == 200, "refused");
            // From when it was due: a request that had to wait for the one before waited, too.
            took.push(due.elapsed());
        }
        Ok(took)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??);
        }
        Ok(all)
    })
}

fn p99(took: &mut [Duration]) -> anyhow::Result<Duration> {
    took.sort_unstable();
    let at = took.len() * 99 / 100;
    took.get(at).copied().context("nothing was measured")
}
