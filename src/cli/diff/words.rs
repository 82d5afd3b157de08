//! Saying which of the tried values a change is about.

use std::fmt::Display;

use http::Method;
use serde_json::Value;

use super::axes::{About, Axis, Choice};
use super::boxes::Spanned;

/// So many names are written out.
const SHOWN: usize = 6;

/// The requests of a box: `GET,POST /carts`. HEAD goes without saying beside GET.
pub(super) fn requests(axes: &[Axis], spanned: &Spanned) -> Vec<String> {
    let mut shown: Vec<(&str, Vec<&Method>)> = Vec::new();
    for (axis, values) in axes
        .iter()
        .zip(spanned)
        .filter(|(axis, _)| axis.about == About::Request)
    {
        for value in values {
            let Some(Choice::Request(variant)) = axis.choices.get(*value) else {
                continue;
            };
            match shown.iter_mut().find(|(known, _)| *known == variant.shown) {
                Some((_, methods)) if methods.contains(&&variant.method) => {}
                Some((_, methods)) => methods.push(&variant.method),
                None => shown.push((&variant.shown, vec![&variant.method])),
            }
        }
    }
    let line = |(shown, mut methods): (&str, Vec<&Method>)| {
        if methods.contains(&&Method::GET) {
            methods.retain(|method| **method != Method::HEAD);
        }
        let methods: Vec<&str> = methods.into_iter().map(Method::as_str).collect();
        format!("{} {shown}", methods.join(","))
    };
    shown.into_iter().map(line).collect()
}

/// Whom a box is about, among those for whom something may be allowed at all: `everybody but those with role treasury`.
pub(super) fn who(axes: &[Axis], spanned: &Spanned, among: &Spanned) -> String {
    let (mut only, mut not) = (Vec::new(), Vec::new());
    let mut caller = None;
    let mut is_known = false;
    for ((axis, values), all) in axes.iter().zip(spanned).zip(among) {
        if matches!(axis.about, About::Request | About::Time) || values.len() == all.len() {
            continue;
        }
        match axis.say(values, all) {
            Said::Only(words) if axis.about == About::Caller => {
                let is_anonymous = |value: &usize| matches!(axis.choices.get(*value), Some(Choice::Anonymous));
                // Who holds something is somebody; of which issuer is said only where there are several.
                let is_everybody_known = values.len() + 1 == axis.choices.len() && !values.iter().any(is_anonymous);
                caller = Some((words, is_everybody_known));
            }
            Said::Only(words) => {
                is_known |= axis.about.is_of_caller();
                only.push(words);
            }
            Said::Not(words) => not.push(format!("those {words}")),
        }
    }
    let caller = caller.filter(|(_, is_everybody_known)| !(*is_everybody_known && is_known));
    let is_anybody = caller.is_none() && only.is_empty();
    let mut text = match caller {
        Some((words, _)) => words,
        None if is_known => "callers".to_owned(),
        None => "everybody".to_owned(),
    };
    if !only.is_empty() {
        text.push_str(&format!(" {}", and(&only)));
    }
    if !not.is_empty() {
        let but = if is_anybody { " but " } else { ", but not " };
        text.push_str(&format!("{but}{}", and(&not)));
    }
    text
}

/// What sets some of the values apart.
enum Said {
    Only(String),
    Not(String),
}

impl Choice {
    /// Whether a rule names it, or names what it stands for.
    fn is_named(&self) -> bool {
        match self {
            Self::Text(value) => value.as_ref().is_some_and(Option::is_some),
            Self::Claim(value) => value.as_ref().is_some_and(|(_, words)| words.is_some()),
            Self::Client(name, _) => !name.is_empty(),
            Self::Address(_, networks) => !networks.is_empty(),
            _ => true,
        }
    }
}

impl Axis {
    /// What varies, in a word.
    pub fn name(&self) -> String {
        match &self.about {
            About::Request => "requests".to_owned(),
            About::Caller => "callers".to_owned(),
            About::Client => "clients".to_owned(),
            About::Address => "addresses".to_owned(),
            About::Header(name) => format!("values of header {name}"),
            About::Query(name) => format!("values of query {name}"),
            About::Claim(path) => format!("values of claims.{path}"),
            About::Login => "ages of logins".to_owned(),
            About::Scopes => "sets of scopes".to_owned(),
            About::Roles => "sets of roles".to_owned(),
            About::Time => "times".to_owned(),
        }
    }

    /// What sets `values` apart from `all`, as it stands behind "callers" or "those": `with role ops`, `from client ios`.
    fn say(&self, values: &[usize], all: &[usize]) -> Said {
        let preposition = match self.about {
            About::Caller | About::Login => "",
            About::Client | About::Address => "from ",
            _ => "with ",
        };
        let said = match self.about {
            About::Scopes => self.say_names("scope", values, all),
            About::Roles => self.say_names("role", values, all),
            _ => {
                let rest: Vec<usize> = all.iter().copied().filter(|value| !values.contains(value)).collect();
                let is_named = |value: &usize| self.choices.get(*value).is_some_and(Choice::is_named);
                match rest.len() < values.len() && rest.iter().all(is_named) {
                    true => Said::Not(self.listed(&rest)),
                    false => Said::Only(self.listed(values)),
                }
            }
        };
        match said {
            Said::Only(words) => Said::Only(format!("{preposition}{words}")),
            Said::Not(words) => Said::Not(format!("{preposition}{words}")),
        }
    }

