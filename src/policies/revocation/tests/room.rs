//! How much room many revocations take, and what happens where there is none.

use super::super::held::Fullness;
use super::super::marks::{Marks, NEVER};
use super::*;
use crate::snapshot::allocations::bytes_held;

#[test]
fn a_million_revocations_take_the_memory_that_is_told() {
    const COUNT: usize = 1_000_000;
    let whom = |number: usize| {
        identity(
            "customer",
            "https://id.bank.example",
            &format!("9b2e6c1e-7f3a-4c55-8d21-{number:012}"),
        )
    };
    let marks = Marks {
        until: NEVER,
        before: 1_795_521_600,
    };
    let (bytes, held) = bytes_held(|| {
        let held = Held::default();
        for number in 0..COUNT {
            held.set(&whom(number), marks);
        }
        held
    });
    let told = held.figures();
    assert_eq!((told.total(), held.len()), (COUNT, COUNT));
    println!("{COUNT} revocations: {bytes} bytes held, {} told", told.memory);
    // Sizes that allocators round up are told as such.
    assert!(
        told.memory >= bytes && told.memory <= bytes + bytes / 8,
        "{bytes}, told as {}",
        told.memory
    );
    assert!(bytes / COUNT <= 120, "{} bytes each", bytes / COUNT);
    let mut who = caller(
        "customer",
        "https://id.bank.example",
        "9b2e6c1e-7f3a-4c55-8d21-000000999999",
    );
    assert!(held.hit(&who, at(200)).is_some());
    who.subject = "9b2e6c1e-7f3a-4c55-8d21-000001000000".into();
    assert!(held.hit(&who, at(200)).is_none());

    // Beyond the cap nothing is taken in, and nothing is dropped for it.
    assert_eq!(held.room_for(&whom(COUNT)), Ok(()));
    for number in COUNT..MAX_ENTRIES {
        held.set(&whom(number), marks);
    }
    assert_eq!(held.room_for(&whom(MAX_ENTRIES)), Err(Fullness::Entries));
    assert_eq!(held.room_for(&whom(0)), Ok(()));
    assert!(held.figures().memory <= 128 << 20);
    // Memory is given back with what is forgotten.
    let life = Lifetimes(vec![("customer".into(), Some(Duration::from_secs(60)))]);
    assert_eq!(held.forget(1_795_521_600 + 60 + SLACK, &life), MAX_ENTRIES);
    assert!(held.figures().memory < 1 << 20 && held.len() == 0);
}

#[test]
#[ignore = "by hand, best with --release: takes most of a minute without"]
fn a_file_of_a_million_revocations_is_read_in_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for number in 0..1_000_000 {
        let subject = format!("9b2e6c1e-7f3a-4c55-8d21-{number:012}");
        let marks = Marks {
            until: NEVER,
            before: 1_795_521_600,
        };
        revocations
            .held()
            .set(&identity("customer", "https://id.bank.example", &subject), marks);
    }
    let began = std::time::Instant::now();
    revocations.turn().write_anew().unwrap();
    let (written, length) = (
        began.elapsed(),
        std::fs::metadata(folder.path().join("revocations.jsonl"))
            .unwrap()
            .len(),
    );
    drop(revocations);
    let began = std::time::Instant::now();
    assert_eq!(open(folder.path()).figures().total(), 1_000_000);
    println!(
        "{} MB written in {written:?}, read in {:?}",
        length / 1_000_000,
        began.elapsed()
    );
}

#[test]
fn refuses_what_there_is_no_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    for number in 0..1024 {
        revocations.held().set(
            &identity("a", &format!("i{number}"), "u1"),
            Marks {
                until: 300,
                before: NEVER,
            },
        );
        revocations.held().set(
            &Whom::Issuer(format!("i{number}").into()),
            Marks {
                until: NEVER,
                before: 1,
            },
        );
    }
    for whom in [identity("a", "another", "u1"), Whom::Issuer("another".into())] {
        let refused = revocations
            .turn()
            .revoke(&revocation(whom, EVERY), at(200), None)
            .unwrap_err();
        assert!(matches!(refused, RevocationFailure::Full(_)), "{refused}");
        assert!(refused.to_string().contains("1024"), "{refused}");
    }
    revoke(&revocations, identity("a", "i7", "u2"), EVERY);
    assert_eq!(revocations.held().len(), 2049);
}
