//! The pure core: facts in, a decision and its trail out. No I/O, no clock, no lock, no Pingora.
//!
//! `decide` is the only async function, and only because a [`Lookup`] may have to wait. Live traffic, `explain` and replay
//! run this same code; they differ in who answers the questions.

mod act;
mod certificate;
mod challenge;
pub mod claims;
mod decide;
mod decision;
mod distinguished;
mod facts;
mod freeze;
mod grpc;
mod handshake;
mod head;
mod hearsay;
pub mod json;
mod lookup;
mod mentions;
mod page;
mod policy;
mod principal;
mod problem;
mod record;
mod revocation;
pub mod select;
mod step_up;
mod trailer;
mod truth;

pub use act::{
    About, Act, Acts, CacheRule, CompressRule, Edits, Forwarded, HeaderEdits, RequestEdits, Reshape, ReshapeFailure,
    Rewrite, Share,
};
pub use certificate::{ClientCertificate, Said};
pub use challenge::{Bearer, REALM};
pub use decide::{decide, reopens_at};
pub use decision::{Decision, Denial, DenialKind, Effect, Mark, Messages, Reply, Trail};
pub use facts::{Client, Facts, Headers, NoHeaders, Params, RequestView};
pub use freeze::{Freezable, Freeze, FreezeChange};
pub use grpc::{grpc_timeout, is_grpc, is_trailers_only, trailers_only};
pub use handshake::{Handshake, Hosts};
pub use head::Head;
pub use hearsay::{is_hearsay, never_read};
pub use lookup::{
    Answer, Answers, Asked, AuthenticatorId, CredentialRefusal, LimitAnswer, LimitId, LimitKey, Lookup, Question,
};
pub use mentions::Mentions;
pub use page::{page, wants_page};
pub use policy::{Holds, Outcome, Policy, Rule, Stage, Verdict, Why};
pub use principal::{Granted, Principal};
pub use problem::{problem, retry_after, rfc3339};
pub use record::{Effected, Ended, EndedBy, Observer, PartSummary, Record, RecordedRequest, UpstreamSummary};
pub use revocation::{Extent, Reach, Revocation, RevocationChange, Revoked, Whom, is_token_of};
pub use step_up::StepUp;
pub use trailer::{may_trail, may_trail_answer};
pub use truth::Truth;

#[cfg(test)]
mod tests;
