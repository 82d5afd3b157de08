//! Texts that are made to be long, deep or costly, and texts of any kind.

use proptest::prelude::*;

use super::*;

#[test]
fn bounds_length_depth_and_work() {
    let long = format!("claims.sub == '{}'", "x".repeat(1024));
    assert!(mistakes(&long)[0].contains("an expression of 1040 bytes: at most 1024"));
    assert_eq!(mistakes(&format!("claims.sub == '{}'", "x".repeat(1008))), [""; 0]);
    let chain = |count: usize| format!("{}1 == 1", "1 + ".repeat(count));
    assert!(mistakes(&chain(30))[0].contains("nested deeper than 24 levels"));
    assert_eq!(mistakes(&chain(20)), [""; 0]);
    let three = "claims.a.all(x, x.b.all(y, y.c.all(z, z == 1)))";
    assert!(
        mistakes(three)
            .concat()
            .contains("a loop inside a loop inside a loop: at most 2")
    );
    assert_eq!(mistakes("claims.a.all(x, x.b.all(y, y.c == 1))"), [""; 0]);
    let heavy = "claims.a.all(x, claims.b.all(y, x + y + x + y + x + y + x + y == x + y + x))";
    assert!(mistakes(heavy)[0].contains("too much work"));
    let many = format!("[{}].exists(x, x == 1)", vec!["1"; 200].join(","));
    assert!(mistakes(&many)[0].contains("at most 100 items"));
    let asked = Asked::with(json!({"long": vec![1; 101], "fits": vec![1; 100], "nested": [vec![1; 101]]}));
    assert_eq!(asked.judge("claims.long.exists(x, x == 1)"), Unknown);
    assert_eq!(asked.judge("claims.fits.exists(x, x == 1)"), True);
    assert_eq!(asked.judge("claims.nested[0].exists(x, x == 1)"), Unknown);
    assert_eq!(asked.judge("(claims.fits + claims.fits).exists(x, x == 1)"), Unknown);
    let why = asked.why("(claims.fits + claims.fits).exists(x, x == 1)");
    assert_eq!(why, "a list has more than 100 items");
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(Asked::with(json!({"deep": deep})).judge("claims.deep == [1]"), Unknown);
    let wide = json!({"wide": vec![vec![0; 100]; 100]});
    assert_eq!(Asked::with(wide).judge("size(claims.wide) == 100"), Unknown);
}

/// Texts of a kilobyte that nest as deep as they can, whatever comes of them.
fn deepest() -> Vec<String> {
    let fill = |piece: &str, tail: &str| {
        let mut text = piece.repeat((1024 - tail.len()) / piece.len());
        text.push_str(tail);
        text
    };
    let shapes = [
        ("1+", "1==1"),
        ("a==", "a"),
        ("!", "true"),
        ("-", "1==1"),
        ("(", ""),
        ("[", ""),
        ("f(", ""),
        ("{1:", ""),
        ("a.all(x,", ""),
        ("a?b:", "b"),
        ("a&&", "a"),
        ("claims.", "a"),
        ("'", ""),
        (".", ""),
        ("a[0]", ""),
        ("claims.a.map(x,", "x"),
        ("true?true:", "true"),
        ("!(", ""),
        ("size(", ""),
        ("-(", ""),
        ("\u{0}", ""),
    ];
    let mut texts: Vec<String> = shapes.into_iter().map(|(piece, tail)| fill(piece, tail)).collect();
    texts.push(format!("claims{}", ".a".repeat(500)));
    texts.push(format!("claims.a{} == 1", "[0]".repeat(330)));
    texts.push(format!("{}true{}", "(".repeat(500), ")".repeat(500)));
    texts.push(format!("claims{} == 1", ".f()".repeat(250)));
    // As deep as is allowed.
    texts.push(format!("{}claims.a{} == 1", "-(".repeat(18), ")".repeat(18)));
    texts.push(format!("{}1 == 1", "1 + ".repeat(21)));
    texts
}

#[test]
fn survives_the_deepest_text_on_the_stack_of_a_worker() {
    let worker = thread::Builder::new().stack_size(2 << 20);
    let judged = worker.spawn(|| {
        let mut judged = 0;
        for text in deepest() {
            if let Ok(checked) = compile(&text, &Clients::default(), &TimeZone::UTC) {
                let expression = Expression {
                    text: text.into(),
                    root: checked.root,
                    variables: checked.variables,
                    params: Vec::new(),
                    clients: Vec::new(),
                };
                expression.for_strangers();
                Asked::plain().facts(|facts| expression.judge(facts));
                judged += 1;
            }
        }
        judged
    });
    assert!(judged.unwrap().join().unwrap() >= 4);
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(|number| serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number)),
        "[a-c0-9]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// Expressions of the grammar, most of which make sense for some claims.
fn any_expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("claims.a".to_owned()),
        Just("claims.b.c".to_owned()),
        Just("query.a".to_owned()),
        Just("path.customer".to_owned()),
        Just("now".to_owned()),
        Just("ip".to_owned()),
        Just("has(claims.a)".to_owned()),
        Just("['a', claims.c]".to_owned()),
        Just("duration('1h')".to_owned()),
        (-3..3_i32).prop_map(|number| number.to_string()),
        Just("0.5".to_owned()),
        Just("'a'".to_owned()),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = ["==", "!=", "<", ">=", "&&", "||", "in", "+", "-", "*", "/", "%"];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone())
                .prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
            inner.clone().prop_map(|inner| format!("!{inner}")),
            inner.clone().prop_map(|inner| format!("size({inner})")),
            inner
                .clone()
                .prop_map(|inner| format!("string({inner}).startsWith('a')")),
            inner.clone().prop_map(|inner| format!("int({inner})")),
            (inner.clone(), inner.clone()).prop_map(|(list, body)| format!("{list}.exists(x, x == {body})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn judges_whatever_compiles_the_same_every_time(text in any_expression(), claims in any_json()) {
        let checked = compile(&text, &Clients::default(), &TimeZone::UTC);
        if let Ok(checked) = checked {
            let expression = Expression {
                text: text.into(),
                root: checked.root,
                variables: checked.variables,
                params: Vec::new(),
                clients: Vec::new(),
            };
            let asked = Asked::with(json!({"a": claims, "b": {"c": claims}, "c": "a"}));
            let judged = asked.facts(|facts| (expression.judge(facts), expression.judge(facts), expression.why(facts)));
            prop_assert_eq!(judged.0, judged.1);
            prop_assert_eq!(judged.0 == Unknown, judged.2.is_some());
            let stranger = Asked { claims: None, ..Asked::plain() };
            let (truth, bounds) = (stranger.facts(|facts| expression.judge(facts)), expression.for_strangers());
            prop_assert!(bounds.least <= truth && truth <= bounds.most, "{:?}", truth);
        }
    }

    #[test]
    fn reads_any_text_without_a_panic(text in "\\PC{0,80}") {
        let _ = compile(&text, &Clients::default(), &TimeZone::UTC);
    }
}
