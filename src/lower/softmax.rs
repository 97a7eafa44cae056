//! Softmax over the channels of each pixel (of a vector: over its features):
//! e^(x - max) / sum of e^(x - max).

use super::{Draft, Lowering, Operand, math};
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, Reduce};

impl Lowering<'_> {
    pub(super) fn softmax(&mut self, input: Operand, output: Operand) {
        let lanes = self.vectors.lanes;
        let width = usize::from(lanes);
        let il = input.layout;
        // Whole vectors of real channels, then single ones: padding lanes must not be summed.
        let full_blocks = il.c / BLOCK;
        let rest = il.c % BLOCK;

        let mut draft = Draft::new("softmax");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let y_buffer = output.declare(&mut draft, "output", Access::ReadWrite);
        let b = &mut draft.b;
        let n = b.parallel("n", il.n);
        let y = b.parallel("y", il.h);
        b.repeat("x", il.w, |b, x| {
            let each = |b: &mut Builder, body: &mut dyn FnMut(&mut Builder, u8, Affine, Affine)| {
                b.repeat("cb", full_blocks, |b, cb| {
                    for lane in (0..BLOCK).step_by(width) {
                        let from = input.at(&n, &cb, &y, &x) + lane;
                        body(b, lanes, from, output.at(&n, &cb, &y, &x) + lane);
                    }
                });
                for lane in 0..rest {
                    let cb = Affine::from(full_blocks);
                    let from = input.at(&n, &cb, &y, &x) + lane;
                    body(b, 1, from, output.at(&n, &cb, &y, &x) + lane);
                }
            };
            let most = b.constant(lanes, f32::NEG_INFINITY);
            let most_single = b.constant(1, f32::NEG_INFINITY);
            each(b, &mut |b, lanes, from, _| {
                let value = b.load(lanes, x_buffer, from);
                let most = if lanes == 1 { most_single } else { most };
                b.binary_into(Binary::Max, most, value, most);
            });
            let reduced = b.reduce(Reduce::Max, most);
            let max_single = b.binary(Binary::Max, reduced, most_single);
            let max = b.broadcast(lanes, max_single);

            let sum = b.constant(lanes, 0.0);
            let sum_single = b.constant(1, 0.0);
            each(b, &mut |b, lanes, from, to| {
                let value = b.load(lanes, x_buffer, from);
                let (max, sum) = if lanes == 1 { (max_single, sum_single) } else { (max, sum) };
                let shifted = b.binary(Binary::Sub, value, max);
                let e = math::exp(b, shifted);
                b.binary_into(Binary::Add, sum, sum, e);
                b.store(y_buffer, to, e);
            });
            let reduced = b.reduce(Reduce::Add, sum);
            let total_single = b.binary(Binary::Add, reduced, sum_single);
            let total = b.broadcast(lanes, total_single);
            each(b, &mut |b, lanes, _, to| {
                let e = b.load(lanes, y_buffer, &to);
                let total = if lanes == 1 { total_single } else { total };
                let share = b.binary(Binary::Div, e, total);
                b.store(y_buffer, to, share);
            });
            // What follows may multiply padding lanes with zero weights: they must be numbers.
            if rest > 0 {
                let zero = b.constant(1, 0.0);
                for lane in rest..BLOCK {
                    let cb = Affine::from(full_blocks);
                    b.store(y_buffer, output.at(&n, &cb, &y, &x) + lane, zero);
                }
            }
        });
        self.call(draft);
    }
}
