//! Convolution by Winograd's method, in three kinds of kernels: tiles of the input to the points,
//! for each point a matrix product over the channels, and the points back to tiles of the output,
//! where bias and epilogue follow.
//!
//! Points lie as `[point][block of channels][tile][BLOCK]`, so that a matrix product reads its
//! tiles as a direct convolution reads its pixels. Points at infinity have fewer tiles than the
//! others, see [`Cover`].

mod products;
mod transforms;

use super::conv::Reach;
use super::pack::Pack;
use super::{Argument, Fused, Lowering, Operand};
use crate::algorithm::points_dtype;
use crate::graph::Conv;
use crate::layout::BLOCK;
use crate::winograd::{Cover, Winograd, point_sets};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::DType;
use products::{Outputs, Product};

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
    rows: Cover,
    columns: Cover,
    /// Parts of the batch.
    parts: usize,
    /// Images from one part to the next.
    share: usize,
    /// Images of each part that are at work.
    images: usize,
    /// Groups of channels that share no block: they go their own ways, each by a thread of its own if
    /// it can.
    groups: usize,
}

impl Grid {
    /// From the first image at work to the last one.
    fn span(self) -> usize {
        (self.parts - 1) * self.share + self.images
    }

    /// Tiles of the images of all parts that are at work.
    fn tiles(self) -> usize {
        self.rows.tiles() * self.columns.tiles() * self.parts * self.images
    }

    /// A part alone.
    fn part(self) -> Grid {
        Grid { parts: 1, ..self }
    }

    /// Elements from a point to the next one, for so many blocks of channels: a cache line more than
    /// they need, since the same place of all points, which the transforms visit together, may not fall
    /// into one set of the cache.
    fn point_step(self, blocks: usize) -> usize {
        (blocks * self.tiles() + 1) * BLOCK
    }

    /// The parallel dimensions of the images and of blocks of channels: (index in the batch, counted
    /// from the first image at work; index among those at work; block).
    fn blocks(
        self,
        b: &mut Builder,
        (name, blocks): (&'static str, usize),
    ) -> (Affine, Affine, Affine) {
        let part = b.parallel("half", self.parts);
        let group = b.parallel("group", self.groups);
        let image = b.parallel("n", self.images);
        let of_group = blocks / self.groups;
        let block = group * of_group + b.parallel(name, of_group);
        (&part * self.share + &image, &part * self.images + image, block)
    }
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
        let rows = Cover::new(winograd, output.layout.h);
        let columns = Cover::new(winograd, output.layout.w);
        let blocks = input.layout.blocks() + out_blocks;
        let weights_bytes = 4 * points * reach.blocks * out_blocks * BLOCK * BLOCK;
        let split = images.is_multiple_of(PARTS) && weights_bytes <= SHARED_BYTES;
        let parts = if split { PARTS } else { 1 };
        let share = images / parts;
        let map_tiles = rows.tiles() * columns.tiles();
        let at_once = images_at_once(share, map_tiles, 4 * points * blocks * BLOCK);
        let groups = match reach.pattern() {
            Some((groups, _, step))
                if step == reach.blocks && groups * step == input.layout.blocks() =>
            {
                groups
            }
            _ => 1,
        };
        let grid = Grid { rows, columns, parts, share, images: at_once, groups };
        let steps = [input.layout.blocks(), out_blocks].map(|blocks| grid.point_step(blocks));
        let transformed = self.temporary_elements(points * steps[0]);
        let own = 4 * points * grid.part().point_step(1);
        let together = split && own <= OWN_BYTES && !self.halves && reach.pattern().is_some();
        let products =
            if together { Argument::Local } else { self.temporary_elements(points * steps[1]) };
        let pack = Pack::Winograd {
            weight: conv.weight.clone(),
            batch_norm: conv.batch_norm.clone(),
            groups: conv.groups,
            m: winograd.m,
            phases,
            in_block: BLOCK,
            in_blocks: reach.blocks,
            starts: reach.starts.clone(),
        };
        let dtype = points_dtype(self.weights, images, [rows, columns]);
        let scales = (dtype == DType::I16).then(|| self.scales(&pack, dtype));
        let weights = self.pack_as(pack, dtype);
        let bias = self.conv_bias(conv, out_blocks * BLOCK);
        let product = Product {
            n: winograd.n(),
            parts,
            images: at_once,
            in_blocks: input.layout.blocks(),
            out_blocks,
            reach_blocks: reach.blocks,
            steps,
            dtype,
            scales,
            buffers: [transformed, weights, products],
        };
        let span = grid.span();
        for first in (0..share).step_by(at_once) {
            let input = input.images(first, span);
            let output = output.images(first, span);
            let fused: Vec<Fused> = fused.iter().map(|f| f.images(first, span)).collect();
            let to = (transformed, product.steps[0]);
            self.transform_input(conv, winograd, grid, input, to);
            if let (true, Some(pattern)) = (together, reach.pattern()) {
                let method = (winograd, grid);
                self.multiply_and_transform(&product, method, bias, output, &fused, |b| {
                    output_block(b, pattern)
                });
                continue;
            }
            for set in point_sets(&rows, &columns) {
                match reach.pattern() {
                    Some(pattern) => self.multiply_points(&product, set, Outputs::All(pattern)),
                    None => {
                        for (block, &first) in reach.starts.iter().enumerate() {
                            self.multiply_points(&product, set, Outputs::One { block, first });
                        }
                    }
                }
            }
            let from = (products, product.steps[1]);
            self.transform_output(winograd, grid, from, bias, output, &fused);
        }
    }
}

