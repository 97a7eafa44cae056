//! What an app gets with the runtime: no compiler, no reader of specs.

use std::process::Command;

/// Names of all crates that the runtime with these features is made of, itself included.
fn crates(features: &[&str]) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--package", "alexc-runtime", "--edges", "normal,build", "--prefix"]);
    cargo.args(["none", "--format", "{p}", "--locked", "--offline"]);
    cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let output = cargo.args(features).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let mut names: Vec<String> = names.filter(|n| !n.is_empty()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_runtime_is_small() {
    let few = [
        "alexc-runtime",
        "libc",
        "memmap2",
        "proc-macro2",
        "quote",
        "syn",
        "thiserror",
        "thiserror-impl",
        "twox-hash",
        "unicode-ident",
    ];
    assert_eq!(crates(&[]), few);
}

#[test]
fn features_bring_what_they_say() {
    let arrays = crates(&["--features", "ndarray"]);
    assert!(arrays.iter().any(|name| name == "ndarray"), "{arrays:?}");
    for no in ["cranelift", "yaml", "granit", "clap", "alexc-codegen"] {
        assert!(arrays.iter().all(|name| !name.contains(no) && name != "alexc"), "{arrays:?}");
    }
    let jit = crates(&["--features", "jit"]);
    assert!(jit.iter().any(|name| name == "cranelift-jit"), "{jit:?}");
}
