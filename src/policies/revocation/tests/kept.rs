//! What is kept: across restarts, through crashes, and no longer than it can hit somebody.

use super::*;

/// One of each kind.
fn one_of_each() -> Vec<(Whom, Extent)> {
    vec![
        (identity("a", "i", "u\"1\u{1f600}"), EVERY),
        (identity("a", "j", "u1"), until(300)),
        (subject("u1"), before(90)),
        (token("a", "i", "t\n2"), until(300)),
        (Whom::Authenticator("a".into()), before(80)),
        (Whom::Issuer("i".into()), before(70)),
        (Whom::Everybody, before(60)),
    ]
}

fn items(revocations: &Revocations) -> Vec<String> {
    let mut items = Vec::new();
    let shown = revocations.held().each(|item| {
        items.push(format!("{item:?}"));
        Ok::<_, ()>(())
    });
    shown.unwrap();
    items.sort();
    items
}

#[test]
fn keeps_revocations_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    for (whom, extent) in one_of_each() {
        revoke(&first, whom, extent);
    }
    revoke(&first, subject("gone"), EVERY);
    first.turn().lift(&subject("gone")).unwrap();
    let before = items(&first);
    assert_eq!((before.len(), first.figures().total()), (7, 7));
    drop(first);
    let second = open(folder.path());
    assert_eq!(items(&second), before);
    revoke(&second, subject("more"), EVERY);
    // Written anew it says the same.
    second.turn().write_anew().unwrap();
    let before = items(&second);
    drop(second);
    let third = open(folder.path());
    assert_eq!((items(&third), before.len()), (before, 8));
    let held = read_revoked(folder.path()).unwrap();
    assert!(held.hit(&caller("x", "y", "more"), at(200)).is_some());
    assert_eq!(
        read_revoked(&folder.path().join("elsewhere"))
            .unwrap()
            .figures()
            .total(),
        0
    );
}

#[test]
fn does_not_start_on_state_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |text: &str| {
        std::fs::write(folder.path().join("revocations.jsonl"), text).unwrap();
        read_revoked(folder.path()).map(|held| held.figures().total())
    };
    let head = "{\"v\":1}\n";
    let good = r#"{"authenticator":"a","issuer":"i","sub":"u1","every":true,"until":"1970-01-01T00:05:00Z"}"#;
    assert_eq!(kept(&format!("{head}{good}\n")).unwrap(), 1);
    assert_eq!(kept(head).unwrap(), 0);
    // The last line was never said to be kept.
    assert_eq!(kept(&format!("{head}{good}\n{}", &good[..40])).unwrap(), 1);
    assert_eq!(kept(&format!("{head}{good}")).unwrap(), 0);
    let cases = [
        String::new(),
        "{\"v\":1}".to_owned(),
        format!("{good}\n"),
        "{\"v\":2}\n".to_owned(),
        format!("{head}\n"),
        format!("{head}{{}}\n"),
        format!("{head}{}\n{good}\n", &good[..40]),
        format!("{head}{}\n", good.replace("sub", "subject")),
        format!("{head}{}\n", good.replace("\"every\":true,", "")),
        format!("{head}{}\n", good.replace("\"issuer\":\"i\",", "")),
        format!(
            "{head}{}\n",
            good.replace("\"every\":true", "\"every\":true,\"lifted\":true")
        ),
        // Nobody could say when it may be forgotten.
        format!("{head}{}\n", good.replace("sub", "jti")),
        format!(
            "{head}{}\n",
            good.replace("\"every\":true", "\"every\":true,\"everybody\":true")
        ),
        format!(
            "{head}{}\n",
            good.replace("\"sub\":\"u1\"", "\"sub\":\"u1\",\"floor\":\"1970-01-01T00:00:00Z\"")
        ),
        format!("{head}\u{0}\n"),
    ];
    for bad in cases {
        let error = kept(&bad).unwrap_err();
        assert!(matches!(error, RevocationFailure::Unreadable { .. }), "{bad}");
        assert!(error.to_string().contains("revocations.jsonl"), "{error}");
        let folder = Arc::new(StateFolder::open(folder.path()).unwrap());
        assert!(Revocations::open(Some(folder)).is_err());
    }
}

#[test]
fn goes_on_after_a_crash_in_the_middle_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    revoke(&first, subject("u1"), EVERY);
    drop(first);
    let path = folder.path().join("revocations.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"sub\":\"u2\",\"ev");
    std::fs::write(&path, text).unwrap();
    let second = open(folder.path());
    revoke(&second, subject("u3"), EVERY);
    drop(second);
    let third = open(folder.path());
    assert_eq!(third.figures().total(), 2);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n") && !text.contains("u2"), "{text}");
}

