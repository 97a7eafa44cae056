//! The arguments as clap reads them. Their meaning is given by the commands.

use crate::artifact::Kind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// A static-graph compiler for convolutional nets of AlexNet's family.
#[derive(Debug, Parser)]
#[command(name = "alexc", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify every size of a spec and print its layers: parameters, FLOPs, memory
    Check(CheckArgs),
    /// Run a net on an input
    Run(RunArgs),
    /// Make a library that any program can link, or a module that the runtime loads
    Build(BuildArgs),
    /// Print what a stage of the compiler made
    Dump(DumpArgs),
    /// Hold the compiled net against the reference executor, layer by layer
    Compare(CompareArgs),
    /// Measure the time of a run
    Bench(BenchArgs),
    /// Measure every layer beside what this machine can do at most
    Profile(ProfileArgs),
    /// List what nets can run on here
    Devices(DevicesArgs),
    /// List or remove what --tune has kept, and programs built for OpenCL devices
    Cache(CacheArgs),
}

impl Command {
    /// What all commands on nets take.
    fn common(&self) -> Option<&Common> {
        match self {
            Command::Check(args) => Some(&args.common),
            Command::Run(args) => Some(&args.common),
            Command::Build(args) => Some(&args.common),
            Command::Dump(args) => Some(&args.common),
            Command::Compare(args) => Some(&args.common),
            Command::Bench(args) => Some(&args.common),
            Command::Profile(args) => Some(&args.common),
            Command::Devices(_) | Command::Cache(_) => None,
        }
    }

    /// Errors, too, go out as JSON.
    pub fn json(&self) -> bool {
        match self {
            Command::Devices(args) => args.json,
            Command::Cache(args) => args.json,
            _ => self.common().is_some_and(|common| common.json),
        }
    }

    /// The compiler tells about its work.
    pub fn verbose(&self) -> bool {
        self.common().is_some_and(|common| common.verbose)
    }
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Replaces the spec's batch size
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch: Option<usize>,
    /// Changes a key of a layer, as in --set fc3.out_features=10; may be given several times
    #[arg(long = "set", value_name = "LAYER.KEY=VALUE", value_parser = change)]
    pub sets: Vec<String>,
    /// Print one JSON document on stdout and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Print less
    #[arg(short, long)]
    pub quiet: bool,
    /// Tell on stderr how long every stage takes; ALEXC_LOG=debug tells more
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
}

/// How a net is compiled.
#[derive(Debug, Clone, Args)]
pub struct CompileArgs {
    /// `fast` may use Winograd's method, `strict` computes by definition in a fixed order; `tf32`
    /// and `f16` round what is multiplied, for the tensor cores of OpenCL devices that have them
    #[arg(long, value_enum, default_value_t = MathArg::Fast)]
    pub math: MathArg,
    /// Type of the weights of linear layers in memory; f16 also of convolutions at
    /// batch 1 that wait for theirs
    #[arg(long, value_enum, default_value_t = WeightsArg::F32)]
    pub weights_dtype: WeightsArg,
    /// Measure which algorithm suits each convolution best, or take what was measured before
    #[arg(long)]
    pub tune: bool,
    /// Run every layer by itself
    #[arg(long)]
    pub no_fusion: bool,
    /// native, x86-64-v2, x86-64-v3, x86-64-v4, or generic; `build` takes a list of them
    #[arg(long, value_name = "CPU", default_value = "native")]
    pub target_cpu: String,
    /// Which emitter makes the machine code; by default the widest that the CPU allows
    #[arg(long, value_enum)]
    pub emitter: Option<EmitterArg>,
    /// What OpenCL kernels are shaped for; by default what the device is
    #[arg(long, value_enum)]
    pub schedule: Option<ScheduleArg>,
}

/// Where a net runs.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// Where to run: cpu, opencl, opencl:NUMBER or opencl:PART-OF-NAME, see `alexc devices`; two
    /// OpenCL devices, joined by a comma, share a net
    #[arg(long, env = "ALEXC_DEVICE", default_value = "cpu")]
    pub device: String,
    /// Threads; by default ALEXC_NUM_THREADS or the number of cores
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// `--schedule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    /// Vectors, one work-item a tile.
    Cpu,
    /// Work-groups that share memory.
    Gpu,
}

