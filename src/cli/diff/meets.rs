//! Where routes overlap: what a request has to be for several matches to take it.

use std::collections::HashSet;

use crate::routing::{HeaderCondition, HostPattern, Match, Methods, Segment, Template};

/// So many ways to overlap are looked at.
const MAX_MEETS: usize = 500;

/// The matches of requests that two or more of `all` take at once, without those that are one of `all` themselves; and
/// whether there are more. Each takes the methods of all that meet in it, as a request passes on to the next where one
/// does not take its method.
pub(super) fn meets<'m>(all: impl Iterator<Item = &'m Match>) -> (Vec<Match>, bool) {
    let mut known = HashSet::new();
    let mut found: Vec<Match> = all.filter(|one| known.insert(key(one))).cloned().collect();
    let (given, mut at) = (found.len(), 0);
    let mut is_cut = false;
    while let Some(one) = found.get(at) {
        let fresh = found.iter().take(at).filter_map(|other| meet(other, one));
        let fresh: Vec<Match> = fresh.filter(|fresh| known.insert(key(fresh))).collect();
        found.extend(fresh);
        if found.len() - given > MAX_MEETS {
            found.truncate(given + MAX_MEETS);
            is_cut = true;
            break;
        }
        at += 1;
    }
    (found.split_off(given), is_cut)
}

/// What tells two matches apart but for their methods: names of parameters do not.
fn key(one: &Match) -> String {
    let mut headers: Vec<String> = one.headers.iter().map(|header| format!("{header:?}")).collect();
    headers.sort_unstable();
    format!("{:?} {:?} {headers:?}", one.host, one.path.segments())
}

fn meet(one: &Match, other: &Match) -> Option<Match> {
    let segments = paths(one.path.segments(), other.path.segments())?;
    Some(Match {
        place: one.place.clone(),
        host: hosts(&one.host, &other.host)?,
        headers: headers(&one.headers, &other.headers)?,
        methods: match (&one.methods, &other.methods) {
            (Methods::Listed(one), Methods::Listed(other)) => {
                let more = other.iter().filter(|method| !one.contains(method));
                Methods::Listed(one.iter().chain(more).cloned().collect())
            }
            _ => Methods::Any,
        },
        path: template(&segments, [&one.path, &other.path])?,
    })
}

fn paths<'s>(one: &'s [Segment], other: &'s [Segment]) -> Option<Vec<&'s Segment>> {
    // Most have nothing in common, of which there may be millions.
    let clash =
        |pair: (&Segment, &Segment)| matches!(pair, (Segment::Literal(one), Segment::Literal(other)) if one != other);
    if one.iter().zip(other).any(clash) {
        return None;
    }
    let mut both = Vec::new();
    let (mut left, mut right) = (one.iter(), other.iter());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some(both),
            // What follows a slash there is the rest here, and may be nothing.
            (Some(Segment::Rest), Some(next)) => {
                both.push(next);
                both.extend(right);
                return Some(both);
            }
            (Some(next), Some(Segment::Rest)) => {
                both.push(next);
                both.extend(left);
                return Some(both);
            }
            // A parameter is never empty, and so is no slash at the end.
            (Some(Segment::Literal(text)), Some(Segment::Parameter))
            | (Some(Segment::Parameter), Some(Segment::Literal(text)))
                if text.is_empty() =>
            {
                return None;
            }
            (Some(Segment::Parameter), Some(next)) | (Some(next), Some(_)) => both.push(next),
            _ => return None,
        }
    }
}

/// The template of these segments, with the names that the first of `named` has for them, else the second.
fn template(segments: &[&Segment], named: [&Template; 2]) -> Option<Template> {
    let mut text = String::new();
    let mut used: Vec<String> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        text.push('/');
        let dots = match segment {
            Segment::Literal(literal) => {
                text.push_str(literal);
                continue;
            }
            Segment::Parameter => "",
            Segment::Rest => "...",
        };
        let names = named.iter().filter_map(|template| name(template, at));
        let name = names.chain([format!("p{at}")]).find(|name| !used.contains(name))?;
        text.push_str(&format!("{{{name}{dots}}}"));
        used.push(name);
    }
    Template::parse(&text).ok()
}

