//! Programs in jq, the language of <https://jqlang.org>, run by the crate `jaq`.
//!
//! A program sees one value and makes one. It cannot loop of its own, end the process, or read anything but its input: what may
//! be written is in [`allowed`]; every step it takes is counted, and so is the text that it makes ([`running`]). A number that is
//! not computed with keeps its digits ([`value`]).

mod allowed;
mod running;
#[cfg(test)]
mod tests;
mod value;

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use jaq_core::load::{Arena, File, Loader, parse::Def};
use jaq_core::{Compiler, Ctx, Vars};

use super::plan::MAX_BODY;
use crate::conf::{Describe, Load, Node, Read, Schema, Schemas};
use crate::engine::ReshapeFailure;
use running::{Running, Values};

/// Longer programs are refused, in bytes.
const MAX_PROGRAM: usize = 1 << 10;
/// The name of the program among its definitions.
const MAIN: &str = "gwanmun_main";

/// A program as it is written, and ready to run.
#[derive(Clone)]
pub struct Program {
    text: Arc<str>,
    filter: Arc<jaq_core::Filter<Values>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.text).finish()
    }
}

impl Describe for Program {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text(r"[\s\S]").examples(["{items: [.products[] | {id, name}]}"])
    }
}

impl Read for Program {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let text = node.text("a jq program", load)?;
        match Self::compile(text) {
            Ok(program) => Some(program),
            Err(faults) => {
                for fault in faults {
                    load.error(&node.part(fault.at), fault.message);
                }
                None
            }
        }
    }
}

/// What is wrong with a program.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// The bytes of the text it is about.
    at: std::ops::Range<usize>,
    message: String,
}

impl Program {
    fn compile(text: &str) -> Result<Self, Vec<Fault>> {
        let whole = |message: String| {
            vec![Fault {
                at: 0..text.len(),
                message,
            }]
        };
        if text.len() > MAX_PROGRAM {
            return Err(whole(format!("a jq program of more than {MAX_PROGRAM} bytes")));
        }
        let term = allowed::parse(text)?;
        let main = Def {
            name: MAIN,
            args: Vec::new(),
            body: running::counted(term),
        };
        let arena = Arena::default();
        let library = allowed::definitions().map(|known| -> Def<&str> { running::counted_definition(known) });
        let definitions = library.chain([main]);
        let file = File { code: MAIN, path: () };
        let modules = Loader::new(definitions)
            .load(&arena, file)
            .map_err(|_| whole("the program cannot be loaded".to_owned()))?;
        let filter = Compiler::default()
            .with_funs(running::functions())
            .compile(modules)
            .map_err(|errors| {
                let errors = errors.into_iter().flat_map(|(_, errors)| errors);
                let faults = errors.map(|(symbol, undefined)| Fault {
                    at: allowed::span(text, symbol),
                    message: format!("`{symbol}` is no {} of the program", undefined.as_str()),
                });
                faults.collect::<Vec<_>>()
            })?;
        Ok(Self {
            text: text.into(),
            filter: Arc::new(filter),
        })
    }

    /// The program as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The one value that the program makes of `text`, which is known to be good JSON.
    pub fn run(&self, text: &str) -> Result<String, ReshapeFailure> {
        let run = AssertUnwindSafe(|| self.run_counted(text, running::STEPS));
        std::panic::catch_unwind(run).unwrap_or(Err(ReshapeFailure::Program))
    }

    fn run_counted(&self, text: &str, steps: u64) -> Result<String, ReshapeFailure> {
        let input = value::read(text)?;
        let left = Cell::new(steps);
        let made = Cell::new(running::TEXT);
        let running = Running {
            lut: &self.filter.lut,
            left: &left,
            text: &made,
            until: Instant::now() + running::TIME,
        };
        let context = Ctx::<Values>::new(running, Vars::new([]));
        let mut outputs = self.filter.id.run((context, input));
        let (Some(Ok(only)), None) = (outputs.next(), outputs.next()) else {
            return Err(ReshapeFailure::Program);
        };
        value::write(&only, MAX_BODY)
    }
}
