//! Path templates: `/accounts/{account}/files/{rest...}`.
//!
//! `{name}` is one segment that is not empty; `{name...}` stands last and is all that follows its slash, possibly nothing:
//! `/files/{rest...}` matches `/files/` and `/files/a/b`, not `/files`. A trailing slash is another path.

use std::fmt;
use std::sync::Arc;

use super::normalise_path;

/// Deeper templates are refused, which bounds the router's recursion.
const MAX_SEGMENTS: usize = 64;

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    segments: Vec<Segment>,
    names: Arc<[Arc<str>]>,
}

/// What stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// This text, normalised; empty where the template ends with a slash.
    Literal(Box<str>),
    /// One segment, not empty.
    Parameter,
    /// All that follows.
    Rest,
}

impl Template {
    /// Parses a template. The error is the rest of a sentence that begins with the template.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = text
            .strip_prefix('/')
            .ok_or_else(|| "is not a path: it must begin with `/`".to_owned())?;
        let mut segments = Vec::new();
        let mut names: Vec<Arc<str>> = Vec::new();
        for part in path.split('/') {
            if matches!(segments.last(), Some(Segment::Rest)) {
                return Err("has something after `{…...}`, which must stand last".into());
            }
            let braced = part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
            let Some(inner) = braced else {
                segments.push(Segment::Literal(literal(part, segments.len(), path)?));
                continue;
            };
            let (name, segment) = match inner.strip_suffix("...") {
                Some(name) => (name, Segment::Rest),
                None => (inner, Segment::Parameter),
            };
            check_name(name)?;
            if names.iter().any(|known| &**known == name) {
                return Err(format!("names `{{{name}}}` twice"));
            }
            names.push(Arc::from(name));
            segments.push(segment);
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("has more than {MAX_SEGMENTS} segments"));
        }
        Ok(Self {
            text: Arc::from(text),
            segments,
            names: Arc::from(names),
        })
    }

    /// The template as written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The segments, in order; never empty.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The parameters' names, in order.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The path with every parameter replaced by its value, which must be encoded as in a normalised path; `None` where
    /// one has no value.
    pub fn expand<'v>(&self, mut value: impl FnMut(&str) -> Option<&'v str>) -> Option<String> {
        let mut path = String::with_capacity(self.text.len() + 32);
        let mut names = self.names.iter();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Parameter | Segment::Rest => path.push_str(value(names.next()?)?),
            }
        }
        Some(path)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks a literal segment against what a normalised path can hold; anything else no request would ever match.
fn literal(part: &str, index: usize, path: &str) -> Result<Box<str>, String> {
    if part.contains(['{', '}']) {
        return Err(format!(
            "has `{part}`: a parameter is a whole segment, `{{name}}` or `{{name...}}`; a brace itself is `%7B` or `%7D`"
        ));
    }
    if part.is_empty() {
        let is_last = path.split('/').count() == index + 1;
        return match is_last {
            true => Ok(Box::from("")),
            false => Err("has an empty segment: requests' `//` merges, so that nothing can match".into()),
        };
    }
    let raw = format!("/{part}");
    let normal = normalise_path(raw.as_bytes()).map_err(|fault| format!("can match nothing: {fault}"))?;
    if *normal != raw {
        let normal = normal.trim_start_matches('/');
        return Err(format!(
            "has `{part}`, which requests are normalised from; write `{normal}`"
        ));
    }
    Ok(Box::from(part))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        && name.len() <= 64;
    if is_name {
        return Ok(());
    }
    Err(format!(
        "has `{{{name}}}`: a parameter's name is letters, digits and `_`, not beginning with a digit, at most 64"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_literals_parameters_and_rest() {
        let template = Template::parse("/a/{b}/c/{rest...}").unwrap();
        let names: Vec<&str> = template.names().iter().map(|name| &**name).collect();
        assert_eq!(names, ["b", "rest"]);
        assert_eq!(template.segments().len(), 4);
        let value = |name: &str| Some(if name == "b" { "1" } else { "x/y" });
        assert_eq!(template.expand(value).as_deref(), Some("/a/1/c/x/y"));
        assert_eq!(template.expand(|name| (name == "b").then_some("1")), None);
        assert_eq!(Template::parse("/").unwrap().expand(|_| None).as_deref(), Some("/"));
        assert_eq!(Template::parse("/a/").unwrap().expand(|_| None).as_deref(), Some("/a/"));
    }

    #[test]
    fn says_what_is_wrong_with_a_template() {
        for (text, part) in [
            ("", "begin with `/`"),
            ("a/b", "begin with `/`"),
            ("/a//b", "empty segment"),
            ("/x{y}", "whole segment"),
            ("/{y}.json", "whole segment"),
            ("/{", "whole segment"),
            ("/{}", "parameter's name"),
            ("/{1a}", "parameter's name"),
            ("/{a-b}", "parameter's name"),
            ("/{...}", "parameter's name"),
            ("/{a}/{a}", "twice"),
            ("/{a...}/b", "stand last"),
            ("/a/../b", "dot segment"),
            ("/a%2Fb", "encoded slash"),
            ("/%7euser", "write `~user`"),
            ("/a?b=1", "must be encoded"),
            ("/한", "must be encoded"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Template::parse(&"/a".repeat(65)).is_err());
    }
}
