//! docs/embedding.md: every command in it works, and its Rust program is the one that is compiled.

mod common;

use common::artifact::there;
use common::command::stdout;
use common::golden::path;
use std::path::Path;
use std::process::Command;

/// The contents of the fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let parts = text.split("\n```").skip(1).step_by(2);
    let wanted = parts.filter_map(|part| part.strip_prefix(&format!("{language}\n")));
    wanted.map(|block| format!("{block}\n")).collect()
}

fn document() -> String {
    std::fs::read_to_string(path("docs/embedding.md")).unwrap()
}

#[cfg(unix)]
#[test]
fn commands_work() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["specs", "examples"] {
        std::os::unix::fs::symlink(path(name), folder.path().join(name)).unwrap();
    }
    let alexc = Path::new(env!("CARGO_BIN_EXE_alexc")).parent().unwrap();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(alexc.to_owned()).chain(std::env::split_paths(&old));
    let search = std::env::join_paths(all).unwrap();
    let commands = blocks(&document(), "sh");
    assert!(commands.len() >= 8, "{commands:?}");
    let mut printed = String::new();
    let cpp = there("c++", "g++");
    for command in commands {
        if command.contains("c++ ") && !cpp {
            continue;
        }
        let mut shell = Command::new("sh");
        shell.current_dir(folder.path()).env("PATH", &search).args(["-e", "-c", &command]);
        printed.push_str(&stdout(&mut shell));
    }
    assert!(printed.contains("all is well\n"), "{printed}");
    // By the programs in C and C++.
    let answers = printed.matches("7 seven 0.968").count();
    assert_eq!(answers, 1 + usize::from(cpp), "{printed}");
    assert!(printed.contains("  seven\n"), "{printed}");
    for file in ["alone/libdigits.a", "later/digits.weights", "windows/digits.lib", "digits.alexc"]
    {
        assert!(folder.path().join("build").join(file).exists(), "{file}");
    }
}

#[test]
fn the_rust_program_is_the_example() {
    let example = std::fs::read_to_string(path("runtime/examples/classify.rs")).unwrap();
    let code = example.split_once("\n\n").unwrap().1;
    let code = &code[code.find("use ").unwrap()..];
    assert_eq!(blocks(&document(), "rust"), [code]);
}
