//! A compiled net as a relocatable object for C's linker, and its headers.
//!
//! The object holds the same machine code that the JIT loads, under local symbols
//! (`NET_kernel_...`), perhaps of several programs for processors with more and more instructions,
//! and global functions: `NET_run` runs the steps one after another on the calling thread,
//! `NET_run_parallel` shares them out among an app's threads, `NET_check_weights` looks at a file
//! of packed weights before they are used, `NET_self_test` tells whether code and weights still do
//! what they did when they were made, `NET_preprocess` and `NET_label` are for what stands before
//! and behind a net. The object refers to nothing outside itself, writes nothing but the memory it
//! is given, and allocates nothing. The packed weights may lie in it, too.

mod archive;
mod check;
mod checksum;
mod control;
mod cpp;
mod cpu;
mod entry;
mod floats;
mod header;
mod labels;
mod memory;
mod preprocess;
mod self_test;
mod shares;

pub use archive::archive;
pub use cpp::cpp_header;
pub use header::header;
pub use memory::Memory;
pub use self_test::SelfTest;

use crate::target::Target;
use alexc_runtime::check::{ProgramError, check};
use alexc_runtime::cpu::{Arch, Feature};
use alexc_runtime::parallel::MAX_THREADS;
use alexc_runtime::preprocess::Preprocess;
use alexc_runtime::program::Program;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{
    FuncRef, Function, Signature, StackSlot, StackSlotData, StackSlotKind,
};
use cranelift_frontend::FunctionBuilder;
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleError, default_libcall_names,
};
use cranelift_object::{ObjectBuilder, ObjectModule};

/// Alignment in bytes that `NET_run` asks of workspace and weights: a cache line.
pub const ALIGNMENT: usize = 64;

/// The same net, compiled for other processors of the same family.
#[derive(Debug, Clone, Copy)]
pub struct Variant<'p> {
    /// The net.
    pub program: &'p Program,
    /// What its kernels were compiled for.
    pub target: &'p Target,
}

/// How the object is made.
#[derive(Debug, Clone)]
pub struct ObjectOptions<'w> {
    /// What the program's kernels were compiled for.
    pub target: Target,
    /// The same net for processors that have less, those that have least first. The best one for
    /// the processor at hand runs.
    pub lesser: Vec<Variant<'w>>,
    /// How a picture becomes the input, for `NET_preprocess`.
    pub preprocess: Option<&'w Preprocess>,
    /// Names of the classes, for `NET_label`.
    pub labels: &'w [String],
    /// The packed weights, where they shall lie in the object as `NET_weights`.
    pub weights: Option<&'w [u8]>,
    /// What `NET_self_test` expects with the weights that it is meant to be run with; without,
    /// there is no such function.
    pub self_test: Option<&'w SelfTest>,
}

impl<'w> ObjectOptions<'w> {
    /// Nothing but the code.
    pub fn new(target: Target) -> Self {
        ObjectOptions {
            target,
            lesser: Vec::new(),
            preprocess: None,
            labels: &[],
            weights: None,
            self_test: None,
        }
    }

    /// All variants, the one of the most able processors last.
    fn variants<'a>(&'a self, program: &'a Program) -> Vec<Variant<'a>> {
        let last = Variant { program, target: &self.target };
        self.lesser.iter().copied().chain([last]).collect()
    }

