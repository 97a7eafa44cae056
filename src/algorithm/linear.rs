//! How linear layers are computed. One of a single image takes as long as its weights take from
//! memory: what is not read, and what need not be packed first, is won.

use super::{Algorithm, AlgorithmError};
use crate::graph::{Activation, Epilogue, Graph, Linear, Node, Op};
use crate::layout::BLOCK;
use alexc_codegen::ir::DType;
use std::collections::BTreeSet;

/// Elements of the smallest matrix, and the fewest outputs, for which a linear layer passes over
/// zeros unasked: those of smaller ones stay in the caches, or their rows are short.
const LARGE_WEIGHTS: usize = 1 << 18;
const LARGE_OUTPUTS: usize = 512;

/// What linear layers may do unasked.
#[derive(Debug, Clone, Copy)]
pub struct LinearChoice<'a> {
    /// Type of their weights in memory.
    pub weights: DType,
    /// Pass over zeros where they can be expected.
    pub passes_over_zeros: bool,
    /// Read those weights as they lie in their file.
    pub in_file: &'a BTreeSet<String>,
}

/// What the user wants of a linear layer, if it has that.
pub(super) fn check(
    graph: &Graph,
    node: &Node,
    algorithm: Algorithm,
    weights: DType,
) -> Result<Algorithm, AlgorithmError> {
    let suits = match algorithm {
        Algorithm::Direct => true,
        Algorithm::Nonzero => has_one_image(graph, node),
        Algorithm::Rows => weights == DType::F32,
        Algorithm::Winograd { .. } | Algorithm::SpaceToDepth { .. } => false,
    };
    let unsuited = || AlgorithmError::UnsuitedLinear { layer: node.name.clone(), algorithm };
    suits.then_some(algorithm).ok_or_else(unsuited)
}

/// What a linear layer takes unasked.
pub(super) fn choose(
    graph: &Graph,
    node: &Node,
    linear: &Linear,
    may: LinearChoice<'_>,
) -> Algorithm {
    // Rows end with a block, or they had to be packed all the same.
    let in_file = may.in_file.contains(&linear.weight.name)
        && linear.weight.shape[1].is_multiple_of(BLOCK)
        && may.weights == DType::F32;
    if in_file {
        Algorithm::Rows
    } else if may.passes_over_zeros && reads_many_zeros(graph, node) {
        Algorithm::Nonzero
    } else {
        Algorithm::Direct
    }
}

/// Whether a linear layer has one image, whose elements lie as one run.
fn has_one_image(graph: &Graph, node: &Node) -> bool {
    graph.values[node.inputs[0].index()].shape.n() == 1
}

/// Whether a linear layer waits for its weights, and inputs without effect can be expected: they
/// come from ReLU, perhaps through layers that make zeros of zeros.
pub(super) fn reads_many_zeros(graph: &Graph, node: &Node) -> bool {
    let Op::Linear(linear) = &node.op else { return false };
    let large = linear.weight.len() >= LARGE_WEIGHTS && linear.out_features >= LARGE_OUTPUTS;
    if !large || !has_one_image(graph, node) {
        return false;
    }
    let mut value = node.inputs[0];
    while let Some(before) = graph.nodes.iter().find(|n| n.output == value) {
        let epilogue = match &before.op {
            Op::Conv(conv) => &conv.epilogue[..],
            Op::Linear(linear) => &linear.epilogue,
            Op::Activation(activation) => return *activation == Activation::Relu,
            Op::Pool(_) | Op::Lrn(_) | Op::Dropout { .. } | Op::Flatten => {
                value = before.inputs[0];
                continue;
            }
            Op::Softmax | Op::BatchNorm(_) | Op::Add | Op::Concat => return false,
        };
        let keeps_zeros = |stage: &&Epilogue| matches!(stage, Epilogue::Lrn(_) | Epilogue::Pool(_));
        let last = epilogue.iter().rev().find(|stage| !keeps_zeros(stage));
        return last == Some(&Epilogue::Activation(Activation::Relu));
    }
    false
}
