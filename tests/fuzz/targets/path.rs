#![no_main]
//! A path has one reading, which has no other, or none.

use gwanmun::routing::normalise_path;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let Ok(path) = normalise_path(raw) else { return };
    assert!(path.starts_with('/'), "{path:?} is not absolute");
    assert!(!path.contains("//"), "{path:?} has an empty segment");
    assert!(
        path.bytes().all(|byte| byte.is_ascii_graphic()),
        "{path:?} has a raw byte"
    );
    assert!(
        !path.contains(['\\', '?', '#']),
        "{path:?} has a character that ends or splits it"
    );
    let lower = path.to_ascii_lowercase();
    for escape in ["%2e", "%2f", "%5c", "%00"] {
        assert!(!lower.contains(escape), "{path:?} keeps {escape}");
    }
    // Applications behind the gateway cut parameters off before they look at a segment.
    for segment in path.split('/') {
        let bare = segment.split(';').next().unwrap_or_default();
        assert!(!matches!(bare, "." | ".."), "{path:?} has a dot segment");
    }
    assert_eq!(normalise_path(path.as_bytes()).as_deref(), Ok(&*path));
});
