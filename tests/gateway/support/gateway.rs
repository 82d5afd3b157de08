//! The real binary as a child process, on ports the system chooses, in a folder of its own.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use gwanmun::cli::replay::Replayer;
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use super::{Connection, Metrics, Request, WATCHDOG, eventually, request_to};

const FILE: &str = "gwanmun.yaml";
/// Where records go unless the configuration says otherwise, seen from its folder.
const RECORDS: &str = "var";

/// How a gateway is to be started.
pub struct Launch {
    yaml: String,
    files: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    rehearse_at: Option<String>,
    is_directory: bool,
}

impl Launch {
    /// Starts on the folder with all its files, not on the one file alone.
    pub fn directory(mut self) -> Self {
        self.is_directory = true;
        self
    }

    /// Puts another file beside the configuration, for it to name.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the wall clock there and lets requests say `Gwanmun-At`.
    pub fn rehearse_at(mut self, instant: &str) -> Self {
        self.rehearse_at = Some(instant.to_owned());
        self
    }

    /// Returns once the gateway serves.
    pub fn start(self) -> Gateway {
        let folder = tempfile::tempdir().expect("a folder for the gateway");
        for (name, text) in &self.files {
            replace(&folder.path().join(name), text);
        }
        replace(&folder.path().join(FILE), &self.yaml);
        let mut command = match self.is_directory {
            true => command(folder.path()),
            false => command(&folder.path().join(FILE)),
        };
        command.envs(self.environment);
        if let Some(instant) = &self.rehearse_at {
            command.args(["--rehearse-at", instant]);
        }
        let (process, said) = Process::spawn(command);
        let (listener, admin) = process.addresses(&said);
        let gateway = Gateway {
            address: listener,
            admin,
            process: Some(process),
            versions: Mutex::default(),
            folder,
            is_directory: self.is_directory,
        };
        gateway.keep_version();
        gateway
    }
}

/// A running gateway. It is stopped and what it leaves behind is checked when it is dropped.
pub struct Gateway {
    address: SocketAddr,
    admin: SocketAddr,
    process: Option<Process>,
    /// Every configuration that was live, by its hash: a folder holding all its files as they were.
    versions: Mutex<HashMap<String, PathBuf>>,
    folder: TempDir,
    is_directory: bool,
}

impl Gateway {
    /// Starts on this configuration, to which listener, admin address and audit file are added where it has none.
    pub fn start(yaml: &str) -> Self {
        Self::with(yaml).start()
    }

    pub fn with(yaml: &str) -> Launch {
        Launch {
            yaml: complete(yaml),
            files: Vec::new(),
            environment: Vec::new(),
            rehearse_at: None,
            is_directory: false,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        request_to(self.address, method, target)
    }

    pub fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    pub fn post(&self, target: &str) -> Request {
        self.request("POST", target)
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// A request to the admin address.
    pub fn admin(&self, method: &str, target: &str) -> Request {
        request_to(self.admin, method, target).host(&self.admin.to_string())
    }

    pub fn metrics(&self) -> Metrics {
        let response = self.admin("GET", "/metrics").send();
        Metrics {
            text: response.expect(200).text(),
        }
    }

    /// Replaces the configuration by rename, as careful editors do, and waits for the outcome: whether it was taken.
    pub fn reload(&self, yaml: &str) -> bool {
        self.edit(|path| replace(path, &complete(yaml)))
    }

    /// The same, written into the file itself, as careless editors do.
    pub fn reload_in_place(&self, yaml: &str) -> bool {
        self.edit(|path| std::fs::write(path, complete(yaml)).expect("the file can be written"))
    }

    /// Changes a file beside the configuration and waits for the outcome.
    pub fn reload_beside(&self, name: &str, text: &str) -> bool {
        self.edit(|path| replace(&path.with_file_name(name), text))
    }

    /// Changes the folder of the configuration in another way and waits for the outcome.
    pub fn reload_folder(&self, change: impl FnOnce(&Path)) -> bool {
        self.edit(|path| change(path.parent().expect("a folder")))
    }

    /// Asks for a reload of the files as they are, and waits until it is done.
    pub fn hang_up(&self) -> bool {
        let before = self.metrics();
        self.signal(libc::SIGHUP);
        let taken = eventually("the reload asked for by signal", || {
            let now = self.metrics();
            moved(&before, &now, "ok").or_else(|| moved(&before, &now, "failed"))
        });
        self.keep_version();
        taken
    }

    pub fn signal(&self, signal: libc::c_int) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// What it has logged until now.
    pub fn log(&self) -> String {
        self.process.as_ref().expect("it runs").log()
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder its records are in.
    pub fn records_folder(&self) -> PathBuf {
        self.folder.path().join(RECORDS)
    }

    /// Waits until that many records are written, and returns all there are, in order.
    pub fn records(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} records"), || {
            let lines = read_lines(&self.records_folder());
            (lines.len() >= count).then(|| lines.iter().map(|line| parse(line)).collect())
        })
    }

