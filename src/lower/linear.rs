//! Fully connected layers over the activation as it lies in memory.
//!
//! At batch 1 the layer is a stream of weights: one iteration of the parallel space reads several
//! panels that lie far apart at once, which keeps more of the memory system busy than one stream.
//! With more images, the images are the pixels of the register tile, and each chunk of a panel
//! stays in the first-level cache while all images pass over it.

use super::conv::TileShape;
use super::file_rows::Panels;
use super::tile::{self, Ahead, PANEL_ROWS, Reduction, Source, Tile, largest_divisor, split};
use super::{Argument, Draft, Fused, LinearPacks, Lowering, Operand, apply, declare_addends};
use crate::graph::Linear;
use crate::layout::{BLOCK, Layout};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary};

impl Lowering<'_> {
    pub(super) fn linear(
        &mut self,
        linear: &Linear,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let il = input.layout;
        let panel = il.blocks() * il.h * il.w * il.block * BLOCK;
        let out_blocks = output.layout.blocks();
        let sizes = [il.c, il.h * il.w, il.block];
        let rows = self.file_rows(linear, sizes);
        let packs = self.linear_packs(linear, sizes, BLOCK, out_blocks * BLOCK, rows);
        let LinearPacks { scales, bias, .. } = packs;

        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let images = il.n;
        let shape = TileShape::for_vectors(self.vectors);
        // Vectors that a tile holds, and panels that they come from.
        let vectors = if images == 1 { self.vectors.per_block() } else { shape.vectors };
        let panels = if images == 1 && rows.is_none() {
            let most = (self.vectors.registers - 2) / vectors;
            largest_divisor(out_blocks, most.clamp(1, 4))
        } else {
            1
        };
        let distance = out_blocks / panels;

        let rows_of = if images > 1 { self.gather(input) } else { Rows::in_place(input) };
        let mut draft = Draft::new("linear");
        let x_buffer = draft.buffer("input", rows_of.argument, rows_of.len, Access::Read);
        let weights = Panels::declare(&mut draft, &packs, out_blocks, panel);
        let scale_buffer =
            scales.map(|scales| draft.buffer("scales", scales, out_blocks * BLOCK, Access::Read));
        let bias_buffer = draft.buffer("bias", bias, out_blocks * BLOCK, Access::Read);
        let addends = declare_addends(&mut draft, fused);
        let y_buffer = output.declare(&mut draft, "output", Access::ReadWrite);

        let b = &mut draft.b;
        let ob = b.parallel("ob", distance);
        weights.fill(b, &ob, lanes);
        let zero = Affine::default();
        let image = output.layout.image();

        b.repeat("n", images, |b, n| {
            for p in 0..panels {
                for lane in (0..BLOCK).step_by(width) {
                    let at = (&ob + p * distance) * BLOCK + lane;
                    let value = b.load(lanes, bias_buffer, &at);
                    b.store(y_buffer, &n * image + at, value);
                }
            }
        });

        // The reduction: one loop where the rows lie densely, else one for each row of the map.
        let (outer, run) = rows_of.nest(&il);
        let chunk = largest_divisor(run, PANEL_ROWS);
        let spread = self.vectors.fetches_ahead();
        let passes = tile::tiles(images, shape.pixels);
        let ahead = |pass: &Affine| {
            if spread {
                let every = Ahead::share(passes);
                let of_pass = Ahead::rows(chunk, chunk, every) * BLOCK;
                Ahead { distance: pass * of_pass + chunk * BLOCK, every }
            } else {
                Ahead { distance: (AHEAD_ROWS * BLOCK).into(), every: 1 }
            }
        };
        let body = |b: &mut Builder, x_at: &Affine, w_row: &Affine| {
            b.repeat("part", self.vectors.per_block() / vectors, |b, part| {
                let lane = &part * (vectors * width);
                for run in split(images, shape.pixels) {
                    let pixels = run.pixels;
                    b.repeat("tile", run.tiles, |b, t| {
                        let first = run.pixel(&t);
                        let source = Source {
                            buffer: x_buffer,
                            at: &first * rows_of.image_step + x_at + rows_of.origin,
                        };
                        let offsets: Vec<usize> =
                            (0..pixels).map(|p| p * rows_of.image_step).collect();
                        let sources: Vec<Source> = (0..panels * vectors)
                            .map(|v| Source {
                                buffer: weights.buffer,
                                at: weights.at(&(&ob + v / vectors * distance))
                                    + w_row * BLOCK
                                    + &lane
                                    + v % vectors * width,
                            })
                            .collect();
                        let loops = [Reduction {
                            name: "k",
                            count: chunk,
                            input_step: rows_of.step,
                            weight_step: BLOCK,
                        }];
                        let fetches = images > 1 && rows.is_none();
                        let ahead = fetches.then(|| ahead(&run.tile(&t)));
                        let tile = Tile {
                            input: &source,
                            pixels: &offsets,
                            weights: &sources,
                            ahead: ahead.as_ref(),
                            loops: &loops,
                        };
                        for (v, column) in tile::sum(b, &tile, lanes).iter().enumerate() {
                            for (p, &acc) in column.iter().enumerate() {
                                let at = (&first + p) * image
                                    + (&ob + v / vectors * distance) * BLOCK
                                    + &lane
                                    + v % vectors * width;
                                let total = b.load(lanes, y_buffer, &at);
                                let total = match scale_buffer {
                                    None => b.binary(Binary::Add, total, acc),
                                    Some(scales) => {
                                        let block = &ob + v / vectors * distance;
                                        let lane = &lane + v % vectors * width;
                                        let scale = b.load(lanes, scales, block * BLOCK + lane);
                                        b.fma(acc, scale, total)
                                    }
                                };
                                b.store(y_buffer, at, total);
                            }
                        }
                    });
                }
            });
        };
        nest(b, &outer, &zero, &zero, &mut |b, x_at, w_row| {
            b.repeat("chunk", run / chunk, |b, c| {
                body(b, &(x_at + &c * (chunk * rows_of.step)), &(w_row + &c * chunk));
            });
        });

        if !fused.is_empty() {
            b.repeat("n", images, |b, n| {
                for p in 0..panels {
                    for lane in (0..BLOCK).step_by(width) {
                        let block = &ob + p * distance;
                        let at = &n * image + &block * BLOCK + lane;
                        let total = b.load(lanes, y_buffer, &at);
                        let place = (&n, &block, &zero, &zero);
                        let value = apply(b, fused, &addends, total, place, &lane.into());
                        b.store(y_buffer, at, value);
                    }
                }
            });
        }
        self.call(draft);
    }
}

