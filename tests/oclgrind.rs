//! Every kernel of two nets in Oclgrind, which simulates a device and reports accesses outside of
//! memory and work-items in each other's way; the results are compared too.
//!
//! Oclgrind is a package of its own (Debian: `apt-get install oclgrind`). Where it is not installed
//! the test says so and ends; with ALEXC_REQUIRE_OCLGRIND=1 in the environment that is a failure.
#![cfg(feature = "opencl")]

mod common;

use common::left_out;
use std::path::Path;
use std::process::Command;

/// AlexNet with fewer channels and a small input: the same kernels as the large one.
const SMALL_ALEXNET: &str = "
name: small_alexnet
input: {shape: [1, 3, 67, 67]}
layers:
  - {name: conv1, type: conv, out_channels: 32, kernel_size: 11, stride: 4, padding: [1, 2]}
  - {name: relu1, type: relu}
  - {name: norm1, type: lrn, size: 5, alpha: 1.0e-4, beta: 0.75, k: 2.0, alpha_scaling: sum}
  - {name: pool1, type: max_pool, kernel_size: 3, stride: 2}
  - {name: conv2, type: conv, out_channels: 48, kernel_size: 5, padding: 2, groups: 2}
  - {name: relu2, type: relu}
  - {name: norm2, type: lrn, size: 5, alpha: 1.0e-4, beta: 0.75, k: 2.0, alpha_scaling: sum}
  - {name: pool2, type: max_pool, kernel_size: 3, stride: 2}
  - {name: conv3, type: conv, out_channels: 64, kernel_size: 3, padding: 1}
  - {name: relu3, type: relu}
  - {name: conv4, type: conv, out_channels: 64, kernel_size: 3, padding: 1}
  - {name: relu4, type: relu}
  - {name: conv5, type: conv, out_channels: 48, kernel_size: 3, padding: 1}
  - {name: relu5, type: relu}
  - {name: pool5, type: max_pool, kernel_size: 3, stride: 2}
  - {name: fc1, type: linear, out_features: 72}
  - {name: relu6, type: relu}
  - {name: fc2, type: linear, out_features: 50}
  - {name: prob, type: softmax}
";

fn installed() -> bool {
    let found =
        Command::new("oclgrind").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        let how = "Oclgrind is not installed; on Debian: apt-get install oclgrind";
        assert!(std::env::var_os("ALEXC_REQUIRE_OCLGRIND").is_none(), "{how}");
        left_out(how);
    }
    found
}

/// Runs `alexc compare` on Oclgrind's device and gives what it reports.
fn report(spec: &Path, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // Unoptimised: Oclgrind does not know all instructions that optimisers make.
    let output = Command::new("oclgrind")
        .args(["--data-races", "--check-api", "--build-options", "-cl-opt-disable", "--log"])
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_alexc"))
        .arg("compare")
        .arg(spec)
        .args(["--device", "opencl:0"])
        .args(arguments)
        .env("ALEXC_CACHE_DIR", folder.path().join("cache"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    // It is there even where nothing was found.
    std::fs::read_to_string(&log).unwrap()
}

fn hold(spec: &Path) {
    hold_with(spec, &["--schedule", "cpu"]);
    hold_with(spec, &["--schedule", "gpu"]);
}

fn hold_with(spec: &Path, arguments: &[&str]) {
    let found = report(spec, arguments);
    assert!(found.trim().is_empty(), "{}, {arguments:?}:\n{found}", spec.display());
}

#[test]
fn digits() {
    if installed() {
        hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/digits.yaml"));
    }
}

#[test]
fn a_small_alexnet() {
    if installed() {
        let folder = tempfile::tempdir().unwrap();
        let spec = folder.path().join("small.yaml");
        std::fs::write(&spec, SMALL_ALEXNET).unwrap();
        hold(&spec);
        let tiles = ["--set", "conv3.algorithm=winograd2", "--set", "conv4.algorithm=winograd4"];
        hold_with(&spec, &[&["--schedule", "gpu"], &tiles[..]].concat());
    }
}

/// `specs/alexnet.yaml` with all its channels, on an input of 67 x 67.
#[test]
#[ignore = "four minutes of one core"]
fn alexnet_with_all_channels() {
    use serde_yaml::Value;
    if !installed() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/alexnet.yaml");
    let mut net: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    net["input"]["shape"] = Value::from(vec![1, 3, 67, 67]);
    let spec = net.as_mapping_mut().unwrap();
    // What is stated is of the large input.
    spec.remove("preprocess").unwrap();
    spec.remove("labels").unwrap();
    for layer in spec["layers"].as_sequence_mut().unwrap() {
        let layer = layer.as_mapping_mut().unwrap();
        layer.remove("in_shape").unwrap();
        layer.remove("out_shape").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alexnet.yaml");
    std::fs::write(&path, serde_yaml::to_string(&net).unwrap()).unwrap();
    hold_with(&path, &["--schedule", "gpu"]);
}

/// What the test relies on: an access outside of a buffer is in the report.
#[test]
fn oclgrind_reports_what_is_wrong() {
    if !installed() {
        return;
    }
    // Oclgrind's own runner of a kernel, without alexc.
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("k.cl", "kernel void k(global float *x) { x[get_global_id(0)] = 1.0f; }");
    write("k.sim", "k.cl\nk\n8 1 1\n4 1 1\n<size=16 fill=0 float dump>\n");
    let output =
        Command::new("oclgrind-kernel").arg("k.sim").current_dir(folder.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("Invalid write"), "{told}");
}
