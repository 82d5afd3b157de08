//! Asks about tokens, once each, and remembers what was answered: the answering half of introspection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use foldhash::quality::RandomState;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::answer::{Answered, NoAnswer};
use super::{ClientAuth, ClientCredentials, Endpoint, IntrospectionAuthenticator};
use crate::engine::claims::tree_size;
use crate::engine::{Answer, Principal};
use crate::io::{Client, ClientError};
use crate::policies::authn::discovery::{self, FetchFailure};

/// Longer answers are none.
const MAX_ANSWER: usize = 64 << 10;
/// So many tokens are asked about at a time; the others wait.
const MAX_AT_ONCE: usize = 64;
const MAX_BYTES: u64 = 64 << 20;
const USUAL_TOKENS: usize = 16_384;
/// For so long nobody asks an issuer where its endpoint is.
const DISCOVERED: Duration = Duration::from_secs(3600);
/// And for so long after it did not say.
const UNDISCOVERED: Duration = Duration::from_secs(1);
/// A connection that was kept may have been closed just now; asking changes nothing, so it is asked again.
const TRIES: usize = 3;

const UNAVAILABLE: Answer = Answer::Unavailable {
    code: "introspection-unavailable",
};

/// Letters that a form leaves as they are (WHATWG URL §5.1).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// Everything live about one authenticator by introspection.
#[derive(Debug)]
pub struct Introspector {
    shared: Arc<Shared>,
}

/// How asking about tokens goes.
#[derive(Debug, Clone)]
pub struct IntrospectionStatus {
    /// The authenticator's name.
    pub authenticator: Arc<str>,
    /// How often the endpoint was asked.
    pub asked: u64,
    /// How often it did not answer.
    pub failures: u64,
    /// How long ago it last did; `None` where it never has.
    pub age: Option<Duration>,
    /// Why the last one failed; `None` where it did not.
    pub failing: Option<Arc<str>>,
    /// Answers remembered.
    pub remembered: usize,
}

/// A token under a key that nobody knows, so that what is remembered is of no use to anybody.
type TokenKey = [u8; 32];
/// Nobody could say.
#[derive(Debug, Clone, Copy)]
struct Unavailable;
type Flight = SharedFuture<BoxFuture<'static, Result<Answered, Unavailable>>>;

