//! `gwanmun demo`: everything in one process, from a configuration that one would copy: sample services, an identity provider,
//! the gateway before them, tokens for three users, and requests to try.
//!
//! Every demo starts afresh, as its users and their keys do: what one freezes and revokes is gone with it.

mod lines;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use tempfile::TempDir;
use zeroize::Zeroizing;

use self::lines::{Scene, lines, logins, variable};
use super::explain::{Instant, instant};
use super::run::log_to_stderr;
use super::{complain, tell};
use crate::demo::{self, Ports, Service, User, Which};
use crate::server::{self, Options};
use crate::snapshot::{AdminToken, Snapshot};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gwanmun demo bank --at 2026-11-24T23:45+09:00")]
pub(super) struct Arguments {
    /// Which of the two samples
    #[arg(value_enum, default_value = "bank")]
    which: Sample,
    /// Start the wall clock there; requests may then say `Gwanmun-At: INSTANT`
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Sample {
    /// A mobile bank
    Bank,
    /// A shop
    Shop,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    let (which, name) = match arguments.which {
        Sample::Bank => (Which::Bank, "bank.yaml"),
        Sample::Shop => (Which::Shop, "shop.yaml"),
    };
    let token = Zeroizing::new(token()?.into_bytes());
    let (mut options, _state) = options(find(name)?, arguments.at)?;
    options.admin_token = Some(AdminToken::new(token.clone()).map_err(anyhow::Error::msg)?);
    let snapshot = match server::prepare(&options) {
        Ok(snapshot) => snapshot,
        Err(failure) => {
            complain(&format!("gwanmun: {failure}"));
            return Ok(failure.exit_code());
        }
    };
    let runtime = server::runtime(snapshot.threads).context("cannot start the runtime")?;
    runtime.block_on(serve(which, &options, &token, snapshot))?;
    Ok(ExitCode::SUCCESS)
}

/// How the gateway starts, and the folder of what it keeps, which goes with it.
fn options(config: PathBuf, at: Option<Instant>) -> anyhow::Result<(Options, TempDir)> {
    let state = tempfile::Builder::new().prefix("gwanmun-demo-").tempdir();
    let state = state.context("there is no folder for what is frozen and revoked")?;
    let options = Options {
        config,
        rehearse_at: at.map(|instant| instant.at),
        state: Some(state.path().to_owned()),
        announce: false,
        admin_token: None,
    };
    Ok((options, state))
}

async fn serve(which: Which, options: &Options, token: &[u8], snapshot: Arc<Snapshot>) -> anyhow::Result<()> {
    let now = options.rehearse_at.unwrap_or_else(Timestamp::now);
    let services = demo::start(which, &Ports::configured(which), now).await?;
    let gateway = server::start(options, snapshot.clone()).await?;
    let address = *gateway.listeners().first().context("the sample listens nowhere")?;
    let scene = Scene {
        which,
        snapshot: &snapshot,
        services: &services,
        address,
        now,
        is_rehearsal: options.rehearse_at.is_some(),
    };
    let requests = format!("{}{}{}", logins(&scene), lines(&scene)?, outage(which, &services));
    let closing = closing(which, token, &services, &snapshot);
    tell(&format!(
        "{}{requests}{closing}",
        greeting(options, address, services.users(), &snapshot)
    ))?;
    gateway.wait().await;
    services.stop().await;
    Ok(())
}

fn greeting(options: &Options, address: SocketAddr, users: &[User], snapshot: &Snapshot) -> String {
    let config = options.config.display();
    let mut text =
        format!("# {config} serves on http://{address}; change it, and the next answers change. Ctrl-C ends.\n");
    if let Some(admin) = &snapshot.admin {
        text.push_str(&format!("# Metrics on http://{}/metrics\n", admin.address));
    }
    text.push_str("\n# Paste these into another terminal, then try the requests:\n");
    for user in users {
        let variable = variable(user.name);
        text.push_str(&format!("# {}\nexport {variable}={}\n", user.about, user.token));
    }
    text.push('\n');
    text
}

/// How to see an answer that lacks something.
fn outage(which: Which, services: &demo::Running) -> String {
    let (service, page) = match which {
        Which::Bank => (Service::Invest, "dashboard"),
        Which::Shop => return String::new(),
    };
    let switch = services.switch(service);
    format!(
        "# stop a service and, once the ten seconds are over for which its part is kept, ask for the {page} again: see what\n\
         # `Gwanmun-Partial` says; then start the service again\n\
         curl -X POST {switch}/stop\n\
         curl -X POST {switch}/start\n\n"
    )
}

/// What an operator would do in an emergency, with a token made for this demo.
fn closing(which: Which, token: &[u8], services: &demo::Running, snapshot: &Snapshot) -> String {
    let Some(admin) = &snapshot.admin else {
        return String::new();
    };
    let route = match which {
        Which::Bank => "transfer",
        Which::Shop => "pay",
    };
    let program = std::env::current_exe().map_or_else(|_| "gwanmun".into(), |path| path.display().to_string());
    let token = String::from_utf8_lossy(token);
    let mut text = format!(
        "# close a route at once, whatever the rules say: it answers 503 for five minutes, or until it is thawed\n\
         export GWANMUN_ADMIN=http://{} GWANMUN_ADMIN_TOKEN={token}\n\
         {program} ctl freeze {route} --for 5m --reason 'trying it out'\n\
         {program} ctl thaw {route}\n",
        admin.address
    );
    let first = services.users().first();
    let subject = |user: &User| {
        user.claims
            .get("sub")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
    };
    if let Some((user, subject)) = first.and_then(|user| Some((user, subject(user)?))) {
        text.push_str(&format!(
            "# refuse what {} holds by now with 401; whoever logs in again is let in\n\
             {program} ctl revoke --subject {subject} --issued-before now\n\
             export {}=$(curl -s {})\n",
            user.about,
            variable(user.name),
            services.login(user.name)
        ));
    }
    text
}

/// 32 random bytes, as text.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| anyhow::anyhow!("there is no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The sample's configuration: in `conf/` here, or of the checkout that the program was built in.
fn find(name: &str) -> anyhow::Result<PathBuf> {
    let here = PathBuf::from("conf").join(name);
    let program = std::env::current_exe().unwrap_or_default();
    // `target/debug/gwanmun` lies three levels below `conf`'s folder.
    let near = program
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join("conf").join(name));
    let mut candidates = std::iter::once(here).chain(near);
    candidates
        .find(|path| path.is_file())
        .with_context(|| format!("there is no `conf/{name}` here: run the demo in a checkout"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keeps_nothing_for_the_next_demo() {
        let start = || options(PathBuf::from("conf/bank.yaml"), None).unwrap();
        let ((first, kept), (second, _kept)) = (start(), start());
        let [first, second] = [first, second].map(|options| options.state.unwrap());
        assert_ne!(first, second);
        assert_eq!(std::fs::read_dir(&second).unwrap().count(), 0);
        drop(kept);
        assert!(!first.exists());
    }
}
