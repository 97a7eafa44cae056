//! Executable memory kept by cranelift-jit.

use std::sync::Mutex;

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, ModuleError, default_libcall_names};

use super::CodeError;
use crate::program::KernelCode;

/// The module whose memory holds the code; present until dropped. The mutex is never locked, it
/// only tells the compiler that threads do not share the module's inner cells.
pub(super) struct Memory(Mutex<Option<JITModule>>);

impl Memory {
    /// Returns the kernels' addresses beside the memory.
    pub(super) fn new(kernels: &[KernelCode]) -> Result<(Memory, Vec<*const u8>), CodeError> {
        let builder = JITBuilder::new(default_libcall_names()).map_err(error)?;
        // Owned from here on, so that errors free what is defined already.
        let mut memory = Memory(Mutex::new(Some(JITModule::new(builder))));
        let Some(module) = memory.module() else { return Ok((memory, Vec::new())) };
        let mut ids = Vec::with_capacity(kernels.len());
        for kernel in kernels {
            // Nobody calls it by this signature: it only names the symbol.
            let signature = module.make_signature();
            let id =
                module.declare_function(&kernel.name, Linkage::Local, &signature).map_err(error)?;
            module
                .define_function_bytes(id, kernel.align as u64, &kernel.bytes, &[])
                .map_err(error)?;
            ids.push(id);
        }
        module.finalize_definitions().map_err(error)?;
        let addresses = ids.into_iter().map(|id| module.get_finalized_function(id)).collect();
        Ok((memory, addresses))
    }

    fn module(&mut self) -> Option<&mut JITModule> {
        self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).as_mut()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(module) =
            self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
        {
            // SAFETY: the addresses are handed to `Code` alone, which owns this and calls none
            // of them any more.
            unsafe { module.free_memory() };
        }
    }
}

fn error(error: ModuleError) -> CodeError {
    CodeError::Memory(error.to_string())
}
