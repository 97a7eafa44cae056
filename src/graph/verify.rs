//! The graph verifier: what every stage after it may rely on. It runs on the built graph and
//! after every pass.
//!
//! Checked: names are unique; the nodes stand in an order in which they can run; every value is
//! made exactly once; operators read as many inputs as they need; every shape, of weight tensors
//! too, follows from [`infer::output_shape`]; one tensor name has one shape; numbers are finite;
//! epilogues hold only what kernels can apply there.

use super::{BatchNorm, Epilogue, Graph, Lrn, Node, Op, ShapeError, ValueId, infer};
use crate::shape::Shape;
use std::collections::{HashMap, HashSet};
use thiserror::Error;

/// What is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GraphError {
    /// Two nodes of one name.
    #[error("two nodes are named `{name}`")]
    NodeName {
        /// The name.
        name: String,
    },
    /// Two values of one name.
    #[error("two values are named `{name}`")]
    ValueName {
        /// The name.
        name: String,
    },
    /// A node, the input or the output names a value that is not in the graph.
    #[error("{who} refers to value {index}, but the graph has {count}")]
    NoSuchValue {
        /// Node or role.
        who: String,
        /// Index of the value.
        index: usize,
        /// Values of the graph.
        count: usize,
    },
    /// A value is read before it is made.
    #[error("node `{node}` reads `{value}`, which no node before it makes")]
    Order {
        /// The reader.
        node: String,
        /// What it reads.
        value: String,
    },
    /// A value is made twice, or a node makes the graph's input.
    #[error("node `{node}` makes `{value}`, which is there already")]
    MadeTwice {
        /// The later maker.
        node: String,
        /// What it makes.
        value: String,
    },
    /// Nothing makes a value.
    #[error("no node makes `{value}`")]
    NotMade {
        /// The value.
        value: String,
    },
    /// A node that came from no layer.
    #[error("node `{node}` names no layer of the spec that it came from")]
    NoSources {
        /// The node.
        node: String,
    },
    /// A node breaks a shape rule.
    #[error("node `{node}`: {error}")]
    Shape {
        /// The node.
        node: String,
        /// The rule.
        error: ShapeError,
    },
    /// A value's shape is not what its node makes.
    #[error("`{value}` has shape {has}, but node `{node}` makes {makes}")]
    WrongShape {
        /// The value.
        value: String,
        /// Its shape in the graph.
        has: Shape,
        /// Its node.
        node: String,
        /// The shape that follows.
        makes: Shape,
    },
    /// The graph's input has a dimension of zero.
    #[error("the input has shape {shape}, which holds nothing")]
    EmptyInput {
        /// Its shape.
        shape: Shape,
    },
    /// Two nodes read one tensor with different shapes.
    #[error("node `{node}` reads tensor `{tensor}` as {has:?}, a node before it as {first:?}")]
    TensorShapes {
        /// The later node.
        node: String,
        /// The tensor.
        tensor: String,
        /// Its shape there.
        has: Vec<usize>,
        /// Its shape at the first node.
        first: Vec<usize>,
    },
    /// A linear layer's epilogue holds more than elementwise steps.
    #[error("node `{node}`: {step} cannot follow a linear layer inside its kernel")]
    Epilogue {
        /// The node.
        node: String,
        /// The step.
        step: &'static str,
    },
    /// A number is not finite.
    #[error("node `{node}`: {what} is {number}")]
    Number {
        /// The node.
        node: String,
        /// Its name in the spec.
        what: &'static str,
        /// The number.
        number: f64,
    },
}

