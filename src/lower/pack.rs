//! How weights are laid out for the kernels. A pack is a description; `write` makes the elements
//! from a source of tensors, in independent parts so that all threads can share the work.

use super::packed;
use crate::graph::{BatchNorm, Tensor};
use crate::layout::BLOCK;
use crate::weights::TensorSource;
use crate::winograd::{Winograd, point};
use alexc_codegen::ir::DType;
use std::ops::Range;

/// One buffer of packed weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Pack {
    /// Kernels of a convolution, a panel for each block of outputs:
    /// `[output block][input block of its reach][ky][kx][input lane][BLOCK outputs]`.
    /// Lanes without a channel and products across groups are zero.
    Conv {
        /// `[out_channels, in_channels / groups, kh, kw]`.
        weight: Tensor,
        /// Folded into the weights.
        batch_norm: Option<BatchNorm>,
        /// Groups of the convolution.
        groups: usize,
        /// Channels of an input block.
        in_block: usize,
        /// Input blocks that every output block reads.
        in_blocks: usize,
        /// The first of them for each output block.
        starts: Vec<usize>,
    },
    /// Kernels of a depthwise convolution: `[block of channels][ky][kx][BLOCK channels]`. Lanes
    /// without a channel are zero.
    Depthwise {
        /// `[channels, 1, kh, kw]`.
        weight: Tensor,
        /// Folded into the weights.
        batch_norm: Option<BatchNorm>,
    },
    /// Kernels of a convolution transformed for Winograd's method:
    /// `[output block][point][input block of its reach][input lane][BLOCK outputs]`, points in the
    /// order of [`point`].
    Winograd {
        /// `[out_channels, in_channels / groups, k, k]`, with r = ceil(k / phases).
        weight: Tensor,
        /// Folded into the weights.
        batch_norm: Option<BatchNorm>,
        /// Groups of the convolution.
        groups: usize,
        /// Outputs of a tile on each axis.
        m: usize,
        /// Stride whose phases lie as channels, see
        /// [`SpaceToDepth`](crate::algorithm::SpaceToDepth); 1: none do.
        phases: usize,
        /// Channels of an input block.
        in_block: usize,
        /// Input blocks that every output block reads.
        in_blocks: usize,
        /// The first of them for each output block.
        starts: Vec<usize>,
    },
    /// One number an output, zeros up to `len`.
    Bias {
        /// `[outputs]`; absent: zeros.
        bias: Option<Tensor>,
        /// Folded into the bias.
        batch_norm: Option<BatchNorm>,
        /// Elements.
        len: usize,
    },
    /// A matrix over a blocked activation:
    /// `[panel][input block][pixel][input lane][width outputs]`.
    Linear {
        /// `[out_features, channels * pixels]`.
        weight: Tensor,
        /// Channels of the activation.
        channels: usize,
        /// Pixels of a channel.
        pixels: usize,
        /// Channels of an input block.
        in_block: usize,
        /// Outputs of a panel, a multiple of [`BLOCK`].
        width: usize,
    },
    /// A matrix as it lies in weight files: `[outputs][inputs]`, whole blocks of outputs.
    Rows {
        /// `[out_features, in_features]`.
        weight: Tensor,
    },
    /// For weights in integers: what one step stands for, for each output of each run of this pack.
    Scales {
        /// The weights.
        of: Box<Pack>,
        /// Their type.
        dtype: DType,
    },
    /// `weight / sqrt(running_var + eps)`, zeros up to `len`.
    BatchNormScale {
        /// The normalisation.
        norm: BatchNorm,
        /// Elements.
        len: usize,
    },
    /// `bias - running_mean * scale`, zeros up to `len`.
    BatchNormShift {
        /// The normalisation.
        norm: BatchNorm,
        /// Elements.
        len: usize,
    },
}

