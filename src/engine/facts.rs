//! Everything a decision may depend on, borrowed from whoever parsed the request.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, Method};
use jiff::Timestamp;
use smallvec::SmallVec;

use super::{ClientCertificate, Principal};

/// The facts of one request.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The instant of the request.
    pub now: Timestamp,
    /// The instant windows are judged at: `now`, except while looking for the instant a refusal ends
    /// ([`reopens_at`](super::reopens_at)), when windows move and everything else is held.
    pub window_at: Timestamp,
    /// Where the caller calls from, trusted proxies resolved.
    pub address: IpAddr,
    /// The kind of application that calls.
    pub client: &'a Client,
    /// The request line and headers.
    pub request: RequestView<'a>,
    /// The parameters of the matched path.
    pub params: Params<'a>,
    /// Who calls, once an authenticator has said so.
    pub principal: Option<Arc<Principal>>,
}

/// A kind of application, as `clients:` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name; empty where the configuration names no clients.
    pub name: Arc<str>,
    /// Its place in the list of clients, which is how shapes are found.
    pub index: u16,
}

impl Client {
    /// The client of a configuration that names none.
    pub fn unnamed() -> Self {
        Self {
            name: Arc::from(""),
            index: u16::MAX,
        }
    }
}

/// A request as the engine sees it: one normalised reading.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// Lower case, without port and trailing dot.
    pub host: &'a str,
    /// Normalised, begins with `/`.
    pub path: &'a str,
    /// As sent, without the `?`; empty where there is none.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
}

impl fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.host, self.path)
    }
}

impl<'a> RequestView<'a> {
    /// A header as text; `None` where it is absent, repeated or not visible ASCII.
    pub fn header(&self, name: &HeaderName) -> Option<&'a str> {
        let value = self.headers.first(name)?;
        if self.headers.is_repeated(name) {
            return None;
        }
        let visible = |byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e);
        value.iter().all(visible).then(|| std::str::from_utf8(value).ok())?
    }

    /// The values of a query parameter, `+` and percent decoded, in order, with `None` for one that is not UTF-8: it was
    /// sent, and an upstream may make of it what it likes.
    pub fn query_sent(&self, name: &str) -> impl Iterator<Item = Option<Cow<'a, str>>> {
        self.query.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_query(key)? == name).then(|| decode_query(value))
        })
    }
}

/// Decodes one part of a query; `None` where it is not UTF-8.
fn decode_query(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

/// Headers by name, whoever parsed them.
pub trait Headers: Sync {
    /// The first value.
    fn first(&self, name: &HeaderName) -> Option<&[u8]>;
    /// Whether there is more than one line of that name.
    fn is_repeated(&self, name: &HeaderName) -> bool;

    /// The value of every line, in order. Whoever keeps no more than the first has only that.
    fn all(&self, name: &HeaderName) -> SmallVec<[&[u8]; 2]> {
        self.first(name).into_iter().collect()
    }

    /// The word for the caller's credential ([`RecordedRequest::credential`](super::RecordedRequest)), where a request is
    /// only told of and carries none; `None` where the request speaks for itself.
    fn credential(&self) -> Option<&'static str> {
        None
    }

    /// The certificate of the connection that they came by, where the client has shown one. No header says it.
    fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        None
    }
}

/// No headers at all.
#[derive(Debug, Clone, Copy)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn first(&self, _: &HeaderName) -> Option<&[u8]> {
        None
    }

    fn is_repeated(&self, _: &HeaderName) -> bool {
        false
    }
}

/// The parameters of a matched path template, in its order, percent-encoded as they stand in the normalised path.
#[derive(Debug, Clone, Default)]
pub struct Params<'a> {
    /// The names in the template.
    pub names: &'a [Arc<str>],
    /// Their values.
    pub values: SmallVec<[&'a str; 4]>,
}

impl<'a> Params<'a> {
    /// The decoded value of a parameter; left encoded where it would not be UTF-8.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.names.iter().position(|known| &**known == name)?;
        let raw: &'a str = self.values.get(at)?;
        if !raw.contains('%') {
            return Some(Cow::Borrowed(raw));
        }
        Some(match percent_encoding::percent_decode_str(raw).decode_utf8() {
            Ok(decoded) => Cow::Owned(decoded.into_owned()),
            Err(_) => Cow::Borrowed(raw),
        })
    }

    /// Names with encoded values.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &'a str)> {
        self.names.iter().zip(self.values.iter().copied())
    }
}
