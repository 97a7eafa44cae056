//! Operators that touch each element once: activations, sums, batch normalisation, copies, and
//! the joining of channels.

use super::pack::Pack;
use super::{Draft, Lowering, Operand, math};
use crate::graph::{Activation, BatchNorm};
use crate::layout::BLOCK;
use alexc_codegen::builder::{Affine, Builder};
use alexc_codegen::ir::{Access, Binary, BufferId, Reg};

impl Lowering<'_> {
    /// `compute(builder, inputs of one place, block, lane)` over every vector of the output.
    fn map(
        &mut self,
        mut draft: Draft,
        inputs: &[Operand],
        output: Operand,
        mut compute: impl FnMut(&mut Builder, &[Reg], &Affine, usize) -> Reg,
    ) {
        let lanes = self.vectors.lanes;
        let buffers: Vec<BufferId> = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| input.declare(&mut draft, &format!("input{i}"), Access::Read))
            .collect();
        let y_buffer = output.declare(&mut draft, "output", Access::Write);
        let b = &mut draft.b;
        let n = b.parallel("n", output.layout.n);
        let cb = b.parallel("cb", output.layout.blocks());
        let y = b.parallel("y", output.layout.h);
        b.repeat("x", output.layout.w, |b, x| {
            for lane in (0..BLOCK).step_by(usize::from(lanes)) {
                let values: Vec<Reg> = inputs
                    .iter()
                    .zip(&buffers)
                    .map(|(input, &buffer)| b.load(lanes, buffer, input.at(&n, &cb, &y, &x) + lane))
                    .collect();
                let value = compute(b, &values, &cb, lane);
                b.store(y_buffer, output.at(&n, &cb, &y, &x) + lane, value);
            }
        });
        self.call(draft);
    }

    pub(super) fn activation(&mut self, activation: Activation, input: Operand, output: Operand) {
        self.map(Draft::new("activation"), &[input], output, |b, values, _, _| {
            math::activation(b, activation, values[0])
        });
    }

    pub(super) fn copy(&mut self, input: Operand, output: Operand) {
        self.map(Draft::new("copy"), &[input], output, |_, values, _, _| values[0]);
    }

    pub(super) fn add(&mut self, inputs: &[Operand], output: Operand) {
        self.map(Draft::new("add"), inputs, output, |b, values, _, _| {
            let mut sum = values[0];
            for &value in &values[1..] {
                sum = b.binary(Binary::Add, sum, value);
            }
            sum
        });
    }

    pub(super) fn batch_norm(&mut self, norm: &BatchNorm, input: Operand, output: Operand) {
        let lanes = self.vectors.lanes;
        let len = input.layout.blocks() * BLOCK;
        let scale = self.pack(Pack::BatchNormScale { norm: norm.clone(), len });
        let shift = self.pack(Pack::BatchNormShift { norm: norm.clone(), len });
        let mut draft = Draft::new("batch_norm");
        let scale = draft.buffer("scale", scale, len, Access::Read);
        let shift = draft.buffer("shift", shift, len, Access::Read);
        self.map(draft, &[input], output, |b, values, cb, lane| {
            let scale = b.load(lanes, scale, cb * BLOCK + lane);
            let shift = b.load(lanes, shift, cb * BLOCK + lane);
            b.fma(values[0], scale, shift)
        });
    }

    /// Copies each input to its channels. Where those begin inside a block, element by element.
    pub(super) fn concat(&mut self, inputs: &[Operand], output: Operand) {
        let lanes = self.vectors.lanes;
        let mut first = 0;
        for (index, input) in inputs.iter().enumerate() {
            let channels = input.layout.c;
            let whole = first % BLOCK == 0 && (channels % BLOCK == 0 || index + 1 == inputs.len());
            let mut draft = Draft::new("concat");
            let x_buffer = input.declare(&mut draft, "input", Access::Read);
            let y_buffer = output.declare(&mut draft, "output", Access::Write);
            let b = &mut draft.b;
            let n = b.parallel("n", output.layout.n);
            // (first block, blocks, first lane, lanes, lane moved by, block moved by)
            let pieces = pieces(channels, first % BLOCK);
            if whole {
                let cb = b.parallel("cb", input.layout.blocks());
                let y = b.parallel("y", input.layout.h);
                b.repeat("x", input.layout.w, |b, x| {
                    for lane in (0..BLOCK).step_by(usize::from(lanes)) {
                        let value = b.load(lanes, x_buffer, input.at(&n, &cb, &y, &x) + lane);
                        let block = &cb + first / BLOCK;
                        b.store(y_buffer, output.at(&n, &block, &y, &x) + lane, value);
                    }
                });
            } else {
                let y = b.parallel("y", input.layout.h);
                for piece in pieces {
                    b.repeat("cb", piece.blocks, |b, cb| {
                        let from = &cb + piece.block;
                        let to = &from + (first / BLOCK + piece.blocks_later);
                        b.repeat("x", input.layout.w, |b, x| {
                            b.repeat("lane", piece.lanes, |b, lane| {
                                let source = input.at(&n, &from, &y, &x) + &lane + piece.lane;
                                let target = output.at(&n, &to, &y, &x) + &lane + piece.target_lane;
                                let value = b.load(1, x_buffer, source);
                                b.store(y_buffer, target, value);
                            });
                        });
                    });
                }
                let end = (first + channels) % BLOCK;
                if index + 1 == inputs.len() && end > 0 {
                    // What follows may multiply padding lanes with zero weights: they must be
                    // numbers.
                    let block = Affine::from(output.layout.blocks() - 1);
                    let zero = b.constant(1, 0.0);
                    b.repeat("x", input.layout.w, |b, x| {
                        b.repeat("lane", BLOCK - end, |b, lane| {
                            let target = output.at(&n, &block, &y, &x) + lane + end;
                            b.store(y_buffer, target, zero);
                        });
                    });
                }
            }
            first += channels;
            self.call(draft);
        }
    }
}

/// Lanes of consecutive blocks that move together.
struct Piece {
    block: usize,
    blocks: usize,
    lane: usize,
    lanes: usize,
    target_lane: usize,
    blocks_later: usize,
}

/// How the lanes of `channels` channels move when the first one goes to lane `shift`.
fn pieces(channels: usize, shift: usize) -> Vec<Piece> {
    let full = channels / BLOCK;
    let rest = channels % BLOCK;
    let room = BLOCK - shift;
    let mut pieces = Vec::new();
    let mut push = |block, blocks, lanes: Range<usize>, target_lane, blocks_later| {
        if blocks > 0 && !lanes.is_empty() {
            let (lane, lanes) = (lanes.start, lanes.len());
            pieces.push(Piece { block, blocks, lane, lanes, target_lane, blocks_later });
        }
    };
    push(0, full, 0..room, shift, 0);
    push(0, full, room..BLOCK, 0, 1);
    push(full, 1, 0..rest.min(room), shift, 0);
    push(full, 1, room..rest.max(room), 0, 1);
    pieces
}

use std::ops::Range;
