//! What an expression comes to for callers who are not known.

use super::*;

#[test]
fn knows_what_keeps_out_whoever_is_not_known() {
    for (text, most) in [
        ("claims.sub == path.customer", Unknown),
        ("claims.sub != path.customer", Unknown),
        ("!(claims.sub in ['c1'])", Unknown),
        ("path.customer == 'c1' && claims.age > 18", Unknown),
        ("claims.age > 18 && claims.sub == 'c1'", Unknown),
        ("has(claims.sub)", Unknown),
        ("has(claims.sub) || claims.sub == 'c1'", Unknown),
        ("claims.vip ? true : true", Unknown),
        ("path.customer == 'c1' || claims.sub == path.customer", True),
        ("!has(claims.sub)", True),
        ("!has(claims.sub) && path.customer == 'c1'", True),
        ("path.customer == 'c1'", True),
        ("path.customer == 'c1' ? true : claims.sub == 'c1'", True),
    ] {
        let bounds = expression(text).for_strangers();
        assert_eq!(bounds.most, most, "{text}");
        for param in ["c1", "c2", "%FF"] {
            let stranger = Asked {
                param,
                claims: None,
                ..Asked::plain()
            };
            let truth = stranger.judge(text);
            assert!(
                bounds.least <= truth && truth <= bounds.most,
                "{text} {param}: {truth:?}"
            );
        }
    }
}
