//! docs/embedding.md: every command in it works (tests/python.rs runs those of Python), and its
//! programs are those that are compiled.

mod common;

use common::artifact::there;
use common::command::stdout;
use common::documents::{blocks, embedding};
use common::golden::path;
use common::nested::target;
#[cfg(unix)]
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Puts a `cargo` into the folder that works in the repository, as the paths in its manifests
/// demand, without the network, and takes what is built already.
#[cfg(unix)]
fn cargo(folder: &Path) {
    let file = folder.join("cargo");
    let quoted = |path: &Path| format!("'{}'", path.display());
    let script = format!(
        "#!/bin/sh\ncd {} || exit\nexport CARGO_TARGET_DIR={}\nsubcommand=$1\nshift\nexec {} \
         \"$subcommand\" --quiet --locked --offline --config tests/nested-profile.toml \"$@\"\n",
        quoted(&path("")),
        quoted(&target()),
        quoted(Path::new(env!("CARGO")))
    );
    std::fs::create_dir(folder).unwrap();
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn commands_work() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["specs", "examples"] {
        symlink(path(name), folder.path().join(name)).unwrap();
    }
    let tools = folder.path().join("tools");
    cargo(&tools);
    let alexc = Path::new(env!("CARGO_BIN_EXE_alexc")).parent().unwrap();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = [tools, alexc.to_owned()].into_iter().chain(std::env::split_paths(&old));
    let search = std::env::join_paths(all).unwrap();
    let commands = blocks(&embedding(), "sh");
    assert!(commands.len() >= 10, "{commands:?}");
    let mut printed = String::new();
    let cpp = there("c++", "g++");
    for command in &commands {
        // Those of Python are for tests/python.rs.
        if command.contains("pip install") || command.contains("c++ ") && !cpp {
            continue;
        }
        let mut shell = Command::new("sh");
        shell.current_dir(folder.path()).env("PATH", &search).args(["-e", "-c", command]);
        printed.push_str(&stdout(&mut shell));
    }
    assert!(printed.contains("all is well\n"), "{printed}");
    // By the programs in C, C++ and Rust.
    let answers = printed.matches("7 seven 0.968").count();
    assert_eq!(answers, 2 + usize::from(cpp), "{printed}");
    assert!(printed.contains("  seven\n"), "{printed}");
    for file in ["alone/libdigits.a", "later/digits.weights", "windows/digits.lib", "digits.alexc"]
    {
        assert!(folder.path().join("build").join(file).exists(), "{file}");
    }
}

/// A program without the comment in front that says what the file is for.
fn code(file: &str, beginning: &str) -> String {
    let text = std::fs::read_to_string(path(file)).unwrap();
    text[text.find(beginning).unwrap()..].to_owned()
}

#[test]
fn the_programs_are_the_examples() {
    let rust = [
        code("examples/rust/build.rs", "fn main"),
        code("examples/rust/src/main.rs", "use std"),
        code("runtime/examples/classify.rs", "use alexc_runtime"),
    ];
    assert_eq!(blocks(&embedding(), "rust"), rust);
    let python = code("examples/python/classify.py", "import sys");
    assert_eq!(blocks(&embedding(), "python"), [python]);
}
