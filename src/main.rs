//! The `gwanmun` command.

use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: gwanmun::server::Allocator = gwanmun::server::Allocator;

fn main() -> ExitCode {
    gwanmun::cli::main()
}
