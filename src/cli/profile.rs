//! `alexc profile`: where the time of a run goes.

use super::args::ProfileArgs;
use super::failure::{Failure, print, print_json};
use super::load;
use super::net::{self, Wish};
use crate::report::limits;
use crate::report::profile::{Measured, Profile};
use std::time::{Duration, Instant};

pub(super) fn run(args: &ProfileArgs) -> Result<(), Failure> {
    let weights = args.weights.as_deref();
    let wish = Wish::trial(&args.spec, weights, &args.common, &args.compile, &args.device);
    let mut net = net::open(&wish)?;
    let options = load::options(&args.common, &args.compile, None)?;
    let limits = limits::measure(&options, net.threads)?;
    let mut output = net.output();
    for _ in 0..args.warmup {
        net.session.run(&net.input, &mut output)?;
    }
    let mut run = Duration::MAX;
    let mut steps = Vec::new();
    for _ in 0..args.iters {
        // In turns: what disturbs one disturbs the other as well.
        let start = Instant::now();
        net.session.run(&net.input, &mut output)?;
        run = run.min(start.elapsed());
        let mut times = vec![Duration::ZERO; net.program().steps.len()];
        net.session.run_profiled(&net.input, &mut output, &mut times)?;
        steps.push(times);
    }
    let measured = Measured { steps, run, threads: net.threads, limits };
    let profile = Profile::new(net.program(), net.compiled.as_ref(), &measured);
    if args.common.json {
        print_json(&profile.to_json())
    } else {
        print(&profile.table(args.common.verbose))
    }
}
