//! From arguments to a net that runs: what every command has in common.

use super::args::{Common, CompileArgs, DeviceArgs, EmitterArg, WeightsArg};
use super::device::{self, Place};
use super::failure::Failure;
use super::{memory, progress, tuning};
use crate::algorithm::{Algorithm, Math, Override};
use crate::compile::{self, Compiled, Emitter, Options, Prepared};
use crate::diagnostic::did_you_mean;
use crate::graph::build::{self, BuildOptions};
use crate::graph::{Graph, Op};
use crate::session::Session;
use crate::spec::{self, Spec};
use crate::weights::{self, Checked, TensorSource};
use alexc_codegen::ir::DType;
use alexc_codegen::target::Target;
use alexc_runtime::cpu::Level;
use alexc_runtime::module::Module;
use alexc_runtime::network::Network;
use alexc_runtime::parallel::{MAX_THREADS, default_threads};
use alexc_runtime::weights::{InFile, Weights};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads a spec and builds its graph.
pub(super) fn graph(path: &Path, common: &Common) -> Result<(Spec, Graph), Failure> {
    if is_module(path) {
        return Err(Failure::Input(format!(
            "{} is a compiled module, which only run, bench and profile take; give the spec that it \
             was built from",
            path.display()
        )));
    }
    let start = Instant::now();
    let text = spec::read(path)?;
    let sets = common.sets.iter().filter(|set| !is_algorithm(set)).cloned().collect();
    let options = BuildOptions { batch: common.batch, sets };
    let (spec, graph) = build::load(&path.display().to_string(), &text, &options)?;
    let layers = spec.layers.len();
    log::info!("spec    {:9.3} ms, {layers} layers", milliseconds(start.elapsed()));
    // What commands that do not compile would pass over.
    for Override { layer, .. } in overrides(common)? {
        let names = spec.layers.iter().map(|l| l.name.value.as_str());
        if names.clone().all(|name| name != layer) {
            let hint = did_you_mean(&layer, names)
                .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            return Err(Failure::Usage(format!(
                "--set {layer}.algorithm: the net has no such layer{hint}"
            )));
        }
    }
    Ok((spec, graph))
}

/// By the file's beginning, not by its name. What cannot be read is left to the reader of specs.
pub(super) fn is_module(path: &Path) -> bool {
    let mut beginning = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut beginning));
    read.is_ok() && Module::recognises(&beginning)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The user's choices of algorithms.
fn overrides(common: &Common) -> Result<Vec<Override>, Failure> {
    let choice = |set: &String| {
        let (left, value) = set.split_once('=').unwrap_or((set, ""));
        let layer = left.strip_suffix(".algorithm").unwrap_or(left).to_owned();
        let algorithm: Algorithm =
            value.parse().map_err(|e| Failure::Usage(format!("--set {set}: {e}")))?;
        Ok(Override { layer, algorithm })
    };
    common.sets.iter().filter(|set| is_algorithm(set)).map(choice).collect()
}

/// `LAYER.algorithm=...` speaks to the compiler, not to the spec.
fn is_algorithm(set: &str) -> bool {
    set.split_once('=').is_some_and(|(left, _)| left.ends_with(".algorithm"))
}

/// Threads to use.
pub(super) fn threads(wish: Option<usize>) -> Result<usize, Failure> {
    match wish {
        Some(threads @ 1..=MAX_THREADS) => Ok(threads),
        Some(threads) => Err(Failure::Usage(format!(
            "--threads {threads}: it must be a number of threads from 1 to {MAX_THREADS}"
        ))),
        None => default_threads().map_err(|e| Failure::Usage(e.to_string())),
    }
}

