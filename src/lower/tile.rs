//! The register tile under convolutions and linear layers: a few vectors of output channels times
//! a few pixels (or images) stay in registers while a nest of loops runs over the products.
//!
//! Weights come in panels of [`BLOCK`] outputs, one row of the panel a step; inputs are read one
//! element at a time and spread over the lanes.

use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{BufferId, Reg};

/// One loop of the reduction, steps in elements.
#[derive(Debug, Clone)]
pub(super) struct Reduction {
    pub(super) name: &'static str,
    pub(super) count: usize,
    pub(super) input_step: usize,
    pub(super) weight_step: usize,
}

/// A panel of weights: where it begins.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) buffer: BufferId,
    pub(super) at: Affine,
}

/// What a tile multiplies.
pub(super) struct Tile<'a> {
    pub(super) input: &'a Source,
    /// Offset of each pixel from `input`.
    pub(super) pixels: &'a [usize],
    /// First row of each vector of weights.
    pub(super) weights: &'a [Source],
    /// Weights to fetch meanwhile.
    pub(super) ahead: Option<&'a Ahead>,
    /// Outermost first; the last one steps through rows of the panel.
    pub(super) loops: &'a [Reduction],
}

/// Weights to come that are fetched while a tile multiplies. Where several tiles pass over the same
/// panel, each fetches its share of the next one, so that memory is never idle: the processor's own
/// fetching ahead stops while what it brought is used again.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    /// From the first row at work to the first row that is fetched.
    pub(super) distance: Affine,
    /// Rows at work for each one that is fetched.
    pub(super) every: usize,
}

impl Ahead {
    /// Rows fetched while a tile multiplies `rows`, its innermost loop having `run` of them.
    pub(super) fn rows(rows: usize, run: usize, every: usize) -> usize {
        let unroll = unroll(run);
        rows / run * (run / unroll * unroll.div_ceil(every) + (run % unroll).div_ceil(every))
    }

    /// One row for how many, where so many tiles share the fetching of as many rows as they
    /// multiply.
    pub(super) fn share(tiles: usize) -> usize {
        tiles.min(MOST_UNROLLED)
    }
}

/// `accumulators[v][p] += sum over the loops of weights[v] * input[p]`.
pub(super) fn multiply(b: &mut Builder, tile: &Tile<'_>, accumulators: &[Vec<Reg>]) {
    let zero = Affine::default();
    nest(b, tile, tile.loops, [&zero, &zero, &zero], accumulators);
}

/// The same from zero: the sums, a column of `tile.pixels` for each vector of weights.
pub(super) fn sum(b: &mut Builder, tile: &Tile<'_>, lanes: u8) -> Vec<Vec<Reg>> {
    let zeros = |b: &mut Builder| tile.pixels.iter().map(|_| b.constant(lanes, 0.0)).collect();
    let accumulators: Vec<Vec<Reg>> = tile.weights.iter().map(|_| zeros(b)).collect();
    multiply(b, tile, &accumulators);
    accumulators
}

/// `at`: offsets in the input, in the weights and in what is fetched.
fn nest(
    b: &mut Builder,
    tile: &Tile<'_>,
    loops: &[Reduction],
    at: [&Affine; 3],
    accumulators: &[Vec<Reg>],
) {
    let [input, weight, ahead] = at;
    let every = tile.ahead.map_or(1, |ahead| ahead.every);
    match loops {
        [] => step(b, tile, [input, weight], Some(ahead), accumulators),
        [last] => {
            let unroll = unroll(last.count);
            let fetched = unroll.div_ceil(every) * last.weight_step;
            let steps = |b: &mut Builder, count: usize, [input, weight, ahead]: [&Affine; 3]| {
                for u in 0..count {
                    let input = input + u * last.input_step;
                    let weight = weight + u * last.weight_step;
                    let ahead = ahead + u / every * last.weight_step;
                    let ahead = u.is_multiple_of(every).then_some(&ahead);
                    step(b, tile, [&input, &weight], ahead, accumulators);
                }
            };
            b.repeat(last.name, last.count / unroll, |b, i| {
                let input = input + &i * (unroll * last.input_step);
                let weight = weight + &i * (unroll * last.weight_step);
                let ahead = ahead + &i * fetched;
                steps(b, unroll, [&input, &weight, &ahead]);
            });
            let done = last.count / unroll * unroll;
            let input = input + done * last.input_step;
            let weight = weight + done * last.weight_step;
            let ahead = ahead + last.count / unroll * fetched;
            steps(b, last.count - done, [&input, &weight, &ahead]);
        }
        [first, rest @ ..] => {
            let run = rest.last().map_or(1, |last| last.count);
            let rows: usize = rest.iter().map(|inner| inner.count).product();
            let row = rest.last().map_or(0, |last| last.weight_step);
            let fetched = Ahead::rows(rows, run, every) * row;
            b.repeat(first.name, first.count, |b, i| {
                let input = input + &i * first.input_step;
                let weight = weight + &i * first.weight_step;
                let ahead = ahead + &i * fetched;
                nest(b, tile, rest, [&input, &weight, &ahead], accumulators);
            });
        }
    }
}

/// Most steps written out in the innermost body.
pub(super) const MOST_UNROLLED: usize = 8;

/// Steps written out in the innermost body: a divisor near 4 to 8 where there is one.
fn unroll(count: usize) -> usize {
    if count <= MOST_UNROLLED {
        return count;
    }
    (3..=MOST_UNROLLED).rev().find(|u| count.is_multiple_of(*u)).unwrap_or(4)
}

