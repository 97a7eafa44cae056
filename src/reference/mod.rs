//! The reference executor: one plain function an operator, over dense arrays, in f32 or f64. It
//! defines what every operator means; generated code is held against it.
//!
//! It takes PyTorch's view where there is a choice. Nothing here is shared with the lowerings
//! except the shape rules: no layouts, no packed weights, no folding.

mod conv;
mod linear;
mod lrn;
mod ops;
mod pool;

use crate::graph::{Conv, Epilogue, Graph, Linear, Node, Op, Tensor, ValueId};
use crate::weights::TensorSource;
use ndarray::{Array1, ArrayD, IxDyn, NdFloat};
use std::collections::HashMap;
use thiserror::Error;

/// f32 or f64.
pub trait Real: NdFloat {
    /// The nearest number of this type.
    fn of(number: f64) -> Self;

    /// As f64, exactly.
    fn wide(self) -> f64;
}

impl Real for f32 {
    fn of(number: f64) -> Self {
        number as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(number: f64) -> Self {
        number
    }

    fn wide(self) -> f64 {
        self
    }
}

/// Why the reference did not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// The input's shape is not the graph's.
    #[error("the input has shape {has:?}, but the net needs {wants:?}")]
    InputShape {
        /// Of the array.
        has: Vec<usize>,
        /// Of the graph.
        wants: Vec<usize>,
    },
}

/// Runs a verified graph, fused or not. The result has one array for each of the graph's values,
/// of the value's shape `[N, C, H, W]` or `[N, F]`.
///
/// # Errors
/// Where the input is not of the graph's input shape.
pub fn run<T: Real>(
    graph: &Graph,
    source: &dyn TensorSource,
    input: &ArrayD<f32>,
) -> Result<Vec<ArrayD<T>>, ReferenceError> {
    let mut values = vec![ArrayD::zeros(IxDyn(&[0])); graph.values.len()];
    each(graph, source, input, |value, array| values[value.index()].clone_from(array))?;
    Ok(values)
}

/// Runs a verified graph and shows every value to `visit` when it is made, the input first. Values
/// are kept only as long as nodes read them.
///
/// # Errors
/// Where the input is not of the graph's input shape.
pub fn each<T: Real>(
    graph: &Graph,
    source: &dyn TensorSource,
    input: &ArrayD<f32>,
    mut visit: impl FnMut(ValueId, &ArrayD<T>),
) -> Result<(), ReferenceError> {
    let wants = graph.values[graph.input.index()].shape.dims();
    if input.shape() != wants {
        return Err(ReferenceError::InputShape { has: input.shape().to_vec(), wants });
    }
    let mut unread = graph.uses();
    let mut values: HashMap<ValueId, ArrayD<T>> = HashMap::new();
    let input = input.mapv(|x| T::of(f64::from(x)));
    visit(graph.input, &input);
    values.insert(graph.input, input);
    for node in &graph.nodes {
        let inputs: Vec<&ArrayD<T>> = node.inputs.iter().map(|value| &values[value]).collect();
        let output = apply(node, source, &inputs);
        visit(node.output, &output);
        values.insert(node.output, output);
        for value in &node.inputs {
            unread[value.index()] -= 1;
        }
        values.retain(|value, _| unread[value.index()] > 0);
    }
    Ok(())
}

/// What one node of a verified graph makes of its inputs.
pub fn apply<T: Real>(node: &Node, source: &dyn TensorSource, inputs: &[&ArrayD<T>]) -> ArrayD<T> {
    let input = inputs[0];
    match &node.op {
        Op::Conv(op) => {
            let Conv { batch_norm, epilogue, .. } = op;
            let mut result = conv::conv(op, source, input);
            if let Some(batch_norm) = batch_norm {
                result = ops::batch_norm(batch_norm, source, &result);
            }
            finish(result, epilogue, &inputs[1..])
        }
        Op::Linear(op) => {
            let Linear { epilogue, .. } = op;
            finish(linear::linear(op, source, input), epilogue, &inputs[1..])
        }
        Op::Pool(op) => pool::pool(op, input),
        Op::Lrn(op) => lrn::lrn(op, input),
        Op::Activation(op) => ops::activation(*op, input),
        Op::Dropout { .. } => input.clone(),
        Op::Flatten => ops::flatten(input),
        Op::Softmax => ops::softmax(input),
        Op::BatchNorm(op) => ops::batch_norm(op, source, input),
        Op::Add => ops::add(inputs),
        Op::Concat => ops::concat(inputs),
    }
}

/// The steps of an epilogue, one after the other.
fn finish<T: Real>(
    mut result: ArrayD<T>,
    epilogue: &[Epilogue],
    addends: &[&ArrayD<T>],
) -> ArrayD<T> {
    let mut addends = addends.iter();
    for step in epilogue {
        result = match step {
            Epilogue::Activation(activation) => ops::activation(*activation, &result),
            Epilogue::Add => match addends.next() {
                Some(addend) => ops::add(&[&result, addend]),
                None => result,
            },
            Epilogue::Lrn(op) => lrn::lrn(op, &result),
            Epilogue::Pool(op) => pool::pool(op, &result),
        };
    }
    result
}

/// A tensor of one dimension.
fn vector<T: Real>(source: &dyn TensorSource, tensor: &Tensor) -> Array1<T> {
    source.all(tensor).iter().map(|&x| T::of(f64::from(x))).collect()
}

/// Views an activation of maps as `[N, C, H, W]`.
macro_rules! maps {
    ($array:expr) => {
        $array.view().into_dimensionality::<ndarray::Ix4>().expect("the graph has been verified")
    };
}
use maps;

#[cfg(test)]
mod tests;
