//! Direct convolution over blocked activations.
//!
//! One iteration of the parallel space computes one row of one block of output channels. The row
//! is cut into tiles of a few pixels; the reduction over input channels is cut into chunks whose
//! panel of weights stays in the first-level cache while the tiles of the row pass over it.
//! Within a row of the kernel, columns and channels of a block lie next to each other in memory,
//! so both are one loop.

use super::tile::{self, PANEL_ROWS, Reduction, Source, Tile, largest_divisor, split};
use super::{Argument, Draft, Fused, Lowering, Operand, apply, declare_addends};
use crate::graph::Conv;
use crate::layout::{BLOCK, Layout};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, DType, Reg};

/// Which input blocks each output block reads.
pub(super) struct Reach {
    /// Input blocks that every output block reads.
    pub(super) blocks: usize,
    /// First input block of each output block.
    pub(super) starts: Vec<usize>,
}

impl Reach {
    pub(super) fn new(conv: &Conv, input: &Layout) -> Self {
        let inputs = input.c / conv.groups;
        let outputs = conv.out_channels / conv.groups;
        let out_blocks = conv.out_channels.div_ceil(BLOCK);
        let ranges: Vec<(usize, usize)> = (0..out_blocks)
            .map(|ob| {
                let first = ob * BLOCK / outputs;
                let last = ((ob + 1) * BLOCK).min(conv.out_channels).div_ceil(outputs);
                (first * inputs / input.block, (last * inputs).div_ceil(input.block))
            })
            .collect();
        let blocks = ranges.iter().map(|(start, end)| end - start).max().unwrap_or(1);
        let limit = input.blocks() - blocks;
        Reach { blocks, starts: ranges.iter().map(|&(start, _)| start.min(limit)).collect() }
    }

    /// (outer, inner, step): output block `o * inner + i` starts at input block `o * step`,
    /// if all of them do.
    pub(super) fn pattern(&self) -> Option<(usize, usize, usize)> {
        let count = self.starts.len();
        (1..=count).rev().filter(|inner| count.is_multiple_of(*inner)).find_map(|inner| {
            let step = self.starts.get(inner).copied().unwrap_or(0);
            let fits = (0..count).all(|ob| self.starts[ob] == ob / inner * step);
            fits.then_some((count / inner, inner, step))
        })
    }
}

/// Everything a kernel of the convolution needs.
struct Plan<'a> {
    conv: &'a Conv,
    input: Operand,
    output: Operand,
    fused: &'a [Fused],
    /// Input blocks of one output block.
    blocks: usize,
    /// Type of the weights.
    dtype: DType,
    /// Elements of packed weights of one output block.
    panel: usize,
}

