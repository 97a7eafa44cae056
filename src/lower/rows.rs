//! Fully connected layers that read their weights as weight files have them, row by row, so that a
//! net that runs once need not pack them: making another copy of a large matrix takes many times as
//! long as multiplying by it. Several rows at once keep the memory system busy. Each row and image
//! has one vector of partial sums, whose lanes are added up at its end.
//!
//! With more than one image, a few rows times a few images stay in registers, and a chunk of those
//! rows stays in the first-level cache while all images pass over it.

use super::closing::Closing;
use super::pack::Pack;
use super::tile::{largest_divisor, split};
use super::{Argument, Draft, Fused, LinearPacks, Lowering, Operand, Vectors, convert};
use crate::graph::Linear;
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, DType, Reduce, Reg};

/// Most rows of one image at a time: as many sums as a processor has multiplications under way.
const TOGETHER: usize = 8;

/// Rows of several images at a time.
const ROWS: usize = 4;

/// Most elements of a row that all images pass over before the next ones: four rows of them are a
/// quarter of the first-level cache.
const CHUNK: usize = 512;

/// Vectors of a chunk of which the sums are worth their lanes' addition.
const LEAST_VECTORS: usize = 16;

/// Most vectors of each row that are written out in the body of the loop.
const UNROLLED: usize = 4;

impl Lowering<'_> {
    /// See the module.
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
        let images = input.layout.n;
        let ordered = self.in_order(input, row);
        let full = linear.out_features / BLOCK;
        // The last block may have fewer outputs.
        let rest = linear.out_features % BLOCK;
        let parts = [(0, full, BLOCK), (full, usize::from(rest > 0), rest)];
        for (first, blocks, outputs) in parts.into_iter().filter(|&(_, blocks, _)| blocks > 0) {
            let mut draft = Draft::new("linear_rows");
            let x = draft.buffer("input", ordered, images * row, Access::Read);
            let w = draft.weights(packs.weights, DType::F32, linear.out_features * row);
            let y = output.declare(&mut draft, "output", Access::ReadWrite);
            let closing = Closing::declare(&mut draft, &packs, len, fused);
            let block = draft.b.parallel("block", blocks) + first;
            let image = output.layout.image();
            let rows = Rows { x, w, y, row, images, image, vectors: self.vectors };
            rows.sums(&mut draft.b, &block, outputs);
            draft.b.repeat("n", images, |b, n| {
                closing.block(b, self.vectors.lanes, (y, y), (&n, image), &block);
            });
            self.call(draft);
        }
    }

    /// The elements of each image in the order of the weight file, channel by channel, and zeros up
    /// to `len`.
    fn in_order(&mut self, input: Operand, len: usize) -> Argument {
        let layout = input.layout;
        let in_order = layout.h * layout.w == 1 && layout.block == BLOCK && !layout.has_halo();
        if in_order && input.first == 0 {
            return input.argument;
        }
        let ordered = self.temporary_elements(layout.n * len);
        let mut draft = Draft::new("in_order");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = draft.buffer("ordered", ordered, layout.n * len, Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        convert::blocks(b, &layout, &mut |b, cb, lanes| {
            for lane in 0..lanes {
                b.repeat("y", layout.h, |b, y| {
                    b.repeat("x", layout.w, |b, x| {
                        let value = b.load(1, from, input.at(&n, cb, &y, &x) + lane);
                        let channel = cb * layout.block + lane;
                        let at = (channel * layout.h + y) * layout.w + x;
                        b.store(to, &n * len + at, value);
                    });
                });
            }
        });
        let filled = layout.c * layout.h * layout.w;
        b.repeat("rest", len - filled, |b, i| {
            let zero = b.constant(1, 0.0);
            b.store(to, &n * len + i + filled, zero);
        });
        self.call(draft);
        ordered
    }
}

/// Buffers of a kernel, and what it computes.
struct Rows {
    x: BufferId,
    w: BufferId,
    y: BufferId,
    /// Elements of a row, and of an image of the input: whole blocks.
    row: usize,
    images: usize,
    /// Elements of an image of the output.
    image: usize,
    vectors: Vectors,
}

impl Rows {
    /// The sums of a block of outputs, of which the first `outputs` have rows.
    fn sums(&self, b: &mut Builder, block: &Affine, outputs: usize) {
        let at_once = if self.images == 1 { TOGETHER } else { ROWS };
        for run in split(outputs, at_once) {
            b.repeat("tile", run.tiles, |b, t| {
                self.tile(b, &(block * BLOCK + run.pixel(&t)), run.pixels);
            });
        }
        b.repeat("n", self.images, |b, n| {
            for lane in outputs..BLOCK {
                let zero = b.constant(1, 0.0);
                b.store(self.y, &n * self.image + block * BLOCK + lane, zero);
            }
        });
    }

    /// The sums of some rows from `first` on, of all images.
    fn tile(&self, b: &mut Builder, first: &Affine, rows: usize) {
        let vectors = self.row / usize::from(self.vectors.lanes);
        let most = CHUNK / usize::from(self.vectors.lanes);
        let chunk = match largest_divisor(vectors, most) {
            few if few < LEAST_VECTORS => vectors,
            _ if self.images == 1 => vectors,
            chunk => chunk,
        };
        let chunks = vectors / chunk;
        if chunks > 1 {
            b.repeat("n", self.images, |b, n| {
                for r in 0..rows {
                    let zero = b.constant(1, 0.0);
                    b.store(self.y, &n * self.image + first + r, zero);
                }
            });
        }
        // The sums, the inputs, and a vector of weights.
        let images_at_once = (self.vectors.registers - 1) / (ROWS + 1);
        b.repeat("chunk", chunks, |b, c| {
            for run in split(self.images, images_at_once) {
                b.repeat("images", run.tiles, |b, t| {
                    let image = run.pixel(&t);
                    let sums = self.products(b, (first, rows), (&image, run.pixels), (&c, chunk));
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (r, sum) in sums.into_iter().enumerate() {
                            let at = (&image + i) * self.image + first + r;
                            let mut total = b.reduce(Reduce::Add, sum);
                            if chunks > 1 {
                                let before = b.load(1, self.y, &at);
                                total = b.binary(Binary::Add, before, total);
                            }
                            b.store(self.y, at, total);
                        }
                    }
                });
            }
        });
    }

    /// Vectors of sums for some images and rows over a chunk of `vectors`, those of an image side
    /// by side.
    fn products(
        &self,
        b: &mut Builder,
        (first, rows): (&Affine, usize),
        (image, images): (&Affine, usize),
        (chunk, vectors): (&Affine, usize),
    ) -> Vec<Vec<Reg>> {
        let lanes = self.vectors.lanes;
        let step = usize::from(lanes);
        let unroll = largest_divisor(vectors, UNROLLED);
        let sums: Vec<Vec<Reg>> =
            (0..images).map(|_| (0..rows).map(|_| b.constant(lanes, 0.0)).collect()).collect();
        b.repeat("k", vectors / unroll, |b, k| {
            for u in 0..unroll {
                let column = chunk * (vectors * step) + &k * (unroll * step) + u * step;
                let x: Vec<Reg> = (0..images)
                    .map(|i| b.load(lanes, self.x, (image + i) * self.row + &column))
                    .collect();
                for r in 0..rows {
                    let w = b.load(lanes, self.w, (first + r) * self.row + &column);
                    for (sums, &x) in sums.iter().zip(&x) {
                        b.fma_into(sums[r], w, x, sums[r]);
                    }
                }
            }
        });
        sums
    }
}
