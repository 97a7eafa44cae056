//! Local response normalisation across channels, alone or in front of a pooling.
//!
//! The squares of one pixel are laid out as one run of channels with zeros at both ends, so that
//! a window's sum is a few unaligned loads whatever block the channels come from.

use super::math::Normaliser;
use super::pool::{self, Span, spans_of};
use super::{Argument, Draft, Lowering, Operand, Vectors};
use crate::graph::{AlphaScaling, Lrn, Pool};
use crate::layout::{BLOCK, Layout};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reg};

/// Whether normalisation and pooling can share a kernel: every window lies inside the map, and is
/// small enough to be written out.
pub(super) fn fusible(pool: &Pool, input: &Layout) -> bool {
    let output = pool::output_layout(pool, input);
    let (rows, columns) = spans_of(pool, input, &output);
    let [kh, kw] = pool.window.kernel;
    let inside = |spans: &[Span], kernel: usize| spans.len() == 1 && spans[0].cells == (0..kernel);
    inside(&rows, kh) && inside(&columns, kw) && kh * kw <= pool::WRITTEN_OUT
}

/// The same normalisation with a window no wider than the channels that it can reach.
fn within(lrn: &Lrn, layout: &Layout) -> Lrn {
    let size = lrn.size.min(2 * layout.c - 1);
    Lrn { size, alpha: lrn.scale(), alpha_scaling: AlphaScaling::Sum, ..*lrn }
}

/// The blocks of channels that an iteration normalises: all, or those of one of two halves.
struct Share {
    /// How many.
    blocks: usize,
    /// The first one.
    first: Affine,
    /// Which half.
    half: Option<Affine>,
}

impl Share {
    /// A dimension of the parallel space, where `halves` are wanted and blocks and window allow it:
    /// of the other half a window reaches into the next block alone.
    fn new(b: &mut Builder, lrn: &Lrn, layout: &Layout, halves: bool) -> Share {
        let blocks = layout.blocks();
        if !halves || !blocks.is_multiple_of(2) || within(lrn, layout).size / 2 > BLOCK {
            return Share { blocks, first: Affine::default(), half: None };
        }
        let half = b.parallel("half", 2);
        Share { blocks: blocks / 2, first: &half * (blocks / 2), half: Some(half) }
    }

    /// Calls `body` for each register of each block of channels: with the block and its lane.
    fn channels(&self, b: &mut Builder, lanes: u8, body: impl Fn(&mut Builder, Place<'_>)) {
        let width = usize::from(lanes);
        b.repeat("cb", self.blocks, |b, own| {
            b.repeat("part", BLOCK / width, |b, part| {
                body(b, Place { cb: &(&self.first + &own), own: &own, lane: &(part * width) });
            });
        });
    }
}

/// Which channels a register holds.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The block.
    cb: &'a Affine,
    /// The same, counted from the first of the share.
    own: &'a Affine,
    /// The first lane.
    lane: &'a Affine,
}

/// Normalises cells of a few rows of one image. Their squares lie in scratch, `pitch` places a
/// pixel: first `front` zeros, which also stand behind the pixel in front of them.
struct Cells {
    input: Operand,
    from: BufferId,
    lanes: u8,
    /// Channels of a window.
    size: usize,
    /// Columns that are normalised, from the left.
    columns: usize,
    squares: BufferId,
    front: usize,
    pitch: usize,
    share: Share,
    normaliser: Normaliser,
}

