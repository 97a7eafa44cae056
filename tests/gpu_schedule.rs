//! Kernels for GPUs by the interpreter, which also finds items in each other's way, against the
//! reference executor in f64. That a device computes the same is tested where one is.

mod common;

use alexc::algorithm::{Algorithm, AlgorithmError, Math, Override};
use alexc::compile::opencl::{Device, OpenClNet, Schedule, compile};
use alexc::compile::{self, CompileError, Options};
use alexc::graph::build::{self, BuildOptions};
use alexc::lower::gpu::Parameters;
use alexc::reference;
use alexc::report::estimate;
use alexc::weights::{self, Random};
use alexc_codegen::ir::{DType, ParallelDim};
use alexc_codegen::target::Target;
use common::{interpret, random_net};
use ndarray::ArrayD;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::path::Path;

const SEED: u64 = 3;

/// Largest error of an element of the output, as a part of its root mean square, or of 0.1.
fn error(spec: &str, parameters: Parameters, dtype: DType, fuse: bool) -> f64 {
    let mut options = Options::new(Target::host().unwrap());
    options.weights_dtype = dtype;
    options.fuse = fuse;
    error_with(spec, parameters, &options).0
}

/// The same, and the net.
fn error_with(spec: &str, parameters: Parameters, options: &Options) -> (f64, OpenClNet) {
    let (_, graph) = build::load("random.yaml", spec, &BuildOptions::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    let source = weights::open(&format!("random:{SEED}")).unwrap();
    let source = source.check(&graph.tensors()).unwrap();
    let shape = graph.values[graph.input.index()].shape;
    let input = Random::new(SEED).input(shape.len());
    let array = ArrayD::from_shape_vec(shape.dims(), input.clone()).unwrap();
    let values: Vec<ArrayD<f64>> = reference::run(&graph, &source, &array).unwrap();
    let expected = &values[graph.output.index()];

    let device = Device { parameters, ..Device::GPU };
    let net = compile(&graph, options, device).unwrap();
    let weights = compile::pack(&net, &source, 1, |_| ()).unwrap();
    let found = interpret::run(&net, weights.as_bytes(), &input);
    assert_eq!(found.len(), expected.len());
    let square = expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64;
    let scale = square.sqrt().max(0.1);
    let errors = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - b).abs() / scale);
    // A NaN must not get lost.
    (errors.fold(0.0, |most, error| if error <= most { most } else { error }), net)
}

fn exact(spec: &str, parameters: Parameters) {
    for fuse in [true, false] {
        let error = error(spec, parameters, DType::F32, fuse);
        assert!(error < 1e-4, "error {error:e}, fused: {fuse}\n{spec}");
    }
}

fn net(input: &str, layers: &str) -> String {
    format!("name: test\ninput: {{shape: {input}}}\nlayers:{layers}\n")
}

/// Tiles of one shape, and sums in up to `splits` parts.
fn only(tile: usize, splits: usize) -> Parameters {
    let tiles = &Parameters::LARGE.tiles[tile..=tile];
    Parameters { tiles, most_splits: splits, least_steps: 1, ..Parameters::LARGE }
}

const CONVOLUTIONS: &[(&str, &str)] = &[
    // Blocks of 16 channels, padding, activations and a sum in the epilogue.
    (
        "[2, 32, 7, 6]",
        "
  - {name: a, type: conv, out_channels: 40, kernel_size: 3, padding: 1}
  - {name: b, type: relu}
  - {name: c, type: conv, out_channels: 40, kernel_size: 1}
  - {name: d, type: add, from: [b, c]}
  - {name: e, type: tanh}",
    ),
    // Few channels, stride and dilation, a sum that no tile divides.
    (
        "[1, 3, 23, 19]",
        "
  - {name: a, type: conv, out_channels: 17, kernel_size: [5, 3], stride: [2, 3], padding: 2}
  - {name: b, type: conv, out_channels: 5, kernel_size: 2, dilation: 3}",
    ),
    // Groups: of whole blocks of outputs, of less than that, and one a channel.
    (
        "[1, 32, 6, 5]",
        "
  - {name: a, type: conv, out_channels: 64, kernel_size: 3, padding: 1, groups: 2}
  - {name: b, type: conv, out_channels: 36, kernel_size: 3, groups: 4}
  - {name: c, type: conv, out_channels: 36, kernel_size: 2, padding: 1, groups: 36}",
    ),
    // Padding on some sides only.
    (
        "[1, 16, 5, 5]",
        "
  - {name: a, type: conv, out_channels: 16, kernel_size: 3, stride: 2,
     padding: {top: 2, left: 0, bottom: 0, right: 1}}",
    ),
];

