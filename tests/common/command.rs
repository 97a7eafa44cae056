//! Running the real command and other programs.

use super::golden::path;
use std::process::{Command, Output};

/// `alexc`, in the repository's root.
pub fn alexc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alexc"));
    command.current_dir(path(""));
    for variable in ["ALEXC_DEVICE", "ALEXC_NUM_THREADS", "ALEXC_LOG"] {
        command.env_remove(variable);
    }
    command
}

/// What the program printed; it must succeed without a word on stderr.
pub fn stdout(command: &mut Command) -> String {
    let output = finished(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {}\n{printed}{errors}", output.status);
    assert_eq!(errors, "", "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a program that must succeed told on stderr.
pub fn told(command: &mut Command) -> String {
    let output = finished(command);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    told
}

/// The exit code and what stands on stderr of a program that must fail.
pub fn failure(command: &mut Command) -> (i32, String) {
    let output = finished(command);
    assert!(!output.status.success(), "{command:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn finished(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}
