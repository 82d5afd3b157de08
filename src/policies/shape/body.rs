//! Changing the body of a request with the means of shapes.

use std::sync::Arc;

use bytes::Bytes;

use super::cut::{self, Step};
use super::moved;
use super::plan::{Compiler, MAX_BODY};
use super::settings::{Path, Renames, ShapeSettings};
use crate::conf::{Load, Spanned};
use crate::engine::{ReshapeFailure, Rewrite};

/// What goes from the bodies of a route's requests, and what gets a new name.
#[derive(Debug)]
pub struct BodyPlan {
    root: Step,
    /// What it does, in words.
    lines: Vec<String>,
}

impl BodyPlan {
    /// Compiles `drop` and `rename`; what is wrong with them goes to `load`.
    pub fn compile(drop: &[Spanned<Path>], rename: Option<&Renames>, load: &Load) -> Self {
        let compiler = Compiler {
            of: "`request.body`".to_owned(),
            load,
            keeps: false,
        };
        let drops = drop
            .iter()
            .map(|path| format!("member `{}` of the body goes", path.value));
        let renames = rename.iter().flat_map(|pairs| pairs.iter());
        let renames = renames.map(|(path, name)| format!("member `{}` of the body becomes `{}`", path.value, name.0));
        Self {
            root: compiler.steps(&ShapeSettings::of(drop, rename)),
            lines: drops.chain(renames).collect(),
        }
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The plan with the values of one request: JSON, or nothing where the member goes.
    pub fn with(self: &Arc<Self>, set: Vec<(Path, Option<String>)>) -> Arc<dyn Rewrite> {
        Arc::new(Filled {
            plan: self.clone(),
            set,
        })
    }
}

#[derive(Debug)]
struct Filled {
    plan: Arc<BodyPlan>,
    set: Vec<(Path, Option<String>)>,
}

impl Rewrite for Filled {
    fn rewrite(&self, body: &[u8]) -> Result<Bytes, ReshapeFailure> {
        if body.len() > MAX_BODY {
            return Err(ReshapeFailure::TooLarge);
        }
        let mut text = cut::cut(body, &self.plan.root)?;
        if !self.set.is_empty() {
            text = moved::assign(&text, &self.set)?;
        }
        Ok(Bytes::from(text))
    }

    fn describe(&self) -> Vec<String> {
        let set = self.set.iter().map(|(path, value)| match value {
            Some(value) => format!("member `{path}` of the body is set to `{value}`"),
            None => format!("member `{path}` of the body goes, as there is no value for it"),
        });
        self.plan.lines.iter().cloned().chain(set).collect()
    }
}
