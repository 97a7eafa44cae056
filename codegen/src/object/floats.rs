//! The caller's floating-point settings. An app may run with denormals flushed to zero or with
//! another rounding direction; the net must give the same bits there. Cranelift has no
//! instruction for these settings, so two tiny functions of each processor family stand here as
//! machine code.

use super::stack_slot;
use crate::target::Target;
use alexc_runtime::cpu::Arch;
use cranelift_codegen::ir::{AbiParam, FuncRef, InstBuilder, Signature, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Reads or writes the settings at the address in its one parameter. Called as a kernel is.
pub(super) struct Settings {
    pub(super) save: &'static [u8],
    pub(super) load: &'static [u8],
    /// Bytes that `save` stores and `load` loads.
    pub(super) bytes: u32,
    /// Round to nearest, denormals kept, no traps.
    pub(super) default: i64,
}

impl Settings {
    /// `None` where there is nothing to set: RISC-V keeps denormals and names the rounding in
    /// each instruction.
    pub(super) fn of(target: &Target) -> Option<Settings> {
        match target.arch() {
            Arch::X86_64 => Some(Settings {
                // stmxcsr [rdi]; ret
                save: &[0x0f, 0xae, 0x1f, 0xc3],
                // ldmxcsr [rdi]; ret
                load: &[0x0f, 0xae, 0x17, 0xc3],
                bytes: 4,
                default: 0x1f80,
            }),
            Arch::Aarch64 => Some(Settings {
                // mrs x8, fpcr; str x8, [x0]; ret
                save: &[0x08, 0x44, 0x3b, 0xd5, 0x08, 0x00, 0x00, 0xf9, 0xc0, 0x03, 0x5f, 0xd6],
                // ldr x8, [x0]; msr fpcr, x8; ret
                load: &[0x08, 0x00, 0x40, 0xf9, 0x08, 0x44, 0x1b, 0xd5, 0xc0, 0x03, 0x5f, 0xd6],
                bytes: 8,
                default: 0,
            }),
            Arch::Riscv64 | Arch::OpenCl => None,
        }
    }

    /// Saves the settings and loads the default ones. Returns where the saved ones lie.
    pub(super) fn replace(
        &self,
        b: &mut FunctionBuilder<'_>,
        save: FuncRef,
        load: FuncRef,
    ) -> Value {
        let (before, default) = (stack_slot(b, self.bytes), stack_slot(b, self.bytes));
        let before = b.ins().stack_addr(types::I64, before, 0);
        b.ins().call(save, &[before]);
        let of_bytes = if self.bytes == 4 { types::I32 } else { types::I64 };
        let value = b.ins().iconst(of_bytes, self.default);
        b.ins().stack_store(types::I64, value, default, 0);
        let default = b.ins().stack_addr(types::I64, default, 0);
        b.ins().call(load, &[default]);
        before
    }

    pub(super) fn signature(target: &Target) -> Signature {
        let mut signature = target.kernel_signature();
        signature.params = vec![AbiParam::new(types::I64)];
        signature
    }
}
