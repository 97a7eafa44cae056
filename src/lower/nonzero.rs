//! Fully connected layers that pass over inputs of zero: behind ReLU a third to nine tenths of
//! them. At batch 1 such a layer takes as long as its weights take from memory, and the weights
//! that only zero would multiply are not read. The sums are those of all products (EIE, Han et al.
//! 2016, does the same in hardware; weights must be finite).
//!
//! Memory gives what is left over as fast as a plain stream only in long pieces. So a panel is as
//! wide as a page where it can be, the row of an input lies in one piece, and while the rows of
//! some inputs are added up, those of the next ones are fetched.

use super::file_rows::Panels;
use super::{Argument, Draft, Fused, LinearPacks, Lowering, Operand, apply, declare_addends};
use crate::graph::Linear;
use crate::layout::{BLOCK, Layout};
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reg};

/// Inputs whose rows are added up together: the sums pass through the first-level cache once for
/// all of them.
const TOGETHER: usize = 8;

/// Bytes of a row: a page, up to whose end the processor fetches on its own.
const ROW_BYTES: usize = 4096;

/// Bytes that memory gives at once.
const LINE_BYTES: usize = 64;

/// Blocks of outputs of a panel, and panels: where there are enough blocks at least two, one for
/// each of two threads.
fn panels(out_blocks: usize, weight_bytes: usize) -> (usize, usize) {
    let most = ROW_BYTES / (BLOCK * weight_bytes);
    let blocks = out_blocks.div_ceil(out_blocks.div_ceil(most).max(2));
    (blocks, out_blocks.div_ceil(blocks))
}

impl Lowering<'_> {
    /// See the module. The input is one image without a halo.
    pub(super) fn linear_nonzero(
        &mut self,
        linear: &Linear,
        input: Operand,
        output: Operand,
        fused: &[Fused],
    ) {
        let il = input.layout;
        let rows = il.blocks() * il.h * il.w * il.block;
        let out_blocks = output.layout.blocks();
        let sizes = [il.c, il.h * il.w, il.block];
        let matrix = self.file_rows(linear, sizes);
        let (blocks, panels) = match matrix {
            Some(_) => (1, out_blocks),
            None => panels(out_blocks, self.weights.bytes()),
        };
        let width = blocks * BLOCK;
        let packs = self.linear_packs(linear, sizes, width, panels * width, matrix);
        // Panels may have room for more outputs than there are.
        let all = Layout { c: panels * width, ..output.layout };
        let sums = if blocks * panels == out_blocks { output } else { self.temporary(all) };

        let lanes = self.vectors.lanes;
        let step = usize::from(lanes);
        // Sums in registers: beside the inputs, half of the rest for weights on their way.
        let room = (self.vectors.registers - TOGETHER) / 2;
        let vectors = width / step;
        let chunk = (1..=room.min(8)).rev().find(|&v| vectors.is_multiple_of(v)).unwrap_or(1);
        let line = LINE_BYTES / packs.dtype.bytes();

        let mut draft = Draft::new("linear_nonzero");
        let x_buffer = input.declare(&mut draft, "input", Access::Read);
        let weights = Panels::declare(&mut draft, &packs, panels, width * rows);
        let list_len = Builder::list_len(rows, TOGETHER);
        let list = draft.buffer("list", Argument::Local, list_len, Access::Local);
        let y_buffer = sums.declare(&mut draft, "output", Access::ReadWrite);
        let closing = (sums.argument == output.argument)
            .then(|| Closing::declare(&mut draft, &packs, panels * width, fused));
        let b = &mut draft.b;
        let panel = b.parallel("panel", panels);
        weights.fill(b, &panel, lanes);
        let panel_at = weights.at(&panel);
        let zero = b.constant(lanes, 0.0);
        b.repeat("vector", vectors, |b, v| b.store(y_buffer, &panel * width + &v * step, zero));
        let values: Vec<Reg> = (0..TOGETHER).map(|_| b.reg(lanes)).collect();
        let origin = Affine::from(il.origin());
        b.nonzero("k", (x_buffer, &origin), rows, list, &values, |b, now, next| {
            b.repeat("chunk", vectors / chunk, |b, c| {
                let row =
                    |k: &Affine, v: usize| &panel_at + k * width + &c * (chunk * step) + v * step;
                let mut totals = Vec::new();
                for ((value, k), next) in values.iter().zip(now).zip(next) {
                    for v in 0..chunk {
                        if (v * step).is_multiple_of(line) {
                            b.prefetch(weights.buffer, row(next, v));
                        }
                        let weight = b.load(lanes, weights.buffer, row(k, v));
                        match totals.get(v) {
                            None => totals.push(b.binary(Binary::Mul, *value, weight)),
                            Some(&total) => b.fma_into(total, *value, weight, total),
                        }
                    }
                }
                for (v, total) in totals.into_iter().enumerate() {
                    let at = &panel * width + &c * (chunk * step) + v * step;
                    let before = b.load(lanes, y_buffer, &at);
                    let total = b.binary(Binary::Add, before, total);
                    b.store(y_buffer, at, total);
                }
            });
        });
        if let Some(closing) = closing {
            b.repeat("block", blocks, |b, block| {
                closing.block(b, lanes, (y_buffer, y_buffer), &(&panel * blocks + block));
            });
            self.call(draft);
            return;
        }
        self.call(draft);

        let mut draft = Draft::new("bias");
        let from = sums.declare(&mut draft, "sums", Access::Read);
        let to = output.declare(&mut draft, "output", Access::Write);
        let closing = Closing::declare(&mut draft, &packs, panels * width, fused);
        let b = &mut draft.b;
        let block = b.parallel("block", out_blocks);
        closing.block(b, lanes, (from, to), &block);
        self.call(draft);
    }
}

/// What is left to do with the sums.
struct Closing<'f> {
    bias: BufferId,
    scales: Option<BufferId>,
    fused: &'f [Fused],
    addends: Vec<Option<BufferId>>,
}

impl<'f> Closing<'f> {
    fn declare(draft: &mut Draft, packs: &LinearPacks, len: usize, fused: &'f [Fused]) -> Self {
        Closing {
            bias: draft.buffer("bias", packs.bias, len, Access::Read),
            scales: packs.scales.map(|scales| draft.buffer("scales", scales, len, Access::Read)),
            fused,
            addends: declare_addends(draft, fused),
        }
    }

    /// One block of outputs.
    fn block(&self, b: &mut Builder, lanes: u8, (from, to): (BufferId, BufferId), block: &Affine) {
        let zero = Affine::default();
        for lane in (0..BLOCK).step_by(usize::from(lanes)) {
            let at = block * BLOCK + lane;
            let sum = b.load(lanes, from, &at);
            let bias = b.load(lanes, self.bias, &at);
            let total = match self.scales {
                None => b.binary(Binary::Add, sum, bias),
                Some(scales) => {
                    let scale = b.load(lanes, scales, &at);
                    b.fma(sum, scale, bias)
                }
            };
            let place = (&zero, block, &zero, &zero);
            let value = apply(b, self.fused, &self.addends, total, place, &lane.into());
            b.store(to, at, value);
        }
    }
}
