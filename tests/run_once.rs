//! `alexc run` takes what it can of the weights from their file, in place: a net that runs once
//! answers before its weights could be packed.

mod common;

use common::command::{alexc, failure, told};
use std::fs;
use std::path::Path;
use std::process::Command;

const WEIGHTS: &str = "specs/digits/digits.safetensors";

/// Bytes of the matrices of specs/digits.yaml's fc4 and fc5.
const MATRICES: usize = 4 * (96 * 64 * 3 * 3 + 10 * 96);

/// What `-v` says of packing, and the output.
fn run(weights: &Path, arguments: &[&str]) -> (String, Vec<f32>) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output.npy");
    let mut command: Command = alexc();
    command.args([
        "run",
        "specs/digits.yaml",
        "--logits",
        "-v",
        "--input",
        "specs/digits/seven.png",
    ]);
    command.arg("--weights").arg(weights).arg("--output").arg(&output).args(arguments);
    let told = told(&mut command);
    let pack = told.lines().find(|line| line.starts_with("alexc: pack ")).unwrap().to_owned();
    (pack, floats(&fs::read(&output).unwrap()))
}

/// The elements of a .npy file of f32.
fn floats(npy: &[u8]) -> Vec<f32> {
    let begin = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    npy[begin..].as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 2e-6 * largest, "{found} {expected}");
    }
}

const DIRECT: [&str; 4] = ["--set", "fc4.algorithm=direct", "--set", "fc5.algorithm=direct"];

#[test]
fn one_run_needs_no_packed_matrices() {
    let (packed, expected) = run(Path::new(WEIGHTS), &DIRECT);
    assert!(!packed.contains("in their file"), "{packed}");
    for batch in [1, 2, 7] {
        let (pack, found) = run(Path::new(WEIGHTS), &["--batch", &batch.to_string()]);
        assert!(pack.ends_with(&format!("; {MATRICES} bytes are read in their file")), "{pack}");
        assert_eq!(found.len(), 10 * batch);
        for found in found.chunks(10) {
            close(found, &expected);
        }
    }
}

/// Where packing cannot be left out, packed weights are as good as ever.
#[test]
fn other_runs_pack() {
    let (_, expected) = run(Path::new(WEIGHTS), &DIRECT);
    let (pack, found) = run(Path::new(WEIGHTS), &["--math", "strict"]);
    assert!(!pack.contains("in their file"), "{pack}");
    close(&found, &expected);
    let (pack, _) = run(Path::new(WEIGHTS), &["--weights-dtype", "f16"]);
    assert!(!pack.contains("in their file"), "{pack}");
    // A file may have its numbers anywhere.
    let whole = fs::read(WEIGHTS).unwrap();
    let (length, rest) = whole.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap());
    let (header, numbers) = rest.split_at(usize::try_from(length).unwrap());
    let header = [header, b" "].concat();
    let odd = [&(length + 1).to_le_bytes(), &header[..], numbers].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    fs::write(&path, odd).unwrap();
    let (pack, found) = run(&path, &[]);
    assert!(!pack.contains("in their file"), "{pack}");
    close(&found, &expected);
}

/// The method is there for whoever asks, whatever the file is.
#[test]
fn rows_by_wish() {
    let rows: &[&str] = &["--set", "fc4.algorithm=rows", "--set", "fc5.algorithm=rows"];
    let (_, expected) = run(Path::new("random:3"), &DIRECT);
    let (pack, found) = run(Path::new("random:3"), rows);
    assert!(!pack.contains("in their file"), "{pack}");
    close(&found, &expected);
    let mut command = alexc();
    command.args(["bench", "specs/digits.yaml", "--weights-dtype", "int8"]).args(rows);
    let (code, told) = failure(&mut command);
    assert!(code == 1 && told.contains("fc4 cannot use rows"), "{code}: {told}");
}
