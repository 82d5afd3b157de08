//! A record as one JSON line, schema `v: 1`.
//!
//! Written by hand into a buffer that is used again: this is paid for by every request. Absent things are left out, except
//! that `route` is `null` where no route matched. The record of a request has no `kind`; `dropped`, `torn`, `alert`, `freeze`,
//! `thaw`, `revoke` and `unrevoke` do.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

use super::chain::LineHash;
use crate::engine::{
    Answer, Effected, Extent, Freeze, FreezeChange, Principal, Reach, Record, RecordedRequest, RevocationChange,
    UpstreamSummary, Whom,
};
use crate::observe::anomaly::{Alert, Suspect};

/// What a line says.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A finished request.
    Request(&'a Record),
    /// A detector fired.
    Alert(&'a Alert),
    /// An operator froze or thawed something.
    Freeze(&'a FreezeChange),
    /// An operator revoked something, or lifted a revocation.
    Revocation(&'a RevocationChange),
    /// Entries were lost.
    Dropped {
        /// How many.
        count: u64,
        /// The instant of the earliest.
        from: Timestamp,
        /// The instant of the latest.
        to: Timestamp,
    },
    /// Lines before this one were left unfinished by a crash.
    Torn {
        /// When that was seen.
        at: Timestamp,
        /// How many lines.
        lines: u64,
        /// The hash of the last whole line before them.
        after: Option<LineHash>,
    },
}

/// Appends one line without its line feed. `prev` is the hash of the line before.
pub fn write_line(out: &mut Vec<u8>, n: u64, prev: Option<&LineHash>, entry: &Entry<'_>) {
    out.extend_from_slice(b"{\"v\":1,");
    number(out, "n", n);
    if let Some(prev) = prev {
        plain(out, "prev", prev.as_str());
    }
    match entry {
        Entry::Request(record) => request(out, record),
        Entry::Alert(found) => alert(out, found),
        Entry::Freeze(change) => {
            plain(out, "kind", if change.is_thaw { "thaw" } else { "freeze" });
            instant(out, "at", change.at);
            freeze(out, &change.freeze);
            display(out, "address", change.address);
        }
        Entry::Revocation(change) => {
            plain(out, "kind", if change.is_lifted { "unrevoke" } else { "revoke" });
            instant(out, "at", change.at);
            revoked(out, change.revocation.whom.reach(), change.revocation.extent);
            whom(out, &change.revocation.whom);
            optional(out, "reason", Some(&*change.reason).filter(|reason| !reason.is_empty()));
            display(out, "address", change.address);
        }
        Entry::Dropped { count, from, to } => {
            plain(out, "kind", "dropped");
            number(out, "count", *count);
            instant(out, "from", *from);
            instant(out, "to", *to);
        }
        Entry::Torn { at, lines, after } => {
            plain(out, "kind", "torn");
            instant(out, "at", *at);
            number(out, "lines", *lines);
            if let Some(after) = after {
                plain(out, "after", after.as_str());
            }
        }
    }
    close(out, b'}');
}

fn request(out: &mut Vec<u8>, record: &Record) {
    text(out, "id", &record.id);
    instant(out, "at", record.at);
    text(out, "config", &record.config);
    match &record.route {
        Some(route) => text(out, "route", route),
        None => out.extend_from_slice(b"\"route\":null,"),
    }
    asked(out, &record.request);
    text(out, "client", &record.request.client);
    if let Some(who) = &record.principal {
        principal(out, who, &record.request.claims);
    }
    optional(out, "claimed_sub", record.claimed_sub.as_deref());
    decision(out, &record.decision);
    shadow(out, record);
    answers(out, record);
    // Nothing was sent; 499 is what other gateways write for a client that left.
    number(out, "status", if record.status == 0 { 499 } else { record.status });
    millis(out, "duration_ms", record.duration);
    number(out, "request_bytes", record.request_bytes);
    number(out, "response_bytes", record.response_bytes);
    if let Some(summary) = &record.upstream {
        upstream(out, summary);
    }
    if !record.parts.is_empty() {
        open(out, "parts", b'[');
        for part in &record.parts {
            out.push(b'{');
            text(out, "name", &part.name);
            if let Some(status) = part.status {
                number(out, "status", status);
            }
            optional(out, "reason", part.reason);
            millis(out, "ms", part.duration);
            if let Some(summary) = part.calls.last() {
                upstream(out, summary);
            }
            end(out, b'}');
        }
        end(out, b']');
    }
    optional(out, "cache", record.cache);
    optional(out, "failure", record.failure);
    if let Some(ended) = &record.ended {
        open(out, "ended", b'{');
        plain(out, "by", ended.by.word());
        optional(out, "code", ended.code.as_deref());
        optional(out, "rule", ended.rule.as_deref());
        end(out, b'}');
    }
    if record.rehearsal {
        out.extend_from_slice(b"\"rehearsal\":true,");
    }
}

/// What the decision saw of the request.
fn asked(out: &mut Vec<u8>, request: &RecordedRequest) {
    text(out, "method", request.method.as_str());
    text(out, "host", &request.host);
    optional(out, "template", request.template.as_deref());
    if !request.params.is_empty() {
        open(out, "params", b'{');
        for (name, value) in &request.params {
            quoted(out, name);
            out.push(b':');
            quoted(out, value);
            out.push(b',');
        }
        end(out, b'}');
    }
    optional(out, "path", request.path.as_deref());
    if !request.headers.is_empty() {
        open(out, "headers", b'{');
        for (name, values) in &request.headers {
            quoted(out, name.as_str());
            out.push(b':');
            nullable(out, values);
        }
        end(out, b'}');
    }
    if !request.query.is_empty() {
        open(out, "query", b'{');
        for (name, values) in &request.query {
            quoted(out, name);
            out.push(b':');
            nullable(out, values);
        }
        end(out, b'}');
    }
    plain(out, "credential", request.credential);
    display(out, "address", request.address);
}

fn principal(out: &mut Vec<u8>, who: &Principal, kept: &[String]) {
    open(out, "principal", b'{');
    text(out, "authenticator", &who.authenticator);
    text(out, "issuer", &who.issuer);
    text(out, "sub", &who.subject);
    texts(out, "scopes", who.scopes.iter().map(|scope| &**scope));
    texts(out, "roles", who.roles.iter().map(|role| &**role));
    optional(out, "acr", who.acr.as_deref());
    if let Some(at) = who.auth_time {
        instant(out, "auth_time", at);
    }
    if let Some(at) = who.expires {
        instant(out, "exp", at);
    }
    optional(out, "jti", who.token_id.as_deref());
    open(out, "claims", b'{');
    for path in kept {
        if let Some(value) = who.claim(path) {
            quoted(out, path);
            out.push(b':');
            // Writing a value to a buffer cannot fail; were it to, the line would be unreadable rather than wrong.
            let _ = serde_json::to_writer(&mut *out, value);
            out.push(b',');
        }
    }
    end(out, b'}');
    end(out, b'}');
}

fn decision(out: &mut Vec<u8>, decision: &Effected) {
    open(out, "decision", b'{');
    plain(out, "effect", decision.effect);
    if let Some(status) = decision.status {
        number(out, "status", status);
    }
    optional(out, "code", decision.code.as_deref());
    optional(out, "rule", decision.rule.as_deref());
    if let Some(at) = decision.reopens_at {
        instant(out, "reopens_at", at);
    }
    end(out, b'}');
}

/// The shadow rules that would have refused what was allowed.
fn shadow(out: &mut Vec<u8>, record: &Record) {
    let mut names = record.would_deny().peekable();
    if names.peek().is_some() {
        texts(out, "shadow", names);
    }
}

fn answers(out: &mut Vec<u8>, record: &Record) {
    if record.answers.is_empty() {
        return;
    }
    open(out, "answers", b'[');
    for (rule, answer) in &record.answers {
        out.push(b'{');
        text(out, "rule", rule);
        match answer {
            Answer::Principal(_) => out.extend_from_slice(b"\"principal\":true"),
            Answer::Refused(refusal) => plain(out, "refused", refusal.code),
            Answer::Limit(limit) => {
                open(out, "limit", b'{');
                out.extend_from_slice(if limit.admitted {
                    b"\"admitted\":true,"
                } else {
                    b"\"admitted\":false,"
                });
                number(out, "remaining", limit.remaining);
                nanos(out, "reset_ns", limit.reset);
                nanos(out, "retry_after_ns", limit.retry_after);
                end(out, b'}');
            }
            Answer::Freezes(freezes) => {
                open(out, "freezes", b'[');
                for one in freezes {
                    out.push(b'{');
                    freeze(out, one);
                    end(out, b'}');
                }
                end(out, b']');
            }
            Answer::Revoked(hit) => {
                open(out, "revoked", b'{');
                // That nothing hits is not kept as an answer.
                if let Some(hit) = hit {
                    revoked(out, hit.reach, hit.extent);
                }
                end(out, b'}');
            }
            Answer::Unavailable { code } => plain(out, "unavailable", code),
        }
        end(out, b'}');
    }
    end(out, b']');
}

/// The members that tell a freeze: the kind and its name, until when, why.
fn freeze(out: &mut Vec<u8>, freeze: &Freeze) {
    text(out, freeze.kind.word(), &freeze.name);
    if let Some(until) = freeze.until {
        instant(out, "until", until);
    }
    optional(out, "reason", Some(&*freeze.reason).filter(|reason| !reason.is_empty()));
}

/// The members that tell what kind of revocation it is, and how much of it.
fn revoked(out: &mut Vec<u8>, reach: Reach, extent: Extent) {
    plain(out, "whom", reach.word());
    match extent {
        Extent::Every { until: None } => {}
        Extent::Every { until: Some(until) } => instant(out, "until", until),
        Extent::IssuedBefore(before) => instant(out, "issued_before", before),
    }
}

/// The members that name whose tokens are revoked.
fn whom(out: &mut Vec<u8>, whom: &Whom) {
    match whom {
        Whom::Identity {
            authenticator,
            issuer,
            subject,
        } => {
            text(out, "authenticator", authenticator);
            text(out, "issuer", issuer);
            text(out, "sub", subject);
        }
        Whom::Subject(subject) => text(out, "sub", subject),
        Whom::Token {
            authenticator,
            issuer,
            id,
        } => {
            text(out, "authenticator", authenticator);
            text(out, "issuer", issuer);
            text(out, "jti", id);
        }
        Whom::Authenticator(name) => text(out, "authenticator", name),
        Whom::Issuer(issuer) => text(out, "issuer", issuer),
        Whom::Everybody => {}
    }
}

fn upstream(out: &mut Vec<u8>, summary: &UpstreamSummary) {
    open(out, "upstream", b'{');
    text(out, "name", &summary.name);
    text(out, "endpoint", &summary.endpoint);
    if let Some(status) = summary.status {
        number(out, "status", status);
    }
    if let Some(fault) = summary.fault {
        plain(out, "fault", fault);
    }
    millis(out, "ms", summary.duration);
    number(out, "tries", summary.tries);
    end(out, b'}');
}

fn alert(out: &mut Vec<u8>, alert: &Alert) {
    plain(out, "kind", "alert");
    instant(out, "at", alert.at);
    text(out, "detector", &alert.detector);
    plain(out, "watch", alert.suspect.watch().word());
    match &alert.suspect {
        Suspect::Address(address) => display(out, "address", address),
        Suspect::Principal(who) => {
            open(out, "principal", b'{');
            text(out, "authenticator", &who.authenticator);
            text(out, "issuer", &who.issuer);
            text(out, "sub", &who.subject);
            end(out, b'}');
        }
    }
    number(out, "status", alert.status);
    number(out, "distinct", alert.distinct);
    nanos(out, "within_ns", alert.within);
}

// Each writes one member and a comma; `close` makes the last comma the bracket. Names of our own need no escapes.

fn key(out: &mut Vec<u8>, name: &'static str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn open(out: &mut Vec<u8>, name: &'static str, bracket: u8) {
    key(out, name);
    out.push(bracket);
}

fn close(out: &mut Vec<u8>, bracket: u8) {
    match out.last_mut() {
        Some(last) if *last == b',' => *last = bracket,
        _ => out.push(bracket),
    }
}

fn end(out: &mut Vec<u8>, bracket: u8) {
    close(out, bracket);
    out.push(b',');
}

fn text(out: &mut Vec<u8>, name: &'static str, value: &str) {
    key(out, name);
    quoted(out, value);
    out.push(b',');
}

fn optional(out: &mut Vec<u8>, name: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        text(out, name, value);
    }
}

/// A value of our own that needs no escapes.
fn plain(out: &mut Vec<u8>, name: &'static str, value: &str) {
    key(out, name);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\",");
}

fn texts<'a>(out: &mut Vec<u8>, name: &'static str, values: impl Iterator<Item = &'a str>) {
    key(out, name);
    list(out, values);
}

