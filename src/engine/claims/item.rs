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

    /// Calls `each` for what is in it, where it is a list; `None` where it is none.
    pub fn each(self, mut each: impl FnMut(Self)) -> Option<()> {
        match self {
            Self::List(list) => plain::items(list, each),
            Self::Read(value) => {
                value.as_array()?.iter().for_each(|item| each(Self::Read(item)));
                Some(())
            }
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
            Item::List(_) => {
                let mut items = Vec::new();
                // It was read before: all of it can be.
                item.each(|item| items.push(item.into()));
                Self::Array(items)
            }
            Item::Object(object) => Self::Object(plain::object(object).unwrap_or_default()),
            Item::Read(value) => value.clone(),
        }
    }
}
