//! Declaring settings once: the struct, its reader, and what `check` says about a wrong key.

/// Declares a settings struct read from a YAML map. Fields without `= default` are required, unless their type has a
/// value for absence (`Option`, `Named`). `r#match` is read from the key `match`.
///
/// ```
/// gwanmun::settings! {
///     /// When and how often an endpoint is asked whether it is well.
///     pub struct Health {
///         /// The path to ask.
///         pub path: String,
///         /// How often.
///         pub every: std::time::Duration = std::time::Duration::from_secs(5),
///     }
/// }
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        impl $crate::conf::Read for $name {
            fn read(node: &$crate::conf::Node, load: &$crate::conf::Load) -> Option<Self> {
                let known = [$( stringify!($field).trim_start_matches("r#") ),*];
                let node = &*$crate::conf::mend(node, &known, load);
                let mut fields = $crate::conf::Fields::of(node, load)?;
                $(
                    let default: Option<fn() -> $type> = None$(.or(Some(|| $default)))?;
                    let $field = fields.take(stringify!($field).trim_start_matches("r#"), default);
                )*
                fields.finish();
                Some(Self { $( $field: $field?, )* })
            }
        }
    };
}

/// Declares an enum read from one of a closed list of words.
///
/// ```
/// gwanmun::words! {
///     /// Who gets the next request.
///     pub enum Balance {
///         /// One after the other.
///         RoundRobin = "round_robin",
///     }
/// }
/// ```
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// The word as it is written.
            pub fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl $crate::conf::Read for $name {
            fn read(node: &$crate::conf::Node, load: &$crate::conf::Load) -> Option<Self> {
                $crate::conf::read_word(node, load, &[$( ($word, Self::$variant), )*])
            }
        }
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use crate::conf::{Load, Read};

    crate::words! {
        enum Colour { Red = "red", Green = "green" }
    }

    crate::settings! {
        struct Sample {
            r#match: String,
            colour: Colour = Colour::Red,
            wait: Option<Duration>,
        }
    }

    #[test]
    fn reports_every_mistake_in_one_run() {
        let load = Load::new();
        let node = load.text("t.yaml", "mach: /\ncolour: gren\nwait: 5\nzzz: 1\n").unwrap();
        assert!(Sample::read(&node, &load).is_none());
        let found: Vec<String> = load
            .into_findings(Some(&node))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "t.yaml:1:1: unknown key `mach`, did you mean `match`? (at `mach`)",
                "t.yaml:2:9: unknown word `gren`, did you mean `green`? (at `colour`)",
                "t.yaml:3:7: `5` has no unit; write `5s` or `5ms` (at `wait`)",
                "t.yaml:4:1: unknown key `zzz`, expected one of `match`, `colour`, `wait` (at `zzz`)",
            ]
        );
    }

    #[test]
    fn fills_in_defaults() {
        let load = Load::new();
        let node = load.text("t.yaml", "match: /").unwrap();
        let sample = Sample::read(&node, &load).unwrap();
        assert_eq!(
            (sample.r#match.as_str(), sample.colour.word(), sample.wait),
            ("/", "red", None)
        );
    }
}
