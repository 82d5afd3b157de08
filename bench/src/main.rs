//! Measures the gateway beside nginx `proxy_pass` and a bare Pingora proxy, and prints a Markdown table.
//!
//! All peers share one upstream. The peer under test has a core of its own; wrk and the upstream have the others. Each
//! round loads every peer once, in an order that turns from round to round, so that a machine that gets slower or
//! faster meanwhile does so for all of them. CPU is what `/proc` says the peer's processes used during its turn.
//!
//! `soak`, `hold` and `overhead` as the first argument measure other things: see [`soak`], [`hold`] and [`overhead`].

mod hold;
mod load;
mod machine;
mod options;
mod overhead;
mod peers;
mod process;
mod scenarios;
mod soak;
mod table;
mod tokens;
mod workplace;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;

use crate::load::Load;
use crate::machine::Cores;
use crate::options::Options;
use crate::peers::{Peer, Upstream};
use crate::scenarios::Scenario;
use crate::table::{Sample, Table};
use crate::workplace::Workplace;

/// Set by Ctrl-C and SIGTERM, so that the way out is the ordinary one: peers ended, folder removed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "soak").is_some() {
        return soak::run(arguments);
    }
    if arguments.next_if(|first| first == "hold").is_some() {
        return hold::run(arguments);
    }
    if arguments.next_if(|first| first == "overhead").is_some() {
        return overhead::run(arguments);
    }
    let Some(options) = Options::read(arguments)? else {
        print!("{}", options::HELP);
        return Ok(());
    };
    let cores = Cores::of_this_process()?;
    let place = Workplace::new()?;
    let upstream = Upstream::start(&place, &cores)?;

    let mut table = Table::default();
    for scenario in &options.scenarios {
        measure(*scenario, &options, &cores, &place, &upstream, &mut table)?;
    }
    println!("{}\n", machine::description()?);
    println!(
        "{} rounds of {} s, {} connections, one core for the peer.\n",
        options.rounds, options.seconds, options.connections
    );
    print!("{table}");
    Ok(())
}

/// Runs all rounds of one scenario and adds their samples to `table`.
fn measure(
    scenario: Scenario,
    options: &Options,
    cores: &Cores,
    place: &Workplace,
    upstream: &Upstream,
    table: &mut Table,
) -> anyhow::Result<()> {
    scenario.prepare(place)?;
    let mut peers = Vec::new();
    for kind in &options.peers {
        if let Some(asked) = kind.asked(scenario) {
            let peer = Peer::start(*kind, asked, &options.gwanmun, place, cores, upstream)?;
            let load = Load {
                scenario: asked,
                connections: options.connections,
                cores,
                place,
            };
            peers.push((peer, load));
        }
    }
    for (peer, load) in &peers {
        peer.check(load.scenario, place)?;
        load.run(peer.address, 1)?;
    }
    for round in 0..options.rounds {
        let turn = round % peers.len().max(1);
        for (peer, load) in peers.iter().cycle().skip(turn).take(peers.len()) {
            let before = peer.cpu()?;
            let outcome = load.run(peer.address, options.seconds)?;
            ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
            let sample = Sample::new(&outcome, peer.cpu()?.saturating_sub(before));
            ensure!(
                outcome.failed == 0,
                "{scenario}: {} failed {} of {} requests",
                peer.kind,
                outcome.failed,
                outcome.requests
            );
            eprintln!("{scenario} {}/{} {}: {sample}", round + 1, options.rounds, peer.kind);
            table.add(scenario, peer.kind, sample);
        }
    }
    for (peer, load) in &peers {
        if let Some(note) = peer.afterword(load.scenario, place)? {
            table.note(note);
        }
    }
    Ok(())
}
