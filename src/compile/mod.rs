//! The driver: a checked graph through passes, layouts, lowering, plan and emitters to a program
//! that the runtime loads. Every stage's result stays in [`Compiled`] for whoever wants to look.

mod emit;
pub mod opencl;
mod packing;
mod view;

pub use emit::{EmitError, Emitter, KernelText, emit};
pub use packing::{PackError, in_file, pack, pack_rest};

use crate::algorithm::{self, Algorithm, AlgorithmError, Math, Override};
use crate::graph::Graph;
use crate::layout::{self, Layout};
use crate::lower::{self, Lowered, Vectors};
use crate::pass::{self, PassOptions};
use crate::plan::{self, Plan, PlanError};
use alexc_codegen::ir::{DType, Kernel};
use alexc_codegen::opencl::OpenClError;
use alexc_codegen::target::Target;
use alexc_codegen::verify::{Verified, VerifyError, verify};
use alexc_runtime::cpu::{Feature, Level};
use alexc_runtime::program::{Program, Step};
use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::{Duration, Instant};

/// How to compile.
#[derive(Debug, Clone)]
pub struct Options {
    /// The machine to make code for.
    pub target: Target,
    /// Which emitter makes it; by default the widest that the target allows.
    pub emitter: Option<Emitter>,
    /// Merge layers into the kernels of those before them.
    pub fuse: bool,
    /// Freedom with rounding.
    pub math: Math,
    /// The user's choices of algorithms.
    pub overrides: Vec<Override>,
    /// What was measured to be the best here, see [`crate::tune`]; `overrides` come first.
    pub tuned: Vec<Override>,
    /// Type of the weights in memory: of linear layers, and in F16 also of direct convolutions
    /// at batch 1.
    pub weights_dtype: DType,
    /// Tensors whose file has them as f32 of this machine: linear layers read them there, and bring
    /// a part at a time into the order of packed ones. For nets that run once: packing takes many
    /// times as long as a run.
    pub in_file: BTreeSet<String>,
    /// Two devices share each kernel's work.
    pub halves: bool,
    /// Keep what `dump` shows of Cranelift's work.
    pub texts: bool,
    /// Threads that kernels are emitted on.
    pub threads: usize,
}

impl Options {
    /// Everything on, for `target`.
    pub fn new(target: Target) -> Self {
        Options {
            target,
            emitter: None,
            fuse: true,
            math: Math::default(),
            overrides: Vec::new(),
            tuned: Vec::new(),
            weights_dtype: DType::F32,
            in_file: BTreeSet::new(),
            halves: false,
            texts: false,
            threads: 1,
        }
    }

    /// What will make the code.
    pub fn emitter(&self) -> Emitter {
        self.emitter.unwrap_or(match self.target.level() {
            Some(level) if level >= Level::V3 => Emitter::X86(level),
            _ => Emitter::Cranelift,
        })
    }
}

