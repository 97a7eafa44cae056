//! Fully connected layers over the activation as it lies in memory.
//!
//! At batch 1 the layer is a stream of weights: one iteration of the parallel space reads several
//! panels that lie far apart at once, which keeps more of the memory system busy than one stream.
//! With more images, the images are the pixels of the register tile, and each chunk of a panel
//! stays in the first-level cache while all images pass over it.

use super::conv::TileShape;
use super::pack::Pack;
use super::tile::{self, PANEL_ROWS, Reduction, Source, Tile, largest_divisor, split};
use super::{Draft, Fused, Lowering, Operand, apply, declare_addends};
use crate::graph::Linear;
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, Reg};

impl Lowering<'_> {
    pub(super) fn linear(
        &mut self,
        linear: &Linear,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let il = input.layout;
        let rows = il.blocks() * il.h * il.w * il.block;
        let panel = rows * BLOCK;
        let out_blocks = output.layout.blocks();
        let weights = self.pack(Pack::Linear {
            weight: linear.weight.clone(),
            channels: il.c,
            pixels: il.h * il.w,
            in_block: il.block,
        });
        let bias = self.pack(Pack::Bias {
            bias: linear.bias.clone(),
            batch_norm: None,
            len: out_blocks * BLOCK,
        });

        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let images = il.n;
        let shape = TileShape::for_vectors(self.vectors);
        // Vectors that a tile holds, and panels that they come from.
        let (panels, vectors) = if images == 1 {
            let most = (self.vectors.registers - 2) / self.vectors.per_block();
            (largest_divisor(out_blocks, most.clamp(1, 4)), self.vectors.per_block())
        } else {
            (1, shape.vectors)
        };
        let distance = out_blocks / panels;

        let mut draft = Draft::new("linear");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let w_buffer = draft.buffer("weights", weights, out_blocks * panel, Access::Read);
        let bias_buffer = draft.buffer("bias", bias, out_blocks * BLOCK, Access::Read);
        let addends = declare_addends(&mut draft, fused);
        let y_buffer = output.declare(&mut draft, "output", Access::ReadWrite);

        let b = &mut draft.b;
        let ob = b.parallel("ob", distance);
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

        // The reduction: one loop where the activation has no halo, else one a row.
        let outer: Vec<(usize, usize, usize)> = if il.has_halo() {
            vec![
                (il.blocks(), il.plane(), il.h * il.w * il.block),
                (il.h, il.row(), il.w * il.block),
            ]
        } else {
            Vec::new()
        };
        let run = if il.has_halo() { il.w * il.block } else { rows };
        let chunk = largest_divisor(run, PANEL_ROWS);
        let body = |b: &mut Builder, x_at: &Affine, w_row: &Affine| {
            b.repeat("part", self.vectors.per_block() / vectors, |b, part| {
                let lane = &part * (vectors * width);
                let mut done = 0;
                for (tiles, pixels) in split(images, shape.pixels) {
                    b.repeat("tile", tiles, |b, t| {
                        let first = &t * pixels + done;
                        let source = Source {
                            buffer: x_buffer,
                            at: &first * il.image() + x_at + il.origin(),
                        };
                        let offsets: Vec<usize> = (0..pixels).map(|p| p * il.image()).collect();
                        let sources: Vec<Source> = (0..panels * vectors)
                            .map(|v| Source {
                                buffer: w_buffer,
                                at: (&ob + v / vectors * distance) * panel
                                    + w_row * BLOCK
                                    + &lane
                                    + v % vectors * width,
                            })
                            .collect();
                        let accumulators: Vec<Vec<Reg>> = (0..sources.len())
                            .map(|_| (0..pixels).map(|_| b.constant(lanes, 0.0)).collect())
                            .collect();
                        let loops = [Reduction {
                            name: "k",
                            count: chunk,
                            input_step: 1,
                            weight_step: BLOCK,
                        }];
                        let tile = Tile {
                            input: &source,
                            pixels: &offsets,
                            weights: &sources,
                            ahead: None,
                            loops: &loops,
                        };
                        tile::multiply(b, &tile, &accumulators);
                        for (v, column) in accumulators.iter().enumerate() {
                            for (p, &acc) in column.iter().enumerate() {
                                let at = (&first + p) * image
                                    + (&ob + v / vectors * distance) * BLOCK
                                    + &lane
                                    + v % vectors * width;
                                let total = b.load(lanes, y_buffer, &at);
                                let total = b.binary(Binary::Add, total, acc);
                                b.store(y_buffer, at, total);
                            }
                        }
                    });
                    done += tiles * pixels;
                }
            });
        };
        nest(b, &outer, &zero, &zero, &mut |b, x_at, w_row| {
            b.repeat("chunk", run / chunk, |b, c| {
                body(b, &(x_at + &c * chunk), &(w_row + &c * chunk));
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
