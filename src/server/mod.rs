//! Assembly: a configuration becomes listeners, a proxy, observers and background tasks, and ends in order.

#[cfg(feature = "mimalloc")]
mod allocator;
mod descriptors;
mod files;
mod front;
mod reload;
mod tls;
mod watchers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pingora::apps::http_app::HttpServer;
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::conf::Severity;
use crate::front::{Entrance, Front};
use crate::io::{Clock, StateFolder};
use crate::live::{Doors, Live, watch_over};
use crate::observe::Connections;
use crate::policies::authn::KeyCopies;
use crate::policies::freeze::Freezes;
use crate::policies::revocation::Revocations;
use crate::proxy::{Gate, RequestIds};
use crate::rehearse::{Paint, failures, show_findings};
use crate::snapshot::{self, AdminToken, Occasion, Snapshot};

#[cfg(feature = "mimalloc")]
pub use allocator::Allocator;
use front::FrontRefusals;
use watchers::Watchers;

/// Requests under way are given so long at the end.
const DRAIN: Duration = Duration::from_secs(30);
/// Sockets and streams are given so long to take note of the end.
const FAREWELL: Duration = Duration::from_secs(3);
/// The audit log is given so long to reach the disk.
const FLUSH: Duration = Duration::from_secs(10);
/// From one look for revocations that hit nothing any more to the next.
const FORGET: Duration = Duration::from_secs(3600);
/// Connections that the kernel holds until they are accepted; it has a bound of its own (`net.core.somaxconn`). The standard
/// library's 128 are soon too few where thousands come at once.
const BACKLOG: u32 = 4096;

/// What a gateway is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration: a file, or a directory of them.
    pub config: PathBuf,
    /// Where the wall clock of a rehearsal starts. What it changes of freezes, revocations and copies of keys is gone with it.
    pub rehearse_at: Option<Timestamp>,
    /// The folder of what outlives the process, in place of the one that the configuration names.
    pub state: Option<PathBuf>,
    /// Whether listeners and readiness are told on standard output.
    pub announce: bool,
    /// A token of the admin API besides the one that the configuration names.
    pub admin_token: Option<AdminToken>,
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// The configuration has errors; they were printed.
    #[error("the configuration has errors")]
    Configuration,
    /// A rehearsal that others could reach.
    #[error("a rehearsal needs every listener on a loopback address, and `{0}` is none")]
    Reachable(SocketAddr),
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl StartFailure {
    /// Errors of the configuration are a "no" (1), the rest is wrong usage or surroundings (2).
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}

