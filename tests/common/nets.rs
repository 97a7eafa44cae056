//! The nets of specs/, ready to run.

use super::golden::path;
use alexc::graph::build::{self, BuildOptions};
use alexc::graph::{Graph, Op, ValueId};
use alexc::spec::Spec;

/// The graph of specs/NAME.yaml for a batch.
pub fn load(name: &str, batch: usize) -> (Spec, Graph) {
    let file = path(&format!("specs/{name}.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    let options = BuildOptions { batch: Some(batch), ..BuildOptions::default() };
    build::load(&file.display().to_string(), &text, &options)
        .unwrap_or_else(|errors| panic!("{name}: {errors:?}"))
}

/// The output before a softmax that ends the net.
pub fn logits(graph: &Graph) -> ValueId {
    match graph.nodes.iter().find(|node| node.output == graph.output) {
        Some(node) if node.op == Op::Softmax => node.inputs[0],
        _ => graph.output,
    }
}