    /// What `NET_preprocess` does, where there is such a function.
    fn preprocess_of(&self, program: &Program) -> Option<&'w Preprocess> {
        self.preprocess.filter(|preprocess| preprocess::fits(preprocess, &program.input_dims))
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
    /// Variants of different nets, or weights packed in different ways.
    #[error("the code for {target} is not of the same net as that for other processors")]
    Variant {
        /// What the odd one is for.
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

/// What [`write()`] makes for others to use, as C spells it.
pub fn exports(program: &Program, options: &ObjectOptions<'_>) -> Vec<String> {
    let parts = [
        ("run", true),
        ("run_parallel", true),
        ("run_variant", true),
        ("variant", true),
        ("check_cpu", true),
        ("check_weights", true),
        ("check_weights_header", true),
        ("label", true),
        ("preprocess", options.preprocess_of(program).is_some()),
        ("self_test", options.self_test.is_some()),
        ("weights", options.weights.is_some()),
    ];
    let there = parts.iter().filter(|(_, there)| *there);
    there.map(|(part, _)| format!("{}_{part}", program.name)).collect()
}

/// Refuses what does not belong together.
fn refuse(program: &Program, options: &ObjectOptions<'_>) -> Result<(), ObjectError> {
    for Variant { program: other, target } in options.variants(program) {
        check(other)?;
        if other.arch != target.arch() {
            let (arch, target) = (other.arch, target.isa().triple().to_string());
            return Err(ObjectError::Arch { arch, target });
        }
        let same = other.weights_key == program.weights_key
            && other.weights_bytes == program.weights_bytes
            && other.input_dims == program.input_dims
            && other.output_dims == program.output_dims;
        if !same || target.isa().triple() != options.target.isa().triple() {
            return Err(ObjectError::Variant { target: target.to_string() });
        }
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
    Ok(())
}

/// Writes a program as an object file. The same program gives the same bytes.
pub fn write(program: &Program, options: &ObjectOptions<'_>) -> Result<Vec<u8>, ObjectError> {
    refuse(program, options)?;
    let triple = options.target.isa().triple();
    let backend = |reason: String| ObjectError::Backend { target: triple.to_string(), reason };
    Maker::new(&program.name, &options.target)
        .and_then(|maker| maker.make(program, options))
        .map_err(backend)
}

/// Puts functions and data into an object. What fails is Cranelift's to explain.
struct Maker<'n> {
    name: &'n str,
    module: ObjectModule,
    context: Context,
    /// Of all functions but the kernels: they run before anybody knows the processor.
    target: Target,
}

impl<'n> Maker<'n> {
    fn new(name: &'n str, target: &Target) -> Result<Self, String> {
        let target = target.baseline()?;
        let builder = ObjectBuilder::new(target.owned_isa(), name, default_libcall_names());
        let module = ObjectModule::new(builder.map_err(refused)?);
        Ok(Maker { name, module, context: Context::new(), target })
    }

    fn make(mut self, program: &Program, options: &ObjectOptions<'_>) -> Result<Vec<u8>, String> {
        use Linkage::{Export, Local};
        let memory = Memory::of(program, options);
        let variants = options.variants(program);
        let floats = self.float_settings()?;
        let shares: Vec<Vec<(FuncId, bool)>> = variants
            .iter()
            .map(|variant| self.shares(variant, variants.len() > 1, floats, &memory))
            .collect::<Result<_, _>>()?;

        let target = self.target.clone();
        let features: Vec<&[Feature]> =
            variants.iter().map(|variant| &variant.program.features[..]).collect();
        let signature = entry::returns_int(&target, &[]);
        let variant = match target.arch() {
            Arch::X86_64 => {
                let code = cpu::choose_x86(&features);
                self.finished("variant", Export, signature, 16, &code)?
            }
            // The code needs nothing beyond their baselines.
            Arch::Aarch64 | Arch::Riscv64 | Arch::OpenCl => {
                self.function("variant", Export, signature, |this, function| {
                    entry::build_constant(0, &this.target, function);
                })?
            }
        };
        let signature = entry::returns_int(&target, &[]);
        self.function("check_cpu", Export, signature, |this, function| {
            let variant = this.module.declare_func_in_func(variant, function);
            entry::build_check_cpu(variant, &this.target, function);
        })?;

        let xxh64 =
            self.function("xxh64", Local, checksum::signature(&target), |this, function| {
                checksum::build(&this.target, function);
            })?;
        let header = self.function(
            "check_weights_header",
            Export,
            check::signature(&target),
            |this, function| {
                let xxh64 = this.module.declare_func_in_func(xxh64, function);
                check::build_header(program, xxh64, &this.target, function);
            },
        )?;
        self.function("check_weights", Export, check::signature(&target), |this, function| {
            let [header, xxh64] =
                [header, xxh64].map(|id| this.module.declare_func_in_func(id, function));
            check::build(program, header, xxh64, &this.target, function);
        })?;

        let groups = |this: &mut Self, function: &mut Function| -> Vec<Vec<entry::Group>> {
            let mut group = |&(id, alone): &(FuncId, bool)| entry::Group {
                share: this.module.declare_func_in_func(id, function),
                alone,
            };
            shares.iter().map(|groups| groups.iter().map(&mut group).collect()).collect()
        };
        let signature = entry::variant_signature(&target);
        let run_variant = self.function("run_variant", Export, signature, |this, function| {
            let variants = groups(this, function);
            entry::build_run_variant(&variants, &memory, &this.target, function);
        })?;
        let run = self.function("run", Export, entry::signature(&target), |this, function| {
            let [variant, run_variant] =
                [variant, run_variant].map(|id| this.module.declare_func_in_func(id, function));
            entry::build_run(variant, run_variant, &this.target, function);
        })?;
        let signature = entry::parallel_signature(&target);
        self.function("run_parallel", Export, signature, |this, function| {
            let variant = this.module.declare_func_in_func(variant, function);
            let variants = groups(this, function);
            entry::build_run_parallel(variant, &variants, &memory, &this.target, function);
        })?;

        self.labels(options.labels)?;
        if let Some(preprocess) = options.preprocess_of(program) {
            self.preprocess(preprocess, &program.input_dims, floats)?;
        }
        if let Some(test) = options.self_test {
            let expected = test.expected.iter().flat_map(|value| value.to_le_bytes()).collect();
            let expected = self.constant("expected", Local, expected)?;
            let signature = entry::signature(&target);
            self.function("self_test", Export, signature, |this, function| {
                let references = self_test::References {
                    run: this.module.declare_func_in_func(run, function),
                    expected: this.module.declare_data_in_func(expected, function),
                };
                self_test::build(program, test, &references, &this.target, function);
            })?;
        }
        if let Some(weights) = options.weights {
            self.constant("weights", Export, weights.to_vec())?;
        }
        self.module.finish().emit().map_err(|e| e.to_string())
    }

    /// A variant's kernels, and a function for the steps between two barriers, with whether these
    /// are for one thread alone.
    fn shares(
        &mut self,
        variant: &Variant<'_>,
        several: bool,
        floats: Option<(FuncId, FuncId)>,
        memory: &Memory,
    ) -> Result<Vec<(FuncId, bool)>, String> {
        let program = variant.program;
        let prefix = match variant.target.level() {
            Some(level) if several => format!("{}_", level.name().replace('-', "_")),
            _ => String::new(),
        };
        let mut kernels = Vec::with_capacity(program.kernels.len());
        for kernel in &program.kernels {
            let symbol = format!("{prefix}kernel_{}", kernel.name);
            let (signature, align) = (self.target.kernel_signature(), kernel.align as u64);
            kernels.push(self.finished(
                &symbol,
                Linkage::Local,
                signature,
                align,
                &kernel.bytes,
            )?);
        }
        let mut shares = Vec::new();
        for (index, range) in shares::groups(program).into_iter().enumerate() {
            let steps = &program.steps[range];
            let symbol = format!("{prefix}share_{index}");
            let signature = shares::signature(&self.target);
            let id = self.function(&symbol, Linkage::Local, signature, |this, function| {
                let kernels = kernels.iter();
                let callees = shares::Callees {
                    kernels: kernels
                        .map(|&id| this.module.declare_func_in_func(id, function))
                        .collect(),
                    floats: this.declare_floats(floats, function),
                };
                shares::build(steps, &callees, memory, &this.target, function);
            })?;
            shares.push((id, steps.iter().all(|step| step.extent <= 1)));
        }
        Ok(shares)
    }

    /// Functions that save and load the floating-point settings.
    fn float_settings(&mut self) -> Result<Option<(FuncId, FuncId)>, String> {
        let Some(settings) = floats::Settings::of(&self.target) else { return Ok(None) };
        let mut define = |what, bytes| {
            let signature = floats::Settings::signature(&self.target);
            self.finished(what, Linkage::Local, signature, 16, bytes)
        };
        let save = define("save_float_settings", settings.save)?;
        let load = define("load_float_settings", settings.load)?;
        Ok(Some((save, load)))
    }

    fn declare_floats(
        &mut self,
        floats: Option<(FuncId, FuncId)>,
        function: &mut Function,
    ) -> Option<(floats::Settings, FuncRef, FuncRef)> {
        let (save, load) = floats?;
        let [save, load] = [save, load].map(|id| self.module.declare_func_in_func(id, function));
        Some((floats::Settings::of(&self.target)?, save, load))
    }

    fn labels(&mut self, labels: &[String]) -> Result<(), String> {
        let table = self.constant("labels", Linkage::Local, labels::table(labels))?;
        let signature = labels::signature(&self.target);
        self.function("label", Linkage::Export, signature, |this, function| {
            let table = this.module.declare_data_in_func(table, function);
            labels::build(labels.len(), table, &this.target, function);
        })?;
        Ok(())
    }

    fn preprocess(
        &mut self,
        preprocess: &Preprocess,
        input_dims: &[usize],
        floats: Option<(FuncId, FuncId)>,
    ) -> Result<(), String> {
        let signature = preprocess::taps_signature(&self.target);
        let taps = self.function("taps", Linkage::Local, signature, |this, function| {
            preprocess::build_taps(&this.target, function);
        })?;
        let signature = preprocess::signature(&self.target);
        self.function("preprocess", Linkage::Export, signature, |this, function| {
            let callees = preprocess::Callees {
                taps: this.module.declare_func_in_func(taps, function),
                floats: this.declare_floats(floats, function),
            };
            preprocess::build(preprocess, input_dims, &callees, &this.target, function);
        })?;
        Ok(())
    }

    /// A function that is machine code already.
    fn finished(
        &mut self,
        what: &str,
        linkage: Linkage,
        signature: Signature,
        align: u64,
        bytes: &[u8],
    ) -> Result<FuncId, String> {
        let symbol = format!("{}_{what}", self.name);
        let id = self.module.declare_function(&symbol, linkage, &signature).map_err(refused)?;
        self.module.define_function_bytes(id, align, bytes, &[]).map_err(refused)?;
        Ok(id)
    }

    /// A function that `build` writes.
    fn function(
        &mut self,
        what: &str,
        linkage: Linkage,
        signature: Signature,
        build: impl FnOnce(&mut Self, &mut Function),
    ) -> Result<FuncId, String> {
        let symbol = format!("{}_{what}", self.name);
        let id = self.module.declare_function(&symbol, linkage, &signature).map_err(refused)?;
        let mut function = Function::new();
        function.signature = signature;
        build(self, &mut function);
        cranelift_codegen::verify_function(&function, self.target.isa())
            .map_err(|e| e.to_string())?;
        self.context.func = function;
        self.module.define_function(id, &mut self.context).map_err(refused)?;
        self.module.clear_context(&mut self.context);
        Ok(id)
    }

    /// Data that nobody writes. Where there is none its name stands for a byte.
    fn constant(
        &mut self,
        what: &str,
        linkage: Linkage,
        mut bytes: Vec<u8>,
    ) -> Result<DataId, String> {
        let symbol = format!("{}_{what}", self.name);
        let id = self.module.declare_data(&symbol, linkage, false, false).map_err(refused)?;
        if bytes.is_empty() {
            bytes.push(0);
        }
        let mut data = DataDescription::new();
        data.define(bytes.into_boxed_slice());
        data.set_align(ALIGNMENT as u64);
        self.module.define_data(id, &data).map_err(refused)?;
        Ok(id)
    }
}

fn refused(error: ModuleError) -> String {
    error.to_string()
}

fn stack_slot(b: &mut FunctionBuilder<'_>, bytes: u32) -> StackSlot {
    b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3))
}
