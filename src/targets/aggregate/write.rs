//! The answer put together: members in the order of the file, in groups, and spread.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::settings::PartSettings;
use super::{Aggregate, Part, Spread};
use crate::conf::{Load, Place, Spanned, Value};
use crate::engine::json::decode;
use crate::engine::select::members;

/// Reports names that would stand in one object twice, as far as the file says them.
pub(super) fn has_collision(settings: &[(Spanned<String>, PartSettings)], load: &Load) -> bool {
    /// The object, the member, and where the file says so. An object of the answer stands there once, for all of its parts.
    type Said<'s> = (Option<&'s str>, &'s str, &'s Place);
    let mut said: Vec<Said<'_>> = Vec::new();
    let mut groups: Vec<&str> = Vec::new();
    let mut found = false;
    let mut add = |said: &mut Vec<Said<'_>>, new: Said<'_>| {
        let known = said.iter().find(|known| (known.0, known.1) == (new.0, new.1));
        if let Some((_, name, first)) = known {
            let message = format!("two members would be called `{name}`");
            load.error_with(new.2, message, first, "the other one");
            found = true;
        }
    };
    for (name, part) in settings {
        let group = part.group.as_ref().map(|group| group.value.as_str());
        if let Some(group) = &part.group
            && !groups.contains(&group.value.as_str())
        {
            groups.push(&group.value);
            let new = (None, group.value.as_str(), &group.place);
            add(&mut said, new);
            said.push(new);
        }
        let names: Vec<(&str, &Place)> = match (&part.spread, part.default.as_ref().map(|default| &default.value)) {
            (Spread::No, _) => vec![(&name.value, &name.place)],
            (Spread::All, Some(Value::Map(members))) => members
                .iter()
                .map(|member| (member.key.as_str(), &member.key_place))
                .collect(),
            (Spread::All, _) => Vec::new(),
            (Spread::Some(names), _) => names.iter().map(|member| (&**member, &name.place)).collect(),
        };
        for (member, place) in names {
            let new = (group, member, place);
            add(&mut said, new);
            said.push(new);
        }
    }
    found
}

impl Aggregate {
    /// The parts whose members cannot be spread: no object, or a name that is taken. What the file says of a part is its own,
    /// whether it comes to stand in the answer or not: so no default, which stands in for such a part, repeats a name either.
    pub(super) fn unspreadable<'t>(&'t self, text: impl Fn(usize) -> Option<&'t str>) -> Vec<usize> {
        if self.parts.iter().all(|part| part.spread == Spread::No) {
            return Vec::new();
        }
        // Of which part; of none, a group.
        let mut taken: HashMap<(Option<&str>, Cow<'_, str>), Option<usize>> = HashMap::new();
        for (at, part) in self.parts.iter().enumerate() {
            let group = part.group.as_deref();
            taken.extend(group.map(|group| ((None, group.into()), None)));
            match &part.spread {
                Spread::No => drop(taken.insert((group, (&*part.name).into()), Some(at))),
                Spread::Some(names) => {
                    taken.extend(names.iter().map(|name| ((group, (&**name).into()), Some(at))));
                }
                Spread::All => {
                    let names = part.default.as_deref().and_then(member_names).unwrap_or_default();
                    taken.extend(names.into_iter().map(|name| ((group, name), Some(at))));
                }
            }
        }
        let mut failed = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let Some(text) = text(at).filter(|text| part.spread != Spread::No && *text != "null") else {
                continue;
            };
            let Some(names) = member_names(text) else {
                failed.push(at);
                continue;
            };
            if part.spread == Spread::All {
                let names: Vec<_> = names.into_iter().map(|name| (part.group.as_deref(), name)).collect();
                let is_another = |name| taken.get(name).is_some_and(|owner| *owner != Some(at));
                match names.iter().any(is_another) {
                    true => failed.push(at),
                    false => taken.extend(names.into_iter().map(|name| (name, Some(at)))),
                }
            }
        }
        failed
    }

    /// The whole, from the text of each part.
    pub(super) fn write<'t>(&'t self, size: usize, text: impl Fn(usize) -> &'t str) -> Bytes {
        let mut out = BytesMut::with_capacity(size + 64 * self.parts.len());
        out.put_u8(b'{');
        let mut is_first = true;
        for (at, part) in self.parts.iter().enumerate() {
            let Some(group) = &part.group else {
                write_part(&mut out, &mut is_first, part, text(at));
                continue;
            };
            let of_group = |part: &Part| part.group.as_ref() == Some(group);
            if self.parts.iter().take(at).any(of_group) {
                continue;
            }
            // Names of parts and groups are letters, digits, `-` and `_`: nothing to escape.
            write_name(&mut out, &mut is_first, &format!("\"{group}\""));
            out.put_u8(b'{');
            let mut is_first = true;
            for (at, part) in self.parts.iter().enumerate().filter(|(_, part)| of_group(part)) {
                write_part(&mut out, &mut is_first, part, text(at));
            }
            out.put_u8(b'}');
        }
        out.put_u8(b'}');
        out.freeze()
    }
}

/// The names of an object's members; `None` where it is none.
fn member_names(text: &str) -> Option<Vec<Cow<'_, str>>> {
    Some(members(text)?.filter_map(|(name, _)| decode(name).ok()).collect())
}

fn write_part(out: &mut BytesMut, is_first: &mut bool, part: &Part, text: &str) {
    let wanted = |name: &str| match &part.spread {
        Spread::Some(names) => decode(name).is_ok_and(|name| names.iter().any(|wanted| **wanted == *name)),
        Spread::No | Spread::All => true,
    };
    if part.spread == Spread::No {
        write_name(out, is_first, &format!("\"{}\"", part.name));
        out.put_slice(text.as_bytes());
        return;
    }
    for (name, value) in members(text).into_iter().flatten().filter(|(name, _)| wanted(name)) {
        write_name(out, is_first, name);
        out.put_slice(value.as_bytes());
    }
}

fn write_name(out: &mut BytesMut, is_first: &mut bool, quoted: &str) {
    if !std::mem::replace(is_first, false) {
        out.put_u8(b',');
    }
    out.put_slice(quoted.as_bytes());
    out.put_u8(b':');
}
