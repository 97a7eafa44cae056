//! Local response normalisation, by its definition.

use super::{Real, maps};
use crate::graph::Lrn;
use ndarray::{Array4, ArrayD};

/// `x / (k + scale * sum of x^2 over the window of channels)^beta`
pub(super) fn lrn<T: Real>(op: &Lrn, input: &ArrayD<T>) -> ArrayD<T> {
    let input = maps!(input);
    let channels = input.dim().1;
    let reach = op.size / 2;
    let (k, scale, beta) = (T::of(op.k), T::of(op.scale()), T::of(op.beta));
    Array4::from_shape_fn(input.dim(), |(n, c, y, x)| {
        let window = c.saturating_sub(reach)..(c + reach + 1).min(channels);
        let mut sum = T::zero();
        for other in window {
            let value = input[[n, other, y, x]];
            sum += value * value;
        }
        input[[n, c, y, x]] / (k + scale * sum).powf(beta)
    })
    .into_dyn()
}