impl Cells {
    /// For up to `rows` rows at a time. Behind the kernel's parallel space, in front of its loops.
    fn new(
        draft: &mut Draft,
        lrn: &Lrn,
        (input, from): (Operand, BufferId),
        (rows, columns): (usize, usize),
        share: Share,
        vectors: Vectors,
    ) -> Self {
        let lanes = vectors.lanes;
        let lrn = within(lrn, &input.layout);
        // The squares are stored to aligned places.
        let front = (lrn.size / 2).next_multiple_of(BLOCK);
        let pitch = front + input.layout.blocks() * BLOCK;
        let pixels = rows * columns;
        let len = pixels * pitch + front;
        let squares = draft.buffer("squares", Argument::Local, len, Access::Local);
        let b = &mut draft.b;
        let zero = b.constant(lanes, 0.0);
        b.repeat("pixel", pixels + 1, |b, pixel| {
            b.repeat("i", front / usize::from(lanes), |b, i| {
                b.store(squares, &pixel * pitch + i * usize::from(lanes), zero);
            });
        });
        let normaliser = Normaliser::new(b, &lrn, vectors);
        let size = lrn.size;
        Cells { input, from, lanes, size, columns, squares, front, pitch, share, normaliser }
    }

    /// Squares of `rows` rows from `y` on.
    fn square(&self, b: &mut Builder, (n, y): (&Affine, &Affine), rows: usize) {
        let layout = &self.input.layout;
        let width = usize::from(self.lanes);
        b.repeat("row", rows, |b, row| {
            b.repeat("x", self.columns, |b, x| {
                let pixel = (&row * self.columns + &x) * self.pitch;
                b.repeat("cb", self.share.blocks, |b, cb| {
                    let cb = &self.share.first + cb;
                    for lane in (0..BLOCK).step_by(width) {
                        let at = self.input.at(n, &cb, &(y + &row), &x) + lane;
                        let value = b.load(self.lanes, self.from, at);
                        let square = b.binary(Binary::Mul, value, value);
                        b.store(self.squares, &pixel + &cb * BLOCK + (self.front + lane), square);
                    }
                });
                // Of the other half no more than its nearest channels: they may have come a long
                // way.
                if let Some(half) = &self.share.half {
                    let (middle, reach) = (layout.blocks() / 2, self.size / 2);
                    let lower = layout.plane() - (BLOCK - reach);
                    for i in 0..reach {
                        let at = self.input.at(n, &middle.into(), &(y + &row), &x) + i;
                        let value = b.load(1, self.from, at - &(half * lower));
                        let square = b.binary(Binary::Mul, value, value);
                        let place = &pixel + (self.front + middle * BLOCK + i);
                        b.store(self.squares, place - &(half * reach), square);
                    }
                }
                // Lanes past the last channel may hold anything; they are no neighbours.
                if !layout.c.is_multiple_of(BLOCK) {
                    let zero = b.constant(1, 0.0);
                    let last = (layout.c + self.size / 2).min(layout.blocks() * BLOCK);
                    for past in layout.c..last {
                        b.store(self.squares, &pixel + (self.front + past), zero);
                    }
                }
            });
        });
    }

    /// The cells at row `y` and some columns, lanes from `channel` on; their row is number `row` of
    /// those squared last.
    fn cells(
        &self,
        b: &mut Builder,
        (n, y, columns): (&Affine, &Affine, &[Affine]),
        row: usize,
        Place { cb, lane, .. }: Place<'_>,
    ) -> Vec<Reg> {
        let cells: Vec<(Reg, Reg)> = columns
            .iter()
            .map(|x| {
                let pixel = (x + row * self.columns) * self.pitch;
                let first = pixel + cb * BLOCK + lane + (self.front - self.size / 2);
                let sum = self.sum(b, &first, self.size);
                (b.load(self.lanes, self.from, self.input.at(n, cb, y, x) + lane), sum)
            })
            .collect();
        // As many together as sixteen registers hold.
        let (pairs, rest) = cells.as_chunks::<2>();
        let mut values = Vec::new();
        pairs.iter().for_each(|&pair| values.extend(self.normaliser.apply(b, pair)));
        rest.iter().for_each(|&cell| values.extend(self.normaliser.apply(b, [cell])));
        values
    }

    /// The sum of the squares of `count` neighbours, by halves.
    fn sum(&self, b: &mut Builder, first: &Affine, count: usize) -> Reg {
        if count == 1 {
            return b.load(self.lanes, self.squares, first);
        }
        let half = count / 2;
        let left = self.sum(b, first, half);
        let right = self.sum(b, &(first + half), count - half);
        b.binary(Binary::Add, left, right)
    }
}

