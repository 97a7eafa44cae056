//! Between the caller's dense arrays and blocked activations, and the zeros of halos.

use super::{Argument, Draft, Lowering, Operand};
use crate::layout::{BLOCK, Layout};
use crate::shape::Shape;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, BufferId};

/// Position in a dense `[N, C, H, W]` array.
pub(super) fn dense(shape: Shape, n: &Affine, c: &Affine, y: &Affine, x: &Affine) -> Affine {
    n * shape.per_image() + c * (shape.h() * shape.w()) + y * shape.w() + x
}

/// Calls `body(b, block, lanes of it that are channels)` for the full blocks in a loop, then for
/// the last one.
fn blocks(b: &mut Builder, layout: &Layout, body: &mut dyn FnMut(&mut Builder, &Affine, usize)) {
    let full = layout.c / layout.block;
    b.repeat("cb", full, |b, cb| body(b, &cb, layout.block));
    if !layout.c.is_multiple_of(layout.block) {
        body(b, &full.into(), layout.c % layout.block);
    }
}

impl Lowering<'_> {
    /// The caller's input, or its first images, into their layout.
    pub(super) fn input(&mut self, target: Operand) {
        if let Some(folded) = self.folded.clone() {
            self.input_by_phases(&folded, target);
            return;
        }
        let shape = self.graph.values[self.graph.input.index()].shape;
        self.halo(target);
        let layout = target.layout;
        let len = layout.n * self.image_of(Argument::Input);
        let mut draft = Draft::new("read_input");
        let from = draft.buffer("input", Argument::Input, len, Access::Read);
        let to = target.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        let y = b.parallel("y", layout.h);
        blocks(b, &layout, &mut |b, cb, lanes| {
            b.repeat("x", layout.w, |b, x| {
                for lane in 0..lanes {
                    let channel = cb * layout.block + lane;
                    let value = b.load(1, from, dense(shape, &n, &channel, &y, &x));
                    b.store(to, target.at(&n, cb, &y, &x) + lane, value);
                }
                let zero = b.constant(1, 0.0);
                for lane in lanes..layout.block {
                    b.store(to, target.at(&n, cb, &y, &x) + lane, zero);
                }
            });
        });
        self.call(draft);
    }

    /// The last value into the caller's output.
    pub(super) fn output(&mut self) {
        let value = self.graph.output;
        let shape = self.graph.values[value.index()].shape;
        self.node = "output".to_owned();
        let source = self.operand(value);
        let layout = source.layout;
        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let mut draft = Draft::new("write_output");
        let from = source.declare(&mut draft, "input", Access::Read);
        let to = draft.buffer("output", Argument::Output, shape.len(), Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        let y = b.parallel("y", layout.h);
        if layout.h * layout.w == 1 {
            // A vector is as dense as the caller wants it, up to the padding of the last block.
            let copy = |b: &mut Builder, lanes: u8, at: Affine| {
                let value = b.load(lanes, from, &n * layout.image() + layout.origin() + &at);
                b.store(to, &n * shape.per_image() + at, value);
            };
            b.repeat("i", shape.c() / width, |b, i| copy(b, lanes, &i * width));
            b.repeat("i", shape.c() % width, |b, i| copy(b, 1, i + shape.c() / width * width));
        } else {
            dense_copy(b, source, from, shape, to, (&n, &y));
        }
        self.call(draft);
    }

    /// `[N, C, H, W]` to `[N, C * H * W]` where the flat vector itself is wanted.
    pub(super) fn flatten(&mut self, input: Operand, output: Operand) {
        let layout = input.layout;
        let shape = Shape::map(layout.n, layout.c, layout.h, layout.w);
        let padded = output.layout.image();
        let mut draft = Draft::new("flatten");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        b.repeat("y", layout.h, |b, y| {
            blocks(b, &layout, &mut |b, cb, lanes| {
                b.repeat("x", layout.w, |b, x| {
                    for lane in 0..lanes {
                        let value = b.load(1, from, input.at(&n, cb, &y, &x) + lane);
                        let channel = cb * BLOCK + lane;
                        let at = dense(shape, &Affine::default(), &channel, &y, &x);
                        b.store(to, &n * padded + at, value);
                    }
                });
            });
        });
        let zero = b.constant(1, 0.0);
        for past in shape.per_image()..padded {
            b.store(to, &n * padded + past, zero);
        }
        self.call(draft);
    }

    /// Zeros around the maps of a value.
    pub(super) fn halo(&mut self, target: Operand) {
        let layout = target.layout;
        if !layout.has_halo() {
            return;
        }
        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let mut draft = Draft::new("halo");
        let to = target.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let plane = b.parallel("plane", layout.n * layout.blocks());
        let base = plane * layout.plane();
        let zeros = |b: &mut Builder, at: Affine, count: usize| {
            let zero = b.constant(lanes, 0.0);
            b.repeat("i", count / width, |b, i| b.store(to, &at + &i * width, zero));
            let rest = count / width * width;
            let zero = b.constant(1, 0.0);
            b.repeat("i", count - rest, |b, i| b.store(to, &at + rest + i, zero));
        };
        zeros(b, base.clone(), layout.halo.top * layout.row());
        let below = (layout.halo.top + layout.h) * layout.row();
        zeros(b, &base + below, layout.halo.bottom * layout.row());
        b.repeat("y", layout.h, |b, y| {
            let row = &base + (&y + layout.halo.top) * layout.row();
            zeros(b, row.clone(), layout.halo.left * layout.block);
            let right = (layout.halo.left + layout.w) * layout.block;
            zeros(b, row + right, layout.halo.right * layout.block);
        });
        self.call(draft);
    }
}

/// Rows of a blocked map to a dense array.
fn dense_copy(
    b: &mut Builder,
    source: Operand,
    from: BufferId,
    shape: Shape,
    to: BufferId,
    (n, y): (&Affine, &Affine),
) {
    let layout = source.layout;
    blocks(b, &layout, &mut |b, cb, lanes| {
        b.repeat("x", layout.w, |b, x| {
            for lane in 0..lanes {
                let channel = cb * layout.block + lane;
                let value = b.load(1, from, source.at(n, cb, y, &x) + lane);
                b.store(to, dense(shape, n, &channel, y, &x), value);
            }
        });
    });
}
