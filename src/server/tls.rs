//! What listeners with TLS are set to: made from a snapshot, and anew at every reload.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::engine::Hosts;
use crate::front::{Entrance, TlsDoor, TlsSettings};
use crate::snapshot::{Listen, ListenTls, Snapshot};

/// What the listeners of one gateway shake hands with, in the order of the configuration.
pub(super) struct Doors(Vec<Option<Door>>);

struct Door {
    door: Arc<TlsDoor>,
    tickets: Mutex<Tickets>,
}

/// What seals session tickets, by keys that change every six hours. A ticket stands for the certificate that the client
/// showed, so it must not outlive the settings by which that was judged.
#[derive(Clone)]
struct Tickets {
    judged_by: Option<Arc<str>>,
    sealer: Arc<dyn ProducesTickets>,
}

/// What [`Doors::follow`] puts in force.
pub(super) struct Prepared(Vec<Option<(TlsSettings, Tickets)>>);

impl Doors {
    pub fn open(snapshot: &Snapshot) -> Result<Self, String> {
        let open = |listen: &Listen| {
            let Some((settings, tickets)) = prepare(listen, None)? else {
                return Ok(None);
            };
            Ok(Some(Door {
                door: TlsDoor::new(settings),
                tickets: Mutex::new(tickets),
            }))
        };
        Ok(Self(snapshot.listen.iter().map(open).collect::<Result<_, String>>()?))
    }

    /// How clients come in by each listener of the snapshot that these were opened for.
    pub fn entrances(&self, snapshot: &Snapshot) -> Vec<Entrance> {
        let entrance = |(door, listen): (&Option<Door>, &Listen)| match door {
            Some(door) => Entrance::Tls(door.door.clone()),
            None => Entrance::Plain { http2: listen.http2 },
        };
        self.0.iter().zip(&snapshot.listen).map(entrance).collect()
    }

    /// The settings of another snapshot with the same listeners, or what hinders.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<Prepared, String> {
        let pairs = self.0.iter().zip(&snapshot.listen);
        let prepared = pairs.map(|(door, listen)| {
            let standing = door.as_ref().map(|door| door.tickets.lock().clone());
            prepare(listen, standing)
        });
        Ok(Prepared(prepared.collect::<Result<_, _>>()?))
    }

    /// From now on these count. Connections that are open stay as they are.
    pub fn follow(&self, prepared: Prepared) {
        for (door, next) in self.0.iter().zip(prepared.0) {
            if let (Some(door), Some((settings, tickets))) = (door, next) {
                *door.tickets.lock() = tickets;
                door.door.renew(settings);
            }
        }
    }
}

fn prepare(listen: &Listen, standing: Option<Tickets>) -> Result<Option<(TlsSettings, Tickets)>, String> {
    let Some(tls) = &listen.tls else { return Ok(None) };
    let failed = |error: rustls::Error| format!("TLS on `{}`: {error}", listen.address);
    let judged_by = tls.clients.as_ref().map(|clients| clients.fingerprint.clone());
    let tickets = match standing.filter(|standing| standing.judged_by == judged_by) {
        Some(standing) => standing,
        None => Tickets {
            judged_by,
            sealer: ring::Ticketer::new().map_err(failed)?,
        },
    };
    let hosts = Arc::new(Hosts::new(tls.certificates.iter().map(|one| &*one.names)));
    let settings = TlsSettings {
        config: Arc::new(config(tls, hosts.clone(), tickets.sealer.clone()).map_err(failed)?),
        hosts,
        verifier: tls.clients.as_ref().map(|clients| clients.verifier.clone()),
    };
    Ok(Some((settings, tickets)))
}

fn config(tls: &ListenTls, hosts: Arc<Hosts>, sealer: Arc<dyn ProducesTickets>) -> Result<ServerConfig, rustls::Error> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.clone_from(&tls.suites);
    let versions = if tls.has_tls12 {
        &[&TLS13, &TLS12][..]
    } else {
        &[&TLS13]
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
    let builder = match &tls.clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(tls, hosts)));
    config.ticketer = sealer;
    let offered: &[&[u8]] = if tls.http2 {
        &[b"h2", b"http/1.1"]
    } else {
        &[b"http/1.1"]
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Chooses a certificate by the name that the client asks for, and among several by what the client can verify.
struct ByName {
    certified: Vec<Arc<CertifiedKey>>,
    hosts: Arc<Hosts>,
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hosts.fmt(f)
    }
}

impl ByName {
    fn new(tls: &ListenTls, hosts: Arc<Hosts>) -> Self {
        let certified = tls.certificates.iter().map(|one| one.certified.clone()).collect();
        Self { certified, hosts }
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = self.hosts.find(hello.server_name());
        let mut found = found.iter().filter_map(|at| self.certified.get(*at)).peekable();
        let first = found.peek().copied();
        let can_verify =
            |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        found.find(can_verify).or(first).cloned()
    }
}
