//! From a shape as it is written to one that is ready to run; what cannot work is found here.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use serde_json::Value as Json;

use super::cut::{self, Keep, NewName, Step};
use super::jq::Program;
use super::moved::{self, Added, Move};
use super::settings::{Path, ShapeSettings, Uncut};
use crate::conf::{Load, OneOrMany, Place, Spanned};
use crate::engine::{About, Reshape, ReshapeFailure};

/// Bodies with more bytes are not read, and none is written: long new names in a long list could make a body grow.
pub const MAX_BODY: usize = 8 << 20;

/// A shape ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    name: Box<str>,
    /// What is dropped, kept and renamed.
    root: Step,
    moves: Vec<Move>,
    defaults: Vec<Added>,
    program: Option<Program>,
    /// What the whole is put into, from the outside.
    wrap: Vec<Box<str>>,
    envelope: bool,
    passes_uncut: bool,
    mark: Box<str>,
}

impl Plan {
    /// Compiles one shape; what is wrong with it goes to `load`.
    pub fn compile(settings: &ShapeSettings, name: &Spanned<String>, load: &Load) -> Self {
        let compiler = Compiler {
            of: format!("shape `{}`", name.value),
            load,
            keeps: settings.keep.is_some(),
        };
        if settings.is_empty() {
            let message = format!(
                "shape `{}` changes nothing: it needs one of `keep`, `drop`, `rename`, `move`, `defaults`, `jq`, `wrap`, `envelope`",
                name.value
            );
            load.error(&name.place, message);
        }
        let root = compiler.steps(settings);
        let moves = compiler.moves(settings, &root);
        let defaults = settings.defaults.iter().flat_map(|defaults| defaults.iter());
        Self {
            name: name.value.as_str().into(),
            moves,
            defaults: defaults
                .filter_map(|(path, value)| Added::new(&path.value, &value.0))
                .collect(),
            program: settings.jq.as_ref().map(|program| program.value.clone()),
            wrap: settings
                .wrap
                .iter()
                .flat_map(|path| path.value.names())
                .map(|name| quoted(name))
                .collect(),
            envelope: settings.envelope,
            passes_uncut: settings.uncut == Uncut::Pass,
            mark: mark(settings),
            root,
        }
    }

    fn run(&self, body: &[u8], about: &About<'_>) -> Result<Bytes, ReshapeFailure> {
        if body.len() > MAX_BODY {
            return Err(ReshapeFailure::TooLarge);
        }
        let mut text = cut::cut(body, &self.root)?;
        if !(self.moves.is_empty() && self.defaults.is_empty()) {
            text = moved::rearrange(&text, &self.moves, &self.defaults)?;
        }
        if let Some(program) = &self.program {
            text = program.run(&text)?;
        }
        if self.envelope || !self.wrap.is_empty() {
            text = self.enclose(&text, about);
        }
        if text.len() > MAX_BODY {
            return Err(ReshapeFailure::TooLarge);
        }
        Ok(Bytes::from(text))
    }