#[test]
fn convolutions_in_every_tile() {
    for &(input, layers) in CONVOLUTIONS {
        for tile in 0..Parameters::LARGE.tiles.len() {
            exact(&net(input, layers), only(tile, 1));
        }
    }
}

/// Two groups of rows where there is one of channels.
#[test]
fn convolutions_for_two_devices() {
    let rows = |layers: &str| layers.replace("out_channels: 40", "out_channels: 64");
    for (index, &(input, layers)) in CONVOLUTIONS.iter().enumerate() {
        for splits in [1, 3] {
            let parameters = Parameters { halves: true, ..only(index % 5, splits) };
            exact(&net(input, &rows(layers)), parameters);
        }
    }
    let vectors = "\n  - {name: a, type: linear, out_features: 96}";
    exact(&net("[3, 7, 2, 2]", vectors), Parameters { halves: true, ..only(3, 1) });
}

#[test]
fn convolutions_with_split_sums() {
    for &(input, layers) in CONVOLUTIONS {
        for splits in [2, 3, 5] {
            exact(&net(input, layers), only(4, splits));
        }
    }
}

/// `a` is the convolution.
const BY_TILES: &[(&str, &str)] = &[
    // Two images, tiles that end at the maps' edges and others that do not, a whole epilogue.
    (
        "[2, 19, 9, 8]",
        "
  - {name: b, type: conv, out_channels: 21, kernel_size: 1}
  - {name: a, type: conv, from: input, out_channels: 21, kernel_size: 3, padding: 1}
  - {name: c, type: add, from: [a, b]}
  - {name: d, type: relu}
  - {name: e, type: lrn, size: 3, alpha: 0.5, beta: 0.75, k: 1.0, alpha_scaling: mean}
  - {name: f, type: max_pool, kernel_size: 3, stride: 2}",
    ),
    // Groups of a block of outputs, of channels that fill none; a normalisation to fold.
    (
        "[1, 10, 7, 11]",
        "
  - {name: a, type: conv, out_channels: 32, kernel_size: 5, padding: 2, groups: 2, bias: false}
  - {name: b, type: batch_norm}",
    ),
    // No padding, or more than a kernel reaches past, on some sides only.
    ("[3, 4, 5, 6]", "\n  - {name: a, type: conv, out_channels: 3, kernel_size: 3}"),
    (
        "[1, 33, 4, 4]",
        "
  - {name: a, type: conv, out_channels: 16, kernel_size: 3,
     padding: {top: 3, left: 0, bottom: 1, right: 2}}",
    ),
    // A map of one tile, and one within its padding.
    ("[5, 16, 1, 1]", "\n  - {name: a, type: conv, out_channels: 17, kernel_size: 3, padding: 1}"),
    ("[1, 3, 2, 3]", "\n  - {name: a, type: conv, out_channels: 8, kernel_size: 2, padding: 4}"),
];

/// Of every size, in every tile, with sums in parts.
#[test]
fn winograd() {
    let mut options = Options::new(Target::host().unwrap());
    let mut parts = 0;
    for (index, &(input, layers)) in BY_TILES.iter().enumerate() {
        let spec = net(input, layers);
        let most = if layers.contains("kernel_size: 5") { 6 } else { 8 };
        for m in 2..=most {
            let algorithm = Algorithm::Winograd { m };
            options.overrides = vec![Override { layer: "a".to_owned(), algorithm }];
            let parameters = only((index + m) % 5, 1 + m % 3);
            let (error, net) = error_with(&spec, parameters, &options);
            assert!(error < 1e-4, "{algorithm}: error {error:e}\n{spec}");
            let call = |name: &str| {
                let mut calls = net.lowered.calls.iter();
                &calls.find(|call| call.label() == name).unwrap().kernel
            };
            let products = call("a.multiply_points");
            let is_part = |dim: &ParallelDim| products.vars[usize::from(dim.var.0)] == "part";
            parts += usize::from(products.parallel.iter().any(is_part));
            assert!(call("a.transform_output").items.is_empty());
        }
    }
    assert!(parts > 5, "{parts} sums were split");
}

