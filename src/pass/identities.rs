//! Removes nodes that change nothing: dropout, flatten of a vector or in front of a linear layer
//! (which flattens by itself), pooling of single cells, ReLU of what is never negative.
//!
//! The layers stay listed at the node that makes the value, or at the readers where that is the
//! graph's input.

use super::dead;
use crate::graph::{Activation, Epilogue, Graph, Op, Pool, Window};

/// The pass.
pub(super) fn run(graph: &mut Graph) {
    while let Some(node) = (0..graph.nodes.len()).find(|&node| removable(graph, node)) {
        remove(graph, node);
    }
    for node in 0..graph.nodes.len() {
        read_unflattened(graph, node);
    }
    dead::run(graph);
}

fn removable(graph: &Graph, node: usize) -> bool {
    let node = &graph.nodes[node];
    // A net of nothing but identities keeps one to carry the input to the output.
    if node.inputs == [graph.input] && node.output == graph.output {
        return false;
    }
    match &node.op {
        Op::Dropout { .. } => true,
        Op::Flatten => graph.values[node.inputs[0].index()].shape.is_vector(),
        Op::Pool(Pool { window: Window { kernel, stride, padding, .. }, .. }) => {
            *kernel == [1, 1] && *stride == [1, 1] && *padding == Default::default()
        }
        Op::Activation(Activation::Relu) => never_negative(graph, node.inputs[0]),
        _ => false,
    }
}

/// True where the value's maker rules negative numbers out.
fn never_negative(graph: &Graph, mut value: crate::graph::ValueId) -> bool {
    // Each step goes to an earlier node, so this ends.
    while let Some(maker) = graph.maker(value) {
        let node = &graph.nodes[maker];
        let last = match node.op.epilogue() {
            [before @ .., Epilogue::Pool(_)] => before.last(),
            steps => steps.last(),
        };
        match (&node.op, last) {
            (_, Some(Epilogue::Activation(Activation::Relu | Activation::Sigmoid)))
            | (Op::Activation(Activation::Relu | Activation::Sigmoid) | Op::Softmax, _) => {
                return true;
            }
            // A maximum or mean of such numbers, or the same ones.
            (Op::Pool(_) | Op::Dropout { .. } | Op::Flatten, _) => value = node.inputs[0],
            _ => return false,
        }
    }
    false
}

/// Lets everything that reads the node's output read its input.
fn remove(graph: &mut Graph, node: usize) {
    let removed = graph.nodes.remove(node);
    let value = removed.inputs[0];
    match graph.maker(value) {
        Some(maker) => graph.nodes[maker].sources.extend(removed.sources),
        None => {
            for reader in &mut graph.nodes {
                if reader.inputs.contains(&removed.output) {
                    reader.sources.splice(0..0, removed.sources.iter().cloned());
                }
            }
        }
    }
    for input in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        if *input == removed.output {
            *input = value;
        }
    }
    if graph.output == removed.output {
        graph.output = value;
    }
}

/// Lets a linear layer read maps instead of their flattened copy.
fn read_unflattened(graph: &mut Graph, linear: usize) {
    if !matches!(graph.nodes[linear].op, Op::Linear(_)) {
        return;
    }
    let Some(flatten) = graph.maker(graph.nodes[linear].inputs[0]) else {
        return;
    };
    if matches!(graph.nodes[flatten].op, Op::Flatten) {
        let sources = graph.nodes[flatten].sources.clone();
        graph.nodes[linear].inputs[0] = graph.nodes[flatten].inputs[0];
        graph.nodes[linear].sources.splice(0..0, sources);
    }
}
