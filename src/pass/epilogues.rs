//! Lets convolutions and linear layers finish their result before it is stored: activations and
//! sums while it is in registers, then one LRN and one pooling of a convolution.
//!
//! Only what a single node reads can go away. A sum joins the addend that is made last, so the
//! others are there already. ReLU after max pooling moves in front of it, where it is free: the
//! two commute because ReLU never decreases. With LRN between them and the registers it stays
//! behind, for LRN sees the squares of negative numbers too.

use super::{dead, join};
use crate::graph::{Activation, Epilogue, Graph, Op, Pool, PoolKind};

/// The pass.
pub(super) fn run(graph: &mut Graph) {
    let mut consumer = 0;
    while consumer < graph.nodes.len() {
        match find(graph, consumer) {
            // The joined node stands one earlier, and may go on to the next consumer.
            Some((producer, op)) => join(graph, producer, consumer, op),
            None => consumer += 1,
        }
    }
    dead::run(graph);
}

/// What `consumer` can join, and the operator of both.
fn find(graph: &Graph, consumer: usize) -> Option<(usize, Op)> {
    let node = &graph.nodes[consumer];
    let uses = graph.uses();
    // Makers of inputs, the last one first.
    let mut makers: Vec<usize> = node
        .inputs
        .iter()
        .filter(|input| uses[input.index()] == 1)
        .filter_map(|&input| graph.maker(input))
        .collect();
    makers.sort_unstable_by(|a, b| b.cmp(a));
    makers.into_iter().find_map(|producer| {
        let op = &graph.nodes[producer].op;
        let epilogue = match (&node.op, op) {
            (Op::Activation(activation), Op::Conv(_) | Op::Linear(_)) => {
                with_activation(op.epilogue(), *activation)?
            }
            (Op::Add, Op::Conv(_) | Op::Linear(_)) => {
                let addends = node.inputs.len() - 1;
                with(op.epilogue(), elementwise, std::iter::repeat_n(Epilogue::Add, addends))?
            }
            (Op::Lrn(lrn), Op::Conv(_)) => with(op.epilogue(), elementwise, [Epilogue::Lrn(*lrn)])?,
            (Op::Pool(pool), Op::Conv(_)) => {
                let before = |step: &Epilogue| !matches!(step, Epilogue::Pool(_));
                with(op.epilogue(), before, [Epilogue::Pool(*pool)])?
            }
            _ => return None,
        };
        let mut op = op.clone();
        match &mut op {
            Op::Conv(conv) => conv.epilogue = epilogue,
            Op::Linear(linear) => linear.epilogue = epilogue,
            _ => return None,
        }
        Some((producer, op))
    })
}

fn elementwise(step: &Epilogue) -> bool {
    matches!(step, Epilogue::Activation(_) | Epilogue::Add)
}

/// The epilogue and `steps`, where these may follow each of its steps.
fn with(
    epilogue: &[Epilogue],
    may_precede: impl Fn(&Epilogue) -> bool,
    steps: impl IntoIterator<Item = Epilogue>,
) -> Option<Vec<Epilogue>> {
    epilogue.iter().all(may_precede).then(|| epilogue.iter().cloned().chain(steps).collect())
}

/// The epilogue and an activation after it, which may mean before its max pooling.
fn with_activation(epilogue: &[Epilogue], activation: Activation) -> Option<Vec<Epilogue>> {
    let step = Epilogue::Activation(activation);
    match epilogue {
        [before @ .., last @ Epilogue::Pool(Pool { kind: PoolKind::Max, .. })]
            if activation == Activation::Relu =>
        {
            with(before, elementwise, [step, last.clone()])
        }
        _ => with(epilogue, elementwise, [step]),
    }
}