/// Why a checked graph did not compile. All but a wrong choice of the user are mistakes of alexc.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A pass left a graph that does not verify.
    #[error(transparent)]
    Pass(#[from] pass::PassError),
    /// The user chose what cannot be.
    #[error(transparent)]
    Algorithm(#[from] AlgorithmError),
    /// The plan does not hold.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A kernel may leave its buffers, or is malformed.
    #[error(
        "kernel {kernel} does not verify: {}",
        .errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Kernel {
        /// Its name.
        kernel: String,
        /// All that is wrong.
        errors: Vec<VerifyError>,
    },
    /// No machine code could be made.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The net could not be shared out.
    #[error(transparent)]
    Split(#[from] crate::split::SplitError),
    /// No OpenCL C could be made.
    #[error(transparent)]
    OpenCl(#[from] OpenClError),
}

/// Time that each stage took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Passes over the graph.
    pub passes: Duration,
    /// Layouts, lowering, and the plan.
    pub lower: Duration,
    /// Proof of the kernels.
    pub verify: Duration,
    /// Machine code.
    pub emit: Duration,
}

impl Timings {
    /// All stages.
    pub fn total(&self) -> Duration {
        self.passes + self.lower + self.verify + self.emit
    }
}

/// A net up to its proved kernels, the same for every emitter.
#[derive(Debug)]
pub struct Prepared {
    /// The graph after the passes.
    pub fused: Graph,
    /// How each of its nodes is computed.
    pub algorithms: Vec<Algorithm>,
    /// The nodes whose algorithm comes from [`Options::tuned`].
    pub tuned: Vec<String>,
    /// How its values lie in memory.
    pub layouts: Vec<Layout>,
    /// Calls of kernels.
    pub lowered: Lowered,
    /// Where everything lies.
    pub plan: Plan,
    /// The proved kernels, each once.
    pub kernels: Vec<Verified>,
    /// The calls of the kernels, bound to memory.
    pub steps: Vec<Step>,
    /// How long it took.
    pub timings: Timings,
}

/// A net with every stage's result.
#[derive(Debug)]
pub struct Compiled {
    /// The stages in front of the emitter.
    pub net: Prepared,
    /// What `dump` shows of the machine code of each kernel; empty unless asked for.
    pub texts: Vec<KernelText>,
    /// What the runtime loads.
    pub program: Program,
    /// The machine that the code is for.
    pub target: String,
    /// Which emitter made the code.
    pub emitter: Emitter,
}

impl Deref for Compiled {
    type Target = Prepared;
    fn deref(&self) -> &Prepared {
        &self.net
    }
}

/// The graph after the passes.
pub fn fuse(graph: &Graph, options: &Options) -> Result<Graph, CompileError> {
    Ok(pass::run(graph.clone(), &PassOptions { fuse: options.fuse, ..Default::default() })?)
}

/// What kernels are shaped for.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A CPU's vector registers.
    Vectors(Vectors),
    /// A GPU's work-groups.
    Groups(lower::gpu::Parameters),
}

/// Everything that comes before machine code or OpenCL C, for a checked graph.
pub fn prepare(graph: &Graph, options: &Options, shape: Shape) -> Result<Prepared, CompileError> {
    let mut timings = Timings::default();
    let start = Instant::now();
    let fused = fuse(graph, options)?;
    timings.passes = start.elapsed();
    told("passes", timings.passes, format_args!("{} nodes", fused.nodes.len()));

    let start = Instant::now();
    let dtype = options.weights_dtype;
    let (algorithms, layouts, lowered) = match shape {
        Shape::Vectors(vectors) => {
            let choices = [&options.overrides[..], &options.tuned].concat();
            let algorithms =
                algorithm::choose(&fused, options.math, &choices, dtype, !options.halves)?;
            let layouts = layout::assign(&fused, &algorithms);
            let (halves, in_file) = (options.halves, &options.in_file);
            let lowered =
                lower::lower(&fused, &algorithms, &layouts, vectors, dtype, halves, in_file);
            (algorithms, layouts, lowered)
        }
        Shape::Groups(parameters) => {
            // What was measured on a CPU says nothing about GPUs.
            let chosen = &options.overrides;
            let algorithms = lower::gpu::choose(&fused, options.math, chosen, &parameters)?;
            let layouts = layout::dense(&fused);
            let lowered = lower::gpu::lower(&fused, &algorithms, &layouts, dtype, &parameters);
            (algorithms, layouts, lowered)
        }
    };
    let plan = plan::plan(&fused, &lowered, &layouts)?;
    let bound = plan::bind(&lowered, &plan)?;
    timings.lower = start.elapsed();
    let arena = plan.arena_bytes;
    told("lower", timings.lower, format_args!("{} calls, arena {arena} bytes", bound.steps.len()));
    for (node, algorithm) in fused.nodes.iter().zip(&algorithms) {
        log::debug!("{}: {algorithm:?}, of {}", node.name, node.sources.join(", "));
    }

    let start = Instant::now();
    let kernels: Vec<Verified> = bound.kernels.into_iter().map(proved).collect::<Result<_, _>>()?;
    timings.verify = start.elapsed();
    told("verify", timings.verify, format_args!("{} kernels", kernels.len()));
    let tuned = match shape {
        Shape::Vectors(_) => &options.tuned[..],
        Shape::Groups(_) => &[],
    };
    let tuned = tuned
        .iter()
        .map(|choice| choice.layer.clone())
        .filter(|layer| options.overrides.iter().all(|o| o.layer != *layer))
        .collect();
    let steps = bound.steps;
    Ok(Prepared { fused, algorithms, tuned, layouts, lowered, plan, kernels, steps, timings })
}

/// Compiles a graph that has been checked.
pub fn compile(graph: &Graph, options: &Options) -> Result<Compiled, CompileError> {
    let emitter = options.emitter();
    let mut net = prepare(graph, options, Shape::Vectors(emitter.vectors()))?;

    let start = Instant::now();
    let emitted = emit::emit_all(&net.kernels, emitter, options)?;
    net.timings.emit = start.elapsed();
    let bytes: usize = emitted.iter().map(|(code, _)| code.bytes.len()).sum();
    told("emit", net.timings.emit, format_args!("{bytes} bytes of code by {emitter}"));
    for (code, _) in &emitted {
        log::debug!("kernel {}: {} bytes of code", code.name, code.bytes.len());
    }
    let (codes, texts) = emitted.into_iter().unzip();
    let program = Program {
        name: identifier(&net.fused.name),
        arch: options.target.arch(),
        features: emitter.features(&options.target),
        kernels: codes,
        steps: net.steps.clone(),
        input_dims: net.dims(net.fused.input),
        output_dims: net.dims(net.fused.output),
        arena_bytes: net.plan.arena_bytes,
        weights_bytes: net.plan.weights_bytes,
        local_bytes: net.plan.local_bytes,
        weights_key: net.weights_key(),
    };
    Ok(Compiled { net, texts, program, target: options.target.to_string(), emitter })
}

fn told(stage: &str, time: Duration, what: std::fmt::Arguments<'_>) {
    log::info!("{stage:7} {:9.3} ms, {what}", time.as_secs_f64() * 1e3);
}

fn proved(kernel: Kernel) -> Result<Verified, CompileError> {
    let name = kernel.name.clone();
    verify(kernel).map_err(|errors| CompileError::Kernel { kernel: name, errors })
}

impl Emitter {
    /// What its code needs of the processor beyond the baseline.
    pub fn features(self, target: &Target) -> Vec<Feature> {
        let level = match (self, target.level()) {
            (Emitter::X86(level), _) => level,
            // Cranelift makes nothing of AVX-512 here.
            (Emitter::Cranelift, Some(level)) => level.min(Level::V3),
            (Emitter::Cranelift, None) => return Vec::new(),
        };
        level.features().to_vec()
    }

    /// The registers that lowerings tile for.
    pub fn vectors(self) -> Vectors {
        match self {
            Emitter::Cranelift => Vectors::SSE,
            Emitter::X86(level) if level >= Level::V4 => Vectors { lanes: 16, registers: 32 },
            Emitter::X86(_) => Vectors { lanes: 8, registers: 16 },
        }
    }
}

/// A name as a C identifier: other characters become `_`.
pub fn identifier(name: &str) -> String {
    let mut result: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if result.is_empty() || result.starts_with(|c: char| c.is_ascii_digit()) {
        result.insert(0, '_');
    }
    result
}
