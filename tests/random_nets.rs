//! Random nets: compiled code of every emitter that this CPU can run and of every OpenCL device,
//! fused and not, with both kinds of math, against the interpreter and the reference executor in f64.
//!
//! Without PROPTEST_CASES the same nets are drawn every time, so that a change is judged by what it
//! does; with it, so many new ones.

mod common;

use alexc::algorithm::{self, Algorithm, Math, Override};
use alexc::compile::{self, Options};
use alexc::graph::build::{self, BuildOptions};
use alexc::graph::{Graph, Node, Op};
use alexc::reference;
use alexc::report::compare::boundaries;
use alexc::weights::{self, Checked, Random};
use alexc_codegen::ir::DType;
use common::interpret;
use common::machines::{Loaded, Machine, Made, machines};
use common::random_net;
use ndarray::ArrayD;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::HashMap;

const CASES: u32 = 64;
const SEED: u64 = 3;

/// Largest errors of an element, as a part of the layer's root mean square, or of
/// [`LEAST_SCALE`] where that is more: sums may cancel.
const STRICT: f64 = 2e-5;
const FAST: f64 = 4e-4;
const LEAST_SCALE: f64 = 0.1;

/// A net and what the reference executor makes of it.
struct Case {
    graph: Graph,
    source: Checked,
    input: Vec<f32>,
    expected: HashMap<String, ArrayD<f64>>,
    /// What softmax layers multiply the tolerance by.
    amplification: f64,
}

impl Case {
    fn new(spec: &str) -> Self {
        let (_, graph) = build::load("random.yaml", spec, &BuildOptions::default())
            .unwrap_or_else(|errors| panic!("{errors}"));
        let source = weights::open(&format!("random:{SEED}")).unwrap();
        let source = source.check(&graph.tensors()).unwrap();
        let shape = graph.values[graph.input.index()].shape;
        let input = Random::new(SEED).input(shape.len());
        let array = ArrayD::from_shape_vec(shape.dims(), input.clone()).unwrap();
        let values = reference::run(&graph, &source, &array).unwrap();
        let names = graph.values.iter().map(|value| value.name.clone());
        let expected: HashMap<String, ArrayD<f64>> = names.zip(values).collect();
        let amplification = amplification(&graph, &expected);
        Case { graph, source, input, expected, amplification }
    }

    fn hold(&self, machine: &Machine, math: Math, fuse: bool) -> Result<(), TestCaseError> {
        let what = format!("{}, {math:?}, fused: {fuse}", machine.name());
        let change = |options: &mut Options| {
            options.math = math;
            options.fuse = fuse;
            if math == Math::Fast {
                options.overrides = self.clever();
            }
            // Matrices that stay in their file, which change no bits, with and without fusion in
            // turn.
            if (math == Math::Fast) == fuse {
                let tensors = self.graph.tensors().into_iter();
                options.in_file = tensors.map(|tensor| tensor.name.clone()).collect();
            }
        };
        let made = machine
            .compile(&self.graph, change)
            .map_err(|error| TestCaseError::fail(format!("{what}: {error}")))?;
        let weights = compile::pack(&made, &self.source, 1, |_| ()).unwrap();
        let interpreted = interpret::run(&made, weights.as_bytes(), &self.input);
        let loaded = made.load(weights);
        let tolerance = if math == Math::Strict { STRICT } else { FAST } * self.amplification;

        let output = self.hold_layers(&made, &loaded, tolerance, &what)?;
        if machine.is_exact() {
            prop_assert!(bits(&interpreted) == bits(&output), "{what}: not as interpreted");
        } else {
            let name = &self.graph.values[self.graph.output.index()].name;
            self.agrees(name, &interpreted, tolerance, &format!("{what}, interpreted"))?;
        }
        self.hold_threads(machine.threads(), &loaded, &output, &what)
    }

    /// Winograd's method in every size, wherever it applies, and linear layers that pass over zeros:
    /// nets as small as these would rarely get them.
    fn clever(&self) -> Vec<Override> {
        let of = |(index, node): (usize, &Node)| {
            let sizes = (0..7).map(|size| 2 + (index + size) % 7);
            let of_size = |m| [Algorithm::Winograd { m }, Algorithm::SpaceToDepth { m }];
            let all = sizes.flat_map(of_size).chain([Algorithm::Nonzero]);
            all.into_iter().find_map(|algorithm| {
                let choice = Override { layer: node.name.clone(), algorithm };
                let chosen = algorithm::choose(
                    &self.graph,
                    Math::Fast,
                    std::slice::from_ref(&choice),
                    DType::F32,
                    true,
                );
                chosen.is_ok().then_some(choice)
            })
        };
        self.graph.nodes.iter().enumerate().filter_map(of).collect()
    }

    /// Every value that the net stores; gives the output.
    fn hold_layers(
        &self,
        made: &Made,
        loaded: &Loaded,
        tolerance: f64,
        what: &str,
    ) -> Result<Vec<f32>, TestCaseError> {
        let mut session = loaded.session_built_soon(2);
        let found = boundaries(made, &mut *session, &self.input).unwrap();
        for layer in &found {
            self.agrees(&layer.value, layer.array.as_slice().unwrap(), tolerance, what)?;
        }
        Ok(found.last().map_or(Vec::new(), |last| last.array.iter().copied().collect()))
    }

