//! `gwanmun schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use super::tell;
use crate::snapshot;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gwanmun schema > conf/gwanmun.schema.json\n\n  \
                  with `# yaml-language-server: $schema=./gwanmun.schema.json` as the first line of conf/bank.yaml, editors complete its keys")]
pub(super) struct Arguments {}

pub(super) fn run(Arguments {}: &Arguments) -> anyhow::Result<ExitCode> {
    tell(&format!("{:#}\n", snapshot::schema()))?;
    Ok(ExitCode::SUCCESS)
}
