//! Machine code for all kernels of a net, on several threads: kernels are independent.

use super::Options;
use alexc_codegen::verify::Verified;
use alexc_codegen::{clif, x86};
use alexc_runtime::cpu::Level;
use alexc_runtime::parallel::parallel_for;
use alexc_runtime::program::KernelCode;
use std::fmt;
use std::sync::OnceLock;

/// What makes machine code of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emitter {
    /// Cranelift: 128-bit vectors, every target.
    Cranelift,
    /// alexc's own for AVX2 (v3) and AVX-512 (v4).
    X86(Level),
}

impl fmt::Display for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Emitter::Cranelift => f.write_str("cranelift, 128-bit vectors"),
            Emitter::X86(level) if *level >= Level::V4 => f.write_str("x86, 512-bit vectors"),
            Emitter::X86(_) => f.write_str("x86, 256-bit vectors"),
        }
    }
}

/// Why no machine code was made.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// Cranelift's emitter.
    #[error(transparent)]
    Clif(#[from] clif::ClifError),
    /// The x86 emitter.
    #[error(transparent)]
    X86(#[from] x86::X86Error),
}

/// Cranelift's IR and listing of a kernel, as far as there are any.
#[derive(Debug, Clone, Default)]
pub struct KernelText {
    /// Cranelift's IR.
    pub clif: String,
    /// The machine code, listed.
    pub listing: String,
}

/// Emits every kernel.
pub(super) fn emit_all(
    kernels: &[Verified],
    emitter: Emitter,
    options: &Options,
) -> Result<Vec<(KernelCode, KernelText)>, EmitError> {
    let results: Vec<OnceLock<Result<(KernelCode, KernelText), EmitError>>> =
        kernels.iter().map(|_| OnceLock::new()).collect();
    // The longest first: the last ones fill the gaps.
    let mut order: Vec<usize> = (0..kernels.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(kernels[i].regs.len()));
    parallel_for(options.threads, kernels.len(), |i| {
        let index = order[i];
        let _ = results[index].set(emit(&kernels[index], emitter, options));
    });
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// Emits one kernel.
pub fn emit(
    kernel: &Verified,
    emitter: Emitter,
    options: &Options,
) -> Result<(KernelCode, KernelText), EmitError> {
    Ok(match emitter {
        Emitter::Cranelift => {
            let emitted = clif::emit(kernel, &options.target, options.texts)?;
            (emitted.code, KernelText { clif: emitted.clif, listing: emitted.listing })
        }
        Emitter::X86(level) => {
            let code = x86::emit(kernel, level)?;
            let listing = if options.texts { x86::listing(&code.bytes) } else { String::new() };
            (code, KernelText { clif: String::new(), listing })
        }
    })
}
