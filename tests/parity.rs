//! Compiled nets against PyTorch in f64: logits, and with fusion off every layer; every emitter
//! that this CPU can run, every OpenCL device, and the same bits on any number of threads.

mod common;

use alexc::algorithm::Math;
use alexc::compile::{self, Prepared};
use alexc::graph::{Graph, Tensor};
use alexc::lower::packed::Packed as StoredPack;
use alexc::report::compare::boundaries;
use alexc::weights::{self, TensorSource};
use alexc_runtime::memory::Buffer;
use alexc_runtime::weights::Weights;
use common::golden::{self, Golden, relative_error};
use common::machines::{Machine, Made, machines};
use common::nets;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// Largest relative L2 errors.
const STRICT: f64 = 2e-6;
const FAST: f64 = 5e-6;
const LAYER: f64 = 1e-5;

/// A net's weights, drawn once: every compilation packs them anew.
struct Drawn(HashMap<String, Vec<f32>>);

impl Drawn {
    fn new(graph: &Graph) -> Self {
        let tensors: Vec<&Tensor> = graph.tensors();
        let source = weights::open(golden::WEIGHTS).unwrap().check(&tensors).unwrap();
        let all = |tensor: &&Tensor| (tensor.name.clone(), source.all(tensor).into_owned());
        Drawn(tensors.iter().map(all).collect())
    }
}

impl TensorSource for Drawn {
    fn slice(&self, tensor: &Tensor, range: Range<usize>) -> Cow<'_, [f32]> {
        Cow::Borrowed(&self.0[&tensor.name][range])
    }
}

/// Packed weights of the last compilation; the next one often wants the same.
#[derive(Default)]
struct Packed {
    packs: Vec<StoredPack>,
    offsets: Vec<usize>,
    bytes: Vec<u8>,
}

impl Packed {
    fn weights(&mut self, net: &Prepared, drawn: &Drawn) -> Weights {
        if self.packs == net.lowered.packs && self.offsets == net.plan.weights {
            let mut buffer = Buffer::zeroed(self.bytes.len()).unwrap();
            buffer.as_mut_bytes().copy_from_slice(&self.bytes);
            return buffer.into();
        }
        let weights = compile::pack(net, drawn, 2, |_| ()).unwrap();
        self.packs.clone_from(&net.lowered.packs);
        self.offsets.clone_from(&net.plan.weights);
        self.bytes = weights.as_bytes().to_vec();
        weights
    }
}

/// A net with what PyTorch makes of it.
struct Case {
    what: String,
    graph: Graph,
    input: Vec<f32>,
    golden: Golden,
    /// Matrices stay as files have them.
    in_file: bool,
}

impl Case {
    fn new(net: &str, batch: usize) -> Self {
        let (_, graph) = nets::load(net, batch);
        let input = golden::input(graph.values[graph.input.index()].shape.len());
        Case {
            what: format!("{net}, batch {batch}"),
            graph,
            input,
            golden: Golden::load(net, batch),
            in_file: false,
        }
    }

    fn compile(&self, machine: &Machine, math: Math, fuse: bool) -> Made {
        let change = |options: &mut compile::Options| {
            options.math = math;
            options.fuse = fuse;
            if self.in_file {
                let tensors = self.graph.tensors().into_iter();
                options.in_file = tensors.map(|tensor| tensor.name.clone()).collect();
            }
        };
        machine.compile(&self.graph, change).unwrap()
    }

    /// The net up to its logits.
    fn logits(&self) -> Case {
        let mut graph = self.graph.clone();
        graph.output = nets::logits(&graph);
        let Golden { logits, .. } = &self.golden;
        let golden = Golden { logits: logits.clone(), samples: Vec::new() };
        Case {
            what: self.what.clone(),
            graph,
            input: self.input.clone(),
            golden,
            in_file: self.in_file,
        }
    }

