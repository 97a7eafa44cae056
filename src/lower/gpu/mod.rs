//! Lowering for GPUs: activations lie dense, `[n][c][h][w]`; convolutions and linear layers are
//! matrix products of tiles in shared memory (`product`), the former also by Winograd's method
//! (`winograd`), a linear layer of one image streams its weights (`vector`), and what touches each
//! element once has an item for each element (`single`). `choice` estimates what each way takes.
//!
//! The caller's input and output are read and written where they are: no kernel moves them.

mod choice;
pub mod parameters;
mod product;
mod scalar_conv;
mod single;
mod softmax;
mod vector;
mod winograd;

pub use parameters::Parameters;

use super::{Argument, Draft, Fused, Lowered, Lowering, Operand, Vectors, math, split_epilogue};
use crate::algorithm::{self, Algorithm, AlgorithmError, Math, Override};
use crate::graph::{Conv, Epilogue, Graph, Node, Op, Pool};
use crate::layout::Layout;
use alexc_codegen::builder::{At, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, DType, Reg};

/// The algorithm of every node, as [`algorithm::choose`] has it for CPUs.
pub fn choose(
    graph: &Graph,
    math: Math,
    overrides: &[Override],
    parameters: &Parameters,
) -> Result<Vec<Algorithm>, AlgorithmError> {
    let algorithms = algorithm::choose_by(
        graph,
        math,
        overrides,
        &|_, conv, input, most_error| choice::cheapest(conv, input, most_error, parameters),
        false,
    )?;
    let written = |node: &Node, algorithm| match (&node.op, algorithm) {
        (Op::Conv(conv), Algorithm::Winograd { .. }) => choice::suits(conv),
        (_, algorithm) => algorithm == Algorithm::Direct,
    };
    let mut nodes = graph.nodes.iter().zip(&algorithms);
    match nodes.find(|&(node, &algorithm)| !written(node, algorithm)) {
        None => Ok(algorithms),
        Some((node, &algorithm)) => {
            Err(AlgorithmError::NotOnGpus { layer: node.name.clone(), algorithm })
        }
    }
}

/// Lowers a whole graph; `layouts` are those of [`crate::layout::dense`].
pub fn lower(
    graph: &Graph,
    algorithms: &[Algorithm],
    layouts: &[Layout],
    weights: DType,
    parameters: &Parameters,
) -> Lowered {
    let vectors = Vectors::SSE;
    let node = String::new();
    let out = Lowered::default();
    let halves = parameters.halves;
    let folded = None;
    let base =
        Lowering { graph, layouts, vectors, weights, halves, in_file: None, folded, node, out };
    let mut gpu = Gpu { base, parameters, uses: graph.uses() };
    for (node, &algorithm) in graph.nodes.iter().zip(algorithms) {
        gpu.base.node.clone_from(&node.name);
        gpu.node(node, algorithm);
    }
    gpu.output();
    gpu.base.out
}

struct Gpu<'g> {
    base: Lowering<'g>,
    parameters: &'g Parameters,
    /// Of each value how often it is read.
    uses: Vec<usize>,
}

