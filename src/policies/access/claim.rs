//! What a claim must be. Grammar and meaning stand in [`super::condition`].

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Number, Value as Json};

use crate::conf::{Describe, Load, Node, Read, Schema, Schemas, Value};
use crate::engine::Truth;
use crate::policies::clients::Listed;

/// The test of one claim. All that is said must hold.
#[derive(Debug, Clone)]
pub(super) enum ClaimTest {
    /// Whether the claim must be absent (or must not be).
    Absent(bool),
    /// What its value must be.
    Value {
        /// One of these.
        any_of: Vec<Literal>,
        /// None of these.
        none_of: Vec<Literal>,
        /// All of these comparisons.
        bounds: Vec<(Comparison, Literal)>,
    },
}

crate::words! {
    /// How a number is compared.
    pub(super) enum Comparison {
        /// `>`
        Over = "over",
        /// `>=`
        AtLeast = "at_least",
        /// `<`
        Under = "under",
        /// `<=`
        AtMost = "at_most",
    }
}

crate::settings! {
    /// What a claim must be: all that is said has to hold.
    struct TestSettings {
        /// It is one of these, or a list that contains one of them.
        any_of: Option<Listed<Literal>>,
        /// It is none of these, and no list that contains one of them.
        none_of: Option<Listed<Literal>>,
        /// It is a number greater than this.
        over: Option<Amount>,
        /// It is a number, this or greater.
        at_least: Option<Amount>,
        /// It is a number less than this.
        under: Option<Amount>,
        /// It is a number, this or less.
        at_most: Option<Amount>,
        /// Whether it must be absent (or there); stands alone.
        absent: Option<bool>,
    }
}

impl ClaimTest {
    /// The truth for a claim; `None` is an absent one. A claim that is `null` counts as absent.
    pub fn judge(&self, claim: Option<&Json>) -> Truth {
        let claim = claim.filter(|claim| !claim.is_null());
        match (self, claim) {
            (Self::Absent(absent), claim) => (claim.is_none() == *absent).into(),
            (Self::Value { .. }, None) => Truth::Unknown,
            (
                Self::Value {
                    any_of,
                    none_of,
                    bounds,
                },
                Some(claim),
            ) => {
                let any = any_of.is_empty().into();
                let any = any_of
                    .iter()
                    .fold(any, |any: Truth, literal| any.or(literal.is_in(claim)));
                let none = none_of
                    .iter()
                    .fold(Truth::False, |any, literal| any.or(literal.is_in(claim)));
                let bounded = bounds.iter().fold(Truth::True, |all, (comparison, literal)| {
                    all.and(comparison.judge(claim, literal))
                });
                any.and(!none).and(bounded)
            }
        }
    }

    /// Whether no claim passes, for sure: what it is to be it is not to be, or it is to be beyond both bounds.
    pub fn never_holds(&self) -> bool {
        let Self::Value {
            any_of,
            none_of,
            bounds,
        } = self
        else {
            return false;
        };
        let is_taken_back = |literal: &Literal| none_of.iter().any(|other| other.is_same(literal));
        let number = |literal: &Literal| literal.number.as_ref().and_then(Number::as_f64);
        let clash = |(low, least): &(Comparison, Literal)| {
            let is_strict = matches!(low, Comparison::Over);
            let is_low = is_strict || matches!(low, Comparison::AtLeast);
            let mut highs = bounds.iter().filter(|_| is_low);
            highs.any(|(high, most)| match (high, number(least), number(most)) {
                (Comparison::Under, Some(least), Some(most)) => least >= most,
                (Comparison::AtMost, Some(least), Some(most)) if is_strict => least >= most,
                (Comparison::AtMost, Some(least), Some(most)) => least > most,
                _ => false,
            })
        };
        !any_of.is_empty() && any_of.iter().all(is_taken_back) || bounds.iter().any(clash)
    }

    /// The values that claims are compared to, as tokens carry them.
    pub fn values(&self) -> Vec<Json> {
        match self {
            Self::Absent(_) => Vec::new(),
            Self::Value {
                any_of,
                none_of,
                bounds,
            } => {
                let listed = any_of.iter().chain(none_of).flat_map(Literal::values);
                let compared = bounds.iter().filter_map(|(_, literal)| literal.number.clone());
                listed.chain(compared.map(Json::Number)).collect()
            }
        }
    }
}

impl Describe for ClaimTest {
    fn schema(schemas: &mut Schemas) -> Schema {
        let test = TestSettings::schema(schemas);
        schemas.refine::<TestSettings>(|test| test.with("minProperties", 1));
        Schema::any_of([Listed::<Literal>::schema(schemas), test])
    }
}

