//! Telling a client that its request cannot be read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::head::{self, HeadFault};
use super::stream::Downstream;
use crate::engine::{Denial, DenialKind, problem};

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
    let answer = answer(&denial, &id);
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
fn answer(denial: &Denial, id: &str) -> String {
    let reply = problem(denial, id, jiff::Timestamp::UNIX_EPOCH, 0);
    let mut text = format!("HTTP/1.1 {}\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    if denial.status == StatusCode::METHOD_NOT_ALLOWED {
        text.push_str("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
    }
    text.push_str(&format!(
        "x-request-id: {id}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reply.body.len()
    ));
    text.push_str(&String::from_utf8_lossy(&reply.body));
    text
}