/// Checks a graph; see the module for what.
///
/// # Errors
/// Everything that is wrong, in the order of the nodes.
pub fn verify(graph: &Graph) -> Result<(), Vec<GraphError>> {
    let mut errors = Vec::new();
    references(graph, &mut errors);
    if errors.is_empty() {
        names(graph, &mut errors);
        order(graph, &mut errors);
        shapes(graph, &mut errors);
        tensors(graph, &mut errors);
        for node in &graph.nodes {
            operator(node, &mut errors);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Every value that is referred to exists. The other checks rely on it.
fn references(graph: &Graph, errors: &mut Vec<GraphError>) {
    let mut check = |who: &dyn Fn() -> String, value: ValueId| {
        if value.index() >= graph.values.len() {
            let (index, count) = (value.index(), graph.values.len());
            errors.push(GraphError::NoSuchValue { who: who(), index, count });
        }
    };
    check(&|| "the input".to_owned(), graph.input);
    check(&|| "the output".to_owned(), graph.output);
    for node in &graph.nodes {
        for &value in node.inputs.iter().chain([&node.output]) {
            check(&|| format!("node `{}`", node.name), value);
        }
    }
}

fn names(graph: &Graph, errors: &mut Vec<GraphError>) {
    let mut seen = HashSet::new();
    for value in &graph.values {
        if !seen.insert(&value.name) {
            errors.push(GraphError::ValueName { name: value.name.clone() });
        }
    }
    seen.clear();
    for node in &graph.nodes {
        if !seen.insert(&node.name) {
            errors.push(GraphError::NodeName { name: node.name.clone() });
        }
        if node.sources.is_empty() {
            errors.push(GraphError::NoSources { node: node.name.clone() });
        }
    }
}

fn order(graph: &Graph, errors: &mut Vec<GraphError>) {
    let mut made = vec![false; graph.values.len()];
    made[graph.input.index()] = true;
    for node in &graph.nodes {
        for &input in &node.inputs {
            if !made[input.index()] {
                let value = graph.values[input.index()].name.clone();
                errors.push(GraphError::Order { node: node.name.clone(), value });
            }
        }
        if std::mem::replace(&mut made[node.output.index()], true) {
            let value = graph.values[node.output.index()].name.clone();
            errors.push(GraphError::MadeTwice { node: node.name.clone(), value });
        }
    }
    for (value, made) in graph.values.iter().zip(made) {
        if !made {
            errors.push(GraphError::NotMade { value: value.name.clone() });
        }
    }
}

fn shapes(graph: &Graph, errors: &mut Vec<GraphError>) {
    let input = graph.values[graph.input.index()].shape;
    if input.dims().contains(&0) {
        errors.push(GraphError::EmptyInput { shape: input });
    }
    for node in &graph.nodes {
        let inputs: Vec<Shape> =
            node.inputs.iter().map(|value| graph.values[value.index()].shape).collect();
        let output = &graph.values[node.output.index()];
        match infer::output_shape(&node.op, &inputs) {
            Err(error) => errors.push(GraphError::Shape { node: node.name.clone(), error }),
            Ok(makes) if makes != output.shape => errors.push(GraphError::WrongShape {
                value: output.name.clone(),
                has: output.shape,
                node: node.name.clone(),
                makes,
            }),
            Ok(_) => {}
        }
    }
}

fn tensors(graph: &Graph, errors: &mut Vec<GraphError>) {
    let mut shapes: HashMap<&str, &[usize]> = HashMap::new();
    for node in &graph.nodes {
        for tensor in node.op.tensors() {
            let first = shapes.entry(&tensor.name).or_insert(&tensor.shape);
            if *first != tensor.shape {
                errors.push(GraphError::TensorShapes {
                    node: node.name.clone(),
                    tensor: tensor.name.clone(),
                    has: tensor.shape.clone(),
                    first: first.to_vec(),
                });
            }
        }
    }
}

/// What shapes do not tell about an operator.
fn operator(node: &Node, errors: &mut Vec<GraphError>) {
    let mut finite = |what: &'static str, number: f64| {
        if !number.is_finite() {
            errors.push(GraphError::Number { node: node.name.clone(), what, number });
        }
    };
    let mut lrn = |lrn: &Lrn| {
        let &Lrn { size: _, alpha, beta, k, alpha_scaling: _ } = lrn;
        finite("alpha", alpha);
        finite("beta", beta);
        finite("k", k);
    };
    for step in node.op.epilogue() {
        if let Epilogue::Lrn(step) = step {
            lrn(step);
        }
    }
    match &node.op {
        Op::Lrn(op) => lrn(op),
        Op::Dropout { p } => finite("p", *p),
        Op::BatchNorm(BatchNorm { eps, .. }) => finite("eps", *eps),
        Op::Conv(conv) => {
            if let Some(BatchNorm { eps, .. }) = conv.batch_norm {
                finite("eps", eps);
            }
        }
        Op::Linear(linear) => {
            for step in &linear.epilogue {
                let step = match step {
                    Epilogue::Activation(_) | Epilogue::Add => continue,
                    Epilogue::Lrn(_) => "lrn",
                    Epilogue::Pool(_) => "pooling",
                };
                errors.push(GraphError::Epilogue { node: node.name.clone(), step });
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
