//! Kernels for GPUs on a device, whatever it is: whole nets against the reference executor.
#![cfg(feature = "opencl")]

mod common;

use alexc::algorithm::Math;
use alexc::compile::opencl::{Device as Target, compile};
use alexc::compile::{self, Options};
use alexc::graph::build::{self, BuildOptions};
use alexc::lower::gpu::Parameters;
use alexc::weights::{self, Random};
use alexc::{opencl, reference};
use alexc_codegen::opencl::{Warps, probe};
use alexc_runtime::opencl::{Build, Session, choose, takes_ptx};
use common::command::{alexc, failure, stdout, told};
use ndarray::ArrayD;
use std::sync::Arc;

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

/// Kernels for tensor cores on a device that has none: the items of a warp exchange what NVIDIA's
/// instructions would. Layouts, tiles and epilogues are those of the real ones.
#[test]
fn warps_agree_with_the_reference() {
    let layers = "
  - {name: a, type: conv, out_channels: 40, kernel_size: 3, stride: 2, padding: 1}
  - {name: b, type: relu}
  - {name: c, type: conv, out_channels: 48, kernel_size: 3, padding: 1}
  - {name: d, type: linear, out_features: 20}";
    let spec = format!("name: test\ninput: {{shape: [3, 16, 9, 8]}}\nlayers:{layers}\n");
    let (_, graph) = build::load("test.yaml", &spec, &BuildOptions::default()).unwrap();
    let source = weights::open("random:7").unwrap().check(&graph.tensors()).unwrap();
    let shape = graph.values[graph.input.index()].shape;
    let input = Random::new(7).input(shape.len());
    let array = ArrayD::from_shape_vec(shape.dims(), input.clone()).unwrap();
    let values: Vec<ArrayD<f64>> = reference::run(&graph, &source, &array).unwrap();
    let expected = &values[graph.output.index()];
    let scale = (expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64).sqrt();

    let device = choose("0").unwrap();
    for (math, tile, most_splits) in [(Math::Tf32, 3, 1), (Math::Tf32, 4, 2), (Math::F16, 4, 1)] {
        let tensor_tiles = &Parameters::LARGE.tensor_tiles[tile..=tile];
        let parameters =
            Parameters { tensor_tiles, most_splits, least_steps: 1, ..Parameters::LARGE };
        let warps = Some(Warps::Emulated);
        let target = Target { parameters, warps, fma: device.about.fma, ..Target::GPU };
        let options =
            Options { math, ..Options::new(alexc_codegen::target::Target::host().unwrap()) };
        let net = compile(&graph, &options, target).unwrap();
        assert!(net.program().contains("= alexc_mma_"));
        let weights = Arc::new(compile::pack(&net, &source, 1, |_| ()).unwrap());
        let mut session =
            Session::new(&opencl::net(&net), &weights, &device, &Build::default()).unwrap();
        let mut found = vec![0.0; expected.len()];
        session.run(&input, &mut found).unwrap();
        let errors = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - b).abs() / scale);
        let most = errors.fold(0.0, |most, error| if error <= most { most } else { error });
        // As in `gpu_schedule`: each operand is wrong by up to 2^-11.
        assert!((1e-5..4e-3).contains(&most), "{math:?}, tile {tile}: {most:e}");
    }
}

/// A device that does not take PTX runs a net as without the wish for tensor cores.
#[test]
fn tensor_cores_are_no_condition() {
    let device = choose("0").unwrap();
    if takes_ptx(&device, &probe()) {
        common::left_out(format_args!("{device} has tensor cores"));
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    for math in ["tf32", "f16"] {
        let mut compare = alexc();
        compare.args(["compare", "specs/digits.yaml", "--device", "opencl:0", "--schedule", "gpu"]);
        compare.args(["--math", math, "--tolerance", "1e-5", "-v"]);
        let told = told(compare.env("ALEXC_CACHE_DIR", cache.path()));
        let note = format!("--math {math}: opencl:0");
        assert!(told.contains(&note) && told.contains("computes in f32"), "{told}");
    }
}

#[test]
fn processors_have_no_tensor_cores() {
    for command in ["run --input specs/digits/seven.png", "bench", "compare", "dump --stage plan"] {
        let mut alexc = alexc();
        let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
        alexc.args([command, "specs/digits.yaml"]).args(rest.split_whitespace());
        if command != "dump" {
            alexc.args(["--weights", "random:1"]);
        }
        let (code, told) = failure(alexc.args(["--math", "tf32"]));
        assert!(code == 2 && told.contains("--math tf32 is for GPUs"), "{command}: {told}");
    }
    let dump = ["dump", "specs/digits.yaml", "--stage", "opencl", "--math", "tf32", "--batch", "3"];
    let (code, told) = failure(alexc().args(dump));
    assert!(code == 2 && told.contains("--math tf32 is for GPUs"), "{told}");
    let source = stdout(alexc().args(dump).args(["--schedule", "gpu"]));
    assert!(source.contains("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"), "{source}");
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
