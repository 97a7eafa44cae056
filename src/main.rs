//! The command `alexc`.
#![forbid(unsafe_code)]

fn main() {}