    fn hold_logits(&self, drawn: &Drawn, math: Math, tolerance: f64) {
        let case = self.logits();
        let mut packed = Packed::default();
        // Kernels for OpenCL read packed weights alone.
        let all =
            machines().into_iter().filter(|machine| !self.in_file || !machine.builds_slowly());
        for machine in all {
            let what = format!("{}, {math:?}, {}", case.what, machine.name());
            let made = case.compile(&machine, math, true);
            let loaded = made.load(packed.weights(&made, drawn));
            // Drivers optimise for minutes: only what users have by default gets that.
            let batch = case.graph.values[case.graph.input.index()].shape.n();
            let run = |threads: usize| {
                let mut output = vec![0.0f32; case.golden.logits.len()];
                let mut session = match (math, batch) {
                    (Math::Fast, 1) => loaded.session(threads),
                    _ => loaded.session_built_soon(threads),
                };
                session.run(&case.input, &mut output).unwrap();
                output
            };
            let output = run(1);
            let error = relative_error(&wide(&output), &case.golden.logits);
            println!("{what}: {error:.1e}");
            assert!(error <= tolerance, "{what}: {error:e}");
            for &threads in &machine.threads()[1..] {
                assert!(bits(&run(threads)) == bits(&output), "{what}: {threads} threads");
            }
        }
    }

    /// Every layer, with fusion off.
    fn hold_layers(&self, drawn: &Drawn, math: Math) {
        let mut packed = Packed::default();
        for machine in machines() {
            let what = format!("{}, {math:?}, {}", self.what, machine.name());
            let made = self.compile(&machine, math, false);
            let loaded = made.load(packed.weights(&made, drawn));
            let mut session = loaded.session_built_soon(2);
            let found = boundaries(&made, &mut *session, &self.input).unwrap();
            for sample in &self.golden.samples {
                let Some(value) = found.iter().find(|found| found.value == sample.layer) else {
                    panic!("{what}: {} is not stored", sample.layer);
                };
                let all = value.array.as_slice().unwrap();
                let found: Vec<f32> = sample.positions.iter().map(|&at| all[at]).collect();
                let error = relative_error(&wide(&found), &sample.values);
                assert!(error <= LAYER, "{what}, {}: {error:e}", sample.layer);
                let norm = wide(all).iter().map(|x| x * x).sum::<f64>().sqrt();
                let error = (norm / sample.norm - 1.0).abs();
                assert!(error <= LAYER, "{what}, {}: norm {norm}", sample.layer);
            }
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// An AlexNet: logits and layers, one picture and three.
fn alexnet(net: &str) {
    let drawn = Drawn::new(&nets::load(net, 1).1);
    for batch in [1, 3] {
        let case = Case::new(net, batch);
        assert!(!case.golden.samples.is_empty());
        case.hold_logits(&drawn, Math::Strict, STRICT);
        case.hold_logits(&drawn, Math::Fast, FAST);
        for math in [Math::Strict, Math::Fast] {
            case.hold_layers(&drawn, math);
        }
    }
}

#[test]
fn alexnet_merged() {
    alexnet("alexnet");
}

#[test]
fn alexnet_2gpu() {
    alexnet("alexnet-2gpu");
}

#[test]
fn alexnet_pytorch() {
    alexnet("alexnet-pytorch");
}

#[test]
fn alexnet_torchvision() {
    alexnet("alexnet-torchvision");
}

/// Nets that run once read matrices in their file.
#[test]
fn matrices_in_their_file() {
    for (net, batch) in [("alexnet", 1), ("alexnet-pytorch", 3), ("lenet5", 1)] {
        let case = Case { in_file: true, ..Case::new(net, batch) };
        let drawn = Drawn::new(&case.graph);
        case.hold_logits(&drawn, Math::Fast, FAST);
    }
}

fn other(net: &str) {
    let case = Case::new(net, 1);
    let drawn = Drawn::new(&case.graph);
    case.hold_logits(&drawn, Math::Strict, STRICT);
    case.hold_logits(&drawn, Math::Fast, FAST);
}

#[test]
fn small_nets() {
    for net in ["lenet5", "zfnet", "squeezenet1_1", "resnet18"] {
        other(net);
    }
}

#[test]
fn vgg16() {
    other("vgg16");
}
