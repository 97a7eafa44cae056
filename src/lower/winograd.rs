//! Convolution by Winograd's method, in three kernels: tiles of the input to the points, for each
//! point a matrix product over the channels, and the points back to tiles of the output, where
//! bias and epilogue follow.
//!
//! Points lie as `[point][block of channels][tile][BLOCK]`, so that a matrix product reads its
//! tiles as a direct convolution reads its pixels.

use super::conv::{Reach, TileShape};
use super::pack::Pack;
use super::tile::{self, PANEL_ROWS, Reduction, Source, Tile, largest_divisor, split};
use super::{Argument, Draft, Fused, Lowering, Operand, apply, declare_addends, transform};
use crate::graph::Conv;
use crate::layout::BLOCK;
use crate::winograd::Winograd;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reg};

/// The method's parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles<'a> {
    pub(super) winograd: &'a Winograd,
    /// Stride whose phases lie as channels in the input (1: none do).
    pub(super) phases: usize,
}

/// How maps are cut into tiles, and which maps are at work: some consecutive images of every part
/// of the batch. Parts come first in every parallel space, so that each thread finds in its own
/// caches what it left there.
#[derive(Debug, Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
    /// Parts of the batch.
    parts: usize,
    /// Images from one part to the next.
    share: usize,
    /// Images of each part that are at work.
    images: usize,
}

impl Grid {
    /// Tiles of one part.
    fn part_tiles(self) -> usize {
        self.rows * self.columns * self.images
    }

    fn tiles(self) -> usize {
        self.part_tiles() * self.parts
    }

    /// From the first image at work to the last one.
    fn span(self) -> usize {
        (self.parts - 1) * self.share + self.images
    }

    /// The parallel dimensions of the images: (index in the batch, counted from the first image
    /// at work; index of its first tile).
    fn images(self, b: &mut Builder) -> (Affine, Affine) {
        let part = b.parallel("half", self.parts);
        let image = b.parallel("n", self.images);
        let place = &part * self.share + &image;
        (place, (&part * self.images + image) * (self.rows * self.columns))
    }

    fn tile(self, first: &Affine, row: &Affine, column: &Affine) -> Affine {
        first + row * self.columns + column
    }
}

/// A part of an axis: tiles that keep the same number of outputs.
struct Part {
    first: usize,
    count: usize,
    kept: usize,
}

/// Full tiles, then the last one if the map ends inside it.
fn parts(size: usize, m: usize) -> Vec<Part> {
    [(0, size / m, m), (size / m, usize::from(!size.is_multiple_of(m)), size % m)]
        .into_iter()
        .filter(|&(_, count, _)| count > 0)
        .map(|(first, count, kept)| Part { first, count, kept })
        .collect()
}

