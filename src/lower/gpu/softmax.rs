//! Softmax: a work-group for each pixel (of a vector: for each image). The channels lie in shared
//! memory, behind them, up to a multiple of the items, what adds nothing.

use super::{Gpu, shared};
use crate::lower::{Draft, Operand, math};
use alexc_codegen::builder::{Affine, At, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reduce, Reg};

/// Most channels that fit: 16 KiB, half of the shared memory that every GPU has.
const MOST: usize = 4096;

/// Items of a group.
const ITEMS: usize = 128;

impl Gpu<'_> {
    pub(super) fn softmax(&mut self, input: Operand, output: Operand) {
        let channels = input.layout.c;
        if channels <= MOST {
            self.softmax_of_group(input, output);
            return;
        }
        // One item a pixel, three passes.
        let layout = input.layout;
        let mut draft = Draft::new("softmax");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = output.declare(&mut draft, "output", Access::ReadWrite);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        let q = b.parallel("q", layout.h * layout.w);
        let at = |c: &Affine| &n * layout.image() + c * layout.plane() + &q;
        let most = b.constant(1, f32::NEG_INFINITY);
        b.repeat("c", channels, |b, c| {
            let value = b.load(1, from, at(&c));
            b.binary_into(Binary::Max, most, value, most);
        });
        let sum = b.constant(1, 0.0);
        b.repeat("c", channels, |b, c| {
            let value = b.load(1, from, at(&c));
            let shifted = b.binary(Binary::Sub, value, most);
            let e = math::exp(b, shifted);
            b.binary_into(Binary::Add, sum, sum, e);
            b.store(to, at(&c), e);
        });
        b.repeat("c", channels, |b, c| {
            let e = b.load(1, to, at(&c));
            let share = b.binary(Binary::Div, e, sum);
            b.store(to, at(&c), share);
        });
        self.base.call(draft);
    }

    fn softmax_of_group(&mut self, input: Operand, output: Operand) {
        let layout = input.layout;
        let channels = layout.c;
        let rounds = channels.div_ceil(ITEMS);
        let mut draft = Draft::new("softmax");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = output.declare(&mut draft, "output", Access::Write);
        let values = shared(&mut draft, "values", rounds * ITEMS);
        let partial = shared(&mut draft, "partial", ITEMS);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        let q = b.parallel("q", layout.h * layout.w);
        let item = b.item("item_of_pixel", ITEMS);
        let place = |b: &mut Builder, round: &Affine| b.var("c", round * ITEMS + &item);
        let global = |c: &Affine| {
            let at = &n * layout.image() + c * layout.plane() + &q;
            At::from(at).within(c, channels)
        };

        let nothing = b.constant(1, f32::NEG_INFINITY);
        let most = b.constant(1, f32::NEG_INFINITY);
        b.repeat("round", rounds, |b, round| {
            let c = place(b, &round);
            b.store(values, &c, nothing);
            let value = b.load(1, from, global(&c));
            b.store(values, At::from(&c).within(&c, channels), value);
            let value = b.load(1, values, &c);
            b.binary_into(Binary::Max, most, value, most);
        });
        let most = of_all(b, Reduce::Max, partial, &item, most);
        b.barrier();
        let sum = b.constant(1, 0.0);
        b.repeat("round", rounds, |b, round| {
            let c = place(b, &round);
            let value = b.load(1, values, &c);
            let shifted = b.binary(Binary::Sub, value, most);
            let e = math::exp(b, shifted);
            b.store(values, &c, e);
            // Behind the channels e^-87, the least that there is: less than a sum's rounding.
            b.binary_into(Binary::Add, sum, sum, e);
        });
        let sum = of_all(b, Reduce::Add, partial, &item, sum);
        b.repeat("round", rounds, |b, round| {
            let c = place(b, &round);
            let e = b.load(1, values, &c);
            let share = b.binary(Binary::Div, e, sum);
            b.store(to, global(&c), share);
        });
        self.base.call(draft);
    }
}

/// Every item gets the sum or maximum of all items' values.
fn of_all(b: &mut Builder, op: Reduce, partial: BufferId, item: &Affine, value: Reg) -> Reg {
    const LANES: usize = 16;
    b.store(partial, item, value);
    b.barrier();
    let all = b.load(LANES as u8, partial, 0_usize);
    for first in (LANES..ITEMS).step_by(LANES) {
        let next = b.load(LANES as u8, partial, first);
        match op {
            Reduce::Add => b.binary_into(Binary::Add, all, all, next),
            Reduce::Max => b.binary_into(Binary::Max, all, next, all),
        }
    }
    b.reduce(op, all)
}
