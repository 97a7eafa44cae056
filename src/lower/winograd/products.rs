//! The matrix products of Winograd's method.

use super::super::conv::TileShape;
use super::super::tile::{
    self, Ahead, PANEL_ROWS, Reduction, Source, Tile, largest_divisor, split,
};
use super::super::{Argument, Draft, Lowering};
use crate::layout::BLOCK;
use crate::winograd::PointSet;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, DType, Reg};

/// What `multiply_points` multiplies.
pub(super) struct Product {
    /// Points of one axis.
    pub(super) n: usize,
    /// Parts of the batch.
    pub(super) parts: usize,
    /// Images of each part.
    pub(super) images: usize,
    pub(super) in_blocks: usize,
    pub(super) out_blocks: usize,
    /// Input blocks of one output block.
    pub(super) reach_blocks: usize,
    /// Elements from a point to the next one, of the transformed input and of the products.
    pub(super) steps: [usize; 2],
    /// Type of the weights.
    pub(super) dtype: DType,
    /// What its integers stand for, `[output block][point][BLOCK]`.
    pub(super) scales: Option<Argument>,
    /// Transformed input, weights, products.
    pub(super) buffers: [Argument; 3],
}

impl Lowering<'_> {
    /// For each point of a set: tiles x input channels times input channels x output channels.
    pub(super) fn multiply_points(
        &mut self,
        product: &Product,
        set: PointSet,
        place: impl FnOnce(&mut Builder) -> (Affine, Affine),
    ) {
        let &Product { n, parts, images, in_blocks, out_blocks, reach_blocks, .. } = product;
        let buffers = product.buffers;
        let points = n * n;
        let tiles = set.tiles * images;
        let plane = tiles * parts * BLOCK;
        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let shape = TileShape::for_vectors(self.vectors);
        let panel = reach_blocks * BLOCK * BLOCK;
        let mut draft = Draft::new("multiply_points");
        let [from_step, to_step] = product.steps;
        let v_buffer = draft.buffer("points", buffers[0], points * from_step, Access::Read);
        let u_buffer = draft.weights(buffers[1], product.dtype, out_blocks * points * panel);
        let scale_buffer = product.scales.map(|scales| {
            draft.buffer("scales", scales, out_blocks * points * BLOCK, Access::Read)
        });
        // The points of this set alone, so that sets need not wait for each other.
        let m_buffer = draft.buffer("products", buffers[2], set.count * to_step, Access::ReadWrite);
        draft.firsts[usize::from(m_buffer.0)] = set.first * to_step;
        let b = &mut draft.b;
        // Small inputs stay in the second-level cache while the weights stream past once, in
        // their order; large ones are kept point by point.
        let inputs_stay = 4 * set.count * in_blocks * tiles * BLOCK <= INPUT_BYTES;
        let part = b.parallel("half", parts);
        let own = &part * (tiles * BLOCK);
        let (point, (ob, first)) = if inputs_stay {
            let place = place(b);
            (b.parallel("point", set.count), place)
        } else {
            (b.parallel("point", set.count), place(b))
        };
        let to = &point * to_step + &ob * plane + &own;
        let point = point + set.first;
        let from = &point * from_step + first * plane + &own;
        let weights = (&ob * points + &point) * panel;
        let scales = (&ob * points + &point) * BLOCK;
        let most_rows = if self.vectors.fetches_ahead() { SPREAD_ROWS } else { PANEL_ROWS };
        let chunk_blocks = largest_divisor(reach_blocks, (most_rows / BLOCK).max(1));
        let chunks = if tiles <= shape.pixels { 1 } else { reach_blocks / chunk_blocks };
        let chunk_blocks = reach_blocks / chunks;
        let sum_blocks = largest_divisor(chunk_blocks, most_summed(n));
        let loops = [
            Reduction {
                name: "cb",
                count: sum_blocks,
                input_step: plane,
                weight_step: BLOCK * BLOCK,
            },
            Reduction { name: "c", count: BLOCK, input_step: 1, weight_step: BLOCK },
        ];
        let fetching = Fetching {
            spread: self.vectors.fetches_ahead(),
            jumps: !inputs_stay,
            passes: split(tiles, shape.pixels).iter().map(|(count, _)| count).sum(),
            panel: if inputs_stay { panel } else { points * panel },
            chunk: chunk_blocks * BLOCK * BLOCK,
            chunks,
        };
        for chunk in 0..chunks {
            let from = &from + chunk * chunk_blocks * plane;
            let weights = &weights + chunk * chunk_blocks * BLOCK * BLOCK;
            b.repeat("part", BLOCK / (shape.vectors * width), |b, part| {
                let lane = &part * (shape.vectors * width);
                let (mut done, mut passes) = (0, 0);
                let kinds = split(tiles, shape.pixels);
                let last = kinds.len() - 1;
                for (kind, (count, pixels)) in kinds.into_iter().enumerate() {
                    b.repeat("tile", count, |b, t| {
                        let first_tile = &t * pixels + done;
                        let pass = &t + passes;
                        let offsets: Vec<usize> = (0..pixels).map(|p| p * BLOCK).collect();
                        let at = |v: usize, p: usize| {
                            &to + (&first_tile + p) * BLOCK + &lane + v * width
                        };
                        // Each sum begins at zero and joins those before it at its end.
                        let sum = |b: &mut Builder, sum: &Affine, first: bool| {
                            let block = sum * sum_blocks;
                            let from = &from + &block * plane + &first_tile * BLOCK;
                            let input = Source { buffer: v_buffer, at: from };
                            let ahead =
                                fetching.ahead(chunk, &pass, (sum, sum_blocks), kind == last);
                            let panel = &weights + &block * (BLOCK * BLOCK) + &lane;
                            let sources: Vec<Source> = (0..shape.vectors)
                                .map(|v| Source { buffer: u_buffer, at: &panel + v * width })
                                .collect();
                            let accumulators: Vec<Vec<Reg>> = (0..shape.vectors)
                                .map(|_| (0..pixels).map(|_| b.constant(lanes, 0.0)).collect())
                                .collect();
                            let tile = Tile {
                                input: &input,
                                pixels: &offsets,
                                weights: &sources,
                                ahead: ahead.as_ref(),
                                loops: &loops,
                            };
                            tile::multiply(b, &tile, &accumulators);
                            for (v, column) in accumulators.iter().enumerate() {
                                let scale = scale_buffer.map(|buffer| {
                                    b.load(lanes, buffer, &scales + &lane + v * width)
                                });
                                for (p, &acc) in column.iter().enumerate() {
                                    let before =
                                        (!first).then(|| b.load(lanes, m_buffer, at(v, p)));
                                    let total = match (scale, before) {
                                        (None, None) => acc,
                                        (None, Some(before)) => b.binary(Binary::Add, acc, before),
                                        (Some(scale), None) => b.binary(Binary::Mul, acc, scale),
                                        (Some(scale), Some(before)) => b.fma(acc, scale, before),
                                    };
                                    b.store(m_buffer, at(v, p), total);
                                }
                            }
                        };
                        let sums = chunk_blocks / sum_blocks;
                        let fresh = usize::from(chunk == 0);
                        if fresh == 1 {
                            sum(b, &Affine::default(), true);
                        }
                        b.repeat("sum", sums - fresh, |b, i| sum(b, &(i + fresh), false));
                    });
                    done += count * pixels;
                    passes += count;
                }
            });
        }
        self.call(draft);
    }
}

