//! Shares of a run. Steps between two barriers make one function, which runs one thread's share of
//! them: the calling thread alone runs the whole of it, an app's threads run it side by side. The
//! parts are cut as `alexc_runtime::pool` cuts them; no cut changes a bit of the result.

use super::control::{begin, finish};
use super::floats::Settings;
use super::{Memory, stack_slot};
use crate::target::Target;
use alexc_runtime::program::{Base, Program, Step};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, MemFlagsData, Signature, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::collections::HashMap;
use std::ops::Range;

/// A run as the functions find it in memory: addresses of the caller's blocks, and how many
/// threads share the work.
pub(super) const INPUT: i32 = 0;
pub(super) const OUTPUT: i32 = 8;
pub(super) const WORKSPACE: i32 = 16;
pub(super) const WEIGHTS: i32 = 24;
pub(super) const SHARES: i32 = 32;
/// Size of all that.
pub(super) const RUN_BYTES: u32 = 40;

/// `void (void *run, unsigned index)`, which an app's `parallel_for` calls.
pub(super) fn signature(target: &Target) -> Signature {
    let mut signature = Signature::new(target.isa().default_call_conv());
    signature.params.extend([types::I64, types::I32].map(AbiParam::new));
    signature
}

/// The steps between barriers, in order.
pub(super) fn groups(program: &Program) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, step) in program.steps.iter().enumerate() {
        match groups.last_mut() {
            Some(last) if !step.barrier => last.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}

/// What a share calls.
pub(super) struct Callees {
    /// The program's kernels.
    pub(super) kernels: Vec<FuncRef>,
    /// Functions that save and load the floating-point settings.
    pub(super) floats: Option<(Settings, FuncRef, FuncRef)>,
}

/// Writes the function of some steps. `function` has [`signature`].
pub(super) fn build(
    steps: &[Step],
    callees: &Callees,
    memory: &Memory,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let [run, index] = begin(&mut b)[..] else { return };
    let index = b.ins().uextend(types::I64, index);
    let before = callees
        .floats
        .as_ref()
        .map(|(settings, save, load)| (settings.replace(&mut b, *save, *load), *load));

    let field = |b: &mut FunctionBuilder<'_>, at: i32| {
        b.ins().load(types::I64, MemFlagsData::trusted(), run, at)
    };
    let [input, output, workspace, weights, shares] =
        [INPUT, OUTPUT, WORKSPACE, WEIGHTS, SHARES].map(|at| field(&mut b, at));
    let scratch = b.ins().imul_imm_s(index, memory.thread_stride() as i64);
    let scratch = b.ins().iadd(workspace, scratch);
    let mut parts: HashMap<u64, (Value, Value)> = HashMap::new();
    for step in steps {
        let extent = step.extent;
        parts.entry(extent).or_insert_with(|| part(&mut b, extent, index, shares));
    }

    let longest = steps.iter().map(|step| step.params.len()).max().unwrap_or(0);
    let slot = stack_slot(&mut b, u32::try_from(8 * longest).unwrap_or(u32::MAX));
    for step in steps {
        let (begin, end) = parts[&step.extent];
        let (inside, after) = (b.create_block(), b.create_block());
        let any = b.ins().icmp(IntCC::NotEqual, begin, end);
        b.ins().brif(any, inside, &[], after, &[]);
        b.switch_to_block(inside);
        for (at, binding) in step.params.iter().enumerate() {
            let (base, offset) = match binding.base {
                Base::Input => (input, 0),
                Base::Output => (output, 0),
                Base::Arena => (workspace, 0),
                Base::Weights => (weights, 0),
                Base::Local => (scratch, memory.scratch_offset),
            };
            // Both within an isize: the program was checked.
            let address = b.ins().iadd_imm_s(base, (offset + binding.offset_bytes) as i64);
            b.ins().stack_store(types::I64, address, slot, 8 * at as i32);
        }
        let params = b.ins().stack_addr(types::I64, slot, 0);
        b.ins().call(callees.kernels[step.kernel], &[params, begin, end]);
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
    }
    if let Some((before, load)) = before {
        b.ins().call(load, &[before]);
    }
    b.ins().return_(&[]);
    finish(b, target);
}

/// The part of `0..extent` that falls to a thread: all parts are equal, but the first ones have
/// one more where the division leaves a rest.
fn part(b: &mut FunctionBuilder<'_>, extent: u64, index: Value, shares: Value) -> (Value, Value) {
    let extent = b.ins().iconst(types::I64, extent.cast_signed());
    let each = b.ins().udiv(extent, shares);
    let used = b.ins().imul(each, shares);
    let more = b.ins().isub(extent, used);
    let begin = |b: &mut FunctionBuilder<'_>, index: Value| {
        let all = b.ins().imul(each, index);
        let extra = b.ins().umin(more, index);
        b.ins().iadd(all, extra)
    };
    let first = begin(b, index);
    let next = b.ins().iadd_imm_s(index, 1);
    (first, begin(b, next))
}