/// Scale and shift of a batch normalisation, per channel, in f64.
fn scale_and_shift(norm: &BatchNorm, source: &dyn TensorSource) -> (Vec<f64>, Vec<f64>) {
    let weight = source.all(&norm.weight);
    let bias = source.all(&norm.bias);
    let mean = source.all(&norm.running_mean);
    let var = source.all(&norm.running_var);
    let scale: Vec<f64> = weight
        .iter()
        .zip(var.iter())
        .map(|(&w, &v)| f64::from(w) / (f64::from(v) + norm.eps).sqrt())
        .collect();
    let shift =
        (0..scale.len()).map(|c| f64::from(bias[c]) - f64::from(mean[c]) * scale[c]).collect();
    (scale, shift)
}

/// What a normalisation that is folded into weights multiplies each output's by.
fn folded_scale(norm: Option<&BatchNorm>, source: &dyn TensorSource) -> Option<Vec<f64>> {
    norm.map(|norm| scale_and_shift(norm, source).0)
}

impl Pack {
    /// The tensors that it reads.
    pub fn tensors(&self) -> Vec<&Tensor> {
        fn of_norm(norm: &BatchNorm) -> [&Tensor; 4] {
            [&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var]
        }
        match self {
            Pack::Conv { weight, batch_norm, .. }
            | Pack::Depthwise { weight, batch_norm }
            | Pack::Winograd { weight, batch_norm, .. } => {
                let mut list = vec![weight];
                list.extend(batch_norm.iter().flat_map(of_norm));
                list
            }
            Pack::Bias { bias, batch_norm, .. } => {
                let mut list: Vec<&Tensor> = bias.iter().collect();
                list.extend(batch_norm.iter().flat_map(of_norm));
                list
            }
            Pack::Linear { weight, .. } | Pack::Rows { weight } => vec![weight],
            Pack::Scales { of, .. } => of.tensors(),
            Pack::BatchNormScale { norm, .. } | Pack::BatchNormShift { norm, .. } => {
                of_norm(norm).to_vec()
            }
        }
    }

    /// The elements of a large tensor that this part reads and no other part of the pack: they can
    /// be released after it. Where another pack reads them too, they come again.
    pub fn reads(&self, part: usize) -> Option<(&Tensor, Range<usize>)> {
        let weight = match self {
            Pack::Conv { weight, .. }
            | Pack::Depthwise { weight, .. }
            | Pack::Winograd { weight, .. }
            | Pack::Linear { weight, .. }
            | Pack::Rows { weight } => weight,
            Pack::Scales { of, .. } => return of.reads(part),
            _ => return None,
        };
        let len = weight.len() / weight.shape[0];
        let outputs = |part: usize| (part * self.part_outputs()).min(weight.shape[0]);
        Some((weight, outputs(part) * len..outputs(part + 1) * len))
    }

    /// Outputs of a part.
    pub(super) fn part_outputs(&self) -> usize {
        match self {
            Pack::Linear { width, .. } => *width,
            Pack::Scales { of, .. } => of.part_outputs(),
            _ => BLOCK,
        }
    }

    /// Elements of one part.
    pub fn part_len(&self) -> usize {
        match self {
            Pack::Conv { weight, in_block, in_blocks, .. } => {
                in_blocks * weight.shape[2] * weight.shape[3] * in_block * BLOCK
            }
            Pack::Depthwise { weight, .. } => weight.shape[2] * weight.shape[3] * BLOCK,
            Pack::Winograd { in_block, in_blocks, .. } => {
                self.runs() * in_blocks * in_block * BLOCK
            }
            Pack::Linear { channels, pixels, in_block, width, .. } => {
                channels.div_ceil(*in_block) * pixels * in_block * width
            }
            Pack::Rows { weight } => BLOCK * weight.shape[1],
            Pack::Scales { of, .. } => of.runs() * of.part_outputs(),
            Pack::Bias { len, .. }
            | Pack::BatchNormScale { len, .. }
            | Pack::BatchNormShift { len, .. } => *len,
        }
    }

