//! The client and the server that most of the web's sockets are opened by and on: `ws` of npm.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, installed};

const SCRIPTS: [&str; 2] = ["server.js", "client.js"];

/// A running server; it ends with the pipe to it.
struct Server {
    child: Child,
    _input: ChildStdin,
    address: SocketAddr,
}

fn node(arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg("--no-warnings").args(arguments);
    command.current_dir(installed("ws", &SCRIPTS)).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

impl Server {
    fn start() -> Self {
        let mut child = node(&["server.js"])
            .spawn()
            .expect("node runs; `make test` installs it");
        let input = child.stdin.take().expect("its input");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        Self {
            address: line.trim_end().parse().expect("an address"),
            _input: input,
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client at work on `target`, and what it prints.
pub fn client(what: &str, gateway: &Gateway, target: &str, more: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let url = format!("ws://{}{target}", gateway.address());
    let arguments = [&["client.js", what, &url], more].concat();
    let mut child = node(&arguments).spawn().expect("node runs; `make test` installs it");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    (child, output)
}

/// The next line, as JSON.
pub fn told(output: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

fn came_of(what: &str, gateway: &Gateway, target: &str, more: &[&str]) -> Value {
    let (mut child, mut output) = client(what, gateway, target, more);
    let told = told(&mut output);
    child.wait().expect("it ends");
    told
}

fn gateway(server: &Server) -> Gateway {
    Gateway::start(&format!(
        "\
upstreams: {{ live: {{ endpoints: [{}] }} }}
routes:
  any: {{ match: 'GET /{{any}}', auth: none, websocket: true, compress: {{ min_size: 1B }}, upstream: live }}
",
        server.address
    ))
}

#[test]
fn two_that_know_nothing_of_the_gate_understand_each_other() {
    let server = Server::start();
    let gateway = gateway(&server);
    for (more, extensions) in [(&[][..], ""), (&["deflate"], "permessage-deflate")] {
        let told = came_of("talk", &gateway, "/talk", more);
        let got = json!([200_000, "fragments", "pong still there?", "송금"]);
        assert_eq!(
            told,
            json!({ "got": got, "code": 1000, "reason": "done", "protocol": "chat", "extensions": extensions })
        );
    }
    assert_eq!(came_of("greeted", &gateway, "/greeted", &[]), json!({ "greeted": 100 }));
    assert_eq!(came_of("large", &gateway, "/large", &[]), json!({ "back": 5 }));
    assert_eq!(came_of("refused", &gateway, "/refused", &[]), json!({ "status": 403 }));
    let (mut child, mut output) = client("wait", &gateway, "/closing", &[]);
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "open\n");
    assert_eq!(told(&mut output), json!({ "code": 4001, "reason": "enough" }));
    child.wait().expect("it ends");
}
