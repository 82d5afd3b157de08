//! A claim where it stands: in a text, or in what was read from one.

use serde_json::{Number, Value};

use super::plain;

/// One value, borrowed.
#[derive(Debug, Clone, Copy)]
pub enum Item<'c> {
    /// A text.
    Text(&'c str),
    /// A whole number.
    Whole(u64),
    /// A truth value, or null.
    Word(Option<bool>),
    /// A list as it is written.
    List(&'c str),
    /// An object as it is written.
    Object(&'c str),
    /// Whatever was read before.
    Read(&'c Value),
}

impl<'c> Item<'c> {
    /// The text, where it is one.
    pub fn as_str(self) -> Option<&'c str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Read(value) => value.as_str(),
            _ => None,
        }
    }

    /// The number, where it is one.
    pub fn as_number(self) -> Option<Number> {
        match self {
            Self::Whole(number) => Some(number.into()),
            Self::Read(value) => value.as_number().cloned(),
            _ => None,
        }
    }

    /// What is in it, where it is a list.
    pub fn items(self) -> Option<Vec<Self>> {
        match self {
            Self::List(list) => plain::items(list),
            Self::Read(value) => Some(value.as_array()?.iter().map(Self::Read).collect()),
            _ => None,
        }
    }
}

impl<'c> From<&'c Value> for Item<'c> {
    fn from(value: &'c Value) -> Self {
        Self::Read(value)
    }
}

impl From<Item<'_>> for Value {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => text.into(),
            Item::Whole(number) => number.into(),
            Item::Word(word) => word.into(),
            Item::List(list) => plain::items(list).unwrap_or_default().into_iter().collect(),
            Item::Object(object) => Self::Object(plain::object(object).unwrap_or_default()),
            Item::Read(value) => value.clone(),
        }
    }
}
