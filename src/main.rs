//! The `gwanmun` command.
fn main() {}
