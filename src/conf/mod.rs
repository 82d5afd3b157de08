//! YAML text → nodes that know file, line and column → settings. Names no feature.
//!
//! A [`Load`] is the context of one reading: it collects every finding (not the first) and remembers which
//! files were read, so that they can be hashed and watched. Settings types are declared with [`settings!`] and
//! [`words!`]; both report unknown keys and words with the nearest valid spelling. Whatever is read also
//! [describes](Describe) itself, which makes the JSON Schema that editors use.
//!
//! [`settings!`]: crate::settings
//! [`words!`]: crate::words

mod excerpt;
mod load;
mod merge;
mod names;
mod pair;
mod pem;
mod place;
mod read;
mod schema;
mod secret;
mod settings;
mod units;
mod within;
mod yaml;

pub use excerpt::Excerpt;
pub use load::{Finding, Load, Severity, one_line};
pub use merge::{Sections, mend, mend_as, merge};
pub use names::Names;
pub use pair::Pair;
pub use pem::{Certificates, KeyFault, PrivateKey};
pub use place::{Place, Source};
pub(crate) use read::TOKEN;
pub use read::{
    Entry, Fields, Named, Node, OneOrMany, Read, Spanned, Value, nearest, parse_method, parse_network, read_word,
};
pub use schema::{Describe, Key, Schema, Schemas};
pub use secret::{Secret, SecretsMark};
/// JSON, as schemas are made of.
pub use serde_json::Value as Json;
pub use units::{ByteSize, Instant, Percent, Rate};
