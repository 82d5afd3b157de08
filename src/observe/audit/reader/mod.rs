//! One line of an audit log back into the facts and answers to decide again. Strict: unknown, repeated and ill-typed members
//! are errors, and no line makes it panic.

mod line;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, Method};
use jiff::Timestamp;

use self::line::{AlertLine, DroppedLine, FreezeLine, RevocationLine, recorded};
use super::chain::{Head, TornLine};
use crate::engine::{
    Answer, Answers, FreezeChange, Headers, Lookup, Principal, Question, RequestView, RevocationChange, Rule,
};

/// A line of an audit log.
#[derive(Debug)]
pub enum Line {
    /// A finished request.
    Request(Box<Recorded>),
    /// So many entries are missing here, the earliest and the latest at these instants.
    Dropped {
        /// How many.
        count: u64,
        /// The earliest.
        from: Timestamp,
        /// The latest.
        to: Timestamp,
    },
    /// So many lines before were left unfinished by a crash.
    Torn {
        /// When that was seen.
        at: Timestamp,
        /// How many.
        lines: u64,
    },
    /// A detector fired.
    Alert {
        /// When.
        at: Timestamp,
        /// Its name.
        detector: String,
    },
    /// An operator froze or thawed something.
    Freeze(FreezeChange),
    /// An operator revoked something, or lifted a revocation.
    Revocation(RevocationChange),
}

/// One recorded request: what was known, what was answered, what was decided.
#[derive(Debug)]
pub struct Recorded {
    /// The line's number in its file.
    pub n: u64,
    /// The request id.
    pub id: String,
    /// The instant of the request.
    pub at: Timestamp,
    /// The hash of the configuration it was decided under.
    pub config: String,
    /// The route's name then.
    pub route: Option<String>,
    /// The method.
    pub method: Method,
    /// The host, normalised.
    pub host: String,
    /// The normalised path, put together again from template and parameters where a route matched.
    pub path: String,
    /// The parameters of the template, percent-encoded.
    pub params: Vec<(String, String)>,
    /// Headers that were kept, every value; `None` for one that was not visible ASCII.
    pub headers: Vec<(HeaderName, Vec<Option<String>>)>,
    /// The query values that were kept, as an encoded query.
    pub query: String,
    /// What came to prove who calls, as in [`RecordedRequest`](crate::engine::RecordedRequest).
    pub credential: &'static str,
    /// The caller's address.
    pub address: IpAddr,
    /// The client's name.
    pub client: String,
    /// Who called; of the claims only those that were kept.
    pub principal: Option<Arc<Principal>>,
    /// The answers used, by the name of the rule that asked.
    pub answers: Vec<(String, Answer)>,
    /// The decision.
    pub decision: RecordedDecision,
    /// Shadow rules that would have refused it.
    pub shadow: Vec<String>,
    /// The status sent; 499 where the client was gone.
    pub status: u16,
    /// Whether the gateway ran on a rehearsal clock.
    pub rehearsal: bool,
}

/// A decision in short, as [`Effected`](crate::engine::Effected) was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedDecision {
    /// `allow`, `reply`, `deny`, `challenge` or `throttle`.
    pub effect: String,
    /// The status of a refusal or reply.
    pub status: Option<u16>,
    /// The code of a refusal.
    pub code: Option<String>,
    /// The refusing rule.
    pub rule: Option<String>,
    /// When it reopens.
    pub reopens_at: Option<Timestamp>,
}

/// Why a line cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// Not JSON, or not of schema 1.
    #[error("not a record of schema 1")]
    NotARecord,
    /// A member is missing, unknown, repeated or ill-typed.
    #[error("not a well-formed record: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A member has a value that no gateway writes.
    #[error("not a well-formed record: {0}")]
    Value(&'static str),
}