    /// Stops it as a service manager would, and returns all records it left, in order.
    pub fn stop(mut self) -> Vec<Value> {
        self.end().expect("the gateway ends well")
    }

    fn edit(&self, write: impl FnOnce(&Path)) -> bool {
        let before = self.metrics();
        write(&self.folder.path().join(FILE));
        let taken = eventually("the reload of the changed file", || {
            let now = self.metrics();
            // A change of the file is told in several events; only the new hash says that the new text was read.
            if hash(&now) == hash(&before) {
                return moved(&before, &now, "failed");
            }
            moved(&before, &now, "ok")
        });
        self.keep_version();
        taken
    }

    /// Copies the files that are live now under their hash.
    fn keep_version(&self) {
        let hash = hash(&self.metrics());
        let mut versions = self.versions.lock().expect("no panic while keeping versions");
        versions.entry(hash.clone()).or_insert_with(|| {
            let copy = self.folder.path().join("versions").join(&hash);
            std::fs::create_dir_all(&copy).expect("a folder for the version");
            for entry in std::fs::read_dir(self.folder.path()).expect("the folder").flatten() {
                if entry.path().is_file() {
                    std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
                }
            }
            accept(&self.folder.path().join(FILE));
            copy
        });
    }

    /// Terminates the process, if that was not done before, and checks how it went and what it left.
    fn end(&mut self) -> Result<Vec<Value>, String> {
        let Some(process) = self.process.take() else {
            return Ok(Vec::new());
        };
        let status = process.terminate();
        let log = process.log();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{log}");
            return Ok(Vec::new());
        }
        let status = status.ok_or_else(|| format!("did not stop when told to\n{log}"))?;
        if status.signal().is_some() || log.contains("panicked at") {
            return Err(format!("ended with {status}\n{log}"));
        }
        let lines = read_lines(&self.records_folder());
        self.check_records(&lines)?;
        Ok(lines.iter().map(|line| parse(line)).collect())
    }

    /// Whatever a test was about, each record is whole and names a configuration that was live.
    fn check_records(&self, lines: &[String]) -> Result<(), String> {
        let versions = self.versions.lock().expect("no panic while keeping versions");
        let mut replayers = HashMap::new();
        for line in lines {
            let record = parse(line);
            if record["v"] != 1 {
                return Err(format!("not of schema 1: {line}"));
            }
            if is_request(&record) && !versions.contains_key(record["config"].as_str().unwrap_or_default()) {
                return Err(format!("names a configuration that was never live: {line}"));
            }
            if is_request(&record) {
                let config = record["config"].as_str().unwrap_or_default().to_owned();
                let replayer = match replayers.entry(config) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let folder = versions[new.key()].clone();
                        let at = record["at"]
                            .as_str()
                            .and_then(|at| at.parse().ok())
                            .ok_or("no instant")?;
                        let config = match self.is_directory {
                            true => folder,
                            false => folder.join(FILE),
                        };
                        new.insert(Replayer::load(&config, at)?)
                    }
                };
                if let Some(difference) = replayer.decide_again(line)? {
                    return Err(format!("decides otherwise from its record: {difference}: {line}"));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Err(why) = self.end() {
            panic!("{why}");
        }
    }
}

/// Whether a record is one of a request, not one of an alert or of records dropped.
pub fn is_request(record: &Value) -> bool {
    record.get("method").is_some()
}

