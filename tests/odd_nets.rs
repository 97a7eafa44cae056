//! Nets that are legal, but that nobody would train: `alexc compare` must find them right however
//! they are compiled.

mod common;

use alexc::algorithm::Math;
use alexc::compile;
use alexc::graph::build::{self, BuildOptions};
use alexc::report::compare::{boundaries, with_reference};
use alexc::report::difference::Tolerance;
use alexc::weights::{self, Random};
use common::command::alexc;
use common::machines::devices;
use ndarray::ArrayD;

/// Input and layers; LRN stands for a normalisation, `;` between layers.
const NETS: &[(&str, &str)] = &[
    // Vectors alone.
    ("[1, 17]", "type: linear, out_features: 10"),
    ("[2, 17]", "type: relu"),
    ("[3, 17]", "type: softmax"),
    ("[1, 1]", "type: tanh"),
    ("[2, 5]", "type: batch_norm"),
    ("[2, 5]", "type: flatten"),
    ("[2, 5]", "type: dropout, p: 0.5"),
    ("[2, 17]", "type: concat, from: [input, input, input]; type: softmax"),
    ("[2, 5]", "type: add, from: [input, input]"),
    // One layer, and it is not much.
    ("[2, 7, 12, 9]", "type: relu"),
    ("[2, 7, 12, 9]", "type: flatten"),
    ("[2, 7, 12, 9]", "type: dropout, p: 0.1"),
    ("[2, 19, 3, 5]", "type: softmax"),
    ("[1, 1, 3, 5]", "type: softmax"),
    ("[1, 33, 6, 6]", "LRN"),
    ("[2, 3, 4, 5]", "type: concat, from: [input, input]"),
    ("[2, 7, 3, 3]", "type: add, from: [input, input, input]"),
    // Maps of a single pixel.
    ("[1, 1, 1, 1]", "type: conv, out_channels: 5, kernel_size: 1"),
    ("[2, 3, 1, 1]", "type: conv, out_channels: 5, kernel_size: 3, padding: 1, stride: 2"),
    (
        "[2, 1, 1, 1]",
        "type: conv, out_channels: 5, kernel_size: 3, padding: 1; \
         type: max_pool, kernel_size: 1; type: avg_pool, kernel_size: 1; \
         type: linear, out_features: 1",
    ),
    // Windows.
    ("[2, 18, 7, 5]", "type: conv, out_channels: 33, kernel_size: [7, 5]"),
    ("[2, 3, 7, 7]", "type: conv, out_channels: 33, kernel_size: 9, padding: 1"),
    ("[2, 3, 17, 18]", "type: conv, out_channels: 8, kernel_size: 2, stride: 5"),
    (
        "[2, 3, 17, 18]",
        "type: max_pool, kernel_size: 2, stride: 5; type: avg_pool, kernel_size: 1, stride: 2",
    ),
    (
        "[2, 3, 12, 13]",
        "type: conv, out_channels: 8, kernel_size: 3, dilation: 4, padding: 4; type: relu; \
         type: conv, out_channels: 8, kernel_size: [3, 2], dilation: [2, 3]",
    ),
    (
        "[2, 20, 12, 13]",
        "type: conv, out_channels: 20, kernel_size: 3, groups: 20, padding: 1; type: relu; \
         type: conv, out_channels: 40, kernel_size: 3, groups: 20, stride: 2",
    ),
    // A kernel for each channel: large, wide, strided, spread, and with all that can follow.
    (
        "[2, 40, 19, 23]",
        "type: conv, out_channels: 40, kernel_size: [3, 11], groups: 40, padding: [2, 3]; \
         type: conv, out_channels: 40, kernel_size: 5, groups: 40, stride: 2, bias: false; \
         type: conv, out_channels: 40, kernel_size: 2, groups: 40, dilation: 3, padding: 2",
    ),
    (
        "[1, 32, 40, 9]",
        "type: conv, out_channels: 32, kernel_size: 3, groups: 32, padding: 1; \
         type: batch_norm; type: relu; LRN; type: max_pool, kernel_size: 3, stride: 2; \
         type: conv, out_channels: 32, kernel_size: 3, groups: 32, padding: 1; \
         type: add, from: [l5, l4]; type: relu; \
         type: conv, out_channels: 50, kernel_size: 1; type: linear, out_features: 3",
    ),
    ("[1, 3, 2, 2]", "type: conv, out_channels: 7, kernel_size: 11, padding: 10, stride: 3"),
    (
        "[1, 3, 1, 300]",
        "type: conv, out_channels: 3, kernel_size: [1, 3]; type: relu; \
         type: conv, out_channels: 3, kernel_size: [1, 7], stride: [1, 3]",
    ),
    (
        "[2, 3, 6, 4]",
        "type: conv, out_channels: 7, kernel_size: 3, \
         padding: {top: 0, left: 4, bottom: 5, right: 1}; \
         type: relu; type: avg_pool, kernel_size: 5, padding: [2, 0]",
    ),
    // What usually comes last comes first, and the other way round.
    ("[2, 7, 6, 6]", "LRN; type: conv, out_channels: 6, kernel_size: 3"),
    (
        "[2, 7, 12, 9]",
        "type: max_pool, kernel_size: 3, stride: 2, padding: 1, ceil_mode: true; \
         type: conv, out_channels: 6, kernel_size: 3",
    ),
    (
        "[2, 7, 12, 9]",
        "type: avg_pool, kernel_size: 3, stride: 2, padding: 1, count_include_pad: false; \
         type: conv, out_channels: 6, kernel_size: 3",
    ),
    (
        "[2, 7, 5, 3]",
        "type: batch_norm; type: conv, out_channels: 7, kernel_size: 3, padding: 1; \
         type: batch_norm; type: relu",
    ),
    ("[2, 7, 12, 9]", "type: conv, out_channels: 6, kernel_size: 3; type: dropout, p: 0.5"),
    ("[2, 7, 12, 9]", "type: conv, out_channels: 6, kernel_size: 3; type: flatten"),
    (
        "[2, 7, 6, 6]",
        "type: conv, out_channels: 6, kernel_size: 3; LRN; type: relu; \
         type: max_pool, kernel_size: 2; type: relu",
    ),
    (
        "[2, 7, 6, 4]",
        "type: linear, out_features: 3; type: softmax; type: dropout, p: 0.2; type: softmax",
    ),
    (
        "[2, 7, 3, 3]",
        "type: linear, out_features: 33; type: linear, out_features: 1; \
         type: linear, out_features: 20, bias: false",
    ),
    (
        "[2, 3, 3, 5]",
        "type: conv, out_channels: 19, kernel_size: 1; type: softmax; \
         type: conv, out_channels: 3, kernel_size: 1",
    ),
    // Branches.
    (
        "[2, 7, 5, 3]",
        "type: conv, out_channels: 7, kernel_size: 3, padding: 1; type: add, from: [l0, l0, input]",
    ),
    (
        "[2, 7, 5, 3]",
        "type: conv, out_channels: 7, kernel_size: 3, padding: 1; type: batch_norm; \
         type: add, from: [l1, l0]",
    ),
    (
        "[1, 5, 4, 5]",
        "type: relu; type: concat, from: [l0, input, l0]; type: concat, from: [l1, input, l1]; \
         type: conv, out_channels: 6, kernel_size: 3",
    ),
    ("[2, 7, 3, 3]", "type: flatten; type: concat, from: [l0, l0]; type: linear, out_features: 3"),
    (
        "[2, 7, 6, 4]",
        "type: conv, out_channels: 7, kernel_size: 3, padding: 1; type: relu; \
         type: max_pool, kernel_size: 2; type: avg_pool, kernel_size: 2, from: l0; \
         type: concat, from: [l2, l3]",
    ),
    // A whole small net of one channel, and one of a batch that divides nothing.
    (
        "[3, 1, 13, 12]",
        "type: conv, out_channels: 1, kernel_size: 5, padding: 2; type: relu; LRN; \
         type: conv, out_channels: 1, kernel_size: 3, padding: 1",
    ),
    (
        "[7, 3, 31, 29]",
        "type: conv, out_channels: 33, kernel_size: 11, stride: 4, padding: [1, 2]; type: relu; \
         LRN; type: max_pool, kernel_size: 3, stride: 2; \
         type: conv, out_channels: 33, kernel_size: 3, padding: 1, groups: 3; type: relu; \
         type: linear, out_features: 7; type: softmax",
    ),
];