impl Read for ClaimTest {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            return Some(Self::Value {
                any_of: Listed::read(node, load)?.0,
                none_of: Vec::new(),
                bounds: Vec::new(),
            });
        }
        let settings = TestSettings::read(node, load)?;
        let bounds = [
            (Comparison::Over, settings.over),
            (Comparison::AtLeast, settings.at_least),
            (Comparison::Under, settings.under),
            (Comparison::AtMost, settings.at_most),
        ];
        let bounds: Vec<(Comparison, Literal)> = bounds
            .into_iter()
            .filter_map(|(comparison, amount)| Some((comparison, amount?.0)))
            .collect();
        let any_of = settings.any_of.map_or_else(Vec::new, |listed| listed.0);
        let none_of = settings.none_of.map_or_else(Vec::new, |listed| listed.0);
        let says_value = !(any_of.is_empty() && none_of.is_empty() && bounds.is_empty());
        match (settings.absent, says_value) {
            (Some(absent), false) => Some(Self::Absent(absent)),
            (None, true) => Some(Self::Value {
                any_of,
                none_of,
                bounds,
            }),
            (Some(_), true) => {
                load.error(
                    &node.place,
                    "`absent` stands alone: an absent claim has no value to test",
                );
                None
            }
            (None, false) => {
                let is_empty = node.entries(load).is_some_and(<[_]>::is_empty);
                if is_empty {
                    load.error(&node.place, "an empty test: say what the claim must be");
                }
                None
            }
        }
    }
}

impl fmt::Display for ClaimTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(true) => f.write_str("is absent"),
            Self::Absent(false) => f.write_str("is there"),
            Self::Value {
                any_of,
                none_of,
                bounds,
            } => {
                let mut parts = Vec::new();
                for (word, listed) in [("is", any_of), ("is not", none_of)] {
                    if !listed.is_empty() {
                        let texts: Vec<&str> = listed.iter().map(|literal| &*literal.text).collect();
                        parts.push(format!("{word} {}", texts.join(" or ")));
                    }
                }
                let bounds = bounds.iter().map(|(comparison, literal)| {
                    format!("is {} {}", comparison.word().replace('_', " "), literal.text)
                });
                parts.extend(bounds);
                f.write_str(&parts.join(", "))
            }
        }
    }
}

/// A value as written. Quoted, it is text and equals only text; plain, the claim's own type says what it means: `5` equals
/// the number 5 and the text "5", `true` the truth value and the text.
#[derive(Debug, Clone)]
pub(super) struct Literal {
    text: Box<str>,
    number: Option<Number>,
    truth: Option<bool>,
}

impl Literal {
    fn new(text: &str, plain: bool) -> Self {
        Self {
            text: text.into(),
            number: serde_json::from_str(text).ok().filter(|_| plain),
            truth: text.parse().ok().filter(|_| plain),
        }
    }

    /// Whether it equals the same as the other.
    fn is_same(&self, other: &Self) -> bool {
        (&self.text, &self.number, self.truth) == (&other.text, &other.number, other.truth)
    }

    /// All that it equals.
    fn values(&self) -> impl Iterator<Item = Json> {
        let number = self.number.clone().map(Json::Number);
        let text = Json::String(self.text.to_string());
        number.into_iter().chain(self.truth.map(Json::Bool)).chain([text])
    }

    /// Whether the claim is this value, or a list that contains it. Unknown for objects and null.
    fn is_in(&self, claim: &Json) -> Truth {
        match claim {
            Json::Array(items) => items.iter().fold(Truth::False, |any, item| any.or(self.is(item))),
            other => self.is(other),
        }
    }

    fn is(&self, value: &Json) -> Truth {
        match value {
            Json::String(text) => (**text == *self.text).into(),
            Json::Bool(value) => (self.truth == Some(*value)).into(),
            Json::Number(number) => {
                let order = self.number.as_ref().and_then(|own| compare(number, own));
                (order == Some(Ordering::Equal)).into()
            }
            Json::Null | Json::Array(_) | Json::Object(_) => Truth::Unknown,
        }
    }
}

impl Describe for Literal {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar()
    }
}

impl Read for Literal {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let text = node.text("a text, a number, `true` or `false`", load)?;
        let plain = matches!(node.value, Value::Scalar { plain: true, .. });
        Some(Self::new(text, plain))
    }
}

/// A number to compare with.
#[derive(Debug, Clone)]
struct Amount(Literal);

impl Describe for Amount {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::anything()
            .with("type", serde_json::json!(["number", "string"]))
            .with("pattern", r"^\s*-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*$")
    }
}

impl Read for Amount {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("a number", load, |text| {
            let literal = Literal::new(text, true);
            match literal.number {
                Some(_) => Ok(Self(literal)),
                None => Err("is not a number such as `18` or `0.5`".into()),
            }
        })
    }
}

impl Comparison {
    /// Unknown where the claim is no number.
    fn judge(self, claim: &Json, literal: &Literal) -> Truth {
        let (Json::Number(claim), Some(own)) = (claim, &literal.number) else {
            return Truth::Unknown;
        };
        let Some(order) = compare(claim, own) else {
            return Truth::Unknown;
        };
        match self {
            Self::Over => order.is_gt(),
            Self::AtLeast => order.is_ge(),
            Self::Under => order.is_lt(),
            Self::AtMost => order.is_le(),
        }
        .into()
    }
}

