//! An upstream that keeps every byte it was sent, and answers only what its strict reader understands.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::runtime;
use super::wire::{self, Message, Read};

type Connections = Arc<Mutex<Vec<Vec<u8>>>>;

/// Stops, connections and all, when dropped.
pub struct Recorder {
    address: SocketAddr,
    connections: Connections,
    accepting: AbortHandle,
}

impl Recorder {
    pub fn start() -> Self {
        let listener = runtime()
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Connections::default();
        let kept = Arc::clone(&connections);
        let accepting = runtime().spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                serving.spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Self {
            address,
            connections,
            accepting: accepting.abort_handle(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that came since this was asked last, connection by connection, judged.
    #[track_caller]
    pub fn take(&self) -> Vec<Read> {
        let taken: Vec<Vec<u8>> = {
            let mut all = self.connections.lock().expect("no panic while keeping bytes");
            all.iter_mut().map(std::mem::take).collect()
        };
        let came = taken.iter().filter(|bytes| !bytes.is_empty());
        came.map(|bytes| match wire::read(bytes) {
            Ok(read) => read,
            Err(why) => panic!("the upstream was sent {:?}: {why}", String::from_utf8_lossy(bytes)),
        })
        .collect()
    }

    /// The whole requests among it; a beginning of another fails the test.
    #[track_caller]
    pub fn requests(&self) -> Vec<Message> {
        let came = self.take();
        assert!(came.iter().all(|read| !read.unfinished), "half a request: {came:?}");
        came.into_iter().flat_map(|read| read.requests).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, connections: Connections) {
    let at = {
        let mut all = connections.lock().expect("no panic while keeping bytes");
        all.push(Vec::new());
        all.len() - 1
    };
    let mut unread = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let Ok(read @ 1..) = stream.read(&mut piece).await else {
            return;
        };
        unread.extend_from_slice(&piece[..read]);
        connections.lock().expect("no panic while keeping bytes")[at].extend_from_slice(&piece[..read]);
        loop {
            match wire::message(&unread) {
                Ok(Some((message, used))) => {
                    unread.drain(..used);
                    let told = format!("{} {}", message.line(), message.body.len());
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", told.len());
                    let body = if message.method == "HEAD" { String::new() } else { told };
                    if stream.write_all((answer + &body).as_bytes()).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                // Whoever looks at the bytes will say what is wrong with them.
                Err(_) => return,
            }
        }
    }
}
