//! The matrix products of Winograd's method.

use super::super::conv::TileShape;
use super::super::tile::{
    self, Ahead, PANEL_ROWS, Reduction, Source, Tile, largest_divisor, split,
};
use super::super::{Argument, Draft, Lowering, Vectors};
use crate::layout::BLOCK;
use crate::winograd::PointSet;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, DType};

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

/// A product's buffers in a kernel.
pub(super) struct Buffers {
    /// The transformed input.
    from: BufferId,
    weights: BufferId,
    /// See [`Product::scales`].
    scales: Option<BufferId>,
    /// The products.
    pub(super) to: BufferId,
}

/// Where the product of a point and a block of outputs begins in each buffer.
pub(super) struct Site {
    from: Affine,
    weights: Affine,
    scales: Affine,
    to: Affine,
}

impl Product {
    /// Tiles of a part that have the points of a set.
    fn tiles(&self, set: PointSet) -> usize {
        set.tiles * self.images
    }

    /// Elements of a point and block of channels.
    fn plane(&self, set: PointSet) -> usize {
        self.tiles(set) * self.parts * BLOCK
    }

    /// `to`: where products lie, and how many elements.
    pub(super) fn declare(&self, draft: &mut Draft, to: (Argument, usize)) -> Buffers {
        let &Product { n, out_blocks, reach_blocks, .. } = self;
        let (points, panel) = (n * n, reach_blocks * BLOCK * BLOCK);
        let len = out_blocks * points;
        let from = draft.buffer("points", self.buffers[0], points * self.steps[0], Access::Read);
        let weights = draft.weights(self.buffers[1], self.dtype, len * panel);
        let scales =
            self.scales.map(|scales| draft.buffer("scales", scales, len * BLOCK, Access::Read));
        let access = if to.0 == Argument::Local { Access::Local } else { Access::ReadWrite };
        Buffers { from, weights, scales, to: draft.buffer("products", to.0, to.1, access) }
    }

    /// The product of a point of a set and block `ob` of outputs, which reads blocks from `first` on,
    /// over the tiles of a part of the batch.
    pub(super) fn site(
        &self,
        set: PointSet,
        (point, ob, first, part): (&Affine, &Affine, &Affine, &Affine),
        to: Affine,
    ) -> Site {
        let &Product { n, reach_blocks, .. } = self;
        let (tiles, plane) = (self.tiles(set), self.plane(set));
        let point = point + set.first;
        let place = ob * (n * n) + &point;
        Site {
            from: &point * self.steps[0] + first * plane + part * (tiles * BLOCK),
            weights: &place * (reach_blocks * BLOCK * BLOCK),
            scales: place * BLOCK,
            to,
        }
    }

    /// Writes what computes it. `in_order`: the next panel of weights at work lies behind this one.
    pub(super) fn multiply(
        &self,
        b: &mut Builder,
        vectors: Vectors,
        set: PointSet,
        buffers: &Buffers,
        site: &Site,
        in_order: bool,
    ) {
        let &Product { n, reach_blocks, .. } = self;
        let points = n * n;
        let (tiles, plane) = (self.tiles(set), self.plane(set));
        let most_summed = most_summed(n);
        let short = most_summed < usize::MAX;
        let shape = if short {
            TileShape::for_short_sums(vectors, tiles)
        } else {
            TileShape::for_vectors(vectors)
        };
        let panel = reach_blocks * BLOCK * BLOCK;
        let passes = tile::tiles(tiles, shape.pixels);
        let spread = vectors.fetches_ahead();
        let most_rows = match (spread, short) {
            (true, true) => spread_rows(passes),
            (true, false) => SPREAD_ROWS,
            (false, _) => PANEL_ROWS,
        };
        let chunk_blocks = largest_divisor(reach_blocks, (most_rows / BLOCK).max(1));
        let chunks = if passes == 1 { 1 } else { reach_blocks / chunk_blocks };
        let chunk_blocks = reach_blocks / chunks;
        let chunk_len = chunk_blocks * BLOCK * BLOCK;
        let summed = largest_divisor(chunk_blocks, most_summed);
        let fetching = Fetching {
            spread,
            jumps: !in_order,
            passes,
            panel: if in_order { panel } else { points * panel },
            chunk: chunk_len,
            chunks,
            summed,
        };
        let scales = buffers.scales.map(|buffer| Source { buffer, at: site.scales.clone() });
        let chunk = |b: &mut Builder, at: &Affine, fresh: bool, last: bool| {
            let rows = Rows {
                shape,
                blocks: chunk_blocks,
                summed,
                tiles,
                plane,
                from: Source {
                    buffer: buffers.from,
                    at: &site.from + &(at * (chunk_blocks * plane)),
                },
                weights: Source { buffer: buffers.weights, at: &site.weights + &(at * chunk_len) },
                scales: scales.as_ref(),
                to: Source { buffer: buffers.to, at: site.to.clone() },
                fresh,
                fetching: &fetching,
                last,
            };
            rows.multiply(b, vectors);
        };
        chunk(b, &Affine::default(), true, chunks == 1);
        b.repeat("chunk", chunks.saturating_sub(2), |b, i| chunk(b, &(i + 1usize), false, false));
        if chunks > 1 {
            chunk(b, &Affine::from(chunks - 1), false, true);
        }
    }
}

