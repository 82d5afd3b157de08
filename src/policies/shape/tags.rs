//! Entity tags of answers that a shape has changed (RFC 9110 §8.8.3, §13.1.2).
//!
//! The changed body is another representation: its tag is weak, and names the shape, so that neither another client's nor
//! that of the shape before a reload is taken for it. `"v1"` becomes `W/"v1~s0a1b2c3d"`, and `W/"v1"` becomes
//! `W/"v1~w0a1b2c3d"`. In `If-None-Match` the origin is told its own tag again; tags without the mark say nothing of what the
//! shape makes, and go.

use http::{HeaderMap, HeaderValue, header};

/// The origin's tag as clients of the shape get it; `None` where it is none.
pub fn marked(tag: &HeaderValue, mark: &str) -> Option<HeaderValue> {
    let text = tag.to_str().ok()?;
    let (kind, opaque) = match text.strip_prefix("W/") {
        Some(rest) => ('w', rest),
        None => ('s', text),
    };
    let opaque = opaque.strip_prefix('"')?.strip_suffix('"')?;
    if !opaque.chars().all(is_of_a_tag) {
        return None;
    }
    HeaderValue::try_from(format!("W/\"{opaque}~{kind}{mark}\"")).ok()
}

/// Tells the origin its own tags: what it may answer 304 to. `If-Modified-Since` goes, as the date says nothing of the shape.
pub fn ask_origin(headers: &HeaderMap, mark: &str) -> Option<HeaderValue> {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags: Vec<String> = Vec::new();
    for line in lines.filter_map(|line| line.to_str().ok()) {
        if line.trim() == "*" {
            return Some(HeaderValue::from_static("*"));
        }
        tags.extend(opaque_tags(line).filter_map(|tag| unmarked(tag, mark)));
    }
    (!tags.is_empty())
        .then(|| HeaderValue::try_from(tags.join(", ")).ok())
        .flatten()
}

fn unmarked(opaque: &str, mark: &str) -> Option<String> {
    let rest = opaque.strip_suffix(mark)?;
    rest.strip_suffix("~s")
        .map(|own| format!("\"{own}\""))
        .or_else(|| rest.strip_suffix("~w").map(|own| format!("W/\"{own}\"")))
}

/// What stands between quotes: a comma may, too.
fn opaque_tags(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// `etagc`
fn is_of_a_tag(letter: char) -> bool {
    matches!(letter, '!' | '#'..='~')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MARK: &str = "0a1b2c3d";

    fn asked(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
        }
        ask_origin(&headers, MARK).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn gives_the_origin_its_own_tags_again() {
        for tag in ["\"v1\"", "W/\"v1\"", "\"\"", "\"a,b\"", "\"x~s0a1b2c3d\"", "W/\"~\""] {
            let marked = marked(&HeaderValue::from_static(tag), MARK).unwrap();
            let marked = marked.to_str().unwrap();
            assert!(marked.starts_with("W/\"") && marked != tag, "{marked}");
            assert_eq!(asked(&[marked]).as_deref(), Some(tag));
        }
    }

    #[test]
    fn leaves_out_tags_that_say_nothing_of_the_shape() {
        assert_eq!(asked(&["\"v1\""]), None);
        assert_eq!(asked(&["W/\"v1~s0a1b2c3e\""]), None);
        assert_eq!(
            asked(&["\"v1\", W/\"v2~s0a1b2c3d\"", "W/\"v,3~w0a1b2c3d\", \"v4~x0a1b2c3d\""]).as_deref(),
            Some("\"v2\", W/\"v,3\"")
        );
        assert_eq!(asked(&["*"]).as_deref(), Some("*"));
        assert_eq!(asked(&["v1", ""]), None);
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn takes_no_tag_that_is_none() {
        for tag in ["v1", "\"v1", "\"a b\"", "\"a\"b\"", "w/\"v1\""] {
            assert_eq!(marked(&HeaderValue::from_static(tag), MARK), None, "{tag}");
        }
    }
}