struct Shared {
    authenticator: Arc<IntrospectionAuthenticator>,
    client: Arc<Client>,
    key: Option<hmac::Key>,
    memory: Cache<TokenKey, Remembered, Weight, RandomState>,
    /// The tokens that are being asked about.
    flights: Mutex<HashMap<TokenKey, Flight>>,
    places: Semaphore,
    endpoint: tokio::sync::Mutex<Discovery>,
    asked: AtomicU64,
    failures: AtomicU64,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    answered: Option<Instant>,
    failing: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Discovery {
    found: Option<(Arc<str>, Instant)>,
    failed: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Remembered {
    answered: Answered,
    until: Instant,
    bytes: u64,
}

/// Why nobody could say whose a token is. Names no token.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("its secret is missing")]
    NoSecret,
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("{0}")]
    Discovery(#[from] FetchFailure),
    #[error("its endpoint was not found out just now")]
    Undiscovered,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the endpoint answered {0}")]
    Status(u16),
    #[error("the answer is not `application/json`")]
    NotJson,
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

impl Introspector {
    /// An introspector that has asked nobody.
    pub fn new(authenticator: Arc<IntrospectionAuthenticator>, client: Arc<Client>) -> Self {
        let shared = Shared {
            authenticator,
            client,
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            memory: memory(),
            flights: Mutex::default(),
            places: Semaphore::new(MAX_AT_ONCE),
            endpoint: tokio::sync::Mutex::default(),
            asked: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            progress: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Whether it asks as this authenticator does.
    pub fn serves(&self, authenticator: &IntrospectionAuthenticator) -> bool {
        *self.shared.authenticator == *authenticator
    }

    /// Whom the token proves. Needs a tokio runtime.
    pub async fn answer(&self, token: &str, now: Timestamp) -> Answer {
        let Some(key) = self.shared.key_of(token) else {
            return UNAVAILABLE;
        };
        let answered = match self.shared.remembered(&key, now) {
            Some(answered) => Ok(answered),
            None => self.flight(key, token, now).await,
        };
        match answered.map(|answered| answered.judge(now)) {
            Ok(Ok(principal)) => Answer::Principal(principal),
            Ok(Err(refusal)) => Answer::Refused(refusal),
            Err(Unavailable) => UNAVAILABLE,
        }
    }

    /// Forgets the tokens of those that `whom` names, so that they are asked about again.
    pub fn forget(&self, whom: impl Fn(&Principal) -> bool) {
        self.shared.memory.retain(|_, remembered| match &remembered.answered {
            Answered::Active { principal, .. } => !whom(principal),
            Answered::Refused(_) => true,
        });
    }

    /// How it goes.
    pub fn status(&self) -> IntrospectionStatus {
        let shared = &self.shared;
        let progress = shared.progress.lock();
        IntrospectionStatus {
            authenticator: shared.authenticator.name.clone(),
            asked: shared.asked.load(Ordering::Relaxed),
            failures: shared.failures.load(Ordering::Relaxed),
            age: progress.answered.map(|at| at.elapsed()),
            failing: progress.failing.clone(),
            remembered: shared.memory.len(),
        }
    }

    /// Joins those who wait for the same answer, or asks. Whoever asked first may go away: the others get their answer.
    fn flight(&self, key: TokenKey, token: &str, now: Timestamp) -> Flight {
        let mut flights = self.shared.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        // It may have come in meanwhile.
        if let Some(answered) = self.shared.remembered(&key, now) {
            return futures::future::ready(Ok(answered)).boxed().shared();
        }
        let (shared, token) = (self.shared.clone(), Zeroizing::new(token.to_owned()));
        let asking = tokio::spawn(async move {
            let _ends = Ends(&shared, key);
            shared.ask(&key, &token).await
        });
        let flight = asking.map(|ended| ended.unwrap_or(Err(Unavailable))).boxed().shared();
        flights.insert(key, flight.clone());
        flight
    }
}

/// Takes a flight from the list, whatever became of it.
struct Ends<'a>(&'a Shared, TokenKey);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.flights.lock().remove(&self.1);
    }
}

impl Shared {
    fn key_of(&self, token: &str) -> Option<TokenKey> {
        hmac::sign(self.key.as_ref()?, token.as_bytes())
            .as_ref()
            .try_into()
            .ok()
    }

    fn remembered(&self, key: &TokenKey, now: Timestamp) -> Option<Answered> {
        let remembered = self.memory.get(key)?;
        // The clock that answers age by is not the one that a rehearsal moves.
        (Instant::now() < remembered.until && remembered.answered.stands(now)).then_some(remembered.answered)
    }

    /// Asks, and remembers.
    async fn ask(&self, key: &TokenKey, token: &str) -> Result<Answered, Unavailable> {
        let timeout = self.authenticator.timeout;
        let asked = tokio::time::timeout(timeout, self.fetch(token)).await;
        match asked.unwrap_or(Err(Failure::Late(timeout))) {
            Ok((answered, tree)) => {
                self.note(None);
                let (active, inactive) = self.authenticator.lifetimes;
                let lifetime = match &answered {
                    Answered::Active { .. } => active,
                    Answered::Refused(_) => inactive,
                };
                if !lifetime.is_zero() {
                    let granted = match &answered {
                        Answered::Active { principal, .. } => principal.granted_size(),
                        Answered::Refused(_) => 0,
                    };
                    let remembered = Remembered {
                        answered: answered.clone(),
                        until: Instant::now() + lifetime,
                        bytes: (Principal::SIZE + tree + granted) as u64,
                    };
                    self.memory.insert(*key, remembered);
                }
                Ok(answered)
            }
            Err(failure) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.note(Some(failure.to_string()));
                Err(Unavailable)
            }
        }
    }

    /// Keeps how it went, and logs when that changes.
    fn note(&self, failing: Option<String>) {
        let name = &self.authenticator.name;
        let mut progress = self.progress.lock();
        match (&progress.failing, &failing) {
            (before, Some(failure)) if before.as_deref() != Some(failure) => {
                log::warn!("authenticator `{name}`: nobody says whose tokens are: {failure}");
            }
            (Some(_), None) => log::info!("authenticator `{name}`: tokens are told again"),
            _ => {}
        }
        match failing {
            None => {
                *progress = Progress {
                    answered: Some(Instant::now()),
                    failing: None,
                }
            }
            Some(failure) => progress.failing = Some(failure.into()),
        }
    }