/// Runs a gateway until it is told to stop.
pub fn run(options: &Options) -> ExitCode {
    let snapshot = match prepare(options) {
        Ok(snapshot) => snapshot,
        Err(failure) => return report(&failure),
    };
    let runtime = match runtime(snapshot.threads) {
        Ok(runtime) => runtime,
        Err(error) => return report(&StartFailure::Other(format!("cannot start the runtime: {error}"))),
    };
    let code = runtime.block_on(async {
        match start(options, snapshot).await {
            Ok(running) => {
                running.wait().await;
                ExitCode::SUCCESS
            }
            Err(failure) => report(&failure),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn report(failure: &StartFailure) -> ExitCode {
    eprintln!("gwanmun: {failure}");
    failure.exit_code()
}

/// A runtime with the configured number of workers.
pub fn runtime(threads: Option<usize>) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    builder
        .on_thread_park(crate::live::park)
        .on_thread_unpark(crate::live::unpark);
    builder.thread_name("gwanmun").enable_all().build()
}

/// Reads the configuration, prints what is found, and checks what only matters to a gateway that runs.
pub fn prepare(options: &Options) -> Result<Arc<Snapshot>, StartFailure> {
    let now = options.rehearse_at.unwrap_or_else(Timestamp::now);
    let (snapshot, findings) = snapshot::load(&options.config, Occasion { now, at_start: true });
    eprint!("{}", show_findings(&findings, Paint::for_stderr()));
    let snapshot = snapshot.ok_or(StartFailure::Configuration)?;
    let mut unfetched = snapshot.unfetched_secrets().peekable();
    let is_missing = unfetched.peek().is_some();
    for (place, message) in unfetched {
        eprintln!("{place}: {message}");
    }
    if is_missing {
        return Err(StartFailure::Configuration);
    }
    if options.rehearse_at.is_some() {
        let listeners = snapshot.listen.iter().map(|listen| listen.address);
        let admin = snapshot.admin.as_ref().map(|admin| admin.address);
        if let Some(reachable) = listeners.chain(admin).find(|address| !address.ip().is_loopback()) {
            return Err(StartFailure::Reachable(reachable));
        }
    }
    Ok(Arc::new(snapshot))
}

/// A gateway that serves.
pub struct Running {
    live: Arc<Live>,
    watchers: Arc<Watchers>,
    shutdown: watch::Sender<bool>,
    reloads: reload::Reloads,
    listeners: Vec<SocketAddr>,
    signals: Signals,
}

/// The signals a gateway knows; asked for before it says that it is ready.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reopen: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Starts a gateway inside the calling runtime.
pub async fn start(options: &Options, snapshot: Arc<Snapshot>) -> Result<Running, StartFailure> {
    let other = |what: &str| {
        let what = what.to_owned();
        move |error: &dyn std::fmt::Display| StartFailure::Other(format!("{what}: {error}"))
    };
    let clock = options.rehearse_at.map_or_else(Clock::system, Clock::starting_at);
    let descriptors = descriptors::raise();
    let connections = snapshot.bounds.connections.open.get().into();
    if descriptors < connections {
        log::warn!(
            "{connections} connections are allowed, and the system allows {descriptors} open files (`ulimit -n`)"
        );
    }
    let mut bound = Vec::with_capacity(snapshot.listen.len());
    for listen in &snapshot.listen {
        bound.push(bind(listen.address)?);
    }
    let admin = snapshot.admin.as_ref().map(|admin| bind(admin.address)).transpose()?;

    let doors = tls::Doors::open(&snapshot).map_err(StartFailure::Other)?;
    let watchers = Watchers::open(&snapshot, clock.now()).map_err(StartFailure::Other)?;
    let watchers = Arc::new(watchers);
    let live = Arc::new(Live::new(
        outside(clock, &snapshot, options)?,
        snapshot.clone(),
        watchers.observer(&snapshot),
    ));
    watchers.watch_health(&live);
    forget_revocations(&live);
    tokio::spawn(watch_over(Arc::downgrade(&live)));
    let (count, lines) = failing_tests(&snapshot);
    watchers.count_failing_tests(count);
    for line in lines {
        log::error!("{line}");
    }
    let ids = Arc::new(RequestIds::new().map_err(|error| other("no randomness")(&error))?);
    let conf = ServerConf {
        threads: snapshot.threads.unwrap_or(1),
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(Gate::new(live.clone(), ids.clone()), Arc::new(conf));
    proxy.handle_init_modules();

    let signals = Signals::new().map_err(|error| other("cannot listen for signals")(&error))?;
    let entrances = doors.entrances(&snapshot);
    let (shutdown, stop) = watch::channel(false);
    let refusals = Arc::new(FrontRefusals {
        live: live.clone(),
        ids,
    });
    let front = Front::new(Arc::new(proxy), front::settings(&snapshot), refusals.clone());
    let followed = front.clone();
    let follow = Box::new(move |snapshot: &Snapshot| followed.renew(front::settings(snapshot)));
    let reloads = reload::Reloads::watch(options.config.clone(), &snapshot, doors, follow);
    let reloads = reloads.map_err(StartFailure::Other)?;
    let mut listeners = Vec::with_capacity(bound.len());
    for ((address, listener), entrance) in bound.into_iter().zip(entrances) {
        tokio::spawn(front.clone().accept(listener, entrance, stop.clone()));
        listeners.push(address);
    }
    let admin = admin.map(|(address, listener)| {
        let connections = Box::new(move || Connections {
            open: front.connections(),
            refused: front.turned_away(),
            cut: front.cut_off(),
        });
        let app = HttpServer::new_app(Admin::new(
            live.clone(),
            watchers.metrics().clone(),
            watchers.reloads().clone(),
            options.admin_token.clone(),
            connections,
        ));
        let front = Front::new(Arc::new(app), front::admin_settings(), refusals);
        tokio::spawn(front.accept(listener, Entrance::Plain { http2: false }, stop.clone()));
        address
    });
    if options.announce {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        // Nobody may be reading: a closed pipe is no reason to stop.
        for address in &listeners {
            let _ = writeln!(out, "listening on {address}");
        }
        if let Some(address) = admin {
            let _ = writeln!(out, "admin on {address}");
        }
        let _ = writeln!(out, "ready");
        let _ = out.flush();
    }
    Ok(Running {
        live,
        watchers,
        shutdown,
        reloads,
        listeners,
        signals,
    })
}

/// What earlier gateways left behind. State that cannot be read is an error, never an empty start. A rehearsal leaves it as it
/// is, whatever its clock shows.
fn outside(clock: Clock, snapshot: &Snapshot, options: &Options) -> Result<Doors, StartFailure> {
    let failed = |error: &dyn std::fmt::Display| StartFailure::Other(format!("state: {error}"));
    let open = |path: PathBuf| match options.rehearse_at {
        Some(_) => Ok(StateFolder::only_read(&path)),
        None => StateFolder::open(&path),
    };
    let path = options.state.clone().or_else(|| snapshot.state_folder());
    let folder = path.map(open).transpose();
    let folder = folder.map_err(|error| failed(&error))?.map(Arc::new);
    let freezes = freezes(folder.clone(), snapshot, clock.now())?;
    let revocations = Revocations::open(folder.clone()).map_err(|error| failed(&error))?;
    let copies = KeyCopies::open(folder).map_err(|error| failed(&error))?;
    Ok(Doors::open(clock, freezes, revocations, copies))
}

/// What earlier gateways kept frozen. State that cannot be read must not open what is closed: it is an error.
fn freezes(folder: Option<Arc<StateFolder>>, snapshot: &Snapshot, now: Timestamp) -> Result<Freezes, StartFailure> {
    let freezes = Freezes::open(folder).map_err(|error| StartFailure::Other(format!("state: {error}")))?;
    for held in freezes.held().in_force(now) {
        let (kind, name) = (held.freeze.kind, &held.freeze.name);
        match snapshot.has(kind, name) {
            true => log::warn!("{} `{name}` is still frozen", kind.word()),
            false => log::warn!(
                "{} `{name}` is frozen, but the configuration has none of that name",
                kind.word()
            ),
        }
    }
    Ok(freezes)
}

/// Has revocations that hit nothing any more forgotten, now and every hour.
fn forget_revocations(live: &Arc<Live>) {
    let live = Arc::downgrade(live);
    tokio::spawn(async move {
        while let Some(live) = live.upgrade() {
            let _ = tokio::task::spawn_blocking(move || live.forget_revocations()).await;
            tokio::time::sleep(FORGET).await;
        }
    });
}

fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartFailure> {
    let failed = |cause| StartFailure::Listen { address, cause };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

impl Running {
    /// Where requests are accepted.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.live.current().snapshot.clone()
    }

    /// Serves until SIGTERM or SIGINT; reloads on file changes and SIGHUP, reopens the audit log on SIGHUP and SIGUSR1.
    pub async fn wait(mut self) {
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.hang_up.recv() => {
                    self.watchers.reopen();
                    self.reloads.reload(&self.live, &self.watchers, true);
                }
                _ = self.signals.reopen.recv() => self.watchers.reopen(),
                () = self.reloads.changed() => self.reloads.reload(&self.live, &self.watchers, false),
            }
        }
        self.stop().await;
    }

    /// Stops accepting, lets requests under way finish, and flushes the audit log.
    async fn stop(mut self) {
        self.live.leave();
        let _ = self.shutdown.send(true);
        let drained = async {
            // What is open as long as it likes is not waited for; it is told when all else is done.
            let _ = tokio::time::timeout(DRAIN, self.live.drained_to(|live| live.lasting.count())).await;
            self.live.lasting.end_all();
            if tokio::time::timeout(FAREWELL, self.live.drained_to(|_| 0))
                .await
                .is_err()
            {
                log::warn!("{} requests were cut off", self.live.in_flight());
            }
        };
        tokio::select! {
            () = drained => {}
            _ = self.signals.terminate.recv() => {}
            _ = self.signals.interrupt.recv() => {}
        }
        let watchers = self.watchers.clone();
        let flushed = tokio::task::spawn_blocking(move || watchers.close(FLUSH)).await;
        if !matches!(flushed, Ok(true)) {
            log::error!("the audit log may miss its last records");
        }
    }
}

/// How many tests of a configuration fail, and what is said of the first of them.
fn failing_tests(snapshot: &Snapshot) -> (usize, Vec<String>) {
    const MAX_LINES: usize = 20;
    let failures = failures(snapshot);
    let told = failures.iter().take(MAX_LINES);
    let mut lines: Vec<String> = told.map(|failure| failure.finding().headline()).collect();
    if let Some(more) = failures.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
        lines.push(format!("{more} more tests fail: `gwanmun check` says which"));
    }
    (failures.len(), lines)
}

/// Whether any finding makes a configuration unusable.
fn has_errors(findings: &[crate::conf::Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}