/// Dimensions of the parallel space for a pattern of [`Reach`]: the block of outputs, and the first
/// block of inputs that it reads.
fn output_block(b: &mut Builder, (outer, inner, step): (usize, usize, usize)) -> (Affine, Affine) {
    let o = b.parallel("group", outer);
    let i = b.parallel("ob", inner);
    (&o * inner + i, o * step)
}

/// Images of a part that go through the three kernels together: so few that what lies between them stays
/// in the caches, but enough tiles that weights are read for more than a register tile of them.
fn images_at_once(images: usize, tiles: usize, tile_bytes: usize) -> usize {
    const BYTES: usize = 6 << 20;
    const TILES: usize = 64;
    let fits = |count: &usize| {
        images.is_multiple_of(*count)
            && (count * tiles * tile_bytes <= BYTES || (count - 1) * tiles < TILES)
    };
    (1..=images).rev().find(fits).unwrap_or(1)
}

/// Parts of a batch whose images go through the kernels side by side, for as many threads.
const PARTS: usize = 2;

/// Products of a part of a batch and a block of outputs that stay in a core's second-level cache until
/// they are transformed. That of each part, which all of its blocks read, needs not.
const OWN_BYTES: usize = 384 * 1024;

/// Transformed weights of up to this many bytes, which then every thread reads, for maps of its own.
/// Larger ones are split between the threads, which share the maps: between cores without a common
/// cache, shared bytes cost most.
const SHARED_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use crate::algorithm::Algorithm;
    use crate::graph::build::{self, BuildOptions};
    use crate::layout;
    use crate::lower::{Call, Vectors, lower};
    use alexc_codegen::ir::DType;
    use alexc_codegen::part::halves;
    use std::collections::BTreeSet;
    use std::ops::Range;

    /// What the two halves of a call's space load and store of a buffer, in elements of its value.
    fn touched(call: &Call, buffer: &str) -> [[Vec<Range<usize>>; 2]; 2] {
        let kernel = &call.kernel;
        let dim = kernel.parallel.iter().position(|dim| dim.count > 1).unwrap();
        assert_eq!(kernel.parallel[dim].count, 2, "{}", call.label());
        let at = kernel.buffers.iter().position(|b| b.name == buffer).unwrap();
        let first = call.firsts.get(at).copied().unwrap_or(0);
        let moved = |ranges: &[Range<usize>]| {
            ranges.iter().map(|range| range.start + first..range.end + first).collect()
        };
        let [a, b] = &halves(kernel, &[(dim, 1)]).cuts[0];
        [&a.1, &b.1].map(|half| [moved(&half.loads[at]), moved(&half.stores[at])])
    }

    #[test]
    fn each_half_of_the_threads_keeps_to_a_group() {
        let text = "name: test\ninput: {shape: [1, 64, 13, 13]}\nlayers:\n  \
                    - {name: a, type: conv, out_channels: 96, kernel_size: 5, padding: 2, groups: 2}\n";
        let graph = build::load("test", text, &BuildOptions::default()).unwrap().1;
        let algorithms: Vec<Algorithm> =
            graph.nodes.iter().map(|_| Algorithm::Winograd { m: 5 }).collect();
        let layouts = layout::assign(&graph, &algorithms);
        let in_file = BTreeSet::new();
        let lowered =
            lower(&graph, &algorithms, &layouts, Vectors::SSE, DType::F32, false, &in_file);
        let calls = |kernel: &'static str| {
            lowered.calls.iter().filter(move |call| call.kernel.name == kernel)
        };
        let inside = |inner: &Range<usize>, outer: &[Range<usize>]| {
            outer.iter().any(|range| range.start <= inner.start && inner.end <= range.end)
        };
        let [made] =
            &calls("transform_input").map(|c| touched(c, "points")).collect::<Vec<_>>()[..]
        else {
            panic!("other than one transform of the input");
        };
        let [read] =
            &calls("transform_output").map(|c| touched(c, "products")).collect::<Vec<_>>()[..]
        else {
            panic!("other than one transform of the output");
        };
        assert!(calls("multiply_points").count() > 1);
        for group in 0..2 {
            let mut multiplied = Vec::new();
            for call in calls("multiply_points") {
                let [loads, _] = &touched(call, "points")[group];
                assert!(!loads.is_empty());
                for range in loads {
                    assert!(inside(range, &made[group][1]), "{range:?} of another group");
                }
                multiplied.extend(touched(call, "products")[group][1].clone());
            }
            assert!(!read[group][0].is_empty());
            for range in &read[group][0] {
                assert!(inside(range, &multiplied), "{range:?} of another group");
            }
        }
    }
}
