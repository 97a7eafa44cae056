//! Max and average pooling.

use super::{Real, maps};
use crate::graph::{Padding, Pool, PoolKind};
use ndarray::{Array4, ArrayD};
use std::ops::Range;

/// A window on one axis.
struct Cells {
    /// Those inside the map.
    inside: Range<usize>,
    /// How many lie in the map or its padding; `ceil_mode` lets windows reach further.
    padded: usize,
}

fn cells(
    position: usize,
    size: usize,
    kernel: usize,
    stride: usize,
    (before, after): (usize, usize),
) -> Cells {
    // Both in the coordinates of the padded map.
    let start = position * stride;
    let end = (start + kernel).min(before + size + after);
    Cells {
        inside: start.saturating_sub(before)..end.saturating_sub(before).min(size),
        padded: end - start,
    }
}

/// Maximum or mean of each window. As in PyTorch, padding never wins a maximum and NaN always
/// does.
pub(super) fn pool<T: Real>(op: &Pool, input: &ArrayD<T>) -> ArrayD<T> {
    let input = maps!(input);
    let (images, channels, h, w) = input.dim();
    let [rows, columns] = op.output_size([h, w]);
    let [kh, kw] = op.window.kernel;
    let [sh, sw] = op.window.stride;
    let Padding { top, left, bottom, right } = op.window.padding;
    Array4::from_shape_fn((images, channels, rows, columns), |(n, c, oy, ox)| {
        let ys = cells(oy, h, kh, sh, (top, bottom));
        let xs = cells(ox, w, kw, sw, (left, right));
        let count = match op.count_include_pad {
            true => ys.padded * xs.padded,
            false => ys.inside.len() * xs.inside.len(),
        };
        let window = ys.inside.flat_map(|y| xs.inside.clone().map(move |x| (y, x)));
        let values = window.map(|(y, x)| input[[n, c, y, x]]);
        match op.kind {
            PoolKind::Max => values.fold(T::neg_infinity(), |most, value| {
                if value > most || value.is_nan() { value } else { most }
            }),
            PoolKind::Avg => values.fold(T::zero(), |sum, value| sum + value) / T::of(count as f64),
        }
    })
    .into_dyn()
}