/// One row; `fetched`: offset of the row to fetch, if one is due.
fn step(
    b: &mut Builder,
    tile: &Tile<'_>,
    [input, weight]: [&Affine; 2],
    fetched: Option<&Affine>,
    accumulators: &[Vec<Reg>],
) {
    let lanes = b.lanes(accumulators[0][0]);
    let weights: Vec<Reg> = tile
        .weights
        .iter()
        .map(|source| b.load(lanes, source.buffer, &source.at + weight))
        .collect();
    if let (Some(ahead), Some(fetched)) = (tile.ahead, fetched) {
        // One hint a cache line of the row.
        for source in tile.weights.iter().step_by(LINE.div_ceil(usize::from(lanes))) {
            b.prefetch(source.buffer, &source.at + fetched + &ahead.distance);
        }
    }
    for (p, &pixel) in tile.pixels.iter().enumerate() {
        let x = b.splat(lanes, tile.input.buffer, &tile.input.at + input + pixel);
        for (v, &w) in weights.iter().enumerate() {
            let acc = accumulators[v][p];
            b.fma_into(acc, w, x, acc);
        }
    }
}

/// f32 of a cache line.
const LINE: usize = 16;

/// Tiles of the same size, one after the other, of a row of pixels (or images, or outputs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) tiles: usize,
    /// Pixels of each.
    pub(super) pixels: usize,
    /// Pixels and tiles in front of them.
    before: [usize; 2],
}

impl Run {
    /// The first pixel of tile `t` of these.
    pub(super) fn pixel(&self, t: &Affine) -> Affine {
        t * self.pixels + self.before[0]
    }

    /// The number of tile `t` of these among all tiles.
    pub(super) fn tile(&self, t: &Affine) -> Affine {
        t + self.before[1]
    }
}

/// How many tiles [`split`] makes.
pub(super) fn tiles(count: usize, most: usize) -> usize {
    count.div_ceil(most)
}

/// `count` pixels in tiles of at most `most`, as equal as can be: at most two runs, the larger
/// tiles first.
pub(super) fn split(count: usize, most: usize) -> Vec<Run> {
    let tiles = tiles(count, most);
    let (small, large_tiles) = (count / tiles, count % tiles);
    let large = Run { tiles: large_tiles, pixels: small + 1, before: [0, 0] };
    let before = [large_tiles * (small + 1), large_tiles];
    let rest = Run { tiles: tiles - large_tiles, pixels: small, before };
    [large, rest].into_iter().filter(|run| run.tiles > 0).collect()
}

/// The largest divisor of `count` that is at most `most` (at least 1).
pub(super) fn largest_divisor(count: usize, most: usize) -> usize {
    (1..=most.min(count)).rev().find(|d| count.is_multiple_of(*d)).unwrap_or(1)
}

/// Bytes of weights that a pass over a row of tiles keeps in the first-level cache.
pub(super) const PANEL_BYTES: usize = 24 * 1024;

/// Most rows of a panel that are summed up before the sum joins the total: limits how rounding
/// errors grow (blocked summation) and keeps the panel in [`PANEL_BYTES`].
pub(super) const PANEL_ROWS: usize = PANEL_BYTES / (4 * BLOCK);

#[cfg(test)]
mod tests {
    use super::{Ahead, largest_divisor, split, tiles, unroll};

    #[test]
    fn tiles_cover_the_row() {
        let sizes = |count| -> Vec<(usize, usize)> {
            split(count, 6).iter().map(|run| (run.tiles, run.pixels)).collect()
        };
        assert_eq!(sizes(55), [(5, 6), (5, 5)]);
        assert_eq!(sizes(13), [(1, 5), (2, 4)]);
        assert_eq!(sizes(6), [(1, 6)]);
        assert_eq!(sizes(1), [(1, 1)]);
    }

    #[test]
    fn tiles_follow_each_other() {
        for count in 1..100 {
            let (mut pixels, mut number) = (0, 0);
            for run in split(count, 6) {
                for t in 0..run.tiles {
                    assert_eq!(run.pixel(&t.into()), pixels.into());
                    assert_eq!(run.tile(&t.into()), number.into());
                    (pixels, number) = (pixels + run.pixels, number + 1);
                }
            }
            assert_eq!((pixels, number), (count, tiles(count, 6)));
        }
    }

    #[test]
    fn shares_cover_the_next_panel() {
        // Six tiles, steps of eight rows: two rows each step, 12 for 8 in all.
        assert_eq!(Ahead::share(6), 6);
        assert_eq!(Ahead::rows(128, 16, 6), 32);
        // One tile fetches as many rows as it multiplies.
        assert_eq!(Ahead::rows(48, 48, Ahead::share(1)), 48);
        for tiles in 1..20 {
            for run in [1, 3, 16, 37, 192] {
                for rows in [run, 4 * run] {
                    let every = Ahead::share(tiles);
                    let fetched = tiles * Ahead::rows(rows, run, every);
                    assert!(fetched >= rows, "{tiles} tiles, {rows} rows in runs of {run}");
                    assert!(every > 1 || fetched == tiles * rows);
                }
            }
        }
    }

    #[test]
    fn divisors() {
        assert_eq!(largest_divisor(24, 7), 6);
        assert_eq!(largest_divisor(7, 6), 1);
        assert_eq!(unroll(48), 8);
        assert_eq!(unroll(33), 3);
        assert_eq!(unroll(37), 4);
    }
}
