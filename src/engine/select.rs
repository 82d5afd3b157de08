//! Values of a [checked](super::json::check) JSON text by their paths, as they were written.

use std::borrow::Cow;

use super::json::{Token, Tokens, decode};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a member of an object.
    Member(Box<str>),
    /// To every item of an array: `[*]`.
    Each,
}

/// Reads `items[*].product_id` or `[*].id`; `None` for what is no path. An empty text is the path to the whole.
pub fn steps(text: &str) -> Option<Box<[Step]>> {
    const EACH: &str = "[*]";
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(EACH) {
            steps.push(Step::Each);
            rest = after;
            continue;
        }
        // A dot stands between, and before none but the first.
        rest = match (steps.is_empty(), rest.strip_prefix('.')) {
            (true, None) => rest,
            (false, Some(after)) => after,
            _ => return None,
        };
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end)?;
        if name.is_empty() || name.contains([']', '*']) {
            return None;
        }
        steps.push(Step::Member(name.into()));
        rest = after;
    }
    Some(steps.into())
}

/// The value at the end of a path without [`Step::Each`].
pub fn value_at<'t>(text: &'t str, path: &[Step]) -> Option<&'t str> {
    match path.split_first() {
        None => Some(text.trim_ascii()),
        Some((Step::Each, _)) => None,
        Some((Step::Member(name), rest)) => value_at(member(text, name)?, rest),
    }
}

/// Every value at the end of a path, in order; those that are not there are left out. `None` where a [`Step::Each`] does not
/// stand at an array, or there are more than `most`.
pub fn values_at<'t>(text: &'t str, path: &[Step], most: usize) -> Option<Vec<&'t str>> {
    let mut found = Vec::new();
    collect(text, path, most, &mut found)?;
    Some(found)
}

fn collect<'t>(text: &'t str, path: &[Step], most: usize, found: &mut Vec<&'t str>) -> Option<()> {
    match path.split_first() {
        None if found.len() == most => None,
        None => {
            found.push(text.trim_ascii());
            Some(())
        }
        Some((Step::Member(name), rest)) => match member(text, name) {
            Some(value) => collect(value, rest, most, found),
            // Missing in the whole is missing; missing in one of many leaves that one out.
            None => Some(()),
        },
        Some((Step::Each, rest)) => {
            for item in items(text)? {
                collect(item, rest, most, found)?;
            }
            Some(())
        }
    }
}

/// The items of an array; `None` where it is none.
pub fn items(text: &str) -> Option<impl Iterator<Item = &str>> {
    let mut tokens = Tokens::new(text);
    (tokens.next()? == Token::ArrayStart).then(|| std::iter::from_fn(move || tokens.value()))
}

/// The members of an object, each with its name as it was written, in quotes; `None` where it is none.
pub fn members(text: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let mut tokens = Tokens::new(text);
    (tokens.next()? == Token::ObjectStart).then(|| {
        std::iter::from_fn(move || match tokens.next()? {
            Token::Key(name) => Some((name, tokens.value()?)),
            _ => None,
        })
    })
}

fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut members = members(text)?;
    let is_named = |found: &str| decode(found).is_ok_and(|found| found == name);
    members.find(|(found, _)| is_named(found)).map(|(_, value)| value)
}

/// A scalar as text: strings decoded, numbers digit for digit, `true` or `false`; `None` for `null`, objects and arrays.
pub fn scalar(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' => decode(value).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{ "a.b" : 1, "orders": {"items": [ {"id": 7.10, "tags":["x"]}, {"other":1}, {"id":null,"id2":2}, {"id":"\u00e4"} ]}, "n":[[1,2],[3]] }"#;

    fn all(path: &str) -> Option<Vec<&'static str>> {
        values_at(TEXT, &steps(path).unwrap(), 10)
    }

    #[test]
    fn reads_paths() {
        let member = |name: &str| Step::Member(name.into());
        assert_eq!(*steps("a.b-c").unwrap(), [member("a"), member("b-c")]);
        assert_eq!(*steps("[*].id").unwrap(), [Step::Each, member("id")]);
        assert_eq!(*steps("a[*][*]").unwrap(), [member("a"), Step::Each, Step::Each]);
        assert_eq!(*steps("").unwrap(), []);
        for bad in [".", "a.", ".a", "a..b", "a[0]", "a[*]b", "a]", "a[", "*", "a.[*]"] {
            assert_eq!(steps(bad), None, "{bad}");
        }
    }

    #[test]
    fn finds_values_as_they_were_written() {
        assert_eq!(all("orders.items[*].id").unwrap(), ["7.10", "null", r#""\u00e4""#]);
        assert_eq!(all("n[*][*]").unwrap(), ["1", "2", "3"]);
        assert_eq!(all("n[*]").unwrap(), ["[1,2]", "[3]"]);
        assert_eq!(all("orders.items[*].tags").unwrap(), [r#"["x"]"#]);
        assert_eq!(all("orders[*].id"), None, "no array");
        assert_eq!(all("missing[*].id").unwrap().len(), 0);
        assert_eq!(values_at(TEXT, &steps("n[*][*]").unwrap(), 2), None, "too many");
        let one = |path: &str| value_at(TEXT, &steps(path).unwrap());
        assert_eq!(one("n"), Some("[[1,2],[3]]"));
        assert_eq!(one("orders.items"), Some(all("orders.items").unwrap()[0]));
        assert_eq!((one("n.x"), one("orders.items[*]")), (None, None));
        assert_eq!(value_at(" 7 ", &[]), Some("7"));
    }

    #[test]
    fn goes_through_items_and_members() {
        assert_eq!(
            items(r#"[ 1 ,{"a":[]}, "]" ]"#).unwrap().collect::<Vec<_>>(),
            ["1", r#"{"a":[]}"#, r#""]""#]
        );
        assert_eq!(items("[]").unwrap().count(), 0);
        assert!(items("{}").is_none() && members("[]").is_none());
        let found: Vec<_> = members(r#"{"a":1,"b\n" : {"c":2}}"#).unwrap().collect();
        assert_eq!(found, [(r#""a""#, "1"), (r#""b\n""#, r#"{"c":2}"#)]);
        assert_eq!(scalar(r#""\u00e4""#).as_deref(), Some("ä"));
        assert_eq!((scalar("null"), scalar("{}"), scalar("[1]")), (None, None, None));
        assert_eq!(scalar("-0").as_deref(), Some("-0"));
    }
}