impl Lowering<'_> {
    pub(super) fn conv(&mut self, conv: &Conv, input: Operand, output: Operand, fused: &[Fused]) {
        let reach = Reach::new(conv, &input.layout);
        let [kh, kw] = conv.window.kernel;
        let dtype = self.streamed(output.layout.n);
        let plan = Plan {
            conv,
            input,
            output,
            fused,
            blocks: reach.blocks,
            dtype,
            panel: reach.blocks * kh * kw * input.layout.block * BLOCK,
        };
        let out_blocks = reach.starts.len();
        let weights = self.conv_weights(conv, &reach, input.layout.block, dtype);
        let bias = self.conv_bias(conv, out_blocks * BLOCK);
        match reach.pattern() {
            Some((outer, inner, step)) => self.conv_kernel(&plan, weights, bias, |b| {
                let o = b.parallel("group", outer);
                let i = b.parallel("ob", inner);
                (&o * inner + i, o * step)
            }),
            // Groups that straddle blocks without a regular pattern: a kernel for each block.
            None => {
                for (ob, &start) in reach.starts.iter().enumerate() {
                    self.conv_kernel(&plan, weights, bias, |_| (ob.into(), start.into()));
                }
            }
        }
    }

    /// One kernel; `place` adds the parallel dimensions over output blocks and gives the output
    /// block and the first input block.
    fn conv_kernel(
        &mut self,
        plan: &Plan<'_>,
        weights: Argument,
        bias: Argument,
        place: impl FnOnce(&mut Builder) -> (Affine, Affine),
    ) {
        let Plan { conv, input, output, .. } = *plan;
        let out_blocks = output.layout.blocks();
        let [kh, kw] = conv.window.kernel;
        let [sh, sw] = conv.window.stride;
        let [dh, dw] = conv.window.dilation;
        let lanes = self.vectors.lanes;
        let shape = TileShape::for_vectors(self.vectors);

        let mut draft = Draft::new("conv");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let w_buffer = draft.weights(weights, plan.dtype, out_blocks * plan.panel);
        let bias_buffer = draft.buffer("bias", bias, out_blocks * BLOCK, Access::Read);
        let addends = declare_addends(&mut draft, plan.fused);
        let y_buffer = output.declare(&mut draft, "output", Access::ReadWrite);

        let b = &mut draft.b;
        let (ob, first) = place(b);
        let n = b.parallel("n", output.layout.n);
        let oy = b.parallel("oy", output.layout.h);

        let il = &input.layout;
        let corner = il.corner(conv.window.padding);
        let row = &n * il.image() + first * il.plane() + &oy * (sh * il.row()) + corner;
        let rows_of_block = kh * kw * il.block;
        let chunk_blocks = largest_divisor(plan.blocks, (PANEL_ROWS / rows_of_block).max(1));
        let chunks = plan.blocks / chunk_blocks;
        let run = kw * il.block;
        let mut loops = vec![
            Reduction {
                name: "cb",
                count: chunk_blocks,
                input_step: il.plane(),
                weight_step: rows_of_block * BLOCK,
            },
            Reduction {
                name: "ky",
                count: kh,
                input_step: dh * il.row(),
                weight_step: run * BLOCK,
            },
        ];
        if dw == 1 {
            loops.push(Reduction { name: "k", count: run, input_step: 1, weight_step: BLOCK });
        } else {
            loops.push(Reduction {
                name: "kx",
                count: kw,
                input_step: dw * il.block,
                weight_step: il.block * BLOCK,
            });
            loops.push(Reduction { name: "c", count: il.block, input_step: 1, weight_step: BLOCK });
        }

        let fused = plan.fused;
        let place =
            Row { output, fused, buffer: y_buffer, ob: &ob, n: &n, oy: &oy, addends: &addends };
        if chunks > 1 {
            place.start_with_bias(b, bias_buffer, lanes);
        }
        b.repeat("chunk", chunks, |b, chunk| {
            let row = &row + &chunk * (chunk_blocks * il.plane());
            let panel = &ob * plan.panel + &chunk * (chunk_blocks * rows_of_block * BLOCK);
            b.repeat("part", BLOCK / (shape.vectors * usize::from(lanes)), |b, part| {
                let lane = &part * (shape.vectors * usize::from(lanes));
                for run in split(output.layout.w, shape.pixels) {
                    let pixels = run.pixels;
                    b.repeat("tile", run.tiles, |b, t| {
                        let ox = run.pixel(&t);
                        let input = Source { buffer: x_buffer, at: &row + &ox * (sw * il.block) };
                        let offsets: Vec<usize> = (0..pixels).map(|p| p * sw * il.block).collect();
                        let sources: Vec<Source> = (0..shape.vectors)
                            .map(|v| Source {
                                buffer: w_buffer,
                                at: &panel + &lane + v * usize::from(lanes),
                            })
                            .collect();
                        let initial = if chunks > 1 { None } else { Some(bias_buffer) };
                        let accumulators =
                            place.begin(b, initial, &lane, shape.vectors, pixels, lanes);
                        let tile = Tile {
                            input: &input,
                            pixels: &offsets,
                            weights: &sources,
                            ahead: None,
                            loops: &loops,
                        };
                        tile::multiply(b, &tile, &accumulators);
                        place.end(b, &accumulators, &ox, &lane, chunks > 1);
                    });
                }
            });
        });
        if chunks > 1 && !fused.is_empty() {
            place.finish(b, lanes);
        }
        self.call(draft);
    }
}

/// The register tile of a target.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileShape {
    /// Vectors of output channels.
    pub(super) vectors: usize,
    /// Pixels.
    pub(super) pixels: usize,
}

impl TileShape {
    /// Accumulators, one row of weights and one spread input fill the registers.
    pub(super) fn for_vectors(vectors: super::Vectors) -> Self {
        let wide = vectors.per_block().min(if vectors.registers >= 32 { 4 } else { 2 });
        TileShape { vectors: wide, pixels: (vectors.registers - wide - 1) / wide }
    }

    /// The same for sums of `count` pixels that end every few rows: with 256-bit vectors as few as
    /// hide the latency, where the pixels can be split so. The ends of more sums at a time delay what
    /// follows (Zen 3: of a loop whose twelve sums end every 16 or 32 rows 88 to 98 % of the limit is
    /// left, with eight sums 97 to 98).
    pub(super) fn for_short_sums(vectors: super::Vectors, count: usize) -> Self {
        let shape = Self::for_vectors(vectors);
        if vectors.lanes != 8 {
            return shape;
        }
        let full = |most: &usize| split(count, *most).iter().all(|run| run.pixels >= FEWEST);
        TileShape { pixels: (FEWEST..shape.pixels).find(full).unwrap_or(shape.pixels), ..shape }
    }
}