/// As many images at a time as memory is given to.
#[test]
fn winograd_by_images() {
    let (input, layers) = BY_TILES[0];
    let spec = net(&input.replace("[2,", "[7,"), layers);
    let mut options = Options::new(Target::host().unwrap());
    let algorithm = Algorithm::Winograd { m: 4 };
    options.overrides = vec![Override { layer: "a".to_owned(), algorithm }];
    // 36 points, 19 channels and 21, 3 x 2 tiles.
    let image_bytes = 4 * 36 * (19 + 21) * 3 * 2;
    for (points_bytes, times) in [(0, 7), (3 * image_bytes - 1, 4), (7 * image_bytes - 1, 2)] {
        let parameters = Parameters { points_bytes, ..only(4, 2) };
        let (error, net) = error_with(&spec, parameters, &options);
        assert!(error < 1e-4, "error {error:e}, {times} times");
        let calls = net.lowered.calls.iter().map(|call| call.label());
        assert_eq!(calls.filter(|label| label == "a.multiply_points").count(), times);
    }
}

/// Unasked where it pays, and nowhere where the user or the table has it so.
#[test]
fn winograd_by_cost() {
    let spec = |images: usize| {
        let layer = "\n  - {name: a, type: conv, out_channels: 384, kernel_size: 3, padding: 1}";
        net(&format!("[{images}, 256, 13, 13]"), layer)
    };
    let mut options = Options::new(Target::host().unwrap());
    let algorithm = |images, percent, options: &Options| {
        let (_, graph) = build::load("test.yaml", &spec(images), &BuildOptions::default()).unwrap();
        let parameters = Parameters { winograd_percent: percent, ..Parameters::LARGE };
        let net = compile(&graph, options, Device { parameters, ..Device::GPU }).unwrap();
        net.algorithms[0]
    };
    // Larger tiles need shorter sums than there are.
    assert!(matches!(algorithm(64, 100, &options), Algorithm::Winograd { m: 2..=6 }));
    assert_eq!(algorithm(64, 0, &options), Algorithm::Direct);
    // One image's maps are too small to pay for two more kernels.
    assert_eq!(algorithm(1, 100, &options), Algorithm::Direct);
    assert!(matches!(algorithm(1, usize::MAX, &options), Algorithm::Winograd { .. }));
    options.math = Math::Strict;
    assert_eq!(algorithm(64, 100, &options), Algorithm::Direct);
}

/// By hand: tiles of 32 x 32, one step of 16 products, 32 biases for 64 pixels.
#[test]
fn estimates() {
    let spec =
        net("[1, 16, 8, 8]", "\n  - {name: a, type: conv, out_channels: 32, kernel_size: 1}");
    let options = Options::new(Target::host().unwrap());
    let text = estimate::text(&error_with(&spec, only(4, 1), &options).1, None);
    let line = text.lines().find(|line| line.starts_with("a.conv")).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    // 2 tiles x 32 x 32 x 16 products and 32 x 64 additions; 16 x 64, 16 x 32, 32 and 32 x 64
    // elements; half of the products at 180 a nanosecond; a step and two around it.
    let expected = [
        "a.conv", "direct", "2", "64", "67,584", "14.1", "KiB", "0.09", "0.01", "1.05", "1.05",
        "steps",
    ];
    assert_eq!(cells, expected, "{text}");
    assert!(text.ends_with("1 kernels, at least 1.05 us; and 2.00 us between them.\n"), "{text}");
}

#[test]
fn what_gpus_lack_is_refused() {
    let layers = "
  - {name: a, type: conv, out_channels: 8, kernel_size: 4, stride: 2}
  - {name: b, type: conv, out_channels: 16, kernel_size: 3, groups: 2}";
    let (_, graph) =
        build::load("test.yaml", &net("[1, 4, 16, 16]", layers), &BuildOptions::default()).unwrap();
    for (layer, algorithm) in
        [("a", Algorithm::SpaceToDepth { m: 4 }), ("b", Algorithm::Winograd { m: 4 })]
    {
        let mut options = Options::new(Target::host().unwrap());
        options.overrides = vec![Override { layer: layer.to_owned(), algorithm }];
        let error = compile(&graph, &options, Device::GPU).unwrap_err();
        let refused = matches!(
            &error,
            CompileError::Algorithm(AlgorithmError::NotOnGpus { layer: of, algorithm: what })
                if of == layer && *what == algorithm
        );
        assert!(refused, "{error}");
    }
}

