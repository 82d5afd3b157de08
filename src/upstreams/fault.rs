//! What went wrong with an endpoint, in a word for the record.

use pingora::{Error, ErrorSource, ErrorType};

use super::distrust;

/// The word for an error of an endpoint that has sent a header or not; `None` where the error is not the endpoint's.
pub fn fault(error: &Error, has_answered: bool) -> Option<&'static str> {
    if !matches!(error.esource(), ErrorSource::Upstream) {
        return None;
    }
    if let Some(fault) = distrust(error) {
        return Some(fault);
    }
    Some(match error.etype() {
        ErrorType::ConnectRefused => "refused",
        ErrorType::ConnectTimedout => "connect-timeout",
        ErrorType::ConnectNoRoute | ErrorType::ConnectError | ErrorType::SocketError => "unreachable",
        ErrorType::ReadTimedout => "response-timeout",
        ErrorType::WriteTimedout => "request-timeout",
        ErrorType::ReadError | ErrorType::WriteError => "reset",
        ErrorType::ConnectionClosed if !has_answered => "closed",
        ErrorType::InvalidHTTPHeader | ErrorType::Custom("InvalidChunk" | "InvalidTrailerEnd") => "malformed",
        ErrorType::HTTPStatus(_) => "status",
        _ => "cut-short",
    })
}
