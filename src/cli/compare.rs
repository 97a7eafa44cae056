//! `alexc compare`: every value that the compiled net stores, against the reference executor or
//! against saved arrays. Exits 3 where one is beyond the tolerance.

use super::args::{CompareArgs, WeightsArg};
use super::failure::{Failure, print, print_json};
use super::{load, memory, net};
use crate::algorithm::Math;
use crate::arrays::Arrays;
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
    let input = net::input(args.input.as_deref(), spec.preprocess.as_ref(), shape)?;
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
    if args.common.json {
        print_json(&comparison.json())?;
    } else {
        print(&comparison.to_string())?;
    }
    if comparison.agrees() { Ok(()) } else { Err(Failure::Difference) }
}
