#![no_main]
//! Any text is a configuration or a list of findings, never a panic.

use gwanmun::conf::Load;
use gwanmun::rehearse::{Paint, show_findings};
use gwanmun::snapshot::{Occasion, compile};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// Beside the samples, so that the calendars they name are found.
const NAME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conf/fuzz.yaml");

const OCCASION: Occasion = Occasion {
    now: Timestamp::constant(1_795_500_000, 0),
    at_start: false,
};

fuzz_target!(|text: &str| {
    let load = Load::new();
    let document = load.text(NAME, text);
    if let Some(document) = &document {
        let snapshot = compile(document, OCCASION, &load);
        assert!(snapshot.is_some() || load.has_errors(), "refused without a word");
    } else {
        assert!(load.has_errors(), "refused without a word");
    }
    let findings = load.into_findings(document.as_ref());
    let shown = show_findings(&findings, Paint::plain());
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
});
