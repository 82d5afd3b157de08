//! Clients and attackers that others wrote: `curl`, `h2load`, `openssl s_client` and `slowhttptest`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Authority, Gateway, Reply, Upstream, fill};

const ROUTES: &str = "
bounds:
  header: { within: 1s }
  body:   { per_second: 1KiB, grace: 1s }
  answer: { per_second: 1KiB, grace: 1s }
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  all: { match: { path: '/{rest...}' }, auth: none, upstream: origin }
";

fn origin() -> Upstream {
    Upstream::http1(|seen| match seen.path() {
        "/large" => Reply::text("x".repeat(4 << 20)),
        path => Reply::text(format!("{} {path} {}", seen.method, seen.body.len())),
    })
}

fn start(upstream: &Upstream) -> Gateway {
    Gateway::start(&fill(ROUTES, &[("upstream", &upstream.address())]))
}

/// With patience for a client that waits for a word that it is not told.
fn start_patiently(upstream: &Upstream) -> Gateway {
    let yaml = ROUTES.replace("grace: 1s", "grace: 30s");
    Gateway::start(&fill(&yaml, &[("upstream", &upstream.address())]))
}

/// What a program says on its standard output, which must end well.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]);
    command
}

#[test]
fn curl_uploads_in_every_version_whatever_it_says_of_the_length() {
    let upstream = origin();
    let gateway = start_patiently(&upstream);
    let url = format!("http://{}/up", gateway.address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b'x'; 300_000]).unwrap();
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        let of_known_length = said(curl().args([version, "-X", "POST", "-T"]).arg(&file).arg(&url));
        assert_eq!(of_known_length, "POST /up 300000", "{version}");
        let expecting = said(curl().args([version, "-H", "Expect: 100-continue", "-d", "abc", &url]));
        assert_eq!(expecting, "POST /up 3", "{version}");
        if version == "--http1.0" {
            continue;
        }
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let sending = std::thread::spawn(move || {
            for _ in 0..30 {
                writer.write_all(&[b'y'; 10_000]).unwrap();
            }
        });
        let streamed = said(
            curl()
                .args([version, "-X", "POST", "-T", "-", &url])
                .stdin(Stdio::from(reader.try_clone().unwrap())),
        );
        sending.join().unwrap();
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        assert_eq!(streamed, "POST /up 300000", "{version}");
        assert_eq!(said(curl().args([version, "-d", "", &url])), "POST /up 0", "{version}");
    }
}

#[test]
fn h2load_is_answered_in_full() {
    let upstream = origin();
    let gateway = start(&upstream);
    let load = |more: &[&str], requests: usize| {
        let said = said(Command::new("h2load").args(more).args([
            "-n",
            &requests.to_string(),
            "-c",
            "8",
            &format!("http://{}/x", gateway.address()),
        ]));
        let whole = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(
            said.contains(&whole) && said.contains(&format!("{requests} 2xx")),
            "{said}"
        );
    };
    load(&["-m", "64"], 2_000);
    load(&["-m", "1"], 200);
    load(&["--h1"], 200);
    assert_eq!(gateway.records(2_400).len(), 2_400);
}

#[test]
fn openssl_and_curl_trust_the_certificate_in_both_versions_of_tls() {
    let (authority, upstream) = (Authority::new(), origin());
    let own = authority.server(&["gate.example"]);
    let routes = fill(ROUTES, &[("upstream", &upstream.address())]);
    let gateway = Gateway::with(&format!(
        "listen: [{{ address: 127.0.0.1:0, tls: {{ certificate: a.pem, key: a.key }} }}]\n{routes}"
    ))
    .file("a.pem", &own.chain)
    .file("a.key", &own.key)
    .start();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, authority.pem()).unwrap();
    let shake = |more: &[&str]| {
        let mut client = Command::new("openssl")
            .args(["s_client", "-verify_return_error", "-servername", "gate.example"])
            .args(["-connect", &gateway.address().to_string(), "-CAfile"])
            .arg(&trusted)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What follows the handshake: the client ends with its input, or with what the gate makes of it.
        let request = b"GET /x HTTP/1.1\r\nHost: gate.example\r\nConnection: close\r\n\r\n";
        let _ = client.stdin.as_mut().unwrap().write_all(request);
        let output = client.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = shake(&[version, "-ign_eof", "-alpn", "http/1.1"]);
        for part in [
            "Verify return code: 0 (ok)",
            name,
            "ALPN protocol: http/1.1",
            "GET /x 0",
        ] {
            assert!(said.contains(part), "{version}: no {part}: {said}");
        }
    }
    assert!(shake(&["-alpn", "h2"]).contains("ALPN protocol: h2"));
    // Older ones are not spoken.
    assert!(shake(&["-tls1_1"]).contains("Cipher is (NONE)"));
    assert_eq!(upstream.count(), 2);
    // One after the other on one connection: what is left of one would be found by the next.
    let secure = |more: &[&str]| {
        let url = format!("https://gate.example:{}/up", gateway.address().port());
        let to = format!("gate.example:{0}:127.0.0.1:{0}", gateway.address().port());
        let one = ["--silent", "--noproxy", "*", "--connect-to", &to, "--cacert"];
        let again = ["--write-out", " %{http_version} %{num_connects}\n"];
        said(
            Command::new("curl")
                .args(one)
                .arg(&trusted)
                .args(more)
                .args(["-d", "abc", &url, "--next"])
                .args(one)
                .arg(&trusted)
                .args(more)
                .args(again)
                .arg(&url),
        )
    };
    assert_eq!(secure(&["--http2"]), "POST /up 3GET /up 0 2 0\n");
    assert_eq!(
        secure(&["--http1.1", "--tls-max", "1.2"]),
        "POST /up 3GET /up 0 1.1 0\n"
    );
}

/// Attacks with forty connections, while somebody else is served as ever; true if all were closed before it gave up.
fn is_thrown_out(gateway: &Gateway, attack: &[&str]) -> bool {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let mut served = 0;
            while !over.load(Ordering::SeqCst) || served == 0 {
                gateway.get("/honest").send().expect(200);
                served += 1;
            }
        });
        let output = Command::new("slowhttptest")
            .args(["-c", "40", "-r", "40", "-l", "60", "-p", "30", "-u"])
            .arg(format!("http://{}/large", gateway.address()))
            .args(attack)
            .output();
        over.store(true, Ordering::SeqCst);
        honest.join().unwrap();
        let said = String::from_utf8_lossy(&output.expect("slowhttptest runs").stdout).into_owned();
        assert!(said.contains("Exit status"), "{said}");
        said.contains("No open connections left")
    })
}

#[test]
fn slow_clients_are_thrown_out() {
    let upstream = origin();
    let gateway = start(&upstream);
    for attack in [
        // The header, a line each second.
        &["-H", "-i", "1"][..],
        // The body, a few bytes each second.
        &["-B", "-i", "1", "-s", "8192"],
        // The answer, a few bytes each second, through a window of some.
        &["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-k", "1"],
    ] {
        assert!(is_thrown_out(&gateway, attack), "{attack:?}");
    }
}
