//! The answer put together: members in the order of the file, in groups, and spread.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};

use super::settings::PartSettings;
use super::{Aggregate, Part, Spread};
use crate::conf::{Load, Place, Spanned};
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
        let names: Vec<&str> = match &part.spread {
            Spread::No => vec![&name.value],
            Spread::All => Vec::new(),
            Spread::Some(names) => names.iter().map(|name| &**name).collect(),
        };
        for member in names {
            let new = (group, member, &name.place);
            add(&mut said, new);
            said.push(new);
        }
    }
    found
}

impl Aggregate {
    /// The parts whose members cannot be spread: no object, or a name that is taken.
    pub(super) fn unspreadable<'t>(&'t self, text: impl Fn(usize) -> Option<&'t str>) -> Vec<usize> {
        if self.parts.iter().all(|part| part.spread == Spread::No) {
            return Vec::new();
        }
        let mut taken: HashSet<(Option<&str>, Cow<'_, str>)> = HashSet::new();
        for part in &self.parts {
            taken.extend(part.group.as_deref().map(|group| (None, group.into())));
            match &part.spread {
                Spread::No => drop(taken.insert((part.group.as_deref(), (&*part.name).into()))),
                Spread::Some(names) => {
                    taken.extend(names.iter().map(|name| (part.group.as_deref(), (&**name).into())));
                }
                Spread::All => {}
            }
        }
        let mut failed = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let Some(text) = text(at).filter(|text| part.spread != Spread::No && *text != "null") else {
                continue;
            };
            let Some(members) = members(text) else {
                failed.push(at);
                continue;
            };
            if part.spread == Spread::All {
                let names: Vec<_> = members
                    .filter_map(|(name, _)| Some((part.group.as_deref(), decode(name).ok()?)))
                    .collect();
                match names.iter().any(|name| taken.contains(name)) {
                    true => failed.push(at),
                    false => taken.extend(names),
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