impl From<ScheduleArg> for crate::compile::opencl::Schedule {
    fn from(arg: ScheduleArg) -> Self {
        match arg {
            ScheduleArg::Cpu => Self::Cpu,
            ScheduleArg::Gpu => Self::Gpu,
        }
    }
}

/// `--math`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MathArg {
    /// Winograd where it is faster.
    Fast,
    /// By definition.
    Strict,
    /// Operands of 11 bits.
    Tf32,
    /// Operands in IEEE binary16.
    F16,
}

impl From<MathArg> for crate::algorithm::Math {
    fn from(arg: MathArg) -> Self {
        match arg {
            MathArg::Fast => Self::Fast,
            MathArg::Strict => Self::Strict,
            MathArg::Tf32 => Self::Tf32,
            MathArg::F16 => Self::F16,
        }
    }
}

/// `--weights-dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    /// As they are.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of f32.
    Bf16,
    /// 8-bit integers with a scale for each output.
    Int8,
}

/// `--emitter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmitterArg {
    /// 128-bit vectors on every target.
    Cranelift,
    /// AVX2 or AVX-512.
    X86,
}

/// A number of at least 1.
fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number of at least 1 is wanted".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// Only the form is checked here; what it says is checked with the spec.
fn change(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("a change is LAYER.KEY=VALUE, such as conv1.stride=2".to_owned()),
    }
}

/// `alexc check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The net: a .yaml spec
    pub spec: PathBuf,
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// See [`Common`].
    #[command(flatten)]
    pub common: Common,
    /// See [`DeviceArgs`].
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `alexc run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The net: a .yaml spec, or a .alexc module with its weights beside it
    pub spec: PathBuf,
    /// Trained weights as .safetensors, or random:SEED for a trial; of a module its packed weights,
    /// where they lie elsewhere
    #[arg(long, value_name = "FILE|random:SEED")]
    pub weights: Option<String>,
    /// float32 .npy of the input's shape, or a picture (.png, .jpg)
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Where to write the output as .npy
    #[arg(long, short, value_name = "FILE.npy")]
    pub output: Option<PathBuf>,
    /// How many of the most likely classes to print
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub topk: usize,
    /// Stop before a softmax that ends the net
    #[arg(long)]
    pub logits: bool,
    /// See [`Common`].
    #[command(flatten)]
    pub common: Common,
    /// See [`CompileArgs`].
    #[command(flatten)]
    pub compile: CompileArgs,
    /// See [`DeviceArgs`].
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `alexc build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The net: a .yaml spec
    pub spec: PathBuf,
    /// Trained weights as .safetensors, or random:SEED; without them all but the weights is made
    #[arg(long, value_name = "FILE|random:SEED")]
    pub weights: Option<String>,
    /// The folder to write into
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// What to write; by default staticlib,header,manifest, and weights where they are given
    #[arg(long, value_enum, value_delimiter = ',')]
    pub emit: Vec<Kind>,
    /// Put the weights into object and library, instead of into a file to be mapped
    #[arg(long, requires = "weights")]
    pub embed_weights: bool,
    /// Make code for another machine, such as aarch64-unknown-linux-gnu
    #[arg(long, value_name = "TRIPLE")]
    pub target: Option<String>,
    /// Also write what every stage made, as numbered text files
    #[arg(long)]
    pub dumps: bool,
    /// Stop before a softmax that ends the net
    #[arg(long)]
    pub logits: bool,
    /// See [`Common`].
    #[command(flatten)]
    pub common: Common,
    /// See [`CompileArgs`].
    #[command(flatten)]
    pub compile: CompileArgs,
}

