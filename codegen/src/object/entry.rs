//! The entry point that a C program calls.

use super::control::Control;
use super::floats::Settings;
use super::{ALIGNMENT, local_offset, workspace_bytes};
use crate::target::Target;
use alexc_runtime::program::{Base, Program};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, Signature, StackSlot, StackSlotData, StackSlotKind,
    Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// `NET_run`'s status codes.
pub(super) const OK: i64 = 0;
/// A pointer is null.
pub(super) const NULL_POINTER: i64 = 1;
/// Workspace or weights do not begin at a multiple of `ALIGNMENT`.
pub(super) const MISALIGNED: i64 = 2;
/// The bits of an address that must be zero.
pub(super) const ALIGNMENT_MASK: i64 = ALIGNMENT as i64 - 1;

/// `int (const float *input, float *output, void *workspace, const void *weights)`.
pub(super) fn signature(target: &Target) -> Signature {
    let mut signature = Signature::new(target.isa().default_call_conv());
    signature.params.extend([types::I64; 4].map(AbiParam::new));
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

/// A function that returns [`OK`] and does nothing.
pub(super) fn build_ok(target: &Target, function: &mut Function) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let block = b.create_block();
    b.switch_to_block(block);
    let ok = b.ins().iconst(types::I32, OK);
    b.ins().return_(&[ok]);
    b.seal_all_blocks();
    b.finalize(target.isa().frontend_config());
}

/// The caller's memory.
struct Blocks {
    input: Value,
    output: Value,
    workspace: Value,
    weights: Value,
}

/// What the entry calls.
pub(super) struct Callees {
    /// The program's kernels.
    pub(super) kernels: Vec<FuncRef>,
    /// Functions that save and load the floating-point settings.
    pub(super) floats: Option<(Settings, FuncRef, FuncRef)>,
}

/// Checks the pointers, then calls the steps in order. `function` has [`signature`].
pub(super) fn build(
    program: &Program,
    callees: &Callees,
    target: &Target,
    function: &mut Function,
) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let param = |b: &FunctionBuilder<'_>, index: usize| b.block_params(block)[index];
    let blocks = Blocks {
        input: param(&b, 0),
        output: param(&b, 1),
        workspace: param(&b, 2),
        weights: param(&b, 3),
    };

    // Blocks of no bytes may be anywhere, even nowhere.
    let mut aligned = Vec::new();
    if workspace_bytes(program) > 0 {
        aligned.push(blocks.workspace);
    }
    if program.weights_bytes > 0 {
        aligned.push(blocks.weights);
    }
    for pointer in [blocks.input, blocks.output].into_iter().chain(aligned.iter().copied()) {
        let null = b.ins().icmp_imm_u(IntCC::Equal, pointer, 0);
        b.return_if(null, NULL_POINTER);
    }
    for pointer in aligned {
        let rest = b.ins().band_imm_u(pointer, ALIGNMENT_MASK);
        b.return_if(rest, MISALIGNED);
    }

    let before = callees.floats.as_ref().map(|(settings, save, load)| {
        let mut slot = || stack_slot(&mut b, settings.bytes);
        let (before, default) = (slot(), slot());
        let before = b.ins().stack_addr(types::I64, before, 0);
        b.ins().call(*save, &[before]);
        let of_bytes = if settings.bytes == 4 { types::I32 } else { types::I64 };
        let value = b.ins().iconst(of_bytes, settings.default);
        b.ins().stack_store(types::I64, value, default, 0);
        let default = b.ins().stack_addr(types::I64, default, 0);
        b.ins().call(*load, &[default]);
        (before, *load)
    });

    let longest = program.steps.iter().map(|step| step.params.len()).max().unwrap_or(0);
    let slot = stack_slot(&mut b, u32::try_from(8 * longest).unwrap_or(u32::MAX));
    let local = local_offset(program);
    for step in &program.steps {
        for (index, binding) in step.params.iter().enumerate() {
            let (base, offset) = match binding.base {
                Base::Input => (blocks.input, 0),
                Base::Output => (blocks.output, 0),
                Base::Arena => (blocks.workspace, 0),
                Base::Weights => (blocks.weights, 0),
                Base::Local => (blocks.workspace, local),
            };
            // Both within an isize: the program was checked.
            let address = b.ins().iadd_imm_s(base, (offset + binding.offset_bytes) as i64);
            b.ins().stack_store(types::I64, address, slot, 8 * index as i32);
        }
        let params = b.ins().stack_addr(types::I64, slot, 0);
        let begin = b.ins().iconst(types::I64, 0);
        let end = b.ins().iconst(types::I64, step.extent as i64);
        b.ins().call(callees.kernels[step.kernel], &[params, begin, end]);
    }
    if let Some((before, load)) = before {
        b.ins().call(load, &[before]);
    }
    let ok = b.ins().iconst(types::I32, OK);
    b.ins().return_(&[ok]);
    b.seal_all_blocks();
    b.finalize(target.isa().frontend_config());
}

fn stack_slot(b: &mut FunctionBuilder<'_>, bytes: u32) -> StackSlot {
    b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3))
}
