//! Moves a batch normalisation into the convolution before it. Its numbers join the weights and
//! the bias when these are packed.

use super::{dead, join};
use crate::graph::{Graph, Op};

/// The pass.
pub(super) fn run(graph: &mut Graph) {
    while let Some((producer, consumer, op)) = find(graph) {
        join(graph, producer, consumer, op);
    }
    dead::run(graph);
}

/// A batch normalisation that alone reads a bare convolution.
fn find(graph: &Graph) -> Option<(usize, usize, Op)> {
    let uses = graph.uses();
    graph.nodes.iter().enumerate().find_map(|(consumer, node)| {
        let Op::BatchNorm(batch_norm) = &node.op else {
            return None;
        };
        let input = node.inputs[0];
        let producer = graph.maker(input).filter(|_| uses[input.index()] == 1)?;
        match &graph.nodes[producer].op {
            Op::Conv(conv) if conv.batch_norm.is_none() && conv.epilogue.is_empty() => {
                let mut conv = conv.clone();
                conv.batch_norm = Some(batch_norm.clone());
                Some((producer, consumer, Op::Conv(conv)))
            }
            _ => None,
        }
    })
}
