//! The head of an answer while it is made, whoever keeps it: what is said of answers is said once, to the wire and to people.

use std::convert::Infallible;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

/// Status and headers of an answer under way.
pub trait Head {
    /// Why a header could not be written.
    type Fault;

    /// The status.
    fn status(&self) -> StatusCode;

    /// The headers so far.
    fn headers(&self) -> &HeaderMap;

    /// Writes a header in place of what is there.
    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Self::Fault>;

    /// Writes a header beside what is there.
    fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Self::Fault>;

    /// Takes a header out.
    fn remove(&mut self, name: &HeaderName);
}

/// An answer that nobody sends.
impl<T> Head for Response<T> {
    type Fault = Infallible;

    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Infallible> {
        self.headers_mut().insert(name, value);
        Ok(())
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Infallible> {
        self.headers_mut().append(name, value);
        Ok(())
    }

    fn remove(&mut self, name: &HeaderName) {
        self.headers_mut().remove(name);
    }
}
