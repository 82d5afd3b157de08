//! Tokens that were verified are remembered, within bounds.

use super::super::jwt::Token;
use super::super::memory::{Hashed, Memory};
use super::kit::*;
use crate::engine::claims::Source;

#[test]
fn remembers_as_much_as_it_has_room_for_whatever_tokens_grant() {
    let (signer, authenticator) = (Signer::ed(), authenticator("EdDSA", "jwks: discover"));
    let keys = key_set(&[signer.jwk("")]);
    const ROOM: usize = 256 << 10;
    // How many are left of a thousand that grant so many roles.
    let left = |roles: usize| {
        let memory = Memory::holding(ROOM as u64, 16);
        let roles = vec![r#""r""#; roles].join(",");
        for number in 0..1000 {
            let claims = claims(&[("roles", &format!("[{roles}]")), ("jti", &format!("\"{number}\""))]);
            let token = signer.usual(&claims);
            let mut source = Source::default();
            let parsed = Token::parse(&token, &mut source).unwrap();
            let verified = parsed.verify(&authenticator, &keys, noon()).unwrap();
            let hashed = Hashed::new(&token);
            let kept = memory.keep(hashed, verified);
            if let Some(found) = memory.find(hashed, &keys, noon()) {
                assert!(std::sync::Arc::ptr_eq(&found, &kept));
            }
        }
        memory.len()
    };
    let (few, many) = (left(1), left(1000));
    assert!((40..ROOM / 768).contains(&few), "{few}");
    // Of many, each takes a place in the list and one in the tree.
    assert!((1..=ROOM / (1000 * (24 + 64))).contains(&many), "{many}");
}
