//! Convolution: the input under all windows of some output rows becomes the columns of a matrix
//! (im2col), which the kernels are multiplied with.

use super::{Real, maps, vector};
use crate::graph::{Conv, Padding};
use crate::weights::TensorSource;
use ndarray::{Array2, Array4, ArrayD, ArrayView3, Axis, Slice};

/// Elements of the matrix of columns; bounds the memory, not the meaning.
const MATRIX: usize = 1 << 21;

/// The convolution with its bias; batch normalisation and epilogue are not applied.
pub(super) fn conv<T: Real>(op: &Conv, source: &dyn TensorSource, input: &ArrayD<T>) -> ArrayD<T> {
    conv_within(MATRIX, op, source, input)
}

/// See [`conv`]; with a matrix of at most `most` elements, or of one output row.
pub(super) fn conv_within<T: Real>(
    most: usize,
    op: &Conv,
    source: &dyn TensorSource,
    input: &ArrayD<T>,
) -> ArrayD<T> {
    let input = maps!(input);
    let (images, channels, h, w) = input.dim();
    let [rows, columns] = op.window.output_size([h, w]);
    let [kh, kw] = op.window.kernel;
    let (ins, outs) = (channels / op.groups, op.out_channels / op.groups);
    let kernel = ins * kh * kw;
    let rows_at_once = (most / (kernel * columns)).clamp(1, rows);
    let weight: Array2<T> = Array2::from_shape_vec(
        (op.out_channels, kernel),
        source.all(&op.weight).iter().map(|&x| T::of(f64::from(x))).collect(),
    )
    .expect("the weight has been verified");

    let mut output = Array4::zeros((images, op.out_channels, rows, columns));
    for (input, mut output) in input.outer_iter().zip(output.outer_iter_mut()) {
        for group in 0..op.groups {
            let inputs = Slice::from(group * ins..(group + 1) * ins);
            let outputs = Slice::from(group * outs..(group + 1) * outs);
            let maps = input.slice_axis(Axis(0), inputs);
            let weight = weight.slice_axis(Axis(0), outputs);
            let mut results = output.slice_axis_mut(Axis(0), outputs);
            let mut first = 0;
            for mut results in results.axis_chunks_iter_mut(Axis(1), rows_at_once) {
                let (_, count, _) = results.dim();
                let matrix = under_windows(op, maps, first..first + count, columns);
                let product = weight.dot(&matrix).into_shape_with_order((outs, count, columns));
                results.assign(&product.expect("as many columns as output positions"));
                first += count;
            }
        }
    }
    if let Some(bias) = &op.bias {
        for (mut map, &bias) in output.axis_iter_mut(Axis(1)).zip(&vector::<T>(source, bias)) {
            map += bias;
        }
    }
    output.into_dyn()
}

/// `[channel, ky, kx]` by `[output row, output column]`, zero where a window lies in the padding.
fn under_windows<T: Real>(
    op: &Conv,
    maps: ArrayView3<'_, T>,
    rows: std::ops::Range<usize>,
    columns: usize,
) -> Array2<T> {
    let (channels, h, w) = maps.dim();
    let [kh, kw] = op.window.kernel;
    let [sh, sw] = op.window.stride;
    let [dh, dw] = op.window.dilation;
    let Padding { top, left, .. } = op.window.padding;
    let mut matrix = Array2::zeros((channels * kh * kw, rows.len() * columns));
    for (line, mut cells) in matrix.axis_iter_mut(Axis(0)).enumerate() {
        let (channel, ky, kx) = (line / (kh * kw), line / kw % kh, line % kw);
        for (index, oy) in rows.clone().enumerate() {
            let Some(y) = (oy * sh + ky * dh).checked_sub(top).filter(|&y| y < h) else {
                continue;
            };
            for ox in 0..columns {
                if let Some(x) = (ox * sw + kx * dw).checked_sub(left).filter(|&x| x < w) {
                    cells[index * columns + ox] = maps[[channel, y, x]];
                }
            }
        }
    }
    matrix
}
