//! A compiled net as a relocatable object for C's linker, and its header.
//!
//! The object holds the same machine code that the JIT loads, under local symbols
//! (`NET_kernel_...`), and one global function, `NET_run`, that runs the steps one after another
//! on the calling thread. It refers to nothing outside itself, writes nothing but the memory it
//! is given, and allocates nothing.

mod archive;
mod entry;
mod floats;
mod header;

pub use archive::archive;
pub use header::header;

use crate::target::Target;
use alexc_runtime::check::{ProgramError, check};
use alexc_runtime::cpu::Arch;
use alexc_runtime::program::Program;
use cranelift_codegen::Context;
use cranelift_codegen::ir::Signature;
use cranelift_module::{FuncId, Linkage, Module, ModuleError, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};

/// Alignment in bytes that `NET_run` asks of workspace and weights: a cache line.
pub const ALIGNMENT: usize = 64;

/// How the object is made.
#[derive(Debug, Clone)]
pub struct ObjectOptions {
    /// What the program's kernels were compiled for.
    pub target: Target,
}

/// Why no object was made. None of these depends on the user's net.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The program contradicts itself.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The kernels are another processor's.
    #[error("code for {arch} cannot go into an object for {target}")]
    Arch {
        /// The kernels' processor.
        arch: Arch,
        /// The object's target.
        target: String,
    },
    /// The target has no such object files, or Cranelift refused something.
    #[error("no object file for {target}: {reason}")]
    Backend {
        /// The target.
        target: String,
        /// Why.
        reason: String,
    },
}

/// Bytes of the workspace that `NET_run` works in: the arena, and behind it the scratch of the
/// calling thread.
pub fn workspace_bytes(program: &Program) -> usize {
    local_offset(program).saturating_add(program.local_bytes)
}

/// Where in the workspace the scratch begins.
fn local_offset(program: &Program) -> usize {
    program.arena_bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX)
}

/// The functions that [`write()`] makes for others to call, as C spells them.
pub fn exports(program: &Program) -> Vec<String> {
    vec![format!("{}_run", program.name)]
}

/// Writes a program as an object file. The same program gives the same bytes.
pub fn write(program: &Program, options: &ObjectOptions) -> Result<Vec<u8>, ObjectError> {
    check(program)?;
    let target = &options.target;
    let triple = target.isa().triple();
    if program.arch != target.arch() {
        let (arch, target) = (program.arch, triple.to_string());
        return Err(ObjectError::Arch { arch, target });
    }
    let backend = |reason: String| ObjectError::Backend { target: triple.to_string(), reason };
    let refused = |e: ModuleError| backend(e.to_string());

    let name = program.name.as_str();
    let builder = ObjectBuilder::new(target.owned_isa(), name, default_libcall_names());
    let mut module = ObjectModule::new(builder.map_err(refused)?);
    let mut finished = |name: String, signature: Signature, align: u64, bytes: &[u8]| {
        let id = module.declare_function(&name, Linkage::Local, &signature).map_err(refused)?;
        module.define_function_bytes(id, align, bytes, &[]).map_err(refused)?;
        Ok::<FuncId, ObjectError>(id)
    };
    let mut kernels = Vec::with_capacity(program.kernels.len());
    for kernel in &program.kernels {
        let symbol = format!("{name}_kernel_{}", kernel.name);
        let signature = target.kernel_signature();
        kernels.push(finished(symbol, signature, kernel.align as u64, &kernel.bytes)?);
    }
    let mut floats = None;
    if let Some(settings) = floats::Settings::of(target) {
        let mut define = |what, bytes| {
            let signature = floats::Settings::signature(target);
            finished(format!("{name}_{what}_float_settings"), signature, 16, bytes)
        };
        let save = define("save", settings.save)?;
        let load = define("load", settings.load)?;
        floats = Some((settings, save, load));
    }

    let mut context = Context::new();
    context.func.signature = entry::signature(target);
    let run = module
        .declare_function(&format!("{name}_run"), Linkage::Export, &context.func.signature)
        .map_err(refused)?;
    let mut callee = |id| module.declare_func_in_func(id, &mut context.func);
    let callees = entry::Callees {
        kernels: kernels.into_iter().map(&mut callee).collect(),
        floats: floats.map(|(settings, save, load)| (settings, callee(save), callee(load))),
    };
    entry::build(program, &callees, target, &mut context.func);
    cranelift_codegen::verify_function(&context.func, target.isa())
        .map_err(|e| backend(e.to_string()))?;
    module.define_function(run, &mut context).map_err(refused)?;
    module.finish().emit().map_err(|e| backend(e.to_string()))
}
