//! Depthwise convolution over blocked activations: every channel has one kernel of its own, so a
//! vector of channels is multiplied with the vector of their weights, element by element. (As a
//! convolution by groups, fifteen of sixteen products of a block would be with zeros.)
//!
//! One iteration of the parallel space computes one row of one block of channels. A tile of a few
//! pixels stays in registers while the taps of the kernel pass over it.

use super::conv::Row;
use super::pack::Pack;
use super::tile::{MOST_UNROLLED, split};
use super::{Draft, Fused, Lowering, Operand, Vectors, declare_addends};
use crate::graph::Conv;
use crate::layout::{BLOCK, Layout};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::Access;

/// Whether a convolution has one kernel for each channel, and channels lie in whole blocks.
pub(super) fn is_depthwise(conv: &Conv, input: &Layout) -> bool {
    let channels = [conv.groups, conv.out_channels];
    channels == [input.c; 2] && input.block == BLOCK
}

impl Lowering<'_> {
    /// A convolution that [`is_depthwise`].
    pub(super) fn depthwise(
        &mut self,
        conv: &Conv,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let [kh, kw] = conv.window.kernel;
        let [sh, sw] = conv.window.stride;
        let [dh, dw] = conv.window.dilation;
        let (il, ol) = (input.layout, output.layout);
        let (lanes, width) = (self.vectors.lanes, usize::from(self.vectors.lanes));
        let len = ol.blocks() * BLOCK;
        let (weight, batch_norm) = (conv.weight.clone(), conv.batch_norm.clone());
        let weights = self.pack(Pack::Depthwise { weight, batch_norm });
        let bias = self.conv_bias(conv, len);

        let mut draft = Draft::new("depthwise");
        let from = input.declare(&mut draft, "input", Access::Read);
        let weights = draft.buffer("weights", weights, len * kh * kw, Access::Read);
        let bias = draft.buffer("bias", bias, len, Access::Read);
        let addends = declare_addends(&mut draft, fused);
        let to = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let ob = b.parallel("ob", ol.blocks());
        let n = b.parallel("n", ol.n);
        let oy = b.parallel("oy", ol.h);
        let corner = il.corner(conv.window.padding);
        let row = &n * il.image() + &ob * il.plane() + &oy * (sh * il.row()) + corner;
        let place = Row { output, fused, buffer: to, ob: &ob, n: &n, oy: &oy, addends: &addends };
        b.repeat("part", BLOCK / width, |b, part| {
            let lane = &part * width;
            for run in split(ol.w, pixels(self.vectors)) {
                b.repeat("tile", run.tiles, |b, t| {
                    let ox = run.pixel(&t);
                    let sums = place.begin(b, Some(bias), &lane, 1, run.pixels, lanes);
                    let tap = |b: &mut Builder, ky: &Affine, kx: &Affine| {
                        let tap = (&ob * (kh * kw) + ky * kw + kx) * BLOCK + &lane;
                        let w = b.load(lanes, weights, tap);
                        let at = &row + ky * (dh * il.row()) + (&ox * sw + kx * dw) * BLOCK + &lane;
                        for (p, &sum) in sums[0].iter().enumerate() {
                            let x = b.load(lanes, from, &at + p * sw * BLOCK);
                            b.fma_into(sum, w, x, sum);
                        }
                    };
                    b.repeat("ky", kh, |b, ky| {
                        if kw <= MOST_UNROLLED {
                            (0..kw).for_each(|kx| tap(b, &ky, &kx.into()));
                        } else {
                            b.repeat("kx", kw, |b, kx| tap(b, &ky, &kx));
                        }
                    });
                    place.end(b, &sums, &ox, &lane, false);
                });
            }
        });
        self.call(draft);
    }
}

/// Pixels of a tile: their sums leave registers for weights, inputs and what the epilogue keeps.
/// More than hide the latency of multiply-adds, since the fewer tiles, the fewer loads of weights;
/// sixteen of them are loaded one time for sixteen inputs.
fn pixels(vectors: Vectors) -> usize {
    (vectors.registers - 4).min(16)
}

#[cfg(test)]
mod tests {
    use super::{Pack, is_depthwise};
    use crate::graph::build::{self, BuildOptions};
    use crate::graph::{Graph, Op, Tensor};
    use crate::layout::{BLOCK, Layout};
    use crate::weights::{Random, TensorSource};

    fn graph(channels: usize, outputs: usize, groups: usize) -> Graph {
        let text = format!(
            "name: n\ninput: {{shape: [1, {channels}, 5, 5]}}\nlayers:\n  - {{name: a, type: conv, \
             out_channels: {outputs}, kernel_size: 3, groups: {groups}}}\n"
        );
        let options = BuildOptions { batch: None, sets: Vec::new() };
        build::load("n.yaml", &text, &options).unwrap().1
    }

    #[test]
    fn one_kernel_a_channel() {
        for (channels, outputs, groups, block, expected) in [
            (20, 20, 20, BLOCK, true),
            (20, 40, 20, BLOCK, false),
            (20, 20, 10, BLOCK, false),
            (20, 20, 1, BLOCK, false),
            (3, 3, 3, 3, false),
        ] {
            let graph = graph(channels, outputs, groups);
            let Op::Conv(conv) = &graph.nodes[0].op else { panic!("a convolution") };
            let shape = graph.values[graph.input.index()].shape;
            let layout = Layout { block, ..Layout::blocked(shape) };
            assert_eq!(is_depthwise(conv, &layout), expected, "{channels} {outputs} {groups}");
        }
    }

    #[test]
    fn weights_of_a_tap_lie_side_by_side() {
        let weight = Tensor { name: "w".to_owned(), shape: vec![20, 1, 2, 3] };
        let pack = Pack::Depthwise { weight: weight.clone(), batch_norm: None };
        assert_eq!([pack.parts(), pack.part_len(), pack.len()], [2, 6 * BLOCK, 12 * BLOCK]);
        let source = Random::new(5);
        let all = source.all(&weight);
        for part in 0..2 {
            let mut out = vec![f32::NAN; pack.part_len()];
            pack.write(part, &source, &mut out);
            for (i, &value) in out.iter().enumerate() {
                let (tap, channel) = (i / BLOCK, part * BLOCK + i % BLOCK);
                let expected = if channel < 20 { all[channel * 6 + tap] } else { 0.0 };
                assert_eq!(value, expected, "tap {tap}, channel {channel}");
            }
        }
    }
}
