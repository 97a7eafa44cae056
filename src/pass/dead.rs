//! Removes nodes that the output does not depend on, and values that nothing makes or reads.

use crate::graph::{Graph, ValueId};
use std::collections::HashMap;

/// The pass. Other passes end with it, so that they may leave things unused. Values are numbered
/// anew: the input, then the outputs of the nodes in their order.
pub(super) fn run(graph: &mut Graph) {
    let mut needed = vec![false; graph.values.len()];
    needed[graph.output.index()] = true;
    let mut live: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in graph.nodes.iter().rev() {
        let lives = needed[node.output.index()];
        live.push(lives);
        if lives {
            for input in &node.inputs {
                needed[input.index()] = true;
            }
        }
    }
    graph.nodes.retain(|_| live.pop().unwrap_or(true));

    let order: Vec<ValueId> =
        std::iter::once(graph.input).chain(graph.nodes.iter().map(|node| node.output)).collect();
    let numbers: HashMap<ValueId, ValueId> =
        order.iter().enumerate().map(|(new, &old)| (old, ValueId(new as u32))).collect();
    let renumber = |value: &mut ValueId| {
        if let Some(&new) = numbers.get(value) {
            *value = new;
        }
    };
    graph.values = order.iter().map(|old| graph.values[old.index()].clone()).collect();
    for node in &mut graph.nodes {
        node.inputs.iter_mut().for_each(renumber);
        renumber(&mut node.output);
    }
    renumber(&mut graph.input);
    renumber(&mut graph.output);
}
