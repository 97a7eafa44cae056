//! Loops over nonzero elements: a list of what there is, without branches, then a loop over the list.

use super::encode::{Condition, Gpr, Op, RAX, RCX, RDI, RDX, RSI, Rm, Width};
use super::{Emitter, Home};
use crate::streams::Turns;

impl Emitter<'_> {
    /// Lists the elements. Each is written down with its index, and the next one over it if it was
    /// zero. `cursor` gets the beginning of the list, its neighbour the end.
    pub(super) fn find(&mut self, turns: &Turns<'_>, cursor: usize) {
        const USED: [Gpr; 3] = [RCX, RSI, RDI];
        let (source, index, kept) = (RCX, RSI, RDI);
        let (from, at) = self.memory(turns.from);
        self.asm.mov(RAX, from);
        let list = self.get_gpr(self.plan.pointer(turns.list.pointer), RDX);
        self.asm.mov(RDX, list);
        // Nothing on the stack is named until they are back.
        USED.iter().for_each(|&reg| self.asm.push(reg));
        self.asm.mov(source, RAX);
        self.asm.add_immediate(Rm::Gpr(source), at);
        self.asm.set(index, 0);
        let indices = turns.of.half_list() as i32 * 4;
        let head = self.asm.label();
        self.asm.align(32);
        self.asm.bind(head);
        self.asm.load_u32(RAX, source, 0);
        self.asm.store_u32(RDX, 0, RAX);
        self.asm.store_u32(RDX, indices, index);
        // Without its sign, so that -0 is zero.
        self.asm.shift_left(RAX, 33);
        self.asm.negate(RAX);
        self.asm.carry_mask(kept);
        self.asm.shift_left(kept, 2);
        self.asm.subtract(RDX, kept);
        self.asm.add_immediate(Rm::Gpr(source), 4);
        self.asm.add_immediate(Rm::Gpr(index), 1);
        self.asm.compare_immediate(index, turns.of.count as i32);
        self.asm.jump_if(Condition::Below, head);
        self.asm.set(RAX, 0);
        for missing in 0..turns.of.found.len() as i32 {
            self.asm.store_u32(RDX, 4 * missing, RAX);
            self.asm.store_u32(RDX, indices + 4 * missing, RAX);
        }
        USED.iter().rev().for_each(|&reg| self.asm.pop(reg));
        self.put_gpr(self.plan.gprs[cursor + 1], RDX);
        let list = self.get_gpr(self.plan.pointer(turns.list.pointer), RAX);
        self.put_gpr(self.plan.gprs[cursor], list);
    }

    /// The head of the loop: pointers at what the indices lead to, and the values.
    pub(super) fn turn(&mut self, turns: &Turns<'_>, cursor: usize) {
        let (head, end) = (self.asm.label(), self.asm.label());
        self.compare_with_end(cursor);
        self.asm.jump_if(Condition::AboveOrEqual, end);
        self.asm.bind(head);
        self.heads.push(head);
        self.ends.push(end);
        let indices = turns.of.half_list() as i32 * 4;
        for &(index, lead) in &turns.leads {
            let to = self.plan.pointer(lead.pointer);
            if to == Home::Nowhere {
                continue;
            }
            let at = self.get_gpr(self.plan.gprs[cursor], RAX);
            self.asm.load_u32(RDX, at, indices + 4 * index as i32);
            match i32::try_from(lead.step_bytes) {
                Ok(step) => self.asm.multiply_by(RDX, RDX, step),
                Err(_) => {
                    self.asm.set(RAX, lead.step_bytes);
                    self.asm.multiply(RDX, RAX);
                }
            }
            let from = self.get_gpr(self.plan.pointer(lead.from), RAX);
            self.asm.add(RDX, from);
            self.put_gpr(to, RDX);
        }
        for (index, &value) in turns.of.values.iter().enumerate() {
            let base = self.get_gpr(self.plan.gprs[cursor], RAX);
            let (to, width) = (self.target(value), self.width(value));
            let op = if width == Width::Scalar { Op::LOAD } else { Op::BROADCAST };
            let from = Rm::Mem { base, displacement: 4 * index as i32 };
            self.asm.vector(op, width, to, None, from);
            self.put(value);
        }
    }

    /// The end of the loop.
    pub(super) fn again(&mut self, turns: &Turns<'_>, cursor: usize) {
        let operand = self.gpr_operand(self.plan.gprs[cursor]);
        self.asm.add_immediate(operand, 4 * turns.of.values.len() as i32);
        self.compare_with_end(cursor);
        if let Some(head) = self.heads.pop() {
            self.asm.jump_if(Condition::Below, head);
        }
        if let Some(end) = self.ends.pop() {
            self.asm.bind(end);
        }
    }

    fn compare_with_end(&mut self, cursor: usize) {
        let now = self.get_gpr(self.plan.gprs[cursor], RAX);
        let end = self.get_gpr(self.plan.gprs[cursor + 1], RDX);
        self.asm.compare(now, end);
    }
}
