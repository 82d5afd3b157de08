//! What a value may be, as far as that is known before there is a request.

/// The kinds a value may be of, and those that its items may be of where it is a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds {
    own: u16,
    items: u16,
}

const TRUTH: u16 = 1;
const INT: u16 = 1 << 1;
const UINT: u16 = 1 << 2;
const DOUBLE: u16 = 1 << 3;
const TEXT: u16 = 1 << 4;
const LIST: u16 = 1 << 5;
const MAP: u16 = 1 << 6;
const NULL: u16 = 1 << 7;
const INSTANT: u16 = 1 << 8;
const DURATION: u16 = 1 << 9;

const NUMBER: u16 = INT | UINT | DOUBLE;
/// What JSON can hold. Claims are JSON, so no claim is an instant or a duration.
const JSON: u16 = TRUTH | NUMBER | TEXT | LIST | MAP | NULL;
const EVERYTHING: u16 = JSON | INSTANT | DURATION;

impl Kinds {
    pub const TRUTH: Self = Self::one(TRUTH);
    pub const INT: Self = Self::one(INT);
    pub const UINT: Self = Self::one(UINT);
    pub const DOUBLE: Self = Self::one(DOUBLE);
    pub const NUMBER: Self = Self::one(NUMBER);
    pub const TEXT: Self = Self::one(TEXT);
    pub const INSTANT: Self = Self::one(INSTANT);
    pub const DURATION: Self = Self::one(DURATION);
    /// Lists and maps, which comprehensions walk.
    pub const WALKED: Self = Self {
        own: LIST | MAP,
        items: EVERYTHING,
    };
    /// What has members by name.
    pub const MAP: Self = Self::one(MAP);
    /// What has a size.
    pub const SIZED: Self = Self {
        own: TEXT | LIST | MAP,
        items: EVERYTHING,
    };
    /// What has hours and minutes.
    pub const TIMED: Self = Self::one(INSTANT | DURATION);
    /// What an instant is made from.
    pub const DATED: Self = Self::one(INT | TEXT);
    /// What can be written as text.
    pub const WRITTEN: Self = Self::one(TRUTH | NUMBER | TEXT);
    /// What can be read as a whole number.
    pub const COUNTED: Self = Self::one(NUMBER | TEXT | INSTANT);
    /// A member of a claim.
    pub const JSON: Self = Self { own: JSON, items: JSON };
    /// The items of an empty list.
    pub const NOTHING: Self = Self { own: 0, items: 0 };
    /// What nothing is known of.
    pub const EVERYTHING: Self = Self {
        own: EVERYTHING,
        items: EVERYTHING,
    };

    const fn one(own: u16) -> Self {
        Self { own, items: 0 }
    }

    /// A list of such items.
    pub const fn list_of(items: Self) -> Self {
        Self {
            own: LIST,
            items: items.own,
        }
    }

    /// What a claim may be. Registered claims are what their specification says: RFC 7519 §4.1, RFC 8693 §4, RFC 9068 §2.2,
    /// OpenID Connect Core §2 and §5.1; where issuers are known to differ from it, what they send, too. Others may be any
    /// JSON but `null`, which counts as absent.
    pub fn of_claim(path: &str) -> Self {
        let texts = Self::list_of(Self::TEXT);
        match path {
            "iss" | "sub" | "jti" | "client_id" | "azp" | "acr" | "sid" | "nonce" | "at_hash" | "name" | "email"
            | "given_name" | "family_name" | "middle_name" | "nickname" | "preferred_username" | "profile"
            | "picture" | "website" | "gender" | "birthdate" | "zoneinfo" | "locale" | "phone_number" => Self::TEXT,
            "exp" | "nbf" | "iat" | "auth_time" | "updated_at" => Self::NUMBER,
            "aud" | "scope" | "scp" | "roles" | "groups" => Self::TEXT.or(texts),
            "amr" => texts,
            "email_verified" | "phone_number_verified" => Self::TRUTH.or(Self::TEXT),
            _ => Self {
                own: JSON & !NULL,
                items: JSON,
            },
        }
    }

    /// Either of the two.
    pub fn or(self, other: Self) -> Self {
        Self {
            own: self.own | other.own,
            items: self.items | other.items,
        }
    }

    /// The kinds of the items, or of the keys of a map.
    pub fn items(self) -> Self {
        let keys = if self.own & MAP == 0 { 0 } else { TEXT };
        let items = if self.own & LIST == 0 { 0 } else { self.items };
        Self {
            own: items | keys,
            items: EVERYTHING,
        }
    }

    /// Whether it may be of one of those kinds.
    pub fn may_be(self, other: Self) -> bool {
        self.own & other.own != 0
    }

