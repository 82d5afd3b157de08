#![no_main]
//! Any line is a record or a failure and any file a chain or a break in one, never a panic.

use gwanmun::observe::audit::{read_line, verify_chain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let lines = || file.split(|&byte| byte == b'\n');
    for line in lines() {
        if let Err(failure) = read_line(line) {
            assert!(!failure.to_string().is_empty());
        }
    }
    if let Err(broken) = verify_chain(lines()) {
        assert!(!broken.to_string().is_empty());
    }
});
