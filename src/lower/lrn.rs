//! Local response normalisation across channels, alone or in front of a pooling.
//!
//! The squares of one pixel are laid out as one run of channels with zeros at both ends, so that
//! a window's sum is a few unaligned loads whatever block the channels come from. The power is a
//! product of square roots (x^0.75 = sqrt(x) sqrt(sqrt(x))), correctly rounded on every CPU.

use super::pool::{self, Span, spans_of};
use super::{Argument, Draft, Lowering, Operand, math};
use crate::graph::{AlphaScaling, Lrn, Pool};
use crate::layout::{BLOCK, Layout};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId};

/// Whether normalisation and pooling can share a kernel: every window lies inside the map.
pub(super) fn fusible(pool: &Pool, input: &Layout) -> bool {
    let output = pool::output_layout(pool, input);
    let (rows, columns) = spans_of(pool, input, &output);
    let [kh, kw] = pool.window.kernel;
    let inside = |spans: &[Span], kernel: usize| spans.len() == 1 && spans[0].cells == (0..kernel);
    inside(&rows, kh) && inside(&columns, kw)
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
        if !halves || !blocks.is_multiple_of(2) || lrn.size / 2 > BLOCK {
            return Share { blocks, first: Affine::default(), half: None };
        }
        let half = b.parallel("half", 2);
        Share { blocks: blocks / 2, first: &half * (blocks / 2), half: Some(half) }
    }

    fn blocks(lrn: &Lrn, layout: &Layout, halves: bool) -> usize {
        Share::new(&mut Builder::new(""), lrn, layout, halves).blocks
    }
}

/// The scratch row of squares: pixels of `pitch` channels each, `reach` zeros at both ends.
struct Squares {
    buffer: BufferId,
    reach: usize,
    pitch: usize,
}

impl Squares {
    fn pitch(lrn: &Lrn, layout: &Layout) -> usize {
        // Loads of the last block reach past its end by `reach`.
        (layout.blocks() * BLOCK + 2 * (lrn.size / 2)).next_multiple_of(BLOCK)
    }
}

/// Normalises the row `y` of image `n`; `store_at(block, x)` says where results go, with the block
/// counted from the share's first.
#[expect(clippy::too_many_arguments, reason = "one row of one image from here to there")]
fn normalise_row(
    b: &mut Builder,
    lrn: &Lrn,
    input: Operand,
    x_buffer: BufferId,
    squares: &Squares,
    (n, y): (&Affine, &Affine),
    share: &Share,
    y_buffer: BufferId,
    store_at: &dyn Fn(&Affine, &Affine) -> Affine,
    lanes: u8,
) {
    let layout = input.layout;
    let width = usize::from(lanes);
    b.repeat("x", layout.w, |b, x| {
        let pixel = &x * squares.pitch;
        // Zeros first: the squares overwrite what belongs to channels.
        let zero = b.constant(lanes, 0.0);
        let before = squares.reach.div_ceil(width);
        b.repeat("before", before, |b, i| b.store(squares.buffer, &pixel + i * width, zero));
        let after = squares.pitch - squares.reach - layout.blocks() * BLOCK;
        let after = after.div_ceil(width);
        let end = &pixel + (squares.pitch - after * width);
        b.repeat("after", after, |b, i| b.store(squares.buffer, &end + i * width, zero));
        b.repeat("cb", share.blocks, |b, cb| {
            let cb = &share.first + cb;
            for lane in (0..BLOCK).step_by(width) {
                let value = b.load(lanes, x_buffer, input.at(n, &cb, y, &x) + lane);
                let square = b.binary(Binary::Mul, value, value);
                b.store(squares.buffer, &pixel + &cb * BLOCK + (squares.reach + lane), square);
            }
        });
        // Of the other half no more than its nearest channels: they may have come a long way.
        if let Some(half) = &share.half {
            let middle = layout.blocks() / 2;
            let lower = layout.plane() - (BLOCK - squares.reach);
            for i in 0..squares.reach {
                let at = input.at(n, &middle.into(), y, &x) + i - &(half * lower);
                let value = b.load(1, x_buffer, at);
                let square = b.binary(Binary::Mul, value, value);
                let place = &pixel + (squares.reach + middle * BLOCK + i);
                b.store(squares.buffer, place - &(half * squares.reach), square);
            }
        }
        // Lanes past the last channel may hold anything; they are no neighbours.
        if !layout.c.is_multiple_of(BLOCK) {
            let zero = b.constant(1, 0.0);
            for past in layout.c..(layout.c + squares.reach).min(layout.blocks() * BLOCK) {
                b.store(squares.buffer, &pixel + (squares.reach + past), zero);
            }
        }
    });
    let scale = b.constant(lanes, lrn.scale() as f32);
    let k = b.constant(lanes, lrn.k as f32);
    b.repeat("x", layout.w, |b, x| {
        b.repeat("cb", share.blocks, |b, cb| {
            let own = &share.first + &cb;
            for lane in (0..BLOCK).step_by(width) {
                let first = &x * squares.pitch + &own * BLOCK + lane;
                let mut sum = b.load(lanes, squares.buffer, &first);
                for offset in 1..lrn.size {
                    let next = b.load(lanes, squares.buffer, &first + offset);
                    sum = b.binary(Binary::Add, sum, next);
                }
                let base = b.fma(sum, scale, k);
                let value = b.load(lanes, x_buffer, input.at(n, &own, y, &x) + lane);
                let result = math::normalised(b, value, base, lrn);
                b.store(y_buffer, store_at(&cb, &x) + lane, result);
            }
        });
    });
}