    /// Number of parts, each of [`Pack::part_len`] elements, one after the other.
    pub fn parts(&self) -> usize {
        match self {
            Pack::Conv { starts, .. } | Pack::Winograd { starts, .. } => starts.len(),
            Pack::Depthwise { weight, .. }
            | Pack::Linear { weight, .. }
            | Pack::Rows { weight } => weight.shape[0].div_ceil(self.part_outputs()),
            Pack::Scales { of, .. } => of.parts(),
            Pack::Bias { .. } | Pack::BatchNormScale { .. } | Pack::BatchNormShift { .. } => 1,
        }
    }

    /// Equal runs of a part whose outputs have scales of their own (see [`Pack::Scales`]): the
    /// points of transformed weights, which differ in size.
    pub(super) fn runs(&self) -> usize {
        match self {
            Pack::Winograd { weight, m, phases, .. } => {
                (m + weight.shape[2].div_ceil(*phases) - 1).pow(2)
            }
            _ => 1,
        }
    }

    /// The tensor that this pack is, element by element.
    pub fn as_it_lies(&self) -> Option<&Tensor> {
        match self {
            Pack::Rows { weight } => Some(weight),
            _ => None,
        }
    }

    /// Elements in all.
    pub fn len(&self) -> usize {
        self.parts() * self.part_len()
    }

    /// True where there is nothing to pack (never for a verified graph).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes one part: `out` has [`Pack::part_len`] elements, every one of which is written.
    pub fn write(&self, part: usize, source: &dyn TensorSource, out: &mut [f32]) {
        match self {
            Pack::Conv { weight, batch_norm, groups, in_block, in_blocks, starts } => {
                let scale = folded_scale(batch_norm.as_ref(), source);
                out.fill(0.0);
                let &[outputs, inputs, kh, kw] = weight.shape.as_slice() else {
                    return;
                };
                let outputs_of_group = outputs / groups;
                for lane in 0..BLOCK.min(outputs - part * BLOCK) {
                    let o = part * BLOCK + lane;
                    let kernel_len = inputs * kh * kw;
                    let kernel = source.slice(weight, o * kernel_len..(o + 1) * kernel_len);
                    let scale = scale.as_ref().map(|s| s[o]);
                    for i in 0..inputs {
                        let channel = o / outputs_of_group * inputs + i;
                        let block = channel / in_block - starts[part];
                        debug_assert!(block < *in_blocks);
                        for k in 0..kh * kw {
                            let value = kernel[i * kh * kw + k];
                            let row = (block * kh * kw + k) * in_block + channel % in_block;
                            out[row * BLOCK + lane] = scaled(value, scale);
                        }
                    }
                }
            }
            Pack::Depthwise { weight, batch_norm } => {
                let scale = folded_scale(batch_norm.as_ref(), source);
                out.fill(0.0);
                let taps = out.len() / BLOCK;
                let channels = part * BLOCK..((part + 1) * BLOCK).min(weight.shape[0]);
                for (lane, channel) in channels.enumerate() {
                    let kernel = source.slice(weight, channel * taps..(channel + 1) * taps);
                    let scale = scale.as_ref().map(|scale| scale[channel]);
                    for (tap, &value) in kernel.iter().enumerate() {
                        out[tap * BLOCK + lane] = scaled(value, scale);
                    }
                }
            }
            Pack::Winograd {
                weight,
                batch_norm,
                groups,
                m,
                phases,
                in_block,
                in_blocks,
                starts,
            } => {
                let scale = folded_scale(batch_norm.as_ref(), source);
                let r = weight.shape[2].div_ceil(*phases);
                let Some(winograd) = Winograd::new(*m, r) else { return };
                let kernels = Kernels { weight, phases: *phases, scale, source, part };
                let blocks = (*in_block, *in_blocks, starts[part]);
                kernels.to_points(&winograd, *groups, blocks, out);
            }
            Pack::Bias { bias, batch_norm, .. } => {
                out.fill(0.0);
                let bias = bias.as_ref().map(|bias| source.all(bias));
                match batch_norm {
                    None => {
                        if let Some(bias) = bias {
                            out[..bias.len()].copy_from_slice(&bias);
                        }
                    }
                    Some(norm) => {
                        let (scale, shift) = scale_and_shift(norm, source);
                        for (c, out) in out.iter_mut().enumerate().take(scale.len()) {
                            let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
                            *out = (bias * scale[c] + shift[c]) as f32;
                        }
                    }
                }
            }
            Pack::Linear { weight, channels, pixels, in_block, width } => {
                let inputs = weight.shape[1];
                let first = part * width;
                let last = (first + width).min(weight.shape[0]);
                let matrix = source.slice(weight, first * inputs..last * inputs);
                transpose_panel(&matrix, [*channels, *pixels, *in_block], *width, out);
            }
            Pack::Rows { weight } => {
                let len = out.len();
                out.copy_from_slice(&source.slice(weight, part * len..(part + 1) * len));
            }
            Pack::Scales { of, dtype } => {
                let mut values = vec![0.0; of.part_len()];
                of.write(part, source, &mut values);
                let (runs, width) = (of.runs(), of.part_outputs());
                let runs = values.chunks_exact(values.len() / runs);
                for (out, run) in out.chunks_exact_mut(width).zip(runs) {
                    out.copy_from_slice(&packed::scales(run, width, packed::most_steps(*dtype)));
                }
            }
            Pack::BatchNormScale { norm, .. } | Pack::BatchNormShift { norm, .. } => {
                let (scale, shift) = scale_and_shift(norm, source);
                let values =
                    if matches!(self, Pack::BatchNormScale { .. }) { scale } else { shift };
                out.fill(0.0);
                for (out, value) in out.iter_mut().zip(values) {
                    *out = value as f32;
                }
            }
        }
    }
}

