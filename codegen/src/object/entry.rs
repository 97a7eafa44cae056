//! The entry points that a C program calls to run the net.

use super::control::{Control, begin, finish};
use super::shares::{INPUT, OUTPUT, RUN_BYTES, SHARES, WEIGHTS, WORKSPACE};
use super::{ALIGNMENT, MAX_THREADS, Memory, stack_slot};
use crate::target::Target;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, Signature, Type, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// The functions' status codes.
pub(super) const OK: i64 = 0;
/// A pointer is null.
pub(super) const NULL_POINTER: i64 = 1;
/// Workspace or weights do not begin at a multiple of `ALIGNMENT`.
pub(super) const MISALIGNED: i64 = 2;
/// The processor lacks something.
pub(super) const UNSUPPORTED_CPU: i64 = 8;
/// No thread, or too many.
pub(super) const BAD_THREADS: i64 = 9;
/// The bits of an address that must be zero.
pub(super) const ALIGNMENT_MASK: i64 = ALIGNMENT as i64 - 1;

/// A function of C's that returns an int.
pub(super) fn returns_int(target: &Target, params: &[Type]) -> Signature {
    let mut signature = Signature::new(target.isa().default_call_conv());
    signature.params.extend(params.iter().copied().map(AbiParam::new));
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

/// `int (const float *input, float *output, void *workspace, const void *weights)`.
pub(super) fn signature(target: &Target) -> Signature {
    returns_int(target, &[types::I64; 4])
}

/// The same with the variant's number in front.
pub(super) fn variant_signature(target: &Target) -> Signature {
    returns_int(target, &[types::I32, types::I64, types::I64, types::I64, types::I64])
}

/// The same with `NET_parallel_for function, void *context, unsigned threads` behind.
pub(super) fn parallel_signature(target: &Target) -> Signature {
    let pointer = types::I64;
    let of_run = [pointer; 4];
    returns_int(target, &[&of_run[..], &[pointer, pointer, types::I32]].concat())
}

/// `void (void *context, NET_task task, void *run, unsigned count)`.
pub(super) fn parallel_for_signature(target: &Target) -> Signature {
    let mut signature = Signature::new(target.isa().default_call_conv());
    let params = [types::I64, types::I64, types::I64, types::I32];
    signature.params.extend(params.map(AbiParam::new));
    signature
}

/// A function that returns a number and does nothing.
pub(super) fn build_constant(value: i64, target: &Target, function: &mut Function) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    begin(&mut b);
    let value = b.ins().iconst(types::I32, value);
    b.ins().return_(&[value]);
    finish(b, target);
}

/// `NET_check_cpu`: whether there is a variant for the processor.
pub(super) fn build_check_cpu(variant: FuncRef, target: &Target, function: &mut Function) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    begin(&mut b);
    let call = b.ins().call(variant, &[]);
    let number = b.inst_results(call)[0];
    let none = b.ins().icmp_imm_s(IntCC::SignedLessThan, number, 0);
    b.return_if(none, UNSUPPORTED_CPU);
    let ok = b.ins().iconst(types::I32, OK);
    b.ins().return_(&[ok]);
    finish(b, target);
}

/// The caller's memory.
struct Blocks {
    input: Value,
    output: Value,
    workspace: Value,
    weights: Value,
}

impl Blocks {
    /// Refuses pointers that cannot be.
    fn check(&self, b: &mut FunctionBuilder<'_>, memory: &Memory) {
        // Blocks of no bytes may be anywhere, even nowhere.
        let mut aligned = Vec::new();
        if memory.workspace_bytes() > 0 {
            aligned.push(self.workspace);
        }
        if memory.weights_bytes > 0 {
            aligned.push(self.weights);
        }
        for pointer in [self.input, self.output].into_iter().chain(aligned.iter().copied()) {
            let null = b.ins().icmp_imm_u(IntCC::Equal, pointer, 0);
            b.return_if(null, NULL_POINTER);
        }
        for pointer in aligned {
            let rest = b.ins().band_imm_u(pointer, ALIGNMENT_MASK);
            b.return_if(rest, MISALIGNED);
        }
    }