fn declare_squares(draft: &mut Draft, lrn: &Lrn, layout: &Layout) -> Squares {
    let pitch = Squares::pitch(lrn, layout);
    let buffer = draft.buffer("squares", Argument::Local, layout.w * pitch, Access::Local);
    Squares { buffer, reach: lrn.size / 2, pitch }
}

impl Lowering<'_> {
    pub(super) fn lrn(&mut self, lrn: &Lrn, input: Operand, output: Operand) {
        let lanes = self.vectors.lanes;
        let lrn = &within(lrn, &input.layout);
        let mut draft = Draft::new("lrn");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let y_buffer = output.declare(&mut draft, "output", Access::Write);
        let squares = declare_squares(&mut draft, lrn, &input.layout);
        let b = &mut draft.b;
        let n = b.parallel("n", input.layout.n);
        let share = Share::new(b, lrn, &input.layout, self.halves);
        let y = b.parallel("y", input.layout.h);
        let store_at = |cb: &Affine, x: &Affine| output.at(&n, &(&share.first + cb), &y, x);
        let row = (&n, &y);
        normalise_row(b, lrn, input, x_buffer, &squares, row, &share, y_buffer, &store_at, lanes);
        self.call(draft);
    }

    /// Normalises the rows under a strip of pooling windows into scratch and pools them there.
    /// Rows that the next windows of the strip share are kept.
    pub(super) fn lrn_pool(&mut self, lrn: &Lrn, pool: &Pool, input: Operand, output: Operand) {
        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let layout = input.layout;
        let lrn = &within(lrn, &layout);
        let [kernel_rows, _] = pool.window.kernel;
        let [sh, sw] = pool.window.stride;
        let (rows, columns) = spans_of(pool, &layout, &output.layout);
        let row = layout.w * BLOCK;
        let map = Share::blocks(lrn, &layout, self.halves) * row;
        let shared = kernel_rows.saturating_sub(sh);
        let strip = strip_rows(output.layout.h, output.layout.n, shared);

        let mut draft = Draft::new("lrn_pool");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let y_buffer = output.declare(&mut draft, "output", Access::Write);
        let squares = declare_squares(&mut draft, lrn, &layout);
        let normal = draft.buffer("normalised", Argument::Local, kernel_rows * map, Access::Local);
        let b = &mut draft.b;
        let n = b.parallel("n", output.layout.n);
        let share = Share::new(b, lrn, &layout, self.halves);
        let strips = b.parallel("strip", output.layout.h / strip);
        let normalise = |b: &mut Builder, first: usize, count: usize, oy: &Affine| {
            b.repeat("ky", count, |b, ky| {
                let slot = ky + first;
                let y = oy * sh + &slot;
                let store_at = |cb: &Affine, x: &Affine| &slot * map + cb * row + x * BLOCK;
                normalise_row(
                    b,
                    lrn,
                    input,
                    x_buffer,
                    &squares,
                    (&n, &y),
                    &share,
                    normal,
                    &store_at,
                    lanes,
                );
            });
        };
        let kept = if strip > 1 { shared } else { 0 };
        normalise(b, 0, kept, &(&strips * strip));
        b.repeat("r", strip, |b, r| {
            let oy = &strips * strip + r;
            normalise(b, kept, kernel_rows - kept, &oy);
            b.repeat("cb", share.blocks, |b, cb| {
                let own = &share.first + &cb;
                b.repeat("ox", output.layout.w, |b, ox| {
                    for lane in (0..BLOCK).step_by(width) {
                        let cell = |b: &mut Builder, y: &Affine, x: &Affine| {
                            b.load(lanes, normal, y * map + &cb * row + x * BLOCK + lane)
                        };
                        let corner = (&Affine::default(), &(&ox * sw));
                        let spans = (&rows[0], &columns[0]);
                        let value = pool::window(b, pool, &cell, spans, corner, lanes);
                        b.store(y_buffer, output.at(&n, &own, &oy, &ox) + lane, value);
                    }
                });
            });
            b.repeat("i", kept * map / width, |b, i| {
                let value = b.load(lanes, normal, &i * width + (kernel_rows - kept) * map);
                b.store(normal, i * width, value);
            });
        });
        self.call(draft);
    }
}

/// Rows of a strip: many save work where rows are shared, but a thread should find several strips.
fn strip_rows(rows: usize, images: usize, shared: usize) -> usize {
    const STRIPS: usize = 9;
    if shared == 0 {
        return 1;
    }
    let fits = |strip: &usize| rows.is_multiple_of(*strip) && rows / strip * images >= STRIPS;
    (1..=rows).rev().find(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::strip_rows;

    #[test]
    fn strips_leave_work_for_every_thread() {
        assert_eq!(strip_rows(27, 1, 1), 3);
        assert_eq!(strip_rows(13, 1, 1), 1);
        assert_eq!(strip_rows(13, 16, 1), 13);
        assert_eq!(strip_rows(27, 16, 0), 1);
    }
}