/// A weight with a normalisation's scale in it.
fn scaled(value: f32, scale: Option<f64>) -> f32 {
    scale.map_or(value, |scale| (f64::from(value) * scale) as f32)
}

/// The kernels of one block of outputs.
struct Kernels<'a> {
    weight: &'a Tensor,
    phases: usize,
    scale: Option<Vec<f64>>,
    source: &'a dyn TensorSource,
    part: usize,
}

impl Kernels<'_> {
    /// G g G^T of every kernel, in f64, a block of outputs at a time. Of the input blocks are given
    /// their channels, their number and the first.
    fn to_points(
        &self,
        winograd: &Winograd,
        groups: usize,
        (in_block, in_blocks, start): (usize, usize, usize),
        out: &mut [f32],
    ) {
        out.fill(0.0);
        let (r, n) = (winograd.r, winograd.n());
        let &[outputs, tensor_inputs, k, _] = self.weight.shape.as_slice() else { return };
        let s = self.phases;
        let inputs = tensor_inputs * s * s;
        let outputs_of_group = outputs / groups;
        let first = self.part * BLOCK;
        let lanes = BLOCK.min(outputs - first);
        let len = tensor_inputs * k * k;
        let kernels = self.source.slice(self.weight, first * len..(first + lanes) * len);
        let mut taps = vec![[0.0f64; BLOCK]; r * r];
        let mut half = vec![[0.0f64; BLOCK]; n * r];
        let panel = in_blocks * in_block * BLOCK;
        // Where the taps of each phase are in a kernel; none where it ends inside the last step of
        // the stride.
        let place = |phase: usize, t: usize| {
            let (y, x) = (t / r * s + phase / s, t % r * s + phase % s);
            (y < k && x < k).then_some(y * k + x)
        };
        let places: Vec<Vec<Option<usize>>> =
            (0..s * s).map(|phase| (0..r * r).map(|t| place(phase, t)).collect()).collect();
        for group in first / outputs_of_group..=(first + lanes - 1) / outputs_of_group {
            let of_group = group * outputs_of_group..(group + 1) * outputs_of_group;
            let of_group = of_group.start.max(first)..of_group.end.min(first + lanes);
            for i in 0..inputs {
                let (phase, channel) = (i / tensor_inputs, i % tensor_inputs);
                // Outputs of other groups do not read this channel.
                taps.iter_mut().for_each(|tap| *tap = [0.0; BLOCK]);
                for o in of_group.clone() {
                    let lane = o - first;
                    let scale = self.scale.as_ref().map_or(1.0, |scale| scale[o]);
                    let kernel = &kernels[lane * len + channel * k * k..][..k * k];
                    for (tap, place) in taps.iter_mut().zip(&places[phase]) {
                        if let Some(place) = *place {
                            tap[lane] = f64::from(kernel[place]) * scale;
                        }
                    }
                }
                for y in 0..n {
                    for x in 0..r {
                        let mut total = [0.0; BLOCK];
                        for k in 0..r {
                            add_scaled(&mut total, winograd.weight.at(y, k), &taps[k * r + x]);
                        }
                        half[y * r + x] = total;
                    }
                }
                let channel = group * inputs + i;
                let row = (channel / in_block - start) * in_block + channel % in_block;
                for y in 0..n {
                    for x in 0..n {
                        let mut total = [0.0; BLOCK];
                        for k in 0..r {
                            add_scaled(&mut total, winograd.weight.at(x, k), &half[y * r + k]);
                        }
                        let at = point(n, y, x) * panel + row * BLOCK;
                        for (out, value) in out[at..at + BLOCK].iter_mut().zip(total) {
                            *out += value as f32;
                        }
                    }
                }
            }
        }
    }
}

