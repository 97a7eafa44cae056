//! A net that runs, from a spec or from an artifact: what `run`, `bench` and `profile` need to
//! know of it, wherever it came from.

use super::args::{Common, CompileArgs, DeviceArgs, MathArg, WeightsArg};
use super::device::{self, Place};
use super::failure::Failure;
use super::{load, memory};
use crate::compile::Prepared;
use crate::npy;
use crate::picture;
use crate::session::Session;
use crate::shape::Shape;
use crate::weights::Random;
use alexc_runtime::network::Network;
use alexc_runtime::preprocess::Preprocess;
use alexc_runtime::program::Program;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the user asked for.
pub(super) struct Wish<'a> {
    /// A spec or a module file.
    pub(super) path: &'a Path,
    /// Of a spec what `--weights` names; of a module the file of packed weights, where it is not
    /// the one beside it.
    pub(super) weights: Option<&'a str>,
    /// A .npy file or a picture; by default random numbers.
    pub(super) input: Option<&'a Path>,
    /// Stop before the softmax.
    pub(super) logits: bool,
    /// It will run one time.
    pub(super) once: bool,
    pub(super) common: &'a Common,
    pub(super) compile: &'a CompileArgs,
    pub(super) device: &'a DeviceArgs,
}

impl<'a> Wish<'a> {
    /// A run whose answer does not matter: random numbers go in, and a spec without `--weights`
    /// gets random ones.
    pub(super) fn trial(
        path: &'a Path,
        weights: Option<&'a str>,
        common: &'a Common,
        compile: &'a CompileArgs,
        device: &'a DeviceArgs,
    ) -> Self {
        let weights = weights.or((!load::is_module(path)).then_some("random:1"));
        Wish { path, weights, input: None, logits: false, once: false, common, compile, device }
    }
}

/// A net that runs.
pub(super) struct Net {
    pub(super) session: Box<dyn Session>,
    /// The spec's name, or the module's.
    pub(super) model: String,
    pub(super) labels: Option<Vec<String>>,
    /// What it is to run on.
    pub(super) input: Vec<f32>,
    /// The output is that of a softmax.
    pub(super) probabilities: bool,
    pub(super) threads: usize,
    /// `cpu`, or an OpenCL device as in `opencl:0`.
    pub(super) device: String,
    /// What the code is for.
    pub(super) target: String,
    /// What made it, where it was made here.
    pub(super) emitter: Option<String>,
    /// This machine's processor runs it, whatever the device is called.
    pub(super) on_cpu: bool,
    /// `fast` or `strict`; a module does not tell.
    pub(super) math: Option<&'static str>,
    pub(super) compile_time: Duration,
    pub(super) weights_time: Duration,
    /// The stages, where the net was compiled here.
    pub(super) prepared: Option<Prepared>,
}

impl Net {
    pub(super) fn program(&self) -> &Program {
        self.session.program()
    }

    /// Room for the output.
    pub(super) fn output(&self) -> Vec<f32> {
        vec![0.0; self.program().output_dims.iter().product()]
    }
}

/// The input from a .npy file or a picture, which fills every image of the batch; random numbers
/// where there is no file.
pub(super) fn input(
    path: Option<&Path>,
    preprocess: Option<&Preprocess>,
    shape: Shape,
) -> Result<Vec<f32>, Failure> {
    match path {
        None => Ok(Random::new(1).input(shape.len())),
        Some(path) if picture::is_picture(path) => {
            Ok(picture::load(path, preprocess, &shape)?.repeat(shape.n()))
        }
        Some(path) => Ok(npy::read_input(path, &shape)?),
    }
}

/// The shape that dimensions of a program stand for.
fn shape(dims: &[usize]) -> Shape {
    match *dims {
        [n, c, h, w] => Shape::map(n, c, h, w),
        [n, ref rest @ ..] => Shape::vector(n, rest.iter().product()),
        [] => Shape::vector(1, 1),
    }
}