/// Rows of a panel of weights, of one point, and the tiles that they are multiplied with.
struct Rows<'a> {
    shape: TileShape,
    /// Blocks of input channels.
    blocks: usize,
    /// Those that are summed up from zero, a divisor of `blocks`.
    summed: usize,
    tiles: usize,
    /// Elements from a block of the input to the next one.
    plane: usize,
    /// Transformed input, weights and products.
    from: Source,
    weights: Source,
    /// What integer weights stand for.
    scales: Option<&'a Source>,
    to: Source,
    /// No products are there yet to join.
    fresh: bool,
    /// What is fetched meanwhile.
    fetching: &'a Fetching,
    /// They are the last rows of their panel.
    last: bool,
}

/// A tile's pass over rows of a panel.
struct Pass<'a> {
    /// Which tile.
    number: &'a Affine,
    /// It belongs to the last tiles of a size.
    last: bool,
    /// Which sum.
    sum: &'a Affine,
}

impl Rows<'_> {
    fn multiply(&self, b: &mut Builder, vectors: Vectors) {
        let lanes = vectors.lanes;
        let width = usize::from(lanes);
        let Rows { shape, plane, summed, .. } = *self;
        let loops = [
            Reduction { name: "cb", count: summed, input_step: plane, weight_step: BLOCK * BLOCK },
            Reduction { name: "c", count: BLOCK, input_step: 1, weight_step: BLOCK },
        ];
        b.repeat("part", BLOCK / (shape.vectors * width), |b, part| {
            let lane = &part * (shape.vectors * width);
            let runs = split(self.tiles, shape.pixels);
            let last = runs.len() - 1;
            for (index, run) in runs.into_iter().enumerate() {
                let pixels = run.pixels;
                b.repeat("tile", run.tiles, |b, t| {
                    let first_tile = run.pixel(&t);
                    let number = run.tile(&t);
                    let offsets: Vec<usize> = (0..pixels).map(|p| p * BLOCK).collect();
                    let at = |v: usize, p: usize| {
                        &self.to.at + (&first_tile + p) * BLOCK + &lane + v * width
                    };
                    // Each sum begins at zero and joins those before it at its end.
                    let sum = |b: &mut Builder, sum: &Affine, first: bool| {
                        let block = sum * summed;
                        let from = &self.from.at + &block * plane + &first_tile * BLOCK;
                        let input = Source { buffer: self.from.buffer, at: from };
                        let pass = Pass { number: &number, last: index == last, sum };
                        let ahead = self.fetching.ahead(self.last, &pass);
                        let panel = &self.weights.at + &block * (BLOCK * BLOCK) + &lane;
                        let sources: Vec<Source> = (0..shape.vectors)
                            .map(|v| Source { buffer: self.weights.buffer, at: &panel + v * width })
                            .collect();
                        let tile = Tile {
                            input: &input,
                            pixels: &offsets,
                            weights: &sources,
                            ahead: ahead.as_ref(),
                            loops: &loops,
                        };
                        for (v, column) in tile::sum(b, &tile, lanes).iter().enumerate() {
                            let scale = self
                                .scales
                                .map(|s| b.load(lanes, s.buffer, &s.at + &lane + v * width));
                            for (p, &acc) in column.iter().enumerate() {
                                let before =
                                    (!first).then(|| b.load(lanes, self.to.buffer, at(v, p)));
                                let total = match (scale, before) {
                                    (None, None) => acc,
                                    (None, Some(before)) => b.binary(Binary::Add, acc, before),
                                    (Some(scale), None) => b.binary(Binary::Mul, acc, scale),
                                    (Some(scale), Some(before)) => b.fma(acc, scale, before),
                                };
                                b.store(self.to.buffer, at(v, p), total);
                            }
                        }
                    };
                    let fresh = usize::from(self.fresh);
                    if self.fresh {
                        sum(b, &Affine::default(), true);
                    }
                    b.repeat("sum", self.blocks / summed - fresh, |b, i| {
                        sum(b, &(i + fresh), false);
                    });
                });
            }
        });
    }
}