    fn enclose(&self, text: &str, about: &About<'_>) -> String {
        let mut whole = String::with_capacity(text.len() + 128);
        if self.envelope {
            whole.push_str(r#"{"data":"#);
        }
        for name in &self.wrap {
            whole.push('{');
            whole.push_str(name);
            whole.push(':');
        }
        whole.push_str(text);
        whole.extend(self.wrap.iter().map(|_| '}'));
        if self.envelope {
            whole.push_str(r#","meta":{"request_id":"#);
            whole.push_str(&quoted(about.request_id));
            whole.push_str(r#","partial":["#);
            for (at, (part, reason)) in about.partial.iter().enumerate() {
                let separator = if at == 0 { "" } else { "," };
                let (part, reason) = (quoted(part), quoted(reason));
                whole.push_str(&format!(r#"{separator}{{"part":{part},"reason":{reason}}}"#));
            }
            whole.push_str("]}}");
        }
        whole
    }
}

/// A plan as the answers of one route are changed by it.
#[derive(Debug)]
pub(super) struct Shaped {
    pub(super) plan: Arc<Plan>,
    /// The headers that tell clients apart, where it depends on the client which shape is taken.
    pub(super) varies_on: Arc<[HeaderName]>,
}

impl Reshape for Shaped {
    fn name(&self) -> &str {
        &self.plan.name
    }

    fn reshape(&self, body: &[u8], about: &About<'_>) -> Result<Bytes, ReshapeFailure> {
        self.plan.run(body, about)
    }

    fn varies_on(&self) -> &[HeaderName] {
        &self.varies_on
    }

    fn max_body(&self) -> usize {
        MAX_BODY
    }

    fn mark(&self) -> &str {
        &self.plan.mark
    }

    fn passes_uncut(&self) -> bool {
        self.plan.passes_uncut
    }

    fn may_take_long(&self) -> bool {
        self.plan.program.is_some()
    }

    fn tells_request(&self) -> bool {
        self.plan.envelope
    }
}

/// A name as JSON.
pub(super) fn quoted(name: &str) -> Box<str> {
    Json::from(name).to_string().into()
}

/// Eight hexadecimal digits that change with what the shape makes of an answer.
fn mark(settings: &ShapeSettings) -> Box<str> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    // Each part by its length, so that no two shapes are written alike.
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    let mut paths = |word: &str, paths: &Option<OneOrMany<Spanned<Path>>>| {
        part(word);
        for path in paths.iter().flat_map(|paths| &paths.0) {
            part(&path.value.to_string());
        }
    };
    paths("keep", &settings.keep);
    paths("drop", &settings.drop);
    let pairs = settings.rename.iter().flat_map(|pairs| pairs.iter());
    let renames = pairs.map(|(path, name)| ("rename", &path.value, name.0.to_string()));
    let pairs = settings.r#move.iter().flat_map(|pairs| pairs.iter());
    let moves = pairs.map(|(path, to)| ("move", &path.value, to.value.to_string()));
    let pairs = settings.defaults.iter().flat_map(|pairs| pairs.iter());
    let defaults = pairs.map(|(path, value)| ("default", &path.value, value.0.to_string()));
    for (word, path, of) in renames.chain(moves).chain(defaults) {
        part(word);
        part(&path.to_string());
        part(&of);
    }
    if let Some(program) = &settings.jq {
        part("jq");
        part(program.value.text());
    }
    if let Some(path) = &settings.wrap {
        part("wrap");
        part(&path.value.to_string());
    }
    part(if settings.envelope { "envelope" } else { "plain" });
    let digest = hash.finish();
    let digits: String = digest
        .as_ref()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digits.into()
}

impl ShapeSettings {
    fn is_empty(&self) -> bool {
        let none = |paths: &Option<OneOrMany<Spanned<Path>>>| paths.as_ref().is_none_or(|paths| paths.0.is_empty());
        none(&self.keep)
            && none(&self.drop)
            && self.rename.as_ref().is_none_or(|pairs| pairs.0.is_empty())
            && self.r#move.as_ref().is_none_or(|pairs| pairs.0.is_empty())
            && self.defaults.as_ref().is_none_or(|pairs| pairs.0.is_empty())
            && self.jq.is_none()
            && self.wrap.is_none()
            && !self.envelope
    }
}

pub(super) struct Compiler<'a> {
    /// What is compiled, for messages.
    pub of: String,
    pub load: &'a Load,
    /// Whether only what is named stays.
    pub keeps: bool,
}

/// What `drop` and `keep` do to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Dropped,
    NotKept,
}

impl Compiler<'_> {
    fn error(&self, place: &Place, message: &str) {
        self.load.error(place, format!("{} {message}", self.of));
    }

    /// What is dropped, kept and renamed.
    pub fn steps(&self, settings: &ShapeSettings) -> Step {
        let mut root = Step {
            keep: Keep::Whole,
            ..Step::default()
        };
        for path in settings.drop.iter().flat_map(|paths| &paths.0) {
            if let Some((_, last)) = walk(&mut root, &path.value, |_| {}) {
                last.dropped = true;
            }
        }
        for path in settings.keep.iter().flat_map(|paths| &paths.0) {
            root.keep = Keep::Below;
            let walked = walk(&mut root, &path.value, |step| {
                if step.keep == Keep::No {
                    step.keep = Keep::Below;
                }
            });
            if let Some((dropped, last)) = walked {
                if dropped || last.dropped {
                    self.error(&path.place, "keeps what it drops: `drop` comes first");
                }
                last.keep = Keep::Whole;
            }
        }
        let renames: Vec<_> = settings.rename.iter().flat_map(|pairs| pairs.iter()).collect();
        for (path, name) in &renames {
            match self.fate(&root, &path.value) {
                Fate::Dropped => self.error(&path.place, "renames what it drops"),
                Fate::NotKept => self.error(&path.place, "renames what it does not keep"),
                Fate::Stays => {}
            }
            if let Some((_, last)) = walk(&mut root, &path.value, |_| {}) {
                last.rename = Some(NewName {
                    plain: name.0.clone(),
                    quoted: quoted(&name.0),
                });
            }
        }
        for (path, name) in &renames {
            if let Some(other) = rival(&root, &path.value, &name.0) {
                let message = format!("gives `{}` the name of `{other}`, which is there too", path.value);
                self.error(&path.place, &message);
            }
        }
        root
    }

    fn fate(&self, root: &Step, path: &Path) -> Fate {
        let mut step = Some(root);
        let mut whole = !self.keeps;
        for name in path.names() {
            step = step.and_then(|step| step.member(name));
            if step.is_some_and(|step| step.dropped) {
                return Fate::Dropped;
            }
            whole |= step.is_some_and(|step| step.keep == Keep::Whole);
        }
        let below = step.is_some_and(|step| step.keep == Keep::Below);
        if whole || below { Fate::Stays } else { Fate::NotKept }
    }

    fn moves(&self, settings: &ShapeSettings, root: &Step) -> Vec<Move> {
        let mut moves: Vec<(Move, Path)> = Vec::new();
        for (path, to) in settings.r#move.iter().flat_map(|pairs| pairs.iter()) {
            match self.fate(root, &path.value) {
                Fate::Dropped => self.error(&path.place, "moves what it drops"),
                Fate::NotKept => self.error(&path.place, "moves what it does not keep"),
                Fate::Stays => {}
            }
            let from = renamed(root, &path.value);
            match Move::new(&from, &to.value) {
                Err(message) => self.error(&to.place, message),
                Ok(_) if moves.iter().any(|(_, known)| *known == to.value) => {
                    self.error(&to.place, &format!("moves two members to `{}`", to.value));
                }
                Ok(_) if stays_at(root, &to.value) => {
                    let message = format!("moves `{}` onto `{}`, which it keeps", path.value, to.value);
                    self.error(&to.place, &message);
                }
                Ok(found) => moves.push((found, to.value.clone())),
            }
        }
        moves.into_iter().map(|(found, _)| found).collect()
    }
}