fn add_scaled(total: &mut [f64; BLOCK], factor: f64, values: &[f64; BLOCK]) {
    for (total, value) in total.iter_mut().zip(values) {
        *total += factor * value;
    }
}

/// Rows of a matrix, each `[channels][pixels]`, to `[input block][pixel][input lane][width]`; those
/// that it does not have are zero.
///
/// Rows of the matrix are often a multiple of 4096 bytes apart, so that the same column of all of
/// them falls into one set of the first-level cache. A block of columns is copied side by side
/// first, which reads memory in order too. Of a wide panel some blocks of columns are finished
/// before the next: long enough runs of each row to be read fast, few enough pages to be known.
fn transpose_panel(
    matrix: &[f32],
    [channels, pixels, in_block]: [usize; 3],
    width: usize,
    out: &mut [f32],
) {
    /// Keeps the copied rows out of one another's cache sets.
    const GAP: usize = 16;
    /// Columns of a run.
    const RUN: usize = 512;
    let (inputs, columns) = (channels * pixels, in_block * pixels);
    let stride = columns + GAP;
    let mut side_by_side = vec![0.0f32; BLOCK * stride];
    let together = RUN.div_ceil(columns);
    for (run, out) in out.chunks_mut(together * columns * width).enumerate() {
        for output in (0..width).step_by(BLOCK) {
            for (block, out) in out.chunks_exact_mut(columns * width).enumerate() {
                let first = (run * together + block) * in_block;
                let here = in_block.min(channels - first);
                let mut rows = matrix.chunks_exact(inputs).skip(output);
                for to in side_by_side.chunks_exact_mut(stride) {
                    let to = &mut to[..here * pixels];
                    match rows.next() {
                        Some(row) => to.copy_from_slice(&row[first * pixels..][..to.len()]),
                        None => to.fill(0.0),
                    }
                }
                for (pixel, out) in out.chunks_exact_mut(in_block * width).enumerate() {
                    for (lane, out) in out.chunks_exact_mut(width).enumerate() {
                        let out = &mut out[output..output + BLOCK];
                        if lane >= here {
                            out.fill(0.0);
                            continue;
                        }
                        for (o, out) in out.iter_mut().enumerate() {
                            *out = side_by_side[o * stride + lane * pixels + pixel];
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pack;
    use crate::graph::Tensor;
    use crate::weights::TensorSource;
    use std::borrow::Cow;
    use std::ops::Range;

    /// Every element is its index.
    struct Counting;

    impl TensorSource for Counting {
        fn slice(&self, _: &Tensor, range: Range<usize>) -> Cow<'_, [f32]> {
            Cow::Owned(range.map(|i| i as f32).collect())
        }
    }

    #[test]
    fn linear_follows_the_blocked_activation() {
        let weight = Tensor { name: "w".into(), shape: vec![17, 6] };
        let pack = Pack::Linear { weight, channels: 3, pixels: 2, in_block: 16, width: 16 };
        assert_eq!((pack.parts(), pack.part_len()), (2, 2 * 16 * 16));
        let mut out = vec![f32::NAN; pack.part_len()];
        pack.write(0, &Counting, &mut out);
        // Output 5, channel 2, pixel 1: element 5 * 6 + 2 * 2 + 1 of the matrix.
        assert_eq!(out[(16 + 2) * 16 + 5], 35.0);
        assert_eq!(out[3 * 16], 0.0, "there is no fourth channel");
        pack.write(1, &Counting, &mut out);
        assert_eq!(out[(16 + 2) * 16], 16.0 * 6.0 + 5.0);
        assert_eq!(out[(16 + 2) * 16 + 1], 0.0, "there is no output 17");
    }

    /// The same elements as panel by panel, in wider rows.
    #[test]
    fn a_wide_panel_holds_the_rows_of_several() {
        let weight = Tensor { name: "w".into(), shape: vec![37, 40 * 3] };
        let of_width = |width| {
            let weight = weight.clone();
            let pack = Pack::Linear { weight, channels: 40, pixels: 3, in_block: 16, width };
            let mut parts = Vec::new();
            for part in 0..pack.parts() {
                let mut out = vec![f32::NAN; pack.part_len()];
                pack.write(part, &Counting, &mut out);
                parts.push(out);
            }
            parts
        };
        let (narrow, wide) = (of_width(16), of_width(32));
        assert_eq!((narrow.len(), wide.len()), (3, 2));
        for row in 0..3 * 3 * 16 {
            for output in 0..48 {
                let expected = narrow[output / 16][row * 16 + output % 16];
                assert_eq!(wide[output / 32][row * 32 + output % 32], expected);
            }
            assert!(wide[1][row * 32 + 16..(row + 1) * 32].iter().all(|&v| v == 0.0));
        }
    }

    #[test]
    fn rows_lie_as_in_the_file() {
        let weight = Tensor { name: "w".into(), shape: vec![32, 50] };
        let pack = Pack::Rows { weight: weight.clone() };
        assert_eq!(pack.as_it_lies(), Some(&weight));
        let mut out = Vec::new();
        for part in 0..pack.parts() {
            let first = out.len();
            out.resize(first + pack.part_len(), f32::NAN);
            pack.write(part, &Counting, &mut out[first..]);
        }
        assert!(out.iter().enumerate().all(|(i, &v)| v == i as f32));
    }

    #[test]
    fn groups_keep_apart() {
        let weight = Tensor { name: "w".into(), shape: vec![4, 2, 1, 1] };
        let pack = Pack::Conv {
            weight,
            batch_norm: None,
            groups: 2,
            in_block: 4,
            in_blocks: 1,
            starts: vec![0],
        };
        let mut out = vec![f32::NAN; pack.part_len()];
        pack.write(0, &Counting, &mut out);
        let row = |channel: usize| &out[channel * 16..channel * 16 + 4];
        assert_eq!(row(0), [0.0, 2.0, 0.0, 0.0]);
        assert_eq!(row(1), [1.0, 3.0, 0.0, 0.0]);
        assert_eq!(row(2), [0.0, 0.0, 4.0, 6.0]);
        assert_eq!(row(3), [0.0, 0.0, 5.0, 7.0]);
    }
}