/// Blocks of outputs of a kernel.
pub(super) enum Outputs {
    /// All: a pattern of [`Reach`].
    ///
    /// [`Reach`]: super::Reach
    All((usize, usize, usize)),
    /// One, which reads blocks of inputs from `first` on.
    One { block: usize, first: usize },
}

impl Lowering<'_> {
    /// For each point of a set: tiles x input channels times input channels x output channels.
    pub(super) fn multiply_points(&mut self, product: &Product, set: PointSet, outputs: Outputs) {
        let &Product { parts, in_blocks, .. } = product;
        let (tiles, plane) = (product.tiles(set), product.plane(set));
        let to_step = product.steps[1];
        let mut draft = Draft::new("multiply_points");
        // The points of this set alone, so that sets need not wait for each other.
        let buffers = product.declare(&mut draft, (product.buffers[2], set.count * to_step));
        draft.firsts[usize::from(buffers.to.0)] = set.first * to_step;
        let inputs_stay = 4 * set.count * in_blocks * tiles * BLOCK <= INPUT_BYTES;
        let b = &mut draft.b;
        let part = b.parallel("half", parts);
        let (ob, first, point) = match outputs {
            Outputs::One { block, first } => {
                (block.into(), first.into(), b.parallel("point", set.count))
            }
            Outputs::All((groups, blocks, step)) => {
                let group = b.parallel("group", groups);
                // Small inputs stay in the second-level cache while the weights stream past once, in
                // their order; large ones are kept point by point.
                let (block, point) = if inputs_stay {
                    let block = b.parallel("ob", blocks);
                    (block, b.parallel("point", set.count))
                } else {
                    let point = b.parallel("point", set.count);
                    (b.parallel("ob", blocks), point)
                };
                (&group * blocks + block, group * step, point)
            }
        };
        let to = &point * to_step + &ob * plane + &part * (tiles * BLOCK);
        let site = product.site(set, (&point, &ob, &first, &part), to);
        product.multiply(b, self.vectors, set, &buffers, &site, inputs_stay);
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
    /// Blocks of input channels of each sum.
    summed: usize,
}

impl Fetching {
    /// What a pass over a chunk, which may be the last one of its panel, fetches.
    fn ahead(&self, last: bool, pass: &Pass<'_>) -> Option<Ahead> {
        if !self.spread {
            // A stream that is read in order needs no hints (they made it slower); one that jumps
            // from panel to panel does.
            let distance = self.panel.into();
            return (self.jumps && pass.last).then_some(Ahead { distance, every: 1 });
        }
        let &Self { summed, .. } = self;
        let &Pass { number, sum, .. } = pass;
        let next = if last { self.panel - (self.chunks - 1) * self.chunk } else { self.chunk };
        let every = Ahead::share(self.passes);
        let row = BLOCK;
        let of_pass = Ahead::rows(self.chunk / row, BLOCK, every) * row;
        let of_sum = Ahead::rows(summed * BLOCK, BLOCK, every) * row;
        let distance = number * of_pass + sum * of_sum + next - &(sum * (summed * BLOCK * row));
        Some(Ahead { distance, every })
    }
}

/// Most rows of a chunk where all passes share the fetching: what was fetched and what is used are
/// still in the caches together.
const SPREAD_ROWS: usize = 128;

/// The same where sums are short and a chunk need not be longer than one: in the first-level cache,
/// of which a neighbour on the same core may take a part, few rows stay best, but so many passes over
/// them must leave memory the time to answer.
fn spread_rows(passes: usize) -> usize {
    const LEAST: usize = 32;
    (2 * SPREAD_ROWS / passes).clamp(LEAST, SPREAD_ROWS)
}

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
