//! Kernels for GPUs on a device, whatever it is: whole nets against the reference executor.
#![cfg(feature = "opencl")]

use std::process::Command;

fn compare(arguments: &[&str]) {
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_alexc"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("compare")
        .args(arguments)
        .args(["--device", "opencl:0", "--schedule", "gpu"])
        .env("ALEXC_CACHE_DIR", cache.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}\n{told}{errors}");
}

#[test]
fn nets_agree_with_the_reference() {
    compare(&["specs/digits.yaml", "--weights", "specs/digits/digits.safetensors"]);
    compare(&["specs/digits.yaml", "--batch", "5"]);
    compare(&["specs/digits.yaml", "--no-fusion"]);
    compare(&["specs/lenet5.yaml", "--batch", "2"]);
}
