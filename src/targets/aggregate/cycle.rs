//! Parts that wait for each other.

use super::Part;
use crate::conf::Load;

/// Reports every circle of parts that wait for each other. What parts need is said by their place among `names`, where some
/// may be missing in `parts`.
pub(super) fn has_cycle(parts: &[Part], names: &[&str], load: &Load) -> bool {
    let part_of = |at: usize| {
        let name = names.get(at).copied().unwrap_or_default();
        parts.iter().find(|part| *part.name == *name)
    };
    let needs_of = |at: usize| -> &[usize] { part_of(at).map_or(&[], |part| &part.needs) };
    // Takes away parts that need nothing that is left; what stays is in a circle or waits for one.
    let mut left: Vec<usize> = (0..names.len()).collect();
    loop {
        let standing = left.clone();
        left.retain(|at| needs_of(*at).iter().any(|need| standing.contains(need)));
        if left.len() == standing.len() {
            break;
        }
    }
    let mut known: Vec<usize> = Vec::new();
    for start in &left {
        let mut way = vec![*start];
        while let Some(next) = way
            .last()
            .and_then(|at| needs_of(*at).iter().find(|need| left.contains(need)))
        {
            if let Some(begin) = way.iter().position(|at| at == next) {
                way.drain(..begin);
                break;
            }
            way.push(*next);
        }
        let Some(first) = way.iter().position(|at| way.iter().all(|other| at <= other)) else {
            continue;
        };
        way.rotate_left(first);
        if way.iter().all(|at| !known.contains(at)) {
            report(way.iter().filter_map(|at| part_of(*at)), load);
        }
        known.extend(way);
    }
    !left.is_empty()
}

fn report<'p>(mut way: impl Iterator<Item = &'p Part>, load: &Load) {
    match (way.next(), way.next()) {
        (Some(first), Some(second)) => load.error_with(
            &first.place,
            format!("`{}` waits for itself: its references go round in a circle", first.name),
            &second.place,
            format!("by way of `{}`", second.name),
        ),
        (Some(only), None) => load.error(&only.place, format!("`{}` refers to itself", only.name)),
        (None, _) => {}
    }
}
