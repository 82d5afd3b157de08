//! Declaring settings once: the struct, its reader, and what `check` says about a wrong key.

/// Declares a settings struct read from a YAML map. Fields without `= default` are required, unless their type has a
/// value for absence (`Option`, `Named`). `r#match` is read from the key `match`. The doc comments are what editors show.
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
///
/// A field that is read later, with more at hand than its text, says what is to stand there: `deny: Node as Condition`.
#[macro_export]
macro_rules! settings {
    (
        $(#[$($meta:tt)*])*
        $vis:vis struct $name:ident {
            $( $(#[$($field_meta:tt)*])* $field_vis:vis $field:ident : $type:ty $(as $described:ty)? $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$($meta)*])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $( $(#[$($field_meta)*])* $field_vis $field: $type, )*
        }

        impl $crate::conf::Read for $name {
            fn read(node: &$crate::conf::Node, load: &$crate::conf::Load) -> Option<Self> {
                let known = [$( stringify!($field).trim_start_matches("r#") ),*];
                let node = &*$crate::conf::mend_as::<Self>(node, &known, load);
                let mut fields = $crate::conf::Fields::of(node, load)?;
                $(
                    let default: Option<fn() -> $type> = None$(.or(Some(|| $default)))?;
                    let $field = fields.take(stringify!($field).trim_start_matches("r#"), default);
                )*
                fields.finish();
                Some(Self { $( $field: $field?, )* })
            }
        }

        impl $crate::conf::Describe for $name {
            fn schema(schemas: &mut $crate::conf::Schemas) -> $crate::conf::Schema {
                schemas.named::<Self>(stringify!($name), |schemas| {
                    let keys = [ $( {
                        let default: Option<$type> = None$(.or(Some($default)))?;
                        let may_be_absent = default.is_some() || <$type as $crate::conf::Read>::absent().is_some();
                        let about = concat!($( $crate::doc_line!($($field_meta)*), "\n" ),*);
                        let name = stringify!($field).trim_start_matches("r#");
                        $crate::conf::Key::new::<$crate::described!($type $(, $described)?)>(schemas, name, about)
                            .required(!may_be_absent)
                            .default(default.and_then(|default| $crate::conf::Describe::written(&default)))
                    } ),* ];
                    $crate::conf::Schema::map(keys).about(concat!($( $crate::doc_line!($($meta)*), "\n" ),*))
                })
            }

            fn written(&self) -> Option<$crate::conf::Json> {
                let fields = [ $( (
                    stringify!($field).trim_start_matches("r#").to_owned(),
                    $crate::conf::Describe::written(&self.$field),
                ) ),* ];
                let written = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
                Some($crate::conf::Json::Object(written.collect()))
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
        $(#[$($meta:tt)*])*
        $vis:vis enum $name:ident { $( $(#[$($variant_meta:tt)*])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$($meta)*])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $( $(#[$($variant_meta)*])* $variant, )*
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

        impl $crate::conf::Describe for $name {
            fn schema(schemas: &mut $crate::conf::Schemas) -> $crate::conf::Schema {
                schemas.named::<Self>(stringify!($name), |_| {
                    let words = [ $( ($word, concat!($( $crate::doc_line!($($variant_meta)*), "\n" ),*)) ),* ];
                    $crate::conf::Schema::words(&words).about(concat!($( $crate::doc_line!($($meta)*), "\n" ),*))
                })
            }

            fn written(&self) -> Option<$crate::conf::Json> {
                Some(self.word().into())
            }
        }
    };
}

/// The text of a doc comment; nothing for any other attribute.
#[doc(hidden)]
#[macro_export]
macro_rules! doc_line {
    (doc = $text:literal) => {
        $text
    };
    ($($other:tt)*) => {
        ""
    };
}

/// The type that a field is described by.
#[doc(hidden)]
#[macro_export]
macro_rules! described {
    ($type:ty) => {
        $type
    };
    ($type:ty, $described:ty) => {
        $described
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