impl Lowering<'_> {
    pub(super) fn lrn(&mut self, lrn: &Lrn, input: Operand, output: Operand) {
        let lanes = self.vectors.lanes;
        let layout = &input.layout;
        let mut draft = Draft::new("lrn");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = output.declare(&mut draft, "output", Access::Write);
        let n = draft.b.parallel("n", layout.n);
        let share = Share::new(&mut draft.b, lrn, layout, self.halves);
        let y = draft.b.parallel("y", layout.h);
        let size = (1, layout.w);
        let cells = Cells::new(&mut draft, lrn, (input, from), size, share, self.vectors);
        let b = &mut draft.b;
        cells.square(b, (&n, &y), 1);
        cells.share.channels(b, lanes, |b, place| {
            b.repeat("x", layout.w, |b, x| {
                for value in cells.cells(b, (&n, &y, std::slice::from_ref(&x)), 0, place) {
                    b.store(to, output.at(&n, place.cb, &y, &x) + place.lane, value);
                }
            });
        });
        self.call(draft);
    }

    pub(super) fn lrn_pool(&mut self, lrn: &Lrn, pool: &Pool, input: Operand, output: Operand) {
        let ([kernel, _], [stride, _]) = (pool.window.kernel, pool.window.stride);
        // Two devices exchange channels in front of every kernel: one is enough.
        let kernels = if self.halves { 1 } else { 2 };
        for strips in cut(output.layout.h, output.layout.n, [kernel, stride], kernels) {
            self.lrn_pool_strips(lrn, pool, input, output, &strips);
        }
    }

    /// Normalises and pools a strip of windows' rows at a time. Nothing normalised is stored but
    /// what each row that the next windows share gives under every window.
    fn lrn_pool_strips(
        &mut self,
        lrn: &Lrn,
        pool: &Pool,
        input: Operand,
        output: Operand,
        &Strips { first, count, rows: strip }: &Strips,
    ) {
        let lanes = self.vectors.lanes;
        let layout = &input.layout;
        let [kh, kw] = pool.window.kernel;
        let [sh, sw] = pool.window.stride;
        let (windows, columns) = (output.layout.w, (output.layout.w - 1) * sw + kw);
        let shared = kh.saturating_sub(sh);
        let kept = if strip > 1 { shared } else { 0 };
        let fresh = kh - kept;

        let mut draft = Draft::new("lrn_pool");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = output.declare(&mut draft, "output", Access::Write);
        let n = draft.b.parallel("n", output.layout.n);
        let share = Share::new(&mut draft.b, lrn, layout, self.halves);
        let strips = draft.b.parallel("strip", count);
        let row = share.blocks * windows * BLOCK;
        let above =
            (kept > 0).then(|| draft.buffer("above", Argument::Local, kept * row, Access::Local));
        let size = (kept.max(fresh), columns);
        let cells = Cells::new(&mut draft, lrn, (input, from), size, share, self.vectors);
        let b = &mut draft.b;
        // Where row `index` of those kept has the window at `x`.
        let above_at = |index: usize, Place { own, lane, .. }: Place<'_>, x: &Affine| {
            (own * windows + x) * BLOCK + lane + index * row
        };
        // `count` rows from `y` on, each pooled under every window.
        let slide = |b: &mut Builder, y: &Affine, count: usize, sink: Sink<'_>| {
            cells.square(b, (&n, y), count);
            cells.share.channels(b, lanes, |b, place| {
                let made = |b: &mut Builder, row: usize, columns: &[Affine]| {
                    cells.cells(b, (&n, &(y + row), columns), row, place)
                };
                pool::slide(b, pool, (count, windows), &made, &|b, x, pooled| {
                    sink(b, place, x, &pooled);
                });
            });
        };
        if let Some(above) = above {
            slide(b, &(&strips * (strip * sh) + first * sh), kept, &|b, place, x, pooled| {
                for (index, &value) in pooled.iter().enumerate() {
                    b.store(above, above_at(index, place, x), value);
                }
            });
        }
        b.repeat("r", strip, |b, r| {
            let oy = &strips * strip + r + first;
            slide(b, &(&oy * sh + kept), fresh, &|b, place, x, pooled| {
                let mut parts: Vec<Reg> = Vec::new();
                if let Some(above) = above {
                    let load = |index| b.load(lanes, above, above_at(index, place, x));
                    parts.extend((0..kept).map(load));
                }
                parts.extend(pooled);
                if let [first, others @ ..] = &parts[..] {
                    let total = pool::joined(b, pool.kind, *first, others);
                    let value = pool::finished(b, pool.kind, total, kh * kw);
                    b.store(to, output.at(&n, place.cb, &oy, x) + place.lane, value);
                }
                if let Some(above) = above {
                    for index in 0..kept {
                        b.store(above, above_at(index, place, x), parts[index + sh]);
                    }
                }
            });
        });
        self.call(draft);
    }
}

