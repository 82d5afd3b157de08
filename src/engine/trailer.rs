//! Fields behind a body (RFC 9110 §6.5.1): what was read before it came is not said again there.

/// What no trailer may be: it frames, routes, authenticates or describes the message.
const FORBIDDEN: [&str; 29] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "pragma",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
];

/// What none of an answer may be besides: it says what a client or a cache does with the answer, or comes from the gate alone.
const OF_ANSWERS: [&str; 12] = [
    "age",
    "content-location",
    "date",
    "expires",
    "location",
    "proxy-authenticate",
    "retry-after",
    "strict-transport-security",
    "vary",
    "warning",
    "www-authenticate",
    "x-request-id",
];

/// Whether a field of that name, in lower case, may stand behind the body of a request.
pub fn may_trail(name: &str) -> bool {
    !FORBIDDEN.contains(&name)
}

/// The same of an answer.
pub fn may_trail_answer(name: &str) -> bool {
    may_trail(name) && !OF_ANSWERS.contains(&name)
}