/// Whole numbers compare exactly, others as floating point.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use Truth::{False, True, Unknown};
    use serde_json::json;

    fn test(yaml: &str) -> ClaimTest {
        let load = Load::new();
        let node = load.text("t.yaml", &format!("c: {yaml}\n")).unwrap();
        ClaimTest::read(node.get("c").unwrap(), &load).unwrap()
    }

    fn refused(yaml: &str) -> String {
        let load = Load::new();
        let node = load.text("t.yaml", &format!("c: {yaml}\n")).unwrap();
        ClaimTest::read(node.get("c").unwrap(), &load);
        assert!(load.has_errors(), "{yaml}");
        load.into_findings(None).first().unwrap().to_string()
    }

    #[test]
    fn compares_a_plain_value_by_the_type_of_the_claim() {
        for (yaml, claim, expected) in [
            ("gold", json!("gold"), True),
            ("gold", json!("silver"), False),
            ("gold", json!(["silver", "gold"]), True),
            ("gold", json!([]), False),
            ("gold", json!(1), False),
            ("gold", json!({"a": 1}), Unknown),
            ("gold", json!([{"a": 1}]), Unknown),
            ("gold", json!(["gold", {"a": 1}]), True),
            ("gold", json!(null), Unknown),
            ("5", json!(5), True),
            ("5", json!(5.0), True),
            ("5", json!("5"), True),
            ("'5'", json!(5), False),
            ("'5'", json!("5"), True),
            ("0042", json!("0042"), True),
            ("0042", json!(42), False),
            ("true", json!(true), True),
            ("true", json!(false), False),
            ("'true'", json!(true), False),
            ("yes", json!(true), False),
            ("[gold, silver]", json!("silver"), True),
            ("[gold, silver]", json!("bronze"), False),
        ] {
            assert_eq!(test(yaml).judge(Some(&claim)), expected, "{yaml} {claim}");
        }
    }

    #[test]
    fn compares_numbers_exactly_where_they_are_whole() {
        for (yaml, claim, expected) in [
            ("{ over: 18 }", json!(18), False),
            ("{ at_least: 18 }", json!(18), True),
            ("{ under: 0.5 }", json!(0.25), True),
            ("{ at_most: -1 }", json!(0), False),
            ("{ over: 9007199254740992 }", json!(9_007_199_254_740_993_u64), True),
            ("{ at_least: 1, under: 3 }", json!(2), True),
            ("{ at_least: 1, under: 3 }", json!(3), False),
            ("{ over: 1 }", json!("2"), Unknown),
            ("{ over: 1 }", json!([2]), Unknown),
            ("{ any_of: [a, b], none_of: [c] }", json!(["a", "c"]), False),
            ("{ any_of: [a, b], none_of: [c] }", json!(["a"]), True),
            ("{ none_of: [c] }", json!({}), Unknown),
        ] {
            assert_eq!(test(yaml).judge(Some(&claim)), expected, "{yaml} {claim}");
        }
    }

    #[test]
    fn knows_nothing_of_an_absent_claim_but_that_it_is_absent() {
        for yaml in ["gold", "{ none_of: [gold] }", "{ over: 1 }"] {
            assert_eq!(test(yaml).judge(None), Unknown, "{yaml}");
        }
        assert_eq!(test("{ absent: true }").judge(None), True);
        assert_eq!(test("{ absent: true }").judge(Some(&json!(null))), True);
        assert_eq!(test("{ absent: true }").judge(Some(&json!(0))), False);
        assert_eq!(test("{ absent: false }").judge(None), False);
    }

    #[test]
    fn knows_which_tests_nothing_passes() {
        for (yaml, never) in [
            ("{ over: 10, under: 5 }", true),
            ("{ over: 5, under: 5 }", true),
            ("{ over: 5, at_most: 5 }", true),
            ("{ at_least: 5, at_most: 5 }", false),
            ("{ at_least: 5, under: 5 }", true),
            ("{ over: 5, under: 6 }", false),
            ("{ any_of: [a], none_of: [a] }", true),
            ("{ any_of: [a, b], none_of: [a] }", false),
            ("{ any_of: 5, none_of: '5' }", false),
            ("{ none_of: [a] }", false),
            ("{ absent: true }", false),
        ] {
            assert_eq!(test(yaml).never_holds(), never, "{yaml}");
        }
    }

    #[test]
    fn points_at_tests_that_say_nothing() {
        assert_eq!(refused("{}"), "t.yaml:1:4: an empty test: say what the claim must be");
        assert_eq!(refused("[]"), "t.yaml:1:4: an empty list matches nothing");
        assert_eq!(
            refused("{ over: x }"),
            "t.yaml:1:12: `x` is not a number such as `18` or `0.5`"
        );
        assert_eq!(
            refused("{ ovr: 1 }"),
            "t.yaml:1:6: unknown key `ovr`, did you mean `over`?"
        );
        assert!(refused("{ absent: true, over: 1 }").contains("stands alone"));
        assert_eq!(
            refused("[[a]]"),
            "t.yaml:1:5: expected a text, a number, `true` or `false`, found a list"
        );
        assert!(refused("{ over: 1, any_of: [] }").contains("empty list"));
    }
}