/// What the parameter is called that stands there.
fn name(template: &Template, at: usize) -> Option<String> {
    let is_named = |segment: &&Segment| !matches!(segment, Segment::Literal(_));
    template.segments().get(at).filter(is_named)?;
    let before = template.segments().iter().take(at).filter(is_named).count();
    template.names().get(before).map(ToString::to_string)
}

fn hosts(one: &HostPattern, other: &HostPattern) -> Option<HostPattern> {
    match (one.include(other), other.include(one)) {
        (true, _) => Some(other.clone()),
        (_, true) => Some(one.clone()),
        _ => None,
    }
}

fn headers(one: &[HeaderCondition], other: &[HeaderCondition]) -> Option<Vec<HeaderCondition>> {
    let mut both = one.to_vec();
    for condition in other {
        match both.iter_mut().find(|known| known.name == condition.name) {
            Some(known) => known.values.retain(|value| condition.values.contains(value)),
            None => both.push(condition.clone()),
        }
    }
    both.iter()
        .all(|condition| !condition.values.is_empty())
        .then_some(both)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::conf::{Load, Read};

    fn matched(yaml: &str) -> Match {
        let load = Load::new();
        let node = load.text("t.yaml", &format!("m: {yaml}\n")).unwrap();
        Match::read(node.get("m").unwrap(), &load).unwrap()
    }

    fn met(yaml: &[&str]) -> Vec<String> {
        let all: Vec<Match> = yaml.iter().map(|yaml| matched(yaml)).collect();
        let (found, is_cut) = meets(all.iter());
        assert!(!is_cut);
        found.iter().map(|one| one.path.to_string()).collect()
    }

    #[test]
    fn takes_what_both_take() {
        for (one, other, both) in [
            ("GET /{a}/docs/index", "GET /admin/{x}/{y}", Some("/admin/docs/index")),
            ("GET /{a}/b", "GET /{x}/{a}", None),
            ("GET /a/{rest...}", "GET /{x}/b/{y}", Some("/a/b/{y}")),
            ("GET /a/{rest...}", "GET /{x}/", Some("/a/")),
            ("GET /a/{rest...}", "GET /{x}", None),
            ("GET /a/{x}", "GET /{y}/", None),
            ("GET /a/{x}/c", "GET /{x}/b/{y}", Some("/a/b/c")),
            ("GET /a/{x}/{y}", "GET /{x}/{y}/c", Some("/a/{x}/c")),
        ] {
            assert_eq!(
                met(&[one, other]),
                both.into_iter().collect::<Vec<_>>(),
                "{one} {other}"
            );
        }
        let apart = "{ path: /a, host: '*.b.example', headers: { x-v: ['1', '2'] } }";
        let met = |other: &str| meets([matched(apart), matched(other)].iter()).0;
        assert!(met("{ path: /a, headers: { x-v: '3' } }").is_empty());
        assert!(met("{ path: /a, host: b.example }").is_empty());
        let both = met("{ path: /a, host: c.b.example, headers: { x-v: ['2', '3'], x-w: on } }");
        let both = both.first().unwrap();
        assert_eq!(both.host, HostPattern::Exact("c.b.example".into()));
        let headers: Vec<String> = both
            .headers
            .iter()
            .map(|one| format!("{} {:?}", one.name, one.values))
            .collect();
        assert_eq!(headers, ["x-v [\"2\"]", "x-w [\"on\"]"]);
    }

    #[test]
    fn three_meet_where_two_do() {
        let found = met(&["GET /{a}/y/{c}", "GET /x/{b}/{c}", "GET /{a}/{b}/z"]);
        assert!(found.contains(&"/x/y/z".to_owned()), "{found:?}");
        let many: Vec<Match> = (0..12)
            .map(|at| {
                let segment = |own: u32| {
                    if own == at {
                        "x".to_owned()
                    } else {
                        format!("{{p{own}}}")
                    }
                };
                let path: Vec<String> = (0..12).map(segment).collect();
                matched(&format!("GET /{}", path.join("/")))
            })
            .collect();
        let (found, is_cut) = meets(many.iter());
        assert_eq!((found.len(), is_cut), (MAX_MEETS, true));
    }
}
