//! `alexc profile`: where the time of a run goes.

use super::args::ProfileArgs;
use super::failure::{Failure, print, print_json};
use super::load;
use crate::report::limits;
use crate::report::profile::{Measured, Profile};
use std::time::{Duration, Instant};

pub(super) fn run(args: &ProfileArgs) -> Result<(), Failure> {
    let (_, graph) = load::graph(&args.spec, &args.common)?;
    let mut net = load::net(&graph, &args.weights, &args.common, &args.compile, &args.device)?;
    let options = load::options(&args.common, &args.compile, None)?;
    let limits = limits::measure(&options, net.threads)?;
    let input = load::random_input(&graph);
    let mut output = vec![0.0; net.compiled.program.output_dims.iter().product()];
    for _ in 0..args.warmup {
        net.session.run(&input, &mut output)?;
    }
    let mut run = Duration::MAX;
    let mut steps = vec![vec![Duration::ZERO; net.compiled.program.steps.len()]; args.iters];
    for steps in &mut steps {
        // In turns: what disturbs one disturbs the other as well.
        let start = Instant::now();
        net.session.run(&input, &mut output)?;
        run = run.min(start.elapsed());
        net.session.run_profiled(&input, &mut output, steps)?;
    }
    let measured = Measured { steps, run, threads: net.threads, limits };
    let profile = Profile::new(&net.compiled, &measured);
    if args.common.json {
        print_json(&profile.to_json())
    } else {
        print(&profile.table(args.common.verbose))
    }
}