#[test]
fn linear_layers() {
    for images in [1, 3, 33] {
        for inputs in [1, 5, 64, 700] {
            let layers = "
  - {name: a, type: linear, out_features: 35}
  - {name: b, type: relu}
  - {name: c, type: linear, out_features: 10}
  - {name: d, type: softmax}";
            exact(&net(&format!("[{images}, {inputs}]"), layers), only(4, 4));
        }
    }
    for items in [64, 128, 256] {
        let parameters = Parameters { vector_items: items, vector_unroll: 3, ..only(4, 1) };
        exact(&net("[1, 9, 5, 5]", "\n  - {name: a, type: linear, out_features: 18}"), parameters);
    }
}

#[test]
fn narrow_weights() {
    for images in [1, 6] {
        let spec =
            net(&format!("[{images}, 200]"), "\n  - {name: a, type: linear, out_features: 50}");
        for (dtype, least, most) in
            [(DType::F16, 1e-6, 2e-3), (DType::Bf16, 1e-5, 2e-2), (DType::I8, 1e-4, 4e-2)]
        {
            let error = error(&spec, Parameters::default(), dtype, true);
            assert!((least..most).contains(&error), "{dtype:?}: {error:e}");
        }
    }
}

#[test]
fn everything_else() {
    let layers = [
        "
  - {name: a, type: lrn, size: 5, alpha: 1.0, beta: 0.75, k: 2.0, alpha_scaling: mean}
  - {name: b, type: max_pool, kernel_size: 3, stride: 2}
  - {name: c, type: sigmoid}",
        "
  - {name: a, type: lrn, size: 41, alpha: 1.0, beta: 1.5, k: 1.0, alpha_scaling: sum}
  - {name: b, type: avg_pool, kernel_size: 3, stride: 2, padding: 1, count_include_pad: false}",
        "
  - {name: a, type: max_pool, kernel_size: 3, stride: 2, padding: 1, ceil_mode: true}
  - {name: b, type: avg_pool, kernel_size: 2, padding: 1}
  - {name: c, type: softmax}",
        "
  - {name: a, type: concat, from: [input, input]}
  - {name: b, type: batch_norm}
  - {name: c, type: flatten}
  - {name: d, type: dropout, p: 0.5}",
        "
  - {name: a, type: avg_pool, kernel_size: 19, stride: 1, padding: 9, count_include_pad: false}",
    ];
    for layers in layers {
        exact(&net("[2, 9, 9, 9]", layers), Parameters::default());
    }
    // More channels than shared memory holds, and not a multiple of anything.
    exact(&net("[2, 4099]", "\n  - {name: a, type: softmax}"), Parameters::default());
    exact(&net("[1, 1, 2, 3]", "\n  - {name: a, type: softmax}"), Parameters::default());
}

/// Kernels are refused where the verifier has no proof that items keep apart: it must have one
/// for the nets as they are, whatever the batch, in every tile.
#[test]
fn every_net_is_proved() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (batch, tile) in [(1, 0), (1, 1), (2, 2), (3, 3), (64, 4)] {
            let batch = BuildOptions { batch: Some(batch), ..BuildOptions::default() };
            let (_, graph) = build::load(&path.display().to_string(), &text, &batch)
                .unwrap_or_else(|errors| panic!("{errors}"));
            let plain = Options::new(Target::host().unwrap());
            let rounded = Options { math: Math::Tf32, ..plain.clone() };
            for (options, parameters) in [
                (&plain, only(tile, 16)),
                (&plain, Parameters::LARGE),
                (&rounded, tensor(tile, 16)),
                (&rounded, Parameters::LARGE),
            ] {
                let device = Device { parameters, ..Device::GPU };
                if let Err(error) = compile(&graph, options, device) {
                    panic!("{}: {error}", path.display());
                }
            }
        }
    }
}

