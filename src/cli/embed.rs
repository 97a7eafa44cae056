//! The commands' work for programs that contain the compiler: the same arguments with the same
//! meaning and the same errors, but nothing is printed.

use super::args::{BuildArgs, Common, CompileArgs};
use super::build::{self, Made};
use super::failure::Failure;
use super::{load, memory};
use crate::artifact::{COMPILER, Written};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::weights;
use alexc_runtime::module::Module;
use alexc_runtime::network::Network;
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments of the command line, put together by a program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments(Vec<OsString>);

impl Arguments {
    /// `--flag`.
    pub(crate) fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    /// `--flag=value`, whatever the value begins with.
    pub(crate) fn value(&mut self, flag: &str, value: impl Into<OsString>) {
        let mut argument = OsString::from(flag);
        argument.push("=");
        argument.push(value.into());
        self.0.push(argument);
    }

    /// All of them, behind `before` and before the net.
    fn with(&self, before: &[&str], net: PathBuf) -> Vec<OsString> {
        let before = before.iter().map(OsString::from);
        let net = [OsString::from("--"), net.into()];
        before.chain(self.0.iter().cloned()).chain(net).collect()
    }
}

/// Setters of what a net is compiled with, for a builder with `arguments`.
macro_rules! net_options {
    () => {
        /// Replaces the spec's batch size.
        pub fn batch(mut self, batch: usize) -> Self {
            self.arguments.value("--batch", batch.to_string());
            self
        }

        /// Stops before a softmax that ends the net.
        pub fn logits(mut self) -> Self {
            self.arguments.flag("--logits");
            self
        }

        /// `fast` (the default) or `strict`.
        pub fn math(mut self, math: &str) -> Self {
            self.arguments.value("--math", math);
            self
        }

        /// `f32` (the default), `f16`, `bf16` or `int8`.
        pub fn weights_dtype(mut self, dtype: &str) -> Self {
            self.arguments.value("--weights-dtype", dtype);
            self
        }
    };
}
pub(crate) use net_options;

/// A library for a program that is being built.
pub(crate) struct Library {
    /// The files written.
    pub(crate) written: Vec<Written>,
    /// File of class names, as the spec writes it.
    pub(crate) labels: Option<String>,
}

/// How a library is made: as `alexc build` makes it.
#[derive(Debug, Parser)]
struct LibraryArgs {
    #[command(flatten)]
    build: BuildArgs,
}

/// `alexc build`.
pub(crate) fn build(arguments: &Arguments, spec: PathBuf) -> Result<Library, Diagnostics> {
    let args = LibraryArgs::try_parse_from(arguments.with(&["alexc", "--quiet"], spec));
    make(&args.map_err(usage)?.build).map_err(told)
}

fn make(args: &BuildArgs) -> Result<Library, Failure> {
    let Made { spec, written, .. } = build::make(args)?;
    Ok(Library { written, labels: spec.labels.map(|labels| labels.value) })
}

/// How a net is made ready to run in this process.
#[derive(Debug, Parser)]
struct LoadArgs {
    spec: PathBuf,
    #[arg(long)]
    weights: String,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    compile: CompileArgs,
    #[arg(long)]
    threads: Option<usize>,
    #[arg(long)]
    logits: bool,
}

/// A net ready to run and the number of threads to run it on.
pub(crate) fn load(arguments: &Arguments, spec: PathBuf) -> Result<(Network, usize), Diagnostics> {
    let args = LoadArgs::try_parse_from(arguments.with(&["alexc", "--quiet"], spec));
    network(&args.map_err(usage)?).map_err(told)
}

fn network(args: &LoadArgs) -> Result<(Network, usize), Failure> {
    let (spec, mut graph) = load::graph(&args.spec, &args.common)?;
    if args.logits {
        load::without_softmax(&mut graph);
    }
    let labels = load::labels(&spec, &args.spec, &graph)?.unwrap_or_default();
    memory::check_graph(&graph, load::weights_dtype(&args.compile))?;
    let threads = load::threads(args.threads)?;
    let source = weights::open(&args.weights)?.check(&graph.tensors())?;
    let (common, compile) = (&args.common, &args.compile);
    let job = load::Job { graph: &graph, source, threads, common, compile, once: false };
    let (compiled, weights) = load::with_weights(job)?;
    let module = Module {
        compiler: COMPILER.to_owned(),
        labels,
        preprocess: spec.preprocess,
        probabilities: compiled.fused.ends_with_softmax(),
        program: compiled.program,
    };
    Ok((Network::from_module(module, weights)?, threads))
}

/// The number of threads for a net from a module.
pub(crate) fn threads(wish: Option<usize>) -> Result<usize, Diagnostics> {
    load::threads(wish).map_err(told)
}

fn told(failure: Failure) -> Diagnostics {
    failure.diagnostics().unwrap_or_else(|| Diagnostic::error("nothing was done").into())
}

/// A wrong value of an argument. What follows its first paragraph speaks of the command line.
fn usage(error: clap::Error) -> Diagnostics {
    let text = error.to_string();
    let told: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let told = told.join(" ");
    Diagnostic::error(told.strip_prefix("error: ").unwrap_or(&told)).into()
}