/// Reads one line, with or without its line feed.
pub fn read_line(line: &[u8]) -> Result<Line, ReadFailure> {
    let head = Head::read(line).ok_or(ReadFailure::NotARecord)?;
    match head.kind.as_deref() {
        None => recorded(serde_json::from_slice(line)?).map(|read| Line::Request(Box::new(read))),
        Some("dropped") => {
            let read: DroppedLine = serde_json::from_slice(line)?;
            Ok(Line::Dropped {
                count: read.count,
                from: read.from,
                to: read.to,
            })
        }
        Some("torn") => {
            let read: TornLine = serde_json::from_slice(line)?;
            Ok(Line::Torn {
                at: read.at,
                lines: read.lines,
            })
        }
        Some("alert") => {
            let read: AlertLine = serde_json::from_slice(line)?;
            Ok(Line::Alert {
                at: read.at,
                detector: read.detector,
            })
        }
        Some(kind @ ("freeze" | "thaw")) => {
            let read: FreezeLine = serde_json::from_slice(line)?;
            read.change(kind == "thaw").map(Line::Freeze)
        }
        Some(kind @ ("revoke" | "unrevoke")) => {
            let read: RevocationLine = serde_json::from_slice(line)?;
            read.change(kind == "unrevoke").map(Line::Revocation)
        }
        Some(_) => Err(ReadFailure::Value("a kind that is not known")),
    }
}

impl Recorded {
    /// The request as the engine sees it.
    pub fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: self,
        }
    }

    /// Answers the questions of `rules` with what was answered then, by the name of the rule; others are unavailable
    /// (`not-recorded`), but what is not recorded as frozen or revoked was not.
    pub fn answering<'a>(&'a self, rules: &'a [Rule]) -> impl Lookup + 'a {
        Answering { recorded: self, rules }
    }
}

/// The headers that were kept, and a word for the credential, which is kept nowhere.
impl Headers for Recorded {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        let value = self.values(name)?.first()?;
        Some(value.as_deref().map_or(NOT_VISIBLE, str::as_bytes))
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.values(name).is_some_and(|values| values.len() > 1)
    }

    fn credential(&self) -> Option<&'static str> {
        Some(self.credential)
    }
}

/// The code where a record has no answer to what is asked.
pub const NOT_RECORDED: &str = "not-recorded";
/// Stands in for a value that was not visible ASCII: it is none either.
const NOT_VISIBLE: &[u8] = b"\xff";

impl Recorded {
    fn values(&self, name: &HeaderName) -> Option<&[Option<String>]> {
        let (_, values) = self.headers.iter().find(|(kept, _)| kept == name)?;
        Some(values)
    }
}

struct Answering<'a> {
    recorded: &'a Recorded,
    rules: &'a [Rule],
}

impl Lookup for Answering<'_> {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        // A user may give a limit the name of a rule of ours.
        let answer = |number: u16, is_meant: fn(&Answer) -> bool| {
            let name = &self.rules.get(usize::from(number))?.name;
            let mut answers = self.recorded.answers.iter();
            answers
                .find(|(rule, answer)| **rule == **name && is_meant(answer))
                .map(|(_, answer)| answer.clone())
        };
        let of_freeze: fn(&Answer) -> bool = |answer| matches!(answer, Answer::Freezes(_));
        let of_revocation: fn(&Answer) -> bool = |answer| matches!(answer, Answer::Revoked(_));
        let of_others: fn(&Answer) -> bool = |answer| !matches!(answer, Answer::Freezes(_) | Answer::Revoked(_));
        let unknown = || Answer::Unavailable { code: NOT_RECORDED };
        let one = |(number, question): &(u16, Question<'_>)| match question {
            Question::Freezes { .. } => answer(*number, of_freeze).unwrap_or_else(|| Answer::Freezes(Vec::new())),
            Question::Revocation { .. } => answer(*number, of_revocation).unwrap_or(Answer::Revoked(None)),
            _ => answer(*number, of_others).unwrap_or_else(unknown),
        };
        asked.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests;
