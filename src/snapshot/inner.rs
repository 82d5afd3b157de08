//! Parts of aggregates that go through routes: whether there are such routes, and whether they lead round in a circle.
//!
//! Which route a part asks may depend on its references. Here each stands for one harmless value; what only a request's values
//! lead to is bounded while it runs.

use std::sync::Arc;

use http::Method;

use super::Route;
use crate::conf::{Load, Place};
use crate::engine::NoHeaders;
use crate::routing::{Found, HostPattern, Router};
use crate::targets::Target;

/// A route's part that asks another route.
struct Asks<'r> {
    by: &'r Arc<Route>,
    asked: &'r Arc<Route>,
    place: &'r Place,
}

/// Reports parts that no route answers, and circles.
pub(super) fn check(router: &Router<Arc<Route>>, load: &Load) {
    // A request's host and headers may choose among routes; then nothing is known before it comes.
    let chooses = router
        .iter()
        .any(|(matches, _)| matches.host != HostPattern::Any || !matches.headers.is_empty());
    let mut all: Vec<Asks<'_>> = Vec::new();
    for (_, by) in router.iter() {
        let Target::Aggregate(aggregate) = &by.target else {
            continue;
        };
        for inner in aggregate.inner() {
            let method = if inner.is_post { Method::POST } else { Method::GET };
            let path = inner.sample.split('?').next().unwrap_or_default();
            match router.find(&method, "", path, &NoHeaders) {
                Found::Route(asked, _) => all.push(Asks {
                    by,
                    asked,
                    place: inner.place,
                }),
                _ if chooses => {}
                _ => {
                    let message = format!("no route of this configuration answers `{method} {path}`");
                    load.error(inner.place, message);
                }
            }
        }
    }
    let mut reported: Vec<&str> = Vec::new();
    for first in &all {
        let mut way = vec![first];
        if leads_back(first, &all, &mut way) && !way.iter().any(|asks| reported.contains(&&*asks.by.name)) {
            let names: Vec<String> = way.iter().map(|asks| format!("`{}`", asks.asked.name)).collect();
            let message = format!("route `{}` asks itself: by way of {}", first.by.name, names.join(", "));
            load.error(first.place, message);
            reported.extend(way.iter().map(|asks| &*asks.by.name));
        }
    }
}

/// Whether the last of `way` leads to the route that `first` begins at; `way` then ends there.
fn leads_back<'a, 'r>(first: &Asks<'r>, all: &'a [Asks<'r>], way: &mut Vec<&'a Asks<'r>>) -> bool {
    let Some(last) = way.last().copied() else { return false };
    if Arc::ptr_eq(last.asked, first.by) {
        return true;
    }
    for next in all.iter().filter(|asks| Arc::ptr_eq(asks.by, last.asked)) {
        // A circle beside this way is found from where it begins.
        if way.iter().any(|known| Arc::ptr_eq(known.by, next.by)) {
            continue;
        }
        way.push(next);
        if leads_back(first, all, way) {
            return true;
        }
        way.pop();
    }
    false
}
