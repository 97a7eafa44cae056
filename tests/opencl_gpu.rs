//! Kernels for GPUs on a device, whatever it is: whole nets against the reference executor.
#![cfg(feature = "opencl")]

mod common;

use common::command::{alexc, stdout, told};

fn compare(arguments: &[&str]) {
    let cache = tempfile::tempdir().unwrap();
    let mut compare = alexc();
    compare.arg("compare").args(arguments).args(["--device", "opencl:0", "--schedule", "gpu"]);
    stdout(compare.env("ALEXC_CACHE_DIR", cache.path()));
}

#[test]
fn nets_agree_with_the_reference() {
    compare(&["specs/digits.yaml", "--weights", "specs/digits/digits.safetensors"]);
    compare(&["specs/digits.yaml", "--batch", "5"]);
    compare(&["specs/digits.yaml", "--no-fusion"]);
    compare(&["specs/lenet5.yaml", "--batch", "2"]);
}

/// Every layer of an AlexNet, its convolutions by tiles of several sizes.
#[test]
fn alexnet_by_winograd() {
    let sets =
        ["conv2.algorithm=winograd4", "conv3.algorithm=winograd7", "conv4.algorithm=winograd2"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    compare(&["specs/alexnet.yaml"].into_iter().chain(sets).collect::<Vec<_>>());
    compare(&["specs/lenet5.yaml", "--batch", "3", "--set", "conv2.algorithm=winograd3"]);
}

#[test]
fn nets_with_and_without_winograd_are_measured() {
    let cache = tempfile::tempdir().unwrap();
    let spec = cache.path().join("net.yaml");
    let layer = "{name: a, type: conv, out_channels: 16, kernel_size: 3}";
    let text = format!("name: net\ninput: {{shape: [1, 16, 9, 9]}}\nlayers:\n  - {layer}\n");
    std::fs::write(&spec, text).unwrap();
    let mut bench = alexc();
    bench.arg("bench").arg(&spec).args(["--device", "opencl:0", "--schedule", "gpu"]);
    bench.args(["--tune", "-v", "--iters", "3"]).env("ALEXC_CACHE_DIR", cache.path());
    let told = told(&mut bench);
    let line = told.lines().find(|line| line.contains("Winograd at any cost")).unwrap_or(&told);
    assert!(line.trim_end().ends_with("ms"), "{told}");
}

/// The second run takes what the first one kept, and a damaged file counts for nothing.
#[test]
fn shapes_are_measured_once() {
    let cache = tempfile::tempdir().unwrap();
    let bench = || {
        let mut bench = alexc();
        bench.args(["bench", "specs/lenet5.yaml", "--device", "opencl:0", "--tune", "-v"]);
        told(bench.args(["--iters", "3"]).env("ALEXC_CACHE_DIR", cache.path()))
    };
    let file = || {
        let files = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
        let kept: Vec<_> =
            files.filter(|path| path.to_string_lossy().ends_with(".device.json")).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        kept[0].clone()
    };
    assert!(!bench().contains("measured before"));
    assert!(file().is_file());
    let listed = stdout(alexc().args(["cache", "list"]).env("ALEXC_CACHE_DIR", cache.path()));
    let name = file().file_name().unwrap().to_str().unwrap().to_owned();
    let line = listed.lines().find(|line| line.starts_with(&name)).expect("it is listed");
    assert!(line.contains(" units"), "{line}");
    assert!(bench().contains("measured before"));
    std::fs::write(file(), "{").unwrap();
    assert!(!bench().contains("measured before"));
    assert!(bench().contains("measured before"));
}