const LRN: &str = "type: lrn, size: 5, alpha: 0.1, beta: 0.75, k: 1.0, alpha_scaling: sum";

/// Ways to compile.
const WAYS: [&str; 6] = [
    "",
    "--no-fusion",
    "--math strict",
    "--emitter cranelift",
    "--emitter cranelift --no-fusion --math strict",
    "--batch 5 --threads 3",
];

fn spec(input: &str, layers: &str) -> String {
    let mut spec = format!("name: odd\ninput: {{shape: {input}}}\nlayers:\n");
    for (index, layer) in layers.split("; ").enumerate() {
        let layer = if layer == "LRN" { LRN } else { layer };
        spec.push_str(&format!("  - {{name: l{index}, {layer}}}\n"));
    }
    spec
}

/// What `compare` does, on every OpenCL device, without the time for good code.
fn on_devices(math: Math, fuse: bool) {
    for (machine, (input, layers)) in
        devices().iter().flat_map(|m| NETS.iter().map(move |n| (m, n)))
    {
        let spec = spec(input, layers);
        let (_, graph) = build::load("odd.yaml", &spec, &BuildOptions::default()).unwrap();
        let source = weights::open("random:1").unwrap().check(&graph.tensors()).unwrap();
        let change = |options: &mut compile::Options| {
            options.math = math;
            options.fuse = fuse;
        };
        let made = machine.compile(&graph, change).unwrap();
        let weights = compile::pack(&made, &source, 1, |_| ()).unwrap();
        let shape = graph.values[graph.input.index()].shape;
        let input = Random::new(1).input(shape.len());
        let mut session = made.load(weights).session_built_soon(1);
        let found = boundaries(&made, &mut *session, &input).unwrap();
        let input = ArrayD::from_shape_vec(shape.dims(), input).unwrap();
        let tolerance = Tolerance::new(1e-5);
        let comparison = with_reference(&found, &graph, &source, &input, tolerance).unwrap();
        assert!(comparison.agrees(), "{}: {spec}{comparison}", machine.name());
    }
}

#[test]
fn every_one_is_right_on_devices() {
    on_devices(Math::Fast, true);
}

#[test]
fn every_one_is_right_on_devices_layer_by_layer() {
    on_devices(Math::Strict, false);
}

#[test]
fn every_one_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.yaml");
    for (input, layers) in NETS {
        let spec = spec(input, layers);
        std::fs::write(&file, &spec).unwrap();
        for way in WAYS {
            let mut command = alexc();
            command.arg("compare").arg(&file).args(way.split_whitespace());
            let output = command.output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(0),
                "{way}: {spec}{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
