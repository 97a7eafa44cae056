//! `--tune` and its cache, by the real command.

mod common;

use common::command::{alexc, failure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit code 0; what stands on stdout and stderr.
fn both(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{command:?}: {}\n{err}", output.status);
    (out, err)
}

fn fused(cache: &Path, more: &[&str]) -> (String, String) {
    let mut command = alexc();
    command.env("ALEXC_CACHE_DIR", cache).env("ALEXC_NUM_THREADS", "1");
    both(command.args(["dump", "specs/digits.yaml", "--stage", "fused"]).args(more))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The dump's line about a layer.
fn line<'a>(text: &'a str, layer: &str) -> &'a str {
    let head = format!("; {layer}: ");
    text.lines().find(|line| line.starts_with(&head)).unwrap()
}

#[test]
fn measured_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let (plain, _) = fused(&cache, &[]);
    assert!(!plain.contains("tuned") && !cache.exists());

    let (first, said) = fused(&cache, &["--tune", "--verbose"]);
    assert!(said.contains("tuned: measured in ") && said.contains("tuned: kept in "), "{said}");
    // The groups of conv2 have 8 channels: nothing to choose.
    assert!(!line(&first, "conv2").contains("tuned"), "{first}");
    for layer in ["conv1", "conv3"] {
        assert!(line(&first, layer).contains(", tuned; output"), "{first}");
    }
    let [file] = &files(&cache)[..] else { panic!("{:?}", files(&cache)) };
    let kept = fs::read_to_string(file).unwrap();

    // The file decides from now on, also where it says what no measurement would find.
    let mut content: serde_json::Value = serde_json::from_str(&kept).unwrap();
    content["choices"][1]["algorithm"] = "winograd5".into();
    let planted = content.to_string();
    fs::write(file, &planted).unwrap();
    let (second, said) = fused(&cache, &["--tune", "--verbose"]);
    assert!(said.contains(&format!("tuned: as kept in {}\n", file.display())), "{said}");
    assert!(!said.contains("measured in"), "{said}");
    assert!(line(&second, "conv3").contains("F(5x5,3x3)"), "{second}");
    assert_eq!(fs::read_to_string(file).unwrap(), planted);

    // The user's word comes before it, and is another key.
    let (own, _) = fused(&cache, &["--tune", "--set", "conv3.algorithm=direct"]);
    assert!(line(&own, "conv3").starts_with("; conv3: direct; output"), "{own}");
    assert!(line(&own, "conv1").contains(", tuned;"), "{own}");
    assert_eq!(files(&cache).len(), 2);

    // Without the flag nothing of it counts.
    assert_eq!(fused(&cache, &[]).0, plain);

    // Damage is mended without a word.
    fs::write(file, &planted[..100]).unwrap();
    let (_, said) = fused(&cache, &["--tune"]);
    assert_eq!(said, "");
    let mended = fs::read_to_string(file).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&mended).is_ok());

    let run = |action| both(alexc().env("ALEXC_CACHE_DIR", &cache).args(["cache", action])).0;
    let listed = run("list");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(listed.contains(name) && listed.contains("conv1 "), "{listed}");
    fs::write(cache.join("net.device.json"), "?").unwrap();
    fs::write(
        cache.join("other.device.json"),
        r#"{"key": ["device a GPU, 4 units"], "choice": "small tiles", "milliseconds": 1.5}"#,
    )
    .unwrap();
    let listed = run("list");
    for row in ["other.device.json  ", "1.500  small tiles   a GPU, 4 units", "not readable"] {
        assert!(listed.contains(row), "{row}: {listed}");
    }
    let removed = "4 files from";
    let kinds = "2 of algorithms, 2 of kernels for a device";
    assert_eq!(run("clear"), format!("removed {removed} {}: {kinds}\n", cache.display()));
    assert!(files(&cache).is_empty());
    assert_eq!(run("list"), format!("nothing is kept in {}\n", cache.display()));
}

#[test]
fn answers_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = alexc();
    command.env("ALEXC_CACHE_DIR", folder.path());
    command.args(["compare", "specs/lenet5.yaml", "--batch", "2", "--tune", "--threads", "2"]);
    both(&mut command);
    let [file] = &files(folder.path())[..] else { panic!() };
    let content = fs::read_to_string(file).unwrap();
    assert!(content.contains("\"threads 2\""), "{content}");
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("file");
    fs::write(&cache, "").unwrap();
    let (text, said) = fused(&cache, &["--tune"]);
    assert!(line(&text, "conv1").contains(", tuned;"), "{text}");
    let expected = format!("warning: --tune: the result is not kept: {}: ", cache.display());
    assert!(said.starts_with(&expected), "{said}");
}

#[test]
fn nothing_to_measure() {
    let folder = tempfile::tempdir().unwrap();
    let (text, said) = fused(folder.path(), &["--tune", "--math", "strict"]);
    assert_eq!(said, "warning: --tune: there is nothing to tune, --math strict leaves no choice\n");
    assert!(!text.contains("tuned"));
    let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" }.to_owned()
        + "-unknown-linux-gnu";
    let mut command = alexc();
    command.env("ALEXC_CACHE_DIR", folder.path());
    command.args(["dump", "specs/digits.yaml", "--stage", "fused", "--tune", "--target", &other]);
    let (code, said) = failure(&mut command);
    assert_eq!(code, 2);
    assert!(said.starts_with("error: --tune measures on this machine, which cannot"), "{said}");
    assert!(files(folder.path()).is_empty());
}
