//! Operators with one item for each element of the result: pooling, response normalisation,
//! activations, sums, batch normalisation, copies and the joining of channels.

use super::Gpu;
use crate::graph::{Activation, BatchNorm, Lrn, Pool};
use crate::lower::pack::Pack;
use crate::lower::pool::{self, spans_of};
use crate::lower::{Draft, Operand, Vectors, math};
use alexc_codegen::builder::{Affine, At, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reg};

impl Gpu<'_> {
    /// A kernel over the elements of `inputs`, which are all alike; `place` moves the result.
    fn each(
        &mut self,
        mut draft: Draft,
        inputs: &[Operand],
        output: Operand,
        first_channel: usize,
        mut compute: impl FnMut(&mut Builder, &[Reg], &Affine) -> Reg,
    ) {
        let layout = inputs[0].layout;
        let buffers: Vec<BufferId> = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| input.declare(&mut draft, &format!("input{i}"), Access::Read))
            .collect();
        let to = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        let c = b.parallel("c", layout.c);
        let q = b.parallel("q", layout.h * layout.w);
        let values: Vec<Reg> = inputs
            .iter()
            .zip(&buffers)
            .map(|(input, &buffer)| {
                let layout = input.layout;
                b.load(1, buffer, &n * layout.image() + &c * layout.plane() + &q)
            })
            .collect();
        let value = compute(b, &values, &c);
        let channel = &c + first_channel;
        let at = &n * output.layout.image() + channel * output.layout.plane() + q;
        b.store(to, at, value);
        self.base.call(draft);
    }

    pub(super) fn copy(&mut self, input: Operand, output: Operand) {
        self.each(Draft::new("copy"), &[input], output, 0, |_, values, _| values[0]);
    }

    pub(super) fn activation(&mut self, activation: Activation, input: Operand, output: Operand) {
        self.each(Draft::new("activation"), &[input], output, 0, |b, values, _| {
            math::activation(b, activation, values[0])
        });
    }

    pub(super) fn add(&mut self, inputs: &[Operand], output: Operand) {
        self.each(Draft::new("add"), inputs, output, 0, |b, values, _| {
            values[1..].iter().fold(values[0], |sum, &value| b.binary(Binary::Add, sum, value))
        });
    }

    pub(super) fn batch_norm(&mut self, norm: &BatchNorm, input: Operand, output: Operand) {
        let len = input.layout.c;
        let scale = self.base.pack(Pack::BatchNormScale { norm: norm.clone(), len });
        let shift = self.base.pack(Pack::BatchNormShift { norm: norm.clone(), len });
        let mut draft = Draft::new("batch_norm");
        let scale = draft.buffer("scale", scale, len, Access::Read);
        let shift = draft.buffer("shift", shift, len, Access::Read);
        self.each(draft, &[input], output, 0, |b, values, c| {
            let scale = b.load(1, scale, c);
            let shift = b.load(1, shift, c);
            b.fma(values[0], scale, shift)
        });
    }

    pub(super) fn concat(&mut self, inputs: &[Operand], output: Operand) {
        let mut first = 0;
        for &input in inputs {
            self.each(Draft::new("concat"), &[input], output, first, |_, values, _| values[0]);
            first += input.layout.c;
        }
    }

    pub(super) fn pool(&mut self, pool: &Pool, input: Operand, output: Operand) {
        self.windows("pool", pool, input, output, |b, from, c, at| {
            b.load(1, from, at + c * input.layout.plane())
        });
    }

    /// Normalises each cell of a window where the window needs it: cells are computed several
    /// times, but never stored.
    pub(super) fn lrn_pool(&mut self, lrn: &Lrn, pool: &Pool, input: Operand, output: Operand) {
        self.windows("lrn_pool", pool, input, output, |b, from, c, at| {
            normalised(b, lrn, input, from, c, at)
        });
    }

    /// A pooling over cells that are computed of the pixel at `at` and the channel. Windows that
    /// the edges cut alike share a kernel.
    fn windows(
        &mut self,
        name: &str,
        pool: &Pool,
        input: Operand,
        output: Operand,
        cell: impl Fn(&mut Builder, BufferId, &Affine, &Affine) -> Reg,
    ) {
        let (rows, columns) = spans_of(pool, &input.layout, &output.layout);
        let [sh, sw] = pool.window.stride;
        for row in &rows {
            for column in &columns {
                let mut draft = Draft::new(name);
                let from = input.declare(&mut draft, "input", Access::Read);
                let to = output.declare(&mut draft, "output", Access::Write);
                let b = &mut draft.b;
                let n = b.parallel("n", output.layout.n);
                let c = b.parallel("c", output.layout.c);
                let oy = b.parallel("oy", row.count) + row.first;
                let ox = b.parallel("ox", column.count) + column.first;
                let cell = |b: &mut Builder, y: &Affine, x: &Affine| {
                    cell(b, from, &c, &input.at(&n, &Affine::default(), y, x))
                };
                let corner = (&(&oy * sh), &(&ox * sw));
                let value = pool::window(b, pool, &cell, (row, column), corner);
                b.store(to, output.at(&n, &c, &oy, &ox), value);
                self.base.call(draft);
            }
        }
    }

    pub(super) fn lrn(&mut self, lrn: &Lrn, input: Operand, output: Operand) {
        let layout = input.layout;
        let mut draft = Draft::new("lrn");
        let from = input.declare(&mut draft, "input", Access::Read);
        let to = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", layout.n);
        let c = b.parallel("c", layout.c);
        let q = b.parallel("q", layout.h * layout.w);
        let pixel = &n * layout.image() + q;
        let result = normalised(b, lrn, input, from, &c, &pixel);
        b.store(to, pixel + &c * layout.plane(), result);
        self.base.call(draft);
    }
}

/// Channel `c` of the pixel at `pixel`, normalised over the channels around it.
fn normalised(
    b: &mut Builder,
    lrn: &Lrn,
    input: Operand,
    from: BufferId,
    c: &Affine,
    pixel: &Affine,
) -> Reg {
    let layout = input.layout;
    let size = lrn.size.min(2 * layout.c - 1);
    let sum = b.constant(1, 0.0);
    b.repeat("offset", size, |b, offset| {
        let other = b.var("other", c + offset + -((size / 2) as i64));
        let at = At::from(pixel + &other * layout.plane()).within(&other, layout.c);
        let value = b.load(1, from, at);
        let square = b.binary(Binary::Mul, value, value);
        b.binary_into(Binary::Add, sum, sum, square);
    });
    let value = b.load(1, from, pixel + c * layout.plane());
    let normaliser = math::Normaliser::new(b, lrn, Vectors { lanes: 1, registers: 32 });
    let [value] = normaliser.apply(b, [(value, sum)]);
    value
}
