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

/// Normalises the row `y` of image `n`; `store_at(block, x)` says where results go.
#[expect(clippy::too_many_arguments, reason = "one row of one image from here to there")]
fn normalise_row(
    b: &mut Builder,
    lrn: &Lrn,
    input: Operand,
    x_buffer: BufferId,
    squares: &Squares,
    (n, y): (&Affine, &Affine),
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
        b.repeat("cb", layout.blocks(), |b, cb| {
            for lane in (0..BLOCK).step_by(width) {
                let value = b.load(lanes, x_buffer, input.at(n, &cb, y, &x) + lane);
                let square = b.binary(Binary::Mul, value, value);
                b.store(squares.buffer, &pixel + &cb * BLOCK + (squares.reach + lane), square);
            }
        });
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
        b.repeat("cb", layout.blocks(), |b, cb| {
            for lane in (0..BLOCK).step_by(width) {
                let first = &x * squares.pitch + &cb * BLOCK + lane;
                let mut sum = b.load(lanes, squares.buffer, &first);
                for offset in 1..lrn.size {
                    let next = b.load(lanes, squares.buffer, &first + offset);
                    sum = b.binary(Binary::Add, sum, next);
                }
                let base = b.fma(sum, scale, k);
                let value = b.load(lanes, x_buffer, input.at(n, &cb, y, &x) + lane);
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
        let y = b.parallel("y", input.layout.h);
        let store_at = |cb: &Affine, x: &Affine| output.at(&n, cb, &y, x);
        normalise_row(b, lrn, input, x_buffer, &squares, (&n, &y), y_buffer, &store_at, lanes);
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
        let map = layout.blocks() * row;
        let shared = kernel_rows.saturating_sub(sh);
        let strip = strip_rows(output.layout.h, output.layout.n, shared);

        let mut draft = Draft::new("lrn_pool");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let y_buffer = output.declare(&mut draft, "output", Access::Write);
        let squares = declare_squares(&mut draft, lrn, &layout);
        let normal = draft.buffer("normalised", Argument::Local, kernel_rows * map, Access::Local);
        let b = &mut draft.b;
        let n = b.parallel("n", output.layout.n);
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
            b.repeat("cb", output.layout.blocks(), |b, cb| {
                b.repeat("ox", output.layout.w, |b, ox| {
                    for lane in (0..BLOCK).step_by(width) {
                        let cell = |b: &mut Builder, y: &Affine, x: &Affine| {
                            b.load(lanes, normal, y * map + &cb * row + x * BLOCK + lane)
                        };
                        let corner = (&Affine::default(), &(&ox * sw));
                        let spans = (&rows[0], &columns[0]);
                        let value = pool::window(b, pool, &cell, spans, corner, lanes);
                        b.store(y_buffer, output.at(&n, &cb, &oy, &ox) + lane, value);
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