/// Fewest pixels for which two vectors of outputs hide the latency of multiply-adds: eight sums,
/// of which each is added to every four cycles.
const FEWEST: usize = 4;

/// The output row at work.
pub(super) struct Row<'a> {
    pub(super) output: Operand,
    pub(super) fused: &'a [Fused],
    /// Of the output.
    pub(super) buffer: BufferId,
    pub(super) ob: &'a Affine,
    pub(super) n: &'a Affine,
    pub(super) oy: &'a Affine,
    pub(super) addends: &'a [Option<BufferId>],
}

impl Row<'_> {
    fn at(&self, ox: &Affine) -> Affine {
        self.output.at(self.n, self.ob, self.oy, ox)
    }

    /// Every pixel of the row becomes the bias, chunks add to it.
    fn start_with_bias(&self, b: &mut Builder, bias: BufferId, lanes: u8) {
        let vectors = BLOCK / usize::from(lanes);
        let values: Vec<Reg> = (0..vectors)
            .map(|v| b.load(lanes, bias, self.ob * BLOCK + v * usize::from(lanes)))
            .collect();
        b.repeat("x", self.output.layout.w, |b, x| {
            for (v, &value) in values.iter().enumerate() {
                b.store(self.buffer, self.at(&x) + v * usize::from(lanes), value);
            }
        });
    }

    /// Accumulators at the bias, or at zero where the sum joins a total in memory.
    pub(super) fn begin(
        &self,
        b: &mut Builder,
        bias: Option<BufferId>,
        lane: &Affine,
        vectors: usize,
        pixels: usize,
        lanes: u8,
    ) -> Vec<Vec<Reg>> {
        (0..vectors)
            .map(|v| {
                (0..pixels)
                    .map(|_| match bias {
                        Some(bias) => {
                            b.load(lanes, bias, self.ob * BLOCK + lane + v * usize::from(lanes))
                        }
                        None => b.constant(lanes, 0.0),
                    })
                    .collect()
            })
            .collect()
    }

    /// Stores a tile: added to the total, or with its epilogue.
    pub(super) fn end(
        &self,
        b: &mut Builder,
        accumulators: &[Vec<Reg>],
        ox: &Affine,
        lane: &Affine,
        add: bool,
    ) {
        for (v, column) in accumulators.iter().enumerate() {
            for (p, &acc) in column.iter().enumerate() {
                let x = ox + p;
                let lanes = b.lanes(acc);
                let lane = lane + v * usize::from(lanes);
                let at = self.at(&x) + &lane;
                let value = if add {
                    let total = b.load(lanes, self.buffer, &at);
                    b.binary(Binary::Add, total, acc)
                } else {
                    let place = (self.n, self.ob, self.oy, &x);
                    apply(b, self.fused, self.addends, acc, place, &lane)
                };
                b.store(self.buffer, at, value);
            }
        }
    }

    /// The epilogue over the finished row.
    fn finish(&self, b: &mut Builder, lanes: u8) {
        b.repeat("x", self.output.layout.w, |b, x| {
            for v in 0..BLOCK / usize::from(lanes) {
                let lane = Affine::from(v * usize::from(lanes));
                let at = self.at(&x) + &lane;
                let total = b.load(lanes, self.buffer, &at);
                let place = (self.n, self.ob, self.oy, &x);
                let value = apply(b, self.fused, self.addends, total, place, &lane);
                b.store(self.buffer, at, value);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{TileShape, split};
    use crate::lower::Vectors;

    #[test]
    fn short_sums_have_few_pixels_where_they_can_be_split_so() {
        let wide = Vectors { lanes: 8, registers: 16 };
        let sizes = |count| -> Vec<(usize, usize)> {
            let most = TileShape::for_short_sums(wide, count).pixels;
            split(count, most).iter().map(|run| (run.tiles, run.pixels)).collect()
        };
        assert_eq!(sizes(64), [(16, 4)]);
        assert_eq!(sizes(13), [(1, 5), (2, 4)]);
        // Not three times three, which would wait for the multiply-adds.
        assert_eq!(sizes(9), [(1, 5), (1, 4)]);
        assert_eq!(sizes(11), [(1, 6), (1, 5)]);
        assert_eq!(sizes(7), [(1, 4), (1, 3)]);
        assert_eq!(sizes(3), [(1, 3)]);
        assert_eq!(TileShape::for_short_sums(Vectors::SSE, 64).pixels, 6);
    }
}
