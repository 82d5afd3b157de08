//! The functions that expressions may call, and the two of our own behind them.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelString, DYN_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Env, ExecutionError};
use regex::{Regex, RegexBuilder};

use super::kinds::Kinds;
use super::variable::MAX_ITEMS;

/// Whether `text` matches a compiled pattern: what `matches` becomes. No expression can spell the name.
pub(super) const MATCHES: &str = "@matches";
/// Its argument, unless it is too long to walk: what comprehensions walk becomes.
pub(super) const BOUNDED: &str = "@bounded";
/// Memory of one compiled pattern, in bytes.
const MAX_PATTERN: usize = 256 << 10;

/// A function of the list.
pub(super) struct Function {
    pub name: &'static str,
    /// How it is written.
    pub usage: &'static str,
    /// Whether it stands behind its first argument: `x.f()`.
    pub is_method: bool,
    /// Whether it may be written the other way, too.
    pub is_both: bool,
    /// What its arguments may be, the one before the dot first.
    pub takes: &'static [Kinds],
    /// What comes out.
    pub gives: Kinds,
}

/// Every function an expression may call. `matches`, `timestamp`, `duration`, `inNetwork` and what reads a clock are
/// checked further where they stand.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        is_both: true,
        ..function("size", "size(x)", &[Kinds::SIZED], Kinds::INT)
    },
    method("contains", "text.contains(part)", TWO_TEXTS, Kinds::TRUTH),
    method("startsWith", "text.startsWith(prefix)", TWO_TEXTS, Kinds::TRUTH),
    method("endsWith", "text.endsWith(suffix)", TWO_TEXTS, Kinds::TRUTH),
    Function {
        is_both: true,
        ..method("matches", "text.matches(\"pattern\")", TWO_TEXTS, Kinds::TRUTH)
    },
    function("int", "int(x)", &[Kinds::COUNTED], Kinds::INT),
    function("string", "string(x)", &[Kinds::WRITTEN], Kinds::TEXT),
    function(
        "timestamp",
        "timestamp(\"2026-09-25T23:45:00+09:00\")",
        &[Kinds::DATED],
        Kinds::INSTANT,
    ),
    function("duration", "duration(\"5m\")", &[Kinds::TEXT], Kinds::DURATION),
    function("inNetwork", "inNetwork(ip, \"10.0.0.0/8\")", TWO_TEXTS, Kinds::TRUTH),
    method("getFullYear", "now.getFullYear()", &[Kinds::INSTANT], Kinds::INT),
    method("getMonth", "now.getMonth()", &[Kinds::INSTANT], Kinds::INT),
    method("getDate", "now.getDate()", &[Kinds::INSTANT], Kinds::INT),
    method("getDayOfMonth", "now.getDayOfMonth()", &[Kinds::INSTANT], Kinds::INT),
    method("getDayOfWeek", "now.getDayOfWeek()", &[Kinds::INSTANT], Kinds::INT),
    method("getDayOfYear", "now.getDayOfYear()", &[Kinds::INSTANT], Kinds::INT),
    method("getHours", "now.getHours()", CLOCKED, Kinds::INT),
    method("getMinutes", "now.getMinutes()", CLOCKED, Kinds::INT),
    method("getSeconds", "now.getSeconds()", CLOCKED, Kinds::INT),
    method("getMilliseconds", "now.getMilliseconds()", CLOCKED, Kinds::INT),
];

/// Macros, which only remain in an expression where they are not written so.
pub(super) const MACROS: &[(&str, &str)] = &[
    ("has", "has(claims.name)"),
    ("all", "list.all(item, condition)"),
    ("exists", "list.exists(item, condition)"),
    ("exists_one", "list.exists_one(item, condition)"),
    ("existsOne", "list.existsOne(item, condition)"),
    ("map", "list.map(item, value)"),
    ("filter", "list.filter(item, condition)"),
];

const TWO_TEXTS: &[Kinds] = &[Kinds::TEXT, Kinds::TEXT];
const CLOCKED: &[Kinds] = &[Kinds::TIMED];

const fn function(name: &'static str, usage: &'static str, takes: &'static [Kinds], gives: Kinds) -> Function {
    Function {
        name,
        usage,
        is_method: false,
        is_both: false,
        takes,
        gives,
    }
}

const fn method(name: &'static str, usage: &'static str, takes: &'static [Kinds], gives: Kinds) -> Function {
    Function {
        is_method: true,
        ..function(name, usage, takes, gives)
    }
}

/// What expressions are compiled with.
pub(super) fn parsing() -> Env {
    Env::stdlib().with_optional_support(false)
}

/// What expressions are judged with. Compiled expressions need no macros.
pub(super) static JUDGING: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    // The names are new, and an expression that calls a function which is not there is unknown.
    let _ = env.add_overload(MATCHES, MATCHES, vec![STRING_TYPE, PATTERN_TYPE], matches);
    let _ = env.add_overload(BOUNDED, BOUNDED, vec![DYN_TYPE], bounded);
    Arc::new(env)
});

const PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");
static PATTERN: Type = PATTERN_TYPE;

/// A regular expression, compiled once.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Arc<Regex>);

impl Pattern {
    /// Compiles it. The error is the rest of a sentence.
    pub fn compile(pattern: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(pattern)
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN)
            .nest_limit(32)
            .build();
        match compiled {
            Ok(regex) => Ok(Self(Arc::new(regex))),
            Err(regex::Error::CompiledTooBig(_)) => Err("is too large a pattern".into()),
            Err(error) => {
                // The last of several lines says what is wrong, the others draw where.
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                Err(format!("is not a pattern: {}", reason.trim_start_matches("error: ")))
            }
        }
    }
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    if let [text, pattern] = arguments.as_slice()
        && let (Some(text), Some(pattern)) = (text.downcast_ref::<CelString<'_>>(), pattern.downcast_ref::<Pattern>())
    {
        let found = pattern.0.is_match(text.inner());
        return Ok(CowVal::Borrowed(if found { &CelBool::TRUE } else { &CelBool::FALSE }));
    }
    Err(ExecutionError::missing_argument_or_target())
}

fn bounded<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let walked = arguments.into_iter().next();
    let walked = walked.ok_or_else(ExecutionError::missing_argument_or_target)?;
    let size = walked.as_sizer().map_or(0, |sizer| sizer.size().into_inner());
    match usize::try_from(size) {
        Ok(size) if size <= MAX_ITEMS => Ok(walked),
        _ => Err(ExecutionError::function_error(BOUNDED, "too long")),
    }
}