    /// Whether a value of these kinds may equal one of the others. Numbers of all kinds compare.
    pub fn may_equal(self, other: Self) -> bool {
        let common = self.comparable() & other.comparable();
        match common {
            0 => false,
            LIST => self.items == 0 || other.items == 0 || self.items().may_equal(other.items()),
            _ => true,
        }
    }

    /// Whether the two may have an order.
    pub fn may_be_ordered(self, other: Self) -> bool {
        let ordered = TRUTH | NUMBER | TEXT | INSTANT | DURATION;
        self.comparable() & other.comparable() & ordered != 0
    }

    /// Whether it may be in `list`, or a key of it.
    pub fn may_be_in(self, list: Self) -> bool {
        list.own & LIST != 0 && list.items == 0 || self.may_equal(list.items())
    }

    /// What the arithmetic of `operator` comes to; `None` where it cannot be applied to the two.
    pub fn arithmetic(self, operator: &str, other: Self) -> Option<Self> {
        // Numbers calculate with their own kind alone.
        let mut own = self.own & other.own & NUMBER;
        if operator == "%" {
            own &= !DOUBLE;
        }
        let both = |left: u16, right: u16| self.own & left != 0 && other.own & right != 0;
        let mut add = |applies: bool, result: u16| own |= if applies { result } else { 0 };
        match operator {
            "+" => {
                add(both(TEXT, TEXT), TEXT);
                add(both(LIST, LIST), LIST);
                add(both(INSTANT, DURATION) || both(DURATION, INSTANT), INSTANT);
                add(both(DURATION, DURATION), DURATION);
            }
            "-" => {
                add(both(INSTANT, DURATION), INSTANT);
                add(both(INSTANT, INSTANT) || both(DURATION, DURATION), DURATION);
            }
            _ => {}
        }
        (own != 0).then_some(Self {
            own,
            items: self.items | other.items,
        })
    }

    /// What its negative is; `None` where it has none.
    pub fn negated(self) -> Option<Self> {
        let own = self.own & (INT | DOUBLE | DURATION);
        (own != 0).then_some(Self::one(own))
    }

    /// In words: `a text or a list`.
    pub fn words(self) -> String {
        let mut words: Vec<&str> = [
            (TRUTH, "`true` or `false`"),
            (NUMBER, "a number"),
            (TEXT, "a text"),
            (LIST, "a list"),
            (MAP, "a map"),
            (INSTANT, "an instant"),
            (DURATION, "a duration"),
        ]
        .into_iter()
        .filter(|(kind, _)| self.own & kind != 0)
        .map(|(_, words)| words)
        .collect();
        match (words.pop(), words.is_empty()) {
            (None, _) => "nothing".into(),
            (Some(last), true) => last.into(),
            (Some(last), false) => format!("{} or {last}", words.join(", ")),
        }
    }

    fn comparable(self) -> u16 {
        match self.own & NUMBER {
            0 => self.own,
            _ => self.own | NUMBER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_can_never_be_equal() {
        assert!(!Kinds::of_claim("sub").may_equal(Kinds::INT));
        assert!(Kinds::of_claim("exp").may_equal(Kinds::UINT));
        assert!(!Kinds::of_claim("exp").may_equal(Kinds::INSTANT));
        assert!(Kinds::of_claim("tier").may_equal(Kinds::INT));
        assert!(!Kinds::of_claim("tier").may_equal(Kinds::DURATION));
        assert!(Kinds::of_claim("aud").may_equal(Kinds::TEXT));
        assert!(!Kinds::of_claim("amr").may_equal(Kinds::TEXT));
        assert!(!Kinds::of_claim("amr").may_equal(Kinds::list_of(Kinds::INT)));
        assert!(Kinds::TEXT.may_be_in(Kinds::of_claim("roles")));
        assert!(!Kinds::INT.may_be_in(Kinds::of_claim("roles")));
    }

    #[test]
    fn knows_what_arithmetic_comes_to() {
        assert_eq!(Kinds::INSTANT.arithmetic("-", Kinds::INSTANT), Some(Kinds::DURATION));
        assert_eq!(Kinds::TEXT.arithmetic("-", Kinds::TEXT), None);
        assert_eq!(Kinds::INT.arithmetic("+", Kinds::DOUBLE), None);
        assert_eq!(Kinds::DOUBLE.arithmetic("%", Kinds::DOUBLE), None);
        assert_eq!(Kinds::NUMBER.arithmetic("*", Kinds::INT), Some(Kinds::INT));
        assert_eq!(Kinds::of_claim("exp").words(), "a number");
        assert_eq!(Kinds::of_claim("aud").words(), "a text or a list");
    }
}