/// Which weights a product fetches ahead.
struct Fetching {
    /// All passes over a chunk share the fetching of the next one.
    spread: bool,
    /// The next panel does not begin where this one ends.
    jumps: bool,
    /// Tiles that pass over a chunk.
    passes: usize,
    /// Elements from a panel to the next one at work.
    panel: usize,
    /// Elements of a chunk.
    chunk: usize,
    /// Chunks of a panel.
    chunks: usize,
}

impl Fetching {
    /// What a tile fetches during the sum of this index, of so many blocks.
    fn ahead(
        &self,
        chunk: usize,
        pass: &Affine,
        (sum, blocks): (&Affine, usize),
        last: bool,
    ) -> Option<Ahead> {
        if !self.spread {
            // A stream that is read in order needs no hints (they made it slower); one that jumps
            // from panel to panel does.
            let distance = self.panel.into();
            return (self.jumps && last).then_some(Ahead { distance, every: 1 });
        }
        let next =
            if chunk + 1 < self.chunks { self.chunk } else { self.panel - chunk * self.chunk };
        let every = Ahead::share(self.passes);
        let row = BLOCK;
        let of_pass = Ahead::rows(self.chunk / row, BLOCK, every) * row;
        let of_sum = Ahead::rows(blocks * BLOCK, BLOCK, every) * row;
        let distance = pass * of_pass + sum * of_sum + next - &(sum * (blocks * BLOCK * row));
        Some(Ahead { distance, every })
    }
}

/// Rows of a chunk where all passes share the fetching: what was fetched and what is used are still
/// in the caches together.
const SPREAD_ROWS: usize = 128;

/// Transformed inputs of up to this many bytes are read again for every block of outputs.
const INPUT_BYTES: usize = 768 * 1024;

/// Most blocks of input channels that are summed up from zero, for tiles with `n` points on each
/// axis. Long sums have the largest rounding errors, and the output's transform multiplies them the
/// more the larger `n` is, see [`Winograd::expected_error`]; sums of short sums cost some time.
fn most_summed(n: usize) -> usize {
    match n {
        ..=8 => usize::MAX,
        9 => 2,
        _ => 1,
    }
}
