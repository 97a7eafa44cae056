//! Packages of the repository that are no members of its workspace, built by tests with cargo. They
//! share the workspace's folder of built crates, so that little has to be built again.

use super::golden::path;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where this workspace's crates are built.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_alexc")).ancestors().nth(2).unwrap().to_owned()
}

/// A folder that tests may keep things in from one run to the next.
pub fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// `cargo SUBCOMMAND` for the package in `folder`, as its own lock file says.
pub fn cargo(subcommand: &str, folder: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([subcommand, "--locked", "--manifest-path"]).arg(path(folder).join("Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", target());
    cargo
}

/// Versions of each crate that a lock file names.
fn locked(folder: &str) -> BTreeMap<String, Vec<String>> {
    let file = path(folder).join("Cargo.lock");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut crates: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
            line.unwrap().trim_end_matches('"').to_owned()
        };
        crates.entry(value("name")).or_default().push(value("version"));
    }
    crates
}

/// The package's lock file names no other versions than the workspace's: what is tested there is
/// what is used here.
pub fn assert_locked_alike(folder: &str) {
    let workspace = locked("");
    let mut shared = 0;
    for (name, versions) in locked(folder) {
        let Some(known) = workspace.get(&name) else { continue };
        shared += 1;
        for version in versions {
            assert!(
                known.contains(&version),
                "{folder}/Cargo.lock has {name} {version}, Cargo.lock {known:?}: copy Cargo.lock \
                 over it and run `cargo metadata` in {folder}"
            );
        }
    }
    assert!(shared > 50, "{shared}");
}