    /// What the endpoint says, and how much memory that takes, in bytes.
    async fn fetch(&self, token: &str) -> Result<(Answered, usize), Failure> {
        let credentials = self.authenticator.client.as_ref().ok_or(Failure::NoSecret)?;
        // Closed by nobody.
        let _place = self.places.acquire().await;
        let url = self.endpoint().await?;
        let (headers, form) = request(credentials, token);
        let bounds = discovery::bounds(self.authenticator.timeout, MAX_ANSWER);
        let mut tried = 1;
        let response = loop {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let body = Bytes::copy_from_slice(form.as_bytes());
            match self.client.send(Method::POST, &url, &headers, body, bounds).await {
                Err(ClientError::Exchange(_)) if tried < TRIES => tried += 1,
                answered => break answered?,
            }
        };
        if response.status != StatusCode::OK {
            return Err(Failure::Status(response.status.as_u16()));
        }
        if !is_json(&response.headers) {
            return Err(Failure::NotJson);
        }
        let answered = Answered::read(&response.body, &self.authenticator)?;
        Ok((answered, tree_size(&response.body)))
    }

    async fn endpoint(&self) -> Result<Arc<str>, Failure> {
        let issuer = match (&self.authenticator.endpoint, &self.authenticator.expected_issuer) {
            (Endpoint::Url(url), _) => return Ok(url.clone().into()),
            (Endpoint::Discover, Some(issuer)) => issuer,
            (Endpoint::Discover, None) => return Err(Failure::Undiscovered),
        };
        let mut discovery = self.endpoint.lock().await;
        if let Some((url, found)) = &discovery.found
            && found.elapsed() < DISCOVERED
        {
            return Ok(url.clone());
        }
        if discovery.failed.is_some_and(|failed| failed.elapsed() < UNDISCOVERED) {
            return discovery.last().ok_or(Failure::Undiscovered);
        }
        let timeout = self.authenticator.timeout;
        match discovery::url(&self.client, issuer, "introspection_endpoint", timeout).await {
            Ok(url) => {
                let url: Arc<str> = url.into();
                discovery.found = Some((url.clone(), Instant::now()));
                discovery.failed = None;
                Ok(url)
            }
            Err(failure) => {
                discovery.failed = Some(Instant::now());
                discovery.last().ok_or(failure.into())
            }
        }
    }
}

impl Discovery {
    /// Where the endpoint was when it was last found out.
    fn last(&self) -> Option<Arc<str>> {
        self.found.as_ref().map(|(url, _)| url.clone())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Introspector({:?})", self.authenticator)
    }
}

/// The headers and the form that ask about a token.
fn request(credentials: &ClientCredentials, token: &str) -> (Vec<(HeaderName, HeaderValue)>, Zeroizing<String>) {
    let encoded = |bytes: &[u8]| percent_encode(bytes, FORM).to_string();
    let (id, secret) = (
        encoded(credentials.id.as_bytes()),
        Zeroizing::new(encoded(&credentials.secret)),
    );
    let mut form = Zeroizing::new(format!(
        "token={}&token_type_hint=access_token",
        encoded(token.as_bytes())
    ));
    let mut headers = vec![
        (header::ACCEPT, HeaderValue::from_static("application/json")),
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        ),
    ];
    match credentials.auth {
        ClientAuth::Basic => {
            let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(format!("{id}:{}", *secret))));
            if let Ok(mut value) = HeaderValue::try_from(&*basic) {
                value.set_sensitive(true);
                headers.push((header::AUTHORIZATION, value));
            }
        }
        ClientAuth::Post => form.push_str(&format!("&client_id={id}&client_secret={}", *secret)),
    }
    (headers, form)
}

/// RFC 7662 §2.2; a signed answer (RFC 9701) was not asked for.
fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = said.unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

fn memory() -> Cache<TokenKey, Remembered, Weight, RandomState> {
    let (hasher, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
    let mut options = OptionsBuilder::new();
    options
        .estimated_items_capacity(USUAL_TOKENS)
        .weight_capacity(MAX_BYTES);
    match options.build() {
        Ok(options) => Cache::with_options(options, Weight, hasher, lifecycle),
        Err(_) => Cache::with(USUAL_TOKENS, MAX_BYTES, Weight, hasher, lifecycle),
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<TokenKey, Remembered> for Weight {
    fn weight(&self, _: &TokenKey, remembered: &Remembered) -> u64 {
        remembered.bytes
    }
}