/// Takes the channels, the window's position, and what each row gives there.
type Sink<'a> = &'a dyn Fn(&mut Builder, Place<'_>, &Affine, &[Reg]);

/// Rows of windows, from `first` on, as `count` strips of `rows` each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Strips {
    first: usize,
    count: usize,
    rows: usize,
}

impl Strips {
    /// Rows of the map that the busiest of `threads` normalises for this many images.
    fn time(&self, images: usize, threads: usize, [kernel, stride]: [usize; 2]) -> usize {
        let mapped = (self.rows - 1) * stride.min(kernel) + kernel;
        (self.count * images).div_ceil(threads) * mapped
    }
}

/// Cuts rows of windows into strips, for two `kernels` what is left over into others. Long strips normalise few
/// rows twice, short ones are shared out more evenly: the least work, idle threads counted, of one,
/// two and four threads together.
fn cut(rows: usize, images: usize, window: [usize; 2], kernels: usize) -> Vec<Strips> {
    let work = |parts: &Vec<Strips>| -> usize {
        let of = |threads: usize| -> usize {
            parts.iter().map(|part| threads * part.time(images, threads, window)).sum()
        };
        [1, 2, 4].into_iter().map(of).sum()
    };
    let divided = |first: usize, rows: usize| {
        (1..=rows).filter(move |&strip| rows.is_multiple_of(strip)).map(move |strip| Strips {
            first,
            count: rows / strip,
            rows: strip,
        })
    };
    let alike = divided(0, rows).map(|strips| vec![strips]);
    let two = (1..rows).filter(|_| kernels > 1).flat_map(|first| {
        divided(0, first)
            .flat_map(move |a| divided(first, rows - first).map(move |b| vec![a.clone(), b]))
    });
    // The first of the best: alike, if they are.
    alike.chain(two).min_by_key(work).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Strips, cut};

    fn lengths(parts: &[Strips]) -> Vec<[usize; 2]> {
        parts.iter().map(|part| [part.count, part.rows]).collect()
    }

    #[test]
    fn strips_leave_work_for_every_thread() {
        assert_eq!(lengths(&cut(13, 16, [3, 2], 2)), [[1, 13]]);
        // For one image on two threads 2 * 13 + 2 * 3 rows of the map, half of 55 at the least.
        assert_eq!(lengths(&cut(27, 1, [3, 2], 2)), [[3, 1], [4, 6]]);
        // Nothing is shared: the more strips the better.
        assert_eq!(lengths(&cut(16, 1, [2, 2], 2)), [[16, 1]]);
        assert_eq!(lengths(&cut(27, 1, [3, 2], 1)), [[3, 9]]);
    }

    #[test]
    fn strips_cover_all_rows_once() {
        for (rows, images) in (1..40).flat_map(|rows| [1, 2, 16].map(|images| (rows, images))) {
            let mut next = 0;
            for part in cut(rows, images, [3, 2], 2) {
                assert_eq!(part.first, next);
                next += part.count * part.rows;
            }
            assert_eq!(next, rows);
        }
    }
}
