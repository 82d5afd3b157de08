//! Telling a client that its request cannot be read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::framing::is_bodyless;
use super::head::{self, HeadFault};
use super::stream::Downstream;
use crate::engine::{Denial, DenialKind, problem};

/// The methods of a refusal of CONNECT (RFC 9110 §15.5.6).
pub(super) const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Told of what the front refused itself.
pub trait Refusals: Send + Sync {
    /// A request whose line could be read was refused. Returns the request id to tell the client.
    fn refused(&self, peer: SocketAddr, method: &Method, target: &str, denial: &Denial) -> Arc<str>;
}

/// Answers what begins `buffer`, and closes.
pub(super) async fn refuse(
    refusals: &dyn Refusals,
    stream: &mut Downstream,
    peer: SocketAddr,
    buffer: &[u8],
    fault: HeadFault,
) {
    let (status, code, detail) = fault.told();
    let denial = Denial::new(DenialKind::Refuse, status, code, detail);
    let (method, target) = head::request_line(buffer);
    let id = refusals.refused(peer, &method, &target, &denial);
    let answer = answer(&method, &denial, &id);
    // The client may still be sending: it is given a moment to read the answer before the reset.
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        let mut left = [0; 4096];
        while stream.read(&mut left).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(Duration::from_secs(1), told).await;
}

/// A refusal as HTTP/1.1 that closes the connection.
fn answer(method: &Method, denial: &Denial, id: &str) -> String {
    let mut reply = problem(denial, id, jiff::Timestamp::UNIX_EPOCH, 0);
    if denial.status == StatusCode::METHOD_NOT_ALLOWED {
        reply.headers.push((header::ALLOW, ALLOWED));
    }
    let mut text = format!("HTTP/1.1 {}\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    text.push_str(&format!(
        "x-request-id: {id}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reply.body.len()
    ));
    if !is_bodyless(method, denial.status) {
        text.push_str(&String::from_utf8_lossy(&reply.body));
    }
    text
}
