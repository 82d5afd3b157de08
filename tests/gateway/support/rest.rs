//! The REST server `json-server` of npm as a child process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::npm::installed;

/// A running server; it ends with the pipe to it.
pub struct RestServer {
    child: Child,
    address: SocketAddr,
}

impl RestServer {
    pub fn start() -> Self {
        let mut child = Command::new("node")
            .args(["--no-warnings", "server.js"])
            .current_dir(installed("json-server", &["server.js"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node runs; `make test` installs it");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim_end().parse().expect("an address");
        Self { child, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
