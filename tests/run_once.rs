//! `alexc run` leaves what it can of the weights in their file: a net that runs once answers before
//! its weights could be packed, and with the same bits.

mod common;

use common::command::{alexc, told};
use std::fs;
use std::path::Path;

const WEIGHTS: &str = "specs/digits/digits.safetensors";

/// Bytes of the matrix of specs/digits.yaml's fc4. That of fc5 has ten outputs, no whole block.
const MATRIX: usize = 4 * 96 * 64 * 3 * 3;

/// What `-v` says of packing, and the output file.
fn run(weights: &Path, arguments: &[&str]) -> (String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output.npy");
    let mut command = alexc();
    command.args(["run", "specs/digits.yaml", "-v", "--input", "specs/digits/seven.png"]);
    command.arg("--weights").arg(weights).arg("--output").arg(&output).args(arguments);
    let told = told(&mut command);
    let pack = told.lines().find(|line| line.starts_with("alexc: pack ")).unwrap().to_owned();
    (pack, fs::read(&output).unwrap())
}

/// The same weights, an odd byte further in the file: kernels cannot read them there.
fn odd() -> tempfile::NamedTempFile {
    let whole = fs::read(WEIGHTS).unwrap();
    let (length, rest) = whole.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap());
    let (header, numbers) = rest.split_at(usize::try_from(length).unwrap());
    let header = [header, b" "].concat();
    let file = tempfile::NamedTempFile::with_suffix(".safetensors").unwrap();
    let odd = [&(length + 1).to_le_bytes(), &header[..], numbers].concat();
    fs::write(file.path(), odd).unwrap();
    file
}

#[test]
fn one_run_needs_no_packed_matrices() {
    let odd = odd();
    let in_file = format!("; {MATRIX} bytes are read in their file");
    let cases: [&[&str]; 6] = [
        &[],
        &["--batch", "2"],
        &["--batch", "7", "--logits"],
        &["--math", "strict"],
        &["--set", "fc4.algorithm=nonzero"],
        &["--emitter", "cranelift"],
    ];
    for arguments in cases {
        let (packs, expected) = run(odd.path(), arguments);
        assert!(packs.ends_with("threads"), "{arguments:?}: {packs}");
        let (rest, found) = run(Path::new(WEIGHTS), arguments);
        assert!(rest.ends_with(&in_file), "{arguments:?}: {rest}");
        assert_eq!(found, expected, "{arguments:?}");
    }
}

#[test]
fn narrow_and_random_weights_are_packed() {
    let (packs, _) = run(Path::new(WEIGHTS), &["--weights-dtype", "f16"]);
    assert!(packs.ends_with("threads"), "{packs}");
    let (packs, _) = run(Path::new("random:3"), &[]);
    assert!(packs.ends_with("threads"), "{packs}");
}
