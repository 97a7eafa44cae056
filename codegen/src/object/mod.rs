//! A compiled net as a relocatable object for C's linker, and its header.
//!
//! The object holds the same machine code that the JIT loads, under local symbols
//! (`NET_kernel_...`), and global functions: `NET_run` runs the steps one after another on the calling
//! thread, `NET_check_weights` looks at a file of packed weights before they are used,
//! `NET_self_test` tells whether code and weights still do what they did when they were made. The
//! object refers to nothing outside itself, writes nothing but the memory it is given, and
//! allocates nothing. The packed weights may lie in it, too.

mod archive;
mod check;
mod checksum;
mod control;
mod cpu;
mod entry;
mod floats;
mod header;
mod self_test;

pub use archive::archive;
pub use header::header;
pub use self_test::SelfTest;

use crate::target::Target;
use alexc_runtime::check::{ProgramError, check};
use alexc_runtime::cpu::Arch;
use alexc_runtime::program::Program;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, Signature, types};
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleError, default_libcall_names,
};
use cranelift_object::{ObjectBuilder, ObjectModule};

/// Alignment in bytes that `NET_run` asks of workspace and weights: a cache line.
pub const ALIGNMENT: usize = 64;

/// How the object is made.
#[derive(Debug, Clone)]
pub struct ObjectOptions<'w> {
    /// What the program's kernels were compiled for.
    pub target: Target,
    /// The packed weights, where they shall lie in the object as `NET_weights`.
    pub weights: Option<&'w [u8]>,
    /// What `NET_self_test` expects with the weights that it is meant to be run with; without,
    /// there is no such function.
    pub self_test: Option<&'w SelfTest>,
}

impl ObjectOptions<'_> {
    /// Nothing but the code.
    pub fn new(target: Target) -> Self {
        ObjectOptions { target, weights: None, self_test: None }
    }
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
    /// Weights of another program.
    #[error("the net has {expected} bytes of packed weights, and {given} are to be embedded")]
    Weights {
        /// What the program says.
        expected: usize,
        /// What there is.
        given: usize,
    },
    /// A self test for another program.
    #[error("the net has {expected} outputs, and the self test expects {given}")]
    SelfTest {
        /// What the program says.
        expected: usize,
        /// What the test has.
        given: usize,
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

/// What [`write()`] makes for others to use, as C spells it.
pub fn exports(program: &Program, options: &ObjectOptions<'_>) -> Vec<String> {
    let parts = [
        ("run", true),
        ("check_cpu", true),
        ("check_weights", true),
        ("self_test", options.self_test.is_some()),
        ("weights", options.weights.is_some()),
    ];
    let there = parts.iter().filter(|(_, there)| *there);
    there.map(|(part, _)| format!("{}_{part}", program.name)).collect()
}

/// Writes a program as an object file. The same program gives the same bytes.
pub fn write(program: &Program, options: &ObjectOptions<'_>) -> Result<Vec<u8>, ObjectError> {
    check(program)?;
    let target = &options.target;
    let triple = target.isa().triple();
    if program.arch != target.arch() {
        let (arch, target) = (program.arch, triple.to_string());
        return Err(ObjectError::Arch { arch, target });
    }
    if let Some(weights) = options.weights
        && weights.len() != program.weights_bytes
    {
        let (expected, given) = (program.weights_bytes, weights.len());
        return Err(ObjectError::Weights { expected, given });
    }
    let outputs = program.output_dims.iter().product();
    if let Some(test) = options.self_test
        && test.expected.len() != outputs
    {
        return Err(ObjectError::SelfTest { expected: outputs, given: test.expected.len() });
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
    context.func.signature = checksum::signature(target);
    let symbol = format!("{name}_xxh64");
    let xxh64 = module
        .declare_function(&symbol, Linkage::Local, &context.func.signature)
        .map_err(refused)?;
    checksum::build(target, &mut context.func);
    define(&mut module, xxh64, &mut context, target).map_err(backend)?;

    context.func.signature = Signature::new(target.isa().default_call_conv());
    context.func.signature.returns.push(AbiParam::new(types::I32));
    let symbol = format!("{name}_check_cpu");
    let check_cpu = module
        .declare_function(&symbol, Linkage::Export, &context.func.signature)
        .map_err(refused)?;
    match target.arch() {
        Arch::X86_64 => {
            let code = cpu::check_x86(program);
            module.define_function_bytes(check_cpu, 16, &code, &[]).map_err(refused)?;
            module.clear_context(&mut context);
        }
        // The code needs nothing beyond their baselines.
        Arch::Aarch64 | Arch::Riscv64 | Arch::OpenCl => {
            entry::build_ok(target, &mut context.func);
            define(&mut module, check_cpu, &mut context, target).map_err(backend)?;
        }
    }

    context.func.signature = check::signature(target);
    let symbol = format!("{name}_check_weights");
    let check = module
        .declare_function(&symbol, Linkage::Export, &context.func.signature)
        .map_err(refused)?;
    let callee = module.declare_func_in_func(xxh64, &mut context.func);
    check::build(program, callee, target, &mut context.func);
    define(&mut module, check, &mut context, target).map_err(backend)?;

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
    define(&mut module, run, &mut context, target).map_err(backend)?;
    if let Some(test) = options.self_test {
        let expected = test.expected.iter().flat_map(|value| value.to_le_bytes()).collect();
        let symbol = format!("{name}_expected");
        let expected = constant(&mut module, &symbol, Linkage::Local, expected).map_err(backend)?;
        context.func.signature = self_test::signature(target);
        let symbol = format!("{name}_self_test");
        let id = module
            .declare_function(&symbol, Linkage::Export, &context.func.signature)
            .map_err(refused)?;
        let references = self_test::References {
            run: module.declare_func_in_func(run, &mut context.func),
            expected: module.declare_data_in_func(expected, &mut context.func),
        };
        self_test::build(program, test, &references, target, &mut context.func);
        define(&mut module, id, &mut context, target).map_err(backend)?;
    }
    if let Some(weights) = options.weights {
        constant(&mut module, &format!("{name}_weights"), Linkage::Export, weights.to_vec())
            .map_err(backend)?;
    }
    module.finish().emit().map_err(|e| backend(e.to_string()))
}

/// Data that nobody writes. Where there is none its name stands for a byte.
fn constant(
    module: &mut ObjectModule,
    symbol: &str,
    linkage: Linkage,
    mut bytes: Vec<u8>,
) -> Result<DataId, String> {
    let id = module.declare_data(symbol, linkage, false, false).map_err(|e| e.to_string())?;
    if bytes.is_empty() {
        bytes.push(0);
    }
    let mut data = DataDescription::new();
    data.define(bytes.into_boxed_slice());
    data.set_align(ALIGNMENT as u64);
    module.define_data(id, &data).map_err(|e| e.to_string())?;
    Ok(id)
}

/// Makes code of a function and leaves the context empty.
fn define(
    module: &mut ObjectModule,
    id: FuncId,
    context: &mut Context,
    target: &Target,
) -> Result<(), String> {
    cranelift_codegen::verify_function(&context.func, target.isa()).map_err(|e| e.to_string())?;
    module.define_function(id, context).map_err(|e| e.to_string())?;
    module.clear_context(context);
    Ok(())
}
