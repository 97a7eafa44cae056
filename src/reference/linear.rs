//! Fully connected layer: a matrix times the flattened input of every image.

use super::{Real, ops, vector};
use crate::graph::Linear;
use crate::weights::TensorSource;
use ndarray::{Array2, ArrayD, Axis, Ix2};

/// Elements of the matrix that are converted at a time; bounds the memory, not the meaning.
const ELEMENTS: usize = 1 << 21;

/// The layer with its bias; its epilogue is not applied.
pub(super) fn linear<T: Real>(
    op: &Linear,
    source: &dyn TensorSource,
    input: &ArrayD<T>,
) -> ArrayD<T> {
    let input = ops::flatten(input).into_dimensionality::<Ix2>().expect("flatten makes a matrix");
    let (images, inputs) = input.dim();
    let outputs = op.out_features;
    let rows_at_once = (ELEMENTS / inputs).clamp(1, outputs);
    let mut output = Array2::zeros((images, outputs));
    let mut first = 0;
    for mut results in output.axis_chunks_iter_mut(Axis(1), rows_at_once) {
        let count = results.dim().1;
        let elements = first * inputs..(first + count) * inputs;
        let rows = source.slice(&op.weight, elements.clone());
        let rows = rows.iter().map(|&x| T::of(f64::from(x))).collect();
        let rows =
            Array2::from_shape_vec((count, inputs), rows).expect("the weight has been verified");
        results.assign(&input.dot(&rows.t()));
        source.release(&op.weight, elements);
        first += count;
    }
    if let Some(bias) = &op.bias {
        output += &vector::<T>(source, bias);
    }
    output.into_dyn()
}