/// Operands keep 11 bits, so each is wrong by up to 2^-11 of itself, and a product by 2^-10: on
/// average 4e-4, with a sign of its own. Relative to its own root mean square a sum of such
/// products is as wrong as they are, the worst of some thousand by four times that, and a net adds
/// what its layers do. A wrong place of a fragment is an error of 1.
const ROUNDED: f64 = 4e-3;
/// Rounding of f32 is less.
const NOT_ROUNDED: f64 = 1e-5;

/// Tiles of one shape that warps multiply.
fn tensor(tile: usize, splits: usize) -> Parameters {
    let tensor_tiles = &Parameters::LARGE.tensor_tiles[tile..=tile];
    Parameters { tensor_tiles, most_splits: splits, least_steps: 1, ..Parameters::LARGE }
}

fn rounded(spec: &str, parameters: Parameters, math: Math) {
    let options = Options { math, ..Options::new(Target::host().unwrap()) };
    let (error, net) = error_with(spec, parameters, &options);
    assert!(net.program().contains("mma.sync"), "{spec}");
    assert!((NOT_ROUNDED..ROUNDED).contains(&error), "{math:?}: error {error:e}\n{spec}");
}

#[test]
fn warps_multiply_convolutions_in_every_tile() {
    for &(input, layers) in CONVOLUTIONS {
        for tile in 0..Parameters::LARGE.tensor_tiles.len() {
            rounded(&net(input, layers), tensor(tile, 1), Math::Tf32);
        }
        rounded(&net(input, layers), tensor(3, 1), Math::F16);
    }
}

#[test]
fn warps_multiply_parts_of_sums() {
    for &(input, layers) in CONVOLUTIONS {
        for splits in [2, 5] {
            rounded(&net(input, layers), tensor(4, splits), Math::Tf32);
        }
    }
}

#[test]
fn warps_multiply_vectors() {
    for (images, tile) in [(3, 0), (33, 1), (65, 2), (20, 3), (33, 4)] {
        for inputs in [5, 64, 700] {
            let layers = "
  - {name: a, type: linear, out_features: 35}
  - {name: b, type: relu}
  - {name: c, type: linear, out_features: 10}";
            let spec = net(&format!("[{images}, {inputs}]"), layers);
            rounded(&spec, tensor(tile, 4), Math::Tf32);
            rounded(&spec, tensor(tile, 1), Math::F16);
        }
    }
}

/// Without tensor cores a net is what it is without the wish for them.
#[test]
fn devices_without_tensor_cores_compute_in_f32() {
    let spec = net(CONVOLUTIONS[0].0, CONVOLUTIONS[0].1);
    let (_, graph) = build::load("test.yaml", &spec, &BuildOptions::default()).unwrap();
    let device = Device { warps: None, ..Device::GPU };
    let program = |math, device| {
        let options = Options { math, ..Options::new(Target::host().unwrap()) };
        compile(&graph, &options, device).unwrap().program()
    };
    let plain = program(Math::Fast, device);
    assert!(!plain.contains("mma"));
    assert_eq!(program(Math::Tf32, device), plain);
    assert_eq!(program(Math::F16, Device { schedule: Schedule::Cpu, ..Device::GPU }), {
        program(Math::Fast, Device { schedule: Schedule::Cpu, ..Device::GPU })
    });
    assert_ne!(program(Math::Tf32, Device::GPU), plain);
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(SEED),
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24),
        failure_persistence: None,
        ..Default::default()
    })]

    /// As far as the last element: softmax amplifies errors, see `random_nets`.
    #[test]
    fn random_nets(
        net in random_net::nets(),
        tile in 0..5_usize,
        splits in 1..4_usize,
        winograd_percent in prop::sample::select(vec![0, usize::MAX]),
    ) {
        let parameters = Parameters { winograd_percent, ..only(tile, splits) };
        let error = error(&net.0, parameters, DType::F32, true);
        prop_assert!(error < 2e-3, "error {error:e}\n{}", net.0);
    }

    #[test]
    fn random_nets_on_tensor_cores(
        net in random_net::nets(),
        tile in 0..5_usize,
        splits in 1..4_usize,
        math in prop::sample::select(vec![Math::Tf32, Math::F16]),
    ) {
        let options = Options { math, ..Options::new(Target::host().unwrap()) };
        let (error, _) = error_with(&net.0, tensor(tile, splits), &options);
        prop_assert!(error < 0.1, "{math:?}: error {error:e}\n{}", net.0);
    }
}