/// `alexc dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The net: a .yaml spec
    pub spec: PathBuf,
    /// Which stage
    #[arg(long, value_enum)]
    pub stage: Stage,
    /// Only what belongs to this layer
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Make code for another machine, such as aarch64-unknown-linux-gnu
    #[arg(long, value_name = "TRIPLE")]
    pub target: Option<String>,
    /// See [`Common`].
    #[command(flatten)]
    pub common: Common,
    /// See [`CompileArgs`].
    #[command(flatten)]
    pub compile: CompileArgs,
    /// See [`DeviceArgs`].
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `--stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The spec as it was read.
    Spec,
    /// The graph with all shapes.
    Graph,
    /// The graph after the passes, with algorithms and layouts.
    Fused,
    /// Memory.
    Plan,
    /// Loop nests.
    Kernel,
    /// Cranelift's IR.
    Clif,
    /// Machine code.
    Asm,
    /// OpenCL C, as for a CPU with 256-bit vectors or, with --schedule gpu, for a large GPU.
    Opencl,
    /// What each kernel takes on a GPU at least; nothing of it is measured.
    Estimate,
}

/// `alexc compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The net: a .yaml spec
    pub spec: PathBuf,
    /// Weights as .safetensors, or random:SEED
    #[arg(long, value_name = "FILE|random:SEED", default_value = "random:1")]
    pub weights: String,
    /// Input as .npy or picture; by default random numbers in -1..1
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Also tell how many images are named rightly, with narrower weights beside f32. The file has
    /// the number of each image's class, one a line; --input has as many images, as .npy or as the
    /// array `input` of a .npz, which run by batches
    #[arg(long, value_name = "FILE", requires = "input")]
    pub labels: Option<PathBuf>,
    /// Compare with the arrays of a file instead of the reference executor
    #[arg(long, value_name = "FILE.npz|FILE.safetensors")]
    pub against: Option<PathBuf>,
    /// Largest relative L2 error of a value [default: 1e-5; with narrower weights 2e-3 (f16), 1e-2
    /// (bf16), 3e-2 (int8)]
    #[arg(long, value_name = "ERROR")]
    pub tolerance: Option<f64>,
    /// See [`Common`].
    #[command(flatten)]
    pub common: Common,
    /// See [`CompileArgs`].
    #[command(flatten)]
    pub compile: CompileArgs,
    /// See [`DeviceArgs`].
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `alexc bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The net: a .yaml spec, or a .alexc module with its weights beside it
    pub spec: PathBuf,
    /// Weights as .safetensors, or random:SEED [default: random:1]; of a module its packed weights,
    /// where they lie elsewhere
    #[arg(long, value_name = "FILE|random:SEED")]
    pub weights: Option<String>,
    /// Runs before the measured ones
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub warmup: usize,
    /// Measured runs
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub iters: Option<usize>,
    /// Measure for this long
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,
    /// Reads counts of runs from stdin, answers each with a JSON line of their times
    #[arg(long)]
    pub interactive: bool,
    /// See [`Common`].
    #[command(flatten)]
    pub common: Common,
    /// See [`CompileArgs`].
    #[command(flatten)]
    pub compile: CompileArgs,
    /// See [`DeviceArgs`].
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `alexc profile`.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The net: a .yaml spec, or a .alexc module with its weights beside it
    pub spec: PathBuf,
    /// Weights as .safetensors, or random:SEED [default: random:1]; of a module its packed weights,
    /// where they lie elsewhere
    #[arg(long, value_name = "FILE|random:SEED")]
    pub weights: Option<String>,
    /// Runs before the measured ones
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub warmup: usize,
    /// Measured runs
    #[arg(long, value_name = "N", default_value = "30", value_parser = positive)]
    pub iters: usize,
    /// See [`Common`].
    #[command(flatten)]
    pub common: Common,
    /// See [`CompileArgs`].
    #[command(flatten)]
    pub compile: CompileArgs,
    /// See [`DeviceArgs`].
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `alexc devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print one JSON document on stdout and nothing else there
    #[arg(long)]
    pub json: bool,
}

/// `alexc cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: CacheAction,
    /// Print one JSON document on stdout and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do with the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum CacheAction {
    /// Show the files and what is in them
    List,
    /// Remove the files
    Clear,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_and_changes() {
        assert_eq!(positive("3"), Ok(3));
        for wrong in ["0", "-1", "1.5", "x", "", "99999999999999999999999"] {
            assert!(positive(wrong).is_err(), "{wrong}");
        }
        assert!(change("conv1.stride=2").is_ok());
        assert!(change("conv1.stride").is_err() && change("=2").is_err());
    }
}