    /// Describes the run for the shares. Returns the description's address.
    fn describe(&self, b: &mut FunctionBuilder<'_>, shares: Value) -> Value {
        let slot = stack_slot(b, RUN_BYTES);
        for (at, value) in [
            (INPUT, self.input),
            (OUTPUT, self.output),
            (WORKSPACE, self.workspace),
            (WEIGHTS, self.weights),
            (SHARES, shares),
        ] {
            b.ins().stack_store(types::I64, value, slot, at);
        }
        b.ins().stack_addr(types::I64, slot, 0)
    }
}

/// A function for the steps between two barriers.
pub(super) struct Group {
    /// The function.
    pub(super) share: FuncRef,
    /// No step in it can be shared.
    pub(super) alone: bool,
}

/// Calls what belongs to the variant of a number, and returns [`OK`]; [`UNSUPPORTED_CPU`] where
/// there is none.
fn select(
    b: &mut FunctionBuilder<'_>,
    number: Value,
    variants: &[Vec<Group>],
    mut call: impl FnMut(&mut FunctionBuilder<'_>, &Group),
) {
    for (variant, groups) in variants.iter().enumerate() {
        let chosen = b.ins().icmp_imm_u(IntCC::Equal, number, variant as i64);
        let (inside, next) = (b.create_block(), b.create_block());
        b.ins().brif(chosen, inside, &[], next, &[]);
        b.switch_to_block(inside);
        groups.iter().for_each(|group| call(b, group));
        let ok = b.ins().iconst(types::I32, OK);
        b.ins().return_(&[ok]);
        b.switch_to_block(next);
    }
    let status = b.ins().iconst(types::I32, UNSUPPORTED_CPU);
    b.ins().return_(&[status]);
}

/// `NET_run_variant`. `function` has [`variant_signature`].
pub(super) fn build_run_variant(
    variants: &[Vec<Group>],
    memory: &Memory,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let &[number, input, output, workspace, weights] = &begin(&mut b)[..] else { return };
    let blocks = Blocks { input, output, workspace, weights };
    blocks.check(&mut b, memory);
    let one = b.ins().iconst(types::I64, 1);
    let run = blocks.describe(&mut b, one);
    let index = b.ins().iconst(types::I32, 0);
    select(&mut b, number, variants, |b, group| {
        b.ins().call(group.share, &[run, index]);
    });
    finish(b, target);
}

/// `NET_run`: the variant that suits the processor. `function` has [`signature`].
pub(super) fn build_run(
    variant: FuncRef,
    run_variant: FuncRef,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let blocks = begin(&mut b);
    let call = b.ins().call(variant, &[]);
    let number = b.inst_results(call)[0];
    let call = b.ins().call(run_variant, &[&[number], &blocks[..]].concat());
    let status = b.inst_results(call)[0];
    b.ins().return_(&[status]);
    finish(b, target);
}

/// `NET_run_parallel`. `function` has [`parallel_signature`].
pub(super) fn build_run_parallel(
    variant: FuncRef,
    variants: &[Vec<Group>],
    memory: &Memory,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let &[input, output, workspace, weights, parallel_for, context, threads] = &begin(&mut b)[..]
    else {
        return;
    };
    let blocks = Blocks { input, output, workspace, weights };
    let null = b.ins().icmp_imm_u(IntCC::Equal, parallel_for, 0);
    b.return_if(null, NULL_POINTER);
    blocks.check(&mut b, memory);
    let below = b.ins().iadd_imm_s(threads, -1);
    let wrong = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, below, MAX_THREADS as i64);
    b.return_if(wrong, BAD_THREADS);
    let shares = b.ins().uextend(types::I64, threads);
    let run = blocks.describe(&mut b, shares);
    let call = b.ins().call(variant, &[]);
    let number = b.inst_results(call)[0];
    let callback = b.import_signature(parallel_for_signature(target));
    let first = b.ins().iconst(types::I32, 0);
    select(&mut b, number, variants, |b, group| {
        if group.alone {
            b.ins().call(group.share, &[run, first]);
        } else {
            let task = b.ins().func_addr(types::I64, group.share);
            b.ins().call_indirect(callback, parallel_for, &[context, task, run, threads]);
        }
    });
    finish(b, target);
}