fn list<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for value in values {
        quoted(out, value);
        out.push(b',');
    }
    end(out, b']');
}

/// Values of which some could not be read.
fn nullable(out: &mut Vec<u8>, values: &[Option<String>]) {
    out.push(b'[');
    for value in values {
        match value {
            Some(value) => quoted(out, value),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b',');
    }
    end(out, b']');
}

fn number(out: &mut Vec<u8>, name: &'static str, value: impl itoa::Integer) {
    key(out, name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(b',');
}

/// Whole nanoseconds; five hundred years are as good as for ever.
fn nanos(out: &mut Vec<u8>, name: &'static str, value: Duration) {
    number(out, name, u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, name: &'static str, value: Duration) {
    key(out, name);
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    out.extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
    let fraction = micros % 1000;
    for digit in [
        b'.',
        b'0' + (fraction / 100) as u8,
        b'0' + (fraction / 10 % 10) as u8,
        b'0' + (fraction % 10) as u8,
    ] {
        out.push(digit);
    }
    out.push(b',');
}

/// RFC 3339 in UTC, with as many digits of the second as there are.
fn instant(out: &mut Vec<u8>, name: &'static str, at: Timestamp) {
    const PRINTER: DateTimePrinter = DateTimePrinter::new();
    key(out, name);
    out.push(b'"');
    // Writing to a buffer cannot fail, and every timestamp can be written.
    let _ = PRINTER.print_timestamp(&at, &mut *out);
    out.extend_from_slice(b"\",");
}

fn display(out: &mut Vec<u8>, name: &'static str, value: impl std::fmt::Display) {
    use std::io::Write;
    key(out, name);
    let _ = write!(out, "\"{value}\",");
}

/// RFC 8259 §7: only the quotation mark, the backslash and control characters have to be escaped.
fn quoted(out: &mut Vec<u8>, text: &str) {
    let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    out.push(b'"');
    // Looking at every byte without stopping is vectorised, and hardly any text has one of them.
    if text.as_bytes().iter().fold(false, |any, byte| any | special(byte)) {
        escaped(out, text.as_bytes(), special);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, mut rest: &[u8], special: impl Fn(&u8) -> bool) {
    while let Some(at) = rest.iter().position(&special) {
        let (safe, tail) = rest.split_at(at);
        out.extend_from_slice(safe);
        let Some((byte, after)) = tail.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let hex = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
                out.extend_from_slice(b"\\u00");
                out.push(hex(control >> 4));
                out.push(hex(control & 15));
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}
