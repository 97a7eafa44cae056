use super::*;
use crate::compile::{Emitter, Options, compile};
use crate::graph::build::{self, BuildOptions};
use alexc_codegen::target::Target;

const SPEC: &str = "
name: small
input: {shape: [2, 16, 12, 12]}
layers:
  - {name: conv1, type: conv, out_channels: 32, kernel_size: 3, padding: 1}
  - {name: relu1, type: relu}
  - {name: fc2, type: linear, out_features: 10}
";

/// Every step of run r takes (r + 1) * (s + 1) ms.
fn profile() -> Profile {
    let (_, graph) = build::load("small.yaml", SPEC, &BuildOptions::default()).unwrap();
    let mut options = Options::new(Target::new(None, "generic").unwrap());
    options.emitter = Some(Emitter::Cranelift);
    let set = crate::algorithm::Override {
        layer: "conv1".to_owned(),
        algorithm: Algorithm::Winograd { m: 4 },
    };
    options.overrides.push(set);
    let compiled = compile(&graph, &options).unwrap();
    let steps = compiled.program.steps.len() as u64;
    let run = |r: u64| (0..steps).map(|s| Duration::from_millis((r + 1) * (s + 1))).collect();
    let limits = Limits { read_bytes_per_s: 1e9, flops_per_s: 1e10 };
    let measured = Measured {
        steps: [2, 0, 1].map(run).to_vec(),
        run: Duration::from_millis(5),
        device: "cpu".to_owned(),
        code: Some(("x86_64".to_owned(), "cranelift".to_owned())),
        threads: 2,
        limits,
    };
    Profile::new(&compiled.program, Some(&compiled), &measured)
}

#[test]
fn times_are_sorted_into_layers() {
    let json = profile().to_json();
    let layers = json["layers"].as_array().unwrap();
    let names: Vec<&str> = layers.iter().map(|layer| layer["layer"].as_str().unwrap()).collect();
    assert_eq!(names, ["input", "conv1", "fc2", "output"]);
    assert_eq!(layers[1]["layers"], json!(["conv1", "relu1"]));
    let mut step = 0;
    for layer in layers {
        let mut sum = 0;
        for kernel in layer["kernels"].as_array().unwrap() {
            step += 1;
            sum += step;
            assert_eq!(kernel["min_ms"], f64::from(step));
            assert_eq!(kernel["p50_ms"], f64::from(2 * step));
        }
        assert_eq!(layer["min_ms"], f64::from(sum));
    }
    assert_eq!(json["total"]["min_ms"], f64::from(step * (step + 1) / 2));
    let shares: f64 = layers.iter().map(|layer| layer["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
}

/// The arithmetic of the linear layer and the rate of the convolution, by hand.
#[test]
fn work_and_limits() {
    let json = profile().to_json();
    let conv = &json["layers"][1];
    assert_eq!(conv["algorithm"], "winograd4");
    // Two for each of 16 * 3 * 3 weights and one for the bias, for 2 * 32 * 12 * 12 outputs.
    let flops = 2.0 * 32.0 * 144.0 * (2.0 * 144.0 + 1.0);
    let rate = flops / conv["min_ms"].as_f64().unwrap() / 1e6;
    assert!((conv["direct_gflops"].as_f64().unwrap() - rate).abs() < 1e-9 * rate);
    assert!(conv["flops"].as_f64().unwrap() < flops, "Winograd's method saves some");

    let linear = &json["layers"][2];
    assert_eq!(linear["direct_gflops"], Value::Null);
    // 32 * 12 * 12 inputs, 10 outputs in a block of 16, 2 images. The images are gathered, which
    // reads and writes them, then read; bias and outputs are little.
    let bytes = linear["bytes"].as_f64().unwrap();
    let (weights, activations) = (4.0 * 4608.0 * 16.0, 4.0 * 2.0 * 4608.0);
    assert!((weights..weights + 4.0 * activations).contains(&bytes), "{bytes}");
    assert_eq!(linear["limit"], "memory");
    let least_ms = bytes / 1e9 * 1e3;
    let part = linear["of_limit"].as_f64().unwrap();
    assert!((part - least_ms / linear["min_ms"].as_f64().unwrap()).abs() < 1e-9, "{part}");
}

#[test]
fn table_shows_kernels_where_wanted() {
    let profile = profile();
    let (short, long) = (profile.table(false), profile.to_string());
    assert!(short.contains("\nconv1   winograd4  "), "{short}");
    assert!(!short.contains("transform_input") && long.contains("  transform_input"), "{long}");
    assert!(short.contains("limits: 10.0 GFLOP/s, 1.0 GB/s"), "{short}");
}