    fn agrees(
        &self,
        name: &str,
        found: &[f32],
        tolerance: f64,
        what: &str,
    ) -> Result<(), TestCaseError> {
        let expected = &self.expected[name];
        prop_assert_eq!(found.len(), expected.len(), "{}, {}", what, name);
        let square = expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64;
        let scale = square.sqrt().max(LEAST_SCALE);
        for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let error = (f64::from(found) - expected).abs() / scale;
            prop_assert!(
                error <= tolerance,
                "{what}, {name}, element {index}: {found:e}, not {expected:e} (error {error:e})"
            );
        }
        Ok(())
    }

    /// The same bits on any number of threads and whatever the arena held before.
    fn hold_threads(
        &self,
        threads: &[usize],
        loaded: &Loaded,
        expected: &[f32],
        what: &str,
    ) -> Result<(), TestCaseError> {
        let poison = vec![f32::NAN; self.input.len()];
        let mut output = vec![0.0; expected.len()];
        for &threads in threads {
            let mut session = loaded.session_built_soon(threads);
            session.run(&poison, &mut output).unwrap();
            session.run(&self.input, &mut output).unwrap();
            prop_assert!(bits(&output) == bits(expected), "{what}: {threads} threads");
        }
        Ok(())
    }
}

/// A softmax turns an absolute error of its input into a relative one of its output: an input of
/// root mean square R that is exact to one part in n gives an output that is exact to R parts.
/// Inputs far above 1 occur behind an LRN with a small k and a large beta.
fn amplification(graph: &Graph, values: &HashMap<String, ArrayD<f64>>) -> f64 {
    let of = |node: &Node| match node.op {
        Op::Softmax => {
            let input = &values[&graph.values[node.inputs[0].index()].name];
            let square = input.iter().map(|x| x * x).sum::<f64>() / input.len() as f64;
            square.sqrt().max(1.0)
        }
        _ => 1.0,
    };
    graph.nodes.iter().map(of).product()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        rng_seed: if cases.is_some() { RngSeed::Random } else { RngSeed::Fixed(SEED) },
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        ..Default::default()
    }
}

fn hold(spec: &str) -> Result<(), TestCaseError> {
    let case = Case::new(spec);
    let all = [Math::Strict, Math::Fast].map(|math| [(math, true), (math, false)]);
    for machine in machines() {
        // One of the ways for each net where building takes long.
        let way = spec.len() % all.as_flattened().len();
        for (index, &(math, fuse)) in all.as_flattened().iter().enumerate() {
            if index == way || !machine.builds_slowly() {
                case.hold(&machine, math, fuse)?;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn compiled_interpreted_and_reference_agree(net in random_net::nets()) {
        hold(&net.0)?;
    }
}

/// What was wrong once, and corners that chance rarely meets.
#[test]
fn corners() {
    let layers = [
        // Channels joined inside a block leave lanes that nobody writes.
        "
  - {name: a, type: concat, from: [input, input]}
  - {name: b, type: conv, out_channels: 1, kernel_size: 1}",
        // A normalisation that multiplies its input by 512, in front of a softmax.
        "
  - {name: a, type: lrn, size: 5, alpha: 1.0e-4, beta: 9.0, k: 0.5, alpha_scaling: mean}
  - {name: b, type: softmax}",
        // The only pooling window hangs over the edge behind a normalisation.
        "
  - {name: a, type: conv, out_channels: 20, kernel_size: 1}
  - {name: b, type: lrn, size: 5, alpha: 1.0, beta: 0.75, k: 1.0, alpha_scaling: sum}
  - {name: c, type: max_pool, kernel_size: 11, padding: 1}",
        // A normalisation over more channels than there are, with a large exponent.
        "
  - {name: a, type: lrn, size: 1048575, alpha: 1.0, beta: 1.0e+9, k: 1.0, alpha_scaling: mean}",
        // Each window is cut in another way.
        "
  - {name: a, type: avg_pool, kernel_size: 19, stride: 1, padding: 9, count_include_pad: false}
  - {name: b, type: max_pool, kernel_size: 19, stride: 1, padding: 9}",
        // Windows that are loops.
        "
  - {name: a, type: avg_pool, kernel_size: [9, 8], stride: 1}",
        // A map that is all padding but for a corner.
        "
  - {name: a, type: conv, out_channels: 17, kernel_size: 2, stride: 7, dilation: 3,
     padding: {top: 6, left: 0, bottom: 0, right: 11}}
  - {name: b, type: linear, out_features: 33}",
    ];
    for layers in layers {
        let spec = format!("name: corner\ninput: {{shape: [2, 9, 9, 9]}}\nlayers:{layers}\n");
        hold(&spec).unwrap_or_else(|error| panic!("{error}\n{spec}"));
    }
}
