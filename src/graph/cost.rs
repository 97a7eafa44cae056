//! What a net asks of a machine, by its definition: arithmetic and memory of every operator,
//! whatever method computes it.

use super::{Conv, Graph, Linear, Node, Op, Pool, ValueId};
use crate::shape::Shape;

/// Additions and multiplications of a node by definition: two for every weight that is used, one
/// for every bias, comparison and element of a sum. Dropout, flatten and concat cost nothing; the
/// epilogue of a fused node is not counted.
pub fn flops(graph: &Graph, node: &Node) -> u64 {
    let shape = |id: ValueId| graph.values.get(id.index()).map(|value| value.shape);
    let elements = |shape: Shape| shape.len() as u64;
    let first = node.inputs.first().copied().and_then(shape);
    let (Some(input), Some(output)) = (first, shape(node.output)) else { return 0 };
    match &node.op {
        Op::Conv(Conv { window, out_channels, weight, bias, .. }) => {
            let [h, w] = window.output_size([input.h(), input.w()]);
            let positions = Shape::map(input.n(), *out_channels, h, w);
            let weights: u64 = weight.shape.iter().skip(1).map(|&dim| dim as u64).product();
            let one = weights.saturating_mul(2).saturating_add(u64::from(bias.is_some()));
            elements(positions).saturating_mul(one)
        }
        Op::Linear(Linear { out_features, bias, .. }) => {
            let one = 2 * input.per_image() as u64 + u64::from(bias.is_some());
            (input.n() as u64 * *out_features as u64).saturating_mul(one)
        }
        Op::Pool(Pool { window, .. }) => {
            let cells: u64 = window.kernel.iter().map(|&size| size as u64).product();
            elements(output).saturating_mul(cells)
        }
        // A square and a sum for each channel of the window; scale, k, the power and the quotient.
        Op::Lrn(lrn) => elements(output).saturating_mul(2 * lrn.size as u64 + 4),
        Op::Activation(_) => elements(output),
        // The largest, the difference to it, the exponential, the sum, the quotient.
        Op::Softmax => elements(output) * 5,
        Op::BatchNorm(_) => elements(output) * 2,
        Op::Add => elements(output).saturating_mul(node.inputs.len().saturating_sub(1) as u64),
        Op::Dropout { .. } | Op::Flatten | Op::Concat => 0,
    }
}

/// The most bytes of activations (f32) that are needed at one time when nodes run in their order,
/// the net's input and output included.
pub fn alive_bytes(graph: &Graph) -> u64 {
    let mut last = vec![0; graph.values.len()];
    for (position, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            if let Some(last) = last.get_mut(input.index()) {
                *last = position;
            }
        }
    }
    if let Some(last) = last.get_mut(graph.output.index()) {
        *last = graph.nodes.len();
    }
    let bytes = |id: ValueId| graph.values.get(id.index()).map_or(0, |v| 4 * v.shape.len() as u64);
    let mut alive = bytes(graph.input);
    let mut most = alive;
    for (position, node) in graph.nodes.iter().enumerate() {
        alive = alive.saturating_add(bytes(node.output));
        most = most.max(alive);
        let mut inputs = node.inputs.clone();
        inputs.sort();
        inputs.dedup();
        for input in inputs {
            if last.get(input.index()) == Some(&position) {
                alive = alive.saturating_sub(bytes(input));
            }
        }
    }
    most
}