/// Compiler options from arguments.
pub(super) fn options(
    common: &Common,
    args: &CompileArgs,
    triple: Option<&str>,
) -> Result<Options, Failure> {
    // Another machine's CPU is not known: the baseline, unless one is named.
    let cpu = if triple.is_some() && args.target_cpu == "native" {
        "generic"
    } else {
        args.target_cpu.as_str()
    };
    let mut options = Options::new(Target::new(triple, cpu)?);
    let level = options.target.level();
    options.emitter = match (args.emitter, level) {
        (None, _) => None,
        (Some(EmitterArg::Cranelift), _) => Some(Emitter::Cranelift),
        (Some(EmitterArg::X86), Some(level)) if level >= Level::V3 => Some(Emitter::X86(level)),
        (Some(EmitterArg::X86), _) => {
            return Err(Failure::Usage(format!(
                "--emitter x86 makes code for x86-64-v3 and v4; the target is {}",
                options.target
            )));
        }
    };
    options.fuse = !args.no_fusion;
    options.math = args.math.into();
    options.weights_dtype = weights_dtype(args);
    options.overrides = overrides(common)?;
    options.threads = threads(None)?;
    Ok(options)
}

/// What `--weights-dtype` says.
pub(super) fn weights_dtype(args: &CompileArgs) -> DType {
    match args.weights_dtype {
        WeightsArg::F32 => DType::F32,
        WeightsArg::F16 => DType::F16,
        WeightsArg::Bf16 => DType::Bf16,
        WeightsArg::Int8 => DType::I8,
    }
}

/// Removes a softmax that ends the net.
pub(super) fn without_softmax(graph: &mut Graph) {
    let last = graph.nodes.last();
    if let Some(node) = last.filter(|n| n.op == Op::Softmax && n.output == graph.output) {
        graph.output = node.inputs[0];
        let removed = node.output.index();
        graph.nodes.pop();
        if removed + 1 == graph.values.len() {
            graph.values.pop();
        }
    }
}

/// What made a net's code, and for what.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// `cpu`, or an OpenCL device as in `opencl:0`.
    pub(super) device: String,
    /// The machine, or the device's name.
    pub(super) target: String,
    /// Which emitter.
    pub(super) emitter: String,
    /// How it rounds, see [`Math::name`].
    pub(super) math: &'static str,
    /// This machine's processor runs it, whatever the device is called.
    pub(super) on_cpu: bool,
}

/// A net that can run, with what led to it.
pub(super) struct Loaded {
    pub(super) net: Prepared,
    pub(super) made: Made,
    pub(super) source: Checked,
    pub(super) session: Box<dyn Session>,
    pub(super) threads: usize,
    pub(super) compile_time: Duration,
    pub(super) weights_time: Duration,
}

/// Compiles a graph, packs its weights and makes it ready to run, perhaps only `once`.
pub(super) fn net(
    graph: &Graph,
    weights: &str,
    common: &Common,
    compile: &CompileArgs,
    device: &DeviceArgs,
    once: bool,
) -> Result<Loaded, Failure> {
    let place = device::find(&device.device)?;
    let threads = threads(device.threads)?;
    let source = weights::open(weights)?.check(&graph.tensors())?;
    let job = Job { graph, source, threads, common, compile, once };
    match place {
        Place::Cpu => on_cpu(job),
        #[cfg(feature = "opencl")]
        Place::OpenCl(devices) => super::opencl::load(job, &devices),
    }
}

/// What is to be compiled and loaded.
pub(super) struct Job<'a> {
    pub(super) graph: &'a Graph,
    pub(super) source: Checked,
    pub(super) threads: usize,
    pub(super) common: &'a Common,
    pub(super) compile: &'a CompileArgs,
    /// It will run one time: weights that can stay in their file need not be packed.
    pub(super) once: bool,
}

/// Machine code has no schedule to choose, and processors no tensor cores.
pub(super) fn no_schedule(args: &CompileArgs) -> Result<(), Failure> {
    no_tensor_cores(args)?;
    if args.schedule.is_some() {
        let what = "--schedule shapes OpenCL kernels; leave it out for code on the CPU";
        return Err(Failure::Usage(what.to_owned()));
    }
    Ok(())
}