impl Gpu<'_> {
    /// Whether the value is written where the caller wants it.
    fn is_output(&self, value: crate::graph::ValueId) -> bool {
        let graph = self.base.graph;
        value == graph.output && value != graph.input && self.uses[value.index()] == 1
    }

    fn operand(&self, value: crate::graph::ValueId) -> Operand {
        let operand = self.base.operand(value);
        if value == self.base.graph.input {
            Operand { argument: Argument::Input, ..operand }
        } else if self.is_output(value) {
            Operand { argument: Argument::Output, ..operand }
        } else {
            operand
        }
    }

    /// A copy to the caller, where the last value is also read by the net.
    fn output(&mut self) {
        let value = self.base.graph.output;
        if !self.is_output(value) {
            "output".clone_into(&mut self.base.node);
            let from = self.operand(value);
            self.copy(from, Operand { argument: Argument::Output, ..from });
        }
    }

    fn node(&mut self, node: &Node, algorithm: Algorithm) {
        let inputs: Vec<Operand> = node.inputs.iter().map(|&value| self.operand(value)).collect();
        let (input, output) = (inputs[0], self.operand(node.output));
        match &node.op {
            Op::Conv(conv) => {
                let [h, w] = conv.window.output_size([input.layout.h, input.layout.w]);
                let whole = Layout { c: conv.out_channels, h, w, ..input.layout };
                self.fused(&conv.epilogue, &inputs[1..], whole, output, |this, out, prefix| {
                    this.conv_by(algorithm, conv, input, out, prefix);
                });
            }
            Op::Linear(linear) => {
                let whole = output.layout;
                self.fused(&linear.epilogue, &inputs[1..], whole, output, |this, out, prefix| {
                    this.linear(linear, input, out, prefix);
                });
            }
            Op::Pool(pool) => self.pool(pool, input, output),
            Op::Lrn(lrn) => self.lrn(lrn, input, output),
            Op::Activation(activation) => self.activation(*activation, input, output),
            Op::Dropout { .. } => self.copy(input, output),
            // Dense maps are flat as they are.
            Op::Flatten => self.copy(Operand { layout: output.layout, ..input }, output),
            Op::Softmax => self.softmax(input, output),
            Op::BatchNorm(norm) => self.batch_norm(norm, input, output),
            Op::Add => self.add(&inputs, output),
            Op::Concat => self.concat(&inputs, output),
        }
    }

    fn conv_by(
        &mut self,
        algorithm: Algorithm,
        conv: &Conv,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let winograd = match algorithm {
            Algorithm::Winograd { m } => algorithm::winograd(conv, m),
            _ => None,
        };
        match winograd {
            Some(winograd) => self.winograd(conv, &winograd, input, output, fused),
            None => self.conv(conv, input, output, fused),
        }
    }

    /// Splits an epilogue into what the producing kernel does to its sums and the stages behind
    /// it, which get kernels of their own. `whole` is the layout in front of those.
    fn fused(
        &mut self,
        epilogue: &[Epilogue],
        addends: &[Operand],
        whole: Layout,
        output: Operand,
        produce: impl FnOnce(&mut Self, Operand, &[Fused]),
    ) {
        let mut addends = addends.iter().copied();
        let (prefix, mut rest) = split_epilogue(epilogue, &mut addends);
        let mut current = self.base.stage_output(rest, whole, output);
        produce(self, current, &prefix);
        while let [first, tail @ ..] = rest {
            let pooled = |pool: &Pool| {
                let [h, w] = pool.output_size([current.layout.h, current.layout.w]);
                Layout { h, w, ..current.layout }
            };
            if let (Epilogue::Lrn(lrn), [Epilogue::Pool(pool), tail @ ..]) = (first, tail) {
                let next = self.base.stage_output(tail, pooled(pool), output);
                self.lrn_pool(lrn, pool, current, next);
                (current, rest) = (next, tail);
                continue;
            }
            let layout = match first {
                Epilogue::Pool(pool) => pooled(pool),
                _ => current.layout,
            };
            let next = self.base.stage_output(tail, layout, output);
            match first {
                Epilogue::Pool(pool) => self.pool(pool, current, next),
                Epilogue::Lrn(lrn) => self.lrn(lrn, current, next),
                Epilogue::Activation(activation) => self.activation(*activation, current, next),
                Epilogue::Add => {
                    let inputs: Vec<Operand> =
                        [current].into_iter().chain(addends.next()).collect();
                    self.add(&inputs, next);
                }
            }
            (current, rest) = (next, tail);
        }
    }
}

/// Memory that the items of a group share.
fn shared(draft: &mut Draft, name: &str, len: usize) -> BufferId {
    draft.buffer(name, Argument::Local, len, Access::Shared)
}

/// Applies an epilogue to the one-lane sum that is stored at `at`.
fn finish(
    b: &mut Builder,
    fused: &[Fused],
    addends: &[Option<BufferId>],
    mut value: Reg,
    at: &At,
) -> Reg {
    for (step, buffer) in fused.iter().zip(addends) {
        value = match (step, buffer) {
            (Fused::Activation(activation), _) => math::activation(b, *activation, value),
            (Fused::Add(_), Some(buffer)) => {
                let addend = b.load(1, *buffer, at.clone());
                b.binary(Binary::Add, value, addend)
            }
            (Fused::Add(_), None) => value,
        };
    }
    value
}