    /// `header x-beta: on or yes`, `claims.tier gold or no claims.tier`.
    fn listed(&self, values: &[usize]) -> String {
        let about = match &self.about {
            About::Header(name) => format!("header {name}"),
            About::Query(name) => format!("query {name}"),
            About::Claim(path) => format!("claims.{path}"),
            _ => String::new(),
        };
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for choice in values.iter().filter_map(|value| self.choices.get(*value)) {
            match choice {
                Choice::Text(None) | Choice::Claim(None) => others.push(format!("no {about}")),
                Choice::Text(Some(None)) | Choice::Claim(Some((_, None))) => {
                    others.push(format!("another value of {about}"))
                }
                choice => {
                    let words = self.words(choice);
                    if !named.contains(&words) {
                        named.push(words);
                    }
                }
            }
        }
        // A list of values goes without saying beside one of them.
        let is_list = |value: &&usize| {
            matches!(
                self.choices.get(**value),
                Some(Choice::Claim(Some((Value::Array(_), _))))
            )
        };
        if named.len() > 1 && values.iter().any(|value| is_list(&value)) {
            named.pop();
        }
        match named.is_empty() {
            true => or(&others),
            false => {
                let named = format!("{about} {}", or(&named));
                others.insert(0, named.trim_start().to_owned());
                or(&others)
            }
        }
    }

    fn words(&self, choice: &Choice) -> String {
        match (&self.about, choice) {
            (_, Choice::Anonymous) => "anonymous callers".to_owned(),
            (_, Choice::Token(token)) => {
                let is_other = |other: &Choice| matches!(other, Choice::Token(other) if other.issuer == token.issuer && !other.is_like(token));
                let apart = match self.choices.iter().any(is_other) {
                    true => format!(" with scopes in `{}` and roles in `{}`", token.scopes, token.roles),
                    false => String::new(),
                };
                format!("callers by `{}`{apart}", token.authenticator)
            }
            (_, Choice::Client(name, headers)) if headers.is_empty() && name.is_empty() => "other clients".to_owned(),
            (_, Choice::Client(name, _)) => format!("client {name}"),
            (_, Choice::Address(_, networks)) if networks.is_empty() => "other addresses".to_owned(),
            (_, Choice::Address(_, networks)) => format!("addresses in {}", or(networks)),
            (_, Choice::Text(Some(Some(value))) | Choice::Claim(Some((_, Some(value))))) => value.clone(),
            (_, Choice::Login(_, words)) => words.clone(),
            (about, Choice::Names(names)) => {
                let word = if *about == About::Scopes { "scope" } else { "role" };
                match names.as_slice() {
                    [] => format!("no {word}"),
                    [name] => format!("only {word} {name}"),
                    names => format!("only {word}s {}", and(names)),
                }
            }
            (_, Choice::Request(variant)) => variant.words(),
            (_, Choice::Text(_) | Choice::Claim(_) | Choice::Time(_)) => String::new(),
        }
    }

    /// Sets of names are told apart by what they hold.
    fn say_names(&self, word: &str, values: &[usize], all: &[usize]) -> Said {
        let set = |value: &usize| match self.choices.get(*value) {
            Some(Choice::Names(names)) => names.as_slice(),
            _ => &[],
        };
        let mut names: Vec<&String> = all.iter().flat_map(set).collect();
        names.sort();
        names.dedup();
        let chosen = |value: &&usize| values.contains(value);
        let having = |name: &String| -> Vec<&usize> { all.iter().filter(|value| set(value).contains(name)).collect() };
        let holds_one_of = |names: &[&String]| -> Vec<usize> {
            let holds = |value: &&usize| set(value).iter().any(|name| names.contains(&name));
            all.iter().filter(holds).copied().collect()
        };
        let mut sure = names.clone();
        sure.retain(|name| having(name).iter().all(chosen));
        if !sure.is_empty() && holds_one_of(&sure) == values {
            return Said::Only(format!("{word} {}", or(&sure)));
        }
        let mut never = names.clone();
        never.retain(|name| !having(name).iter().any(chosen));
        let without: Vec<usize> = holds_one_of(&never);
        if !never.is_empty() && all.iter().filter(|value| !without.contains(value)).eq(values) {
            return Said::Not(format!("{word} {}", or(&never)));
        }
        // What all of them hold, and perhaps what none of them does.
        names.retain(|name| values.iter().all(|value| set(value).contains(name)));
        let having_all = |value: &&usize| names.iter().all(|name| set(value).contains(name));
        if let Some(last) = names
            .last()
            .filter(|_| all.iter().filter(having_all).any(|value| values.contains(value)))
        {
            let words = match names.len() {
                1 => format!("{word} {last}"),
                _ => format!("{word}s {}", and(&names)),
            };
            if all.iter().filter(having_all).eq(values) {
                return Said::Only(words);
            }
            let lacking = |value: &&usize| !without.contains(value);
            if all.iter().filter(having_all).filter(lacking).eq(values) {
                return Said::Only(format!("{words} but not {}", or(&never)));
            }
        }
        Said::Only(self.listed(values))
    }
}

fn or(words: &[impl Display]) -> String {
    let shown: Vec<String> = words.iter().take(SHOWN).map(ToString::to_string).collect();
    match words.len().saturating_sub(SHOWN) {
        0 => shown.join(" or "),
        rest => format!("{} or {rest} more", shown.join(", ")),
    }
}

/// `a, b and c`.
fn and(words: &[impl Display]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
