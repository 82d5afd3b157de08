//! Kleene's three values: what cannot be known is *unknown*, and the rules say against whom it counts.

/// True, false or unknown. Ordered so that AND is the minimum and OR the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// It is not so.
    False,
    /// It cannot be known.
    Unknown,
    /// It is so.
    True,
}

impl Truth {
    /// False wins over unknown.
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// True wins over unknown.
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// The lower-case word.
    pub fn word(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::Unknown => "unknown",
            Self::True => "true",
        }
    }
}

/// Unknown stays unknown.
impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}
