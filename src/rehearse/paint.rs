//! Colour, for terminals alone.

use std::io::IsTerminal;

/// Whether to colour.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// For results: only a terminal gets colour, and none that says `NO_COLOR`.
    pub fn for_stdout() -> Self {
        Self(is_wanted() && std::io::stdout().is_terminal())
    }

    /// For errors, likewise.
    pub fn for_stderr() -> Self {
        Self(is_wanted() && std::io::stderr().is_terminal())
    }

    /// None.
    pub fn plain() -> Self {
        Self(false)
    }

    /// Refusals and errors.
    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    /// What is allowed.
    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Warnings.
    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Names.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

fn is_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
