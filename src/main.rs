//! The command `alexc`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    alexc::cli::main()
}
