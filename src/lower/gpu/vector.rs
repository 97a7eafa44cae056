//! A linear layer of one image: a stream of weights. A work-group computes a block of 16 outputs.
//! Four items next to each other read the 16 weights of an input, so that all items together read
//! memory in order, and each has several loads under way. At the end the partial sums of an output
//! meet in shared memory.

use super::product::{Ends, Product};
use super::{Gpu, shared};
use crate::layout::BLOCK;
use crate::lower::Draft;
use alexc_codegen::builder::{Affine, At};
use alexc_codegen::ir::{Access, Binary, Reduce, Reg};

/// Weights that an item loads at once.
const LANES: usize = 4;

impl Gpu<'_> {
    pub(super) fn vector(&mut self, product: &Product<'_>) {
        let depth = product.depth;
        let blocks = product.outputs.div_ceil(BLOCK);
        let items = self.parameters.vector_items;
        // Rows of weights that the group reads at once.
        let rows = items / (BLOCK / LANES);
        let unroll = self.parameters.vector_unroll.clamp(1, depth.div_ceil(rows));

        let mut draft = Draft::new("linear");
        let input = product.input.declare(&mut draft, "input", Access::Read);
        let weights = draft.weights(product.weights, product.dtype, blocks * depth * BLOCK);
        let ends = Ends::declare(&mut draft, product);
        let output = product.output.declare(&mut draft, "output", Access::Write);
        let partial = shared(&mut draft, "partial", rows * BLOCK);
        let fewer = shared(&mut draft, "fewer", BLOCK * BLOCK);
        let b = &mut draft.b;
        let block = b.parallel("block", blocks);
        let item = b.item("item_of_block", items);
        let row = b.div("row", &item, BLOCK / LANES);
        let lane = b.rem("lane", &item, BLOCK / LANES);

        let lanes = LANES as u8;
        let sums: [Reg; 2] = [b.constant(lanes, 0.0), b.constant(lanes, 0.0)];
        let at = |k: &Affine| (&block * depth + k) * BLOCK + &lane * LANES;
        let whole = depth / (rows * unroll);
        b.repeat("i", whole, |b, i| {
            let loaded: Vec<(Reg, Reg)> = (0..unroll)
                .map(|u| {
                    let k = &i * (rows * unroll) + &row + u * rows;
                    (b.load(lanes, weights, at(&k)), b.splat(lanes, input, &k))
                })
                .collect();
            for (u, (w, x)) in loaded.into_iter().enumerate() {
                b.fma_into(sums[u % 2], w, x, sums[u % 2]);
            }
        });
        let done = whole * rows * unroll;
        for (u, first) in (done..depth).step_by(rows).enumerate() {
            let k = b.var("k", &row + first);
            let w = b.load(lanes, weights, At::from(at(&k)).within(&k, depth));
            let x = b.splat(lanes, input, At::from(&k).within(&k, depth));
            b.fma_into(sums[u % 2], w, x, sums[u % 2]);
        }
        let sum = b.binary(Binary::Add, sums[0], sums[1]);
        b.store(partial, &row * BLOCK + &lane * LANES, sum);
        b.barrier();

        // Each output's rows in up to 16 shares, then those in one.
        let share = b.div("share", &item, BLOCK);
        let of_block = b.rem("of_block", &item, BLOCK);
        let sum = b.constant(1, 0.0);
        let shares = items / BLOCK;
        let of_share = rows / shares;
        for r in 0..of_share {
            let row = &share * of_share + r;
            let value = b.load(1, partial, row * BLOCK + &of_block);
            b.binary_into(Binary::Add, sum, sum, value);
        }
        b.store(fewer, &of_block * BLOCK + &share, sum);
        let idle = b.constant(1, 0.0);
        for missing in shares..BLOCK {
            b.store(fewer, At::from(&of_block * BLOCK + missing).within(&share, 1), idle);
        }
        b.barrier();
        let shares = b.load(BLOCK as u8, fewer, At::from(&item * BLOCK).within(&item, BLOCK));
        let total = b.reduce(Reduce::Add, shares);
        let channel = b.var("channel", &block * BLOCK + &item);
        let at = At::from(&channel).within(&item, BLOCK).within(&channel, product.outputs);
        let of = ends.of_channel(b, &channel, &at);
        let value = ends.apply(b, product, total, of, &at);
        b.store(output, at, value);
        self.base.call(draft);
    }
}
