//! Changing a query. Pairs that no change names go on byte for byte.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::engine::Edits;

/// Everything but the unreserved characters of RFC 3986 §2.3: no value can end a parameter or a line.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The query with the changes made; empty where nothing is left of it.
pub fn changed(query: &str, edits: &Edits<Box<str>, Option<String>>) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(Option<String>, String)> = pairs.map(|pair| (name_of(pair), pair.to_owned())).collect();
    let is = |name: &Option<String>, other: &str| name.as_deref() == Some(other);
    pairs.retain(|(name, _)| !edits.drop.iter().any(|dropped| is(name, dropped)));
    // All at once, so that two names may be exchanged.
    let renamed = |name: &Option<String>| edits.rename.iter().find(|(from, _)| is(name, from));
    let news: Vec<&str> = edits
        .rename
        .iter()
        .filter(|(from, _)| pairs.iter().any(|(name, _)| is(name, from)))
        .map(|(_, to)| &**to)
        .collect();
    pairs.retain(|(name, _)| renamed(name).is_some() || !news.iter().any(|new| is(name, new)));
    for (name, pair) in &mut pairs {
        if let Some((_, to)) = renamed(name) {
            let value = pair.split_once('=').map(|(_, value)| format!("={value}"));
            *pair = format!("{}{}", encoded(to), value.unwrap_or_default());
            *name = Some(to.to_string());
        }
    }
    pairs.retain(|(name, _)| !edits.set.iter().any(|(set, _)| is(name, set)));
    let mut whole: Vec<String> = pairs.into_iter().map(|(_, pair)| pair).collect();
    for (name, value) in &edits.set {
        if let Some(value) = value {
            whole.push(format!("{}={}", encoded(name), encoded(value)));
        }
    }
    whole.join("&")
}

/// The name of a pair as servers read it, `+` and percent decoded. What is not UTF-8 is read as if it were, as far as it is.
fn name_of(pair: &str) -> Option<String> {
    let name = pair.split('=').next().unwrap_or(pair).replace('+', " ");
    Some(percent_decode_str(&name).decode_utf8_lossy().into_owned())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}
