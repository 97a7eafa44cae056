//! What kernels for GPUs are expected to take, in nanoseconds: which tile a product gets, among how
//! many groups its sums are split, and whether a convolution goes by Winograd's method.
//!
//! Groups are dealt out to processors evenly. The busiest one is as fast as its multiply-adds
//! allow, or, where it has few groups, as fast as the steps of one group follow each other; and
//! nothing is faster than the bytes that must come from memory.

use super::parameters::{AROUND, DEPTH, Parameters, Tile};
use super::winograd::Grid;
use crate::algorithm::{self, Algorithm};
use crate::graph::Conv;
use crate::layout::BLOCK;
use crate::shape::Shape;
use crate::winograd::Winograd;
use alexc_codegen::ir::Mma;

/// A tile, and into how many parts sums are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) tile: Tile,
    pub(super) splits: usize,
    /// Steps of a part.
    pub(super) steps: usize,
    /// Whether warps multiply the tile, and how.
    pub(super) mma: Option<Mma>,
}

/// Matrix products side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// How many.
    pub(super) count: usize,
    /// Rows of each.
    pub(super) outputs: usize,
    /// Columns of each.
    pub(super) columns: usize,
    /// Products in a sum.
    pub(super) depth: usize,
    /// Elements of the inputs of all.
    pub(super) inputs: usize,
    /// Whether what reads the results adds parts up on the way: no kernel is needed for that.
    pub(super) added_later: bool,
    /// Whether warps multiply, and how.
    pub(super) mma: Option<Mma>,
}

/// Groups of a product's rows: those of the operator, or, for two devices, two halves of the only
/// one, each of whole blocks.
pub(super) fn row_groups(groups: usize, outputs: usize, p: &Parameters) -> usize {
    if p.halves && groups == 1 && outputs.is_multiple_of(2 * BLOCK) { 2 } else { groups }
}

/// Work-items that are at work on a processor at the same time.
const RESIDENT_ITEMS: usize = 512;

impl Extent {
    /// The tile and split that take the least time.
    pub(super) fn choose(self, p: &Parameters) -> Choice {
        let steps = self.depth.div_ceil(DEPTH);
        let mma = self.mma;
        let tiles = if mma.is_some() { p.tensor_tiles } else { p.tiles };
        let candidates = tiles.iter().flat_map(|&tile| {
            let most = (steps / p.least_steps).clamp(1, p.most_splits);
            (1..=most).map(move |splits| Choice {
                tile,
                splits,
                steps: steps.div_ceil(splits),
                mma,
            })
        });
        let time = |choice: &Choice| self.nanoseconds(*choice, p);
        candidates.min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or(Choice {
            tile: tiles[0],
            splits: 1,
            steps,
            mma,
        })
    }

    /// With the adding of parts.
    pub(super) fn nanoseconds(self, choice: Choice, p: &Parameters) -> f64 {
        let Choice { tile, splits, steps, mma } = choice;
        let tiles = self.outputs.div_ceil(tile.rows) * self.columns.div_ceil(tile.columns);
        let own = (self.count * tiles * splits).div_ceil(p.processors);
        let products = own as f64 * (tile.rows * tile.columns * steps * DEPTH) as f64;
        let rate = if mma.is_some() { p.tensor_products_per_ns } else { p.products_per_ns };
        let busy = products * 100.0 / (tile.efficiency * rate) as f64;
        let waves = own.div_ceil((RESIDENT_ITEMS / tile.items()).max(1));
        let alone = (waves * (steps + AROUND) * p.step_ns) as f64;
        let results = self.count * self.outputs * self.columns;
        let weights = self.count * self.outputs * self.depth;
        let moved = p.nanoseconds_of(self.inputs + weights + splits * results);
        let parts = match (splits, self.added_later) {
            (1, _) => 0.0,
            (_, true) => p.nanoseconds_of((splits - 1) * results),
            (_, false) => p.nanoseconds_of((splits + 1) * results) + p.kernel_ns as f64,
        };
        busy.max(alone).max(moved) + parts
    }