/// Runs the gateway on a configuration it must refuse, and returns what it said.
pub fn refused_start(yaml: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder for the gateway");
    replace(&folder.path().join(FILE), yaml);
    let child = command(&folder.path().join(FILE))
        .args(arguments)
        .spawn()
        .expect("the gateway's binary runs");
    let pid = child.id();
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match output.recv_timeout(WATCHDOG) {
        Ok(output) => output.expect("its output"),
        Err(_) => {
            kill(pid, libc::SIGKILL);
            panic!("serves what it should refuse")
        }
    }
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command.args(["run", "-c"]).arg(config);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Adds what nearly every test has alike.
fn complete(yaml: &str) -> String {
    let mut text = String::new();
    for (key, default) in [
        ("listen:", "listen:\n  - address: 127.0.0.1:0\n"),
        ("admin:", "admin:\n  address: 127.0.0.1:0\n"),
        ("audit:", "audit:\n  file: var/audit.jsonl\n"),
    ] {
        if !yaml.lines().any(|line| line.starts_with(key)) {
            text.push_str(default);
        }
    }
    text.push_str(yaml);
    text
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the file can be written");
    std::fs::rename(&new, path).expect("the file can be put in place");
}

/// What a gateway serves by, its JSON Schema has to accept.
fn accept(file: &Path) {
    let load = gwanmun::conf::Load::new();
    let document = load.document(file).expect("what is served by is YAML");
    let json: Value = serde_json::from_str(&document.to_json()).expect("a document is JSON, too");
    let schema = jsonschema::draft7::new(&gwanmun::snapshot::schema()).expect("a schema");
    let faults: Vec<String> = schema
        .iter_errors(&json)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

fn hash(metrics: &Metrics) -> String {
    let mut hashes = metrics.label_values("gwanmun_config_info", "hash");
    assert_eq!(hashes.len(), 1, "one configuration is live:\n{}", metrics.text);
    hashes.remove(0)
}

/// Whether reloads of this outcome were counted between the two scrapes: `Some(true)` for `ok`.
fn moved(before: &Metrics, now: &Metrics, result: &str) -> Option<bool> {
    let count = |metrics: &Metrics| {
        metrics
            .value("gwanmun_config_reloads_total", &[("result", result)])
            .unwrap_or_default()
    };
    (count(now) > count(before)).then_some(result == "ok")
}

/// All records in the folder, whichever file they were rotated into, in the order they were written.
fn read_lines(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        // Without its LF a line is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
        files.extend(first_instant(&lines).map(|first| (first, lines)));
    }
    files.sort();
    // A file that is rotated while this reads is found under both names; no two lines are alike.
    let mut known = HashSet::new();
    let lines = files.into_iter().flat_map(|(_, lines)| lines);
    lines.filter(|line| known.insert(line.clone())).collect()
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn first_instant(lines: &[String]) -> Option<Timestamp> {
    let first: Value = serde_json::from_str(lines.first()?).ok()?;
    first["at"].as_str()?.parse().ok()
}

/// The child with what it said; two threads read its pipes, one waits for its end.
struct Process {
    pid: u32,
    ended: Mutex<Receiver<ExitStatus>>,
    log: Arc<Mutex<String>>,
}

impl Process {
    fn spawn(mut command: Command) -> (Self, Receiver<String>) {
        let mut child = command.spawn().expect("the gateway's binary runs");
        let pid = child.id();
        let log = Arc::new(Mutex::new(String::new()));
        let (say, said) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("its stdout"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        let collected = Arc::clone(&log);
        let mut stderr = child.stderr.take().expect("its stderr");
        let collecting = std::thread::spawn(move || collect(&mut stderr, &collected));
        let (end, ended) = mpsc::channel();
        std::thread::spawn(move || wait(child, collecting, &end));
        let ended = Mutex::new(ended);
        (Self { pid, ended, log }, said)
    }

    /// Reads the lines it prints until it serves: where it listens, and where its admin does.
    fn addresses(&self, said: &Receiver<String>) -> (SocketAddr, SocketAddr) {
        let (mut listener, mut admin) = (None, None);
        loop {
            let Ok(line) = said.recv_timeout(WATCHDOG) else {
                // Its end closes the log too.
                let _ = self.terminate();
                panic!("the gateway does not start:\n{}", self.log());
            };
            if let Some(address) = line.strip_prefix("listening on ") {
                listener = listener.or_else(|| address.parse().ok());
            } else if let Some(address) = line.strip_prefix("admin on ") {
                admin = address.parse().ok();
            } else if line == "ready" {
                return (
                    listener.expect("a listener's address"),
                    admin.expect("an admin address"),
                );
            }
        }
    }

    fn signal(&self, signal: libc::c_int) {
        kill(self.pid, signal);
    }

    fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").clone()
    }

    /// Its exit status, or `None` where it had to be killed.
    fn terminate(&self) -> Option<ExitStatus> {
        // Already ended: the pid may be somebody else's by now.
        let ended = self.ended.lock().expect("no panic while waiting");
        if let Ok(status) = ended.try_recv() {
            return Some(status);
        }
        self.signal(libc::SIGTERM);
        let status = ended.recv_timeout(WATCHDOG).ok();
        if status.is_none() {
            self.signal(libc::SIGKILL);
        }
        status
    }
}

fn wait(mut child: Child, collecting: std::thread::JoinHandle<()>, end: &mpsc::Sender<ExitStatus>) {
    let status = child.wait().expect("the child can be waited for");
    // The log is whole only when the pipe has ended too.
    let _ = collecting.join();
    let _ = end.send(status);
}

fn collect(pipe: &mut impl Read, log: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut buffer) {
        log.lock()
            .expect("no panic while logging")
            .push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

fn kill(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("a pid");
    // SAFETY: `kill` takes no pointers; the pid is that of a child of ours not yet known to have ended.
    let _ = unsafe { libc::kill(pid, signal) };
}
