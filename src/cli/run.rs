//! `gwanmun run`: serves until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;

use crate::server;

/// Serve; reloads when a file of the configuration changes, or on SIGHUP
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gwanmun run -c conf/bank.yaml")]
pub(super) struct Arguments {
    /// The configuration: a file, or a directory whose `*.yaml` and `*.yml` come together
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Start the wall clock there; every listener must be on a loopback address. What is frozen and revoked is read, and what
    /// is changed of it is gone with the rehearsal
    #[arg(long, value_name = "INSTANT")]
    rehearse_at: Option<Timestamp>,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    log_to_stderr();
    let Arguments { config, rehearse_at } = arguments;
    server::run(&server::Options {
        config,
        rehearse_at,
        state: None,
        announce: true,
        admin_token: None,
    })
}

/// `RUST_LOG` chooses what is logged; `info` where it is silent, and of Pingora only warnings.
pub(super) fn log_to_stderr() {
    use std::io::Write;
    let filter = env_logger::Env::default()
        .default_filter_or("info,pingora=warn,pingora_core=warn,pingora_proxy=error,pingora_cache=error");
    let logger = env_logger::Builder::from_env(filter)
        .format(|out, record| writeln!(out, "{:.3} {:5} {}", Timestamp::now(), record.level(), record.args()))
        .try_init();
    // A second gateway in one process logs where the first one does.
    drop(logger);
}