impl Lowering<'_> {
    pub(super) fn winograd(
        &mut self,
        conv: &Conv,
        tiles: Tiles<'_>,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let Tiles { winograd, phases } = tiles;
        let images = output.layout.n;
        let points = winograd.n() * winograd.n();
        let reach = Reach::new(conv, &input.layout);
        let out_blocks = reach.starts.len();
        let rows = output.layout.h.div_ceil(winograd.m);
        let columns = output.layout.w.div_ceil(winograd.m);
        let blocks = input.layout.blocks() + out_blocks;
        let weights_bytes = 4 * points * reach.blocks * out_blocks * BLOCK * BLOCK;
        let split = images.is_multiple_of(PARTS) && weights_bytes <= SHARED_BYTES;
        let parts = if split { PARTS } else { 1 };
        let share = images / parts;
        let at_once = images_at_once(share, rows * columns, 4 * points * blocks * BLOCK);
        let grid = Grid { rows, columns, parts, share, images: at_once };
        let plane = grid.tiles() * BLOCK;
        let to_len = points * point_step(input.layout.blocks(), plane);
        let from_len = points * point_step(out_blocks, plane);
        let transformed = self.temporary_elements(to_len);
        let products = self.temporary_elements(from_len);
        let weights = self.pack(Pack::Winograd {
            weight: conv.weight.clone(),
            batch_norm: conv.batch_norm.clone(),
            groups: conv.groups,
            m: winograd.m,
            phases,
            in_block: BLOCK,
            in_blocks: reach.blocks,
            starts: reach.starts.clone(),
        });
        let bias = self.pack(Pack::Bias {
            bias: conv.bias.clone(),
            batch_norm: conv.batch_norm.clone(),
            len: out_blocks * BLOCK,
        });
        let product = Product {
            points,
            n: winograd.n(),
            plane,
            parts,
            tiles: grid.part_tiles(),
            in_blocks: input.layout.blocks(),
            out_blocks,
            reach_blocks: reach.blocks,
            buffers: [transformed, weights, products],
        };
        let span = grid.span();
        for first in (0..share).step_by(at_once) {
            let input = input.images(first, span);
            let output = output.images(first, span);
            let fused: Vec<Fused> = fused.iter().map(|f| f.images(first, span)).collect();
            self.transform_input(conv, winograd, grid, input, (transformed, to_len));
            match reach.pattern() {
                Some((outer, inner, step)) => self.multiply_points(&product, |b| {
                    let o = b.parallel("group", outer);
                    let i = b.parallel("ob", inner);
                    (&o * inner + i, o * step)
                }),
                None => {
                    for (ob, &start) in reach.starts.iter().enumerate() {
                        self.multiply_points(&product, |_| (ob.into(), start.into()));
                    }
                }
            }
            self.transform_output(winograd, grid, (products, from_len), bias, output, &fused);
        }
    }

    /// B^T d B of every tile.
    fn transform_input(
        &mut self,
        conv: &Conv,
        winograd: &Winograd,
        grid: Grid,
        input: Operand,
        (transformed, len): (Argument, usize),
    ) {
        let n = winograd.n();
        let lanes = self.vectors.lanes;
        let il = input.layout;
        let mut draft = Draft::new("transform_input");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let v_buffer = draft.buffer("points", transformed, len, Access::Write);
        let half = draft.buffer("half", Argument::Local, n * n * BLOCK, Access::Local);
        let b = &mut draft.b;
        let (image, first) = grid.images(b);
        let cb = b.parallel("cb", il.blocks());
        let row = b.parallel("row", grid.rows);
        let padding = conv.window.padding;
        let corner = &image * il.image()
            + &cb * il.plane()
            + &row * (winograd.m * il.row())
            + (il.halo.top - padding.top) * il.row()
            + (il.halo.left - padding.left) * il.block;
        let plane = grid.tiles() * BLOCK;
        b.repeat("column", grid.columns, |b, column| {
            let tile = grid.tile(&first, &row, &column);
            for lane in (0..BLOCK).step_by(usize::from(lanes)) {
                let from = &corner + &column * (winograd.m * il.block) + lane;
                b.repeat("x", n, |b, x| {
                    let values: Vec<Reg> = (0..n)
                        .map(|y| b.load(lanes, x_buffer, &from + &x * il.block + y * il.row()))
                        .collect();
                    for (y, value) in
                        transform::apply(b, &winograd.input, &values).into_iter().enumerate()
                    {
                        b.store(half, (&x + y * n) * BLOCK + lane, value);
                    }
                });
                let to = &cb * plane + &tile * BLOCK + lane;
                let point = point_step(il.blocks(), plane);
                b.repeat("y", n, |b, y| {
                    let values: Vec<Reg> =
                        (0..n).map(|x| b.load(lanes, half, (&y * n + x) * BLOCK + lane)).collect();
                    for (x, value) in
                        transform::apply(b, &winograd.input, &values).into_iter().enumerate()
                    {
                        b.store(v_buffer, &to + (&y * n + x) * point, value);
                    }
                });
            }
        });
        self.call(draft);
    }

    /// For each point: tiles x input channels times input channels x output channels.
    fn multiply_points(
        &mut self,
        product: &Product,
        place: impl FnOnce(&mut Builder) -> (Affine, Affine),
    ) {
        let &Product {
            points,
            n,
            plane,
            parts,
            tiles,
            in_blocks,
            out_blocks,
            reach_blocks,
            buffers,
        } = product;
        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let shape = TileShape::for_vectors(self.vectors);
        let panel = reach_blocks * BLOCK * BLOCK;
        let mut draft = Draft::new("multiply_points");
        let (from_step, to_step) = (point_step(in_blocks, plane), point_step(out_blocks, plane));
        let v_buffer = draft.buffer("points", buffers[0], points * from_step, Access::Read);
        let u_buffer =
            draft.buffer("weights", buffers[1], out_blocks * points * panel, Access::Read);
        let m_buffer = draft.buffer("products", buffers[2], points * to_step, Access::ReadWrite);
        let b = &mut draft.b;
        // Small inputs stay in the second-level cache while the weights stream past once, in
        // their order; large ones are kept point by point.
        let inputs_stay = 4 * points * in_blocks * tiles * BLOCK <= INPUT_BYTES;
        let part = b.parallel("half", parts);
        let own = &part * (tiles * BLOCK);
        let (point, (ob, first)) = if inputs_stay {
            let place = place(b);
            (b.parallel("point", points), place)
        } else {
            (b.parallel("point", points), place(b))
        };
        // A stream that is read in order needs no hints (they made it slower); one that jumps from
        // panel to panel does.
        let ahead = (!inputs_stay).then_some(points * panel);
        let from = &point * from_step + first * plane + &own;
        let weights = (&ob * points + &point) * panel;
        let to = &point * to_step + &ob * plane + &own;
        let chunk_blocks = largest_divisor(reach_blocks, (PANEL_ROWS / BLOCK).max(1));
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
        for chunk in 0..chunks {
            let from = &from + chunk * chunk_blocks * plane;
            let weights = &weights + chunk * chunk_blocks * BLOCK * BLOCK;
            b.repeat("part", BLOCK / (shape.vectors * width), |b, part| {
                let lane = &part * (shape.vectors * width);
                let mut done = 0;
                let kinds = split(tiles, shape.pixels);
                let last = kinds.len() - 1;
                for (kind, (count, pixels)) in kinds.into_iter().enumerate() {
                    b.repeat("tile", count, |b, t| {
                        let first_tile = &t * pixels + done;
                        let offsets: Vec<usize> = (0..pixels).map(|p| p * BLOCK).collect();
                        let at = |v: usize, p: usize| {
                            &to + (&first_tile + p) * BLOCK + &lane + v * width
                        };
                        // Each sum begins at zero and joins those before it at its end.
                        let sum = |b: &mut Builder, sum: &Affine, first: bool| {
                            let block = sum * sum_blocks;
                            let from = &from + &block * plane + &first_tile * BLOCK;
                            let input = Source { buffer: v_buffer, at: from };
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
                                ahead: ahead.filter(|_| kind == last),
                                loops: &loops,
                            };
                            tile::multiply(b, &tile, &accumulators);
                            for (v, column) in accumulators.iter().enumerate() {
                                for (p, &acc) in column.iter().enumerate() {
                                    let total = if first {
                                        acc
                                    } else {
                                        let before = b.load(lanes, m_buffer, at(v, p));
                                        b.binary(Binary::Add, acc, before)
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
                }
            });
        }
        self.call(draft);
    }

    /// A^T m A of every tile, bias and epilogue.
    fn transform_output(
        &mut self,
        winograd: &Winograd,
        grid: Grid,
        (products, len): (Argument, usize),
        bias: Argument,
        output: Operand,
        fused: &[Fused],
    ) {
        let (m, n) = (winograd.m, winograd.n());
        let lanes = self.vectors.lanes;
        let ol = output.layout;
        let out_blocks = ol.blocks();
        let mut draft = Draft::new("transform_output");
        let m_buffer = draft.buffer("products", products, len, Access::Read);
        let bias_buffer = draft.buffer("bias", bias, out_blocks * BLOCK, Access::Read);
        let addends = declare_addends(&mut draft, fused);
        let y_buffer = output.declare(&mut draft, "output", Access::Write);
        let half = draft.buffer("half", Argument::Local, m * n * BLOCK, Access::Local);
        let b = &mut draft.b;
        let (image, first) = grid.images(b);
        let ob = b.parallel("ob", out_blocks);
        let row_parts = parts(ol.h, m);
        // Rows of tiles join the parallel space where all are alike.
        let shared_row = (row_parts.len() == 1).then(|| b.parallel("row", row_parts[0].count));
        let plane = grid.tiles() * BLOCK;
        for rows in &row_parts {
            let count = if shared_row.is_some() { 1 } else { rows.count };
            b.repeat("row", count, |b, row| {
                let row = shared_row.clone().unwrap_or(row) + rows.first;
                for columns in parts(ol.w, m) {
                    b.repeat("column", columns.count, |b, column| {
                        let column = column + columns.first;
                        let tile = grid.tile(&first, &row, &column);
                        let from = &ob * plane + &tile * BLOCK;
                        let point = point_step(out_blocks, plane);
                        for lane in (0..BLOCK).step_by(usize::from(lanes)) {
                            let cell = Cell { b: &mut *b, lanes, lane, half };
                            cell.columns(winograd, m_buffer, &from, point, rows.kept);
                            let bias = b.load(lanes, bias_buffer, &ob * BLOCK + lane);
                            b.repeat("y", rows.kept, |b, y| {
                                let values: Vec<Reg> = (0..n)
                                    .map(|x| b.load(lanes, half, (&y * n + x) * BLOCK + lane))
                                    .collect();
                                let row = &row * m + y;
                                let results = transform::apply(b, &winograd.output, &values);
                                for (x, value) in results.into_iter().take(columns.kept).enumerate()
                                {
                                    let value = b.binary(Binary::Add, value, bias);
                                    let place = (&image, &ob, &row, &(&column * m + x));
                                    let value =
                                        apply(b, fused, &addends, value, place, &lane.into());
                                    let at = output.at(&image, &ob, &row, place.3) + lane;
                                    b.store(y_buffer, at, value);
                                }
                            });
                        }
                    });
                }
            });
        }
        self.call(draft);
    }
}

/// The lanes of one tile at work.
struct Cell<'b> {
    b: &'b mut Builder,
    lanes: u8,
    lane: usize,
    half: BufferId,
}

impl Cell<'_> {
    /// A^T over the columns of the products, rows that are kept only.
    fn columns(
        self,
        winograd: &Winograd,
        products: BufferId,
        from: &Affine,
        point: usize,
        kept: usize,
    ) {
        let n = winograd.n();
        let Cell { b, lanes, lane, half } = self;
        b.repeat("x", n, |b, x| {
            let values: Vec<Reg> = (0..n)
                .map(|y| b.load(lanes, products, from + (&x + y * n) * point + lane))
                .collect();
            let results = transform::apply(b, &winograd.output, &values);
            for (y, value) in results.into_iter().take(kept).enumerate() {
                b.store(half, (&x + y * n) * BLOCK + lane, value);
            }
        });
    }
}

/// Images of a part that go through the three kernels together: so few that what lies between them stays
/// in the caches, but enough tiles that weights are read for more than a register tile of them.
fn images_at_once(images: usize, tiles: usize, tile_bytes: usize) -> usize {
    const BYTES: usize = 6 << 20;
    const TILES: usize = 48;
    let fits = |count: &usize| {
        images.is_multiple_of(*count)
            && (count * tiles * tile_bytes <= BYTES || (count - 1) * tiles < TILES)
    };
    (1..=images).rev().find(fits).unwrap_or(1)
}

/// Elements from a point to the next one: a cache line more than they need, since the same place of
/// all points, which the transforms visit together, may not fall into one set of the cache.
fn point_step(blocks: usize, plane: usize) -> usize {
    blocks * plane + BLOCK
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

/// Parts of a batch whose images go through the kernels side by side, for as many threads.
const PARTS: usize = 2;

/// Transformed weights of up to this many bytes, which then every thread reads, for maps of its own.
/// Larger ones are split between the threads, which share the maps: between cores without a common
/// cache, shared bytes cost most.
const SHARED_BYTES: usize = 2 << 20;

/// What `multiply_points` multiplies.
struct Product {
    points: usize,
    /// Points of one axis.
    n: usize,
    /// Elements of one block of channels of all tiles.
    plane: usize,
    /// Parts of the batch.
    parts: usize,
    /// Tiles of each part.
    tiles: usize,
    in_blocks: usize,
    out_blocks: usize,
    /// Input blocks of one output block.
    reach_blocks: usize,
    /// Transformed input, weights, products.
    buffers: [Argument; 3],
}