/// Goes down `path`, making steps; `on_the_way` sees every step but the last. Also says whether one of them is dropped.
fn walk<'s>(root: &'s mut Step, path: &Path, on_the_way: impl Fn(&mut Step)) -> Option<(bool, &'s mut Step)> {
    let (last, above) = path.names().split_last()?;
    let mut step = root;
    let mut dropped = false;
    for name in above {
        step = step.member_mut(name)?;
        on_the_way(step);
        dropped |= step.dropped;
    }
    step.member_mut(last).map(|last| (dropped, last))
}

/// A member beside the one at `path` that is called `name` in the answer, as far as the shape tells.
fn rival<'s>(root: &'s Step, path: &Path, name: &str) -> Option<&'s str> {
    let (own, above) = path.names().split_last()?;
    let above = above.iter().try_fold(root, |step, name| step.member(name))?;
    let is_rival = |(known, step): &&(Box<str>, Step)| {
        let called = step.rename.as_ref().map_or(&**known, |new| &new.plain);
        let is_there = step.rename.is_some() || step.keep != Keep::No;
        **known != **own && is_there && !step.dropped && called == name
    };
    above.members.iter().find(is_rival).map(|(known, _)| &**known)
}

/// A path of the source as it is after renaming.
fn renamed(root: &Step, path: &Path) -> Path {
    let mut step = Some(root);
    let new = path.names().iter().map(|name| {
        step = step.and_then(|step| step.member(name));
        let new = step.and_then(|step| step.rename.as_ref());
        new.map_or_else(|| name.clone(), |new| new.plain.clone())
    });
    Path(new.collect())
}

/// Whether the shape keeps a member by name that is there in the answer.
fn stays_at(root: &Step, path: &Path) -> bool {
    let mut step = root;
    for name in path.names() {
        let called = |(known, below): &&(Box<str>, Step)| {
            below
                .rename
                .as_ref()
                .map_or(**known == **name, |new| *new.plain == **name)
        };
        match step.members.iter().find(called) {
            Some((_, below)) => step = below,
            None => return false,
        }
    }
    step.keep != Keep::No && !step.dropped
}