/// Compiles a spec or opens an artifact.
pub(super) fn open(wish: &Wish<'_>) -> Result<Net, Failure> {
    if load::is_module(wish.path) { from_module(wish) } else { from_spec(wish) }
}

fn from_spec(wish: &Wish<'_>) -> Result<Net, Failure> {
    let (spec, mut graph) = load::graph(wish.path, wish.common)?;
    if wish.logits {
        load::without_softmax(&mut graph);
    }
    let labels = load::labels(&spec, wish.path, &graph)?;
    let Some(weights) = wish.weights else {
        return Err(Failure::Usage(
            "a spec needs --weights: trained ones as .safetensors, or random:SEED for a trial"
                .to_owned(),
        ));
    };
    memory::check_graph(&graph, load::weights_dtype(wish.compile))?;
    // Read first: a wrong file shall not wait for the compiler.
    let shape = graph.values[graph.input.index()].shape;
    let input = input(wish.input, spec.preprocess.as_ref(), shape)?;
    let probabilities = graph.ends_with_softmax();
    let load::Loaded { net, made, session, threads, compile_time, weights_time, .. } =
        load::net(&graph, weights, wish.common, wish.compile, wish.device, wish.once)?;
    Ok(Net {
        session,
        model: graph.name,
        labels,
        input,
        probabilities,
        threads,
        device: made.device,
        target: made.target,
        emitter: Some(made.emitter),
        on_cpu: made.on_cpu,
        math: Some(made.math),
        compile_time,
        weights_time,
        prepared: Some(net),
    })
}

fn from_module(wish: &Wish<'_>) -> Result<Net, Failure> {
    if let Some(flag) = flag_of_specs(wish) {
        return Err(Failure::Usage(format!(
            "{} is compiled already: {flag} belongs to `alexc build`",
            wish.path.display()
        )));
    }
    if !matches!(device::find(&wish.device.device)?, Place::Cpu) {
        return Err(Failure::Usage(format!(
            "{} holds machine code, for the CPU alone; give the spec that it was built from",
            wish.path.display()
        )));
    }
    let threads = load::threads(wish.device.threads)?;
    let start = Instant::now();
    let network = match wish.weights {
        Some(weights) => Network::open_files(wish.path, Path::new(weights))?,
        None => Network::open(wish.path)?,
    };
    let weights_time = start.elapsed();
    let network = Arc::new(network);
    let shape = shape(&network.program().input_dims);
    let input = input(wish.input, network.preprocess(), shape)?;
    let session = Box::new(alexc_runtime::session::Session::new(&network, threads)?);
    let labels = Some(network.labels().to_vec()).filter(|labels| !labels.is_empty());
    let program = network.program();
    let mut target = program.arch.to_string();
    for feature in &program.features {
        target.push(' ');
        target.push_str(feature.name());
    }
    Ok(Net {
        session,
        model: program.name.clone(),
        labels,
        input,
        probabilities: network.probabilities(),
        threads,
        device: "cpu".to_owned(),
        target,
        emitter: None,
        on_cpu: true,
        math: None,
        compile_time: Duration::ZERO,
        weights_time,
        prepared: None,
    })
}

/// A flag that changes how a net is compiled, where one was given.
fn flag_of_specs(wish: &Wish<'_>) -> Option<&'static str> {
    let CompileArgs { math, no_fusion, ref target_cpu, emitter, weights_dtype, tune, schedule } =
        *wish.compile;
    [
        (wish.common.batch.is_some(), "--batch"),
        (!wish.common.sets.is_empty(), "--set"),
        (wish.logits, "--logits"),
        (no_fusion, "--no-fusion"),
        (tune, "--tune"),
        (math != MathArg::Fast, "--math"),
        (target_cpu != "native", "--target-cpu"),
        (emitter.is_some(), "--emitter"),
        (schedule.is_some(), "--schedule"),
        (weights_dtype != WeightsArg::F32, "--weights-dtype"),
        (wish.weights.is_some_and(|weights| weights.starts_with("random:")), "--weights random:"),
    ]
    .into_iter()
    .find_map(|(given, flag)| given.then_some(flag))
}