#[test]
fn changes_nothing_where_it_cannot_be_kept() {
    let homeless = Revocations::open(None).unwrap();
    let order = revocation(subject("u1"), EVERY);
    let refused = homeless.turn().revoke(&order, at(200), None).unwrap_err();
    assert!(matches!(refused, RevocationFailure::NoState) && refused.to_string().contains("`state:`"));

    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    std::fs::create_dir(folder.path().join("revocations.jsonl.new")).unwrap();
    assert!(revocations.turn().revoke(&order, at(200), None).is_err());
    assert_eq!(hit_by(&revocations, &caller("a", "i", "u1")), None);
    std::fs::remove_dir(folder.path().join("revocations.jsonl.new")).unwrap();
    revoke(&revocations, subject("u1"), EVERY);
    // What cannot be lifted on disk stays revoked.
    std::fs::remove_file(folder.path().join("revocations.jsonl")).unwrap();
    revocations.turn().break_log();
    std::fs::create_dir(folder.path().join("revocations.jsonl.new")).unwrap();
    assert!(revocations.turn().lift(&subject("u1")).is_err());
    assert_eq!(hit_by(&revocations, &caller("a", "i", "u1")), Some(Reach::Subject));
}

#[test]
fn an_entry_dies_with_the_last_token_it_could_hit() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let forget = |now: i64, lifetimes: &Lifetimes| revocations.turn().forget(at(now), Some(lifetimes)).unwrap();
    revoke(&revocations, identity("a", "i", "u1"), before(100));
    // Made at 200: the token was issued by 500, the clock of its issuer being as wrong as can be.
    revoke(&revocations, token("a", "i", "t1"), EVERY);
    revoke(&revocations, token("a", "i", "t2"), until(700));
    revoke(&revocations, identity("a", "i", "u2"), until(900));
    revoke(&revocations, identity("a", "i", "u3"), EVERY);
    revoke(&revocations, identity("b", "i", "u1"), before(100));
    revoke(&revocations, subject("u4"), before(100));
    assert_eq!(revocations.figures().total(), 7);
    assert_eq!(
        forget(699, &Lifetimes::default()),
        0,
        "nobody knows how long tokens live"
    );
    let life = lives(1000);
    assert_eq!(forget(100 + 1000 + SLACK - 1, &life), 2, "two have come to their end");
    assert_eq!(forget(100 + 1000 + SLACK, &life), 2, "an identity and a subject");
    assert_eq!(forget(500 + 1000 + SLACK - 1, &life), 0);
    assert_eq!(forget(500 + 1000 + SLACK, &life), 1, "a token");
    // Who is shut out for good, and what is of an authenticator without a bound, stay.
    assert_eq!(forget(i64::from(u32::MAX), &life), 0);
    assert_eq!(revocations.figures().total(), 2);
    // Nothing of a subject anywhere may be forgotten while some authenticator has no bound.
    revoke(&revocations, subject("u4"), before(100));
    let open_ended = Lifetimes(vec![life.0[0].clone(), ("keys".into(), None)]);
    assert_eq!(forget(i64::from(u32::MAX), &open_ended), 0);
}

#[test]
fn longer_lives_bring_back_no_token_that_was_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let who = |issued: Option<i64>| {
        let mut who = caller("a", "i", "u9");
        who.claims = issued
            .map(|issued| ("iat".to_owned(), issued.into()))
            .into_iter()
            .collect();
        who
    };
    revoke(&revocations, identity("a", "i", "u1"), before(150));
    let life = lives(1000);
    let end = 150 + 1000 + SLACK;
    assert_eq!(hit_by(&revocations, &who(Some(100))), None);
    assert_eq!(revocations.turn().forget(at(end), Some(&life)).unwrap(), 1);
    // Such a token was too old by then for everybody.
    let floor = Some(Revoked {
        reach: Reach::Authenticator,
        extent: before(150),
    });
    let hit = |revocations: &Revocations, issued| revocations.hit(&who(issued), at(end));
    assert_eq!(hit(&revocations, Some(149)), floor);
    assert_eq!((hit(&revocations, Some(150)), hit(&revocations, None)), (None, None));
    assert_eq!((revocations.figures().total(), revocations.figures().floors), (0, 1));
    drop(revocations);
    let again = open(folder.path());
    assert_eq!(hit(&again, Some(149)), floor);
    let whom = Whom::Authenticator("a".into());
    assert_eq!(
        again.turn().lift(&whom).unwrap(),
        [revocation(whom.clone(), before(150))]
    );
    assert_eq!((hit(&again, Some(149)), again.figures().floors), (None, 0));
    drop(again);
    assert_eq!(hit(&open(folder.path()), Some(149)), None);
}

#[test]
fn a_file_whose_lines_say_nothing_any_more_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for number in 0..10 {
        revoke(&revocations, subject(&format!("u{number}")), until(300));
    }
    let path = folder.path().join("revocations.jsonl");
    let length = |path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(revocations.turn().forget(at(300), Some(&lives(1))).unwrap(), 10);
    assert_eq!(length(&path), 11);
    // Ten lines are no burden; as if there were more.
    revocations.turn().pretend_lines(5000);
    revoke(&revocations, subject("u1"), EVERY);
    assert_eq!(length(&path), 2);
    revoke(&revocations, subject("u2"), EVERY);
    revocations.turn().lift(&subject("u1")).unwrap();
    assert_eq!(length(&path), 4);
    drop(revocations);
    assert_eq!(open(folder.path()).figures().total(), 1);
}