/// Rows of a panel between the one at work and the one that is fetched, where several images
/// multiply each and the widest vectors do so in little more time than a row takes from memory.
const AHEAD_ROWS: usize = 64;

/// Where the elements of the input are: row k of image n at `origin + k * step + n * image_step`,
/// if the rows lie densely.
struct Rows {
    argument: Argument,
    len: usize,
    origin: usize,
    step: usize,
    image_step: usize,
    dense: bool,
}

impl Rows {
    /// The activation as it lies.
    fn in_place(input: Operand) -> Rows {
        let layout = input.layout;
        Rows {
            argument: input.argument,
            len: layout.len(),
            origin: layout.origin(),
            step: 1,
            image_step: layout.image(),
            dense: !layout.has_halo(),
        }
    }

    /// Loops around a run of rows that lie densely, and the length of that run.
    fn nest(&self, layout: &Layout) -> (Vec<(usize, usize, usize)>, usize) {
        let row = layout.w * layout.block;
        if self.dense {
            return (Vec::new(), layout.blocks() * layout.h * row);
        }
        let outer =
            vec![(layout.blocks(), layout.plane(), layout.h * row), (layout.h, layout.row(), row)];
        (outer, row)
    }
}

impl Lowering<'_> {
    /// Brings the images of a batch side by side, `[row][image]`: as they lie, the same row of
    /// all images is a large power of two apart, and they would evict one another from the cache.
    fn gather(&mut self, input: Operand) -> Rows {
        let layout = input.layout;
        let rows = layout.blocks() * layout.h * layout.w * layout.block;
        let len = rows * layout.n;
        let argument = self.temporary_elements(len);
        let mut draft = Draft::new("gather");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = draft.buffer("rows", argument, len, Access::Write);
        let b = &mut draft.b;
        let cb = b.parallel("cb", layout.blocks());
        let y = b.parallel("y", layout.h);
        b.repeat("x", layout.w, |b, x| {
            let row = (&cb * layout.h + &y) * (layout.w * layout.block) + &x * layout.block;
            b.repeat("n", layout.n, |b, n| {
                for lane in 0..layout.block {
                    let value = b.load(1, from, input.at(&n, &cb, &y, &x) + lane);
                    b.store(to, (&row + lane) * layout.n + &n, value);
                }
            });
        });
        self.call(draft);
        Rows { argument, len, origin: 0, step: layout.n, image_step: 1, dense: true }
    }
}

/// Loops given as (count, step of the input, step of the weights' row).
fn nest(
    b: &mut Builder,
    loops: &[(usize, usize, usize)],
    x_at: &Affine,
    w_row: &Affine,
    body: &mut dyn FnMut(&mut Builder, &Affine, &Affine),
) {
    match loops {
        [] => body(b, x_at, w_row),
        [(count, x_step, w_step), rest @ ..] => b.repeat("run", *count, |b, i| {
            nest(b, rest, &(x_at + &i * *x_step), &(w_row + &i * *w_step), body);
        }),
    }
}