    /// Of a direct convolution.
    pub(super) fn direct(conv: &Conv, input: Shape, p: &Parameters) -> Extent {
        let [h, w] = conv.window.output_size([input.h(), input.w()]);
        let [kh, kw] = conv.window.kernel;
        let count = row_groups(conv.groups, conv.out_channels, p);
        Extent {
            count,
            outputs: conv.out_channels / count,
            columns: input.n() * h * w,
            depth: input.c() / conv.groups * kh * kw,
            inputs: input.len(),
            added_later: false,
            mma: None,
        }
    }

    /// Of the products of Winograd's method.
    pub(super) fn points(
        conv: &Conv,
        channels: usize,
        winograd: &Winograd,
        grid: Grid,
        p: &Parameters,
    ) -> Extent {
        let points = winograd.n() * winograd.n();
        let groups = row_groups(conv.groups, conv.out_channels, p);
        Extent {
            count: points * groups,
            outputs: conv.out_channels / groups,
            columns: grid.pitch(),
            depth: channels / conv.groups,
            inputs: points * channels * grid.pitch(),
            added_later: true,
            mma: None,
        }
    }
}

impl Parameters {
    /// Time for elements to come from memory or to go there.
    fn nanoseconds_of(&self, elements: usize) -> f64 {
        4e3 * elements as f64 / (self.processors * self.bytes_per_us) as f64
    }
}

/// The three kernels of Winograd's method.
fn winograd_ns(conv: &Conv, input: Shape, winograd: &Winograd, p: &Parameters) -> f64 {
    let grid = Grid::new(conv, winograd, input, p);
    let extent = Extent::points(conv, input.c(), winograd, grid, p);
    let products = extent.count * extent.outputs * extent.columns;
    let [h, w] = conv.window.output_size([input.h(), input.w()]);
    let maps = grid.images() * (input.c() * input.h() * input.w() + conv.out_channels * h * w);
    // Each transform waits for what it loads at least, and so does one more product.
    let wait = p.kernel_ns + AROUND * p.step_ns;
    let times = input.n().div_ceil(grid.images());
    let once =
        extent.nanoseconds(extent.choose(p), p) + p.nanoseconds_of(maps + extent.inputs + products);
    times as f64 * once + ((3 * times - 1) * wait) as f64
}

/// Points on each axis of a tile that is chosen unasked. Registers hold 9 x 9 as well, but there
/// [`Winograd::expected_error`] counts on short sums, which a tile of products has no room for: of
/// an AlexNet's third convolution F(7, 3) has 2.4 times the error of F(6, 3).
const MOST_POINTS: usize = 8;

/// Whether its kernels can be written: a group's outputs fill blocks of their own.
pub(super) fn suits(conv: &Conv) -> bool {
    conv.groups == 1 || (conv.out_channels / conv.groups).is_multiple_of(BLOCK)
}

/// The algorithm that is expected to take the least time.
pub(super) fn cheapest(conv: &Conv, input: Shape, most_error: f64, p: &Parameters) -> Algorithm {
    let fits = |winograd: &Winograd| {
        winograd.n() <= MOST_POINTS && winograd.expected_error() <= most_error
    };
    let by_tiles = (2..MOST_POINTS)
        .filter_map(|m| algorithm::winograd(conv, m).filter(fits))
        .map(|winograd| (winograd.m, winograd_ns(conv, input, &winograd, p)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let direct = Extent::direct(conv, input, p);
    match by_tiles {
        Some((m, time))
            if suits(conv)
                && p.winograd_percent > 0
                && time * 100.0
                    < direct.nanoseconds(direct.choose(p), p) * p.winograd_percent as f64 =>
        {
            Algorithm::Winograd { m }
        }
        _ => Algorithm::Direct,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Parameters;
    use super::Extent;

    #[test]
    fn small_maps_are_split() {
        let p = Parameters::default();
        // The third convolution of AlexNet, one image: 384 channels, 13 x 13, 256 * 9 products.
        let small = Extent {
            count: 1,
            outputs: 384,
            columns: 169,
            depth: 2304,
            inputs: 256 * 169,
            added_later: false,
            mma: None,
        };
        let choice = small.choose(&p);
        assert!(choice.splits > 1, "{choice:?}");
        assert!(choice.splits * choice.steps * 16 >= 2304);
        // 64 images fill the device.
        let large = Extent { columns: 64 * 169, inputs: 64 * 256 * 169, ..small };
        let choice = large.choose(&p);
        assert_eq!((choice.splits, choice.tile.rows), (1, 128), "{choice:?}");
    }
}
