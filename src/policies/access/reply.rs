//! What a refused caller is told.
//!
//! ```yaml
//! reply:
//!   status: 403                      # 400 to 599, but 401, which callers without a credential get by themselves; not of a `step_up`, which is 401
//!   code: TRANSFER_CLOSED            # as the client gets it
//!   message: { ko: 심야 시간에는 송금할 수 없습니다, en: Transfers are closed at night }    # or one text; the first is the fallback
//! ```

use std::sync::Arc;

use http::StatusCode;

use crate::conf::{Describe, Load, Node, Read, Schema, Schemas, Spanned, Value};
use crate::engine::{Bearer, Denial, DenialKind, Messages};

crate::settings! {
    /// What a refused caller is told.
    pub(super) struct RefusalSettings {
        /// The status, 400 to 599 but 401; 403 where it is left out. That of a `step_up` is 401.
        status: Option<Spanned<StatusCode>>,
        /// The `code` of the problem, as clients get it; `denied` where it is left out, and `step-up-required` of a `step_up`.
        code: Option<Code>,
        /// The `detail` of the problem: one text, or one for each language, the first of which is the fallback.
        message: Option<Message>,
    }
}

/// The refusal where nothing else is said.
pub(super) fn denied() -> Denial {
    Denial::new(
        DenialKind::Refuse,
        StatusCode::FORBIDDEN,
        "denied",
        "This request is not allowed.",
    )
}

/// The refusal of a login that will not do, where nothing else is said.
pub(super) fn step_up_required() -> Denial {
    Denial::new(
        DenialKind::Challenge,
        StatusCode::UNAUTHORIZED,
        "step-up-required",
        "This needs a stronger or more recent login.",
    )
}

/// The refusal that `reply:` makes of `denial`; `None` where it has mistakes.
pub(super) fn denial(reply: Option<&Node>, mut denial: Denial, load: &Load) -> Option<Denial> {
    let Some(reply) = reply else {
        return Some(denial);
    };
    let settings = RefusalSettings::read(reply, load)?;
    if let Some(status) = settings.status {
        let place = &status.place;
        match status.value {
            _ if denial.kind == DenialKind::Challenge => {
                load.error(place, "a `step_up` is answered 401: leave `status` out");
                return None;
            }
            StatusCode::UNAUTHORIZED => {
                load.error(
                    place,
                    "`401` is for callers without a credential, who get it by themselves",
                );
                return None;
            }
            status if status.is_client_error() || status.is_server_error() => denial.status = status,
            status => {
                load.error(place, format!("`{}` is not a refusal: use 400 to 599", status.as_u16()));
                return None;
            }
        }
    }
    if let Some(code) = settings.code {
        denial.code = code.0.into();
    }
    match settings.message {
        Some(Message::One(text)) => denial.detail = text.into(),
        Some(Message::ByLanguage(messages)) => denial.messages = Some(Arc::new(messages)),
        None => {}
    }
    Some(denial)
}

/// The refusal of a caller who sent no credential where one was needed (RFC 6750 §3: no error code).
pub(super) fn token_missing() -> Denial {
    let mut denial = Denial::new(
        DenialKind::Challenge,
        StatusCode::UNAUTHORIZED,
        "token-missing",
        "This request needs a credential.",
    );
    denial.challenge = Some(Bearer::plain().value());
    denial
}

#[derive(Debug, Clone)]
struct Code(String);

impl Describe for Code {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like("^[A-Za-z0-9_.-]{1,64}$").examples(["TRANSFER_CLOSED"])
    }
}

impl Read for Code {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a code such as `TRANSFER_CLOSED`", load, |text| {
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            match !text.is_empty() && text.len() <= 64 && text.bytes().all(letters) {
                true => Ok(Self(text.to_owned())),
                false => Err("is not a code: letters, digits, `-`, `_`, `.`, at most 64".into()),
            }
        })
    }
}

#[derive(Debug, Clone)]
enum Message {
    One(String),
    ByLanguage(Messages),
}

impl Describe for Message {
    fn schema(_: &mut Schemas) -> Schema {
        let by_language = Schema::map_of("^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*$", Schema::scalar(), 1);
        Schema::any_of([Schema::scalar(), by_language])
    }
}

impl Read for Message {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return node
                .text("a text, or a map from languages to texts", load)
                .map(|text| Self::One(text.to_owned()));
        };
        if entries.is_empty() {
            load.error(&node.place, "an empty map: name at least one language");
            return None;
        }
        let mut messages = Messages::default();
        for entry in entries {
            let letters = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
            if !entry.key.split('-').all(letters) {
                let message = format!("`{}` is not a language tag such as `ko` or `pt-BR`", entry.key);
                load.error(&entry.key_place, message);
            } else if let Some(text) = entry.value.text("a text", load) {
                messages.0.push((entry.key.clone(), text.to_owned()));
            }
        }
        (messages.0.len() == entries.len()).then_some(Self::ByLanguage(messages))
    }
}
