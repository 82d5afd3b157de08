//! The `gwanmun` command.
use std::process::ExitCode;

fn main() -> ExitCode {
    gwanmun::cli::main()
}
