//! Passes: graph to graph, with the same meaning. One file a pass, one line in [`PASSES`].
//!
//! The verifier runs before the first and after every pass, so a pass that breaks the graph is
//! named. Passes know operators and shapes; weights and layouts come later.

mod batch_norm;
mod dead;
mod epilogues;
mod identities;

use crate::graph::verify::{GraphError, verify};
use crate::graph::{Graph, Node, Op};
use thiserror::Error;

/// One pass.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Name for [`PassOptions::skip`] and messages.
    pub name: &'static str,
    /// Why it is there, in a line.
    pub reason: &'static str,
    /// Layers of the spec lose their own value in it.
    pub fuses: bool,
    /// The pass.
    pub run: fn(&mut Graph),
}

/// All passes in the order in which they run.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "dead",
        reason: "layers that the output does not depend on need not run",
        fuses: false,
        run: dead::run,
    },
    Pass {
        name: "identities",
        reason: "dropout, flatten before linear and the like do nothing when the net only runs",
        fuses: true,
        run: identities::run,
    },
    Pass {
        name: "batch_norm",
        reason: "scale and shift per channel cost nothing inside a convolution's weights and bias",
        fuses: true,
        run: batch_norm::run,
    },
    Pass {
        name: "epilogues",
        reason: "activation, sum, LRN and pooling save a way through memory next to their producer",
        fuses: true,
        run: epilogues::run,
    },
];

/// Which passes run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassOptions {
    /// False: every layer of the spec keeps its own value.
    pub fuse: bool,
    /// Names of passes to leave out.
    pub skip: Vec<String>,
}

impl Default for PassOptions {
    fn default() -> Self {
        PassOptions { fuse: true, skip: Vec::new() }
    }
}

/// Why passes did not finish.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PassError {
    /// [`PassOptions::skip`] names no pass.
    #[error("no pass is called `{name}`; there are {}", names().join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// The graph was broken before the first pass.
    #[error("internal error: the built graph is wrong: {}", list(.errors))]
    Built {
        /// What the verifier says.
        errors: Vec<GraphError>,
    },
    /// A pass broke the graph.
    #[error("internal error: pass `{pass}` broke the graph: {}", list(.errors))]
    Broken {
        /// The pass.
        pass: &'static str,
        /// What the verifier says.
        errors: Vec<GraphError>,
    },
}

fn names() -> Vec<&'static str> {
    PASSES.iter().map(|pass| pass.name).collect()
}

fn list(errors: &[GraphError]) -> String {
    let messages: Vec<String> = errors.iter().map(GraphError::to_string).collect();
    messages.join("; ")
}

/// Runs the passes that `options` leave.
///
/// # Errors
/// An unknown name in `options`, or a graph that the verifier refuses.
pub fn run(mut graph: Graph, options: &PassOptions) -> Result<Graph, PassError> {
    if let Some(name) = options.skip.iter().find(|name| !names().contains(&name.as_str())) {
        return Err(PassError::Unknown { name: name.clone() });
    }
    verify(&graph).map_err(|errors| PassError::Built { errors })?;
    for pass in PASSES {
        if (pass.fuses && !options.fuse) || options.skip.iter().any(|name| name == pass.name) {
            continue;
        }
        let before = graph.nodes.len();
        (pass.run)(&mut graph);
        log::debug!("pass {}: {before} nodes became {}", pass.name, graph.nodes.len());
        verify(&graph).map_err(|errors| PassError::Broken { pass: pass.name, errors })?;
    }
    Ok(graph)
}

/// Joins two nodes, where `consumer` alone reads what `producer` makes. The new node stands where
/// the consumer stood, so everything that either reads is there already.
fn join(graph: &mut Graph, producer: usize, consumer: usize, op: Op) {
    let Node { name, inputs, sources, output: between, .. } = graph.nodes[producer].clone();
    let last = &mut graph.nodes[consumer];
    let others = last.inputs.iter().copied().filter(|&input| input != between);
    *last = Node {
        name,
        op,
        inputs: inputs.into_iter().chain(others).collect(),
        output: last.output,
        sources: sources.into_iter().chain(std::mem::take(&mut last.sources)).collect(),
    };
    graph.nodes.remove(producer);
}

#[cfg(test)]
mod tests;
