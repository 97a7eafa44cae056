//! The small operators: elementwise functions, softmax, batch normalisation, and those that only
//! move numbers.

use super::{Real, vector};
use crate::graph::{Activation, BatchNorm};
use crate::weights::TensorSource;
use ndarray::{ArrayD, Axis, concatenate};

/// ReLU, sigmoid, tanh of every element.
pub(super) fn activation<T: Real>(op: Activation, input: &ArrayD<T>) -> ArrayD<T> {
    match op {
        // Not `max`, which would turn NaN into 0.
        Activation::Relu => input.mapv(|x| if x < T::zero() { T::zero() } else { x }),
        Activation::Sigmoid => input.mapv(|x| T::one() / (T::one() + (-x).exp())),
        Activation::Tanh => input.mapv(T::tanh),
    }
}

/// `[N, C, H, W]` to `[N, C * H * W]`.
pub(super) fn flatten<T: Real>(input: &ArrayD<T>) -> ArrayD<T> {
    let images = input.shape()[0];
    let flat = (images, input.len() / images);
    let values = input.iter().copied().collect();
    ArrayD::from_shape_vec(ndarray::IxDyn(&[flat.0, flat.1]), values)
        .expect("as many elements as before")
}

/// Over channels or features.
pub(super) fn softmax<T: Real>(input: &ArrayD<T>) -> ArrayD<T> {
    let mut output = input.clone();
    for mut lane in output.lanes_mut(Axis(1)) {
        // Without the largest one first, `exp` would overflow.
        let most = lane.fold(T::neg_infinity(), |most, &x| most.max(x));
        lane.mapv_inplace(|x| (x - most).exp());
        let sum = lane.sum();
        lane.mapv_inplace(|x| x / sum);
    }
    output
}

/// `(x - running_mean) / sqrt(running_var + eps) * weight + bias`, per channel.
pub(super) fn batch_norm<T: Real>(
    op: &BatchNorm,
    source: &dyn TensorSource,
    input: &ArrayD<T>,
) -> ArrayD<T> {
    let [weight, bias, mean, var] = op.tensors().map(|tensor| vector::<T>(source, tensor));
    let eps = T::of(op.eps);
    let mut output = input.clone();
    for (c, mut channel) in output.axis_iter_mut(Axis(1)).enumerate() {
        let deviation = (var[c] + eps).sqrt();
        channel.mapv_inplace(|x| (x - mean[c]) / deviation * weight[c] + bias[c]);
    }
    output
}

/// Sum, from the first to the last.
pub(super) fn add<T: Real>(inputs: &[&ArrayD<T>]) -> ArrayD<T> {
    let mut sum = inputs[0].clone();
    for input in &inputs[1..] {
        sum += *input;
    }
    sum
}

/// Channels of the first input, then of the second, ...
pub(super) fn concat<T: Real>(inputs: &[&ArrayD<T>]) -> ArrayD<T> {
    let views: Vec<_> = inputs.iter().map(|input| input.view()).collect();
    concatenate(Axis(1), &views).expect("the graph has been verified")
}