/// Refuses what speaks of machine code alone, where OpenCL C is made.
pub(super) fn for_opencl(args: &CompileArgs, triple: Option<&str>) -> Result<(), Failure> {
    let flags = [
        (args.emitter.is_some(), "--emitter"),
        (args.target_cpu != "native", "--target-cpu"),
        (triple.is_some(), "--target"),
    ];
    match flags.into_iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, flag)) => Err(Failure::Usage(format!(
            "{flag} is for code on the CPU; an OpenCL device's driver makes its own"
        ))),
    }
}

/// Code that runs on a processor computes in f32.
pub(super) fn no_tensor_cores(args: &CompileArgs) -> Result<(), Failure> {
    let math = Math::from(args.math);
    if math.wants_tensor_cores() {
        return Err(Failure::Usage(format!(
            "--math {} is for GPUs with tensor cores (--device opencl); a processor computes in \
             f32: leave it out",
            math.name()
        )));
    }
    Ok(())
}

fn on_cpu(job: Job<'_>) -> Result<Loaded, Failure> {
    no_schedule(job.compile)?;
    let math = Math::from(job.compile.math).name();
    let (compiled, compile_time) = compiled(&job)?;
    let Job { source, threads, common, .. } = job;
    let start = Instant::now();
    let in_file = compile::in_file(&compiled, &source);
    let weights = pack(&compiled, &source, &in_file, threads, common.quiet)?;
    let weights_time = start.elapsed();
    let Compiled { net, program, target, emitter, .. } = compiled;
    let network = Arc::new(Network::with_weights_in_files(program, weights, in_file)?);
    let session = Box::new(alexc_runtime::session::Session::new(&network, threads)?);
    let (device, emitter) = ("cpu".to_owned(), emitter.to_string());
    let made = Made { device, target, emitter, math, on_cpu: true };
    Ok(Loaded { net, made, source, session, threads, compile_time, weights_time })
}

/// Compiles a graph for this machine's CPU and packs its weights.
pub(super) fn with_weights(job: Job<'_>) -> Result<(Compiled, Weights), Failure> {
    let (compiled, _) = compiled(&job)?;
    let weights = pack(&compiled, &job.source, &[], job.threads, job.common.quiet)?;
    Ok((compiled, weights))
}

/// Compiles a graph for this machine's CPU, and how long that took.
fn compiled(job: &Job<'_>) -> Result<(Compiled, Duration), Failure> {
    let &Job { graph, ref source, threads, common, compile, once } = job;
    let mut options = tuning::options(graph, common, compile, None, threads)?;
    if once {
        let tensors = graph.tensors().into_iter();
        let in_file = tensors.filter(|tensor| source.in_file(tensor).is_some());
        options.in_file = in_file.map(|tensor| tensor.name.clone()).collect();
    }
    let start = Instant::now();
    let compiled = compile::compile(graph, &options)?;
    let compile_time = start.elapsed();
    memory::check_program(&compiled.program, threads)?;
    Ok((compiled, compile_time))
}

/// Packs the weights of a compiled net, but for those that kernels read `in_file`, and shows how far
/// it is.
pub(super) fn pack(
    net: &Prepared,
    source: &Checked,
    in_file: &[InFile],
    threads: usize,
    quiet: bool,
) -> Result<Weights, Failure> {
    let kept: usize = in_file.iter().map(|part| part.len_bytes).sum();
    let bytes = net.plan.weights_bytes - kept;
    let bar = progress::bytes("packing weights", bytes as u64, quiet);
    let start = Instant::now();
    let packed = compile::pack_rest(net, source, in_file, threads, |bytes| bar.inc(bytes as u64))?;
    bar.finish_and_clear();
    let kept = match kept {
        0 => String::new(),
        kept => format!("; {kept} bytes are read in their file"),
    };
    let time = milliseconds(start.elapsed());
    log::info!("pack    {time:9.3} ms, {bytes} bytes of weights on {threads} threads{kept}");
    Ok(packed)
}

/// Class names of the spec, where it has any.
pub(super) fn labels(
    spec: &Spec,
    path: &Path,
    graph: &Graph,
) -> Result<Option<Vec<String>>, Failure> {
    let classes = graph.values[graph.output.index()].shape.per_image();
    Ok(spec::read_labels(spec, path, classes)?)
}
