//! What it costs to ask three parts from inside a Pingora proxy, either way there is: `inside-pingora WAY LISTEN UPSTREAM` with
//! `subrequests`, each of which goes through all phases of a proxied request, or `connector`, a client over pooled
//! connections. Every request is answered by what the parts answer, one after the other; nothing else is done with them.

use std::net::SocketAddr;

use anyhow::Context;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Uri, header};
use pingora::connectors::http::v1::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, HttpPeer, ProxyHttp, Result, Server, Session};
use pingora::protocols::http::HttpTask;
use pingora::proxy::http_proxy_service;
use pingora::proxy::subrequest::{BodyMode, Ctx};
use pingora::server::configuration::ServerConf;

/// The gateway's.
#[path = "../../../src/server/allocator.rs"]
mod allocator;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

const PARTS: [&str; 3] = ["/first", "/second", "/third"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Subrequests,
    Connector,
}

struct Inside {
    way: Way,
    upstream: SocketAddr,
    connector: Connector,
}

/// Where a subrequest goes.
struct Part(&'static str);

impl Inside {
    fn peer(&self) -> HttpPeer {
        HttpPeer::new(self.upstream, false, String::new())
    }

    async fn ask(&self, session: &Session, part: &'static str) -> Result<Bytes> {
        match self.way {
            Way::Subrequests => by_subrequest(session, part).await,
            Way::Connector => self.by_connector(part).await,
        }
    }

    async fn by_connector(&self, part: &'static str) -> Result<Bytes> {
        let peer = self.peer();
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        let mut request = RequestHeader::build("GET", part.as_bytes(), None)?;
        request.insert_header(header::HOST, "bench")?;
        session.write_request_header(Box::new(request)).await?;
        session.read_response().await?;
        let mut body = BytesMut::new();
        while let Some(piece) = session.read_body_bytes().await? {
            body.extend_from_slice(&piece);
        }
        self.connector.release_http_session(session, &peer, None).await;
        Ok(body.freeze())
    }
}

async fn by_subrequest(session: &Session, part: &'static str) -> Result<Bytes> {
    let spawner = session.subrequest_spawner.as_ref();
    let spawner = spawner.ok_or_else(|| Error::new_str("no subrequests"))?;
    let about = Ctx::builder()
        .user_ctx(Box::new(Part(part)))
        .body_mode(BodyMode::NoBody)
        .build();
    let (prepared, mut handle) = spawner.create_subrequest(session.as_ref(), about);
    let collected = async {
        let mut body = BytesMut::new();
        while let Some(task) = handle.rx.recv().await {
            match task {
                HttpTask::Body(Some(piece), _) => body.extend_from_slice(&piece),
                HttpTask::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Ok(body.freeze())
    };
    let ((), body) = tokio::join!(prepared.run(), collected);
    body
}

#[async_trait]
impl ProxyHttp for Inside {
    type CTX = ();

    fn new_ctx(&self) {}

    fn allow_spawning_subrequest(&self, session: &Session, _: &()) -> bool {
        session.subrequest_ctx.is_none()
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        let about = session.subrequest_ctx.as_ref().and_then(|about| about.user_ctx());
        if let Some(&Part(part)) = about.and_then(|about| about.downcast_ref()) {
            session.req_header_mut().set_uri(Uri::from_static(part));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        if session.subrequest_ctx.is_some() {
            return Ok(false);
        }
        let [first, second, third] = PARTS.map(|part| self.ask(session, part));
        let (first, second, third) = tokio::try_join!(first, second, third)?;
        let body = Bytes::from([first, second, third].concat());
        let mut head = ResponseHeader::build(200, None)?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(body), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer()))
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, listen, upstream] = arguments.as_slice() else {
        anyhow::bail!("usage: inside-pingora subrequests|connector LISTEN UPSTREAM");
    };
    let way = match way.as_str() {
        "subrequests" => Way::Subrequests,
        "connector" => Way::Connector,
        _ => anyhow::bail!("`{way}` is neither `subrequests` nor `connector`"),
    };
    let inside = Inside {
        way,
        upstream: upstream.parse().context("UPSTREAM is not an address")?,
        connector: Connector::new(None),
    };
    let conf = ServerConf {
        threads: 1,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, inside);
    proxy.add_tcp(listen);
    server.add_service(proxy);
    server.run_forever()
}
