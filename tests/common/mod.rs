//! What several test files share.
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses a part")]

pub mod artifact;
pub mod command;
pub mod documents;
pub mod golden;
pub mod interpret;
pub mod machines;
pub mod nested;
pub mod nets;
pub mod random_net;

/// Says what is not tested here and why. The test harness keeps back what tests that pass print by
/// macros; this it does not.
pub fn left_out(text: impl std::fmt::Display) {
    use std::io::Write;
    // In one piece: other tests write too.
    let _ = std::io::stderr().write_all(format!("left out: {text}\n").as_bytes());
}
