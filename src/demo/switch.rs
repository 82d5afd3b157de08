//! Services that are stopped and started one by one while the others go on, to see what the gate makes of it.
//!
//! `POST /services/NAME/stop` at the identity provider closes the listeners and connections of all endpoints of a service, as
//! if its process were gone; `/start` opens them again.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::http::{Reply, Request, Site, Verb};
use super::sample::Ledger;
use super::{Service, listen};

/// All endpoints of all services.
pub(super) struct Switches {
    ledger: Arc<Ledger>,
    endpoints: Mutex<Vec<Endpoint>>,
    /// Held by everything that runs; whoever ends the demo waits until nobody does.
    alive: mpsc::WeakSender<Infallible>,
}

struct Endpoint {
    service: Service,
    port: u16,
    /// Ends it; `None` where it does not run.
    stop: Option<watch::Sender<bool>>,
}

impl Switches {
    /// Serves on every listener.
    pub(super) fn on(
        listeners: Vec<(Service, u16, TcpListener)>,
        ledger: Arc<Ledger>,
        alive: &mpsc::Sender<Infallible>,
    ) -> Arc<Self> {
        let endpoints = listeners.into_iter().map(|(service, port, listener)| Endpoint {
            service,
            port,
            stop: Some(serve(service, port, listener, &ledger, alive.clone())),
        });
        Arc::new(Self {
            endpoints: Mutex::new(endpoints.collect()),
            alive: alive.downgrade(),
            ledger,
        })
    }

    /// Stops everything.
    pub(super) fn off(&self) {
        for endpoint in self.endpoints.lock().iter_mut() {
            endpoint.turn_off();
        }
    }

    /// Answers what is asked of `/services`; `None` for anything else.
    pub(super) fn answer(&self, request: &Request) -> Option<Reply> {
        let path = request.path();
        let ["services", name, order] = path.as_slice() else {
            return None;
        };
        if request.verb != Verb::Post {
            return Some(Reply::not_allowed("POST"));
        }
        let mut endpoints = self.endpoints.lock();
        let mut named = endpoints
            .iter_mut()
            .filter(|endpoint| endpoint.service.name() == *name)
            .peekable();
        if named.peek().is_none() {
            return Some(Reply::not_found());
        }
        match *order {
            "stop" => named.for_each(Endpoint::turn_off),
            "start" => {
                for endpoint in named {
                    if self.turn_on(endpoint).is_none() {
                        let detail = "its address is taken, or not free yet: try again";
                        return Some(Reply::problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail));
                    }
                }
            }
            _ => return Some(Reply::not_found()),
        }
        Some(Reply::ok(&json!({ "service": name, "runs": *order == "start" })))
    }

    fn turn_on(&self, endpoint: &mut Endpoint) -> Option<()> {
        if endpoint.stop.is_none() {
            let (listener, port) = listen(endpoint.port).ok()?;
            let alive = self.alive.upgrade()?;
            endpoint.stop = Some(serve(endpoint.service, port, listener, &self.ledger, alive));
        }
        Some(())
    }
}

impl Endpoint {
    fn turn_off(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send_replace(true);
        }
    }
}

/// Dropping what this returns ends it, too.
fn serve(
    service: Service,
    port: u16,
    listener: TcpListener,
    ledger: &Arc<Ledger>,
    alive: mpsc::Sender<Infallible>,
) -> watch::Sender<bool> {
    let (stop, stopped) = watch::channel(false);
    let ledger = Arc::clone(ledger);
    let site = Site::new(service.name(), port, move |request| service.answer(&ledger, request));
    tokio::spawn(site.serve(listener, stopped, alive));
    stop
}
