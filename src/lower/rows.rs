//! Fully connected layers that read their weights as weight files have them, row by row, so that a
//! net that runs once need not pack them: making another copy of a large matrix takes many times as
//! long as multiplying by it. Several rows at once keep the memory system busy; each of them has
//! one vector of partial sums, whose lanes are added up at its end.

use super::nonzero::Closing;
use super::pack::Pack;
use super::tile::{largest_divisor, split};
use super::{Argument, Draft, Fused, LinearPacks, Lowering, Operand, convert};
use crate::graph::Linear;
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, BufferId, DType, Reduce};

/// Most rows at a time: as many sums as a processor has multiplications under way.
const TOGETHER: usize = 8;

/// Most vectors of each row that are written out in the body of the loop.
const UNROLLED: usize = 4;

impl Lowering<'_> {
    /// See the module. The input is one image.
    pub(super) fn linear_rows(
        &mut self,
        linear: &Linear,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let out_blocks = output.layout.blocks();
        let weights = self.pack(Pack::Rows { weight: linear.weight.clone() });
        let len = out_blocks * BLOCK;
        let bias = self.pack(Pack::Bias { bias: linear.bias.clone(), batch_norm: None, len });
        let packs = LinearPacks { weights, dtype: DType::F32, scales: None, bias };
        let row = linear.weight.shape[1].next_multiple_of(BLOCK);
        let input = self.in_order(input, row);
        let full = linear.out_features / BLOCK;
        // The last block may have fewer outputs.
        let rest = linear.out_features % BLOCK;
        let parts = [(0, full, BLOCK), (full, usize::from(rest > 0), rest)];
        for (first, blocks, outputs) in parts.into_iter().filter(|&(_, blocks, _)| blocks > 0) {
            let mut draft = Draft::new("linear_rows");
            let x = draft.buffer("input", input, row, Access::Read);
            let w = draft.weights(packs.weights, DType::F32, linear.out_features * row);
            let y = output.declare(&mut draft, "output", Access::ReadWrite);
            let closing = Closing::declare(&mut draft, &packs, len, fused);
            let block = draft.b.parallel("block", blocks) + first;
            let rows = Rows { x, w, y, row, lanes: self.vectors.lanes };
            rows.sums(&mut draft.b, &block, outputs);
            closing.block(&mut draft.b, self.vectors.lanes, (y, y), &block);
            self.call(draft);
        }
    }

    /// The elements of an image in the order of the weight file, channel by channel, and zeros up
    /// to `len`.
    fn in_order(&mut self, input: Operand, len: usize) -> Argument {
        let layout = input.layout;
        if layout.h * layout.w == 1 && layout.block == BLOCK && !layout.has_halo() {
            return input.argument;
        }
        let ordered = self.temporary_elements(len);
        let mut draft = Draft::new("in_order");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = draft.buffer("ordered", ordered, len, Access::Write);
        let b = &mut draft.b;
        let zero = Affine::default();
        convert::blocks(b, &layout, &mut |b, cb, lanes| {
            for lane in 0..lanes {
                b.repeat("y", layout.h, |b, y| {
                    b.repeat("x", layout.w, |b, x| {
                        let value = b.load(1, from, input.at(&zero, cb, &y, &x) + lane);
                        let channel = cb * layout.block + lane;
                        b.store(to, (channel * layout.h + y) * layout.w + x, value);
                    });
                });
            }
        });
        let filled = layout.c * layout.h * layout.w;
        b.repeat("rest", len - filled, |b, i| {
            let zero = b.constant(1, 0.0);
            b.store(to, i + filled, zero);
        });
        self.call(draft);
        ordered
    }
}

/// Buffers of a kernel.
struct Rows {
    x: BufferId,
    w: BufferId,
    y: BufferId,
    /// Elements of a row, whole blocks.
    row: usize,
    lanes: u8,
}

impl Rows {
    /// The sums of a block of outputs, of which the first `outputs` have rows.
    fn sums(&self, b: &mut Builder, block: &Affine, outputs: usize) {
        let mut done = 0;
        for (tiles, rows) in split(outputs, TOGETHER) {
            b.repeat("tile", tiles, |b, t| {
                self.tile(b, &(block * BLOCK + t * rows + done), rows);
            });
            done += tiles * rows;
        }
        for lane in outputs..BLOCK {
            let zero = b.constant(1, 0.0);
            b.store(self.y, block * BLOCK + lane, zero);
        }
    }

    /// The sums of some rows from `first` on.
    fn tile(&self, b: &mut Builder, first: &Affine, rows: usize) {
        let step = usize::from(self.lanes);
        let vectors = self.row / step;
        let unroll = largest_divisor(vectors, UNROLLED);
        let sums: Vec<_> = (0..rows).map(|_| b.constant(self.lanes, 0.0)).collect();
        b.repeat("k", vectors / unroll, |b, k| {
            for u in 0..unroll {
                let column = &k * (unroll * step) + u * step;
                let x = b.load(self.lanes, self.x, &column);
                for (r, &sum) in sums.iter().enumerate() {
                    let w = b.load(self.lanes, self.w, (first + r) * self.row + &column);
                    b.fma_into(sum, w, x, sum);
                }
            }
        });
        for (r, &sum) in sums.iter().enumerate() {
            let total = b.reduce(Reduce::Add, sum);
            b.store(self.y, first + r, total);
        }
    }
}
