//! Sample services and an identity provider, for trying the gateway without having anything of one's own.
//!
//! Everything runs as tasks of the calling Tokio runtime, on loopback addresses only, from data computed on the spot.
//! The signing key and the tokens exist in memory alone and are new at every start. Nothing here knows the gateway,
//! and the gateway does not know that it stands before a demo.

mod bank;
mod http;
mod identity;
mod sample;
mod shop;
mod switch;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use self::http::{Reply, Request, Site};
use self::identity::Identity;
use self::sample::Ledger;
use self::switch::Switches;

/// Which of the two sample landscapes to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// A mobile bank: accounts, transfers, investments, cards, support.
    Bank,
    /// A shop: users, products, orders, payments.
    Shop,
}

/// A sample service, called as the upstream in `conf/bank.yaml` or `conf/shop.yaml` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `GET /customers/{id}/balance`
    Accounts,
    /// `GET /transfers?account=&limit=`, `POST /transfers`
    Transfers,
    /// `GET /summary/{customer}`, `POST /orders`
    Invest,
    /// `GET /cards`
    Cards,
    /// `GET /support/tickets/{id}`
    Support,
    /// `GET /me`
    Users,
    /// `GET /products`, `GET /products/{id}`, `GET /reviews?product=&limit=`
    Products,
    /// `GET /orders`, `POST /orders`
    Orders,
    /// `POST /payments`
    Payments,
}

impl Service {
    /// The upstream's name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Service::Accounts => "accounts",
            Service::Transfers => "transfers",
            Service::Invest => "invest",
            Service::Cards => "cards",
            Service::Support => "support",
            Service::Users => "users",
            Service::Products => "products",
            Service::Orders => "orders",
            Service::Payments => "payments",
        }
    }

    fn answer(self, ledger: &Ledger, request: &Request) -> Reply {
        match self {
            Service::Accounts => bank::accounts(request),
            Service::Transfers => bank::transfers(ledger, request),
            Service::Invest => bank::invest(ledger, request),
            Service::Cards => bank::cards(request),
            Service::Support => bank::support(ledger, request),
            Service::Users => shop::users(request),
            Service::Products => shop::products(ledger, request),
            Service::Orders => shop::orders(ledger, request),
            Service::Payments => shop::payments(ledger, request),
        }
    }
}

/// The loopback ports to listen on; a service stands once for each of its endpoints. Port 0 lets the system choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// The identity provider's.
    pub issuer: u16,
    /// In the order of the configuration.
    pub services: Vec<(Service, u16)>,
}

impl Ports {
    /// The ports that `conf/bank.yaml` and `conf/shop.yaml` name.
    pub fn configured(which: Which) -> Self {
        let services = match which {
            Which::Bank => vec![
                (Service::Accounts, 7001),
                (Service::Accounts, 7002),
                (Service::Transfers, 7003),
                (Service::Invest, 7004),
                (Service::Cards, 7005),
                (Service::Support, 7006),
            ],
            Which::Shop => vec![
                (Service::Users, 7101),
                (Service::Products, 7102),
                (Service::Products, 7103),
                (Service::Orders, 7104),
                (Service::Payments, 7105),
            ],
        };
        Ports { issuer: 9800, services }
    }

    /// The same services, all on ports of the system's choice.
    pub fn free(which: Which) -> Self {
        let mut ports = Ports::configured(which);
        ports.issuer = 0;
        ports.services.iter_mut().for_each(|(_, port)| *port = 0);
        ports
    }

    /// The addresses of one service, in order.
    pub fn of(&self, service: Service) -> impl Iterator<Item = SocketAddr> {
        let endpoints = self.services.iter().filter(move |(kind, _)| *kind == service);
        endpoints.map(|(_, port)| loopback(*port))
    }
}

/// A sample user, with an access token (RFC 9068) that is good for 24 hours.
pub struct User {
    /// One word, by which examples call the user.
    pub name: &'static str,
    /// Who that is, in half a sentence.
    pub about: &'static str,
    /// The claims in the token, an object.
    pub claims: Value,
    /// The signed token in compact form. A credential, if only for this demo: it belongs in no log.
    pub token: String,
}

/// Why the services could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Most often because something else listens there.
    #[error("cannot listen on `{address}`: {cause}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The system has no randomness to offer, or the key made from it does not sign.
    #[error("cannot make the keys and tokens of the identity provider")]
    Signing,
}

/// Starts the identity provider and all services of `which`, on exactly `ports`. The tokens are issued at `now`, and the
/// data is as of then. All addresses are taken before anything is served, so a failure leaves nothing behind.
pub async fn start(which: Which, ports: &Ports, now: Timestamp) -> Result<Running, StartError> {
    let (issuer_listener, issuer_port) = listen(ports.issuer)?;
    let mut listeners = Vec::new();
    let mut bound = Ports {
        issuer: issuer_port,
        services: Vec::new(),
    };
    for (service, port) in &ports.services {
        let (listener, port) = listen(*port)?;
        listeners.push((*service, port, listener));
        bound.services.push((*service, port));
    }

    let issuer = format!("http://{}", loopback(issuer_port));
    let identity = Identity::new(&issuer, which).map_err(|_| StartError::Signing)?;
    let users = identity.users(now).map_err(|_| StartError::Signing)?;
    let ledger = Arc::new(Ledger::new(now));

    let (stop, stopped) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let clock = Arc::clone(&ledger);
    let switches = Switches::on(listeners, ledger, &alive);
    let switched = Arc::clone(&switches);
    let answer = move |request: &Request| {
        let order = switched.answer(request);
        order.unwrap_or_else(|| identity.answer(request, clock.instant()))
    };
    let site = Site::new("identity", issuer_port, answer);
    tokio::spawn(site.serve(issuer_listener, stopped, alive));
    Ok(Running {
        issuer,
        ports: bound,
        users,
        stop,
        switches,
        ended,
    })
}

/// The services while they run. Dropping it ends them too, though without waiting.
pub struct Running {
    issuer: String,
    ports: Ports,
    users: Vec<User>,
    stop: watch::Sender<bool>,
    switches: Arc<Switches>,
    ended: mpsc::Receiver<Infallible>,
}

impl Running {
    /// The issuer's URL, as it stands in the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The ports in use; none of them is 0.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Three users, the one with the most ordinary rights first.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// Where a user logs in anew: GET answers a fresh token as plain text. `?acr_values=otp` asks for a stronger login, and
    /// `?at=INSTANT` for one that will have been then.
    pub fn login(&self, user: &str) -> String {
        format!("{}/login/{user}", self.issuer)
    }

    /// Where a service is stopped by POST to `/stop`, and started again by POST to `/start`.
    pub fn switch(&self, service: Service) -> String {
        format!("{}/services/{}", self.issuer, service.name())
    }

    /// Ends everything, idle and busy connections included, and returns once all sockets are closed.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.switches.off();
        // Each task holds a sender until it has let go of its sockets.
        while self.ended.recv().await.is_some() {}
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.switches.off();
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn listen(port: u16) -> Result<(TcpListener, u16), StartError> {
    let address = loopback(port);
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    open().map_err(|cause| StartError::Listen { address, cause })
}
