//! `alexc compare`: every value that the compiled net stores, against the reference executor or
//! against saved arrays; with labels also how many images it names rightly. Exits 3 where a value is
//! beyond the tolerance.

use super::args::{CompareArgs, CompileArgs, MathArg, WeightsArg};
use super::failure::{Failure, print, print_json};
use super::labelled::Labelled;
use super::{load, memory, net};
use crate::algorithm::Math;
use crate::arrays::Arrays;
use crate::graph::Graph;
use crate::report::classes::Accuracy;
use crate::report::compare::{boundaries, with_arrays, with_reference};
use crate::report::difference::Tolerance;
use ndarray::ArrayD;

pub(super) fn run(args: &CompareArgs) -> Result<(), Failure> {
    let of_weights = match args.compile.weights_dtype {
        WeightsArg::F32 => 1e-5,
        WeightsArg::F16 => 2e-3,
        WeightsArg::Bf16 => 1e-2,
        WeightsArg::Int8 => 3e-2,
    };
    // Both round to eleven bits, as weights in f16 are rounded, and here inputs are, too.
    let of_math = if Math::from(args.compile.math).wants_tensor_cores() { 3e-3 } else { 0.0 };
    let limit = args.tolerance.unwrap_or(f64::max(of_weights, of_math));
    if limit.is_nan() || limit < 0.0 {
        return Err(Failure::Usage("--tolerance must be zero or more".to_owned()));
    }
    let (spec, graph) = load::graph(&args.spec, &args.common)?;
    memory::check_graph(&graph, load::weights_dtype(&args.compile))?;
    let shape = graph.values[graph.input.index()].shape;
    let labelled = labelled(args, &graph)?;
    let input = match &labelled {
        Some(labelled) => labelled.first(shape.len()),
        None => net::input(args.input.as_deref(), spec.preprocess.as_ref(), shape)?,
    };
    // Kernels as they will run many times elsewhere.
    let once = false;
    let mut net =
        load::net(&graph, &args.weights, &args.common, &args.compile, &args.device, once)?;
    let found = boundaries(&net.net, &mut *net.session, &input)?;
    let tolerance = Tolerance::new(limit);
    let comparison = match &args.against {
        Some(path) => {
            let label = path.display().to_string();
            with_arrays(&found, &mut Arrays::open(path)?, &label, tolerance)?
        }
        None => {
            let dims = graph.values[graph.input.index()].shape.dims();
            let input = ArrayD::from_shape_vec(dims, input)
                .map_err(|e| Failure::Input(format!("the input does not fit: {e}")))?;
            with_reference(&found, &graph, &net.source, &input, tolerance)?
        }
    };
    let accuracy = match &labelled {
        None => None,
        Some(labelled) => {
            let answers = labelled.answers(&mut *net.session)?;
            drop(net);
            Some(accuracy(args, &graph, labelled, &answers)?)
        }
    };
    if args.common.json {
        let mut document = comparison.json();
        document["accuracy"] = accuracy.map(|accuracy| accuracy.json()).into();
        print_json(&document)?;
    } else {
        let accuracy = accuracy.map(|accuracy| accuracy.to_string()).unwrap_or_default();
        print(&format!("{comparison}{accuracy}"))?;
    }
    if comparison.agrees() { Ok(()) } else { Err(Failure::Difference) }
}

/// The images of `--input`, where there are `--labels`.
fn labelled(args: &CompareArgs, graph: &Graph) -> Result<Option<Labelled>, Failure> {
    let (Some(labels), Some(images)) = (&args.labels, &args.input) else { return Ok(None) };
    let input = &graph.values[graph.input.index()];
    let classes = graph.values[graph.output.index()].shape.per_image();
    Labelled::read(images, &input.name, labels, input.shape, classes).map(Some)
}

/// How many images a net names rightly that gave these answers, beside the same net in f32.
fn accuracy(
    args: &CompareArgs,
    graph: &Graph,
    labelled: &Labelled,
    answers: &[Option<usize>],
) -> Result<Accuracy, Failure> {
    let CompileArgs { math, weights_dtype, .. } = args.compile;
    let rounds = Math::from(math).wants_tensor_cores();
    let in_f32 = if weights_dtype == WeightsArg::F32 && !rounds {
        None
    } else {
        let math = if rounds { MathArg::Fast } else { math };
        let compile = CompileArgs { math, weights_dtype: WeightsArg::F32, ..args.compile.clone() };
        memory::check_graph(graph, load::weights_dtype(&compile))?;
        let mut net = load::net(graph, &args.weights, &args.common, &compile, &args.device, false)?;
        Some(labelled.answers(&mut *net.session)?)
    };
    Ok(Accuracy::of(&labelled.classes, answers, in_f32.as_deref()))
}
