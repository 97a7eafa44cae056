//! Branches and loops for the functions that are written here by hand.

use crate::target::Target;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};

/// Starts a function. Returns its parameters.
pub(super) fn begin(b: &mut FunctionBuilder<'_>) -> Vec<Value> {
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    b.block_params(block).to_vec()
}

/// Ends a function behind its last instruction.
pub(super) fn finish(mut b: FunctionBuilder<'_>, target: &Target) {
    b.seal_all_blocks();
    b.finalize(target.isa().frontend_config());
}

/// Whoever writes a function.
pub(super) trait Control<'f>: Sized {
    /// The function.
    fn builder(&mut self) -> &mut FunctionBuilder<'f>;

    /// `body` where the condition is not zero.
    fn when(&mut self, condition: Value, body: impl FnOnce(&mut Self)) {
        let b = self.builder();
        let (inside, after) = (b.create_block(), b.create_block());
        b.ins().brif(condition, inside, &[], after, &[]);
        b.switch_to_block(inside);
        body(self);
        let b = self.builder();
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
    }

    /// `body` with the address `at` as long as `step` bytes are left from there to `end`.
    fn repeat(&mut self, at: Variable, end: Value, step: i64, body: impl FnOnce(&mut Self, Value)) {
        let b = self.builder();
        let [head, inside, after] = [b.create_block(), b.create_block(), b.create_block()];
        b.ins().jump(head, &[]);
        b.switch_to_block(head);
        let now = b.use_var(at);
        let left = b.ins().isub(end, now);
        let enough = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, left, step);
        b.ins().brif(enough, inside, &[], after, &[]);
        b.switch_to_block(inside);
        body(self, now);
        let b = self.builder();
        let next = b.ins().iadd_imm_s(now, step);
        b.def_var(at, next);
        b.ins().jump(head, &[]);
        b.switch_to_block(after);
    }

    /// Returns `status`, a number known when the function runs, where it is not zero.
    fn return_unless_ok(&mut self, status: Value) {
        let b = self.builder();
        let (leave, stay) = (b.create_block(), b.create_block());
        b.ins().brif(status, leave, &[], stay, &[]);
        b.switch_to_block(leave);
        b.ins().return_(&[status]);
        b.switch_to_block(stay);
    }

    /// Returns `status` where the condition is not zero; the code after it goes on elsewhere.
    fn return_if(&mut self, condition: Value, status: i64) {
        let b = self.builder();
        let (leave, stay) = (b.create_block(), b.create_block());
        b.ins().brif(condition, leave, &[], stay, &[]);
        b.switch_to_block(leave);
        b.set_cold_block(leave);
        let status = b.ins().iconst(types::I32, status);
        b.ins().return_(&[status]);
        b.switch_to_block(stay);
    }
}

impl<'f> Control<'f> for FunctionBuilder<'f> {
    fn builder(&mut self) -> &mut FunctionBuilder<'f> {
        self
    }
}
